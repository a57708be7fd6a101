"""The model card of a run, written from the run's own files."""

import json
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig

from hf_fusion.data import clips, reviews
from hf_fusion.data.files import DATA_FILE_KINDS, read_yaml
from hf_fusion.hub.emissions import EmissionsError, estimate_emissions
from hf_fusion.hub.metric_texts import explain_metrics
from hf_fusion.hub.repository import CALIBRATION_FOLDER
from hf_fusion.hub.study_seeds import summarize_seeds
from hf_fusion.models.configuration_dashfusion import MODALITIES
from hf_fusion.models.media_frames import WEIGHT_FILES, MediaSettings
from hf_fusion.utils.errors import FusionError
from hf_fusion.utils.languages import check_language
from hf_fusion.utils.records import ENVIRONMENT_FILE, METRICS_FILE

_FRAMES = {
    "descriptors": "23 descriptors of the voice (loudness, pitch, timbre), computed without a network",
    "whisper": "the states of a Whisper encoder",
    "face": "58 numbers about the largest face (blendshapes, pose, place)",
    "clip": "the output of an image encoder",
}
# Where a network file itself names no licence.
_LICENSES = {"whisper": "MIT for OpenAI's checkpoints", "clip": "that of its checkpoint"}
# Packages whose versions the card names.
_VERSIONS = ("hf-fusion", "torch", "transformers")
# The most classes of which a table shows the whole confusion.
MOST_CONFUSED = 12

TEMPLATE = Path(__file__).with_name("card_template.md")

_LANGUAGES = {clips.SYNTHETIC: "en", reviews.SYNTHETIC: "en"}
# Texts with which the page of a model can be tried.
_WIDGET = [
    {"text": "The room was not clean, but the staff made up for it.", "example_title": "contrast"},
    {"text": "It broke on the second day, and nobody answered my letters.", "example_title": "complaint"},
]


class CardError(FusionError, ValueError):
    """The records of a run are damaged, or facts for its card are not valid; the message names file and reason."""


@dataclass(frozen=True)
class CardDetails:
    """
    What the records of a run do not say, for its model card.

    Args:
        languages (`tuple[str, ...]`): of the texts, codes of two or three letters such as "en"; by default those of the
            recipe, then `dataset_languages` or, for synthetic data, English.
        dataset (`bool`, *optional*): whether the data set of the run is public on the Hub; by default it is if the
            data was loaded by a name of the Hub.
        dataset_languages (`tuple[str, ...]`): those that the data set itself names on the Hub.
        new_version (`str`, *optional*): the model on the Hub that replaces this one.
        carbon_intensity (`float`, *optional*): grams of CO2 for a kilowatt hour where the model was trained, for an
            estimate of the emissions.
        country (`str`, *optional*): where it was trained.
        watts (`float`, *optional*): the power of the hardware, see [`estimate_emissions`].

    Raises:
        CardError: if a language or `new_version` is not valid.
    """

    languages: tuple[str, ...] = ()
    dataset: bool | None = None
    dataset_languages: tuple[str, ...] = ()
    new_version: str | None = None
    carbon_intensity: float | None = None
    country: str | None = None
    watts: float | None = None

    def __post_init__(self):
        try:
            for code in self.languages:
                check_language(code)
            if self.new_version is not None:
                validate_repo_id(self.new_version)
        except ValueError as error:
            raise CardError(str(error)) from error


def write_model_card(folder) -> Path:
    """Writes the card of [`model_card`] to `README.md` in the run folder and returns its path."""
    path = Path(folder) / "README.md"
    model_card(folder).save(path)
    return path


