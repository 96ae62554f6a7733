"""What a configuration can name: models, optimizers, schedules.

Literal tables: no name in a file ever becomes an import.
To offer another one, add a row. A model is a frozen dataclass of its settings, which checks them and has
``build(features, outputs)``; an optimizer is its class, with defaults that suit it; schedules are those that
:mod:`fastgd.schedules` registers. A setting that a name does not know is an error.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from .. import models, nn, optim, schedules
from ..models.mlp import ACTIVATIONS
from ..ops import zeros

__all__ = ["MODELS", "OPTIMIZERS", "SCHEDULES", "OptimizerRow", "build_schedule", "require", "settings_of"]


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
    "adam": OptimizerRow(optim.Adam, {}),
    "sgd": OptimizerRow(optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adadelta": OptimizerRow(optim.Adadelta, {}),
    "adagrad": OptimizerRow(optim.Adagrad, {}),
    "adamax": OptimizerRow(optim.Adamax, {}),
    "asgd": OptimizerRow(optim.ASGD, {}),
    "nadam": OptimizerRow(optim.NAdam, {}),
    "radam": OptimizerRow(optim.RAdam, {}),
    "rmsprop": OptimizerRow(optim.RMSprop, {}),
    "rprop": OptimizerRow(optim.Rprop, {}),
}

# Arguments of constructors that are not settings of a run.
NOT_SETTINGS = {"self", "params", "foreach", "fused", "capturable", "differentiable", "maximize"}

# ---- schedules: those of fastgd.schedules; lr is the peak, and they span the whole run unless told otherwise ----

SCHEDULES: Mapping[str, type[schedules.Schedule]] = {
    # The first is the default.
    "warmup_cosine": schedules.warmup_cosine,
    **{name: kind for name, kind in schedules.REGISTRY.items() if name != "multiplicative"},  # takes a function
}

PEAK = ("peak", "value", "start")  # the first of these that a schedule has is the learning rate
SPAN = ("steps", "total_steps")  # the number of updates in all, unless it is given
DEFAULTS = {"end": 0.0}  # of arguments that have no default of their own


def build_schedule(name: str, lr: float, steps: int, settings: Mapping[str, Any]) -> schedules.Schedule:
    """Return the schedule of a run of `steps` updates; a share `warmup` of them is its warmup."""
    given = {key: value for key, value in settings.items() if value is not None}
    known = {entry.name for entry in fields(SCHEDULES[name])}
    peak = next((key for key in PEAK if key in known), None)
    if peak is not None:
        given[peak] = lr
    if "warmup" in given:
        share = given.pop("warmup")
        valid = real(share) and 0 <= share < 1
        require("schedule.warmup", share, valid, "a number from 0 up to, but not including, 1")
        given.setdefault("steps" if name == "warmup" else "warmup_steps", round(share * steps))
    for entry in fields(SCHEDULES[name]):
        if entry.name not in given and entry.default is MISSING:
            if entry.name not in SPAN:
                raise ValueError(f"schedule.{entry.name}: must be given for {name}")
            given[entry.name] = steps
    return schedules.from_config({"schedule": name, **given})


def _schedule_settings(name: str) -> dict[str, Any]:
    entries = fields(SCHEDULES[name])
    names = [entry.name for entry in entries]
    peak = next((key for key in PEAK if key in names), None)
    found = {
        entry.name: DEFAULTS.get(entry.name) if entry.default is MISSING else entry.default
        for entry in entries
        if entry.name != peak and not callable(entry.default)
    }
    if "warmup_steps" in names or name == "warmup":
        found = {"warmup": 0.05, **found}
        found["steps" if name == "warmup" else "warmup_steps"] = None
    return found


# ---- what each offers ----


def settings_of(kind: str, name: str) -> dict[str, Any]:
    """Return the settings of a registered name with their defaults."""
    if kind == "model":
        return {entry.name: entry.default for entry in fields(MODELS[name])}
    if kind == "schedule":
        return _schedule_settings(name)
    row = OPTIMIZERS[name]
    found = {
        parameter.name: parameter.default
        for parameter in inspect.signature(row.make).parameters.values()
        if parameter.name not in NOT_SETTINGS
    }
    return {**found, **row.defaults}


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
            build_schedule(name, 0.1, 10**9, settings)  # how many steps there are is not known yet
    except NotImplementedError as error:
        raise ValueError(f"{kind}: {error}") from None
    except TypeError as error:
        raise ValueError(f"{kind}: {error}") from None
