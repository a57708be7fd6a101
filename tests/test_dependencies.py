"""Packages that the code imports, those that pyproject.toml declares, and errors where an optional one is missing."""

import ast
import os
import re
import sys
from pathlib import Path

import pytest
from fresh_python import run_fresh

import hf_fusion
from hf_fusion.utils.versions import check_transformers

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(hf_fusion.__file__).parent
ROOT = PACKAGE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Packages that are called otherwise when they are imported.
MODULES = {"faiss-cpu": "faiss", "pyyaml": "yaml", "scikit-learn": "sklearn"}


def module_of(requirement):
    name = re.match(r"[\w.-]+", requirement)[0].lower()
    return MODULES.get(name, name.replace("-", "_"))


BASE = {module_of(requirement) for requirement in PROJECT["dependencies"]}
EXTRAS = {
    extra: {module_of(requirement) for requirement in requirements} - {"hf_fusion"}
    for extra, requirements in PROJECT["optional-dependencies"].items()
}


def strangers(path):
    """Modules of other packages that a file imports as statements, and pairs of those that `import_extra` gets."""
    plain, extra = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            plain.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            plain.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and getattr(node.func, "id", None) == "import_extra":
            module, name = (getattr(argument, "value", None) for argument in node.args)
            if module is not None:  # a loop over several
                extra.add((module.partition(".")[0], name))
    return plain - set(sys.stdlib_module_names) - {"hf_fusion"}, extra


def test_every_imported_package_is_declared():
    for path in PACKAGE.rglob("*.py"):
        plain, extra = strangers(path)
        undeclared = plain - BASE - set().union(*EXTRAS.values())
        assert not undeclared, f"{path} imports {undeclared}, which pyproject.toml does not declare"
        for module, name in extra:
            assert module in EXTRAS[name], f"{path}: the extra {name} does not install {module}"


def test_all_is_every_extra_of_users():
    others = {"all", "dev", "docs", "test"}
    (requirement,) = PROJECT["optional-dependencies"]["all"]
    assert set(re.search(r"\[(.*)\]", requirement)[1].split(",")) == set(EXTRAS) - others


# For each optional package an expression that needs it, with the module in which it is, and the extra.
NEEDS = {
    "codecarbon": ("hub.emissions", "read_intensity('DEU')", "carbon"),
    "faiss": ("training.mining", "list(_search_with_faiss(None, None, 0, 0, None, None))", "faiss"),
    "gradio": ("deployment.demo.theme", "make_theme()", "demo"),
    "gliclass": ("evaluation.zero_shot", "ZeroShotBaseline('gliclass', 'acme/x').load()", "gliclass"),
    "matplotlib": ("evaluation.plots", "new_figure(1, 1, 'title')", "plots"),
    "onnx": ("deployment.onnx_export", "save_graph(None, {}, {}, None)", "onnx"),
    "onnxruntime": ("deployment.onnx_fusion", "_session('graph.onnx', None)", "onnx"),
    "onnxscript": ("deployment.onnx_export", "save_graph(None, {}, {}, None)", "onnx"),
    "openpyxl": ("data.tables", "list(_sheet_records('a.xlsx'))", "excel"),
    "optuna": ("studies", "import_module('hf_fusion.studies.tuning')", "tune"),
    "peft": ("deployment.adapters", "add_lora(None)", "peft"),
    "python_multipart": ("cli.serve", "main(['runs/x'])", "serve"),
    "starlette": ("cli.serve", "main(['runs/x'])", "serve"),
    "uvicorn": ("cli.serve", "main(['runs/x'])", "serve"),
    "ray": ("deployment.ray_predict", "predict_dataset(None, 'runs/x')", "ray"),
}
WITHOUT_EACH = """
import sys
from importlib import import_module
for package, (module, expression, _) in NEEDS.items():
    sys.modules[package] = None
    try:
        eval(expression, {**vars(import_module(f"hf_fusion.{module}")), "import_module": import_module})
    except ImportError as error:
        print(package, error, sep=": ")
    del sys.modules[package]
"""


def run_here(code):
    process = run_fresh(code, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_a_missing_package_is_named_with_the_line_that_installs_it():
    told = dict(line.split(": ", 1) for line in run_here(f"NEEDS = {NEEDS!r}{WITHOUT_EACH}").splitlines())
    for package, (_, _, extra) in NEEDS.items():
        assert told[package] == (f"This needs {package}, which is not installed: pip install 'hf-fusion[{extra}]'")


def test_training_and_inference_need_no_extra():
    optional = set().union(*(EXTRAS[name] for name in set(EXTRAS) - {"all", "dev", "docs", "test"}))
    rooms = "hf_fusion.training.run, hf_fusion.deployment.predictions, hf_fusion.studies.run_study"
    run_here(f"import sys; sys.modules.update(dict.fromkeys({sorted(optional)!r})); import {rooms}")


@pytest.mark.parametrize(
    ("installed", "refused"),
    [("5.4.0", True), ("5.0.0rc1", True), ("4.57.6", True), ("5.5.0", False), ("5.10.1", False), ("6.0.0.dev0", False)],
)
def test_old_versions_of_transformers_are_refused_with_the_reason(installed, refused, monkeypatch):
    monkeypatch.setattr("hf_fusion.utils.versions.version", lambda package: installed)
    if not refused:
        return check_transformers()
    with pytest.raises(ImportError, match=rf"{installed} is installed.*CVE-2026-5241.*transformers>=5\.5"):
        check_transformers()


def test_the_version_of_transformers_is_checked_on_import():
    code = """
import importlib.metadata
version = importlib.metadata.version
importlib.metadata.version = lambda name: "5.4.0" if name == "transformers" else version(name)
try:
    import hf_fusion
except ImportError as error:
    print(error)
"""
    assert "CVE-2026-5241" in run_here(code)
