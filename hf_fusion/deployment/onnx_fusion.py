"""The `fusion-sentiment` pipeline for exported models, on ONNX Runtime without torch."""

import json
from pathlib import Path

import numpy as np
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from hf_fusion.deployment.answer_config import config_class_of, read_answer_config
from hf_fusion.deployment.export_folder import ONNX_DESCRIPTION
from hf_fusion.hub.checkpoint_names import no_such_folder
from hf_fusion.models.configuration_common import as_value_error, head_widths
from hf_fusion.models.pipeline_common import (
    ANSWER_OPTIONS,
    DEFAULT_BATCH_SIZE,
    EARLIER_WINDOWS,
    WINDOW_SUMS,
    WINDOW_TEXTS,
    FusionSentimentAnswers,
    without_truncation,
)
from hf_fusion.models.pipeline_media import OPTIONS as MEDIA_OPTIONS
from hf_fusion.utils.extras import import_extra

GRAPH_FILE = "model.onnx"
DESCRIPTION_FILE = ONNX_DESCRIPTION
FORMAT = 1  # version of the description file

_OPTIONS = (*ANSWER_OPTIONS, *MEDIA_OPTIONS)
_TYPES = {"tensor(int64)": np.int64, "tensor(float)": np.float32}


class OnnxModel:
    """
    The graph of an exported folder. It is called with arrays in the same way as the model with tensors.

    Args:
        folder (`str` or `os.PathLike`): a folder that `hf-fusion export` wrote.
        num_threads (`int`, *optional*): the number of threads of ONNX Runtime; all cores by default.

    Attributes:
        config (`SimpleNamespace`): the fields of the model's configuration for predictions: labels, ranges ...
        description (`dict`): the description of the export.
        widths (`dict[str, tuple]`): the shape of a row of each output.
        reads_windows (`bool`): whether the graph can read a text in several windows; those of earlier versions cannot.

    Raises:
        ImportError: if `onnxruntime` is not installed.
        ValueError: if the folder is not an export, has another format, or is damaged; the message names the file.
    """

    def __init__(self, folder, num_threads=None):
        self.description = read_description(folder)
        with as_value_error(_damaged(Path(folder) / DESCRIPTION_FILE)):
            self.config = read_answer_config(self.description.get("config"))
        self.widths = head_widths(self.config)
        self.session = _session(Path(folder) / GRAPH_FILE, num_threads)
        self._inputs = {node.name: node for node in self.session.get_inputs()}
        self.reads_windows = WINDOW_TEXTS in self._inputs
        with as_value_error(_damaged(Path(folder) / GRAPH_FILE)):
            self._check_graph()

    @property
    def input_names(self):
        """`list[str]`: the names of the graph's inputs."""
        return list(self._inputs)

    @property
    def window_width(self):
        """`int`: the number of values of a text in `window_sums`."""
        return self._inputs[EARLIER_WINDOWS].shape[1]

    def _check_graph(self):
        """Raises `ValueError` unless the graph has the outputs of the model and inputs of supported types."""
        rows = {node.name: tuple(node.shape[1:]) for node in self.session.get_outputs() if node.type == "tensor(float)"}
        for name, width in self.widths.items():
            if rows.get(name) != width:
                raise ValueError(f"its `{name}` has rows of {rows.get(name)}, {DESCRIPTION_FILE} says {width}.")
        for name, node in self._inputs.items():
            if node.type not in _TYPES or not all(isinstance(size, int) for size in node.shape[2:]):
                raise ValueError(f"its input {name!r} is a {node.type} of the shape {node.shape}.")
        if self.reads_windows and not (EARLIER_WINDOWS in self._inputs and isinstance(self.window_width, int)):
            raise ValueError(f"it has the input {WINDOW_TEXTS!r} without the sums that belong to it.")

    def __call__(self, **inputs):
        """
        Args:
            inputs (`np.ndarray`): the inputs with the names and axes in `description["inputs"]`. Other names are
                ignored. The inputs of a modality may be left out if all clips lack it, those for windows if each row
                is a text.

        Returns:
            `dict[str, np.ndarray]`: `logits`, and `coarse_logits` and `intensity` for a DyFuLM with these heads; with
            `window_texts` also `window_sums`.

        Raises:
            ValueError: if ONNX Runtime cannot compute the graph.
        """
        size = len(next(iter(inputs.values())))
        feed = {
            name: inputs[name].astype(_TYPES[node.type], copy=False) if name in inputs else _padding_input(node, size)
            for name, node in self._inputs.items()
        }
        names = [*self.widths, *([WINDOW_SUMS] if WINDOW_TEXTS in inputs else [])]
        with as_value_error("ONNX Runtime cannot compute the graph"):
            return dict(zip(names, self.session.run(names, feed), strict=True))


