"""Result files: every number that can be recomputed is, and a changed one is told."""

import json
from pathlib import Path

import pytest
from made_results import FACTS, change, make_benchmark, make_protocol, make_study, make_study_with_predictions

from hf_fusion.architectures.measure_protocol import ProtocolSettings
from hf_fusion.evaluation.robustness import summarize_curves
from hf_fusion.studies.predictions import RunKey, read_study_predictions, write_study_predictions
from hf_fusion.studies.verification.checks import PREDICTIONS, RECORD, count_numbers
from hf_fusion.studies.verification.records import check_record, collect_runs, read_record, record_kind
from hf_fusion.utils.errors import DataError
from hf_fusion.utils.records import write_json

REPOSITORY_RESULTS = Path(__file__).resolve().parents[3] / "model_cards" / "results"


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path)


def lines(path):
    return [str(one) for one in check_record(path, read_record(path)).disagreements]


def test_an_untouched_study_agrees(study):
    checks = check_record(study, read_record(study))
    assert checks.disagreements == [] and set(checks.counts) == {RECORD} and checks.counts[RECORD] > 200


def set_at(*keys, value):
    def mend(record):
        for key in keys[:-1]:
            record = record[key]
        record[keys[-1]] = value

    return mend


@pytest.mark.parametrize("keys", [
    ("variants", "no gate", "mean", "mae"),
    ("variants", "full", "std", "corr"),
    ("variants", "no gate", "difference", "mae", "mean"),
    ("variants", "no gate", "difference", "mae", "interval", 0),
    ("variants", "mean & gate", "difference", "corr", "p"),
    ("variants", "mean & gate", "difference", "corr", "p_holm"),
    ("evaluate_on", "noisy", "variants", "full", "mean", "mae"),
], ids=lambda keys: ".".join(map(str, keys)))  # fmt: skip
def test_a_changed_statistic_is_told(study, keys):
    change(study, set_at(*keys, value=0.123))
    (line,) = lines(study)
    assert line.startswith(".".join(map(str, keys)).replace(".0", "[0]")) and "given 0.123, found " in line


def test_a_changed_seed_disagrees_with_its_means_and_tables(study):
    change(study, set_at("variants", "no gate", "seeds", "2", "mae", value=0.99))
    found = lines(study)
    assert any(line.startswith("variants.no gate.mean.mae: ") for line in found)
    assert any(line.startswith("made.csv, line ") and "no gate 2 test mae" in line for line in found)


@pytest.mark.parametrize(("suffix", "old", "new", "line"), [
    (".csv", "", "", "made.csv, line 4, full 1 test mae: given 0.9999, found 0."),
    (".md", " ± ", " ± 9", "made.md, test, row 'full', column 'mae': given 90."),
    (".md", "paper -0.0055", "paper -0.0955", "row 'no gate', column 'mae': given -0.0955, found -0.0055"),
    (".md", "| no gate", "| no rate", "made.md, test, names of rows and columns"),
    (".tex", " ± 0", " ± 90", "made.tex, test, row 'full', column 'mae': given 90."),
    (".tex", "full &", "fuller &", "made.tex, test, names of rows"),
])  # fmt: skip
def test_a_changed_table_beside_a_study_is_told(study, suffix, old, new, line):
    path = study.with_suffix(suffix)
    text = path.read_text()
    if suffix == ".csv":
        rows = text.splitlines()
        rows[3] = ",".join([*rows[3].split(",")[:-1], "0.9999"])
        text = "\n".join(rows)
    path.write_text(text.replace(old, new, 1) if old else text)
    assert any(line in found for found in lines(study)), lines(study)
    assert len(lines(study)) == 1


def test_a_lost_row_and_a_changed_legend_are_told(study):
    """Of the tables beside a study."""
    rows = study.with_suffix(".csv").read_text().splitlines()
    study.with_suffix(".csv").write_text("\n".join(row for row in rows if not row.startswith("no gate,2,test,mae,")))
    for suffix in (".md", ".tex"):
        text = study.with_suffix(suffix).read_text()
        study.with_suffix(suffix).write_text(text.replace("over 3 seed(s)", "over 9 seed(s)"))
    assert lines(study) == [
        "made.csv, rows of test: given 17, found 18 (tolerance 1.8e-05)",
        "made.md, test, legend: given 9, found 3 (tolerance 0.5)",
        "made.md, noisy, legend: given 9, found 3 (tolerance 0.5)",
        "made.tex, test, caption: given 9, found 3 (tolerance 0.5)",
        "made.tex, noisy, caption: given 9, found 3 (tolerance 0.5)",
    ]


