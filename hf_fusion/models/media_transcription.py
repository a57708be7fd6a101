"""Transcripts by any speech recogniser of transformers: where a voice is heard alone, with the times of the words."""

import os
import warnings
import zlib
from contextlib import contextmanager

import numpy as np
import torch
from transformers import pipeline
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE
from transformers.utils import logging

from .media_text import Word
from .media_voice import DESCRIPTORS, SAMPLE_RATE, VoiceDescriptors, check_samples, speech_regions
from .processing_text import is_blank

logger = logging.get_logger(__name__)

_RATE = 20  # voice descriptors a second
_LONGEST = 28.0  # seconds of a chunk; Whisper hears 30
_SHORTEST = 14.0  # before that, a chunk is cut only if nothing else is possible
_MARGIN = 0.2  # seconds of sound kept before and after the speech of a chunk
_NEAR = 0.5  # seconds; a word further away from any speech is invented
_NO_SPEECH = 0.4  # Whisper's probability; sentences are below .2, music and noise mostly above .6
_LOOP = 2.4  # times that a text compresses: Whisper's own limit for loops
_TOKENS = 8, 20  # a second of speech: English, other languages (in some, a letter has several)
_MOST_TOKENS = 440  # of the 448 that Whisper's decoder has places for
_SEGMENT_TIMES = "The speech recogniser has no times of words here: its segments share theirs."


