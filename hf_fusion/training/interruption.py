"""Saves a checkpoint and stops the training on SIGTERM, which schedulers send before they reclaim a machine."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import torch
from accelerate.utils import reduce
from transformers import TrainerCallback

_SAME_SECONDS = 5  # signals within this time count as one


class StopOnSigterm(TrainerCallback):
    """
    On SIGTERM finishes the current step (and an evaluation if one is due), saves a checkpoint and stops the training,
    in all processes at the same step. Another SIGTERM after some seconds ends the process at once. A second one right
    after the first is ignored, since schedulers and launchers may each send one.

    Attributes:
        is_hit (`bool`): whether the processes agreed to stop.
    """

    def __init__(self):
        self.is_hit = False
        self._signalled_at = None  # time of the signal in this process

    @contextmanager
    def listening(self):
        """Listens to SIGTERM inside a `with` statement, if this is the main thread."""
        self.is_hit, self._signalled_at = False, None
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
        if self._signalled_at is None:
            self._signalled_at = now
        elif now - self._signalled_at > _SAME_SECONDS:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    def on_step_end(self, args, state, control, **kwargs):
        """Stops the training in all processes if one received the signal."""
        signalled = self._signalled_at is not None
        if args.world_size > 1:
            signalled = bool(reduce(torch.tensor(float(signalled), device=args.device), reduction="sum").item())
        if signalled and state.global_step < state.max_steps:
            self.is_hit = control.should_training_stop = True
            control.should_save = not _is_whole(state.epoch)  # otherwise after the evaluation at the end of the epoch

    def on_epoch_end(self, args, state, control, **kwargs):
        """Skips the evaluation; also called if an epoch is left in the middle."""
        if self.is_hit:
            # an additional evaluation would change the random numbers of the resumed training
            control.should_evaluate &= _is_whole(state.epoch)
            control.should_save = _is_whole(state.epoch)


def _is_whole(epoch):
    return epoch == round(epoch)
