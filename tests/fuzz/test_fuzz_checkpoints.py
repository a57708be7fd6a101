"""Checkpoints, run folders and reports that others wrote: judged, refused or shown, and never believed."""

import io
import json
import struct
import zipfile
from html.parser import HTMLParser

import pytest
import torch
import yaml
from hostile import NASTY_TEXTS, cases, changed, damaged, numbers, result_or
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from safetensors.torch import save as save_tensors

from hf_fusion import FusionSentimentPipeline
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.deployment.released_weights import (
    ConversionError,
    convert_released_weights,
    load_released_weights,
    released_text_config,
)
from hf_fusion.evaluation.diagnostics.findings import Finding, Section
from hf_fusion.evaluation.diagnostics.report import render_report
from hf_fusion.evaluation.plots import plot_confusion, save_figure
from hf_fusion.hub.model_card import CardError, model_card
from hf_fusion.hub.repository import PublishError, check_complete, repository_files
from hf_fusion.training.checkpoints import find_problem, newest_sound_checkpoint
from hf_fusion.utils.errors import DataError

WEIGHTS = save_tensors({"weight": torch.arange(20.0)})
INDEX = {"metadata": {}, "weight_map": {"a": "model.safetensors"}}


def archive(*parts, **options):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as content:
        for name, data in parts:
            content.writestr(name, data)
    return file.getvalue()


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """The files of a sound checkpoint."""
    path = tmp_path_factory.mktemp("state") / "optimizer.pt"
    torch.save({"values": torch.ones(5)}, path)
    return {
        "trainer_state.json": b'{"global_step": 3, "best_model_checkpoint": null}', "model.safetensors": WEIGHTS,
        "model.safetensors.index.json": json.dumps(INDEX).encode(), "optimizer.pt": path.read_bytes(),
        "scheduler.pt": path.read_bytes(), "rng_state.pth": path.read_bytes(),
    }  # fmt: skip


def headers(fields):
    """A safetensors file with this header."""
    content = json.dumps(fields).encode()
    return struct.pack("<Q", len(content)) + content + bytes(80)


HEADER = {"weight": {"dtype": "F32", "shape": [20], "data_offsets": [0, 80]}, "__metadata__": {"format": "pt"}}


def test_training_states(states, tmp_path):
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()

    @cases(20)
    @given(data=st.data())
    def check(data):
        name = data.draw(st.sampled_from(sorted(states)))
        ways = [damaged([states[name]])]
        if name.endswith("json"):
            ways.append(changed(json.loads(states[name])).map(lambda fields: json.dumps(fields).encode()))
        if name.endswith(".safetensors"):
            ways.append(changed(HEADER).map(headers))
            ways.append(st.sampled_from([2**40, 2**63, 2**64 - 1, 0]).map(lambda size: struct.pack("<Q", size) + b"{}"))
        content = data.draw(st.one_of(ways))
        for other, sound in states.items():
            (folder / other).write_bytes(sound)
        (folder / name).write_bytes(content)
        with result_or(seconds=20):
            newest, skipped = newest_sound_checkpoint(tmp_path)
            assert (newest is None) == bool(skipped)
            if newest is None:
                assert skipped["checkpoint-3"] and len(skipped["checkpoint-3"]) < 2000

    check()


def test_an_archive_that_unpacks_to_more_than_it_has(states, tmp_path):
    for name, content in states.items():
        (tmp_path / name).write_bytes(content)
    assert find_problem(tmp_path) is None
    (tmp_path / "optimizer.pt").write_bytes(archive(("a", bytes(10**6)), compression=zipfile.ZIP_DEFLATED))
    assert find_problem(tmp_path) == "optimizer.pt: its parts are larger than the file"


