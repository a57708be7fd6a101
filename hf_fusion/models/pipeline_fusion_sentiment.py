"""The `fusion-sentiment` pipeline. It travels with every checkpoint and imports nothing of the package."""

import os
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoProcessor, Pipeline
from transformers.utils.peft_utils import find_adapter_config_file

from .configuration_common import TEXT_TASKS
from .pipeline_common import (
    ANSWER_OPTIONS,
    DEFAULT_BATCH_SIZE,
    EARLIER_WINDOWS,
    WINDOW_TEXTS,
    FusionSentimentAnswers,
    without_truncation,
)
from .pipeline_media import OPTIONS as MEDIA_OPTIONS
from .processing_dyfulm import rows_without_tokens  # noqa: F401 - travels too
from .processing_text import InputError

_OPTIONS = ("explain", *ANSWER_OPTIONS, *MEDIA_OPTIONS)
_EXPLANATION_STEPS = 32
_ACTIVATIONS = {None: lambda values: values, "softmax": lambda values: values.softmax(-1), "sigmoid": torch.sigmoid}


class FusionSentimentPipeline(FusionSentimentAnswers, Pipeline):
    """Sentiment of texts or clips, by [`from_pretrained`] or `pipeline("fusion-sentiment", model=...,
    trust_remote_code=True)`.

    Inputs are a string, a dict `{"text": ..., "audio": ..., "vision": ...}` (for DashFusion; audio and vision are
    arrays of shape `(frames, features)`, and any of the three may be absent or `None`), or lists, data sets and
    generators of them. Inputs of like length are batched together; the results come in the order of the inputs and do
    not depend on `batch_size`.

    A DashFusion whose processor has settings for media also takes `{"media": file}`, where the file is a path or the
    content of a video or recording, and `{"media": file, "text": transcript}`; see [`DashFusionProcessor.read_media`].

    Args:
        batch_size (`int`, *optional*, defaults to 32): inputs per forward pass, at most; of long texts windows, so that
            the memory does not grow with the text.
        explain (`bool`, defaults to `False`): for DyFuLM: also return `explanation`, for each common span of the text
            `start` and `end` (characters), `text`, `gate` (mean share of encoder A in [0, 1]; `None` without a gate for
            each span) and `relevance`: how much the span adds to the logit of the answer against the other classes'
            mean (integrated gradients, Sundararajan et al. 2017, from a text of mask tokens). Takes as long as some 30
            texts, and for a text in several windows twice that for each of them.
        top_k (`int`, *optional*): return the `top_k` most probable classes (`None`: all) as a list per input, instead
            of the single best one. Only for models that predict classes. The answers of the other heads are in
            the first one.
        consistent (`bool`, defaults to `True`): for DyFuLM: where its coarse head contradicts the fine class, `coarse`
            is the class that the fine one belongs to, with the sum of the probabilities of its fine classes. `False`
            always gives the answer of the coarse head. Nothing changes where it is not known which coarse class a fine
            one belongs to, see [`fine_to_coarse`].
        calibration (`bool`, defaults to `True`): for DyFuLM: whether the temperatures and `abstain_below` of the
            configuration apply, which `hf-fusion calibrate` fits. `False` gives the softmax of the model's logits.
        abstain_below (`float`, *optional*): for DyFuLM: an answer whose probability is lower is `unsure`; in place of
            that of the configuration, and 0 switches it off.
        aspects (`list[str]` or `dict[str, list[str]]`, *optional*): for models of text: also return `aspects`, for each
            of these words that the text names the answer to the sentences that name it, or one of its synonyms if it
            has a list of them. Sentences that cannot be read have no `label` and `score`, but an `error`, the reason.
            A heuristic: the model never learned aspects, and a sentence with two of them has one answer for both.
        long_texts (`str`, *optional*): for texts of more tokens than the model reads at once. `"window"`, the default
            for DyFuLM, reads the whole text in overlapping windows; the heads read the mean of their pooled vectors,
            weighted by their numbers of spans. `"cut"` reads the beginning alone.
        return_truncated (`bool`, defaults to `False`): also return `truncated`: whether the input was longer than the
            model reads and was cut; and for DyFuLM `kept`: the share of the text that was read (of its characters, or
            of its tokens where tokenizers have no offsets). Without it the number of such inputs is logged once, at the
            end.
        on_error (`str`, defaults to `"raise"`): `"raise"` raises an [`InputError`] for the first input that cannot be
            read. `"return"` returns the error, with `number` and `reason`, in the place of that input's answer, and
            answers the others.
        window (`float` or `str`, *optional*): for media files: a list of answers, one for each stretch of so many
            seconds, or for each `"sentence"`. Without it there is one answer for the whole file; of a file that is
            longer than the model reads at once, the mean over equal parts, weighted by their time (scores, or
            probabilities of classes), without the parts of which nothing is known.
        hop (`float`, *optional*): seconds from the start of a window to that of the next one; `window` by default. With
            more, the time between them gets no answer.
        asr (`str` or a speech recognition pipeline, *optional*): writes the transcripts of media files that have none.
        language (`str`, *optional*): what is spoken in them.
        truncation (`bool`): may be `True`, as pipelines of transformers take it: the same as `long_texts="cut"`, and an
            error together with `"window"`.

    `pipeline("text-classification", ...)` and `"sentiment-analysis"` give this pipeline too. For a single string they
    return a list, as these tasks do.

    Returns:
        `dict` per input, a list of them per list, a generator of them per generator, with `label` and `score`.
        DyFuLM: the fine class and its probability, and also `coarse` (`label` and `score` of the coarse class) and
        `intensity` (inside `model.config.intensity_range`), each if the model has that head, and where
        `model.config.class_values` are known, `expected` (their mean by the probabilities of the fine classes, such as
        3.7 stars). Where `abstain_below` is set also `unsure`: if it is `True`, `label` is `None`, `score` the
        probability of the best class, and `alternatives` lists the three best classes with their probabilities; with
        `top_k` the classes keep their labels. DashFusion: the signed score on the scale of the labels, and "negative",
        "neutral" or "positive" as it lies below, at or above the middle of `model.config.label_range`; or, if it was
        trained on classes, the class and its probability; of several labels at once the most probable one, and as
        `labels` the list of all with a probability of 0.5 or more. Answers to media files have in addition `start` and
        `end` (seconds), `text` (what is said) and `modalities` (for each one that is known, the share of the time with
        words, a voice, a face); where nothing is known, `label` and `score` are `None`.

    Raises:
        InputError: a `ValueError`, for an input that the model cannot read, such as an empty text or the name of a
            file; says which one and why.

    Example:

    ```python
    from hf_fusion import DyFuLMConfig, DyFuLMForSequenceClassification, DyFuLMProcessor, FusionSentimentPipeline
    from hf_fusion.data.tokenizers import train_tokenizer

    texts = ["The bed was good.", "The room was not clean."]
    encoder = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = DyFuLMForSequenceClassification(DyFuLMConfig(encoder_a_config=encoder, encoder_b_config=encoder))
    processor = DyFuLMProcessor(train_tokenizer(texts, "wordpiece", 100))
    classify = FusionSentimentPipeline(model=model, processor=processor)
    classify(texts, batch_size=2)  # one dict for each text: label, score, coarse, intensity
    classify(texts[0], top_k=None)  # all classes
    ```
    """

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    tensor_type = "pt"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.model.eval()  # a model straight from training would answer with dropout

    @property
    def explains(self):
        """`bool`: whether the model takes `explain`."""
        return self.model.config.model_type == "dyfulm" and self.processor.has_spans

    def _sanitize_parameters(self, **kwargs):
        kwargs = without_truncation(kwargs)
        unknown = sorted(set(kwargs) - {*_OPTIONS, "trust_remote_code"})
        if unknown:
            accepted = ", ".join(f"`{name}`" for name in ("batch_size", *_OPTIONS))
            named = ", ".join(f"`{name}`" for name in unknown)
            raise ValueError(f"Unknown argument {named}: this pipeline takes {accepted}.")
        return {}, {}, {name: kwargs[name] for name in _OPTIONS if name in kwargs}

    def __call__(self, inputs, batch_size=None, **kwargs):
        batch_size = self._batch_size or DEFAULT_BATCH_SIZE if batch_size is None else batch_size
        options = {**self._postprocess_params, **self._sanitize_parameters(**kwargs)[2]}
        if options.get("explain"):
            if not self.explains:
                raise ValueError("`explain` is for a DyFuLM whose tokenizers both give offsets.")
            if "top_k" in options:
                raise ValueError("`explain` is about the best answer: leave `top_k` out.")
        answers = self.answers_to(inputs, batch_size, options)
        # as the pipelines of these tasks do
        return [answers] if self.task in TEXT_TASKS and isinstance(inputs, str) and "top_k" not in kwargs else answers

    def _answer(self, inputs, batch_size, options, first=0):
        answers = super()._answer(inputs, batch_size, options, first)
        if options.get("explain"):
            for value, answer in zip(inputs, answers, strict=True):
                if isinstance(answer, InputError):
                    continue
                best = answer["alternatives"][0] if answer["label"] is None else answer
                text = self.clip_of(value)["text"]
                answer["explanation"] = self._explanation(text, best["label"], self._in_windows(options))
        return answers

    @torch.inference_mode(False)  # a caller's would leave no gradients
    def _explanation(self, text, label, in_windows):
        """Gate and relevance of each common span of one text, for one fine class."""
        with self.tokenizer_lock:
            spans = self.processor.spans_of(text, "window" if in_windows else "cut")
            firsts = self.processor.first_spans_of(text) if in_windows else [0]
        if not spans:
            return []
        batch = self._ensure_tensor_on_device(self.preprocess([{"text": text}], in_windows), device=self.device)
        batch.pop(WINDOW_TEXTS, None)
        windows = [{name: values[i : i + 1] for name, values in batch.items()} for i in range(len(firsts))]
        gates, counts = torch.zeros(len(spans)), torch.zeros(len(spans))
        for first, window in zip(firsts, windows, strict=True):
            with torch.inference_mode():
                outputs = self.model(**window, output_fusion=True)
            if outputs.get("span_mask") is not None:
                gate = outputs.gate[0, outputs.span_mask[0]].float().mean(-1).cpu()
                gates[first : first + len(gate)] += gate
                counts[first : first + len(gate)] += 1
        gates = (gates / counts).tolist() if counts.any() else [None] * len(spans)
        relevance = self._relevance(windows, firsts, self.model.config.label2id[label], len(spans))
        return [
            {"start": start, "end": end, "text": text[start:end], "gate": gate, "relevance": value}
            for (start, end), gate, value in zip(spans, gates, relevance, strict=True)
        ]

    def _relevance(self, windows, firsts, label_id, num_spans):
        """
        Integrated gradients of one logit against the mean of all, summed over the tokens of each span.

        The steps of the path are texts for the model. Of these one window at a time is read with gradients, beside the
        sums of the others: memory does not grow with the text.
        """
        steps = torch.arange(_EXPLANATION_STEPS, device=self.device)
        own = None
        if len(windows) > 1:
            with torch.inference_mode():
                paths = ({**others, **path} for others, path, _ in map(self._paths, windows))
                own = torch.stack([self.model(**path, window_texts=steps).window_sums for path in paths])
            own, total = own.clone(), own.sum(0)  # outside of inference mode, for the gradients
        relevance = torch.zeros(num_spans)
        for i, (first, window) in enumerate(zip(firsts, windows, strict=True)):
            others, paths, ways = self._paths(window)
            sums = {} if own is None else {WINDOW_TEXTS: steps, EARLIER_WINDOWS: total - own[i]}
            # cuDNN has no gradient of a recurrent layer in evaluation
            with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
                logits = self.model(**others, **paths, **sums).logits.float()
                margin = (logits[:, label_id] - logits.mean(-1)).sum()
                gradients = torch.autograd.grad(margin, list(paths.values()))
            for (way, span_ids), gradient in zip(ways, gradients, strict=True):
                tokens = (way * gradient.mean(0)).sum(-1).float().cpu()  # (tokens,)
                # special tokens do not move: theirs is 0
                relevance.index_add_(0, first + span_ids.cpu().clamp(min=0), tokens)
        return relevance.tolist()

    def _paths(self, window):
        """
        The path from a window of mask tokens to a window itself.

        Returns:
            `tuple`: the inputs of all steps without the tokens; by name the embeddings on the path `(steps, tokens,
            hidden)`; and for each of these the way that a token goes `(tokens, hidden)` with the span of each token.
        """
        shares = (torch.arange(_EXPLANATION_STEPS, device=self.device) + 0.5) / _EXPLANATION_STEPS
        others = {name: values.expand(len(shares), *values.shape[1:]) for name, values in window.items()}
        paths, ways = {}, []
        for name, encoder in self.model.dyfulm.encoders.items():
            suffix, tokenizer = ("_b", self.processor.tokenizer_b) if name == "b" else ("", self.processor.tokenizer)
            ids, span_ids = others.pop("input_ids" + suffix)[:1], window["span_ids" + suffix]
            unknown = next(i for i in (tokenizer.mask_token_id, tokenizer.unk_token_id, 0) if i is not None)
            # not from zero: a layer norm right after the embeddings would undo the scaling
            embed = encoder.get_input_embeddings()
            start, end = embed(torch.where(span_ids < 0, ids, unknown)).detach(), embed(ids).detach()
            path = start + shares.view(-1, 1, 1).to(start.dtype) * (end - start)  # (steps, tokens, hidden)
            paths["inputs_embeds" + suffix] = path.requires_grad_(not torch.is_inference_mode_enabled())
            ways.append(((end - start)[0], span_ids[0]))
        return others, paths, ways

    def no_windows(self, count):
        """`earlier_windows` for so many texts of which no window was read yet."""
        return torch.zeros(count, self.model.config.fusion_hidden_size + 1)

    @property
    def media_device(self):
        """`str`: where the networks that read media run: beside the model."""
        return str(self.device)

    @property
    def runs_on_cpu(self):
        """`bool`: whether the model is on the CPU."""
        return self.device.type == "cpu"

    def to_array(self, values, activation=None, temperature=1.0):
        """A tensor as a float32 `np.ndarray`, divided by `temperature`, after `activation` ("softmax", "sigmoid" or
        `None`)."""
        return _ACTIVATIONS[activation](values.float() / temperature).cpu().numpy()

    def get_inference_context(self):
        """Inference mode: no gradients, no version counters."""
        return torch.inference_mode

    def _forward(self, model_inputs):
        return self.model(**model_inputs)

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | os.PathLike,
        device: int | str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        **kwargs: Any,
    ) -> "FusionSentimentPipeline":
        """
        The pipeline of a checkpoint.

        Args:
            checkpoint (`str` or `os.PathLike`): a folder, or a name on the Hub.
            device (`int`, `str` or `torch.device`, *optional*): such as `"cpu"` or `"cuda:0"`; by default the
                accelerator, if there is one.
            dtype (`str` or `torch.dtype`, *optional*, defaults to `"auto"`): of the weights; `"auto"` leaves them as
                they are saved.
            kwargs: for `from_pretrained` of model and processor: `revision`, `token`, `trust_remote_code` ...

        Raises:
            ValueError: if the checkpoint lacks weights, which would be random, or is a LoRA adapter.
            OSError: if there is no such checkpoint, or none with weights in `.safetensors`.
        """
        checkpoint = os.fspath(checkpoint)
        place = {name: kwargs[name] for name in ("cache_dir", "revision", "token") if name in kwargs}
        if find_adapter_config_file(checkpoint, **place) is not None:
            raise ValueError(
                f"{checkpoint} holds a LoRA adapter, which `hf_fusion.deployment.load_pipeline` merges into its model."
            )
        options = {"dtype": dtype, "output_loading_info": True, "use_safetensors": True, **kwargs}
        model, report = AutoModelForSequenceClassification.from_pretrained(checkpoint, **options)
        if missing := sorted(report["missing_keys"]):
            raise ValueError(
                f"{checkpoint} has no weights for {missing[0]}, {len(missing)} parameters in all: it is no trained "
                "checkpoint."
            )
        return cls(model, processor=AutoProcessor.from_pretrained(checkpoint, **kwargs), device=device)

    def save_pretrained(self, save_directory, **kwargs):
        """Saves model, processor and the code of all three."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


__all__ = ["FusionSentimentPipeline"]
