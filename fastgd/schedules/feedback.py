"""Rates that follow what is measured: small state machines beside the schedules, which know only the step.

Such a rule is called like a schedule (the step is ignored: it returns its present value) and so can be an ``lr`` or a
factor in :func:`multiply`.  ``update(metric)`` moves it; the same metrics give the same values.  Its state is its own:
``state_dict()`` belongs into the checkpoint beside the optimizer's.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from .._core import DtypeError, ShapeError
from .base import one_of, read_count, read_positive, read_real, read_steps, several

__all__ = ["Greedy", "Plateau"]


class Feedback:
    """Base: a value, a best metric and counters, with their state dictionary."""

    #: Attributes that are state, with what reads them.
    _state: ClassVar[Mapping[str, Any]]
    value: float

    def __call__(self, step: int = 0) -> float:
        """The present value, whatever the step."""
        return self.value

    def state_dict(self) -> dict[str, Any]:
        """Everything that updates change, as plain numbers."""
        return {name: getattr(self, name) for name in self._state}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`; all of it or nothing.

        Raises
        ------
        ValueError
            If an entry is missing, unknown or impossible.
        """
        name = type(self).__name__
        if not isinstance(state_dict, Mapping) or set(state_dict) != set(self._state):
            keys = ", ".join(self._state)
            raise ShapeError(f"{name}.load_state_dict: expected a dict with {keys}, got {state_dict!r}")
        values = {key: read(f"{name}: {key}", state_dict[key]) for key, read in self._state.items()}
        for key, value in values.items():
            setattr(self, key, value)

    def _read_rule(
        self, factor: float, patience: int, threshold: float, threshold_mode: str, mode: str, cooldown: int
    ) -> None:
        name = type(self).__name__
        self.factor = read_positive(f"{name}: factor", factor)
        if self.factor >= 1:
            raise ShapeError(f"{name}: factor must be less than 1, got {self.factor}")
        self.patience = read_count(f"{name}: patience", patience)
        self.threshold = read_real(f"{name}: threshold", threshold)
        self.threshold_mode = one_of("rel", "abs")(f"{name}: threshold_mode", threshold_mode)
        self.mode = one_of("min", "max")(f"{name}: mode", mode)
        self.cooldown = read_count(f"{name}: cooldown", cooldown)

    def _better(self, metric: float, best: float) -> bool:
        """Is `metric` an improvement on `best`, by more than the threshold?"""
        sign = -1.0 if self.mode == "min" else 1.0
        bound = best * (1.0 + sign * self.threshold) if self.threshold_mode == "rel" else best + sign * self.threshold
        return metric < bound if self.mode == "min" else metric > bound

    def __repr__(self) -> str:
        settings = inspect.signature(type(self)).parameters
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in settings)})"


def _read_number(where: str, given: Any) -> float:
    try:
        return float(given)
    except (TypeError, ValueError):
        raise DtypeError(f"{where} must be a number, got {given!r}") from None


class Plateau(Feedback):
    """Multiplies its value by `factor` when a metric has not improved for `patience` updates.

    Parameters
    ----------
    value : float, default 1.0
        To begin with: a learning rate, or 1 for a factor of another schedule.
    factor : float, default 0.1
        More than 0, less than 1.
    patience : int, default 10
        Updates without improvement that are still waited for; says `style`.
    threshold : float, default 1e-4
        What counts as an improvement: less than ``best * (1 - threshold)`` ("rel"), or ``best - threshold`` ("abs").
    threshold_mode : {"rel", "abs"}
    mode : {"min", "max"}
        Is less better, or more?
    cooldown : int, default 0
        Updates after a reduction that are not counted.
    low : float, default 0.0
        The value does not get below it.
    eps : float, default 1e-8
        A reduction by no more than this is left out ("torch").
    accumulate : int, default 1
        Metrics whose mean is one update ("optax").
    style : {"torch", "timm", "keras", "optax"}
        - "torch", "timm": reduces at update number `patience` + 1 without improvement.
        - "keras": at number `patience`; its threshold is absolute; the last update of the cooldown counts.
        - "optax": at number `patience`.

    References
    ----------
    ``torch.optim.lr_scheduler.ReduceLROnPlateau``, ``keras.callbacks.ReduceLROnPlateau``,
    ``optax.contrib.reduce_on_plateau``.
    """

    _state: ClassVar[Mapping[str, Any]] = {
        "value": read_real,
        "best": _read_number,
        "bad": read_count,
        "cooldown_left": read_count,
        "collected": read_count,
        "mean": _read_number,
    }

    def __init__(
        self,
        value: float = 1.0,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        mode: str = "min",
        cooldown: int = 0,
        low: float = 0.0,
        eps: float = 1e-8,
        accumulate: int = 1,
        style: str = "torch",
    ) -> None:
        self.value = read_real("Plateau: value", value)
        self._read_rule(factor, patience, threshold, threshold_mode, mode, cooldown)
        self.low = read_real("Plateau: low", low)
        self.eps = read_real("Plateau: eps", eps)
        self.accumulate = read_steps("Plateau: accumulate", accumulate)
        self.style = one_of("torch", "timm", "keras", "optax")("Plateau: style", style)
        if self.accumulate > 1 and style != "optax":
            raise ShapeError(f"Plateau: accumulate needs style='optax', got {accumulate}")
        if style == "keras" and threshold_mode != "abs":
            raise ShapeError("Plateau: keras has no relative threshold; give threshold_mode='abs'")
        self.best = math.inf if mode == "min" else -math.inf
        self.bad = self.cooldown_left = self.collected = 0
        self.mean = 0.0

    def update(self, metric: float) -> float:
        """Take note of a metric.

        Parameters
        ----------
        metric : float
            NaN is no improvement.

        Returns
        -------
        float
            The value from now on.
        """
        if self.observe(metric):
            self.value = self.reduced(self.value)
        return self.value

    def observe(self, metric: float) -> bool:
        """Count, and say whether it is time to reduce (then the cooldown has begun)."""
        current = float(metric)
        if self.accumulate > 1:
            self.mean = (self.collected * self.mean + current) / (self.collected + 1)
            self.collected += 1
            if self.collected < self.accumulate:
                return False
            current, self.collected, self.mean = self.mean, 0, 0.0
        reduce = self._count(current)
        if reduce:
            self.bad = 0
            self.cooldown_left = self.cooldown
        return reduce

    def reduced(self, value: float) -> float:
        """What a reduction makes of a value."""
        new = max(value * self.factor, self.low)
        return value if self.style in ("torch", "timm") and not value - new > self.eps else new

    def _count(self, current: float) -> bool:
        better = self._better(current, self.best)
        if better:
            self.best = current
        if self.style == "keras":
            return self._count_keras(better)
        self.bad = 0 if better else self.bad + 1
        if self.cooldown_left > 0:
            self.cooldown_left -= 1
            self.bad = 0
            if self.style == "optax":
                return False
        return self.bad == self.patience if self.style == "optax" else self.bad > self.patience

    def _count_keras(self, better: bool) -> bool:
        if self.cooldown_left > 0:
            self.cooldown_left -= 1
            self.bad = 0
        if better:
            self.bad = 0
            return False
        if self.cooldown_left > 0:
            return False
        self.bad += 1
        return self.bad >= self.patience


