"""Learning rates (and any other hyper-parameter) as pure functions of the step number.

A schedule is a small frozen object that is called like a function, ``schedule(step) -> float``:
float64 in plain Python arithmetic, no state, no clock.  Step ``n`` counts the updates already
made, so update number 0 uses ``schedule(0)``.  Being values, schedules can be printed, compared,
hashed, pickled and written as JSON (:meth:`Schedule.config`, :func:`from_config`).

The classes carry the lower-case names of functions because that is how they are used:
``optim.AdamW(params, lr=schedules.warmup_cosine(3e-4, 100, 1000))``.  Meanings follow Optax: the
total includes the warmup, the end value is held, and a boundary step already uses the new piece.
An interpolation is written ``w * a + (1 - w) * b`` so that both ends are met exactly.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from math import cos, isfinite, pi
from typing import Any

from ._core import DtypeError, ShapeError

__all__ = [
    "Schedule",
    "constant",
    "cosine",
    "from_config",
    "join",
    "linear",
    "warmup",
    "warmup_cosine",
]


@dataclass(frozen=True)
class Schedule:
    """Base of all schedules: ``schedule(step) -> float``.

    A subclass is a frozen dataclass with ``_value(n)``, which may rely on ``n >= 0``.
    """

    def __call__(self, step: int) -> float:
        """Value at update number `step`.

        Parameters
        ----------
        step : int
            Number of updates already made, at least 0.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If `step` is negative or the value is not finite.
        TypeError
            If `step` is not an integer.
        """
        try:
            n = operator.index(step)
        except TypeError:
            raise DtypeError(f"{self._name()}: step must be an integer, got {step!r}") from None
        if n < 0:
            raise ShapeError(f"{self._name()}: step must be at least 0, got {n}")
        value = self._value(n)
        if not isfinite(value):
            raise ShapeError(f"{self._name()}: the value at step {n} is not finite: {value}")
        return value

    def _value(self, n: int) -> float:
        raise NotImplementedError(f"{type(self).__name__} must define _value(n)")

    @classmethod
    def _name(cls) -> str:
        return cls.__name__

    def config(self) -> dict[str, Any]:
        """The schedule as JSON-ready data; :func:`from_config` is the inverse.

        Returns
        -------
        dict
            ``{"schedule": name, argument: value, ...}``.
        """
        return {"schedule": self._name(), **{f.name: getattr(self, f.name) for f in fields(self)}}

    # Arguments are normalised once, so that equality, printing and JSON see plain Python numbers.

    def _set_real(self, name: str) -> None:
        given = getattr(self, name)
        try:
            value = float(given)
        except (TypeError, ValueError):
            raise DtypeError(f"{self._name()}: {name} must be a number, got {given!r}") from None
        if not isfinite(value):
            raise ShapeError(f"{self._name()}: {name} must be finite, got {value}")
        object.__setattr__(self, name, value)

    def _set_count(self, name: str, least: int) -> None:
        given = getattr(self, name)
        try:
            value = operator.index(given)
        except TypeError:
            raise DtypeError(f"{self._name()}: {name} must be an integer, got {given!r}") from None
        if value < least:
            raise ShapeError(f"{self._name()}: {name} must be at least {least}, got {value}")
        object.__setattr__(self, name, value)


@dataclass(frozen=True)
class constant(Schedule):
    """The same value at every step.

    Parameters
    ----------
    value : float
    """

    value: float

    def __post_init__(self) -> None:
        self._set_real("value")

    def _value(self, n: int) -> float:
        return self.value


@dataclass(frozen=True)
class linear(Schedule):
    """A straight line from `start` at step 0 to `end` at step `steps`, then `end`.

    Parameters
    ----------
    start, end : float
    steps : int
        Length of the line, at least 1.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        self._set_real("start")
        self._set_real("end")
        self._set_count("steps", least=1)

    def _value(self, n: int) -> float:
        return _line(self.start, self.end, n, self.steps)


@dataclass(frozen=True)
class cosine(Schedule):
    """Half a cosine wave from `peak` at step 0 down to `end` at step `steps`, then `end`.

    ``end + (peak - end) * (1 + cos(pi * n / steps)) / 2``.

    Parameters
    ----------
    peak : float
    steps : int
        Length of the decay, at least 1.
    end : float, default 0.0

    References
    ----------
    Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
    equation 5, without restarts.
    """

    peak: float
    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        self._set_real("peak")
        self._set_real("end")
        self._set_count("steps", least=1)

    def _value(self, n: int) -> float:
        return _half_wave(self.peak, self.end, n, self.steps)


