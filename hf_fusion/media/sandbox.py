"""
Runs functions on untrusted files in a process of their own, with limits of time and memory.

Decoders are large programs in C that read what strangers wrote. A file that makes one of them crash, hang or fill the
memory then ends that process alone, with an error that names the file. Results come back as plain values and arrays:
nothing that the other process sends is executed. It runs with the rights of the user all the same.
"""

import builtins
import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
from threading import Timer

import numpy as np

from hf_fusion.models.media_decoding import MediaError
from hf_fusion.models.processing_text import InputError

_START_SECONDS = 300.0  # for the imports of the process, on a busy machine
_LARGEST_RESULT = 2**32  # bytes
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from hf_fusion.media.sandbox import _serve; _serve()"
)
_ERRORS = {error.__name__: error for error in (MediaError, InputError)}
_SIZE = 8  # bytes of a length


class Sandbox:
    """
    A process that runs functions one after the other. It starts with the first function, and anew after a failure.

    Args:
        timeout (`float`, *optional*):
            Seconds for each function, without the start of the process. No limit by default.
        memory (`int`, *optional*):
            Bytes of address space for the functions, beyond what the process has taken at its start. Only on Linux. No
            limit by default.

    Example:

    ```python
    from hf_fusion.media.sandbox import Sandbox

    with Sandbox(timeout=600, memory=2 * 2**30) as sandbox:
        print(sandbox.run(divmod, 7, 2))
    ```
    """

    def __init__(self, timeout=None, memory=None):
        for name, value in (("timeout", timeout), ("memory", memory)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0 or None, got {value}.")
        self.timeout, self.memory = timeout, memory
        self._process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the process, also while another thread waits for its answer."""
        process, self._process = self._process, None  # both threads may close it
        if process is not None:
            process.kill()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # what it has not taken cannot be flushed
                    stream.close()
            process.wait()

    def run(self, function, *args, name=None):
        """
        Runs a function in the process.

        Args:
            function (`Callable`): a function of a module, not of a script or a notebook.
            *args: arguments that pickle takes.
            name (`str`, *optional*): file that errors name, by default the first argument.

        Returns:
            The result: `None`, `bool`, `int`, `float`, `str` and arrays of numbers, in lists, tuples and dicts of them.

        Raises:
            `MediaError`: if the function takes too long or too much memory, or if the process crashes.
            `Exception`: an error of the function, of the same type if that is a builtin one or an `InputError`, or else
                a `RuntimeError`.
        """
        name = name or (str(args[0]) if args and isinstance(args[0], (str, os.PathLike)) else function.__qualname__)
        if function.__module__ == "__main__":
            raise ValueError(f"{function.__qualname__} must be in a module, so that another process can import it.")
        call = pickle.dumps((function, args, self.memory))
        try:
            answer = self._ask(call, name)
        except BaseException:
            self.close()
            raise
        try:
            outcome, result, message = _unpack(answer)
            if outcome not in ("done", "failed"):
                raise ValueError(f"unknown outcome {outcome!r}")
        except Exception as error:  # whatever a process sends that was taken over
            self.close()
            raise MediaError(f"{name} cannot be read: the process that read it sent a broken result.") from error
        if outcome == "done":
            return result
        kind = str(result)
        if kind == "MemoryError":
            self.close()  # its heap may be full of what failed
            limit = "there is" if self.memory is None else f"the limit of {self.memory:,} bytes"
            raise MediaError(f"{name} cannot be read: it takes more memory than {limit}.")
        raise _error(kind, message)

    def _ask(self, call, name):
        """The answer of the process to a call, as bytes."""
        if self._process is None:
            self._process = _start()
        process = self._process
        with contextlib.suppress(BrokenPipeError), _killed_after(process, _START_SECONDS) as late:
            process.stdin.write(len(call).to_bytes(_SIZE, "little") + call)
            process.stdin.flush()
            process.stdout.read(1)  # it has read the call and imported the function
        if not late:
            with _killed_after(process, self.timeout) as late:
                size = int.from_bytes(process.stdout.read(_SIZE), "little")
                answer = process.stdout.read(min(size, _LARGEST_RESULT))
        if late:
            raise MediaError(f"{name} cannot be read: it took longer than the limit of {late[0]:g} s.")
        if not size or len(answer) != size:
            raise MediaError(f"{name} cannot be read: the process that read it {_describe_end(process)}.")
        return answer


def _start():
    environment = dict(os.environ)
    torch = sys.modules.get("torch")
    if torch is not None:
        environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


@contextlib.contextmanager
def _killed_after(process, seconds):
    """Kills the process if the block takes longer; yields a list that then holds the limit."""
    late = []

    def end():
        late.append(seconds)
        process.kill()

    timer = Timer(seconds, end) if seconds is not None else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        yield late
    finally:
        if timer:
            timer.cancel()


def _describe_end(process):
    try:
        code = process.wait(10)
    except subprocess.TimeoutExpired:
        return "sent no whole result"
    if code >= 0:
        return f"ended with status {code}"
    names = {number.value: number.name for number in signal.Signals}
    hint = ", as when a machine runs out of memory" if -code == 9 else ""
    return f"crashed with signal {names.get(-code, -code)}{hint}"


def _error(kind, message):
    known = _ERRORS.get(kind) or getattr(builtins, kind, None)
    if isinstance(known, type) and issubclass(known, Exception):
        with contextlib.suppress(TypeError):  # those of several arguments
            return known(message)
    return RuntimeError(f"{kind}: {message}")


# ----------------------------------------------------------------------------------------------- in the other process


def _serve():
    """Runs the functions that come in, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what libraries print is no answer
    while size := int.from_bytes(calls.read(_SIZE), "little"):
        try:
            function, args, memory = pickle.loads(calls.read(size))
            answers.write(b"r")
            answers.flush()
            _limit_memory(memory)
            answer = _pack(("done", function(*args), ""))
        except MemoryError as error:
            answer = _pack(("failed", "MemoryError", str(error)))
        except BaseException as error:
            kind = "MemoryError" if "not enough memory" in str(error) else type(error).__name__  # as torch says it
            answer = _pack(("failed", kind, str(error)))
        answers.write(len(answer).to_bytes(_SIZE, "little") + answer)
        answers.flush()


def _limit_memory(memory):
    """Limits the address space to that taken now and so many bytes, once; and writes no core files."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory is None or resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return
    try:
        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (taken + int(memory),) * 2)


# ------------------------------------------------------------------------------------------------ results as bytes


def _pack(value):
    arrays = []
    tree = json.dumps(_to_tree(value, arrays)).encode()
    return b"".join([len(tree).to_bytes(_SIZE, "little"), tree, *(array.tobytes() for array in arrays)])


def _to_tree(value, arrays):
    """A value as JSON: containers and arrays as `[kind, content]`."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return _to_tree(value.item(), arrays)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        arrays.append(value)
        return ["array", [value.dtype.str, value.shape]]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [_to_tree(item, arrays) for item in value]]
    if isinstance(value, dict):
        return ["dict", [[_to_tree(key, arrays), _to_tree(item, arrays)] for key, item in value.items()]]
    raise TypeError(f"{type(value).__name__} cannot be returned: give numbers, strings, arrays, lists and dicts.")


def _unpack(content):
    size = int.from_bytes(content[:_SIZE], "little")
    return _from_tree(json.loads(content[_SIZE : _SIZE + size]), content, _SIZE + size)[0]


def _from_tree(tree, content, start):
    """The value of a tree, and the position in `content` after its arrays."""
    if not isinstance(tree, list):
        return tree, start
    kind, items = tree
    if kind == "array":
        dtype, shape = np.dtype(items[0]), items[1]
        end = start + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(content[start:end], dtype).reshape(shape).copy(), end
    found = []
    for item in items:
        if kind == "dict":
            key, start = _from_tree(item[0], content, start)
            value, start = _from_tree(item[1], content, start)
            found.append((key, value))
        else:
            value, start = _from_tree(item, content, start)
            found.append(value)
    return {"list": list, "tuple": tuple, "dict": dict}[kind](found), start
