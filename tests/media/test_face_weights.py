"""Weights of the face networks: where they come from, what is refused, and their names."""

import hashlib
import io
import os
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.numpy import save_file
from torch import nn

from hf_fusion.media import face_weights
from hf_fusion.media.face_weights import TASK_SHA256, FaceWeightsError, convert_face_task, load_face_weights
from hf_fusion.models.media_face import FaceNetworks

SHARED = Path(__file__).parents[3] / "shared" / "data" / "face" / "face_landmarker.task"
TASK = Path(os.environ.get(face_weights.SOURCE_VARIABLE) or SHARED)


def as_graph(network):
    """The weights of a network as the layers of a TensorFlow Lite graph have them."""
    layers = []
    for module in network.modules():
        values = [value.half().numpy() for value in module.parameters(recurse=False)]
        if isinstance(module, nn.Conv2d):
            values[0] = values[0].transpose((1, 2, 3, 0) if module.groups > 1 else (0, 2, 3, 1))
            if module.bias is None:
                values.append(np.zeros(module.out_channels, np.float16))
        elif isinstance(module, nn.Linear):
            values[0] = values[0][:, None, None]
        elif isinstance(module, nn.PReLU):
            values[0] = values[0][None, None]
        if values:
            layers.append(values)
    return layers


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    networks = FaceNetworks()
    for parameter in networks.parameters():
        parameter.copy_(torch.randn_like(parameter).half())
    return networks


@pytest.fixture
def task(networks, monkeypatch):
    """The content of a small `face_landmarker.task` whose weights are those of `networks`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, graph in face_weights._GRAPHS.items():
            archive.writestr(graph, name)

    def read_layers(content):
        layers = as_graph(getattr(networks, content.decode()))
        if content == b"mesh":  # the tongue
            layers.insert(-2, [np.ones((1, 2, 2, 128), np.float16), np.ones(1, np.float16)])
        return layers

    monkeypatch.setattr(face_weights, "_read_layers", read_layers)
    monkeypatch.setattr(face_weights, "TASK_SHA256", hashlib.sha256(file.getvalue()).hexdigest())
    return file.getvalue()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and a machine that is online."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv(face_weights.SOURCE_VARIABLE, raising=False)
    return tmp_path / "home" / "hf_fusion" / "face.safetensors"


@pytest.fixture
def google(monkeypatch):
    """A server that is asked instead of Google; `google.content` is its answer, None a 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests += 1
            self.send_response(404 if self.server.content is None else 200)
            self.end_headers()
            self.wfile.write(self.server.content or b"")

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.requests = None, 0
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(face_weights, "TASK_URL", f"http://127.0.0.1:{server.server_port}/face_landmarker.task")
    yield server
    server.shutdown()
    server.server_close()


def same(network, networks):
    loaded = FaceNetworks.from_state_dict(network.state_dict()).state_dict()
    return all(torch.equal(values, loaded[name]) for name, values in networks.state_dict().items())


def assert_says_what_to_do(error):
    for part in (face_weights.TASK_URL, face_weights.TASK_SHA256, face_weights.SOURCE_VARIABLE, constants.HF_HOME):
        assert part in str(error.value)


