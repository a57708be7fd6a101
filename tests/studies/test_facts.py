import json

import pytest
import yaml

from hf_fusion.studies.facts import describe_selection, sum_compute
from hf_fusion.studies.run_folders import get_run_folder
from hf_fusion.studies.study import Study

HARDWARE = {"processor": "fast", "cores": 2, "threads": 1, "accelerators": [], "processes": 1}


@pytest.fixture
def study():
    return Study("recipe.yaml", {"base": {}, "new one": {}}, [1, 2])


@pytest.fixture
def write(study, tmp_path):
    def files(name, seed, recipe, **hardware):
        folder = get_run_folder(tmp_path, name, seed)
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(recipe))
        (folder / "environment.json").write_text(json.dumps({"hardware": {**HARDWARE, **hardware}}))

    return files


def test_the_rule_of_selection(study, write, tmp_path):
    assert describe_selection(study, tmp_path) is None
    write("base", 1, {"metric_for_best_model": "eval_mae"})
    write("new one", 1, {"metric_for_best_model": "mae", "eval_strategy": "epoch"})
    assert describe_selection(study, tmp_path) == "each run: its best epoch on validation by mae"


@pytest.mark.parametrize(
    ("recipe", "rule"),
    [
        ({"metric_for_best_model": "mae", "eval_strategy": "steps"}, "its best evaluation on validation by mae"),
        ({"load_best_model_at_end": False, "metric_for_best_model": "mae"}, "its last step"),
    ],
)
def test_rules_that_differ(study, write, tmp_path, recipe, rule):
    write("base", 1, {"metric_for_best_model": "corr"})
    write("new one", 1, recipe)
    assert describe_selection(study, tmp_path) == f"base: its best epoch on validation by corr; new one: {rule}"


def test_compute(study, write, tmp_path):
    results = {name: {seed: {"train_seconds": 10.5, "evaluation_seconds": 1.0} for seed in study.seeds}
               for name in study.variants}  # fmt: skip
    for name, seed, _ in study.runs:
        write(name, seed, {}, cores=seed, accelerators=["H200"])
    assert sum_compute(study, tmp_path, results) == {
        "runs": 4, "train_seconds": 42.0, "evaluation_seconds": 4.0, **HARDWARE, "cores": [1, 2],
        "accelerators": ["H200"],
    }  # fmt: skip
    del results["base"][1]["evaluation_seconds"]
    assert sum_compute(study, tmp_path, results)["evaluation_seconds"] is None, "of older runs"
