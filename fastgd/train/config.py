"""Every setting of a run, checked when it is made. A misspelt or impossible setting is an error, never ignored.

Settings come from a TOML file, from ``--set section.key=value``, or from both; the sections are the dataclasses below.
What a model, an optimizer or a schedule can be told depends on its name: see :mod:`fastgd.train.registry`.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.files import TASKS
from .metrics import METRICS
from .registry import MODELS, OPTIMIZERS, SCHEDULES, check, real, require, settings_of, whole

__all__ = ["TrainConfig", "read_toml", "with_assignments"]

BUILT_IN = ("digits", "fashion-mnist")
REGISTRIES: dict[str, Mapping[str, Any]] = {"model": MODELS, "optimizer": OPTIMIZERS, "schedule": SCHEDULES}


@dataclass(frozen=True)
class DataConfig:
    """What to learn from.

    Attributes
    ----------
    source : str
        "digits", "fashion-mnist", or a .csv, .npy or .npz file.
    target : str or None
        The column to predict; None: the last.
    task : {"auto", "classification", "regression"}
    categorical, ignore : tuple of str
        Columns of a table that hold categories though they look like numbers, and columns to leave out.
    test_fraction : float
        Share of a file's samples that is kept for testing.
    batch_size : int
    prefetch : int
        Batches made ahead by a thread.
    """

    source: str = "digits"
    target: str | None = None
    task: str = "auto"
    categorical: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    test_fraction: float = 0.2
    batch_size: int = 64
    prefetch: int = 0

    def __post_init__(self) -> None:
        self._require("source", isinstance(self.source, str) and bool(self.source), "the name of a file, or digits")
        if isinstance(self.target, int) and not isinstance(self.target, bool):
            object.__setattr__(self, "target", str(self.target))
        self._require("target", self.target is None or isinstance(self.target, str), "the name of a column")
        self._require("task", self.task in TASKS, " or ".join(TASKS))
        for name in ("categorical", "ignore"):
            value = getattr(self, name)
            valid = isinstance(value, (list, tuple)) and all(isinstance(column, str) for column in value)
            self._require(name, valid, 'a list of names of columns, such as ["city", "zip"]')
            object.__setattr__(self, name, tuple(value))
        if self.source in BUILT_IN:
            self._require("target", self.target is None, f"none, {self.source} has no columns to choose from")
            self._require("task", self.task != "regression", f"auto or classification for {self.source}")
        self._require("test_fraction", real(self.test_fraction) and 0 < self.test_fraction < 1, "between 0 and 1")
        self._require("batch_size", whole(self.batch_size, 1), "a whole number of at least 1")
        self._require("prefetch", whole(self.prefetch, 0), "a whole number of at least 0")

    def _require(self, name: str, valid: bool, expected: str) -> None:
        require(f"data.{name}", getattr(self, name), valid, expected)


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; the names are those of :class:`fastgd.train.Trainer`.

    Attributes
    ----------
    epochs, steps : int or None
        Passes over the training data, or updates: one of the two. (60 epochs if neither is given.)
    evaluate_every : int or None
        Updates between evaluations; None: an epoch.
    accumulate : int
    clip_norm, clip_value, ema : float or None
    precision : {"fp32"}
    on_nonfinite : {"raise", "skip", "warn"}
    monitor : str
    early_stopping : int or None
    metrics : tuple of str
        Names of metrics; empty: accuracy for classes, r2 for numbers.
    """

    epochs: int | None = None
    steps: int | None = None
    evaluate_every: int | None = None
    accumulate: int = 1
    clip_norm: float | None = None
    clip_value: float | None = None
    ema: float | None = None
    precision: str = "fp32"
    on_nonfinite: str = "raise"
    monitor: str = "loss"
    early_stopping: int | None = None
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.epochs is None and self.steps is None:
            object.__setattr__(self, "epochs", 60)
        self._require("steps", self.epochs is None or self.steps is None, "nothing beside training.epochs")
        for name in ("epochs", "steps", "evaluate_every", "early_stopping"):
            value = getattr(self, name)
            self._require(name, value is None or whole(value, 1), "a whole number of at least 1")
        self._require("accumulate", whole(self.accumulate, 1), "a whole number of at least 1")
        for name in ("clip_norm", "clip_value"):
            value = getattr(self, name)
            self._require(name, value is None or (real(value) and value > 0), "a number above 0")
        self._require("ema", self.ema is None or (real(self.ema) and 0 < self.ema < 1), "a number between 0 and 1")
        self._require("precision", self.precision == "fp32", "fp32 (bf16 is not offered yet)")
        policies = ("raise", "skip", "warn")
        self._require("on_nonfinite", self.on_nonfinite in policies, " or ".join(policies))
        valid = isinstance(self.metrics, (list, tuple)) and all(name in METRICS for name in self.metrics)
        self._require("metrics", valid, f"a list of names among {', '.join(METRICS)}")
        object.__setattr__(self, "metrics", tuple(self.metrics))
        self._require("monitor", self.monitor == "loss" or self.monitor in METRICS, f"loss or {' or '.join(METRICS)}")

    def _require(self, name: str, valid: bool, expected: str) -> None:
        require(f"training.{name}", getattr(self, name), valid, expected)


