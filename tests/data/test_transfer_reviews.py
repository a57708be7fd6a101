import json
import logging

import pytest

from hf_fusion.data.reviews import ReviewSource
from hf_fusion.data.transfer_reviews import read_transfer_reviews
from hf_fusion.utils.errors import DataError


def write(folder, rows, name="texts.jsonl"):
    path = folder / name
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def texts_of(found):
    rows, _ = found
    return list(rows["text"])


def test_texts_that_are_known_or_repeated_are_left_out_and_counted(tmp_path, caplog):
    texts = ["Good bed.", "good  BED.", "Dirty room.", "A test text", "Trained already", "Cold soup."]
    source = ReviewSource(write(tmp_path, [{"text": text} for text in texts]))
    with caplog.at_level(logging.WARNING):
        found = read_transfer_reviews(source, ["trained  already"], ["a TEST text", "another"])
    assert texts_of(found) == ["Good bed.", "Dirty room.", "Cold soup."]
    counts = {"repeated": 1, "in validation or test": 1, "with labels in the training": 1}
    assert found[1] == counts
    assert "3 texts without labels; left out 1 repeated, 1 in validation or test, 1 with labels" in caplog.text
    assert len(set(found[0]["id"])) == 3


def test_labels_are_not_read_and_columns_are_those_of_the_labelled_data(tmp_path):
    rows = [{"review": "Good bed.", "stars": "unknown", "number": 7, "hotel": "x"}, {"review": "Cold", "stars": -5}]
    source = ReviewSource(write(tmp_path, rows), columns={"text": "review", "id": "number", "score": "no such column"})
    found = read_transfer_reviews(source, [], [])
    assert texts_of(found) == ["Good bed.", "Cold"] and found[0]["id"][0] == "7"
    assert found[0].column_names == ["id", "text", "source"]


def test_rows_of_evaluation_splits_and_of_other_sources_stay_out(tmp_path):
    rows = [
        {"text": f"{source} {split}", "split": split, "source": source}
        for source in ("inn", "bar")
        for split in ("train", "valid", "TEST", None)
    ]
    found = read_transfer_reviews(ReviewSource(write(tmp_path, rows), sources=("inn",)), [], [])
    assert texts_of(found) == ["inn train", "inn None"]
    assert found[1] == {"of its validation or test split": 4, "of another source": 2}
    for split in ("train", "test"):
        write(tmp_path, [{"text": f"in the file {split}"}], f"{split}.jsonl")
    found = read_transfer_reviews(ReviewSource(str(tmp_path / "t[re]*[nt].jsonl")), [], [])
    assert texts_of(found) == ["in the file train"]


def test_a_number_of_them_is_drawn_by_the_seed(tmp_path):
    source = ReviewSource(write(tmp_path, [{"text": f"text {i}"} for i in range(50)]))
    drawn = [texts_of(read_transfer_reviews(source, [], [], 10, seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 10
    assert read_transfer_reviews(source, [], [], 10, 1)[1] == {"not drawn": 40}
    assert len(read_transfer_reviews(source, [], [], 99, 1)[0]) == 50


def test_unusable_rows_follow_the_policy(tmp_path):
    path = write(tmp_path, [{"text": "fine"}, {"text": " "}, {"text": 3}])
    with pytest.raises(DataError, match=r"2 unusable rows\n  1 x empty text: row 2.*\n  1 x text is no string: row 3"):
        read_transfer_reviews(ReviewSource(path), [], [])
    assert texts_of(read_transfer_reviews(ReviewSource(path, rejected="drop"), [], [])) == ["fine"]


def test_errors(tmp_path):
    path = write(tmp_path, [{"text": "fine"}])
    with pytest.raises(DataError, match=r"no text remains for the transfer set; left out 1 in validation or test"):
        read_transfer_reviews(ReviewSource(path), [], ["fine"])
    with pytest.raises(DataError, match=r"no column 'body'; there are text. It needs the same `columns` as `dataset`"):
        read_transfer_reviews(ReviewSource(path, columns={"text": "body"}), [], [])
    with pytest.raises(FileNotFoundError):
        read_transfer_reviews(ReviewSource(str(tmp_path / "none.csv")), [], [])
