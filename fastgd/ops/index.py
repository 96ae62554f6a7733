"""Indexing: slices, integers, None and Ellipsis are views; arrays of indices take or write rows.

What a key means is torch's.  Index arrays become positions of rows (`POSITIONS`: checked, negative ones counted from
the end); rows are copied from there (`TAKE`), written or added there (`SCATTER`), which are each other's derivatives.
Rows that go to one position are added, or overwrite each other, in the order in which they come: the same bits at any
number of threads.

A boolean array says by its values how many elements there are, so not inside fastgd.compile; `where` and
`masked_fill` do not depend on that.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from .. import _core
from .._core import DtypeError, NotOffered, RangeError, ShapeError, aval
from ..compiler.layout import MAX_DIMS, contiguous_strides, strides_over
from ..compiler.lower import Call
from ..tensor import Tensor, as_tensor, from_numpy
from .elementwise import COPY, as_operand, broadcast_shapes, cast, expand, mul, where
from .registry import Op, apply, apply_in_place, check_writable, no_tape
from .shape import PUT_INTO, SLICE, normalize_dim, permute, reshape, slice_of

__all__ = [
    "argwhere",
    "gather",
    "index_add",
    "index_copy",
    "index_fill",
    "index_put",
    "index_select",
    "masked_fill",
    "masked_select",
    "nonzero",
    "scatter",
    "scatter_add",
    "take",
    "take_along_dim",
]

# Those that Tensor has as methods.
METHODS = tuple(__all__)

# Those that write their result into the tensor: `x.index_add_(...)`.
IN_PLACE = ("index_add", "index_copy", "index_fill", "index_put", "masked_fill", "scatter", "scatter_add")


def _slices(name: str, shape: tuple[int, ...], items: list) -> tuple[tuple, tuple[int, ...]]:
    """The attributes of SLICE for integers, slices and None, and the shape of the result."""
    starts, steps, sizes, result = [], [], [], []
    dim = 0
    for item in items:
        if item is None:
            result.append(1)
            continue
        n = shape[dim]
        if isinstance(item, slice):
            if item.step is not None and operator.index(item.step) <= 0:
                raise ShapeError(f"{name}: expected a step > 0, got {item.step} (dim {dim}); use flip")
            start, stop, step = item.indices(n)
            sizes.append(len(range(start, stop, step)))
            result.append(sizes[-1])
        else:
            start, step = _in_range(name, item, n, dim, shape), 1
            sizes.append(1)
        starts.append(start)
        steps.append(step)
        dim += 1
    return (tuple(starts), tuple(steps), tuple(sizes)), tuple(result)


def _in_range(name: str, index: int, n: int, dim: int, shape: tuple[int, ...]) -> int:
    if not -n <= index < n:
        raise RangeError(f"{name}: index {index} is out of range for dim {dim} of shape {shape}")
    return index % n


def _key(name: str, key: Any, ndim: int) -> list:
    """The items of a key, Ellipsis replaced, missing dims added; integers as ints, arrays as tensors or arrays."""
    items = [_item(name, item) for item in (key if isinstance(key, tuple) else (key,))]
    taken = sum(_dims_of(item) for item in items if item is not Ellipsis)
    if taken > ndim:
        raise RangeError(f"{name}: too many indices, {taken} for {ndim} dims")
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise RangeError(f"{name}: expected at most one Ellipsis (...), got {len(dots)}")
    at = dots[0] if dots else len(items)
    return items[:at] + [slice(None)] * (ndim - taken) + items[at + 1 :]


def _dims_of(item: Any) -> int:
    if item is None:
        return 0
    if isinstance(item, bool):
        return 0
    if isinstance(item, (Tensor, np.ndarray)) and item.dtype in (_core.bool_, np.bool_):
        return item.ndim
    return 1


def _item(name: str, item: Any) -> Any:
    if item is None or item is Ellipsis or isinstance(item, (slice, bool)):
        return _plain_slice(item) if isinstance(item, slice) else item
    if isinstance(item, (int, np.integer)):
        return int(item)
    if isinstance(item, Tensor):
        return item
    if isinstance(item, (list, np.ndarray, range)):
        return np.asarray(item)
    raise DtypeError(f"{name}: expected integers, slices, None, ... or index arrays, got {type(item).__name__}")


def _plain_slice(item: slice) -> slice:
    return slice(*(None if x is None else operator.index(x) for x in (item.start, item.stop, item.step)))


def _is_basic(items: list) -> bool:
    return all(item is None or isinstance(item, slice) or type(item) is int for item in items)


def getitem(input: Tensor, index: Any) -> Tensor:
    """The elements that a key names, as torch has it; always a copy."""
    items = _key("indexing", index, input.ndim)
    if not _is_basic(items):
        return _take_at(input, _places("indexing", input, items))
    attrs, shape = _slices("indexing", input.shape, items)
    if attrs[2] == input.shape:
        return reshape(input, shape)
    if not _core.is_tracing() and not (input._requires_grad and _core.is_grad_enabled()):
        result = _copied(input, items, shape)
    else:
        result = reshape(apply(SLICE, (input,), attrs), shape)
    result._copy_of = "a slice"
    return result


def _copied(input: Tensor, items: list, shape: tuple[int, ...]) -> Tensor:
    """Off the tape NumPy copies: keys of a loop over rows differ each time, and a plan for each would not pay."""
    result = _core.empty_tensor(Tensor, _core.aval(input.dtype, shape))
    raw(result)[...] = raw(input)[tuple(items)]
    return result


def raw(t: Tensor) -> np.ndarray:
    """The memory of a tensor as an array; the bits of bfloat16."""
    if t.dtype is _core.bfloat16:
        return np.frombuffer(t.storage, np.uint16, count=t.numel()).reshape(t.shape)
    return t._view()


# ---- positions, take, scatter ----


def _infer_positions(avals: tuple, attrs: tuple) -> tuple:
    name = attrs[0]
    for a in avals:
        if a.dtype not in (_core.int64, _core.int32, _core.uint8):
            raise DtypeError(f"{name}: expected indices of int64, int32 or uint8, got {a.dtype}")
    return (aval(_core.int64, attrs[1]),)


def _lower_positions(node: Any) -> Call:
    name, shape, sizes, factors, base, wrap = node.attrs
    tail: list[int] = []
    rest = [0] * (MAX_DIMS - len(shape))
    for v, size, factor in zip(node.inputs, sizes, factors, strict=True):
        tail += [v.aval.dtype.code, size, factor, *strides_over(v, shape), *rest]
    fields = {"ndim": len(shape), "shape": shape, "base": base, "n_index": len(node.inputs), "wrap": wrap}
    call = Call("positions", fields, [node.outputs[0], *node.inputs], [node.outputs[0]], tail)
    call.message = lambda at, value, bound: (
        f"{name}: index {value} at position {at} is out of range for a dim of size {bound}"
    )
    return call


POSITIONS = Op(
    "positions",
    _infer_positions,
    ("name", "shape", "sizes", "factors", "base", "wrap"),
    lower=_lower_positions,
    strided=True,
    text="indices as positions",
)


def _around(shape: tuple[int, ...], start: int, end: int) -> dict[str, int]:
    """The sizes before, of and behind dims start..end, which are the rows."""
    outer, rows, inner = (int(np.prod(s, dtype=np.int64)) for s in (shape[:start], shape[start:end], shape[end:]))
    return {"outer": outer, "rows": rows, "inner": inner}


def _infer_take(avals: tuple, attrs: tuple) -> tuple:
    x, p = avals
    return (aval(x.dtype, (*x.shape[: attrs[0]], *p.shape, *x.shape[attrs[1] :])),)


def _lower_take(node: Any) -> Call:
    (x, p), (y,) = node.inputs, node.outputs
    fields = {"itemsize": x.aval.dtype.itemsize, "n": p.aval.numel, **_around(x.aval.shape, *node.attrs)}
    return Call("take", fields, [y, x, p], [y])


def _infer_scatter(avals: tuple, attrs: tuple) -> tuple:
    return (aval(avals[1].dtype, attrs[0]),)


def _lower_scatter(node: Any) -> Call:
    shape, start, end, add = node.attrs
    (p, src), base, y = node.inputs[:2], node.inputs[2:], node.outputs[0]
    if add and y.aval.dtype is _core.bfloat16:
        raise NotOffered("scatter_add: not offered for bfloat16")
    fields = {"dtype": y.aval.dtype.code, "add": add, "n": p.aval.numel, "has_base": len(base)}
    call = Call("scatter", {**fields, **_around(shape, start, end)}, [y, p, src, *base], [y])
    call.in_place = [(y, v) for v in base]
    return call


def _scatter_vjp(n: Any, g: Tensor) -> tuple:
    _shape, start, end, add = n.attrs
    p = n.inputs[0]
    src = apply(TAKE, (g, p), (start, end)) if n.needs[1] else None
    if len(n.needs) < 3:
        return None, src
    base = g
    if n.needs[2] and not add:
        base = apply(SCATTER, (p, _zeros(g.dtype, n.in_avals[1].shape), g), n.attrs)
    return None, src, base if n.needs[2] else None


def _zeros(dtype: Any, shape: tuple[int, ...]) -> Tensor:
    from .creation import zeros

    return zeros(shape, dtype=dtype)


TAKE: Op = Op(
    "take",
    _infer_take,
    ("start", "end"),
    lower=_lower_take,
    vjp=lambda n, g: (apply(SCATTER, (n.inputs[1], g), (n.in_avals[0].shape, *n.attrs, True)), None),
    saves="i1",
    text="rows at positions",
)
SCATTER: Op = Op(
    "scatter",
    _infer_scatter,
    ("shape", "start", "end", "add"),
    lower=_lower_scatter,
    vjp=_scatter_vjp,
    saves="i0",
    text="rows written or added at positions",
)


def _positions(
    name: str, indices: list[Tensor], sizes: tuple, factors: tuple, shape: tuple, base: tuple = (), wrap: bool = True
) -> Tensor:
    attrs = (name, shape, sizes, factors, base or (0,) * len(shape), wrap)
    return apply(POSITIONS, tuple(t.detach() for t in indices), attrs)


# ---- keys with arrays ----


class _Places:
    """What a key names: dims start..end of `view` (a view or a permutation of the tensor) at `positions`.

    `view_of` repeats the way from a tensor of the same shape to the view, `key` are its slices (None: all of it) and
    `order` the permutation behind it.
    """

    def __init__(self, view: Tensor, positions: Tensor, start: int, end: int, attrs: Any, order: Any) -> None:
        self.view, self.positions, self.start, self.end = view, positions, start, end
        self.attrs, self.order = attrs, order


def _places(name: str, input: Tensor, items: list) -> _Places:
    """Slices, None and integers first, as views; then the dims that have an array come together."""
    arrays: list[tuple[int, Tensor]] = []  # dim of the view, index array
    basic: list[Any] = []
    dim = 0  # of the view
    for item in items:
        if isinstance(item, bool):
            raise NotOffered(f"{name}: a single bool as an index is not offered")
        if isinstance(item, (Tensor, np.ndarray)):
            for array in _index_arrays(name, item, input.shape[_consumed(basic) : _consumed(basic) + _dims_of(item)]):
                arrays.append((dim, array))
                basic.append(slice(None))
                dim += 1
        else:
            basic.append(item)
            dim += type(item) is not int
    attrs, shape = _slices(name, input.shape, basic)
    view = input if attrs[2] == input.shape else apply(SLICE, (input,), attrs)
    view = reshape(view, shape)
    dims = [d for d, _ in arrays]
    order = None
    start = dims[0]
    if dims != list(range(start, start + len(dims))):  # apart from each other: to the front, as in torch
        order = (*dims, *(d for d in range(view.ndim) if d not in dims))
        view, start = permute(view, order), 0
    end = start + len(dims)
    sizes = view.shape[start:end]
    common = broadcast_shapes(name, *(t.shape for _, t in arrays))
    positions = _positions(name, [t for _, t in arrays], sizes, tuple(contiguous_strides(sizes)), common)
    return _Places(view, positions, start, end, attrs, order)


def _consumed(basic: list) -> int:
    return sum(item is not None for item in basic)


def _index_arrays(name: str, item: Any, sizes: tuple[int, ...]) -> list[Tensor]:
    """An index array as it is; a boolean one as the positions at which it is true."""
    if item.dtype not in (_core.bool_, np.bool_):
        if isinstance(item, np.ndarray):
            if item.size == 0:
                item = item.astype(np.int64)
            if item.dtype.kind not in "iu":
                raise DtypeError(f"{name}: expected an array of integers or bools, got {item.dtype}")
        return [item if isinstance(item, Tensor) else from_numpy(np.ascontiguousarray(item))]
    if tuple(item.shape) != tuple(sizes):
        raise RangeError(f"{name}: expected a mask of shape {tuple(sizes)}, got {tuple(item.shape)}")
    return [from_numpy(np.ascontiguousarray(at)) for at in np.nonzero(_mask(name, item))]


def _mask(name: str, mask: Any) -> np.ndarray:
    if isinstance(mask, Tensor) and (mask.storage is None or _core.is_tracing()):
        raise NotOffered(
            f"{name}: how many elements a boolean array names is not known inside fastgd.compile; use where() or "
            "masked_fill(), or index outside"
        )
    return np.asarray(mask)


def _take_at(input: Tensor, at: _Places) -> Tensor:
    return apply(TAKE, (at.view, at.positions), (at.start, at.end))


def setitem(target: Tensor, index: Any, value: Any) -> None:
    """target[index] = value, outside of the tape."""
    name = "index assignment"
    check_writable(target, name, value)
    items = _key(name, index, target.ndim)
    with no_tape():
        source = value.detach() if isinstance(value, Tensor) else value
        if isinstance(source, (bool, int, float)):
            kind = target.dtype if target.dtype is not _core.bfloat16 else _core.float32
            source = as_operand(_number(kind, source), kind)
        source = cast(source if isinstance(source, Tensor) else as_tensor(source), target.dtype)
        if _is_basic(items):
            _assign_slice(target, items, source)
            return
        masks = [i for i in items if isinstance(i, Tensor) and i.dtype is _core.bool_]
        if _core.is_tracing() and len(masks) == 1 and len(_key(name, masks[0], target.ndim)) == len(items):
            _assign_where(target, items, masks[0], source)
            return
        at = _places(name, target, items)
        view = at.view
        shape = (*view.shape[: at.start], *at.positions.shape, *view.shape[at.end :])
        source = _fitted(name, source, shape)
        new = apply(SCATTER, (at.positions, source, view), (view.shape, at.start, at.end, False))
        if at.order is not None:
            new = permute(new, tuple(int(i) for i in np.argsort(at.order)))
        new = reshape(new, at.attrs[2])
        if at.attrs[2] == target.shape:
            apply_in_place(COPY, target, (new,))
        else:
            apply_in_place(PUT_INTO, target, (target, new), ("slice", at.attrs))


def _number(dtype: Any, x: Any) -> Any:
    """As in torch, a float written into integers loses its fraction."""
    return int(x) if isinstance(x, float) and not dtype.is_floating_point else x


def _fitted(name: str, source: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The value under the shape that is written; leading dims of size 1 may be missing there, as in torch."""
    own = source.shape
    while len(own) > len(shape) and own[0] == 1:
        own = own[1:]
    if len(own) > len(shape) or any(n not in (1, m) for n, m in zip(own[::-1], shape[::-1], strict=False)):
        raise ShapeError(f"{name}: a value of shape {source.shape} cannot be written into shape {shape}")
    return expand(reshape(source, own), shape)