def model_card(
    folder,
    name: str | None = None,
    base_model: str | None = None,
    base_revision: str | None = None,
    details: CardDetails | None = None,
) -> ModelCard:
    """
    Creates the model card of a run folder from its `config.json`, `config.yaml`, `metrics.json` and
    `environment.json`. If one of the last three is missing, the card has no training and results sections.

    Args:
        folder (`str` or `Path`): the run folder.
        name (`str`, *optional*): the name that the code snippets load, such as "user/name" on the Hub; the folder's
            name by default.
        base_model (`str`, *optional*): for a LoRA adapter, the model on the Hub that it was trained on.
        base_revision (`str`, *optional*): the commit of `base_model`.
        details ([`CardDetails`], *optional*): what the records do not say.

    Returns:
        `ModelCard`: the card with its metadata for the Hub.

    Raises:
        CardError: if one of the files does not have the format that training writes.
        EmissionsError: if the emissions cannot be estimated from the given details.
    """
    folder = Path(folder)
    try:
        name = folder.resolve().name if name is None else name
        return _model_card(folder, name, base_model, base_revision, details or CardDetails())
    except (CardError, EmissionsError):
        raise
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RuntimeError, OSError) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise CardError(
            f"{folder}: the records of the run do not have the format that training writes ({reason})."
        ) from error


def read_dataset(folder: Path) -> str | None:
    """Returns the data set that a run was trained on, if its name is one of the Hub; `None` for other data."""
    path = Path(folder, ENVIRONMENT_FILE)
    source = json.loads(path.read_text("utf-8")).get("dataset") if path.is_file() else None
    return source if isinstance(source, str) and _is_public_dataset(source) else None


def read_notebook_facts(folder, name: str, base_model: str | None = None, base_revision: str | None = None) -> dict:
    """Returns the facts for [`make_notebook`]; see [`model_card`] for the arguments."""
    facts = _model_facts(Path(folder))
    return {
        **{key: facts[key] for key in ("reads_clips", "shapes", "has_classes")},
        "has_text": "text" in facts["modalities"],
        "name": name,
        "base_model": base_model,
        "base_revision": base_revision,
    }


def describe_gaps(card: ModelCard) -> list[str]:
    """Returns a sentence for each fact that a card leaves out since nobody gave it, with the flag that does."""
    sentences = {
        "language": "no language, by which the Hub finds models: give --language en",
        "license": "no license, without which nobody may use the weights: give `license` in config.yaml",
        "co2_eq_emissions": "no estimate of CO2 emissions: give --carbon_intensity, in grams for a kilowatt hour",
    }
    return [f"The card has {text}." for name, text in sentences.items() if not card.data.get(name)]


def _model_card(folder, name, base_model, base_revision, details):
    facts = _model_facts(folder)
    metrics, recipe, source, emissions = {}, {}, None, None
    if details.carbon_intensity is not None and not (folder / METRICS_FILE).is_file():
        raise CardError(f"{folder} records no training whose emissions could be estimated: remove the intensity.")
    if all((folder / record).is_file() for record in (METRICS_FILE, ENVIRONMENT_FILE, "config.yaml")):
        metrics, environment = (
            json.loads((folder / file).read_text("utf-8")) for file in (METRICS_FILE, ENVIRONMENT_FILE)
        )
        recipe, source = read_yaml(folder / "config.yaml"), environment["dataset"]
        facts.update(_training_facts(metrics, environment))
        facts["evidence"] = _evidence_facts(folder, metrics)
        facts |= _recipe_facts(recipe, metrics)
        facts["calibration"] = _calibration_facts(folder, metrics.get("calibration"))
        facts["teacher"] = recipe.get("teacher") and _escape(Path(recipe["teacher"]).name)
        facts["seeds"] = _seed_facts(folder, facts["splits"])
        emissions = _estimate_emissions(metrics, environment, details)
        facts["emissions"] = emissions and _emission_facts(emissions)
    return ModelCard.from_template(
        _card_data(name, facts, recipe, source, metrics, base_model, details, emissions),
        template_path=str(TEMPLATE),
        name=name,
        title=_escape(name),
        trained=bool(metrics),
        base_model=base_model,
        base_revision=base_revision,
        adapter=(folder / "adapter_config.json").exists(),
        media=_media_facts(folder),
        **facts,
    )


