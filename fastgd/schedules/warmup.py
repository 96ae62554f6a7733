"""A rise before the decay, in each of the ways that libraries have: what differs is where the first step stands,
whether the total includes the warmup, and what happens past the end.  docs/schedules.md has the table.
"""

from __future__ import annotations

from math import cos, log, pi, sqrt
from typing import Annotated, Any

from .base import (
    Count,
    Flag,
    MaybeReal,
    MaybeSteps,
    Part,
    Positive,
    Real,
    Schedule,
    Steps,
    declare,
    mix,
    one_of,
)
from .decay import exponential, fall, half_wave

__all__ = [
    "inverse_sqrt",
    "warmup",
    "warmup_cosine",
    "warmup_cosine_restarts",
    "warmup_exponential",
    "warmup_linear",
    "warmup_polynomial",
    "warmup_stable_decay",
    "with_warmup",
]

Shape = Annotated[str, one_of("linear", "cosine", "1-sqrt")]


# ---- the rise ------------------------------------------------------------------------------------------


def rise_length(style: str, steps: int) -> int:
    """Steps in which the peak is not reached yet."""
    return max(2, steps) if style == "deepspeed" else steps


def rise(style: str, n: int, steps: int, peak: float, start: float | None, shape: str = "linear") -> float:
    """The value at step n < rise_length(style, steps); `start` None: what the style starts with."""
    if style == "llm.c":
        x = (n + 1) / steps
    elif style == "deepspeed":
        x = log(n + 1) / log(max(2, steps))
    elif style == "transformers-min-lr":
        x = (n + 1) / steps if start is None else n / max(1, steps - 1)
    else:
        x = n / steps
    if start is None:
        start = peak / 3.0 if style == "torch" else 0.0
    if shape == "cosine":
        x = 0.5 * (1.0 - cos(pi * x))
    elif shape == "1-sqrt":
        x = 1.0 - sqrt(1.0 - x)
    return mix(x, peak, start)


def require_length(schedule: Any, steps: int, name: str) -> None:
    least = 1 if schedule.style == "deepspeed" else 0
    schedule._require(steps >= least, f"{name} must be at least {least}, got {steps}; style={schedule.style!r}")


@declare
class warmup(Schedule):
    """From `start` up to `peak`, then `peak`; by default the first update has value 0.

    Parameters
    ----------
    peak : float
    steps : int
        Length W of the warmup; 0 means `peak` from the start.
    start : float, optional
        Default: 0, but ``peak / 3`` for "torch".
    shape : {"linear", "cosine", "1-sqrt"}
    style : {"optax", "keras", "transformers", "timm", "torch", "llm.c", "deepspeed"}
        The share of the way at step n is ``n / W``; ``(n + 1) / W`` for "llm.c"; ``log(n + 1) / log(max(2, W))`` for
        "deepspeed".

    References
    ----------
    Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.2.
    """

    peak: Real
    steps: Count
    start: MaybeReal = None
    shape: Shape = "linear"
    style: Annotated[str, one_of("optax", "keras", "transformers", "timm", "torch", "llm.c", "deepspeed")] = "optax"

    def _check(self) -> None:
        require_length(self, self.steps, "steps")

    def _value(self, n: int) -> float:
        if n >= rise_length(self.style, self.steps):
            return self.peak
        return rise(self.style, n, self.steps, self.peak, self.start, self.shape)


