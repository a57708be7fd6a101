"""`hf-fusion COMMAND`: runs a command, and turns user errors into a message and an exit status."""

import os
import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from hf_fusion import __version__
from hf_fusion.cli.errors import USER_ERRORS, exit_status, get_message

COMMANDS = ("quickstart", "recipes", "train", "evaluate", "calibrate", "predict", "prepare", "extract", "baselines",
            "study", "tune", "verify", "analyze", "robustness", "distill", "export", "serve", "demo", "convert",
            "push", "doctor")  # fmt: skip


def main(argv: list[str] | None = None, program: str | None = None) -> int:
    """
    Runs a command.

    Args:
        argv (`list[str]`, *optional*): the command and its arguments; those of this process by default.
        program (`str`, *optional*): the prefix of error messages; "hf-fusion COMMAND" by default.

    Returns:
        `int`: the exit status, see [`hf_fusion.cli.errors`].
    """
    name, *words = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"hf-fusion {__version__}")
        return 0
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        advice = f"Did you mean {near[0]}?" if near else f"There are {', '.join(COMMANDS)}."
        print(f"hf-fusion: no command {name!r}. {advice}", file=sys.stderr)
        return 2
    command = import_module(f"hf_fusion.cli.{name}")
    try:
        status = command.main(words) or 0
        sys.stdout.flush()
    except USER_ERRORS as error:
        if message := get_message(error, getattr(command, "IF_INTERRUPTED", "")):
            print(f"{program or f'hf-fusion {name}'}: {message}", file=sys.stderr)
        if isinstance(error, BrokenPipeError):  # prevents an error when Python flushes at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = exit_status(error)
    return status


def run_script(path: str, command: str) -> None:
    """
    Runs a command for a file in `scripts/`, and exits.

    Args:
        path (`str`): the file. Its folder is removed from the import path, where `evaluate.py` would hide the library
            of that name.
        command (`str`): the name of the command.
    """
    folder = Path(path).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != folder]
    sys.exit(main([command, *sys.argv[1:]], program=Path(path).name))


def _help():
    lines = [f"  {name:12}{import_module(f'hf_fusion.cli.{name}').__doc__.splitlines()[0]}" for name in COMMANDS]
    return "\n".join([
        "usage: hf-fusion COMMAND ...", "",
        "Models for sentiment analysis: DyFuLM (text), DashFusion (text, audio, vision).", "",
        *lines, "",
        "`hf-fusion COMMAND --help` explains a command; --version prints the version.",
        "Exit status: 0 done; 1 done, but rows have an error instead of a prediction,",
        "numbers disagree (verify), or a checkpoint is broken (doctor); 2 an error to",
        "correct; 128 + N ended by signal N.",
    ])  # fmt: skip