def _training_facts(metrics, environment):
    splits = [split for split in ("validation", "test") if split in metrics]
    names = list(dict.fromkeys(name for split in splits for name in metrics[split] if name != "loss"))
    shown = {split: {_escape(name): _format_value(metrics[split].get(name)) for name in names} for split in splits}
    hardware, versions = environment["hardware"], environment.get("versions", {})
    machine = ", ".join(hardware["accelerators"]) or f"{hardware['cores']} cores of {hardware['processor']}"
    return {
        "versions": [_escape(f"{package} {versions[package]}") for package in _VERSIONS if package in versions],
        "dataset": _escape(Path(environment["dataset"]).name),
        "synthetic": environment["dataset"] in (clips.SYNTHETIC, reviews.SYNTHETIC),
        "splits": splits,
        "rows": {split: int(environment["rows"][split]) for split in splits},
        "metrics": shown,
        "cut": [
            f"{_escape(name)} of {int(count):,} rows in {_escape(split)}"
            for split, counts in metrics.get("truncated", {}).items()
            for name, count in counts.items()
            if count
        ],
        "metric_names": list(map(_escape, names)),
        "explained": explain_metrics(map(_escape, names)),
        "undefined": any("-" in values.values() for values in shown.values()),
        **{name: int(metrics[name]) for name in ("seed", "train_samples")},
        "train_seconds": float(metrics["train_seconds"]),
        "hardware": _escape(machine),
    }


def _seed_facts(folder, splits):
    """Returns the metrics over all seeds of a study on the last split as text; `None` without a study."""
    summary = splits and summarize_seeds(folder, splits[-1])
    if not summary:
        return None
    rows = [
        (_escape(name), _format_value(row["mean"]), _format_value(row["std"]), _format_interval(row["interval"]))
        for name, row in summary["metrics"].items()
    ]
    return {"split": splits[-1], "numbers": ", ".join(map(str, summary["seeds"])), "rows": rows}


def _estimate_emissions(metrics, environment, details):
    if details.carbon_intensity is None:
        return None
    return estimate_emissions(
        metrics["train_seconds"], environment["hardware"], details.carbon_intensity, details.watts, details.country
    )


def _emission_facts(emissions):
    """Returns the numbers of an estimate as text."""
    return {
        "grams": f"{emissions.grams:.3g}",
        "seconds": f"{emissions.seconds:g}",
        "watts": f"{emissions.watts:g}",
        "power_source": _escape(emissions.power_source),
        "intensity": f"{emissions.intensity:g}",
        "country": emissions.country and _escape(emissions.country),
    }


def _recipe_facts(recipe, metrics):
    """Describes encoders, epochs and learning rates; runs of earlier versions lack some."""
    fields = {"encoder_a": "Encoder A", "encoder_b": "Encoder B", "text_encoder": "Text encoder"}
    encoders = [f"{word}: {_describe_encoder(recipe[field])}" for field, word in fields.items() if recipe.get(field)]
    if recipe.get("checkpoint"):
        encoders = [f"Continued from {_describe_encoder(recipe['checkpoint'])}"]
    rates = f"{metrics['learning_rate']:g}" if "learning_rate" in metrics else None
    if rates and recipe.get("fusion_learning_rate") is not None:
        rates += f" (fusion and heads {float(recipe['fusion_learning_rate']):g})"
    count = metrics.get("epochs")
    epochs = count and f"{count:g} epoch{'' if count == 1 else 's'}"
    return {"encoders": encoders, "rates": rates, "epochs": epochs, "license": recipe.get("license")}


