"""SGD with momentum and ASGD, as in ``torch.optim``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from .._core import ShapeError
from ..tensor import Tensor
from .optimizer import Optimizer, Rule, Schedule, settings

__all__ = ["ASGD", "SGD"]


class SGD(Optimizer):
    """Gradient descent, with optional momentum.

    For update t, with gradient g (negated if `maximize`) and parameter p::

        g   <- g + weight_decay * p
        buf <- momentum * buf + (1 - dampening) * g          (the first time: buf <- g)
        g   <- g + momentum * buf   if nesterov else   buf   (with momentum only)
        p   <- p - lr * g

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-3
    momentum : float or schedule, default 0
    dampening : float or schedule, default 0
    weight_decay : float or schedule, default 0
        L2 penalty, added to the gradient.
    nesterov : bool, default False
        Needs momentum and no dampening.
    maximize : bool, default False
    foreach, fused : optional
        Accepted; the update is always fused.
    differentiable : bool
        True is not offered.
    style : {"torch", "optax", "keras"}, default "torch"
        "keras": lr inside the buffer, ``buf <- momentum * buf - lr * g``, so that a change of lr reaches the
        parameters slowly; ``p <- p + buf``, with `nesterov` ``p + momentum * buf - lr * g``.

    References
    ----------
    Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML
    2013, in PyTorch's form, where lr is outside the momentum buffer.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="sgd_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "momentum": (0.0, math.inf),
            "dampening": (-math.inf, math.inf),
        },
        flags={"momentum": 1, "nesterov": 2},
        buffers={"momentum_buffer": "momentum"},
        styles=("torch", "optax", "keras"),
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-3,
        momentum: float | Schedule = 0,
        dampening: float | Schedule = 0,
        weight_decay: float | Schedule = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        style: str = "torch",
    ) -> None:
        super().__init__(params, settings(locals()))

    def _check_group(self, group: Mapping[str, Any], index: int) -> None:
        super()._check_group(group, index)
        momentum, dampening = group["momentum"], group["dampening"]
        positive = callable(momentum) or momentum > 0
        if group["nesterov"] and not (positive and not callable(dampening) and dampening == 0):
            raise ShapeError(
                f"SGD: nesterov of group {index} needs momentum > 0 and dampening = 0, "
                f"got momentum = {momentum}, dampening = {dampening}"
            )

    def _complete_state(self, saved: dict[str, Any]) -> dict[str, Any]:
        # PyTorch's SGD counts no steps; a buffer that exists has been updated at least once.
        return {"step": int("momentum_buffer" in saved), **saved}


class ASGD(Optimizer):
    """Gradient descent whose parameters are averaged along the way.

    For update t = 1, 2, ..., with eta = lr at first::

        g   <- g + weight_decay * p
        p   <- p * (1 - lambd * eta) - eta * g
        ax  <- ax + mu * (p - ax)
        eta <- lr / (1 + lambd * lr * t) ** alpha,  mu <- 1 / max(1, t - t0)

    The average is the state ``ax``; it is the parameter itself until update `t0`.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-2
    lambd : float or schedule, default 1e-4
        Decay of the parameters.
    alpha : float or schedule, default 0.75
        Power of the fall of eta.
    t0 : float or schedule, default 1e6
        When averaging begins.
    weight_decay : float or schedule, default 0
    foreach, maximize, differentiable, capturable
        As for :class:`SGD`.

    References
    ----------
    Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", 1992; Xu, "Towards Optimal
    One Pass Large Scale Learning with Averaged Stochastic Gradient Descent", 2010.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="asgd_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "lambd": (-math.inf, math.inf),
            "alpha": (-math.inf, math.inf),
            "t0": (-math.inf, math.inf),
        },
        flags={},
        buffers={"ax": None},
        record=("eta", "mu"),
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-2,
        lambd: float | Schedule = 1e-4,
        alpha: float | Schedule = 0.75,
        t0: float | Schedule = 1e6,
        weight_decay: float | Schedule = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        super().__init__(params, settings(locals()))
