"""SIGTERM, which schedulers send before they take a machine away: the training saves a checkpoint and ends."""

import signal
import threading

import torch
from accelerate.utils import reduce
from transformers import TrainerCallback


class TrainingInterrupted(Exception):
    """The training was asked to end before its time; a checkpoint holds all that was done."""


class StopOnSigterm(TrainerCallback):
    """
    On SIGTERM the step at hand is finished (and an evaluation, if one is due), a checkpoint is saved, and the training
    ends; all processes at the same step. A second SIGTERM ends the process at once.
    """

    def __init__(self):
        self.is_hit = False
        self._handler_before = None

    def on_train_begin(self, args, state, control, **kwargs):
        """Listens, if this thread can."""
        self.is_hit = False
        if threading.current_thread() is threading.main_thread():
            self._handler_before = signal.signal(signal.SIGTERM, self._note)

    def _note(self, number, frame):
        self.is_hit = True
        self._listen_no_more()

    def _listen_no_more(self):
        if self._handler_before is not None:
            signal.signal(signal.SIGTERM, self._handler_before)
            self._handler_before = None

    def on_step_end(self, args, state, control, **kwargs):
        """Ends the training for all processes if one was told to."""
        if args.world_size > 1:
            hits = reduce(torch.tensor(float(self.is_hit), device=args.device), reduction="sum")
            self.is_hit = bool(hits.item())
        if self.is_hit and state.global_step < state.max_steps:
            control.should_training_stop = True
            control.should_save = not _is_whole(state.epoch)  # else after the evaluation at the end of the epoch

    def on_epoch_end(self, args, state, control, **kwargs):
        """Also called in the middle of an epoch that is left."""
        if self.is_hit and state.global_step < state.max_steps:
            # an evaluation that an undisturbed training would not have here would move its random numbers
            control.should_evaluate &= _is_whole(state.epoch)
            control.should_save = _is_whole(state.epoch)

    def on_train_end(self, args, state, control, **kwargs):
        """Whoever listened before does so again."""
        self._listen_no_more()


def _is_whole(epoch):
    return epoch == round(epoch)