def _assign_slice(target: Tensor, items: list, source: Tensor) -> None:
    attrs, shape = _slices("index assignment", target.shape, items)
    source = _fitted("index assignment", source, shape)
    if not _core.is_tracing() and target.storage is not None:
        raw(target)[tuple(items)] = raw(source)
        target.storage.version += 1
    elif attrs[2] == target.shape:
        apply_in_place(COPY, target, (reshape(source, target.shape),))
    else:
        apply_in_place(PUT_INTO, target, (target, reshape(source, attrs[2])), ("slice", attrs))


def _assign_where(target: Tensor, items: list, mask: Tensor, source: Tensor) -> None:
    """One mask and nothing else inside of a recording: the value must not depend on how many elements it names."""
    if any(item is not mask and item != slice(None) for item in items):
        raise NotOffered("index assignment: a mask beside other indices is not offered inside fastgd.compile")
    at = next(i for i, item in enumerate(items) if item is mask)
    if mask.shape != target.shape[at : at + mask.ndim]:
        raise RangeError(
            f"index assignment: expected a mask of shape {target.shape[at : at + mask.ndim]}, got {mask.shape}"
        )
    if source.ndim > target.ndim - at - mask.ndim:
        raise NotOffered(
            "index assignment: a value for each element that a mask names is not offered inside fastgd.compile; "
            "use where()"
        )
    mask = reshape(mask, (*mask.shape, *(1,) * (target.ndim - at - mask.ndim)))
    apply_in_place(COPY, target, (where(mask, source, target),))


