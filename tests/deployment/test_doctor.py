import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fresh_python import run_fresh
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

import hf_fusion.models
from hf_fusion.cli.main import main
from hf_fusion.deployment import doctor
from hf_fusion.deployment.adapters import add_lora
from hf_fusion.deployment.sample_answers import sample_answers
from hf_fusion.hub.publish import publish
from hf_fusion.models.modeling_fingerprint import FINGERPRINT_FILE

WEIGHT = "dyfulm.layer_fusion_a.lstm.weight_ih_l0"


@pytest.fixture
def folder(make_model, processor, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def examine(folder, **options):
    return {finding.check: (finding.status, finding.message) for finding in doctor.examine(str(folder), **options)}


def change_json(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_sound_checkpoint(folder, capsys, monkeypatch):
    """Loaded by this package, and by its own code in a process without it."""

    def run_code(command, cwd, env, **options):
        return run_fresh(*command[2:], cwd=cwd, env=env)  # which has imported the libraries already

    monkeypatch.setattr(doctor.subprocess, "run", run_code)
    assert main(["doctor", str(folder), "--trust_remote_code", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    findings = {finding["check"]: finding for finding in record["findings"]}
    assert (record["faults"], record["warnings"]) == (0, 0), record
    for check, words in {"versions": "transformers", "devices": "cpu", "extras": "installed: ",
                         "files": "none is missing", "code": "equal to those",
                         "configuration": "DyFuLMConfig, with the heads fine, coarse, intensity",
                         "weights": "DyFuLMForSequenceClassification", "values": "those of the file",
                         "fingerprint": "tensors match", "tokenizers": "2, whose vocabularies", "answers": "finite",
                         "remote code": "gives the same answers"}.items():  # fmt: skip
        assert words in findings[check]["message"], check
    assert not [check for check, finding in findings.items() if finding["status"] != "ok"]


def test_weights_that_loading_changes(folder, monkeypatch, capsys):
    load = PreTrainedModel._load_pretrained_model

    def load_and_forget(model, *args, **kwargs):
        loaded = load(model, *args, **kwargs)
        torch.nn.init.normal_(model.get_parameter(WEIGHT), std=0.02)
        return loaded

    monkeypatch.setattr(PreTrainedModel, "_load_pretrained_model", staticmethod(load_and_forget))
    assert main(["doctor", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("fault    weights") and "are not those that were saved" in line for line in lines)
    assert lines[-1] == "Faults: 1, warnings: 0."
    (folder / FINGERPRINT_FILE).unlink()
    findings = examine(folder)
    assert findings["values"][0] == "fault" and WEIGHT in findings["values"][1]
    assert findings["fingerprint"][0] == "warning" and "earlier version" in findings["fingerprint"][1]


def test_files_configuration_and_code(folder):
    (folder / "modeling_labels.py").write_text("# of another version\n")
    (folder / "environment.json").write_text('{"versions": {"hf-fusion": "0.0.9"}}')
    status, message = examine(folder)["code"]
    assert (
        status == "warning"
        and "such as modeling_labels.py" in message
        and "another version or commit (0.0.9)" in message
    )
    (folder / "modeling_labels.py").unlink()
    assert examine(folder)["files"] == ("fault", examine(folder)["files"][1])
    assert "lacks modeling_labels.py" in examine(folder)["files"][1]
    change_json(folder / "config.json", num_coarse_labels=-1, coarse_id2label={})
    findings = examine(folder)
    assert [findings[check][0] for check in ("configuration", "weights", "values", "answers")] == [
        "fault", "fault", "skipped", "skipped",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "words"), [(None, "has no weights for"), (torch.zeros(3), "another shape"), (torch.nan, "NaN")]
)
def test_weights(folder, values, words):
    (folder / FINGERPRINT_FILE).unlink()
    weights = load_file(folder / "model.safetensors")
    old = weights.pop(WEIGHT)
    if values is not None:
        weights[WEIGHT] = values if torch.is_tensor(values) else torch.full_like(old, values)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    status, message = examine(folder)["weights"]
    assert status == "fault" and words in message


def test_weights_that_lie_beside_those_that_are_loaded(folder, make_model):
    model = make_model()
    model.half().save_pretrained(folder, variant="fp16")
    save_file({WEIGHT: torch.zeros(1)}, folder / "model-00001-of-00002.safetensors")  # of an earlier time
    assert {examine(folder)[check][0] for check in ("weights", "values", "fingerprint")} == {"ok"}


def test_shards(folder, make_model):
    (folder / "model.safetensors").unlink()
    make_model().save_pretrained(folder, max_shard_size="20kB")
    status, message = examine(folder)["values"]
    assert status == "ok" and message.startswith(f"{len(make_model().state_dict())} tensors")


def test_tokenizers_and_answers(folder, make_model, processor):
    (folder / "answers.json").write_text(json.dumps(sample_answers(make_model(), processor)))
    assert "those that the training recorded" in examine(folder)["answers"][1]
    change_json(folder / "answers.json", logits=[[0.0] * 5] * 2)
    assert examine(folder)["answers"][0] == "fault"
    change_json(folder / "processor_config.json", vocabulary_fingerprint="0")
    findings = examine(folder)
    assert findings["tokenizers"][0] == "fault" and "vocabulary" in findings["tokenizers"][1]
    assert findings["answers"][0] == "skipped"
    change_json(folder / "processor_config.json", vocabulary_fingerprint=None, vocabulary_fingerprint_b=None)
    assert examine(folder)["tokenizers"][0] == "warning"


def test_versions(folder, monkeypatch):
    versions = {"torch": "2.6.0", "transformers": "5.7.1"}
    monkeypatch.setattr(doctor, "installed_version", lambda name: versions.get(name, "1.0"))
    status, message = doctor._check_versions()
    assert status == "warning" and "before 5.13" in message
    versions["torch"] = "2.5.1"
    status, message = doctor._check_versions()
    assert status == "fault" and "torch>=2.6" in message


def test_extras(monkeypatch):
    installed = doctor.installed_version
    monkeypatch.setattr(doctor, "installed_version", lambda name: None if name == "av" else installed(name))
    status, message = doctor._list_extras()
    assert status == "ok" and "media (lacks av)" in message and "hf-fusion" not in message.partition("To install")[0]


def test_an_adapter(folder, tmp_path, processor):
    pytest.importorskip("peft")
    from hf_fusion.deployment.loading import load_checkpoint

    model, _ = load_checkpoint(str(folder))
    shutil.copytree(folder, tmp_path / "lora/base")
    model = add_lora(model, "a", rank=2)
    model.peft_config["default"].base_model_name_or_path = str(tmp_path / "lora/base")
    model.save_pretrained(tmp_path / "lora")
    processor.save_pretrained(tmp_path / "lora")
    findings = examine(tmp_path / "lora", trust_remote_code=True)
    assert not [finding for finding in findings.values() if finding[0] == "fault"], findings
    assert findings["remote code"][0] == findings["values"][0] == "skipped"
    assert findings["fingerprint"][0] == "ok" and "of the base model" in findings["fingerprint"][1]
    (tmp_path / "lora/base" / FINGERPRINT_FILE).unlink()
    status, message = examine(tmp_path / "lora")["fingerprint"]
    assert status == "warning" and "none of the base model" in message


def test_a_name_on_the_hub(folder, online, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    commit = publish(folder, "acme/tiny")
    monkeypatch.setattr(doctor, "snapshot_download", _with_cache(doctor.snapshot_download, tmp_path / "cache"))
    findings = examine("acme/tiny", revision=commit.oid)
    assert not [finding for finding in findings.values() if finding[0] != "ok"], findings


def _with_cache(download, folder):
    return lambda *args, **kwargs: download(*args, cache_dir=folder, **kwargs)


def test_no_checkpoint(tmp_path, capsys):
    assert main(["doctor", str(tmp_path)]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("theirs", "agree"),
    [
        ([{"label": "a", "score": 0.50001}], True),
        ([{"label": "a", "score": 0.51}], False),
        ([{"label": "b", "score": 0.5}], False),
        ([{"score": 0.5}], True),
        ([{"score": 0.5, "unknown": 1}], False),
        ([], False),
    ],
)
def test_agreement_of_answers(theirs, agree):
    assert doctor._agree([{"label": "a", "score": 0.5, "of a later version": None}], theirs) is agree


def test_code_is_that_of_the_package():
    own = Path(hf_fusion.models.__file__)
    assert doctor._is_same(own, own) and not doctor._is_same(own, own.with_name("absent.py"))
    assert np.isfinite(doctor._TOLERANCE)
