"""Layers of products, and those that only rearrange: names and defaults of ``torch.nn``.

A layer holds parameters and options; what the operation means, its shapes and its errors are those of the function of
:mod:`fastgd.nn.functional` that it calls.
"""

from __future__ import annotations

import math
from typing import Any

from .._core import ShapeError
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import new_parameter

__all__ = [
    "Flatten",
    "Identity",
    "Linear",
]


class Linear(Module):
    """``y = x @ weight.T + bias``.

    Weight and bias start uniform in ±1/sqrt(in_features).

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the last dimension of input and output, at least 1.
    bias : bool, default True
    device : optional
        Accepted if it is the CPU.
    dtype : dtype or str, optional
        float32 unless given.

    Attributes
    ----------
    weight : Parameter
        (out_features, in_features)
    bias : Parameter or None
        (out_features,)

    References
    ----------
    He et al., "Delving Deep into Rectifiers", ICCV 2015, with a = sqrt(5), which is PyTorch's
    choice and equals LeCun's uniform(±1/sqrt(fan_in)).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        for name, size in (("in_features", in_features), ("out_features", out_features)):
            if size < 1:
                raise ShapeError(f"Linear: {name} must be at least 1, got {size}")
        self.in_features = in_features
        self.out_features = out_features
        self.weight = new_parameter((out_features, in_features), device, dtype)
        self.register_parameter("bias", new_parameter((out_features,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew from the global generator."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)"""
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Identity(Module):
    """Returns its input; arguments are accepted and ignored, as in PyTorch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """The input itself."""
        return input


class Flatten(Module):
    """Merge dimensions `start_dim` to `end_dim` (both included) into one.

    Parameters
    ----------
    start_dim : int, default 1
    end_dim : int, default -1
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        """(N, a, b, ...) -> (N, a * b * ...) with the defaults"""
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