def test_the_total_compute_is_that_of_the_runs(study):
    change(study, set_at("compute", value={"runs": 9, "train_seconds": 22.5, "cores": 2}))
    assert lines(study) == []
    change(study, set_at("compute", value={"runs": 8, "train_seconds": 2.5}))
    assert [line.partition(":")[0] for line in lines(study)] == ["compute.runs", "compute.train_seconds"]


def test_numbers_that_cannot_be_recomputed_count_as_those_of_the_record(study):
    before = check_record(study, read_record(study)).counts[RECORD]
    change(study, set_at("variants", "full", "train_seconds", "4", value=9.0))
    checks = check_record(study, read_record(study))
    assert checks.disagreements == [] and checks.counts[RECORD] == before + 1


def test_a_mean_without_runs_is_told(study):
    change(study, set_at("variants", "full", "mean", "loss", value=2.0))
    assert lines(study) == ["variants.full.mean.loss: given 2, found no number"]


def test_means_over_folds_are_recomputed(study):
    def fold(record):
        for split in (record, record["evaluate_on"]["noisy"]):
            for entry in split["variants"].values():
                entry["folds"] = {seed: {"a": metrics, "b": metrics} for seed, metrics in entry["seeds"].items()}

    change(study, fold)
    for suffix in (".md", ".tex"):  # their legends count seeds without folds
        study.with_suffix(suffix).unlink()
    assert lines(study) == []
    change(study, set_at("variants", "full", "folds", "1", "a", "mae", value=0.9))
    assert any(line.startswith("variants.full.seeds.1.mae: ") for line in lines(study))


@pytest.mark.parametrize("folds", [(None,), ("a", "b", "c")], ids=["runs", "folds"])
class TestStudiesWithPredictions:
    def test_rest_on_them(self, tmp_path, folds):
        path = make_study_with_predictions(tmp_path, folds, commit="5b0ba2d")
        checks = check_record(path, read_record(path))
        assert checks.disagreements == [] and checks.commits == ["5b0ba2d"]
        measured = 7 if folds == (None,) else 13  # gate of each run, seconds of each seed, parameters
        assert checks.counts[RECORD] == 2 * 2 * measured, "of two variants on two data sets"
        assert checks.counts[PREDICTIONS] > 100

    def test_changed_predictions_are_told(self, tmp_path, folds):
        path = make_study_with_predictions(tmp_path, folds)
        file = tmp_path / "predictions" / "kept.parquet"
        runs = read_study_predictions(file)
        key = next(key for key in runs if (key.variant, key.seed, key.data) == ("plain", 2, "noisy"))
        runs[key].outputs["logits"] = runs[key].outputs["logits"] + 1
        write_study_predictions(file, runs)
        found = lines(path)
        assert sum(line.startswith("predictions.sha256: given ") for line in found) == 1
        place = "seeds.2" if folds == (None,) else "folds.2.a"
        assert any(line.startswith(f"evaluate_on.noisy.variants.plain.{place}.mae: given ") for line in found)
        assert not any(line.startswith("variants.") for line in found), "the other data are as they were"

    def test_lost_rows_and_files_are_told(self, tmp_path, folds):
        path = make_study_with_predictions(tmp_path, folds)
        change(path, set_at("predictions", "rows", value=3))
        (line,) = lines(path)
        assert line.startswith("predictions.rows: given 3, found ")
        (tmp_path / "predictions" / "kept.parquet").unlink()
        assert lines(path) == ["predictions.file: given predictions/kept.parquet, found no such file"]
        assert check_record(path, read_record(path)).counts[PREDICTIONS] == 0

    def test_runs_that_the_record_leaves_out_are_told(self, tmp_path, folds):
        """A seed that does not fit the claim cannot be dropped."""
        path = make_study_with_predictions(tmp_path, folds)
        runs = read_study_predictions(tmp_path / "predictions" / "kept.parquet")
        lost = RunKey("plain", 4, folds[0], "test")
        entry = write_study_predictions(
            tmp_path / "predictions" / "kept.parquet", {**runs, lost: next(iter(runs.values()))}
        )
        change(path, set_at("predictions", value=entry))
        place = ", ".join(filter(None, ("plain", "4", folds[0], "test")))
        assert lines(path) == [f"predictions: given {place}, found no such run in the record"]

    def test_other_data_are_told(self, tmp_path, folds):
        path = make_study_with_predictions(tmp_path, folds, data_fingerprint={"test": "aa"})
        data = {"data_fingerprint": {"test": "aa"}, "rows": {"test": 20}}
        content = data if folds == (None,) else dict.fromkeys(folds, data)
        change(path, set_at("data", value=content))
        assert lines(path) == []
        fold = () if folds == (None,) else ("b",)
        change(path, set_at("data", *fold, "rows", "test", value=21))
        change(path, set_at("data", *fold, "data_fingerprint", "test", value="bb"))
        place = ".".join(("data", *fold))
        assert lines(path) == 2 * [f"{place}.rows.test: given 21, found 20 (tolerance 2e-05)",
                                   f"{place}.data_fingerprint.test: given bb, found aa"]  # fmt: skip

    def test_a_damaged_file_is_told(self, tmp_path, folds):
        path = make_study_with_predictions(tmp_path, folds)
        file = tmp_path / "predictions" / "kept.parquet"
        file.write_bytes(file.read_bytes()[:-50])
        damage, digest = lines(path)
        assert "damaged" in damage and digest.startswith("predictions.sha256: ")


