import json

import pytest

import hf_fusion.studies.run_study as run_study_module
from hf_fusion.architectures.evaluate_checkpoint import NothingLeftError
from hf_fusion.studies.folds import mean_over_folds
from hf_fusion.studies.results import write_study
from hf_fusion.studies.run_study import run_study
from hf_fusion.studies.study import Study, StudyError
from hf_fusion.studies.study_tables import cell_lines, markdown_table
from hf_fusion.studies.summaries import summarize
from hf_fusion.utils.errors import RecipeError


@pytest.fixture
def study():
    return Study(
        "dyfulm_synthetic", {"base": {}, "new one": {"cross_fusion": "a"}}, [1, 2, 3], {"max_train_samples": 5}
    )


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
            test = {"loss": 1.0, "fine_accuracy": accuracy}
            metrics = {"test": test, "train_seconds": 1.0, "parameters": 10}
            (run.folder / "metrics.json").write_text(json.dumps(metrics))
            state = {"log_history": [{"grad_norm": 1, "gate_mean": 0.4}, {"eval_loss": 2}]}
            (run.folder / "trainer_state.json").write_text(json.dumps(state))
            facts = {"data_fingerprint": {"test": "f"}, "rows": {"test": 1}}
            (run.folder / "environment.json").write_text(json.dumps(facts))

    monkeypatch.setattr(run_study_module, "run_all", run_all)
    return runs


def test_runs_every_variant_with_every_seed(study, trainings, tmp_path):
    study.set("dataset=acme/reviews")
    results = run_study(study, tmp_path, say=lambda line: None)
    assert len(trainings) == 6 and all(run.recipe == "dyfulm_synthetic" for run in trainings)
    assert ["--cross_fusion" in run.flags for run in trainings] == [False, True] * 3
    assert trainings[1].folder == tmp_path / "new_one" / "seed-1"
    assert all(run.flags[run.flags.index("--max_train_samples") + 1] == "5" for run in trainings)
    assert all(run.flags[run.flags.index("--dataset") + 1] == "acme/reviews" for run in trainings)
    assert results["new one"][3]["test"]["fine_accuracy"] == pytest.approx(0.69)


def test_folds(study, trainings, tmp_path):
    study.folds, study.overrides = [0, "a/b"], {"dataset": "reviews_{fold}"}
    study.seeds, study.evaluate_on = [1, 2], {}
    results = run_study(study, tmp_path, say=lambda line: None)
    assert len(trainings) == 8 and trainings[0].name == "base, seed 1, fold 0"
    assert trainings[3].folder == tmp_path / "new_one" / "fold-a_b" / "seed-1"
    data = [run.flags[run.flags.index("--dataset") + 1] for run in trainings[:4]]
    assert data == ["reviews_0"] * 2 + ["reviews_a/b"] * 2
    path = tmp_path / "base" / "fold-0" / "seed-1" / "metrics.json"
    changed = json.loads(path.read_text())
    changed["test"]["fine_accuracy"] = 0.91
    path.write_text(json.dumps(changed))
    results = run_study(study, tmp_path, say=lambda line: None)
    assert len(trainings) == 8, "finished before"
    mean = results["base"][1]
    assert mean["test"]["fine_accuracy"] == pytest.approx((0.91 + 0.51) / 2) and mean["train_seconds"] == 2
    assert mean["folds"]["0"]["test"]["fine_accuracy"] == 0.91
    summary = summarize(results)
    assert summary["base"]["seeds"]["1"]["fine_accuracy"] == pytest.approx(0.71)
    assert summary["base"]["folds"]["1"]["0"]["fine_accuracy"] == 0.91 and "folds" in summary["new one"]
    assert "over 2 seed(s), each the mean of 2 folds; below" in markdown_table(summary, ["fine_accuracy"], {})
    record = write_study(tmp_path / "out.json", study, "study.yaml", tmp_path, results, {"test": summary})
    assert record["folds"] == [0, "a/b"] and record["data"]["0"]["rows"] == {"test": 1}
    assert record["overrides"] == {"dataset": "reviews_{fold}"}


