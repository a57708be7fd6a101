"""Protocols for missing modalities in studies."""

import json
from pathlib import Path

import pandas as pd
import pytest

from hf_fusion.architectures import write_protocol as writing
from hf_fusion.architectures.evaluate_checkpoint import NothingLeftError
from hf_fusion.architectures.measure_protocol import ProtocolSettings
from hf_fusion.data.arguments import DataArguments
from hf_fusion.studies import protocols as protocols_module
from hf_fusion.studies.protocols import (
    check_published,
    describe_protocols,
    draw_protocols,
    measure_run,
    part_names,
    protocol_tables,
    read_protocols,
    summary_names,
)
from hf_fusion.studies.results import draw_study, write_study
from hf_fusion.studies.study import Study, StudyError
from hf_fusion.studies.summaries import summarize
from hf_fusion.utils.errors import RecipeError

METRICS = ("mae", "acc2_non0")
TWO_RATES = {"lnln": {"rates": [0.0, 0.5], "mask_seeds": [1]}}
REFERENCE = [
    {"model": "LNLN", "protocol": "lnln", "values": {"mae": 1.046}, "source": "a table", "second_hand": True,
     "selection": "on the test set", "curve": {"mae": [0.75, 1.08]}, "std": {"mae": 0.018}, "note": "By others."},
    {"model": "TFN", "values": {"mae": 0.9}, "source": "another table"},
]  # fmt: skip


@pytest.fixture
def measured(monkeypatch):
    """Replaces the measurement of a run; gives the runs that there were. The error of a run grows by its seed."""
    runs = []

    def write_protocol(run_folder, data_args, settings, format):
        runs.append((run_folder, settings))
        if run_folder.parent.name == "text":
            raise NothingLeftError("nothing is left")
        worse = 0.2 * (run_folder.parent.name == "plain") + 0.01 * int(run_folder.name[-1])
        cell = {name: {"mean": {"mae": 0.7 + i / 2 + worse, "acc2_non0": 0.8 - i / 4}}
                for i, name in enumerate(c.name for c in settings.resolve().conditions)}  # fmt: skip
        if run_folder.parent.name == "two":
            del cell["text+audio"]
        totals = {name: {"mean": {"mae": 1.0 + worse, "acc2_non0": 0.7}} for name in settings.summaries}
        record = {"conditions": cell, "summary": totals, "settings": settings.to_dict(), "weights_sha256": None}
        record["data_sha256"] = writing._digest_arguments(data_args)
        folder = run_folder / f"protocol-{settings.protocol}-{settings.mode}-test"
        folder.mkdir(parents=True)
        (folder / "protocol.json").write_text(json.dumps(record))
        return record, folder

    monkeypatch.setattr(protocols_module, "write_protocol", write_protocol)
    monkeypatch.setattr(protocols_module, "read_data_arguments", lambda folder: DataArguments())
    return runs


def results_of(names, protocols, tmp_path, seeds=(1, 2, 3)):
    test = dict.fromkeys(METRICS, 0.5)
    return {
        name: {
            seed: {"test": test, "validation": test, "parameters": 1, "train_seconds": 1.0, "last_log": None}
            | measure_run(tmp_path / name / f"seed-{seed}", protocols, METRICS, lambda line: None)
            for seed in seeds
        }
        for name in names
    }


def test_settings_by_name():
    protocols = read_protocols({"tfr": None, "tfr as published": {"protocol": "tfr", "mode": "exact"}})
    assert protocols["tfr"] == ProtocolSettings("tfr") and protocols["tfr as published"].mode == "exact"
    assert summary_names(protocols) == ["tfr: area", "tfr: area_by_width", "tfr as published: area"]
    assert len(part_names(protocols)) == 22 + 3 and "tfr: 0.5" in part_names(protocols)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"rain": {}}, "There is no protocol 'rain'"),
        ({"tfr": {"seeds": [1]}}, "protocols.tfr: unknown setting: .*seeds"),
        ({"tfr": {"mode": "fast"}}, "mode must be one of sound, exact"),
    ],
)
def test_settings_that_are_refused(content, words):
    with pytest.raises(RecipeError, match=words):
        read_protocols(content)


def test_a_study_checks_protocols_and_published_results(tmp_path):
    text = "recipe: dashfusion_synthetic\nvariants: {a: {}}\nseeds: [1]\n"
    path = tmp_path / "study.yaml"
    for more, words in (
        ("protocols: {rain: {}}\n", "study.yaml: There is no protocol"),
        ("protocols: {imbalanced: {mode: exact}}\n", "study.yaml: The masks of imbalanced"),
        ("reference: [{model: TFN, values: {mae: 1.0}, source: x, protocol: tfr}]\n", "the study has no protocol tfr"),
        ("reference: [{model: TFN, values: {mae: -1.0}, source: x}]\n", "study.yaml: reference 1"),
        ("protocols: [tfr]\n", "protocols must be a mapping"),
    ):
        path.write_text(text + more)
        with pytest.raises(StudyError, match=words):
            Study.read(str(path))
    baseline = {"baseline": {"task": "zero-shot-classification", "model": "a/b"}}
    study = Study("x", {"a": {}, "b": baseline}, [1], protocols={"lnln": {}})
    with pytest.raises(StudyError, match="protocols need checkpoints, which variants with baseline do not have"):
        study.check("study.yaml")
    with pytest.raises(RecipeError, match=r"the curve of mae has 2 values, but lnln has 10 conditions here"):
        check_published(read_protocols({"lnln": {}}), Study("x", {}, [], reference=REFERENCE).published)


