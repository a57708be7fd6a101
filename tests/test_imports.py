"""The floors of the package: a module imports from its own floor and from those below, never from above."""

import ast
from pathlib import Path

import pytest

import hf_fusion

ROOT = Path(hf_fusion.__file__).parent
FLOORS = {
    "utils": 0, "models": 1, "data": 2, "media": 2, "hub": 3, "deployment": 4, "evaluation": 5, "architectures": 6,
    "training": 7, "studies": 8, "cli": 9,
}  # fmt: skip
FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT)


def imports_of(path: Path):
    """Names of the modules of this package that a file imports, with the line and whether it stands in a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {child for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            package = ".".join(["hf_fusion", *path.relative_to(ROOT).parts[: -node.level]]) if node.level else ""
            names = [".".join(filter(None, (package, node.module)))]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from ((name, node.lineno, node in inside) for name in names if name.startswith("hf_fusion."))


def test_every_room_has_a_floor():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} <= set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_go_down(path):
    room = path.relative_to(ROOT).parts[0]
    for name, line, in_function in imports_of(path):
        target = name.split(".")[1]
        assert FLOORS[target] <= FLOORS[room], f"{path}:{line} imports {name}, which is above"
        assert not in_function or room == "cli", f"{path}:{line} hides the import of {name} in a function"


def test_no_circle():
    files = {".".join(("hf_fusion", *path.relative_to(ROOT).with_suffix("").parts)): path for path in FILES}
    graph = {name: {found for found, _, _ in imports_of(path)} & set(files) for name, path in files.items()}
    while leaves := [name for name, found in graph.items() if not found & set(graph)]:
        for name in leaves:
            del graph[name]
    assert not graph, f"a circle among {sorted(graph)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_type_of_a_model_is_compared_by_architectures_alone(path):
    """The other rooms ask the configuration for a fact, so that one more architecture needs no change in them."""
    if path.relative_to(ROOT).parts[0] in ("models", "architectures"):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        parts = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        parts += [node.slice] if isinstance(node, ast.Subscript) else []
        named = [part for part in parts if getattr(part, "attr", getattr(part, "id", None)) == "model_type"]
        assert not named or all(map(_is_register, parts)), f"{path}:{node.lineno} compares `model_type`"


def _is_register(part):
    """`model_type in CONFIG_MAPPING` asks transformers whether it knows the name."""
    return getattr(part, "id", None) in ("model_type", "CONFIG_MAPPING")
