"""What all schedulers share: steps that change everything or nothing, and state dictionaries with PyTorch's names."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ... import _core
from ..._core import DtypeError, NotOffered, ShapeError
from ...schedules.base import read_integer, read_real, several
from ..optimizer import Optimizer

__all__ = ["LRScheduler"]


class LRScheduler:
    """Base of all schedulers: counts its steps and writes the rates.

    Parameters
    ----------
    optimizer : Optimizer
        Its groups' ``lr`` are numbers, not schedules.
    last_epoch : int, default -1
        -1 begins: the present rates become ``initial_lr`` of the groups.  Otherwise the groups have that already.

    Attributes
    ----------
    base_lrs : list of float
        The rates at the beginning, one per group.
    last_epoch : int
        The step whose rates are in the groups.
    """

    #: Attributes that the state dictionary has beside the counters.
    _settings: ClassVar[tuple[str, ...]] = ()
    #: Entries of PyTorch's state dictionaries that follow from the others.
    _derived: ClassVar[tuple[str, ...]] = ()

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self._attach(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ShapeError(
                    f"{self._name()}: last_epoch={last_epoch} continues, but group {i} has no 'initial_lr'; load the "
                    "optimizer's state first"
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    @classmethod
    def _name(cls) -> str:
        return cls.__name__

    def _attach(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise DtypeError(f"{self._name()}: expected an Optimizer, got {type(optimizer).__name__}")
        for i, group in enumerate(optimizer.param_groups):
            if callable(group["lr"]):
                raise DtypeError(
                    f"{self._name()}: lr of group {i} is a schedule already, {group['lr']!r}; give it as a number"
                )
        self.optimizer = optimizer
        self._updates = optimizer._updates

    def _per_group(self, name: str, value: Any) -> list[Any]:
        """One value for each group."""
        groups = len(self.optimizer.param_groups)
        if not isinstance(value, (list, tuple)):
            return [value] * groups
        if len(value) != groups:
            raise ShapeError(f"{self._name()}: expected {name} for {groups} parameter groups, got {len(value)}")
        return list(value)

    # ---- stepping -----------------------------------------------------------------------------------

    def _initial_step(self) -> None:
        self._step_count = 1
        self._update_lr(self.last_epoch + 1, self._initial_lr)

    def step(self, epoch: int | None = None) -> None:
        """Write the rates of the next step into the groups.

        Parameters
        ----------
        epoch : int, optional
            Jump there, and compute the rates from ``base_lrs``.  Discouraged, as in PyTorch.

        Raises
        ------
        ValueError
            If a rate is not finite, or the schedule has ended.  Nothing has been changed.
        """
        self._before_step()
        if epoch is None:
            self._update_lr(self.last_epoch + 1, self.get_lr)
        else:
            warnings.warn(f"{self._name()}: step() without an epoch is the way to step", UserWarning, stacklevel=2)
            self._update_lr(epoch, self._closed_form_lr)
        self._step_count += 1

    def _before_step(self) -> None:
        if _core.is_tracing():
            raise NotOffered(
                f"{self._name()}.step() inside fastgd.compile would happen while the function is recorded and not when "
                "it runs; call it after the compiled step, or give lr as a schedule"
            )
        if self._step_count == 1 and self.optimizer._updates == self._updates:
            warnings.warn(
                f"{self._name()}.step() before the first optimizer.step(): the first rate of the schedule is skipped",
                UserWarning,
                stacklevel=3,
            )

    def _update_lr(self, epoch: int, rates: Callable[[], list[float]]) -> None:
        """Go to a step, and write what `rates` then says; all of it or nothing."""
        before, self.last_epoch = self.last_epoch, epoch
        groups = self.optimizer.param_groups
        try:
            if len(groups) != len(self.base_lrs):
                raise ShapeError(
                    f"{self._name()}: expected {len(self.base_lrs)} parameter groups, there are {len(groups)}"
                )
            values = [float(lr) for lr in rates()]
            for i, lr in enumerate(values):
                if not math.isfinite(lr):
                    raise ShapeError(f"{self._name()}: step {epoch} gives lr = {lr} for group {i}")
            others = self._other_settings()
        except BaseException:
            self.last_epoch = before
            raise
        for group, lr, other in zip(groups, values, others, strict=True):
            group.update({"lr": lr, **other})
        self._last_lr = values

    def get_lr(self) -> list[float]:
        """The rates of step `last_epoch`, from the present ones where the scheduler multiplies."""
        raise NotImplementedError(f"{self._name()} must define get_lr()")

    def _initial_lr(self) -> list[float]:
        return self.get_lr()

    def _closed_form_lr(self) -> list[float]:
        """The rates of step `last_epoch`, from ``base_lrs``."""
        return self.get_lr()

    def _other_settings(self) -> list[dict[str, Any]]:
        """What changes with the rate (the momentum), for each group."""
        return [{} for _ in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float]:
        """The rates that the last step has written, one per group."""
        return self._last_lr

    # ---- state --------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Settings and counters under PyTorch's names."""
        return {name: copy.copy(getattr(self, name)) for name in self._state_names()}

    def _state_names(self) -> tuple[str, ...]:
        return ("base_lrs", "last_epoch", "_step_count", "_last_lr", *self._settings)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`, or that of PyTorch's scheduler; all of it or nothing.

        The rates in the groups are the optimizer's state, and stay.

        Raises
        ------
        ValueError
            If an entry is missing, unknown or impossible.
        """
        names = set(self._state_names())
        if not isinstance(state_dict, Mapping):
            raise ShapeError(f"{self._name()}.load_state_dict: expected a dict, got {state_dict!r}")
        derived = {"_get_lr_called_within_step", "_is_initial", *self._derived}
        missing, unknown = sorted(names - set(state_dict)), sorted(set(state_dict) - names - derived)
        if missing or unknown:
            raise ShapeError(f"{self._name()}.load_state_dict: missing {missing}, unexpected {unknown}")
        other = copy.copy(self)
        for name in names:
            setattr(other, name, copy.copy(state_dict[name]))
        groups = len(self.optimizer.param_groups)
        try:
            read_integer("last_epoch", other.last_epoch)
            for name in {"base_lrs", "_last_lr"} & names:
                values = list(several(read_real)(name, getattr(other, name)))
                if len(values) != groups:
                    raise ShapeError(f"{name}: expected {groups} numbers, got {len(values)}")
                setattr(other, name, values)
            other._check_settings()
        except (TypeError, ValueError) as error:
            raise ShapeError(f"{self._name()}.load_state_dict: {error}") from error
        self.__dict__.update(other.__dict__)

    def _check_settings(self) -> None:
        """Raise if the settings make no schedule."""
