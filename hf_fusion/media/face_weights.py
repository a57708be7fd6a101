"""The weights of MediaPipe's face networks: fetched once from Google, compared by their hash, converted to torch."""

import hashlib
import io
import logging
import os
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from huggingface_hub import constants
from torch import nn

from hf_fusion.models.media_face import FaceNetworks
from hf_fusion.models.media_frames import Network
from hf_fusion.utils.errors import FusionError
from hf_fusion.utils.extras import import_extra

logger = logging.getLogger(__name__)

TASK_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
)
TASK_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
SOURCE_VARIABLE = "HF_FUSION_FACE_TASK"
_TASK_BYTES = 3_758_596
_TIMEOUT = 60  # seconds without an answer
_GRAPHS = {
    "detector": "face_detector.tflite",
    "mesh": "face_landmarks_detector.tflite",
    "blendshapes": "face_blendshapes.tflite",
}
_METADATA = {
    "source": f"Google MediaPipe, face_landmarker.task (SHA-256 {TASK_SHA256}), converted to torch",
    "license": "Apache-2.0",
}


class FaceWeightsError(FusionError, OSError):
    """The weights of the face networks cannot be had; the message says how to get them."""


def load_face_weights(source: str | os.PathLike | None = None) -> Network:
    """
    Loads the weights of the face networks for a new checkpoint, which then carries them as `face.safetensors`.

    Without a source they come from the cache, the folder `hf_fusion` in `HF_HOME`. If it does not have them yet,
    `face_landmarker.task` is fetched from Google (3.8 MB, Apache-2.0), converted, and the result is kept there.

    Args:
        source (`str` or `os.PathLike`, *optional*): a file to read instead: `face_landmarker.task`, or
            `face.safetensors` of a checkpoint. By default that which the environment variable `HF_FUSION_FACE_TASK`
            names, if it is set.

    Returns:
        [`~models.media_frames.Network`]: the weights in float16 by the names of [`~models.media_face.FaceNetworks`].

    Raises:
        FaceWeightsError: if the file cannot be fetched or read, or is another one than expected.

    Example:

    ```python
    from hf_fusion.media.face_weights import load_face_weights
    from hf_fusion.models.media_face import FaceNetworks

    networks = FaceNetworks.from_state_dict(load_face_weights().state_dict())
    ```
    """
    source = source or os.environ.get(SOURCE_VARIABLE) or None
    if source is not None and Path(source).suffix == ".safetensors":
        return _read_weights(Path(source))
    cached = _cache()
    if source is None and cached.is_file():
        try:
            return _read_weights(cached)
        except FaceWeightsError as error:
            logger.warning("%s It is made anew.", error)
    network = convert_face_task(_fetch_task() if source is None else _read_task(Path(source)))
    try:
        _save(network, cached)
    except OSError as error:
        logger.warning("The face networks cannot be kept for the next time, in %s: %s", cached, error)
    return network


def convert_face_task(content: bytes) -> Network:
    """
    Converts `face_landmarker.task` to the weights of [`~models.media_face.FaceNetworks`].

    Args:
        content (`bytes`): the content of the file.

    Raises:
        FaceWeightsError: if it is not the file that Google publishes, by its SHA-256; nothing is read from it then.
        MissingExtraError: if the package `tflite` is not installed.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest != TASK_SHA256:
        raise FaceWeightsError(
            f"This is not the face_landmarker.task that is expected: {len(content):,} bytes with the SHA-256 {digest}. "
            f"{_manual_steps()}"
        )
    networks, tensors = FaceNetworks(), {}
    with zipfile.ZipFile(io.BytesIO(content)) as task:
        for name, file in _GRAPHS.items():
            layers = _read_layers(task.read(file))
            if name == "mesh":
                del layers[-3]  # whether the tongue is out, which is no blendshape
            tensors |= {f"{name}.{key}": value for key, value in _name_weights(getattr(networks, name), layers)}
    return Network(tensors, _METADATA)


def _read_layers(content: bytes) -> list[list[np.ndarray]]:
    """The weights of each layer of a TensorFlow Lite graph, float16, in the order in which the layers run."""
    tflite = import_extra("tflite", "media")
    model = tflite.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    weights, layers = {}, []  # by the number of the tensor that a layer reads
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        inputs = operator.InputsAsNumpy().tolist()
        if max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) == tflite.BuiltinOperator.DEQUANTIZE:
            tensor = graph.Tensors(inputs[0])
            values = model.Buffers(tensor.Buffer()).DataAsNumpy().view(np.float16)
            weights[operator.Outputs(0)] = values.reshape(tensor.ShapeAsNumpy() if tensor.ShapeLength() else ())
        else:
            layers.append([weights[number] for number in inputs if number in weights])
    return [layer for layer in layers if layer and layer[0].ndim]  # scalars are part of the torch code


def _name_weights(network: nn.Module, layers: list[list[np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the name and the value of each parameter; biases that the network does not have are 0 in the graph."""
    modules = [(name, module) for name, module in network.named_modules() if [*module.parameters(recurse=False)]]
    for (name, module), values in zip(modules, layers, strict=True):
        for (key, parameter), value in zip(module.named_parameters(recurse=False), values, strict=False):
            if isinstance(module, nn.Conv2d) and value.ndim == 4:
                # (out, height, width, in); one filter for each channel: (1, height, width, channels)
                value = value.transpose(0, 3, 1, 2)
            yield f"{name}.{key}", np.ascontiguousarray(value).reshape(tuple(parameter.shape))


def _read_weights(path: Path) -> Network:
    """Reads weights that were converted before; checks names and shapes."""
    try:
        network = Network.load(path)
        FaceNetworks.from_state_dict(network.state_dict())
    except (OSError, ValueError, RuntimeError) as error:
        raise FaceWeightsError(f"{path} does not hold the weights of the face networks: {error}") from error
    return network


def _read_task(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FaceWeightsError(f"The face networks cannot be read: {error}. {_manual_steps()}") from error


def _fetch_task() -> bytes:
    if constants.HF_HUB_OFFLINE:
        raise FaceWeightsError(f"The face networks are not in the cache, and HF_HUB_OFFLINE is set. {_manual_steps()}")
    try:
        with urllib.request.urlopen(TASK_URL, timeout=_TIMEOUT) as response:
            return response.read(_TASK_BYTES + 1)
    except OSError as error:
        raise FaceWeightsError(f"{TASK_URL} cannot be fetched: {error}. {_manual_steps()}") from error


def _cache() -> Path:
    return Path(constants.HF_HOME) / "hf_fusion" / "face.safetensors"


def _manual_steps() -> str:
    return (
        f"Download {TASK_URL} on any machine, check that its SHA-256 is {TASK_SHA256}, and put its path into the "
        f"environment variable {SOURCE_VARIABLE}. It is needed once: the converted weights are kept in "
        f"{_cache()}."
    )


def _save(network: Network, path: Path) -> None:
    """Writes a file that is complete as soon as it has its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        network.save(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
