import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import hf_fusion.evaluation.study as study_module
from hf_fusion.evaluation.study import Study, StudyError, paired_difference, run_study, summarize, write_study
from hf_fusion.training.model_arguments import RecipeError


@pytest.fixture
def study():
    return Study("recipe.yaml", {"base": {}, "new one": {"cross_fusion": "a"}}, [1, 2, 3], {"max_train_samples": 5})


@pytest.fixture
def trainings(monkeypatch):
    """Replaces training by a function that writes metrics; gives the runs that there were."""
    runs = []

    def run_all(waiting, slots, report):
        for run in waiting:
            runs.append(run)
            report(run, 0)
            fields = dict(zip(run.flags[::2], run.flags[1::2], strict=True))
            seed = int(fields["--seed"])
            accuracy = 0.5 + 0.01 * seed + (0.1 + 0.02 * seed if fields.get("--cross_fusion") else 0)
            metrics = {"test": {"fine_accuracy": accuracy}, "train_seconds": 1.0, "parameters": 10}
            (run.folder / "metrics.json").write_text(json.dumps(metrics))
            state = {"log_history": [{"grad_norm": 1, "gate_mean": 0.4}, {"eval_loss": 2}]}
            (run.folder / "trainer_state.json").write_text(json.dumps(state))
            facts = {"data_fingerprint": {"test": "f"}, "rows": {"test": 1}}
            (run.folder / "environment.json").write_text(json.dumps(facts))

    monkeypatch.setattr(study_module, "run_all", run_all)
    return runs


def test_paired_difference_is_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 8), rng.normal(0, 1, 8)
    result = paired_difference(a, b)
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert result["mean"] == pytest.approx((a - b).mean())
    assert result["interval"] == pytest.approx([interval.low, interval.high])


def test_one_seed_has_no_interval():
    assert paired_difference([2.0], [1.5]) == {"mean": 0.5, "interval": None}


def test_runs_every_variant_with_every_seed(study, trainings, tmp_path):
    results = run_study(study, tmp_path, {"dataset": "my.csv"}, say=lambda line: None)
    assert len(trainings) == 6 and all(run.recipe == "recipe.yaml" for run in trainings)
    assert ["--cross_fusion" in run.flags for run in trainings] == [False, True] * 3
    assert trainings[1].folder == tmp_path / "new_one" / "seed-1"
    assert all(run.flags[run.flags.index("--max_train_samples") + 1] == "5" for run in trainings)
    assert all(run.flags[run.flags.index("--dataset") + 1] == "my.csv" for run in trainings)
    assert results["new one"][3]["test"]["fine_accuracy"] == pytest.approx(0.69)


def test_goes_on_where_it_was(study, trainings, tmp_path):
    run_study(study, tmp_path, {}, say=lambda line: None)
    (tmp_path / "base" / "seed-2" / "metrics.json").unlink()
    trainings.clear()
    lines = []
    run_study(study, tmp_path, {}, say=lines.append)
    assert [run.folder for run in trainings] == [tmp_path / "base" / "seed-2"]
    assert "--resume_from_checkpoint" in trainings[0].flags
    assert sum("finished before" in line for line in lines) == 5


def test_summary(study, trainings, tmp_path):
    summary = summarize(run_study(study, tmp_path, {}, say=lambda line: None))
    assert summary["base"]["mean"]["fine_accuracy"] == pytest.approx(0.52)
    assert summary["base"]["std"]["fine_accuracy"] == pytest.approx(0.01)  # ddof=1
    difference = summary["new one"]["difference"]["fine_accuracy"]
    assert difference["mean"] == pytest.approx(0.14)
    half = stats.t.ppf(0.975, 2) * 0.02 / np.sqrt(3)
    assert difference["interval"] == pytest.approx([0.14 - half, 0.14 + half])
    assert "difference" not in summary["base"]
    assert summary["new one"]["last_log"]["2"]["gate_mean"] == 0.4
    write_study(str(tmp_path / "out.json"), study, "study.yaml", tmp_path, {"dataset": "/data/my.csv"}, summary)
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["variants"]["new one"]["changes"] == {"cross_fusion": "a"}
    assert written["variants"]["new one"]["seeds"]["2"]["fine_accuracy"] == pytest.approx(0.66)
    assert written["overrides"] == {"max_train_samples": 5, "dataset": "my.csv"}
    assert written["data"]["data_fingerprint"] == {"test": "f"} and written["hardware"]["cores"]


def test_runs_with_other_settings_are_not_mixed_in(study, trainings, tmp_path):
    run_study(study, tmp_path, {"dataset": "small.csv"}, say=lambda line: None)
    with pytest.raises(StudyError, match="seed-1 holds a run with other settings"):
        run_study(study, tmp_path, {"dataset": "large.csv"}, say=lambda line: None)


def test_a_failed_run_is_named(study, tmp_path, monkeypatch):
    def run_all(waiting, slots, report):
        raise RecipeError(f"{waiting[0].name}: training failed with status 3; see train.log.")

    monkeypatch.setattr(study_module, "run_all", run_all)
    with pytest.raises(StudyError, match="base, seed 1: training failed with status 3"):
        run_study(study, tmp_path, {}, say=lambda line: None)


def test_values_become_flags():
    fields = {"a": 1, "b": [1, 2], "c": {"x": "y"}, "d": False}
    assert study_module._flags(fields) == ["--a", "1", "--b", "1", "2", "--c", '{"x": "y"}', "--d", "False"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("[1]", "a study is a mapping"), ("recipe: x\nseeds: [1]", "recipe, variants and seeds"),
     ("recipe: x\nseeds: [1]\nvariants: {}\nmore: 1", "unknown field more"), ("a: [", "study.yaml")],
)  # fmt: skip
def test_files_that_are_no_study(tmp_path, text, words):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=words):
        Study.read(str(path))


def test_shipped_studies_are_readable():
    root = Path(__file__).parents[2]
    for path in (root / "scripts/studies").glob("*.yaml"):
        assert (root / Study.read(str(path)).recipe).is_file()
