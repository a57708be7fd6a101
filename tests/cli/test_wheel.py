"""The wheel in an environment of its own, outside the repository: what a user of `pip install` has."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from tiny_runs import ENVIRONMENT, LONGEST_SECONDS, ROOT

TINY = {
    "dataset_options": {"num_train": 24, "num_validation": 8, "num_test": 8}, "num_train_epochs": 1,
    "per_device_train_batch_size": 8, "report_to": "none", "max_length": 32,
}  # fmt: skip


def run(*words, cwd, **options):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {**ENVIRONMENT, "COLUMNS": "80"}
    process = subprocess.run(
        [*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, check=False,
        timeout=LONGEST_SECONDS, **options,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-3000:]
    return process


def run_all(command, lines, **options):
    """Runs the same command several times in one process, which takes long to import the libraries."""
    program = (
        "import json, runpy, sys\n"
        "command, lines = sys.argv[1], json.loads(sys.argv[2])\n"
        "for words in lines:\n"
        "    sys.argv = [command, *words]\n"
        "    try: runpy.run_path(command, run_name='__main__')\n"
        "    except SystemExit as end: assert not end.code, words"
    )
    words = json.dumps([[*map(str, line)] for line in lines])
    return run(command.parent / "python", "-c", program, command, words, **options)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = "--no-deps", "--no-build-isolation", "--no-index", "--quiet"
    # from a copy: a build leaves files in the source tree
    files = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "hf_fusion", cwd=ROOT).stdout.split()
    for name in ["pyproject.toml", "README.md", "LICENSE", *files]:
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "pip", "wheel", *build, "--wheel-dir", folder, folder / "source", cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def bin_folder(wheel, tmp_path_factory):
    """Of an environment with the wheel, and with the libraries of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    libraries = [path for path in sys.path if Path(path).name == "site-packages"]
    Path(paths["purelib"], "libraries.pth").write_text("\n".join(libraries) + "\n")  # whose own .pth are not read
    python = Path(paths["scripts"], "python")
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        "--quiet",
        wheel,
        cwd=folder,
    )
    return Path(paths["scripts"])


def test_holds_the_recipes_and_nothing_of_the_repository(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    kinds = {"recipes": "*.yaml", "recipes/studies": "*.yaml", "recipes/searches": "*.yaml"}
    for folder, pattern in kinds.items():
        wanted = {f"hf_fusion/{folder}/{path.name}" for path in (ROOT / "hf_fusion" / folder).glob(pattern)}
        assert wanted and wanted <= set(names)
    assert all(name.startswith(("hf_fusion/", "hf_fusion-")) for name in names)


def test_train_study_and_predict(bin_folder, tmp_path):
    """Quickstart-like, with the recipes of the package by name, in a folder that has nothing of the repository."""
    command = bin_folder / "hf-fusion"
    place = run(bin_folder / "python", "-c", "import hf_fusion.cli as p; print(p.__file__)", cwd=tmp_path).stdout
    assert place.startswith(str(bin_folder.parent)), "not the checkout"

    flags = [word for name, value in TINY.items() for word in
             (f"--{name}", json.dumps(value) if isinstance(value, dict) else value)]  # fmt: skip
    train = "train", "--config", "dyfulm_synthetic", *flags, "--output_dir", "runs/mine"
    process = run_all(command, [train, ("predict", "-c", "runs/mine")], cwd=tmp_path, input="Not a bad stay.\n")
    assert "fine_accuracy" in process.stdout and "LOAD REPORT" not in process.stderr
    assert json.loads(process.stdout.splitlines()[-1])["prediction"]["label"]
    environment = json.loads((tmp_path / "runs/mine/environment.json").read_text())
    assert environment["command"].startswith("hf-fusion train --config dyfulm_synthetic --dataset_options")

    study = {"recipe": "scripts/recipes/dyfulm_synthetic.yaml", "seeds": [1], "overrides": TINY,
             "variants": {"last": {"layer_fusion": "last"}}}  # fmt: skip
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study))
    run(command, "study", "mine.yaml", cwd=tmp_path)
    record = json.loads((tmp_path / "runs/study_mine/mine.json").read_text())
    assert set(record["variants"]) == {"last"} and (tmp_path / "runs/study_mine/last/seed-1/metrics.json").is_file()
