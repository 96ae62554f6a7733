"""Activations as layers.

A layer holds parameters and options; what the operation means, its shapes and its errors are those of the function of
:mod:`fastgd.nn.functional` that it calls.
"""

from __future__ import annotations

from typing import Any

from .._core import ShapeError
from ..ops.creation import full
from ..tensor import Tensor
from . import functional as F
from .module import Module
from .parameter import Parameter

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "SwiGLU",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


def _options(inplace: bool, **options: object) -> str:
    """How PyTorch prints them: `inplace` only if it is set."""
    shown = [f"{name}={value}" for name, value in options.items()]
    return ", ".join([*shown, "inplace=True"] if inplace else shown)


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


class ReLU6(Module):
    """``min(max(x, 0), 6)``.

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
        return F.relu6(input)

    def extra_repr(self) -> str:
        return _options(self.inplace)


class LeakyReLU(Module):
    """``x`` where it is positive, else ``negative_slope * x``.

    Parameters
    ----------
    negative_slope : float, default 0.01
    inplace : bool, default False
        Accepted; the input is never changed.
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        return _options(self.inplace, negative_slope=self.negative_slope)


class PReLU(Module):
    """``x`` where it is positive, else ``weight * x`` with a learned slope for all, or one for each channel (dim 1).

    Parameters
    ----------
    num_parameters : int, default 1
        1, or the number of channels.
    init : float, default 0.25
        The first value of `weight`, whose shape is (num_parameters,).

    References
    ----------
    He et al., "Delving deep into rectifiers", 2015.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        if num_parameters < 1:
            raise ShapeError(f"PReLU: num_parameters must be at least 1, got {num_parameters}")
        self.num_parameters = num_parameters
        self.init = init
        self.weight = Parameter(full((num_parameters,), float(init), dtype=dtype, device=device))

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class RReLU(Module):
    """LeakyReLU with the mean of two slopes; the random slopes of training are not offered.

    Parameters
    ----------
    lower, upper : float, default 1/8 and 1/3
    inplace : bool, default False
        Accepted; the input is never changed.
    """

    def __init__(self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False) -> None:
        super().__init__()
        self.lower = lower
        self.upper = upper
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.rrelu(input, self.lower, self.upper, self.training)

    def extra_repr(self) -> str:
        return _options(self.inplace, lower=self.lower, upper=self.upper)


class ELU(Module):
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``.

    Parameters
    ----------
    alpha : float, default 1.0
    inplace : bool, default False
        Accepted; the input is never changed.
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.elu(input, self.alpha)

    def extra_repr(self) -> str:
        return _options(self.inplace, alpha=self.alpha)


class CELU(Module):
    """``x`` where it is positive, else ``alpha * (exp(x / alpha) - 1)``.

    Parameters
    ----------
    alpha : float, default 1.0
        Not 0.
    inplace : bool, default False
        Accepted; the input is never changed.
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.celu(input, self.alpha)

    def extra_repr(self) -> str:
        return _options(self.inplace, alpha=self.alpha)


class SELU(Module):
    """``1.0507 * elu(x, 1.6733)``, which keeps mean 0 and variance 1.

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
        return F.selu(input)

    def extra_repr(self) -> str:
        return _options(self.inplace)


class Mish(Module):
    """``x * tanh(log(1 + exp(x)))``.

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
        return F.mish(input)

    def extra_repr(self) -> str:
        return _options(self.inplace)


class Softplus(Module):
    """``log(1 + exp(beta * x)) / beta``, and ``x`` where ``beta * x > threshold``.

    Parameters
    ----------
    beta : float, default 1.0
        Not 0.
    threshold : float, default 20.0
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Softsign(Module):
    """``x / (1 + abs(x))``."""

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.softsign(input)


class LogSigmoid(Module):
    """``log(1 / (1 + exp(-x)))``."""

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.logsigmoid(input)


class Tanhshrink(Module):
    """``x - tanh(x)``."""

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.tanhshrink(input)


class Hardtanh(Module):
    """``min(max(x, min_val), max_val)``.

    Parameters
    ----------
    min_val, max_val : float, default -1.0 and 1.0
    inplace : bool, default False
        Accepted; the input is never changed.
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        if not min_val < max_val:
            raise ShapeError(f"Hardtanh: expected min_val < max_val, got {min_val} and {max_val}")
        self.min_val = min_val
        self.max_val = max_val
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.hardtanh(input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return _options(self.inplace, min_val=self.min_val, max_val=self.max_val)


class Hardsigmoid(Module):
    """``relu6(x + 3) / 6``.

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
        return F.hardsigmoid(input)


class Hardswish(Module):
    """``x * relu6(x + 3) / 6``.

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
        return F.hardswish(input)


class Hardshrink(Module):
    """``x`` where ``abs(x) > lambd``, else 0.

    Parameters
    ----------
    lambd : float, default 0.5
    """

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.hardshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Softshrink(Module):
    """``x`` moved towards 0 by `lambd`, and 0 where ``abs(x) <= lambd``.

    Parameters
    ----------
    lambd : float, default 0.5
        At least 0.
    """

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.softshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Threshold(Module):
    """``x`` where it is greater than `threshold`, else `value`.

    Parameters
    ----------
    threshold, value : float
    inplace : bool, default False
        Accepted; the input is never changed.
    """

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold = threshold
        self.value = value
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.threshold(input, self.threshold, self.value)

    def extra_repr(self) -> str:
        return _options(self.inplace, threshold=self.threshold, value=self.value)


class GLU(Module):
    """``a * sigmoid(b)`` of the halves ``a, b`` of the input along `dim`.

    Parameters
    ----------
    dim : int, default -1
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """(..., 2 n, ...) -> (..., n, ...)"""
        return F.glu(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class SwiGLU(Module):
    """``silu(a) * b`` of the halves ``a, b`` of the input along `dim`; see :func:`fastgd.nn.functional.swiglu`.

    Parameters
    ----------
    dim : int, default -1
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """(..., 2 n, ...) -> (..., n, ...)"""
        return F.swiglu(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmin(Module):
    """``softmax(-x)`` along `dim`.

    Parameters
    ----------
    dim : int
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input."""
        return F.softmin(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax2d(Module):
    """Softmax over the channels of images."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W): same shape."""
        if input.ndim not in (3, 4):
            raise ShapeError(f"Softmax2d: expected 3 or 4 dims, (C, H, W) or (N, C, H, W), got shape {input.shape}")
        return F.softmax(input, -3)
