"""A DyFuLM with a single encoder as a sequence classifier of transformers, which needs no code of this package."""

import copy
from pathlib import Path

import numpy as np
import torch
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from hf_fusion.deployment.export_folder import CLASSIFIER_DESCRIPTION, ExportError, export_folder
from hf_fusion.deployment.onnx_export import OPSET, compare_with_torch, save_graph
from hf_fusion.models.configuration_dyfulm import DyFuLMConfig
from hf_fusion.utils.extras import import_extra
from hf_fusion.utils.records import installed_version, write_json

TOLERANCE = 1e-5  # of the probabilities
ONNX_TOLERANCE = 1e-4  # of the logits
GRAPH_FILE = "onnx/model.onnx"

_PACKAGES = ("hf-fusion", "torch", "transformers", "onnx", "onnxruntime")
_TEXTS = ("The room was lovely, but nobody came to clean it.", "Never again!", "good " * 1000)
_BATCHES, _ROWS = 8, 4
# Where the classifiers of transformers keep tanh(dense(first token)) and the linear layer that follows.
_LAYERS = {
    "BertForSequenceClassification": ("bert.pooler.dense", "classifier"),
    "CamembertForSequenceClassification": ("classifier.dense", "classifier.out_proj"),
    "MPNetForSequenceClassification": ("classifier.dense", "classifier.out_proj"),
    "RobertaForSequenceClassification": ("classifier.dense", "classifier.out_proj"),
    "XLMRobertaForSequenceClassification": ("classifier.dense", "classifier.out_proj"),
}


def export_sequence_classifier(model, processor, folder, onnx=False, num_checks=200, seed=0, track=iter):
    """
    Saves the fine classes of a DyFuLM as an `AutoModelForSequenceClassification` with its tokenizer: a folder that
    `pipeline("text-classification")`, Text Embeddings Inference and other servers load without code of this package.
    Coarse classes and intensity are left out.

    The saved model is loaded again and compared with the DyFuLM, on texts and on random tokens.

    Args:
        model ([`DyFuLMForSequenceClassification`]): the model, in float32 on the CPU; see [`to_sequence_classifier`].
        processor ([`DyFuLMProcessor`]): the processor of the model. Its tokenizer must be a fast one.
        folder (`str` or `os.PathLike`): the output folder. An earlier export is replaced once the new one is complete.
        onnx (`bool`, *optional*, defaults to `False`): whether to add `onnx/model.onnx`; needs the extra `onnx`.
        num_checks (`int`, *optional*, defaults to 200): the number of random batches on which the graph is compared
            with PyTorch.
        seed (`int`, *optional*, defaults to 0): the seed of all random batches.
        track (`Callable`, *optional*, defaults to `iter`): wraps the iterable of batch numbers, for a progress bar.

    Returns:
        `dict`: the description with the keys `architecture`, `max_length`, `left_out` (the heads, and `abstain_below`
        where it is set), `check` (the `largest_difference` of a probability), `onnx` (`None`, or `opset`, `inputs`,
        `batches`, `seed` and `largest_difference` of a logit) and `versions`.

    Raises:
        ExportError: if the model has parts that no classifier of transformers has, the folder holds other files, or the
            saved model differs from the DyFuLM.
        ImportError: with `onnx` if the extra is not installed.
    """
    classifier = to_sequence_classifier(model)
    tokenizer = _own_tokenizer(model, processor)
    with export_folder(Path(folder)) as staged:
        classifier.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        # the limit that Text Embeddings Inference reads
        write_json(
            staged / "sentence_bert_config.json", {"max_seq_length": processor.max_length, "do_lower_case": False}
        )
        classifier = AutoModelForSequenceClassification.from_pretrained(staged, trust_remote_code=False).eval()
        tokenizer = AutoTokenizer.from_pretrained(staged, trust_remote_code=False)
        difference = _largest_difference(model.eval(), processor, classifier, tokenizer, seed)
        if not difference <= TOLERANCE:
            raise ExportError(
                f"The saved classifier differs from the DyFuLM: a probability is off by {difference:.2g} (allowed: "
                f"{TOLERANCE:g}). Nothing was written."
            )
        description = {
            "architecture": type(classifier).__name__,
            "max_length": processor.max_length,
            "left_out": [head for head in model.config.heads if head != "logits"]
            + (["abstain_below"] if model.config.abstain_below else []),
            "check": {"largest_difference": difference},
            "onnx": _add_graph(classifier, tokenizer, staged, num_checks, seed, track) if onnx else None,
            "versions": {name: installed_version(name) for name in _PACKAGES},
        }
        write_json(staged / CLASSIFIER_DESCRIPTION, description)
    return description


