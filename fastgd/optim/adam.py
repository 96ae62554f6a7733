"""Adam and those that keep its two moments: AdamW, NAdam, RAdam, Adamax; as in ``torch.optim``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from ..tensor import Tensor
from .optimizer import Optimizer, Range, Rule, Schedule, settings

__all__ = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam"]

_MOMENTS: dict[str, Range | tuple[Range, ...]] = {
    "lr": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
    "betas": ((0.0, 1.0), (0.0, 1.0)),
    "eps": (0.0, math.inf),
}


class Adam(Optimizer):
    """Gradient descent scaled by running estimates of the gradient's first and second moments.

    For a parameter's update t = 1, 2, ..., with gradient g (negated if `maximize`)::

        g <- g + weight_decay * p                    (Adam)
        p <- p * (1 - lr * weight_decay)             (AdamW, or decoupled_weight_decay)
        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * g * g
        p <- p - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    With `amsgrad` the largest v so far takes the place of v in the last line.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-3
    betas : (float or schedule, float or schedule), default (0.9, 0.999)
    eps : float or schedule, default 1e-8
    weight_decay : float or schedule, default 0
    amsgrad : bool, default False
    maximize : bool, default False
    decoupled_weight_decay : bool, default False
        True makes it AdamW.
    foreach, fused, capturable : optional
        Accepted; the update is always fused.
    differentiable : bool
        True is not offered.
    style : {"torch", "optax", "keras"}, default "torch"
        Where their arithmetic differs. "keras": eps beside the uncorrected root,
        ``lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps)``. "optax": with `amsgrad` the largest
        corrected ``v / (1 - beta2^t)``.

    References
    ----------
    Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1; Reddi et al.,
    "On the Convergence of Adam and Beyond", ICLR 2018, algorithm 2, in PyTorch's form (the maximum
    of the uncorrected v).
    """

    rule: ClassVar[Rule] = Rule(
        kernel="adam_step",
        hyper=_MOMENTS,
        flags={"amsgrad": 1},
        buffers={"exp_avg": None, "exp_avg_sq": None, "max_exp_avg_sq": "amsgrad"},
        styles=("torch", "optax", "keras"),
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-3,
        betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
        eps: float | Schedule = 1e-8,
        weight_decay: float | Schedule = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        style: str = "torch",
    ) -> None:
        super().__init__(params, settings(locals()))


class AdamW(Adam):
    """Adam with weight decay applied to the parameter itself: :class:`Adam` with
    ``decoupled_weight_decay=True``.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-3
    betas : (float or schedule, float or schedule), default (0.9, 0.999)
    eps : float or schedule, default 1e-8
    weight_decay : float or schedule, default 1e-2
    amsgrad, maximize, foreach, capturable, differentiable, fused, style
        As for :class:`Adam`.

    References
    ----------
    Loshchilov & Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-3,
        betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
        eps: float | Schedule = 1e-8,
        weight_decay: float | Schedule = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        style: str = "torch",
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
            style=style,
        )


class NAdam(Optimizer):
    """Adam with Nesterov's momentum.

    With m and v as in :class:`Adam`, ``mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2)`` and M the product
    ``mu_1 ... mu_t``::

        p <- p - lr * ((1 - mu_t) / (1 - M) * g + mu_(t+1) / (1 - M * mu_(t+1)) * m)
                 / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 2e-3
    betas : (float or schedule, float or schedule), default (0.9, 0.999)
    eps : float or schedule, default 1e-8
    weight_decay : float or schedule, default 0
    momentum_decay : float or schedule, default 4e-3
    decoupled_weight_decay : bool, default False
    foreach, maximize, capturable, differentiable
        As for :class:`Adam`.
    style : {"torch", "optax", "keras"}, default "torch"
        "keras": as if `momentum_decay` were 1. "optax": ``mu_t = beta1``.

    References
    ----------
    Dozat, "Incorporating Nesterov Momentum into Adam", 2016.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="nadam_step",
        hyper={**_MOMENTS, "momentum_decay": (0.0, math.inf)},
        flags={},
        buffers={"exp_avg": None, "exp_avg_sq": None},
        record=("mu_product",),
        styles=("torch", "optax", "keras"),
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 2e-3,
        betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
        eps: float | Schedule = 1e-8,
        weight_decay: float | Schedule = 0,
        momentum_decay: float | Schedule = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        style: str = "torch",
    ) -> None:
        super().__init__(params, settings(locals()))


class RAdam(Optimizer):
    """Adam whose adaptive step waits until its variance is known, and is rectified by it.

    With m and v as in :class:`Adam`, ``R = 2 / (1 - beta2) - 1`` and ``rho = R - 2 t beta2^t / (1 - beta2^t)``::

        p <- p - lr * m / (1 - beta1^t)                                                    while rho <= 5
        p <- p - lr * m / (1 - beta1^t) * r * sqrt(1 - beta2^t) / (sqrt(v) + eps)          after that
             r = sqrt((rho - 4) (rho - 2) R / ((R - 4) (R - 2) rho))

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-3
    betas : (float or schedule, float or schedule), default (0.9, 0.999)
    eps : float or schedule, default 1e-8
    weight_decay : float or schedule, default 0
    decoupled_weight_decay : bool, default False
    foreach, maximize, capturable, differentiable
        As for :class:`Adam`.
    style : {"torch", "optax"}, default "torch"
        "optax": from ``rho >= 5`` on, with eps as in :class:`Adam`.

    References
    ----------
    Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", ICLR 2020, algorithm 2.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="adam_step",
        hyper=_MOMENTS,
        flags={},
        buffers={"exp_avg": None, "exp_avg_sq": None},
        always=2,
        styles=("torch", "optax"),
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-3,
        betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
        eps: float | Schedule = 1e-8,
        weight_decay: float | Schedule = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        style: str = "torch",
    ) -> None:
        super().__init__(params, settings(locals()))


class Adamax(Optimizer):
    """Adam over the infinity norm.

    With m as in :class:`Adam`::

        u <- max(beta2 * u, |g| + eps)
        p <- p - lr / (1 - beta1^t) * m / u

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 2e-3
    betas : (float or schedule, float or schedule), default (0.9, 0.999)
    eps : float or schedule, default 1e-8
    weight_decay : float or schedule, default 0
    foreach, maximize, differentiable, capturable
        As for :class:`Adam`.
    style : {"torch", "optax", "keras"}, default "torch"
        "keras": ``u <- max(beta2 * u, |g|)`` and ``m / (u + eps)``.

    References
    ----------
    Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 2.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="adamax_step",
        hyper=_MOMENTS,
        flags={},
        buffers={"exp_avg": None, "exp_inf": None},
        styles=("torch", "optax", "keras"),
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 2e-3,
        betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
        eps: float | Schedule = 1e-8,
        weight_decay: float | Schedule = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        style: str = "torch",
    ) -> None:
        super().__init__(params, settings(locals()))
