"""Relatives of Adam from outside PyTorch: AdaBelief, AdEMAMix, Adan, ADOPT, Lion, Sophia."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from .. import _core
from .._core import DtypeError, NotOffered, ShapeError
from ..tensor import Tensor
from .optimizer import DECOUPLED, OWN_DECAY, Optimizer, Rule, Schedule, settings

__all__ = ["ADOPT", "AdEMAMix", "AdaBelief", "Adan", "Lion", "Sophia"]


class Lion(Optimizer):
    """Steps of one size in the direction of the sign of an average.

    For each update::

        p <- p * (1 - lr * weight_decay)
        p <- p - lr * sign(beta1 * m + (1 - beta1) * g)
        m <- beta2 * m + (1 - beta2) * g

    Its lr is about a tenth of Adam's, its weight decay ten times that of AdamW.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-4
    betas : floats or schedules, default (0.9, 0.99)
    weight_decay : float or schedule, default 1e-3
    maximize : bool, default False

    References
    ----------
    Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, algorithm 2.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="lion_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "betas": ((0.0, 1.0), (0.0, 1.0)),
        },
        flags={},
        buffers={"exp_avg": None},
        always=DECOUPLED,
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-4,
        betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.99),
        weight_decay: float | Schedule = 1e-3,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, settings(locals()))


class AdaBelief(Optimizer):
    """Adam whose second moment is the variance of the gradient around its mean.

    For update t = 1, 2, ...::

        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * (g - m)^2 + eps_root
        p <- p - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-3
    betas : floats or schedules, default (0.9, 0.999)
    eps : float or schedule, default 1e-16
    weight_decay : float or schedule, default 0
    decoupled_weight_decay : bool, default False
    eps_root : float or schedule, default 1e-16
    maximize : bool, default False

    References
    ----------
    Zhuang et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients", NeurIPS 2020,
    algorithm 2; defaults of Optax.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="adabelief_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "betas": ((0.0, 1.0), (0.0, 1.0)),
            "eps": (0.0, math.inf),
            "eps_root": (0.0, math.inf),
        },
        flags={},
        buffers={"exp_avg": None, "exp_avg_var": None},
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-3,
        betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
        eps: float | Schedule = 1e-16,
        weight_decay: float | Schedule = 0,
        decoupled_weight_decay: bool = False,
        *,
        eps_root: float | Schedule = 1e-16,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, settings(locals()))


class Adan(Optimizer):
    """Adam with Nesterov's momentum, estimated from differences of gradients.

    For update t = 1, 2, ... with d the difference to the previous gradient, 0 at first::

        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * d
        n <- beta3 * n + (1 - beta3) * (g + beta2 * d)^2
        u <- (m / (1 - beta1^t) + beta2 * v / (1 - beta2^t)) / (sqrt(n / (1 - beta3^t) + eps_root) + eps)
        p <- (p - lr * u) / (1 + lr * weight_decay)             p * (1 - lr * weight_decay) - lr * u    with no_prox

    The betas are 1 minus those of the paper.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-3
    betas : floats or schedules, default (0.98, 0.92, 0.99)
    eps : float or schedule, default 1e-8
    weight_decay : float or schedule, default 0
    no_prox : bool, default False
    eps_root : float or schedule, default 0
    maximize : bool, default False
    style : {"torch", "optax"}, default "torch"
        "optax": ``1 - beta2`` where beta2 weighs d and v, and decoupled decay as with `no_prox`.

    References
    ----------
    Xie et al., "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models", 2022, algorithm 1;
    arguments of the authors' code.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="adan_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "betas": ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0)),
            "eps": (0.0, math.inf),
            "eps_root": (0.0, math.inf),
        },
        flags={"no_prox": 1},
        buffers={"exp_avg": None, "exp_avg_sq": None, "exp_avg_diff": None, "previous_grad": None},
        always=OWN_DECAY,
        styles=("torch", "optax"),
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-3,
        betas: tuple[float | Schedule, float | Schedule, float | Schedule] = (0.98, 0.92, 0.99),
        eps: float | Schedule = 1e-8,
        weight_decay: float | Schedule = 0,
        no_prox: bool = False,
        *,
        eps_root: float | Schedule = 0,
        maximize: bool = False,
        style: str = "torch",
    ) -> None:
        super().__init__(params, settings(locals()))


