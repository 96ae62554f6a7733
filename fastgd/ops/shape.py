"""Shape: reshape shares memory; transpose and permute rearrange (the compiler absorbs them where it can)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._core import DtypeError, RangeError, ShapeError, aval
from ..compiler.lower import Call
from ..tensor import Tensor
from .registry import Op, apply, no_tape

__all__ = [
    "flatten",
    "permute",
    "reshape",
    "squeeze",
    "t",
    "transpose",
    "unsqueeze",
]

# Those that Tensor has as methods.
METHODS = (
    "flatten",
    "permute",
    "reshape",
    "squeeze",
    "t",
    "transpose",
    "unsqueeze",
)


def normalize_dim(name: str, dim: int, ndim: int) -> int:
    """A dim counted from the front; negative ones count from the end."""
    limit = max(ndim, 1)
    if not isinstance(dim, (int, np.integer)):
        raise DtypeError(f"{name}: expected an integer dim, got {type(dim).__name__}")
    if not -limit <= dim < limit:
        raise RangeError(f"{name}: dim {dim} is out of range for {ndim} dims (expected {-limit} <= dim < {limit})")
    return int(dim) % limit


def normalize_dims(name: str, dim: Any, ndim: int) -> tuple[int, ...]:
    """Sorted distinct dims; None means all."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(ndim))
    dims = sorted(normalize_dim(name, d, ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,)))
    if len(set(dims)) != len(dims):
        raise ShapeError(f"{name}: a dim appears twice in {dim}")
    return tuple(d for d in dims if ndim)


def _infer_reshape(avals: tuple, attrs: tuple) -> tuple:
    (x,) = avals
    result = aval(x.dtype, attrs[0])
    if result.numel != x.numel:
        raise ShapeError(f"reshape: shape {x.shape} has {x.numel} elements, {attrs[0]} has {result.numel}")
    return (result,)


RESHAPE = Op(
    "reshape",
    _infer_reshape,
    ("shape",),
    kind="alias",
    vjp=lambda n, g: reshape(g, n.in_avals[0].shape),
    text="same memory",
)


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements in the same order under another shape; shares memory.  One size may be -1."""
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    sizes = [int(n) for n in shape]
    if sizes.count(-1) > 1:
        raise ShapeError(f"reshape: only one size may be -1, got {tuple(sizes)}")
    if -1 in sizes:
        known = int(np.prod([n for n in sizes if n != -1], dtype=np.int64))
        if not known or input.numel() % known:
            raise ShapeError(f"reshape: shape {input.shape} cannot become {tuple(sizes)}")
        sizes[sizes.index(-1)] = input.numel() // known
    target = tuple(sizes)
    if target == input.shape:
        return input
    if _core.is_tracing() and input._value is not None:
        return apply(RESHAPE, (input,), (target,))
    (result,) = RESHAPE.infer((input.aval,), (target,))
    view = _core.wrap_storage(Tensor, input.storage, result)
    view._copy_of = input._copy_of
    if input._requires_grad and _core.is_grad_enabled():
        from ..autodiff import TapeNode

        TapeNode(RESHAPE, (input,), (target,), view)
    return view


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dims start_dim..end_dim as one; shares memory."""
    start, end = (normalize_dim("flatten", d, input.ndim) for d in (start_dim, end_dim))
    if start > end:
        raise ShapeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    middle = int(np.prod(input.shape[start : end + 1], dtype=np.int64))
    return reshape(input, (*input.shape[:start], middle, *input.shape[end + 1 :]))


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Without the dims of size 1 (all, or those named)."""
    dims = normalize_dims("squeeze", dim, input.ndim)
    return reshape(input, tuple(n for i, n in enumerate(input.shape) if n != 1 or i not in dims))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a dim of size 1 inserted before `dim`."""
    at = normalize_dim("unsqueeze", dim, input.ndim + 1)
    return reshape(input, (*input.shape[:at], 1, *input.shape[at:]))


def _lower_permute(node: Any) -> Call:
    x, y = node.inputs[0], node.outputs[0]
    strides, step = [], 1
    for n in reversed(x.aval.shape):
        strides.append(step)
        step *= n
    strides = strides[::-1]
    return Call(
        "permute",
        {
            "itemsize": x.aval.dtype.itemsize,
            "ndim": x.aval.ndim,
            "shape": y.aval.shape,
            "stride": [strides[d] for d in node.attrs[0]],
        },
        [y, x],
        [y],
    )


PERMUTE = Op(
    "permute",
    lambda avals, attrs: (aval(avals[0].dtype, tuple(avals[0].shape[d] for d in attrs[0])),),
    ("dims",),
    lower=_lower_permute,
    vjp=lambda n, g: permute(g, tuple(int(i) for i in np.argsort(n.attrs[0]))),
)


def permute(input: Tensor, *dims: Any) -> Tensor:
    """The dims in another order (a copy; free as an operand of a compiled matrix product)."""
    order = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    order = tuple(normalize_dim("permute", d, input.ndim) for d in order)
    if sorted(order) != list(range(input.ndim)):
        raise ShapeError(f"permute: expected each of {input.ndim} dims once, got {dims}")
    if order == tuple(range(input.ndim)):
        return input
    result = apply(PERMUTE, (input,), (order,))
    result._copy_of = "a transposed tensor"
    return result


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dims exchanged (a copy; see permute)."""
    a, b = (normalize_dim("transpose", d, input.ndim) for d in (dim0, dim1))
    order = list(range(input.ndim))
    if order:
        order[a], order[b] = order[b], order[a]
    return permute(input, tuple(order))


def t(input: Tensor) -> Tensor:
    """The transpose of a matrix."""
    if input.ndim > 2:
        raise ShapeError(f"t: expected at most 2 dims, got {input.ndim}; use transpose(dim0, dim1)")
    return transpose(input, 0, 1) if input.ndim == 2 else input


def _getitem_array(x: np.ndarray, index: Any) -> np.ndarray:
    return x[index]


def getitem(input: Tensor, index: Any) -> Tensor:
    """Indexing outside of the tape, as NumPy does it; the result is a copy."""
    if _core.is_tracing() or (input._requires_grad and _core.is_grad_enabled()):
        raise _core.NotOffered(
            "indexing of tensors on the tape or inside fastgd.compile is not offered yet; index before"
        )
    from ..tensor import tensor

    plain = tuple(
        np.asarray(i) if isinstance(i, Tensor) else i for i in (index if isinstance(index, tuple) else (index,))
    )
    try:
        result = tensor(np.asarray(_getitem_array(input._view(), plain)), input.dtype)
    except IndexError as error:
        raise RangeError(f"indexing a tensor of shape {input.shape}: {error}") from None
    result._copy_of = "a slice"
    return result


def setitem(target: Tensor, index: Any, value: Any) -> None:
    """target[index] = value, outside of the tape."""
    from .registry import check_writable

    check_writable(target, "index assignment", value)
    if _core.is_tracing():
        raise _core.NotOffered("index assignment inside fastgd.compile is not offered yet")
    plain = tuple(
        np.asarray(i) if isinstance(i, Tensor) else i for i in (index if isinstance(index, tuple) else (index,))
    )
    with no_tape():
        try:
            target._view()[plain] = np.asarray(value)
        except IndexError as error:
            raise RangeError(f"index assignment to a tensor of shape {target.shape}: {error}") from None
        except ValueError as error:
            raise ShapeError(f"index assignment to a tensor of shape {target.shape}: {error}") from None
    target.storage.version += 1
