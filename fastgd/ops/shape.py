"""Shape: reshape shares memory; permutations, slices and other views are copies that the compiler absorbs where it can.

A view is declared by where its elements lie in its input (`Op.view`: an offset and strides); its derivative puts the
gradient there (`PUT`), zeros elsewhere.
"""

from __future__ import annotations

import builtins
import itertools
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import _core
from .._core import DtypeError, RangeError, ShapeError, aval
from ..compiler.layout import MAX_DIMS, contiguous_strides, place
from ..compiler.lower import Call
from ..tensor import Tensor, from_numpy
from .registry import OPS, Op, apply

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_tensors",
    "broadcast_to",
    "chunk",
    "diag",
    "diag_embed",
    "diagonal",
    "diagonal_scatter",
    "flatten",
    "flip",
    "fliplr",
    "flipud",
    "moveaxis",
    "movedim",
    "narrow",
    "permute",
    "ravel",
    "repeat_interleave",
    "reshape",
    "select",
    "select_scatter",
    "slice_scatter",
    "split",
    "squeeze",
    "swapaxes",
    "swapdims",
    "t",
    "tensor_split",
    "tile",
    "transpose",
    "tril",
    "triu",
    "unbind",
    "unflatten",
    "unsqueeze",
]

# Those that Tensor has as methods.
METHODS = (
    "broadcast_to",
    "chunk",
    "diag",
    "diag_embed",
    "diagonal",
    "diagonal_scatter",
    "flatten",
    "flip",
    "fliplr",
    "flipud",
    "moveaxis",
    "movedim",
    "narrow",
    "permute",
    "ravel",
    "repeat_interleave",
    "reshape",
    "select",
    "select_scatter",
    "slice_scatter",
    "split",
    "squeeze",
    "swapaxes",
    "swapdims",
    "t",
    "tensor_split",
    "tile",
    "transpose",
    "tril",
    "triu",
    "unbind",
    "unflatten",
    "unsqueeze",
)


def integers(name: str, what: str, value: Any) -> tuple[int, ...]:
    """A size, or a sequence of them, as a tuple of integers."""
    try:
        return tuple(operator.index(n) for n in (value if isinstance(value, Iterable) else (value,)))
    except TypeError:
        raise DtypeError(f"{name}: expected {what} as integers, got {value!r}") from None


def _listed(first: Any, more: tuple) -> Any:
    """The arguments of ``f(x, 1, 2)`` and of ``f(x, (1, 2))`` alike."""
    return first if isinstance(first, (tuple, list)) and not more else (first, *more)


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


def reshape(input: Tensor, shape: Any, *more: Any) -> Tensor:
    """The same elements in the same order under another shape; shares memory.  One size may be -1."""
    sizes = list(integers("reshape", "shape", _listed(shape, more)))
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
    dims = () if dim == () or dim == [] else normalize_dims("squeeze", dim, input.ndim)
    return reshape(input, tuple(n for i, n in enumerate(input.shape) if n != 1 or i not in dims))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a dim of size 1 inserted before `dim`."""
    at = normalize_dim("unsqueeze", dim, input.ndim + 1)
    return reshape(input, (*input.shape[:at], 1, *input.shape[at:]))


PERMUTE = Op(
    "permute",
    lambda avals, attrs: (aval(avals[0].dtype, tuple(avals[0].shape[d] for d in attrs[0])),),
    ("dims",),
    view=lambda shape, strides, attrs: (0, [strides[d] for d in attrs[0]]),
    vjp=lambda n, g: permute(g, tuple(int(i) for i in np.argsort(n.attrs[0]))),
    text="dims in another order",
)


def _infer_slice(avals: tuple, attrs: tuple) -> tuple:
    return (aval(avals[0].dtype, attrs[2]),)


def _view_slice(shape: tuple, strides: list, attrs: tuple) -> tuple[int, list]:
    starts, steps, _ = attrs
    return _dot(starts, strides), [step * s for step, s in zip(steps, strides, strict=True)]


def _view_flip(shape: tuple, strides: list, attrs: tuple) -> tuple[int, list]:
    return _dot([shape[d] - 1 for d in attrs[0]], [strides[d] for d in attrs[0]]), [
        -s if d in attrs[0] else s for d, s in enumerate(strides)
    ]


def _infer_diagonal(avals: tuple, attrs: tuple) -> tuple:
    (x,), (offset, dim1, dim2) = avals, attrs
    rows, columns = x.shape[dim1] - max(-offset, 0), x.shape[dim2] - max(offset, 0)
    rest = tuple(n for d, n in enumerate(x.shape) if d not in (dim1, dim2))
    return (aval(x.dtype, (*rest, max(0, min(rows, columns)))),)


def _view_diagonal(shape: tuple, strides: list, attrs: tuple) -> tuple[int, list]:
    offset, dim1, dim2 = attrs
    first = offset * strides[dim2] if offset >= 0 else -offset * strides[dim1]
    rest = [s for d, s in enumerate(strides) if d not in (dim1, dim2)]
    return first, [*rest, strides[dim1] + strides[dim2]]


def _dot(a: Any, b: Any) -> int:
    return int(sum(x * y for x, y in zip(a, b, strict=True)))


def _put_back(n: Any, g: Tensor) -> Tensor:
    """The gradient of a view: g where the view's elements lie, zeros elsewhere."""
    return apply(PUT, (g,), (n.in_avals[0].shape, n.op.name, n.attrs, 0))