@dataclass(frozen=True)
class warmup(Schedule):
    """``peak * n / steps`` up to step `steps`, then `peak`; the first update has value 0.

    Parameters
    ----------
    peak : float
    steps : int
        Length of the warmup; 0 means `peak` from the start.

    References
    ----------
    Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.2.
    """

    peak: float
    steps: int

    def __post_init__(self) -> None:
        self._set_real("peak")
        self._set_count("steps", least=0)

    def _value(self, n: int) -> float:
        return _line(0.0, self.peak, n, self.steps)


@dataclass(frozen=True)
class warmup_cosine(Schedule):
    """Linear warmup from 0 to `peak`, then a cosine down to `end`, then `end`.

    Equal to ``join([warmup(peak, warmup_steps), cosine(peak, total_steps - warmup_steps, end)],
    [warmup_steps])``.

    Parameters
    ----------
    peak : float
    warmup_steps : int
        At least 0; the peak is reached at this step.
    total_steps : int
        Warmup included; more than `warmup_steps`.  The end is reached at this step.
    end : float, default 0.0
    """

    peak: float
    warmup_steps: int
    total_steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        self._set_real("peak")
        self._set_real("end")
        self._set_count("warmup_steps", least=0)
        self._set_count("total_steps", least=1)
        if self.total_steps <= self.warmup_steps:
            raise ShapeError(
                f"warmup_cosine: total_steps includes the warmup and must be more than "
                f"warmup_steps = {self.warmup_steps}, got {self.total_steps}"
            )

    def _value(self, n: int) -> float:
        if n < self.warmup_steps:
            return _line(0.0, self.peak, n, self.warmup_steps)
        decay_steps = self.total_steps - self.warmup_steps
        return _half_wave(self.peak, self.end, n - self.warmup_steps, decay_steps)


@dataclass(frozen=True)
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

    schedules: Sequence[Callable[[int], float]]
    boundaries: Sequence[int]

    def __post_init__(self) -> None:
        pieces = tuple(self.schedules)
        if not pieces:
            raise ShapeError("join: schedules must not be empty")
        for i, piece in enumerate(pieces):
            if not callable(piece):
                raise DtypeError(f"join: schedules[{i}] must be callable, got {piece!r}")
        try:
            boundaries = tuple(operator.index(b) for b in self.boundaries)
        except TypeError:
            raise DtypeError(f"join: boundaries must be integers, got {self.boundaries!r}") from None
        if len(boundaries) != len(pieces) - 1:
            raise ShapeError(
                f"join: boundaries must be one fewer than the {len(pieces)} schedules, got {len(boundaries)}"
            )
        if any(b <= a for a, b in pairwise((0, *boundaries))):
            raise ShapeError(f"join: boundaries must increase from at least 1, got {boundaries}")
        object.__setattr__(self, "schedules", pieces)
        object.__setattr__(self, "boundaries", boundaries)

    def _value(self, n: int) -> float:
        piece, start = self.schedules[0], 0
        for candidate, boundary in zip(self.schedules[1:], self.boundaries, strict=True):
            if n < boundary:
                break
            piece, start = candidate, boundary
        return float(piece(n - start))

    def config(self) -> dict[str, Any]:
        pieces = []
        for i, piece in enumerate(self.schedules):
            if not isinstance(piece, Schedule):
                raise DtypeError(f"join: schedules[{i}] = {piece!r} has no config")
            pieces.append(piece.config())
        return {"schedule": "join", "schedules": pieces, "boundaries": list(self.boundaries)}


_REGISTRY: dict[str, type[Schedule]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "warmup": warmup,
    "warmup_cosine": warmup_cosine,
    "join": join,
}


def from_config(config: Mapping[str, Any]) -> Schedule:
    """Rebuild a schedule from :meth:`Schedule.config`.

    Parameters
    ----------
    config : mapping
        ``{"schedule": name, argument: value, ...}``.

    Returns
    -------
    Schedule

    Raises
    ------
    ValueError
        If the name or an argument is unknown, or an argument is missing or out of range.
    """
    arguments = dict(config)
    name = arguments.pop("schedule", None)
    if name not in _REGISTRY:
        raise ShapeError(f"schedule must be one of {', '.join(_REGISTRY)}, got {name!r}")
    kind = _REGISTRY[name]
    known = [f.name for f in fields(kind)]
    unknown = [key for key in arguments if key not in known]
    if unknown:
        raise ShapeError(f"{name}: unknown arguments {unknown}; known are {known}")
    if kind is join and "schedules" in arguments:
        arguments["schedules"] = [from_config(piece) for piece in arguments["schedules"]]
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ShapeError(f"{name}: {error}") from error


def _line(start: float, end: float, n: int, steps: int) -> float:
    if n >= steps:
        return end
    w = n / steps
    return (1.0 - w) * start + w * end


def _half_wave(peak: float, end: float, n: int, steps: int) -> float:
    if n >= steps:
        return end
    w = 0.5 * (1.0 + cos(pi * (n / steps)))
    return w * peak + (1.0 - w) * end
