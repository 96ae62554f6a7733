"""What is reported besides the loss, summed up batch by batch.

A metric has a `name`, `greater_is_better`, `update(output, target)`, `compute()` and `reset()`, and works on NumPy
arrays. One that follows from the mean loss has `from_loss(loss)` instead of the middle two, and is never handed
outputs. Classes lie along axis 1 of an output, as in PyTorch: (batch, classes) or (batch, classes, positions ...). A
target of IGNORED counts nowhere.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

__all__ = ["AUC", "F1", "METRICS", "R2", "Accuracy", "Metric", "Perplexity", "TopK"]

IGNORED = -100  # what PyTorch's cross_entropy leaves out by default


class Metric:
    """A figure of merit over all samples since the last reset."""

    name: str = "metric"
    greater_is_better: ClassVar[bool] = True

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        raise NotImplementedError

    def update(self, output: np.ndarray, target: np.ndarray) -> None:
        """Add a batch."""
        raise NotImplementedError

    def compute(self) -> float:
        """Return the figure, NaN if nothing was added."""
        raise NotImplementedError


def _labelled(output: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scores of shape (n, classes) and labels of shape (n,), without those to be ignored."""
    if output.ndim > 2:
        output = np.moveaxis(output, 1, -1).reshape(-1, output.shape[1])
    target = target.reshape(-1)
    if len(output) != len(target):
        raise ValueError(f"metric: expected one label for each row of scores, got {len(output)} and {len(target)}")
    kept = target != IGNORED
    return (output, target) if kept.all() else (output[kept], target[kept])


class Accuracy(Metric):
    """The share of samples whose largest score is at the target."""

    name = "accuracy"

    def reset(self) -> None:
        self.correct = self.samples = 0

    def update(self, output: np.ndarray, target: np.ndarray) -> None:
        scores, labels = _labelled(output, target)
        self.correct += int(np.count_nonzero(scores.argmax(axis=1) == labels))
        self.samples += len(labels)

    def compute(self) -> float:
        return self.correct / self.samples if self.samples else math.nan


class TopK(Metric):
    """The share of samples whose target is among the `k` largest scores; equal scores count for the target.

    Parameters
    ----------
    k : int, default 5
    """

    def __init__(self, k: int = 5) -> None:
        if k < 1:
            raise ValueError(f"TopK: k must be at least 1, got {k}")
        self.k = k
        self.name = f"top{k}"
        super().__init__()

    def reset(self) -> None:
        self.correct = self.samples = 0

    def update(self, output: np.ndarray, target: np.ndarray) -> None:
        scores, labels = _labelled(output, target)
        own = np.take_along_axis(scores, labels[:, np.newaxis].astype(np.int64), axis=1)
        self.correct += int(np.count_nonzero((scores > own).sum(axis=1) < self.k))
        self.samples += len(labels)

    def compute(self) -> float:
        return self.correct / self.samples if self.samples else math.nan


class Perplexity(Metric):
    """exp(mean loss): for language models, whose loss is the cross-entropy of a token in nats."""

    name = "perplexity"
    greater_is_better = False

    def reset(self) -> None:
        """There is nothing to forget."""

    def from_loss(self, loss: float) -> float:
        return math.exp(min(loss, 700.0))


