"""The queue alone, without HTTP and without a model."""

import asyncio
import threading
import time

import pytest

from hf_fusion.deployment.server.batching import Batcher, QueueFullError


class Model:
    """Answers an input by itself; notes what it is called with, and may wait for permission to answer."""

    def __init__(self, blocked=False):
        self.calls, self.threads = [], set()
        self.running, self.allowed = threading.Event(), threading.Event()
        if not blocked:
            self.allowed.set()

    def __call__(self, inputs, parameters):
        self.calls.append((list(inputs), parameters))
        self.threads.add(threading.get_ident())
        self.running.set()
        assert self.allowed.wait(20)
        if "bug" in inputs:
            raise RuntimeError("a bug")
        return [f"{value}!" for value in inputs]

    async def started(self):
        assert await asyncio.to_thread(self.running.wait, 20)


def serve(model, scenario, **options):
    """Runs a scenario with a batcher around the model."""

    async def run():
        async with Batcher(model, **options) as batcher:
            return await asyncio.wait_for(scenario(batcher), 60)

    return asyncio.run(run())


async def submit_all(batcher, requests):
    """Submits pairs of inputs and parameters at once; gives their answers or errors."""
    tasks = [batcher.submit(inputs, parameters) for inputs, parameters in requests]
    return await asyncio.gather(*tasks, return_exceptions=True)


async def behind_another(model, batcher):
    """A request that the model works on, while others arrive."""
    first = asyncio.create_task(batcher.submit(["first"], {}))
    await model.started()
    return first


def test_requests_are_joined_and_nobody_gets_the_answer_of_another():
    model = Model()
    requests = [([f"{i}-{j}" for j in range(1 + i % 3)], {}) for i in range(12)]
    answers = serve(model, lambda batcher: submit_all(batcher, requests), max_batch_size=8, max_wait=0.3)
    assert answers == [[f"{value}!" for value in inputs] for inputs, _ in requests]
    sizes = [len(inputs) for inputs, _ in model.calls]
    assert max(sizes) <= 8 and len(sizes) < 6 and len(model.threads) == 1


def test_only_requests_with_the_same_parameters_are_joined():
    model = Model()
    requests = [([str(i)], {"top_k": i % 2, "explain": False}) for i in range(6)]
    requests.append((["6"], {"explain": False, "top_k": 0}))  # in another order
    serve(model, lambda batcher: submit_all(batcher, requests), max_wait=0.2)
    assert [inputs for inputs, _ in model.calls] == [["0", "2", "4", "6"], ["1", "3", "5"]]


def test_a_request_waits_for_others_at_most_so_long():
    async def alone(batcher):
        start = time.perf_counter()
        await batcher.submit(["a"], {})
        return time.perf_counter() - start

    assert serve(Model(), alone, max_wait=0.3) >= 0.3
    assert serve(Model(), alone, max_wait=60, max_batch_size=1) < 30, "the batch is full"


def test_a_request_that_is_larger_than_a_batch_is_answered_alone():
    model = Model()
    requests = [(["a"], {}), ([str(i) for i in range(9)], {}), (["b"], {})]
    answers = serve(model, lambda batcher: submit_all(batcher, requests), max_batch_size=4)
    assert [len(one) for one in answers] == [1, 9, 1]
    assert [len(inputs) for inputs, _ in model.calls] == [1, 9, 1]


def test_a_full_queue_refuses_and_recovers():
    model = Model(blocked=True)

    async def scenario(batcher):
        first = await behind_another(model, batcher)
        waiting = [asyncio.create_task(batcher.submit([i, i], {})) for i in range(2)]
        await asyncio.sleep(0)
        assert batcher.length == 4 and not batcher.is_ready
        with pytest.raises(QueueFullError) as refused:
            await batcher.submit(["more"], {})
        assert refused.value.retry_after >= 1
        model.allowed.set()
        assert await first == ["first!"] and [await one for one in waiting] == [["0!", "0!"], ["1!", "1!"]]
        assert batcher.is_ready and await batcher.submit(["more"], {}) == ["more!"]

    serve(model, scenario, max_queue=4)


def test_a_request_beyond_the_queue_is_answered_when_nothing_waits():
    assert len(serve(Model(), lambda batcher: batcher.submit(list("abcdef"), {}), max_queue=2)) == 6


def test_cancelled_requests_leave_the_queue():
    model = Model(blocked=True)

    async def scenario(batcher):
        first = await behind_another(model, batcher)
        others = [asyncio.create_task(batcher.submit([name], {})) for name in "abc"]
        await asyncio.sleep(0)
        others[1].cancel()
        first.cancel()  # the model works on it
        await asyncio.sleep(0)
        assert batcher.length == 2
        model.allowed.set()
        return [await others[0], await others[2]]

    assert serve(model, scenario) == [["a!"], ["c!"]]
    assert [inputs for inputs, _ in model.calls] == [["first"], ["a", "c"]]


def test_an_error_hits_the_request_alone_that_causes_it():
    requests = [(["a"], {}), (["b", "bug"], {}), (["c"], {})]
    a, b, c = serve(Model(), lambda batcher: submit_all(batcher, requests))
    assert (a, c) == (["a!"], ["c!"]) and isinstance(b, RuntimeError)


class Panic(BaseException):
    """As one of the tokenizers: no `Exception`."""


@pytest.mark.parametrize("error", [Panic("a panic"), StopIteration(), SystemExit(1)], ids=repr)
def test_whatever_happens_the_next_batch_is_answered(error):
    def answer(inputs, parameters):
        if "bug" in inputs:
            raise error
        return inputs

    async def scenario(batcher):
        bug, good = await submit_all(batcher, [(["bug"], {}), (["good"], {})])
        return isinstance(bug, RuntimeError), good, await batcher.submit(["next"], {}), batcher.is_ready

    assert serve(answer, scenario) == (True, ["good"], ["next"], True)


def test_lost_answers_are_an_error():
    with pytest.raises(RuntimeError, match="0 answers to 2 inputs"):
        serve(lambda inputs, parameters: [], lambda batcher: batcher.submit(["a", "b"], {}))


def test_batches_are_noted():
    noted = []
    serve(
        Model(), lambda batcher: submit_all(batcher, [(["a", "b"], {}), ([], {})]),
        on_batch=lambda inputs, seconds: noted.append((inputs, seconds >= 0)),
    )  # fmt: skip
    assert noted == [(2, True)]
