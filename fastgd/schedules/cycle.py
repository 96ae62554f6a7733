"""Up and down again: the one-cycle policy, triangular cycles, and the momentum that moves against the rate."""

from __future__ import annotations

from itertools import pairwise
from math import floor
from typing import Annotated

from .base import (
    Flag,
    MaybeFunction,
    MaybeSteps,
    Positive,
    Real,
    Schedule,
    Share,
    Steps,
    declare,
    mix,
    one_of,
)
from .decay import fall

__all__ = ["cyclic", "one_cycle", "one_cycle_momentum"]


def phases(total_steps: int, pct_start: float, three_phase: bool) -> list[float]:
    """The steps at which torch's phases end."""
    first = pct_start * total_steps - 1.0
    return [first, *([2.0 * pct_start * total_steps - 2.0] if three_phase else []), total_steps - 1.0]


def walk(n: int, ends: list[float], values: list[float], shape: str) -> float:
    """From ``values[i]`` to ``values[i + 1]`` while n <= ends[i]; past the last end the last piece goes on."""
    pieces = list(zip(pairwise([0.0, *ends]), pairwise(values), strict=True))
    (begin, end), (a, b) = next((piece for piece in pieces if n <= piece[0][1]), pieces[-1])
    return mix(fall(shape, (n - begin) / (end - begin)), a, b) if end != begin else b


def require_order(schedule: Schedule, ends: list[float]) -> None:
    schedule._require(
        all(a <= b for a, b in pairwise(ends)), f"expected phases that end one after the other, got ends {ends}"
    )


class _OneCycle(Schedule):
    total_steps: int
    pct_start: float
    three_phase: bool

    def _check_phases(self) -> None:
        require_order(self, phases(self.total_steps, self.pct_start, self.three_phase))

    def _walk(self, n: int, values: list[float], shape: str) -> float:
        if n > self.total_steps:
            raise self._past_the_end(n, self.total_steps)
        return walk(n, phases(self.total_steps, self.pct_start, self.three_phase), values, shape)


@declare
class one_cycle(_OneCycle):
    """From ``peak / div_factor`` up to `peak` and down to ``peak / (div_factor * final_div_factor)``.

    Parameters
    ----------
    peak : float
    total_steps : int
    pct_start : float, default 0.3
        The share of the steps that goes up.
    div_factor, final_div_factor : float, default 25.0 and 1e4
        More than 0.
    shape : {"cosine", "linear"}
    three_phase : bool, default False
        Down to the first value as fast as it went up, then to the last ("torch").
    pct_final : float, default 0.85
        Where the second of three linear phases ends ("optax", shape "linear").
    style : {"torch", "optax"}
        - "torch": the phases end at ``pct_start * total_steps - 1`` and ``total_steps - 1``.  Step `total_steps`,
          one too many, goes on with the last phase; after that an error.
        - "optax": they end at ``int(pct_start * total_steps)`` and `total_steps`; with shape "linear" the rate falls
          to the first value until ``int(pct_final * total_steps)``.  The last value is held.

    References
    ----------
    Smith & Topin, "Super-Convergence", 2018.
    """

    peak: Real
    total_steps: Steps
    pct_start: Share = 0.3
    div_factor: Positive = 25.0
    final_div_factor: Positive = 1e4
    shape: Annotated[str, one_of("cosine", "linear")] = "cosine"
    three_phase: Flag = False
    pct_final: Share = 0.85
    style: Annotated[str, one_of("torch", "optax")] = "torch"

    def _check(self) -> None:
        if self.style == "torch":
            self._require(self.pct_final == 0.85, f"pct_final needs style='optax', got {self.pct_final}")
            self._check_phases()
            return
        self._require(not self.three_phase, "three_phase needs style='torch'")
        require_order(self, self._optax_ends())

    def _optax_ends(self) -> list[float]:
        middle = [int(self.pct_final * self.total_steps)] if self.shape == "linear" else []
        return [int(self.pct_start * self.total_steps), *middle, self.total_steps]

    def _value(self, n: int) -> float:
        first = self.peak / self.div_factor
        last = first / self.final_div_factor
        if self.style == "torch":
            return self._walk(n, [first, self.peak, *([first] if self.three_phase else []), last], self.shape)
        if n >= self.total_steps:
            return last
        middle = [first] if self.shape == "linear" else []
        return walk(n, self._optax_ends(), [first, self.peak, *middle, last], self.shape)


@declare
class one_cycle_momentum(_OneCycle):
    """The momentum (or the first of the betas) beside :func:`one_cycle`: `high` where the rate is low.

    Parameters
    ----------
    total_steps : int
    low, high : float, default 0.85 and 0.95
    pct_start : float, default 0.3
    shape : {"cosine", "linear"}
    three_phase : bool, default False

    Notes
    -----
    torch's phases; past step `total_steps` an error.
    """

    total_steps: Steps
    low: Real = 0.85
    high: Real = 0.95
    pct_start: Share = 0.3
    shape: Annotated[str, one_of("cosine", "linear")] = "cosine"
    three_phase: Flag = False

    def _check(self) -> None:
        self._check_phases()

    def _value(self, n: int) -> float:
        values = [self.high, self.low, self.high, *([self.high] if self.three_phase else [])]
        return self._walk(n, values, self.shape)


@declare
class cyclic(Schedule):
    """Triangles from `start` to `peak` and back, for ever (torch's CyclicLR).

    Its momentum moves the other way: ``cyclic(0.9, 0.8, ...)`` beside ``cyclic(base_lr, max_lr, ...)``.

    Parameters
    ----------
    start, peak : float
    steps_up : int, default 2000
    steps_down : int, optional
        Default: `steps_up`.
    mode : {"triangular", "triangular2", "exp_range"}
        The height of the triangles: constant; halved after each; times ``gamma ** n`` at step n.
    gamma : float, default 1.0
        More than 0.
    scale_fn : callable, optional
        In the place of `mode`: the height, as a function of the number of the cycle, from 1, or of the step.
    scale_mode : {"cycle", "iterations"}
        What `scale_fn` is called with.

    References
    ----------
    Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017.
    """

    start: Real
    peak: Real
    steps_up: Steps = 2000
    steps_down: MaybeSteps = None
    mode: Annotated[str, one_of("triangular", "triangular2", "exp_range")] = "triangular"
    gamma: Positive = 1.0
    scale_fn: MaybeFunction = None
    scale_mode: Annotated[str, one_of("cycle", "iterations")] = "cycle"

    def _value(self, n: int) -> float:
        down = self.steps_up if self.steps_down is None else self.steps_down
        total = float(self.steps_up + down)
        cycle = floor(1.0 + n / total)
        x, ratio = 1.0 + n / total - cycle, self.steps_up / total
        share = x / ratio if x <= ratio else (x - 1.0) / (ratio - 1.0)
        return self.start + (self.peak - self.start) * share * self._height(cycle, n)

    def _height(self, cycle: int, n: int) -> float:
        if self.scale_fn is not None:
            return self.scale_fn(cycle if self.scale_mode == "cycle" else n)
        if self.mode == "triangular2":
            return 0.5 ** (cycle - 1)
        return self.gamma**n if self.mode == "exp_range" else 1.0