class F1(Metric):
    """The harmonic mean of precision and recall, 2 tp / (2 tp + fp + fn), 0 where that is 0/0.

    Parameters
    ----------
    average : {"binary", "macro", "micro", "weighted"}
        binary: of class 1 of two; macro: the mean over the classes that occur as label or prediction; weighted: that
        mean weighted by how often a class is the label; micro: from the counts of all classes together.

    Notes
    -----
    Outputs of shape (n,) or (n, 1) are logits of class 1, the threshold is 0.
    """

    name = "f1"

    def __init__(self, average: str = "macro") -> None:
        if average not in ("binary", "macro", "micro", "weighted"):
            raise ValueError(f"F1: average must be binary, macro, micro or weighted, got {average!r}")
        self.average = average
        super().__init__()

    def reset(self) -> None:
        self.counts = np.zeros((3, 0), np.int64)  # true positives, predicted, labelled, by class

    def update(self, output: np.ndarray, target: np.ndarray) -> None:
        if output.ndim == 1 or output.shape[1] == 1:
            score = output.reshape(-1)
            output = np.stack([np.zeros_like(score), score], axis=1)
        scores, labels = _labelled(output, target)
        if self.average == "binary" and scores.shape[1] != 2:
            raise ValueError(f"F1: average 'binary' is for two classes, got {scores.shape[1]}; use 'macro'")
        guesses, labels, classes = scores.argmax(axis=1), labels.astype(np.int64), scores.shape[1]
        rows = (labels[guesses == labels], guesses, labels)
        counts = np.stack([np.bincount(row, minlength=classes) for row in rows])
        self.counts = counts if self.counts.shape[1] == 0 else self.counts + counts

    def compute(self) -> float:
        hits, guessed, labelled = self.counts
        if not labelled.sum():
            return math.nan
        if self.average == "micro":
            return float(hits.sum() / labelled.sum())  # each sample has one label and one guess
        present = guessed + labelled > 0
        scores = 2 * hits / np.maximum(guessed + labelled, 1)
        if self.average == "binary":
            return float(scores[1])
        return float(np.average(scores[present], weights=labelled[present] if self.average == "weighted" else None))


class AUC(Metric):
    """The area under the ROC curve of two classes: the chance that a sample of class 1 scores above one of class 0.

    Ties count half (Mann and Whitney, 1947). Outputs are scores of class 1, shape (n,) or (n, 1), or of both, (n, 2).
    All scores are kept until the reset.
    """

    name = "auc"

    def reset(self) -> None:
        self.scores: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []

    def update(self, output: np.ndarray, target: np.ndarray) -> None:
        if output.ndim > 2 or (output.ndim == 2 and output.shape[1] > 2):
            raise ValueError(f"AUC: expected scores of two classes, got outputs of shape {output.shape}")
        both = output.ndim == 2 and output.shape[1] == 2
        score = output[:, 1].astype(np.float64) - output[:, 0] if both else output.reshape(-1).astype(np.float64)
        self.scores.append(score)
        self.labels.append(target.reshape(-1) > 0)

    def compute(self) -> float:
        if not self.scores:
            return math.nan
        scores, labels = np.concatenate(self.scores), np.concatenate(self.labels)
        ones = int(np.count_nonzero(labels))
        zeros = len(labels) - ones
        if not ones or not zeros or not np.isfinite(scores).all():
            return math.nan
        _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
        ends = np.cumsum(sizes)
        ranks = (ends - (sizes - 1) / 2)[group]  # counted from 1, ties share the mean of theirs
        return float((ranks[labels].sum() - ones * (ones + 1) / 2) / (ones * zeros))


class R2(Metric):
    """The share of the variance of the targets that is explained: 1 - sum (y - f)² / sum (y - mean y)².

    The moments are combined by Chan, Golub and LeVeque's formula (1979), which does not cancel for targets far from 0.
    """

    name = "r2"

    def reset(self) -> None:
        self.samples, self.mean, self.spread, self.residual = 0, 0.0, 0.0, 0.0

    def update(self, output: np.ndarray, target: np.ndarray) -> None:
        y = target.astype(np.float64).ravel()
        if not y.size:
            return
        self.residual += float(np.square(y - output.ravel()).sum())
        mean, total = float(y.mean()), self.samples + y.size
        self.spread += float(np.square(y - mean).sum()) + (mean - self.mean) ** 2 * self.samples * y.size / total
        self.mean += (mean - self.mean) * y.size / total
        self.samples = total

    def compute(self) -> float:
        return 1.0 - self.residual / self.spread if self.spread else math.nan


#: Metrics by the name that a configuration gives them.
METRICS: dict[str, Any] = {
    "accuracy": Accuracy,
    "top5": TopK,
    "perplexity": Perplexity,
    "f1": F1,
    "auc": AUC,
    "r2": R2,
}
