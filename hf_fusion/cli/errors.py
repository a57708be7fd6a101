"""The errors that users can correct, their messages, and the exit status of all commands.

0: done. 1: done, but rows have an error instead of a prediction, numbers disagree (`verify`), or a checkpoint is broken
(`doctor`). 2: an error that the user can correct. 128 + N: signal N ended the command. Any other exception is a bug and
keeps its traceback.
"""

import signal

from hf_fusion.utils.errors import FusionError, TrainingInterrupted

# The first match counts.
_STATUS = {
    KeyboardInterrupt: 128 + signal.SIGINT,
    BrokenPipeError: 128 + getattr(signal, "SIGPIPE", 13),  # of `hf-fusion ... | head`
    TrainingInterrupted: 128 + signal.SIGTERM,
    FusionError: 2,
    OSError: 2,
    ImportError: 2,  # an extra is not installed
}
USER_ERRORS = tuple(_STATUS)


def exit_status(error: BaseException) -> int:
    """Returns the exit status for one of `USER_ERRORS`."""
    return next(status for kind, status in _STATUS.items() if isinstance(error, kind))


def get_message(error: BaseException, if_interrupted: str = "") -> str:
    """Returns the message for an error, possibly empty; for Ctrl-C it includes `if_interrupted`, the next step."""
    if isinstance(error, BrokenPipeError):
        return ""
    if isinstance(error, KeyboardInterrupt):
        return "; ".join(filter(None, ("interrupted", if_interrupted)))
    return str(error)
