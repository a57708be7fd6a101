import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from asserts import assert_close
from conftest import AUDIO_SIZE, MAX_AUDIO, TEXTS, VISION_SIZE
from datasets import Dataset

from hf_fusion.deployment import OnnxFusion
from hf_fusion.evaluation.evaluate_reviews import evaluate_reviews
from hf_fusion.evaluation.kept_predictions import predict_labelled
from hf_fusion.models.processing_text import InputError

pytest.importorskip("onnxruntime")

REVIEWS = [
    *TEXTS,
    "x",
    "😀" * 30,
    "good " * 200,
    "Übergröße, naïve café",
    "الغرفة نظيفة",
    "客室は清潔",
    "a\x00b",
]
# What somebody computes who has transformers and ONNX Runtime, but neither torch nor anything else of the package.
STRANGER = """
import json, sys
for name in "torch accelerate datasets evaluate matplotlib onnx pyarrow rich scipy sklearn".split():
    sys.modules[name] = None
import numpy as np
from hf_fusion.deployment import OnnxFusion
inputs = [value if isinstance(value, str) else {
    name: np.array(item, dtype=float) if isinstance(item, list) else item for name, item in value.items()
} for value in json.loads(sys.argv[2])]
try:
    import torch
except ImportError:
    print("RESULT", json.dumps(OnnxFusion.from_pretrained(sys.argv[1])(inputs)))
"""


def assert_equal(found, expected):
    assert_close(found, expected, atol=1e-4)


@pytest.fixture(scope="module")
def reviews(exported_reviews):
    """The pipeline and its export."""
    classify, folder = exported_reviews
    return classify, OnnxFusion.from_pretrained(folder)


@pytest.fixture(scope="module")
def clips_(exported_clips):
    classify, folder = exported_clips
    return classify, OnnxFusion.from_pretrained(folder)


@pytest.fixture(scope="module")
def inputs():
    """Clips of every form: complete, with missing modalities, broken values, too long, single frames."""
    rng = np.random.default_rng(0)

    def frames(count, size, broken=False):
        values = rng.normal(2, 3, size=(count, size)).astype(np.float32)
        values[: broken * 1, 0] = np.nan
        values[broken * -1 :, -1] = np.inf if broken else values[-1:, -1]
        return values

    complete = {"text": "The bar was fine.", "audio": frames(5, AUDIO_SIZE), "vision": frames(7, VISION_SIZE)}
    return [
        complete,
        "Great staff!",
        {"text": "a", "audio": frames(1, AUDIO_SIZE)},
        {"vision": frames(4, VISION_SIZE), "text": None},
        {"audio": frames(3, AUDIO_SIZE)},
        {**complete, "audio": frames(6, AUDIO_SIZE, broken=True), "vision": frames(2, VISION_SIZE, broken=True)},
        {**complete, "audio": frames(MAX_AUDIO + 9, AUDIO_SIZE)},
        {"text": "the " * 90, "audio": complete["audio"].tolist(), "vision": np.zeros((0, VISION_SIZE))},
        {"text": "", "vision": frames(2, VISION_SIZE).astype(np.float64)},
    ]