@declare
class with_warmup(Schedule):
    """Any schedule, with a warmup before it.

    Parameters
    ----------
    of : callable ``step -> float``
    steps : int
        Length of the warmup.
    start : float, optional
        Default: 0, but a third of the peak for "torch".
    peak : float, optional
        What the warmup leads to.  Default: ``of(0)``.
    style : {"optax", "keras", "transformers", "timm", "torch", "llm.c", "deepspeed"}
        The rise is that of :func:`warmup`.  `of` begins after the warmup, but with "timm" it began at step 0,
        the warmup takes the place of its first steps, and there is a jump (timm's ``warmup_prefix=False``;
        ``warmup_prefix=True`` is "optax").
    """

    of: Part
    steps: Count
    start: MaybeReal = None
    peak: MaybeReal = None
    style: Annotated[str, one_of("optax", "keras", "transformers", "timm", "torch", "llm.c", "deepspeed")] = "optax"

    def _check(self) -> None:
        require_length(self, self.steps, "steps")

    def _value(self, n: int) -> float:
        length = rise_length(self.style, self.steps)
        if n >= length:
            return self.of(n if self.style == "timm" else n - length)
        peak = self.of(0) if self.peak is None else self.peak
        return rise(self.style, n, self.steps, peak, self.start)


# ---- rise and fall -------------------------------------------------------------------------------------


class _WarmupDecay(Schedule):
    """What the schedules of a warmup and a decay of known length have in common."""

    peak: float
    warmup_steps: int
    total_steps: int
    start: float | None
    style: str

    def _check(self) -> None:
        require_length(self, self.warmup_steps, "warmup_steps")
        self._require(
            self.style == "keras" or self.total_steps > self.warmup_steps,
            f"total_steps includes the warmup and must be more than warmup_steps = {self.warmup_steps}, "
            f"got {self.total_steps}",
        )

    def _value(self, n: int) -> float:
        length = rise_length(self.style, self.warmup_steps)
        if n < length:
            return rise(self.style, n, self.warmup_steps, self.peak, self.start)
        if self.style == "llm.c" and n > self.total_steps:
            raise self._past_the_end(n, self.total_steps)
        return self._decay(self._share(n, length))

    def _share(self, n: int, length: int) -> float:
        """The share of the decay that is over; past the end more than 1."""
        if self.style == "timm":
            return n / self.total_steps
        if self.style == "keras":
            return (n - length) / self.total_steps
        return (n - length) / max(1, self.total_steps - length)

    def _decay(self, x: float) -> float:
        raise NotImplementedError


@declare
class warmup_cosine(_WarmupDecay):
    """Linear warmup to `peak`, then a cosine down to `end`, then `end`.

    By default equal to ``join([warmup(peak, warmup_steps), cosine(peak, total_steps - warmup_steps, end)],
    [warmup_steps])``.

    Parameters
    ----------
    peak : float
    warmup_steps : int
        At least 0; the peak is reached at this step.
    total_steps : int
        Warmup included; more than `warmup_steps`.  The end is reached at this step.
    end : float, default 0.0
    start : float, optional
        Default: 0.
    exponent : float, default 1.0
        Of the falling half wave; more than 0 (Optax).
    cycles : float, default 0.5
        Waves in the decay, with the styles of transformers.
    style : {"optax", "keras", "transformers", "transformers-min-lr", "timm", "llm.c", "deepspeed"}
        - "keras": `total_steps` does not include the warmup.
        - "transformers": past the end it rises again.
        - "transformers-min-lr" (transformers' ``cosine_warmup_with_min_lr``): the same; warmup (n + 1) / W, without
          `start`, and the cosine is one step ahead.
        - "timm": the cosine began at step 0; the warmup takes the place of its first steps.
        - "llm.c": warmup (n + 1) / W; past the end an error.
        - "deepspeed": logarithmic warmup; the cosine is one step ahead.
    """

    peak: Real
    warmup_steps: Count
    total_steps: Steps
    end: Real = 0.0
    start: MaybeReal = None
    exponent: Positive = 1.0
    cycles: Positive = 0.5
    style: Annotated[
        str, one_of("optax", "keras", "transformers", "transformers-min-lr", "timm", "llm.c", "deepspeed")
    ] = "optax"

    def _check(self) -> None:
        super()._check()
        waves = self.style.startswith("transformers")
        self._require(waves or self.cycles == 0.5, f"cycles needs style='transformers', got {self.cycles}")

    def _share(self, n: int, length: int) -> float:
        ahead = self.style in ("transformers-min-lr", "deepspeed")
        return super()._share(n + 1 if ahead else n, length)

    def _decay(self, x: float) -> float:
        if self.style.startswith("transformers"):
            return max(0.0, mix(half_wave(2.0 * self.cycles * x) ** self.exponent, self.peak, self.end))
        return self.end if x >= 1 else mix(half_wave(x) ** self.exponent, self.peak, self.end)


