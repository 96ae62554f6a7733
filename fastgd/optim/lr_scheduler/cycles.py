"""Schedulers that say the rate itself at each step, and the momentum beside it: restarts, cycles, one cycle, SWA."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ... import schedules
from ..._core import ShapeError
from ...schedules.base import one_of, read_count, read_real, read_steps
from ...schedules.cycle import phases, walk
from ...schedules.decay import fall
from ..optimizer import Optimizer
from .base import LRScheduler


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosines from the first rate down to `eta_min`, cycle i of ``T_0 * T_mult ** i`` steps: ``schedules.restarts``.

    ``step(epoch)`` takes fractions: ``scheduler.step(epoch + i / batches)``.
    """

    _settings = ("T_0", "T_mult", "eta_min")
    _derived = ("T_i", "T_cur")

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        self._at: float = last_epoch + 1
        self._check_settings()
        super().__init__(optimizer, last_epoch)

    def _check_settings(self) -> None:
        read_steps("CosineAnnealingWarmRestarts: T_mult", self.T_mult)
        read_real("CosineAnnealingWarmRestarts: eta_min", self.eta_min)
        schedules.cosine(1.0, self.T_0)

    def step(self, epoch: float | None = None) -> None:
        """Write the rates of the next step, or of `epoch`."""
        self._before_step()
        at = self.last_epoch + 1 if epoch is None else float(epoch)
        if not 0 <= at < math.inf:
            raise ShapeError(f"{self._name()}: epoch must be at least 0, got {epoch}")
        before, self._at = self._at, at
        try:
            self._update_lr(math.floor(at), self.get_lr)
        except BaseException:
            self._at = before
            raise
        self._step_count += 1

    def _closed_form_lr(self) -> list[float]:
        self._at = self.last_epoch
        return self.get_lr()

    def get_lr(self) -> list[float]:
        return [
            schedules.restarts(schedules.cosine(base, self.T_0, self.eta_min), self.T_mult)._at(self._at)
            for base in self.base_lrs
        ]


class _CyclesMomentum(LRScheduler):
    """Rates, and a momentum (or the first of the betas) that moves against them."""

    cycle_momentum: bool
    use_beta1: bool

    def _begin_momentum(self, optimizer: Optimizer, low: Any, high: Any, last_epoch: int) -> None:
        if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
            raise ShapeError(f"{self._name()}: cycle_momentum needs an optimizer with momentum or betas")
        self.use_beta1 = "betas" in optimizer.defaults
        self.base_momentums = self._per_group("base_momentum", low)
        self.max_momentums = self._per_group("max_momentum", high)
        if last_epoch == -1:
            pairs = zip(optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True)
            for group, base, most in pairs:
                group.update({"max_momentum": most, "base_momentum": base, **self._as_setting(group, most)})

    def _as_setting(self, group: Mapping[str, Any], momentum: float) -> dict[str, Any]:
        return {"betas": (momentum, *group["betas"][1:])} if self.use_beta1 else {"momentum": momentum}

    def _other_settings(self) -> list[dict[str, Any]]:
        groups = self.optimizer.param_groups
        if not self.cycle_momentum:
            return [{} for _ in groups]
        return [self._as_setting(group, self._momentum(i)) for i, group in enumerate(groups)]

    def _momentum(self, index: int) -> float:
        raise NotImplementedError


class CyclicLR(_CyclesMomentum):
    """Triangles from `base_lr` to `max_lr` and back: ``schedules.cyclic``."""

    _settings = ("max_lrs", "total_size", "step_ratio", "mode", "gamma", "scale_mode", "cycle_momentum")
    _derived = ("_scale_fn_custom", "use_beta1")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        base_lrs = self._per_group("base_lr", base_lr)
        self.max_lrs = self._per_group("max_lr", max_lr)
        self.total_size = float(step_size_up + (step_size_up if step_size_down is None else step_size_down))
        self.step_ratio = step_size_up / self.total_size
        self.mode, self.gamma, self.scale_mode, self._scale_fn = mode, gamma, scale_mode, scale_fn
        self.cycle_momentum = cycle_momentum
        self.base_lrs = self._given = base_lrs
        self._check_settings()
        if cycle_momentum:
            self._begin_momentum(optimizer, base_momentum, max_momentum, last_epoch)
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = lr
        super().__init__(optimizer, last_epoch)

    def _initial_step(self) -> None:
        self.base_lrs = list(self._given)  # not what another scheduler has left in initial_lr
        super()._initial_step()

    def _state_names(self) -> tuple[str, ...]:
        return (*super()._state_names(), *(("base_momentums", "max_momentums") if self.cycle_momentum else ()))

    def _check_settings(self) -> None:
        for low, high in zip(self.base_lrs, self.max_lrs, strict=True):
            self._cycle(low, high)

    def _cycle(self, start: float, peak: float) -> schedules.Schedule:
        up = round(self.step_ratio * self.total_size)
        return schedules.cyclic(
            start, peak, up, round(self.total_size) - up, self.mode, self.gamma, self._scale_fn, self.scale_mode
        )

    def get_lr(self) -> list[float]:
        pairs = zip(self.base_lrs, self.max_lrs, strict=True)
        return [self._cycle(low, high)(self.last_epoch) for low, high in pairs]

    def _momentum(self, index: int) -> float:
        return self._cycle(self.max_momentums[index], self.base_momentums[index])(self.last_epoch)


