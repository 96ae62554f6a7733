"""Activations: each is one operation of the elementwise kernel with its derivative (an epilogue of products when
compiled), but for the gated ones, which halve a dim and have a kernel of their own (csrc/kernels/glu.c).

Sources stand beside the formulas in csrc/kernels/elementwise_float.inc.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._core import NotOffered, ShapeError, aval
from ..compiler.lower import Call
from ..tensor import Tensor, as_tensor
from .elementwise import (
    _derivative,
    _float_only,
    _infer_binary,
    _infer_unary,
    _pair,
    _tensor,
    _unary,
    as_operand,
    clamp,
    gt,
    le,
    maximum,
    mul,
    neg,
    sub,
    tanh,
    where,
)
from .registry import Op, apply
from .rowwise import softmax, suffix
from .shape import normalize_dim, reshape

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "silu",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "swiglu",
    "tanhshrink",
    "threshold",
]

# Those that Tensor has as methods, and those of them that also exist in place.
METHODS = ("hardshrink", "prelu", "relu")
IN_PLACE = ("relu",)


# ---- declarations ----


def _tile(name: str) -> Any:
    """The attributes as the immediates p and q."""
    return lambda attrs: (name, *(*map(float, attrs), 0.0, 0.0)[:2])


def _bwd(name: str, attrs: tuple[str, ...] = ()) -> Op:
    return Op(name, _infer_binary(name, None, True), attrs, tile=_tile(name))


def _activation(name: str, bwd: Op) -> Op:
    """An operation whose derivative reads the input and has the same attributes."""
    return Op(
        name,
        _infer_unary(name, True),
        bwd.attrs,
        tile=_tile(name),
        vjp=lambda n, g: apply(bwd, (g, n.inputs[0]), n.attrs),
        saves="i0",
    )


RELU_BWD, GELU_BWD, GELU_TANH_BWD, SILU_BWD = map(_derivative, ("relu_bwd", "gelu_bwd", "gelu_tanh_bwd", "silu_bwd"))
RELU = _unary("relu", lambda n, g: apply(RELU_BWD, (g, n.outputs[0])), "o0")
GELU, GELU_TANH = _activation("gelu", GELU_BWD), _activation("gelu_tanh", GELU_TANH_BWD)
SILU, MISH = _activation("silu", SILU_BWD), _activation("mish", _bwd("mish_bwd"))
LEAKY_RELU = _activation("leaky_relu", _bwd("leaky_relu_bwd", ("negative_slope",)))
ELU = _activation("elu", _bwd("elu_bwd", ("alpha", "input_scale")))
SELU = _activation("selu", _bwd("selu_bwd"))
SOFTPLUS = _activation("softplus", _bwd("softplus_bwd", ("beta", "threshold")))
SOFTSIGN = _activation("softsign", _bwd("softsign_bwd"))
LOGSIGMOID = _activation("logsigmoid", _bwd("logsigmoid_bwd"))
HARDTANH = _activation("hardtanh", _bwd("hardtanh_bwd", ("min_val", "max_val")))
HARDSIGMOID, HARDSWISH = (_activation(name, _bwd(f"{name}_bwd")) for name in ("hardsigmoid", "hardswish"))
SHRINK_BWD = _bwd("shrink_bwd", ("lambd",))
HARDSHRINK, SOFTSHRINK = (_activation(name, SHRINK_BWD) for name in ("hardshrink", "softshrink"))
THRESHOLD = _activation("threshold", _bwd("threshold_bwd", ("threshold", "value")))
TANHSHRINK = Op(
    "tanhshrink",
    _infer_unary("tanhshrink", True),
    expand=lambda x: sub(x, tanh(x)),
    vjp=lambda n, g: mul(g, _squared_tanh(n.inputs[0])),
    saves="i0",
    text="a - tanh(a)",
)


def _squared_tanh(x: Tensor) -> Tensor:
    y = tanh(x)
    return mul(y, y)


def _prelu_vjp(n: Any, g: Tensor) -> tuple:
    x, w = n.inputs
    positive = gt(x, 0.0)
    return _pair(n, lambda: where(positive, g, mul(g, w)), lambda: where(positive, 0.0, mul(g, x)))


PRELU = Op(
    "prelu",
    _infer_binary("prelu", None, True),
    expand=lambda x, w: where(gt(x, 0.0), x, mul(x, w)),
    vjp=_prelu_vjp,
    saves="i0 i1",
    text="a > 0 ? a : a * b",
)

GLU_KINDS = {"glu": 0, "swiglu": 1}


def _glu_fields(shape: tuple[int, ...], kind: str, dim: int) -> dict[str, int]:
    around = [int(np.prod(s, dtype=np.int64)) for s in (shape[:dim], shape[dim + 1 :])]
    return {"kind": GLU_KINDS[kind], "outer": around[0], "inner": shape[dim] // 2 * around[1]}


def _infer_glu(avals: tuple, attrs: tuple) -> tuple:
    (x,), (kind, dim) = avals, attrs
    _float_only(kind, x)
    if x.shape[dim] % 2:
        raise ShapeError(f"{kind}: expected an even size of dim {dim}, got shape {x.shape}")
    return (aval(x.dtype, (*x.shape[:dim], x.shape[dim] // 2, *x.shape[dim + 1 :])),)


def _lower_glu(node: Any) -> Call:
    x, y = node.inputs[0], node.outputs[0]
    return Call(f"glu_fwd_{suffix(node.attrs[0], x.aval)}", _glu_fields(x.aval.shape, *node.attrs), [y, x], [y])


def _lower_glu_bwd(node: Any) -> Call:
    (dy, x), dx = node.inputs, node.outputs[0]
    return Call(f"glu_bwd_{suffix(node.attrs[0], x.aval)}", _glu_fields(x.aval.shape, *node.attrs), [dx, dy, x], [dx])


GLU_BWD = Op("glu_bwd", lambda avals, attrs: (avals[1],), ("kind", "dim"), lower=_lower_glu_bwd)
GLU = Op(
    "glu",
    _infer_glu,
    ("kind", "dim"),
    lower=_lower_glu,
    vjp=lambda n, g: apply(GLU_BWD, (g, n.inputs[0]), n.attrs),
    saves="i0",
)


# ---- functions ----


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0); NaN stays NaN.  `inplace` is accepted here and below; the result is a new tensor."""
    x = _tensor("relu", input)
    return apply(RELU, (x,)) if _is_float(x) else maximum(x, 0)


