import pytest
from datasets import Dataset, DatasetDict

from hf_fusion.data import hub
from hf_fusion.data.clips import ClipSource, load_clips
from hf_fusion.data.files import DataError
from hf_fusion.data.reviews import ReviewSource, load_reviews


@pytest.mark.parametrize("load", [lambda n: load_clips(ClipSource(n)), lambda n: load_reviews(ReviewSource(n))])
def test_a_mistyped_folder_is_named(load):
    """Offline, as all tests are: what the Hub's client says of it is not for users."""
    with pytest.raises(DataError, match=r"data/mosii: no file or folder here, and the Hub cannot be asked: "):
        load("data/mosii")


def test_splits_and_one_table(monkeypatch):
    table = Dataset.from_dict({"text": ["a"]})
    monkeypatch.setattr(hub, "load_dataset", lambda name, split=None: table if split else DatasetDict({"test": table}))
    assert hub.load_from_hub("acme/reviews", {}) == {"test": table}
    assert hub.load_from_hub("acme/reviews", {"split": "test"}) == {None: table}
