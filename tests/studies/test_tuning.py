import csv

import optuna
import pytest
import torch
import yaml

from hf_fusion.studies import tuning
from hf_fusion.studies.tuning import Search, propose, tune
from hf_fusion.training.non_finite import NonFiniteLossError
from hf_fusion.training.recipe import read_recipe
from hf_fusion.utils.errors import DataError, RecipeError

RECIPE = {
    "model_type": "dashfusion",
    "text_encoder": {"model_type": "bert", "tokenizer": "wordpiece", "vocab_size": 300, "hidden_size": 16,
                     "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    "dataset_options": {"num_train": 32, "num_validation": 9, "num_test": 9}, "hidden_size": 16,
    "num_attention_heads": 2, "num_encoder_layers": 1, "num_train_epochs": 2, "per_device_train_batch_size": 8,
    "learning_rate": 0.001, "disable_tqdm": True, "report_to": "none", "output_dir": "runs/mine",
}  # fmt: skip
SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "num_bottleneck_tokens": [2, 4]}


@pytest.fixture
def search(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return Search(str(path), SPACE, "mae", trials=4)


@pytest.fixture
def trainings(monkeypatch):
    """Replaces training: the error is how far the learning rate is from .003; gives the fields of every trial."""
    seen = []

    def run_training(model_args, data_args, training_args, callbacks):
        seen.append((training_args.learning_rate, model_args.num_bottleneck_tokens))
        return {"validation": {"mae": abs(training_args.learning_rate - 0.003)}}

    monkeypatch.setattr(tuning, "run_training", run_training)
    return seen


def test_finds_the_best_and_writes_its_recipe(search, trainings, tmp_path):
    search.trials = 15
    lines = []
    study = tune(search, tmp_path / "runs", lines.append)
    assert len(trainings) == 15 and len(lines) == 15 and "[15/15] learning_rate" in lines[-1]
    assert all(1e-4 <= rate <= 1e-2 and tokens in (2, 4) for rate, tokens in trainings)
    best = min(trainings, key=lambda fields: abs(fields[0] - 0.003))
    recipe = read_recipe(str(tmp_path / "runs" / "best.yaml"))
    assert (recipe["learning_rate"], recipe["num_bottleneck_tokens"]) == best
    assert recipe["output_dir"] == "runs/mine" and recipe["metric_for_best_model"] == "mae"
    assert recipe["greater_is_better"] is False and study.best_value < 0.002
    rows = list(csv.DictReader((tmp_path / "runs" / "trials.csv").open()))
    assert len(rows) == 15 and {row["state"] for row in rows} == {"COMPLETE"}


def test_goes_on_where_it_was(search, trainings, tmp_path, monkeypatch):
    working = tuning.run_training

    def killed(*args, **kwargs):
        if len(trainings) == 2:
            raise KeyboardInterrupt
        return working(*args, **kwargs)

    monkeypatch.setattr(tuning, "run_training", killed)
    with pytest.raises(KeyboardInterrupt):
        tune(search, tmp_path / "runs", lambda line: None)
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path / 'runs' / 'tuning.db'}")
    interrupted = study.trials[2].params
    monkeypatch.setattr(tuning, "run_training", working)
    resumed = tune(search, tmp_path / "runs", lambda line: None)
    assert trainings[2] == (interrupted["learning_rate"], [2, 4][interrupted["num_bottleneck_tokens"]])
    assert len(trainings) == 4 and sum(t.state.name == "COMPLETE" for t in resumed.trials) == 4
    search.trials = 6
    tune(search, tmp_path / "runs", lambda line: None)
    assert len(trainings) == 6, "more trials add to those that are there"
    assert len({rate for rate, _ in trainings}) == 6, "and try something new"


def test_a_killed_process_leaves_a_trial_that_is_repeated(search, trainings, tmp_path):
    search.trials = 1
    study = tune(search, tmp_path / "runs", lambda line: None)
    running = optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING, distributions=study.trials[0].distributions,
        params={"learning_rate": 0.005, "num_bottleneck_tokens": 1},
    )  # fmt: skip
    study.add_trial(running)
    search.trials = 2
    tune(search, tmp_path / "runs", lambda line: None)
    assert trainings[1] == (0.005, 4)