def _is_float(x: Tensor) -> bool:
    """bool and bfloat16 count as float: there the operations of floats say what they expect."""
    return x.dtype.is_floating_point or x.dtype is _core.bool_


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(input, 0), 6)."""
    return _hardtanh("relu6", input, 0.0, 6.0)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """min(max(input, min_val), max_val); at the bounds the derivative is 0."""
    if min_val > max_val:
        raise ShapeError(f"hardtanh: expected min_val <= max_val, got {min_val} and {max_val}")
    return _hardtanh("hardtanh", input, min_val, max_val)


def _hardtanh(name: str, input: Tensor, low: float, high: float) -> Tensor:
    x = _tensor(name, input)
    if not _is_float(x):
        return clamp(x, *(as_operand(int(v), x.dtype) for v in (low, high)))  # as in torch
    return apply(HARDTANH, (x,), (float(low), float(high)))


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """input where it is greater than `threshold`, else `value`."""
    x = _tensor("threshold", input)
    if not _is_float(x):
        return where(le(x, int(threshold)), as_operand(int(value), x.dtype), x)  # as in torch
    return apply(THRESHOLD, (x,), (float(threshold), float(value)))


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """input where it is positive, else negative_slope * input (Maas, Hannun, Ng, 2013)."""
    return apply(LEAKY_RELU, (_tensor("leaky_relu", input),), (float(negative_slope),))


def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """leaky_relu with the slope (lower + upper) / 2 (Xu et al., 2015); the random slopes of training: not offered."""
    if training:
        raise NotOffered("rrelu: training=True (random slopes) is not offered; use leaky_relu or prelu")
    return apply(LEAKY_RELU, (_tensor("rrelu", input),), ((float(lower) + float(upper)) / 2,))


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """input where it is positive, else weight * input (He et al., 2015).

    Parameters
    ----------
    weight : Tensor, shape (1,), () or (channels,)
        One slope for all, or one for each element of dim 1 of the input.
    """
    x, w = _tensor("prelu", input), _tensor("prelu", weight)
    channels = x.shape[1] if x.ndim > 1 else 1
    if w.ndim > 1 or w.numel() not in (1, channels):
        raise ShapeError(f"prelu: expected weight of shape (1,) or ({channels},), got {w.shape}")
    if x.dtype is not w.dtype:
        raise _core.DtypeError(f"prelu: expected weight of dtype {x.dtype}, got {w.dtype}")
    shape = () if w.numel() == 1 else (w.numel(), *[1] * (x.ndim - 2))
    return apply(PRELU, (x, reshape(w, shape)))


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input where it is positive, else alpha * (exp(input) - 1) (Clevert, Unterthiner, Hochreiter, 2015)."""
    return apply(ELU, (_tensor("elu", input),), (float(alpha), 1.0))


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input where it is positive, else alpha * (exp(input / alpha) - 1) (Barron, 2017)."""
    if not alpha:
        raise ShapeError("celu: expected alpha other than 0")
    return apply(ELU, (_tensor("celu", input),), (float(alpha), 1.0 / float(alpha)))


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """1.0507 * elu(input, 1.6733), which keeps mean 0 and variance 1 (Klambauer et al., 2017)."""
    return apply(SELU, (_tensor("selu", input),))


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """input * Phi(input), Phi the normal distribution function (Hendrycks, Gimpel, 2016).

    ``approximate="tanh"``: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    """
    if approximate not in ("none", "tanh"):
        raise ShapeError(f"gelu: expected approximate 'none' or 'tanh', got {approximate!r}")
    return apply(GELU if approximate == "none" else GELU_TANH, (_tensor("gelu", input),))


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """input * sigmoid(input) (Elfwing, Uchibe, Doya, 2017)."""
    return apply(SILU, (_tensor("silu", input),))


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """input * tanh(log(1 + exp(input))) (Misra, 2019)."""
    return apply(MISH, (_tensor("mish", input),))


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * input)) / beta, and `input` where beta * input > threshold."""
    if not beta:
        raise ShapeError("softplus: expected beta other than 0")
    return apply(SOFTPLUS, (_tensor("softplus", input),), (float(beta), float(threshold)))


