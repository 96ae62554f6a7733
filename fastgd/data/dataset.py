"""What a data set is, how it is divided, and how its columns are scaled.

Scaling is fitted on training data and then applied to everything else: statistics of the test set must not leak into
training. Divisions are deterministic; see :mod:`fastgd.data.loader` for the source of randomness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from .loader import Stream, permutation

__all__ = ["Dataset", "Split", "Standardizer", "train_test_split"]


@dataclass(frozen=True)
class Dataset:
    """Samples with their targets.

    Attributes
    ----------
    x : ndarray, shape (samples, features)
        Floating point. NaN in a column of a table: the value is missing.
    y : ndarray, shape (samples,)
        int64 indices into `classes`, or floating-point values when `classes` is empty (regression).
    name : str
        For messages and the run folder.
    feature_names : tuple of str
        One name for each column of `x`.
    classes : tuple of str or int
        The labels in their order; empty for regression.
    feature_shape : tuple of int
        Shape of one sample before it was flattened, such as (8, 8) for an image.
    categories : tuple of (tuple of str or None)
        For each column None, or the texts that its values are positions in. Empty: all columns are numbers.
    target : str
        The name of the column that y is, if it has one.
    scaled : bool
        The features share one scale already, near 1, as pixels do; standardizing each would only amplify rare ones.
    """

    x: np.ndarray
    y: np.ndarray
    name: str
    feature_names: tuple[str, ...]
    classes: tuple[str | int, ...] = ()
    feature_shape: tuple[int, ...] = ()
    categories: tuple[tuple[str, ...] | None, ...] = ()
    target: str = ""
    scaled: bool = False

    def __post_init__(self) -> None:
        if self.x.ndim != 2 or self.y.ndim != 1 or len(self.x) != len(self.y):
            raise ValueError(
                f"{self.name}: expected x of shape (samples, features) and y of shape (samples,), "
                f"got {self.x.shape} and {self.y.shape}"
            )
        if self.categories and len(self.categories) != self.x.shape[1]:
            raise ValueError(f"{self.name}: {len(self.categories)} categories for {self.x.shape[1]} columns")
        if not self.feature_shape:
            object.__setattr__(self, "feature_shape", self.x.shape[1:])
        if math.prod(self.feature_shape) != self.x.shape[1] or len(self.feature_names) != self.x.shape[1]:
            raise ValueError(f"{self.name}: feature names and shape do not fit {self.x.shape[1]} features")

    def __len__(self) -> int:
        return len(self.x)

    def take(self, indices: np.ndarray) -> Dataset:
        """Return the data set of these samples, in this order."""
        return replace(self, x=self.x[indices], y=self.y[indices])


class Split(NamedTuple):
    """A data set in two parts that share no sample."""

    train: Dataset
    test: Dataset


@dataclass(frozen=True)
class Standardizer:
    """Shift and scale columns to mean 0 and standard deviation 1 *of the data it was fitted on*.

    A column that is constant there is only shifted.
    """

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray) -> Standardizer:
        """Measure mean and standard deviation along axis 0, in float64."""
        mean = x.mean(axis=0, dtype=np.float64)
        scale = x.std(axis=0, dtype=np.float64)
        # The deviation of a constant column is its rounding error, not zero; dividing by it would amplify noise.
        constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(mean)
        return cls(mean, np.where(constant, 1.0, scale))

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return the scaled copy of `x`, with the type of `x`."""
        return ((x - self.mean) / self.scale).astype(x.dtype)

    def undo(self, x: np.ndarray) -> np.ndarray:
        """Return what :meth:`apply` made `x` from, up to rounding."""
        return (x * self.scale + self.mean).astype(x.dtype)


def train_test_split(data: Dataset, test_fraction: float = 0.2, seed: int = 0) -> Split:
    """Divide a data set at random into one to train on and one to test on.

    The number of test samples is ``ceil(test_fraction * samples)``. For classification the shares of the classes are
    kept (largest remainders), and the last sample of a class is never taken away from training.

    Parameters
    ----------
    data : Dataset
    test_fraction : float
        Between 0 and 1, both excluded.
    seed : int
        Another seed gives another division.

    Returns
    -------
    Split
        ``.train`` and ``.test``, both in random order.
    """
    if not 0.0 < test_fraction < 1.0:
        raise ValueError(f"test_fraction must be between 0 and 1, got {test_fraction}")
    wanted = math.ceil(test_fraction * len(data))
    if not 0 < wanted < len(data):
        raise ValueError(f"{data.name}: {len(data)} samples cannot be divided into a training and a test set")
    order = permutation(len(data), seed, stream=Stream.SPLIT)
    is_test = np.zeros(len(data), dtype=bool)
    if data.classes:
        counts = np.bincount(data.y, minlength=len(data.classes))
        for label, take in enumerate(_shares(counts, wanted)):
            is_test[order[data.y[order] == label][:take]] = True
    else:
        is_test[order[:wanted]] = True
    return Split(data.take(order[~is_test[order]]), data.take(order[is_test[order]]))


def _shares(counts: np.ndarray, wanted: int) -> np.ndarray:
    """Divide `wanted` among classes in proportion to `counts`, leaving each class at least one sample."""
    exact = counts * (wanted / counts.sum())
    take = np.floor(exact).astype(np.int64)
    remainders = np.argsort(-(exact - take), kind="stable")
    take[remainders[: wanted - take.sum()]] += 1
    return np.minimum(take, np.maximum(counts - 1, 0))
