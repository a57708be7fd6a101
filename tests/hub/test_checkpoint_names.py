from types import SimpleNamespace

import pytest
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from hf_fusion.hub.checkpoint_names import check_checkpoint_name, check_folder_name, result_folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Two runs, one of which was not finished."""
    for name in ("runs/hotels", "runs/films/checkpoint-10"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["runs/hotels", "./runs/hotels/", "roberta-base", "user/model", "runs/films/checkpoint-10"]
)
def test_folders_and_names_on_the_hub(here, name):
    check_checkpoint_name(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("runs/hotel", r"^runs/hotel: no such folder\. Did you mean runs/hotels\?"),
        ("rums/hotels", None),
        ("run/films/checkpoint-10", r"Did you mean runs/films/checkpoint-10\?"),
        ("runs/xyz", r"^runs/xyz: no such folder\. In runs there are films, hotels\.$"),
        ("./hotels", r"^\./hotels: no such folder\. In \. there are runs"),
        ("~/surely/not/there", "~/surely/not/there: no such folder"),
        ("hotels/", "hotels/: no such folder"),
        ("my run", "my run: no such folder"),
        ("runs\\hotels", "no such folder"),
        ("runs/hotels/config.json", "is a file: give the folder that it is in, runs/hotels"),
        (
            "runs/films",
            r"runs/films holds no checkpoint: it has no config\.json\. Name a folder inside it: checkpoint-10",
        ),
        ("runs", r"runs holds no checkpoint.*Name a folder inside it: hotels\."),
    ],
)
def test_what_is_no_checkpoint_is_named(here, name, words):
    if words is None:
        check_checkpoint_name(name)  # may be a name on the Hub
        return
    with pytest.raises(FileNotFoundError, match=words):
        check_checkpoint_name(name)


def test_a_model_of_the_hub_that_is_in_the_cache_goes_before_a_folder(here, monkeypatch):
    with pytest.raises(FileNotFoundError):
        check_folder_name("runs/mine")
    monkeypatch.setattr("hf_fusion.hub.checkpoint_names.try_to_load_from_cache", lambda *_: "/cache/config.json")
    check_folder_name("runs/mine")


class TestAHubThatDoesNotAnswer:
    """Names that are in no folder and not in the cache."""

    @pytest.fixture(autouse=True)
    def asked(self, here, monkeypatch):
        """The names that the Hub was asked for; it cannot be reached."""
        asked = []

        def get_metadata(url):
            asked.append(url)
            raise OSError("Name or service not known")

        monkeypatch.setattr("hf_fusion.hub.checkpoint_names.get_hf_file_metadata", get_metadata)
        return asked

    def test_is_asked_once(self, asked):
        with pytest.raises(ConnectionError, match=r"^rums/hotels: no such folder, and the Hub.*\(Name or service not"):
            check_checkpoint_name("rums/hotels")
        assert len(asked) == 1 and asked[0].endswith("/rums/hotels/resolve/main/config.json")

    @pytest.mark.parametrize("file", ["config.json", "adapter_config.json"])
    def test_is_not_asked_for_folders_and_models_in_the_cache(self, asked, file, monkeypatch):
        check_checkpoint_name("runs/hotels")
        monkeypatch.setattr(
            "hf_fusion.hub.checkpoint_names.try_to_load_from_cache",
            lambda name, wanted: f"/cache/{file}" if wanted == file else None,
        )
        check_checkpoint_name("user/model")
        assert not asked

    @pytest.mark.parametrize(
        "error",
        [OfflineModeIsEnabled("offline"), HfHubHTTPError("404", response=SimpleNamespace(headers={}, request=None))],
    )
    def test_an_answer_is_left_to_loading(self, error, monkeypatch):
        def get_metadata(url):
            raise error

        monkeypatch.setattr("hf_fusion.hub.checkpoint_names.get_hf_file_metadata", get_metadata)
        check_checkpoint_name("user/model")


def test_an_adapter_is_a_checkpoint(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    check_checkpoint_name(str(tmp_path))


def test_results_of_a_name_on_the_hub_do_not_hide_it(here):
    assert result_folder("runs/hotels", "evaluation-test") == here.relative_to(here) / "runs/hotels/evaluation-test"
    folder = result_folder("user/model", "evaluation-test")
    assert str(folder) == "runs/user_model/evaluation-test"
    folder.mkdir(parents=True)
    check_checkpoint_name("user/model")
