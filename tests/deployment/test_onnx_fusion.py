import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import AUDIO_SIZE, MAX_AUDIO, TEXTS, VISION_SIZE
from datasets import Dataset

from hf_fusion.deployment import OnnxFusion
from hf_fusion.evaluation.evaluate_reviews import evaluate_reviews

pytest.importorskip("onnxruntime")

REVIEWS = [
    *TEXTS,
    "",
    " \n",
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


def close(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    return a == pytest.approx(b, abs=1e-4) if isinstance(a, float) else a == b


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
        assert close(found, expected)
        assert len({answer["label"] for answer in found}) > 1 and np.ptp([a["intensity"] for a in found]) > 0.01

    @pytest.mark.parametrize("batch_size", [1, 3, 100])
    def test_do_not_depend_on_the_batch(self, reviews, batch_size):
        _, exported = reviews
        assert close(exported(REVIEWS, batch_size=batch_size), [exported(text) for text in REVIEWS])

    def test_every_form_of_input(self, reviews):
        _, exported = reviews
        expected = exported(REVIEWS)
        assert close(list(exported(iter(REVIEWS))), expected)
        assert close([exported({"text": text, "audio": None}) for text in REVIEWS], expected)
        assert close(list(exported(Dataset.from_dict({"text": REVIEWS}), batch_size=2)), expected)
        assert exported([]) == []

    def test_a_stream_is_read_as_needed(self, reviews):
        read = []
        stream = reviews[1]((read.append(i) or "good" for i in range(1000)), batch_size=2)
        assert next(stream)["label"] and len(read) == 32

    @pytest.mark.parametrize("top_k", [1, 2, 99, None])
    def test_top_k(self, reviews, top_k):
        expected, found = (classify(REVIEWS, top_k=top_k) for classify in reviews)
        assert close(found, expected) and len(found[0]) == min(top_k or 5, 5)

    def test_labelled_reviews_have_the_same_metrics(self, reviews):
        rows = Dataset.from_dict({"text": REVIEWS, "labels": [i % 5 for i in range(len(REVIEWS))]})
        expected, found = (evaluate_reviews(classify, rows) for classify in reviews)
        assert found == pytest.approx(expected, abs=1e-4)


class TestClips:
    def test_answers_are_the_pipelines(self, clips_, inputs):
        expected, found = (classify(inputs) for classify in clips_)
        assert close(found, expected)
        assert np.ptp([answer["score"] for answer in found]) > 0.1

    @pytest.mark.parametrize("batch_size", [1, 2, 100])
    def test_do_not_depend_on_the_batch(self, clips_, inputs, batch_size):
        _, exported = clips_
        assert close(exported(inputs, batch_size=batch_size), [exported(value) for value in inputs])

    def test_every_modality_is_read(self, clips_, inputs):
        _, exported = clips_
        score = exported(inputs[0])["score"]
        for name in inputs[0]:
            rest = {key: value for key, value in inputs[0].items() if key != name}
            assert abs(exported(rest)["score"] - score) > 1e-3, name


@pytest.mark.parametrize(
    ("kind", "value", "options"),
    [
        ("reviews", 3, {}),
        ("reviews", {"review": "x"}, {}),
        ("reviews", {"text": "x", "audio": [[1.0]]}, {}),
        ("reviews", ["x", None], {}),
        ("reviews", ["x", "\ud800"], {}),
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


def test_unknown_option(reviews):
    with pytest.raises(ValueError, match="Unknown argument explain: `batch_size` and `top_k`"):
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
    assert close(json.loads(result.removeprefix("RESULT")), classify(values))


class TestLoading:
    def test_without_onnxruntime(self, exported_reviews, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(ImportError, match=r"pip install 'hf-fusion\[onnx\]'"):
            OnnxFusion.from_pretrained(exported_reviews[1])

    @pytest.mark.parametrize(
        ("content", "words"),
        [(None, "is no exported model"), ("{", "cannot be read"), ("[]", "format None"), ('{"format": 7}', "format 7")],
    )
    def test_folders_that_are_none(self, tmp_path, content, words):
        if content:
            (tmp_path / "onnx_fusion.json").write_text(content)
        with pytest.raises(ValueError, match=words):
            OnnxFusion.from_pretrained(tmp_path)

    def test_a_broken_graph_is_named(self, exported_reviews, tmp_path):
        shutil.copytree(exported_reviews[1], tmp_path / "broken")
        (tmp_path / "broken/model.onnx").write_bytes(b"no graph")
        with pytest.raises(ValueError, match=r"model\.onnx cannot be loaded"):
            OnnxFusion.from_pretrained(tmp_path / "broken")

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
