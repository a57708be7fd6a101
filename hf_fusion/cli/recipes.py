"""List the recipes, studies and searches of the package; print one.

    hf-fusion recipes
    hf-fusion recipes dyfulm_synthetic > mine.yaml

`hf-fusion train --config`, `hf-fusion study` and `hf-fusion tune` accept these names; a file of that name in the
working directory takes precedence.
"""

import sys
from difflib import get_close_matches

from hf_fusion.cli.arguments import make_parser
from hf_fusion.utils.errors import RecipeError
from hf_fusion.utils.shipped import FOLDERS, read_summary, shipped_files

_TITLES = {
    "recipe": "Recipes: hf-fusion train --config NAME",
    "study": "Studies: hf-fusion study NAME",
    "search": "Searches: hf-fusion tune NAME",
}


def main(argv: list[str]) -> None:
    """Runs `hf-fusion recipes`."""
    parser = make_parser("recipes", __doc__)
    parser.add_argument(
        "name", nargs="?", help="print this file; studies/NAME or searches/NAME if a recipe has the same name"
    )
    name = parser.parse_args(argv).name
    if name is None:
        _list()
    else:
        sys.stdout.write(_find(name).read_text(encoding="utf-8"))


def _list():
    for kind, title in _TITLES.items():
        print(title)
        for name, path in shipped_files(kind).items():
            print(f"  {name}\n    {read_summary(path)}")
        print()


def _find(name):
    paths = {}
    for kind in reversed(FOLDERS):  # a name without folder prefers the recipe
        for stem, path in shipped_files(kind).items():
            paths |= {stem: path, f"{FOLDERS[kind].name}/{stem}": path}
    if name in paths:
        return paths[name]
    near = get_close_matches(name, paths, n=3)
    advice = f" Did you mean {' or '.join(near)}?" if near else ""
    raise RecipeError(f"{name}: no shipped file has this name.{advice}")
