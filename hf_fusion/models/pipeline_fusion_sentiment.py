"""The `fusion-sentiment` pipeline. It travels with every checkpoint and imports nothing of the package."""

from collections.abc import Iterable, Mapping
from itertools import islice

import torch
from transformers import Pipeline

# A stream is read this many batches ahead, so that texts of like length can share a batch.
LOOKAHEAD_BATCHES = 16
DEFAULT_BATCH_SIZE = 32


class FusionSentimentPipeline(Pipeline):
    """Sentiment of texts, by `pipeline("fusion-sentiment", model=..., trust_remote_code=True)`.

    Inputs are a string, a dict `{"text": ...}`, or lists, data sets and generators of them. Texts of like length are
    batched together; the results come in the order of the inputs and do not depend on `batch_size`.

    Args:
        batch_size (`int`, *optional*, defaults to 32): texts per forward pass.
        top_k (`int`, *optional*): return the `top_k` most probable fine classes (`None`: all) as a list per input,
            instead of the single best one.

    Returns:
        `dict` per input, a list of them per list, a generator of them per generator: `label` and `score` (the fine
        class and its probability), `coarse` (`label` and `score` of the coarse class) and `intensity` (inside
        `model.config.intensity_range`).

    Raises:
        ValueError: for an input that is neither a string nor a dict with a string under `"text"`.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.model.eval()  # a model straight from training would answer with dropout

    def _sanitize_parameters(self, **kwargs):
        unknown = sorted(set(kwargs) - {"top_k", "trust_remote_code"})
        if unknown:
            raise ValueError(f"Unknown argument {', '.join(unknown)}: this pipeline takes `batch_size` and `top_k`.")
        return {}, {}, {"top_k": kwargs["top_k"]} if "top_k" in kwargs else {}

    def __call__(self, inputs, batch_size=None, **kwargs):
        batch_size = batch_size or self._batch_size or DEFAULT_BATCH_SIZE
        options = {**self._postprocess_params, **self._sanitize_parameters(**kwargs)[2]}
        if isinstance(inputs, (str, Mapping)):
            return self._answer([inputs], batch_size, options)[0]
        if isinstance(inputs, (list, tuple)):
            return self._answer(inputs, batch_size, options)
        if isinstance(inputs, Iterable):
            return self._stream(iter(inputs), batch_size, options)
        if hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__"):  # a `torch.utils.data.Dataset`
            return self._stream((inputs[i] for i in range(len(inputs))), batch_size, options)
        _text_of(inputs)  # says what is wrong with it

    def _stream(self, inputs, batch_size, options):
        while window := list(islice(inputs, LOOKAHEAD_BATCHES * batch_size)):
            yield from self._answer(window, batch_size, options)

    def _answer(self, inputs, batch_size, options):
        texts = [_text_of(value) for value in inputs]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True)  # memory runs out first, or never
        answers = [None] * len(texts)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            outputs = self.forward(self.preprocess([texts[i] for i in rows]))
            for i, answer in zip(rows, self.postprocess(outputs, **options), strict=True):
                answers[i] = answer
        return answers

    def preprocess(self, texts):
        """A list of texts -> the tensors of one batch."""
        return dict(self.processor(texts, padding=True, return_tensors="pt"))

    def get_inference_context(self):
        """Inference mode: no gradients, no version counters."""
        return torch.inference_mode

    def _forward(self, model_inputs):
        return self.model(**model_inputs)

    def postprocess(self, outputs, **options):
        """The outputs of one batch -> one answer per row."""
        config = self.model.config
        fine = outputs["logits"].float().softmax(dim=-1)
        coarse_scores, coarse_ids = outputs["coarse_logits"].float().softmax(dim=-1).max(dim=-1)
        count = (
            config.num_labels if options.get("top_k", 1) is None else min(options.get("top_k", 1), config.num_labels)
        )
        scores, ids = fine.topk(count, dim=-1)
        rows = zip(
            ids.tolist(),
            scores.tolist(),
            coarse_ids.tolist(),
            coarse_scores.tolist(),
            outputs["intensity"].float().tolist(),
            strict=True,
        )
        answers = [
            [
                {
                    "label": config.id2label[label_id],
                    "score": score,
                    "coarse": {"label": config.coarse_id2label[coarse_id], "score": coarse_score},
                    "intensity": intensity,
                }
                for label_id, score in zip(label_ids, label_scores, strict=True)
            ]
            for label_ids, label_scores, coarse_id, coarse_score, intensity in rows
        ]
        return answers if "top_k" in options else [answer for (answer,) in answers]

    def save_pretrained(self, save_directory, **kwargs):
        """Saves model, processor and the code of all three."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


def _text_of(value):
    text = value.get("text") if isinstance(value, Mapping) else value
    if not isinstance(text, str):
        given = f"a dict with the keys {sorted(map(str, value))}" if isinstance(value, Mapping) else repr(value)[:80]
        raise ValueError(f"Expected a string or a dict with a string under 'text', got {given}.")
    ignored = [key for key, item in value.items() if key != "text" and item is not None] if text is not value else []
    if ignored:  # `None` marks a modality as missing, which it is here
        raise ValueError(f"This model reads text only; the input also has {', '.join(map(repr, ignored))}.")
    return text


__all__ = ["FusionSentimentPipeline"]