class Transcriber:
    """
    Turns speech into words with times. Nothing is transcribed where no voice is heard, since recognisers invent text
    for noise, music and silence.

    A recording may come in blocks of any size. It is transcribed in chunks of at most 28 seconds, cut at pauses, while
    it comes in; no more than a chunk and the last block are held. A chunk that Whisper itself takes for no speech has
    no text, and a text that runs in a loop is made again without repeats. Texts in capitals alone, as of some CTC
    models, become lower case.

    Args:
        model (`str`, `os.PathLike` or `AutomaticSpeechRecognitionPipeline`): name or folder of a checkpoint of
            transformers for speech recognition (Whisper, or CTC such as wav2vec 2.0), or a pipeline of one.
        language (`str`, *optional*): language of the speech, as name or code ("german", "de"), for multilingual
            Whisper. By default Whisper finds it out for each chunk.
        device (`str`, `int` or `torch.device`, *optional*): where the model runs; not for a pipeline.
        warn (`Callable`, *optional*, defaults to a warning in the log): is called with the text of each warning.

    Raises:
        ValueError: the model is no speech recogniser of 16 kHz, or cannot take the language.

    Example:

    ```python
    import numpy as np
    from hf_fusion.models.media_transcription import Transcriber

    transcribe = Transcriber("openai/whisper-tiny.en")
    transcribe([np.zeros(16000, np.float32)])  # []: silence

    transcribe.feed(np.zeros(8000, np.float32))  # the same in blocks
    words = transcribe.finish()
    ```
    """

    def __init__(self, model, language=None, device=None, warn=logger.warning):
        self.recognizer = _load(model, device) if isinstance(model, (str, os.PathLike)) else model
        self.warn = warn
        self._kind = getattr(self.recognizer, "type", None)
        if not callable(self.recognizer) or self._kind is None:
            raise ValueError(
                f"The speech recogniser is {type(model).__name__}. Give the name or the folder of a checkpoint, or a "
                'pipeline("automatic-speech-recognition").'
            )
        rate = self.recognizer.feature_extractor.sampling_rate
        if rate != SAMPLE_RATE:
            raise ValueError(f"The speech recogniser hears sound at {rate} Hz. Give one for {SAMPLE_RATE} Hz.")
        self._options = self._language_options(language)
        self._reset()

    def __call__(self, blocks):
        """
        Transcribes a recording.

        Args:
            blocks (`Iterable[np.ndarray]`): its parts in order, mono sound at 16 kHz, floats from -1 to 1.

        Returns:
            `list[Word]`: as from `finish`.
        """
        self._reset()
        for samples in blocks:
            self.feed(samples)
        return self.finish()

    def feed(self, samples):
        """
        Takes the next samples of the recording, and transcribes what is complete.

        Args:
            samples (`np.ndarray` of shape `(samples,)`): mono sound at 16 kHz, floats from -1 to 1.
        """
        samples = check_samples(samples)
        self._waiting.append(samples)
        self._length += len(samples)
        longest = round(_LONGEST * SAMPLE_RATE)
        if self._length < longest:
            return
        sound = np.concatenate(self._waiting)
        while len(sound) >= longest:
            sound = sound[self._take_chunk(sound[:longest]) :]
        self._waiting, self._length = [sound.copy()], len(sound)

    def finish(self):
        """
        Ends the recording. The object is then ready for the next one.

        Returns:
            `list[Word]`: words in the order of their starts, which lie within the recording; segments of several words
            if the recogniser has no times of words, which is a warning. Empty without speech.
        """
        sound = np.concatenate([np.zeros(0, np.float32), *self._waiting])
        regions = _find_speech(sound)[0]
        if regions:
            self._transcribe(sound, regions)
        words = self._words
        self._reset()
        return words

    def _reset(self):
        self._waiting, self._length = [], 0
        self._start = 0.0  # of the sound that waits, in the recording
        self._words = []
        self._has_warned = False

    def _take_chunk(self, sound):
        """Transcribes the first part of the sound, up to a pause; returns its number of samples."""
        regions, energy = _find_speech(sound)
        if regions and regions[0][0] < _SHORTEST:
            cut = _find_cut(regions, energy)
            self._transcribe(sound, [(start, min(end, cut)) for start, end in regions if start < cut])
        else:  # nothing is said; the end may be the start of a word
            cut = (regions[0][0] if regions else _LONGEST) - _MARGIN
        count = round(cut * SAMPLE_RATE)
        self._start += count / SAMPLE_RATE
        return count

    def _transcribe(self, sound, regions):
        """Adds the words of the sound, of which the regions are speech; their times are seconds of the sound."""
        first = round(max(0, regions[0][0] - _MARGIN) * SAMPLE_RATE)
        part = sound[first : round((regions[-1][1] + _MARGIN) * SAMPLE_RATE)]
        origin, seconds = first / SAMPLE_RATE, len(part) / SAMPLE_RATE
        for chunk in self._recognize(part, sum(end - start for start, end in regions)):
            start, end = chunk.get("timestamp") or (None, None)
            end = seconds if end is None else min(float(end), seconds)
            word = _fit(Word(origin + float(start or 0), origin + end, chunk["text"].strip()), regions)
            if word:
                start = max(self._start + word.start, self._words[-1].start if self._words else 0.0)
                self._words.append(Word(start, max(self._start + word.end, start), word.text))

    # ------------------------------------------------------------------------------------------------- recogniser

    def _recognize(self, sound, speech):
        """The recogniser's chunks `{"text", "timestamp"}` of a sound with so many seconds of speech."""
        options = {}
        if self._kind.startswith("seq2seq"):
            limit = 16 + round(_TOKENS[not self._is_english] * speech)
            options = {**self._options, "max_new_tokens": min(limit, _MOST_TOKENS)}
        answer, has_speech = self._ask(sound, options)
        if not has_speech or is_blank(answer["text"]):
            return []
        if options and _compression(answer["text"]) > _LOOP:
            answer, _ = self._ask(sound, {**options, "no_repeat_ngram_size": 5})
        chunks = answer.get("chunks") or [{"text": answer["text"]}]
        if self._kind.startswith("ctc") and answer["text"].isupper():  # its alphabet has capitals alone
            chunks = [{**chunk, "text": chunk["text"].lower()} for chunk in chunks]
        return chunks

    def _ask(self, sound, options):
        """The answer with the finest times that the recogniser has, and whether it takes the sound for speech."""
        modes = self._time_modes()
        for mode in modes:
            try:
                with _quiet(), self._no_speech_meter() as no_speech:
                    given = {"generate_kwargs": dict(options)} if options else {}
                    given |= {"return_timestamps": mode} if mode else {}
                    answer = self.recognizer({"raw": sound, "sampling_rate": SAMPLE_RATE}, **given)
                    has_speech = no_speech() < _NO_SPEECH
            except (ValueError, TypeError, AttributeError, LookupError, RuntimeError) as error:
                if mode == modes[-1] or isinstance(error, torch.OutOfMemoryError):
                    raise
                logger.debug("Times %r failed: %s", mode, error)
                continue
            if mode != "word" and not self._has_warned:
                self._has_warned = True
                self.warn(_SEGMENT_TIMES)
            return answer, has_speech

    def _time_modes(self):
        """Values of `return_timestamps` to try, the finest times first."""
        if self._kind == "seq2seq_whisper":
            has_heads = getattr(self._generation, "alignment_heads", None) is not None
            return ["word", True, None] if has_heads else [True, None]
        return [None] if self._kind == "seq2seq" else ["word", None]

    @contextmanager
    def _no_speech_meter(self):
        """Gives a function that tells Whisper's probability of no speech in the sound heard inside; else 0."""
        start = getattr(self._generation, "decoder_start_token_id", None)
        following = getattr(self._generation, "no_timestamps_token_id", None)
        if self._kind != "seq2seq_whisper" or start is None or following is None:
            yield lambda: 0.0
            return
        model, states = self.recognizer.model, []
        hook = model.get_encoder().register_forward_hook(lambda module, inputs, output: states.append(output[0]))

        @torch.inference_mode()
        def no_speech():
            ids = torch.tensor([[start]], device=states[0].device)
            logits = model(encoder_outputs=(states[0],), decoder_input_ids=ids).logits
            return logits[0, -1].float().softmax(-1)[following - 1].item()  # its token is the one before

        try:
            yield no_speech
        finally:
            hook.remove()

    @property
    def _generation(self):
        return getattr(getattr(self.recognizer, "model", None), "generation_config", None)

    def _language_options(self, language):
        """Options of `generate` for a language."""
        is_whisper = self._kind == "seq2seq_whisper"
        is_multilingual = is_whisper and getattr(self._generation, "is_multilingual", True)
        name = language.lower() if isinstance(language, str) else language
        name = TO_LANGUAGE_CODE.get(name, name)
        self._is_english = name == "en" if is_multilingual else is_whisper
        if language is None:
            return {}
        if name not in LANGUAGES:
            raise ValueError(
                f"The language is {language!r}. Give the name or the code of one, such as 'english' or 'en'."
            )
        if is_multilingual:
            return {"language": name, "task": "transcribe"}
        if is_whisper and name == "en":
            return {}
        known = "only English" if is_whisper else "the language that it was trained on"
        raise ValueError(
            f"The language is {language!r}, but this speech recogniser knows {known}. Give no language, or a "
            "multilingual Whisper such as 'openai/whisper-tiny'."
        )