# ---- functions ----


def _along(name: str, input: Tensor, dim: int, index: Any) -> tuple[int, Tensor]:
    d = normalize_dim(name, dim, input.ndim)
    if not isinstance(index, Tensor):
        raise DtypeError(f"{name}: expected index as a tensor of integers, got {type(index).__name__}")
    return d, index


def _rows(name: str, input: Tensor, dim: int, index: Any) -> tuple[Tensor, int, Tensor]:
    """(input with at least one dim, dim, checked positions of a vector of indices)."""
    d, at = _along(name, input, dim, index)
    if at.ndim > 1:
        raise ShapeError(f"{name}: expected index of at most 1 dim, got shape {at.shape}")
    x = input if input.ndim else reshape(input, (1,))
    at = reshape(at, (at.numel(),))
    return x, d, _positions(name, [at], (x.shape[d],), (1,), at.shape, wrap=False)


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices along `dim` that the vector `index` names, in its order."""
    x, d, p = _rows("index_select", input, dim, index)
    result = apply(TAKE, (x, p), (d, d + 1))
    return reshape(result, ()) if not input.ndim and index.numel() == 1 else result


def _elements(name: str, input: Tensor, dim: int, index: Any, wrap: bool = False) -> Tensor:
    """Flat positions of the elements input[i, .., index[i, .., k], ..] for the dims of index."""
    d, at = _along(name, input, dim, index)
    x_shape, shape = input.shape or (1,), at.shape or (1,)
    if not at.numel():
        return _zeros(_core.int64, shape)
    if len(shape) != len(x_shape):
        raise ShapeError(f"{name}: expected index of {input.ndim} dims, got shape {at.shape}")
    if any(n > m for k, (n, m) in enumerate(zip(shape, x_shape, strict=True)) if k != d):
        raise ShapeError(f"{name}: expected index no larger than {input.shape} but in dim {dim}, got {at.shape}")
    strides = contiguous_strides(x_shape)
    base = tuple(0 if k == d else s for k, s in enumerate(strides))
    return _positions(name, [reshape(at, shape)], (x_shape[d],), (strides[d],), shape, base, wrap)


def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on: one element for each of `index`."""
    if sparse_grad:
        raise NotOffered("gather: sparse gradients are not offered")
    p = _elements("gather", input, dim, index)
    return reshape(apply(TAKE, (reshape(input, (input.numel(),)), p), (0, 1)), index.shape)


