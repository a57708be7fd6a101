"""Exports a model to ONNX with dynamic batch and lengths, and checks it against PyTorch. Needs the extra `onnx`."""

# `OnnxExporter` of transformers passes the same check, but it needs transformers 5.13 and torch 2.11, and calls itself
# experimental. Its files hold paths of the machine and unnamed axes, so most of the code below would stay.

import logging
import math
import shutil
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hf_fusion.deployment.answer_config import answer_fields
from hf_fusion.deployment.export_folder import ExportError, export_folder
from hf_fusion.deployment.onnx_fusion import DESCRIPTION_FILE, FORMAT, GRAPH_FILE, OnnxModel
from hf_fusion.models.pipeline_common import EARLIER_WINDOWS, WINDOW_SUMS, WINDOW_TEXTS
from hf_fusion.utils.extras import import_extra
from hf_fusion.utils.records import installed_version, write_json

OPSET = 20  # the first opset with GELU as one operator
TOLERANCE = 1e-4

_PACKAGES = ("hf-fusion", "torch", "transformers", "onnx", "onnxruntime", "onnxscript")
_MOST_ROWS = 5
_LARGEST_FILE = 1_900_000_000  # bytes; protobuf limits a file to 2 GiB


def export_onnx(model, processor, folder, int8=False, num_checks=200, seed=0, track=iter):
    """
    Exports a model to a folder for [`OnnxFusion`]: graph, processor and description.

    Args:
        model ([`DyFuLMForSequenceClassification`] or [`DashFusionForSequenceClassification`]): the model, in float32 on
            the CPU.
        processor ([`DyFuLMProcessor`] or [`DashFusionProcessor`]): the processor of the model.
        folder (`str` or `os.PathLike`): the output folder. An earlier export is replaced once the new one is complete.
        int8 (`bool`, *optional*, defaults to `False`): whether to quantise the weights of linear layers to 8 bits.
            Activations are quantised dynamically.
        num_checks (`int`, *optional*, defaults to 200): the number of random batches on which the graph is compared
            with PyTorch.
        seed (`int`, *optional*, defaults to 0): the seed of these batches.
        track (`Callable`, *optional*, defaults to `iter`): wraps the iterable of batch numbers, for a progress bar.

    Returns:
        `dict`: the description with the keys `config`, `inputs` (their axes), `outputs`, `limits` (of the axes),
        `opset`, `precision`, `check` (`batches`, `seed`, `largest_difference` of all outputs, `where` it occurs, and
        with int8 `largest_difference_int8`) and `versions`.

    Raises:
        ExportError: if the folder holds other files, or an output of the float32 graph differs by more than 1e-4.
        ImportError: if the extra `onnx` is not installed.
    """
    if num_checks < 1:
        raise ExportError(f"`num_checks` must be at least 1, got {num_checks}.")
    with export_folder(Path(folder)) as staged:
        return _write(model.eval(), processor, staged, int8, num_checks, seed, track)


def silence_exporter():
    """Turns off the warnings and log messages of torch's exporter."""
    warnings.filterwarnings("ignore", module="torch|copyreg")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)


def _write(model, processor, folder, int8, num_checks, seed, track):
    axes, limits = input_axes(model, processor), axis_limits(model, processor)
    graph = folder / GRAPH_FILE
    save_graph(model, axes, limits, graph)
    processor.save_pretrained(folder)
    config, outputs = model.config, output_names(model)
    description = {
        "format": FORMAT,
        "config": answer_fields(config),
        "inputs": axes,
        "outputs": outputs,
        "limits": limits,
        "opset": OPSET,
        "precision": "int8" if int8 else "float32",
        "versions": {name: installed_version(name) for name in _PACKAGES},
    }
    write_json(folder / DESCRIPTION_FILE, description)
    numbers = range(num_checks)
    checked = compare_with_torch(model, OnnxModel(folder), axes, limits, seed, track(numbers))
    if not checked["largest_difference"] <= TOLERANCE:
        raise ExportError(
            f"The graph differs from the model: {checked['where']['output']} is off by "
            f"{checked['largest_difference']:.2g} (allowed: {TOLERANCE:g}) in batch {checked['where']['batch']} of "
            f"{num_checks} with the shape {checked['where']['shape']}. Nothing was written."
        )
    if int8:
        quantize(graph)
        quantized = compare_with_torch(model, OnnxModel(folder), axes, limits, seed, track(numbers))
        checked["largest_difference_int8"] = quantized["largest_difference"]
    description["check"] = {"batches": num_checks, "seed": seed, **checked}
    write_json(folder / DESCRIPTION_FILE, description)
    return description


