"""Schedulers of schedulers: one after another, or all at each step."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from ..._core import DtypeError, NotOffered, ShapeError
from ..optimizer import Optimizer
from .base import LRScheduler
from .plateau import ReduceLROnPlateau


class _Several(LRScheduler):
    """Schedulers of one optimizer; their state is in one dictionary."""

    _schedulers: list[LRScheduler]

    def _checked(self, parts: Sequence[LRScheduler], optimizer: Optimizer | None) -> list[LRScheduler]:
        given = list(parts)
        if not given:
            raise ShapeError(f"{self._name()}: expected at least one scheduler")
        for i, part in enumerate(given):
            if not isinstance(part, LRScheduler):
                raise DtypeError(f"{self._name()}: expected schedulers, got {part!r} at {i}")
            if isinstance(part, ReduceLROnPlateau):
                raise NotOffered(f"{self._name()}: ReduceLROnPlateau at {i} needs a metric at each step; step it alone")
            if part.optimizer is not (optimizer or given[0].optimizer):
                raise ShapeError(f"{self._name()}: scheduler {i}, {part._name()}, belongs to another optimizer")
        return given

    def state_dict(self) -> dict[str, Any]:
        """The state of each scheduler, and the counters."""
        own = {name: copy.copy(getattr(self, name)) for name in self._state_names()}
        return {**own, "_schedulers": [part.state_dict() for part in self._schedulers]}

    def _state_names(self) -> tuple[str, ...]:
        return ("_last_lr", *self._settings)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`, or that of PyTorch's scheduler; all of it or nothing."""
        names = {*self._state_names(), "_schedulers"}
        if not isinstance(state_dict, Mapping) or set(state_dict) != names:
            raise ShapeError(f"{self._name()}.load_state_dict: expected {sorted(names)}, got {state_dict!r}")
        parts = state_dict["_schedulers"]
        if not isinstance(parts, (list, tuple)) or len(parts) != len(self._schedulers):
            count = len(self._schedulers)
            raise ShapeError(f"{self._name()}.load_state_dict: expected {count} schedulers, got {parts!r}")
        before = [part.state_dict() for part in self._schedulers]
        try:
            for part, state in zip(self._schedulers, parts, strict=True):
                part.load_state_dict(state)
        except ValueError:
            for part, state in zip(self._schedulers, before, strict=True):
                part.load_state_dict(state)
            raise
        for name in self._state_names():
            setattr(self, name, copy.copy(state_dict[name]))


class SequentialLR(_Several):
    """One scheduler after another; at a milestone the next one begins from ``base_lrs``: ``schedules.join``."""

    _settings = ("last_epoch", "_milestones")

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        self._attach(optimizer)
        self._schedulers = self._checked(schedulers, optimizer)
        for i, part in enumerate(self._schedulers):
            if isinstance(part, _Several):
                raise NotOffered(f"SequentialLR: {part._name()} at {i} cannot begin again at a milestone")
        self._milestones = list(milestones)
        if len(self._milestones) != len(self._schedulers) - 1 or any(a >= b for a, b in pairwise(self._milestones)):
            raise ShapeError(
                f"SequentialLR: expected {len(self._schedulers) - 1} increasing milestones, got {self._milestones}"
            )
        self.last_epoch = last_epoch + 1
        for group in optimizer.param_groups:  # what the schedulers have written when they were made
            group["lr"] = group["initial_lr"]
        for part in self._schedulers:
            part.last_epoch -= 1
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self, epoch: int | None = None) -> None:
        """Step the scheduler whose turn it is."""
        if epoch is not None:
            raise NotOffered("SequentialLR.step: epoch is not offered")
        position = self.last_epoch + 1
        i = bisect_right(self._milestones, position)
        part = self._schedulers[i]
        if i > 0 and self._milestones[i - 1] == position:
            part._before_step()
            part._update_lr(0, part._closed_form_lr)
        else:
            part.step()
        self.last_epoch = position
        self._last_lr = part.get_last_lr()


class ChainedScheduler(_Several):
    """All schedulers at each step: their factors multiply, as in ``schedules.multiply``."""

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._schedulers = self._checked(schedulers, optimizer)
        self.optimizer = self._schedulers[0].optimizer
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def step(self, epoch: int | None = None) -> None:
        """Step each of them."""
        if epoch is not None:
            raise NotOffered("ChainedScheduler.step: epoch is not offered")
        for part in self._schedulers:
            part.step()
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
