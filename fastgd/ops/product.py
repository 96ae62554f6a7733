"""Matrix products: matmul, linear."""

from __future__ import annotations

from typing import Any

from .. import _core
from .._core import DtypeError, ShapeError, aval
from ..tensor import Tensor, as_tensor
from .elementwise import ADD, broadcast_shapes, operands, sum_to
from .reduce import sum as reduce_sum
from .registry import Op, apply
from .shape import reshape

__all__ = [
    "bmm",
    "linear",
    "matmul",
    "mm",
]

# Those that Tensor has as methods.
METHODS = (
    "bmm",
    "matmul",
    "mm",
)


def _check_float(name: str, *avals: Any) -> None:
    for a in avals:
        if a.dtype is not _core.float32 and a.dtype is not _core.float64:
            raise DtypeError(f"{name}: expected float32 or float64, got {a.dtype}")
    if len({a.dtype for a in avals}) > 1:
        raise DtypeError(f"{name}: expected one dtype, got {' and '.join(str(a.dtype) for a in avals)}")


def _infer_gemm(avals: tuple, attrs: tuple) -> tuple:
    a, b = avals
    _check_float("matmul", a, b)
    m, k = a.shape[-2:][::-1] if attrs[0] else a.shape[-2:]
    k2, n = b.shape[-2:][::-1] if attrs[1] else b.shape[-2:]
    if k != k2:
        raise ShapeError(f"matmul: inner sizes differ: {(m, k)} @ {(k2, n)} (of shapes {a.shape} and {b.shape})")
    return (aval(a.dtype, (*broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2]), m, n)),)


def _gemm_vjp(n: Any, g: Tensor) -> tuple:
    a, b = n.inputs
    ta, tb = n.attrs
    da = db = None
    if n.needs[0]:
        da = gemm(b, g, tb, True) if ta else gemm(g, b, False, not tb)
        da = sum_to(da, n.in_avals[0].shape)
    if n.needs[1]:
        if b.ndim == 2 and a.ndim > 2 and not ta:  # one weight for all rows: one product over all of them
            a, g = (reshape(x, (-1, x.shape[-1])) for x in (a, g))
        db = gemm(g, a, True, ta) if tb else gemm(a, g, not ta, False)
        db = sum_to(db, n.in_avals[1].shape)
    return da, db


GEMM = Op(
    "gemm",
    _infer_gemm,
    ("transpose_a", "transpose_b"),
    kind="gemm",
    vjp=_gemm_vjp,
    saves="i0 i1",
    text="a @ b",
)


def gemm(a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    """The product of (batches of) matrices, each read transposed if asked for."""
    return apply(GEMM, (a, b), (bool(transpose_a), bool(transpose_b)))


def matmul(input: Any, other: Any) -> Tensor:
    """The matrix product with torch's rules: vectors are rows or columns, leading dims broadcast."""
    a, b = operands("matmul", input, other)
    if not a.ndim or not b.ndim:
        raise ShapeError(f"matmul: expected at least 1 dim, got shapes {a.shape} and {b.shape}")
    left = a if a.ndim > 1 else reshape(a, (1, *a.shape))
    right = b if b.ndim > 1 else reshape(b, (*b.shape, 1))
    c = gemm(left, right)
    if a.ndim > 1 and b.ndim > 1:
        return c
    shape = list(c.shape)
    if b.ndim == 1:
        del shape[-1]
    if a.ndim == 1:
        del shape[-1 if b.ndim == 1 else -2]
    return reshape(c, tuple(shape))


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices."""
    return _product("mm", input, mat2, 2)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices of equal size."""
    return _product("bmm", input, mat2, 3)


def _product(name: str, a: Tensor, b: Tensor, ndim: int) -> Tensor:
    if a.ndim != ndim or b.ndim != ndim or a.shape[:-2] != b.shape[:-2]:
        raise ShapeError(f"{name}: expected two tensors of {ndim} dims and one batch size, got {a.shape} and {b.shape}")
    return matmul(a, b)


def _infer_linear(avals: tuple, attrs: tuple) -> tuple:
    x, w = avals[:2]
    _check_float("linear", *avals)
    if not x.ndim:
        raise ShapeError("linear: expected an input of at least 1 dim, got a 0-d tensor")
    if w.ndim != 2:
        raise ShapeError(f"linear: expected weight of 2 dims (out_features, in_features), got shape {w.shape}")
    if x.shape[-1] != w.shape[1]:
        raise ShapeError(
            f"linear: expected weight of shape ({w.shape[0]}, {x.shape[-1]}), got {w.shape} (input of shape {x.shape})"
        )
    if len(avals) > 2 and avals[2].shape != (w.shape[0],):
        raise ShapeError(f"linear: expected bias of shape ({w.shape[0]},), got {avals[2].shape}")
    return (aval(x.dtype, (*x.shape[:-1], w.shape[0])),)


def _expand_linear(x: Tensor, w: Tensor, *bias: Tensor) -> Tensor:
    rows = x if x.ndim > 1 else reshape(x, (1, -1))
    y = gemm(rows, w, False, True)
    if bias:
        y = apply(ADD, (y, bias[0]))
    return y if x.ndim > 1 else reshape(y, (-1,))


def _linear_vjp(n: Any, g: Tensor) -> tuple:
    results = iter(_as_tuple(apply(LINEAR_BWD, (g, *[t for t in n.inputs[:2] if t is not None]), n.needs)))
    return tuple(next(results) if needed else None for needed in n.needs)


def _as_tuple(x: Any) -> tuple:
    return x if isinstance(x, tuple) else (x,)


def _infer_linear_bwd(avals: tuple, attrs: tuple) -> tuple:
    g, x, w = avals
    shapes = (x.shape, w.shape, (w.shape[0],))
    return tuple(aval(g.dtype, s) for s, needed in zip(shapes, attrs, strict=False) if needed)


def _expand_linear_bwd(g: Tensor, x: Tensor, w: Tensor, *needs: bool) -> Any:
    """dx = g w, dw = g^T x, db = the column sums of g (made while g is packed for dw)."""
    rows, x_rows = (reshape(t, (-1, t.shape[-1])) for t in (g, x))
    results = []
    if needs[0]:
        # in the shape of x, so that what comes next (an activation's derivative) joins the product
        results.append(gemm(g, w) if g.ndim > 1 else reshape(gemm(rows, w), x.shape))
    if needs[1]:
        results.append(gemm(rows, x_rows, True, False))
    if len(needs) > 2 and needs[2]:
        results.append(reduce_sum(rows, 0))
    return tuple(results) if len(results) != 1 else results[0]


LINEAR = Op("linear", _infer_linear, expand=_expand_linear, vjp=_linear_vjp, saves="i0 i1")
LINEAR_BWD = Op(
    "linear_bwd", _infer_linear_bwd, ("needs_x", "needs_w", "needs_b"), expand=_expand_linear_bwd, text="linear'(g)"
)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias.

    Parameters
    ----------
    input : Tensor, shape (..., in_features)
    weight : Tensor, shape (out_features, in_features)
    bias : Tensor, shape (out_features,), optional
    """
    if not isinstance(input, Tensor):
        input = as_tensor(input)
    return apply(LINEAR, (input, weight) if bias is None else (input, weight, bias))
