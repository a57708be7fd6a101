"""The command `hf-fusion`: help, errors and exit statuses, and the files of `scripts/` that run it."""

import os
import runpy
import signal
import subprocess
import sys

import pytest
from fresh_python import run_fresh
from tiny_runs import ROOT, launch, script_here

from hf_fusion.cli import predict, prepare, recipes, study
from hf_fusion.cli.main import COMMANDS, main
from hf_fusion.data.clips import MODALITIES
from hf_fusion.data.decoding import KNOWN_FILES
from hf_fusion.data.files import OUTPUT_KINDS
from hf_fusion.deployment.onnx_export import ExportError
from hf_fusion.deployment.predictions import DTYPES
from hf_fusion.evaluation.plots import FORMATS
from hf_fusion.training.non_finite import NonFiniteLossError
from hf_fusion.utils.errors import DataError, TrainingInterrupted

HEAVY = {"torch", "transformers", "datasets", "pyarrow", "numpy"}
PROGRAM = f"""
import atexit, sys
atexit.register(lambda: print("LOADED", *({HEAVY!r} & set(sys.modules)), file=sys.stderr))
from hf_fusion.cli.main import main
sys.exit(main())
"""
SCRIPTS = {
    "ablate": "study", "convert_dashfusion_checkpoint": "convert", "evaluate_robustness": "robustness",
    "extract": "extract", "prepare_data": "prepare", "push_to_hub": "push",
    **{name: name for name in ("analyze", "baselines", "calibrate", "distill", "evaluate", "export", "predict",
                               "quickstart", "train", "tune")},
}  # fmt: skip


def run_program(folder, *words, **options):
    """As the installed command runs, in a fresh process."""
    program = folder / "hf-fusion"
    program.write_text(PROGRAM)
    return subprocess.run(
        [sys.executable, program, *words], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=folder, **options,
    )  # fmt: skip


def test_every_module_with_a_main_is_a_command():
    modules = {path.stem for path in (ROOT / "hf_fusion/cli").glob("*.py") if "def main(argv" in path.read_text()}
    assert modules - {"main"} == set(COMMANDS)


class TestHelp:
    @pytest.mark.parametrize("words", [["--help"], ["predict", "--help"], ["recipes"]], ids=" ".join)
    def test_does_not_wait_for_the_libraries(self, tmp_path, words):
        process = run_program(tmp_path, *words)
        assert process.returncode == 0 and process.stdout.count("\n") > 10, process.stderr
        assert process.stderr.split() == ["LOADED"]

    def test_of_the_module_neither(self):
        code = "import runpy, sys; sys.argv = ['-m', '--help']; sys.orig_argv = ['python', '-m', 'hf_fusion', '--help']"
        code += (
            f"\ntry: runpy.run_module('hf_fusion', run_name='__main__')\nfinally: print({HEAVY!r} & set(sys.modules))"
        )
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
        assert process.stdout.startswith("usage: hf-fusion") and process.stdout.endswith("set()\n"), process.stderr

    def test_has_a_line_for_each_command(self, capsys):
        assert main([]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines if line.startswith("  ")] == list(COMMANDS)
        assert max(map(len, lines)) <= 80

    @pytest.mark.parametrize("name", COMMANDS)
    def test_of_each_command_teaches(self, name, monkeypatch, capsys):
        assert script_here(name, monkeypatch)("--help") == 0
        text = capsys.readouterr().out
        assert text.startswith(f"usage: hf-fusion {name} ") and f"\n    hf-fusion {name}" in text, "an example"

    def test_version(self, capsys):
        assert main(["--version"]) == 0
        assert capsys.readouterr().out.startswith("hf-fusion 0.")


def test_registers_the_models_when_imported():
    """What `hf-fusion` leaves to its commands, any other program gets at once."""
    code = "import hf_fusion; from transformers import AutoConfig; print(type(AutoConfig.for_model('dyfulm')).__name__)"
    process = run_fresh(code, cwd=ROOT, env=dict(os.environ))
    assert process.stdout == "DyFuLMConfig\n", process.stderr


