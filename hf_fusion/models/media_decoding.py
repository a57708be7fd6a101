"""
Audio and video files as samples and pictures over time, decoded by PyAV in bounded memory.

Both are placed on the clock of the container, whose zero is the start of the file: the sample at position `i` of all
blocks was heard at `i / SAMPLE_RATE` seconds, and picture `i` was seen from `i / rate` to `(i + 1) / rate` seconds,
whatever the file does with its timestamps.
"""

import io
import os
import re
import stat
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from transformers.utils import is_av_available, is_torch_available

from .processing_text import InputError

if is_torch_available():
    import torch

SAMPLE_RATE = 16000  # samples a second of all audio, as Whisper takes it

# Sound that is this far off the clock (seconds) is moved, by silence or by leaving out; less is jitter of timestamps.
_JITTER = 0.05
# A clock that runs ahead or back by more than this (seconds) in one step was set anew: no silence, nothing left out.
_LARGEST_GAP, _LARGEST_OVERLAP = 3600.0, 10.0
# The first picture also stands for this time before it (seconds): reordered pictures start a little late.
_LATE = 0.5
_PRIMING = 1.0  # seconds before 0 at most of the samples that warm up a decoder
_FASTEST = 240  # pictures a second on average, at most
_RATES = (2000, 1_000_000)  # samples a second of sound: beyond, resampling takes any amount of memory
_LOUDEST = 100.0  # full scale is 1; what lies beyond is no sound

# Formats that open other files or addresses, devices, texts and single pictures. None is given to FFmpeg.
_REFUSED_FORMATS = frozenset((
    "adf", "alsa", "applehttp", "avfoundation", "avisynth", "bin", "concat", "dash", "data", "decklink", "dshow",
    "fbdev", "ffmetadata", "gdigrab", "hls", "idf", "iec61883", "image2", "image2pipe", "imf", "jack", "kmsgrab",
    "lavfi", "libcdio", "libgme", "openal", "oss", "pulse", "rtp", "rtsp", "sap", "sdp", "sndio", "tty",
    "v4l2", "vapoursynth", "vfwcap", "video4linux2", "webm_dash_manifest", "x11grab", "xbin", "xcbgrab",
))  # fmt: skip
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<MPD", b"[playlist]")
# Raw streams, of which FFmpeg only guesses the length.
_GUESSED_LENGTH = frozenset(("aac", "ac3", "eac3", "dts", "h264", "hevc", "m4v", "mpegvideo"))


class MediaError(InputError):
    """
    A media file that cannot be read: FFmpeg does not know it, it has neither audio nor video, or it goes beyond a
    limit. The reason names the file.
    """


@dataclass(frozen=True)
class MediaLimits:
    """
    Limits of a media file. A file beyond one of them is refused with a `MediaError`, before or while it is read.

    Args:
        max_seconds (`float`, defaults to 14400.0):
            Length, as the file claims it and as it is decoded.
        max_bytes (`int`, defaults to 17179869184):
            Size of the file.
        max_pixels (`int`, defaults to 33554432):
            Width times height of its pictures. The default takes 8K.
        max_streams (`int`, defaults to 100):
            Number of tracks of any kind, with subtitles and attachments.

    Example:

    ```python
    from hf_fusion.models.media_decoding import MediaLimits, MediaReader

    reader = MediaReader("talk.mp4", MediaLimits(max_seconds=600, max_bytes=2**30))
    ```
    """

    max_seconds: float = 14400.0
    max_bytes: int = 2**34
    max_pixels: int = 2**25
    max_streams: int = 100

    def __post_init__(self):
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ValueError(f"{name} must be a number above 0, got {value!r}.")


