"""Steps scaled by norms of whole tensors: LAMB, LARS, NovoGrad."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from ..tensor import Tensor
from .optimizer import OWN_DECAY, Optimizer, Rule, Schedule, settings

__all__ = ["LAMB", "LARS", "NovoGrad"]


class LAMB(Optimizer):
    """Adam whose step on a tensor is as long, times lr, as the tensor: for large batches.

    With m and v as in :class:`Adam`, for each parameter::

        u <- m / (1 - beta1^t) / (sqrt(v) / sqrt(1 - beta2^t) + eps) + weight_decay * p
        p <- p - lr * |p| / |u| * u                                  (p - lr * u where one of the norms is 0)

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-3
    betas : floats or schedules, default (0.9, 0.999)
    eps : float or schedule, default 1e-6
    weight_decay : float or schedule, default 0
    maximize : bool, default False

    References
    ----------
    You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", ICLR 2020, algorithm 2.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="lamb_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "betas": ((0.0, 1.0), (0.0, 1.0)),
            "eps": (0.0, math.inf),
        },
        flags={},
        buffers={"exp_avg": None, "exp_avg_sq": None},
        always=OWN_DECAY,
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-3,
        betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
        eps: float | Schedule = 1e-6,
        weight_decay: float | Schedule = 0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, settings(locals()))


class LARS(Optimizer):
    """SGD whose step on a tensor is as long, times lr and a coefficient, as the tensor.

    For each parameter::

        g   <- g + weight_decay * p
        u   <- lr * trust_coefficient * |p| / (|g| + eps) * g        (lr * g where one of the norms is 0)
        buf <- momentum * buf + u
        p   <- p - buf                                               (p - u - momentum * buf with `nesterov`)

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-3
    momentum : float or schedule, default 0.9
    weight_decay : float or schedule, default 0
    trust_coefficient : float or schedule, default 1e-3
    eps : float or schedule, default 0
    nesterov : bool, default False
    maximize : bool, default False

    References
    ----------
    You, Gitman, Ginsburg, "Large Batch Training of Convolutional Networks", 2017, algorithm 1; lr is inside the
    buffer, as there and in Optax.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="lars_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "momentum": (0.0, math.inf),
            "trust_coefficient": (0.0, math.inf),
            "eps": (0.0, math.inf),
        },
        flags={"nesterov": 1},
        buffers={"momentum_buffer": None},
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-3,
        momentum: float | Schedule = 0.9,
        weight_decay: float | Schedule = 0,
        trust_coefficient: float | Schedule = 1e-3,
        eps: float | Schedule = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, settings(locals()))


class NovoGrad(Optimizer):
    """SGD with momentum over gradients that are scaled by a running norm of their tensor.

    For each parameter, with one number v (at first |g|^2) and at first m = 0::

        v <- beta2 * v + (1 - beta2) * |g|^2
        m <- beta1 * m + g / (sqrt(v) + eps) + weight_decay * p
        p <- p - lr * m

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-3
    betas : floats or schedules, default (0.9, 0.25)
    eps : float or schedule, default 1e-6
    weight_decay : float or schedule, default 0
    maximize : bool, default False

    References
    ----------
    Ginsburg et al., "Stochastic Gradient Methods with Layer-wise Adaptive Moments for Training of Deep Networks",
    2019, algorithm 1; defaults of Optax.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="novograd_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "betas": ((0.0, 1.0), (0.0, 1.0)),
            "eps": (0.0, math.inf),
        },
        flags={},
        buffers={"exp_avg": None},
        record=("exp_avg_sq",),
        always=OWN_DECAY,
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-3,
        betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.25),
        eps: float | Schedule = 1e-6,
        weight_decay: float | Schedule = 0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, settings(locals()))
