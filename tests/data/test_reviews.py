import json
from pathlib import Path

import pytest
from datasets import Dataset
from tiny_runs import CHILDREN, LONGEST_SECONDS

from hf_fusion.data.labels import LabelRules
from hf_fusion.data.reviews import ReviewSource, load_reviews, split_by_hash
from hf_fusion.studies.measure import resident_bytes
from hf_fusion.utils.errors import DataError

HOTEL_REVIEWS = Path(__file__).parents[3] / "shared/data/hotel_reviews/hotel_reviews.csv.gz"
ALL_TRAIN = (1, 0, 0)


def write(tmp_path, rows, name="reviews.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def all_rows(splits):
    return [row for split in splits.values() for row in split]


def test_stars(tmp_path):
    path = write(tmp_path, [{"text": f"review {n}", "stars": n, "split": "train"} for n in (1, 2, 3, 4, 5)])
    train = load_reviews(ReviewSource(path, split_shares=ALL_TRAIN))["train"]
    assert list(train["labels"]) == [0, 1, 2, 3, 4]
    assert list(train["coarse_labels"]) == [0, 0, 1, 2, 2]
    assert list(train["intensity_labels"]) == [0, 0.25, 0.5, 0.75, 1]
    assert train.column_names == ["id", "text", "labels", "coarse_labels", "intensity_labels"]


def test_score_on_a_declared_scale_and_own_column_names(tmp_path):
    path = write(tmp_path, [{"key": 7, "comment": "fine", "rating": 8.0, "part": "dev"}])
    columns = {"text": "comment", "score": "rating", "split": "part", "id": "key"}
    splits = load_reviews(ReviewSource(path, columns=columns, rules=LabelRules(scale=(0, 10))))
    assert splits["validation"][0] == {
        "id": "7", "text": "fine", "labels": 4, "coarse_labels": 2, "intensity_labels": pytest.approx(0.8),
    }  # fmt: skip


def test_stars_give_classes_and_score_the_intensity(tmp_path):
    path = write(tmp_path, [{"text": "x", "stars": 4, "score": 0.7, "split": "test"}])
    row = load_reviews(ReviewSource(path, rules=LabelRules(scale=(0, 1))))["test"][0]
    assert (row["labels"], row["intensity_labels"]) == (3, pytest.approx(0.7))


def test_labels_given_directly_come_first(tmp_path):
    rows = [
        {"text": "x", "stars": 5, "label": 1, "coarse_label": 2, "intensity": 0.4, "split": "train"},
        {"text": "y", "stars": 5, "label": None, "coarse_label": None, "intensity": None, "split": "train"},
        {"text": "z", "stars": None, "label": None, "coarse_label": 1, "intensity": None, "split": "train"},
    ]
    train = load_reviews(ReviewSource(write(tmp_path, rows), split_shares=ALL_TRAIN))["train"]
    assert list(train["labels"]) == [1, 4, None]
    assert list(train["coarse_labels"]) == [2, 2, 1]
    assert list(train["intensity_labels"]) == [pytest.approx(0.4), 1, None]


def test_texts_that_look_like_missing_values_stay(tmp_path, caplog):
    """But "nan" alone, which pandas makes of a missing text."""
    path = tmp_path / "reviews.csv"
    path.write_text("text,stars,split\nNA,1,train\nnull,2,train\nNaN,3,train\nnan bread,4,train\n")
    with pytest.raises(DataError, match=r"1 x empty text: row 3: field 'text' is 'NaN'"):
        load_reviews(ReviewSource(str(path)))
    train = load_reviews(ReviewSource(str(path), rejected="drop", split_shares=ALL_TRAIN))["train"]
    assert list(train["text"]) == ["NA", "null", "nan bread"]


class TestSplits:
    def test_by_hash_keep_duplicates_together(self, tmp_path):
        rows = [{"text": variant, "stars": 3} for n in range(300) for variant in (f"Review {n}", f" review  {n} ")]
        splits = load_reviews(ReviewSource(write(tmp_path, rows)))
        where = {}
        for split, data in splits.items():
            for text in data["text"]:
                where.setdefault(" ".join(text.lower().split()), set()).add(split)
        assert all(len(places) == 1 for places in where.values())
        assert len(splits["train"]) == pytest.approx(480, abs=50)
        assert len(splits["test"]) == pytest.approx(60, abs=30)

    def test_depend_on_the_seed_alone(self):
        shares = (0.5, 0.25, 0.25)
        first = [split_by_hash(f"text {n}", shares, 0) for n in range(200)]
        assert first == [split_by_hash(f"text {n}", shares, 0) for n in range(200)]
        assert first != [split_by_hash(f"text {n}", shares, 1) for n in range(200)]

    def test_shares_of_nothing_get_nothing(self):
        assert {split_by_hash(str(n), (0.7, 0.0, 0.3), 0) for n in range(300)} == {"train", "test"}

    def test_unknown_name(self, tmp_path):
        path = write(tmp_path, [{"text": "x", "stars": 3, "split": "holdout"}])
        with pytest.raises(DataError, match="'holdout' is none of train, validation, test"):
            load_reviews(ReviewSource(path))

    @pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.2, 0.1), (1.2, -0.1, -0.1)])
    def test_shares_must_sum_to_one(self, shares):
        with pytest.raises(DataError, match="sum to 1"):
            ReviewSource("x.csv", split_shares=shares)


