"""What others may do while a model trains: look at the figures, and ask to stop.

A row is a dictionary of figures, the same that goes to metrics.jsonl: step, epoch, seconds, lr, ``train_*``,
``test_*``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Callback", "EarlyStopping", "TensorBoard"]

Row = Mapping[str, Any]


class Callback:
    """Base of everything that follows a run; override what is needed."""

    def on_step(self, row: Row) -> None:
        """A moment between two steps, a few times a second."""

    def on_evaluation(self, row: Row) -> bool | None:
        """The end of an evaluation; true asks training to end here."""

    def close(self) -> None:
        """The end, also after an error."""

    def state_dict(self) -> dict[str, Any]:
        """What has to be in a checkpoint: numbers, text, lists and dictionaries of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""


class EarlyStopping(Callback):
    """Ends training when a figure has not improved for `patience` evaluations.

    Parameters
    ----------
    patience : int
    monitor : str, default "test_loss"
        A key of the rows.
    greater_is_better : bool
    min_delta : float
        What counts as an improvement.
    """

    def __init__(
        self, patience: int, monitor: str = "test_loss", greater_is_better: bool = False, min_delta: float = 0.0
    ) -> None:
        if patience < 1 or min_delta < 0:
            raise ValueError("EarlyStopping: patience must be at least 1 and min_delta at least 0")
        self.patience, self.monitor = patience, monitor
        self.greater_is_better, self.min_delta = greater_is_better, min_delta
        self.best: float | None = None
        self.waited = 0

    def on_evaluation(self, row: Row) -> bool:
        value = row.get(self.monitor)
        if value is None:
            raise ValueError(f"EarlyStopping: there is no {self.monitor!r} among {', '.join(row)}")
        if is_better(value, self.best, self.greater_is_better, self.min_delta):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


class TensorBoard(Callback):
    """Writes the rows as scalars for TensorBoard; needs ``pip install "fastgd[tensorboard]"``.

    Parameters
    ----------
    folder : str or path
        Where the event file goes.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError(
                'TensorBoard files need tensorboardX, which is not installed: pip install "fastgd[tensorboard]"'
            ) from None
        self._writer = SummaryWriter(str(folder))

    def on_evaluation(self, row: Row) -> None:
        for name, value in row.items():
            if name != "step" and isinstance(value, (int, float)):
                self._writer.add_scalar(name.replace("_", "/", 1), value, row["step"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def is_better(value: float, best: float | None, greater_is_better: bool, min_delta: float = 0.0) -> bool:
    """Whether `value` beats `best`; NaN never does."""
    if math.isnan(value):
        return False
    if best is None or math.isnan(best):
        return True
    return value > best + min_delta if greater_is_better else value < best - min_delta
