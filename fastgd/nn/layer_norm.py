"""Normalisation over the last dims: LayerNorm and RMSNorm.

A layer holds parameters and options; what the operation means, its shapes and its errors are those of the function of
:mod:`fastgd.nn.functional` that it calls.
"""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import new_parameter

__all__ = ["LayerNorm", "RMSNorm"]


class LayerNorm(Module):
    """``(x - mean) / sqrt(var + eps) * weight + bias``, mean and variance over the last dims.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        Sizes of the dims that are normalised together, the last ones of the input.
    eps : float, default 1e-5
    elementwise_affine : bool, default True
        Whether there are weight (starts 1) and bias (starts 0).
    bias : bool, default True
        False: no bias.
    device : optional
        Accepted if it is the CPU.
    dtype : dtype or str, optional
        float32 unless given.

    Attributes
    ----------
    weight, bias : Parameter or None
        normalized_shape

    References
    ----------
    Ba, Kiros, Hinton, "Layer normalization", 2016.
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        for name, wanted in (("weight", elementwise_affine), ("bias", elementwise_affine and bias)):
            made = new_parameter(self.normalized_shape, device, dtype) if wanted else None
            self.register_parameter(name, made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input, (..., *normalized_shape)."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        affine = f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        return f"{self.normalized_shape}, eps={self.eps}, {affine}"


class RMSNorm(Module):
    """``x / sqrt(mean(x^2) + eps) * weight``, the mean over the last dims.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        Sizes of the dims that are normalised together, the last ones of the input.
    eps : float, optional
        The distance from 1 to the next larger number of the input's dtype unless given.
    elementwise_affine : bool, default True
        Whether there is a weight (starts 1).
    device : optional
        Accepted if it is the CPU.
    dtype : dtype or str, optional
        float32 unless given.

    Attributes
    ----------
    weight : Parameter or None
        normalized_shape

    References
    ----------
    Zhang, Sennrich, "Root mean square layer normalization", NeurIPS 2019.
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        made = new_parameter(self.normalized_shape, device, dtype) if elementwise_affine else None
        self.register_parameter("weight", made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input, (..., *normalized_shape)."""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


def _shape(normalized_shape: Any) -> tuple[int, ...]:
    return tuple(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else (int(normalized_shape),)
