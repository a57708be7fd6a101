"""What the configurations of all architectures have in common."""


def check_choice(name, value, choices):
    """Raises `ValueError` if `value` is none of `choices`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}.")


def check_positive_integers(config, names):
    """Raises `ValueError` if one of the fields `names` is no integer of at least 1."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")


def check_range(name, value):
    """Raises `ValueError` unless `value` is (lowest, highest)."""
    if len(value) != 2 or not value[0] < value[1]:
        raise ValueError(f"`{name}` must be (lowest, highest), got {value!r}.")


def named_labels(names, count):
    """Readable names where the number of classes is the usual one, else LABEL_0, LABEL_1 ..."""
    return dict(enumerate(names)) if len(names) == count else {i: f"LABEL_{i}" for i in range(count)}


def add_code_map(kwargs, architecture):
    """Names the code of an architecture ("DyFuLM") in the keyword arguments of its configuration.

    `save_pretrained` records only the class that saves; a checkpoint serves every Auto class and the pipeline.
    """
    suffix = architecture.lower()
    kwargs["auto_map"] = {
        "AutoConfig": f"configuration_{suffix}.{architecture}Config",
        "AutoModel": f"modeling_{suffix}.{architecture}Model",
        "AutoModelForSequenceClassification": f"modeling_{suffix}.{architecture}ForSequenceClassification",
        **(kwargs.get("auto_map") or {}),
    }
    kwargs["custom_pipelines"] = {
        "fusion-sentiment": {
            "impl": "pipeline_fusion_sentiment.FusionSentimentPipeline",
            "pt": ["AutoModelForSequenceClassification"],
            "type": "text",
        },
        **(kwargs.get("custom_pipelines") or {}),
    }