@pytest.fixture
def run_folder(request, tmp_path, make_model, processor, clip_model, clip_processor):
    """A run folder with weights, code, processor and records."""
    pair = (make_model(), processor) if request.param == "dyfulm" else (clip_model(), clip_processor)
    FusionSentimentPipeline(pair[0], processor=pair[1], device="cpu").save_pretrained(tmp_path)
    metrics = {"seed": 1, "train_samples": 5, "train_seconds": 1.0, "test": {"mae": 0.5, "loss": 1.0, "corr": None}}
    hardware = {"accelerators": [], "cores": 2, "processor": "x"}
    environment = {"rows": {"test": 3}, "dataset": "reviews.csv", "hardware": hardware, "versions": {"torch": "2"}}
    for name, content in (("metrics", metrics), ("environment", environment)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model_type": request.param, "encoder_a": "a/b"}))
    return tmp_path


RECORDS = ("metrics.json", "environment.json", "config.json", "config.yaml")
both = pytest.mark.parametrize("run_folder", ["dyfulm", "dashfusion"], indirect=True)


@both
def test_model_cards(run_folder):
    sound = {name: (run_folder / name).read_bytes() for name in RECORDS}

    @cases(12)
    @given(data=st.data())
    def check(data):
        name = data.draw(st.sampled_from(RECORDS))
        fields = yaml.safe_load(sound[name])
        content = data.draw(changed(fields).map(lambda found: json.dumps(found).encode()) | damaged([sound[name]]))
        for other, original in sound.items():
            (run_folder / other).write_bytes(original)
        (run_folder / name).write_bytes(content)
        with result_or(CardError):
            card = str(model_card(run_folder, data.draw(st.sampled_from(["me/it", *NASTY_TEXTS]))))
            front, _, body = card.removeprefix("---\n").partition("\n---\n")
            assert isinstance(yaml.safe_load(front), dict)
            assert body.count("```") == 2 and "<script>" not in body
            compile(body.split("```python\n")[1].split("```")[0], "snippet", "exec")

    check()


@both
def test_folders_to_publish(run_folder):
    names = [path.name for path in run_folder.iterdir() if path.suffix in (".json", ".py", ".safetensors")]
    sound = {name: (run_folder / name).read_bytes() for name in names}

    @cases(6)
    @given(data=st.data())
    def check(data):
        name = data.draw(st.sampled_from(sorted(names)))
        ways = [damaged([sound[name]]), st.just(b"\n" * 100_000), st.just(b"from .nowhere import x\n")]
        if name.endswith(".json"):
            ways.append(changed(json.loads(sound[name])).map(lambda fields: json.dumps(fields).encode()))
        (run_folder / name).write_bytes(data.draw(st.one_of(ways)))
        with result_or(PublishError, seconds=5):
            check_complete(repository_files(run_folder))
        (run_folder / name).write_bytes(sound[name])

    check()


@both
def test_a_link_out_of_the_folder_is_not_published(run_folder, tmp_path_factory):
    secret = tmp_path_factory.mktemp("home") / "id_rsa"
    secret.write_text("secret")
    (run_folder / "vocab.txt").symlink_to(secret)
    with pytest.raises(PublishError, match=r"vocab\.txt is a link out of the folder"):
        repository_files(run_folder)
    (run_folder / "vocab.txt").unlink()
    (run_folder / "vocab.txt").symlink_to(run_folder / "config.json")
    assert "vocab.txt" in repository_files(run_folder)


@both
def test_checkpoints_to_predict_with(run_folder):
    names = ["config.json", "processor_config.json", "model.safetensors", "tokenizer_config.json", "tokenizer.json"]
    sound = {name: (run_folder / name).read_bytes() for name in names}
    sizes = ("hidden_size", "intermediate_size", "max_", "num_", "vocab", "_size", "layer")  # of a model of any size

    @cases(3)
    @given(data=st.data())
    def check(data):
        name = data.draw(st.sampled_from(names))
        ways = damaged([sound[name]])
        if name == "config.json":
            fields = {key: value for key, value in json.loads(sound[name]).items() if not any(s in key for s in sizes)}
            ways = changed(fields).map(lambda found: json.dumps({**json.loads(sound[name]), **found}).encode())
        (run_folder / name).write_bytes(data.draw(ways))
        with result_or(DataError, OSError):
            load_pipeline(str(run_folder))
        (run_folder / name).write_bytes(sound[name])

    check()


NAMES = [
    "text_projector.MLP.2.weight", "audio_encoder.encoder.pos_encoder.proj.weight", "classifier.MLP.4.weight",
    "audio_encoder.encoder.pos_encoder.position_embeddings", "vision_encoder.encoder.pos_encoder.proj.weight",
    "vision_encoder.encoder.pos_encoder.position_embeddings", "temporal_alignment.to_q.weight",
    "audio_encoder.encoder.transformer_encoder.layers.0.linear1.weight", "HBF.encoder_q.0.layers.0.0.fn.x", "x",
    "audio_encoder.encoder.transformer_encoder.layers.0.self_attn.in_proj_weight",
]  # fmt: skip
BERT = ["embeddings.word_embeddings.weight", "encoder.layer.0.intermediate.dense.weight",
        "embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"]  # fmt: skip


@cases(16)
@given(
    names=st.lists(st.sampled_from(NAMES + [f"text_encoder.extractor.{name}" for name in BERT]), max_size=12),
    shape=st.lists(st.integers(0, 8), max_size=3), all_known=st.booleans(), heads=st.sampled_from([0, -1, 1, 4]),
)  # fmt: skip
def test_weights_of_other_code(names, shape, all_known, heads, make_config):
    weights = {name: torch.ones(shape) for name in (NAMES[:9] + names if all_known else names)}
    with result_or(ConversionError):
        convert_released_weights(weights, make_config().encoder_a_config, heads)
    with result_or(ConversionError):
        released_text_config(weights)


@cases(8)
@given(content=damaged([WEIGHTS]) | changed(HEADER).map(headers), name=st.sampled_from(["a.safetensors", "a.pth"]))
def test_files_of_other_code(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with result_or(ConversionError):
        load_released_weights(str(tmp_path / name))


class Fired:
    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_that_would_run_code(tmp_path, legacy):
    torch.save({"a": Fired()}, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ConversionError, match="not a file of plain weights"):
        load_released_weights(str(tmp_path / "a.pth"))


class Tags(HTMLParser):
    """The tags of a page, and of each attribute its value."""

    def __init__(self, page):
        super().__init__()
        self.found, self.attributes = set(), set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}


TAGS = {"html", "meta", "title", "style", "h1", "h2", "h3", "ul", "ol", "li", "a", "p", "div", "head", "body",
        "table", "thead", "tbody", "tr", "th", "td", "img"}  # fmt: skip
hostile_names = st.sampled_from(NASTY_TEXTS[1:]).filter(lambda text: "\ud800" not in text) | st.sampled_from(
    ["<img src=x onerror=alert(1)>", "' onload='x", '" onload="x', "</table><script>x</script>", "]]>", "<!--", "&lt;"]
)


@cases(8)
@given(
    words=st.lists(hostile_names, min_size=8, max_size=8),
    value=numbers.filter(lambda n: abs(n) < 1e300) | hostile_names,
)
def test_reports(words, value):
    finding = Finding(words[0], 0.5, words[1], False, words[2])
    figures, tables = {"\"><script>'": Figure(figsize=(1, 1))}, {words[5]: [{words[6]: words[7], "n": value}]}
    section = Section(words[3], words[4], [finding], figures, tables)
    tags = Tags(render_report(words[0], {words[1]: words[2], "dataset": words[3]}, [section]))
    assert tags.found <= TAGS
    assert tags.attributes <= {"lang", "charset", "name", "content", "class", "id", "href", "alt", "src"}


@cases(3)
@given(names=st.lists(hostile_names.filter(lambda text: len(text) < 50 and text.isprintable()), min_size=2, max_size=2))
def test_pictures(tmp_path, names):
    save_figure(plot_confusion([0, 1], [0, 1], names, names[0]), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
