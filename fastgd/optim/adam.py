"""Adam and AdamW, as in ``torch.optim``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from ..tensor import Tensor
from .optimizer import Optimizer, Rule

__all__ = ["Adam", "AdamW"]


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

    References
    ----------
    Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1; Reddi et al.,
    "On the Convergence of Adam and Beyond", ICLR 2018, algorithm 2, in PyTorch's form (the maximum
    of the uncorrected v).
    """

    rule: ClassVar[Rule] = Rule(
        kernel="adam_step",
        hyper={
            "lr": (0.0, math.inf),
            "betas": ((0.0, 1.0), (0.0, 1.0)),
            "eps": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
        },
        flags={"amsgrad": 1, "maximize": 2, "decoupled_weight_decay": 4},
        buffers={"exp_avg": None, "exp_avg_sq": None, "max_exp_avg_sq": "amsgrad"},
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "differentiable": differentiable,
                "fused": fused,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )


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
    amsgrad, maximize, foreach, capturable, differentiable, fused
        As for :class:`Adam`.

    References
    ----------
    Loshchilov & Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
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
        )
