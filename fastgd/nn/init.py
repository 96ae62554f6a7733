"""Initial values of parameters: the functions, formulas and defaults of ``torch.nn.init``.

Every function overwrites its tensor in place, outside of differentiation, and returns it.  Random
numbers come from fastgd's global generator (``fastgd.manual_seed``), so a seed fixes a model; the
numbers themselves are not PyTorch's.
"""

from __future__ import annotations

import math

import numpy as np

from .._core import ShapeError
from ..random import normal, uniform
from ..tensor import Tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Factor that keeps the variance of activations through a nonlinearity.

    Parameters
    ----------
    nonlinearity : str
        "linear", "conv1d" ... "conv_transpose3d", "sigmoid" (1), "tanh" (5/3), "relu" (sqrt 2),
        "leaky_relu" (sqrt(2 / (1 + slope²))), "selu" (3/4).
    param : float, optional
        The negative slope of "leaky_relu"; 0.01 unless given.

    Returns
    -------
    float

    References
    ----------
    He et al., "Delving Deep into Rectifiers", ICCV 2015, equations 10 and 15.
    """
    gains = {"tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4, "sigmoid": 1.0, "linear": 1.0}
    gains |= {f"conv{kind}{n}d": 1.0 for kind in ("", "_transpose") for n in (1, 2, 3)}
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in gains:
        raise ShapeError(
            f"calculate_gain: nonlinearity must be one of {sorted([*gains, 'leaky_relu'])}, got {nonlinearity!r}"
        )
    return gains[nonlinearity]


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Fill with numbers uniform in [a, b)."""
    return _fill(tensor, uniform(tensor.shape, a, b, tensor.dtype))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fill with normal numbers."""
    return _fill(tensor, normal(tensor.shape, mean, std, tensor.dtype))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with `val`."""
    tensor.detach().fill_(val)
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with 1."""
    return constant_(tensor, 1.0)


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with ones on the diagonal and zeros elsewhere."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_: expected a matrix, got shape {tuple(tensor.shape)}")
    return _fill(tensor, np.eye(tensor.shape[0], tensor.shape[1]))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Fill uniformly in ``±gain * sqrt(6 / (fan_in + fan_out))``.

    References
    ----------
    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010, equation 16.
    """
    bound = math.sqrt(3.0) * _xavier_std("xavier_uniform_", tensor, gain)
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Fill with normal numbers of deviation ``gain * sqrt(2 / (fan_in + fan_out))``.

    References
    ----------
    Glorot & Bengio, AISTATS 2010.
    """
    return normal_(tensor, 0.0, _xavier_std("xavier_normal_", tensor, gain))


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> Tensor:
    """Fill uniformly in ``±gain * sqrt(3 / fan)``.

    Parameters
    ----------
    tensor : Tensor
        At least 2 dimensions.
    a : float, default 0
        Negative slope of "leaky_relu".
    mode : {"fan_in", "fan_out"}, default "fan_in"
        Keep the variance of the forward or of the backward pass.
    nonlinearity : str, default "leaky_relu"
        See :func:`calculate_gain`.

    References
    ----------
    He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """
    bound = math.sqrt(3.0) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> Tensor:
    """Fill with normal numbers of deviation ``gain / sqrt(fan)``; see :func:`kaiming_uniform_`."""
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity))


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
) -> Tensor:
    """Fill with normal numbers conditioned on lying in [a, b].

    Uniform numbers between the distribution's values at `a` and `b` go through its inverse.

    Parameters
    ----------
    tensor : Tensor
    mean, std : float
        Of the normal distribution before truncation; ``std > 0``.
    a, b : float
        Bounds in the units of the result (not in deviations); ``a < b``.
    """
    if not a < b:
        raise ShapeError(f"trunc_normal_: a must be less than b, got {a} and {b}")
    from statistics import NormalDist  # loads decimal and fractions

    distribution = NormalDist(mean, std)
    low, high = distribution.cdf(a), distribution.cdf(b)
    if not low < high:
        raise ShapeError(f"trunc_normal_: [{a}, {b}] holds no probability of N({mean}, {std}²)")
    quantiles = np.clip(uniform(tensor.shape, low, high, "float64"), np.finfo(np.float64).tiny, np.nextafter(1.0, 0.0))
    values = np.fromiter(map(distribution.inv_cdf, quantiles.ravel()), np.float64, quantiles.size)
    return _fill(tensor, np.clip(values, a, b).reshape(quantiles.shape))


def orthogonal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Fill with a (semi-)orthogonal matrix, uniformly distributed, times `gain`.

    Dimensions after the first are taken together as columns.

    References
    ----------
    Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks", ICLR 2014; Mezzadri, "How to generate random matrices from the classical compact
    groups", 2007 (the sign correction that makes QR uniform).
    """
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_: expected at least 2 dimensions, got shape {tuple(tensor.shape)}")
    if tensor.numel() == 0:
        return tensor
    rows = tensor.shape[0]
    columns = tensor.numel() // rows
    tall = (max(rows, columns), min(rows, columns))
    q, r = np.linalg.qr(normal(tall, 0.0, 1.0, "float64"))
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)
    matrix = q if rows >= columns else q.T
    return _fill(tensor, gain * matrix.reshape(tuple(tensor.shape)))


def _fill(tensor: Tensor, values: np.ndarray) -> Tensor:
    tensor.detach().copy_(values)
    return tensor


def _fans(name: str, tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *kernel)."""
    if tensor.ndim < 2:
        raise ShapeError(f"{name}: expected at least 2 dimensions, got shape {tuple(tensor.shape)}")
    receptive = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive, tensor.shape[0] * receptive


def _xavier_std(name: str, tensor: Tensor, gain: float) -> float:
    fans = sum(_fans(name, tensor))
    return gain * math.sqrt(2.0 / fans) if fans else 0.0


def _kaiming_std(name: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ShapeError(f"{name}: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan = _fans(name, tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan) if fan else 0.0
