"""Zero-shot baselines: models that were trained on other tasks name the class of a text, without any training row."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import transformers
from scipy.special import logit, softmax
from transformers import CONFIG_MAPPING, AutoTokenizer, PretrainedConfig, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from hf_fusion.utils.errors import RecipeError, listed
from hf_fusion.utils.extras import import_extra
from hf_fusion.utils.fields import wrong_field

TASKS = ("zero-shot-classification", "decision", "gliclass")
_QUESTION = "How positive is the sentiment of this text?"
_HYPOTHESIS = "The sentiment of this text is {}."
_GAP = "{}"


@dataclass(frozen=True)
class ZeroShotBaseline:
    """
    A model that answers without training, and how it is asked.

    Args:
        task (`str`): `"zero-shot-classification"` (a model of natural language inference), `"decision"` (a chat model
            or a decision model, transformers 5.24 or newer), or `"gliclass"` (the extra `gliclass`).
        model (`str`): a folder, or a name on the Hub.
        labels (`list[str]`, *optional*): the words for the classes, in their order; the names of the classes by
            default.
        prompt (`str`, *optional*): for `"decision"` the question; for the others a sentence with `{}` in the place of a
            label.
        batch_size (`int`, *optional*, defaults to 8): the number of texts per forward pass; `"decision"` takes one.
        device (`str`, *optional*): by default the accelerator if there is one.
        dtype (`str`, *optional*, defaults to `"auto"`): the data type of the weights.
        revision (`str`, *optional*): the commit, tag or branch on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`): whether code of the model's repository may run.

    Example:

    ```python
    from hf_fusion.evaluation.zero_shot import ZeroShotBaseline

    ZeroShotBaseline("zero-shot-classification", "facebook/bart-large-mnli", prompt="The guest was {}.")
    ```
    """

    task: str
    model: str
    labels: list[str] | None = None
    prompt: str | None = None
    batch_size: int = 8
    device: str | None = None
    dtype: str = "auto"
    revision: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self):
        if wrong := wrong_field(type(self), vars(self)):
            raise RecipeError(f"baseline: {wrong}")
        if self.task not in TASKS:
            raise RecipeError(f"baseline: `task` must be one of {', '.join(TASKS)}, got {self.task!r:.100}.")
        if self.prompt is not None and (_GAP in self.prompt) == (self.task == "decision"):
            place = "is a question, without" if self.task == "decision" else "needs"
            raise RecipeError(f"baseline: the `prompt` of {self.task} {place} {_GAP}, got {self.prompt!r:.100}.")
        if self.batch_size < 1:
            raise RecipeError(f"baseline: `batch_size` must be at least 1, got {self.batch_size}.")

    @classmethod
    def from_fields(cls, values: Any) -> "ZeroShotBaseline":
        """Creates a baseline from a mapping; raises [`RecipeError`] if a field is missing or unknown."""
        known = [item.name for item in fields(cls)]
        if not isinstance(values, dict) or not {"task", "model"} <= set(values):
            raise RecipeError(f"`baseline` must be a mapping with task and model, got {values!r:.100}.")
        if unknown := set(values) - set(known):
            raise RecipeError(f"`baseline` has the unknown field {min(map(str, unknown))}; known are {listed(known)}.")
        return cls(**values)

    def load(self) -> "ZeroShotModel":
        """
        Loads the model.

        Raises:
            RecipeError: if the installed transformers does not know the task.
            MissingExtraError: if gliclass is not installed.
            OSError: if there is no such model, or it has no weights in `.safetensors`.
        """
        if self.task == "gliclass":
            return ZeroShotModel(self, *_load_gliclass(self))
        if self.task not in PIPELINE_REGISTRY.get_supported_tasks():
            raise RecipeError(
                f"baseline: the installed transformers {transformers.__version__} has no pipeline {self.task!r}: "
                "pip install -U 'transformers>=5.24', or choose another task."
            )
        ask = pipeline(
            self.task, model=self.model, revision=self.revision, device=self.device, dtype=self.dtype,
            trust_remote_code=self.trust_remote_code, model_kwargs={"use_safetensors": True},
        )  # fmt: skip
        return ZeroShotModel(self, ask, ask.model)


def _load_gliclass(baseline):
    """Returns the pipeline and the model of GLiClass."""
    gliclass = import_extra("gliclass", "gliclass")
    _check_encoder(baseline)
    device = baseline.device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    model = gliclass.GLiClassModel.from_pretrained(baseline.model, revision=baseline.revision, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(
        baseline.model, revision=baseline.revision, trust_remote_code=baseline.trust_remote_code
    )
    ask = gliclass.ZeroShotClassificationPipeline(
        model, tokenizer, classification_type="multi-label", device=device, progress_bar=False
    )
    return ask, model


def _check_encoder(baseline):
    """Refuses an encoder that transformers does not know: GLiClass itself would run the code of its repository."""
    content, _ = PretrainedConfig.get_config_dict(baseline.model, revision=baseline.revision)
    kind = (content.get("encoder_config") or {}).get("model_type", "deberta-v2")
    if kind not in CONFIG_MAPPING and not baseline.trust_remote_code:
        raise RecipeError(
            f"baseline: the encoder {kind!r:.100} of {baseline.model} is not in transformers, so that its own code "
            "would run. Read it, and set `trust_remote_code`, or choose another model."
        )


class ZeroShotModel:
    """
    A loaded baseline.

    Args:
        baseline ([`ZeroShotBaseline`]): how the model is asked.
        ask (`Callable`): its pipeline.
        model (`torch.nn.Module`): its weights.
    """

    def __init__(self, baseline: ZeroShotBaseline, ask: Callable, model: torch.nn.Module):
        self.baseline, self._ask = baseline, ask
        self.num_parameters = sum(parameter.numel() for parameter in model.parameters())

    def class_probabilities(
        self, texts: Sequence[str], names: Sequence[str], track: Callable[[range], Iterable[int]] = iter
    ) -> np.ndarray:
        """
        Asks for the class of each text.

        Args:
            texts (`Sequence[str]`): the texts.
            names (`Sequence[str]`): the names of the classes, from worst to best.
            track (`Callable`, *optional*): wraps the numbers of the first text of each batch, for a progress bar.

        Returns:
            `np.ndarray` of shape `(texts, classes)`: the probabilities; each row sums to 1.

        Raises:
            RecipeError: if `labels` has not as many words as there are classes, or two are the same.
        """
        labels = list(self.baseline.labels or names)
        if len(labels) != len(names) or len(set(labels)) < len(labels):
            raise RecipeError(
                f"baseline: `labels` must have a word of its own for each of the classes {listed(names)}, got "
                f"{listed(labels)}."
            )
        answer = {"decision": self._decide, "gliclass": self._gliclass}.get(self.baseline.task, self._entail)
        size, rows = self.baseline.batch_size, []
        for start in track(range(0, len(texts), size)):
            rows += answer(list(texts[start : start + size]), labels)
        return np.array(rows, dtype=np.float64).reshape(len(texts), len(names))

    def _entail(self, texts, labels):
        template = self.baseline.prompt or _HYPOTHESIS
        answers = self._ask(texts, labels, hypothesis_template=template, batch_size=len(texts))
        return [_in_order(dict(zip(a["labels"], a["scores"], strict=True)), labels) for a in answers]

    def _decide(self, texts, labels):
        question = {"type": "score", "instructions": self.baseline.prompt or _QUESTION, "criteria": labels}
        answers = [self._ask({"state": text, "questions": {"class": question}})["class"] for text in texts]
        return [_in_order(answer["probabilities"], map(str, range(len(labels)))) for answer in answers]

    def _gliclass(self, texts, labels):
        """Softmax over the labels; the pipeline itself gives independent probabilities, or the best label alone."""
        template = self.baseline.prompt or _GAP
        words = [template.replace(_GAP, label) for label in labels]
        answers = self._ask(texts, words, threshold=-1.0, batch_size=len(texts))
        by_word = [{entry["label"]: entry["score"] for entry in answer} for answer in answers]
        rows = np.array([_in_order(scores, words) for scores in by_word])
        return softmax(logit(np.clip(rows, 1e-9, 1 - 1e-9)), axis=-1).tolist()


def _in_order(probabilities, labels):
    return [probabilities[label] for label in labels]
