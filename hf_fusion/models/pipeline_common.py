"""Inputs of any kind to answers: the parts of the `fusion-sentiment` pipeline around the model. They need no torch, so
that every runtime shares them."""

import os
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
from transformers.utils import logging

from .configuration_common import check_boolean, check_choice, check_probability, fine_to_coarse, temperature_of
from .pipeline_media import check_window, is_media, read, stretches_of, with_place
from .processing_dyfulm import rows_without_tokens
from .processing_text import InputError, aspect_words, is_blank, is_input_error, sentences_about, text_problem

logger = logging.get_logger(__name__)

# A stream is read this many batches ahead, so that texts of like length can share a batch.
LOOKAHEAD_BATCHES = 16
DEFAULT_BATCH_SIZE = 32
# On a CPU, which gains nothing from large batches, one that is a quarter full ends where inputs become shorter than
# this share of its longest.
_SHORTEST_SHARE = 0.85

MODALITIES = ("text", "audio", "vision")
# Of several labels at once, those of this probability and above apply.
LABEL_THRESHOLD = 0.5
# The fields of an answer that say whether the input was cut, and of texts the share that was read; only where they are
# asked for.
TRUNCATED, KEPT = "truncated", "kept"
# Choices for texts that are longer than the model reads at once: to read all of them in windows, or to cut them.
LONG_TEXTS = ("window", "cut")
# The inputs of a model for windows, see `DyFuLMForSequenceClassification.forward`.
WINDOW_TEXTS, EARLIER_WINDOWS = "window_texts", "earlier_windows"
# Its output for windows, which is the next call's `earlier_windows`.
WINDOW_SUMS = "window_sums"
# The number of classes among which an answer that is unsure leaves the choice, at most.
ALTERNATIVES = 3
# The options of the answers themselves, beside those of media files.
ANSWER_OPTIONS = (
    "top_k", "consistent", "calibration", "abstain_below", "aspects", "long_texts", "return_truncated", "on_error",
)  # fmt: skip
# Choices for inputs that cannot be read: to raise an `InputError`, or to return it in the place of the answer.
ON_ERROR = ("raise", "return")

# The lock of each processor: its tokenizers serve one thread at a time. One that cuts texts while another one counts
# their tokens would give wrong rows, or wait for it forever.
_TOKENIZER_LOCKS = WeakKeyDictionary()


