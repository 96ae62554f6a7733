"""Losses as modules.

A layer holds parameters and options; what the operation means, its shapes and its errors are those of the function of
:mod:`fastgd.nn.functional` that it calls.
"""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from . import functional as F
from .module import Module

__all__ = [
    "CrossEntropyLoss",
    "MSELoss",
]


class CrossEntropyLoss(Module):
    """Cross-entropy of logits and integer labels; see :func:`fastgd.nn.functional.cross_entropy`.

    Parameters
    ----------
    ignore_index : int, default -100
        Rows with this label do not count.
    reduction : {"mean", "sum", "none"}, default "mean"
    weight, size_average, reduce, label_smoothing
        As in PyTorch; only their defaults are offered.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: Any = None,
        ignore_index: int = -100,
        reduce: Any = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.size_average = size_average
        self.ignore_index = ignore_index
        self.reduce = reduce
        self.reduction = reduction
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """(N, classes), (N,) -> () or, with reduction "none", (N,)"""
        return F.cross_entropy(
            input,
            target,
            self.weight,
            self.size_average,
            self.ignore_index,
            self.reduce,
            self.reduction,
            self.label_smoothing,
        )


class MSELoss(Module):
    """Squared error; see :func:`fastgd.nn.functional.mse_loss`.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default "mean"
    size_average, reduce
        As in PyTorch; only their defaults are offered.
    """

    def __init__(self, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> None:
        super().__init__()
        self.size_average = size_average
        self.reduce = reduce
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape -> () or, with reduction "none", that shape"""
        return F.mse_loss(input, target, self.size_average, self.reduce, self.reduction)