def take(input: Tensor, index: Tensor) -> Tensor:
    """The elements at flat positions; the result has the shape of `index`."""
    _, at = _along("take", input, 0, index)
    p = _positions("take", [at], (input.numel(),), (1,), at.shape)
    return apply(TAKE, (reshape(input, (input.numel(),)), p), (0, 1))


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """As `gather`, the other dims broadcast; without `dim` elements of the flattened tensor."""
    if dim is None:
        return gather(reshape(input, (input.numel(),)), 0, reshape(indices, (indices.numel(),)))
    d, at = _along("take_along_dim", input, dim, indices)
    if at.ndim != input.ndim:
        raise ShapeError(f"take_along_dim: expected indices of {input.ndim} dims, got shape {at.shape}")
    one = [(*s[:d], 1, *s[d + 1:]) for s in (input.shape, at.shape)]
    common = broadcast_shapes("take_along_dim", *one)
    x, i = (expand(t, (*common[:d], t.shape[d], *common[d + 1 :])) for t in (input, at))
    p = _elements("take_along_dim", x, d, i, wrap=True)
    return reshape(apply(TAKE, (reshape(x, (x.numel(),)), p), (0, 1)), i.shape)


def _scattered(name: str, input: Tensor, dim: int, index: Tensor, src: Any, add: bool) -> Tensor:
    if isinstance(src, Tensor):
        if src.dtype is not input.dtype:
            raise DtypeError(f"{name}: expected src of {input.dtype}, got {src.dtype}")
        shape, own = index.shape or (1,), src.shape or (1,)
        if index.numel() and (len(own) != len(shape) or any(n > m for n, m in zip(shape, own, strict=True))):
            raise ShapeError(f"{name}: expected src at least as large as index, {index.shape}, got {src.shape}")
    p = _elements(name, input, dim, index)
    if not index.numel():
        return _copy(input)
    if isinstance(src, Tensor):
        values = reshape(src, own)
        for d, n in enumerate(shape):
            values = slice_of(values, d, 0, n)
    else:
        values = expand(as_operand(src, input.dtype), p.shape)
    flat = reshape(input, (input.numel(),))
    return reshape(apply(SCATTER, (p, values, flat), (flat.shape, 0, 1, add)), input.shape)


