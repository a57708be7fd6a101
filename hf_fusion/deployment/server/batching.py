"""Joins the inputs of concurrent requests into batches, which one worker thread answers."""

import asyncio
import json
import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

# Weight of the last batch in the mean seconds of an input.
_DECAY = 0.2


class QueueFullError(Exception):
    """
    More inputs wait than the queue holds.

    Args:
        retry_after (`int`): seconds after which the queue will probably have room.
    """

    def __init__(self, retry_after: int):
        super().__init__(f"The queue is full; try again in {retry_after} s.")
        self.retry_after = retry_after


def model_thread() -> ThreadPoolExecutor:
    """
    Creates the thread that loads a model and runs it.

    OpenMP has a pool of threads for each thread that computes. If another one had loaded the model, there would be
    twice as many as cores, and all would sleep and wake between the operations of a small model: a third of its speed.
    """
    return ThreadPoolExecutor(1, "model")


@dataclass(eq=False)
class _Job:
    """The inputs of a request, and the future of their answers."""

    inputs: list[Any]
    parameters: dict[str, Any]
    answers: asyncio.Future[list[Any]]
    arrival: float = field(default_factory=perf_counter)

    def __post_init__(self):
        self.key = json.dumps(sorted(self.parameters.items()))


class Batcher:
    """
    Answers the inputs of concurrent requests together.

    The oldest request waits for others at most `max_wait` seconds, or until `max_batch_size` inputs are there. It is
    joined with the next ones that have the same parameters; their inputs go into one call of `answer`, in a thread of
    its own. The pipeline sorts them by length. Requests that are cancelled leave the queue. If a joined call fails,
    each of its requests is answered alone, so that only the one that causes the error gets it.

    Args:
        answer (`Callable`): `answer(inputs, parameters)` gives a list with an answer for each input.
        max_batch_size (`int`, *optional*, defaults to 32): inputs of requests that are joined, at most. A request with
            more inputs is answered alone.
        max_wait (`float`, *optional*, defaults to 0.005): seconds.
        max_queue (`int`, *optional*, defaults to 1024): inputs that wait, at most.
        on_batch (`Callable`, *optional*): called with the number of inputs and the seconds of each batch.
        worker (`ThreadPoolExecutor`, *optional*): the thread, from [`model_thread`]; by default a new one.
    """

    def __init__(
        self,
        answer: Callable[[list[Any], dict[str, Any]], list[Any]],
        max_batch_size: int = 32,
        max_wait: float = 0.005,
        max_queue: int = 1024,
        on_batch: Callable[[int, float], None] = lambda inputs, seconds: None,
        worker: ThreadPoolExecutor | None = None,
    ):
        self.answer, self.on_batch = answer, on_batch
        self.max_batch_size, self.max_wait, self.max_queue = max_batch_size, max_wait, max_queue
        self.length = 0  # inputs that wait
        self._jobs: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._worker = worker or model_thread()
        self._task: asyncio.Task[None] | None = None
        self._seconds_per_input = 0.0

    async def __aenter__(self):
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.wait([self._task])
        self._worker.shutdown()

    @property
    def is_ready(self) -> bool:
        """Whether batches are answered, and the queue has room."""
        return self._task is not None and not self._task.done() and self.length < self.max_queue

    @property
    def retry_after(self) -> int:
        """The seconds that the waiting inputs will take, at least 1."""
        return max(1, math.ceil(self.length * self._seconds_per_input))

    def check_room(self, count: int = 1) -> None:
        """Raises [`QueueFullError`] if so many inputs cannot wait. A request has always room in an empty queue."""
        if self.length and self.length + count > self.max_queue:
            raise QueueFullError(self.retry_after)

    async def submit(self, inputs: list[Any], parameters: dict[str, Any]) -> list[Any]:
        """
        Answers the inputs of one request. If the caller is cancelled, they leave the queue.

        Args:
            inputs (`list`): the inputs.
            parameters (`dict`): values for JSON; only requests with the same ones are joined.

        Returns:
            `list`: an answer for each input.

        Raises:
            QueueFullError: if the queue has no room for them.
            Exception: the error of `answer`.
        """
        if not inputs:
            return []
        self.check_room(len(inputs))
        job = _Job(inputs, parameters, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self.length += len(inputs)
        self._arrived.set()
        try:
            return await job.answers
        finally:
            if job in self._jobs:
                self._remove(job)

    def _remove(self, job):
        self._jobs.remove(job)
        self.length -= len(job.inputs)

    async def _run(self):
        loop = asyncio.get_running_loop()
        while True:
            await self._wait()
            jobs = list(self._take())
            start = perf_counter()
            outcomes = await loop.run_in_executor(self._worker, self._answer_jobs, jobs)
            self._note(sum(len(job.inputs) for job in jobs), perf_counter() - start)
            for job, outcome in zip(jobs, outcomes, strict=True):
                if job.answers.done():  # cancelled meanwhile
                    continue
                if isinstance(outcome, Exception):
                    job.answers.set_exception(outcome)
                else:
                    job.answers.set_result(outcome)

    async def _wait(self):
        """Waits for the first request, and then for others."""
        while not self._jobs or self.length < self.max_batch_size:
            left = self._jobs[0].arrival + self.max_wait - perf_counter() if self._jobs else None
            if left is not None and left <= 0:
                return
            self._arrived.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left)

    def _take(self) -> Iterator[_Job]:
        """Removes the oldest request from the queue, and those that are answered with it."""
        oldest, room = self._jobs[0], self.max_batch_size
        for job in [job for job in self._jobs if job.key == oldest.key]:
            if job is not oldest and len(job.inputs) > room:
                return
            self._remove(job)
            room -= len(job.inputs)
            yield job

    def _answer_jobs(self, jobs):
        """The answers of each request, or its error. Runs in the worker thread."""
        try:
            answers = self.answer([value for job in jobs for value in job.inputs], jobs[0].parameters)
            if len(answers) != sum(len(job.inputs) for job in jobs):
                raise RuntimeError(f"{len(answers)} answers to {sum(len(job.inputs) for job in jobs)} inputs")
        except BaseException as error:  # also a panic of the tokenizers: whatever happens, the next batch is answered
            if len(jobs) > 1:
                return [outcome for job in jobs for outcome in self._answer_jobs([job])]
            return [_as_future_error(error)]
        answers = iter(answers)
        return [[next(answers) for _ in job.inputs] for job in jobs]

    def _note(self, inputs, seconds):
        mean = self._seconds_per_input
        self._seconds_per_input = seconds / inputs if not mean else mean + _DECAY * (seconds / inputs - mean)
        self.on_batch(inputs, seconds)


def _as_future_error(error):
    """The same error, or one in its place that a future takes and a request can raise."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failure = RuntimeError(repr(error))
    failure.__cause__ = error
    return failure