class TestDownload:
    def test_once(self, google, task, networks, cache):
        google.content = task
        first, second = load_face_weights(), load_face_weights()
        assert same(first, networks) and same(second, networks)
        assert first.fingerprint == second.fingerprint
        assert google.requests == 1
        assert os.listdir(cache.parent) == [cache.name]

    def test_licence_and_source_are_in_the_file(self, google, task, cache):
        google.content = task
        load_face_weights()
        metadata = face_weights.Network.load(cache).metadata
        assert metadata["license"] == "Apache-2.0"
        assert "MediaPipe" in metadata["source"] and TASK_SHA256 in metadata["source"]
        assert {values.dtype.name for values in face_weights.Network.load(cache).tensors.values()} == {"float16"}

    def test_another_file(self, google, task, cache, monkeypatch):
        """Nothing is read from it."""
        monkeypatch.setattr(zipfile, "ZipFile", lambda *args: pytest.fail("the file was opened"))
        google.content = task + b"!"
        with pytest.raises(FaceWeightsError) as error:
            load_face_weights()
        assert_says_what_to_do(error)
        assert hashlib.sha256(google.content).hexdigest() in str(error.value)
        assert not cache.exists()

    def test_an_endless_answer_is_cut(self, google, task, monkeypatch):
        monkeypatch.setattr(face_weights, "_TASK_BYTES", 100)
        google.content = bytes(10_000)
        with pytest.raises(FaceWeightsError, match="101 bytes"):
            load_face_weights()

    def test_not_there(self, google):
        with pytest.raises(FaceWeightsError, match="404") as error:
            load_face_weights()
        assert_says_what_to_do(error)

    def test_no_network(self, google):
        google.shutdown()
        google.server_close()
        with pytest.raises(FaceWeightsError, match="refused") as error:
            load_face_weights()
        assert_says_what_to_do(error)

    def test_offline(self, google, task, monkeypatch):
        google.content = task
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(FaceWeightsError, match="HF_HUB_OFFLINE is set") as error:
            load_face_weights()
        assert_says_what_to_do(error)
        assert google.requests == 0

    def test_offline_with_the_cache(self, google, task, networks, monkeypatch):
        google.content = task
        load_face_weights()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert same(load_face_weights(), networks)


class TestSource:
    @pytest.mark.parametrize("named_by", ["argument", "variable"])
    def test_a_task_file(self, named_by, google, task, networks, cache, tmp_path, monkeypatch):
        path = tmp_path / "my.task"
        path.write_bytes(task)
        if named_by == "variable":
            monkeypatch.setenv(face_weights.SOURCE_VARIABLE, str(path))
        assert same(load_face_weights(path if named_by == "argument" else None), networks)
        assert cache.is_file() and google.requests == 0

    def test_a_variable_that_is_empty(self, google, task, networks, monkeypatch):
        google.content = task
        monkeypatch.setenv(face_weights.SOURCE_VARIABLE, "")
        assert same(load_face_weights(), networks)

    def test_the_file_of_a_checkpoint(self, task, cache, tmp_path):
        network = convert_face_task(task)
        network.save(tmp_path / "face.safetensors")
        assert load_face_weights(tmp_path / "face.safetensors").fingerprint == network.fingerprint
        assert not cache.exists()

    @pytest.mark.parametrize("name", ["face.task", "face.safetensors"])
    def test_a_missing_file(self, name, tmp_path):
        with pytest.raises(FaceWeightsError, match=name):
            load_face_weights(tmp_path / name)

    def test_other_weights(self, tmp_path):
        save_file({"weight": np.zeros(3)}, tmp_path / "other.safetensors")
        with pytest.raises(
            FaceWeightsError, match=r"other\.safetensors does not hold the weights of the face networks"
        ):
            load_face_weights(tmp_path / "other.safetensors")


class TestCache:
    def test_a_damaged_file_is_made_anew(self, google, task, networks, cache, caplog):
        google.content = task
        load_face_weights()
        cache.write_bytes(cache.read_bytes()[:1000])
        assert same(load_face_weights(), networks)
        assert "is made anew" in caplog.text
        assert same(load_face_weights(), networks) and google.requests == 2

    def test_a_folder_that_cannot_be_written(self, google, task, networks, tmp_path, caplog):
        google.content = task
        (tmp_path / "home").write_text("a file")
        assert same(load_face_weights(), networks)
        assert "cannot be kept" in caplog.text

    def test_a_full_disk(self, google, task, networks, cache, monkeypatch, caplog):
        def save(self, path):
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")

        google.content = task
        monkeypatch.setattr(face_weights.Network, "save", save)
        assert same(load_face_weights(), networks)
        assert "No space left" in caplog.text
        assert not os.listdir(cache.parent)


