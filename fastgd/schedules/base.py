"""What a schedule is: a small frozen value that is called like a function, ``schedule(step) -> float``.

float64 in plain Python arithmetic, no state, no clock.  Step ``n`` counts the updates already made, so update
number 0 uses ``schedule(0)``, and resuming at step n needs nothing but n.  Being values, schedules can be printed,
compared, hashed, copied, pickled and written as JSON (:meth:`Schedule.config`).

A schedule is a declaration: a class with the lower-case name of a function, whose fields are its arguments and whose
``_value(n)`` is its formula.  The annotation of a field says what is accepted (:data:`Real`, :data:`Steps`
...); arguments are read once, so that equality, printing and JSON see plain Python numbers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from math import inf, isfinite
from typing import Annotated, Any, TypeVar, cast, dataclass_transform, get_args, get_origin, get_type_hints

from .._core import DtypeError, ShapeError

__all__ = ["Function", "Schedule", "declare"]

#: What compositions accept: a Schedule, or any function of the step.
Function = Callable[[int], float]

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def declare(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass that keeps the printing of :class:`Schedule`."""
    return cast(type[T], dataclass(frozen=True, repr=False)(cls))


# ---- kinds of arguments: where, what came -> the value that is kept -----------------------------------


def read_real(where: str, given: Any) -> float:
    try:
        value = float(given)
    except (TypeError, ValueError):
        raise DtypeError(f"{where} must be a number, got {given!r}") from None
    if not isfinite(value):
        raise ShapeError(f"{where} must be finite, got {value}")
    return value


def read_positive(where: str, given: Any) -> float:
    value = read_real(where, given)
    if not value > 0:
        raise ShapeError(f"{where} must be more than 0, got {value}")
    return value


def read_share(where: str, given: Any) -> float:
    value = read_real(where, given)
    if not 0 <= value <= 1:
        raise ShapeError(f"{where} must be from 0 to 1, got {value}")
    return value


def read_integer(where: str, given: Any) -> int:
    try:
        return operator.index(given)
    except TypeError:
        raise DtypeError(f"{where} must be an integer, got {given!r}") from None


def read_count(where: str, given: Any, least: int = 0) -> int:
    value = read_integer(where, given)
    if value < least:
        raise ShapeError(f"{where} must be at least {least}, got {value}")
    return value


def read_steps(where: str, given: Any) -> int:
    return read_count(where, given, least=1)


def read_flag(where: str, given: Any) -> bool:
    if not isinstance(given, bool):
        raise DtypeError(f"{where} must be True or False, got {given!r}")
    return given


def read_function(where: str, given: Any) -> Function:
    if not callable(given):
        raise DtypeError(f"{where} must be callable, got {given!r}")
    return given


def optional(read: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda where, given: None if given is None else read(where, given)


def several(read: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    def read_all(where: str, given: Any) -> tuple:
        if isinstance(given, (str, Mapping)) or not hasattr(given, "__iter__"):
            raise DtypeError(f"{where} must be a sequence, got {given!r}")
        return tuple([read(f"{where}[{i}]", one) for i, one in enumerate(given)])

    return read_all


def one_of(*allowed: str) -> Callable[[str, Any], str]:
    def read(where: str, given: Any) -> str:
        if given not in allowed:
            raise ShapeError(f"{where} must be one of {', '.join(allowed)}, got {given!r}")
        return given

    return read


Real = Annotated[float, read_real]
Positive = Annotated[float, read_positive]
Share = Annotated[float, read_share]  # 0 <= value <= 1
Count = Annotated[int, read_count]  # at least 0
Steps = Annotated[int, read_steps]  # at least 1
Integer = Annotated[int, read_integer]
Flag = Annotated[bool, read_flag]
Part = Annotated[Function, read_function]
MaybeReal = Annotated[float | None, optional(read_real)]
MaybeSteps = Annotated[int | None, optional(read_steps)]
MaybeFunction = Annotated[Function | None, optional(read_function)]
Reals = Annotated[Sequence[float], several(read_real)]
Counts = Annotated[Sequence[int], several(read_count)]
Parts = Annotated[Sequence[Function], several(read_function)]


@cache
def _readers(cls: type) -> dict[str, Callable[[str, Any], Any]]:
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: get_args(hints[f.name])[1] for f in fields(cls) if get_origin(hints[f.name]) is Annotated}


# ---- the core ------------------------------------------------------------------------------------------


@declare
class Schedule:
    """Base of all schedules: ``schedule(step) -> float``.

    A subclass is decorated with :func:`declare` and has ``_value(n)``, which may rely on ``n >= 0``; ``_check()``
    raises if arguments that are valid by themselves do not fit together.
    """

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, read in _readers(kind).items():
            object.__setattr__(self, name, read(f"{self._name()}: {name}", getattr(self, name)))
        self._check()

    def _check(self) -> None:
        pass

    def _require(self, valid: bool, message: str) -> None:
        if not valid:
            raise ShapeError(f"{self._name()}: {message}")

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
            If `step` is negative, lies past the end of a schedule that has one, or the value is not finite.
        TypeError
            If `step` is not an integer.
        """
        try:
            n = operator.index(step)
        except TypeError:
            raise DtypeError(f"{self._name()}: step must be an integer, got {step!r}") from None
        if n < 0:
            raise ShapeError(f"{self._name()}: step must be at least 0, got {n}")
        try:
            value = float(self._value(n))
        except OverflowError:
            value = inf
        if not isfinite(value):
            raise ShapeError(f"{self._name()}: the value at step {n} is not finite: {value}")
        return value

    def _value(self, n: int) -> float:
        raise NotImplementedError(f"{type(self).__name__} must define _value(n)")

    def _past_the_end(self, n: int, end: int) -> ShapeError:
        style = f" (style={self.style!r})" if hasattr(self, "style") else ""
        return ShapeError(f"{self._name()}: step {n} is past the end, {end} steps{style}")

    @classmethod
    def _name(cls) -> str:
        return cls.__name__

    def __mul__(self, other: Function | float) -> Schedule:
        """``schedule * number`` is :func:`scale`, ``schedule * schedule`` is :func:`multiply`."""
        from .compose import multiply, scale

        return multiply([self, other]) if callable(other) else scale(self, other)

    __rmul__ = __mul__

    def __repr__(self) -> str:
        """As it would be written: arguments that have their default are left out."""
        shown = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)
            if f.default is MISSING or getattr(self, f.name) != f.default
        ]
        return f"{self._name()}({', '.join(shown)})"

    def config(self) -> dict[str, Any]:
        """The schedule as JSON-ready data; :func:`from_config` is the inverse.

        Returns
        -------
        dict
            ``{"schedule": name, argument: value, ...}``.

        Raises
        ------
        TypeError
            If it is made of a function that is not a schedule.
        """
        values = {f.name: self._as_data(f.name, getattr(self, f.name)) for f in fields(self)}
        return {"schedule": self._name(), **values}

    def _as_data(self, where: str, value: Any) -> Any:
        if isinstance(value, Schedule):
            return value.config()
        if isinstance(value, tuple):
            return [self._as_data(f"{where}[{i}]", one) for i, one in enumerate(value)]
        if callable(value):
            raise DtypeError(f"{self._name()}: {where} = {value!r} has no config")
        return value


def mix(weight: float, a: float, b: float) -> float:
    """``weight * a + (1 - weight) * b``: both ends are met exactly."""
    return weight * a + (1.0 - weight) * b
