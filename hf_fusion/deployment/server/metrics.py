"""Counters and histograms of the server, as the text format of Prometheus."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """
    Counts values by buckets.

    Args:
        bounds (`Iterable[float]`): the upper bounds of the buckets, ascending.
    """

    def __init__(self, bounds: Iterable[float]):
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Adds a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str) -> Iterable[str]:
        """Yields the samples of the histogram."""
        total = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self.sum:.9g}"
        yield f"{name}_count {total}"


class ServerMetrics:
    """
    What the server counts. All of it changes in the thread of the event loop.

    Args:
        queue_length (`Callable[[], int]`): gives the number of inputs that wait.
    """

    def __init__(self, queue_length: Callable[[], int]):
        self.queue_length = queue_length
        self.requests: Counter[tuple[str, int]] = Counter()  # by route and status
        self.latency, self.batch_seconds, self.batch_inputs = Histogram(SECONDS), Histogram(SECONDS), Histogram(SIZES)

    def note_request(self, route: str, status: int, seconds: float) -> None:
        """Counts a request to a route that is over; the latency is that of answered predictions."""
        self.requests[route, status] += 1
        if route == "/predict" and status == 200:
            self.latency.observe(seconds)

    def note_batch(self, inputs: int, seconds: float) -> None:
        """Counts a batch."""
        self.batch_inputs.observe(inputs)
        self.batch_seconds.observe(seconds)

    def text(self) -> str:
        """Returns all metrics in the text format."""
        lines = list(_head("requests_total", "counter", "Requests by route and status; 499: the client went away."))
        for (route, status), count in sorted(self.requests.items()):
            lines.append(f'hf_fusion_requests_total{{route="{route}",status="{status}"}} {count}')
        lines += _head("queue_inputs", "gauge", "Inputs that wait for a batch.")
        lines.append(f"hf_fusion_queue_inputs {self.queue_length()}")
        for name, histogram, text in (
            ("request_seconds", self.latency, "Seconds of answered predictions."),
            ("batch_seconds", self.batch_seconds, "Seconds of the model for a batch."),
            ("batch_inputs", self.batch_inputs, "Inputs of a batch."),
        ):
            lines += [*_head(name, "histogram", text), *histogram.lines(f"hf_fusion_{name}")]
        return "\n".join(lines) + "\n"


def _head(name, kind, text):
    yield f"# HELP hf_fusion_{name} {text}"
    yield f"# TYPE hf_fusion_{name} {kind}"
