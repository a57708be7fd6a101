"""
Programs as a fresh Python runs them, which has no part of the package, transformers or the Hub: only the libraries that
those import, which takes longest, are there already.
"""

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

# Reads requests, answers each with the exit status of the child that ran it.
SERVER = """
import gc, json, os, sys, traceback
import jinja2, PIL.Image, safetensors.torch, scipy.optimize, scipy.stats, tokenizers, torch.distributed.fsdp, yaml
import torch._dynamo.aot_compile, torch.distributed.checkpoint, torch.nn.attention.flex_attention, torch.onnx.ops
strangers = {name.partition(".")[0] for name in sys.modules}
assert not strangers & {"hf_fusion", "transformers", "huggingface_hub", "accelerate", "datasets", "peft"}, strangers
gc.collect()
gc.freeze()  # collections of the children leave out what is there

def run(code, args, cwd, env, streams):
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, name in enumerate(("/dev/null", f"{streams}/stdout", f"{streams}/stderr")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT, 0o600), number)
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode, closefd=False) for number, mode in enumerate("rww"))
    sys.argv = ["-c", *args]
    torch.set_num_threads(1)
    status = 1
    try:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else exit_.code is not None
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run(**json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@cache
def _server():
    return subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("HF_")},
    )  # fmt: skip


def run_fresh(code, *args, cwd, env):
    """What `subprocess.run([sys.executable, "-c", code, *args])` returns; `env` is the whole environment."""
    server = _server()
    with tempfile.TemporaryDirectory() as streams:
        request = {"code": code, "args": [*map(str, args)], "cwd": str(cwd), "env": env, "streams": streams}
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        stdout, stderr = (Path(streams, name).read_text() for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess([code, *args], status, stdout, stderr)