@dataclass(frozen=True)
class MediaFacts:
    """
    Properties of a media file as its container gives them; `None` where it does not.

    Args:
        container (`str`): name of the format in FFmpeg, "mov,mp4,m4a,3gp,3g2,mj2" for instance.
        seconds (`float`, *optional*): length.
        audio_tracks (`int`): number of audio tracks that FFmpeg decodes.
        video_tracks (`int`): number of video tracks that FFmpeg decodes. A cover picture is none.
        sample_rate (`int`, *optional*): samples a second of the audio track.
        channels (`int`, *optional*): its channels.
        audio_codec (`str`, *optional*): its codec.
        width (`int`, *optional*): pixels of a stored picture, before it is turned upright.
        height (`int`, *optional*): pixels of a stored picture, before it is turned upright.
        rotation (`int`, *optional*): degrees by which pictures are turned clockwise to be upright.
        picture_rate (`float`, *optional*): pictures a second on average.
        video_codec (`str`, *optional*): codec of the video track.
    """

    container: str
    seconds: float | None
    audio_tracks: int
    video_tracks: int
    sample_rate: int | None = None
    channels: int | None = None
    audio_codec: str | None = None
    width: int | None = None
    height: int | None = None
    rotation: int | None = None
    picture_rate: float | None = None
    video_codec: str | None = None

    @property
    def has_audio(self):
        return self.audio_tracks > 0

    @property
    def has_video(self):
        return self.video_tracks > 0