class TestReviews:
    def test_answers_are_the_pipelines(self, reviews):
        expected, found = (classify(REVIEWS) for classify in reviews)
        assert_equal(found, expected)
        assert len({answer["label"] for answer in found}) > 1 and np.ptp([a["intensity"] for a in found]) > 0.01
        assert np.ptp([answer["expected"] for answer in found]) > 0.01

    @pytest.mark.parametrize("batch_size", [1, 3, 100])
    def test_do_not_depend_on_the_batch(self, reviews, batch_size):
        _, exported = reviews
        assert_equal(exported(REVIEWS, batch_size=batch_size), [exported(text) for text in REVIEWS])

    def test_every_form_of_input(self, reviews):
        _, exported = reviews
        expected = exported(REVIEWS)
        assert_equal(list(exported(iter(REVIEWS))), expected)
        assert_equal([exported({"text": text, "audio": None}) for text in REVIEWS], expected)
        assert_equal(list(exported(Dataset.from_dict({"text": REVIEWS}), batch_size=2)), expected)
        assert exported([]) == []

    def test_a_stream_is_read_as_needed(self, reviews):
        read = []
        stream = reviews[1]((read.append(i) or "good" for i in range(1000)), batch_size=2)
        assert next(stream)["label"] and len(read) == 32

    @pytest.mark.parametrize("top_k", [1, 2, 99, None])
    def test_top_k(self, reviews, top_k):
        expected, found = (classify(REVIEWS, top_k=top_k) for classify in reviews)
        assert_equal(found, expected)
        assert len(found[0]) == min(top_k or 5, 5)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"calibration": False},
            {"top_k": 2},
            {"abstain_below": 0.35},
            {"abstain_below": 0},
            {"return_truncated": True},
            {"long_texts": "cut", "return_truncated": True},
        ],
        ids=str,
    )
    def test_calibrated_answers(self, reviews, monkeypatch, options):
        for classify in reviews:
            for name, value in {"temperature": 3.0, "coarse_temperature": 0.6}.items():
                monkeypatch.setattr(classify.model.config, name, value)
        scores = sorted(answer["score"] for answer in reviews[0](REVIEWS))
        for classify in reviews:  # between two scores, so that some answers are unsure
            monkeypatch.setattr(classify.model.config, "abstain_below", (scores[0] + scores[-1]) / 2)
        expected, found = (classify(REVIEWS, **options) for classify in reviews)
        assert_close(found, expected, atol=1e-5)
        if not options or "return_truncated" in options:
            assert {answer["unsure"] for answer in found} == {True, False}
            assert all(("alternatives" in answer) == answer["unsure"] for answer in found)
        if "return_truncated" in options:
            assert (min(answer["kept"] for answer in found) < 1) == ("long_texts" in options)

    def test_aspects(self, reviews):
        texts = [*REVIEWS, "A good stay.\nroom.jpg"]
        expected, found = (classify(texts, aspects={"room": [], "staff": ["waiter"]}) for classify in reviews)
        assert_equal(found, expected)
        assert "is the name of a file" in found[-1]["aspects"]["room"]["error"]

    def test_labelled_reviews_have_the_same_metrics(self, reviews):
        rows = Dataset.from_dict({"text": REVIEWS, "labels": [i % 5 for i in range(len(REVIEWS))]})
        expected, found = (evaluate_reviews(predict_labelled(classify, rows)) for classify in reviews)
        assert found == pytest.approx(expected, abs=1e-4)


class TestClips:
    def test_answers_are_the_pipelines(self, clips_, inputs):
        expected, found = (classify(inputs) for classify in clips_)
        assert_equal(found, expected)
        assert np.ptp([answer["score"] for answer in found]) > 0.1

    @pytest.mark.parametrize("batch_size", [1, 2, 100])
    def test_do_not_depend_on_the_batch(self, clips_, inputs, batch_size):
        _, exported = clips_
        assert_equal(exported(inputs, batch_size=batch_size), [exported(value) for value in inputs])

    def test_every_modality_is_read(self, clips_, inputs):
        _, exported = clips_
        score = exported(inputs[0])["score"]
        for name in inputs[0]:
            rest = {key: value for key, value in inputs[0].items() if key != name}
            assert abs(exported(rest)["score"] - score) > 1e-3, name


class TestLongTexts:
    LONG = ["The room was not clean, but the staff was wonderful. " * 6, "😀" * 200, "Fine."]

    @pytest.mark.parametrize("batch_size", [2, 32])
    def test_are_read_whole(self, reviews, batch_size):
        expected, found = (classify(self.LONG, batch_size=batch_size) for classify in reviews)
        assert_equal(found, expected)
        cut = reviews[1](self.LONG, long_texts="cut")
        assert_equal(cut, reviews[0](self.LONG, long_texts="cut"))
        assert max(abs(one["intensity"] - other["intensity"]) for one, other in zip(cut, found, strict=True)) > 1e-3

    def test_a_graph_of_an_earlier_version_cuts_and_says_so(self, reviews, monkeypatch):
        lines = []
        monkeypatch.setattr("hf_fusion.models.pipeline_common.logger.warning", lines.append)
        monkeypatch.setattr(reviews[1].model, "reads_windows", False)
        assert_equal(reviews[1](self.LONG), reviews[0](self.LONG, long_texts="cut", return_truncated=False))
        assert lines[0].startswith("2 of 3 inputs are longer") and "export the checkpoint again" in lines[0]
        with pytest.raises(ValueError, match=r"cuts long texts\. The graph is of an earlier version"):
            reviews[1](self.LONG, long_texts="window")