def _copy(input: Tensor) -> Tensor:
    from .elementwise import clone

    return clone(input)


def scatter(
    input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: Any = None
) -> Tensor:
    """A copy of `input` with out[index[i][j]][j] = src[i][j] for dim 0, and so on.

    Of several elements that go to one place the last stays.
    """
    if reduce not in (None, "add"):
        raise NotOffered(f"scatter: reduce={reduce!r} is not offered, expected None or 'add'")
    return _scattered("scatter", input, dim, index, value if src is None else src, reduce == "add")


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """A copy of `input` with out[index[i][j]][j] += src[i][j] for dim 0, and so on."""
    return _scattered("scatter_add", input, dim, index, src, True)


def _into_rows(name: str, input: Tensor, dim: int, index: Tensor, source: Any, add: bool) -> Tensor:
    if not isinstance(source, Tensor):
        raise DtypeError(f"{name}: expected source as a tensor, got {type(source).__name__}")
    if source.dtype is not input.dtype:
        raise DtypeError(f"{name}: expected source of {input.dtype}, got {source.dtype}")
    x, d, p = _rows(name, input, dim, index)
    shape = (*x.shape[:d], p.numel(), *x.shape[d + 1 :])
    if source.shape != shape and not (source.numel() == 1 and shape == (1,)):
        raise ShapeError(f"{name}: expected source of shape {shape}, got {source.shape}")
    result = apply(SCATTER, (p, reshape(source, shape), x), (x.shape, d, d + 1, add))
    return reshape(result, input.shape)


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """A copy of `input` with `alpha` times the slices of `source` added to those along `dim` that `index` names."""
    return _into_rows("index_add", input, dim, index, source if alpha == 1 else mul(source, alpha), True)


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """A copy of `input` with the slices of `source` in place of those along `dim` that `index` names."""
    return _into_rows("index_copy", input, dim, index, source, False)