def _load(model, device):
    """A pipeline of a checkpoint."""
    try:
        with _quiet():
            return pipeline(
                "automatic-speech-recognition", model=os.fspath(model), device=device, dtype=torch.float32,
                trust_remote_code=False,
            )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"The speech recogniser {os.fspath(model)!r} cannot be loaded: {str(error).strip().splitlines()[0]} Give "
            "the name or the folder of a checkpoint for speech recognition, such as 'openai/whisper-tiny.en'."
        ) from error


@contextmanager
def _quiet():
    """Keeps warnings of the libraries inside."""
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()


# --------------------------------------------------------------------------------------------------------- the sound


def _find_speech(sound):
    """Start and end of each stretch of speech in seconds, and the energy of the frames."""
    voice = VoiceDescriptors(_RATE)
    voice.feed(sound)
    descriptors = voice.finish()
    return speech_regions(descriptors, _RATE), descriptors[:, DESCRIPTORS.index("log_energy")]


def _find_cut(regions, energy):
    """Where to cut a full chunk, in seconds: its longest pause after some time, else its last, else a quiet place."""
    ends = [end for _, end in regions]
    starts = [start for start, _ in regions[1:]] + [len(energy) / _RATE]
    pauses = [(start - end, (start + end) / 2) for end, start in zip(ends, starts, strict=True) if start > end]
    if late := [pause for pause in pauses if pause[1] >= _SHORTEST]:
        return max(late)[1]
    if pauses:
        return pauses[-1][1]
    first = len(energy) - 4 * _RATE
    return (first + int(np.argmin(energy[first:])) + 0.5) / _RATE


def _fit(word, regions):
    """
    The word within the speech, so that pauses lie between words: a recogniser that aligns words leaves none. A word far
    from any speech is `None`: it was invented.
    """
    inside = [(min(word.end, end) - max(word.start, start), start, end) for start, end in regions]
    touched = [region for region in inside if region[0] > 0]
    if not touched:
        return word if max(inside)[0] > -_NEAR else None
    if " " not in word.text:
        touched = [max(touched)]
    return Word(max(word.start, touched[0][1]), min(word.end, touched[-1][2]), word.text)


def _compression(text):
    raw = text.encode("utf-8", "replace")
    return len(raw) / len(zlib.compress(raw))
