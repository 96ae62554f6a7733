"""``torch.nn.functional`` by signature: options are checked here, the meaning is in ``fastgd.ops``."""

from __future__ import annotations

import warnings
from typing import Any

from .. import ops
from .._core import NotOffered, ShapeError
from ..tensor import Tensor

__all__ = [
    "cross_entropy",
    "dropout",
    "gelu",
    "linear",
    "log_softmax",
    "mse_loss",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
]

_REDUCTIONS = ("mean", "sum", "none")


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias``.

    Parameters
    ----------
    input : Tensor
        (..., in_features)
    weight : Tensor
        (out_features, in_features)
    bias : Tensor, optional
        (out_features,)

    Returns
    -------
    Tensor
        (..., out_features)

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    return ops.linear(input, weight, bias)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """``max(input, 0)``; NaN stays NaN.  `inplace` is accepted, the input is never changed."""
    return ops.relu(input)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """``x * Phi(x)``, or with ``approximate="tanh"``
    ``0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`` (Hendrycks & Gimpel, 2016).

    Raises
    ------
    ValueError
        If `approximate` is neither "none" nor "tanh".
    """
    return ops.gelu(input, approximate=approximate)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """``x * sigmoid(x)``.  `inplace` is accepted, the input is never changed."""
    return ops.silu(input)


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return ops.tanh(input)


def sigmoid(input: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``."""
    return ops.sigmoid(input)


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """``exp(x) / sum(exp(x))`` along `dim`.

    Parameters
    ----------
    input : Tensor
    dim : int
        Leaving it out warns, as in PyTorch, and means 0 for 0, 1 or 3 dimensions and 1 otherwise.
    dtype : dtype or str, optional
        Cast the input first.
    """
    return ops.softmax(_cast(input, dtype), _softmax_dim("softmax", input, dim))


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None,
) -> Tensor:
    """``x - log(sum(exp(x)))`` along `dim`; arguments as in :func:`softmax`."""
    return ops.log_softmax(_cast(input, dtype), _softmax_dim("log_softmax", input, dim))


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, zero each element with probability `p` and divide the rest by ``1 - p``.

    Parameters
    ----------
    input : Tensor
    p : float, default 0.5
        In [0, 1].
    training : bool, default True
        False returns the input.
    inplace : bool
        Accepted; the input is never changed.

    References
    ----------
    Srivastava et al., "Dropout", JMLR 2014 (inverted scaling).
    """
    if not 0.0 <= p <= 1.0:
        raise ShapeError(f"dropout: p must be between 0 and 1, got {p}")
    return ops.dropout(input, p, training)


def cross_entropy(
    input: Tensor, target: Tensor, weight: None = None, size_average: None = None,
    ignore_index: int = -100, reduce: None = None, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """``-log softmax(input)[target]``, averaged over the rows that count.

    Parameters
    ----------
    input : Tensor
        (N, classes), logits.
    target : Tensor
        (N,), integer labels in [0, classes).
    ignore_index : int, default -100
        Rows with this label do not count.
    reduction : {"mean", "sum", "none"}, default "mean"

    Returns
    -------
    Tensor
        () or, with reduction "none", (N,).

    Raises
    ------
    IndexError
        If a label is out of range.
    NotImplementedError
        For `weight` and `label_smoothing`.
    """
    check_loss_options("cross_entropy", reduction, size_average, reduce, weight, label_smoothing)
    return ops.cross_entropy(input, target, ignore_index=ignore_index, reduction=reduction)


def mse_loss(
    input: Tensor, target: Tensor, size_average: None = None, reduce: None = None,
    reduction: str = "mean", weight: None = None,
) -> Tensor:
    """``(input - target)^2``, averaged over all elements.

    Parameters
    ----------
    input, target : Tensor
        Of one shape.
    reduction : {"mean", "sum", "none"}, default "mean"

    Returns
    -------
    Tensor
        () or, with reduction "none", the shape of the input.
    """
    check_loss_options("mse_loss", reduction, size_average, reduce, weight)
    return ops.mse_loss(input, target, reduction=reduction)


def check_loss_options(
    name: str, reduction: str, size_average: Any = None, reduce: Any = None, weight: Any = None,
    label_smoothing: float = 0.0,
) -> None:
    """Refuse what the losses do not offer, by name, instead of ignoring it."""
    if size_average is not None or reduce is not None:
        raise NotOffered(
            f"{name}: size_average and reduce are not offered; use reduction")
    if weight is not None:
        raise NotOffered(f"{name}: weight is not offered")
    if label_smoothing != 0.0:
        raise NotOffered(
            f"{name}: label_smoothing = {label_smoothing} is not offered, only 0.0")
    if reduction not in _REDUCTIONS:
        raise ShapeError(f"{name}: reduction must be one of {_REDUCTIONS}, got {reduction!r}")


def _cast(input: Tensor, dtype: Any) -> Tensor:
    return input if dtype is None else input.to(dtype)


def _softmax_dim(name: str, input: Tensor, dim: int | None) -> int:
    if dim is not None:
        return dim
    chosen = 0 if input.ndim in (0, 1, 3) else 1
    warnings.warn(f"{name}: dim should be given; using {chosen}", UserWarning, stacklevel=3)
    return chosen
