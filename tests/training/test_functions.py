"""`hf_fusion.train` and `hf_fusion.evaluate`, and what they give."""

import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from asserts import assert_close
from datasets import DatasetDict
from tiny_runs import TINY, TINY_CLIPS

import hf_fusion
from hf_fusion import FusionSentimentPipeline, load_reviews
from hf_fusion.architectures.evaluate_checkpoint import evaluate_checkpoint
from hf_fusion.data.synthetic_reviews import synthetic_reviews
from hf_fusion.training.checkpoints import folder_size, has_optimizer_state
from hf_fusion.utils.errors import DataError, RecipeError
from hf_fusion.utils.quiet import quiet_libraries

SIZES = TINY["dataset_options"]


def assert_same_metrics(found, of_the_run):
    """But for the loss, which only the trainer measures, and the calibration error, which it does not."""
    assert_close({name: value for name, value in found.items() if name in of_the_run},
                 {name: value for name, value in of_the_run.items() if name != "loss"})  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "reviews"
    return hf_fusion.train(TINY, output_dir=folder, num_train_epochs=2, report_to=("none",), evidence=True)


@pytest.fixture(scope="module")
def reviews():
    rows = synthetic_reviews(**SIZES)["test"]
    return rows.select_columns(["text", "score"])


def test_a_training_gives_folder_metrics_and_trainer(result):
    assert json.loads((result.folder / "metrics.json").read_text()) == result.metrics
    assert result.trainer.state.epoch == 2 and result.metrics["seed"] == 42
    answers = FusionSentimentPipeline.from_pretrained(result.folder, device="cpu")(["good", "bad"])
    ours = FusionSentimentPipeline(result.trainer.model, processor=result.trainer.processing_class, device="cpu")
    assert_close([answer["score"] for answer in answers], [answer["score"] for answer in ours(["good", "bad"])])


def test_a_result_prints_as_a_table(result):
    first, head, *rows = str(result).splitlines()
    assert first.startswith(f"{result.folder} (seed 42, ") and head.split() == ["validation", "test"]
    rows, warnings = rows[: len(result.metrics["test"])], rows[len(result.metrics["test"]) :]
    assert [row.split()[0] for row in rows] == list(result.metrics["test"])
    assert warnings == [f"Warning: {text}" for text in result.metrics["evidence"]["splits"]["test"]["warnings"]]
    name, *values = rows[0].split()
    assert values == [f"{result.metrics[split][name]:.4f}" for split in ("validation", "test")]
    assert len({len(row) for row in [head, *rows]}) == 1


def test_recipes_are_files_or_mappings(tmp_path, monkeypatch, result, caplog):
    seen = []

    def train_by_recipe(*groups):
        seen.append(groups[:3])
        return SimpleNamespace(warnings=["it loses"])

    monkeypatch.setattr("hf_fusion.training.functions.train_by_recipe", train_by_recipe)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**TINY, "output_dir": "there"}))
    for recipe in (path, str(path), {**TINY, "output_dir": Path("there")}):
        hf_fusion.train(recipe, seed=7, dataset="mine.csv", split_shares=(0.5, 0.25, 0.25))
    for model_args, data_args, training_args in seen:
        assert model_args.encoder_a == TINY["encoder_a"]
        assert (data_args.dataset, data_args.dataset_options, data_args.split_shares) == (
            "mine.csv",
            None,
            [0.5, 0.25, 0.25],
        )
        assert training_args.seed == 7 and training_args.output_dir == "there"
    assert caplog.messages == ["it loses"] * 3
    seen.clear()
    hf_fusion.train("dyfulm_synthetic", max_steps=3)
    assert seen[0][2].max_steps == 3 and seen[0][2].output_dir == "runs/dyfulm_synthetic", "a recipe of the package"
    with pytest.raises(RecipeError, match=r"The recipe: unknown field learning_rat\. Did you mean learning_rate"):
        hf_fusion.train(TINY, learning_rat=1)
    with pytest.raises(RecipeError, match="learning_rate must be a number, got"):
        hf_fusion.train(TINY, learning_rate=[1])