def input_axes(model, processor):
    """
    Returns the outputs of the processor that the model reads.

    Returns:
        `dict[str, list]`: the axes of each input: "batch", then "tokens", "tokens_b", "audio_frames" or
        "vision_frames", then the number of features per frame. For windows of long texts `window_texts` has the axis
        "batch", and `earlier_windows` the axis "texts" and its width.
    """
    config = model.config
    axes = {}
    if "text" in config.modalities:
        candidates = getattr(processor, "text_input_names", None) or processor.model_input_names
        for name in candidates:
            if name in model.base_model.text_input_names:
                axes[name] = ["batch", "tokens_b" if name.endswith("_b") else "tokens"]
    for name in config.modalities:
        if name != "text":
            frames = ["batch", f"{name}_frames"]
            axes[f"{name}_features"] = [*frames, getattr(config, f"{name}_feature_size")]
            axes[f"{name}_attention_mask"] = frames
    if config.reads_windows:
        axes |= {WINDOW_TEXTS: ["batch"], EARLIER_WINDOWS: ["texts", config.fusion_hidden_size + 1]}
    return axes


def axis_limits(model, processor):
    """Returns the largest size of each axis except the batch, by name."""
    config = model.config
    limits = {"tokens": processor.max_length, "tokens_b": processor.max_length}
    limits |= {f"{name}_frames": getattr(config, f"max_{name}_length", None) for name in ("audio", "vision")}
    used = {axis for names in input_axes(model, processor).values() for axis in names[1:2]}
    return {axis: limit for axis, limit in limits.items() if axis in used}


def output_names(model) -> list[str]:
    """
    Returns the names of the outputs of a graph: the heads of our models and the sums of windows, `logits` of a sequence
    classifier.
    """
    reads_windows = getattr(model.config, "reads_windows", False)
    return [*getattr(model.config, "heads", ("logits",)), *([WINDOW_SUMS] if reads_windows else [])]


def _encoders(model):
    """Returns the text encoders of a model by name; a sequence classifier of transformers has one."""
    return getattr(model.base_model, "encoders", None) or {"a": model.base_model}


class _Positional(nn.Module):
    """Wraps a model so that it takes its inputs by position and returns a tuple, as `torch.export` needs."""

    def __init__(self, model, inputs):
        super().__init__()
        self.model = model
        self.inputs = tuple(inputs)

    def forward(self, *tensors):
        outputs = self.model(**dict(zip(self.inputs, tensors, strict=True)), return_dict=True)
        return tuple(outputs[name] for name in output_names(self.model))


def export_program(model, axes, limits):
    """
    Exports a model to a `torch.export.ExportedProgram` with dynamic batch and lengths.

    Args:
        model ([`PreTrainedModel`]): the model, in evaluation mode on the CPU.
        axes (`dict`): the result of [`input_axes`]; the program takes these inputs by position.
        limits (`dict`): the result of [`axis_limits`]. An axis with the limit 1 is constant. The other axes need at
            least 2 positions in the program, not in the ONNX graph.
    """
    # all sizes differ, so that the exporter does not unify two axes
    sizes = {axis: min(limit, 5 + i) for i, (axis, limit) in enumerate(limits.items())} | {"batch": 3, "texts": 2}
    example = _random_batch(model, axes, sizes, np.random.default_rng(0))
    dynamic = torch.export.Dim.DYNAMIC
    shapes = tuple(
        {i: dynamic for i, axis in enumerate(names[:2]) if isinstance(axis, str) and limits.get(axis, 2) > 1}
        for names in axes.values()
    )
    with torch.no_grad(), _eager_attention(model):
        return torch.export.export(_Positional(model, axes), tuple(example.values()), dynamic_shapes=(shapes,))


