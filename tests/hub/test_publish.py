"""Push and load over HTTP, against a small Hub on loopback."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import tiny_runs
import torch
import yaml
from asserts import assert_close
from fresh_python import run_fresh
from hub_server import TOKEN, Fault, Repo
from huggingface_hub import ModelCard

from hf_fusion.deployment.adapters import add_lora, load_merged
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.deployment.sample_answers import sample_answers
from hf_fusion.hub.endpoint import endpoint_files
from hf_fusion.hub.model_card import CardDetails
from hf_fusion.hub.publish import add_to_collection, publish
from hf_fusion.hub.repository import PublishError, check_complete, is_ours, repository_files
from hf_fusion.training.checkpoints import STAGING
from hf_fusion.utils.errors import RecipeError

REPO = "acme/tiny-dyfulm"
ROOT = Path(__file__).parents[2]

TEXTS = ["The room was not bad at all.", "Great!"]
# No way to another machine.
ALONE = """
import json, socket, sys
connect = socket.socket.connect
def only_loopback(self, address):
    assert address[0] in ("127.0.0.1", "localhost", "::1"), f"asked for {address}"
    return connect(self, address)
socket.socket.connect = only_loopback
import torch
torch.set_num_threads(1)
"""
# Loads by name from the Hub alone, without the package.
STRANGER = """
sys.modules["hf_fusion"] = None
{snippet}
print("RESULT", json.dumps(classify({texts!r})))
"""
WITH_THE_PACKAGE = f"""
from hf_fusion.deployment.predictions import load_pipeline
print("RESULT", json.dumps(load_pipeline("acme/lora", device="cpu")({TEXTS!r})))
"""
BY_NAME = """
from transformers import pipeline
classify = pipeline("fusion-sentiment", model={name!r}, trust_remote_code=True, device="cpu", **{options!r})
"""


def write_run(folder, model, processor):
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    metrics = {"seed": 3, "train_samples": 64, "train_seconds": 1.5, "test": {"loss": 1.0, "fine_accuracy": 0.6}}
    hardware = {"accelerators": [], "cores": 2, "processor": "Some CPU"}
    versions = {"torch": "2.13.0", "transformers": "5.23.0"}
    environment = {"dataset": "acme/reviews", "rows": {"test": 20}, "hardware": hardware, "versions": versions}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "config.yaml").write_text(yaml.safe_dump({"encoder_a": "acme/encoder"}))
    return folder


@pytest.fixture
def run_folder(tmp_path, make_model, processor):
    folder = write_run(tmp_path / "run", make_model(), processor)
    for name in ("checkpoint-3/model.safetensors", "runs/events", "evaluation-test/calibration.png",
                 "calibration/risk_coverage.png", "calibration/calibration.json",
                 "evaluation-test/metrics.json", "evaluation-test/timeline_1.png", "my_keys.py", "tokenizer_state.pkl",
                 "vocab.pickle",
                 "mining.safetensors", "projection.safetensors"):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    for name in ("training_args.bin", "trainer_state.json", "train.log", "secrets.json", "notes.ipynb"):
        (folder / name).write_bytes(b"x")
    return folder


def load_as_stranger(server, cache, name=REPO, token=TOKEN, snippet=None, **options):
    snippet = snippet or BY_NAME.format(name=name, options=options)
    return in_fresh_interpreter(server, cache, STRANGER.format(snippet=snippet, texts=TEXTS), token)


def in_fresh_interpreter(server, cache, code, token=TOKEN):
    """What `code` prints as its RESULT, or its errors."""
    cache.mkdir(exist_ok=True)
    hidden = ("PYTHONPATH", "HF_MODULES_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    environment |= {"HF_ENDPOINT": server.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1",
                    "HF_HUB_DISABLE_TELEMETRY": "1", **({"HF_TOKEN": token} if token else {})}  # fmt: skip
    process = run_fresh(ALONE + code, cwd=cache, env=environment)
    answers = [line for line in process.stdout.splitlines() if line.startswith("RESULT ")]
    return json.loads(answers[0].removeprefix("RESULT ")) if answers else process.stderr


def test_what_belongs_into_a_repository(run_folder):
    files = repository_files(run_folder)
    check_complete(files)
    assert {"config.json", "model.safetensors", "modeling_dyfulm.py", "pipeline_fusion_sentiment.py", "tokenizer.json",
            "processor_config.json", "metrics.json", "environment.json", "config.yaml"} <= set(files)  # fmt: skip
    assert any(name.startswith("tokenizer_b/") for name in files)
    assert "diagnostics/evaluation-test/calibration.png" in files
    assert "diagnostics/evaluation-test/timeline_1.png" not in files, "words of a clip"
    assert "calibration/risk_coverage.png" in files and "calibration/calibration.json" not in files
    assert is_ours("calibration/risk_coverage.png") and not is_ours("calibration/notes.txt")
    for folder in (run_folder, run_folder / "evaluation-test"):
        (folder / "predictions.parquet").touch()
    assert not [name for name in repository_files(run_folder) if "predictions" in name], "ids and labels of rows"
    others = "checkpoint runs train secret notes my_keys mining projection tokenizer_state vocab."
    assert not [name for name in files if name.startswith(tuple(others.split())) or ".bin" in name]


@pytest.mark.parametrize("name", ["metrics.json", "tokenizer_b", "evaluation-test"])
def test_links_out_of_the_folder_are_refused(run_folder, name):
    """Also folders: what lies there may be anything."""
    (run_folder / name).rename(run_folder.parent / "elsewhere")
    (run_folder / name).symlink_to(run_folder.parent / "elsewhere")
    with pytest.raises(PublishError, match="link out of the folder"):
        repository_files(run_folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.safetensors", "model.safetensors"),
        ("config.json", "config.json"),
        ("modeling_dyfulm.py", "modeling_dyfulm.py"),
        ("processing_dyfulm.py", "processing_dyfulm.py"),
        ("processor_config.json", "processor_config.json"),
        ("modeling_losses.py", "modeling_losses.py"),
        ("pipeline_fusion_sentiment.py", "pipeline_fusion_sentiment.py"),
        ("tokenizer_config.json", "tokenizer_config.json"),
    ],
)
def test_incomplete_checkpoints_are_refused(run_folder, name, words):
    (run_folder / name).unlink()
    with pytest.raises(PublishError, match=f"not a complete checkpoint: it lacks .*{words}"):
        check_complete(repository_files(run_folder))


def test_a_shard_that_is_missing(run_folder):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (run_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (run_folder / "model.safetensors").rename(run_folder / "model-00001-of-00002.safetensors")
    with pytest.raises(PublishError, match=r"lacks model-00002-of-00002\.safetensors"):
        check_complete(repository_files(run_folder))


def test_one_commit_with_all_of_it(online, run_folder):
    online.datasets["acme/reviews"] = {"private": False, "cardData": {"language": ["en", "fr"]}}
    commit = publish(run_folder, REPO)
    files = online.repos[REPO].commits[commit.oid]
    expected = {*repository_files(run_folder), *endpoint_files(), "README.md", "notebook.ipynb", ".gitattributes"}
    assert set(files) == expected
    assert files["model.safetensors"] == (run_folder / "model.safetensors").read_bytes()
    assert len(online.repos[REPO].commits) == 2, "the repository's first, and ours"
    card = ModelCard(files["README.md"].decode())
    assert f'model="{REPO}"' in card.text and "torch 2.13.0, transformers 5.23.0" in card.text
    assert card.data.datasets == ["acme/reviews"] and card.data.metrics == ["fine_accuracy"]
    assert card.data.language == ["en", "fr"] and card.data.base_model_relation == "finetune"
    card.validate()
    assert card.data.base_model == ["acme/encoder"] and card.data.model_name == "tiny-dyfulm"


def newest(server, name):
    repo = server.repos[name]
    return repo.commits[repo.branches["main"]]


@pytest.mark.parametrize("information", [None, {"private": True, "cardData": {"language": "en"}}])
def test_only_public_data_sets_are_named(online, run_folder, information, caplog):
    if information:
        online.datasets["acme/reviews"] = information
    publish(run_folder, REPO, details=CardDetails(languages=("de",), carbon_intensity=400, watts=100))
    card = ModelCard(newest(online, REPO)["README.md"].decode())
    assert card.data.datasets is None and card.data.language == "de"
    assert ("acme/reviews is not on" in caplog.text) is (information is None)
    assert "The card has no license" in caplog.text and "no language" not in caplog.text
    assert card.data.co2_eq_emissions["emissions"] == 0.0167
    card.validate()


def test_the_language_of_the_recipe_comes_before_those_of_the_data_set(online, run_folder, caplog):
    online.datasets["acme/reviews"] = {"private": False, "cardData": {"language": ["en-US", "fr", "de", 5]}}
    publish(run_folder, REPO)
    assert ModelCard(newest(online, REPO)["README.md"].decode()).data.language == ["fr", "de"]
    with open(run_folder / "config.yaml", "a") as file:
        file.write("\nlanguage: de\n")
    publish(run_folder, REPO)
    assert ModelCard(newest(online, REPO)["README.md"].decode()).data.language == "de"


def test_facts_for_a_card_that_is_not_written(online, run_folder):
    (run_folder / "metrics.json").unlink()
    with pytest.raises(PublishError, match="records no training"):
        publish(run_folder, REPO, details=CardDetails(carbon_intensity=400))
    (run_folder / "README.md").write_text("Mine.")
    with pytest.raises(PublishError, match=r"a README\.md of its own"):
        publish(run_folder, REPO, details=CardDetails(languages=("en",)))
    publish(run_folder, REPO)
    assert newest(online, REPO)["README.md"] == b"Mine."


def test_the_notebook_runs(online, run_folder, monkeypatch, capsys):
    publish(run_folder, REPO)
    notebook = json.loads(newest(online, REPO)["notebook.ipynb"])
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5) and len(notebook["cells"]) == 6
    assert len({cell["id"] for cell in notebook["cells"]}) == 6
    fields = {"markdown": {"cell_type", "metadata", "source", "id"}}
    fields["code"] = fields["markdown"] | {"outputs", "execution_count"}
    assert all(set(cell) == fields[cell["cell_type"]] for cell in notebook["cells"])
    monkeypatch.chdir(run_folder.parent)
    shutil.copytree(run_folder, REPO)  # the name is that of a folder here
    scope = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(cell["source"], scope)
    assert capsys.readouterr().out.count("'label'") >= 7


def test_collections(online, run_folder):
    publish(run_folder, REPO)
    address = add_to_collection(REPO, "My models", private=True)
    assert address == f"{online.url}/collections/acme/my-models-{24 * '0'}"
    slug = address.removeprefix(f"{online.url}/collections/")
    assert add_to_collection(REPO, slug) == add_to_collection(REPO, "My models") == address
    assert online.collections[slug].items == [REPO] and online.collections[slug].private
    with pytest.raises(PublishError, match="was published, but not added to the collection"):
        add_to_collection(REPO, "acme/other-0")


def test_what_is_gone_is_deleted_in_the_same_commit(online, run_folder):
    publish(run_folder, REPO)
    (run_folder / "evaluation-test/calibration.png").unlink()
    commit = publish(run_folder, REPO)
    assert not [name for name in online.repos[REPO].commits[commit.oid] if name.startswith("diagnostics")]
    assert ".gitattributes" in online.repos[REPO].commits[commit.oid] and len(online.repos[REPO].commits) == 3


def test_what_others_added_stays(online, run_folder):
    publish(run_folder, REPO)
    repo = online.repos[REPO]
    theirs = {"LICENSE": b"mine", "app.py": b"", "modeling_old.py": b""}
    repo.commit("main", {**repo.commits[repo.branches["main"]], **theirs})
    files = repo.commits[publish(run_folder, REPO).oid]
    assert files["LICENSE"] == b"mine" and "app.py" in files and "modeling_old.py" not in files


def test_private_is_not_taken_for_granted(online, run_folder):
    publish(run_folder, REPO)
    with pytest.raises(PublishError, match="exists and is public"):
        publish(run_folder, REPO, private=True)


def test_records_without_the_folders_of_this_machine(online, run_folder):
    (run_folder / "config.yaml").write_text(
        "dataset: /home/me/data/my.csv\nencoder_b: ~/models/b\nencoder_a: acme/encoder\noutput_dir: runs/x\nsee: https://hf.co/a/b\n"
        "teacher: ../../home/me/teacher\ncheckpoint: file:///home/me/run\n"
    )
    commit = publish(run_folder, REPO)
    files = online.repos[REPO].commits[commit.oid]
    recipe = yaml.safe_load(files["config.yaml"])
    expected = {
        "dataset": "my.csv",
        "encoder_b": "b",
        "encoder_a": "acme/encoder",
        "output_dir": "runs/x",
        "see": "https://hf.co/a/b",
        "teacher": "teacher",
        "checkpoint": "run",
    }
    assert recipe == expected and b"/home/me" not in b"".join(files.values())


class TestAdapters:
    @pytest.fixture
    def lora_run(self, tmp_path, make_model, processor):
        """As a training with LoRA that is not merged leaves it."""
        pytest.importorskip("peft")
        folder = tmp_path / "lora"
        model = make_model()
        for part in (model, processor):
            part.save_pretrained(folder / "base")
        adapted = add_lora(model)
        with torch.no_grad():
            for name, values in adapted.named_parameters():
                if "lora_B" in name:
                    values.normal_()
        return write_run(folder, adapted, processor)

    def test_base_and_adapter(self, online, lora_run, tmp_path):
        publish(lora_run / "base", "acme/base")
        sha = publish(lora_run, "acme/lora", base_model="acme/base").oid
        files = online.repos["acme/lora"].commits[sha]
        written = json.loads(files["adapter_config.json"])
        assert written["base_model_name_or_path"] == "acme/base"
        assert written["revision"] == online.repos["acme/base"].branches["main"]
        assert "adapter_model.safetensors" in files and not [name for name in files if name.startswith("base")]
        card = ModelCard(files["README.md"].decode())
        assert card.data.base_model == ["acme/base"] and card.data.library_name == "peft"
        base_card = ModelCard(
            online.repos["acme/base"].commits[online.repos["acme/base"].branches["main"]]["README.md"].decode()
        )
        assert 'model="acme/base"' in base_card.text and "Results" not in base_card.text

        expected = load_pipeline(str(lora_run), device="cpu")(TEXTS)
        snippet = card.text.split("```python")[1].split("```")[0]
        answers = load_as_stranger(online, tmp_path / "cache", snippet=snippet)
        for answer, known in zip(answers, expected, strict=True):
            assert answer["label"] == known["label"] and answer["score"] == pytest.approx(known["score"], abs=1e-5)
        assert answers != load_as_stranger(online, tmp_path / "cache", "acme/base"), "the adapter changes them"

    def test_what_is_missing_or_too_much(self, lora_run, run_folder):
        with pytest.raises(PublishError, match=r"that model first \(.*base\) and pass its name as `base_model`"):
            publish(lora_run, "acme/lora")
        with pytest.raises(PublishError, match="holds a whole model, not a LoRA adapter"):
            publish(run_folder, REPO, base_model="acme/base")
        (lora_run / "adapter_model.safetensors").unlink()
        with pytest.raises(PublishError, match=r"lacks adapter_model\.safetensors"):
            check_complete(repository_files(lora_run))

    def test_a_base_that_is_not_there(self, online, lora_run):
        for name in ("acme/none", "runs/lora/base"):
            with pytest.raises(PublishError, match=f"base model '{name}' cannot be found"):
                publish(lora_run, "acme/lora", base_model=name)

    def test_the_base_is_pinned(self, online, lora_run, make_model, tmp_path):
        """An adapter whose base changed later is still merged into the one that it fits."""
        publish(lora_run / "base", "acme/base")
        publish(lora_run, "acme/lora", base_model="acme/base")
        make_model(initializer_range=0.9).save_pretrained(lora_run / "base2")
        repo = online.repos["acme/base"]
        weights = (lora_run / "base2" / "model.safetensors").read_bytes()
        repo.commit("main", {**repo.commits[repo.branches["main"]], "model.safetensors": weights})
        known = load_pipeline(str(lora_run), device="cpu")(TEXTS)
        answers = in_fresh_interpreter(online, tmp_path / "cache", WITH_THE_PACKAGE)
        assert [answer["score"] for answer in answers] == pytest.approx([answer["score"] for answer in known], abs=1e-5)

    def test_merged(self, online, lora_run, run_folder, tmp_path):
        """A merged model is like any other."""
        model = load_merged(str(lora_run))
        model.save_pretrained(run_folder)
        publish(run_folder, REPO)
        known = load_pipeline(str(lora_run), device="cpu")(TEXTS)
        answers = load_as_stranger(online, tmp_path / "cache")
        assert [answer["score"] for answer in answers] == pytest.approx([answer["score"] for answer in known], abs=1e-5)


def test_plain_push_to_hub(online, make_model, processor, tmp_path):
    """What any model of transformers has."""
    model = make_model().eval()
    model.push_to_hub(REPO)
    processor.push_to_hub(REPO)
    model.save_pretrained(tmp_path / "local")
    processor.save_pretrained(tmp_path / "local")
    known = load_pipeline(str(tmp_path / "local"), device="cpu")(TEXTS)
    answers = load_as_stranger(online, tmp_path / "cache")
    assert [answer["score"] for answer in answers] == pytest.approx([answer["score"] for answer in known], abs=1e-5)


class TestFromTraining:
    """`--push_to_hub true`."""

    @pytest.fixture
    def flags(self, recipe, tmp_path):
        return [recipe(), "--output_dir", str(tmp_path / "run"), "--push_to_hub", "true", "--hub_model_id", REPO]

    def test_publishes_the_finished_run(self, online, flags, tmp_path):
        tiny_runs.run(*flags)
        repo = online.repos[REPO]
        assert len(repo.commits) == 2, "the empty one, and that of the run"
        files = repo.commits[repo.find("main")]
        assert {"model.safetensors", "config.yaml", "metrics.json", "modeling_dyfulm.py"} <= set(files)
        assert not any("checkpoint-" in name or name.endswith(".bin") for name in files)
        assert f'"{REPO}"' in files["README.md"].decode() and "fine_accuracy" in files["README.md"].decode()
        known = load_pipeline(str(tmp_path / "run"), device="cpu")(TEXTS)
        answers = load_as_stranger(online, tmp_path / "cache")
        assert [answer["score"] for answer in answers] == pytest.approx([answer["score"] for answer in known], abs=1e-5)

    def test_checkpoints_on_the_way(self, online, flags):
        """Each after it has its name, which is what is uploaded."""
        tiny_runs.run(*flags, "--hub_strategy", "all_checkpoints", "--hub_always_push", "true", "--save_steps", "4",
                      "--save_strategy", "steps", "--eval_strategy", "steps", "--eval_steps", "4")  # fmt: skip
        files = set().union(*online.repos[REPO].commits.values())
        assert {
            f"checkpoint-{step}/{name}" for step in (4, 8) for name in ("model.safetensors", "optimizer.pt")
        } < files
        assert not any(name.startswith(STAGING) for name in files)

    def test_predictions_are_never_published(self, online, flags, tmp_path, caplog):
        """Neither those of the run at its end, nor those of an earlier evaluation on the way."""
        (tmp_path / "run" / "evaluation-test").mkdir(parents=True)
        (tmp_path / "run" / "evaluation-test" / "predictions.parquet").touch()
        tiny_runs.run(*flags, "--hub_strategy", "every_save", "--hub_always_push", "true", "--save_steps", "4",
                      "--save_strategy", "steps", "--eval_strategy", "steps", "--eval_steps", "4")  # fmt: skip
        assert "checkpoint-4 is not published before the training ends, since the folder holds pred" in caplog.text
        assert (tmp_path / "run" / "predictions.parquet").exists()
        files = set().union(*online.repos[REPO].commits.values())
        assert "model.safetensors" in files and not [name for name in files if "predictions" in name]

    def test_a_public_repository_is_not_taken_for_a_private_one(self, online, flags, tmp_path):
        online.repos[REPO] = Repo()
        online.repos[REPO].commit("main", {})
        with pytest.raises(PublishError, match="exists and is public"):
            tiny_runs.run(*flags, "--hub_private_repo", "true")
        assert not (tmp_path / "run").exists(), "before the training"

    def test_what_is_no_name(self, online, flags):
        with pytest.raises(PublishError, match=r"'a/b/c' is not a valid name on the Hub \(USER/NAME\)"):
            tiny_runs.run(*flags, "--hub_model_id", "a/b/c")

    def test_what_the_hub_refuses_shows_before_the_training(self, online, flags, tmp_path, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_other")
        with pytest.raises(PublishError, match="does not let you write to acme/tiny-dyfulm"):
            tiny_runs.run(*flags)
        assert not (tmp_path / "run").exists()

    def test_an_adapter_needs_its_base(self, flags):
        with pytest.raises(RecipeError, match="merge_lora"):
            tiny_runs.run(*flags, "--lora_encoders", "a", "--merge_lora", "false")


def test_a_configuration_that_cannot_be_read(run_folder, tmp_path):
    (run_folder / "config.json").write_text("{")
    with pytest.raises(PublishError, match=r"config\.json is not valid JSON"):
        check_complete(repository_files(run_folder))
    with pytest.raises(PublishError, match="nowhere: no such folder"):
        repository_files(tmp_path / "nowhere")


def test_a_branch_and_a_private_repository(online, run_folder):
    commit = publish(run_folder, REPO, private=True, revision="trial")
    repo = online.repos[REPO]
    assert repo.private and repo.branches["trial"] == commit.oid != repo.branches["main"]


@pytest.mark.parametrize("kind", [500, 429, "drop", "slow"])
@pytest.mark.parametrize("step", ["preupload", "objects/batch", "PUT /lfs"])
def test_a_fault_that_passes(online, run_folder, monkeypatch, step, kind):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    online.faults.append(Fault(step, kind))
    commit = publish(run_folder, REPO)
    files = online.repos[REPO].commits[commit.oid]
    assert files["model.safetensors"] == (run_folder / "model.safetensors").read_bytes()
    assert online.faults[0].times == 0


@pytest.mark.parametrize("kind", [500, "drop"])
def test_a_commit_that_fails_changes_nothing(online, run_folder, kind):
    before = publish(run_folder, REPO).oid
    (run_folder / "metrics.json").write_text((run_folder / "metrics.json").read_text().replace("0.6", "0.7"))
    online.faults.append(Fault("POST .*/commit/", kind, times=99))
    with pytest.raises(PublishError, match="whether the repository has the commit, then try again"):
        publish(run_folder, REPO)
    assert online.repos[REPO].branches["main"] == before


def test_without_a_token(online, run_folder, monkeypatch):
    for token in ("hf_reader", None):
        monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(PublishError, match=r"does not let you write to acme/tiny-dyfulm\. Log in"):
            publish(run_folder, REPO)
    assert not online.repos


def test_loads_from_the_hub_and_a_pinned_revision_stays(online, run_folder, make_model, processor, tmp_path):
    first = publish(run_folder, REPO).oid
    answers = load_as_stranger(online, tmp_path / "one")
    assert len(answers) == 2 and set(answers[0]) == {"label", "score", "coarse", "intensity"}
    write_run(run_folder, make_model(initializer_range=0.9), processor)
    code = run_folder / "pipeline_common.py"
    code.write_text(code.read_text().replace('others["intensity"]', 'others["strength"]'))
    publish(run_folder, REPO)
    pinned = load_as_stranger(online, tmp_path / "two", revision=first, code_revision=first)
    assert_close(pinned, answers)  # old weights, old code
    newest = load_as_stranger(online, tmp_path / "three")
    assert set(newest[0]) == {"label", "score", "coarse", "strength"}
    assert newest[0]["score"] != answers[0]["score"]


@pytest.mark.parametrize(
    "kind", ["truncate", *(pytest.param(kind, marks=pytest.mark.nightly) for kind in (500, 429, "slow"))]
)
def test_loads_in_spite_of_faults(online, run_folder, tmp_path, kind):
    publish(run_folder, REPO)
    online.faults.append(Fault("GET .*/resolve/.*/model.safetensors", kind))
    answers = load_as_stranger(online, tmp_path / "cache")
    assert isinstance(answers, list), answers[-2000:]
    assert online.faults[0].times == 0


def test_a_private_repository_without_a_token(online, run_folder, tmp_path):
    publish(run_folder, REPO, private=True)
    assert isinstance(load_as_stranger(online, tmp_path / "with"), list)
    error = load_as_stranger(online, tmp_path / "without", token=None)
    assert isinstance(error, str) and REPO in error and "token" in error and "Traceback" in error


def test_the_script(server, run_folder):
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0",
                   "HF_HUB_DISABLE_XET": "1"}  # fmt: skip

    program = """