class FusionSentimentAnswers:
    """
    The inputs, batches and answers of a pipeline.

    A subclass has `model` (with `config`), `processor`, `tensor_type` ("pt" or "np") and `runs_on_cpu`, and the methods
    `forward` (tensors of a batch -> outputs by name), `to_array` (an output -> float32 array, after an activation at a
    temperature) and `no_windows` (number of texts -> the first `earlier_windows`).
    """

    def answers_to(self, inputs, batch_size, options):
        """
        The answers to one input (a `dict`), a list of inputs (a list) or a stream of them (a generator).

        Args:
            inputs: a string, a mapping, or a list, data set or other iterable of these.
            batch_size (`int`): inputs per forward pass, at most.
            options (`dict`): of the call: `top_k`, `consistent`, `calibration`, `abstain_below`, `aspects`,
                `long_texts`, `return_truncated` and `on_error`; for media files `window`, `hop`, `asr` and `language`.

        Raises:
            InputError: for an input that cannot be read, unless `on_error` is "return": then the error is in the place
                of its answer, and the others are answered.
            ValueError: if an option has no sensible value.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        if not (options.get("top_k") is None or options["top_k"] >= 1):
            raise ValueError(f"`top_k` must be at least 1, or None for all classes, got {options['top_k']}.")
        check_choice("on_error", options.get("on_error", "raise"), ON_ERROR)
        self._check_consistent(options)
        self._check_calibration(options)
        self._check_aspects(options)
        self._check_long_texts(options.get("long_texts"))
        check_window(options.get("window"), options.get("hop"))
        if options.get("window") is not None and "top_k" in options:
            raise ValueError("`top_k` is for whole inputs: leave it out with `window`.")
        if isinstance(inputs, (str, bytes, os.PathLike, Mapping)) or is_media(inputs):
            return self.answers_to([inputs], batch_size, options)[0]
        if isinstance(inputs, (list, tuple)):
            answers = self._answer(inputs, batch_size, options)
            cut = _CutInputs()
            cut.take(answers, options)
            cut.warn(len(answers), self.whole_text_advice)
            return answers
        if isinstance(inputs, Iterable):
            return self._stream(iter(inputs), batch_size, options)
        if hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__"):  # a `torch.utils.data.Dataset`
            return self._stream((inputs[i] for i in range(len(inputs))), batch_size, options)
        self.clip_of(inputs)  # says what is wrong with it

    def _check_calibration(self, options):
        check_boolean("calibration", options.get("calibration", True))
        given = [name for name in ("calibration", "abstain_below") if options.get(name) is not None]
        if given and not hasattr(self.model.config, "abstain_below"):
            raise ValueError(f"`{given[0]}` is for a DyFuLM, this model is a {self.model.config.model_type}.")
        if "abstain_below" in given:
            check_probability("abstain_below", options["abstain_below"])

    def _stream(self, inputs, batch_size, options):
        first, cut = 0, _CutInputs()
        try:
            while ahead := list(_read_ahead(inputs, LOOKAHEAD_BATCHES * batch_size)):
                answers = self._answer(ahead, batch_size, options, first)
                first += len(ahead)
                cut.take(answers, options)
                yield from answers
        finally:
            cut.warn(first, self.whole_text_advice)

    def _answer(self, inputs, batch_size, options, first=0):
        """The answers to a list of inputs, the first of which has the number `first`."""
        answers, clips = [None] * len(inputs), {}
        errors = _ErrorLog(answers, first, options)
        for i, value in enumerate(inputs):
            with errors.of(i):
                if is_media(value):
                    answers[i] = self._answer_media(value, batch_size, options)
                else:
                    clips[i] = self.clip_of(value)
        if clips and options.get("window") is not None:
            logger.warning_once("`window` is for media files: texts and arrays of frames have one answer each.")
        least = max(batch_size // 4, 2) if self.runs_on_cpu else batch_size
        batches = _batches({i: _length(clip) for i, clip in clips.items()}, batch_size, least)
        in_windows = self._in_windows(options)
        prepared = _one_ahead(lambda rows: self._prepare(clips, rows, errors, in_windows), batches)
        for rows, batch, flags in prepared:
            if not rows:
                continue
            answered = self.postprocess(self._outputs(batch, batch_size), **options)
            for i, answer, own in zip(rows, answered, flags, strict=True):
                for entry in _entries(answer):
                    entry.update(own)
                answers[i] = answer
        if options.get("aspects") is not None:
            self._add_aspects({i: answers[i] for i in clips if not errors.has(i)}, clips, batch_size, options)
        return answers

    @property
    def reads_windows(self):
        """`bool`: whether the model reads a text that is too long for it in several windows."""
        return self.model.config.reads_windows

    @property
    def whole_text_advice(self):
        """`str`: the way to answers of whole texts; empty if there is none."""
        return '`long_texts="window"` reads long texts whole.' if self.reads_windows else ""

    def _check_long_texts(self, choice):
        """Raises `ValueError` unless `long_texts` is one of its values, and one that the model has."""
        check_choice("long_texts", choice, (None, *LONG_TEXTS))
        if choice == "window" and not self.reads_windows:
            raise ValueError(f"`long_texts` window: this model cuts long texts. {self.whole_text_advice}".rstrip())

    def _in_windows(self, options):
        """Whether long texts are read in windows."""
        return self.reads_windows and options.get("long_texts") in (None, "window")

    def _outputs(self, batch, batch_size):
        """The outputs for a batch: in one forward pass, or if it has more windows than `batch_size` in several."""
        if WINDOW_TEXTS not in batch:
            return self.forward(batch)
        earlier = self.no_windows(int(batch[WINDOW_TEXTS][-1]) + 1)
        for start in range(0, len(batch[WINDOW_TEXTS]), batch_size):
            windows = {name: values[start : start + batch_size] for name, values in batch.items()}
            outputs = self.forward({**windows, EARLIER_WINDOWS: earlier})
            earlier = outputs[WINDOW_SUMS]
        return outputs

    def _add_aspects(self, answers, clips, batch_size, options):
        """Adds `aspects` to answers, by the numbers of their texts: the answers to the sentences that name each one."""
        words, found = aspect_words(options["aspects"]), {}
        for i, answer in answers.items():
            answer["aspects"] = {}
            texts = {aspect: sentences_about(clips[i]["text"], names) for aspect, names in words.items()}
            found |= {(i, aspect): text for aspect, text in texts.items() if text}
        others = {name: value for name, value in options.items() if name not in ("aspects", "explain")}
        parts = self._answer(list(found.values()), batch_size, {**others, "on_error": "return"})
        for (i, aspect), part in zip(found, parts, strict=True):
            if isinstance(part, InputError):
                part = {"label": None, "score": None, "error": part.reason}
            answers[i]["aspects"][aspect] = {name: part[name] for name in part if name not in (TRUNCATED, KEPT)}

    def _answer_media(self, value, batch_size, options):
        """The answer to a media file; with `window`, those to its stretches."""
        clip = read(value, self.processor, self._modalities, options, self.media_device)
        stretches = stretches_of(clip, self.processor, options.get("window"), options.get("hop"))
        found = {stretch: clip.between(*stretch) for stretch in stretches}
        whole = options.get("window") is None
        inputs = [{name: found[stretch].get(name) for name in self._modalities} for stretch in stretches]
        parts = {"on_error": "return"} | ({"top_k": None} if whole and self._has_classes else {})
        answered = {}
        for stretch, given, answer in zip(stretches, inputs, self._answer(inputs, batch_size, parts), strict=True):
            if not isinstance(answer, InputError):
                answered[stretch] = answer
            elif any(given.get(name) is not None for name in MODALITIES[1:]):
                raise answer  # else nothing is known, or a text has no token
        if not whole:
            unknown = {"label": None, "score": None, **({"labels": None} if self._has_label_sets else {})}
            unknown[TRUNCATED] = False
            return [with_place(clip, stretch, answered.get(stretch, unknown)) for stretch in stretches]
        if not answered:
            raise InputError("Nothing is known of the file: no voice is heard in it, no face seen, and no word given.")
        weights = np.array([max(end - start, 1e-3) for start, end in answered])  # a file without a sample has a text
        top_k = None if self._has_label_sets else 1
        overall = self._overall(list(answered.values()), weights / weights.sum(), options.get("top_k", top_k))
        if self._has_label_sets and "top_k" not in options:
            overall = [_with_labels(overall)]
        overall = [with_place(clip, (0.0, clip.seconds), answer) for answer in overall]
        return overall if "top_k" in options else overall[0]

    @property
    def _has_classes(self):
        """Whether answers are classes with probabilities, not scores."""
        return self.model.config.num_labels > 1

    @property
    def _has_label_sets(self):
        """Whether an input has any number of labels at once."""
        return self.model.config.problem_type == "multi_label_classification"

    def _overall(self, answers, weights, top_k):
        """One answer, as a list of its classes, of those to the stretches of a file: their mean, weighted by time."""
        truncated = any(entry[TRUNCATED] for answer in answers for entry in _entries(answer))
        if not self._has_classes:
            scores = np.array([answer["score"] for answer in answers])
            entries = self._scores(np.array([weights @ scores]))
        else:
            means = {}
            for answer, weight in zip(answers, weights, strict=True):
                for entry in answer:
                    means[entry["label"]] = means.get(entry["label"], 0.0) + float(weight) * entry["score"]
            ranked = sorted(means.items(), key=lambda item: -item[1])[:top_k]
            entries = [{"label": label, "score": score} for label, score in ranked]
        return [{**entry, TRUNCATED: truncated} for entry in entries]

    @property
    def media_device(self):
        """`str`: where the networks that read media run."""
        return "cpu"

    def _prepare(self, clips, rows, errors, in_windows):
        """As [`_encode`], of the clips of some rows: the rows that can be read, their batch and flags."""
        try:
            return rows, *self._encode([clips[i] for i in rows], in_windows)
        except ValueError as error:  # one by one, to find out which; in the order of the inputs
            if not is_input_error(error):
                raise
            for i in sorted(rows):
                with errors.of(i):
                    self._encode([clips[i]], in_windows)
        rows = [i for i in rows if not errors.has(i)]
        return rows, *(self._encode([clips[i] for i in rows], in_windows) if rows else (None, None))

    def clip_of(self, value):
        """An input -> a dict with the modalities that it has; raises [`InputError`] if it cannot be read."""
        accepted = self._modalities
        if isinstance(value, (bytes, os.PathLike)):
            raise InputError('A file goes in as {"media": file}.')
        clip = value if isinstance(value, Mapping) else {"text": value}
        clip = {name: item for name, item in clip.items() if item is not None}  # `None` marks it as missing
        text = clip.get("text", "")
        if not isinstance(text, str) or not set(clip) & set(accepted):
            given = repr(value)[:80]
            if isinstance(value, Mapping):
                given = f"a dict with the keys {sorted(map(str, value))}"
                given += "" if isinstance(text, str) else f" and the text {repr(text)[:80]}"
            wanted = "a string or a dict" if "text" in accepted else "a dict"
            raise InputError(f"Expected {wanted} with {_listed(map(repr, accepted), 'or')}, got {given}.")
        ignored = [name for name in clip if name not in accepted]
        if ignored:
            reads = f"{accepted[0]} only" if len(accepted) == 1 else _listed(accepted, "and")
            raise InputError(f"This model reads {reads}; the input also has {', '.join(map(repr, ignored))}.")
        missing = [name for name in accepted if name not in clip]
        if missing and not learned_without(self.model.config):
            logger.warning_once(
                f"An input has no {missing[0]}, and this model was never trained to do without: unless "
                "some of its training data had none either, such answers are guesses. Train with "
                "`modality_distillation` (or `modality_dropout`)."
            )
        for name in MODALITIES[1:]:
            if name in clip and not _is_frames(clip[name]):
                given = getattr(clip[name], "shape", None) or type(clip[name]).__name__
                raise InputError(f"{name!r} must be an array of shape (frames, features), got {given}.")
        return _with_readable_text(clip)

    @property
    def tokenizer_lock(self):
        """`threading.Lock`: held while the processor reads texts, so that several threads can call the pipeline."""
        return _TOKENIZER_LOCKS.setdefault(self.processor, Lock())

    @property
    def _modalities(self):
        """The modalities that the model reads."""
        return self.model.config.modalities

    def preprocess(self, clips, in_windows=False):
        """A list of dicts of modalities -> the tensors of one batch; long texts are cut, or give several rows each."""
        return self._encode(clips, in_windows)[0]

    def _encode(self, clips, in_windows):
        """As [`preprocess`], and for each clip the fields of its answer that say whether it was cut."""
        columns = {name: [clip.get(name) for clip in clips] for name in self._modalities}
        options = {"return_windows": in_windows, "return_kept": True} if self.model.config.reads_windows else {}
        options |= {"padding": True, "return_tensors": self.tensor_type, "return_truncated": True}
        with self.tokenizer_lock:
            batch = dict(self.processor(**columns, **options))
        flags = {name: batch.pop(name).tolist() for name in (TRUNCATED, KEPT) if name in batch}
        flags = [dict(zip(flags, values, strict=True)) for values in zip(*flags.values(), strict=True)]
        if "attention_mask" not in batch:
            return batch, flags
        rows = rows_without_tokens(batch, self.processor.tokenizers)
        texts = batch[WINDOW_TEXTS].tolist() if in_windows else range(len(clips))
        unread = {texts[row] for row in rows if "text" in clips[texts[row]]}
        if unread:  # nothing to tokenizers, although characters are there
            clips = [_without_text(clip) if i in unread else clip for i, clip in enumerate(clips)]
            return self._encode(clips, in_windows)
        if len(texts) == len(clips):  # each text is read at once
            batch.pop(WINDOW_TEXTS, None)
        return batch, flags

    def _check_aspects(self, options):
        if options.get("aspects") is None:
            return
        if self._modalities != ("text",):
            raise ValueError("`aspects` is for models that read text alone.")
        if "top_k" in options:
            raise ValueError("`aspects` is about the best answer: leave `top_k` out.")
        aspect_words(options["aspects"])  # says what is wrong with them

    def _check_consistent(self, options):
        check_boolean("consistent", options.get("consistent", True))
        if "consistent" in options and "coarse_logits" not in self.model.config.heads:
            raise ValueError("`consistent` is for a model with a coarse head, which this one does not have.")

    def postprocess(self, outputs, **options):
        """The outputs of one batch -> one answer per row."""
        if not self._has_classes:
            if "top_k" in options:
                raise ValueError("This model predicts a score, not classes: it takes no `top_k`.")
            return self._scores(self.to_array(outputs["logits"]).squeeze(-1))
        probabilities = self._probabilities(outputs, "logits", options)  # (batch, num_labels)
        if self._has_label_sets and "top_k" not in options:
            return [_with_labels(entries) for entries in self._ranked(probabilities, None)]
        answers = self._ranked(probabilities, options.get("top_k", 1))
        if self.model.config.heads["logits"].task == "fine":
            self._add_heads(answers, probabilities, outputs, options)
        if threshold := self._threshold(options):
            self._mark_unsure(answers, probabilities, threshold, "top_k" in options)
        return answers if "top_k" in options else [answer for (answer,) in answers]

    def _scores(self, scores):
        middle = sum(self.model.config.label_range) / 2
        labels = ("negative", "neutral", "positive")
        return [{"label": labels[1 + (score > middle) - (score < middle)], "score": score} for score in scores.tolist()]

    def _probabilities(self, outputs, name, options):
        """The probabilities `(batch, classes)` of an output, calibrated unless that is switched off."""
        activation = "sigmoid" if self._has_label_sets else "softmax"
        temperature = temperature_of(self.model.config, name) if options.get("calibration", True) else 1.0
        return self.to_array(outputs[name], activation, temperature)

    def _threshold(self, options):
        """The probability below which the best class is no answer; 0 for none. That of the configuration is for
        calibrated probabilities."""
        threshold = options.get("abstain_below")
        if threshold is None and options.get("calibration", True):
            threshold = getattr(self.model.config, "abstain_below", None)
        return threshold or 0.0

    def _mark_unsure(self, answers, probabilities, threshold, keep_labels):
        """Adds `unsure` to the best class of each row, and takes the label of those that are, unless further classes
        are asked for."""
        for (best, *_), alternatives in zip(answers, self._ranked(probabilities, ALTERNATIVES), strict=True):
            best["unsure"] = best["score"] < threshold
            if best["unsure"] and not keep_labels:
                best.update(label=None, alternatives=alternatives)

    def _ranked(self, probabilities, top_k):
        """The `top_k` most probable classes of each row."""
        config = self.model.config
        ids = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top_k]
        return [
            [{"label": config.id2label[i], "score": score} for i, score in zip(row_ids, row_scores, strict=True)]
            for row_ids, row_scores in zip(
                ids.tolist(), np.take_along_axis(probabilities, ids, axis=-1).tolist(), strict=True
            )
        ]

    def _add_heads(self, answers, fine, outputs, options):
        """Adds the answers of the other heads to the best fine class of each row; `fine` are its probabilities."""
        heads, others = self.model.config.heads, {}
        if "coarse_logits" in heads:
            others["coarse"] = self._coarse(fine, outputs, options)
        if "intensity" in heads:
            others["intensity"] = self.to_array(outputs["intensity"]).tolist()
        if self.model.config.class_values is not None:
            others["expected"] = (fine @ np.array(self.model.config.class_values)).tolist()
        for i, (best, *_) in enumerate(answers):
            best.update({name: values[i] for name, values in others.items()})

    def _coarse(self, fine, outputs, options):
        """
        Label and score of the coarse class of each row. With `consistent` it is that of the fine class where the two
        heads contradict each other; its score is then the sum of the probabilities of its fine classes.
        """
        config = self.model.config
        scores = self._probabilities(outputs, "coarse_logits", options)  # (batch, num_coarse_labels)
        classes = scores.argmax(axis=-1)
        mapping = fine_to_coarse(config) if options.get("consistent", True) else None
        if mapping is not None:
            members = np.equal.outer(mapping, np.arange(scores.shape[1]))  # (num_labels, num_coarse_labels)
            follows = np.array(mapping)[fine.argmax(axis=-1)]
            differs = follows != classes
            scores[differs] = fine[differs] @ members.astype(fine.dtype)
            classes = follows
        best = np.take_along_axis(scores, classes[:, None], axis=-1)[:, 0]
        return [
            {"label": config.coarse_id2label[i], "score": min(score, 1.0)}
            for i, score in zip(classes.tolist(), best.tolist(), strict=True)
        ]


def without_truncation(options):
    """Options with `long_texts` in the place of `truncation=True`, as pipelines of transformers take it."""
    if options.get("truncation") is not True:
        return options
    if options.get("long_texts") == "window":
        raise ValueError(
            "`truncation=True` cuts long texts, `long_texts` window reads them whole: give one of the two."
        )
    others = {name: value for name, value in options.items() if name != "truncation"}
    return {**others, "long_texts": others.get("long_texts") or "cut"}


def _with_labels(entries):
    """The most probable label of ranked ones, with all that apply as `labels`."""
    return {**entries[0], "labels": [entry["label"] for entry in entries if entry["score"] >= LABEL_THRESHOLD]}


def _with_readable_text(clip):
    """The clip; without its text if that is blank and there are frames, as in training."""
    problem = text_problem(clip["text"]) if "text" in clip else None
    if problem and is_blank(clip["text"]) and any(len(clip[name]) for name in clip if name != "text"):
        return _without_text(clip)
    if problem:
        raise InputError(f"The text {problem}.")
    return clip


def _without_text(clip):
    """The clip's frames; raises [`InputError`] if it has none."""
    frames = {name: value for name, value in clip.items() if name != "text"}
    if not any(map(len, frames.values())):
        raise InputError("The text has no token that the model's tokenizers know: there is nothing to read.")
    return frames


