"""One update of the weights, from one batch or from several: what is compiled and replayed.

A loss averages over something: samples, or the labels that are not to be ignored. Gradients of several batches are
summed with the weights n_i / sum n, n_i being what batch i averages over, so that together they are the gradient of the
large batch whatever the sizes of its parts. The weights go into the plan as an argument; a group of batches is one
replay for each batch, the last of which clips, updates, and moves the averaged weights.

Nothing is written before the gradients are known to be finite, if that is asked for: a step that is refused leaves
parameters, optimizer, averages, buffers and random state as they were.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import nn, random
from .._core import NonFiniteError, NotOffered, ShapeError
from ..compiler.function import compile
from ..context import no_grad
from ..nn import functional as F
from ..ops import minimum, zeros
from .metrics import IGNORED

__all__ = ["EMA", "TrainingStep", "forward", "loss_weight"]


def forward(model: Any, loss: Callable | None, batch: Sequence[Any]) -> tuple[Any, Any]:
    """Return (loss, output) of a batch (input, target, ...); without a loss function the model returns the loss
    itself."""
    if loss is not None:
        output = model(batch[0])
        return loss(output, *batch[1:]), output
    result = model(*batch)
    parts = result if isinstance(result, tuple) else (result,)
    scalars = [index for index, part in enumerate(parts) if getattr(part, "ndim", None) == 0]
    if len(scalars) != 1 or len(parts) > 2:
        shapes = ", ".join(str(getattr(part, "shape", type(part).__name__)) for part in parts)
        raise ShapeError(f"Trainer: with loss=None the model must return a loss, or it and an output; got {shapes}")
    return parts[scalars[0]], parts[1 - scalars[0]] if len(parts) == 2 else parts[0]


def loss_weight(loss: Callable | None, samples: int, targets: Sequence[Any]) -> float:
    """Return how much of a mean over many batches this one is: the number of samples that its loss averages over.

    For cross-entropy that is the number of labels that are not ignored (or the sum of their class weights). A loss (or,
    without one, a model) of another kind may have a method ``count(*targets)``; a sum weighs 1.
    """
    count = getattr(loss, "count", None)
    if count is not None:
        return float(count(*targets))
    if getattr(loss, "reduction", "mean") == "sum":
        return 1.0
    plain = loss.func if isinstance(loss, functools.partial) else loss
    if plain is F.cross_entropy or isinstance(loss, nn.CrossEntropyLoss):
        settings = loss.keywords if isinstance(loss, functools.partial) else vars(loss) if plain is loss else {}
        return _labels(targets[0], settings)
    return float(samples)


def _labels(target: Any, settings: Any) -> float:
    labels = np.asarray(target)
    if labels.dtype.kind not in "iu":
        return float(len(labels))
    kept = labels != settings.get("ignore_index", IGNORED)
    weight = settings.get("weight")
    return float(np.count_nonzero(kept) if weight is None else np.asarray(weight, np.float64)[labels[kept]].sum())


class EMA:
    """A moving average of a model's weights, which often tests better than the weights themselves.

    After update n, counted from 0: ``average += (1 - d) (weight - average)`` with d = min(decay, (1 + n) / (10 + n)),
    so that the random initial weights are soon forgotten (the rule of TensorFlow's ExponentialMovingAverage).

    Parameters
    ----------
    model : nn.Module
    decay : float
        Between 0 and 1; 0.999 averages over about the last 1,000 updates.
    """

    def __init__(self, model: Any, decay: float) -> None:
        if not 0.0 < decay < 1.0:
            raise ShapeError(f"EMA: decay must be between 0 and 1, got {decay}")
        self.decay = float(decay)
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.averages = {name: p.detach().clone() for name, p in self.weights.items()}
        self.count: Any = zeros((), dtype="float64")

    def update(self) -> None:
        """Move the averages towards the weights; inside a compiled step, part of its plan."""
        with no_grad():
            decay: Any = minimum((self.count + 1.0) / (self.count + 10.0), self.decay)
            rest = 1.0 - decay
            for name, average in self.averages.items():
                weight = self.weights[name].detach()
                average.copy_(average + (weight - average) * rest.to(weight.dtype))
            self.count.add_(1.0)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averages in place of the weights, while the block runs."""
        kept = {name: weight.detach().clone() for name, weight in self.weights.items()}
        with no_grad():
            try:
                for name, weight in self.weights.items():
                    weight.copy_(self.averages[name])
                yield
            finally:
                for name, weight in self.weights.items():
                    weight.copy_(kept[name])

    def state_dict(self) -> dict[str, Any]:
        return {"decay": self.decay, "count": self.count.item(), "averages": dict(self.averages)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; that of another model raises and changes nothing."""
        given = {name: np.asarray(value) for name, value in state["averages"].items()}
        expected = {name: tuple(value.shape) for name, value in self.averages.items()}
        if {name: value.shape for name, value in given.items()} != expected:
            raise ShapeError("EMA: the saved averages are of another model")
        if state["decay"] != self.decay:
            raise ShapeError(f"EMA: the averages were made with decay {state['decay']}, now it is {self.decay}")
        with no_grad():
            for name, average in self.averages.items():
                average.copy_(given[name])
            self.count.fill_(float(state["count"]))


class TrainingStep:
    """Updates a model from a list of batches; see the text of this module.

    Parameters
    ----------
    model, loss, optimizer
    clip_norm, clip_value : float, optional
        Limits of the norm of all gradients together, and of each of their elements (which comes first).
    ema : EMA, optional
    check_finite : bool
        Raise NonFiniteError before anything is written if a gradient is not finite.
    with_outputs : bool
        Whether outputs are returned, which costs their memory.
    compiled : bool
        False runs operation by operation, with the same bits.
    """

    def __init__(
        self,
        model: Any,
        loss: Callable | None,
        optimizer: Any,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        ema: EMA | None = None,
        check_finite: bool = True,
        with_outputs: bool = False,
        compiled: bool = True,
    ) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._buffers = list(model.buffers())
        self._compiled = compiled
        if not self.parameters:
            raise ShapeError("Trainer: the optimizer has no parameters")
        self._dtype = self.parameters[0].dtype

        def backward(batch: Sequence[Any], weight: Any = None) -> tuple[Any, Any]:
            value, output = forward(model, loss, batch)
            (value if weight is None else value * weight).backward()
            return value.detach(), output.detach() if with_outputs else None

        def finish() -> None:
            if clip_value is not None:
                nn.utils.clip_grad_value_(self.parameters, clip_value)
            if clip_norm is not None or check_finite:
                limit = math.inf if clip_norm is None else clip_norm
                nn.utils.clip_grad_norm_(self.parameters, limit, error_if_nonfinite=check_finite)
            optimizer.step()
            optimizer.zero_grad()
            if ema is not None:
                ema.update()

        def single(*batch: Any) -> tuple[Any, Any]:
            result = backward(batch)
            finish()
            return result

        def part(weight: Any, *batch: Any) -> tuple[Any, Any]:
            return backward(batch, weight)

        def last(weight: Any, *batch: Any) -> tuple[Any, Any]:
            result = backward(batch, weight)
            finish()
            return result

        wrap: Callable = compile if compiled else lambda function: function
        self.single, self._part, self._last = wrap(single), wrap(part), wrap(last)

    def __call__(self, batches: Sequence[Sequence[Any]]) -> list[tuple[Any, Any, float]]:
        """Make one update; return (loss, output or None, share of the mean) of each batch."""
        if len(batches) == 1:
            if self._compiled:
                return [(*self.single(*batches[0]), 1.0)]  # of a compiled step nothing happens unless all does
            with self.undone_if_it_fails():
                return [(*self.single(*batches[0]), 1.0)]
        weights = [loss_weight(self.loss or self.model, len(batch[0]), batch[1:]) for batch in batches]
        if getattr(self.loss, "reduction", "mean") != "sum":
            total = sum(weights)
            weights = [weight / total if total else 1.0 / len(weights) for weight in weights]
        with self.undone_if_it_fails():
            results = []
            for number, (weight, batch) in enumerate(zip(weights, batches, strict=True), 1):
                function = self._last if number == len(batches) else self._part
                results.append((*function(np.asarray(weight, self._dtype.name), *batch), weight))
        return results

    @contextmanager
    def undone_if_it_fails(self) -> Iterator[None]:
        """Forget the gradients, and put buffers and random state back, if the block raises before the update."""
        before = random.get_state(), [buffer.detach().clone() for buffer in self._buffers], self.optimizer._updates
        try:
            yield
        except BaseException:
            if self.optimizer._updates == before[2]:
                random.set_state(before[0])
                with no_grad():
                    for buffer, value in zip(self._buffers, before[1], strict=True):
                        buffer.copy_(value)
            self.optimizer.zero_grad()
            raise

    def culprit(self, error: NonFiniteError) -> str:
        """Return which gradient was not finite, in words."""
        found = re.search(r"\(gradient (\d+)\)", str(error))
        names = {id(p): name for name, p in self.model.named_parameters()}
        trained = [p for p in self.parameters if p.requires_grad]
        if found is None or int(found[1]) >= len(trained):
            return "the norm of the gradients"
        return f"the gradient of {names.get(id(trained[int(found[1])]), 'a parameter')}"


def check_precision(precision: str) -> None:
    """Refuse what is not offered."""
    if precision != "fp32":
        raise NotOffered(f"Trainer: expected precision 'fp32', got {precision!r} (bf16 is not offered yet)")
