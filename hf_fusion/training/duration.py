"""Estimates the duration of a training on a CPU after its first steps."""

import logging
import time

from tqdm import tqdm
from transformers import TrainerCallback

logger = logging.getLogger(__name__)

LONG_MINUTES = 30
_SKIPPED, _MEASURED = 1, 4  # steps: the first one also prepares memory and shapes


class EstimateDuration(TrainerCallback):
    """
    Logs the estimated duration of a training on a CPU (without evaluations) after its first steps, and warns if it is
    more than half an hour.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        """Starts the measurement."""
        self._first_step, self._started = state.global_step + _SKIPPED, None

    def on_step_end(self, args, state, control, **kwargs):
        """Logs the estimate once, in the main process."""
        if args.device.type != "cpu" or not state.is_world_process_zero:
            return
        if state.global_step == self._first_step:
            self._started = time.perf_counter()
        elif self._started is not None and state.global_step == self._first_step + _MEASURED:
            seconds = (time.perf_counter() - self._started) / _MEASURED
            self.report(seconds, state.max_steps - state.global_step)

    def report(self, seconds: float, steps: int) -> None:
        """
        Logs the estimated duration.

        Args:
            seconds (`float`): the seconds per step.
            steps (`int`): the number of remaining steps.
        """
        minutes = seconds * steps / 60
        text = f"{steps:,} steps of {seconds:.2g} s on this CPU: about {_rounded(minutes)}, and the evaluations."
        if minutes > LONG_MINUTES:
            text += (
                " That is long: `max_train_samples` 2000 or fewer `num_train_epochs` shorten it, an accelerator is "
                "many times as fast."
            )
            logger.warning(text)
        else:
            tqdm.write(text)


def _rounded(minutes):
    if minutes < 1:
        return "a minute"
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
