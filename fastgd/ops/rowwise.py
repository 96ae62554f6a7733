"""Operations along one dim whose result keeps the shape: softmax and log-softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._core import DtypeError
from ..compiler.lower import Call
from ..tensor import Tensor
from .elementwise import cast
from .registry import Op, apply
from .shape import normalize_dim

__all__ = [
    "log_softmax",
    "softmax",
]

# Those that Tensor has as methods.
METHODS = (
    "log_softmax",
    "softmax",
)


def suffix(name: str, a: Any) -> str:
    """The dtype part of a kernel's name; refuses what the typed kernels do not have."""
    if a.dtype is _core.float32:
        return "f32"
    if a.dtype is _core.float64:
        return "f64"
    raise DtypeError(f"{name}: expected float32 or float64, got {a.dtype}")


def _fields(shape: tuple[int, ...], dim: int, log: int) -> dict[str, int]:
    around = [int(np.prod(s, dtype=np.int64)) for s in (shape[:dim], shape[dim + 1 :])]
    return {"log": log, "outer": around[0], "r": shape[dim] if shape else 1, "inner": around[1]}


def _infer(name: str) -> Any:
    def infer(avals: tuple, attrs: tuple) -> tuple:
        suffix(name, avals[0])
        return (avals[0],)

    return infer


def _lower_fwd(log: int) -> Any:
    def lower(node: Any) -> Call:
        x, y = node.inputs[0], node.outputs[0]
        kernel = f"softmax_fwd_{suffix('softmax', x.aval)}"
        return Call(kernel, _fields(x.aval.shape, node.attrs[0], log), [y, x], [y])

    return lower


def _lower_bwd(log: int) -> Any:
    def lower(node: Any) -> Call:
        dy, y = node.inputs
        dx = node.outputs[0]
        kernel = f"softmax_bwd_{suffix('softmax', y.aval)}"
        return Call(kernel, _fields(y.aval.shape, node.attrs[0], log), [dx, dy, y], [dx])

    return lower


def _declare(name: str, log: int) -> Op:
    bwd = Op(f"{name}_bwd", _infer(name), ("dim",), lower=_lower_bwd(log))
    return Op(
        name,
        _infer(name),
        ("dim",),
        lower=_lower_fwd(log),
        vjp=lambda n, g: apply(bwd, (g, n.outputs[0]), n.attrs),
        saves="o0",
    )


SOFTMAX, LOG_SOFTMAX = _declare("softmax", 0), _declare("log_softmax", 1)


def _dim(name: str, input: Tensor, dim: int | None) -> int:
    if dim is None:
        raise DtypeError(f"{name}: expected dim, an integer (dim=-1 for the last)")
    return normalize_dim(name, dim, input.ndim)


def softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`, computed from x - max(x)."""
    x = input if dtype is None else cast(input, dtype)
    return apply(SOFTMAX, (x,), (_dim("softmax", x, dim),))


def log_softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """x - log(sum(exp(x))) along `dim`."""
    x = input if dtype is None else cast(input, dtype)
    return apply(LOG_SOFTMAX, (x,), (_dim("log_softmax", x, dim),))
