"""Reading of media on a CPU: the cost of the frames, the memory of a long video, and the way from a video to its curve.

The costs of frames are CPU seconds for a second of sound or video, decoding included, on one thread; they are compared
with what they should cost, and with the programs that `--against` names. The video is 720p with 30 pictures a second;
it repeats the first seconds of the file that `--video` names, or else drawn pictures without a face.
"""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import cycle, islice
from math import ceil
from pathlib import Path

import av
import numpy as np
import torch
from transformers import AutoTokenizer

from hf_fusion.data.temporary import temporary_folder
from hf_fusion.media.extractor import make_extractor
from hf_fusion.models.feature_extraction_dashfusion import DashFusionFeatureExtractor
from hf_fusion.models.media_decoding import SAMPLE_RATE, MediaReader
from hf_fusion.models.media_face import FaceFrames, FaceNetworks
from hf_fusion.models.media_voice import VoiceDescriptors
from hf_fusion.models.media_whisper import WhisperFrames, build_encoder
from hf_fusion.models.modeling_dashfusion import DashFusionForSequenceClassification
from hf_fusion.models.pipeline_fusion_sentiment import FusionSentimentPipeline
from hf_fusion.models.processing_dashfusion import DashFusionProcessor
from hf_fusion.studies.measure import (
    BenchmarkOptions,
    Comparison,
    alternate,
    compare,
    in_child,
    measure_seconds,
    resident_bytes,
)
from hf_fusion.utils.errors import DataError

# CPU seconds that a second of media should cost at most, by the kind of the frames.
BUDGETS = {"descriptors": 0.01, "whisper": 0.02, "face": 0.15}
# Bytes that the process should take at most, torch and the networks included.
MEMORY_BUDGET = 700e6
# Lengths of the videos in seconds: for the cost, and for the memory.
SECONDS, SHORT, LONG = 60, 120, 600
QUICK_SECONDS, QUICK_SHORT, QUICK_LONG = 1, 2, 4
_SEGMENT = 8  # seconds after which the video repeats: whole numbers of pictures and of AAC frames
_PICTURE_RATE, _WIDTH, _HEIGHT = 30, 1280, 720
_VISION_RATE = 10
_WINDOW, _HOP = 10.0, 2.0  # of the curve
_UNIT = "seconds of CPU a second"


def run(options: BenchmarkOptions) -> list[Comparison]:
    """Compares costs, memory and the time to a curve with their budgets, and costs with those of other programs."""
    threads = torch.get_num_threads()
    seconds = QUICK_SECONDS if options.quick else SECONDS
    with temporary_folder() as folder:
        video = write_video(Path(folder) / "video.mp4", seconds, options.video)
        torch.set_num_threads(1)
        try:
            rows = _costs(options, video, seconds)
            rows += [row for text in options.against for row in _against(options, text, video, seconds)]
        finally:
            torch.set_num_threads(threads)
        rows += _memory(options, Path(folder))
        return [*rows, _curve(options, video, seconds)]


def _costs(options, video, seconds):
    """Compares the cost of each kind of frames with its budget."""
    rows = []
    for kind, make in frame_readers(options.whisper).items():
        read_frames(kind, make(), video)  # the first run is slower
        costs = [cpu_seconds(kind, make, video) / seconds for _ in range(options.repeats)]
        pairs = [(BUDGETS[kind], cost) for cost in costs]
        rows.append(compare(f"{kind} frames", _UNIT, pairs, {"name": "aim"}, {"name": "hf-fusion"}, target=1.0))
    return rows


def frame_readers(whisper: str) -> dict[str, Callable]:
    """Returns functions that make a reader of frames (`feed`, `finish`), by kind; their networks are made once."""
    extractor = make_extractor("whisper", "face", vision_rate=_VISION_RATE, audio_encoder=whisper)
    audio, face = (extractor.networks[kind] for kind in ("whisper", "face"))
    encoder = build_encoder(json.loads(audio.metadata["config"]), audio.state_dict())
    networks = FaceNetworks.from_state_dict(face.state_dict())
    return {
        "descriptors": VoiceDescriptors,
        "whisper": lambda: WhisperFrames(encoder),
        "face": lambda: FaceFrames(networks, _VISION_RATE),
    }


