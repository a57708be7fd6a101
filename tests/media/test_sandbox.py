"""Functions in a process of their own: their results and errors; crashes, hangs and lack of memory name the file."""

import os
import pickle
import signal
import sys
import time

import numpy as np
import pytest

from hf_fusion.media.sandbox import Sandbox, _pack
from hf_fusion.models.media_decoding import MediaError
from hf_fusion.models.processing_text import InputError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of Unix")


def give_back(path, value):
    print("printed")  # is no answer
    return value


def process_number(path):
    return os.getpid()


def hang(path):
    time.sleep(600)


def leave(path):
    os._exit(3)


def crash(path):
    os.kill(os.getpid(), signal.SIGSEGV)


def fill_memory(path):
    return len(np.ones(2**29, np.float64))


def fail(path, kind):
    raise {"media": MediaError, "input": InputError, "value": ValueError, "own": Own}[kind](f"{path}: not so")


def give_object(path):
    return {"a": np.array([object()])}


class Own(Exception):
    pass


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(timeout=60, memory=2**31) as sandbox:
        yield sandbox


VALUE = {
    "frames": np.arange(500_000, dtype=np.float32).reshape(-1, 50),
    "none": None,
    "flags": [True, 1, 1.5, "ä\n", float("inf")],
    3: (np.zeros((0, 4), np.int16), {"x": np.array(2.0)}),
    "complex": np.array([1j]),
    "scalar": np.float32(0.5),
}


def same(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_results_come_back_equal(sandbox):
    result = sandbox.run(give_back, "a.mp4", VALUE)
    assert same(result, VALUE) and result["frames"].flags.writeable
    assert sandbox.run(process_number, "a.mp4") == sandbox.run(process_number, "b.mp4") != os.getpid()


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("media", MediaError, "a.mp4: not so"), ("input", InputError, "a.mp4: not so"),
        ("value", ValueError, "a.mp4: not so"), ("own", RuntimeError, "Own: a.mp4: not so"),
    ],
)  # fmt: skip
def test_errors_pass_through(sandbox, kind, error, message):
    before = sandbox.run(process_number, "a.mp4")
    with pytest.raises(error) as raised:
        sandbox.run(fail, "a.mp4", kind)
    assert type(raised.value) is error and str(raised.value) == message
    assert sandbox.run(process_number, "a.mp4") == before


def test_objects_do_not_come_back(sandbox):
    with pytest.raises(TypeError, match="ndarray cannot be returned"):
        sandbox.run(give_object, "a.mp4")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (leave, "talk.mp4 cannot be read: the process that read it ended with status 3."),
        (crash, "talk.mp4 cannot be read: the process that read it crashed with signal SIGSEGV."),
        (fill_memory, "talk.mp4 cannot be read: it takes more memory than the limit of 2,147,483,648 bytes."),
    ],
)
def test_failures_name_the_file_and_the_process_starts_anew(sandbox, function, message):
    with pytest.raises(MediaError) as raised:
        sandbox.run(function, "talk.mp4")
    assert str(raised.value) == message


def test_a_time_limit():
    start = time.monotonic()
    message = r"other\.mp4 cannot be read: it took longer than the limit of 0\.5 s"
    with Sandbox(timeout=0.5) as sandbox, pytest.raises(MediaError, match=message):
        sandbox.run(hang, "talk.mp4", name="other.mp4")
    assert time.monotonic() - start < 300


BROKEN = [
    b"x" * 100,
    _pack(1),
    _pack("abc"),
    (2**62).to_bytes(8, "little") + b"[]",
    b"\x02" + bytes(7) + b"[]",
    pickle.dumps(1),
    b"\x20" + bytes(7) + b'["array", ["|O", [1]]]          ',
    b"\x20" + bytes(7) + b'["array", ["<f8", [99999999]]]  ',
]


@pytest.mark.parametrize("answer", BROKEN)
def test_broken_answers(monkeypatch, answer):
    """As of a process that a file has taken over."""
    sandbox = Sandbox()
    monkeypatch.setattr(sandbox, "_ask", lambda call, name: answer)
    with pytest.raises(MediaError, match=r"a\.mp4 cannot be read: the process that read it sent a broken result"):
        sandbox.run(give_back, "a.mp4", 1)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="timeout must be above 0"):
        Sandbox(timeout=0)
    hidden = type(give_back)(give_back.__code__, {"__name__": "__main__"}, "shown")
    with pytest.raises(ValueError, match="must be in a module"):
        Sandbox().run(hidden)