def test_the_own_data_of_a_run_is_measured(result):
    assert_same_metrics(hf_fusion.evaluate(result.folder, long_texts="cut"), result.metrics["test"])
    found = hf_fusion.evaluate(str(result.folder), split="validation", long_texts="cut")
    assert_same_metrics(found, result.metrics["validation"])
    assert hf_fusion.evaluate(result.folder)["intensity_mae"] != result.metrics["test"]["intensity_mae"], "whole texts"
    some = hf_fusion.evaluate(result.folder, max_eval_samples=5)
    assert some["intensity_mae"] != pytest.approx(result.metrics["test"]["intensity_mae"])


@pytest.mark.parametrize("kind", [
    lambda rows, path: rows.to_pandas(), lambda rows, path: rows, lambda rows, path: DatasetDict(test=rows),
    lambda rows, path: [rows.to_csv(path), path][1],
])  # fmt: skip
def test_data_without_splits_is_measured_whole(result, reviews, tmp_path, kind):
    classify = FusionSentimentPipeline.from_pretrained(result.folder, device="cpu")
    data = kind(reviews, tmp_path / "reviews.csv")
    assert_same_metrics(hf_fusion.evaluate(classify, data, scale=[0.0, 1.0], long_texts="cut"), result.metrics["test"])


def test_columns_with_other_names(result, reviews):
    renamed = reviews.rename_columns({"text": "body", "score": "value"})
    found = hf_fusion.evaluate(
        result.folder, renamed, columns={"text": "body", "score": "value"}, scale=[0.0, 1.0], long_texts="cut"
    )
    assert_same_metrics(found, result.metrics["test"])


def test_classes_are_those_of_the_model(result, reviews):
    """Words in another order than the classes, and not all of them."""
    names = ["very positive", "negative"]
    rows = pd.DataFrame({"text": reviews["text"][:6], "label": names * 3})
    metrics = hf_fusion.evaluate(result.folder, rows)
    classify = FusionSentimentPipeline.from_pretrained(result.folder, device="cpu")
    answers = [answer["label"] for answer in classify(reviews["text"][:6])]
    assert metrics["fine_accuracy"] == np.mean(
        [answer == name for answer, name in zip(answers, names * 3, strict=True)]
    )


def test_the_training_data_is_told(result, reviews, tmp_path, caplog):
    path = tmp_path / "reviews.csv"
    reviews.to_csv(path)
    config = result.folder / "config.yaml"
    before = config.read_text()
    try:
        config.write_text(yaml.safe_dump({**yaml.safe_load(before), "dataset": str(path), "dataset_options": None}))
        hf_fusion.evaluate(result.folder, path, scale=[0.0, 1.0])
    finally:
        config.write_text(before)
    assert re.search(r"was trained on rows of .*reviews\.csv: omit `data`", caplog.text)


def test_wrong_arguments(result, reviews):
    classify = FusionSentimentPipeline.from_pretrained(result.folder, device="cpu")
    with pytest.raises(DataError, match="`data` is missing"):
        hf_fusion.evaluate(classify)
    with pytest.raises(DataError, match="has no validation split; it has test"):
        hf_fusion.evaluate(classify, reviews, split="validation", scale=[0.0, 1.0])
    for data in (None, reviews):
        with pytest.raises(TypeError, match="scal"):
            hf_fusion.evaluate(result.folder, data, scal=[0, 1])


def test_clips(tmp_path):
    result = hf_fusion.train(TINY_CLIPS, output_dir=tmp_path, max_steps=2)
    assert_same_metrics(hf_fusion.evaluate(tmp_path), result.metrics["test"])
    clips = hf_fusion.load_clips(options=TINY_CLIPS["dataset_options"])
    assert_same_metrics(hf_fusion.evaluate(tmp_path, clips), result.metrics["test"])
    assert_same_metrics(
        evaluate_checkpoint(tmp_path, {"dataset_options": TINY_CLIPS["dataset_options"]}), result.metrics["test"]
    )