import json, runpy, sys
sys.path.insert(0, "scripts")
for words in json.loads(sys.argv[1]):
    sys.argv = ["scripts/push_to_hub.py", *words]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        print("STATUS", end.code)
"""

    def run(*commands):
        words = json.dumps([[str(run_folder), *words] for words in commands])
        process = run_fresh(program, words, cwd=ROOT, env=environment)
        assert process.returncode == 0, process.stderr
        return process, [line for line in process.stdout.splitlines() if line.startswith("STATUS")]

    process, ends = run([REPO, "--dry_run"], ["not/a/name"])
    assert ends == ["STATUS 0", "STATUS 2"] and "model.safetensors" in process.stdout and not server.repos
    assert process.stderr.splitlines()[-1].startswith("push_to_hub.py: ") and "Traceback" not in process.stderr
    process, ends = run([REPO])
    sha = server.repos[REPO].branches["main"]
    assert ends == ["STATUS 0"] and f"/{REPO}/commit/{sha}" in process.stdout, process.stderr
    assert f'revision="{sha}", code_revision="{sha}"' in process.stdout


class TestDryRun:
    """Loads the folder before anything is uploaded."""

    @pytest.fixture
    def push(self, monkeypatch, capsys):
        script = tiny_runs.script_here("push", monkeypatch)

        def run(folder, *flags):
            status = script(folder, REPO, *flags)
            return status, capsys.readouterr()

        return run

    @pytest.mark.parametrize("count", [2, 3, 10])
    def test_says_what_it_loads(self, tmp_path, make_model, processor, push, count):
        classes = {"num_labels": 2} if count == 2 else {"id2label": {i: f"class {i}" for i in range(count)}}
        model = make_model(**classes)
        status, streams = push(write_run(tmp_path / "run", model, processor), "--dry_run")
        assert status == 0
        assert f"the classes {', '.join(model.config.id2label.values())}; negative, neutral, positive." in streams.out
        assert f"DyFuLMForSequenceClassification with {model.num_parameters():,} weights" in streams.out

    def test_lists_what_publishing_writes(self, tmp_path, make_model, processor, push, online):
        folder = write_run(tmp_path / "run", make_model(), processor)
        status, streams = push(folder, "--dry_run")
        publish(folder, REPO)
        uploaded = set(newest(online, REPO)) - {".gitattributes"}
        listed = re.findall(r"^│ (\S+)", streams.out, re.MULTILINE)
        assert status == 0 and set(listed) == uploaded and len(listed) == len(uploaded)

    def test_of_a_card_that_is_not_written(self, tmp_path, make_model, processor, push):
        folder = write_run(tmp_path / "run", make_model(), processor)
        (folder / "metrics.json").unlink(missing_ok=True)
        (folder / "README.md").write_text("Mine.")
        status, streams = push(folder, "--dry_run")
        assert status == 0 and "The card has no" not in streams.out
        status, streams = push(folder, "--dry_run", "--language", "en")
        assert status == 2 and "a README.md of its own" in streams.err

    def test_says_no_more_than_there_is(self, tmp_path, make_model, processor, push):
        model = make_model(id2label=dict(enumerate(["poor", "fair", "fine"])), num_coarse_labels=0, has_intensity=False)
        status, streams = push(write_run(tmp_path / "run", model, processor), "--dry_run")
        assert status == 0 and "and the classes poor, fair, fine.\n" in streams.out

    @pytest.mark.parametrize("flags", [["--dry_run"], []], ids=["dry", "real"])
    def test_a_head_of_another_size(self, run_folder, push, flags):
        path = run_folder / "config.json"
        changed = {**json.loads(path.read_text()), "id2label": {"0": "no", "1": "yes"}, "label2id": None}
        path.write_text(json.dumps(changed))
        status, streams = push(run_folder, *flags)
        assert status == 2 and "classifier.bias have the shape (5,)" in streams.err

    @pytest.mark.parametrize("flags", [["--dry_run"], []], ids=["dry", "real"])
    def test_weights_of_another_run(self, tmp_path, make_model, processor, push, flags):
        folders = []
        for name in ("mine", "other"):
            model = make_model()
            if name == "other":
                torch.nn.init.normal_(model.classifier.weight)
            folders.append(write_run(tmp_path / name, model, processor))
            (tmp_path / name / "answers.json").write_text(json.dumps(sample_answers(model, processor)))
        status, streams = push(folders[0], "--dry_run")
        assert status == 0 and "Its outputs equal those after training" in streams.out
        shutil.copy(folders[1] / "model.safetensors", folders[0])
        status, streams = push(folders[0], *flags)
        assert status == 2 and "weights are not those that were saved" in streams.err
        shutil.copy(folders[1] / "weight_fingerprint.json", folders[0])
        status, streams = push(folders[0], *flags)
        assert status == 2 and "differ from those at the end of its training" in streams.err

    def test_an_adapter(self, tmp_path, clip_model, clip_processor, push):
        pytest.importorskip("peft")
        names = {0: "calm", 1: "angry"}
        clip_model(id2label=names).save_pretrained(tmp_path / "base")
        write_run(tmp_path / "run", add_lora(clip_model(id2label=names), "text"), clip_processor)
        (tmp_path / "base").rename(tmp_path / "run" / "base")
        status, streams = push(tmp_path / "run", "--dry_run", "--base_model", "acme/base")
        assert status == 0 and "the classes calm, angry." in streams.out, streams.err
