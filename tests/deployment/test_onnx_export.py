import json
import shutil

import numpy as np
import pytest
import torch
from asserts import assert_close
from conftest import TEXTS, encoder_config

from hf_fusion import (
    DashFusionForSequenceClassification,
    DyFuLMForSequenceClassification,
    DyFuLMProcessor,
    FusionSentimentPipeline,
)
from hf_fusion.deployment import OnnxFusion

onnx = pytest.importorskip("onnx")
onnx_export = pytest.importorskip("hf_fusion.deployment.onnx_export")
KINDS = ("exported_reviews", "exported_clips")


@pytest.fixture(params=KINDS)
def export(request):
    """A pipeline and the folder of its export."""
    return request.getfixturevalue(request.param)


def graph_of(folder):
    return onnx.load(folder / "model.onnx").graph


def dims(node):
    return [size.dim_param or size.dim_value for size in node.type.tensor_type.shape.dim]


@pytest.fixture
def graph_is_there(monkeypatch, exported_reviews):
    """Spares the tests the export itself: the graph is that of the reviews."""
    source = exported_reviews[1] / "model.onnx"
    monkeypatch.setattr(onnx_export, "save_graph", lambda model, axes, limits, path: shutil.copy(source, path))


class TestFolder:
    def test_describes_itself(self, export):
        classify, folder = export
        record = json.loads((folder / "onnx_fusion.json").read_text())
        assert record["check"]["batches"] == 60 and 0 < record["check"]["largest_difference"] < 1e-4
        assert record["config"]["id2label"] == {str(i): name for i, name in classify.model.config.id2label.items()}
        assert record["opset"] == 20 and record["precision"] == "float32" and record["versions"]["onnxruntime"]
        assert record["limits"]["tokens"] == classify.processor.max_length
        assert {node.name: dims(node) for node in graph_of(folder).input} == record["inputs"]
        assert [node.name for node in graph_of(folder).output] == record["outputs"]

    def test_all_axes_but_the_width_are_free(self, exported_clips):
        axes = {node.name: dims(node) for node in graph_of(exported_clips[1]).input}
        assert axes["input_ids"] == ["batch", "tokens"] and axes["audio_features"] == ["batch", "audio_frames", 3]
        assert axes["vision_attention_mask"] == ["batch", "vision_frames"]

    def test_integers_fit_32_bits(self, export):
        """Runtimes such as OpenVINO compute with 32 bits. The largest number of 64 is the open end of a slice."""
        graph = graph_of(export[1])
        constants = [item.t for node in graph.node for item in node.attribute if item.HasField("t")]
        arrays = [onnx.numpy_helper.to_array(tensor) for tensor in [*graph.initializer, *constants]]
        values = np.concatenate([array.ravel() for array in arrays if array.dtype == np.int64])
        assert np.abs(values[values != np.iinfo(np.int64).max]).max() < 2**31

    def test_openvino_reads_the_graph(self, export):
        openvino = pytest.importorskip("openvino")
        classify, folder = export
        axes = onnx_export.input_axes(classify.model, classify.processor)
        limits = onnx_export.axis_limits(classify.model, classify.processor)
        graph = openvino.Core().compile_model(folder / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

        def compute(**inputs):
            results = graph({name: np.ascontiguousarray(values) for name, values in inputs.items()})
            return {output.any_name: values for output, values in results.items()}

        found = onnx_export.compare_with_torch(classify.model, compute, axes, limits, 0, range(200))
        assert found["largest_difference"] < 1e-4, found

    def test_says_nothing_of_the_machine(self, export):
        graph = (export[1] / "model.onnx").read_bytes()
        assert not any(word in graph for word in (b"site-packages", b".py", str(export[1]).encode()))
        assert opset_of(export[1]) == 20


def opset_of(folder):
    return next(item.version for item in onnx.load(folder / "model.onnx").opset_import if item.domain == "")


def test_conditional_logits_become_log_probabilities(make_model, wordpiece, tmp_path):
    model = make_model(cross_fusion="a", a="bert", fine_loss="corn", layer_fusion="last", class_values=[1, 2, 3, 4, 5])
    classify = FusionSentimentPipeline(model, processor=DyFuLMProcessor(wordpiece, max_length=40), device="cpu")
    onnx_export.export_onnx(model, classify.processor, tmp_path, num_checks=20)
    assert_close(OnnxFusion.from_pretrained(tmp_path)(list(TEXTS), top_k=None), classify(list(TEXTS), top_k=None))


class TestComparison:
    @pytest.mark.parametrize("kind", KINDS)
    def test_finds_a_difference_and_says_where(self, request, kind):
        classify, folder = request.getfixturevalue(kind)
        from hf_fusion.deployment.onnx_fusion import OnnxModel

        model, processor = classify.model, classify.processor
        axes, limits = onnx_export.input_axes(model, processor), onnx_export.axis_limits(model, processor)
        arguments = OnnxModel(folder), axes, limits, 3, range(20)
        assert onnx_export.compare_with_torch(model, *arguments)["largest_difference"] < 1e-4
        last = model.classifier if kind == "exported_reviews" else model.classifier[-1]
        with torch.no_grad():
            last.bias.add_(0.01)
        found = onnx_export.compare_with_torch(model, *arguments)
        with torch.no_grad():
            last.bias.sub_(0.01)
        assert found["largest_difference"] == pytest.approx(0.01, abs=1e-4)
        sizes = {"batch", *limits, *(["texts"] if kind == "exported_reviews" else [])}
        assert found["where"]["output"] == "logits" and found["where"]["shape"].keys() == sizes

    def test_nan_is_a_difference(self, exported_reviews, monkeypatch):
        classify, folder = exported_reviews
        from hf_fusion.deployment.onnx_fusion import OnnxModel

        graph = OnnxModel(folder)
        monkeypatch.setattr(OnnxModel, "__call__", lambda self, **_: {"intensity": np.full(1, np.nan)})
        axes = onnx_export.input_axes(classify.model, classify.processor)
        limits = onnx_export.axis_limits(classify.model, classify.processor)
        found = onnx_export.compare_with_torch(classify.model, graph, axes, limits, 0, range(1))
        assert found["largest_difference"] == float("inf")

    def test_batches_are_of_all_kinds(self, clip_model, clip_processor, make_model, processor):
        """Short texts, padding on either side, missing modalities, texts without spans, single positions."""
        rng, seen = np.random.default_rng(0), set()
        model = clip_model()
        axes, limits = onnx_export.input_axes(model, clip_processor), onnx_export.axis_limits(model, clip_processor)
        for _ in range(200):
            sizes = {axis: onnx_export._any_length(rng, limit) for axis, limit in limits.items()} | {"batch": 4}
            assert all(1 <= sizes[axis] <= limit for axis, limit in limits.items())
            batch = onnx_export._random_batch(model, axes, sizes, rng)
            masks = {name: batch[f"{name}attention_mask"] for name in ("", "audio_", "vision_")}
            there = torch.stack([mask.any(1) for mask in masks.values()])
            assert there.any(0).all(), "each clip has something"
            seen |= {f"no {name}text" for name, mask in masks.items() if not mask.any(1).all()}
            seen |= {"complete"} if there.all() else set()
            seen |= {"shorter than the bottleneck"} if sizes["tokens"] < model.config.num_bottleneck_tokens else set()
            seen |= {"left"} if (masks[""][:, 0] < masks[""][:, -1]).any() else set()
            seen |= {"right"} if (masks[""][:, 0] > masks[""][:, -1]).any() else set()
            seen |= {"one frame"} if sizes["audio_frames"] == 1 else set()
        assert len(seen) == 8, seen

    def test_spans_are_as_the_processor_numbers_them(self, make_model, processor):
        rng, model, without = np.random.default_rng(0), make_model(), 0
        axes = onnx_export.input_axes(model, processor)
        for _ in range(100):
            sizes = {"tokens": int(rng.integers(1, 9)), "tokens_b": int(rng.integers(1, 9)), "batch": 3, "texts": 2}
            batch = {
                name: values.numpy() for name, values in onnx_export._random_batch(model, axes, sizes, rng).items()
            }
            for row in range(3):
                a, b = (batch[f"span_ids{s}"][row] for s in ("", "_b"))
                for ids, suffix in ((a, ""), (b, "_b")):
                    real = ids[ids >= 0]
                    assert (batch[f"attention_mask{suffix}"][row][ids >= 0] == 1).all()
                    assert (np.diff(real) >= 0).all() and set(real) == set(range(real.max(initial=-1) + 1))
                assert a.max() == b.max()
                without += a.max() < 0
            assert set(batch["window_texts"].tolist()) == {0, 1} and batch["earlier_windows"].shape[0] == 2
        assert 20 < without < 200


class TestWriting:
    def test_a_wrong_graph_is_not_written(self, exported_reviews, graph_is_there, make_model, tmp_path):
        classify, _ = exported_reviews
        with torch.no_grad():
            classify.model.intensity_regressor.bias.add_(0.1)
        try:
            with pytest.raises(onnx_export.ExportError, match=r"\w+ is off by 0\.\d+ .* in batch \d of 7 .*'tokens'"):
                onnx_export.export_onnx(classify.model, classify.processor, tmp_path / "out", num_checks=7)
        finally:
            with torch.no_grad():
                classify.model.intensity_regressor.bias.sub_(0.1)
        assert list(tmp_path.iterdir()) == [], "not even a part of it"

    def test_an_earlier_export_is_replaced_by_a_complete_one(self, exported_reviews, graph_is_there, tmp_path):
        classify, _ = exported_reviews
        onnx_export.export_onnx(classify.model, classify.processor, tmp_path / "out", num_checks=1)
        (tmp_path / "out/old").touch()

        def interrupted(numbers):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            onnx_export.export_onnx(
                classify.model, classify.processor, tmp_path / "out", num_checks=1, track=interrupted
            )
        assert (tmp_path / "out/old").exists() and len(list(tmp_path.iterdir())) == 1
        onnx_export.export_onnx(classify.model, classify.processor, tmp_path / "out", num_checks=2)
        assert not (tmp_path / "out/old").exists()
        assert json.loads((tmp_path / "out/onnx_fusion.json").read_text())["check"]["batches"] == 2

    def test_other_folders_are_left_alone(self, exported_reviews, tmp_path):
        classify, _ = exported_reviews
        (tmp_path / "thesis.txt").touch()
        with pytest.raises(onnx_export.ExportError, match="not an earlier export: choose another folder"):
            onnx_export.export_onnx(classify.model, classify.processor, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_int8(self, exported_reviews, graph_is_there, tmp_path):
        classify, folder = exported_reviews
        out = tmp_path / "int8"
        record = onnx_export.export_onnx(classify.model, classify.processor, out, int8=True, num_checks=10)
        assert record["precision"] == "int8"
        assert record["check"]["largest_difference"] < 1e-4 < record["check"]["largest_difference_int8"] < 1
        kinds = [[node.op_type for node in graph_of(path).node] for path in (folder, out)]
        assert "MatMulInteger" not in kinds[0] and kinds[1].count("MatMulInteger") > 10
        assert "LSTM" in kinds[1], "which loses more than it gains"
        left = [graph_of(path).initializer for path in (folder, out)]
        assert sum(w.data_type == onnx.TensorProto.INT8 for w in left[1]) > 10
        assert {path.name for path in out.iterdir()} == {path.name for path in folder.iterdir()}

    def test_large_models_keep_their_weights_beside_the_graph(self, exported_reviews, tmp_path):
        classify, folder = exported_reviews
        shutil.copytree(folder, tmp_path / "large")
        path = tmp_path / "large/model.onnx"
        onnx_export._write_graph(onnx.load(path), path, external=True)
        assert path.stat().st_size < (tmp_path / "large/model.onnx.data").stat().st_size
        expected = classify("The bar was fine.")["intensity"]
        assert OnnxFusion.from_pretrained(path.parent)("The bar was fine.")["intensity"] == pytest.approx(
            expected, abs=1e-4
        )
        onnx_export.quantize(path)
        assert sorted(p.name for p in path.parent.glob("*onnx*")) == [
            "model.onnx",
            "model.onnx.data",
            "onnx_fusion.json",
        ]
        found = OnnxFusion.from_pretrained(path.parent)("The bar was fine.")["intensity"]
        assert 1e-6 < abs(found - expected) < 0.2


class TestInputs:
    @pytest.mark.parametrize(
        ("fields", "names"),
        [
            ({}, {"input_ids", "attention_mask", "span_ids", "input_ids_b", "attention_mask_b", "span_ids_b"}),
            ({"cross_fusion": "a"}, {"input_ids", "attention_mask"}),
            ({"cross_fusion": "b"}, {"input_ids_b", "attention_mask_b"}),
            ({"gate_level": "sequence"}, {"input_ids", "attention_mask", "input_ids_b", "attention_mask_b"}),
        ],
        ids=["both", "a", "b", "sequence"],
    )
    def test_of_a_dyfulm(self, make_model, processor, fields, names):
        model = make_model(**fields)
        axes = onnx_export.input_axes(model, processor)
        assert set(axes) == names | {"window_texts", "earlier_windows"}
        assert axes["earlier_windows"] == ["texts", model.config.fusion_hidden_size + 1]
        sides = {"tokens_b" if name.endswith("_b") else "tokens" for name in names}
        assert onnx_export.axis_limits(model, processor) == dict.fromkeys(sides, processor.max_length)

    @pytest.mark.parametrize("text", ["bert", "dyfulm"])
    def test_of_a_dashfusion(self, clip_model, clip_processor, clip_processor_b, text):
        processor = clip_processor if text == "bert" else clip_processor_b
        axes = onnx_export.input_axes(clip_model(text), processor)
        frames = {f"{name}_{kind}" for name in ("audio", "vision") for kind in ("features", "attention_mask")}
        assert set(axes) == set(processor.text_input_names) | frames

    def test_of_a_dashfusion_without_text(self, clip_model, clip_processor):
        model = clip_model(modalities=("audio",))
        assert set(onnx_export.input_axes(model, clip_processor)) == {"audio_features", "audio_attention_mask"}
        assert onnx_export.axis_limits(model, clip_processor) == {"audio_frames": 12}


class TestTorchExport:
    """`torch.export` alone, with dynamic shapes."""

    @staticmethod
    def assert_agrees(model, processor, sizes):
        axes, limits = onnx_export.input_axes(model, processor), onnx_export.axis_limits(model, processor)
        program = onnx_export.export_program(model, axes, limits).module()
        rng = np.random.default_rng(1)
        for size in sizes:
            batch = onnx_export._random_batch(
                model, axes, {"texts": 2, **dict(zip(("batch", *limits), size, strict=True))}, rng
            )
            with torch.no_grad():
                expected = model(**batch, return_dict=True)
                found = program(*batch.values())
            for name, values in zip(onnx_export.output_names(model), found, strict=True):
                torch.testing.assert_close(values, expected[name], atol=1e-5, rtol=1e-4)

    def test_dyfulm(self, make_config, processor):
        config = make_config()
        for encoder in config.encoder_configs.values():
            encoder.num_hidden_layers = 1
        torch.manual_seed(1)
        model = DyFuLMForSequenceClassification(config).eval()
        before = [encoder.config._attn_implementation for encoder in model.dyfulm.encoders.values()]
        self.assert_agrees(model, processor, [(2, 9, 30), (5, 30, 9), (2, 2, 3)])
        assert [encoder.config._attn_implementation for encoder in model.dyfulm.encoders.values()] == before

    def test_dashfusion_in_turns_with_single_vision_vectors(self, clip_config, clip_processor):
        config = clip_config(anchor="symmetric", max_vision_length=1, num_fusion_layers=1)
        config.text_config = encoder_config("bert", num_hidden_layers=1)
        torch.manual_seed(1)
        model = DashFusionForSequenceClassification(config).eval()
        self.assert_agrees(model, clip_processor, [(2, 9, 4, 1), (5, 3, 12, 1), (2, 2, 2, 1)])