def _describe_encoder(spec):
    """Describes an encoder of a recipe: a link to the Hub, a folder, weights inside a package, or a new encoder."""
    if isinstance(spec, dict):
        return f"a new {_escape(spec.get('model_type', 'encoder'))}, from random weights"
    if spec == "teacher":
        return "that of the teacher"
    if spec.startswith("package:"):
        return f"`{_escape(spec.removeprefix('package:'))}` (weights inside an installed package)"
    if is_hub_name(spec):
        return f"[{_escape(spec)}](https://huggingface.co/{quote(spec)})"
    return f"`{_escape(Path(spec).name)}` (a local folder)"


def _link_paper(paper):
    """Links the paper of an architecture, such as "arXiv 2512.01410"."""
    number = re.search(r"arXiv (\d{4}\.\d{4,5})", paper)
    return f"[{paper}](https://arxiv.org/abs/{number[1]})" if number else _escape(paper)


def _evidence_facts(folder, metrics):
    """Returns the evidence on the last split as text; `None` without."""
    evidence = metrics.get("evidence")
    if evidence is None:
        return None
    split, part = list(evidence["splits"].items())[-1]
    baselines = part.get("baselines", {})
    rows = evidence.get("training_rows", {})
    return {
        "split": split,
        "rows": f"{int(part['rows']):,}",
        "fitted": f"fitted on {', '.join(f'{int(number):,}' for number in dict.fromkeys(rows.values()))} training rows",
        "has_intensity": any(name.startswith("intensity") for name in part["intervals"]),
        "no_baselines": _escape(evidence.get("no_baselines", "")),
        "baselines": [_escape(name) for name in baselines],
        "compared": [
            [
                _escape(name), _format_value(metrics[split].get(name)), _format_interval(interval),
                *(_format_value(known.get(name)) for known in baselines.values()),
            ]
            for name, interval in part["intervals"].items()
        ],
        "leads": [
            f"Lead over bag of words in `{_escape(name)}`: {lead['mean']:+.4f}"
            + (f" (95 % interval {_format_interval(lead['interval'])})." if lead["interval"] else ".")
            for name, lead in part.get("lead", {}).items()
        ],
        "heads": [
            _class_facts(folder, task, classes, part["confusion"][task]) for task, classes in part["classes"].items()
        ],
        "warnings": [_escape(text) for text in part["warnings"]],
    }  # fmt: skip


def _class_facts(folder, task, classes, confusion):
    """Returns the table of a head's classes as text, with the confusion of a few classes, and its picture."""
    names = [_escape(name) for name in classes]
    shown = len(names) <= MOST_CONFUSED
    rows = [
        [
            name, *(f"{int(counts[count])}" for count in ("rows", "predicted")),
            *(_format_value(counts[share]) for share in ("precision", "recall", "f1")),
            *(f"{int(count)}" for count in (answered if shown else ())),
        ]
        for name, counts, answered in zip(names, classes.values(), confusion, strict=True)
    ]  # fmt: skip
    picture = f"confusion_{task}.png"
    return {
        "task": _escape(task),
        "rows": rows,
        "answers": names if shown else [],
        "picture": picture if (folder / picture).is_file() else None,
    }


def _calibration_facts(folder, record):
    """Returns the numbers of a calibration as text, and its pictures; `None` without one, and if it failed why."""
    if record is None:
        return None
    if "problem" in record:
        return {"problem": _escape(record["problem"])}
    splits = {split: record[split] for split in ("validation", "test") if split in record}
    shown = shown_split(record)
    sides = [record[shown][side] for side in ("before", "after")]
    pictures = (
        f"{CALIBRATION_FOLDER}/{name}.png" for name in ("reliability_fine", "reliability_coarse", "risk_coverage")
    )
    return {
        "temperatures": [
            f"{record[name]:.3f} for the {head}"
            for name, head in (("temperature", "fine"), ("coarse_temperature", "coarse"))
            if name in record
        ],
        "dataset": record.get("dataset") and _escape(record["dataset"]),
        "not_fitted": [_escape(f"{name}: {reason}") for name, reason in record["not_fitted"].items()],
        "split": f"{shown} ({int(record[shown]['rows'])} reviews)",
        "metrics": {_escape(name): [_format_value(side[name]) for side in sides] for name in sides[0]},
        "target_accuracy": record["target_accuracy"],
        "abstain_below": record["abstain_below"] and f"{record['abstain_below']:.3f}",
        "answered": [
            (split, _format_share(part["coverage"]), _format_share(part["answered_accuracy"]))
            for split, part in splits.items()
            if "coverage" in part
        ],
        "pictures": [picture for picture in pictures if (folder / picture).is_file()],
    }


