"""Normalisation over the last dims: layer_norm, rms_norm, and normalize (to unit length along one dim)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _core
from .._core import DtypeError, NotOffered, ShapeError, aval
from ..compiler.lower import Call
from ..tensor import Tensor
from .elementwise import abs as absolute
from .elementwise import div, expand, maximum, pow, sqrt, square
from .reduce import amax
from .reduce import sum as reduce_sum
from .registry import Op, apply
from .rowwise import suffix

__all__ = ["layer_norm", "normalize", "rms_norm"]


class _RowNorm:
    """The declarations of one of the two: layer norm centres its rows, RMS norm does not.

    Attributes of the operation: number of normalised dims, has_w, has_b, eps.  Results: y, the means if it
    centres, 1 / the standard deviations.
    """

    def __init__(self, name: str, center: bool) -> None:
        self.name, self.center = name, center
        self.bwd_x = Op(
            f"{name}_bwd_x", lambda avals, attrs: (avals[1],), ("dims", "has_w", "has_b", "eps"), lower=self.lower_bwd_x
        )
        self.bwd_w = Op(
            f"{name}_bwd_w", self.infer_bwd_w, ("dims", "has_w", "has_b", "eps"), lower=self.lower_bwd_w
        )
        self.op = Op(
            name,
            self.infer,
            ("dims", "has_w", "has_b", "eps"),
            lower=self.lower_fwd,
            vjp=self.vjp,
            saves="i0 i1 o1 o2" if center else "i0 i1 o1",
            text="rows to mean 0 and variance 1" if center else "rows to mean square 1",
        )

    def infer(self, avals: tuple, attrs: tuple) -> tuple:
        x = avals[0]
        suffix(self.name, x)
        if len({a.dtype for a in avals}) > 1:
            raise DtypeError(f"{self.name}: expected one dtype, got {' and '.join(str(a.dtype) for a in avals)}")
        rows = aval(x.dtype, x.shape[: x.ndim - attrs[0]])
        return (x, rows, rows) if self.center else (x, rows)

    def fields(self, x: Any, attrs: tuple) -> dict[str, Any]:
        dims, has_w, has_b, eps = attrs
        shape = x.aval.shape
        rows, n = math.prod(shape[: len(shape) - dims]), math.prod(shape[len(shape) - dims :])
        return {"rows": rows, "n": n, "center": self.center, "has_w": has_w, "has_b": has_b, "eps": eps}

    def lower_fwd(self, node: Any) -> Call:
        kernel = f"rownorm_fwd_{suffix(self.name, node.inputs[0].aval)}"
        return Call(
            kernel, self.fields(node.inputs[0], node.attrs), [*node.outputs, *node.inputs], list(node.outputs)
        )

    def lower_bwd_x(self, node: Any) -> Call:
        kernel = f"rownorm_bwd_x_{suffix(self.name, node.inputs[0].aval)}"
        (dx,) = node.outputs
        in_place = [(dx, node.inputs[0])]
        return Call(kernel, self.fields(node.inputs[1], node.attrs), [dx, *node.inputs], [dx], in_place=in_place)

    def infer_bwd_w(self, avals: tuple, attrs: tuple) -> tuple:
        shape = avals[1].shape
        return (aval(avals[1].dtype, shape[len(shape) - attrs[0] :]),) * (attrs[1] + attrs[2])

    def lower_bwd_w(self, node: Any) -> Call:
        kernel = f"rownorm_bwd_w_{suffix(self.name, node.inputs[0].aval)}"
        fields = self.fields(node.inputs[1], node.attrs)
        return Call(kernel, fields, [*node.outputs, *node.inputs], list(node.outputs))

    def vjp(self, n: Any, g: Tensor, *unused: None) -> tuple:
        dims, has_w, has_b, eps = n.attrs
        x, statistics = n.inputs[0], [t for t in n.outputs if t is not None]
        grads: list[Tensor | None] = [None] * len(n.inputs)
        if n.needs[0]:
            w = n.inputs[1:2] if has_w else ()
            grads[0] = apply(self.bwd_x, (g, x, *statistics, *w), (dims, has_w, 0, eps))
        wants_w, wants_b = has_w and n.needs[1], has_b and n.needs[-1]
        if wants_w or wants_b:
            sums = apply(self.bwd_w, (g, x, *statistics), (dims, int(wants_w), int(wants_b), eps))
            left = list(sums) if isinstance(sums, tuple) else [sums]
            if wants_w:
                grads[1] = left.pop(0)
            if wants_b:
                grads[-1] = left.pop(0)
        return tuple(grads)

    def __call__(self, x: Tensor, shape: Any, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
        if not shape:
            raise ShapeError(f"{self.name}: expected normalized_shape of at least 1 dim, got ()")
        if x.shape[max(x.ndim - len(shape), 0) :] != shape:
            wanted = ", ".join(map(str, ("...", *shape)))
            raise ShapeError(f"{self.name}: expected input of shape ({wanted}), got {x.shape}")
        for name, p in (("weight", weight), ("bias", bias)):
            if p is not None and p.shape != shape:
                raise ShapeError(f"{self.name}: expected {name} of shape {shape}, got {p.shape}")
        inputs = (x, *[p for p in (weight, bias) if p is not None])
        attrs = (len(shape), int(weight is not None), int(bias is not None), float(eps))
        return apply(self.op, inputs, attrs)[0]


_LAYER_NORM, _RMS_NORM = _RowNorm("layer_norm", True), _RowNorm("rms_norm", False)


def layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, mean and variance over the last dims (Ba, Kiros, Hinton, 2016).

    Parameters
    ----------
    input : Tensor, shape (..., *normalized_shape)
    normalized_shape : int or tuple of int
    weight, bias : Tensor, shape normalized_shape, optional
    eps : float
        Added to the (biased) variance.
    """
    return _LAYER_NORM(input, normalized_shape, weight, bias, eps)


def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, the mean over the last dims (Zhang, Sennrich, 2019).

    Parameters
    ----------
    input : Tensor, shape (..., *normalized_shape)
    normalized_shape : int or tuple of int
    weight : Tensor, shape normalized_shape, optional
    eps : float, optional
        The distance from 1 to the next larger number of the input's dtype unless given.
    """
    if eps is None:
        suffix("rms_norm", input.aval)
        eps = float(np.finfo(input.dtype.name).eps)
    return _RMS_NORM(input, normalized_shape, weight, None, eps)


def normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Any = None) -> Tensor:
    """x / max(norm(x), eps), the p-norm taken along `dim` (or dims), so that the result has norm 1.

    Raises
    ------
    NotImplementedError
        For `out`, and for p <= 0.
    """
    if out is not None:
        raise NotOffered("normalize: out= is not offered")
    if not p > 0:
        raise NotOffered(f"normalize: expected p > 0, got {p}")
    if not input.dtype.is_floating_point or input.dtype is _core.bfloat16:
        raise DtypeError(f"normalize: expected float32 or float64, got {input.dtype}")
    if p == 2:
        length = sqrt(reduce_sum(square(input), dim, True))
    elif p == 1:
        length = reduce_sum(absolute(input), dim, True)
    elif math.isinf(p):
        length = amax(absolute(input), dim, True)
    else:
        length = pow(reduce_sum(pow(absolute(input), float(p)), dim, True), 1.0 / p)
    return div(input, expand(maximum(length, float(eps)), input.shape))
