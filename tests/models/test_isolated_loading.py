"""A checkpoint in the hands of somebody who does not have the package."""

import ast
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from asserts import assert_close, assert_same_weights
from fresh_python import run_fresh
from transformers import AutoModelForSequenceClassification

import hf_fusion.models
from hf_fusion import FusionSentimentPipeline

MODELS = Path(hf_fusion.models.__file__).parent

# Blocks the package, loads everything there is, and prints what it computes.
STRANGER = """
import json, sys
sys.modules["hf_fusion"] = None
import torch
from transformers import (AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoProcessor, AutoTokenizer,
                          pipeline)
folder, texts = sys.argv[1], json.loads(sys.argv[2])
torch.set_num_threads(1)
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
batch = processor(texts, return_tensors="pt")
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
base = AutoModel.from_pretrained(folder, trust_remote_code=True)
with torch.no_grad():
    outputs, pooled = model(**batch), base(**batch).pooler_output
answers = pipeline("fusion-sentiment", model=folder, trust_remote_code=True, device="cpu")(texts)
inferred = pipeline(model=folder, trust_remote_code=True, device="cpu")(texts[0])
if len(sys.argv) > 3:
    model.save_pretrained(sys.argv[3]); processor.save_pretrained(sys.argv[3])
print("RESULT", json.dumps({
    "modules": [type(x).__module__.split(".")[0] for x in (config, processor, model, base)],
    "batch": {name: values.tolist() for name, values in batch.items()},
    "logits": outputs.logits.tolist(), "coarse": outputs.coarse_logits.tolist(),
    "intensity": outputs.intensity.tolist(), "pooled": pooled.tolist(), "answers": answers, "inferred": inferred}))
"""


# The same for clips, which come as JSON on standard input.
STRANGER_WITH_CLIPS = """
import json, sys
sys.modules["hf_fusion"] = None
import torch
from transformers import (AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSequenceClassification,
                          AutoProcessor, pipeline)
folder, clips = sys.argv[1], json.loads(sys.argv[2])
torch.set_num_threads(1)
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
columns = {name: [clip[name] for clip in clips] for name in ("text", "audio", "vision")}
batch = processor(**columns, return_tensors="pt")
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
base = AutoModel.from_pretrained(folder, trust_remote_code=True)
with torch.no_grad():
    outputs, pooled = model(**batch), base(**batch).pooler_output
answers = pipeline("fusion-sentiment", model=folder, trust_remote_code=True, device="cpu")(clips)
if len(sys.argv) > 3:
    model.save_pretrained(sys.argv[3]); processor.save_pretrained(sys.argv[3])
print("RESULT", json.dumps({
    "modules": [type(x).__module__.split(".")[0] for x in (config, processor, extractor, model, base)],
    "batch": {name: values.tolist() for name, values in batch.items()},
    "logits": outputs.logits.tolist(), "pooled": pooled.tolist(), "answers": answers}))
"""


