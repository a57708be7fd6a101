"""The benchmark of serving: its clients notice what is lost, swapped or wrong."""

import asyncio
import json
import threading
from contextlib import contextmanager

import pytest

from hf_fusion.studies.measure import BenchmarkOptions
from scripts.benchmarks import serving
from scripts.benchmarks.serving import Load, Work, is_same

pytest.importorskip("starlette")
from starlette.testclient import TestClient

TEXTS = ["a", "b", "c"]
ANSWERS = [{"label": text, "score": i / 3, "coarse": {"score": 0.5}} for i, text in enumerate(TEXTS)]


@contextmanager
def answering(respond):
    """A server that answers each text with the status and answer of `respond`; gives its port."""
    loop, started, ports = asyncio.new_event_loop(), threading.Event(), []

    async def handle(reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                status, answer = respond(json.loads(await reader.readexactly(length))["inputs"])
                body = json.dumps(answer).encode()
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        except asyncio.IncompleteReadError:
            writer.close()

    async def serve():
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        started.set()

    thread = threading.Thread(target=lambda: (loop.run_until_complete(serve()), loop.run_forever()))
    thread.start()
    assert started.wait(30)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_right_answers_are_counted_and_timed():
    done = []
    with answering(lambda text: (200, ANSWERS[TEXTS.index(text)])) as port:
        load = Work(TEXTS, ANSWERS).send(port, 20, clients=4, note=done.append)
    assert len(load.latencies) == 20 and load.refused == 0 and sorted(done) == list(range(1, 21))
    assert load.seconds > load.percentile(95) >= load.percentile(50) > 0


def test_refusals_are_counted():
    answers = iter([503, 200] * 5)
    with answering(lambda text: (next(answers), ANSWERS[TEXTS.index(text)])) as port:
        load = Work(TEXTS, ANSWERS).send(port, 10, clients=1)
    assert load.refused == 5 and len(load.latencies) == 5


@pytest.mark.parametrize("answer", [(200, ANSWERS[0]), (500, ANSWERS[1]), (200, {**ANSWERS[1], "score": 0.3334})])
def test_a_swapped_or_wrong_answer_is_an_error(answer):
    right = [(200, one) for one in ANSWERS]
    respond = dict(zip(TEXTS, [right[0], answer, right[2]], strict=True)).get
    with answering(respond) as port, pytest.raises(RuntimeError, match="Request 1: "):
        Work(TEXTS, ANSWERS).send(port, 3, clients=1)


def test_same_answers():
    assert is_same({"score": 0.5, "label": "a"}, {"score": 0.500001, "label": "a"})
    assert not is_same({"score": 0.5}, {"score": 0.50002}) and not is_same({"label": "a"}, {"label": "b"})
    assert not is_same({}, {"score": 0.5})


def test_the_plain_server_answers_as_the_pipeline(review_checkpoint, review_classifier, monkeypatch):
    monkeypatch.setenv("SERVED_CHECKPOINT", str(review_checkpoint))
    monkeypatch.setenv("SERVED_DEVICE", "cpu")
    with TestClient(serving.plain_app()) as client:
        answer = client.post("/predict", json={"inputs": "Good bed."}).json()
    assert is_same(answer, review_classifier("Good bed."))


def test_rows_of_the_record():
    pairs = [(Load(6.0, [0.4] * 4), Load(2.0, [0.1] * 4)), (Load(9.0, [0.4] * 4), Load(2.0, [0.2] * 4))]
    seconds, middle, high = serving._compare_pairs(pairs, 4)
    assert seconds["ratio"] == 3.75 and seconds["target"] == 3 and middle["ratio"] == high["ratio"] == 3
    memory = serving._compare_memory((100, 105), 20, {"overload": {"refused": 3}})
    assert memory["candidate"]["name"] == "after 20 requests" and memory["candidate"]["overload"] == {"refused": 3}


@pytest.mark.nightly
def test_whole_benchmark(review_checkpoint):
    rows = serving.run(BenchmarkOptions(repeats=1, quick=True, checkpoint=str(review_checkpoint)))
    facts = rows[-1]["candidate"]
    assert len(rows) == 4 and facts["overload"]["refused"] and facts["sigterm"]["answered"] == serving.CLIENTS
