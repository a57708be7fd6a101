"""What is cut, and what cannot be read, between the rows of a data set and the model's inputs."""

import numpy as np
import pytest
from datasets import Array2D, Dataset, Features, Value

from hf_fusion.architectures import architecture_of
from hf_fusion.architectures.clips import encode_clips
from hf_fusion.architectures.reviews import encode_reviews
from hf_fusion.architectures.rows import (
    count_windows,
    drop_unreadable,
    report_windows,
    take_truncated,
    warn_of_truncation,
)
from hf_fusion.data.tally import tallied
from hf_fusion.utils.errors import DataError, RecipeError

LOGGER = "hf_fusion.architectures.rows"


@pytest.fixture
def clip_table():
    """Three clips: short ones, one with too many words and audio frames, one with too many vision frames."""
    sizes = [(2, 1, 3), (50, 13, 4), (2, 5, 11)]
    rows = {
        "id": list("abc"),
        "text": ["good " * words for words, _, _ in sizes],
        "label": [0.0, 1.0, 2.0],
        "audio": [np.ones((audio, 3), dtype=np.float32) for _, audio, _ in sizes],
        "vision": [np.ones((vision, 5), dtype=np.float32) for _, _, vision in sizes],
    }
    streams = {"audio": Array2D((None, 3), "float32"), "vision": Array2D((None, 5), "float32")}
    return Dataset.from_dict(
        rows, features=Features({"id": Value("string"), "text": Value("string"), "label": Value("float32"), **streams})
    )


def test_reviews_that_are_cut_are_counted(processor, caplog):
    processor.max_length = 9
    texts = ["good", "the room was clean and the bed was fine and nice", "bad", "the bar " * 30]
    encoded = encode_reviews(Dataset.from_dict({"id": list("abcd"), "text": texts}), processor)
    cut = [len(processor([text], truncation=False)["input_ids_b"][0]) > 9 for text in texts]
    assert encoded["text_truncated"] == cut == [False, True, False, True]
    rest, counts = take_truncated(encoded)
    assert counts == {"text": 2} and "text_truncated" not in rest.column_names and len(rest) == 4
    warn_of_truncation({"train": counts, "test": {"text": 0}}, {"train": 4, "test": 1200}, "review", processor)
    assert [record.getMessage() for record in caplog.records if record.name == LOGGER] == [
        "2 of 4 train reviews are cut to their first 9 tokens."
    ]


def test_reviews_in_windows_are_counted(processor, clip_processor, clip_table, caplog):
    processor.max_length = 9
    rows = Dataset.from_dict({"id": list("abc"), "text": ["good", "the bar " * 30, "bad"]})
    encoded = encode_reviews(rows, processor, "window")
    assert encoded["text_truncated"][:] == [False] * 3 and encoded["text_windows"][1] > 5
    assert encoded["length"][1] == max(len(encoded[1][name]) for name in ("input_ids", "input_ids_b"))
    counts = count_windows(encoded)
    assert counts == {"texts": 1, "windows": 2 + encoded["text_windows"][1]}
    assert count_windows(encode_reviews(rows, processor)) == {}
    report_windows({"train": counts, "test": {"texts": 0, "windows": 7}}, "review")
    assert [record.getMessage() for record in caplog.records if record.name == LOGGER] == [
        f"1 train reviews are read in several windows ({counts['windows']} windows in all)."
    ]
    with pytest.raises(RecipeError, match="`long_texts` window is for reviews"):
        architecture_of("dashfusion").encode(clip_table, clip_processor, "window")


def test_clips_that_are_cut_are_counted_by_modality(clip_processor, clip_table, caplog):
    clip_processor.max_length = 20
    rest, counts = take_truncated(encode_clips(clip_table, clip_processor))
    assert counts == {"text": 1, "audio": 1, "vision": 1} and set(rest["length"]) == {4, 20, 10}
    warn_of_truncation({"validation": counts}, {"validation": 3}, "clip", clip_processor)
    assert [record.getMessage() for record in caplog.records if record.name == LOGGER] == [
        "1 of 3 validation clips are cut to their first 20 tokens.",
        "1 of 3 validation clips are cut to their first 12 audio frames.",
        "1 of 3 validation clips are cut to their first 10 vision frames.",
    ]


class TestTextsWithoutTokens:
    """Characters that are visible, but that no tokenizer keeps."""

    @pytest.fixture
    def deaf(self, monkeypatch):
        """Makes tokenizers read nothing of a text."""

        def make(processor, text):
            for tokenizer in processor.tokenizers:
                call = type(tokenizer).__call__
                monkeypatch.setattr(
                    type(tokenizer),
                    "__call__",
                    lambda self, texts, *args, call=call, **kwargs: call(
                        self, ["" if value == text else value for value in texts], *args, **kwargs
                    ),
                )

        return make

    def test_of_reviews_are_all_named_or_left_out(self, processor, deaf):
        deaf(processor, "~")
        reviews = Dataset.from_dict({"id": list("abcd"), "text": ["good", "~", "bad", "~"]})
        encoded = encode_reviews(reviews, processor)
        with pytest.raises(DataError, match=r"2 x no token that the tokenizers know: b \('~'\); d \('~'\)"):
            drop_unreadable(encoded, reviews, "a.csv (train)", "error")
        with tallied() as counts:
            kept, rows = drop_unreadable(encoded, reviews, "a.csv (train)", "drop")
        assert list(kept["id"]) == list(rows["id"]) == ["a", "c"] and min(kept["length"]) > 0
        assert counts == {"rows left out: no token that the tokenizers know": 2}
        with pytest.raises(DataError, match=r"a\.csv \(train\): no row remains"):
            drop_unreadable(encoded.select([1]), reviews.select([1]), "a.csv (train)", "drop")

    def test_count_as_missing_beside_frames(self, clip_processor, clip_table, deaf):
        deaf(clip_processor, "good good ")
        with tallied() as counts:
            encoded = encode_clips(clip_table, clip_processor)
        assert [bool(ids) for ids in encoded["input_ids"]] == [False, True, False]
        assert counts == {"texts have no token and count as missing": 2}
        assert drop_unreadable(encoded, clip_table, "clips", "error") == (encoded, clip_table)
        alone = clip_table.select([0]).remove_columns(["audio", "vision"])
        encoded = encode_clips(alone, clip_processor)
        with pytest.raises(DataError, match=r"clips: 1 unusable row\n  1 x no token that .* know: a \('good"):
            drop_unreadable(encoded, alone, "clips", "error")