@contextmanager
def _eager_attention(model):
    """Switches the encoders to eager attention: the graph of sdpa takes a quarter longer."""
    encoders = list(_encoders(model).values())
    before = [encoder.config._attn_implementation for encoder in encoders]
    try:
        for encoder in encoders:
            encoder.set_attn_implementation("eager")
        yield
    finally:
        for encoder, implementation in zip(encoders, before, strict=True):
            encoder.set_attn_implementation(implementation)


def save_graph(model, axes, limits, path):
    """Exports a model to an ONNX file; see [`export_program`] for the arguments."""
    for module in ("onnx", "onnxscript"):  # needed by torch.onnx
        import_extra(module, "onnx")
    program = torch.onnx.export(
        export_program(model, axes, limits),
        dynamo=True,
        opset_version=OPSET,
        input_names=list(axes),
        output_names=output_names(model),
        verbose=False,
    )
    proto = program.model_proto  # a new copy on each access
    graph = proto.graph
    names = {}
    for node in graph.input:
        for size, axis in zip(node.type.tensor_type.shape.dim, axes[node.name], strict=True):
            if size.HasField("dim_param"):
                names[size.dim_param] = axis
            elif axis in ("batch", "texts") or limits.get(axis, 1) > 1:
                raise ExportError(f"The axis {axis} of {node.name} became the constant {size.dim_value}.")
    for node in [*graph.input, *graph.output]:
        for size in node.type.tensor_type.shape.dim:
            if size.HasField("dim_param"):
                size.dim_param = names.get(size.dim_param, size.dim_param)
    del graph.value_info[:]  # inner shapes with the old axis names, at which quantisation fails
    for node in graph.node:  # source file and line of each node
        node.ClearField("metadata_props")
    _write_graph(proto, path, external=_count_bytes(model) > _LARGEST_FILE)


def _count_bytes(model):
    return sum(weights.numel() * weights.element_size() for weights in model.parameters())


def _write_graph(proto, path, external):
    """Writes one file, or with `external` a second file for the weights."""
    onnx = import_extra("onnx", "onnx")
    onnx.save(proto, path, save_as_external_data=external, location=f"{path.name}.data" if external else None)


def quantize(path):
    """Quantises the weights of linear layers to 8 bits in place, with a scale for each output channel."""
    quantization = import_extra("onnxruntime.quantization", "onnx")
    source = path.parent / "float32"
    source.mkdir()
    weights = path.with_name(f"{path.name}.data")
    for file in (path, weights):
        if file.exists():
            file.rename(source / file.name)
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)  # hides its advice to run a preprocessing step that needs static shapes
    try:
        quantization.quantize_dynamic(
            source / path.name,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            use_external_data_format=(source / weights.name).exists(),
        )
    finally:
        root.setLevel(level)
    shutil.rmtree(source)


def compare_with_torch(model, graph, axes, limits, seed, numbers):
    """
    Compares the outputs of a graph with those of its model on random batches: 1 to 5 rows, any lengths, padding on
    either side, texts without a common span, several windows of a text, missing modalities.

    Args:
        model ([`PreTrainedModel`]): the model.
        graph ([`OnnxModel`]): its export.
        axes, limits (`dict`): the results of [`input_axes`] and [`axis_limits`].
        seed (`int`): the seed of the batches.
        numbers (`Iterable[int]`): the numbers of the batches.

    Returns:
        `dict`: `largest_difference` over all values of all outputs, and `where` it occurs: `batch`, `output`, `shape`.
    """
    rng = np.random.default_rng(seed)
    largest = {"largest_difference": 0.0, "where": None}
    for number in numbers:
        sizes = {axis: _any_length(rng, limit) for axis, limit in limits.items()}
        sizes["batch"] = int(rng.integers(1, _MOST_ROWS + 1))
        if WINDOW_TEXTS in axes:
            sizes["texts"] = int(rng.integers(1, sizes["batch"] + 1))
        batch = _random_batch(model, axes, sizes, rng)
        with torch.inference_mode():
            expected = model(**batch, return_dict=True)
        outputs = graph(**{name: values.numpy() for name, values in batch.items()})
        outputs.pop(WINDOW_SUMS, None)  # grow with the number of spans; the heads read them
        for name, values in outputs.items():
            difference = np.abs(values - expected[name].numpy()).max().item()
            difference = difference if math.isfinite(difference) else math.inf
            if largest["where"] is None or difference > largest["largest_difference"]:
                where = {"batch": number, "output": name, "shape": sizes}
                largest = {"largest_difference": difference, "where": where}
    return largest


