"""Reviews and clips that are in memory are read as those of files."""

import numpy as np
import pandas as pd
import pytest
from asserts import assert_close
from datasets import ClassLabel, Dataset, DatasetDict, IterableDataset

from hf_fusion import load_clips, load_reviews
from hf_fusion.data.clips import ClipSource
from hf_fusion.data.in_memory import name_and_splits
from hf_fusion.data.reviews import ReviewSource
from hf_fusion.utils.errors import DataError

ROWS = [{"body": f"Review number {i}.", "rate": i % 5 + 1} for i in range(20)]
COLUMNS = {"text": "body", "stars": "rate"}


def as_file(rows, tmp_path):
    path = tmp_path / "reviews.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("kind", [
    pd.DataFrame, Dataset.from_list, lambda rows: Dataset.from_list(rows).with_format("torch"),
    lambda rows: IterableDataset.from_generator(lambda: iter(rows)),
    lambda rows: pd.DataFrame(rows, index=range(7, 27)).astype({"rate": "category"}),
])  # fmt: skip
def test_reviews_are_those_of_a_file(kind, tmp_path):
    expected = load_reviews(as_file(ROWS, tmp_path), columns=COLUMNS)
    found = load_reviews(kind(ROWS), columns=COLUMNS)
    assert found.keys() == expected.keys() >= {"train", "validation"}
    assert {split: rows.to_list() for split, rows in found.items()} == {
        split: rows.to_list() for split, rows in expected.items()
    }


def test_splits_stay(tmp_path):
    halves = DatasetDict(train=Dataset.from_list(ROWS[:12]), dev=Dataset.from_list(ROWS[12:]))
    found = load_reviews(halves, columns=COLUMNS)
    assert {split: len(rows) for split, rows in found.items()} == {"train": 12, "validation": 8}
    assert found["validation"]["text"][:] == [row["body"] for row in ROWS[12:]]


def test_arguments_are_those_of_recipes():
    scores = pd.DataFrame({"text": ["bad", "good", "fine"], "score": [0, 10, 6]})
    fields = {"scale": (0, 10), "num_labels": 2, "intensity_range": (-1, 1), "split_shares": (1, 0, 0)}
    train = load_reviews(scores, **fields)["train"]
    assert train["labels"][:] == [0, 1, 1]
    assert_close(train["intensity_labels"][:], [-1.0, 1.0, 0.2])
    words = pd.DataFrame({"text": ["a b", "c d"], "label": ["meh", "yeah"]})
    named = load_reviews(words, class_words=["meh", "yeah"], split_shares=(1, 0, 0))["train"]
    assert named["labels"][:] == [0, 1]


def test_the_names_of_a_class_label_count():
    rows = Dataset.from_dict({"text": ["a b", "c d", "e f"], "label": [0, 1, 1]})
    rows = rows.cast_column("label", ClassLabel(names=["positive", "negative"]))
    assert load_reviews(rows, split_shares=(1, 0, 0))["train"]["labels"][:] == [1, 0, 0]


def test_missing_values_of_a_table():
    table = pd.DataFrame({"text": ["a b", None, "e f"], "stars": [1, 2, np.nan]})
    with pytest.raises(DataError, match=r"(?s)DataFrame: 2 unusable rows.*empty text.*no label"):
        load_reviews(table)
    assert len(load_reviews(table, rejected_rows="drop", split_shares=(1, 0, 0))["train"]) == 1


def clip_rows():
    rng = np.random.default_rng(0)
    return [
        {"id": f"{i}$_$0", "text": f"clip {i}", "audio": rng.normal(size=(i + 1, 2)).tolist(), "label": i - 2.0}
        for i in range(5)
    ]


@pytest.mark.parametrize(
    "kind", [pd.DataFrame, Dataset.from_list, lambda rows: Dataset.from_list(rows).with_format("numpy")]
)
def test_clips(kind):
    clips = load_clips({"train": kind(clip_rows())}, label_range=(-3, 3), split_shares=(1, 0, 0))
    rows = clips["train"].with_format("numpy")
    assert rows["label"][:].tolist() == [-2, -1, 0, 1, 2] and clips["train"].features["audio"].shape == (None, 2)
    np.testing.assert_allclose(rows[3]["audio"], clip_rows()[3]["audio"], rtol=1e-6)
    with pytest.raises(DataError, match="a label outside the range"):
        load_clips(kind(clip_rows()), label_range=(-1, 1))


def test_a_name_like_that_of_data_in_memory(tmp_path, monkeypatch):
    """Messages call it so; a prepared folder of that name is another thing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Dataset").mkdir()
    (tmp_path / "Dataset" / "dataset_dict.json").write_text("{}")
    assert len(load_clips(Dataset.from_list(clip_rows()), split_shares=(1, 0, 0))["train"]) == 5


@pytest.mark.parametrize("load", [load_reviews, load_clips])
def test_other_data_and_idle_arguments_are_refused(load):
    with pytest.raises(DataError, match=r"pandas\.DataFrame.*got list"):
        load([{"text": "good", "label": 1}])
    with pytest.raises(DataError, match="takes no `options`"):
        load(Dataset.from_list(ROWS), options={"streaming": True})
    source = ReviewSource() if load is load_reviews else ClipSource()
    with pytest.raises(TypeError, match="set `split_seed` there"):
        load(source, split_seed=3)


def test_a_category_may_be_missing():
    frame = pd.DataFrame({"text": ["a", "b"], "stars": pd.Categorical([1, None], categories=[1, 2])})
    _, splits = name_and_splits(frame)
    assert list(splits[None]["stars"]) == [1, None]