def test_nothing_but_own_words(tmp_path, capfd, caplog):
    """No bars of libraries, no reports of weights; afterwards both are as they were."""
    from datasets.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    enable_progress_bars()  # a command of another test may have turned them off
    transformers_logging.enable_progress_bar()
    logging.getLogger("transformers.modeling_utils").filters.clear()
    caplog.set_level(logging.WARNING, logger="transformers.modeling_utils")
    result = hf_fusion.train(TINY, output_dir=tmp_path / "first", max_steps=1)
    hf_fusion.train({"checkpoint": str(result.folder), "dataset_options": SIZES}, output_dir=tmp_path / "more",
                    max_steps=1, disable_tqdm=True)  # fmt: skip
    hf_fusion.evaluate(result.folder)
    reports = logging.getLogger("transformers.modeling_utils")
    with quiet_libraries():
        reports.warning("X LOAD REPORT from: here")
        reports.warning("something else")
    assert "something else" in caplog.text and "LOAD REPORT" not in caplog.text
    reports.warning("X LOAD REPORT from: here")
    assert "LOAD REPORT" in caplog.text
    shown = capfd.readouterr()
    assert not re.search(r"it/s|examples/s|Loading weights", shown.err + shown.out)
    assert transformers_logging.is_progress_bar_enabled() and not are_progress_bars_disabled()


class TestKeepOptimizer:
    def test_a_finished_run_has_no_optimizer(self, result, caplog):
        checkpoints = [*result.folder.glob("checkpoint-*")]
        names = {path.name for checkpoint in checkpoints for path in checkpoint.iterdir()}
        assert len(checkpoints) == 2 and {"model.safetensors", "trainer_state.json"} <= names
        assert not names & {"optimizer.pt", "scheduler.pt", "rng_state.pth"}

    def test_is_told_with_the_size(self, tmp_path, caplog):
        hf_fusion.train(TINY, output_dir=tmp_path, max_steps=1)
        shown, freed = map(float, re.search(r"takes ([\d.]+) MB; .*, ([\d.]+) MB, was removed", caplog.text).groups())
        assert shown == pytest.approx(folder_size(tmp_path) / 1e6, abs=0.1) and freed > 0.1

    @pytest.mark.parametrize("wish", ["last", "checkpoint"])
    def test_resuming_says_why_it_cannot(self, result, wish):
        wish = "last" if wish == "last" else str(next(result.folder.glob("checkpoint-*")))
        with pytest.raises(RecipeError, match=r"a finished run .*`keep_optimizer` .*set `checkpoint`"):
            hf_fusion.train(TINY, output_dir=result.folder, num_train_epochs=3, resume_from_checkpoint=wish)

    def test_an_option_keeps_it(self, tmp_path):
        hf_fusion.train(TINY, output_dir=tmp_path, num_train_epochs=1, keep_optimizer=True)
        assert has_optimizer_state(tmp_path / "checkpoint-8")
        more = hf_fusion.train(TINY, output_dir=tmp_path, num_train_epochs=2, resume_from_checkpoint="last")
        assert more.trainer.state.global_step == 16


def test_loaded_reviews_train_in_a_few_lines(result, reviews, tmp_path):
    """The trained model goes on, by `FusionTrainer`, on data that was loaded."""
    data = load_reviews(reviews, scale=(0, 1), split_shares=(0.7, 0.3, 0.0))
    args = hf_fusion.FusionTrainingArguments(str(tmp_path), max_steps=1, report_to="none", disable_tqdm=True)
    trainer = hf_fusion.FusionTrainer(
        result.trainer.model, args, train_dataset=data["train"], eval_dataset=data["validation"],
        processing_class=result.trainer.processing_class,
    )  # fmt: skip
    trainer.train()
    assert "eval_fine_accuracy" in trainer.evaluate()


def test_a_checkpoint_without_a_head(result, tmp_path, caplog):
    """No pipeline has random weights, and a training says which ones begin anew."""
    result.trainer.model.base_model.save_pretrained(tmp_path)
    result.trainer.processing_class.save_pretrained(tmp_path)
    recipe = {"checkpoint": str(tmp_path), "dataset_options": SIZES, "max_steps": 1, "disable_tqdm": True}
    hf_fusion.train(recipe, output_dir=tmp_path / "run")
    assert re.search(r"has no weights for \d+ parameters, which are initialised at random: .*classifier", caplog.text)
    with pytest.raises(ValueError, match=r"has no weights for .*\d+ parameters in all: it is no trained checkpoint"):
        FusionSentimentPipeline.from_pretrained(tmp_path)


def test_a_pipeline_in_another_type(result):
    assert str(FusionSentimentPipeline.from_pretrained(result.folder, dtype="bfloat16").model.dtype) == "torch.bfloat16"


def test_rows_of_another_type(result):
    with pytest.raises(DataError, match="got list"):
        hf_fusion.evaluate(result.folder, [{"text": "good"}])
