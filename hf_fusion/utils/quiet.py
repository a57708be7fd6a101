"""Turns off progress bars and loading reports of the libraries."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Calls [`silence_libraries`], and restores the previous state at the end."""
    restore = silence_libraries()
    try:
        yield
    finally:
        restore()


def silence_libraries() -> Callable[[], None]:
    """
    Turns off the progress bars of transformers, huggingface_hub and datasets, and the table of missing and unexpected
    weights that transformers logs. Other warnings and errors stay.

    Returns:
        `Callable[[], None]`: restores the previous state.
    """
    # imported here, so that the `--help` of a command does not wait for them
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    shows_loading, shows_data = transformers_logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    reports = logging.getLogger("transformers.modeling_utils")
    is_new = _is_no_load_report not in reports.filters
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    reports.addFilter(_is_no_load_report)

    def restore():
        if is_new:
            reports.removeFilter(_is_no_load_report)
        if shows_loading:
            transformers_logging.enable_progress_bar()
        if shows_data:
            enable_progress_bars()

    return restore


def _is_no_load_report(record):
    return "LOAD REPORT" not in str(record.msg)
