"""Adagrad, Adadelta, RMSprop, Rprop: steps scaled by size or sign of past gradients; as in ``torch.optim``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from .._core import ShapeError
from ..tensor import Tensor
from .optimizer import Optimizer, Rule, Schedule, settings

__all__ = ["Adadelta", "Adagrad", "RMSprop", "Rprop"]


class Adagrad(Optimizer):
    """Gradient descent scaled by the root of the sum of all squared gradients.

    For update t = 1, 2, ...::

        g   <- g + weight_decay * p
        sum <- sum + g * g                                     (sum = initial_accumulator_value at first)
        p   <- p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(sum) + eps)

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-2
    lr_decay : float or schedule, default 0
    weight_decay : float or schedule, default 0
    initial_accumulator_value : float or schedule, default 0
    eps : float or schedule, default 1e-10
    foreach, maximize, differentiable, fused
        As for :class:`SGD`.
    style : {"torch", "optax", "keras"}, default "torch"
        "optax" and "keras": ``g / sqrt(sum + eps)``; their defaults are an initial value of 0.1 and eps 1e-7.

    References
    ----------
    Duchi, Hazan, Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization",
    JMLR 12, 2011.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="adagrad_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "lr_decay": (0.0, math.inf),
            "initial_accumulator_value": (0.0, math.inf),
            "eps": (0.0, math.inf),
        },
        flags={},
        buffers={"sum": None},
        styles=("torch", "optax", "keras"),
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-2,
        lr_decay: float | Schedule = 0,
        weight_decay: float | Schedule = 0,
        initial_accumulator_value: float | Schedule = 0,
        eps: float | Schedule = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        style: str = "torch",
    ) -> None:
        super().__init__(params, settings(locals()))


class Adadelta(Optimizer):
    """Gradient descent whose steps have the size of past steps.

    For each update::

        g <- g + weight_decay * p
        v <- rho * v + (1 - rho) * g * g
        d <- sqrt(a + eps) / sqrt(v + eps) * g
        a <- rho * a + (1 - rho) * d * d
        p <- p - lr * d

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1
    rho : float or schedule, default 0.9
    eps : float or schedule, default 1e-6
    weight_decay : float or schedule, default 0
    foreach, capturable, maximize, differentiable
        As for :class:`SGD`.

    References
    ----------
    Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, algorithm 1. Optax and Keras compute the same.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="adadelta_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "rho": (0.0, math.nextafter(1.0, 2.0)),
            "eps": (0.0, math.inf),
        },
        flags={},
        buffers={"square_avg": None, "acc_delta": None},
        styles=("torch", "optax", "keras"),
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1.0,
        rho: float | Schedule = 0.9,
        eps: float | Schedule = 1e-6,
        weight_decay: float | Schedule = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        style: str = "torch",
    ) -> None:
        super().__init__(params, settings(locals()))


class RMSprop(Optimizer):
    """Gradient descent scaled by the root of the mean of squared gradients.

    For each update::

        g   <- g + weight_decay * p
        v   <- alpha * v + (1 - alpha) * g * g
        u   <- g / (sqrt(v) + eps)
        buf <- momentum * buf + u                               (with momentum only)
        p   <- p - lr * (buf or u)

    With `centered` the square of the mean gradient is taken from v, which makes it a variance.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-2
    alpha : float or schedule, default 0.99
    eps : float or schedule, default 1e-8
    weight_decay : float or schedule, default 0
    momentum : float or schedule, default 0
    centered : bool, default False
    capturable, foreach, maximize, differentiable
        As for :class:`SGD`.
    style : {"torch", "optax", "keras"}, default "torch"
        "optax" and "keras": ``u = lr * g / sqrt(v + eps)`` goes into the buffer; their defaults are alpha 0.9 and
        eps 1e-8 (Optax) or 1e-7 (Keras).

    References
    ----------
    Hinton, Srivastava, Swersky, "Neural Networks for Machine Learning", lecture 6e, 2012; centered: Graves,
    "Generating Sequences With Recurrent Neural Networks", 2013, equations 38 to 45.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="rmsprop_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "alpha": (0.0, math.inf),
            "eps": (0.0, math.inf),
            "momentum": (0.0, math.inf),
        },
        flags={"momentum": 1, "centered": 2},
        buffers={"square_avg": None, "momentum_buffer": "momentum", "grad_avg": "centered"},
        styles=("torch", "optax", "keras"),
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-2,
        alpha: float | Schedule = 0.99,
        eps: float | Schedule = 1e-8,
        weight_decay: float | Schedule = 0,
        momentum: float | Schedule = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        style: str = "torch",
    ) -> None:
        super().__init__(params, settings(locals()))


class Rprop(Optimizer):
    """Steps that depend on the signs of gradients alone: for full batches.

    Each element has a step of its own, lr at first. It is multiplied by ``etas[1]`` while the sign of its gradient
    stays the same, by ``etas[0]`` when it turns (that gradient then counts as 0), and kept within `step_sizes`::

        p <- p - sign(g) * step

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-2
        The first step; what it becomes later is not read.
    etas : (float, float), default (0.5, 1.2)
        ``0 < etas[0] < 1 < etas[1]``.
    step_sizes : (float, float), default (1e-6, 50)
    capturable, foreach, maximize, differentiable
        As for :class:`SGD`.

    References
    ----------
    Riedmiller & Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm", 1993;
    this form: Igel & Huesken, "Improving the Rprop Learning Algorithm", 2000 (iRprop-).
    """

    rule: ClassVar[Rule] = Rule(
        kernel="rprop_step",
        hyper={
            "lr": (0.0, math.inf),
            "etas": ((0.0, 1.0), (1.0, math.inf)),
            "step_sizes": ((0.0, math.inf), (0.0, math.inf)),
        },
        flags={},
        buffers={"prev": None, "step_size": None},
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-2,
        etas: tuple[float | Schedule, float | Schedule] = (0.5, 1.2),
        step_sizes: tuple[float | Schedule, float | Schedule] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(params, settings(locals()))

    def _check_group(self, group: Mapping[str, Any], index: int) -> None:
        super()._check_group(group, index)
        etas = group["etas"]
        if any(not callable(eta) and eta in (0, 1) for eta in etas):
            raise ShapeError(f"Rprop: etas of group {index} must be 0 < etas[0] < 1 < etas[1], got {etas}")
