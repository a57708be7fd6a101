"""A face that is drawn, which the face networks take for one: videos and pictures of nobody."""

import numpy as np


def draw_face(picture, x, y, size, angle=0.0, smile=0.0, mouth=0.0):
    """
    Draws a face into a picture.

    Args:
        picture (`np.ndarray`, uint8 (height, width, 3)): changed in place.
        x, y (`float`): the middle of the face in pixels.
        size (`float`): its height in pixels.
        angle (`float`): how far it is turned, clockwise, in radians.
        smile (`float`): how far the corners of the mouth go up, from -1 (down) to 1.
        mouth (`float`): how far the mouth is open, from 0 to 1.
    """
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    across, down = columns + 0.5 - x, rows + 0.5 - y
    # -.5 .. .5 from the chin to the forehead
    right = (across * np.cos(angle) + down * np.sin(angle)) / size
    below = (down * np.cos(angle) - across * np.sin(angle)) / size
    canvas = picture.astype(float)

    def ellipse(x, y, width, height, colour, softness=0.02, bend=0.0):
        distance = ((right - x) / width) ** 2 + ((below - y + bend * (right - x) ** 2) / height) ** 2
        share = np.clip((1 - distance) / softness / 4 + 0.5, 0, 1)[..., None]
        canvas[:] = canvas * (1 - share) + np.array(colour) * share

    ellipse(0, -0.15, 0.44, 0.59, (60, 40, 30))  # hair
    ellipse(0, 0, 0.37, 0.5, (224, 180, 150))
    for side in (-0.147, 0.147):
        ellipse(side, -0.09, 0.066, 0.032, (245, 245, 245), 0.1)
        ellipse(side, -0.09, 0.029, 0.031, (50, 35, 25), 0.1)
        ellipse(side, -0.18, 0.088, 0.018, (70, 45, 35), 0.2)
    ellipse(0, 0.06, 0.044, 0.1, (205, 155, 125), 0.6)
    for side in (-0.022, 0.022):
        ellipse(side, 0.14, 0.018, 0.012, (140, 90, 75), 0.3)
    ellipse(0, 0.265, 0.125, 0.032 + 0.05 * mouth, (180, 80, 80), 0.2, 4 * smile)
    ellipse(0, 0.265, 0.118, 0.006 + 0.05 * mouth, (110, 40, 45), 0.3, 4 * smile)
    picture[:] = canvas.clip(0, 255).astype(np.uint8)
