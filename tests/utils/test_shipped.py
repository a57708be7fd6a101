"""Recipes, studies and searches that come with the package."""

import pytest

from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.shipped import FOLDERS, find_file, read_summary, shipped_files


@pytest.mark.parametrize("kind", FOLDERS)
def test_each_has_a_line(kind):
    files = shipped_files(kind)
    assert files and all(path.parent == FOLDERS[kind] for path in files.values())
    for path in files.values():
        assert read_summary(path).endswith(".") and len(read_summary(path)) <= 76, path


def test_no_comment_no_summary(tmp_path):
    (tmp_path / "a.yaml").write_text("seed: 1\n# later\n")
    assert read_summary(tmp_path / "a.yaml") == ""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dyfulm_synthetic", "recipe"), ("dyfulm_synthetic.yaml", "recipe"),
        ("scripts/recipes/dyfulm_synthetic.yaml", "recipe"), ("scripts/studies/dyfulm_hotel_reviews.yaml", "study"),
        ("dyfulm_hotel_reviews", "study"), ("dyfulm_synthetic", "search"),
    ],
)  # fmt: skip
def test_by_name_and_by_path_in_any_folder(name, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = find_file(name, kind)
    assert path.is_file() and path.parent == FOLDERS[kind]


@pytest.mark.parametrize("name", ["dyfulm_synthetic", "dyfulm_synthetic.yaml"])
def test_a_file_of_the_user_goes_first(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("seed: 3\n")
    assert find_file("dyfulm_synthetic", "recipe").read_text() == "seed: 3\n"


@pytest.mark.parametrize("name", ["dyfulm_sinthetic", "dyfulm_sinthetic.yaml"])
def test_an_unknown_name_lists_near_ones(name):
    with pytest.raises(RecipeError, match=rf"{name}: no such recipe\. Did you mean dyfulm_synthetic"):
        find_file(name, "recipe")


@pytest.mark.parametrize("name", ["elsewhere/dyfulm_synthetic.yaml", "scripts/studies/dyfulm_synthetic.yaml", "zzz"])
def test_paths_that_are_not_there(name):
    with pytest.raises(RecipeError, match=r"no such recipe"):
        find_file(name, "recipe")
