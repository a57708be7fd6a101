"""Finds the recipes, studies and searches that ship with the package by name."""

from difflib import get_close_matches
from pathlib import Path

from hf_fusion.utils.errors import RecipeError

_FOLDER = Path(__file__).parents[1] / "recipes"
FOLDERS = {"recipe": _FOLDER, "study": _FOLDER / "studies", "search": _FOLDER / "searches"}


def shipped_files(kind: str) -> dict[str, Path]:
    """Returns the shipped files of a kind ("recipe", "study" or "search") by name."""
    return {path.stem: path for path in sorted(FOLDERS[kind].glob("*.yaml"))}


def find_file(name: str, kind: str) -> Path:
    """
    Finds a local file, or one that ships with the package.

    Args:
        name (`str`): a path, with or without `.yaml`; or the name of a shipped file, also as its path in the repository
            (`scripts/recipes/NAME.yaml`). A local file takes precedence.
        kind (`str`): "recipe", "study" or "search".

    Raises:
        RecipeError: if there is no such file; the message lists similar names.
    """
    for path in (Path(name), Path(f"{name}.yaml")):
        if path.is_file():
            return path
    files = shipped_files(kind)
    requested = Path(name)
    stem = requested.stem if requested.suffix == ".yaml" else requested.name
    if stem in files and str(requested.parent) in (".", f"scripts/{_plural(kind)}"):
        return files[stem]
    near = get_close_matches(stem, files, n=3)
    advice = f" Did you mean {' or '.join(near)}?" if near else ""
    raise RecipeError(f"{name}: no such {kind}.{advice} `hf-fusion recipes` lists those of the package.")


def read_summary(path: Path) -> str:
    """Returns the comment in the first line of a file."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _plural(kind):
    return {"recipe": "recipes", "study": "studies", "search": "searches"}[kind]