def _read_ahead(inputs, most):
    """Up to `most` inputs; a media file, which takes long to read, comes alone or last."""
    for value in islice(inputs, most):
        yield value
        if is_media(value):
            return


def _entries(answer):
    """The dicts of an answer: itself, or with `top_k` one for each class; none of an error."""
    if isinstance(answer, InputError):
        return []
    return [answer] if isinstance(answer, dict) else answer


class _CutInputs:
    """Counts inputs that were cut, and the share of their texts that was read."""

    def __init__(self):
        self.count, self.share = 0, 0.0

    def take(self, answers, options):
        """Takes the fields on the cut from answers that are not asked to have them."""
        if options.get("return_truncated"):
            return
        for answer in answers:
            flags = [{name: entry.pop(name, None) for name in (TRUNCATED, KEPT)} for entry in _entries(answer)]
            if any(flag[TRUNCATED] for flag in flags):
                self.count += 1
                self.share += flags[0][KEPT] or 0.0

    def warn(self, total, advice):
        """Logs one line if inputs were cut."""
        if self.count:
            share = f" ({self.share / self.count:.0%} of such a text was read, on average)" if self.share else ""
            logger.warning(
                f"{self.count} of {total} inputs are longer than the model reads, and were cut at the end{share}. With "
                f"`return_truncated=True` each answer says whether its input was. {advice}".rstrip()
            )


