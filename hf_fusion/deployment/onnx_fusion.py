"""Exported models in use: the answers of the `fusion-sentiment` pipeline from ONNX Runtime, without torch."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from hf_fusion.models.pipeline_common import DEFAULT_BATCH_SIZE, FusionSentimentAnswers
from hf_fusion.models.processing_dashfusion import DashFusionProcessor
from hf_fusion.models.processing_dyfulm import DyFuLMProcessor

GRAPH_FILE = "model.onnx"
DESCRIPTION_FILE = "onnx_fusion.json"
FORMAT = 1  # of the description
PROCESSORS = {"dyfulm": DyFuLMProcessor, "dashfusion": DashFusionProcessor}
NEEDS_ONNX = "This needs the extra `onnx`: pip install 'hf-fusion[onnx]'"

_TYPES = {"tensor(int64)": np.int64, "tensor(float)": np.float32}


class OnnxModel:
    """
    The graph of an exported folder, called like the model that it was made from, with arrays.

    Args:
        folder (`str` or `os.PathLike`): what `scripts/export.py` wrote.
        num_threads (`int`, *optional*): of ONNX Runtime; by default its own choice, all cores.

    Attributes:
        config (`SimpleNamespace`): what answers need of the model's configuration: `model_type`, labels, ranges.
        description (`dict`): the whole description of the export.

    Raises:
        ImportError: if `onnxruntime` is not installed.
        ValueError: if the folder is no export, or one that this version cannot read.
    """

    def __init__(self, folder, num_threads=None):
        self.description = read_description(folder)
        self.config = SimpleNamespace(**self.description["config"])
        for field in ("id2label", "coarse_id2label"):  # JSON has no numbers as keys
            if hasattr(self.config, field):
                setattr(self.config, field, {int(i): name for i, name in getattr(self.config, field).items()})
        self.session = _session(Path(folder) / GRAPH_FILE, num_threads)
        self._inputs = {node.name: node for node in self.session.get_inputs()}

    def __call__(self, **inputs):
        """
        Args:
            inputs (`np.ndarray`): by the names in `description["inputs"]`, of these axes. Others are ignored; those of
                a modality that all clips lack may be absent.

        Returns:
            `dict[str, np.ndarray]`: `logits`, and for a DyFuLM `coarse_logits` and `intensity`.
        """
        size = len(next(iter(inputs.values())))
        feed = {
            name: inputs[name].astype(_TYPES[node.type], copy=False) if name in inputs else _nothing(node, size)
            for name, node in self._inputs.items()
        }
        names = self.description["outputs"]
        return dict(zip(names, self.session.run(names, feed), strict=True))


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
        """Loads what `scripts/export.py` wrote; see [`OnnxModel`] for arguments and errors. No code is executed."""
        model = OnnxModel(folder, num_threads)
        return cls(model, PROCESSORS[model.config.model_type].from_pretrained(folder))

    def __call__(self, inputs, batch_size=None, **options):
        batch_size = DEFAULT_BATCH_SIZE if batch_size is None else batch_size
        unknown = sorted(set(options) - {"top_k"})
        if unknown:
            raise ValueError(f"Unknown argument {', '.join(unknown)}: `batch_size` and `top_k` are accepted.")
        return self.answers_to(inputs, batch_size, options)

    def forward(self, batch):
        """The tensors of a batch -> the outputs of the model by name."""
        return self.model(**batch)

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
    path = Path(folder) / DESCRIPTION_FILE
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} is no exported model: {DESCRIPTION_FILE} cannot be read ({error}). Give a folder that "
            "scripts/export.py wrote."
        ) from error
    found = description.get("format") if isinstance(description, dict) else None
    if found != FORMAT:
        raise ValueError(f"{path} has the format {found!r}, this version reads {FORMAT}: export the checkpoint anew.")
    return description


def _session(path, num_threads):
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(NEEDS_ONNX) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or 0
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class of its own for each kind
        raise ValueError(f"{path} cannot be loaded: {error}") from error


def _nothing(node, size):
    """An input that every row lacks: one position of padding."""
    shape = [size, 1, *node.shape[2:]]
    return np.full(shape, -1 if node.name.startswith("span_ids") else 0, dtype=_TYPES[node.type])
