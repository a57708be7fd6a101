"""
The face in a video as frames of 58 named numbers: expression, head pose, place and size.

MediaPipe's Face Landmarker in plain torch: the short-range BlazeFace detector, the mesh of 478 landmarks and the
blendshapes of "MediaPipe Blendshape V2". The networks, their weights and the choice of landmarks are Google's, under
Apache-2.0: https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker. As in MediaPipe's image mode, the
detector reads every picture; hence pictures can be read in batches, and no error is carried from picture to picture.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

BLENDSHAPES = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
FACE_COLUMNS = (*BLENDSHAPES, "pitch", "yaw", "roll", "x", "y", "size", "face")

NUM_LANDMARKS = 478
# The landmarks that the blendshapes are read from, in the network's order.
BLENDSHAPE_LANDMARKS = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80,
    81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153,
    154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251,
    263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318,
    321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)  # fmt: skip
# Landmarks of the head's axes: outer corner of the right and of the left eye, top of the forehead, chin.
RIGHT_EYE, LEFT_EYE, FOREHEAD, CHIN = 33, 263, 10, 152

DETECTOR_SIZE, MESH_SIZE = 128, 256  # pixels, the sides of the networks' square inputs
_LEAST_SCORE = 0.5  # of a detection, and of a face in the mesh's input
_SAME_FACE = 0.3  # overlap (intersection over union) of two boxes of one face
_MARGIN = 1.5  # side of the mesh's input over the longer side of the face
_MOST_CANDIDATES = 4  # detections that the mesh looks at in a picture
# Pictures that are read at once. Larger batches are slower: their layers' outputs outgrow the processor's caches.
_BLOCK = 8


# ------------------------------------------------------------------------------------------------------- networks


def _convolve_points(convolution, x):
    """
    A 1x1 convolution over the rows of the pictures, (pictures * height, channels, 1, width): torch has a fast kernel
    for it that it only takes for batches of 16 and more if it runs on one thread.
    """
    pictures, _, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(pictures * height, 1, width, -1).permute(0, 3, 1, 2)
    y = F.conv2d(rows, convolution.weight, convolution.bias)
    return y.permute(0, 2, 3, 1).reshape(pictures, height, width, -1).permute(0, 3, 1, 2)


def _halve(x):
    """The maximum of each 2x2 square; faster than `max_pool2d`, which also computes its place."""
    x = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
    return torch.maximum(x[..., ::2], x[..., 1::2])


def _add_shortcut(x, shortcut):
    """Adds the input of a block to its output in place; channels that only the output has stay as they are."""
    x[:, : shortcut.shape[1]] += shortcut
    return x


class DetectorBlock(nn.Module):
    """3x3 convolution of each channel, 1x1 convolution across channels, shortcut."""

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, padding=2 - stride, groups=in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x):
        shortcut = x
        if self.stride == 2:
            shortcut, x = _halve(x), F.pad(x, (0, 1, 0, 1))  # strides of TensorFlow start at the first pixel
        return F.relu_(_add_shortcut(_convolve_points(self.pointwise, self.depthwise(x)), shortcut))


class FaceDetector(nn.Module):
    """
    BlazeFace: boxes of faces that take up a tenth of a picture or more.

    Input: (pictures, 3, 128, 128) in -1 .. 1. Output: boxes (pictures, 896, 16), each the centre, width, height and
    six points (right eye, left eye, nose, mouth, right and left ear) in pixels of the input, all but width and height
    relative to the anchor; and scores (pictures, 896) before the sigmoid.
    """

    def __init__(self):
        super().__init__()
        fine = [(24, 24), (24, 28), (28, 32, 2), (32, 36), (36, 42), (42, 48, 2), (48, 56), (56, 64), (64, 72),
                (72, 80), (80, 88)]  # fmt: skip
        self.stem = nn.Conv2d(3, 24, 5, stride=2)
        self.fine = nn.Sequential(*(DetectorBlock(*sizes) for sizes in fine))
        self.coarse = nn.Sequential(DetectorBlock(88, 96, 2), *(DetectorBlock(96, 96) for _ in range(4)))
        self.fine_scores, self.coarse_scores = nn.Conv2d(88, 2, 1), nn.Conv2d(96, 6, 1)
        self.fine_boxes, self.coarse_boxes = nn.Conv2d(88, 2 * 16, 1), nn.Conv2d(96, 6 * 16, 1)

    def forward(self, x):
        x = F.relu_(self.stem(F.pad(x, (1, 2, 1, 2))))  # (pictures, 24, 64, 64)
        fine = self.fine(x)  # (pictures, 88, 16, 16)
        coarse = self.coarse(fine)  # (pictures, 96, 8, 8)
        boxes = [self.fine_boxes(fine), self.coarse_boxes(coarse)]
        scores = [self.fine_scores(fine), self.coarse_scores(coarse)]
        boxes = torch.cat([y.permute(0, 2, 3, 1).reshape(len(y), -1, 16) for y in boxes], dim=1)
        return boxes, torch.cat([y.permute(0, 2, 3, 1).flatten(1) for y in scores], dim=1)


def detector_anchors():
    """The centres of the detector's 896 boxes, as (896, 2) in 0 .. 1: two in each cell of 16 x 16, six of 8 x 8."""
    grids = []
    for cells, boxes in ((16, 2), (8, 6)):
        centres = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        grids.append(torch.stack([x, y], dim=-1).reshape(-1, 2).repeat_interleave(boxes, dim=0))
    return torch.cat(grids)