def test_a_run_is_measured_again_only_by_other_settings(measured, tmp_path):
    protocols, folder, lines = read_protocols(TWO_RATES), tmp_path / "a" / "seed-1", []
    parts = measure_run(folder, protocols, METRICS, lines.append)
    assert list(parts) == ["lnln: 0.0", "lnln: 0.5", "lnln: mean", "lnln: mean_incomplete"]
    assert lines == ["protocol lnln"]
    assert parts["lnln: 0.5"] == {"mae": pytest.approx(1.21), "acc2_non0": 0.55}
    assert measure_run(folder, protocols, METRICS, lines.append) == parts and len(measured) == 1
    (folder / "protocol-lnln-sound-test" / "protocol.json").unlink()
    (folder / "protocol-lnln-sound-test").rmdir()
    measure_run(folder, read_protocols({"lnln": {"rates": [0.0, 0.6]}}), METRICS, lines.append)
    assert len(measured) == 2


def test_a_model_that_a_protocol_leaves_nothing_has_no_value(measured, tmp_path):
    parts = measure_run(tmp_path / "text" / "seed-1", read_protocols({"fixed": {}}), ("loss", *METRICS), print)
    assert parts["fixed: audio"] == {"mae": None, "acc2_non0": None} == parts["fixed: mean_incomplete"]


def test_a_model_without_some_conditions_has_no_summary(measured, tmp_path):
    parts = measure_run(tmp_path / "two" / "seed-1", read_protocols({"fixed": {}}), METRICS, print)
    assert parts["fixed: audio"]["mae"] and parts["fixed: text+audio"]["mae"] is None
    assert parts["fixed: mean_incomplete"] == {"mae": None, "acc2_non0": None}, "over fewer conditions than others"


def test_record_tables_and_pictures_of_a_study(measured, tmp_path):
    study = Study("dashfusion_synthetic", {"plain": {}, "masked": {}, "text": {}}, [1, 2, 3], metrics=["mae"],
                  protocols=TWO_RATES, reference=REFERENCE)  # fmt: skip
    settings = study.protocol_settings
    results = results_of(study.variants, settings, tmp_path)
    summaries = {name: summarize(results, name) for name in ("validation", "test", *part_names(settings))}
    for name in study.variants:
        folder = tmp_path / name / "seed-1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "environment.json").write_text('{"data_fingerprint": {"test": "f"}, "rows": {"test": 5}}')
    record = write_study(tmp_path / "out.json", study, "study.yaml", tmp_path, results, summaries)
    stored = json.loads((tmp_path / "out.json").read_text())
    lnln = stored["protocols"]["lnln"]
    assert lnln["settings"]["mask_seeds"] == [1] and lnln["defects"] and lnln["conditions"]["0.0"]["complete"]
    masked = lnln["summary"]["mean"]["variants"]["masked"]
    assert masked["mean"]["mae"] == pytest.approx(1.02) and masked["std"]["mae"] == pytest.approx(0.01)
    assert masked["difference"]["mae"]["mean"] == pytest.approx(-0.2) and "last_log" not in masked
    assert [result["model"] for result in lnln["published"]] == ["LNLN"]
    assert [result["model"] for result in stored["published"]] == ["TFN"]

    table = pd.read_csv(tmp_path / "out.csv")
    row = table[(table["split"] == "lnln: 0.5") & (table["variant"] == "masked") & (table["seed"] == 3)]
    assert row[row["metric"] == "mae"]["value"].item() == pytest.approx(1.23)
    text = (tmp_path / "out.md").read_text()
    assert text.count("### ") == 3, "test split, published results and the protocol, no table for each condition"
    assert "| TFN [1] | 0.900 |" in text and "- [1] TFN: another table (seeds unknown; selection: unknown)." in text
    assert "| masked | 1.020 ± 0.010<br>-0.200 [-0.200, -0.200] |" in text and "| text | - |" in text
    assert "| LNLN [1] | 1.046 ± 0.018 |" in text and "| LNLN [1] | 0.750 | 1.080 |" in text
    assert "- [1] LNLN: a table (seeds unknown; selection: on the test set; second-hand). By others." in text
    assert "compare them with the mode exact" in text
    assert "lnln: mean" in (tmp_path / "out.tex").read_text()

    pictures = draw_study(tmp_path / "out.json", study, record, summaries["test"])
    assert pictures == ["out.png", "out_lnln.png"] and (tmp_path / "out_lnln.png").stat().st_size > 5000
    (figure,) = draw_protocols(record["protocols"], ["mae"], "out").values()
    assert len(figure.axes[0].lines) == 3
    assert describe_protocols(settings, summaries, study.published) == record["protocols"]
    assert len(protocol_tables(record["protocols"], ["mae"])) == 1


def test_shipped_studies_of_protocols_have_sources():
    root = Path(protocols_module.__file__).parents[1] / "recipes" / "studies"
    files = [path for path in root.glob("protocols_*.yaml") if "Not run here" in path.read_text()]
    assert {path.stem.rpartition("_")[2] for path in files} == {"mosi", "mosei", "sims"}
    for path in files:
        study = Study.read(str(path))
        published = study.published
        assert published and all(result.protocol and result.source for result in published)
        assert any("missing_protocol" in fields for fields in study.variants.values())
        assert any(settings.mode == "exact" for settings in study.protocol_settings.values())
