"""CPU seconds of MediaPipe's face landmarks and blendshapes, for comparison in the benchmark of media.

    python mediapipe_face.py face_landmarker.task VIDEO

Needs `mediapipe` and `av` alone, in an environment of its own. The pictures are those that hf-fusion reads: 10 a
second, each at most 640 pixels long.
"""

import json
import sys
import time

import av
import mediapipe as mp
import numpy as np

RATE, LONGEST = 10, 640


def pictures(path: str):
    """Yields the latest picture at the middle of each tick, RGB."""
    with av.open(path) as container:
        stream, tick, last = container.streams.video[0], 0, None
        stream.thread_count = 1
        for frame in container.decode(stream):
            while last is not None and (tick + 0.5) / RATE < frame.time:
                tick += 1
                yield _scaled(last)
            last = frame
        yield _scaled(last)


def _scaled(frame):
    scale = min(1.0, LONGEST / max(frame.width, frame.height))
    return frame.reformat(round(frame.width * scale), round(frame.height * scale), "rgb24").to_ndarray()


def main(task: str, video: str) -> None:
    """Prints the CPU seconds as JSON."""
    options = mp.tasks.vision.FaceLandmarkerOptions(
        base_options=mp.tasks.BaseOptions(model_asset_path=task),
        running_mode=mp.tasks.vision.RunningMode.VIDEO,
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    faces = 0
    with mp.tasks.vision.FaceLandmarker.create_from_options(options) as landmarker:
        start = time.process_time()
        for number, picture in enumerate(pictures(video)):
            image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
            faces += bool(landmarker.detect_for_video(image, number * 1000 // RATE).face_blendshapes)
        seconds = time.process_time() - start
    print(f"{faces} faces", file=sys.stderr)
    print(json.dumps({"face": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
