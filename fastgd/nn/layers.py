"""Layers: thin modules over :mod:`fastgd.nn.functional`, with names and defaults of ``torch.nn``.

A layer holds parameters and options; what the operation means, its shapes and its errors are
those of the function it calls.
"""

from __future__ import annotations

import math
from typing import Any

from .. import ops
from .._core import ShapeError
from ..tensor import Tensor
from ..tensor import device as check_device
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

__all__ = [
    "GELU",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Identity",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
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
        self.weight = _parameter((out_features, in_features), device, dtype)
        self.register_parameter("bias", _parameter((out_features,), device, dtype) if bias else None)
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


class ReLU(Module):
    """``max(x, 0)``.

    Parameters
    ----------
    inplace : bool, default False
        Accepted; the input is never changed.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.relu(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class GELU(Module):
    """``x * Phi(x)`` with the normal distribution function Phi.

    Parameters
    ----------
    approximate : {"none", "tanh"}, default "none"

    References
    ----------
    Hendrycks & Gimpel, "Gaussian Error Linear Units", 2016.
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """``x * sigmoid(x)``, also called swish.

    Parameters
    ----------
    inplace : bool, default False
        Accepted; the input is never changed.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.silu(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.tanh(input)


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``."""

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.sigmoid(input)


class Softmax(Module):
    """``exp(x) / sum(exp(x))`` along `dim`.

    Parameters
    ----------
    dim : int
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """Logarithm of the softmax along `dim`, computed without forming it.

    Parameters
    ----------
    dim : int
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


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


def _parameter(shape: tuple[int, ...], device: Any, dtype: Any) -> Parameter:
    if device is not None:
        check_device(device)
    return Parameter(ops.zeros(shape, dtype=dtype))