class MeshBlock(nn.Module):
    """Bottleneck: fewer channels (by 2x2 at stride 2), 3x3 convolution of each, more channels, shortcut."""

    def __init__(self, in_channels, hidden_channels, out_channels, stride=1):
        super().__init__()
        self.stride = stride
        self.reduce = nn.Conv2d(in_channels, hidden_channels, stride, stride)
        self.reduce_activation = nn.PReLU(hidden_channels)
        self.depthwise = nn.Conv2d(hidden_channels, hidden_channels, 3, padding=1, groups=hidden_channels, bias=False)
        self.expand = nn.Conv2d(hidden_channels, out_channels, 1)
        self.activation = nn.PReLU(out_channels)

    def forward(self, x):
        hidden = self.reduce(x) if self.stride == 2 else _convolve_points(self.reduce, x)
        hidden = self.depthwise(self.reduce_activation(hidden))
        shortcut = _halve(x) if self.stride == 2 else x
        return self.activation(_add_shortcut(_convolve_points(self.expand, hidden), shortcut))


class FaceMesh(nn.Module):
    """
    The landmarks of the face that a picture shows upright, with a margin of a quarter of its size on each side.

    Input: (pictures, 3, 256, 256) in 0 .. 1. Output: landmarks (pictures, 478, 3) in pixels of the input, z towards
    the picture's depth; and scores (pictures,) before the sigmoid, high where the picture shows a face.
    """

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2)
        self.stem_activation = nn.PReLU(16)
        blocks = [MeshBlock(16, 8, 16) for _ in range(4)]  # (pictures, 16, 128, 128)
        for in_channels, hidden, out_channels in ((16, 16, 32), (32, 32, 64), (64, 64, 128), *[(128, 64, 128)] * 3):
            blocks.append(MeshBlock(in_channels, hidden, out_channels, 2))
            blocks += [MeshBlock(out_channels, out_channels // 2, out_channels) for _ in range(4)]
        self.blocks = nn.Sequential(*blocks)
        self.score = nn.Conv2d(128, 1, 2)
        self.landmarks = nn.Conv2d(128, 3 * NUM_LANDMARKS, 2)

    def forward(self, x):
        x = self.stem_activation(self.stem(F.pad(x, (0, 1, 0, 1))))
        x = self.blocks(x)  # (pictures, 128, 2, 2)
        return self.landmarks(x).reshape(-1, NUM_LANDMARKS, 3), self.score(x).flatten()


class MixerLayer(nn.Module):
    """A layer of an MLP-Mixer: a feed-forward network across tokens, and one across channels."""

    def __init__(self, num_tokens=97, num_channels=64):
        super().__init__()
        self.token_norm = nn.LayerNorm(num_channels, eps=1e-6, bias=False)
        self.token_expand, self.token_reduce = nn.Linear(num_tokens, 384), nn.Linear(384, num_tokens)
        self.channel_norm = nn.LayerNorm(num_channels, eps=1e-6, bias=False)
        self.channel_expand, self.channel_reduce = nn.Linear(num_channels, 256), nn.Linear(256, num_channels)

    def forward(self, x):  # (faces, tokens, channels)
        tokens = self.token_norm(x).transpose(1, 2)
        x = x + self.token_reduce(F.relu(self.token_expand(tokens))).transpose(1, 2)
        return x + self.channel_reduce(F.relu(self.channel_expand(self.channel_norm(x))))


class SummaryToken(nn.Module):
    """Puts the token that the answer is read from before all others."""

    def __init__(self, num_channels=64):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x):  # (faces, tokens, channels)
        return torch.cat([self.weight.expand(len(x), 1, -1), x], dim=1)


class FaceBlendshapes(nn.Module):
    """
    The expression of a face: (faces, 146, 2) landmarks `BLENDSHAPE_LANDMARKS` in pixels of any scale -> (faces, 52) in
    0 .. 1, "neutral" and then `BLENDSHAPES`.
    """

    def __init__(self):
        super().__init__()
        self.tokens = nn.Linear(len(BLENDSHAPE_LANDMARKS), 96)
        self.embedding = nn.Linear(2, 64)
        self.summary = SummaryToken()
        self.layers = nn.Sequential(*(MixerLayer() for _ in range(4)))
        self.blendshapes = nn.Linear(64, 1 + len(BLENDSHAPES))

    def forward(self, landmarks):
        x = landmarks - landmarks.mean(1, keepdim=True)
        x = x / x.norm(dim=2, keepdim=True).mean(1, keepdim=True) * 0.5
        x = self.embedding(self.tokens(x.transpose(1, 2)).transpose(1, 2))  # (faces, 96, 64)
        x = self.layers(self.summary(x))  # (faces, 97, 64)
        return self.blendshapes(x[:, 0]).sigmoid()


class FaceNetworks(nn.Module):
    """
    The three networks that [`FaceFrames`] reads a face with, in float32. Their layers are registered in the order in
    which they run.

    Example:

    ```python
    import torch
    from hf_fusion.models.media_face import FaceNetworks

    networks = FaceNetworks()  # random weights
    landmarks, score = networks.mesh(torch.rand(1, 3, 256, 256))  # (1, 478, 3), (1,)
    ```
    """

    def __init__(self):
        super().__init__()
        self.detector, self.mesh, self.blendshapes = FaceDetector(), FaceMesh(), FaceBlendshapes()
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    @classmethod
    def from_state_dict(cls, state_dict):
        """
        Builds the networks with weights.

        Args:
            state_dict (`dict[str, torch.Tensor]`): the weights, float16 or float32, as in `face.safetensors`.

        Returns:
            [`FaceNetworks`]
        """
        networks = cls()
        networks.load_state_dict(state_dict)
        return networks

    @property
    def device(self):
        """`torch.device`: where the networks are."""
        return self.blendshapes.summary.weight.device


def _keep_freed_memory():
    """
    Makes the C library of Linux keep up to 64 MB that were freed: it adapts to the largest block freed so far. The
    outputs of the mesh's layers have 8 MB; with pages that are new each time the mesh takes half as long again.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


# ------------------------------------------------------------------------------------------------------- pictures


def _fit(picture):
    """
    A picture, uint8 (3, height, width), as a square of the detector's size with black bars; the corner (x, y) of the
    picture in it, and its scale (x, y).
    """
    scale = DETECTOR_SIZE / max(picture.shape[1:])
    size = [max(1, round(length * scale)) for length in picture.shape[1:]]
    small = F.interpolate(picture[None], size, mode="bilinear", antialias=True)[0]
    top, left = ((DETECTOR_SIZE - length) // 2 for length in size)
    square = F.pad(small, (left, DETECTOR_SIZE - size[1] - left, top, DETECTOR_SIZE - size[0] - top))
    return square, np.array([left, top]), np.array([size[1] / picture.shape[2], size[0] / picture.shape[1]])


def _crop(picture, region):
    """
    A turned square of a picture, as (3, 256, 256) in 0 .. 1; black where it is outside the picture.

    Args:
        picture (`torch.Tensor`, uint8 (3, height, width)): the picture.
        region (`np.ndarray` (4,)): x and y of the centre, side in pixels, clockwise angle in radians.
    """
    x, y, side, angle = region.tolist()
    reach = 0.75 * side  # more than half the diagonal
    left, top = max(0, int(x - reach)), max(0, int(y - reach))
    right, bottom = max(0, int(x + reach) + 2), max(0, int(y + reach) + 2)
    part = picture[:, top:bottom, left:right]
    height, width = part.shape[1:]
    if not height or not width:
        return torch.zeros(3, MESH_SIZE, MESH_SIZE)
    shrink = side / MESH_SIZE
    if shrink > 2:  # sampling would skip pixels
        size = [max(1, round(length / shrink)) for length in (height, width)]
        part = F.interpolate(part[None], size, mode="bilinear", antialias=True)[0]
    steps = ((torch.arange(MESH_SIZE) + 0.5) / MESH_SIZE - 0.5) * side
    along, across = steps * np.cos(angle), steps * np.sin(angle)
    # pixels of the part, then -1 .. 1 from edge to edge
    columns = (along[None, :] - across[:, None] + (x - left)) * (2 / width) - 1
    rows = (across[None, :] + along[:, None] + (y - top)) * (2 / height) - 1
    grid = torch.stack([columns, rows], dim=-1)
    return F.grid_sample(part[None].float().div_(255), grid[None], align_corners=False)[0]


# -------------------------------------------------------------------------------------------------------- regions


def _overlap(box, boxes):
    """Intersection over union of a box (4,) with boxes (n, 4): centre, width and height."""
    low = np.maximum(box[:2] - box[2:] / 2, boxes[:, :2] - boxes[:, 2:] / 2)
    high = np.minimum(box[:2] + box[2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2)
    shared = np.maximum(high - low, 0).prod(1)
    return shared / np.maximum(box[2:].prod() + boxes[:, 2:].prod(1) - shared, 1e-9)


def _suppress(detections):
    """
    Merges detections of the same face, weighted by their scores, and turns them into regions for the mesh.

    Args:
        detections (`np.ndarray` (n, 9)): score; x, y, width and height; x and y of the right and of the left eye.

    Returns:
        `np.ndarray` (faces, 4): x, y, side and angle of a turned square; the largest first.
    """
    faces = []
    rest = detections[np.argsort(-detections[:, 0], kind="stable")]
    while len(rest):
        same = _overlap(rest[0, 1:5], rest[:, 1:5]) > _SAME_FACE
        same[0] = True
        faces.append(np.average(rest[same], axis=0, weights=rest[same, 0]))
        rest = rest[~same]
    if not faces:
        return np.zeros((0, 4))
    faces = np.stack(faces)
    angle = np.arctan2(faces[:, 8] - faces[:, 6], faces[:, 7] - faces[:, 5])
    regions = np.column_stack([faces[:, 1:3], _MARGIN * faces[:, 3:5].max(1), angle])
    return regions[np.argsort(-regions[:, 2], kind="stable")]


def _rotation(angle):
    """The matrix (2, 2) that turns columns (x, y) clockwise on a picture."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _surround(landmarks):
    """The region around landmarks (478, 3): a square with a margin, turned as the eyes are."""
    points = landmarks[:, :2]
    x, y = points[LEFT_EYE] - points[RIGHT_EYE]
    angle = np.arctan2(y, x)
    turn = _rotation(angle)
    upright = points @ turn
    low, high = upright.min(0), upright.max(0)
    return np.array([*(turn @ ((low + high) / 2)), _MARGIN * (high - low).max(), angle])


def _nearest(region, regions):
    """The number of the region that overlaps a region the most; None if none shows the same face."""
    if region is None or not len(regions):
        return None
    overlap = _overlap(region[[0, 1, 2, 2]], regions[:, [0, 1, 2, 2]])
    return int(overlap.argmax()) if overlap.max() > _SAME_FACE else None


def _tiles(height, width):
    """Left, top and side of the squares of half the longer side that cover a picture, overlapping by half."""
    side = (max(height, width) + 1) // 2
    starts = []
    for length in (width, height):
        count = max(1, round((length - side) / (side / 2)) + 1)
        starts.append(np.linspace(0, length - side, count) if count > 1 else [max(0, (length - side) / 2)])
    return [(int(left), int(top), side) for top in starts[1] for left in starts[0]]


# ------------------------------------------------------------------------------------------------------- features


def describe_pose(landmarks, sizes):
    """
    Head pose, place and size of faces.

    Args:
        landmarks (`np.ndarray` (faces, 478, 3)): in pixels of the pictures.
        sizes (`np.ndarray` (faces, 2)): width and height of the pictures in pixels.

    Returns:
        `np.ndarray` (faces, 6): pitch, yaw and roll in radians; x and y of the face's centre in 0 .. 1 of the
        picture's width and height; the longer side of the face over that of the picture.
    """
    right = landmarks[:, LEFT_EYE] - landmarks[:, RIGHT_EYE]
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    away = np.cross(right, landmarks[:, CHIN] - landmarks[:, FOREHEAD])
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    down = np.cross(away, right)
    pitch = np.arctan2(down[:, 2], away[:, 2])
    yaw = np.arcsin(np.clip(-right[:, 2], -1, 1))
    roll = np.arctan2(right[:, 1], right[:, 0])
    low, high = landmarks[..., :2].min(1), landmarks[..., :2].max(1)
    place = (low + high) / 2 / sizes
    return np.column_stack([pitch, yaw, roll, place, (high - low).max(1) / sizes.max(1)])


class FaceFrames:
    """
    Follows one face through the pictures of a video, and describes it in each.

    The face is the largest one that the mesh confirms, and from then on the one at its place, as long as it is there.
    Where the detector finds none at its place, the mesh looks there all the same; where no face is found at all, the
    detector looks for small ones in parts of the picture. The frames do not depend on the batches in which pictures
    are read, but for rounding (1e-5).

    Args:
        networks ([`FaceNetworks`]): the networks.
        rate (`float`): pictures per second.

    Attributes:
        columns (`tuple[str, ...]`): the names of the 58 columns: 51 blendshapes in 0 .. 1; `pitch`, `yaw` and `roll`
            of the head in radians; `x` and `y` of the face's centre in 0 .. 1 of the picture's width and height;
            `size`, the longer side of the face over that of the picture; `face`, 1 where a face was found.

    Example:

    ```python
    import numpy as np
    from hf_fusion.models.media_face import FaceFrames, FaceNetworks

    faces = FaceFrames(FaceNetworks(), rate=10)
    for _ in range(3):
        faces.feed(np.zeros((360, 640, 3), np.uint8))
    faces.finish()  # (3, 58); zeros where there is no face
    ```
    """

    columns = FACE_COLUMNS

    def __init__(self, networks, rate):
        self.networks = networks
        self.rate = rate
        self._anchors = detector_anchors()
        self._pictures = []  # of the block that is not yet complete, uint8 (3, height, width)
        self._frames = []  # (pictures, 58) of each block
        self._followed = None  # the region of the face in the last picture
        _keep_freed_memory()

    def feed(self, picture):
        """
        Takes the next picture.

        Args:
            picture (`np.ndarray`, uint8 (height, width, 3)): the picture, RGB and upright.

        Raises:
            ValueError: if the picture has another shape or type.
        """
        picture = np.asarray(picture)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise ValueError(
                f"A picture is an array of uint8 of shape (height, width, 3), not of {picture.dtype} and "
                f"{picture.shape}."
            )
        self._pictures.append(torch.from_numpy(np.array(picture, order="C")).permute(2, 0, 1))
        if len(self._pictures) == _BLOCK:
            self._read_block()

    def finish(self):
        """Returns the frames of all pictures, float32 (pictures, 58); zeros where there is no face."""
        if self._pictures:
            self._read_block()
        return np.concatenate(self._frames) if self._frames else np.zeros((0, len(FACE_COLUMNS)), np.float32)

    @torch.inference_mode()
    def _read_block(self):
        """
        Reads the pictures held: the mesh looks at all of them at once, each at the region where the detector saw the
        face; then at single pictures where the face was not there.
        """
        pictures, self._pictures = self._pictures, []
        regions = [_suppress(detections) for detections in self._detect(pictures)]
        expected = self._expect(regions)
        seen = [row for row, region in enumerate(expected) if region is not None]
        answers = self._find_landmarks([pictures[row] for row in seen], [expected[row] for row in seen])
        answers = dict(zip(seen, answers, strict=True))
        faces = {}
        for row, picture in enumerate(pictures):
            landmarks = self._find_face(picture, regions[row], expected[row], answers.get(row))
            self._followed = None if landmarks is None else _surround(landmarks)
            if landmarks is not None:
                faces[row] = landmarks
        self._frames.append(self._describe(faces, pictures))

    def _detect(self, pictures):
        """Detections of each picture, float64 (n, 9) in its pixels: as `_suppress` takes them."""
        fitted, corners, scales = zip(*map(_fit, pictures), strict=True)
        squares = torch.stack(fitted).float().div_(127.5).sub_(1)
        boxes, logits = (output.cpu() for output in self.networks.detector(self._place(squares)))
        boxes = boxes[..., :8].unflatten(2, (4, 2))  # (pictures, 896, 4, 2): centre, sizes, right eye, left eye
        boxes[:, :, [0, 2, 3]] += DETECTOR_SIZE * self._anchors[:, None]
        detections = []
        for corner, scale, rows, scores in zip(corners, scales, boxes, logits.sigmoid(), strict=True):
            sure = scores > _LEAST_SCORE
            rows = rows[sure].numpy().astype(np.float64)
            rows[:, [0, 2, 3]] -= corner
            rows /= scale
            detections.append(np.column_stack([scores[sure].numpy(), rows.reshape(-1, 8)]))
        return detections

    def _place(self, pictures):
        return pictures.to(self.networks.device, memory_format=torch.channels_last)

    def _detect_small(self, picture):
        """Regions of faces that are too small for the detector in the whole picture."""
        tiles = _tiles(*picture.shape[1:])
        detections = self._detect([picture[:, y : y + side, x : x + side] for x, y, side in tiles])
        for (x, y, _), rows in zip(tiles, detections, strict=True):
            rows[:, [1, 5, 7]] += x
            rows[:, [2, 6, 8]] += y
        return _suppress(np.concatenate(detections))

    def _expect(self, regions):
        """The region of each picture that the face should be at, by the detections alone; None where there is none."""
        expected, followed = [], self._followed
        for candidates in regions:
            near = _nearest(followed, candidates)
            followed = candidates[near or 0] if len(candidates) else None
            expected.append(followed)
        return expected

    def _find_landmarks(self, pictures, regions):
        """Landmarks (478, 3) in pixels of the picture, and the score of a face, for each picture and region."""
        if not pictures:
            return []
        crops = torch.stack([_crop(*pair) for pair in zip(pictures, regions, strict=True)])
        landmarks, logits = (output.cpu() for output in self.networks.mesh(self._place(crops)))
        landmarks = landmarks.numpy().astype(np.float64) / MESH_SIZE - [0.5, 0.5, 0]
        answers = []
        for points, region, score in zip(landmarks, regions, logits.sigmoid().tolist(), strict=True):
            points = points * region[2]
            turn = _rotation(region[3])
            points[:, :2] = points[:, :2] @ turn.T + region[:2]
            answers.append((points, score))
        return answers

    def _find_face(self, picture, regions, expected, answer):
        """The landmarks of the face in a picture, or None; `answer` are those at the region `expected`."""
        for region in self._candidates(picture, regions):
            known = expected is not None and np.array_equal(region, expected)
            landmarks, score = answer if known else self._find_landmarks([picture], [region])[0]
            if score > _LEAST_SCORE:
                return landmarks
        return None

    def _candidates(self, picture, regions):
        """The regions that the face may be at, the likeliest first."""
        near = _nearest(self._followed, regions)
        if near is not None:
            yield regions[near]
            regions = np.delete(regions, near, axis=0)
        elif self._followed is not None:
            yield self._followed
        yield from regions[:_MOST_CANDIDATES]
        yield from self._detect_small(picture)[:_MOST_CANDIDATES]

    def _describe(self, faces, pictures):
        """Frames (pictures, 58) from the landmarks of those pictures that show a face."""
        frames = np.zeros((len(pictures), len(FACE_COLUMNS)), np.float32)
        if faces:
            rows, landmarks = list(faces), np.stack(list(faces.values()))
            points = torch.from_numpy(landmarks[:, BLENDSHAPE_LANDMARKS, :2]).float()
            sizes = np.array([pictures[row].shape[:0:-1] for row in rows])
            blendshapes = self.networks.blendshapes(points.to(self.networks.device))[:, 1:].cpu()  # without "neutral"
            frames[rows] = np.column_stack([blendshapes, describe_pose(landmarks, sizes), np.ones(len(rows))])
        return frames