@declare
class warmup_cosine_restarts(_WarmupDecay):
    """Linear warmup from 0 to `peak`, then `cycles` cosines of equal length, each from `peak` down, then 0
    (transformers' ``cosine_with_restarts``).

    Parameters
    ----------
    peak : float
    warmup_steps : int
        At least 0.
    total_steps : int
        Warmup included.
    cycles : int, default 1
    """

    peak: Real
    warmup_steps: Count
    total_steps: Steps
    cycles: Steps = 1
    start: MaybeReal = None
    style: Annotated[str, one_of("transformers")] = "transformers"

    def _decay(self, x: float) -> float:
        return 0.0 if x >= 1 else self.peak * half_wave(self.cycles * x % 1.0)


@declare
class warmup_polynomial(_WarmupDecay):
    """Linear warmup to `peak`, then ``end + (peak - end) * (1 - x) ** power`` over the rest, then `end`.

    Parameters
    ----------
    peak : float
    warmup_steps : int
        At least 0.
    total_steps : int
        Warmup included; more than `warmup_steps`.
    end : float, default 0.0
        transformers' own default is 1e-7.
    power : float, default 1.0
        More than 0.
    start : float, optional
        Default: 0.
    style : {"optax", "keras", "transformers", "timm", "llm.c", "deepspeed"}
        As for :func:`warmup_cosine`.
    """

    peak: Real
    warmup_steps: Count
    total_steps: Steps
    end: Real = 0.0
    power: Positive = 1.0
    start: MaybeReal = None
    style: Annotated[str, one_of("optax", "keras", "transformers", "timm", "llm.c", "deepspeed")] = "optax"

    def _decay(self, x: float) -> float:
        return self.end if x >= 1 else mix((1.0 - x) ** self.power, self.peak, self.end)


@declare
class warmup_linear(_WarmupDecay):
    """Linear warmup to `peak`, then a straight line down to `end`, then `end`.

    Parameters
    ----------
    peak : float
    warmup_steps : int
        At least 0.
    total_steps : int
        Warmup included; more than `warmup_steps`.
    end : float, default 0.0
    start : float, optional
        Default: 0.
    style : {"optax", "keras", "transformers", "timm", "llm.c", "deepspeed"}
        As for :func:`warmup_cosine`; "deepspeed" is its WarmupDecayLR.
    """

    peak: Real
    warmup_steps: Count
    total_steps: Steps
    end: Real = 0.0
    start: MaybeReal = None
    style: Annotated[str, one_of("optax", "keras", "transformers", "timm", "llm.c", "deepspeed")] = "optax"

    def _decay(self, x: float) -> float:
        return self.end if x >= 1 else mix(1.0 - x, self.peak, self.end)


@declare
class warmup_exponential(Schedule):
    """Linear warmup from `start` to `peak`, then :func:`exponential` (Optax's warmup_exponential_decay).

    Parameters
    ----------
    peak : float
    warmup_steps : int
        At least 0.
    rate : float
        More than 0.
    steps : int, default 1
        Steps in which the value is multiplied by `rate` once.
    staircase : bool, default False
    end : float, optional
        The decay goes no further than this.
    start : float, default 0.0
    """

    peak: Real
    warmup_steps: Count
    rate: Positive
    steps: Steps = 1
    staircase: Flag = False
    end: MaybeReal = None
    start: Real = 0.0

    def _value(self, n: int) -> float:
        if n < self.warmup_steps:
            return rise("optax", n, self.warmup_steps, self.peak, self.start)
        return exponential(self.peak, self.rate, self.steps, self.staircase, self.end)(n - self.warmup_steps)


