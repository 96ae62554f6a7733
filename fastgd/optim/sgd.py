"""Stochastic gradient descent with momentum, as ``torch.optim.SGD``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from .._core import ShapeError
from ..tensor import Tensor
from .optimizer import Optimizer, Rule

__all__ = ["SGD"]


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

    References
    ----------
    Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML
    2013, in PyTorch's form, where lr is outside the momentum buffer.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="sgd_step",
        hyper={
            "lr": (0.0, math.inf),
            "momentum": (0.0, math.inf),
            "dampening": (-math.inf, math.inf),
            "weight_decay": (0.0, math.inf),
        },
        flags={"nesterov": 1, "maximize": 2, "momentum": 4},
        buffers={"momentum_buffer": "momentum"},
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Callable[[int], float] = 1e-3,
        momentum: float | Callable[[int], float] = 0,
        dampening: float | Callable[[int], float] = 0,
        weight_decay: float | Callable[[int], float] = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "foreach": foreach,
                "differentiable": differentiable,
                "fused": fused,
            },
        )

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
