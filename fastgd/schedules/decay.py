"""From a first value to a last one: lines, powers, waves, exponentials and stairs.

Past the end the last value is held, except where a `style` says otherwise.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import cos, pi, prod
from typing import Annotated, Any

from .base import (
    Counts,
    Flag,
    MaybeReal,
    Part,
    Positive,
    Real,
    Reals,
    Schedule,
    Steps,
    declare,
    mix,
    one_of,
    read_real,
    several,
)

__all__ = [
    "constant",
    "cosine",
    "exponential",
    "inverse_time",
    "linear",
    "multiplicative",
    "multistep",
    "piecewise_constant",
    "piecewise_interpolate",
    "polynomial",
    "tanh",
]


@declare
class constant(Schedule):
    """The same value at every step.

    Parameters
    ----------
    value : float
    """

    value: Real

    def _value(self, n: int) -> float:
        return self.value


class Decay(Schedule):
    """A way from one value to another in `steps` steps, then the last value; what :func:`restarts` repeats.

    A subclass has the field `steps`, the pair `_ends`, and ``_fall(x)``: the weight of the first value at the share
    x of the way, 0 <= x < 1.
    """

    steps: int

    @property
    def _ends(self) -> tuple[float, float]:
        raise NotImplementedError

    def _fall(self, x: float) -> float:
        raise NotImplementedError

    def _value(self, n: int) -> float:
        first, last = self._ends
        return last if n >= self.steps else mix(self._fall(n / self.steps), first, last)


@declare
class linear(Decay):
    """A straight line from `start` at step 0 to `end` at step `steps`, then `end`.

    Parameters
    ----------
    start, end : float
    steps : int
        Length of the line, at least 1.
    """

    start: Real
    end: Real
    steps: Steps

    @property
    def _ends(self) -> tuple[float, float]:
        return self.start, self.end

    def _fall(self, x: float) -> float:
        return 1.0 - x


@declare
class polynomial(Decay):
    """``end + (start - end) * (1 - (n / steps) ** k_decay) ** power``, then `end`.

    Parameters
    ----------
    start, end : float
    steps : int
        At least 1.
    power : float, default 1.0
        More than 0.
    k_decay : float, default 1.0
        More than 0; above 1 the decay begins later (Zhang & Li, "k-decay: A New Method for Learning Rate Schedule",
        2020; timm has it).
    cycle : bool, default False
        Past the end go on with the smallest multiple of `steps` that is not below n in the place of `steps` (Keras).
    """

    start: Real
    end: Real
    steps: Steps
    power: Positive = 1.0
    k_decay: Positive = 1.0
    cycle: Flag = False

    @property
    def _ends(self) -> tuple[float, float]:
        return self.start, self.end

    def _fall(self, x: float) -> float:
        return (1.0 - x**self.k_decay) ** self.power

    def _value(self, n: int) -> float:
        if not self.cycle or n <= self.steps:
            return super()._value(n)
        length = -(-n // self.steps) * self.steps
        return mix(self._fall(n / length), self.start, self.end)


@declare
class cosine(Decay):
    """Half a cosine wave from `peak` at step 0 down to `end` at step `steps`.

    ``end + (peak - end) * ((1 + cos(pi * (n / steps) ** k_decay)) / 2) ** exponent``.

    Parameters
    ----------
    peak : float
    steps : int
        Length of the decay, at least 1.
    end : float, default 0.0
    exponent : float, default 1.0
        More than 0 (Optax).
    k_decay : float, default 1.0
        More than 0; see :func:`polynomial` (timm).
    style : {"optax", "keras", "timm", "torch"}
        Past the end: all hold `end`, but "torch" rises again and goes on as a wave of period ``2 * steps``.

    References
    ----------
    Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
    equation 5, without restarts.
    """

    peak: Real
    steps: Steps
    end: Real = 0.0
    exponent: Positive = 1.0
    k_decay: Positive = 1.0
    style: Annotated[str, one_of("optax", "keras", "timm", "torch")] = "optax"

    @property
    def _ends(self) -> tuple[float, float]:
        return self.peak, self.end

    def _fall(self, x: float) -> float:
        return half_wave(x**self.k_decay) ** self.exponent

    def _value(self, n: int) -> float:
        if self.style == "torch":
            return mix(self._fall(n / self.steps), self.peak, self.end)
        return super()._value(n)


@declare
class tanh(Decay):
    """``end + (peak - end) * (1 - tanh(lb * (1 - x) + ub * x)) / 2`` with x = n / steps, then `end`.

    Parameters
    ----------
    peak : float
    steps : int
        At least 1.
    end : float, default 0.0
    lb, ub : float, default -7.0 and 3.0
        The stretch of the hyperbolic tangent; ``lb < ub``.

    References
    ----------
    Hsueh, Li & Wu, "Stochastic Gradient Descent with Hyperbolic-Tangent Decay on Classification", WACV 2019; timm.
    """

    peak: Real
    steps: Steps
    end: Real = 0.0
    lb: Real = -7.0
    ub: Real = 3.0

    def _check(self) -> None:
        self._require(self.lb < self.ub, f"lb must be less than ub, got {self.lb} and {self.ub}")

    @property
    def _ends(self) -> tuple[float, float]:
        return self.peak, self.end

    def _fall(self, x: float) -> float:
        return 0.5 * (1.0 - math.tanh(self.lb * (1.0 - x) + self.ub * x))


@declare
class exponential(Schedule):
    """``start * rate ** (n / steps)``; in stairs of `steps` steps if `staircase`.

    Parameters
    ----------
    start : float
    rate : float
        More than 0.
    steps : int, default 1
        Steps in which the value is multiplied by `rate` once.
    staircase : bool, default False
    end : float, optional
        The value goes no further than this: down to it if ``rate < 1``, else up.
    """

    start: Real
    rate: Positive
    steps: Steps = 1
    staircase: Flag = False
    end: MaybeReal = None

    def _value(self, n: int) -> float:
        value = self.start * self.rate ** (n // self.steps if self.staircase else n / self.steps)
        if self.end is None:
            return value
        return max(value, self.end) if self.rate < 1 else min(value, self.end)


@declare
class inverse_time(Schedule):
    """``start / (1 + rate * n / steps)``; in stairs of `steps` steps if `staircase`.

    Parameters
    ----------
    start : float
    rate : float
        At least 0.
    steps : int, default 1
    staircase : bool, default False
    """

    start: Real
    rate: Real
    steps: Steps = 1
    staircase: Flag = False

    def _check(self) -> None:
        self._require(self.rate >= 0, f"rate must be at least 0, got {self.rate}")

    def _value(self, n: int) -> float:
        return self.start / (1.0 + self.rate * (n // self.steps if self.staircase else n / self.steps))


@declare
class piecewise_constant(Schedule):
    """``values[0]``, then ``values[1]`` from step ``boundaries[0]`` on, and so on.

    Parameters
    ----------
    values : sequence of float
        One more than `boundaries`.
    boundaries : sequence of int
        Increasing, at least 0.
    style : {"optax", "torch", "timm", "keras"}
        At a boundary itself: all use the new value, but "keras" still the old one.
    """

    values: Reals
    boundaries: Counts
    style: Annotated[str, one_of("optax", "torch", "timm", "keras")] = "optax"

    def _check(self) -> None:
        require_boundaries(self, len(self.values), "values")

    def _value(self, n: int) -> float:
        place = bisect_left if self.style == "keras" else bisect_right
        return self.values[place(self.boundaries, n)]


def _read_factor(where: str, given: Any) -> float | tuple[float, ...]:
    return several(read_real)(where, given) if isinstance(given, Sequence) else read_real(where, given)


@declare
class multistep(Schedule):
    """`start`, multiplied by `factor` at each milestone.

    Parameters
    ----------
    start : float
    milestones : sequence of int
        In any order, at least 0; one that is named twice counts twice.
    factor : float, or sequence of float, default 0.1
        The same at each milestone, or one for each of `milestones`.
    """

    start: Real
    milestones: Counts
    factor: Annotated[float | Sequence[float], _read_factor] = 0.1

    def _check(self) -> None:
        if isinstance(self.factor, tuple):
            factors, milestones = len(self.factor), len(self.milestones)
            self._require(factors == milestones, f"expected {milestones} factors, one per milestone, got {factors}")

    def _value(self, n: int) -> float:
        if isinstance(self.factor, tuple):
            pairs = sorted(zip(self.milestones, self.factor, strict=True))
            return prod((factor for milestone, factor in pairs if milestone <= n), start=self.start)
        return self.start * self.factor ** sum(milestone <= n for milestone in self.milestones)  # type: ignore[operator]


@declare
class piecewise_interpolate(Schedule):
    """From value to value: ``values[i]`` at step ``boundaries[i - 1]`` (``values[0]`` at step 0), then the last.

    Parameters
    ----------
    values : sequence of float
        One more than `boundaries`.
    boundaries : sequence of int
        Increasing, at least 0.
    shape : {"linear", "cosine"}
        Straight lines, or half waves.
    """

    values: Reals
    boundaries: Counts
    shape: Annotated[str, one_of("linear", "cosine")] = "linear"

    def _check(self) -> None:
        require_boundaries(self, len(self.values), "values")

    def _value(self, n: int) -> float:
        i = bisect_right(self.boundaries, n)
        if i == len(self.boundaries):
            return self.values[-1]
        begin, end = self.boundaries[i - 1] if i else 0, self.boundaries[i]
        return mix(fall(self.shape, (n - begin) / (end - begin)), self.values[i], self.values[i + 1])


@declare
class multiplicative(Schedule):
    """``start * factor(1) * factor(2) * ... * factor(n)``, as ``torch.optim.lr_scheduler.MultiplicativeLR``.

    Parameters
    ----------
    start : float
    factor : callable ``step -> float``
        Called with steps from 1 on.

    Notes
    -----
    Costs one call when it is asked for one step after the other: the last product is kept, beside the value.
    """

    start: Real
    factor: Part

    def _value(self, n: int) -> float:
        known, product = self.__dict__.get("_last", (0, self.start))
        if known > n:
            known, product = 0, self.start
        for i in range(known + 1, n + 1):
            product *= float(self.factor(i))
        object.__setattr__(self, "_last", (n, product))
        return product


def half_wave(x: float) -> float:
    """From 1 at x = 0 to 0 at x = 1."""
    return 0.5 * (1.0 + cos(pi * x))


def fall(shape: str, x: float) -> float:
    """The weight of the first value at the share `x` of the way."""
    if shape == "cosine":
        return half_wave(x)
    return 1.0 - math.sqrt(x) if shape == "1-sqrt" else 1.0 - x


def require_boundaries(schedule: Any, pieces: int, name: str) -> None:
    boundaries = schedule.boundaries
    schedule._require(
        len(boundaries) == pieces - 1,
        f"boundaries must be one fewer than the {pieces} {name}, got {len(boundaries)}",
    )
    schedule._require(all(a < b for a, b in pairwise(boundaries)), f"boundaries must increase, got {boundaries}")
