"""Making tensors: zeros, ones, full, arange, rand, randn ..."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import _core
from .. import random as generator
from .._core import DtypeError, NotOffered, ShapeError, as_dtype, aval
from ..tensor import Tensor, from_numpy
from ..tensor import device as check_device

__all__ = [
    "arange",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "rand",
    "randint",
    "randn",
    "randperm",
    "zeros",
    "zeros_like",
]


def _integers(name: str, values: Any) -> tuple[int, ...]:
    try:
        return tuple([operator.index(n) for n in values])
    except TypeError:
        raise DtypeError(f"{name}: expected integers, got {values!r}") from None


def _shape(name: str, sizes: Any) -> tuple[int, ...]:
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = sizes[0]
    shape = _integers(name, sizes)
    if any(n < 0 for n in shape):
        raise ShapeError(f"{name}: expected sizes >= 0, got {shape}")
    return shape


def _float_kind(name: str, dtype: Any) -> Any:
    """The NumPy dtype in which numbers are drawn."""
    wanted = _core.float32 if dtype is None else as_dtype(dtype)
    if not wanted.is_floating_point:
        raise DtypeError(f"{name}: expected a floating-point dtype, got {wanted}")
    return np.float64 if wanted is _core.float64 else np.float32


def _on_cpu(device: Any) -> None:
    if device is not None:
        check_device(device)


def _finish(array: np.ndarray, dtype: Any, requires_grad: bool) -> Tensor:
    t = from_numpy(np.ascontiguousarray(array).reshape(array.shape))
    if dtype is not None and t.dtype is not as_dtype(dtype):
        t = t.to(dtype)
    return t.requires_grad_() if requires_grad else t


def full(size: Any, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """A tensor of one value; its dtype is that of the value unless given (Python floats: float32)."""
    _on_cpu(device)
    if dtype is None:
        dtype = (
            _core.bool_
            if isinstance(fill_value, bool)
            else _core.int64
            if isinstance(fill_value, int)
            else _core.float32
        )
    shape = _shape("full", (tuple(size) if isinstance(size, Iterable) else size,))
    d = as_dtype(dtype)
    if _core.is_tracing():
        from .elementwise import expand

        made = expand(_core.current_trace().constant(aval(d, ()), fill_value), shape)
        made._copy_of = None  # what is filled has memory of its own
        return made.requires_grad_() if requires_grad else made
    if d is _core.bfloat16:
        return full(shape, fill_value, dtype=_core.float32).to(d)
    t = _core.empty_tensor(Tensor, aval(d, shape))
    t._view()[...] = fill_value
    return t.requires_grad_() if requires_grad else t


def zeros(*size: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """All zeros, float32 unless `dtype` is given."""
    _on_cpu(device)
    return full(_shape("zeros", size), 0.0, dtype=dtype or _core.float32, requires_grad=requires_grad)


def ones(*size: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """All ones, float32 unless `dtype` is given."""
    _on_cpu(device)
    return full(_shape("ones", size), 1.0, dtype=dtype or _core.float32, requires_grad=requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of the same shape and dtype."""
    return full(input.shape, 0, dtype=dtype or input.dtype, requires_grad=requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of the same shape and dtype."""
    return full(input.shape, 1, dtype=dtype or input.dtype, requires_grad=requires_grad)


def full_like(input: Tensor, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """One value, of the same shape and dtype."""
    return full(input.shape, fill_value, dtype=dtype or input.dtype, requires_grad=requires_grad)


def empty(*size: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Uninitialised memory (zeros inside fastgd.compile, where two recordings must agree)."""
    _on_cpu(device)
    if _core.is_tracing():
        return zeros(*size, dtype=dtype, requires_grad=requires_grad)
    t = _core.empty_tensor(Tensor, aval(as_dtype(dtype or _core.float32), _shape("empty", size)))
    return t.requires_grad_() if requires_grad else t


def empty_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Uninitialised memory of the same shape and dtype."""
    return empty(input.shape, dtype=dtype or input.dtype, requires_grad=requires_grad)


def arange(start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """start, start + step, ... before end; int64 for integers, else float32."""
    start, end, step = (x.item() if isinstance(x, Tensor) else x for x in (start, end, step))
    if end is None:
        start, end = 0, start
    if dtype is None:
        dtype = _core.int64 if all(isinstance(x, (int, np.integer)) for x in (start, end, step)) else _core.float32
    return _finish(np.arange(start, end, step), dtype, requires_grad)


def linspace(start: float, end: float, steps: int, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """`steps` evenly spaced numbers from start to end, both included."""
    return _finish(np.linspace(start, end, steps), dtype or _core.float32, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal."""
    return _finish(np.eye(n, m, dtype=np.float32), dtype, requires_grad)


def _refuse_recording(name: str) -> None:
    if _core.is_tracing():
        raise NotOffered(f"{name} inside fastgd.compile is not offered yet: make the numbers outside and pass them in")


def rand(*size: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Uniform numbers in [0, 1) from fastgd's generator."""
    _on_cpu(device)
    _refuse_recording("rand")
    shape = _shape("rand", size)
    kind = _float_kind("rand", dtype)
    return generator.draw(lambda source: _finish(source.random(shape, kind), dtype, requires_grad))


def randn(*size: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Normal numbers (mean 0, variance 1) from fastgd's generator."""
    _on_cpu(device)
    _refuse_recording("randn")
    shape = _shape("randn", size)
    kind = _float_kind("randn", dtype)
    return generator.draw(lambda source: _finish(source.standard_normal(shape, kind), dtype, requires_grad))


def randint(low: int, high: Any = None, size: Any = None, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Integers in [low, high), int64 unless `dtype` is given; randint(high, size) starts at 0."""
    _on_cpu(device)
    _refuse_recording("randint")
    if size is None:
        low, high, size = 0, low, high
    shape = _shape("randint", (size,))
    (low,), (high,) = _integers("randint", (low,)), _integers("randint", (high,))
    if not low < high:
        raise ShapeError(f"randint: expected low < high, got low = {low}, high = {high}")
    return generator.draw(lambda source: _finish(source.integers(low, high, shape, np.int64), dtype, False))


def randperm(n: int) -> Tensor:
    """A random permutation of 0 .. n-1."""
    _refuse_recording("randperm")
    shape = _shape("randperm", (n,))
    return from_numpy(np.argsort(generator.uniform(shape, dtype="float64"), kind="stable").astype(np.int64))