def softsign(input: Tensor) -> Tensor:
    """input / (1 + abs(input))."""
    x = _tensor("softsign", input)
    return apply(SOFTSIGN, (x if _is_float(x) else x.to(_core.float32),))


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(input)), which does not underflow."""
    return apply(LOGSIGMOID, (_tensor("logsigmoid", input),))


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """relu6(input + 3) / 6 (Howard et al., 2019)."""
    return apply(HARDSIGMOID, (_tensor("hardsigmoid", input),))


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """input * relu6(input + 3) / 6 (Howard et al., 2019)."""
    return apply(HARDSWISH, (_tensor("hardswish", input),))


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """input where abs(input) > lambd, else 0."""
    return apply(HARDSHRINK, (_tensor("hardshrink", input),), (float(lambd),))


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """input - lambd where input > lambd, input + lambd where input < -lambd, else 0."""
    if not lambd >= 0:
        raise ShapeError(f"softshrink: expected lambd >= 0, got {lambd}")
    return apply(SOFTSHRINK, (_tensor("softshrink", input),), (float(lambd),))


def tanhshrink(input: Tensor) -> Tensor:
    """input - tanh(input)."""
    x = _tensor("tanhshrink", input)
    return apply(TANHSHRINK, (x if _is_float(x) else x.to(_core.float32),))


def softmin(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """softmax(-input) along `dim`."""
    if dim is None:
        raise _core.DtypeError("softmin: expected dim, an integer (dim=-1 for the last)")
    x = _tensor("softmin", input)
    normalize_dim("softmin", dim, x.ndim)
    return softmax(neg(x if dtype is None else x.to(dtype)), dim)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a * sigmoid(b), a and b the halves of the input along `dim` (Dauphin et al., 2017)."""
    return _gated("glu", input, dim)


def swiglu(input: Tensor, dim: int = -1) -> Tensor:
    """silu(a) * b, a and b the halves of the input along `dim` (Shazeer, "GLU variants improve Transformer", 2020).

    PyTorch has no such function.  The gate `a` comes first: one product makes both halves from the stacked weights
    (gate, up) of a LLaMA-style block, and ``swiglu(x) = silu(x.chunk(2, dim)[0]) * x.chunk(2, dim)[1]``.
    """
    return _gated("swiglu", input, dim)


def _gated(kind: str, input: Tensor, dim: int) -> Tensor:
    x = as_tensor(input)
    if not x.ndim:
        raise ShapeError(f"{kind}: expected at least 1 dim, got a 0-d tensor")
    return apply(GLU, (x,), (kind, normalize_dim(kind, dim, x.ndim)))