class TestBadRows:
    ROWS = [
        {"text": "good", "stars": 5, "split": "train"},
        {"text": "  ", "stars": 5, "split": "train"},
        {"text": "no stars", "stars": None, "split": "train"},
        {"text": "six", "stars": 6, "split": "train"},
        {"text": "word", "stars": "many", "split": "train"},
        {"text": None, "stars": 1, "split": "train"},
    ]

    def test_are_an_error_that_counts_them_and_says_where(self, tmp_path):
        with pytest.raises(DataError) as error:
            load_reviews(ReviewSource(write(tmp_path, self.ROWS)))
        message = str(error.value)
        assert "reviews.jsonl: 5 unusable rows" in message
        for part in ("2 x empty text: row 2", "row 6", "no label: row 3", "row 4", "stars=6", "row 5", "'many'"):
            assert part in message

    def test_are_left_out_with_a_warning_on_request(self, tmp_path, caplog):
        splits = load_reviews(ReviewSource(write(tmp_path, self.ROWS), rejected="drop", split_shares=ALL_TRAIN))
        assert list(splits["train"]["text"]) == ["good"]
        assert "5 unusable rows" in caplog.text and "left out" in caplog.text

    def test_long_lists_are_shortened(self, tmp_path):
        rows = [{"text": "", "stars": 1}] * 50
        with pytest.raises(DataError, match=r"50 x empty text.*\.\.\."):
            load_reviews(ReviewSource(write(tmp_path, rows)))


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        ([{"review": "x", "stars": 1}], {}, "no column 'text'; there are review, stars"),
        ([{"text": "x"}], {}, "no labels"),
        ([{"text": "x", "stars": 1}], {"score": "rating"}, "no column 'rating' .declared as score."),
        ([], {}, "no rows"),
    ],
)
def test_columns_that_are_missing(tmp_path, rows, columns, words):
    with pytest.raises(DataError, match=words):
        load_reviews(ReviewSource(write(tmp_path, rows), columns=columns))


def test_unknown_field_in_the_mapping():
    with pytest.raises(DataError, match="Unknown field rating"):
        ReviewSource("x.csv", columns={"rating": "x"})