def load_as_stranger(folder, texts, cache, *more, script=STRANGER):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HF_MODULES_CACHE")}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cache)}
    process = run_fresh(script, folder, json.dumps(texts), *more, cwd=cache, env=environment)
    assert process.returncode == 0, process.stderr[-3000:]
    line = next(line for line in process.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


@pytest.mark.parametrize(
    ("how", "fields"),
    [
        (
            "pipeline",
            {"cross_fusion": "a", "a": "bert", "loss_weighting": "dwa", "temperature": 3.0},
        ),
        ("model and processor", {}),
    ],
    ids=["pipeline-a", "model and processor-full"],
)
def test_loads_and_computes_the_same(make_model, processor, texts, tmp_path, fields, how):
    model = make_model(**fields)
    folder = tmp_path / "some.name-1"
    if how == "pipeline":
        classify = FusionSentimentPipeline(model, processor=processor, device="cpu")
        scores = sorted(answer["score"] for answer in classify(texts))
        model.config.abstain_below = sum(scores[1:3]) / 2  # two of four are unsure
        classify.save_pretrained(folder)
    else:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    cache, again = tmp_path / "home", tmp_path / "again"
    cache.mkdir()
    result = load_as_stranger(folder, texts, cache, again)

    assert result["modules"] == ["transformers_modules"] * 4
    batch = processor(texts, return_tensors="pt")
    assert result["batch"] == {name: values.tolist() for name, values in batch.items()}
    with torch.no_grad():
        outputs, base = model(**batch), model.dyfulm(**batch)
    assert_close(result["logits"], outputs.logits)
    assert_close(result["coarse"], outputs.coarse_logits)
    assert_close(result["intensity"], outputs.intensity)
    assert_close(result["pooled"], base.pooler_output)
    answers = FusionSentimentPipeline(model, processor=processor, device="cpu")(texts)
    assert [answer["label"] for answer in result["answers"]] == [answer["label"] for answer in answers]
    assert result["answers"][0]["score"] == pytest.approx(answers[0]["score"], abs=1e-6)
    assert result["inferred"]["label"] == answers[0]["label"]
    assert [answer.get("unsure") for answer in result["answers"]] == [answer.get("unsure") for answer in answers]
    if how == "pipeline":
        assert {answer["unsure"] for answer in answers} == {True, False}
    assert_same_weights(*map(AutoModelForSequenceClassification.from_pretrained, (again, folder)))
    if how == "model and processor":  # saved by the stranger, loaded by the next one
        assert_close(load_as_stranger(again, texts, cache)["logits"], outputs.logits)


@pytest.mark.parametrize(
    ("how", "text", "fields"),
    [("pipeline", "bert", {}), ("model and processor", "dyfulm", {}),
     ("pipeline", "deberta", {"fusion": "concat_attention", "anchor": "symmetric"})],
    ids=["pipeline-bert", "model and processor-dyfulm", "pipeline-deberta"],
)  # fmt: skip
def test_dashfusion_loads_and_computes_the_same(
    clip_model, clip_processor, clip_processor_b, clips, tmp_path, text, fields, how
):
    model, processor = clip_model(text, **fields), clip_processor_b if text == "dyfulm" else clip_processor
    processor.feature_extractor.fit("audio", clips["audio"])
    folder = tmp_path / "some.name-1"
    if how == "pipeline":
        FusionSentimentPipeline(model, processor=processor, device="cpu").save_pretrained(folder)
    else:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    as_lists = {
        name: [value.tolist() if hasattr(value, "tolist") else value for value in values]
        for name, values in clips.items()
    }
    rows = [dict(zip(as_lists, values, strict=True)) for values in zip(*as_lists.values(), strict=True)]
    cache, again = tmp_path / "home", tmp_path / "again"
    cache.mkdir()
    result = load_as_stranger(folder, rows, cache, again, script=STRANGER_WITH_CLIPS)

    assert result["modules"] == ["transformers_modules"] * 5
    batch = processor(**clips, return_tensors="pt")
    assert result["batch"] == {name: values.tolist() for name, values in batch.items()}
    with torch.no_grad():
        assert_close(result["logits"], model(**batch).logits)
        assert_close(result["pooled"], model.dashfusion(**batch).pooler_output)
    scores = [answer["score"] for answer in result["answers"]]
    assert scores == pytest.approx([row[0] for row in result["logits"]], abs=1e-4)
    assert_same_weights(*map(AutoModelForSequenceClassification.from_pretrained, (again, folder)))
    if how == "model and processor":  # saved by the stranger, loaded by the next one
        found = load_as_stranger(again, rows, cache, script=STRANGER_WITH_CLIPS)
        assert_close(found["logits"], torch.tensor(result["logits"]))


def test_dashfusion_from_a_hub_repository(clip_model, clip_processor_b, clips, tmp_path):
    """With two tokenizers, of which the second is easily lost."""
    hub = tmp_path / "hub" / "models--acme--dashfusion-tiny"
    model, processor = clip_model("dyfulm"), clip_processor_b
    FusionSentimentPipeline(model, processor=processor, device="cpu").save_pretrained(hub / "snapshots" / ("a" * 40))
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("a" * 40)
    rows = [{"text": clips["text"][0], "audio": clips["audio"][0].tolist(), "vision": None}]
    result = load_as_stranger("acme/dashfusion-tiny", rows, tmp_path, script=STRANGER_WITH_CLIPS)
    batch = processor(text=clips["text"][:1], audio=clips["audio"][:1], return_tensors="pt")
    with torch.no_grad():
        assert_close(result["logits"], model(**batch).logits)


def test_snapshot_of_a_hub_repository(make_model, processor, texts, tmp_path):
    """As a repository in the cache, offline: the case in which a second tokenizer is easily lost."""
    hub = tmp_path / "hub" / "models--acme--dyfulm-tiny"
    snapshot = hub / "snapshots" / ("a" * 40)
    FusionSentimentPipeline(make_model(), processor=processor, device="cpu").save_pretrained(snapshot)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("a" * 40)
    result = load_as_stranger("acme/dyfulm-tiny", texts, tmp_path)
    assert result["batch"]["input_ids_b"] == processor(texts)["input_ids_b"]
    with torch.no_grad():
        assert_close(result["logits"], make_model()(**processor(texts, return_tensors="pt")).logits)


def test_needs_the_flag(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    code = "import sys; sys.modules['hf_fusion'] = None; from transformers import AutoModel as M; "
    code += f"M.from_pretrained({str(tmp_path)!r})"
    process = run_fresh(code, cwd=tmp_path, env=dict(os.environ))
    assert process.returncode != 0 and "trust_remote_code=True" in process.stderr


def siblings(path):
    """The files that a file imports by one dot."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {MODELS / f"{node.module}.py" for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 1}


@pytest.mark.parametrize(
    "name",
    ["configuration_dyfulm", "configuration_dashfusion", "processing_dyfulm", "processing_dashfusion",
     "feature_extraction_dashfusion", "modeling_dyfulm", "modeling_dashfusion", "pipeline_fusion_sentiment"],
)  # fmt: skip
def test_a_file_with_a_class_imports_all_that_it_needs_by_itself(name):
    """Before 5.12, transformers copies nothing else from a folder."""
    own = siblings(MODELS / f"{name}.py")
    needed, waiting = set(), [*own]
    while waiting:
        path = waiting.pop()
        waiting += siblings(path) - needed
        needed.add(path)
    assert {path.name for path in needed - own} - {f"{name}.py"} == set()


def is_guard(node):
    """`if is_NAME_available():`, behind which a library may be absent."""
    name = getattr(getattr(getattr(node, "test", None), "func", None), "id", "")
    return isinstance(node, ast.If) and name.startswith("is_") and name.endswith("_available")


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.py")), ids=lambda path: path.name)
def test_models_import_nothing_that_cannot_travel(path):
    allowed = {"torch", "transformers", "numpy", "safetensors"} | set(sys.stdlib_module_names)
    tree = ast.parse(path.read_text())
    guarded = {node for branch in ast.walk(tree) if is_guard(branch) for node in ast.walk(branch)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and node not in guarded:
            assert {alias.name.split(".")[0] for alias in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module.split(".")[0] in allowed
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1 and (MODELS / f"{node.module}.py").is_file(), "a sibling, by one dot"
