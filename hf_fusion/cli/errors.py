"""Which errors are for the user to mend, what is said of them, and the exit status of every command.

0: done. 1: done, but rows have an error instead of a prediction. 2: an error that the user can mend. 128 + N: signal N
ended the command. Any other exception is a defect and keeps its traceback.
"""

import signal

from hf_fusion.utils.errors import FusionError, TrainingInterrupted

# The first that fits counts.
_STATUS = {
    KeyboardInterrupt: 128 + signal.SIGINT,
    BrokenPipeError: 128 + getattr(signal, "SIGPIPE", 13),  # of `hf-fusion ... | head`
    TrainingInterrupted: 128 + signal.SIGTERM,
    FusionError: 2,
    OSError: 2,
    ImportError: 2,  # of an extra that is not installed
}
USER_ERRORS = tuple(_STATUS)


def exit_status(error: BaseException) -> int:
    """The exit status for one of `USER_ERRORS`."""
    return next(status for kind, status in _STATUS.items() if isinstance(error, kind))


def message_of(error: BaseException, if_interrupted: str = "") -> str:
    """What to tell the user, if anything; of Ctrl-C that it was, and `if_interrupted`: how to go on."""
    if isinstance(error, BrokenPipeError):
        return ""
    if isinstance(error, KeyboardInterrupt):
        return "; ".join(filter(None, ("interrupted", if_interrupted)))
    return str(error)