class MediaReader:
    """
    Reads the audio and the pictures of a media file, of any container and codec that FFmpeg knows.

    Memory does not grow with the length of the file. Decoding uses as many threads as torch (`torch.set_num_threads`).
    The first track that the file marks as default is read, or else the first.

    Args:
        source (`str`, `os.PathLike` or `bytes`): a file, or its content.
        limits (`MediaLimits`, *optional*): limits for the file.
        name (`str`, *optional*): name of the file in messages, by default its path.

    Raises:
        `MediaError`, from all methods and from `facts`: if the file cannot be read.
        `ImportError`, likewise: if PyAV (`av`) is not installed.

    Example:

    ```python
    from hf_fusion.models.media_decoding import MediaReader

    reader = MediaReader("talk.mp4")
    samples = sum(len(block) for block in reader.audio_blocks())
    pictures = [picture.shape for picture in reader.pictures(rate=10)]
    print(reader.facts, samples / 16000, len(pictures) / 10, reader.warnings)
    ```
    """

    def __init__(self, source, limits=None, name=None):
        if isinstance(source, (bytearray, memoryview)):
            source = bytes(source)
        if not isinstance(source, (str, os.PathLike, bytes)):
            raise TypeError(f"A media file is given by its path or its bytes, not as {type(source).__name__}.")
        self._source = source
        self.limits = MediaLimits() if limits is None else limits
        self.name = name or (f"{len(source)} bytes of media" if isinstance(source, bytes) else os.fspath(source))
        self._facts, self._share = None, 1.0  # share of the claimed size that is there
        self._warnings = {}  # the last message of each kind

    @property
    def warnings(self):
        """`list[str]`: problems met so far that did not end the reading, each once."""
        return list(self._warnings.values())

    @property
    def facts(self):
        """`MediaFacts`: properties of the file."""
        if self._facts is None:
            with self._open() as container:
                self._facts = self._describe(container)
        return self._facts

    def audio_blocks(self, seconds=30.0):
        """
        Reads the audio track.

        Args:
            seconds (`float`, defaults to 30.0): length of a block. The last one may be shorter.

        Yields:
            `np.ndarray` of shape `(samples,)`, float32: 16 kHz mono, silent before a late start and in gaps. Nothing
            if there is no audio track.
        """
        size = round(seconds * SAMPLE_RATE)
        if size < 1:
            raise ValueError(f"A block must have at least one sample, got seconds={seconds}.")
        held, count = [], 0
        for piece in self._audio_pieces():
            held.append(self._audible(piece))
            count += len(piece)
            while count >= size:
                samples = np.concatenate(held)
                yield samples[:size]
                held, count = [samples[size:].copy()], count - size
        if count:
            yield np.concatenate(held)

    def pictures(self, rate, longest=640):
        """
        Reads the video track.

        Args:
            rate (`float`): pictures a second.
            longest (`int`, defaults to 640): pixels of the longer side at most. Smaller pictures are not enlarged.

        Yields:
            `np.ndarray` of shape `(height, width, 3)`, uint8: RGB, upright, with square pixels. Picture `i` is the
            latest one at `(i + 0.5) / rate` seconds; where a picture stands still it is the same array again. Black
            before a late start. Nothing if there is no video track.
        """
        if not rate > 0 or longest < 1:
            raise ValueError(f"rate and longest must be above 0, got rate={rate}, longest={longest}.")
        with self._open() as container:
            scaler = _Scaler(longest, _pixel_aspect(_choose_track(container, "video")))
            tick, last, picture, end = 0, None, None, 0.0
            for frame, start, stop in self._frames(container, "video"):
                due = start  # ticks whose middle is before it show the picture before
                if last is None and start > _LATE:
                    self._warn("late video", f"The video starts at {start:.2f} s: the pictures before it are black.")
                    picture = np.zeros_like(self._guarded(scaler, frame))
                elif last is None:
                    due = 0.0
                while (tick + 0.5) / rate < due:
                    picture = self._guarded(scaler, last) if picture is None else picture
                    tick = self._count_tick(tick, rate)
                    yield picture
                last, picture, end = frame, None, stop
            while last is not None and ((tick + 0.5) / rate < end or tick == 0):
                picture = self._guarded(scaler, last) if picture is None else picture
                tick = self._count_tick(tick, rate)
                yield picture

    def _count_tick(self, tick, rate):
        self._check_seconds(tick / rate)
        return tick + 1

    def _audio_pieces(self):
        """Yields the samples of the audio track in pieces of any length, on the clock of the container."""
        with self._open() as container:
            done, resampler, moves = 0, None, {True: 0.0, False: 0.0}  # done: samples yielded so far
            for frame, start, _ in self._frames(container, "audio"):
                if resampler is None or not resampler.continues(frame, start):
                    for piece in self._guarded(resampler.flush) if resampler is not None else ():
                        done += len(piece)
                        yield piece
                    missing = round(start * SAMPLE_RATE) - done
                    if resampler is None:
                        self._warn_late(missing / SAMPLE_RATE)
                    elif abs(missing) > _JITTER * SAMPLE_RATE:
                        moves[missing > 0] += abs(missing) / SAMPLE_RATE
                        self._warn_moved(moves)
                    else:
                        missing = 0  # the sound goes on in another format
                    self._check_seconds((done + missing) / SAMPLE_RATE)
                    for position in range(0, missing, SAMPLE_RATE):
                        yield np.zeros(min(missing - position, SAMPLE_RATE), np.float32)
                    done += max(missing, 0)
                    resampler = self._guarded(_Resampler, frame, done, max(-missing, 0))
                for piece in self._guarded(resampler, frame):
                    done += len(piece)
                    yield piece
                self._check_seconds(done / SAMPLE_RATE)
            if resampler is not None:
                yield from self._guarded(resampler.flush)

    def _audible(self, samples):
        """Samples with 0 for what is no sound: not finite, or far beyond full scale."""
        sound = np.abs(samples) <= _LOUDEST
        if sound.all():
            return samples
        self._warn("no sound", "The audio has samples that are not finite or beyond any sound: set to 0.")
        return np.where(sound, samples, np.float32(0))

    def _warn_late(self, seconds):
        if seconds > _JITTER:
            self._warn("late audio", f"The audio starts at {seconds:.2f} s: silence before it.")

    def _warn_moved(self, moves):
        for later, seconds in moves.items():
            if seconds and later:
                self._warn("gaps", f"The audio has gaps: {seconds:.2f} s of silence were put in.")
            elif seconds:
                self._warn("overlaps", f"Parts of the audio overlap in time: {seconds:.2f} s were left out.")

    def _frames(self, container, kind):
        """Yields `(frame, start, end)` of the track of a kind, in seconds from the start of the file."""
        track = _choose_track(container, kind)
        if track is None:
            return
        for stream in container.streams:
            if stream is not track and hasattr(stream, "discard"):  # since PyAV 18
                stream.discard = _import_av().stream.Discard.all
        track.thread_type, track.thread_count = "AUTO", _threads() if kind == "video" else 1
        track.codec_context.options = {"max_pixels": self._most_pixels()}
        clock, count, decoded = _Clock(container, track, self._warn), 0, 0.0
        for packet in self._packets(container, track):
            for frame in self._decode(track, packet):
                start, end = clock(frame)
                count, decoded = count + 1, decoded + end - start
                self._check_seconds(count / _FASTEST if kind == "video" else decoded)
                yield frame, start, end
        self._compare(clock, container, track)

    def _packets(self, container, track):
        """Yields the packets of a track up to its end, or up to the damage that ends it."""
        packets = container.demux(track)
        while True:
            try:
                packet = next(packets, None)
            except _errors() as error:
                self._warn(f"{track.type} end", f"Reading the {track.type} ended early: {_reason(error)}.")
                yield None  # the decoder gives what it holds back
                return
            if packet is None:
                return
            yield packet

    def _decode(self, track, packet):
        """The frames of a packet; none if it is damaged."""
        try:
            frames = track.codec_context.decode(packet)
        except MemoryError as error:
            raise self._error(f"decoding needs too much memory: {_reason(error)}") from error
        except _errors() as error:
            self._warn(f"{track.type} damage", f"The {track.type} is damaged, parts are missing: {_reason(error)}.")
            return []
        for frame in frames:
            if track.type == "audio" and not _RATES[0] <= frame.sample_rate <= _RATES[1]:
                raise self._error(f"its audio has {frame.sample_rate} samples a second, not {_RATES[0]} to {_RATES[1]}")
            if track.type == "video":
                self._check("max_pixels", frame.width * frame.height, "pixels in a picture")
        return frames

    def _compare(self, clock, container, track):
        """Warns if a track ends before the time that the file claims."""
        claimed = None if clock.jumped else _claimed_end(container, track, clock)
        if self._share < 1:
            claimed = clock.end / self._share
        if claimed is not None and clock.end < claimed - max(0.5, 0.02 * claimed):
            self._warn(
                f"{track.type} short",
                f"Only {clock.end:.1f} of {claimed:.1f} s of the {track.type} could be read: the file is truncated or "
                "damaged.",
            )

    @contextmanager
    def _open(self):
        """The container, checked against all limits."""
        av = _import_av()
        with self._content() as content:
            options = {
                "protocol_whitelist": "none",  # the container can open nothing else
                "format_whitelist": ",".join(sorted(_accepted_formats(av.formats_available))),
                "max_pixels": self._most_pixels(),
            }
            try:
                container = av.open(_Stream(content), options=options, metadata_errors="replace", buffer_size=2**16)
            except _errors() as error:
                raise self._error(
                    f"FFmpeg reads no audio or video in it: {_reason(error)}. {_hint(content)}"
                ) from error
            with container:
                self._check("max_streams", len(container.streams), "tracks")
                self._check_tracks(container)
                yield container

    def _content(self):
        """The opened file, checked as a file."""
        if isinstance(self._source, bytes):
            size, content = len(self._source), io.BytesIO(self._source)
        else:
            try:
                status = os.stat(self._source)
                if stat.S_ISDIR(status.st_mode):
                    raise IsADirectoryError(None, "it is a folder, not a file")
                if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for a writer
                    raise OSError(None, "it is no regular file")
                size, content = status.st_size, open(self._source, "rb")  # noqa: SIM115
            except (OSError, ValueError) as error:
                raise self._error(_reason(error)) from error
        try:
            if not size:
                raise self._error("the file is empty")
            self._check("max_bytes", size, "bytes")
            self._share = _riff_share(content, size)
        except MediaError:
            content.close()
            raise
        return content

    def _check_tracks(self, container):
        """Refuses a file without audio and video, or beyond a limit; warns about the choice among tracks."""
        for kind in ("audio", "video"):
            tracks = _tracks(container, kind)
            if len(tracks) > 1:
                number = tracks.index(_choose_track(container, kind)) + 1
                self._warn(f"{kind} tracks", f"The file has {len(tracks)} {kind} tracks: number {number} is read.")
            for stream in container.streams:
                if stream.type == kind and stream.codec_context is None:
                    self._warn(f"{kind} codec", f"FFmpeg has no decoder for a track of {kind}: it is not read.")
        audio, video = (_choose_track(container, kind) for kind in ("audio", "video"))
        if audio is None and video is None:
            cover = any(stream.type == "video" for stream in container.streams)
            raise self._error(f"it has neither audio nor video{' but a picture' if cover else ''}")
        if audio is not None and 0 < audio.sample_rate < SAMPLE_RATE:
            self._warn(
                "sample rate",
                f"The audio has {audio.sample_rate} samples a second: it lacks all above {audio.sample_rate // 2} Hz, "
                f"and its features differ from those of audio with {SAMPLE_RATE} or more.",
            )
        if video is not None:
            self._check("max_pixels", video.width * video.height, "pixels in a picture")
            if not video.width:
                self._warn("no size", "The size of the pictures is unknown or far beyond the limit max_pixels.")
        self._check_seconds(_container_seconds(container) or 0.0)

    def _describe(self, container):
        audio, video = (_choose_track(container, kind) for kind in ("audio", "video"))
        facts = {}
        if audio is not None:
            facts |= {"sample_rate": audio.sample_rate or None, "channels": audio.channels or None}
            facts |= {"audio_codec": audio.codec_context.name}
        if video is not None:
            facts |= {"width": video.width or None, "height": video.height or None}
            facts |= {"video_codec": video.codec_context.name}
            facts |= {"picture_rate": float(video.average_rate) if video.average_rate else None}
            first = next(self._frames(container, "video"), None)
            facts |= {"rotation": None if first is None else _rotation(_display_matrix(first[0]))}
        return MediaFacts(
            container=container.format.name,
            seconds=_container_seconds(container),
            audio_tracks=len(_tracks(container, "audio")),
            video_tracks=len(_tracks(container, "video")),
            **facts,
        )

    def _guarded(self, function, *args):
        """Calls a function of FFmpeg, with its errors as `MediaError`."""
        try:
            return function(*args)
        except _errors() as error:
            raise self._error(f"FFmpeg cannot convert it: {_reason(error)}") from error

    def _most_pixels(self):
        """FFmpeg's own limit, before it takes memory. Between ours and this one the error tells the size."""
        return str(min(4 * int(self.limits.max_pixels), 2**31 - 1))

    def _check_seconds(self, seconds):
        self._check("max_seconds", seconds, "seconds")

    def _check(self, limit, value, unit):
        most = getattr(self.limits, limit)
        if value > most:
            raise self._error(f"it has {value:.0f} {unit}, more than the limit {limit}={most:.0f}")

    def _error(self, problem):
        return MediaError(f"{self.name} cannot be read: {problem.rstrip('. ')}.")

    def _warn(self, key, message):
        self._warnings[key] = message