def test_layers_of_a_graph():
    """Weights through DEQUANTIZE; layers without weights, scalars and whole numbers are left out."""
    tflite = pytest.importorskip("tflite")
    builder = pytest.importorskip("flatbuffers").Builder()

    def vector(start, items, prepend):
        start(builder, len(items))
        for item in reversed(items):
            prepend(item)
        return builder.EndVector()

    offset, number = builder.PrependUOffsetTRelative, builder.PrependInt32
    weights = np.arange(6, dtype=np.float16)
    data = [None, weights.tobytes(), np.float16(0.5).tobytes(), np.int32([1, 2]).tobytes()]
    buffers = []
    for content in data:
        values = builder.CreateByteVector(content) if content else None
        tflite.BufferStart(builder)
        if content:
            tflite.BufferAddData(builder, values)
        buffers.append(tflite.BufferEnd(builder))
    # 0: input, 1: weights, 2: scalar, 3: whole numbers; 4 and 5: dequantised weights and scalar; 6 ...: outputs
    shapes, tensors = [[2], [2, 3], [], [2], [2, 3], [], [2], [2], [2]], []
    for i, shape in enumerate(shapes):
        shape = vector(tflite.TensorStartShapeVector, shape, number)
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, shape)
        tflite.TensorAddType(builder, tflite.TensorType.FLOAT16 if i in (1, 2) else tflite.TensorType.FLOAT32)
        tflite.TensorAddBuffer(builder, i if i < 4 else 0)
        tensors.append(tflite.TensorEnd(builder))
    kinds = tflite.BuiltinOperator
    codes = []
    for kind in (kinds.DEQUANTIZE, kinds.CONV_2D, kinds.MUL, kinds.RESHAPE):
        tflite.OperatorCodeStart(builder)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, kind)
        tflite.OperatorCodeAddBuiltinCode(builder, kind)
        codes.append(tflite.OperatorCodeEnd(builder))
    operators = []
    for code, inputs, output in ((0, [1], 4), (0, [2], 5), (1, [0, 4], 6), (2, [6, 5], 7), (3, [7, 3], 8)):
        inputs = vector(tflite.OperatorStartInputsVector, inputs, number)
        outputs = vector(tflite.OperatorStartOutputsVector, [output], number)
        tflite.OperatorStart(builder)
        tflite.OperatorAddOpcodeIndex(builder, code)
        tflite.OperatorAddInputs(builder, inputs)
        tflite.OperatorAddOutputs(builder, outputs)
        operators.append(tflite.OperatorEnd(builder))
    tensors = vector(tflite.SubGraphStartTensorsVector, tensors, offset)
    operators = vector(tflite.SubGraphStartOperatorsVector, operators, offset)
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, tensors)
    tflite.SubGraphAddOperators(builder, operators)
    graphs = vector(tflite.ModelStartSubgraphsVector, [tflite.SubGraphEnd(builder)], offset)
    buffers = vector(tflite.ModelStartBuffersVector, buffers, offset)
    codes = vector(tflite.ModelStartOperatorCodesVector, codes, offset)
    tflite.ModelStart(builder)
    tflite.ModelAddSubgraphs(builder, graphs)
    tflite.ModelAddBuffers(builder, buffers)
    tflite.ModelAddOperatorCodes(builder, codes)
    builder.Finish(tflite.ModelEnd(builder))

    layers = face_weights._read_layers(bytes(builder.Output()))
    assert [[values.tolist() for values in layer] for layer in layers] == [[[[0, 1, 2], [3, 4, 5]]]]


@pytest.mark.data
@pytest.mark.skipif(not TASK.is_file(), reason="face_landmarker.task is not part of the repository")
class TestRealTask:
    @pytest.fixture
    def content(self):
        pytest.importorskip("tflite")
        return TASK.read_bytes()

    def test_bit_for_bit(self, content):
        """The weights of the graphs in the file by their names, as they were read with another library."""
        network = convert_face_task(content)
        assert set(network.tensors) == set(FaceNetworks().state_dict())
        assert network.fingerprint == "ac120c9b49998ec074e98346165c94cd8c4d40e69600aba2014f58a32b54c773"

    def test_the_depthwise_biases_of_the_mesh_are_zero(self, content):
        """The mesh has none."""
        with zipfile.ZipFile(io.BytesIO(content)) as task:
            layers = face_weights._read_layers(task.read("face_landmarks_detector.tflite"))
        depthwise = [values for values in layers if values[0].shape[:1] == (1,) and values[0].ndim == 4]
        depthwise = [values for values in depthwise if values[0].shape[1:3] == (3, 3)]
        assert len(depthwise) == 34 and not any(values[1].any() for values in depthwise)
