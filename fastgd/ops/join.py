"""Tensors side by side: cat, stack, roll, pad.

Each is one kernel that copies parts into regions of the result; parts that are views (slices, flips, expansions) are
read where they lie.
"""

from __future__ import annotations

from typing import Any

from .._core import DtypeError, NotOffered, ShapeError, aval
from ..compiler.layout import contiguous_strides
from ..compiler.lower import Call
from ..tensor import Tensor
from .elementwise import as_operand, expand, result_dtype
from .registry import Op, apply
from .shape import (
    PUT,
    assemble,
    atleast_1d,
    atleast_2d,
    atleast_3d,
    flip,
    integers,
    normalize_dim,
    reshape,
    slice_of,
)

__all__ = [
    "cat",
    "column_stack",
    "concat",
    "concatenate",
    "dstack",
    "hstack",
    "pad",
    "roll",
    "row_stack",
    "stack",
    "vstack",
]

# Those that Tensor has as methods.
METHODS = ("roll",)


def _infer_cat(avals: tuple, attrs: tuple) -> tuple:
    (dim,) = attrs
    first = avals[0]

    def rest(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:dim], *shape[dim + 1 :])

    for i, a in enumerate(avals):
        if a.ndim != first.ndim or rest(a.shape) != rest(first.shape):
            raise ShapeError(
                f"cat: expected shapes that agree but in dim {dim}, got {first.shape} and {a.shape} (tensor {i})"
            )
    return (aval(first.dtype, (*first.shape[:dim], sum(a.shape[dim] for a in avals), *first.shape[dim + 1 :])),)


def _lower_cat(node: Any) -> Call:
    (dim,) = node.attrs
    strides = contiguous_strides(node.outputs[0].aval.shape)
    parts, at = [], 0
    for v in node.inputs:
        parts.append((v, at * strides[dim], strides))
        at += v.aval.shape[dim]
    return assemble(node, parts)


def _cat_vjp(n: Any, g: Tensor) -> tuple:
    (dim,) = n.attrs
    grads, at = [], 0
    for a, needed in zip(n.in_avals, n.needs, strict=True):
        grads.append(slice_of(g, dim, at, a.shape[dim]) if needed else None)
        at += a.shape[dim]
    return tuple(grads)


CAT = Op("cat", _infer_cat, ("dim",), lower=_lower_cat, strided=True, vjp=_cat_vjp, text="side by side along a dim")


def _several(name: str, tensors: Any) -> list[Tensor]:
    """The tensors of a list, under their common dtype."""
    if isinstance(tensors, Tensor) or not isinstance(tensors, (tuple, list)):
        raise DtypeError(f"{name}: expected a list of tensors, got {type(tensors).__name__}")
    if not tensors:
        raise ShapeError(f"{name}: expected at least one tensor, got none")
    for t in tensors:
        if not isinstance(t, Tensor):
            raise DtypeError(f"{name}: expected tensors, got {type(t).__name__}")
    dtype = result_dtype(tensors)
    return [as_operand(t, dtype) for t in tensors]


