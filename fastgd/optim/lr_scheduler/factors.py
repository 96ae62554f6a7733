"""Schedulers that multiply the rate: by the quotient of two values of a pure schedule, or by a function's value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from ... import schedules
from ..._core import DtypeError, ShapeError
from ...schedules.base import read_positive, read_real, read_share
from ..optimizer import Optimizer
from .base import LRScheduler

Factor = Callable[[int], float]


class _Curve(LRScheduler):
    """Rates in proportion to a pure schedule that begins at 1, above a floor; they multiply what is there."""

    eta_min: float = 0.0
    #: When training is continued with last_epoch >= 0: leave the rates as they are found (or take a step).
    _continues_as_found: ClassVar[bool] = True

    def _curve(self) -> schedules.Schedule:
        raise NotImplementedError

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self._check_settings()
        super().__init__(optimizer, last_epoch)

    def _check_settings(self) -> None:
        self._curve()

    def get_lr(self) -> list[float]:
        curve, n = self._curve(), self.last_epoch
        now, before = curve(n), (curve(n - 1) if n > 0 else 1.0)
        groups = zip(self.optimizer.param_groups, self.base_lrs, strict=True)
        return [self._moved(group["lr"], base, before, now) for group, base in groups]

    def _moved(self, lr: float, base: float, before: float, now: float) -> float:
        if now == before:
            return lr
        if before == 0:  # nothing is left that could be multiplied
            return lr + (base - self.eta_min) * now
        return self.eta_min + (lr - self.eta_min) * (now / before)

    def _initial_lr(self) -> list[float]:
        if self.last_epoch > 0 and self._continues_as_found:
            return [group["lr"] for group in self.optimizer.param_groups]
        return self.get_lr()

    def _closed_form_lr(self) -> list[float]:
        now = self._curve()(self.last_epoch)
        return [self.eta_min + (base - self.eta_min) * now for base in self.base_lrs]


class StepLR(_Curve):
    """Multiplies the rate by `gamma` every `step_size` steps: ``schedules.exponential(..., staircase=True)``."""

    _settings = ("step_size", "gamma")
    _continues_as_found = False

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def _curve(self) -> schedules.Schedule:
        return schedules.exponential(1.0, self.gamma, self.step_size, staircase=True)


class MultiStepLR(_Curve):
    """Multiplies the rate by `gamma` at each milestone: ``schedules.multistep``."""

    _settings = ("milestones", "gamma")
    _continues_as_found = False

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def _check_settings(self) -> None:
        if isinstance(self.milestones, Mapping):  # PyTorch keeps a Counter
            self.milestones = sorted(int(step) for step, times in self.milestones.items() for _ in range(times))
        super()._check_settings()

    def _curve(self) -> schedules.Schedule:
        return schedules.multistep(1.0, self.milestones, self.gamma)


class ConstantLR(_Curve):
    """The rate times `factor` for `total_iters` steps: ``schedules.piecewise_constant``."""

    _settings = ("factor", "total_iters")
    _continues_as_found = False

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def _check_settings(self) -> None:
        read_share("ConstantLR: factor", self.factor)
        super()._check_settings()

    def _curve(self) -> schedules.Schedule:
        return schedules.piecewise_constant([self.factor, 1.0], [self.total_iters])


class LinearLR(_Curve):
    """The rate times a factor on a straight line from `start_factor` to `end_factor`: ``schedules.linear``."""

    _settings = ("start_factor", "end_factor", "total_iters")

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def _check_settings(self) -> None:
        read_positive("LinearLR: start_factor", self.start_factor)
        read_share("LinearLR: start_factor", self.start_factor)
        read_share("LinearLR: end_factor", self.end_factor)
        super()._check_settings()

    def _curve(self) -> schedules.Schedule:
        return schedules.linear(self.start_factor, self.end_factor, self.total_iters)


class ExponentialLR(_Curve):
    """Multiplies the rate by `gamma` at every step: ``schedules.exponential``."""

    _settings = ("gamma",)

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _curve(self) -> schedules.Schedule:
        return schedules.exponential(1.0, self.gamma)


class PolynomialLR(_Curve):
    """The rate times ``(1 - n / total_iters) ** power``, then 0: ``schedules.polynomial``."""

    _settings = ("total_iters", "power")

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def _curve(self) -> schedules.Schedule:
        return schedules.polynomial(1.0, 0.0, self.total_iters, self.power)


class CosineAnnealingLR(_Curve):
    """Half a cosine wave down to `eta_min` in `T_max` steps, and up again: ``schedules.cosine(style="torch")``."""

    _settings = ("T_max", "eta_min")

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, read_real("CosineAnnealingLR: eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def _curve(self) -> schedules.Schedule:
        return schedules.cosine(1.0, self.T_max, style="torch")


class _Lambda(LRScheduler):
    _derived = ("lr_lambdas",)

    def __init__(self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor], last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        if not isinstance(optimizer, Optimizer):
            self._attach(optimizer)
        self.lr_lambdas: list[Factor] = self._per_group("lr_lambda", lr_lambda)
        for function in self.lr_lambdas:
            if not callable(function):
                raise DtypeError(f"{self._name()}: lr_lambda must be callable, got {function!r}")
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """Settings and counters; of `lr_lambda` the attributes of objects that are no plain functions."""
        attributes = [None if _is_plain(f) else dict(vars(f)) for f in self.lr_lambdas]
        return {**super().state_dict(), "lr_lambdas": attributes}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        given = state_dict.get("lr_lambdas") if isinstance(state_dict, Mapping) else None
        if not isinstance(given, list) or [a is None for a in given] != [_is_plain(f) for f in self.lr_lambdas]:
            have = self.lr_lambdas
            raise ShapeError(f"{self._name()}.load_state_dict: 'lr_lambdas' does not fit {have!r}, got {given!r}")
        super().load_state_dict(state_dict)
        for function, attributes in zip(self.lr_lambdas, given, strict=True):
            if attributes is not None:
                vars(function).update(attributes)


def _is_plain(function: Factor) -> bool:
    """A function or a schedule: code without state."""
    code = isinstance(function, schedules.Schedule) or hasattr(function, "__code__")
    return code or not hasattr(function, "__dict__")


class LambdaLR(_Lambda):
    """The first rate times ``lr_lambda(n)``."""

    def get_lr(self) -> list[float]:
        pairs = zip(self.base_lrs, self.lr_lambdas, strict=True)
        return [base * function(self.last_epoch) for base, function in pairs]


class MultiplicativeLR(_Lambda):
    """Multiplies the rate by ``lr_lambda(n)`` at step n, from 1 on."""

    def get_lr(self) -> list[float]:
        pairs = zip(self.optimizer.param_groups, self.lr_lambdas, strict=True)
        return [group["lr"] * function(self.last_epoch) for group, function in pairs]

    def _initial_lr(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]