class _Stream:
    """A file without its name, from which FFmpeg would guess a format, and that it only reads."""

    def __init__(self, file):
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


class _Clock:
    """
    Places the frames of a track on the clock of the file.

    A clock that is set anew within the file, as in joined recordings, goes on from the end of the frames before.
    """

    def __init__(self, container, track, warn):
        self._track, self._warn = track, warn
        origin = (container.start_time or 0) / 1e6
        # Audio may begin before 0 with samples that warm up its decoder: those are no part of the file.
        self.shift = 0.0 if -_PRIMING < origin < 0 else -origin
        self.end, self.jumped = 0.0, False  # end of the last frame, in seconds
        rate = float(track.average_rate or 0) if track.type == "video" else 0.0
        self._usual = 1 / rate if 1e-3 < rate < 1e4 else 0.04  # seconds of a picture without a duration

    def __call__(self, frame):
        """`(start, end)` of a frame in seconds."""
        start = self.end if frame.time is None else frame.time + self.shift
        ahead = start - self.end
        if not -_LARGEST_OVERLAP < ahead < _LARGEST_GAP:
            self._warn(
                f"{self._track.type} clock",
                f"The clock of the {self._track.type} jumps by {ahead:.0f} s at {self.end:.1f} s: it goes on without "
                "the jump.",
            )
            self.shift, start, self.jumped = self.shift - ahead, self.end, True
        end = start + self._length(frame)
        self.end = max(self.end, end)
        return start, end

    def _length(self, frame):
        if self._track.type == "audio":
            return frame.samples / frame.sample_rate
        length = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
        return length if 0 < length < _LARGEST_GAP else self._usual