@pytest.mark.parametrize(
    ("kind", "value", "options"),
    [
        ("reviews", 3, {}),
        ("reviews", {"review": "x"}, {}),
        ("reviews", {"text": "x", "audio": [[1.0]]}, {}),
        ("reviews", ["x", None], {}),
        ("reviews", ["x", "\ud800"], {}),
        ("reviews", ["x", "\t"], {}),
        ("reviews", "interview.flac", {}),
        ("clips_", {"text": "", "vision": np.zeros((0, VISION_SIZE))}, {}),
        ("reviews", "x", {"batch_size": 0}),
        ("reviews", "x", {"top_k": 0}),
        ("clips_", {"text": "x", "audio": np.zeros((2, 99))}, {}),
        ("clips_", {"text": "x", "audio": np.zeros(3)}, {}),
        ("clips_", {"audio": [["loud"] * AUDIO_SIZE]}, {}),
        ("clips_", ["good", {"vision": np.zeros((0, VISION_SIZE))}], {}),
        ("clips_", "x", {"top_k": 2}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_bad_input_has_the_pipelines_error(request, kind, value, options):
    messages = []
    for classify in request.getfixturevalue(kind):
        with pytest.raises(ValueError) as error:
            classify(value, **options)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_bad_inputs_have_errors_in_their_places(clips_):
    values = ["good", "", {"audio": np.ones((2, AUDIO_SIZE + 1))}, {"vision": np.ones((2, VISION_SIZE))}]
    expected, found = (classify(values, on_error="return") for classify in clips_)
    assert [type(answer) for answer in found] == [dict, InputError, InputError, dict]
    assert [str(answer) for answer in found[1:3]] == [str(answer) for answer in expected[1:3]]
    assert_equal([found[0], found[3]], [expected[0], expected[3]])


def test_unknown_option(reviews):
    with pytest.raises(
        ValueError, match="Unknown argument `explain`: accepted are `batch_size`, `top_k`, `consistent`, "
    ):
        reviews[1]("x", explain=True)


@pytest.mark.parametrize("kind", ["exported_reviews", "exported_clips"])
def test_runs_where_there_is_no_torch(request, inputs, kind):
    classify, folder = request.getfixturevalue(kind)
    values = REVIEWS[:6] if kind == "exported_reviews" else [inputs[0], inputs[1], inputs[5]]
    as_json = [
        value if isinstance(value, str) else {name: np.asarray(item).tolist() for name, item in value.items()}
        for value in values
    ]
    process = subprocess.run(
        [sys.executable, "-c", STRANGER, str(folder), json.dumps(as_json)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    result = next(line for line in process.stdout.splitlines() if line.startswith("RESULT"))
    assert_equal(json.loads(result.removeprefix("RESULT")), classify(values))


class TestLoading:
    def test_without_onnxruntime(self, exported_reviews, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(ImportError, match=r"pip install 'hf-fusion\[onnx\]'"):
            OnnxFusion.from_pretrained(exported_reviews[1])

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (None, "is not an exported model"),
            ("{", "cannot be read"),
            pytest.param("[" * 100_000, "cannot be read", id="deep"),
            ("[]", "format None"),
            ('{"format": 7}', "format 7"),
            ('{"format": 1}', r"onnx_fusion\.json is damaged, export .* again: `config` must be a mapping, got None"),
            ('{"format": 1, "config": []}', r"`config` must be a mapping, got \[\]"),
        ],
    )
    def test_folders_that_are_none(self, tmp_path, content, words):
        if content:
            (tmp_path / "onnx_fusion.json").write_text(content)
        with pytest.raises(ValueError, match=words):
            OnnxFusion.from_pretrained(tmp_path)

    @pytest.mark.parametrize(
        ("kind", "fields", "words"),
        [
            (
                "reviews",
                {"model_type": "bert"},
                r"onnx_fusion\.json is damaged, .*: `model_type` must be one of this package's models, got 'bert'",
            ),
            ("reviews", {"id2label": [1]}, "`id2label` must name the classes"),
            ("reviews", {"coarse_id2label": 3}, "`coarse_id2label` must name the classes"),
            ("reviews", {"problem_type": "x"}, "`problem_type` must be one of"),
            ("reviews", {"class_values": [1, 2]}, "`class_values` must be a number for each of the 5 classes"),
            ("reviews", {"coarse_starts": [1, 2, 3]}, "`coarse_starts` must be the fine class that each of 3 coarse"),
            (
                "reviews",
                {"id2label": {"0": "bad"}, "class_values": None},
                r"model\.onnx is damaged, .*`logits` has rows of \(5,\), .*\(1,\)",
            ),
            ("clips", {"label_range": [-3, float("nan")]}, "`label_range` must be"),
            ("clips", {"modalities": ["smell"]}, "`modalities` must be"),
            ("clips", {"modality_dropout": 10**400}, "`modality_dropout` must lie in"),
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_a_description_of_no_such_model(self, request, tmp_path, kind, fields, words):
        folder = shutil.copytree(request.getfixturevalue(f"exported_{kind}")[1], tmp_path / "changed")
        description = json.loads((folder / "onnx_fusion.json").read_text())
        description["config"].update(fields)
        (folder / "onnx_fusion.json").write_text(json.dumps(description))
        with pytest.raises(ValueError, match=words):
            OnnxFusion.from_pretrained(folder)

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("model.onnx", b"no graph", r"model\.onnx cannot be loaded, export the checkpoint again"),
            ("model.onnx", None, r"model\.onnx cannot be loaded"),
            ("tokenizer.json", None, "The processor in .*broken is damaged, export"),
            ("processor_config.json", b"[]", "The processor in .*broken is damaged, export"),
        ],
    )
    def test_broken_files_are_named(self, exported_reviews, tmp_path, name, content, words):
        folder = shutil.copytree(exported_reviews[1], tmp_path / "broken")
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=words):
            OnnxFusion.from_pretrained(folder)

    @pytest.mark.parametrize(
        ("others", "words"),
        [
            (["model.onnx"], r"model\.onnx is damaged, export the checkpoint again: .*`logits`"),
            (["model.onnx", "onnx_fusion.json"], "The processor in .*mixed is damaged, export"),
        ],
    )
    def test_parts_of_two_exports(self, exported_reviews, exported_clips, tmp_path, others, words):
        folder = shutil.copytree(exported_reviews[1], tmp_path / "mixed")
        for name in others:
            shutil.copy(exported_clips[1] / name, folder)
        with pytest.raises(ValueError, match=words):
            OnnxFusion.from_pretrained(folder)

    @pytest.mark.parametrize(
        ("kind", "shape", "words"),
        [
            ("FLOAT", ["batch", "sniffs", 3], "The processor in .* is damaged, .*: it does not make the input 'smell'"),
            ("FLOAT", ["batch", "sniffs", "width"], r"model\.onnx is damaged, .*: its input 'smell' is .* 'width'"),
            ("STRING", ["batch", "sniffs"], r"model\.onnx is damaged, .*: its input 'smell' is a tensor\(string\)"),
        ],
    )
    def test_a_graph_with_an_unknown_input(self, exported_reviews, tmp_path, kind, shape, words):
        import onnx

        folder = shutil.copytree(exported_reviews[1], tmp_path / "other")
        model = onnx.load(folder / "model.onnx")
        kind = getattr(onnx.TensorProto, kind)
        model.graph.input.append(onnx.helper.make_tensor_value_info("smell", kind, shape))
        onnx.save(model, folder / "model.onnx")
        with pytest.raises(ValueError, match=words):
            OnnxFusion.from_pretrained(folder)

    @pytest.mark.parametrize(
        "values", [np.full((1, 5), np.nan), np.zeros((1, 4)), np.zeros((2, 5))], ids=["nan", "width", "rows"]
    )
    def test_what_is_no_answer_is_refused(self, exported_reviews, monkeypatch, values):
        exported = OnnxFusion.from_pretrained(exported_reviews[1])
        monkeypatch.setattr(type(exported.model), "__call__", lambda self, **_: {"logits": values})
        with pytest.raises(ValueError, match=r"The graph is damaged, export the checkpoint again: .*`logits`"):
            exported("Fine.")

    def test_an_export_of_an_earlier_version_is_not_calibrated(self, exported_reviews, tmp_path):
        folder = shutil.copytree(exported_reviews[1], tmp_path / "changed")
        path = folder / "onnx_fusion.json"
        description = json.loads(path.read_text())
        for name in ("temperature", "coarse_temperature", "abstain_below"):
            del description["config"][name]
        path.write_text(json.dumps(description))
        classify = OnnxFusion.from_pretrained(folder)
        assert classify.model.config.temperature == 1 and classify.model.config.abstain_below is None
        assert "unsure" not in classify("good")

    def test_code_in_the_folder_is_not_run(self, exported_reviews, tmp_path, monkeypatch):
        folder = shutil.copytree(exported_reviews[1], tmp_path / "code")
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        (folder / "own.py").write_text("raise SystemExit('executed')")
        monkeypatch.setattr("builtins.input", lambda *_: "y")  # of somebody at a terminal who is asked
        with pytest.raises(ValueError, match="contains custom code"):
            OnnxFusion.from_pretrained(folder)

    def test_what_cannot_be_computed(self, exported_reviews):
        exported = OnnxFusion.from_pretrained(exported_reviews[1])
        with pytest.raises(ValueError, match="ONNX Runtime cannot compute the graph: "):
            exported.model(input_ids=np.full((1, 3), 10**6))

    def test_threads(self, exported_reviews):
        exported = OnnxFusion.from_pretrained(exported_reviews[1], num_threads=1)
        assert exported.model.session.get_session_options().intra_op_num_threads == 1


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
def test_activations_are_torchs(reviews, activation):
    values = torch.tensor([[0.0, 1.0, -3.0], [500.0, -500.0, 0.5], [-90.0, -90.0, -90.0]])
    expected, found = (
        classify.to_array(given, activation) for classify, given in zip(reviews, (values, values.numpy()), strict=True)
    )
    assert found.dtype == np.float32 == expected.dtype
    np.testing.assert_allclose(found, expected, atol=1e-6)