def read_frames(kind: str, reader, video: str) -> np.ndarray:
    """Reads the frames of a video `(frames, columns)`."""
    media = MediaReader(video)
    for part in media.pictures(_VISION_RATE) if kind == "face" else media.audio_blocks():
        reader.feed(part)
    return reader.finish()


def cpu_seconds(kind: str, make: Callable, video: str) -> float:
    """Returns the CPU seconds of [`read_frames`]."""
    start = time.process_time()
    read_frames(kind, make(), video)
    return time.process_time() - start


def _against(options, text, video, seconds):
    """Compares with another program, in pairs; it says which kinds of frames it makes."""
    name, _, command = text.partition("=")
    makers = frame_readers(options.whisper)
    kinds = [kind for kind in run_command(command, video) if kind in makers]
    pairs = alternate(
        lambda: run_command(command, video),
        lambda: {kind: cpu_seconds(kind, makers[kind], video) for kind in kinds},
        options.repeats,
    )
    return [
        compare(
            f"{kind} frames, {name}",
            _UNIT,
            [(theirs[kind] / seconds, ours[kind] / seconds) for theirs, ours in pairs],
            {"name": name},
            {"name": "hf-fusion"},
        )
        for kind in kinds
    ]


def run_command(command: str, video: str) -> dict[str, float]:
    """
    Runs a program with a video as last argument, on one thread.

    Args:
        command (`str`): the program with its other arguments. The last line of its output is JSON: the CPU seconds
            for each kind of frames of the whole video.
        video (`str`): the video.

    Raises:
        DataError: if it fails, or its last line is none of these.
    """
    words = [*shlex.split(command), video]
    process = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    lines = process.stdout.splitlines()
    try:
        costs = json.loads(lines[-1])
        return {kind: float(cost) for kind, cost in costs.items()}
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"--against {command}: the last line must be JSON with CPU seconds by kind, got "
            f"{lines[-1:]}; {process.stderr[-500:]}"
        ) from error


def _memory(options, folder):
    """Compares the peak of a process that reads a long video with the budget, and with that of a shorter one."""
    lengths = (QUICK_SHORT, QUICK_LONG) if options.quick else (SHORT, LONG)
    videos = [write_video(folder / f"{seconds}.mp4", seconds, options.video) for seconds in lengths]
    rows = []
    for audio, vision in (("descriptors", "face"), ("whisper", None)):
        settings = {"audio": audio, "vision": vision, "audio_encoder": options.whisper}
        peaks = [in_child(read_all, {"OMP_NUM_THREADS": "1"}, video=video, **settings) for video in videos]
        short, long = (peak["peak"] for peak in peaks)
        names = [{"name": f"{seconds} s of 720p", **peak} for seconds, peak in zip(lengths, peaks, strict=True)]
        what = f"memory at most, {' and '.join(filter(None, (audio, vision)))} frames"
        rows.append(compare(what, "bytes", [(MEMORY_BUDGET, long)], {"name": "aim"}, names[1], target=1.0))
        rows.append(compare(f"{what}: growth", "bytes", [(short, long)], *names, target=0.95))
    return rows


def read_all(video: str, audio: str, vision: str | None, audio_encoder: str) -> dict:
    """Reads a video in this process; returns the memory before it and at most, and the CPU seconds."""
    extractor = make_extractor(audio, vision, audio_encoder=audio_encoder)
    before, start = resident_bytes(), time.process_time()
    extractor.read(video, None, None, None, None, "cpu", None, ("audio", "vision"))
    return {
        "resident_before": before,
        "peak": resident_bytes("VmHWM"),
        "cpu_seconds": time.process_time() - start,
    }


def _media(extractor):
    return {"media": extractor.settings.to_dict(), "networks": extractor.networks}


def _curve(options, video, seconds):
    """Compares the time from a video without transcript to its scores over time with its length."""
    classify = untrained_pipeline(options.text_encoder, options.whisper)

    def predict():
        return classify({"media": video}, window=_WINDOW, hop=_HOP, asr=options.whisper)

    count, start = len(predict()), time.process_time()
    pairs = [(seconds, measure_seconds(predict)) for _ in range(options.repeats)]
    facts = {
        "name": f"{count} scores, with a transcript",
        "threads": torch.get_num_threads(),
        "cpu_seconds": (time.process_time() - start) / options.repeats,
    }
    return compare(f"from video to curve, {_WINDOW:g} s every {_HOP:g} s", "seconds", pairs,
                   {"name": "length of the video"}, facts, target=1.0)  # fmt: skip