SLICE = Op(
    "slice", _infer_slice, ("starts", "steps", "sizes"), view=_view_slice, vjp=_put_back, text="x[start:stop:step]"
)
FLIP = Op(
    "flip",
    lambda avals, attrs: (avals[0],),
    ("dims",),
    view=_view_flip,
    vjp=lambda n, g: flip(g, n.attrs[0]),
    text="dims backwards",
)
DIAGONAL = Op(
    "diagonal", _infer_diagonal, ("offset", "dim1", "dim2"), view=_view_diagonal, vjp=_put_back, text="a diagonal"
)


# ---- regions: what a view shows, written ----


def assemble(node: Any, parts: list[tuple[Any, int, list]], ground: Any = None) -> Call:
    """The kernel call that copies parts (value, offset and strides in the result) side by side.

    ground: what lies elsewhere: None (nothing), a number, or a value to copy.
    """
    (y,) = node.outputs
    tail: list[int] = []
    for value, offset, strides in parts:
        rest = [0] * (MAX_DIMS - value.aval.ndim)
        tail += [value.aval.ndim, offset, *value.aval.shape, *rest, *strides, *rest, *place(value).strides, *rest]
    kind = 0 if ground is None else 1 if isinstance(ground, (int, float)) else 2
    fields = {
        "itemsize": y.aval.dtype.itemsize, "numel": y.aval.numel, "n_parts": len(parts), "ground": kind,
        "fill": bits_of(ground, y.aval.dtype) if kind == 1 else 0,
    }  # fmt: skip
    base = [ground] if kind == 2 else []
    call = Call("assemble", fields, [y, *base, *(value for value, _, _ in parts)], [y], tail)
    if base:
        call.in_place = [(y, ground)]
    return call


def bits_of(number: Any, dtype: Any) -> int:
    """An element's bits as an integer."""
    if dtype is _core.bfloat16:
        return int(np.asarray(number, np.float32).view(np.uint32)) >> 16
    kinds = {1: np.uint8, 4: np.uint32, 8: np.uint64}
    return int(np.asarray(number, dtype.name).view(kinds[dtype.itemsize]).astype(np.uint64).view(np.int64))


def _lower_put(node: Any) -> Call:
    shape, view, attrs, fill = node.attrs
    (x,) = node.inputs
    offset, strides = OPS[view].view(shape, contiguous_strides(shape), attrs)  # type: ignore[misc]
    whole = x.aval.numel == node.outputs[0].aval.numel
    return assemble(node, [(x, offset, strides)], None if whole else fill)