class _Resampler:
    """
    Converts frames of one format that follow each other without a gap to 16 kHz mono.

    Args:
        frame (`av.AudioFrame`): the first frame, for its format.
        position (`int`): samples of the file before it.
        skip (`int`): samples at its start to leave out.
    """

    def __init__(self, frame, position, skip):
        av = _import_av()
        self._format, self._skip = _sound_format(frame), skip
        self._start, self._seconds = (position - skip) / SAMPLE_RATE, 0.0
        graph = av.filter.Graph()
        form, layout, rate = self._format
        self._source = graph.add("abuffer", sample_fmt=form, channel_layout=layout, sample_rate=str(rate))
        # Without a largest value of 1 the sum of two channels would be louder than either, for some formats only.
        convert = graph.add("aresample", rematrix_maxval="1.0")
        target = graph.add("aformat", sample_fmts="flt", channel_layouts="mono", sample_rates=str(SAMPLE_RATE))
        self._sink = graph.add("abuffersink")
        graph.link_nodes(self._source, convert, target, self._sink).configure()
        self._graph = graph  # keeps its nodes alive

    def continues(self, frame, start):
        """`bool`: whether a frame has the same format and follows the frames so far."""
        return _sound_format(frame) == self._format and abs(start - self._start - self._seconds) <= _JITTER

    def __call__(self, frame):
        self._seconds += frame.samples / frame.sample_rate
        return self._push(frame)

    def flush(self):
        """The samples that the resampling holds back."""
        return self._push(None)

    def _push(self, frame):
        av = _import_av()
        self._source.push(frame)
        pieces = []
        while True:
            try:
                samples = self._sink.pull().to_ndarray()[0]  # (samples,)
            except (BlockingIOError, EOFError, av.error.EOFError):
                return pieces
            pieces.append(samples[self._skip :])
            self._skip = max(self._skip - len(samples), 0)