class OneCycleLR(_CyclesMomentum):
    """Up to `max_lr` and down again, the momentum against it: ``schedules.one_cycle`` and ``one_cycle_momentum``.

    The values between which it moves are in the groups (``initial_lr``, ``max_lr``, ``min_lr``), as in PyTorch.
    """

    _settings = ("total_steps", "_schedule_phases", "_anneal_func_type", "cycle_momentum")
    _derived = ("use_beta1",)

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ShapeError("OneCycleLR: expected total_steps, or epochs and steps_per_epoch")
            total_steps = read_steps("OneCycleLR: epochs", epochs) * read_steps(
                "OneCycleLR: steps_per_epoch", steps_per_epoch
            )
        self.total_steps = total_steps
        self._anneal_func_type = one_of("cos", "linear")("OneCycleLR: anneal_strategy", anneal_strategy)
        max_lrs = self._per_group("max_lr", max_lr)
        for peak in max_lrs:  # checks everything
            schedules.one_cycle(peak, total_steps, pct_start, div_factor, final_div_factor, three_phase=three_phase)
        ways = _THREE_PHASES if three_phase else _TWO_PHASES
        ends = phases(total_steps, pct_start, three_phase)
        self._schedule_phases: list[dict[str, Any]] = [
            {"end_step": end, **way} for end, way in zip(ends, ways, strict=True)
        ]
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._begin_momentum(optimizer, base_momentum, max_momentum, last_epoch)
        if last_epoch == -1:
            for group, peak in zip(optimizer.param_groups, max_lrs, strict=True):
                first = peak / div_factor
                group.update({"initial_lr": first, "max_lr": peak, "min_lr": first / final_div_factor})
        super().__init__(optimizer, last_epoch)

    def _walk(self, group: Mapping[str, Any], start: str, end: str) -> float:
        if self.last_epoch > self.total_steps:
            raise ShapeError(f"OneCycleLR: step {self.last_epoch} is past the end, {self.total_steps} steps")
        names = [self._schedule_phases[0][start], *[phase[end] for phase in self._schedule_phases]]
        ends = [phase["end_step"] for phase in self._schedule_phases]
        shape = "cosine" if self._anneal_func_type == "cos" else "linear"
        return walk(self.last_epoch, ends, [group[name] for name in names], shape)

    def get_lr(self) -> list[float]:
        return [self._walk(group, "start_lr", "end_lr") for group in self.optimizer.param_groups]

    def _momentum(self, index: int) -> float:
        return self._walk(self.optimizer.param_groups[index], "start_momentum", "end_momentum")


def _ways(lr: Sequence[str], momentum: Sequence[str]) -> list[dict[str, str]]:
    """PyTorch's description of the phases, without their ends."""
    return [
        {"start_lr": a, "end_lr": b, "start_momentum": c, "end_momentum": d}
        for (a, b), (c, d) in zip(pairwise(lr), pairwise(momentum), strict=True)
    ]


_TWO_PHASES = _ways(("initial_lr", "max_lr", "min_lr"), ("max_momentum", "base_momentum", "max_momentum"))
_THREE_PHASES = _ways(
    ("initial_lr", "max_lr", "initial_lr", "min_lr"), ("max_momentum", "base_momentum", "max_momentum", "max_momentum")
)


class SWALR(LRScheduler):
    """From the present rate to `swa_lr` in `anneal_epochs` steps, then `swa_lr`: ``schedules.cosine`` or ``linear``."""

    _settings = ("anneal_epochs", "_anneal_strategy")

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        values = self._per_group("swa_lr", swa_lr)
        self.anneal_epochs, self._anneal_strategy = anneal_epochs, anneal_strategy
        self._check_settings()
        for group, lr in zip(optimizer.param_groups, values, strict=True):
            group["swa_lr"] = read_real("SWALR: swa_lr", lr)
        super().__init__(optimizer, last_epoch)

    def _check_settings(self) -> None:
        read_count("SWALR: anneal_epochs", self.anneal_epochs)
        one_of("cos", "linear")("SWALR: anneal_strategy", self._anneal_strategy)

    def _share(self, step: int) -> float:
        x = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return 1.0 - fall("cosine" if self._anneal_strategy == "cos" else "linear", x)

    def get_lr(self) -> list[float]:
        step = max(1, self.last_epoch) if self.anneal_epochs == 0 else self.last_epoch
        before, now = self._share(step - 1), self._share(step)
        return [self._moved(group["lr"], group["swa_lr"], before, now) for group in self.optimizer.param_groups]

    @staticmethod
    def _moved(lr: float, end: float, before: float, now: float) -> float:
        first = end if before == 1 else (lr - before * end) / (1.0 - before)  # where it would have begun
        return end * now + first * (1.0 - now)