def _lower_put_into(node: Any) -> Call:
    view, attrs = node.attrs
    base, x = node.inputs
    offset, strides = OPS[view].view(base.aval.shape, contiguous_strides(base.aval.shape), attrs)  # type: ignore[misc]
    return assemble(node, [(x, offset, strides)], base)


def _put_into_vjp(n: Any, g: Tensor) -> tuple:
    view, attrs = n.attrs
    size = n.in_avals[1].shape
    base = apply(PUT_INTO, (g, zeros_of(g.dtype, size)), n.attrs) if n.needs[0] else None
    return base, apply(OPS[view], (g,), attrs) if n.needs[1] else None


# y.view[...] = x in memory that holds `fill` otherwise
PUT = Op(
    "put",
    lambda avals, attrs: (aval(avals[0].dtype, attrs[0]),),
    ("shape", "view", "attrs", "fill"),
    lower=_lower_put,
    strided=True,
    vjp=lambda n, g: apply(OPS[n.attrs[1]], (g,), n.attrs[2]),
    text="x in a region, a number elsewhere",
)
# the same in a copy of the first input
PUT_INTO = Op(
    "put_into",
    lambda avals, attrs: (avals[0],),
    ("view", "attrs"),
    lower=_lower_put_into,
    strided=True,
    vjp=_put_into_vjp,
    text="x in a region of a copy",
)


def zeros_of(dtype: Any, shape: tuple[int, ...]) -> Tensor:
    """Zeros to be read: while recording, a constant that takes no memory."""
    from .creation import full

    return full(shape, 0, dtype=dtype)


def _view(op: Op, input: Tensor, attrs: tuple, what: str) -> Tensor:
    result: Tensor = apply(op, (input,), attrs)
    result._copy_of = what
    return result


def permute(input: Tensor, dims: Any, *more: Any) -> Tensor:
    """The dims in another order (a copy; free as an operand of a compiled matrix product)."""
    given = tuple(_listed(dims, more))
    order = tuple(normalize_dim("permute", d, input.ndim) for d in given)
    if sorted(order) != list(range(input.ndim)):
        raise ShapeError(f"permute: expected each of {input.ndim} dims once, got {given}")
    if order == tuple(range(input.ndim)):
        return input
    return _view(PERMUTE, input, (order,), "a transposed tensor")


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


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """The dims `source` moved to the places `destination`, the others in their order."""
    names = [integers("movedim", "dims", d) for d in (source, destination)]
    if len(names[0]) != len(names[1]):
        raise ShapeError(f"movedim: expected as many source as destination dims, got {source} and {destination}")
    src, dst = ([normalize_dim("movedim", d, input.ndim) for d in ds] for ds in names)
    if len(set(src)) != len(src) or len(set(dst)) != len(dst):
        raise ShapeError(f"movedim: a dim appears twice in {source} or {destination}")
    order = [d for d in range(input.ndim) if d not in src]
    for to, d in sorted(zip(dst, src, strict=True)):
        order.insert(to, d)
    return permute(input, tuple(order))


def moveaxis(input: Tensor, source: Any, destination: Any) -> Tensor:
    """The same as `movedim`."""
    return movedim(input, source, destination)


def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """The same as `transpose`."""
    return transpose(input, axis0, axis1)


