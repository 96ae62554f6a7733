"""Embeddings: rows of a table by integer index."""

from __future__ import annotations

from typing import Any

from .. import _core
from .._core import DtypeError, NotOffered, RangeError, ShapeError, aval
from ..compiler.lower import Call
from ..tensor import Tensor, as_tensor
from .registry import Op, apply
from .rowwise import suffix

__all__ = ["embedding"]

NO_PADDING = -1


def _check(name: str, w: Any, index: Any) -> None:
    suffix(name, w)
    if index.dtype is not _core.int64 and index.dtype is not _core.int32:
        raise DtypeError(f"{name}: expected indices of dtype int64 or int32, got {index.dtype}")
    if w.ndim != 2:
        raise ShapeError(f"{name}: expected weight of 2 dims (num_embeddings, embedding_dim), got shape {w.shape}")


def _infer(avals: tuple, attrs: tuple) -> tuple:
    w, index = avals
    _check("embedding", w, index)
    return (aval(w.dtype, (*index.shape, w.shape[1])),)


def _fields(w_shape: tuple[int, ...], index: Any, padding: int) -> dict[str, int]:
    rows, dim = w_shape
    return {
        "n": index.aval.numel,
        "rows": rows,
        "dim": dim,
        "index_dtype": index.aval.dtype.code,
        "padding": padding,
    }


def _lower_fwd(node: Any) -> Call:
    (w, index), y = node.inputs, node.outputs[0]
    kernel = f"embedding_fwd_{suffix('embedding', w.aval)}"
    call = Call(kernel, _fields(w.aval.shape, index, *node.attrs), [y, w, index], [y])
    call.message = _index_fault
    return call


def _index_fault(where: int, value: int, bound: int) -> str:
    return f"embedding: index {value} at position {where} is out of range, expected 0 <= index < {bound}"


def _lower_bwd(node: Any) -> Call:
    (dy, index), dw = node.inputs, node.outputs[0]
    rows, padding = node.attrs
    kernel = f"embedding_bwd_{suffix('embedding', dy.aval)}"
    return Call(kernel, _fields((rows, dy.aval.shape[-1]), index, padding), [dw, dy, index], [dw])


EMBEDDING_BWD = Op(
    "embedding_bwd",
    lambda avals, attrs: (aval(avals[0].dtype, (attrs[0], avals[0].shape[-1])),),
    ("rows", "padding_idx"),
    lower=_lower_bwd,
)

EMBEDDING = Op(
    "embedding",
    _infer,
    ("padding_idx",),
    lower=_lower_fwd,
    vjp=lambda n, g: (apply(EMBEDDING_BWD, (g, n.inputs[1]), (n.in_avals[0].shape[0], *n.attrs)), None),
    saves="i1",
    text="rows of a table",
)


def padding_row(name: str, padding_idx: int | None, rows: int) -> int:
    """`padding_idx` counted from the front, NO_PADDING for None."""
    if padding_idx is None:
        return NO_PADDING
    if not -rows <= padding_idx < rows:
        raise RangeError(f"{name}: padding_idx {padding_idx} is out of range for {rows} rows")
    return padding_idx % rows


def refuse_options(name: str, max_norm: float | None, scale_grad_by_freq: bool, sparse: bool) -> None:
    """What torch has and fastgd has not."""
    if max_norm is not None:
        raise NotOffered(f"{name}: max_norm, which rewrites the weight in the forward pass, is not offered")
    if scale_grad_by_freq:
        raise NotOffered(f"{name}: scale_grad_by_freq is not offered")
    if sparse:
        raise NotOffered(f"{name}: sparse gradients are not offered; the gradient has the shape of the weight")


def embedding(
    input: Any,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` that `input` names.

    Parameters
    ----------
    input : Tensor of int64 or int32, any shape
        Indices in [0, num_embeddings).
    weight : Tensor, shape (num_embeddings, embedding_dim)
    padding_idx : int, optional
        A row that gets no gradient; negative values count from the end.
    max_norm, scale_grad_by_freq, sparse
        Not offered.  `norm_type` belongs to `max_norm`.

    Returns
    -------
    Tensor, shape (*input.shape, embedding_dim)

    Raises
    ------
    IndexError
        For an index out of range; the message has its position in the flattened input, its value and the bound.
    """
    refuse_options("embedding", max_norm, scale_grad_by_freq, sparse)
    index = input if isinstance(input, Tensor) else as_tensor(input)
    _check("embedding", weight.aval, index.aval)
    return apply(EMBEDDING, (weight, index), (padding_row("embedding", padding_idx, weight.shape[0]),))
