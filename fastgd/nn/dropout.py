"""Dropout layers.

A layer holds parameters and options; what the operation means, its shapes and its errors are those of the function of
:mod:`fastgd.nn.functional` that it calls.
"""

from __future__ import annotations

from .._core import ShapeError
from ..tensor import Tensor
from . import functional as F
from .module import Module

__all__ = [
    "Dropout",
]


class Dropout(Module):
    """In training, zero each element with probability `p` and divide the rest by ``1 - p``.

    Parameters
    ----------
    p : float, default 0.5
        In [0, 1].
    inplace : bool, default False
        Accepted; the input is never changed.

    References
    ----------
    Srivastava et al., "Dropout", JMLR 2014 (inverted scaling).
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ShapeError(f"Dropout: p must be between 0 and 1, got {p}")
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
