"""The model card of a run, written from the run's own files."""

import json
import re
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_fusion.data.files import DATA_FILE_KINDS
from hf_fusion.evaluation.records import ENVIRONMENT_FILE, METRICS_FILE

# Packages whose versions the card names.
_VERSIONS = ("hf-fusion", "torch", "transformers")

TEMPLATE = """---
{{ card_data }}
---

# {{ name }}

{% if model_type == "dyfulm" -%}
A DyFuLM: reviews to fine sentiment ({{ fine | join(", ") }}), coarse sentiment ({{ coarse | join(", ") }}) and an
intensity from {{ intensity_range[0] }} to {{ intensity_range[1] }}. Made with
[hf_fusion](https://pypi.org/project/hf-fusion/) after arXiv 2512.01410.
{%- else -%}
A DashFusion: clips to a sentiment score from {{ label_range[0] }} to {{ label_range[1] }}. It reads
{{ modalities | join(", ") }}{% if frames %}; {{ frames | join(", ") }}{% endif %}. Made with
[hf_fusion](https://pypi.org/project/hf-fusion/) after arXiv 2512.05515.
{%- endif %}

## Use

```python
{% if adapter -%}
from hf_fusion.evaluation.predictions import load_pipeline

# a LoRA adapter; the model that it was trained on is in the folder base
classify = load_pipeline("{{ name }}")
{%- else -%}
from transformers import pipeline

classify = pipeline("fusion-sentiment", model="{{ name }}", trust_remote_code=True)
{%- endif %}
{% if model_type == "dyfulm" -%}
classify("The room was not clean, but the staff made up for it.")
{%- else -%}
import numpy as np

# frames come from the feature extractor of the data; zeros here, to show their shape (frames, features)
clip = {{ "{" }}{{ example | join(", ") }}{{ "}" }}
classify(clip)
{%- endif %}
```

The code of model, processor and pipeline is part of this repository; `trust_remote_code=True` runs it. Read it, and pin
`revision` to the commit that you have read: `pipeline(..., revision="...", code_revision="...")`.

## Intended use

{% if model_type == "dyfulm" -%}
To sort and count opinions in texts like those of the training data, and to study how two encoders are fused. Not for
decisions about people, and not for other kinds of text or other languages without measuring first.
{%- else -%}
To study sentiment in clips like those of the training data, with the same feature extractors. Not for decisions about
people, not to read emotions of people who do not know of it, and not for other features or languages without measuring
first.
{%- endif %}

## Results

Measured on `{{ dataset }}` by the checkpoint that was best on validation, seed {{ seed }}.

| metric |{% for split in splits %} {{ split }} ({{ rows[split] }} {{ unit }}s) |{% endfor %}
|---|{% for split in splits %}---|{% endfor %}
{% for metric in metric_names -%}
| {{ metric }} |{% for split in splits %} {{ metrics[split][metric] }} |{% endfor %}
{% endfor %}
## Training

{% if teacher %}Distilled from `{{ teacher }}`: it learned the answers of that model, beside the labels. {% endif -%}
{{ train_samples }} {{ unit }}s, {{ train_seconds }} s on {{ hardware }}; {{ versions | join(", ") }}. The full
recipe is `config.yaml`; all versions, command and fingerprints of the data are in `environment.json`.

## Limits

{% if model_type == "dyfulm" -%}
The labels are ratings given by guests, not judgements of the text: equal words come with different stars. The model
knows the kind of text it was trained on; measure it on yours before you rely on it, and do not use it to judge people.
{%- else -%}
The labels are what annotators saw in other people's faces and voices, not what those people felt. The model knows the
kind of clip and the very features it was trained on; measure it on yours before you rely on it, and do not use it to
judge people.
{%- endif %}
"""


def write_model_card(folder) -> Path:
    """Writes `README.md` of a run folder, see [`model_card`]; returns its path."""
    path = Path(folder) / "README.md"
    model_card(folder).save(path)
    return path


