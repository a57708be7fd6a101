"""The evidence that `hf-fusion evaluate` writes, and where its baselines come from."""

import json

import pytest
from tiny_runs import TINY, train

from hf_fusion.architectures.write_evaluation import write_evaluation
from hf_fusion.data.arguments import DataArguments
from hf_fusion.data.synthetic_reviews import synthetic_reviews
from hf_fusion.training.recipe import read_data_arguments


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run on some of the training rows, which only the run itself knows."""
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    train({**TINY, "evidence": True, "max_train_samples": 40, "report_to": "none", "license": "cc-by-4.0"}, folder)
    return folder


@pytest.fixture
def evaluate(run_folder, tmp_path):
    def evaluate(data_args=None, **options):
        data_args = data_args or read_data_arguments(run_folder)
        return write_evaluation(str(run_folder), data_args, output_dir=tmp_path / "out", **options)[0]

    return evaluate


@pytest.fixture(scope="module")
def known(run_folder):
    return json.loads((run_folder / "metrics.json").read_text())


def test_the_run_has_evidence_of_both_splits(run_folder, known):
    evidence = known["evidence"]
    assert evidence["training_rows"] == {"majority": 40, "bag of words": 40}
    assert {split: part["rows"] for split, part in evidence["splits"].items()} == {"validation": 17, "test": 13}
    for split, part in evidence["splits"].items():
        assert set(part["intervals"]) <= set(known[split]) and set(part["classes"]) == {"fine", "coarse"}
        assert set(part["baselines"]["bag of words"]) <= set(known[split])
    card = (run_folder / "README.md").read_text()
    assert all(text.partition('"')[0] in card for text in evidence["splits"]["test"]["warnings"])
    assert (run_folder / "confusion_fine.png").is_file() and "](confusion_coarse.png)" in card
    assert "license: cc-by-4.0" in card and "1 epoch, learning rate 0.001" in card


def test_of_the_own_rows_of_a_sampled_run_the_kept_baselines_count(evaluate, known):
    record = evaluate()
    ours, theirs = record["evidence"]["splits"]["test"], known["evidence"]["splits"]["test"]
    assert record["evidence"]["training_rows"] == known["evidence"]["training_rows"]
    assert ours["baselines"] == theirs["baselines"] and ours["confusion"] == theirs["confusion"]
    assert all(lead["interval"] is None for lead in ours["lead"].values())


def test_not_for_other_rows(evaluate, run_folder):
    data_args = read_data_arguments(run_folder)
    data_args.max_eval_samples = 9
    evidence = evaluate(data_args)["evidence"]
    assert evidence["no_baselines"] == (
        "`max_train_samples` took a part of the rows, and the run kept no baselines on the same test rows"
    )
    assert evidence["splits"]["test"]["rows"] == 9 and "baselines" not in evidence["splits"]["test"]


def test_all_training_rows_are_fitted(evaluate, run_folder, known):
    data_args = read_data_arguments(run_folder)
    data_args.max_train_samples = None
    record = evaluate(data_args)
    assert record["evidence"]["training_rows"] == {"majority": 64, "bag of words": 64}
    part = record["evidence"]["splits"]["test"]
    assert part["baselines"] != known["evidence"]["splits"]["test"]["baselines"]
    assert all(lead["interval"] for lead in part["lead"].values())


@pytest.mark.parametrize(("shares", "reason"), [
    ([0.0, 0.0, 1.0], "the data has no train split, and the run kept no baselines on the same test rows"),
    ([0.5, 0.1, 0.4], None),
])  # fmt: skip
def test_other_data(evaluate, tmp_path, shares, reason):
    synthetic_reviews(num_train=60)["train"].select_columns(["text", "score"]).to_csv(tmp_path / "new.csv")
    data_args = DataArguments(dataset=str(tmp_path / "new.csv"), scale=[0.0, 1.0], split_shares=shares)
    evidence = evaluate(data_args)["evidence"]
    assert evidence.get("no_baselines") == reason and ("training_rows" in evidence) == (reason is None)


def test_evidence_can_be_left_out(evaluate):
    assert "evidence" not in evaluate(evidence=False)


def test_a_training_without_it(tmp_path):
    metrics = train({**TINY, "max_steps": 1, "evidence": False}, tmp_path / "run")
    assert "evidence" not in metrics and not list((tmp_path / "run").glob("confusion_*"))
