"""Libraries without their progress bars and loading reports."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """
    Turns off the progress bars of transformers, huggingface_hub and datasets, and the table that transformers logs of
    weights without a place or without a value. Other warnings and errors stay. Afterwards all is as it was.
    """
    # not at the top: a command's `--help` does not wait for them
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    had_bars = transformers_logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    reports = logging.getLogger("transformers.modeling_utils")
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    reports.addFilter(_is_no_load_report)
    try:
        yield
    finally:
        reports.removeFilter(_is_no_load_report)
        if had_bars[0]:
            transformers_logging.enable_progress_bar()
        if had_bars[1]:
            enable_progress_bars()


def _is_no_load_report(record):
    return "LOAD REPORT" not in str(record.msg)