def shown_split(record: dict) -> str:
    """Returns the split of a calibration whose metrics the card shows: the last one with labels of classes."""
    *_, shown = (split for split in ("validation", "test") if record.get(split, {}).get("after"))
    return shown


def _model_facts(folder):
    path = folder / "config.json"
    if not path.exists():  # a LoRA adapter: the configuration is in its base model's repository
        path = folder / "base" / "config.json"
    config = AutoConfig.from_pretrained(path.parent, trust_remote_code=False)
    modalities = [name for name in MODALITIES if name in config.modalities]
    shapes = {  # of an example
        name: (min(40, getattr(config, f"max_{name}_length")), getattr(config, f"{name}_feature_size"))
        for name in modalities
        if name in config.frame_columns
    }
    example = ['"text": "It was better than I thought."'] if "text" in modalities else []
    return {
        "model_type": config.model_type,
        "architecture": _escape(type(config).__name__.removesuffix("Config")),
        "paper": config.paper and _link_paper(config.paper),
        "reads_clips": bool(config.frame_columns),
        "unit": "clip" if config.frame_columns else "review",
        "outputs": [_describe_head(head, config) for head in config.heads.values()],
        "modalities": modalities,
        "frames": [f"{name} frames have {width} features" for name, (_, width) in shapes.items()],
        "pipeline_tag": pipeline_tag(config),
        "shapes": shapes,
        "has_classes": config.num_labels > 1,
        "example": example + [f'"{name}": np.zeros({shape})' for name, shape in shapes.items()],
    }


def pipeline_tag(config) -> str:
    """Returns the task of the Hub that fits a configuration; those for clips answer with classes or scores as well."""
    if "vision" in config.frame_columns or "vision" in config.modalities:
        return "video-classification"
    return "audio-classification" if "audio" in config.modalities else "text-classification"


def _media_facts(folder):
    """For each stream that is extracted from media: `frames`, `rate`, `source` and `license` of the network."""
    path = folder / "processor_config.json"
    if not path.is_file():
        return []
    values = (json.loads(path.read_text("utf-8")).get("feature_extractor") or {}).get("media")
    if values is None:
        return []
    settings = MediaSettings.from_dict(values)
    streams = [(getattr(settings, name), getattr(settings, f"{name}_rate")) for name in MODALITIES[1:]]
    facts = [{"kind": kind, "frames": _FRAMES[kind], "rate": rate, **_network_facts(folder, kind)}
             for kind, rate in streams if kind]  # fmt: skip
    return [*facts, {"kind": "asr", "source": _escape(settings.asr)}] if settings.asr else facts


def _network_facts(folder, kind):
    path = folder / WEIGHT_FILES.get(kind, "")
    if kind not in WEIGHT_FILES or not path.is_file():
        return {}
    try:
        with safe_open(path, framework="np") as content:
            metadata = content.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path.name}: {error}") from error
    known = metadata.get("license", _LICENSES.get(kind, "unknown"))
    return {"file": path.name, "source": _escape(metadata.get("source", "unknown")), "license": _escape(known)}