class _Scaler:
    """Turns frames of pixels of an aspect into upright RGB arrays, the longer side at most `longest`."""

    def __init__(self, longest, pixel_aspect):
        self._longest, self._pixel_aspect = longest, pixel_aspect
        self._reformatter = _import_av().video.reformatter.VideoReformatter()
        self._matrices = {}  # by rotation

    def __call__(self, frame):
        width, height = frame.width * self._pixel_aspect, frame.height
        scale = min(1.0, self._longest / max(width, height))
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        picture = self._reformatter.reformat(frame, width, height, "rgb24").to_ndarray()  # (height, width, 3)
        if frame.rotation not in self._matrices:  # reading side data makes a frame part of a cycle: it stays a while
            self._matrices[frame.rotation] = _display_matrix(frame)
        return _turn(picture, self._matrices[frame.rotation])


def _pixel_aspect(track):
    """Width of a stored pixel by its height."""
    aspect = float(track.sample_aspect_ratio or 1) if track is not None else 1.0
    return aspect if 0.25 <= aspect <= 4 else 1.0


def _turn(picture, matrix):
    """A stored picture as its display matrix ((a, b), (c, d)) shows it: x' = a x + c y, y' = b x + d y."""
    (a, b), (c, d) = matrix
    if abs(b) > abs(a):  # rows become columns
        picture, a, d = picture.transpose(1, 0, 2), c, b
    if a < 0:
        picture = picture[:, ::-1]
    if d < 0:
        picture = picture[::-1]
    return np.ascontiguousarray(picture)