def untrained_pipeline(text_encoder: str, whisper: str) -> FusionSentimentPipeline:
    """Returns the pipeline of a DashFusion that reads media; its cost does not depend on a training."""
    extractor = make_extractor("whisper", "face", vision_rate=_VISION_RATE, audio_encoder=whisper)
    lengths = {
        "max_audio_length": ceil(_WINDOW * extractor.settings.audio_rate),
        "max_vision_length": ceil(_WINDOW * extractor.settings.vision_rate),
    }
    features = DashFusionFeatureExtractor(**_media(extractor), **lengths)
    sizes = {f"{name}_feature_size": getattr(features, f"{name}_feature_size") for name in ("audio", "vision")}
    torch.manual_seed(0)
    model = DashFusionForSequenceClassification.from_text_encoder(text_encoder, **sizes, **lengths).eval()
    processor = DashFusionProcessor(AutoTokenizer.from_pretrained(text_encoder), features)
    return FusionSentimentPipeline(model, processor=processor, device="cpu")


def write_video(path: Path, seconds: int, source: str | None) -> str:
    """
    Writes a video of 720p with sound, which repeats its first eight seconds.

    Args:
        path (`Path`): an `.mp4`.
        seconds (`int`): the length.
        source (`str`, *optional*): a file with pictures and sound; without it, both are made: no face, and a voice-like
            sound.

    Returns:
        `str`: the path.
    """
    segment = path.with_name(f"{path.stem}.segment.mp4")
    _write_segment(segment, min(seconds, _SEGMENT), source)
    with av.open(str(path), "w") as output:
        tracks = {}
        for number in range(ceil(seconds / _SEGMENT)):
            with av.open(str(segment)) as content:
                tracks = tracks or {one.index: output.add_stream_from_template(one) for one in content.streams}
                for packet in content.demux():
                    if packet.dts is None or packet.pts < 0:  # the end, and what an encoder puts before the sound
                        continue
                    place = packet.pts * packet.time_base + number * _SEGMENT
                    if place >= seconds:
                        continue
                    shift = round(number * _SEGMENT / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = tracks[packet.stream.index]
                    output.mux(packet)
    segment.unlink()
    return str(path)


def _write_segment(path, seconds, source):
    with av.open(str(path), "w") as output:
        film = output.add_stream("libx264", rate=_PICTURE_RATE, options={"preset": "veryfast", "bf": "0"})
        film.width, film.height, film.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        sound = output.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for number, picture in enumerate(_pictures(source, seconds * _PICTURE_RATE)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, _PICTURE_RATE)
            output.mux(film.encode(frame))
        output.mux(film.encode(None))
        samples = _samples(source, seconds * SAMPLE_RATE)
        for start in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))


def _pictures(source, count) -> Iterator[np.ndarray]:
    """Yields pictures of the size of the video: those of the source in the middle, enlarged to the full height."""
    if source is None:
        ground = np.linspace(0, 255, _WIDTH).astype(np.uint8)[None, :, None].repeat(_HEIGHT, 0).repeat(3, 2)
        yield from (np.roll(ground, 4 * number, axis=1) for number in range(count))
        return
    found = list(islice(MediaReader(source).pictures(_PICTURE_RATE), count))
    if not found:
        raise DataError(f"{source} has no pictures.")
    height, width = found[0].shape[:2]
    width = min(_WIDTH, 2 * round(width * _HEIGHT / height / 2))
    left = (_WIDTH - width) // 2
    for picture in islice(cycle(found), count):
        canvas = np.full((_HEIGHT, _WIDTH, 3), 64, np.uint8)
        scaled = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(width=width, height=_HEIGHT)
        canvas[:, left : left + width] = scaled.to_ndarray()
        yield canvas


def _samples(source, count):
    """Returns the first samples of the source, repeated if it is shorter; without sound, a voice-like one."""
    blocks = [] if source is None else list(islice(MediaReader(source).audio_blocks(_SEGMENT), 1))
    if blocks:
        return np.resize(blocks[0], count)
    time = np.arange(count) / SAMPLE_RATE
    voice = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 20))
    return (0.1 * voice * (0.5 - 0.5 * np.cos(2 * np.pi * 4 * time))).astype(np.float32)
