"""Calibration at the end of a training."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from asserts import assert_close
from tiny_runs import TINY, TINY_CLIPS, run, train

from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.evaluation import calibrate_reviews
from hf_fusion.evaluation.kept_predictions import measure_predictions, read_predictions
from hf_fusion.studies.verification import verify
from hf_fusion.training.recipe import parse_recipe
from hf_fusion.utils.errors import RecipeError

SIZES = {"num_train": 64, "num_validation": 60, "num_test": 40}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run whose fitted temperatures are 2 and 3, and its metrics."""
    found = {5: 2.0, 3: 3.0}
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate_reviews, "fit_temperature", lambda logits, labels: found[logits.shape[1]])
        fields = {**TINY, "dataset_options": SIZES, "target_accuracy": 0.05}
        return folder, train({**fields, "evidence": True}, folder)


def test_is_part_of_the_checkpoint_and_of_the_metrics(finished):
    folder, metrics = finished
    config, record = json.loads((folder / "config.json").read_text()), metrics["calibration"]
    fields = {"temperature": 2.0, "coarse_temperature": 3.0, "abstain_below": None}
    assert {name: config[name] for name in fields} == {name: record[name] for name in fields} == fields
    predictions = read_predictions(folder / "predictions.parquet")
    for split in ("validation", "test"):
        measured = measure_predictions(predictions, split)
        for name, value in record[split]["after"].items():
            assert metrics[split][name] == value == pytest.approx(measured[name])
            assert value != record[split]["before"][name]
        assert metrics[split]["loss"]
    assert json.loads((folder / "metrics.json").read_text())["calibration"] == record
    assert (folder / "calibration/reliability_fine.png").is_file()
    card = (folder / "README.md").read_text()
    assert "2.000 for the fine and 3.000 for the coarse classes" in card
    assert "](calibration/risk_coverage.png)" in card


def test_answers_use_it(finished):
    classify = load_pipeline(str(finished[0]), device="cpu")
    text = "The room was not bad."
    raw, answer = classify(text, calibration=False, top_k=None), classify(text, top_k=None)
    ratios = [raw[0]["score"] / raw[-1]["score"], answer[0]["score"] / answer[-1]["score"]]
    assert_close(ratios[1], ratios[0] ** 0.5)


def test_a_further_training_begins_without_it(finished, recipe):
    more = recipe(encoder_a=None, encoder_b=None, checkpoint=str(finished[0]), max_steps=1, calibrate=False)
    assert "calibration" not in run(more)
    folder = parse_recipe(["--config", more])[2].output_dir
    assert json.loads(open(f"{folder}/config.json").read())["temperature"] == 1  # noqa: SIM115


def test_its_numbers_are_verified(finished):
    run_checks, card_checks = verify([finished[0]])
    assert not run_checks.disagreements and not card_checks.disagreements
    assert set(card_checks.counts) == {"predictions", "record"}, "no number rests on nothing"


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_changed_number_is_told(finished, tmp_path, side):
    folder = Path(shutil.copytree(finished[0], tmp_path / "run"))
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["calibration"]["test"][side]["coarse_brier_score"] = 0.123
    (folder / "metrics.json").write_text(json.dumps(metrics))
    run_checks, card_checks = verify([folder])
    (wrong,) = map(str, run_checks.disagreements)
    assert wrong.startswith(f"calibration.test.{side}.coarse_brier_score: given 0.123, found ")
    assert any(f"column '{side}'" in str(one) for one in card_checks.disagreements)


def test_too_few_rows_are_said(recipe, caplog, tmp_path):
    with caplog.at_level(logging.WARNING):
        problem = run(recipe(max_steps=1, target_accuracy=0.9))["calibration"]["problem"]
    assert problem.startswith("No temperature was fitted on validation (fine: there are 17 rows")
    assert problem.endswith("`target_accuracy` 0.9 chooses no `abstain_below` without it: no answer is unsure.")
    assert problem in caplog.text
    assert json.loads((tmp_path / "run/metrics.json").read_text())["calibration"] == {"problem": problem}
    assert (
        f"## Calibration\n\n{problem.replace('`', chr(39))}\n\n## Training" in (tmp_path / "run/README.md").read_text()
    )
    assert not any(checks.disagreements for checks in verify([tmp_path / "run"]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target_accuracy": 1.0}, "must lie between 0 and 1, got 1.0"),
        ({"target_accuracy": 0.9, "abstain_below": 0.5}, "remove one of the two"),
        ({"target_accuracy": 0.9, "calibrate": False}, "does nothing without `calibrate`"),
        ({"temperature": 2.0}, "belongs to dashfusion"),
        ({"abstain_below": 2.0}, "`abstain_below` must lie in"),
    ],
)
def test_recipes_that_are_refused(recipe, changes, words):
    with pytest.raises(RecipeError, match=words):
        run(recipe(**changes))


def test_of_clips_there_is_none(clip_recipe):
    with pytest.raises(RecipeError, match="`calibrate` belongs to dyfulm"):
        run(clip_recipe(**{**TINY_CLIPS, "calibrate": False}))
