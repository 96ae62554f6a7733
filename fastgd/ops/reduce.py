"""Reductions: sum, mean, max, argmax.  The canonical order of each sum is that of csrc/kernels/reduce.c."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._core import DtypeError, ShapeError, aval
from ..compiler.lower import Call
from ..tensor import Tensor
from .elementwise import cast, div, eq, expand, mul, where
from .registry import Op, apply
from .shape import normalize_dim, normalize_dims, reshape

__all__ = [
    "amax",
    "amin",
    "argmax",
    "max",
    "mean",
    "sum",
]

# Those that Tensor has as methods.
METHODS = (
    "amax",
    "amin",
    "argmax",
    "max",
    "mean",
    "sum",
)

SUM, MAX, MIN, PROD = 0, 1, 2, 3
_SUFFIX = {"float32": "f32", "float64": "f64", "int64": "i64"}


def _without(shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(shape) if i not in dims)


def _kept(shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if i in dims else n for i, n in enumerate(shape))


def _split(shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(outer, r, inner) if the dims are neighbours, else None."""
    if not dims:
        return int(np.prod(shape, dtype=np.int64)), 1, 1
    first, last = dims[0], dims[-1]
    if any(shape[d] != 1 for d in range(first, last) if d not in dims):
        return None
    size = [int(np.prod(s, dtype=np.int64)) for s in (shape[:first], shape[first : last + 1], shape[last + 1 :])]
    return size[0], size[1], size[2]


def _infer(name: str, empty: bool) -> Any:
    def infer(avals: tuple, attrs: tuple) -> tuple:
        (x,) = avals
        if x.dtype.name not in _SUFFIX:
            raise DtypeError(f"{name}: expected float32, float64 or int64, got {x.dtype}")
        if not empty and any(x.shape[d] == 0 for d in attrs[0]):
            raise ShapeError(f"{name}: shape {x.shape} has no elements along dims {attrs[0]}")
        return (aval(x.dtype, _without(x.shape, attrs[0])),)

    return infer


def _lower(kind: int) -> Any:
    def lower(node: Any) -> Call:
        x, y = node.inputs[0], node.outputs[0]
        split = _split(x.aval.shape, node.attrs[0])
        assert split is not None  # the functions below reduce runs of neighbouring dims only
        outer, r, inner = split
        fields = {"kind": kind, "outer": outer, "r": r, "inner": inner}
        return Call(f"reduce_{_SUFFIX[x.aval.dtype.name]}", fields, [y, x], [y])

    return lower


def _sum_vjp(n: Any, g: Tensor) -> Tensor:
    shape = n.in_avals[0].shape
    return expand(reshape(g, _kept(shape, n.attrs[0])), shape)


def _amax_vjp(n: Any, g: Tensor) -> Tensor:
    """Elements equal to the maximum share the gradient, as in torch.amax."""
    x, y = n.inputs[0], n.outputs[0]
    shape, kept = n.in_avals[0].shape, _kept(n.in_avals[0].shape, n.attrs[0])
    hit = cast(eq(x, reshape(y, kept)), x.dtype)
    count = reshape(sum(hit, n.attrs[0]), kept)
    return mul(hit, expand(div(reshape(g, kept), count), shape))


SUM_OP = Op("sum", _infer("sum", True), ("dims",), lower=_lower(SUM), vjp=_sum_vjp)
AMAX_OP = Op("amax", _infer("amax", False), ("dims",), lower=_lower(MAX), vjp=_amax_vjp, saves="i0 o0")
AMIN_OP = Op("amin", _infer("amin", False), ("dims",), lower=_lower(MIN), vjp=_amax_vjp, saves="i0 o0")


def _infer_argmax(avals: tuple, attrs: tuple) -> tuple:
    (x,) = avals
    _infer("argmax", False)(avals, ((attrs[0],),))
    return (aval(_core.int64, _without(x.shape, (attrs[0],))),)


def _lower_argmax(node: Any) -> Call:
    x, y = node.inputs[0], node.outputs[0]
    split = _split(x.aval.shape, (node.attrs[0],))
    assert split is not None
    fields = dict(zip(("outer", "r", "inner"), split, strict=True))
    return Call(f"argmax_{_SUFFIX[x.aval.dtype.name]}", fields, [y, x], [y])


