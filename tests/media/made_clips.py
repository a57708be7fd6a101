"""An extractor that makes frames of the bytes of a file, for tests of all that is around it."""

from pathlib import Path

import numpy as np

from hf_fusion.models.media_frames import MediaClip, MediaSettings
from hf_fusion.models.media_text import Word, text_of
from hf_fusion.models.processing_text import InputError

WORDS = [Word(0.0, 0.5, "one"), Word(1.0, 1.5, "two"), Word(2.0, 2.5, "three")]


class MadeExtractor:
    """
    Frames of 3 s, whose values are the number that the file holds. Files that hold "broken" cannot be read, those with
    "silent", "faceless", "voiceless" lack sound, a face or a voice.

    Attributes:
        calls: name of each file that was read, and what of it.
    """

    def __init__(self, **settings):
        self.settings = MediaSettings(**{"audio": "descriptors", "audio_rate": 20, "vision": "face", "vision_rate": 10,
                                         **settings})  # fmt: skip
        self.calls = []

    def only(self, streams):
        settings = self.settings.only(streams)
        made = MadeExtractor(**settings.to_dict())
        made.calls = self.calls
        return made

    def save(self, folder):
        """There are no networks."""

    def read(self, source, transcript, asr, language, limits, device, progress, modalities):
        content = Path(source).read_text()
        self.calls.append((source.rpartition("/")[2], modalities))
        if content == "broken":
            raise InputError(f"{source}: FFmpeg reads nothing in it.")
        if content == "strange":
            raise RuntimeError("a library fails")
        value = float(content) if content.isdigit() else 1.0
        frames = {
            "audio": np.full((60, 23), value, np.float32), "vision": np.full((30, 58), value, np.float32),
        }  # fmt: skip
        voiced = np.full(60, content not in ("silent", "voiceless"))
        if not voiced.any():
            frames["audio"] = None
        if content == "faceless":
            frames["vision"] = None
        for name in frames:
            if getattr(self.settings, name) is None:
                frames[name] = None
        words = WORDS if "text" in modalities and asr else []
        report = {"seconds": 3.0, "audio_seconds": 0.0 if content == "silent" else 3.0, "vision_seconds": 3.0,
                  "voiced_share": float(voiced.mean()), "face_share": 1.0, "words": 3, "transcript": None,
                  "warnings": []}  # fmt: skip
        return MediaClip(text_of(words), words, **frames, seconds=3.0, settings=self.settings, voiced=voiced,
                         speech=[(0.0, 3.0)], report=report)  # fmt: skip
