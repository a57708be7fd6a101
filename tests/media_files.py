"""Tiny audio and video files, written by PyAV: any container, codec and timestamps."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TICKS = 90000  # time base of made videos: any time is a whole number of them, nearly


def harmonic_sound(seconds, rate=16000, pitch=140.0, seed=0):
    """A voice-like sound `(samples,)`: harmonics of a gliding pitch, in syllables of a quarter of a second."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time))) / rate
    sound = sum(np.sin(k * phase) / k for k in range(1, 20) if k * pitch * 1.1 < rate / 2)
    syllables = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * time)
    noise = np.random.default_rng(seed).normal(scale=0.01, size=len(time))
    return (0.3 * syllables * sound + noise).astype(np.float32)


def tone(seconds, rate=16000, pitch=440.0, volume=0.5):
    """A sine `(samples,)`."""
    return (volume * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def beeps(times, seconds, rate=16000):
    """Silence with a beep of 50 ms at each of the times, in seconds."""
    sound = np.zeros(round(seconds * rate), np.float32)
    for start in times:
        beep = tone(0.05, rate, 1000.0)
        sound[round(start * rate) :][: len(beep)] = beep
    return sound


def level_at(time):
    """Gray level by which the pictures of `gray_film` tell their time: 8 more each 0.1 s, from 16."""
    return 16 + 8 * (round(time * 10) % 28)


def gray_film(times, size=(64, 48)):
    """Pictures `(time, (height, width, 3))` of one gray level each, `level_at(time)`; size is (width, height)."""
    return [(time, np.full((size[1], size[0], 3), level_at(time), np.uint8)) for time in times]


def moving_film(seconds, rate=25, size=(64, 48)):
    """Pictures in which a bright square moves over a gradient."""
    height, width = size[1], size[0]
    ground = np.broadcast_to(np.linspace(20, 120, width)[None, :, None], (height, width, 3)).astype(np.uint8)
    film = []
    for number in range(round(seconds * rate)):
        picture, left = ground.copy(), number * 2 % max(width - 16, 1)
        picture[height // 4 : height // 2, left : left + 16] = (220, 120, 40)
        film.append((number / rate, picture))
    return film


def quadrants(size=(64, 48)):
    """A picture with red, green, blue and white quadrants: top left, top right, bottom left, bottom right."""
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (255, 0, 0)
    picture[: height // 2, width // 2 :] = (0, 255, 0)
    picture[height // 2 :, : width // 2] = (0, 0, 255)
    picture[height // 2 :, width // 2 :] = (255, 255, 255)
    return picture


@dataclass
class Sound:
    """
    An audio track.

    Args:
        samples: `(samples,)` for all channels, or `(channels, samples)`; or a list of `(start, samples)` in seconds.
        rate: samples a second.
        codec: encoder of FFmpeg.
        layout: names of the channels, as FFmpeg gives them.
        sample_format: of the encoder, by default its first.
        options: of the encoder.
    """

    samples: np.ndarray | list
    rate: int = 16000
    codec: str = "pcm_s16le"
    layout: str = "mono"
    sample_format: str | None = None
    options: dict = field(default_factory=dict)

    def add(self, container):
        stream = container.add_stream(self.codec, rate=self.rate, layout=self.layout, options=self.options)
        if self.sample_format:
            stream.format = self.sample_format
        return stream

    def packets(self, stream):
        channels = len(stream.layout.channels)
        pieces = self.samples if isinstance(self.samples, list) else [(0.0, self.samples)]
        for start, samples in pieces:
            samples = np.atleast_2d(np.asarray(samples, np.float32))
            samples = np.ascontiguousarray(np.broadcast_to(samples, (channels, samples.shape[1])))
            position, size = round(start * self.rate), stream.codec_context.frame_size or 1024
            for begin in range(0, samples.shape[1], size):
                part = np.ascontiguousarray(samples[:, begin : begin + size])
                frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=stream.layout.name)
                frame.sample_rate, frame.time_base = self.rate, Fraction(1, self.rate)
                frame.pts = position + begin
                if stream.codec_context.format.name != "fltp":
                    name = stream.codec_context.format.name
                    frame = av.AudioResampler(format=name, layout=stream.layout.name, rate=self.rate).resample(frame)[0]
                    frame.pts, frame.time_base = position + begin, Fraction(1, self.rate)
                yield from stream.encode(frame)
        yield from stream.encode(None)


@dataclass
class Film:
    """
    A video track.

    Args:
        pictures: list of `(time, picture)`, seconds and uint8 `(height, width, 3)`.
        codec: encoder of FFmpeg.
        pixel_format: of the encoder.
        rate: pictures a second that the encoder is told.
        exact: whether the timestamps are the times, rather than numbers of pictures at `rate`.
        aspect: width of a pixel by its height.
        options: of the encoder.
    """

    pictures: list
    codec: str = "mpeg4"
    pixel_format: str = "yuv420p"
    rate: int = 25
    exact: bool = True
    aspect: Fraction | None = None
    options: dict = field(default_factory=dict)

    def add(self, container):
        stream = container.add_stream(self.codec, rate=self.rate, options=self.options)
        stream.height, stream.width = self.pictures[0][1].shape[:2]
        stream.pix_fmt = self.pixel_format
        if self.exact:
            stream.codec_context.time_base = Fraction(1, 1000 if "mpeg4" in self.codec else TICKS)
        if self.aspect:
            stream.codec_context.sample_aspect_ratio = self.aspect
        if self.codec == "mpeg4":
            stream.bit_rate = 2_000_000
        return stream

    def packets(self, stream):
        base = stream.codec_context.time_base
        for number, (time, picture) in enumerate(self.pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.time_base = base if self.exact else Fraction(1, self.rate)
            frame.pts = round(time / base) if self.exact else number
            yield from stream.encode(frame)
        yield from stream.encode(None)


def write_media(path, *tracks, cover=None, options=None, start=0.0, default=None, container=None):
    """
    Writes a file of tracks; returns its path as a string.

    Args:
        path: file, whose ending gives the container.
        tracks: `Sound` and `Film`.
        cover: picture of the cover, of an audio file.
        options: of the muxer.
        start: seconds by which all timestamps are late.
        default: number of the track that is marked as default.
        container: FFmpeg's name of the container, by default as the ending says.
    """
    with av.open(str(path), "w", format=container, options=options or {}) as file:
        streams = [track.add(file) for track in tracks]
        if default is not None:
            for number, stream in enumerate(streams):
                stream.disposition = av.stream.Disposition(int(number == default))
        art = None
        if cover is not None:
            art = file.add_stream("mjpeg", rate=1)
            art.height, art.width, art.pix_fmt = *cover.shape[:2], "yuvj420p"
            art.disposition = av.stream.Disposition.attached_pic
        packets = [packet for track, stream in zip(tracks, streams, strict=True) for packet in track.packets(stream)]
        if start:
            for packet in packets:
                late = round(start / packet.time_base)
                packet.pts, packet.dts = packet.pts + late, packet.dts + late
        if art is not None:
            packets += art.encode(av.VideoFrame.from_ndarray(cover, format="rgb24")) + art.encode(None)
        packets.sort(key=lambda packet: packet.dts * packet.time_base if packet.dts is not None else 0)
        file.mux(packets)
    return str(path)


def turn_upright(path, rotation, mirrored=False):
    """Rewrites the display matrix of an mp4 or mov: pictures are turned clockwise by 0, 90, 180 or 270 degrees."""
    content = bytearray(Path(path).read_bytes())
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[rotation]
    matrix = [cos, sin, -sin, cos]
    if mirrored:  # left and right are exchanged first
        matrix = [-cos, -sin, -sin, cos]
    start = content.find(b"tkhd") + 4
    start += {0: 40, 1: 52}[content[start]]  # by the version of the box
    values = np.frombuffer(bytes(content[start : start + 36]), ">i4").copy()
    values[[0, 1, 3, 4]] = np.array(matrix) * 2**16
    content[start : start + 36] = values.astype(">i4").tobytes()
    Path(path).write_bytes(content)
    return path