def test_metrics_that_a_fold_lacks():
    values = ((0, 0.5, None), (1, None, None))
    runs = {fold: {"test": {"a_recall": a, "b_recall": b}, "train_seconds": 1.0, "parameters": 1, "last_log": None}
            for fold, a, b in values}  # fmt: skip
    assert mean_over_folds(runs, ("validation", "test"))["test"] == {"a_recall": 0.5, "b_recall": None}


def test_folds_that_do_not_differ(study, trainings, tmp_path):
    study.folds = [0, 1]
    with pytest.raises(StudyError, match=r"The folds of 'base' do not differ: .* dataset: data/mine_\{fold\}"):
        run_study(study, tmp_path, say=lambda line: None)
    study.folds = [1, "1"]
    with pytest.raises(StudyError, match="a fold occurs twice"):
        study.check("study.yaml")


def test_folds_of_other_data_and_of_teachers(study, trainings, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        run_study_module, "evaluate_checkpoint", lambda run, fields, keep: seen.append(fields) or {"f1": 0.5}
    )
    study.folds, study.overrides, study.seeds = [0, 1], {"dataset": "acme/reviews_{fold}"}, [1]
    study.variants["new one"] = {"teacher": "base"}
    study.evaluate_on = {"other": {"dataset": "acme/others_{fold}"}}
    results = run_study(study, tmp_path, say=lambda line: None)
    assert [fields["dataset"] for fields in seen] == ["acme/others_0"] * 2 + ["acme/others_1"] * 2
    assert results["base"][1]["other"] == {"f1": 0.5}
    teachers = [run.flags[run.flags.index("--teacher") + 1] for run in trainings if "--teacher" in run.flags]
    assert teachers == [str(tmp_path / "base" / f"fold-{fold}" / "seed-1") for fold in (0, 1)]


def test_goes_on_where_it_was(study, trainings, tmp_path):
    run_study(study, tmp_path, say=lambda line: None)
    (tmp_path / "base" / "seed-2" / "metrics.json").unlink()
    trainings.clear()
    lines = []
    run_study(study, tmp_path, say=lines.append)
    assert [run.folder for run in trainings] == [tmp_path / "base" / "seed-2"]
    assert "--resume_from_checkpoint" in trainings[0].flags
    assert sum("finished before" in line for line in lines) == 5


