"""Schedule-Free SGD and AdamW: averaging instead of a learning rate that falls."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from .. import _core
from .._core import NotOffered, ShapeError
from ..tensor import Tensor
from .optimizer import OWN_DECAY, Optimizer, Range, Rule, Schedule, settings

__all__ = ["ScheduleFreeAdamW", "ScheduleFreeSGD"]

_FREE: dict[str, Range | tuple[Range, ...]] = {
    "lr": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
    "betas": ((math.ulp(0.0), 1.0), (0.0, 1.0)),
    "eps": (0.0, math.inf),
    "warmup_steps": (0.0, math.inf),
    "r": (0.0, math.inf),
    "weight_lr_power": (0.0, math.inf),
}


class _ScheduleFree(Optimizer):
    """What the two share: the parameters are y while training and x, their average, for everything else."""

    def __init__(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], defaults: dict[str, Any]) -> None:
        self._training = True
        super().__init__(params, defaults)

    def _momentum(self, group: Mapping[str, Any]) -> float:
        beta1 = group["betas"][0]
        return float(beta1(self._updates) if callable(beta1) else beta1)

    def train(self) -> None:
        """Put the parameters back to where gradients are taken."""
        self._move(True)

    def eval(self) -> None:
        """Put the parameters to their average: before validation, saving a model or the end of training."""
        self._move(False)

    def _move(self, training: bool) -> None:
        if _core.is_tracing():
            raise NotOffered(f"{self._name()}: train() and eval() inside fastgd.compile are not offered")
        if training == self._training:
            return
        for p, z, beta1 in self._with_z():
            weight = 1 - beta1 if training else 1 - 1 / beta1
            array, target = p.detach().numpy(), z.detach().numpy()
            array += (target - array) * array.dtype.type(weight)
        self._training = training
        _core.note_mutation()

    def _with_z(self) -> Iterator[tuple[Tensor, Tensor, float]]:
        for index, (p, row) in enumerate(zip(self._params, self._group_of, strict=True)):
            if "z" in self._buffers[index]:
                yield p, self._buffers[index]["z"], self._momentum(self.param_groups[row])

    def step(self, closure: Any = None) -> Any:
        if not self._training:
            raise ShapeError(f"{self._name()}: step() after eval(): call train() first")
        return super().step(closure)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "train_mode": self._training}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._training = bool(state_dict.get("train_mode", True))


class ScheduleFreeSGD(_ScheduleFree):
    """SGD that needs no schedule: gradients are taken between the iterates and their average.

    z is p at first; for update t = 1, 2, ... with ``lr_t = lr * min(1, t / warmup_steps)``, the weight
    ``w = t^r * max(lr_1 ... lr_t)^weight_lr_power`` and c = w divided by the sum of all weights so far::

        g <- g + weight_decay * p
        p <- p + c * (z - p) + lr_t * (momentum * (1 - c) - 1) * g
        z <- z - lr_t * g

    After :meth:`eval` the parameters are the average ``x = p + (1 - 1 / momentum) * (z - p)``; :meth:`train` takes them
    back.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1.0
    momentum : float, default 0.9
        Larger than 0.
    weight_decay : float or schedule, default 0
    warmup_steps : int, default 0
    r : float, default 0
    weight_lr_power : float, default 2
    maximize : bool, default False

    References
    ----------
    Defazio et al., "The Road Less Scheduled", NeurIPS 2024, equations 3 to 5; arguments of the authors' code.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="schedule_free_step",
        hyper=_FREE,
        flags={"adam": 1},
        buffers={"z": None, "exp_avg_sq": "adam"},
        record=("weight_sum", "lr_max"),
        always=OWN_DECAY,
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1.0,
        momentum: float = 0.9,
        weight_decay: float | Schedule = 0,
        *,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        maximize: bool = False,
    ) -> None:
        defaults = settings(locals())
        defaults["betas"] = (defaults.pop("momentum"), 0.0)
        super().__init__(params, {**defaults, "eps": 0.0, "adam": False})


class ScheduleFreeAdamW(_ScheduleFree):
    """AdamW that needs no schedule: :class:`ScheduleFreeSGD` over ``g / (sqrt(v / (1 - beta2^t)) + eps)``.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 2.5e-3
    betas : (float, float), default (0.9, 0.999)
        The first, larger than 0, is the momentum of :class:`ScheduleFreeSGD`.
    eps : float or schedule, default 1e-8
    weight_decay : float or schedule, default 0
    warmup_steps : int, default 0
    r : float, default 0
    weight_lr_power : float, default 2
    maximize : bool, default False

    References
    ----------
    Defazio et al., "The Road Less Scheduled", NeurIPS 2024, algorithm 1; arguments of the authors' code.
    """

    rule: ClassVar[Rule] = ScheduleFreeSGD.rule

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 2.5e-3,
        betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
        eps: float | Schedule = 1e-8,
        weight_decay: float | Schedule = 0,
        *,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {**settings(locals()), "adam": True})