def test_runs_without_predictions_rest_on_the_record(tmp_path):
    path = make_study_with_predictions(tmp_path, lost="plain")
    checks = check_record(path, read_record(path))
    assert checks.disagreements == [] and checks.notes == ["6 runs without predictions"]
    full = read_record(path)["variants"]["full"]
    numbers = count_numbers({part: full[part] for part in ("seeds", "mean", "std", "interval", "hierarchical")})
    other = read_record(path)["evaluate_on"]["noisy"]["variants"]["full"]
    numbers += count_numbers({part: other[part] for part in ("seeds", "mean", "std", "interval", "hierarchical")})
    assert checks.counts[PREDICTIONS] == numbers


@pytest.mark.parametrize("keys", [
    ("hierarchical", "mae", 0), ("difference", "mae", "hierarchical", "interval", 1),
    ("difference", "mae", "hierarchical", "p_holm"), ("difference", "mae", "smallest_detectable"),
    ("interval", "mae", 0),
], ids=lambda keys: ".".join(map(str, keys)))  # fmt: skip
def test_intervals_over_seeds_and_rows_are_recomputed(tmp_path, keys):
    path = make_study_with_predictions(tmp_path)
    change(path, set_at("variants", "plain", *keys, value=0.987))
    (line,) = lines(path)
    assert line.startswith("variants.plain.") and ": given 0.987, found " in line


@pytest.mark.parametrize(("keys", "place"), [
    (("ratio",), "comparisons[0].ratio"),
    (("ratio_quartiles", 1), "comparisons[0].ratio_quartiles[1]"),
    (("reference", "median"), "comparisons[0].reference.median"),
    (("pairs", 2, "ratio"), "comparisons[0].pairs[2].ratio"),
])  # fmt: skip
def test_benchmarks_are_recomputed_from_their_pairs(tmp_path, keys, place):
    path = make_benchmark(tmp_path)
    assert lines(path) == []
    change(path, set_at("comparisons", 0, *keys, value=9.0))
    (line,) = lines(path)
    assert line.startswith(f"{place}: given 9, found ")


