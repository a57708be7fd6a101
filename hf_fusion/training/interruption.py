"""SIGTERM, which schedulers send before they take a machine away: the training saves a checkpoint and ends."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import torch
from accelerate.utils import reduce
from transformers import TrainerCallback

_SAME_SECONDS = 5  # within which signals count as one


class StopOnSigterm(TrainerCallback):
    """
    On SIGTERM the step at hand is finished (and an evaluation, if one is due), a checkpoint is saved, and the training
    ends; all processes at the same step. One more SIGTERM after some seconds ends the process at once. (Right after
    the first it is the same: schedulers and launchers may each send one.)

    Attributes:
        is_hit (`bool`): whether the processes agreed to end.
    """

    def __init__(self):
        self.is_hit = False
        self._told_at = None  # this process alone, since when

    @contextmanager
    def listening(self):
        """While a training runs, if this thread can."""
        self.is_hit, self._told_at = False, None
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _note(self, number, frame):
        now = time.monotonic()
        if self._told_at is None:
            self._told_at = now
        elif now - self._told_at > _SAME_SECONDS:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    def on_step_end(self, args, state, control, **kwargs):
        """Ends the training for all processes if one was told to."""
        told = self._told_at is not None
        if args.world_size > 1:
            told = bool(reduce(torch.tensor(float(told), device=args.device), reduction="sum").item())
        if told and state.global_step < state.max_steps:
            self.is_hit = control.should_training_stop = True
            control.should_save = not _is_whole(state.epoch)  # else after the evaluation at the end of the epoch

    def on_epoch_end(self, args, state, control, **kwargs):
        """Also called in the middle of an epoch that is left."""
        if self.is_hit:
            # an evaluation that an undisturbed training would not have here would move its random numbers
            control.should_evaluate &= _is_whole(state.epoch)
            control.should_save = _is_whole(state.epoch)


def _is_whole(epoch):
    return epoch == round(epoch)