class OnnxFusion(FusionSentimentAnswers):
    """
    The `fusion-sentiment` pipeline for an exported model: same inputs, options, answers and errors, without torch.

        classify = OnnxFusion.from_pretrained("exported/")
        classify("The room was not clean, but the staff was wonderful.")
        classify([{"text": "Fine.", "audio": frames}], batch_size=8)

    See [`FusionSentimentPipeline`] for inputs and answers. Long texts are read whole, as there; a graph that an
    earlier version exported cuts them, and says so. `explain` is not supported, since it needs gradients. Media files
    are read where torch is installed, or by another processor's `read_media`, whose clips are inputs too.

    Args:
        model ([`OnnxModel`]): the graph.
        processor ([`DyFuLMProcessor`] or [`DashFusionProcessor`]): its processor.
    """

    tensor_type = "np"
    runs_on_cpu = True

    def __init__(self, model, processor):
        self.model = model
        self.processor = processor

    @classmethod
    def from_pretrained(cls, folder, num_threads=None):
        """Loads a folder that `hf-fusion export` wrote. No code in it is executed. See [`OnnxModel`] for errors."""
        model = OnnxModel(folder, num_threads)
        with as_value_error(_damaged(f"The processor in {folder}")):
            processor = PROCESSOR_MAPPING[config_class_of(model.config.model_type)].from_pretrained(
                folder, trust_remote_code=False
            )
            unknown = sorted(set(model.input_names) - {*processor.model_input_names, WINDOW_TEXTS, EARLIER_WINDOWS})
            if unknown:
                raise ValueError(f"it does not make the input {unknown[0]!r} of the graph.")
        return cls(model, processor)

    def __call__(self, inputs, batch_size=None, **options):
        batch_size = DEFAULT_BATCH_SIZE if batch_size is None else batch_size
        options = without_truncation(options)
        unknown = sorted(set(options) - set(_OPTIONS))
        if unknown:
            accepted = ", ".join(f"`{name}`" for name in ("batch_size", *_OPTIONS))
            raise ValueError(f"Unknown argument {', '.join(f'`{name}`' for name in unknown)}: accepted are {accepted}.")
        return self.answers_to(inputs, batch_size, options)

    def forward(self, batch):
        """Computes the outputs of the model by name for the tensors of a batch."""
        outputs = self.model(**batch)
        rows = len(batch[EARLIER_WINDOWS] if EARLIER_WINDOWS in batch else next(iter(batch.values())))
        for name, values in outputs.items():
            width = (self.model.window_width,) if name == WINDOW_SUMS else self.model.widths[name]
            if values.shape != (rows, *width) or not np.isfinite(values).all():
                raise ValueError(_damaged("The graph") + f": it gives no finite `{name}` for each input.")
        return outputs

    @property
    def reads_windows(self):
        """`bool`: whether the graph reads a text that is too long for it in several windows."""
        return self.model.reads_windows

    @property
    def whole_text_advice(self):
        """`str`: the way to answers of whole texts."""
        if self.model.config.reads_windows and not self.reads_windows:
            return "The graph is of an earlier version: export the checkpoint again to read long texts whole."
        return super().whole_text_advice

    def no_windows(self, count):
        """`earlier_windows` for so many texts of which no window was read yet."""
        return np.zeros((count, self.model.window_width), dtype=np.float32)

    def to_array(self, values, activation=None, temperature=1.0):
        """Applies `activation` ("softmax", "sigmoid" or `None`) to an output divided by `temperature`."""
        values = values / np.float32(temperature)
        if activation == "softmax":
            values = np.exp(values - values.max(axis=-1, keepdims=True))
            return values / values.sum(axis=-1, keepdims=True)
        if activation == "sigmoid":
            return np.exp(-np.logaddexp(0, -values))
        return values


def read_description(folder):
    """Reads the description of an export; raises `ValueError` if there is none, or it has another format."""
    if not Path(folder).is_dir():
        raise ValueError(no_such_folder(str(folder)))
    path = Path(folder) / DESCRIPTION_FILE
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{folder} is not an exported model: {DESCRIPTION_FILE} cannot be read ({error}). Pass a folder that "
            "`hf-fusion export` wrote."
        ) from error
    version = description.get("format") if isinstance(description, dict) else None
    if version != FORMAT:
        raise ValueError(
            f"{path} has the format {version!r:.100}, this version reads {FORMAT}: export the checkpoint again."
        )
    return description


def _damaged(what):
    return f"{what} is damaged, export the checkpoint again"


def _session(path, num_threads):
    onnxruntime = import_extra("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or 0
    with as_value_error(f"{path} cannot be loaded, export the checkpoint again"):
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _padding_input(node, size):
    """Creates an input that is not given: a modality that all rows lack is one position of padding, a row is a text."""
    if node.name == WINDOW_TEXTS:
        return np.arange(size)
    if node.name == EARLIER_WINDOWS:
        return np.zeros((size, node.shape[1]), dtype=np.float32)
    shape = [size, 1, *node.shape[2:]]
    return np.full(shape, -1 if node.name.startswith("span_ids") else 0, dtype=_TYPES[node.type])