class TestProtocols:
    SETTINGS = ProtocolSettings("lnln", mask_seeds=[0, 7], rates=[0.0, 0.5])

    def test_rest_on_their_predictions(self, tmp_path):
        path = make_protocol(tmp_path, self.SETTINGS)
        checks = check_record(path, read_record(path))
        assert checks.disagreements == [] and set(checks.counts) == {PREDICTIONS}
        assert checks.counts[PREDICTIONS] > 100

    @pytest.mark.parametrize("keys", [
        ("conditions", "0.5", "seeds", "7", "mae"), ("conditions", "0.5", "mean", "mae"),
        ("conditions", "0.5", "interval", "mae", 1), ("conditions", "0.5", "difference", "mae", "p"),
        ("summary", "mean", "mean", "mae"),
    ], ids=lambda keys: ".".join(map(str, keys)))  # fmt: skip
    def test_a_changed_number_is_told(self, tmp_path, keys):
        path = make_protocol(tmp_path, self.SETTINGS)
        change(path, set_at(*keys, value=0.987))
        line = lines(path)[0]  # tables that show the number follow
        assert line.startswith(".".join(map(str, keys)).replace(".1", "[1]")) and "given 0.987, found " in line
        assert all(line.startswith(("protocol.csv", "protocol.tex")) for line in lines(path)[1:])

    def test_without_predictions_the_summaries_are_recomputed(self, tmp_path):
        path = make_protocol(tmp_path, self.SETTINGS)
        for name in ("predictions.parquet", "protocol.csv", "protocol.tex"):
            (tmp_path / name).unlink()
        checks = check_record(path, read_record(path))
        assert (
            checks.disagreements == [] and set(checks.counts) == {RECORD} and checks.notes == ["no predictions.parquet"]
        )
        change(path, set_at("conditions", "0.5", "seeds", "7", "mae", value=0.987))
        places = [line.partition(":")[0] for line in lines(path)]
        assert places == [
            "conditions.0.5.mean.mae", "conditions.0.5.std.mae", "summary.mean.mean.mae", "summary.mean.std.mae",
            "summary.mean.seeds.7.mae",
            "summary.mean_incomplete.mean.mae", "summary.mean_incomplete.std.mae",
            "summary.mean_incomplete.seeds.7.mae",
        ]  # fmt: skip

    def test_a_condition_cannot_be_dropped(self, tmp_path):
        path = make_protocol(tmp_path, self.SETTINGS)
        change(path, lambda record: record["conditions"].pop("0.5"))
        assert lines(path)[0] == "conditions: given 0.0, found also 0.5"

    @pytest.mark.parametrize("keys, value", [
        (("settings", "mode"), "exact"), (("settings", "mask_seeds"), [0, 8]), (("rows",), 21),
        (("data_fingerprint", "test"), "other"), (("weights_sha256", "model.safetensors"), "other"),
    ], ids=lambda part: str(part))  # fmt: skip
    def test_settings_and_origin_are_those_of_the_predictions(self, tmp_path, keys, value):
        path = make_protocol(tmp_path, self.SETTINGS)
        for table in ("protocol.csv", "protocol.tex"):  # whose caption has the settings
            (tmp_path / table).unlink()
        change(path, set_at(*keys, value=value))
        (line,) = lines(path)
        assert line.startswith(f"{keys[0]}: given ")

    def test_other_weights_in_the_run_folder(self, tmp_path):
        folder = tmp_path / "run" / "protocol-lnln-sound-test"
        folder.mkdir(parents=True)
        path = make_protocol(folder, self.SETTINGS)
        (tmp_path / "run" / "model.safetensors").write_bytes(b"other")
        (line,) = lines(path)
        assert line.startswith("predictions.parquet, SHA-256 of model.safetensors: given made, found ")

    def test_tables_beside_it(self, tmp_path):
        path = make_protocol(tmp_path, self.SETTINGS)
        table, latex = path.with_suffix(".csv"), path.with_suffix(".tex")
        head, row, *rest = table.read_text().splitlines()
        assert row.startswith("condition,0.0,0.0,0,acc2_has0,")
        table.write_text("\n".join([head, "condition,0.0,0.0,0,acc2_has0,0.987", *rest]))
        latex.write_text(latex.read_text().replace("0.0 & ", "0.0 & 9"))
        first, second = lines(path)
        assert first.startswith("protocol.csv, line 2, condition 0.0 0.0 0 acc2_has0: given 0.987, found ")
        assert second.startswith("protocol.tex, row '0.0', column 'mae': given 9")
        table.write_text("\n".join([head, *rest]))
        assert lines(path)[0].startswith("protocol.csv: given ")

    def test_settings_that_are_not_valid(self, tmp_path):
        path = make_protocol(tmp_path, self.SETTINGS)
        change(path, set_at("settings", "protocol", value="nothing"))
        with pytest.raises(DataError, match="does not have the format of a protocol"):
            lines(path)


