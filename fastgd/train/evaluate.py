"""Figures: means of the loss and metrics, over the training batches since the last report or over held-out data.

Values stay in their tensors until they are needed, and are then read together: a step costs no conversion of its own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from .. import random
from ..compiler.function import compile
from ..context import no_grad
from ..data import ArrayLoader, Dataset, IterableLoader, Loader
from .metrics import Metric
from .step import EMA, forward, loss_weight

__all__ = ["Evaluator", "Window", "as_loader"]

# What is held is memory that the next step cannot use again, and a step wants its memory in the cache.
PENDING_BYTES = 1_000_000
PENDING_BATCHES = 512


def as_loader(data: Any, batch_size: int, shuffle: bool = True, seed: int = 0) -> Loader:
    """Return a loader for whatever holds data: a Dataset, arrays, a loader, or an iterable of batches."""
    if isinstance(data, Loader):
        return data
    if isinstance(data, Dataset):
        return ArrayLoader((data.x, data.y), batch_size, shuffle, seed)
    if isinstance(data, (tuple, list)) and data and all(hasattr(part, "__array__") for part in data):
        return ArrayLoader([np.asarray(part) for part in data], batch_size, shuffle, seed)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not hasattr(data, "__iter__"):
        from ..utils.data import DataLoader

        return IterableLoader(DataLoader(data, batch_size, shuffle))
    return IterableLoader(data)


def as_batch(batch: Any) -> tuple[Any, ...]:
    """Return a batch as a tuple (input, targets ...)."""
    if isinstance(batch, (tuple, list)):
        return tuple(batch)
    if isinstance(batch, dict):
        raise TypeError("Trainer: expected batches (input, target), got a dict; make the loader return tuples")
    return (batch,)


class Window:
    """Mean loss and metrics over the batches since the last reset.

    Parameters
    ----------
    loss : callable or None
        Says how much each batch weighs.
    metrics : sequence of Metric
        Copied: each window has figures of its own.
    """

    def __init__(self, loss: Callable | None, metrics: Sequence[Metric] = ()) -> None:
        self.loss = loss
        self.metrics = [copy.deepcopy(metric) for metric in metrics]
        self.needs_output = any(not hasattr(metric, "from_loss") for metric in self.metrics)
        self.reset()

    def reset(self) -> None:
        self.weight, self.total = 0.0, 0.0
        self._pending: list[tuple[Any, Any, int, tuple[Any, ...]]] = []
        self._bytes = 0
        for metric in self.metrics:
            metric.reset()

    def add(self, loss: Any, output: Any, batch: tuple[Any, ...]) -> None:
        """Note a batch; its loss and output may be tensors that nobody has looked at yet."""
        targets = batch[1:]
        self._pending.append((loss, output, len(batch[0]), targets or (batch if self.needs_output else ())))
        self._bytes += 4 * math.prod(targets[0].shape) if targets else 0  # or so
        self._bytes += 4 * math.prod(output.shape) if output is not None else 0
        if self._bytes > PENDING_BYTES or len(self._pending) >= PENDING_BATCHES:
            self.read()

    def read(self) -> None:
        """Look at what is pending."""
        pending, self._pending, self._bytes = self._pending, [], 0
        if not pending:
            return
        weights = np.array([loss_weight(self.loss, samples, targets) for _, _, samples, targets in pending])
        # A batch that averages over nothing has no loss; it must not make all others NaN.
        values = np.array([loss.item() for loss, *_ in pending], np.float64)
        self.total += float(np.dot(values[weights > 0], weights[weights > 0]))
        self.weight += float(weights.sum())
        if not self.needs_output:
            return
        output, target = self._joined([(output, targets[-1]) for _, output, _, targets in pending])
        for metric in self.metrics:
            if not hasattr(metric, "from_loss"):
                metric.update(output, target)

    @staticmethod
    def _joined(pairs: list[tuple[Any, Any]]) -> tuple[np.ndarray, np.ndarray]:
        if len(pairs) == 1:
            return np.asarray(pairs[0][0]), np.asarray(pairs[0][1])
        return tuple(np.concatenate([np.asarray(pair[side]) for pair in pairs]) for side in (0, 1))  # type: ignore[return-value]

    def figures(self, prefix: str = "") -> dict[str, float]:
        """Return {"loss": ..., metric's name: ...}, nothing if there were no batches."""
        self.read()
        if not self.weight:
            return {}
        loss = self.total / self.weight
        figures = {f"{prefix}loss": loss}
        for metric in self.metrics:
            value = metric.from_loss(loss) if hasattr(metric, "from_loss") else metric.compute()
            figures[f"{prefix}{metric.name}"] = value
        return figures

    def state_dict(self) -> dict[str, Any]:
        """Return the sums, so that a resumed run reports what one without a break reports."""
        self.read()
        return {"weight": self.weight, "total": self.total, "metrics": [dict(vars(m)) for m in self.metrics]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; the sums of other metrics are left out."""
        self.reset()
        names = [metric.name for metric in self.metrics]
        if [saved["name"] if "name" in saved else names[i] for i, saved in enumerate(state["metrics"])] != names:
            return
        self.weight, self.total = float(state["weight"]), float(state["total"])
        for metric, saved in zip(self.metrics, state["metrics"], strict=True):
            vars(metric).update(saved)


class Evaluator:
    """Loss and metrics of a model over a whole data set, in evaluation mode and without gradients.

    Parameters
    ----------
    model, loss
        As for :class:`Trainer`.
    data
        Held-out data in any form that :class:`Trainer` takes; gone through in its own order.
    metrics : sequence of Metric
    batch_size : int
        For arrays; only speed and memory depend on it.
    ema : EMA, optional
        Evaluate these averages in place of the weights.
    compiled : bool
    """

    def __init__(
        self,
        model: Any,
        loss: Callable | None,
        data: Any,
        metrics: Sequence[Metric] = (),
        batch_size: int = 1024,
        ema: EMA | None = None,
        compiled: bool = True,
    ) -> None:
        self.model = model
        self.ema = ema
        self.loader = as_loader(data, batch_size, shuffle=False)
        self.window = Window(loss if loss is not None else model, metrics)
        needs_output = self.window.needs_output

        def run(*batch: Any) -> tuple[Any, Any]:
            value, output = forward(model, loss, batch)
            return value, output if needs_output else None

        self._forward = compile(run) if compiled else run

    def __call__(self, stop: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
        """Return {"loss": ..., metric's name: ...}, or None if `stop` said so on the way.

        The model's mode and the random state are left as they were.
        """
        training, state = self.model.training, random.get_state()
        self.model.eval()
        try:
            with no_grad(), self.ema.applied() if self.ema is not None else nullcontext():
                return self._run(stop)
        finally:
            self.model.train(training)
            random.set_state(state)

    def _run(self, stop: Callable[[], bool]) -> dict[str, float] | None:
        self.window.reset()
        for batch in self._batches():
            if stop():
                return None
            batch = as_batch(batch)
            value, output = self._forward(*batch)
            self.window.add(value, output, batch)
        figures = self.window.figures()
        self.window.reset()
        return figures or {"loss": math.nan}

    def _batches(self) -> Iterator[Any] | Iterable[Any]:
        if isinstance(self.loader, IterableLoader):
            return self.loader._start()
        return (batch for batch, _ in self.loader.batches(0, 0))
