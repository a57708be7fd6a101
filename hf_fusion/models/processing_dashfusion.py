"""Processor of DashFusion: text, audio and vision of clips -> tensors."""

import copy

import numpy as np
from transformers import BatchFeature, ProcessorMixin
from transformers.utils import is_torch_available

from .feature_extraction_dashfusion import STREAMS, DashFusionFeatureExtractor
from .media_decoding import MediaReader  # noqa: F401 - as the others: travels too
from .media_frames import MediaExtractor  # noqa: F401
from .media_text import Word  # noqa: F401
from .media_voice import VoiceDescriptors  # noqa: F401
from .processing_dyfulm import (
    DyFuLMProcessor,
    FusionProcessorMixin,
    check_fingerprint,
    check_max_length,
    check_texts,
    merged_options,
    other_columns,
    pad_token_columns,
    save_second_tokenizer_config,
    truncated_rows,
)
from .processing_text import InputError

if is_torch_available():
    from .media_face import FaceFrames  # noqa: F401
    from .media_image import ImageFrames  # noqa: F401
    from .media_transcription import Transcriber  # noqa: F401
    from .media_whisper import WhisperFrames  # noqa: F401

DEFAULT_MAX_LENGTH = 128  # tokens, as in the paper


class DashFusionProcessor(FusionProcessorMixin, ProcessorMixin):
    r"""
    Turns clips into the tensors of DashFusion.

    Any of the three modalities may be missing, for single clips or for all of them; the mask of a clip that lacks one
    is all zero, and a modality that all clips lack has no tensors.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): tokenizer of the text encoder.
        feature_extractor ([`DashFusionFeatureExtractor`], *optional*): normalises and pads audio and vision; by
            default one for the feature sizes of MOSI.
        tokenizer_b (`PreTrainedTokenizerBase`, *optional*): second tokenizer, for a DyFuLM as text encoder; then the
            text becomes the six tensors of [`DyFuLMProcessor`].
        max_length (`int`, *optional*): most tokens of a text, special tokens included. Defaults to the limit of the
            tokenizers, at most 128.
        vocabulary_fingerprint, vocabulary_fingerprint_b (`str`, *optional*): written by `save_pretrained` and compared
            on loading.

    Example:

    ```python
    import numpy as np
    from hf_fusion import DashFusionFeatureExtractor, DashFusionProcessor
    from hf_fusion.data.tokenizers import train_tokenizer

    texts = ["good bed", "not a clean room"]
    extractor = DashFusionFeatureExtractor(audio_feature_size=5, vision_feature_size=20)
    processor = DashFusionProcessor(train_tokenizer(texts, "wordpiece", 100), extractor)
    audio = [np.zeros((30, 5)), None]  # the second clip has no audio
    batch = processor(text=texts, audio=audio, return_tensors="pt")
    batch["audio_features"].shape  # (2, 30, 5)
    ```
    """

    def __init__(
        self,
        tokenizer=None,
        feature_extractor=None,
        tokenizer_b=None,
        max_length=None,
        vocabulary_fingerprint=None,
        vocabulary_fingerprint_b=None,
    ):
        # A processor always has and saves two tokenizers: loading asks for both. With one text encoder the second is a
        # copy of the first, and only the fingerprints tell.
        self.has_two_tokenizers = tokenizer_b is not None and (
            vocabulary_fingerprint is None or vocabulary_fingerprint_b is not None
        )
        if not self.has_two_tokenizers or tokenizer_b is tokenizer:
            tokenizer_b = copy.deepcopy(tokenizer)
        super().__init__(tokenizer, feature_extractor or DashFusionFeatureExtractor(), tokenizer_b)
        check_fingerprint("tokenizer", tokenizer, vocabulary_fingerprint)
        check_fingerprint("tokenizer_b", tokenizer_b, vocabulary_fingerprint_b)
        if max_length is None:
            max_length = min(*(t.model_max_length for t in (tokenizer, tokenizer_b)), DEFAULT_MAX_LENGTH)
        self.max_length = max_length
        check_max_length(self.tokenizers, max_length)

    @property
    def tokenizers(self):
        """`tuple`: the tokenizers of the text encoder."""
        return (self.tokenizer, self.tokenizer_b) if self.has_two_tokenizers else (self.tokenizer,)

    @property
    def text_input_names(self):
        """Names of the text's tensors."""
        if self.has_two_tokenizers:
            return self._two_tokenizers().model_input_names
        names = [name for name in self.tokenizer.model_input_names if name != "attention_mask"]
        return [*names, "attention_mask"]

    @property
    def model_input_names(self):
        """Names of the tensors that `__call__` returns, where no modality is missing."""
        return self.text_input_names + [f"{name}_{kind}" for name in STREAMS for kind in ("features", "attention_mask")]

    @property
    def padded_columns(self):
        """Names of the columns of a row that [`pad`] pads."""
        return [*dict.fromkeys([*self.model_input_names, *STREAMS])]

    def _two_tokenizers(self):
        return DyFuLMProcessor(self.tokenizer, self.tokenizer_b, max_length=self.max_length)

    def __call__(
        self,
        text=None,
        audio=None,
        vision=None,
        padding=True,
        truncation=True,
        max_length=None,
        pad_to_multiple_of=None,
        return_tensors=None,
        text_kwargs=None,
        common_kwargs=None,
        return_truncated=False,
    ):
        """
        Args:
            text (`str`, or `list` of `str` or `None`): the spoken text. An empty text is a text.
            audio, vision (array of shape `(frames, features)`, or `list` of them or `None`): the frames of a clip, or
                of several; an array `(clips, frames, features)` too. A clip without a frame lacks the modality.
            padding (`bool` or `str`, defaults to `True`): to the longest (`True`, "longest"), to the limit
                ("max_length"), or not at all; each modality has its own length.
            truncation (`bool`, defaults to `True`): whether to cut texts and frames beyond the limits.
            max_length (`int`, *optional*): most tokens; overrides the processor's.
            pad_to_multiple_of (`int`, *optional*): rounds padded lengths up.
            return_tensors (`str`, *optional*): "pt" or "np".
            text_kwargs (`dict`, *optional*): the same options by name, for the text alone.
            common_kwargs (`dict`, *optional*): the same options by name, as in other processors.
            return_truncated (`bool`, defaults to `False`): whether to return `truncated` as well, of shape `(batch,)`:
                whether text or frames of the clip were cut.

        Returns:
            `BatchFeature` with the text's tensors (`input_ids`, `attention_mask` ...), `audio_features` of shape
            `(batch, frames, features)`, `audio_attention_mask` of shape `(batch, frames)`, and the same for vision. A
            single clip is a batch of one.

        Raises:
            ValueError: if the modalities differ in the number of clips, a clip has none of them, a value is not as
                described, or an option is unknown or given twice; names clip and modality, or option.
        """
        options = merged_options(
            padding, truncation, max_length, pad_to_multiple_of, return_tensors, common_kwargs=common_kwargs
        )
        text_options = merged_options(*options.values(), text_kwargs=text_kwargs)
        given = {"text": _texts(text), "audio": _clips("audio", audio), "vision": _clips("vision", vision)}
        counts = {name: len(values) for name, values in given.items() if values is not None}
        if not counts:
            raise ValueError("Give at least one of `text`, `audio` and `vision`.")
        if len(set(counts.values())) > 1:
            raise ValueError(
                f"All modalities must have the same number of clips, got {counts}. (A two-dimensional array is one "
                "clip, its rows are frames.)"
            )
        count = next(iter(counts.values()))
        columns = self.encode_text(
            given["text"] or [None] * count, text_options["truncation"], text_options["max_length"], True
        )
        truncated = columns.pop("truncated")
        for name in STREAMS:
            columns[name] = self.feature_extractor.prepare(name, given[name] or [None] * count, options["truncation"])
        for i in range(count):
            if not any(len(columns[name][i]) for name in ("input_ids", *STREAMS)):
                raise InputError("There is no text, no audio frame and no vision frame.", i)
            truncated[i] |= options["truncation"] and any(
                self.feature_extractor.is_too_long(name, given[name][i]) for name in STREAMS if given[name]
            )
        flags = {"truncated": truncated} if return_truncated else {}
        return self._pad_columns(columns, options, text_options, flags)

    def encode_text(self, texts, truncation=True, max_length=None, return_truncated=False):
        """
        Texts -> unpadded rows for [`pad`].

        Args:
            texts (`list` of `str` or `None`): `None` gives a row without tokens.
            truncation, max_length: as in `__call__`.
            return_truncated (`bool`): whether to return `truncated` as well: for each text whether it was cut.

        Returns:
            `dict` of lists by the names of the text's tensors.
        """
        max_length = self.max_length if max_length is None else max_length
        check_max_length(self.tokenizers, max_length)
        there = [i for i, text in enumerate(texts) if text is not None]
        check_texts([texts[i] for i in there], there)
        columns = {name: [[] for _ in texts] for name in self.text_input_names}
        truncated = [False] * len(texts)
        if there:
            found = [texts[i] for i in there]
            encoded = self._encode_found(found, max_length if truncation else None)
            for name, column in columns.items():
                for i, row in zip(there, encoded[name], strict=True):
                    column[i] = list(row)
            for i, cut in zip(there, encoded["truncated"], strict=True):
                truncated[i] = cut
        return {**columns, "truncated": truncated} if return_truncated else columns

    def _encode_found(self, texts, limit):
        if self.has_two_tokenizers:
            max_length = limit or self.max_length
            return self._two_tokenizers()(
                texts, padding=False, truncation=limit is not None, max_length=max_length, return_truncated=True
            )
        options = {} if limit is None else {"max_length": limit}
        encoded = self.tokenizer(texts, truncation=limit is not None, return_attention_mask=True, **options)
        cut = set(truncated_rows(self.tokenizer, texts, encoded["input_ids"], limit))
        return {**encoded, "truncated": [i in cut for i in range(len(texts))]}

    def pad(self, features, padding=True, max_length=None, pad_to_multiple_of=None, return_tensors=None):
        """
        Pads rows for a collator: their text encoded before, their frames as they were read.

        Args:
            features (`list[dict]`): rows with the names of [`encode_text`], `audio` and `vision`; each may be absent
                or empty. Or rows of the result of `__call__`: `audio_features` with `audio_attention_mask` in place of
                `audio`, and the same for vision. Other columns, such as `labels`, are passed on.
            padding, max_length, pad_to_multiple_of, return_tensors: as in `__call__`.

        Returns:
            `BatchFeature`, as `__call__`.

        Raises:
            ValueError: as `__call__`; and with `return_tensors` if another column holds no numbers.
        """
        columns = {name: [_row(row.get(name)) for row in features] for name in self.text_input_names}
        for name in STREAMS:
            if any(f"{name}_features" in row for row in features):
                columns[name] = [self._prepared(name, row) for row in features]
            else:
                columns[name] = self.feature_extractor.prepare(name, [row.get(name) for row in features])
        options = merged_options(padding, True, max_length, pad_to_multiple_of, return_tensors)
        others = other_columns(features, self.padded_columns, return_tensors)
        return self._pad_columns(columns, options, options, others)

    def _prepared(self, name, row):
        """The real frames of a row that `__call__` made: without its padding."""
        frames, mask = row.get(f"{name}_features"), row.get(f"{name}_attention_mask")
        if frames is None:
            return np.zeros((0, getattr(self.feature_extractor, f"{name}_feature_size")), dtype=np.float32)
        frames = np.asarray(frames, dtype=np.float32)
        return frames if mask is None else frames[np.asarray(mask, dtype=bool)]

    def _pad_columns(self, columns, options, text_options, others=()):
        text = {name: columns[name] for name in self.text_input_names}
        batch = pad_token_columns(
            text, self.tokenizers, text_options["padding"], text_options["max_length"] or self.max_length,
            text_options["pad_to_multiple_of"],
        )  # fmt: skip
        if not any(text["input_ids"]):
            batch = {}
        for name in STREAMS:
            if not any(map(len, columns[name])):
                continue
            if options["padding"] in (False, "do_not_pad"):
                batch[f"{name}_features"] = columns[name]
                batch[f"{name}_attention_mask"] = [np.ones(len(frames), dtype=np.int64) for frames in columns[name]]
            else:
                batch[f"{name}_features"], batch[f"{name}_attention_mask"] = self.feature_extractor.pad(
                    name, columns[name], options["padding"], options["pad_to_multiple_of"]
                )
        return BatchFeature({**batch, **dict(others)}, tensor_type=text_options["return_tensors"])

    def read_media(
        self,
        source,
        transcript=None,
        asr=None,
        language=None,
        limits=None,
        device="cpu",
        progress=None,
        modalities=("text", *STREAMS),
    ):
        """
        Reads a video or audio file as the clips were read that the model was trained on.

        Args:
            source (`str`, `os.PathLike` or `bytes`): a file that FFmpeg reads, or its content.
            transcript (*optional*): what is said: a text; the path of an `.srt` or `.vtt` file; or a list of words
                with times, `(start, end, text)`. Without it `asr` writes one.
            asr (`str` or a speech recognition pipeline, *optional*): a checkpoint for speech recognition, such as
                "openai/whisper-tiny.en"; by default that of `feature_extractor.media`. Without any, the text is
                missing.
            language (`str`, *optional*): what is spoken, for `asr`; it is recognised by default.
            limits ([`MediaLimits`], *optional*): what is refused: longer, larger files.
            device (`str`, defaults to `"cpu"`): where networks run.
            progress (`Callable[[float], None]`, *optional*): is called with the seconds of sound, and of pictures, that
                were read since the last call.
            modalities (`tuple[str]`): what is read; all by default.

        Returns:
            [`MediaClip`] with `text`, `words`, `audio`, `vision`, `seconds` and `report`; `between(start, end)` gives
            the modalities of a stretch as `__call__` takes them.

        Raises:
            InputError: if the file or the transcript cannot be read; names it.
            ValueError: if the processor has no settings for media.
            ImportError: if `av` is not installed.

        Example:

        ```python
        clip = processor.read_media("talk.mp4", transcript="talk.srt")
        clip.seconds, clip.report["voiced_share"], clip.report["warnings"]
        batch = processor(**clip.between(0.0, 10.0), return_tensors="pt")
        ```
        """
        extractor = self.feature_extractor.media_extractor
        if extractor is None:
            raise ValueError(
                "This processor has no settings for media: its model was trained on arrays of frames that were made "
                "elsewhere. Give such arrays, or train on data that `hf-fusion prepare` made of media files."
            )
        return extractor.read(source, transcript, asr, language, limits, device, progress, modalities)

    def save_pretrained(self, save_directory, push_to_hub=False, **kwargs):
        """Saves tokenizers, feature extractor, settings, networks and code; see `ProcessorMixin.save_pretrained`."""
        save_second_tokenizer_config(save_directory)
        self.feature_extractor.save_networks(save_directory)
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)


def _texts(text):
    if text is None or isinstance(text, list):
        return text
    if isinstance(text, (str, tuple)):
        return [text] if isinstance(text, str) else list(text)
    raise ValueError(f"`text` must be a string or a list of strings, got {type(text).__name__}.")


def _clips(name, values):
    """One clip or several -> a list of clips."""
    if values is None:
        return None
    if isinstance(values, (list, tuple)):
        first = next((value for value in values if value is not None), None)
        depth = 2 if first is None else _depth(first)
        return [values] if depth == 1 else list(values)
    depth = getattr(values, "ndim", None)
    if depth not in (2, 3):
        raise ValueError(
            f"`{name}` must be an array of shape (frames, features), or several of them, got "
            f"{f'an array with {depth} dimension(s)' if depth is not None else type(values).__name__}."
        )
    return [values] if depth == 2 else list(values)


def _depth(value):
    """How deeply a value is nested: 1 for a frame, 2 for a clip."""
    if hasattr(value, "ndim"):
        return value.ndim
    if isinstance(value, (list, tuple)):
        return 1 + (_depth(value[0]) if len(value) else 1)
    return 0


def _row(values):
    return [] if values is None else list(values)


__all__ = ["DashFusionProcessor"]