def test_a_folder_of_a_single_run_is_not_mixed_with_those_of_a_study(study, trainings, tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(StudyError, match="is the folder of a single run"):
        run_study(study, tmp_path, say=lambda line: None)
    assert not trainings


def test_runs_with_other_settings_are_not_mixed_in(study, trainings, tmp_path):
    run_study(study, tmp_path, say=lambda line: None)
    study.set("dataset=acme/large")
    with pytest.raises(StudyError, match="seed-1 holds a run with other settings"):
        run_study(study, tmp_path, say=lambda line: None)


def test_students_learn_from_the_teacher_of_their_seed(trainings, tmp_path):
    variants = {"student": {"teacher": "large one"}, "large one": {}, "other": {"teacher": "x"}}
    study = Study("dyfulm_synthetic", variants, [1, 2])
    study.check("study.yaml")
    run_study(study, tmp_path, say=lambda line: None)
    teachers = [run.flags[run.flags.index("--teacher") + 1] for run in trainings if "--teacher" in run.flags]
    assert teachers == ["x", "x", *(str(tmp_path / "large_one" / f"seed-{seed}") for seed in (1, 2))]
    assert [run.folder.parent.name for run in trainings][:4] == ["large_one", "other", "large_one", "other"]
    students = [run for run in trainings if run.folder.parent.name == "student"]
    answers = [run.flags[run.flags.index("--teacher_answers") + 1] for run in students]
    assert answers == [str(tmp_path / "teacher_answers")] * 2 and "--teacher_answers" not in trainings[1].flags

    study.variants["large one"] = {"teacher": "student"}
    with pytest.raises(StudyError, match="the teacher of 'student', 'large one', has a teacher itself"):
        study.check("study.yaml")


def test_other_data_is_measured_once(study, trainings, tmp_path, monkeypatch):
    measured = []

    def evaluate_checkpoint(folder, data_fields, keep):
        measured.append((folder.name, data_fields))
        return {"fine_accuracy": 0.4}

    monkeypatch.setattr(run_study_module, "evaluate_checkpoint", evaluate_checkpoint)
    data = tmp_path / "a.csv"
    study.evaluate_on = {"elsewhere": {"dataset": str(data)}}
    with pytest.raises(
        StudyError,
        match=r"evaluate_on\.elsewhere\.dataset: there is no file or folder .*a\.csv\. Set evaluate_on",
    ):
        run_study(study, tmp_path, say=lambda line: None)
    assert not trainings, "that must show before training"
    data.touch()
    results = run_study(study, tmp_path, say=lambda line: None)
    assert len(measured) == 6 and results["base"][2]["elsewhere"] == {"fine_accuracy": 0.4}
    data.unlink()
    run_study(study, tmp_path, say=lambda line: None)
    assert len(measured) == 6, "what was measured is read, and its data is not needed"
    study.set("evaluate_on.elsewhere.dataset=acme/reviews-v1.0")
    run_study(study, tmp_path, say=lambda line: None)
    assert len(measured) == 12 and measured[-1] == ("seed-3", {"dataset": "acme/reviews-v1.0"})
    study.evaluate_on, study.variants["new one"]["dataset"] = {}, "nowhere.npz"
    with pytest.raises(StudyError, match=r"variants\.new one\.dataset: there is no file or folder nowhere\.npz"):
        run_study(study, tmp_path / "again", say=lambda line: None)
    for recipe in ("dashfusion_mosi_utterance", "dashfusion_ravdess"):
        with pytest.raises(StudyError, match=r"^dataset: there is no file or folder \S+\. Set dataset to one"):
            run_study(Study(recipe, {"base": {}}, [1]), tmp_path / recipe, say=lambda line: None)


def test_a_model_that_nothing_is_left_for(study, trainings, tmp_path, monkeypatch):
    def evaluate_checkpoint(folder, data_fields, keep):
        if folder.parent.name == "base":
            raise NothingLeftError("nothing")
        return {"fine_accuracy": 0.4}

    monkeypatch.setattr(run_study_module, "evaluate_checkpoint", evaluate_checkpoint)
    study.evaluate_on = {"lost": {"damage": {"text_loss": 5}}}
    results = run_study(study, tmp_path, say=lambda line: None)
    assert (
        results["base"][1]["lost"] == {"fine_accuracy": None} and results["new one"][1]["lost"]["fine_accuracy"] == 0.4
    )
    summary = summarize(results, "lost")
    assert cell_lines(summary["base"], "fine_accuracy", {}) == ["-"]
    assert cell_lines(summary["new one"], "fine_accuracy", {})[0] == "0.4000 ± 0.0000"
    assert "| base | - |" in markdown_table(summary, ["fine_accuracy"], {})


def test_a_failed_run_is_named(study, tmp_path, monkeypatch):
    def run_all(waiting, slots, report):
        raise RecipeError(f"{waiting[0].name}: training failed with status 3; see train.log.")

    monkeypatch.setattr(run_study_module, "run_all", run_all)
    with pytest.raises(StudyError, match="base, seed 1: training failed with status 3"):
        run_study(study, tmp_path, say=lambda line: None)


def test_values_become_flags():
    fields = {"a": 1, "b": [1, 2], "c": {"x": "y"}, "d": False}
    assert run_study_module._flags(fields) == ["--a", "1", "--b", "1", "2", "--c", '{"x": "y"}', "--d", "no"]
