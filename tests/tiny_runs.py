"""Recipes of runs that take seconds, and ways to run them."""

import gc
import importlib
import importlib.util
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml
from torch.distributed import TCPStore

from hf_fusion.cli.main import main
from hf_fusion.training.recipe import parse_recipe
from hf_fusion.training.run import run_training

ROOT = Path(__file__).parents[1]
# How long tests wait for a process that should end: no test of speed, many times what it takes on a busy machine.
LONGEST_SECONDS = 900
# What children start with: to import it again for each would take longer than to train.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload([
    "matplotlib.backends.backend_agg", "torch.utils.tensorboard", "transformers.models.bert.modeling_bert",
    "transformers.models.roberta.modeling_roberta", "hf_fusion.training.run", "hf_fusion.studies.results", "tiny_runs",
])  # fmt: skip
# Collections of the children leave out what is there; accelerate makes several in each training.
gc.collect()
gc.freeze()
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
# Without evidence, which takes as long as the training: tests that read it set it to true.
TINY = {
    "evidence": False,
    "dataset_options": {"num_train": 64, "num_validation": 17, "num_test": 13},
    "encoder_a": {"model_type": "bert", "tokenizer": "wordpiece", "vocab_size": 300, "hidden_size": 16,
                  "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    "encoder_b": {"model_type": "roberta", "tokenizer": "bpe", "vocab_size": 300, "hidden_size": 24,
                  "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    "layer_fusion_hidden_size": 8, "max_length": 64, "num_train_epochs": 1, "per_device_train_batch_size": 8,
    "logging_steps": 4, "learning_rate": 0.001, "metric_for_best_model": "fine_accuracy", "disable_tqdm": True,
}  # fmt: skip


TINY_CLIPS = {
    "model_type": "dashfusion", "dataset": "synthetic-clips",
    "dataset_options": {"num_train": 48, "num_validation": 17, "num_test": 13},
    "text_encoder": TINY["encoder_a"], "max_length": 32, "hidden_size": 16, "num_attention_heads": 2,
    "num_encoder_layers": 1, "alignment_head_size": 4, "num_bottleneck_tokens": 2, "num_train_epochs": 1,
    "per_device_train_batch_size": 8, "logging_steps": 3, "learning_rate": 0.001, "metric_for_best_model": "mae",
    "disable_tqdm": True,
}  # fmt: skip


def run(recipe, *flags):
    return run_training(*parse_recipe(["--config", recipe, *flags]))


def train(fields, folder):
    """Trains the recipe of these fields into a new folder; returns its metrics."""
    recipe = Path(f"{folder}.yaml")
    recipe.write_text(yaml.safe_dump({**fields, "output_dir": str(folder)}))
    return run(str(recipe))


class Script:
    """A command, a script or `accelerate launch`, in a process of its own, which has the libraries already."""

    def __init__(self, name, *args, stdin="", environment=None):
        self.name, self.args, self.streams = name, [*map(str, args)], tempfile.TemporaryDirectory()
        Path(self.streams.name, "stdin").write_text(stdin)
        environment = {**ENVIRONMENT, **(environment or {})}
        arguments = name, self.args, self.streams.name, environment
        self.process = CHILDREN.Process(target=_run_script, args=arguments)
        self.process.start()

    def join(self):
        """Waits for its end."""
        self.process.join(LONGEST_SECONDS)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"{self.name} did not end in {LONGEST_SECONDS} seconds")
        stdout, stderr = (Path(self.streams.name, stream).read_text() for stream in ("stdout", "stderr"))
        self.streams.cleanup()
        return subprocess.CompletedProcess([self.name, *self.args], self.process.exitcode, stdout, stderr)


def script(name, *args, stdin=""):
    """Runs a command, or a file of `scripts/`."""
    return Script(name, *args, stdin=stdin).join()


def processes_environment(rank, world_size, port):
    """Tells a process that it is one of several, which meet at a store that is there already, as under torchrun."""
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0"}  # fmt: skip


def together(world_size, name, *args, status=0):
    """Runs a command in so many processes, as `launch` does but for less time; returns the end of the first."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    running = [
        Script(name, *args, environment=processes_environment(rank, world_size, store.port))
        for rank in range(world_size)
    ]
    try:
        ends = [script.join() for script in running]
    finally:
        for script in running:
            script.process.kill()
    expected = ends[0].returncode == status and all(end.returncode in (0, status) for end in ends)
    assert expected, "\n".join(end.stderr[-3000:] for end in ends)
    return ends[0]


def _run_script(name, args, streams, environment):
    os.chdir(ROOT)
    os.environ.update(environment)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background ignore it
    for number, (stream, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        with open(Path(streams, stream), mode) as file:
            os.dup2(file.fileno(), number)
        setattr(sys, stream, open(number, mode, closefd=False))  # noqa: SIM115 - as long as the process lives
    if name == "accelerate launch":
        sys.argv = [name, *args]
        runpy.run_module("accelerate.commands.launch", run_name="__main__")
        return
    if not name.endswith(".py"):
        sys.argv = ["hf-fusion", name, *args]
        sys.exit(main())
    sys.argv = [f"scripts/{name}", *args]
    sys.path.insert(0, str(ROOT / "scripts"))
    runpy.run_path(sys.argv[0], run_name="__main__")


def script_here(name, monkeypatch):
    """
    A command, or `scripts/benchmark.py`, as a function of its arguments in this process, which returns its exit status.
    """
    if not name.endswith(".py"):
        module, run_command = importlib.import_module(f"hf_fusion.cli.{name}"), main
    else:
        monkeypatch.setattr(sys, "path", [str(ROOT / "scripts"), *sys.path])
        spec = importlib.util.spec_from_file_location(f"{Path(name).stem}_script", ROOT / "scripts" / name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        run_command = module.main

    def run(*args):
        words = [*map(str, args)]
        monkeypatch.setattr(sys, "argv", [name, *words] if name.endswith(".py") else ["hf-fusion", name, *words])
        try:
            return run_command()
        except SystemExit as exit_:
            return exit_.code

    run.module = module
    return run


def launch(processes, path, *args):
    """Runs a file, or with "-m" a module, by `accelerate launch`, which has the libraries already; they do not."""
    options = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    options += ["--num_processes", str(processes), *(["--multi_gpu"] if processes > 1 else [])]
    return Script("accelerate launch", *options, path, *args).join()
