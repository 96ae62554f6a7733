"""Every setting of a run, checked when it is made. A misspelt or impossible setting is an error, never ignored."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..data.files import TASKS

__all__ = ["TrainConfig"]


@dataclass(frozen=True)
class TrainConfig:
    """What ``fastgd train`` does. The defaults classify the embedded digits.

    Attributes
    ----------
    data : str
        "digits", or a .csv, .npy or .npz file.
    target : str or None
        The column to predict; None: the last.
    task : {"auto", "classification", "regression"}
    test_fraction : float
        Share of a file's samples that is kept for testing.
    hidden : tuple of int
        Units of each hidden layer.
    dropout : float
    epochs : int
        Passes over the training data.
    batch_size : int
    lr : float
        Peak of the learning rate: it rises in a straight line over `warmup` and falls along a cosine to 0.
    warmup : float
        Share of the steps in which the learning rate rises.
    weight_decay : float
    seed : int
        Of weights, dropout, the order of the data and its division.
    threads : int or None
        None: as many as there are cores.
    """

    data: str = "digits"
    target: str | None = None
    task: str = "auto"
    test_fraction: float = 0.2
    hidden: tuple[int, ...] = (256, 128)
    dropout: float = 0.3
    epochs: int = 60
    batch_size: int = 64
    lr: float = 0.01
    warmup: float = 0.05
    weight_decay: float = 0.1
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        self._require("data", bool(self.data), "the name of a file, or digits")
        self._require("task", self.task in TASKS, " or ".join(TASKS))
        if self.data == "digits":
            self._require("target", self.target is None, "none, digits has no columns to choose from")
            self._require("task", self.task != "regression", "auto or classification for digits")
        self._require("hidden", all(_whole(units, 1) for units in self.hidden), "whole numbers of at least 1")
        for name in ("epochs", "batch_size"):
            self._require(name, _whole(getattr(self, name), 1), "a whole number of at least 1")
        self._require("seed", _whole(self.seed, 0) and self.seed < 2**64, "a whole number from 0 to 2**64 - 1")
        self._require("threads", self.threads is None or _whole(self.threads, 1), "a whole number of at least 1")
        self._require("lr", _real(self.lr) and self.lr > 0, "a number above 0")
        self._require("weight_decay", _real(self.weight_decay) and self.weight_decay >= 0, "a number of at least 0")
        self._require("test_fraction", _real(self.test_fraction) and 0 < self.test_fraction < 1, "between 0 and 1")
        for name in ("dropout", "warmup"):
            value = getattr(self, name)
            self._require(name, _real(value) and 0 <= value < 1, "a number from 0 up to, but not including, 1")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Return the settings of a dictionary; a key that does not exist raises and names the nearest that does."""
        known = [entry.name for entry in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
                raise ValueError(f"unknown setting {key!r}; {hint}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings, those left at their defaults included."""
        return dataclasses.asdict(self)

    def _require(self, name: str, valid: bool, expected: str) -> None:
        if not valid:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")


def _whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _real(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