class AdEMAMix(Optimizer):
    """Adam with a second, slow average of the gradient.

    For update t = 1, 2, ...::

        p    <- p * (1 - lr * weight_decay)
        m    <- beta1 * m + (1 - beta1) * g
        slow <- beta3 * slow + (1 - beta3) * g
        v    <- beta2 * v + (1 - beta2) * g * g
        p    <- p - lr * (m / (1 - beta1^t) + alpha * slow) / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    For long runs the authors raise alpha and beta3 over the whole run: give both as schedules.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-3
    betas : floats or schedules, default (0.9, 0.999, 0.9999)
    alpha : float or schedule, default 5.0
    eps : float or schedule, default 1e-8
    weight_decay : float or schedule, default 0
    maximize : bool, default False

    References
    ----------
    Pagliardini, Ablin, Grangier, "The AdEMAMix Optimizer: Better, Faster, Older", 2024, equation 1.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="ademamix_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "betas": ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0)),
            "alpha": (0.0, math.inf),
            "eps": (0.0, math.inf),
        },
        flags={},
        buffers={"exp_avg": None, "exp_avg_slow": None, "exp_avg_sq": None},
        always=DECOUPLED,
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-3,
        betas: tuple[float | Schedule, float | Schedule, float | Schedule] = (0.9, 0.999, 0.9999),
        alpha: float | Schedule = 5.0,
        eps: float | Schedule = 1e-8,
        weight_decay: float | Schedule = 0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, settings(locals()))


class ADOPT(Optimizer):
    """Adam that converges with any beta2: the gradient is scaled by the second moment of the step before.

    The first update sets ``v <- g * g`` and moves nothing. For update t = 2, 3, ...::

        u <- g / max(sqrt(v), eps)                       clipped to +-(t - 1)^(1/4) with `clip`
        m <- beta1 * m + (1 - beta1) * u
        p <- p - lr * m
        v <- beta2 * v + (1 - beta2) * g * g

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-3
    betas : floats or schedules, default (0.9, 0.9999)
    eps : float or schedule, default 1e-6
    weight_decay : float or schedule, default 0
    decoupled_weight_decay : bool, default False
    clip : bool, default True
    maximize : bool, default False

    References
    ----------
    Taniguchi et al., "ADOPT: Modified Adam Can Converge with Any beta2 with the Optimal Rate", NeurIPS 2024,
    algorithm 2, with the clipping of its second version.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="adopt_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "betas": ((0.0, 1.0), (0.0, 1.0)),
            "eps": (0.0, math.inf),
        },
        flags={"clip": 1},
        buffers={"exp_avg": None, "exp_avg_sq": None},
        always=OWN_DECAY,
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-3,
        betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.9999),
        eps: float | Schedule = 1e-6,
        weight_decay: float | Schedule = 0,
        decoupled_weight_decay: bool = False,
        *,
        clip: bool = True,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, settings(locals()))


class Sophia(Optimizer):
    """Newton-like steps with a diagonal curvature that is estimated now and then, clipped element by element.

    For each update, with h the estimate that :meth:`update_hessian` keeps::

        p <- p * (1 - lr * weight_decay)
        m <- beta1 * m + (1 - beta1) * g
        p <- p - lr * clip(m / (rho * h + eps), -1, 1)

    Parameters
    ----------
    params : iterable of Tensor, or of dict
    lr : float or schedule, default 1e-4
    betas : floats or schedules, default (0.965, 0.99)
    rho : float or schedule, default 0.04
    weight_decay : float or schedule, default 0.1
    eps : float or schedule, default 1e-15
    maximize : bool, default False
    style : {"torch", "optax"}, default "torch"
        "optax": ``clip(m / (1 - beta1^t) / max(rho * h, eps), -1, 1)``; there rho is called gamma.

    References
    ----------
    Liu et al., "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training", 2023, algorithm
    3; estimators: algorithms 1 (Hutchinson) and 2 (Gauss-Newton-Bartlett); defaults of the authors' code.
    """

    rule: ClassVar[Rule] = Rule(
        kernel="sophia_step",
        hyper={
            "lr": (0.0, math.inf),
            "weight_decay": (0.0, math.inf),
            "betas": ((0.0, 1.0), (0.0, 1.0)),
            "rho": (0.0, math.inf),
            "eps": (0.0, math.inf),
        },
        flags={},
        buffers={"exp_avg": None, "hessian": None},
        always=DECOUPLED,
        styles=("torch", "optax"),
    )

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Schedule = 1e-4,
        betas: tuple[float | Schedule, float | Schedule] = (0.965, 0.99),
        rho: float | Schedule = 0.04,
        weight_decay: float | Schedule = 0.1,
        *,
        eps: float | Schedule = 1e-15,
        maximize: bool = False,
        style: str = "torch",
    ) -> None:
        super().__init__(params, settings(locals()))

    def update_hessian(self, batch_size: int | None = None, vectors: Sequence[Tensor] | None = None) -> None:
        """Take the present gradients as an estimate of the curvature's diagonal: ``h <- beta2 * h + (1 - beta2) * e``.

        Parameters
        ----------
        batch_size : int, optional
            Gauss-Newton-Bartlett: the gradients are those of the mean loss over a batch of this size with labels
            drawn from the model's own predictions; ``e = batch_size * g * g``.
        vectors : list of Tensor, optional
            Hutchinson: one tensor u of normal numbers for each parameter; the gradients are the products H u, that
            is, gradients of ``sum(g * u)``; ``e = u * g``.

        Raises
        ------
        TypeError
            Unless exactly one of the two is given.
        """
        if _core.is_tracing():
            raise NotOffered("Sophia.update_hessian inside fastgd.compile is not offered: call it between two steps")
        if (batch_size is None) == (vectors is None):
            raise DtypeError("Sophia.update_hessian: give either batch_size or vectors")
        if vectors is not None and [tuple(v.shape) for v in vectors] != [tuple(p.shape) for p in self._params]:
            raise ShapeError("Sophia.update_hessian: vectors must have the shapes of the parameters")
        for index, (p, row) in enumerate(zip(self._params, self._group_of, strict=True)):
            if p.grad is None:
                continue
            beta2 = self.param_groups[row]["betas"][1]
            beta2 = float(beta2(self._updates) if callable(beta2) else beta2)
            hessian: Any = self._state_tensors(index, ["exp_avg", "hessian"])[1]
            g = p.grad.detach()
            factor = vectors[index].detach() if vectors is not None else g * float(batch_size or 0)
            estimate = g * factor
            hessian.copy_(hessian * beta2 + estimate * (1 - beta2))
