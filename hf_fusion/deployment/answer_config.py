"""The fields of a configuration that turn outputs into answers, for models and files without the configuration."""

from types import SimpleNamespace
from typing import Any

from transformers import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hf_fusion.models.configuration_common import (
    FusionConfigMixin,
    as_tuple,
    check_boolean,
    check_choice,
    check_class_values,
    check_coarse_starts,
    check_positive,
    check_probability,
    check_range,
    label_names,
    present_heads,
)
from hf_fusion.models.configuration_dashfusion import DashFusionConfig, check_modalities


def answer_fields(config: PretrainedConfig) -> dict[str, Any]:
    """Returns `model_type` and the `answer_fields` of a configuration, as values for JSON."""
    return {name: getattr(config, name) for name in ("model_type", *config.answer_fields)}


def read_answer_config(fields: Any) -> SimpleNamespace:
    """
    Returns a configuration with the fields for answers alone: those of [`answer_fields`], `heads`, `modalities`,
    `frame_columns`, `class_values` and `reads_windows`.

    Args:
        fields: the result of [`answer_fields`], read from a file.

    Raises:
        ValueError: if `fields` is no mapping, a field is missing or not valid, or the model is not one of this package.
    """
    if not isinstance(fields, dict):
        raise ValueError(f"`config` must be a mapping, got {fields!r:.100}.")
    config_class = config_class_of(fields.get("model_type"))
    config = SimpleNamespace(model_type=config_class.model_type)
    for name in ("modalities", "frame_columns", "answer_fields", "class_values", "reads_windows"):
        setattr(config, name, getattr(config_class, name))
    for name in config_class.answer_fields:
        value = fields.get(name, config_class.answer_defaults.get(name))
        setattr(config, name, _check_field(name, value))
    config.num_labels = len(config.id2label)
    config.heads = present_heads(config_class.heads, config)
    check_class_values(config.class_values, config.num_labels)
    if "coarse_logits" in config_class.heads:
        check_coarse_starts(config.coarse_starts, len(config.coarse_id2label), config.num_labels)
    return config


def config_class_of(model_type):
    """Returns the configuration class of a model of this package; raises `ValueError` for other types."""
    known = isinstance(model_type, str) and model_type in CONFIG_MAPPING
    config_class = CONFIG_MAPPING[model_type] if known else object
    if not issubclass(config_class, FusionConfigMixin):
        raise ValueError(f"`model_type` must be one of this package's models, got {model_type!r:.100}.")
    return config_class


def _check_field(name, value):
    """Returns the value of a field; raises `ValueError` if it is not valid."""
    if name.endswith("id2label"):
        return label_names(name, value)
    if name == "problem_type":
        check_choice(name, value, DashFusionConfig.choices(name))
    elif name in ("modality_dropout", "modality_distillation") or (name == "abstain_below" and value is not None):
        check_probability(name, value)
    elif name in ("temperature", "coarse_temperature"):
        check_positive(name, value)
    elif name == "has_intensity":
        value = value is None or value  # files without the field are of models with all heads
        check_boolean(name, value)
    elif name.endswith("_range"):
        value = as_tuple(name, value)
        check_range(name, value)
    elif name == "modalities":
        value = as_tuple(name, value)
        check_modalities(value)
    return value