def model_card(folder, name: str | None = None) -> ModelCard:
    """
    The card of a run folder, from its `config.json`, `config.yaml`, `metrics.json` and `environment.json`.

    Args:
        folder: of the run.
        name: what the snippets load, such as "user/name" on the Hub; the folder's name by default.

    Returns:
        The card, with metadata that the Hub reads.
    """
    folder = Path(folder)
    name = folder.name if name is None else name
    metrics, environment = (json.loads((folder / name).read_text("utf-8")) for name in (METRICS_FILE, ENVIRONMENT_FILE))
    recipe = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    splits = [split for split in ("validation", "test") if split in metrics]
    facts = _model_facts(folder, recipe)
    rows, dataset = environment["rows"], Path(environment["dataset"]).name
    shown = {
        split: {name: _shown(value) for name, value in metrics[split].items() if name != "loss"} for split in splits
    }
    hardware = environment["hardware"]
    versions = environment.get("versions", {})
    return ModelCard.from_template(
        _card_data(name, recipe, environment["dataset"], metrics),
        template_str=TEMPLATE,
        name=name,
        versions=[f"{package} {versions[package]}" for package in _VERSIONS if package in versions],
        adapter=(folder / "adapter_config.json").exists(),
        dataset=dataset,
        splits=splits,
        rows=rows,
        metrics=shown,
        metric_names=list(shown[splits[0]]) if splits else [],
        seed=metrics["seed"],
        teacher=recipe.get("teacher") and Path(recipe["teacher"]).name,
        train_samples=metrics["train_samples"],
        train_seconds=metrics["train_seconds"],
        hardware=", ".join(hardware["accelerators"]) or f"{hardware['cores']} cores of {hardware['processor']}",
        **facts,
    )


def _model_facts(folder, recipe):
    path = folder / "config.json"
    if not path.exists():  # a LoRA adapter: the rest is its base model's
        path = folder / "base" / "config.json"
    config = json.loads(path.read_text("utf-8"))
    if config["model_type"] == "dyfulm":
        return {
            "model_type": "dyfulm",
            "unit": "review",
            "fine": list(config["id2label"].values()),
            "coarse": list(config["coarse_id2label"].values()),
            "intensity_range": config["intensity_range"],
        }
    modalities = config["modalities"]
    widths = {name: config[f"{name}_feature_size"] for name in modalities if name != "text"}
    example = ['"text": "It was better than I thought."'] if "text" in modalities else []
    return {
        "model_type": "dashfusion",
        "unit": "clip",
        "label_range": config["label_range"],
        "modalities": modalities,
        "frames": [f"{name} frames have {width} features" for name, width in widths.items()],
        "example": example + [f'"{name}": np.zeros((40, {width}))' for name, width in widths.items()],
    }


def _card_data(name, recipe, source, metrics):
    dataset = Path(source).name
    encoders = [recipe.get(field) for field in ("encoder_a", "encoder_b", "text_encoder")]
    base_models = [encoder for encoder in encoders if isinstance(encoder, str) and _is_hub_name(encoder)]
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split="test",
            metric_type=metric,
            metric_value=value,
        )
        for metric, value in metrics.get("test", {}).items()
        if metric != "loss" and value is not None
    ]
    return ModelCardData(
        library_name="transformers",
        license="apache-2.0",
        pipeline_tag="text-classification",
        tags=["sentiment-analysis", recipe.get("model_type", "dyfulm"), "hf-fusion"],
        base_model=base_models or None,
        model_name=name.rpartition("/")[2],
        datasets=[source] if _is_hub_name(source) and "/" in source and not source.endswith(DATA_FILE_KINDS) else None,
        metrics=[result.metric_type for result in results] or None,
        eval_results=results or None,
    )


def _is_hub_name(name):
    """Whether it can be a name on the Hub, and not a folder of this machine."""
    return re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name) is not None and not Path(name).exists()


def _shown(value):
    return "-" if value is None else f"{value:.4f}"