def swapdims(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """The same as `transpose`."""
    return transpose(input, dim0, dim1)


def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """Dim `dim` as several of these sizes, of which one may be -1; shares memory."""
    d = normalize_dim("unflatten", dim, input.ndim)
    new = list(integers("unflatten", "sizes", sizes))
    if not new or not input.ndim:
        raise ShapeError(f"unflatten: expected a dim and its sizes, got shape {input.shape} and {tuple(new)}")
    known = int(np.prod([n for n in new if n != -1], dtype=np.int64))
    if new.count(-1) == 1 and known:
        new[new.index(-1)] = input.shape[d] // known
    if int(np.prod(new, dtype=np.int64)) != input.shape[d] or min(new) < 0:
        raise ShapeError(f"unflatten: dim {dim} of size {input.shape[d]} cannot become {sizes}")
    return reshape(input, (*input.shape[:d], *new, *input.shape[d + 1 :]))


def ravel(input: Tensor) -> Tensor:
    """All elements in one dim; shares memory."""
    return reshape(input, (-1,)) if input.numel() else reshape(input, (0,))


def _at_least(n: int, place_of: Any) -> Any:
    def function(*tensors: Any) -> Any:
        given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
        made = tuple(reshape(t, place_of(t.shape)) if t.ndim < n else t for t in given)
        return made[0] if len(tensors) == 1 and isinstance(tensors[0], Tensor) else made

    function.__name__ = function.__qualname__ = f"atleast_{n}d"
    function.__doc__ = f"The tensor, or each of several, with at least {n} dims."
    return function


atleast_1d = _at_least(1, lambda shape: (1,))
atleast_2d = _at_least(2, lambda shape: (1, *(shape or (1,))))
atleast_3d = _at_least(3, lambda shape: {0: (1, 1, 1), 1: (1, *shape, 1), 2: (*shape, 1)}[len(shape)])


# ---- parts ----


def slice_of(input: Tensor, dim: int, start: int, size: int, step: int = 1) -> Tensor:
    """`size` elements of dim `dim` from `start` on (a copy; see _view)."""
    if start == 0 and step == 1 and size == input.shape[dim]:
        return input
    starts, steps, sizes = [0] * input.ndim, [1] * input.ndim, list(input.shape)
    starts[dim], steps[dim], sizes[dim] = start, step, size
    return _view(SLICE, input, (tuple(starts), tuple(steps), tuple(sizes)), "a slice")


def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """`length` elements of dim `dim` from `start` on."""
    d = normalize_dim("narrow", dim, input.ndim)
    if not input.ndim:
        raise ShapeError("narrow: expected at least 1 dim, got a 0-d tensor")
    n = input.shape[d]
    (first,), (count,) = integers("narrow", "start", start), integers("narrow", "length", length)
    if not -n <= first <= n:
        raise RangeError(f"narrow: start {first} is out of range for dim {dim} of size {n}")
    first += n if first < 0 else 0
    if count < 0 or first + count > n:
        raise ShapeError(f"narrow: start {first} + length {count} exceeds dim {dim} of size {n}")
    return slice_of(input, d, first, count)


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The elements at `index` of dim `dim`, which goes."""
    d = normalize_dim("select", dim, input.ndim)
    if not input.ndim:
        raise ShapeError("select: expected at least 1 dim, got a 0-d tensor")
    n, (i,) = input.shape[d], integers("select", "index", index)
    if not -n <= i < n:
        raise RangeError(f"select: index {i} is out of range for dim {dim} of size {n} (expected {-n} <= index < {n})")
    result = reshape(slice_of(input, d, i % n, 1), (*input.shape[:d], *input.shape[d + 1 :]))
    if result is not input:
        result._copy_of = "a slice" if n > 1 else input._copy_of
    return result


def _infer_split(avals: tuple, attrs: tuple) -> tuple:
    (x,), (dim, sizes) = avals, attrs
    return tuple(aval(x.dtype, (*x.shape[:dim], n, *x.shape[dim + 1 :])) for n in sizes)


def _expand_split(x: Tensor, dim: int, sizes: tuple[int, ...]) -> tuple:
    ends = np.cumsum(sizes).tolist()
    return tuple(slice_of(x, dim, end - n, n) for n, end in zip(sizes, ends, strict=True))


def _split_vjp(n: Any, *grads: Tensor | None) -> Tensor:
    """The gradients of the parts side by side: one copy, where each slice alone would fill all of it."""
    from .join import cat

    known = next(g for g in grads if g is not None)
    parts = [zeros_of(known.dtype, a.shape) if g is None else g for g, a in zip(grads, n.out_avals, strict=True)]
    return cat(parts, n.attrs[0])


SPLIT = Op("split", _infer_split, ("dim", "sizes"), expand=_expand_split, vjp=_split_vjp, text="slices side by side")


def _parts(input: Tensor, dim: int, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    if sizes == (input.shape[dim],):
        return (input,)
    if 0 in sizes:  # nothing to gain, and a whole slice among them would be the input itself
        return _expand_split(input, dim, sizes)
    parts: tuple[Tensor, ...] = apply(SPLIT, (input,), (dim, sizes))
    for part in parts:
        part._copy_of = "a slice"
    return parts


def _dim_to_cut(name: str, input: Tensor, dim: int) -> int:
    if not input.ndim:
        raise ShapeError(f"{name}: expected at least 1 dim, got a 0-d tensor")
    return normalize_dim(name, dim, input.ndim)


def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Slices of one size along `dim` (the last may be smaller), or of the sizes of a list."""
    d = _dim_to_cut("split", tensor, dim)
    n = tensor.shape[d]
    sizes = integers("split", "sizes", split_size_or_sections)
    if min(sizes, default=0) < 0:
        raise ShapeError(f"split: expected sizes >= 0, got {split_size_or_sections}")
    if not isinstance(split_size_or_sections, (tuple, list)):
        (size,) = sizes
        if size == 0 and n:
            raise ShapeError(f"split: expected a size > 0 for dim {dim} of size {n}, got 0")
        sizes = tuple(min(size, n - i) for i in range(0, n, size or 1)) or (0,)
    if sum(sizes) != n:
        raise ShapeError(f"split: expected sizes that sum to {n} (dim {dim} of {tensor.shape}), got {sizes}")
    return _parts(tensor, d, sizes)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` slices of equal size along `dim`; the last may be smaller."""
    d = _dim_to_cut("chunk", input, dim)
    (count,) = integers("chunk", "chunks", chunks)
    if count <= 0:
        raise ShapeError(f"chunk: expected chunks > 0, got {count}")
    if not input.shape[d]:
        return tuple(input for _ in range(count))
    return split(input, -(-input.shape[d] // count), d)


def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """A number of slices along `dim` whose sizes differ by one at most, or slices that begin at the given indices."""
    d = _dim_to_cut("tensor_split", input, dim)
    n = input.shape[d]
    if isinstance(indices_or_sections, Tensor):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, (tuple, list)):
        at = [slice(None, i).indices(n)[1] for i in integers("tensor_split", "indices", indices_or_sections)]
        bounds = [0, *at, n]
        return tuple(slice_of(input, d, a, max(b - a, 0)) for a, b in itertools.pairwise(bounds))
    (count,) = integers("tensor_split", "sections", indices_or_sections)
    if count <= 0:
        raise ShapeError(f"tensor_split: expected a number of sections > 0, got {count}")
    return _parts(input, d, tuple(n // count + (i < n % count) for i in range(count)))


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices of size 1 along `dim`, without it."""
    d = _dim_to_cut("unbind", input, dim)
    rest = (*input.shape[:d], *input.shape[d + 1 :])
    parts = _parts(input, d, (1,) * input.shape[d])
    results = tuple(reshape(part, rest) for part in parts)
    for result in results:
        result._copy_of = "a slice" if len(parts) > 1 else input._copy_of
    return results


def flip(input: Tensor, dims: Any, *more: Any) -> Tensor:
    """The elements in reverse order along `dims`."""
    given = integers("flip", "dims", _listed(dims, more))
    if not given:
        return _clone(input)
    order = normalize_dims("flip", given, input.ndim)
    return apply(FLIP, (input,), (order,))


def fliplr(input: Tensor) -> Tensor:
    """The columns in reverse order."""
    if input.ndim < 2:
        raise ShapeError(f"fliplr: expected at least 2 dims, got shape {input.shape}")
    return flip(input, (1,))


def flipud(input: Tensor) -> Tensor:
    """The rows in reverse order."""
    if input.ndim < 1:
        raise ShapeError("flipud: expected at least 1 dim, got shape ()")
    return flip(input, (0,))


def _clone(input: Tensor) -> Tensor:
    from .elementwise import clone

    return clone(input)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of dims `dim1` and `dim2`, as the last dim; offset > 0: above the main one."""
    a, b = (normalize_dim("diagonal", d, input.ndim) for d in (dim1, dim2))
    if a == b:
        raise ShapeError(f"diagonal: expected two different dims, got {dim1} and {dim2} of shape {input.shape}")
    (at,) = integers("diagonal", "offset", offset)
    return _view(DIAGONAL, input, (at, a, b), "a diagonal")


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices in dims `dim1` and `dim2` of the result that have the last dim of `input` on a diagonal."""
    if not input.ndim:
        raise ShapeError("diag_embed: expected at least 1 dim, got a 0-d tensor")
    a, b = (normalize_dim("diag_embed", d, input.ndim + 1) for d in (dim1, dim2))
    if a == b:
        raise ShapeError(f"diag_embed: expected two different dims, got {dim1} and {dim2}")
    (at,) = integers("diag_embed", "offset", offset)
    n = input.shape[-1] + builtins.abs(at)
    shape = list(input.shape[:-1])
    for d in sorted((a, b)):
        shape.insert(d, n)
    return apply(PUT, (input,), (tuple(shape), "diagonal", (at, a, b), 0))


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or the matrix that has a vector on its diagonal."""
    if input.ndim not in (1, 2):
        raise ShapeError(f"diag: expected 1 or 2 dims, got shape {input.shape}")
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    result = globals()["diagonal"](input, diagonal)
    result._copy_of = None
    return result


def _triangle(name: str, input: Tensor, diagonal: int, upper: bool) -> Tensor:
    from .creation import arange
    from .elementwise import add, ge, le, where

    if input.ndim < 2:
        raise ShapeError(f"{name}: expected at least 2 dims, got shape {input.shape}")
    (at,) = integers(name, "diagonal", diagonal)
    rows, columns = (arange(n) for n in input.shape[-2:])
    keep = (ge if upper else le)(columns, reshape(add(rows, at), (rows.numel(), 1)))
    return where(keep, input, False if input.dtype is _core.bool_ else 0)


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of the last two dims, zeros above it; diagonal > 0 keeps more."""
    return _triangle("tril", input, diagonal, False)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of the last two dims, zeros below it; diagonal > 0 keeps less."""
    return _triangle("triu", input, diagonal, True)


# ---- repetitions ----


def broadcast_to(input: Tensor, size: Any) -> Tensor:
    """The tensor repeated along dims of size 1 and new leading ones, as broadcasting does."""
    from .elementwise import expand

    return expand(input, integers("broadcast_to", "size", size))


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """The tensors under their common shape."""
    from .elementwise import broadcast_shapes

    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    shape = broadcast_shapes("broadcast_tensors", *(t.shape for t in given)) if given else ()
    return tuple(broadcast_to(t, shape) for t in given)


def repeat(input: Tensor, repeats: Any, *more: Any) -> Tensor:
    """The tensor side by side with itself: `repeats` times along each dim, new leading dims included."""
    times = integers("repeat", "repeats", _listed(repeats, more))
    if len(times) < input.ndim:
        raise ShapeError(f"repeat: expected at least {input.ndim} numbers for shape {input.shape}, got {times}")
    if min(times, default=0) < 0:
        raise ShapeError(f"repeat: expected numbers >= 0, got {times}")
    own = (*(1,) * (len(times) - input.ndim), *input.shape)
    if all(n == 1 for n in times):
        return _clone(reshape(input, own))
    several = [d for d, n in enumerate(times) if n != 1]
    if len(own) + len(several) > MAX_DIMS:  # one dim after the other
        first = tuple(n if d == several[0] else 1 for d, n in enumerate(times))
        return repeat(repeat(input, first), tuple(1 if d == several[0] else n for d, n in enumerate(times)))
    pairs = [((n, size) if n != 1 else (size,)) for n, size in zip(times, own, strict=True)]
    apart = reshape(input, tuple(n for pair in pairs for n in ((1,) if len(pair) == 2 else ()) + pair[-1:]))
    spread = broadcast_to(apart, tuple(n for pair in pairs for n in pair))
    result = reshape(spread, tuple(a * b for a, b in zip(times, own, strict=True)))
    result._copy_of = None
    return result


def tile(input: Tensor, dims: Any, *more: Any) -> Tensor:
    """As `Tensor.repeat`, missing leading numbers being 1."""
    times = integers("tile", "dims", _listed(dims, more))
    return repeat(input, (*(1,) * (input.ndim - len(times)), *times))


def repeat_interleave(input: Tensor, repeats: Any, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Each element `repeats` times in a row along `dim` (of the flattened tensor without it).

    `repeats` may be a tensor with a number for each element; its values are needed, so not inside fastgd.compile.
    """
    x = ravel(input) if dim is None else input
    d = 0 if dim is None else normalize_dim("repeat_interleave", dim, x.ndim)
    if not x.ndim:
        x = reshape(x, (1,))
    counts = repeats
    if isinstance(repeats, Tensor):
        counts = repeats.tolist()
        if isinstance(counts, list) and len(counts) == 1:
            (counts,) = counts
    if isinstance(counts, (list, tuple)):
        from .index import index_select

        if len(counts) != x.shape[d]:
            raise ShapeError(f"repeat_interleave: expected {x.shape[d]} repeats, got {len(counts)}")
        if min(counts, default=0) < 0:
            raise ShapeError(f"repeat_interleave: expected repeats >= 0, got {counts}")
        return index_select(x, d, from_numpy(np.repeat(np.arange(x.shape[d]), counts)))
    (count,) = integers("repeat_interleave", "repeats", counts)
    if count < 0:
        raise ShapeError(f"repeat_interleave: expected repeats >= 0, got {count}")
    apart = reshape(x, (*x.shape[: d + 1], 1, *x.shape[d + 1 :]))
    spread = broadcast_to(apart, (*x.shape[: d + 1], count, *x.shape[d + 1 :]))
    result = reshape(spread, (*x.shape[:d], x.shape[d] * count, *x.shape[d + 1 :]))
    if result is not input:
        result._copy_of = None
    return result


# ---- regions ----


def _put_into(name: str, input: Tensor, src: Tensor, view: Op, attrs: tuple) -> Tensor:
    (shape,) = (a.shape for a in view.infer((input.aval,), attrs))
    if src.dtype is not input.dtype:
        raise DtypeError(f"{name}: expected src of {input.dtype}, got {src.dtype}")
    if src.shape != shape:
        raise ShapeError(f"{name}: expected src of shape {shape}, got {src.shape}")
    return apply(PUT_INTO, (input, src), (view.name, attrs))


def slice_scatter(
    input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """A copy of `input` with `src` in ``input[start:end:step]`` of dim `dim`."""
    d = _dim_to_cut("slice_scatter", input, dim)
    if step <= 0:
        raise ShapeError(f"slice_scatter: expected a step > 0, got {step}")
    first, stop, step = slice(start, end, step).indices(input.shape[d])
    starts, steps, sizes = [0] * input.ndim, [1] * input.ndim, list(input.shape)
    starts[d], steps[d], sizes[d] = first, step, len(range(first, stop, step))
    return _put_into("slice_scatter", input, src, SLICE, (tuple(starts), tuple(steps), tuple(sizes)))


def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of `input` with `src` at `index` of dim `dim`."""
    d = _dim_to_cut("select_scatter", input, dim)
    n, (i,) = input.shape[d], integers("select_scatter", "index", index)
    if not -n <= i < n:
        raise RangeError(f"select_scatter: index {i} is out of range for dim {dim} of size {n}")
    shape = (*input.shape[:d], *input.shape[d + 1 :])
    if src.shape != shape:
        raise ShapeError(f"select_scatter: expected src of shape {shape}, got {src.shape}")
    return slice_scatter(input, reshape(src, (*shape[:d], 1, *shape[d:])), d, i % n, i % n + 1)


def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A copy of `input` with `src` on a diagonal; see `diagonal`."""
    a, b = (normalize_dim("diagonal_scatter", d, input.ndim) for d in (dim1, dim2))
    if a == b:
        raise ShapeError(f"diagonal_scatter: expected two different dims, got {dim1} and {dim2} of shape {input.shape}")
    return _put_into("diagonal_scatter", input, src, DIAGONAL, (int(offset), a, b))
