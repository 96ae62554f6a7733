"""What is reported besides the loss, summed up batch by batch so that nothing has to be kept.

A metric has a `name`, `update(output, target)`, `compute()` and `reset()`, and works on NumPy arrays.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

__all__ = ["R2", "Accuracy", "Metric"]


class Metric(Protocol):
    """A figure of merit over all samples since the last reset."""

    name: str

    def reset(self) -> None:
        """Forget everything."""

    def update(self, output: np.ndarray, target: np.ndarray) -> None:
        """Add a batch."""

    def compute(self) -> float:
        """Return the figure, NaN if nothing was added."""


class Accuracy:
    """The share of samples whose largest output, shape (batch, classes), is at the target, shape (batch,)."""

    name = "accuracy"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.correct = self.samples = 0

    def update(self, output: np.ndarray, target: np.ndarray) -> None:
        self.correct += int(np.count_nonzero(output.argmax(axis=1) == target))
        self.samples += len(target)

    def compute(self) -> float:
        return self.correct / self.samples if self.samples else float("nan")


class R2:
    """The share of the variance of the targets that is explained: 1 - sum (y - f)² / sum (y - mean y)².

    The moments are combined by Chan, Golub and LeVeque's formula (1979), which does not cancel for targets far from 0.
    """

    name = "r2"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.samples, self.mean, self.spread, self.residual = 0, 0.0, 0.0, 0.0

    def update(self, output: np.ndarray, target: np.ndarray) -> None:
        y = target.astype(np.float64).ravel()
        self.residual += float(np.square(y - output.ravel()).sum())
        mean, total = float(y.mean()), self.samples + y.size
        self.spread += float(np.square(y - mean).sum()) + (mean - self.mean) ** 2 * self.samples * y.size / total
        self.mean += (mean - self.mean) * y.size / total
        self.samples = total

    def compute(self) -> float:
        return 1.0 - self.residual / self.spread if self.spread else float("nan")