def cat(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors side by side along `dim`; their shapes agree in the other dims.

    As in torch, tensors of shape (0,) are left out whatever the shape of the others.
    """
    given = _several("cat", tensors)
    kept = [t for t in given if t.shape != (0,)] or given[:1]
    d = normalize_dim("cat", dim, kept[0].ndim)
    if not kept[0].ndim:
        raise ShapeError("cat: expected tensors of at least 1 dim, got a 0-d tensor; use stack")
    return apply(CAT, tuple(kept), (d,))


def concat(tensors: Any, dim: int = 0) -> Tensor:
    """The same as `cat`."""
    return cat(tensors, dim)


def concatenate(tensors: Any, dim: int = 0) -> Tensor:
    """The same as `cat`."""
    return cat(tensors, dim)


def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new dim `dim`."""
    given = _several("stack", tensors)
    shape = given[0].shape
    for i, t in enumerate(given):
        if t.shape != shape:
            raise ShapeError(f"stack: expected tensors of one shape, got {shape} and {t.shape} (tensor {i})")
    d = normalize_dim("stack", dim, len(shape) + 1)
    return apply(CAT, tuple(reshape(t, (*shape[:d], 1, *shape[d:])) for t in given), (d,))


def hstack(tensors: Any) -> Tensor:
    """Tensors side by side along dim 1 (vectors: along dim 0)."""
    given = [atleast_1d(t) for t in _several("hstack", tensors)]
    return cat(given, 0 if given[0].ndim == 1 else 1)


def vstack(tensors: Any) -> Tensor:
    """Tensors one below the other; vectors are rows."""
    return cat([atleast_2d(t) for t in _several("vstack", tensors)], 0)


def row_stack(tensors: Any) -> Tensor:
    """The same as `vstack`."""
    return vstack(tensors)


def dstack(tensors: Any) -> Tensor:
    """Tensors one behind the other, along dim 2."""
    return cat([atleast_3d(t) for t in _several("dstack", tensors)], 2)


def column_stack(tensors: Any) -> Tensor:
    """Tensors side by side along dim 1; vectors are columns."""
    given = _several("column_stack", tensors)
    return cat([reshape(t, (t.numel(), 1)) if t.ndim <= 1 else t for t in given], 1)


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """The elements moved by `shifts` along `dims` (of the flattened tensor without them), round the end."""
    moved = integers("roll", "shifts", shifts)
    if dims is None or (isinstance(dims, (tuple, list)) and not dims):
        if len(moved) != 1:
            raise ShapeError(f"roll: expected one shift without dims, got {moved}")
        return reshape(roll(reshape(input, (input.numel(),)), moved[0], 0), input.shape)
    along = integers("roll", "dims", dims)
    if len(along) != len(moved):
        raise ShapeError(f"roll: expected as many shifts as dims, got {moved} and {along}")
    result = input
    for shift, dim in zip(moved, along, strict=True):
        d = normalize_dim("roll", dim, input.ndim)
        n = input.shape[d] if input.ndim else 1
        at = -shift % n if n else 0
        if at and input.numel():
            result = apply(CAT, (slice_of(result, d, at, n - at), slice_of(result, d, 0, at)), (d,))
    if result is input:
        from .elementwise import clone

        return clone(input)
    return result


# ---- padding ----


def pad(input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """More elements (or fewer, where a number is negative) at both ends of dims.

    Parameters
    ----------
    input : Tensor
    pad : sequence of int
        (before, after) of the last dim, then of the one before it, ...
    mode : str
        "constant" (`value`, 0 without it), "reflect" (the elements before and after the edge, not the edge itself),
        "replicate" (the edge) or "circular" (the other end).
    """
    sizes = integers("pad", "pad", pad)
    if len(sizes) % 2 or len(sizes) > 2 * input.ndim:
        raise ShapeError(f"pad: expected pairs for at most {input.ndim} dims, got {sizes}")
    pairs = [(input.ndim - 1 - i, *sizes[2 * i : 2 * i + 2]) for i in range(len(sizes) // 2)]
    if mode == "constant":
        return _pad_constant(input, pairs, 0 if value is None else value)
    if mode not in _EDGES:
        raise ShapeError(f"pad: expected mode 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}")
    if value is not None and value != 0:
        raise ShapeError(f"pad: mode {mode!r} takes no value, got {value}")
    if min(sizes, default=0) < 0:
        raise NotOffered(f"pad: negative numbers with mode {mode!r} are not offered, got {sizes}")
    result = input
    for dim, before, after in pairs:
        if before or after:
            result = _EDGES[mode](result, dim, before, after)
    return result if result is not input else _copy(input)


def _copy(input: Tensor) -> Tensor:
    from .elementwise import clone

    return clone(input)


def _pad_constant(input: Tensor, pairs: list, value: Any) -> Tensor:
    """Cropped where a number is negative, then put into a larger tensor."""
    x = input
    starts, shape = [0] * input.ndim, list(input.shape)
    for dim, before, after in pairs:
        size = input.shape[dim] + before + after
        if size < 0:
            raise ShapeError(f"pad: dim {dim} of size {input.shape[dim]} cannot lose {-before - after} elements")
        low, high = max(-before, 0), max(-after, 0)
        x = slice_of(x, dim, min(low, x.shape[dim]), max(x.shape[dim] - low - high, 0))
        starts[dim], shape[dim] = max(before, 0), size
    if tuple(shape) == x.shape:
        return _copy(input) if x is input else x
    if not input.dtype.is_floating_point and isinstance(value, float) and not value.is_integer():
        raise DtypeError(f"pad: {value} cannot become {input.dtype} without a loss")
    attrs = (tuple(starts), (1,) * input.ndim, x.shape)
    number = float(value) if input.dtype.is_floating_point else int(value)
    return apply(PUT, (x,), (tuple(shape), "slice", attrs, number))


def _beside(x: Tensor, dim: int, before: Tensor | None, after: Tensor | None) -> Tensor:
    parts = [part for part in (before, x, after) if part is not None]
    return apply(CAT, tuple(parts), (dim,))


def _reflect(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    n = x.shape[dim]
    if before >= n or after >= n:
        raise ShapeError(f"pad: reflect takes less than the {n} elements of dim {dim}, got {(before, after)}")
    return _beside(
        x,
        dim,
        flip(slice_of(x, dim, 1, before), (dim,)) if before else None,
        flip(slice_of(x, dim, n - 1 - after, after), (dim,)) if after else None,
    )


def _replicate(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    n = x.shape[dim]
    if not n:
        raise ShapeError(f"pad: replicate needs an element in dim {dim}, got shape {x.shape}")

    def edge(at: int, count: int) -> Tensor | None:
        shape = (*x.shape[:dim], count, *x.shape[dim + 1 :])
        return expand(slice_of(x, dim, at, 1), shape) if count else None

    return _beside(x, dim, edge(0, before), edge(n - 1, after))


def _circular(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    n = x.shape[dim]
    if before > n or after > n:
        raise ShapeError(f"pad: circular takes at most the {n} elements of dim {dim}, got {(before, after)}")
    return _beside(
        x,
        dim,
        slice_of(x, dim, n - before, before) if before else None,
        slice_of(x, dim, 0, after) if after else None,
    )


_EDGES = {"reflect": _reflect, "replicate": _replicate, "circular": _circular}
