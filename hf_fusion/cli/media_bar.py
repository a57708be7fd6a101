"""The progress bar of commands that extract media files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def media_bar() -> Iterator[Callable[[float, float], None]]:
    """
    Gives the function that shows the share of the files that are done, and the seconds of sound and of pictures that
    were read. The bar appears with its first call.
    """
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    shown = "{percentage:3.0f}% of the files |{bar}|{postfix} [{elapsed}<{remaining}]"
    bars = []

    def track(share: float, seconds: float) -> None:
        if not bars:
            bars.append(tqdm(total=1.0, bar_format=shown))
        bars[0].set_postfix_str(f"{seconds:,.0f} s read", refresh=False)
        bars[0].update(share - bars[0].n)
        if share >= 1:
            bars[0].close()

    with logging_redirect_tqdm():
        try:
            yield track
        finally:
            for bar in bars:
                bar.close()
