"""Losses: cross-entropy of integer labels, mean squared error."""

from __future__ import annotations

from typing import Any

from .. import _core
from .._core import DtypeError, NotOffered, ShapeError, aval
from ..compiler.lower import Call
from ..tensor import Tensor, as_tensor
from .elementwise import mul, operands, square, sub
from .reduce import mean
from .reduce import sum as reduce_sum
from .registry import Op, apply
from .rowwise import suffix
from .shape import permute, reshape

__all__ = [
    "cross_entropy",
    "mse_loss",
]

REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


def _check_reduction(name: str, reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ShapeError(f"{name}: expected reduction 'none', 'mean' or 'sum', got {reduction!r}")


def _infer_cross_entropy(avals: tuple, attrs: tuple) -> tuple:
    x, label = avals
    suffix("cross_entropy", x)
    if label.dtype.is_floating_point:
        raise NotOffered(
            "cross_entropy: expected integer labels, got a floating-point target; class probabilities are not offered"
        )
    if label.dtype is _core.bool_:
        raise DtypeError("cross_entropy: expected labels of dtype int64, int32 or uint8, got bool")
    if x.ndim != 2 or label.shape != x.shape[:1]:
        raise ShapeError(
            f"cross_entropy: expected logits (rows, classes) and labels (rows,), got {x.shape} and {label.shape}"
        )
    if x.shape[1] == 0:
        raise ShapeError("cross_entropy: expected at least one class, got logits of shape " + str(x.shape))
    rows = x.shape[:1]
    return aval(x.dtype, rows if attrs[0] == 0 else ()), aval(x.dtype, rows), aval(x.dtype, ())


def _fields(x: Any, label: Any, attrs: tuple) -> dict[str, int]:
    return {
        "rows": x.aval.shape[0],
        "classes": x.aval.shape[1],
        "label_dtype": label.aval.dtype.code,
        "reduction": attrs[0],
        "ignore_index": attrs[1],
    }


def _lower_fwd(node: Any) -> Call:
    x, label = node.inputs
    kernel = f"cross_entropy_fwd_{suffix('cross_entropy', x.aval)}"
    call = Call(kernel, _fields(x, label, node.attrs), [*node.outputs, x, label], list(node.outputs))
    call.message = _label_fault
    return call


def _label_fault(where: int, value: int, bound: int) -> str:
    return f"cross_entropy: label {value} at row {where} is out of range, expected 0 <= label < {bound}"


def _lower_bwd(node: Any) -> Call:
    g, x, lse, label, count = node.inputs
    dx = node.outputs[0]
    kernel = f"cross_entropy_bwd_{suffix('cross_entropy', x.aval)}"
    return Call(kernel, _fields(x, label, node.attrs), [dx, g, x, lse, label, count], [dx])


CROSS_ENTROPY_BWD = Op(
    "cross_entropy_bwd",
    lambda avals, attrs: (avals[1],),
    ("reduction", "ignore_index"),
    lower=_lower_bwd,
)


def _cross_entropy_vjp(n: Any, g: Tensor, g_lse: None = None, g_count: None = None) -> tuple:
    x, label = n.inputs
    return apply(CROSS_ENTROPY_BWD, (g, x, n.outputs[1], label, n.outputs[2]), n.attrs), None


CROSS_ENTROPY = Op(
    "cross_entropy",
    _infer_cross_entropy,
    ("reduction", "ignore_index"),
    lower=_lower_fwd,
    vjp=_cross_entropy_vjp,
    saves="i0 i1 o1 o2",
)


def cross_entropy(
    input: Tensor,
    target: Any,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(input)[target], the negative log-likelihood of integer labels.

    Parameters
    ----------
    input : Tensor, shape (rows, classes), (classes,) or (rows, classes, d1, ...)
        Logits.
    target : Tensor of integers, shape (rows,), () or (rows, d1, ...)
        Labels in [0, classes), or `ignore_index`, which does not count.
    reduction : {"mean", "sum", "none"}
        The mean is over the labels that count.

    Raises
    ------
    IndexError
        For a label out of range.
    """
    _check_reduction("cross_entropy", reduction)
    if weight is not None or label_smoothing:
        raise NotOffered("cross_entropy: class weights and label_smoothing are not offered")
    if size_average is not None or reduce is not None:
        raise NotOffered("cross_entropy: size_average and reduce are not offered; use reduction=")
    if not isinstance(target, Tensor):
        target = as_tensor(target)
    if not isinstance(input, Tensor):
        input = as_tensor(input)
    x, label, shape = input, target, target.shape
    if x.ndim == 1:
        x, label = reshape(x, (1, -1)), reshape(label, (1,)) if label.numel() == 1 else label
    elif x.ndim > 2 and label.shape == (x.shape[0], *x.shape[2:]):
        x = permute(x, (0, *range(2, x.ndim), 1))
        x, label = reshape(x, (-1, x.shape[-1])), reshape(label, (-1,))
    loss = apply(CROSS_ENTROPY, (x, label), (REDUCTIONS[reduction], int(ignore_index)))[0]
    return reshape(loss, shape) if reduction == "none" else loss


def mse_loss(
    input: Tensor,
    target: Any,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Tensor:
    """(input - target)^2, averaged, summed or as it is.

    The shapes must be equal: a silent broadcast is a common bug.
    """
    _check_reduction("mse_loss", reduction)
    if size_average is not None or reduce is not None or weight is not None:
        raise NotOffered("mse_loss: size_average, reduce and weight are not offered; use reduction=")
    x, y = operands("mse_loss", input, target)
    if x.shape != y.shape:
        raise ShapeError(f"mse_loss: expected equal shapes, got {x.shape} and {y.shape}")
    if not x.dtype.is_floating_point:
        raise DtypeError(f"mse_loss: expected floating-point tensors, got {x.dtype}")
    squares = apply(MSE, (x, y))
    return squares if reduction == "none" else mean(squares) if reduction == "mean" else reduce_sum(squares)


def _infer_mse(avals: tuple, attrs: tuple) -> tuple:
    return (avals[0],)


def _mse_vjp(n: Any, g: Tensor) -> tuple:
    a, b = n.inputs
    d = mul(mul(sub(a, b), 2.0), g)
    return d if n.needs[0] else None, mul(d, -1.0) if n.needs[1] else None


MSE = Op("squared_difference", _infer_mse, expand=lambda a, b: square(sub(a, b)), vjp=_mse_vjp, saves="i0 i1")