def test_hub_data_sets_without_validation(monkeypatch):
    from datasets import DatasetDict

    rows = Dataset.from_list([{"text": f"review {n}", "label": n % 5} for n in range(300)])
    splits = DatasetDict({"train": rows})
    monkeypatch.setattr("hf_fusion.data.hub.load_dataset", lambda name: splits)
    assert {name: len(data) > 10 for name, data in load_reviews(ReviewSource("acme/hotels")).items()} == {
        "train": True, "validation": True, "test": True,
    }  # fmt: skip
    splits["test"] = rows.select(range(7))
    drawn = load_reviews(ReviewSource("acme/hotels"))
    assert len(drawn["test"]) == 7 and len(drawn["train"]) + len(drawn["validation"]) == 300
    assert 15 < len(drawn["validation"]) < 60
    assert drawn["test"][4]["intensity_labels"] == 1.0


def test_malformed_rows_count_among_the_unusable(tmp_path, caplog):
    path = tmp_path / "reviews.csv"
    path.write_bytes(b"text,stars,split\ngood,5,train\nbroken\n\xff,1,train\nfar,inf,train\n")
    with pytest.raises(DataError, match="3 unusable rows"):
        load_reviews(ReviewSource(str(path)))
    splits = load_reviews(ReviewSource(str(path), rejected="drop", split_shares=ALL_TRAIN))
    assert list(splits["train"]["text"]) == ["good"]
    assert "line 3" in caplog.text and "line 4" in caplog.text and "inf" in caplog.text


def test_hub_data_set(tmp_path, monkeypatch):
    rows = Dataset.from_list([{"review": "x", "stars": 2.0}])
    calls = {}

    def load_dataset(name, **options):
        calls.update(name=name, **options)
        from datasets import DatasetDict

        return DatasetDict({"train": rows, "test": rows})

    monkeypatch.setattr("hf_fusion.data.hub.load_dataset", load_dataset)
    splits = load_reviews(ReviewSource("acme/hotels", columns={"text": "review"}, options={"revision": "abc"}))
    assert calls == {"name": "acme/hotels", "revision": "abc"}
    assert {split: list(data["labels"]) for split, data in splits.items()} == {"train": [1], "test": [1]}


@pytest.mark.data
@pytest.mark.skipif(not HOTEL_REVIEWS.is_file(), reason="the hotel reviews are not part of the repository")
def test_the_hotel_reviews():
    splits = load_reviews(
        ReviewSource(str(HOTEL_REVIEWS), columns={"score": "score01"}, rules=LabelRules(scale=(0, 1)))
    )
    assert {split: len(data) for split, data in splits.items()} == {"train": 38839, "validation": 4868, "test": 4863}
    stars = [label + 1 for data in splits.values() for label in data["labels"]]
    assert [stars.count(n) for n in (1, 2, 3, 4, 5)] == [2922, 3151, 5516, 13576, 23405]


def load_and_measure(path, queue):
    """In a process of its own: the memory that is not mapped from files, before and after; and the rows."""
    before = resident_bytes("RssAnon")
    data = load_reviews(ReviewSource(str(path), split_shares=ALL_TRAIN))
    lengths = [len(data["train"][row]["text"]) for row in range(0, len(data["train"]), 1000)]
    queue.put((resident_bytes("RssAnon") - before, len(data["train"]), set(lengths)))


def test_a_corpus_may_be_larger_than_memory(tmp_path):
    """A tenth of it is more than what reading needs."""
    path = tmp_path / "large.jsonl"
    text = "The room was clean. " * 250
    line = json.dumps({"text": text, "stars": 5, "split": "train"}) + "\n"
    with path.open("w") as file:
        file.writelines(line for _ in range(30_000))
    queue = CHILDREN.Queue()
    child = CHILDREN.Process(target=load_and_measure, args=(path, queue))
    child.start()
    child.join(LONGEST_SECONDS)
    assert child.exitcode == 0
    grown, rows, lengths = queue.get(timeout=LONGEST_SECONDS)
    assert rows == 30_000 and lengths == {len(text)} and path.stat().st_size > 150e6
    assert grown < path.stat().st_size / 10