def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """A copy of `input` with `value` in the slices along `dim` that `index` names."""
    x, d, p = _rows("index_fill", input, dim, index)
    if isinstance(value, Tensor) and value.ndim:
        raise ShapeError(f"index_fill: expected a number or a 0-d tensor, got shape {value.shape}")
    shape = (*x.shape[:d], p.numel(), *x.shape[d + 1 :])
    source = expand(as_operand(value, input.dtype), shape)
    return reshape(apply(SCATTER, (p, source, x), (x.shape, d, d + 1, False)), input.shape)


def index_put(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of `input` with ``input[indices] = values``, or ``+=`` with every repeated index counted."""
    items = _key("index_put", tuple(indices), input.ndim)
    at = _places("index_put", input, items)
    if at.order is not None:
        raise NotOffered("index_put: index arrays that are not neighbours are not offered")
    view = at.view
    shape = (*view.shape[: at.start], *at.positions.shape, *view.shape[at.end :])
    if values.dtype is not input.dtype:
        raise DtypeError(f"index_put: expected values of {input.dtype}, got {values.dtype}")
    source = _fitted("index_put", values, shape)
    return apply(SCATTER, (at.positions, source, view), (view.shape, at.start, at.end, bool(accumulate)))


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """`value` where the mask is true, else `input`; the mask broadcasts."""
    if not isinstance(mask, Tensor) or mask.dtype is not _core.bool_:
        raise DtypeError(f"masked_fill: expected a bool mask, got {getattr(mask, 'dtype', type(mask).__name__)}")
    if isinstance(value, Tensor) and value.ndim:
        raise ShapeError(f"masked_fill: expected a number or a 0-d tensor, got shape {value.shape}")
    return where(mask, as_operand(_number(input.dtype, value), input.dtype), input)


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements at which the mask is true, in one dim; both broadcast.  Not inside fastgd.compile."""
    if not isinstance(mask, Tensor) or mask.dtype is not _core.bool_:
        raise DtypeError(f"masked_select: expected a bool mask, got {getattr(mask, 'dtype', type(mask).__name__)}")
    _mask("masked_select", mask)
    shape = broadcast_shapes("masked_select", input.shape, mask.shape)
    x, m = expand(input, shape), expand(mask, shape)
    at = from_numpy(np.flatnonzero(np.asarray(m)))
    return apply(TAKE, (reshape(x, (x.numel(),)), at), (0, 1))


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The indices of elements that are not zero: a row each, or a vector for each dim.  Not inside fastgd.compile."""
    at = np.nonzero(np.atleast_1d(_mask("nonzero", input)))
    if as_tuple:
        return tuple(from_numpy(np.ascontiguousarray(i)) for i in at)
    rows = np.stack(at, 1) if input.ndim else np.empty((len(at[0]), 0), np.int64)
    return from_numpy(np.ascontiguousarray(rows))


def argwhere(input: Tensor) -> Tensor:
    """The indices of elements that are not zero, a row each.  Not inside fastgd.compile."""
    return nonzero(input)