@declare
class warmup_stable_decay(Schedule):
    """Warmup to `peak`, `peak` for most of the time, and a decay to `end` at the end ("WSD", trapezoid).

    Parameters
    ----------
    peak : float
    warmup_steps : int
        At least 0.
    total_steps : int
        Everything included.
    decay_steps : int, optional
        Length of the decay.  Default: the last fifth of all steps, rounded up.
    end : float, default 0.0
    start : float, optional
        Default: `end`, as transformers has it; 0 for "llm.c".
    warmup_shape : {"linear", "cosine", "1-sqrt"}
    decay_shape : {"1-sqrt", "linear", "cosine"}
        transformers' default is "cosine".
    cycles : float, default 0.5
        Waves in a decay of shape "cosine".
    style : {"transformers", "llm.c"}
        The share of the warmup at step n is ``n / warmup_steps``, past the end `end` is held; with "llm.c"
        ``(n + 1) / warmup_steps``, and past the end an error.

    References
    ----------
    Hu et al., "MiniCPM", 2024; Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations", NeurIPS 2024 (the shape 1 - sqrt).
    """

    peak: Real
    warmup_steps: Count
    total_steps: Steps
    decay_steps: MaybeSteps = None
    end: Real = 0.0
    start: MaybeReal = None
    warmup_shape: Shape = "linear"
    decay_shape: Shape = "1-sqrt"
    cycles: Positive = 0.5
    style: Annotated[str, one_of("transformers", "llm.c")] = "transformers"

    def _check(self) -> None:
        self._require(
            self.warmup_steps <= self._decay_begin,
            f"warmup_steps and decay_steps must fit into total_steps = {self.total_steps}, got {self.warmup_steps} "
            f"and {self.total_steps - self._decay_begin}",
        )
        self._require(
            self.cycles == 0.5 or self.decay_shape == "cosine", f"cycles needs decay_shape='cosine', got {self.cycles}"
        )

    @property
    def _decay_begin(self) -> int:
        return 4 * self.total_steps // 5 if self.decay_steps is None else self.total_steps - self.decay_steps

    def _value(self, n: int) -> float:
        if n < self.warmup_steps:
            start = self.end if self.start is None and self.style == "transformers" else self.start
            return max(0.0, rise(self.style, n, self.warmup_steps, self.peak, start, self.warmup_shape))
        begin = self._decay_begin
        if n < begin:
            return self.peak
        if self.style == "llm.c" and n > self.total_steps:
            raise self._past_the_end(n, self.total_steps)
        if n >= self.total_steps:
            return self.end
        x = (n - begin) / (self.total_steps - begin)
        x = 2.0 * self.cycles * x if self.decay_shape == "cosine" else x
        return max(0.0, mix(fall(self.decay_shape, x), self.peak, self.end))


@declare
class inverse_sqrt(Schedule):
    """Linear warmup from 0 to `peak`, then ``peak / sqrt((n + timescale - warmup_steps) / timescale)``, without end.

    Parameters
    ----------
    peak : float
    warmup_steps : int, default 0
    timescale : int, optional
        Steps in which the square of the rate halves for the first time.  Default: `warmup_steps`, or 10,000 if that
        is 0 (transformers).  With ``timescale == warmup_steps`` it is the schedule of "Attention Is All You Need".

    References
    ----------
    Vaswani et al., NeurIPS 2017, equation 3; Zhai et al., "Scaling Vision Transformers", 2021, for the time scale.
    """

    peak: Real
    warmup_steps: Count = 0
    timescale: MaybeSteps = None

    def _value(self, n: int) -> float:
        if n < self.warmup_steps:
            return rise("transformers", n, self.warmup_steps, self.peak, None)
        timescale = self.timescale or self.warmup_steps or 10_000
        return self.peak / sqrt((n + timescale - self.warmup_steps) / timescale)
