"""Recipes, studies and searches that come with the package, by name."""

from difflib import get_close_matches
from pathlib import Path

from hf_fusion.utils.errors import RecipeError

_FOLDER = Path(__file__).parents[1] / "recipes"
FOLDERS = {"recipe": _FOLDER, "study": _FOLDER / "studies", "search": _FOLDER / "searches"}


def shipped_files(kind: str) -> dict[str, Path]:
    """The files of a kind ("recipe", "study" or "search") by name."""
    return {path.stem: path for path in sorted(FOLDERS[kind].glob("*.yaml"))}


def find_file(name: str, kind: str) -> Path:
    """
    A file of the user, or one that comes with the package.

    Args:
        name (`str`): a path, with or without `.yaml`; or the name of a file that comes with the package, also as it is
            called in the repository (`scripts/recipes/NAME.yaml`). A file of the user goes first.
        kind (`str`): "recipe", "study" or "search".

    Raises:
        RecipeError: if there is neither; says which names are near.
    """
    for path in (Path(name), Path(f"{name}.yaml")):
        if path.is_file():
            return path
    files = shipped_files(kind)
    wanted = Path(name)
    stem = wanted.stem if wanted.suffix == ".yaml" else wanted.name
    if stem in files and str(wanted.parent) in (".", f"scripts/{_plural(kind)}"):
        return files[stem]
    near = get_close_matches(stem, files, n=3)
    advice = f" Did you mean {' or '.join(near)}?" if near else ""
    raise RecipeError(f"{name}: no such {kind}.{advice} `hf-fusion recipes` lists those of the package.")


def summary_of(path: Path) -> str:
    """The first comment line of a file."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _plural(kind):
    return {"recipe": "recipes", "study": "studies", "search": "searches"}[kind]
