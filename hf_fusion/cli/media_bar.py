"""The progress bar of commands that extract media files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def media_bar() -> Iterator[Callable[[float, float], None]]:
    """Shows seconds of sound and of pictures as they are read; gives the function that tells their number."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    shown = "{percentage:3.0f}% of the files |{bar}|{postfix} [{elapsed}<{remaining}]"
    with tqdm(total=1.0, bar_format=shown) as bar, logging_redirect_tqdm():

        def track(share: float, seconds: float) -> None:
            bar.set_postfix_str(f"{seconds:,.0f} s read", refresh=False)
            bar.update(share - bar.n)
            if share >= 1:
                bar.close()

        yield track
