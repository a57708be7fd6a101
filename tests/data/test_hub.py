import pytest
from datasets import Dataset, DatasetDict
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from hf_fusion.data import hub
from hf_fusion.data.clips import ClipSource, load_clips
from hf_fusion.data.reviews import ReviewSource, load_reviews
from hf_fusion.utils.errors import DataError


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


def test_streams_are_read(tmp_path):
    (tmp_path / "a.csv").write_text("text,stars\n" + "".join(f"review {n},{n % 5 + 1}\n" for n in range(40)))
    options = {"data_files": str(tmp_path / "a.csv"), "cache_dir": str(tmp_path / "cache")}
    streamed, loaded = (
        load_reviews(ReviewSource("csv", options={**options, "streaming": streaming})) for streaming in (True, False)
    )
    assert {split: list(rows) for split, rows in streamed.items()} == {s: list(rows) for s, rows in loaded.items()}
    assert sum(map(len, streamed.values())) == 40


class TestErrors:
    @pytest.mark.parametrize(
        "name", ["./nowhere", "../nowhere/", "/no/where", "nowhere/", "no\\where", "~/nowhere", "no/such/folder"]
    )
    def test_paths_that_do_not_exist(self, name):
        with pytest.raises(FileNotFoundError, match="no such file or folder"):
            load_reviews(ReviewSource(name))

    def test_a_file_of_an_unknown_kind(self, tmp_path):
        (tmp_path / "reviews.doc").write_text("x")
        with pytest.raises(DataError, match=r"reviews\.doc: unknown kind of file; known are \.csv"):
            load_reviews(ReviewSource(str(tmp_path / "reviews.doc")))

    @pytest.mark.parametrize(
        ("raised", "words"),
        [
            (
                DatasetNotFoundError("Dataset 'a/b' doesn't exist"),
                "no data set of the Hub by this name: .*doesn't exist",
            ),
            (ConnectionError("Couldn't reach"), "the Hub cannot be asked: ConnectionError: Couldn't reach"),
            (
                DatasetGenerationError("An error occurred"),
                "cannot be loaded with the options .*: DatasetGenerationError",
            ),
            (KeyError("split"), "cannot be loaded with the options .*KeyError: 'split'"),
            (MemoryError(), "cannot be loaded .*MemoryError: no reason given"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_of_datasets_keep_their_reason(self, monkeypatch, raised, words):
        def load_dataset(path, **options):
            raise raised

        monkeypatch.setattr(hub, "load_dataset", load_dataset)
        with pytest.raises(DataError, match=f"^a/b: .*{words}"):
            hub.load_from_hub("a/b", {"name": "x"})

    def test_the_cause_is_told(self, tmp_path):
        (tmp_path / "a.txt").write_text("no json\n")
        with pytest.raises(DataError, match=r"DatasetGenerationError.*JSON parse error") as error:
            hub.load_from_hub("json", {"data_files": str(tmp_path / "a.txt"), "cache_dir": str(tmp_path)})
        assert "no data set of the Hub" not in str(error.value)

    def test_options_that_give_something_else(self, monkeypatch):
        monkeypatch.setattr(hub, "load_dataset", lambda name, split: [Dataset.from_dict({"text": ["a"]})])
        with pytest.raises(DataError, match=r"the options .*'split'.* give a list; expected is one data set"):
            hub.load_from_hub("acme/reviews", {"split": ["train"]})
