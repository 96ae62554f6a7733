"""Learning rates (and any other hyper-parameter) as pure functions of the step number.

The classes carry the lower-case names of functions because that is how they are used:
``optim.AdamW(params, lr=schedules.warmup_cosine(3e-4, 100, 1000))``.  By default meanings follow Optax: the total
includes the warmup, the end value is held, and a boundary step already uses the new piece.  Where libraries differ in
the same thing, `style` names the library whose values are wanted; docs/schedules.md lists the differences, and which
schedule is which in torch, Optax, Keras, transformers, timm, llm.c and DeepSpeed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from .._core import ShapeError
from .base import Function, Schedule
from .compose import chain, clip, join, multiply, offset, restarts, scale, shift
from .cycle import cyclic, one_cycle, one_cycle_momentum
from .decay import (
    constant,
    cosine,
    exponential,
    inverse_time,
    linear,
    multiplicative,
    multistep,
    piecewise_constant,
    piecewise_interpolate,
    polynomial,
    tanh,
)
from .feedback import Greedy, Plateau
from .plotting import plot
from .warmup import (
    inverse_sqrt,
    warmup,
    warmup_cosine,
    warmup_cosine_restarts,
    warmup_exponential,
    warmup_linear,
    warmup_polynomial,
    warmup_stable_decay,
    with_warmup,
)

#: The schedules that a configuration may name, and nothing else.
REGISTRY: dict[str, type[Schedule]] = {
    "chain": chain,
    "clip": clip,
    "constant": constant,
    "cosine": cosine,
    "cyclic": cyclic,
    "exponential": exponential,
    "inverse_sqrt": inverse_sqrt,
    "inverse_time": inverse_time,
    "join": join,
    "linear": linear,
    "multiplicative": multiplicative,
    "multiply": multiply,
    "multistep": multistep,
    "offset": offset,
    "one_cycle": one_cycle,
    "one_cycle_momentum": one_cycle_momentum,
    "piecewise_constant": piecewise_constant,
    "piecewise_interpolate": piecewise_interpolate,
    "polynomial": polynomial,
    "restarts": restarts,
    "scale": scale,
    "shift": shift,
    "tanh": tanh,
    "warmup": warmup,
    "warmup_cosine": warmup_cosine,
    "warmup_cosine_restarts": warmup_cosine_restarts,
    "warmup_exponential": warmup_exponential,
    "warmup_linear": warmup_linear,
    "warmup_polynomial": warmup_polynomial,
    "warmup_stable_decay": warmup_stable_decay,
    "with_warmup": with_warmup,
}

__all__ = ["REGISTRY", "Function", "Greedy", "Plateau", "Schedule", "from_config", "plot", *REGISTRY]


def from_config(config: Mapping[str, Any]) -> Schedule:
    """Make a schedule from data, such as a configuration file has; the inverse of :meth:`Schedule.config`.

    Parameters
    ----------
    config : mapping
        ``{"schedule": name, argument: value, ...}``; a value that is such a mapping, or a list of them, is a schedule.

    Returns
    -------
    Schedule

    Raises
    ------
    ValueError
        If a name or an argument is unknown, or an argument is missing or out of range.
    TypeError
        If an argument has a wrong type.
    """
    if not isinstance(config, Mapping):
        raise ShapeError(f"schedule must be a mapping with 'schedule' and arguments, got {config!r}")
    arguments = dict(config)
    name = arguments.pop("schedule", None)
    if not isinstance(name, str) or name not in REGISTRY:
        raise ShapeError(f"schedule must be one of {', '.join(REGISTRY)}, got {name!r}")
    kind = REGISTRY[name]
    known = [f.name for f in fields(kind)]
    unknown = [key for key in arguments if key not in known]
    if unknown:
        raise ShapeError(f"{name}: unknown arguments {unknown}; known are {known}")
    missing = [f.name for f in fields(kind) if f.name not in arguments and f.default is MISSING]
    if missing:
        raise ShapeError(f"{name}: missing arguments {missing}")
    return kind(**{key: _built(value) for key, value in arguments.items()})


def _built(value: Any) -> Any:
    if isinstance(value, Mapping):
        return from_config(value)
    return [_built(one) for one in value] if isinstance(value, (list, tuple)) else value
