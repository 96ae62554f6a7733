"""Indexing: slices, integers, None and Ellipsis are views; arrays of indices gather.

What a key means is torch's (and NumPy's), but a negative step is refused.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from .. import _core
from .._core import DtypeError, NotOffered, RangeError, ShapeError
from ..tensor import Tensor
from .registry import apply, check_writable, no_tape
from .shape import SLICE, reshape

__all__: list[str] = []


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
        return _getitem_array(input, items)
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


def _getitem_array(input: Tensor, items: list) -> Tensor:
    from ..tensor import tensor

    if _core.is_tracing() or (input._requires_grad and _core.is_grad_enabled()):
        raise NotOffered("indexing with arrays on the tape or inside fastgd.compile is not offered yet; index before")
    plain = tuple(np.asarray(i) if isinstance(i, Tensor) else i for i in items)
    try:
        result = tensor(input._view()[plain], input.dtype)
    except IndexError as error:
        raise RangeError(f"indexing a tensor of shape {input.shape}: {error}") from None
    return result


def setitem(target: Tensor, index: Any, value: Any) -> None:
    """target[index] = value, outside of the tape."""
    check_writable(target, "index assignment", value)
    if _core.is_tracing():
        raise NotOffered("index assignment inside fastgd.compile is not offered yet")
    items = _key("index assignment", index, target.ndim)
    plain = tuple(np.asarray(i) if isinstance(i, Tensor) else i for i in items)
    with no_tape():
        try:
            target._view()[plain] = np.asarray(value)
        except IndexError as error:
            raise RangeError(f"index assignment to a tensor of shape {target.shape}: {error}") from None
        except ValueError as error:
            raise ShapeError(f"index assignment to a tensor of shape {target.shape}: {error}") from None
    target.storage.version += 1
