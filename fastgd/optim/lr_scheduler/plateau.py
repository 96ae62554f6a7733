"""The scheduler that follows a metric."""

from __future__ import annotations

from typing import Any

from ... import _core, schedules
from ..._core import NotOffered, ShapeError
from ..optimizer import Optimizer
from .base import LRScheduler


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the rate by `factor` when a metric does not improve: ``schedules.Plateau``."""

    _settings = (
        "factor",
        "patience",
        "threshold",
        "threshold_mode",
        "mode",
        "cooldown",
        "min_lrs",
        "eps",
        "best",
        "num_bad_epochs",
        "cooldown_counter",
    )
    _derived = ("mode_worse", "default_min_lr")

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        self._attach(optimizer)
        self.mode, self.factor, self.patience = mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown, self.eps = threshold, threshold_mode, cooldown, eps
        self.min_lrs = self._per_group("min_lr", min_lr)
        rule = self._rule()
        self.best, self.num_bad_epochs, self.cooldown_counter = rule.best, rule.bad, rule.cooldown_left
        self.last_epoch = 0
        self._last_lr = [group["lr"] for group in optimizer.param_groups]

    def _rule(self) -> schedules.Plateau:
        return schedules.Plateau(
            1.0,
            self.factor,
            self.patience,
            self.threshold,
            self.threshold_mode,
            self.mode,
            self.cooldown,
            eps=self.eps,
        )

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take note of a metric, and lower the rates if it is time.

        Parameters
        ----------
        metrics : float
            Or what ``float()`` takes, a 0-d tensor.
        """
        if epoch is not None:
            raise NotOffered("ReduceLROnPlateau.step: epoch is not offered")
        if _core.is_tracing():
            raise NotOffered("ReduceLROnPlateau.step() inside fastgd.compile is not offered; call it after the step")
        rule, groups = self._rule(), self.optimizer.param_groups
        rule.best, rule.bad, rule.cooldown_left = self.best, self.num_bad_epochs, self.cooldown_counter
        if len(groups) != len(self.min_lrs):
            expected = len(self.min_lrs)
            raise ShapeError(f"ReduceLROnPlateau: expected {expected} parameter groups, there are {len(groups)}")
        if rule.observe(float(metrics)):
            for group, low in zip(groups, self.min_lrs, strict=True):
                new = max(group["lr"] * self.factor, low)
                if group["lr"] - new > self.eps:
                    group["lr"] = new
        self.best, self.num_bad_epochs, self.cooldown_counter = rule.best, rule.bad, rule.cooldown_left
        self.last_epoch += 1
        self._last_lr = [group["lr"] for group in groups]

    def _state_names(self) -> tuple[str, ...]:
        return ("last_epoch", "_last_lr", *self._settings)

    def _check_settings(self) -> None:
        rule = self._rule()
        state = {"best": self.best, "bad": self.num_bad_epochs, "cooldown_left": self.cooldown_counter}
        rule.load_state_dict({**rule.state_dict(), **state})
        self._per_group("min_lr", list(self.min_lrs))