def _describe_head(head, config):
    """Describes the task of a head in words, with its classes or its range."""
    names = list(map(_escape, getattr(config, head.names).values())) if head.names else []
    if head.task == "prediction" and config.num_labels == 1:
        return "a sentiment score from {:g} to {:g}".format(*map(float, config.label_range))
    if head.task == "prediction" and config.problem_type == "multi_label_classification":
        return f"any number of the labels {', '.join(names)}"
    if head.task == "prediction":
        return f"the classes {', '.join(names)}"
    if names:
        return f"{head.task} sentiment ({', '.join(names)})"
    return "an {} from {:g} to {:g}".format(head.task, *map(float, getattr(config, f"{head.task}_range")))


def _card_data(name, facts, recipe, source, metrics, adapted, details, emissions):
    base_models, relation = _find_base_models(recipe, adapted)
    is_public = source and (_is_public_dataset(source) if details.dataset is None else details.dataset)
    results = _list_results(metrics, source, is_public, facts["pipeline_tag"])
    known = recipe.get("language") or _LANGUAGES.get(source)
    languages = list(details.languages or ([known] if known else details.dataset_languages))
    is_tried_in_english = not facts["reads_clips"] and (not languages or "en" in languages)
    optional = {
        "base_model_relation": relation,
        "new_version": details.new_version,
        "widget": _WIDGET if is_tried_in_english else None,
        "co2_eq_emissions": emissions and _emission_data(emissions, bool(base_models or recipe.get("checkpoint"))),
    }
    return ModelCardData(
        language=languages[0] if len(languages) == 1 else languages or None,
        library_name="peft" if adapted else "transformers",
        license=recipe.get("license"),
        pipeline_tag=facts["pipeline_tag"],
        tags=["sentiment-analysis", facts["model_type"], "hf-fusion"],
        base_model=base_models or None,
        model_name=name.rpartition("/")[2],
        datasets=[source] if is_public else None,
        metrics=[result.metric_type for result in results] or None,
        eval_results=results or None,
        **{name: value for name, value in optional.items() if value is not None},
    )


def _find_base_models(recipe, adapted):
    """Returns the models of the Hub that the weights come from, and their relation to this one."""
    if adapted:
        return [adapted], "adapter"
    names = [recipe.get(field) for field in ("checkpoint", "encoder_a", "encoder_b", "text_encoder")]
    names = list(dict.fromkeys(name for name in names if isinstance(name, str) and is_hub_name(name)))
    return names, "finetune" if names else None


def _list_results(metrics, source, is_public, pipeline_tag):
    """Returns the metrics on test for the metadata, or on validation where there is no test split."""
    split = "test" if "test" in metrics else "validation"
    return [
        EvalResult(
            task_type=pipeline_tag,
            dataset_type=source if is_public else Path(source).name,
            dataset_name=Path(source).name,
            dataset_split=split,
            metric_type=metric,
            metric_value=value,
        )
        for metric, value in metrics.get(split, {}).items()
        if metric != "loss" and value is not None
    ]


def _emission_data(emissions, is_finetuned):
    return {
        "emissions": float(f"{emissions.grams:.3g}"),
        "source": f"training time * {emissions.watts:g} W ({emissions.power_source}) * {emissions.intensity:g} g/kWh",
        "training_type": "fine-tuning" if is_finetuned else "pre-training",
        **({"geographical_location": emissions.country} if emissions.country else {}),
    }


def _is_public_dataset(source):
    """Whether data was loaded by a name of the Hub."""
    return is_hub_name(source) and "/" in source and not source.lower().endswith(DATA_FILE_KINDS)


def is_hub_name(name: str) -> bool:
    """Whether a name is valid on the Hub and is not a local folder."""
    return re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name) is not None and not Path(name).exists()


def _escape(text):
    """Escapes untrusted text for one line of Markdown: it cannot end a code span, a table cell or an HTML element."""
    return escape(" ".join(str(text).split()).replace("`", "'").replace("|", "/"), quote=False)


def _format_interval(interval):
    return "-" if interval is None else " to ".join(map(_format_value, interval))


def _format_share(value):
    return "-" if value is None else f"{value:.1%}"


def _format_value(value):
    return "-" if value is None else f"{value:.4f}"
