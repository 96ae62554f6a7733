"""What a configuration can name: models, optimizers, schedules. Literal tables: no name in a file ever becomes an
import.

To offer another one, add a row. A model is a frozen dataclass of its settings, which checks them and has
``build(features, outputs)``; an optimizer is its class, with defaults that suit it; a schedule is a function
``(lr, steps, *, settings)``. Settings are keyword arguments with defaults, and a key that is not among them is an
error.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from .. import models, nn, optim, schedules
from ..models.mlp import ACTIVATIONS
from ..ops import zeros

__all__ = ["MODELS", "OPTIMIZERS", "SCHEDULES", "OptimizerRow", "require", "settings_of"]


def require(name: str, value: Any, valid: bool, expected: str) -> None:
    """Raise ValueError unless valid."""
    if not valid:
        raise ValueError(f"{name}: expected {expected}, got {value!r}")


def whole(value: Any, least: int) -> bool:
    """Whether it is an int of at least `least`."""
    return type(value) is int and value >= least


def real(value: Any) -> bool:
    """Whether it is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


# ---- models ----


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron: units of each hidden layer, dropout after each, and the activation between them."""

    hidden: tuple[int, ...] = (256, 128)
    dropout: float = 0.3
    activation: str = "relu"

    def __post_init__(self) -> None:
        if isinstance(self.hidden, (list, tuple)):
            object.__setattr__(self, "hidden", tuple(self.hidden))
        valid = isinstance(self.hidden, tuple) and all(whole(units, 1) for units in self.hidden)
        require("model.hidden", self.hidden, valid, "whole numbers of at least 1")
        valid = real(self.dropout) and 0 <= self.dropout < 1
        require("model.dropout", self.dropout, valid, "a number from 0 up to, but not including, 1")
        require("model.activation", self.activation, self.activation in ACTIVATIONS, " or ".join(ACTIVATIONS))

    def build(self, features: tuple[int, ...], outputs: int) -> nn.Module:
        """`features` is the shape of one sample."""
        return models.MLP(math.prod(features), self.hidden, outputs, self.activation, self.dropout)


MODELS: dict[str, type] = {
    "mlp": MLP,
}

# ---- optimizers ----


@dataclass(frozen=True)
class OptimizerRow:
    """An optimizer's class and the settings that differ from its constructor's defaults."""

    make: Callable[..., optim.Optimizer]
    defaults: dict[str, Any]


OPTIMIZERS: dict[str, OptimizerRow] = {
    "adamw": OptimizerRow(optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    "adam": OptimizerRow(optim.Adam, {"lr": 0.001}),
    "sgd": OptimizerRow(optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
}

# Arguments of constructors that are not settings of a run.
NOT_SETTINGS = {"self", "params", "foreach", "fused", "capturable", "differentiable", "maximize"}

# ---- schedules: lr is the peak, steps the number of updates in all ----


def warmup_cosine(lr: float, steps: int, *, warmup: float = 0.05, end: float = 0.0) -> schedules.Schedule:
    """Up in a straight line for the share `warmup` of the steps, then down to `end` along a cosine."""
    return schedules.warmup_cosine(lr, round(_share(warmup) * steps), steps, end)


def warmup_constant(lr: float, steps: int, *, warmup: float = 0.05) -> schedules.Schedule:
    """Up in a straight line for the share `warmup` of the steps, then constant."""
    rise = round(_share(warmup) * steps)
    return schedules.warmup(lr, rise) if rise else schedules.constant(lr)


def constant(lr: float, steps: int) -> schedules.Schedule:
    """The same all the time."""
    return schedules.constant(lr)


def cosine(lr: float, steps: int, *, end: float = 0.0) -> schedules.Schedule:
    """Down to `end` along a cosine."""
    return schedules.cosine(lr, steps, end)


def linear(lr: float, steps: int, *, end: float = 0.0) -> schedules.Schedule:
    """Down to `end` in a straight line."""
    return schedules.linear(lr, end, steps)


SCHEDULES: dict[str, Callable[..., schedules.Schedule]] = {
    "warmup_cosine": warmup_cosine,
    "warmup_constant": warmup_constant,
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
}


def _share(warmup: Any) -> float:
    valid = real(warmup) and 0 <= warmup < 1
    require("schedule.warmup", warmup, valid, "a number from 0 up to, but not including, 1")
    return warmup


# ---- what each offers ----


def settings_of(kind: str, name: str) -> dict[str, Any]:
    """Return the settings of a registered name with their defaults."""
    if kind == "model":
        return {entry.name: entry.default for entry in fields(MODELS[name])}
    row = OPTIMIZERS.get(name) if kind == "optimizer" else None
    signature = inspect.signature(row.make if row else SCHEDULES[name])
    found = {
        parameter.name: parameter.default
        for parameter in signature.parameters.values()
        if parameter.default is not inspect.Parameter.empty and parameter.name not in NOT_SETTINGS
    }
    return {**found, **row.defaults} if row else found


def check(kind: str, name: str, settings: dict[str, Any]) -> None:
    """Raise ValueError if a setting cannot be; the things themselves check, tried out on something small."""
    try:
        if kind == "model":
            MODELS[name](**settings)
        elif kind == "optimizer":
            optimizer = OPTIMIZERS[name].make([zeros((1,), requires_grad=True)], **settings)
            require("optimizer.lr", settings["lr"], real(settings["lr"]) and settings["lr"] > 0, "a number above 0")
            del optimizer
        else:
            SCHEDULES[name](0.1, 100, **settings)
    except NotImplementedError as error:
        raise ValueError(f"{kind}: {error}") from None
    except TypeError as error:
        raise ValueError(f"{kind}: {error}") from None