def _display_matrix(frame):
    """The upper left part of a frame's display matrix, `(2, 2)`; the unit matrix if it has none."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data that PyAV does not know
        data = None
    if data is None or len(bytes(data)) < 36:
        return np.eye(2)
    matrix = np.frombuffer(bytes(data)[:36], np.int32).reshape(3, 3)[:2, :2].astype(np.float64)
    return matrix if matrix.any() else np.eye(2)


def _rotation(matrix):
    """Degrees of a display matrix clockwise, one of 0, 90, 180 and 270."""
    return round(np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])) / 90) % 4 * 90


def _threads():
    """Threads of the decoder; 0 lets FFmpeg choose."""
    return torch.get_num_threads() if is_torch_available() else 0


def _sound_format(frame):
    return frame.format.name, frame.layout.name, frame.sample_rate


def _tracks(container, kind):
    """The tracks of a kind that FFmpeg decodes, without cover pictures."""
    cover = _import_av().stream.Disposition.attached_pic
    return [
        stream
        for stream in container.streams
        if stream.type == kind and stream.codec_context is not None and not stream.disposition & cover
    ]


def _choose_track(container, kind):
    """The track of a kind that is read: the first of those marked as default, or the first; `None` if there is none."""
    default = _import_av().stream.Disposition.default
    tracks = _tracks(container, kind)
    return next((track for track in tracks if track.disposition & default), tracks[0] if tracks else None)


def _container_seconds(container):
    return container.duration / 1e6 if container.duration and container.duration > 0 else None


def _claimed_end(container, track, clock):
    """Seconds at which a track ends as the file claims; `None` where it does not, or where FFmpeg only guesses."""
    if container.format.name in _GUESSED_LENGTH:
        return None
    if track.duration and track.time_base:
        return float(((track.start_time or 0) + track.duration) * track.time_base) + clock.shift
    parts = re.fullmatch(r"(\d+):(\d\d):(\d\d\.\d+)", track.metadata.get("DURATION", ""))  # of Matroska
    if parts:
        hours, minutes, seconds = map(float, parts.groups())
        return 3600 * hours + 60 * minutes + seconds + clock.shift
    others = [stream for stream in container.streams if stream is not track and stream.type in ("audio", "video")]
    return _container_seconds(container) if not others else None


def _riff_share(content, size):
    """Share of a wav or avi file that is there. FFmpeg takes the end of the file for the end of the sound."""
    start, claimed = content.read(4), int.from_bytes(content.read(4), "little") + 8
    content.seek(0)
    return size / claimed if start == b"RIFF" and size < claimed < 2**31 - 2**16 else 1.0


def _accepted_formats(formats):
    names = {name for joined in formats for name in joined.split(",")}
    return {name for name in names - _REFUSED_FORMATS if not name.endswith("_pipe")}


def _hint(content):
    content.seek(0)
    start = content.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(_PLAYLISTS):
        return "It is a list of other files: give one of them"
    return "It may be damaged, cut off before its index, or no media file"


def _reason(error):
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip(". ")


def _errors():
    """Errors of PyAV: those of FFmpeg, and what damaged values lead to in it."""
    return _import_av().error.FFmpegError, ArithmeticError, LookupError, MemoryError, OSError, TypeError, ValueError


def _import_av():
    if is_av_available():
        import av

        return av
    raise ImportError('Reading audio and video files needs PyAV: `pip install "hf-fusion[media]"` or `pip install av`.')
