"""What a command says: which labels it found, and why it did not come to its end."""

import logging
import signal

from hf_fusion.hub.repository import PublishError
from hf_fusion.training.interruption import TrainingInterrupted
from hf_fusion.training.non_finite import NonFiniteLossError
from hf_fusion.utils.errors import DataError, RecipeError

# What `exit_of` explains; anything else is a defect of the program.
EXPECTED = (RecipeError, PublishError, DataError, NonFiniteLossError, TrainingInterrupted, OSError, KeyboardInterrupt)


def show_labels() -> None:
    """Writes to standard error, beside warnings, from which columns the data's labels are made."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hf_fusion.data").setLevel(logging.INFO)


def exit_of(error: BaseException) -> tuple[str, int]:
    """
    What to tell the user of one of `EXPECTED`, and the exit status.

    Returns:
        The message; and 2, or 128 + the number of the signal that ended the training.
    """
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; go on with --resume_from_checkpoint last", 128 + signal.SIGINT
    return str(error), 128 + signal.SIGTERM if isinstance(error, TrainingInterrupted) else 2