@dataclass(frozen=True)
class OutputConfig:
    """What is kept.

    Attributes
    ----------
    keep : int
        How many of the newest checkpoints stay, besides the best.
    checkpoint_seconds : float
    tensorboard : bool
    """

    keep: int = 2
    checkpoint_seconds: float = 30.0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        require("output.keep", self.keep, whole(self.keep, 1), "a whole number of at least 1")
        valid = real(self.checkpoint_seconds) and self.checkpoint_seconds >= 0
        require("output.checkpoint_seconds", self.checkpoint_seconds, valid, "a number of at least 0")
        require("output.tensorboard", self.tensorboard, isinstance(self.tensorboard, bool), "true or false")


@dataclass(frozen=True)
class Named:
    """A model, an optimizer or a schedule by name, with all of its settings."""

    kind: str
    name: str
    settings: dict[str, Any]

    @classmethod
    def of(cls, kind: str, given: Mapping[str, Any]) -> Named:
        """Return what a section of a configuration says, completed by the defaults of the name."""
        known, rest = REGISTRIES[kind], dict(given)
        name = rest.pop("name", next(iter(known)))
        if not isinstance(name, str) or name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{kind}.name: expected {' or '.join(known)}, got {name!r}{hint}")
        defaults = settings_of(kind, name)
        _check_keys({f"{kind}.{key}": None for key in rest}, [f"{kind}.{key}" for key in ("name", *defaults)])
        settings = {key: tuple(value) if isinstance(value, list) else value for key, value in rest.items()}
        complete = {**defaults, **settings}
        check(kind, name, complete)
        return cls(kind, name, complete)

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **self.settings}


SECTIONS: dict[str, Any] = {"data": DataConfig, "training": TrainingConfig, "output": OutputConfig}


@dataclass(frozen=True)
class TrainConfig:
    """What ``fastgd train`` does. The defaults classify the embedded digits.

    Attributes
    ----------
    seed : int
        Of weights, dropout, the order of the data and its division.
    threads : int or None
        None: as many as there are cores.
    data, training, output
    model, optimizer, schedule : Named
    """

    seed: int = 0
    threads: int | None = None
    data: DataConfig = field(default_factory=DataConfig)
    model: Named = field(default_factory=lambda: Named.of("model", {}))
    optimizer: Named = field(default_factory=lambda: Named.of("optimizer", {}))
    schedule: Named = field(default_factory=lambda: Named.of("schedule", {}))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        require("seed", self.seed, whole(self.seed, 0) and self.seed < 2**64, "a whole number from 0 to 2**64 - 1")
        valid = self.threads is None or whole(self.threads, 1)
        require("threads", self.threads, valid, "a whole number of at least 1")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Return the settings of nested dictionaries; a key that does not exist raises and names the nearest that
        does."""
        known = [entry.name for entry in dataclasses.fields(cls)]
        every = [
            *known,
            *(f"{name}.{entry.name}" for name, kind in SECTIONS.items() for entry in dataclasses.fields(kind)),
        ]
        for kind in REGISTRIES:
            chosen = values.get(kind)
            name = chosen.get("name") if isinstance(chosen, Mapping) else None
            name = name if isinstance(name, str) and name in REGISTRIES[kind] else next(iter(REGISTRIES[kind]))
            every += [f"{kind}.{key}" for key in ("name", *settings_of(kind, name))]
        _check_keys(values, every, known)
        parts: dict[str, Any] = {}
        for key, value in values.items():
            if (key in SECTIONS or key in REGISTRIES) and not isinstance(value, Mapping):
                raise ValueError(f"{key}: expected a section [{key}] with settings, got {value!r}")
            if key in SECTIONS:
                names = [f"{key}.{entry.name}" for entry in dataclasses.fields(SECTIONS[key])]
                _check_keys({f"{key}.{name}": None for name in value}, every, names)
                parts[key] = SECTIONS[key](**value)
            elif key in REGISTRIES:
                parts[key] = Named.of(key, value)
            else:
                parts[key] = value
        return cls(**parts)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as nested dictionaries, those left at their defaults included."""
        return {
            entry.name: value.to_dict() if isinstance(value, Named) else _plain(value)
            for entry in dataclasses.fields(self)
            for value in [getattr(self, entry.name)]
        }


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return what a TOML file says.

    Raises
    ------
    ValueError
        It is not TOML; names file, line and column.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not a TOML file: {error}") from None


def with_assignments(values: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Return the settings with ``section.key=value`` applied one after the other; values are written as in TOML.

    A value that is not TOML is text, so that quotes may be left out: ``data.source=houses.csv``.
    """
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ValueError(f"--set: expected section.key=value, got {assignment!r}")
        place = result
        *sections, last = key.split(".")
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ValueError(f"--set {assignment}: {section!r} is not a section")
        place[last] = _value(text.strip())
    return result


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if list(parsed) == ["value"] else text


def _check_keys(values: Mapping[str, Any], every: list[str], allowed: list[str] | None = None) -> None:
    """Raise if a key is not allowed; name the one that was probably meant, wherever it is."""
    allowed = every if allowed is None else allowed
    for key in values:
        if key in allowed:
            continue
        last = key.rpartition(".")[2]
        close = [full for full in every if full.rpartition(".")[2] == last]
        close = close or difflib.get_close_matches(key, every, n=1)
        if not close:
            names = {full.rpartition(".")[2]: full for full in every}
            close = [names[name] for name in difflib.get_close_matches(last, names, n=1)]
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(allowed)}"
        raise ValueError(f"unknown setting {key!r}; {hint}")