class Greedy(Feedback):
    """Raises its value while a metric improves, lowers it while it does not.

    Parameters
    ----------
    value : float
        To begin with.
    factor : float, default 0.95
        More than 0, less than 1: the value is multiplied or divided by it.
    patience : int, default 10
        More than so many updates in a row in the same sense change the value.
    threshold : float, default 1e-6
    threshold_mode : {"abs", "rel"}
    mode : {"min", "max"}
    cooldown, warmup : int, default 0
        Updates that are not counted after the value was lowered, and after it was raised.
    low, high : float, default 1e-3 and 1.0
        Bounds of the value.
    eps : float, default 1e-8
        A smaller change is left out.
    window : int, default 1
        Metrics whose running mean is looked at.
    reset_after : int, default 500
        After so many reductions at `low` in a row everything begins again.

    References
    ----------
    transformers' ``GreedyLR``, after Subramanian et al., "Zeroth-order GreedyLR", 2023.
    """

    _state: ClassVar[Mapping[str, Any]] = {
        "value": read_real,
        "best": _read_number,
        "bad": read_count,
        "good": read_count,
        "cooldown_left": read_count,
        "warmup_left": read_count,
        "resets_in": read_count,
        "recent": several(_read_number),
    }

    def __init__(
        self,
        value: float,
        factor: float = 0.95,
        patience: int = 10,
        threshold: float = 1e-6,
        threshold_mode: str = "abs",
        mode: str = "min",
        cooldown: int = 0,
        warmup: int = 0,
        low: float = 1e-3,
        high: float = 1.0,
        eps: float = 1e-8,
        window: int = 1,
        reset_after: int = 500,
    ) -> None:
        self.first = read_real("Greedy: value", value)
        self._read_rule(factor, patience, threshold, threshold_mode, mode, cooldown)
        self.warmup = read_count("Greedy: warmup", warmup)
        self.low = read_real("Greedy: low", low)
        self.high = read_real("Greedy: high", high)
        self.eps = read_real("Greedy: eps", eps)
        self.window = read_steps("Greedy: window", window)
        self.reset_after = read_steps("Greedy: reset_after", reset_after)
        self._begin()

    def _begin(self) -> None:
        self.value = self.first
        self.best = math.inf if self.mode == "min" else -math.inf
        self.bad = self.good = self.cooldown_left = self.warmup_left = 0
        self.resets_in = self.reset_after
        self.recent: tuple[float, ...] = ()

    def update(self, metric: float) -> float:
        """Take note of a metric; the value from now on."""
        self.recent = (*self.recent, float(metric))[-self.window :]
        current = sum(self.recent) / len(self.recent)
        if self.cooldown_left > 0 or self.warmup_left > 0:
            if self.cooldown_left > 0:
                self.cooldown_left -= 1
            else:
                self.warmup_left -= 1
            self.bad = self.good = 0
            return self.value
        if self._better(current, self.best):
            self.best, self.bad, self.good = current, 0, self.good + 1
        else:
            self.bad, self.good = self.bad + 1, 0
        if self.good > self.patience:
            self._raise()
        elif self.bad > self.patience:
            self._lower()
        return self.value

    def _raise(self) -> None:
        new = min(self.value / self.factor, self.high)
        if new - self.value > self.eps:
            self.value = new
        self.resets_in, self.warmup_left, self.good = self.reset_after, self.warmup, 0

    def _lower(self) -> None:
        new = max(self.value * self.factor, self.low)
        if self.value - new > self.eps:
            self.value = new
        if self.value <= self.low:
            self.resets_in -= 1
            if self.resets_in <= 0:
                self._begin()
        self.cooldown_left, self.bad = self.cooldown, 0