def test_trials_without_a_score_end(search, tmp_path, monkeypatch):
    values = iter([float("nan"), 0.5, float("nan"), 0.4])
    monkeypatch.setattr(tuning, "run_training", lambda *args, callbacks: {"validation": {"mae": next(values)}})
    lines = []
    study = tune(search, tmp_path / "runs", lines.append)
    assert study.best_value == 0.4 and len(lines) == 4


class TestProposalsThatCannotBeTrained:
    ERRORS = (RecipeError("`a` (7) must be even."), ValueError("Invalid lr"), NonFiniteLossError("nan at step 3"),
              torch.OutOfMemoryError("no memory"))  # fmt: skip

    @pytest.fixture
    def failing(self, monkeypatch):
        errors = iter((self.ERRORS[0], None, *self.ERRORS[1:], None))

        def run_training(model_args, data_args, training_args, callbacks):
            if error := next(errors):
                raise error
            return {"validation": {"mae": 0.5}}

        monkeypatch.setattr(tuning, "run_training", run_training)

    def test_are_failed_trials(self, search, failing, tmp_path):
        search.trials, lines = 3, []
        study = tune(search, tmp_path / "runs", lines.append)
        assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE", "FAIL"]
        assert lines[0].endswith("failed, `a` (7) must be even.") and (tmp_path / "runs" / "best.yaml").exists()
        search.trials = 6  # those that failed are not repeated
        tune(search, tmp_path / "runs", lines.append)
        assert [line.rpartition(": ")[2] for line in lines[3:]] == [
            "failed, nan at step 3",
            "failed, no memory",
            "0.5000",
        ]
        rows = list(csv.DictReader((tmp_path / "runs" / "trials.csv").open()))
        assert [row["user_attrs_error"] for row in rows[:3]] == ["`a` (7) must be even.", "", "Invalid lr"]

    def test_nothing_but_those(self, search, tmp_path, monkeypatch):
        def run_training(*args, callbacks):
            raise RecipeError("`a` (7) must be even.")

        monkeypatch.setattr(tuning, "run_training", run_training)
        search.trials = 2
        with pytest.raises(RecipeError, match=r"None of 2 trials finished.*must be even"):
            tune(search, tmp_path / "runs", lambda line: None)

    def test_data_that_cannot_be_read_ends_the_search(self, search, tmp_path, monkeypatch):
        def run_training(*args, callbacks):
            raise DataError("reviews.csv: no such file.")

        monkeypatch.setattr(tuning, "run_training", run_training)
        with pytest.raises(DataError, match="no such file"):
            tune(search, tmp_path / "runs", lambda line: None)

    def test_data_that_a_proposal_changes(self, search, tmp_path, monkeypatch):
        def run_training(*args, callbacks):
            raise DataError("`split_shares` must be three shares that sum to 1.")

        monkeypatch.setattr(tuning, "run_training", run_training)
        search.space, search.trials = {"split_shares": [[0.8, 0.3, 0.1]]}, 1
        with pytest.raises(RecipeError, match=r"None of 1 trials finished.*sum to 1"):
            tune(search, tmp_path / "runs", lambda line: None)

    def test_a_lack_of_memory_is_no_defect(self, search, tmp_path, monkeypatch):
        reasons = iter(["[enforce fail] DefaultCPUAllocator: can't allocate memory", "a defect"])

        def run_training(*args, callbacks):
            raise RuntimeError(next(reasons))

        monkeypatch.setattr(tuning, "run_training", run_training)
        search.trials, lines = 2, []
        with pytest.raises(RuntimeError, match="a defect"):
            tune(search, tmp_path / "runs", lines.append)
        assert len(lines) == 1 and "can't allocate memory" in lines[0]

    def test_a_model_that_cannot_be_built(self, search, tmp_path):
        search.space, search.trials = {"hidden_size": [15]}, 1
        with pytest.raises(RecipeError, match=r"hidden_size 15: failed, `hidden_size` .15. must be a multiple"):
            tune(search, tmp_path / "runs", lambda line: None)

    def test_unknown_fields_end_the_search(self, search, tmp_path):
        search.space = {"hiden_size": [16]}
        with pytest.raises(RecipeError, match="space: unknown field hiden_size"):
            tune(search, tmp_path / "runs", lambda line: None)


