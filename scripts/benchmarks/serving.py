"""`hf-fusion serve` against the plain way, a Starlette route that calls the pipeline for each request.

Both run as one process on loopback, and answer the same texts of 64 clients, each of which sends its next request when
it has its answer. Every answer is compared with that of the pipeline.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from hf_fusion.data.temporary import temporary_folder
from hf_fusion.deployment.predictions import load_pipeline
from hf_fusion.models.processing_text import text_problem
from hf_fusion.studies.measure import BenchmarkOptions, Comparison, alternate, compare, resident_bytes
from scripts.benchmarks.inference import review_pipeline
from scripts.benchmarks.inputs import read_reviews, review_texts

ROOT = Path(__file__).resolve().parents[2]
CLIENTS, _TEXTS, _PAIR, _MANY = 64, 2000, 2000, 20_000
_QUICK_TEXTS, _QUICK_PAIR, _QUICK_MANY = 16, 32, 80
_TOLERANCE = 1e-5
_START_SECONDS = 600
# Of the server that is overloaded: fewer inputs wait than there are clients.
_SHORT_QUEUE, _CROWD = 32, 256
_CHECKPOINT, _DEVICE = "SERVED_CHECKPOINT", "SERVED_DEVICE"


def run(options: BenchmarkOptions) -> list[Comparison]:
    """Compares time and latencies in pairs, then sends many requests to the server, too many, and a SIGTERM."""
    texts_count, pair, many = (_QUICK_TEXTS, _QUICK_PAIR, _QUICK_MANY) if options.quick else (_TEXTS, _PAIR, _MANY)
    texts = read_reviews(options.reviews, texts_count) if options.reviews else review_texts(texts_count, seed=0)
    texts = [text for text in texts if text_problem(text) is None]
    with temporary_folder() as folder:
        checkpoint = options.checkpoint or str(Path(folder, "checkpoint"))
        if options.checkpoint is None:
            review_pipeline(options.text_encoder, options.device).save_pretrained(checkpoint)
        expected = load_pipeline(checkpoint, device=options.device)(texts)
        work = Work(texts, expected)
        with _started(_plain(checkpoint, options.device)) as plain, _started(_serve(checkpoint, options)) as served:
            for server in (plain, served):
                work.send(server.port, CLIENTS)  # warm-up
            pairs = alternate(
                lambda: work.send(plain.port, pair), lambda: work.send(served.port, pair), options.repeats
            )
            memory = _memory_over(work, served, many)
        facts = {
            "overload": _overload(work, checkpoint, options),
            "sigterm": _end_under_load(work, checkpoint, options),
        }
    return [*_compare_pairs(pairs, pair), _compare_memory(memory, many, facts)]


@dataclass
class Load:
    """
    The answers to many requests.

    Args:
        seconds: from the first request to the last answer.
        latencies: seconds of each answered request.
        refused: the number of requests with a 503.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refused: int = 0

    def percentile(self, share: float) -> float:
        """Returns the latency below which this percentage of the requests lies."""
        return float(np.percentile(self.latencies, share))


@dataclass
class Work:
    """
    Texts with their answers.

    Args:
        texts: the texts.
        expected: the answer of the pipeline to each.
    """

    texts: list[str]
    expected: list[dict]

    def send(
        self, port: int, count: int, clients: int = CLIENTS, note: Callable[[int], None] = lambda done: None
    ) -> Load:
        """
        Sends requests, and compares the answers.

        Args:
            port: of the server.
            count: the number of requests.
            clients: the number of those that send at the same time.
            note: called with the number of answers so far.

        Raises:
            RuntimeError: if an answer is lost, or differs from that of the pipeline.
        """
        load, start = Load(), time.perf_counter()
        asyncio.run(self._send(port, iter(range(count)), clients, load, note))
        load.seconds = time.perf_counter() - start
        if len(load.latencies) + load.refused != count:
            raise RuntimeError(f"{count} requests have {len(load.latencies)} answers and {load.refused} refusals.")
        return load

    async def _send(self, port, numbers, clients, load, note):
        await asyncio.gather(*(self._client(port, numbers, load, note) for _ in range(clients)))

    async def _client(self, port, numbers, load, note):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            i = number % len(self.texts)
            start = time.perf_counter()
            status, answer = await _post(reader, writer, self.texts[i])
            if status == 503:
                load.refused += 1
                continue
            load.latencies.append(time.perf_counter() - start)
            if status != 200 or not is_same(answer, self.expected[i]):
                raise RuntimeError(f"Request {number}: {status} {answer}, not {self.expected[i]}")
            note(len(load.latencies))
        writer.close()


