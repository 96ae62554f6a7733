"""Schedules made of schedules.  Every part may be any function of the step; only Schedules can be written as data."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise
from math import expm1, floor, log, log1p, prod
from typing import Annotated

from .._core import DtypeError, ShapeError
from .base import (
    Counts,
    Flag,
    Integer,
    MaybeReal,
    MaybeSteps,
    Part,
    Parts,
    Positive,
    Real,
    Schedule,
    declare,
    mix,
    one_of,
    read_function,
    read_real,
)
from .decay import Decay

__all__ = ["chain", "clip", "join", "multiply", "offset", "restarts", "scale", "shift"]


@declare
class join(Schedule):
    """One schedule after another; each is called with the steps since its own boundary.

    Parameters
    ----------
    schedules : sequence of callables ``step -> float``
        At least one.
    boundaries : sequence of int
        ``boundaries[i]`` is the first step of ``schedules[i + 1]``; increasing, all at least 1,
        one fewer than `schedules`.
    """

    schedules: Parts
    boundaries: Counts

    def _check(self) -> None:
        pieces, boundaries = len(self.schedules), self.boundaries
        self._require(pieces > 0, "schedules must not be empty")
        self._require(
            len(boundaries) == pieces - 1,
            f"boundaries must be one fewer than the {pieces} schedules, got {len(boundaries)}",
        )
        self._require(
            all(a < b for a, b in pairwise((0, *boundaries))),
            f"boundaries must increase from at least 1, got {boundaries}",
        )

    def _value(self, n: int) -> float:
        i = bisect_right(self.boundaries, n)
        return self.schedules[i](n - (self.boundaries[i - 1] if i else 0))


@declare
class chain(Schedule):
    """One schedule after another, by their lengths; the last goes on, or all of it repeats.

    Parameters
    ----------
    schedules : sequence of callables ``step -> float``
        At least one; each is called with the steps since its own beginning.
    lengths : sequence of int
        How many steps each lasts, at least 1; that of the last may be left out if `repeat` is False.
    repeat : bool, default False
        Begin again after the last.
    """

    schedules: Parts
    lengths: Counts
    repeat: Flag = False

    def _check(self) -> None:
        pieces, lengths = len(self.schedules), len(self.lengths)
        self._require(pieces > 0, "schedules must not be empty")
        self._require(all(n >= 1 for n in self.lengths), f"lengths must be at least 1, got {self.lengths}")
        fits = lengths == pieces or (lengths == pieces - 1 and not self.repeat)
        self._require(fits, f"expected a length for each of the {pieces} schedules, got {lengths}")

    def _value(self, n: int) -> float:
        ends = list(accumulate(self.lengths))
        if self.repeat:
            n %= ends[-1]
        i = bisect_right(ends[: len(self.schedules) - 1], n)
        return self.schedules[i](n - (ends[i - 1] if i else 0))


@declare
class multiply(Schedule):
    """The product of schedules: a rate, and factors for it (chained schedulers are this).

    Parameters
    ----------
    schedules : sequence of callables ``step -> float``
        At least one.
    """

    schedules: Parts

    def _check(self) -> None:
        self._require(len(self.schedules) > 0, "schedules must not be empty")

    def _value(self, n: int) -> float:
        return prod(float(schedule(n)) for schedule in self.schedules)


@declare
class scale(Schedule):
    """``factor * of(n)``.

    Parameters
    ----------
    of : callable ``step -> float``
    factor : float
    """

    of: Part
    factor: Real

    def _value(self, n: int) -> float:
        return self.factor * self.of(n)


@declare
class offset(Schedule):
    """``of(n) + amount``.

    Parameters
    ----------
    of : callable ``step -> float``
    amount : float
    """

    of: Part
    amount: Real

    def _value(self, n: int) -> float:
        return self.of(n) + self.amount


@declare
class shift(Schedule):
    """``of(n - steps)``, and its first value before that: it begins `steps` steps later (Optax's
    ``transition_begin``), or is already ``-steps`` steps old.

    Parameters
    ----------
    of : callable ``step -> float``
    steps : int
        May be negative.
    """

    of: Part
    steps: Integer

    def _value(self, n: int) -> float:
        return self.of(max(0, n - self.steps))


@declare
class clip(Schedule):
    """``of(n)``, no less than `low` and no more than `high`.

    Parameters
    ----------
    of : callable ``step -> float``
    low, high : float, optional
        At least one of them; ``low <= high``.
    """

    of: Part
    low: MaybeReal = None
    high: MaybeReal = None

    def _check(self) -> None:
        self._require(self.low is not None or self.high is not None, "low or high must be given")
        if self.low is not None and self.high is not None:
            self._require(self.low <= self.high, f"low must be at most high, got {self.low} and {self.high}")

    def _value(self, n: int) -> float:
        value = self.of(n)
        if self.low is not None:
            value = max(value, self.low)
        return value if self.high is None else min(value, self.high)


def _read_decay(where: str, given: object) -> Decay:
    read_function(where, given)
    if not isinstance(given, Decay):
        raise DtypeError(f"{where} must be linear, polynomial, cosine or tanh, got {given!r}")
    return given


def _read_at_least_one(where: str, given: object) -> float:
    value = read_real(where, given)
    if value < 1:
        raise ShapeError(f"{where} must be at least 1, got {value}")
    return value


@declare
class restarts(Schedule):
    """A decay again and again (warm restarts): cycle i lasts ``steps * length_factor ** i`` steps.

    Parameters
    ----------
    decay : linear, polynomial, cosine or tanh
        The first cycle.
    length_factor : float, default 1.0
        At least 1.
    peak_factor : float, default 1.0
        More than 0; what is multiplied by ``peak_factor ** i``, says `style`.
    cycles : int, optional
        After so many the end of `decay` is held.  None: there is no end.
    style : {"torch", "timm", "keras"}
        What `peak_factor` lowers: "timm" the peak itself, "keras" the height of the peak above the end; "torch" has
        no such factor.

    Notes
    -----
    Where a cycle begins is exact to 1e-12; Keras and timm take it from a logarithm, which at some boundaries puts
    them one step late (``length_factor=3``, the fifth restart).

    References
    ----------
    Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017.
    """

    decay: Annotated[Decay, _read_decay]
    length_factor: Annotated[float, _read_at_least_one] = 1.0
    peak_factor: Positive = 1.0
    cycles: MaybeSteps = None
    style: Annotated[str, one_of("torch", "timm", "keras")] = "torch"

    def _check(self) -> None:
        self._require(
            self.style != "torch" or self.peak_factor == 1,
            "torch has no peak_factor; style='timm' lowers the peak, style='keras' its height above the end",
        )

    def _value(self, n: int) -> float:
        return self._at(n)

    def _at(self, n: float) -> float:
        """At a step that need not be whole."""
        cycle, x = self._place(n / self.decay.steps)
        first, last = self.decay._ends
        if self.cycles is not None and cycle >= self.cycles:
            return last
        weight, lower = self.decay._fall(x), self.peak_factor**cycle
        return mix(lower * weight, first, last) if self.style == "keras" else mix(weight, lower * first, last)

    def _place(self, x: float) -> tuple[int, float]:
        """The cycle, and the share of it that is over, after `x` lengths of the first."""
        q = self.length_factor
        if q == 1:
            return floor(x), x - floor(x)

        def begin(i: int) -> float:
            return expm1(i * log(q)) / (q - 1.0)

        i = floor(log1p(x * (q - 1.0)) / log(q))
        if begin(i + 1) <= x * (1.0 + 1e-12):
            i += 1
        elif begin(i) > x * (1.0 + 1e-12):
            i -= 1
        return i, max(0.0, (x - begin(i)) / q**i)