def test_summaries_of_protocols_in_a_study_follow_from_its_conditions(tmp_path):
    path = tmp_path / "study.json"
    path.write_text((REPOSITORY_RESULTS / "protocols_dashfusion_ravdess.json").read_text())
    change(path, lambda record: [record.pop(name) for name in ("predictions", "evaluate_on") if name in record])
    assert lines(path) == []

    def exchange(record):  # agrees with itself, but not with the conditions
        summary = record["protocols"]["lnln"]["summary"]
        summary["mean"] = summary["mean_incomplete"]

    change(path, exchange)
    assert lines(path)[0].startswith("protocols.lnln.summary.mean.variants.all three.seeds.1.accuracy: given ")
    change(path, lambda record: record["protocols"]["lnln"]["conditions"].pop("0.9"))
    assert lines(path)[0].startswith("protocols.lnln.conditions: given 0.0, 0.1, ")


def test_summaries_of_robustness_are_recomputed(tmp_path):
    curves = {"typos": {"mae": [0.5, 0.55, 0.6, 0.65, 0.7, 0.8]}}
    path = tmp_path / "robustness.json"
    write_json(path, {"curves": curves, "baseline": None, "summary": summarize_curves(curves), "text": None, **FACTS})
    assert lines(path) == []
    change(path, set_at("curves", "typos", "mae", 5, value=0.7))
    assert [line.partition(":")[0] for line in lines(path)] == [
        "summary.typos.mae.worst", "summary.typos.mae.area", "summary.typos.mae.share", "summary.typos.mae.fall",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["emotion", "valence"])
@pytest.mark.parametrize("part", ["mean", "std_seeds", "std_folds"])
def test_cross_validations_are_recomputed(tmp_path, name, part):
    path = tmp_path / "folds.json"
    path.write_text((REPOSITORY_RESULTS / f"dashfusion_ravdess_{name}.json").read_text())
    assert lines(path) == []
    metric = "accuracy" if name == "emotion" else "mae"
    change(path, set_at("variants", "descriptors", part, metric, value=0.1))
    assert lines(path)[0].startswith(f"variants.descriptors.{part}.{metric}: given 0.1, found ")
    change(path, set_at("variants", "linear: Whisper", "difference", metric, "p_holm", value=0.001))
    assert lines(path)[1].startswith(f"variants.linear: Whisper.difference.{metric}.p_holm: given 0.001, found ")


def test_kinds_of_records(study, tmp_path):
    assert record_kind(read_record(study)) == "study"
    assert record_kind(read_record(make_benchmark(tmp_path))) == "benchmark"
    assert record_kind({"validation": {"mae": 0.5}, **FACTS}) == "evaluation"
    assert record_kind({"test": {"mae": 0.5}, "seed": 1}) is None, "the metrics of a run are no record"


def test_runs_of_a_study(study):
    runs = collect_runs(read_record(study))
    assert list(runs)[:2] == ["full, seed 1", "full, seed 2"] and set(runs["full, seed 1"]) == {"mae", "corr"}
    assert collect_runs({"test": {}, **FACTS}) == {}


@pytest.mark.parametrize(("content", "line"), [
    ("{", "not JSON"), ("[]", "not a result file"), ('{"seed": 1}', "not a result file"), ("\xff", "not JSON"),
])  # fmt: skip
def test_what_is_no_record(tmp_path, content, line):
    path = tmp_path / "x.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=rf"x\.json: {line}"):
        read_record(path)


def test_a_damaged_record_names_its_kind(study):
    change(study, lambda record: record["variants"]["full"].pop("seeds"))
    with pytest.raises(DataError, match=r"made\.json: does not have the format of a study \(KeyError: 'seeds'\)"):
        lines(study)
    assert json.loads(study.read_text())["study"]


def test_the_verdicts_of_an_analysis(tmp_path):
    path = tmp_path / "analysis.json"
    findings = [
        {"name": "gate", "value": 0.95, "limit": "at most 0.9", "ok": False},
        {"name": "space", "value": 0.5, "limit": "at least 0.6", "ok": False},
        {"name": "share", "value": 0.3, "limit": "an equal share is 0.25", "ok": None},
    ]
    path.write_text(json.dumps({**FACTS, "sections": [{"title": "Gate", "findings": findings}]}))
    assert lines(path) == [] and record_kind(read_record(path)) == "analysis"
    change(path, set_at("sections", 0, "findings", 0, "ok", value=True))
    assert lines(path) == ["Gate, gate, ok: given True, found False"]