class _ErrorLog:
    """Raises the errors of inputs with the inputs' numbers, or puts them in the places of the answers."""

    def __init__(self, answers, first, options):
        self.answers = answers
        self.first = first
        self.raises = options.get("on_error", "raise") == "raise"

    @contextmanager
    def of(self, i):
        """For the work on input `i` of the list."""
        try:
            yield
        except ValueError as error:
            if not is_input_error(error):
                raise
            numbered = InputError(error.reason, self.first + i)
            if self.raises:
                raise numbered from error
            self.answers[i] = numbered

    def has(self, i):
        """Whether input `i` could not be read."""
        return isinstance(self.answers[i], InputError)


def _listed(words, last):
    """`a, b or c`."""
    *first, end = words
    return f"{', '.join(first)} {last} {end}" if first else end


def learned_without(config):
    """Whether training hid modalities of clips, so that the model can do without some."""
    return any(getattr(config, name, 0) for name in ("modality_dropout", "modality_distillation"))


def _is_frames(value):
    """Whether it is `(frames, features)`, or holds nothing."""
    try:
        depth = np.ndim(value)
    except ValueError:  # rows of different lengths
        return False
    return depth == 2 or (depth == 1 and len(value) == 0)


def _one_ahead(function, items):
    """`function` of each item; a thread computes the next one while the last one is used."""
    with ThreadPoolExecutor(1) as pool:
        pending = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) == 2:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _batches(lengths, batch_size, least):
    """
    Rows of like length, the longest first: if memory runs out it does so at once. A batch of at least `least` rows ends
    where the next ones are much shorter. `lengths` are those of the rows, by their numbers.
    """
    batch = []
    for row in sorted(lengths, key=lengths.__getitem__, reverse=True):
        much_shorter = batch and lengths[row] < _SHORTEST_SHARE * lengths[batch[0]]
        if len(batch) == batch_size or (len(batch) >= least and much_shorter):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _length(clip):
    """Of the longest modality: characters or frames."""
    return max(len(value) for value in clip.values())