ARGMAX_OP = Op("argmax", _infer_argmax, ("dim",), lower=_lower_argmax)


def _reduce(op: Op, input: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """Reduces runs of neighbouring dims, the last run first: a fixed order for each logical shape."""
    shape = input.shape
    result, left = input, list(dims)
    if not left and input.ndim:
        return input
    while True:
        run: list[int] = []
        while left and (not run or _split(result.shape, (left[-1], *run)) is not None):
            run.insert(0, left.pop())
        result = apply(op, (result,), (tuple(run),))
        if not left:
            break
    return reshape(result, _kept(shape, dims)) if keepdim else result


def _accumulates(input: Tensor) -> Tensor:
    """bool and small integers are summed as int64, as in torch."""
    return input if input.dtype.is_floating_point or input.dtype is _core.int64 else cast(input, _core.int64)


def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over `dim` (one, several, or all); integers and bools are summed as int64."""
    x = cast(input, dtype) if dtype is not None else _accumulates(input)
    return _reduce(SUM_OP, x, normalize_dims("sum", dim, x.ndim), keepdim)


def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over `dim` (one, several, or all) of a floating-point tensor; NaN if there are no elements."""
    x = cast(input, dtype) if dtype is not None else input
    if not x.dtype.is_floating_point:
        raise DtypeError(f"mean: expected a floating-point tensor, got {x.dtype}; pass dtype=fastgd.float32")
    dims = normalize_dims("mean", dim, x.ndim)
    count = int(np.prod([x.shape[d] for d in dims], dtype=np.int64))
    return div(_reduce(SUM_OP, x, dims, keepdim), float(count))


def _reducible(name: str, input: Tensor) -> Tensor:
    return input if input.dtype.name in _SUFFIX else cast(input, _core.int64)


def amax(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The largest element over `dim`; NaN propagates; ties share the gradient."""
    x = _reducible("amax", input)
    return cast(_reduce(AMAX_OP, x, normalize_dims("amax", dim, x.ndim), keepdim), input.dtype)


def amin(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The smallest element over `dim`; NaN propagates; ties share the gradient."""
    x = _reducible("amin", input)
    return cast(_reduce(AMIN_OP, x, normalize_dims("amin", dim, x.ndim), keepdim), input.dtype)


def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The position of the first largest element along `dim` (of the flattened tensor without it)."""
    x = _reducible("argmax", input)
    if dim is None:
        result = apply(ARGMAX_OP, (reshape(x, (-1,)),), (0,))
        return reshape(result, (1,) * input.ndim) if keepdim else result
    d = normalize_dim("argmax", dim, x.ndim)
    if not x.ndim:
        return apply(ARGMAX_OP, (reshape(x, (1,)),), (0,))
    result = apply(ARGMAX_OP, (x,), (d,))
    return reshape(result, _kept(x.shape, (d,))) if keepdim else result


def max(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The largest element; with `dim`, the pair (values, indices) along it, as in torch."""
    if dim is None:
        return amax(input)
    if isinstance(dim, Tensor):
        from .elementwise import maximum

        return maximum(input, dim)
    d = normalize_dim("max", dim, input.ndim)
    indices = argmax(input, d, True)
    values = _pick(input, indices, d)
    if not keepdim and input.ndim:
        values, indices = (reshape(v, _without(input.shape, (d,))) for v in (values, indices))
    return MaxResult(values, indices)


class MaxResult(tuple):
    """(values, indices), also by name."""

    __slots__ = ()

    def __new__(cls, values: Tensor, indices: Tensor) -> MaxResult:
        return super().__new__(cls, (values, indices))

    @property
    def values(self) -> Tensor:
        return self[0]

    @property
    def indices(self) -> Tensor:
        return self[1]


def _pick(input: Tensor, indices: Tensor, dim: int) -> Tensor:
    """The elements at `indices` along `dim`; only they get a gradient.  (0 * inf must not turn up: where, not mul.)"""
    from ..tensor import from_numpy

    if not input.ndim:
        return input
    shape = tuple(input.shape[dim] if i == dim else 1 for i in range(input.ndim))
    positions = from_numpy(np.arange(input.shape[dim], dtype=np.int64).reshape(shape))
    return cast(sum(where(eq(positions, indices), input, 0), dim, True), input.dtype)