def test_a_command_registers_the_models(tmp_path):
    """A checkpoint that there is not: loading it comes after the registration."""
    program = "import sys; sys.argv = ['hf-fusion']; import hf_fusion; assert 'torch' not in sys.modules\n"
    program += "import hf_fusion.deployment.predictions; from transformers import AutoConfig\n"
    program += "print(type(AutoConfig.for_model('dashfusion')).__name__)"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert process.stdout == "DashFusionConfig\n", process.stderr


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "status", "message"),
        [
            (DataError("row 3"), 2, "row 3"),
            (ExportError("axis"), 2, "axis"),
            (NonFiniteLossError("step 4"), 2, "step 4"),
            (FileNotFoundError(2, "No such file", "x.csv"), 2, "x.csv"),
            (ImportError("needs onnx: pip install onnx"), 2, "pip install onnx"),
            (TrainingInterrupted("saved"), 128 + signal.SIGTERM, "saved"),
            (KeyboardInterrupt(), 128 + signal.SIGINT, "interrupted; run it again"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
    )
    def test_one_line_and_a_status(self, monkeypatch, capsys, error, status, message):
        def fail(argv):
            raise error

        monkeypatch.setattr(recipes, "main", fail)
        monkeypatch.setattr(recipes, "IF_INTERRUPTED", "run it again", raising=False)
        assert main(["recipes"]) == status
        line = capsys.readouterr().err
        assert line.startswith("hf-fusion recipes: ") and message in line and line.count("\n") == 1

    def test_a_defect_keeps_its_traceback(self, monkeypatch):
        def fail(argv):
            raise ZeroDivisionError

        monkeypatch.setattr(recipes, "main", fail)
        with pytest.raises(ZeroDivisionError):
            main(["recipes"])

    def test_status_of_the_command(self, monkeypatch):
        monkeypatch.setattr(recipes, "main", lambda argv: 1)
        assert main(["recipes"]) == 1

    def test_unknown_command(self, capsys):
        assert main(["predikt"]) == 2
        assert "no command 'predikt'. Did you mean predict?" in capsys.readouterr().err
        assert main(["xyz"]) == 2
        assert "There are quickstart, recipes, train" in capsys.readouterr().err

    def test_a_pipe_that_closes_is_no_error_of_words(self, tmp_path):
        program = tmp_path / "hf-fusion"
        program.write_text("import sys, time\nfrom hf_fusion.cli.main import main\ntime.sleep(.5)\nsys.exit(main())")
        process = subprocess.Popen(
            [sys.executable, program, "recipes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 128 + signal.SIGPIPE


class TestScripts:
    def test_all_are_known(self):
        assert {*SCRIPTS} == {path.stem for path in (ROOT / "scripts").glob("*.py") if "run_script" in path.read_text()}

    @pytest.mark.parametrize("name", SCRIPTS)
    def test_run_their_command_without_their_folder_on_the_path(self, name, monkeypatch, capsys):
        """Else `evaluate.py` would hide the library of that name."""
        path, folder = str(ROOT / "scripts" / f"{name}.py"), str(ROOT / "scripts")
        monkeypatch.setattr(sys, "path", [folder, *sys.path])
        monkeypatch.setattr(sys, "argv", [path, "--help"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(path, run_name="__main__")
        assert ended.value.code == 0 and folder not in sys.path
        assert capsys.readouterr().out.startswith(f"usage: hf-fusion {SCRIPTS[name]} ")

    def test_as_users_run_them(self, tmp_path):
        """In a fresh process; the error of the library `evaluate` being hidden would be another one."""
        folder = ROOT / "scripts"
        code = f"import runpy, sys; sys.argv[0] = {str(folder / 'evaluate.py')!r}; sys.path[0] = {str(folder)!r}; "
        code += "runpy.run_path(sys.argv[0], run_name='__main__')"
        words = tmp_path / "none", "--dataset", "synthetic-reviews"
        process = run_fresh(code, *words, cwd=tmp_path, env=dict(os.environ))
        assert process.returncode == 2
        assert process.stderr.startswith("evaluate.py: ") and "none: no such folder" in process.stderr

    def test_by_a_launcher(self, tmp_path):
        """Studies start their trainings by `-m hf_fusion.cli.train`, see `test_studies` and those of a wheel."""
        process = launch(1, "scripts/train.py", "--config", tmp_path / "none.yaml")
        assert "none.yaml: no such recipe" in process.stderr
        process = launch(1, "-m", "hf_fusion", "predict", "--help")
        assert process.stdout.startswith("usage: hf-fusion predict "), process.stderr


def test_what_help_repeats_is_what_the_library_knows():
    """The commands do not import it to print their help."""
    assert predict.FILES == KNOWN_FILES and predict.OUTPUTS == OUTPUT_KINDS and predict.DTYPES == DTYPES
    assert prepare.MODALITIES == MODALITIES and study.FORMATS == FORMATS
