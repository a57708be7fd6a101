"""The `fusion-sentiment` pipeline. It travels with every checkpoint and imports nothing of the package."""

from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

import numpy as np
import torch
from transformers import Pipeline
from transformers.utils import logging

logger = logging.get_logger(__name__)

# A stream is read this many batches ahead, so that texts of like length can share a batch.
LOOKAHEAD_BATCHES = 16
DEFAULT_BATCH_SIZE = 32
# On a CPU, which gains nothing from large batches, one that is a quarter full ends where inputs become shorter than
# this share of its longest.
_SHORTEST_SHARE = 0.85
_EXPLANATION_STEPS = 32

MODALITIES = ("text", "audio", "vision")


class FusionSentimentPipeline(Pipeline):
    """Sentiment of texts or clips, by `pipeline("fusion-sentiment", model=..., trust_remote_code=True)`.

    Inputs are a string, a dict `{"text": ..., "audio": ..., "vision": ...}` (for DashFusion; audio and vision are
    arrays of shape `(frames, features)`, and any of the three may be absent or `None`), or lists, data sets and
    generators of them. Inputs of like length are batched together; the results come in the order of the inputs and do
    not depend on `batch_size`.

    Args:
        batch_size (`int`, *optional*, defaults to 32): inputs per forward pass, at most.
        explain (`bool`, defaults to `False`): for DyFuLM: also return `explanation`, for each common span of the text
            `start` and `end` (characters), `text`, `gate` (mean share of encoder A in [0, 1]; `None` without a gate for
            each span) and `relevance`: how much the span adds to the logit of the answer against the other classes'
            mean (integrated gradients, Sundararajan et al. 2017, from a text of mask tokens). Takes as long as some 30
            texts.
        top_k (`int`, *optional*): return the `top_k` most probable classes (`None`: all) as a list per input, instead
            of the single best one. Only for models that predict classes.

    Returns:
        `dict` per input, a list of them per list, a generator of them per generator, with `label` and `score`.
        DyFuLM: the fine class and its probability, and also `coarse` (`label` and `score` of the coarse class) and
        `intensity` (inside `model.config.intensity_range`). DashFusion: the signed score on the scale of the labels,
        and "negative", "neutral" or "positive" as it lies below, at or above the middle of `model.config.label_range`;
        or, if it was trained on classes, the class and its probability.

    Raises:
        ValueError: for an input that the model cannot read; says which one and why.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.model.eval()  # a model straight from training would answer with dropout

    def _sanitize_parameters(self, **kwargs):
        unknown = sorted(set(kwargs) - {"top_k", "explain", "trust_remote_code"})
        if unknown:
            accepted = "`batch_size`, `top_k` and `explain`"
            raise ValueError(f"Unknown argument {', '.join(unknown)}: this pipeline takes {accepted}.")
        return {}, {}, {name: kwargs[name] for name in ("top_k", "explain") if name in kwargs}

    def __call__(self, inputs, batch_size=None, **kwargs):
        batch_size = self._batch_size or DEFAULT_BATCH_SIZE if batch_size is None else batch_size
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        options = {**self._postprocess_params, **self._sanitize_parameters(**kwargs)[2]}
        if not (options.get("top_k") is None or options["top_k"] >= 1):
            raise ValueError(f"`top_k` must be at least 1, or None for all classes, got {options['top_k']}.")
        if options.get("explain"):
            if self.model.config.model_type != "dyfulm" or not self.processor.has_spans:
                raise ValueError("`explain` is for a DyFuLM whose tokenizers both give offsets.")
            if "top_k" in options:
                raise ValueError("`explain` is about the best answer: leave `top_k` out.")
        if isinstance(inputs, (str, Mapping)):
            return self._answer([inputs], batch_size, options)[0]
        if isinstance(inputs, (list, tuple)):
            return self._answer(inputs, batch_size, options)
        if isinstance(inputs, Iterable):
            return self._stream(iter(inputs), batch_size, options)
        if hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__"):  # a `torch.utils.data.Dataset`
            return self._stream((inputs[i] for i in range(len(inputs))), batch_size, options)
        self._clip_of(inputs)  # says what is wrong with it

    def _stream(self, inputs, batch_size, options):
        first = 0
        while window := list(islice(inputs, LOOKAHEAD_BATCHES * batch_size)):
            yield from self._answer(window, batch_size, options, first)
            first += len(window)

    def _answer(self, inputs, batch_size, options, first=0):
        clips = []
        for i, value in enumerate(inputs):
            with _naming_input(first + i):
                clips.append(self._clip_of(value))
        answers = [None] * len(clips)
        least = max(batch_size // 4, 2) if self.device.type == "cpu" else batch_size
        batches = list(_batches([_length(clip) for clip in clips], batch_size, least))
        prepared = _one_ahead(lambda rows: self._prepare(clips, rows, first), batches)
        for rows, batch in zip(batches, prepared, strict=True):
            for i, answer in zip(rows, self.postprocess(self.forward(batch), **options), strict=True):
                if options.get("explain"):
                    answer["explanation"] = self._explanation(clips[i]["text"], answer["label"])
                answers[i] = answer
        return answers

    def _explanation(self, text, label):
        """Gate and relevance of each common span of one text, for one fine class."""
        spans = self.processor.spans_of(text)
        batch = self._ensure_tensor_on_device(self.preprocess([{"text": text}]), device=self.device)
        with torch.inference_mode():
            outputs = self.model(**batch, output_fusion=True)
        gate = [None] * len(spans)
        if outputs.get("span_mask") is not None and spans:
            gate = outputs.gate[0, : len(spans)].float().mean(-1).tolist()
        relevance = self._relevance(batch, self.model.config.label2id[label], len(spans)) if spans else []
        return [
            {"start": start, "end": end, "text": text[start:end], "gate": share, "relevance": value}
            for (start, end), share, value in zip(spans, gate, relevance, strict=True)
        ]

    def _relevance(self, batch, label_id, num_spans):
        """Integrated gradients of one logit against the mean of all, summed over the tokens of each span."""
        shares = (torch.arange(_EXPLANATION_STEPS, device=self.device) + 0.5) / _EXPLANATION_STEPS
        inputs = {name: values.expand(len(shares), *values.shape[1:]) for name, values in batch.items()}
        ways = {}
        for name, encoder in self.model.dyfulm.encoders.items():
            suffix, tokenizer = ("_b", self.processor.tokenizer_b) if name == "b" else ("", self.processor.tokenizer)
            ids, span_ids = inputs.pop("input_ids" + suffix)[:1], batch["span_ids" + suffix]
            unknown = next(i for i in (tokenizer.mask_token_id, tokenizer.unk_token_id, 0) if i is not None)
            # not from zero: a layer norm right after the embeddings would undo the scaling
            embed = encoder.get_input_embeddings()
            start, end = embed(torch.where(span_ids < 0, ids, unknown)).detach(), embed(ids).detach()
            path = (start + shares.view(-1, 1, 1).to(start.dtype) * (end - start)).requires_grad_()
            inputs["inputs_embeds" + suffix] = path  # (steps, tokens, hidden)
            ways[suffix] = path, (end - start)[0], span_ids[0]
        # cuDNN has no gradient of a recurrent layer in evaluation
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            logits = self.model(**inputs).logits.float()
            margin = (logits[:, label_id] - logits.mean(-1)).sum()
            gradients = torch.autograd.grad(margin, [path for path, _, _ in ways.values()])
        total = torch.zeros(num_spans)
        for (_, way, span_ids), gradient in zip(ways.values(), gradients, strict=True):
            tokens = (way * gradient.mean(0)).sum(-1).float().cpu()  # (tokens,)
            total.index_add_(0, span_ids.cpu().clamp(min=0), tokens)  # special tokens do not move: theirs is 0
        return total.tolist()

    def _prepare(self, clips, rows, first):
        """The tensors of some of the clips; an error names the input, counted from `first`."""
        try:
            return self.preprocess([clips[i] for i in rows])
        except ValueError:
            for i in sorted(rows):
                with _naming_input(first + i):
                    self.preprocess([clips[i]])
            raise

    def _clip_of(self, value):
        """An input -> a dict with the modalities that it has."""
        accepted = self._modalities
        clip = value if isinstance(value, Mapping) else {"text": value}
        clip = {name: item for name, item in clip.items() if item is not None}  # `None` marks it as missing
        text = clip.get("text", "")
        if not isinstance(text, str) or not set(clip) & set(accepted):
            given = repr(value)[:80]
            if isinstance(value, Mapping):
                given = f"a dict with the keys {sorted(map(str, value))}"
                given += "" if isinstance(text, str) else f" and the text {repr(text)[:80]}"
            wanted = "a string or a dict" if "text" in accepted else "a dict"
            raise ValueError(f"Expected {wanted} with {_listed(map(repr, accepted), 'or')}, got {given}.")
        ignored = [name for name in clip if name not in accepted]
        if ignored:
            reads = f"{accepted[0]} only" if len(accepted) == 1 else _listed(accepted, "and")
            raise ValueError(f"This model reads {reads}; the input also has {', '.join(map(repr, ignored))}.")
        missing = [name for name in accepted if name not in clip]
        if missing and not _expects_missing(self.model.config):
            logger.warning_once(
                f"An input has no {missing[0]}, and this model was never trained to do without: unless "
                "some of its training data had none either, such answers are guesses. Train with "
                "`modality_distillation` (or `modality_dropout`)."
            )
        for name in MODALITIES[1:]:
            if name in clip and not _is_frames(clip[name]):
                given = getattr(clip[name], "shape", None) or type(clip[name]).__name__
                raise ValueError(f"{name!r} must be an array of shape (frames, features), got {given}.")
        return clip

    @property
    def _modalities(self):
        """What the model reads."""
        return getattr(self.model.config, "modalities", MODALITIES[:1])

    def preprocess(self, clips):
        """A list of dicts of modalities -> the tensors of one batch."""
        columns = {name: [clip.get(name) for clip in clips] for name in self._modalities}
        return dict(self.processor(**columns, padding=True, return_tensors="pt"))

    def get_inference_context(self):
        """Inference mode: no gradients, no version counters."""
        return torch.inference_mode

    def _forward(self, model_inputs):
        return self.model(**model_inputs)

    def postprocess(self, outputs, **options):
        """The outputs of one batch -> one answer per row."""
        if "coarse_logits" in outputs:
            answers = self._fine_and_coarse(outputs, options.get("top_k", 1))
        elif self.model.config.num_labels == 1:
            if "top_k" in options:
                raise ValueError("This model predicts a score, not classes: it takes no `top_k`.")
            return self._scores(outputs["logits"].float().squeeze(-1))
        else:
            answers = self._classes(outputs["logits"].float(), options.get("top_k", 1))
        return answers if "top_k" in options else [answer for (answer,) in answers]

    def _scores(self, scores):
        middle = sum(self.model.config.label_range) / 2
        labels = ("negative", "neutral", "positive")
        return [{"label": labels[1 + (score > middle) - (score < middle)], "score": score} for score in scores.tolist()]

    def _classes(self, logits, top_k):
        config = self.model.config
        several = config.problem_type == "multi_label_classification"
        probabilities = logits.sigmoid() if several else logits.softmax(dim=-1)
        count = config.num_labels if top_k is None else min(top_k, config.num_labels)
        scores, ids = probabilities.topk(count, dim=-1)
        return [
            [{"label": config.id2label[i], "score": score} for i, score in zip(row_ids, row_scores, strict=True)]
            for row_ids, row_scores in zip(ids.tolist(), scores.tolist(), strict=True)
        ]

    def _fine_and_coarse(self, outputs, top_k):
        names = self.model.config.coarse_id2label
        coarse_scores, coarse_ids = outputs["coarse_logits"].float().softmax(dim=-1).max(dim=-1)
        rows = zip(
            self._classes(outputs["logits"].float(), top_k),
            coarse_ids.tolist(),
            coarse_scores.tolist(),
            outputs["intensity"].float().tolist(),
            strict=True,
        )
        return [
            [
                {**answer, "coarse": {"label": names[coarse_id], "score": coarse_score}, "intensity": intensity}
                for answer in answers
            ]
            for answers, coarse_id, coarse_score, intensity in rows
        ]

    def save_pretrained(self, save_directory, **kwargs):
        """Saves model, processor and the code of all three."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


@contextmanager
def _naming_input(number):
    """Says which input cannot be read."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Input {number} cannot be read. {error}") from error


def _listed(words, last):
    """`a, b or c`."""
    *first, end = words
    return f"{', '.join(first)} {last} {end}" if first else end


def _expects_missing(config):
    """Whether training showed the model clips without some of their modalities."""
    names = ("modality_dropout", "modality_distillation")
    return config.model_type != "dashfusion" or any(getattr(config, name, 0) for name in names)


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
    where the next ones are much shorter.
    """
    batch = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
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


__all__ = ["FusionSentimentPipeline"]