def test_another_search_is_not_mixed_in(search, trainings, tmp_path):
    tune(search, tmp_path / "runs", lambda line: None)
    search.overrides = {"num_train_epochs": 3}
    with pytest.raises(RecipeError, match="holds another search"):
        tune(search, tmp_path / "runs", lambda line: None)


def test_real_trainings(search, tmp_path):
    """Two trials of a tiny model: fields arrive, epochs are reported, weights are kept of the best alone."""
    search.trials = 2
    study = tune(search, tmp_path / "runs", lambda line: None)
    folders = [tmp_path / "runs" / f"trial-{number}" for number in (0, 1)]
    for trial, folder in zip(study.trials, folders, strict=True):
        fields = trial.user_attrs["fields"]
        assert yaml.safe_load((folder / "config.yaml").read_text())["learning_rate"] == fields["learning_rate"]
        assert list(trial.intermediate_values) == [1, 2]
        assert trial.value == pytest.approx(min(trial.intermediate_values.values()), abs=1e-5)
        assert (folder / "model.safetensors").exists() == (trial.number == study.best_trial.number)


def test_hopeless_trials_stop_early(search, tmp_path, monkeypatch):
    def run_training(model_args, data_args, training_args, callbacks):
        class State:
            epoch = 0

        hopeless = len(list((tmp_path / "runs").glob("trial-*"))) == 5
        for State.epoch in (1.0, 2.0):
            callbacks[0].on_evaluate(None, State, None, {"eval_mae": 9.0 if hopeless else 1.0})
        return {"validation": {"mae": 1.0}}

    monkeypatch.setattr(tuning, "run_training", run_training)
    search.trials, lines = 5, []
    study = tune(search, tmp_path / "runs", lines.append)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4 + ["PRUNED"]
    assert lines[-1].endswith("stopped early")


def test_yaml_takes_1e_4_for_a_word(tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text("recipe: x\nspace: {a: {low: 1e-4, high: 1e-3, log: true}}\nmetric: eval_mae")
    search = Search.read(str(path))
    assert search.space["a"] == {"low": 1e-4, "high": 1e-3, "log": True} and search.metric == "mae"


def test_whole_numbers_stay_whole():
    trial = optuna.create_study().ask()
    found = propose(trial, {"a": {"low": 1, "high": 9}, "b": {"low": 0.5, "high": 1}, "c": ["x", [1, 2]]})
    assert type(found["a"]) is int and type(found["b"]) is float and found["c"] in ("x", [1, 2])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "search.yaml"),
        ("recipe: x", "a search is a mapping"),
        ("recipe: x\nspace: {a: [1]}\nmetric: mae\nmore: 1", "a search is a mapping"),
        ("recipe: x\nspace: {}\nmetric: mae", "space must be a mapping"),
        ("recipe: x\nspace: {a: 1}\nmetric: mae", "a must be a list of values or a range"),
        ("recipe: x\nspace: {a: {low: 2, high: 1}}\nmetric: mae", "a has no room between 2 and 1"),
        ("recipe: x\nspace: {a: [1]}\nmetric: mae\ntrials: 0", "trials must be at least 1, got 0"),
        ("recipe: x\nspace: {a: {low: x, high: 1}}\nmetric: mae", "a: low must be a number, got 'x'"),
        ("recipe: x\nspace: {a: {low: 1, high: 4, log: true, step: 1}}\nmetric: mae", "log or step, not both"),
    ],
)
def test_files_that_are_no_search(tmp_path, text, words):
    path = tmp_path / "search.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=words):
        Search.read(str(path))