def _any_length(rng, limit):
    """Draws a length from 1 to `limit`, uniform in its logarithm, so that short ones are not rare."""
    return min(int(math.exp(rng.uniform(0, math.log(limit + 1)))), limit)


def _random_batch(model, axes, sizes, rng):
    """Creates the input tensors by name; `sizes` holds the size of each axis."""
    rows = sizes["batch"]
    masks = {axis: _random_mask(rng, rows, size) for axis, size in sizes.items() if axis not in ("batch", "texts")}
    _drop_modalities(masks, rng, rows)
    spans = _random_spans(masks, rng) if "span_ids" in axes else {}
    batch = {}
    for name, (_, *others) in axes.items():
        axis, *width = others or (None,)
        if name == WINDOW_TEXTS:
            values = np.sort(
                np.concatenate([np.arange(sizes["texts"]), rng.integers(sizes["texts"], size=rows)])[:rows]
            )
        elif name == EARLIER_WINDOWS:
            values = rng.standard_normal((sizes["texts"], axis), dtype=np.float32)
        elif name.startswith("span_ids"):
            values = spans[axis]
        elif "attention_mask" in name:
            values = masks[axis]
        elif name.endswith("_features"):
            values = rng.standard_normal((rows, sizes[axis], *width), dtype=np.float32)
        else:
            values = rng.integers(_num_values(model, name), size=(rows, sizes[axis]))
        batch[name] = torch.from_numpy(values)
    return batch


def _num_values(model, name):
    """Returns the number of different values of an integer input."""
    encoders = _encoders(model)
    encoder = encoders["b"] if name.endswith("_b") else next(iter(encoders.values()))
    config = encoder.config
    return config.vocab_size if name.startswith("input_ids") else max(getattr(config, "type_vocab_size", 1), 1)


def _random_mask(rng, rows, length):
    """Returns a mask `(rows, length)` with at least one real position per row, padded on one side."""
    mask = np.arange(length) < rng.integers(1, length + 1, size=(rows, 1))
    return (mask if rng.random() < 0.8 else mask[:, ::-1]).astype(np.int64)


def _drop_modalities(masks, rng, rows):
    """Removes modalities from about half of the rows, never all of a row."""
    modalities = sorted({axis.partition("_")[0] for axis in masks})  # audio, tokens, vision
    for row in range(rows):
        if len(modalities) > 1 and rng.random() < 0.5:
            dropped = rng.choice(modalities, size=rng.integers(1, len(modalities)), replace=False)
            for axis in masks:
                if axis.partition("_")[0] in dropped:
                    masks[axis][row] = 0


def _random_spans(masks, rng):
    """Returns span ids `(rows, tokens)` for both encoders: consecutive, with the same last id; -1 for padding."""
    sides = {axis: np.full(mask.shape, -1) for axis, mask in masks.items() if axis.startswith("tokens")}
    for row in range(len(masks["tokens"])):
        real = {axis: np.flatnonzero(masks[axis][row]) for axis in sides}
        count = rng.integers(0, 1 + min(map(len, real.values())))
        if count:  # otherwise the text has no common span
            for axis, places in real.items():
                more = rng.integers(0, count, size=len(places) - count)
                sides[axis][row, places] = np.sort(np.concatenate([np.arange(count), more]))
    return sides
