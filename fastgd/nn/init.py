"""Initial values of parameters: the functions, formulas and defaults of ``torch.nn.init``.

Every function overwrites its tensor in place, outside of differentiation, and returns it.  Random
numbers come from fastgd's global generator (``fastgd.manual_seed``), so a seed fixes a model; the
numbers themselves are not PyTorch's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._core import ShapeError
from ..random import normal, uniform
from ..tensor import Tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
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
    low, high = (0.5 * math.erfc((mean - limit) / (std * math.sqrt(2))) for limit in (a, b))
    if not low < high:
        raise ShapeError(f"trunc_normal_: [{a}, {b}] holds no probability of N({mean}, {std}²)")
    quantiles = np.clip(uniform(tensor.shape, low, high, "float64"), np.finfo(np.float64).tiny, np.nextafter(1.0, 0.0))
    return _fill(tensor, np.clip(mean + std * _normal_quantile(quantiles), a, b))


# Numerators and denominators, lowest power first, of Wichura's approximations: the middle, the tails, far tails.
_MIDDLE = (
    (3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
     45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727),
    (1.0, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077,
     21213.794301586595867, 39307.895800092710610, 28729.085735721942674, 5226.4952788528545610),
)  # fmt: skip
_TAIL = (
    (1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
     1.27045825245236838258, 0.241780725177450611770, 0.0227238449892691845833, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550,
     0.148103976427480074590, 0.0151986665636164571966, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
_FAR = (
    (6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 0.296560571828504891230,
     0.0265321895265761230930, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 0.599832206555887937690, 0.136929880922735805310, 0.0148753612908506148525,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip


def _normal_quantile(p: np.ndarray) -> np.ndarray:
    """The inverse of the standard normal distribution function, to about 1e-16 relative, of 0 < p < 1.

    Source: Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37, 1988.
    """
    q = p - 0.5
    r = np.sqrt(-np.log(np.minimum(p, 1 - p)))
    polynomial = np.polynomial.polynomial.polyval

    def ratio(x: np.ndarray, coefficients: tuple) -> np.ndarray:
        return polynomial(x, coefficients[0]) / polynomial(x, coefficients[1])

    tail = np.copysign(np.where(r <= 5, ratio(r - 1.6, _TAIL), ratio(r - 5, _FAR)), q)
    return np.where(np.abs(q) <= 0.425, q * ratio(0.180625 - q * q, _MIDDLE), tail)


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


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill a convolution's weight (out, in, *kernel) so that it hands its inputs through: ones at the kernel's centre.

    Parameters
    ----------
    tensor : Tensor
        3 to 5 dimensions; the first a multiple of `groups`.
    groups : int, default 1
    """
    if tensor.ndim not in (3, 4, 5):
        raise ShapeError(f"dirac_: expected 3 to 5 dimensions, got shape {tuple(tensor.shape)}")
    if tensor.shape[0] % groups:
        raise ShapeError(f"dirac_: expected a first dim that is a multiple of groups={groups}, got {tensor.shape[0]}")
    values = np.zeros(tensor.shape)
    per_group = tensor.shape[0] // groups
    centre = tuple(n // 2 for n in tensor.shape[2:])
    for i in range(min(per_group, tensor.shape[1])):
        where: Any = (slice(i, None, per_group), i, *centre)
        values[where] = 1
    return _fill(tensor, values)


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01) -> Tensor:
    """Fill a matrix with normal numbers, then zero the share `sparsity` of each column (rounded up).

    References
    ----------
    Martens, "Deep learning via Hessian-free optimization", ICML 2010.
    """
    if tensor.ndim != 2:
        raise ShapeError(f"sparse_: expected a matrix, got shape {tuple(tensor.shape)}")
    if not 0 <= sparsity <= 1:
        raise ShapeError(f"sparse_: expected 0 <= sparsity <= 1, got {sparsity}")
    rows, columns = tensor.shape
    values = normal((rows, columns), 0.0, std, tensor.dtype)
    order = np.argsort(uniform((rows, columns), 0.0, 1.0, "float64"), axis=0, kind="stable")
    np.put_along_axis(values, order[: math.ceil(sparsity * rows)], 0, axis=0)
    return _fill(tensor, values)


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