def to_sequence_classifier(model) -> PreTrainedModel:
    """
    Converts a DyFuLM to the sequence classifier of its encoder's family, with the fine logits of its answers: divided
    by the temperature.

    That classifier reads the last layer's first token. The DyFuLM must do the same: `cross_fusion` "a" or "b",
    `layer_fusion` "last", `pooling` "first", `use_guidance` False, a `fine_loss` other than "corn", no projection
    (`fusion_hidden_size` is the width of the encoder), and an encoder whose classifier in transformers has a dense
    layer with tanh.

    Args:
        model ([`DyFuLMForSequenceClassification`]): the model.

    Returns:
        `PreTrainedModel`: such as a `BertForSequenceClassification`, in evaluation mode.

    Raises:
        ExportError: if a field has another value; the message names all of them.
    """
    config = model.config
    if not isinstance(config, DyFuLMConfig):
        raise ExportError(
            f"Only a DyFuLM can become a sequence classifier of transformers, this is a {config.model_type}."
        )
    if changes := _needed_changes(config):
        raise ExportError(
            "No classifier of transformers computes the same as this DyFuLM. Train a model, for example by "
            f"distillation, with {', '.join(changes)}."
        )
    ((name, encoder),) = model.base_model.encoders.items()
    fields = copy.deepcopy(config.encoder_configs[name])
    fields.update({
        "id2label": dict(config.id2label), "label2id": dict(config.label2id),
        "problem_type": "single_label_classification", "classifier_dropout": config.classifier_dropout,
    })  # fmt: skip
    classifier = AutoModelForSequenceClassification.from_config(fields).float()
    dense, output = _LAYERS[type(classifier).__name__]
    parts = {
        classifier.base_model_prefix: encoder,
        dense: model.base_model.pooling.dense,
        output: model.classifier,
    }
    weights = {f"{part}.{key}": value for part, module in parts.items() for key, value in module.state_dict().items()}
    for name in (f"{output}.weight", f"{output}.bias"):
        weights[name] = weights[name] / config.temperature
    classifier.load_state_dict(weights)
    return classifier.eval()


def _needed_changes(config):
    """Returns the fields that a DyFuLM would need, in words."""
    changes = []
    if len(config.encoder_configs) != 1:
        changes.append(f"cross_fusion a or b (it is {config.cross_fusion})")
    fields = {"layer_fusion": "last", "pooling": "first"}
    if len(config.heads) > 1:  # else there is no guidance
        fields["use_guidance"] = False
    for name, needed in fields.items():
        if (value := getattr(config, name)) != needed:
            changes.append(f"{name} {str(needed).lower()} (it is {str(value).lower()})")
    if config.fine_loss == "corn":
        changes.append("fine_loss cross_entropy or ordinal_log_loss (it is corn, with a head of its own)")
    for name, encoder in config.encoder_configs.items():
        classifier = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(encoder), None)
        if classifier is None or classifier.__name__ not in _LAYERS:
            families = ", ".join(known.removesuffix("ForSequenceClassification") for known in _LAYERS)
            changes.append(f"an encoder_{name} of the family {families} (it is {encoder.model_type})")
        elif len(config.encoder_configs) == 1 and encoder.hidden_size != config.fusion_hidden_size:
            changes.append(f"fusion_hidden_size {encoder.hidden_size} (it is {config.fusion_hidden_size})")
    return changes


def _own_tokenizer(model, processor):
    """Returns the tokenizer of the encoder with the limit of the processor; it pads on the right, as servers do."""
    tokenizer = copy.deepcopy(processor.tokenizers["b" in model.config.encoder_configs])
    if not tokenizer.is_fast:
        raise ExportError(f"{type(tokenizer).__name__} is a slow tokenizer without tokenizer.json, which servers need.")
    for name in ("auto_map", "processor_class"):  # of our processor
        tokenizer.init_kwargs.pop(name, None)
    tokenizer._processor_class = None
    tokenizer.model_max_length = processor.max_length
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return tokenizer


@torch.inference_mode()
def _largest_difference(model, processor, classifier, tokenizer, seed):
    """Returns the largest difference of a probability, over texts and random tokens."""
    suffix, temperature = "_b" if "b" in model.config.encoder_configs else "", model.config.temperature
    texts = list(_TEXTS)
    pairs = [
        (processor(texts, return_tensors="pt"), tokenizer(texts, padding=True, truncation=True, return_tensors="pt"))
    ]
    rng = np.random.default_rng(seed)
    for _ in range(_BATCHES):
        length = int(rng.integers(1, processor.max_length + 1))
        real = torch.from_numpy(rng.integers(1, length + 1, size=(_ROWS, 1)))
        batch = {
            "input_ids": torch.from_numpy(rng.integers(len(tokenizer), size=(_ROWS, length))),
            "attention_mask": (torch.arange(length) < real).long(),
        }
        pairs.append(({name + suffix: values for name, values in batch.items()}, batch))
    differences = [
        ((model(**ours).logits / temperature).softmax(-1) - classifier(**theirs).logits.softmax(-1)).abs().max().item()
        for ours, theirs in pairs
    ]
    return float(np.max(differences))  # NaN if one is


def _add_graph(classifier, tokenizer, folder, num_checks, seed, track):
    """Writes the ONNX graph and compares it with PyTorch; returns its description."""
    axes = {name: ["batch", "tokens"] for name in tokenizer.model_input_names}
    limits = {"tokens": tokenizer.model_max_length}
    (folder / GRAPH_FILE).parent.mkdir()
    save_graph(classifier, axes, limits, folder / GRAPH_FILE)
    session = import_extra("onnxruntime", "onnx").InferenceSession(
        folder / GRAPH_FILE, providers=["CPUExecutionProvider"]
    )

    def run(**inputs):
        return {"logits": session.run(["logits"], inputs)[0]}

    checked = compare_with_torch(classifier, run, axes, limits, seed, track(range(num_checks)))
    if not checked["largest_difference"] <= ONNX_TOLERANCE:
        raise ExportError(
            f"The graph differs from the classifier: a logit is off by {checked['largest_difference']:.2g} (allowed: "
            f"{ONNX_TOLERANCE:g}). Nothing was written."
        )
    return {
        "opset": OPSET,
        "inputs": list(axes),
        "batches": num_checks,
        "seed": seed,
        "largest_difference": checked["largest_difference"],
    }
