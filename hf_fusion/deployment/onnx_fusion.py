"""Exported models in use: the answers of the `fusion-sentiment` pipeline from ONNX Runtime, without torch."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from hf_fusion.hub.checkpoint_names import no_such_folder
from hf_fusion.models.configuration_common import (
    FusionConfigMixin,
    as_tuple,
    as_value_error,
    check_choice,
    check_probability,
    check_range,
    head_widths,
    label_names,
)
from hf_fusion.models.configuration_dashfusion import DashFusionConfig, check_modalities
from hf_fusion.models.pipeline_common import DEFAULT_BATCH_SIZE, FusionSentimentAnswers
from hf_fusion.utils.extras import import_extra

GRAPH_FILE = "model.onnx"
DESCRIPTION_FILE = "onnx_fusion.json"
FORMAT = 1  # of the description

_TYPES = {"tensor(int64)": np.int64, "tensor(float)": np.float32}


class OnnxModel:
    """
    The graph of an exported folder, called like the model that it was made from, with arrays.

    Args:
        folder (`str` or `os.PathLike`): what `hf-fusion export` wrote.
        num_threads (`int`, *optional*): of ONNX Runtime; by default its own choice, all cores.

    Attributes:
        config (`SimpleNamespace`): the part of the model's configuration that answers need: labels, ranges ...
        description (`dict`): the whole description of the export.
        widths (`dict[str, tuple]`): of each output the shape of a row.

    Raises:
        ImportError: if `onnxruntime` is not installed.
        ValueError: if the folder is no export, one that this version cannot read, or damaged; names the file.
    """

    def __init__(self, folder, num_threads=None):
        self.description = read_description(folder)
        with as_value_error(_damaged(Path(folder) / DESCRIPTION_FILE)):
            self.config = _config_of(self.description.get("config"))
        self.widths = head_widths(self.config)
        self.session = _session(Path(folder) / GRAPH_FILE, num_threads)
        self._inputs = {node.name: node for node in self.session.get_inputs()}
        with as_value_error(_damaged(Path(folder) / GRAPH_FILE)):
            self._check_graph()

    @property
    def input_names(self):
        """`list[str]`: what the graph reads."""
        return list(self._inputs)

    def _check_graph(self):
        """Raises `ValueError` unless the graph has the outputs of the model, and inputs that arrays can be made for."""
        rows = {node.name: tuple(node.shape[1:]) for node in self.session.get_outputs() if node.type == "tensor(float)"}
        for name, width in self.widths.items():
            if rows.get(name) != width:
                raise ValueError(f"its `{name}` has rows of {rows.get(name)}, {DESCRIPTION_FILE} says {width}.")
        for name, node in self._inputs.items():
            if node.type not in _TYPES or not all(isinstance(size, int) for size in node.shape[2:]):
                raise ValueError(f"its input {name!r} is a {node.type} of the shape {node.shape}.")

    def __call__(self, **inputs):
        """
        Args:
            inputs (`np.ndarray`): by the names in `description["inputs"]`, of these axes. Others are ignored; those of
                a modality that all clips lack may be absent.

        Returns:
            `dict[str, np.ndarray]`: `logits`, and for a DyFuLM `coarse_logits` and `intensity`.

        Raises:
            ValueError: if ONNX Runtime cannot compute the graph.
        """
        size = len(next(iter(inputs.values())))
        feed = {
            name: inputs[name].astype(_TYPES[node.type], copy=False) if name in inputs else _nothing(node, size)
            for name, node in self._inputs.items()
        }
        with as_value_error("ONNX Runtime cannot compute the graph"):
            return dict(zip(self.widths, self.session.run(list(self.widths), feed), strict=True))


class OnnxFusion(FusionSentimentAnswers):
    """
    The `fusion-sentiment` pipeline on an exported model: same inputs, options, answers and errors, without torch.

        classify = OnnxFusion.from_pretrained("exported/")
        classify("The room was not clean, but the staff was wonderful.")
        classify([{"text": "Fine.", "audio": frames}], batch_size=8)

    See [`FusionSentimentPipeline`] for inputs and answers; `explain` needs gradients and is not there.

    Args:
        model ([`OnnxModel`]): the graph.
        processor ([`DyFuLMProcessor`] or [`DashFusionProcessor`]): makes its inputs.
    """

    tensor_type = "np"
    runs_on_cpu = True

    def __init__(self, model, processor):
        self.model = model
        self.processor = processor

    @classmethod
    def from_pretrained(cls, folder, num_threads=None):
        """Loads what `hf-fusion export` wrote; see [`OnnxModel`] for arguments and errors. No code is executed."""
        model = OnnxModel(folder, num_threads)
        with as_value_error(_damaged(f"The processor in {folder}")):
            processor = PROCESSOR_MAPPING[_config_class(model.config.model_type)].from_pretrained(
                folder, trust_remote_code=False
            )
            unknown = sorted(set(model.input_names) - set(processor.model_input_names))
            if unknown:
                raise ValueError(f"it does not make the input {unknown[0]!r} of the graph.")
        return cls(model, processor)

    def __call__(self, inputs, batch_size=None, **options):
        batch_size = DEFAULT_BATCH_SIZE if batch_size is None else batch_size
        unknown = sorted(set(options) - {"top_k", "return_truncated", "on_error"})
        if unknown:
            accepted = "`batch_size`, `top_k`, `return_truncated` and `on_error`"
            raise ValueError(f"Unknown argument {', '.join(unknown)}: {accepted} are accepted.")
        return self.answers_to(inputs, batch_size, options)

    def forward(self, batch):
        """The tensors of a batch -> the outputs of the model by name."""
        outputs = self.model(**batch)
        rows = len(next(iter(batch.values())))
        for name, values in outputs.items():
            if values.shape != (rows, *self.model.widths[name]) or not np.isfinite(values).all():
                raise ValueError(_damaged("The graph") + f": it gives no finite `{name}` for each input.")
        return outputs

    def to_array(self, values, activation=None):
        """An output after `activation` ("softmax", "sigmoid" or `None`)."""
        if activation == "softmax":
            values = np.exp(values - values.max(axis=-1, keepdims=True))
            return values / values.sum(axis=-1, keepdims=True)
        if activation == "sigmoid":
            return np.exp(-np.logaddexp(0, -values))
        return values


def read_description(folder):
    """The description of an export; raises `ValueError` if the folder is none, or is of another version."""
    if not Path(folder).is_dir():
        raise ValueError(no_such_folder(str(folder)))
    path = Path(folder) / DESCRIPTION_FILE
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{folder} is no exported model: {DESCRIPTION_FILE} cannot be read ({error}). Give a folder that "
            "`hf-fusion export` wrote."
        ) from error
    found = description.get("format") if isinstance(description, dict) else None
    if found != FORMAT:
        raise ValueError(
            f"{path} has the format {found!r:.100}, this version reads {FORMAT}: export the checkpoint anew."
        )
    return description


def _config_class(model_type):
    """The configuration class of a registered model of this package; raises `ValueError` if there is none."""
    known = isinstance(model_type, str) and model_type in CONFIG_MAPPING
    config_class = CONFIG_MAPPING[model_type] if known else object
    if not issubclass(config_class, FusionConfigMixin):
        raise ValueError(f"`model_type` must be that of a model of this package, got {model_type!r:.100}.")
    return config_class


def _config_of(fields):
    """The part of a model's configuration that answers need; raises `ValueError` if it is incomplete; names the
    field."""
    if not isinstance(fields, dict):
        raise ValueError(f"`config` must be a mapping, got {fields!r:.100}.")
    config_class = _config_class(fields.get("model_type"))
    config = SimpleNamespace(model_type=config_class.model_type)
    for name in ("heads", "modalities", "frame_columns"):
        setattr(config, name, getattr(config_class, name))
    for name in config_class.answer_fields:
        setattr(config, name, _checked(name, fields.get(name)))
    config.num_labels = len(config.id2label)
    return config


def _checked(name, value):
    """A field of a configuration as answers need it; raises `ValueError` if it has no sensible value."""
    if name.endswith("id2label"):
        return label_names(name, value)
    if name == "problem_type":
        check_choice(name, value, DashFusionConfig.choices(name))
    elif name in ("modality_dropout", "modality_distillation"):
        check_probability(name, value)
    elif name.endswith("_range"):
        value = as_tuple(name, value)
        check_range(name, value)
    elif name == "modalities":
        value = as_tuple(name, value)
        check_modalities(value)
    return value


def _damaged(what):
    return f"{what} is damaged, export the checkpoint anew"


def _session(path, num_threads):
    onnxruntime = import_extra("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or 0
    with as_value_error(f"{path} cannot be loaded, export the checkpoint anew"):
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _nothing(node, size):
    """An input that every row lacks: one position of padding."""
    shape = [size, 1, *node.shape[2:]]
    return np.full(shape, -1 if node.name.startswith("span_ids") else 0, dtype=_TYPES[node.type])
