"""Optimizers that estimate their learning rate, the distance to the solution: Prodigy, DAdaptAdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from ..tensor import Tensor
from .optimizer import OWN_DECAY, Optimizer, Rule, Schedule, settings

__all__ = ["DAdaptAdamW", "Prodigy"]


class Prodigy(Optimizer):
    """Adam whose learning rate is found along the way.

    ``d``, d0 at first, estimates the distance from the start p0 to the solution. For update t = 1, 2, ... with
    e = d * lr and beta3 = sqrt(beta2); the sums run over all parameters together::

        m <- beta1 * m + (1 - beta1) * d * g
        v <- beta2 * v + (1 - beta2) * d^2 * g^2
        r <- beta3 * r + d / d0 * e * sum(g * (p0 - p))
        s <- beta3 * s + d / d0 * e * g                                (d^2 / d0 * g with `safeguard_warmup`)
        d <- max(d, d_coef * r / sum(|s|))
        p <- p * (1 - e * weight_decay) - e * m / (sqrt(v) + d * eps)

    All parameters must have one dtype, and all groups the same options. Leave lr at 1 or give it a schedule from 1
    down.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1.0
    betas : floats or schedules, default (0.9, 0.999)
    eps : float or schedule, default 1e-8
    weight_decay : float or schedule, default 0
    use_bias_correction : bool, default False
        e is also multiplied by sqrt(1 - beta2^t) / (1 - beta1^t).
    safeguard_warmup : bool, default False
    d0 : float or schedule, default 1e-6
    d_coef : float or schedule, default 1.0
    maximize : bool, default False

    References
    ----------
    Mishchenko & Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", ICML 2024, algorithm 4.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="prodigy_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "betas": ((0.0, 1.0), (0.0, 1.0)),
            "eps": (0.0, math.inf),
            "d0": (1e-300, math.inf),
            "d_coef": (0.0, math.inf),
        },
        flags={"use_bias_correction": 1, "safeguard_warmup": 2},
        buffers={"exp_avg": None, "exp_avg_sq": None, "s": None, "p0": None},
        record=("d", "d_numerator",),
        always=OWN_DECAY,
        shared=True,
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1.0,
        betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
        eps: float | Schedule = 1e-8,
        weight_decay: float | Schedule = 0,
        *,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        d0: float | Schedule = 1e-6,
        d_coef: float | Schedule = 1.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, settings(locals()))


class DAdaptAdamW(Optimizer):
    """AdamW whose learning rate is found along the way.

    ``d``, d0 at first, estimates the distance to the solution. For update t = 1, 2, ... with
    e = d * lr * sqrt(1 - beta2^t) / (1 - beta1^t) and b = sqrt(beta2); the sums run over all parameters together::

        r <- b * r + (1 - b) * e * sum(g * s / (sqrt(v) + eps))
        m <- beta1 * m + (1 - beta1) * e * g
        v <- beta2 * v + (1 - beta2) * g^2
        s <- b * s + (1 - b) * e * g
        d <- max(d, r / ((1 - b) * sum(|s|)))                          (from the next update on)
        p <- p * (1 - e * weight_decay) - m / (sqrt(v) + eps)

    All parameters must have one dtype, and all groups the same options. Leave lr at 1 or give it a schedule from 1
    down.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1.0
    betas : floats or schedules, default (0.9, 0.999)
    eps : float or schedule, default 1e-8
    weight_decay : float or schedule, default 0
    d0 : float or schedule, default 1e-6
    maximize : bool, default False

    References
    ----------
    Defazio & Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", ICML 2023, algorithm 5, with the decoupled
    decay of their code.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="dadapt_adam_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "betas": ((0.0, 1.0), (0.0, 1.0)),
            "eps": (0.0, math.inf),
            "d0": (1e-300, math.inf),
        },
        flags={},
        buffers={"exp_avg": None, "exp_avg_sq": None, "s": None},
        record=("d", "numerator_weighted",),
        always=OWN_DECAY,
        shared=True,
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1.0,
        betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
        eps: float | Schedule = 1e-8,
        weight_decay: float | Schedule = 0,
        *,
        d0: float | Schedule = 1e-6,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, settings(locals()))