def is_same(found, expected) -> bool:
    """Whether two answers are the same, numbers to 1e-5."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(is_same(found[name], expected[name]) for name in expected)
    return abs(found - expected) <= _TOLERANCE if isinstance(expected, float) else found == expected


async def _post(reader, writer, text):
    body = json.dumps({"inputs": text}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length:")[2].partition("\r\n")[0])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


def plain_app() -> Starlette:
    """Creates the plain server."""
    classify = load_pipeline(os.environ[_CHECKPOINT], device=os.environ[_DEVICE])

    async def predict(request):
        return JSONResponse(classify((await request.json())["inputs"]))

    return Starlette(routes=[Route("/predict", predict, methods=["POST"])])


def _plain(checkpoint, device):
    words = ["uvicorn", "--factory", f"{__name__}:plain_app", "--log-level", "warning", "--http", "h11"]
    return words, {_CHECKPOINT: checkpoint, _DEVICE: device}


def _serve(checkpoint, options, *flags):
    return ["hf_fusion", "serve", checkpoint, "--device", options.device, "--timeout", "600", *flags], {}


@dataclass
class _Process:
    process: subprocess.Popen
    port: int

    def resident(self):
        """Bytes of memory."""
        return resident_bytes(process=self.process.pid)


@contextmanager
def _started(program) -> Iterator[_Process]:
    """Runs a server until the end of the `with` statement; gives it once it takes requests."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words, variables = program
    environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    process = subprocess.Popen(
        [sys.executable, "-m", *words, "--port", str(port)], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + _START_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{' '.join(words)} did not start.")
            time.sleep(0.1)
        yield _Process(process, port)
    finally:
        process.kill()
        process.wait()


def _listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _memory_over(work, served, many):
    """Bytes of the server after a tenth of many requests, and after all of them."""
    early = []

    def note(done):
        if done == many // 10:
            early.append(served.resident())

    work.send(served.port, many, note=note)
    return early[0], served.resident()


def _overload(work, checkpoint, options):
    """More clients than fit into the queue; then one."""
    with _started(_serve(checkpoint, options, "--max_queue", str(_SHORT_QUEUE))) as served:
        load = work.send(served.port, 2 * _CROWD, _CROWD)
        after = work.send(served.port, 8, 1)
    if not load.refused or after.refused:
        raise RuntimeError(f"{load.refused} requests were refused, and {after.refused} after the overload.")
    return {"clients": _CROWD, "queue": _SHORT_QUEUE, "answered": len(load.latencies), "refused": load.refused,
            "p95_seconds": load.percentile(95), "refused_afterwards": after.refused}  # fmt: skip


def _end_under_load(work, checkpoint, options):
    """SIGTERM while all clients wait for an answer: each that was accepted comes."""
    with _started(_serve(checkpoint, options)) as served:
        answered = asyncio.run(_terminate(work, served))
        status = served.process.wait(_START_SECONDS)
    if status or answered != CLIENTS:
        raise RuntimeError(
            f"After SIGTERM {answered} of {CLIENTS} requests were answered, and the status was {status}."
        )
    return {"requests": CLIENTS, "answered": answered, "exit_status": status}


async def _terminate(work, served):
    connections = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(CLIENTS)]
    answers = [asyncio.ensure_future(_post(*connection, work.texts[i % len(work.texts)]))
               for i, connection in enumerate(connections)]  # fmt: skip
    await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)  # by then all were sent
    served.process.send_signal(signal.SIGTERM)
    found = await asyncio.gather(*answers, return_exceptions=True)
    right = [not isinstance(one, BaseException) and one[0] == 200 and
             is_same(one[1], work.expected[i % len(work.texts)]) for i, one in enumerate(found)]  # fmt: skip
    return sum(right)


def _compare_pairs(pairs, count):
    sides = {"name": "a route that calls the pipeline"}, {"name": "hf-fusion serve", "clients": CLIENTS}
    costs = {
        f"{count:,} requests of {CLIENTS} clients": (lambda load: load.seconds, 3.0),
        "latency, median": (lambda load: load.percentile(50), 1.0),
        "latency, 95th percentile": (lambda load: load.percentile(95), 1.0),
    }
    return [
        compare(what, "seconds", [(cost(one), cost(other)) for one, other in pairs], *sides, target)
        for what, (cost, target) in costs.items()
    ]


def _compare_memory(memory, many, facts):
    reference = {"name": f"after {many // 10:,} requests"}
    return compare(
        "resident memory of the server",
        "bytes",
        [memory],
        reference,
        {"name": f"after {many:,} requests", **facts},
        0.95,
    )
