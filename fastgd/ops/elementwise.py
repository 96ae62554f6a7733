"""Elementwise operations with broadcasting: arithmetic, comparison, functions, casts.

Each is one row of csrc/kernels/elementwise.def; a chain of them is one pass over memory when compiled.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core
from .._core import DtypeError, ShapeError, as_dtype, aval
from ..tensor import Tensor, as_tensor, tensor
from .registry import Op, apply

__all__ = [
    "abs",
    "add",
    "addcdiv",
    "addcmul",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "cast",
    "ceil",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "clone",
    "cos",
    "div",
    "eq",
    "erf",
    "exp",
    "exp2",
    "expand",
    "expm1",
    "floor",
    "floor_divide",
    "fmod",
    "ge",
    "gt",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "lerp",
    "log",
    "log1p",
    "log2",
    "log10",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "nan_to_num",
    "ne",
    "neg",
    "pow",
    "reciprocal",
    "remainder",
    "round",
    "rsqrt",
    "sigmoid",
    "sign",
    "sin",
    "sqrt",
    "square",
    "sub",
    "tan",
    "tanh",
    "trunc",
    "where",
]

# Those that Tensor has as methods, and those of them that also exist in place (`x.exp_()`).
METHODS = tuple(name for name in __all__ if name not in ("cast", "where"))
_NEW = ("clone", "expand", "isfinite", "isinf", "isnan", "maximum", "minimum")
IN_PLACE = tuple(name for name in METHODS if name not in _NEW)

Number = int | float | bool
Comparison = Callable[[Any, Any], Tensor]
Function = Callable[[Any], Tensor]


# ---- shapes and dtypes ----


def broadcast_shapes(name: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape, aligned at the last dim, as NumPy and torch broadcast."""
    ndim = max(map(len, shapes))
    result = []
    for d in range(-ndim, 0):
        sizes = {s[d] for s in shapes if -d <= len(s)}
        sizes.discard(1)
        if len(sizes) > 1:
            raise ShapeError(f"{name}: shapes {' and '.join(map(str, shapes))} cannot be broadcast together (dim {d})")
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def _tensors(name: str, operands: tuple) -> list[Any]:
    found = []
    for x in operands:
        if isinstance(x, (Tensor, bool, int, float)):
            found.append(x)
        elif hasattr(x, "__array__") or isinstance(x, (list, tuple)):
            found.append(as_tensor(x))
        else:
            raise DtypeError(f"{name}: expected tensors or numbers, got {type(x).__name__}")
    return found


def result_dtype(tensors: Any) -> Any:
    """The dtype that torch's promotion gives."""
    best: dict[int, Any] = {}  # 2: tensors with dims, 1: 0-d tensors, 0: Python numbers
    for t in tensors:
        if isinstance(t, Tensor):
            level, d = (2 if t.ndim else 1), t.dtype
        else:
            level = 0
            d = _core.bool_ if isinstance(t, bool) else _core.int64 if isinstance(t, int) else _core.float32
        held = best.get(level)
        best[level] = d if held is None else _wider(held, d)
    result: Any = None
    for level in (2, 1, 0):
        found: Any = best.get(level)
        if found is None:
            continue
        if result is None:
            result = found
        elif _category(found) > _category(result):
            result = found if level else _core.float32 if _category(found) == 2 else found
    return result


def _category(d: Any) -> int:
    return 2 if d.is_floating_point else 0 if d is _core.bool_ else 1


def _wider(a: Any, b: Any) -> Any:
    return a if a.rank >= b.rank else b


def as_operand(x: Any, dtype: Any) -> Tensor:
    """A number as a 0-d tensor of `dtype` (a constant of the program while recording), a tensor cast to it."""
    if isinstance(x, Tensor):
        return x if x.aval.dtype is dtype else cast(x, dtype)
    if not dtype.is_floating_point:
        x = _fitting(x, dtype)
    if _core.is_tracing():
        return _core.current_trace().constant(aval(dtype, ()), x)
    return _core.scalar_tensor(Tensor, dtype, x)


def _fitting(x: Number, dtype: Any) -> int:
    """A number as one of an integer dtype; as in torch, uint8 also takes negative ones, modulo 256."""
    bits = 8 * dtype.itemsize
    low, high = (-255, 255) if dtype is _core.uint8 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if dtype is _core.bool_:
        return int(bool(x))
    if isinstance(x, float) and not x.is_integer():
        raise DtypeError(f"number: {x} cannot become {dtype} without a loss")
    if not low <= x <= high:
        raise ShapeError(f"number: {x} does not fit {dtype}")
    return int(x) % 256 if dtype is _core.uint8 else int(x)


def operands(name: str, *xs: Any) -> tuple[Tensor, ...]:
    """The operands as tensors of their common dtype."""
    first = xs[0]
    if isinstance(first, Tensor):
        d = first.aval.dtype
        for x in xs[1:]:
            if not (isinstance(x, Tensor) and x.aval.dtype is d):
                break
        else:
            return xs
    tensors = _tensors(name, xs)
    d = result_dtype(tensors)
    return tuple([as_operand(t, d) for t in tensors])


def sum_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sums a gradient over the dims that broadcasting added or stretched."""
    if x.aval.shape == shape:
        return x
    from .reduce import sum as reduce_sum
    from .shape import reshape

    extra = x.ndim - len(shape)
    dims = tuple(range(extra)) + tuple(
        i + extra for i, n in enumerate(shape) if n == 1 and x.aval.shape[i + extra] != 1
    )
    return reshape(reduce_sum(x, dims) if dims else x, shape)


# ---- declarations ----


def _plain(name: str) -> Any:
    return lambda attrs: (name, 0, 0)


def _float_only(name: str, a: Any) -> None:
    if not a.dtype.is_floating_point or a.dtype is _core.bfloat16:
        raise DtypeError(f"{name}: expected float32 or float64, got {a.dtype}")


def _infer_unary(name: str, float_only: bool) -> Any:
    def infer(avals: tuple, attrs: tuple) -> tuple:
        if float_only:
            _float_only(name, avals[0])
        return (avals[0],)

    return infer


def _infer_binary(name: str, out: Any = None, float_only: bool = False) -> Any:
    def infer(avals: tuple, attrs: tuple) -> tuple:
        a, b = avals
        if float_only:
            _float_only(name, a)
        shape = a.shape if a.shape == b.shape else broadcast_shapes(name, a.shape, b.shape)
        return (aval(out or a.dtype, shape),)

    return infer


def _infer_test(name: str) -> Any:
    def infer(avals: tuple, attrs: tuple) -> tuple:
        _float_only(name, avals[0])
        return (aval(_core.bool_, avals[0].shape),)

    return infer


def _unary(name: str, vjp: Any = None, saves: str = "", float_only: bool = True, text: str = "") -> Op:
    return Op(name, _infer_unary(name, float_only), tile=_plain(name), vjp=vjp, saves=saves, text=text)


def _binary(name: str, vjp: Any = None, saves: str = "", out: Any = None, float_only: bool = False) -> Op:
    return Op(name, _infer_binary(name, out, float_only), tile=_plain(name), vjp=vjp, saves=saves)


def _derivative(name: str) -> Op:
    """dx = f(dy, x or y): an elementwise operation without a derivative of its own."""
    return Op(name, _infer_binary(name, None, True), tile=_plain(name))


def _pair(node: Any, da: Any, db: Any) -> tuple:
    """Gradients of a broadcast pair, each made only if it is wanted."""
    return tuple(
        sum_to(make(), a.shape) if needed else None
        for make, needed, a in zip((da, db), node.needs, node.in_avals, strict=True)
    )


ADD = _binary("add", lambda n, g: _pair(n, lambda: g, lambda: g))
SUB = _binary("sub", lambda n, g: _pair(n, lambda: g, lambda: neg(g)))
MUL = _binary("mul", lambda n, g: _pair(n, lambda: mul(g, n.inputs[1]), lambda: mul(g, n.inputs[0])), "i0 i1")
DIV = _binary(
    "div",
    lambda n, g: _pair(n, lambda: div(g, n.inputs[1]), lambda: neg(div(mul(g, n.outputs[0]), n.inputs[1]))),
    "i1 o0",
    float_only=True,
)


def _pow_vjp(n: Any, g: Tensor) -> tuple:
    """d/dx = y x^(y-1), 0 where y = 0 (not 0 * inf); d/dy = x^y log x, 0 where x = 0 and y >= 0, as in torch."""
    (x, y), z = n.inputs, n.outputs[0]
    return _pair(
        n,
        lambda: where(eq(y, 0.0), 0.0, mul(g, mul(y, pow(x, sub(y, 1.0))))),
        lambda: where(logical_and(eq(x, 0.0), ge(y, 0.0)), 0.0, mul(g, mul(z, log(x)))),
    )


POW = _binary("pow", _pow_vjp, "i0 i1 o0")

# Quotients that are rounded have no slope, and the derivatives of the remainders say so.
DIV_FLOOR = _binary("div_floor", lambda n, g: _pair(n, lambda: mul(g, 0.0), lambda: mul(g, 0.0)))
DIV_TRUNC = _binary("div_trunc", lambda n, g: _pair(n, lambda: mul(g, 0.0), lambda: mul(g, 0.0)))
REMAINDER = _binary(
    "remainder",
    lambda n, g: _pair(n, lambda: g, lambda: neg(mul(g, apply(DIV_FLOOR, tuple(n.inputs))))),
    "i0 i1",
)
FMOD = _binary(
    "fmod",
    lambda n, g: _pair(n, lambda: g, lambda: neg(mul(g, apply(DIV_TRUNC, tuple(n.inputs))))),
    "i0 i1",
)
BITWISE_AND, BITWISE_OR, BITWISE_XOR = (_binary(name) for name in ("bitwise_and", "bitwise_or", "bitwise_xor"))
BITWISE_NOT = Op("bitwise_not", lambda avals, attrs: (avals[0],), tile=_plain("bitwise_not"))


def _share_of_ties(g: Tensor, mine: Tensor, other: Tensor, loses: Tensor) -> Tensor:
    """The gradient goes to the winner; ties share it and NaN passes it to both, as in torch."""
    return where(eq(mine, other), mul(g, 0.5), where(loses, 0.0, g))


MAXIMUM = _binary(
    "maximum",
    lambda n, g: _pair(
        n,
        lambda: _share_of_ties(g, n.inputs[0], n.inputs[1], lt(n.inputs[0], n.inputs[1])),
        lambda: _share_of_ties(g, n.inputs[0], n.inputs[1], gt(n.inputs[0], n.inputs[1])),
    ),
    "i0 i1",
)
MINIMUM = _binary(
    "minimum",
    lambda n, g: _pair(
        n,
        lambda: _share_of_ties(g, n.inputs[0], n.inputs[1], gt(n.inputs[0], n.inputs[1])),
        lambda: _share_of_ties(g, n.inputs[0], n.inputs[1], lt(n.inputs[0], n.inputs[1])),
    ),
    "i0 i1",
)

EQ, NE, LT, LE, GT, GE = (_binary(n, out=_core.bool_) for n in ("eq", "ne", "lt", "le", "gt", "ge"))
LOGICAL_AND, LOGICAL_OR = (_binary(n, out=_core.bool_) for n in ("logical_and", "logical_or"))
LOGICAL_NOT = _unary("logical_not", float_only=False)

COPY = _unary("copy", lambda n, g: g, float_only=False)
NEG = _unary("neg", lambda n, g: neg(g), float_only=False)
ABS = _unary("abs", lambda n, g: mul(g, sign(n.inputs[0])), "i0", float_only=False)
SIGN = _unary("sign", lambda n, g: mul(g, 0.0), float_only=False)
SQUARE = _unary("square", lambda n, g: mul(g, mul(n.inputs[0], 2.0)), "i0")
SQRT = _unary("sqrt", lambda n, g: div(g, mul(n.outputs[0], 2.0)), "o0")
EXP = _unary("exp", lambda n, g: mul(g, n.outputs[0]), "o0")
LOG = _unary("log", lambda n, g: div(g, n.inputs[0]), "i0")
RSQRT = _unary("rsqrt", lambda n, g: mul(mul(g, -0.5), mul(square(n.outputs[0]), n.outputs[0])), "o0")
RECIPROCAL = _unary("reciprocal", lambda n, g: neg(mul(g, square(n.outputs[0]))), "o0")
EXPM1 = _unary("expm1", lambda n, g: mul(g, add(n.outputs[0], 1.0)), "o0")
EXP2 = _unary("exp2", lambda n, g: mul(mul(g, n.outputs[0]), math.log(2)), "o0")
LOG1P = _unary("log1p", lambda n, g: div(g, add(n.inputs[0], 1.0)), "i0")
LOG2 = _unary("log2", lambda n, g: div(g, mul(n.inputs[0], math.log(2))), "i0")
LOG10 = _unary("log10", lambda n, g: div(g, mul(n.inputs[0], math.log(10))), "i0")
SIN = _unary("sin", lambda n, g: mul(g, cos(n.inputs[0])), "i0")
COS = _unary("cos", lambda n, g: neg(mul(g, sin(n.inputs[0]))), "i0")
ERF = _unary("erf", lambda n, g: mul(g, mul(exp(neg(square(n.inputs[0]))), 2 / math.sqrt(math.pi))), "i0")
FLOOR, CEIL, TRUNC, ROUND = (_unary(name, lambda n, g: mul(g, 0.0)) for name in ("floor", "ceil", "trunc", "round"))
ISNAN, ISINF, ISFINITE = (
    Op(name, _infer_test(name), tile=_plain(name)) for name in ("isnan", "isinf", "isfinite")
)
TANH = _unary("tanh", lambda n, g: apply(TANH_BWD, (g, n.outputs[0])), "o0")
SIGMOID = _unary("sigmoid", lambda n, g: apply(SIGMOID_BWD, (g, n.outputs[0])), "o0")
TANH_BWD: Op = _derivative("tanh_bwd")
SIGMOID_BWD: Op = _derivative("sigmoid_bwd")


def _infer_where(avals: tuple, attrs: tuple) -> tuple:
    c, a, b = avals
    if c.dtype is not _core.bool_:
        raise DtypeError(f"where: expected a bool condition, got {c.dtype}")
    return (aval(a.dtype, broadcast_shapes("where", c.shape, a.shape, b.shape)),)


def _where_vjp(n: Any, g: Tensor) -> tuple:
    c = n.inputs[0]
    da = sum_to(where(c, g, 0.0), n.in_avals[1].shape) if n.needs[1] else None
    db = sum_to(where(c, 0.0, g), n.in_avals[2].shape) if n.needs[2] else None
    return None, da, db


def _infer_clamp(avals: tuple, attrs: tuple) -> tuple:
    return (aval(avals[0].dtype, broadcast_shapes("clamp", *[a.shape for a in avals])),)


def _clamp_vjp(n: Any, g: Tensor) -> tuple:
    """To the input between the bounds, both included; to the bound that is taken; to `max` where the bounds cross."""
    x, low, high = n.inputs
    crossed = lt(high, low) if n.needs[1] or n.needs[2] else None
    makers = (
        lambda: where(logical_and(ge(x, low), le(x, high)), g, 0.0),
        lambda: where(logical_and(lt(x, low), lt(low, high)), g, 0.0),
        lambda: where(logical_or(gt(x, high), crossed), g, 0.0),
    )
    return tuple(
        sum_to(make(), a.shape) if needed else None for make, needed, a in zip(makers, n.needs, n.in_avals, strict=True)
    )


CLAMP = Op("clamp", _infer_clamp, tile=_plain("clamp"), vjp=_clamp_vjp, saves="i0 i1 i2")


def _infer_lerp(avals: tuple, attrs: tuple) -> tuple:
    _float_only("lerp", avals[0])
    return (aval(avals[0].dtype, broadcast_shapes("lerp", *[a.shape for a in avals])),)


def _expand_lerp(a: Tensor, b: Tensor, w: Tensor) -> Tensor:
    """From the nearer end, so that the ends are exact."""
    d = sub(b, a)
    return where(lt(abs(w), 0.5), add(a, mul(w, d)), sub(b, mul(d, sub(1.0, w))))


def _lerp_vjp(n: Any, g: Tensor) -> tuple:
    a, b, w = n.inputs
    makers = (lambda: mul(g, sub(1.0, w)), lambda: mul(g, w), lambda: mul(g, sub(b, a)))
    return tuple(
        sum_to(make(), v.shape) if needed else None for make, needed, v in zip(makers, n.needs, n.in_avals, strict=True)
    )


LERP = Op("lerp", _infer_lerp, expand=_expand_lerp, vjp=_lerp_vjp, saves="i0 i1 i2", text="a + w * (b - a)")


def _expand_nan_to_num(x: Tensor, nan: float, posinf: float, neginf: float) -> Tensor:
    finite = where(eq(x, math.inf), posinf, where(eq(x, -math.inf), neginf, x))
    return where(apply(ISNAN, (x,)), nan, finite)


NAN_TO_NUM = Op(
    "nan_to_num",
    _infer_unary("nan_to_num", True),
    ("nan", "posinf", "neginf"),
    expand=_expand_nan_to_num,
    vjp=lambda n, g: where(apply(ISFINITE, tuple(n.inputs)), g, 0.0),
    saves="i0",
)
TAN = Op(
    "tan",
    _infer_unary("tan", True),
    expand=lambda x: div(sin(x), cos(x)),
    vjp=lambda n, g: mul(g, add(square(n.outputs[0]), 1.0)),
    saves="o0",
)

WHERE = Op("where", _infer_where, tile=_plain("where"), vjp=_where_vjp, saves="i0")


def _cast_vjp(n: Any, g: Tensor) -> Tensor | None:
    return cast(g, n.in_avals[0].dtype) if n.in_avals[0].dtype.is_floating_point else None


CAST = Op(
    "cast",
    lambda avals, attrs: (aval(_core.dtypes[attrs[0]], avals[0].shape),),
    ("dtype",),
    tile=lambda attrs: ("cast", 0, attrs[0]),
    vjp=_cast_vjp,
)


def _view_expand(shape: tuple, strides: list, attrs: tuple) -> tuple[int, list]:
    steps = [0 if n == 1 else s for n, s in zip(shape, strides, strict=True)]
    return 0, [0] * (len(attrs[0]) - len(shape)) + steps


EXPAND = Op(
    "expand",
    lambda avals, attrs: (aval(avals[0].dtype, attrs[0]),),
    ("shape",),
    view=_view_expand,
    vjp=lambda n, g: sum_to(g, n.in_avals[0].shape),
)


# ---- functions ----


def _float_operands(name: str, *xs: Any) -> tuple[Tensor, ...]:
    """As `operands`, integers becoming float32 (true division, powers)."""
    ts = operands(name, *xs)
    return ts if ts[0].aval.dtype.is_floating_point else tuple(cast(t, _core.float32) for t in ts)


def _scaled(name: str, x: Tensor, alpha: Number) -> Tensor:
    if alpha == 1:
        return x
    if x.dtype is _core.bool_:
        raise DtypeError(f"{name}: expected no factor other than 1 for bool tensors, got {alpha}")
    if isinstance(alpha, float) and not x.dtype.is_floating_point:
        raise DtypeError(f"{name}: expected an integer factor for {x.dtype}, got {alpha}")
    return mul(x, alpha)


def add(input: Any, other: Any, *, alpha: Number = 1) -> Tensor:
    """input + alpha * other, broadcast."""
    a, b = operands("add", input, other)
    if a.aval.dtype is _core.bool_ and alpha == 1:
        return apply(LOGICAL_OR, (a, b))
    return apply(ADD, (a, _scaled("add", b, alpha)))


def sub(input: Any, other: Any, *, alpha: Number = 1) -> Tensor:
    """input - alpha * other, broadcast."""
    a, b = operands("sub", input, other)
    return apply(SUB, (a, _scaled("sub", b, alpha)))


def mul(input: Any, other: Any) -> Tensor:
    """input * other, broadcast."""
    a, b = operands("mul", input, other)
    return apply(LOGICAL_AND if a.aval.dtype is _core.bool_ else MUL, (a, b))


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input / other, broadcast; integers become float32.

    With ``rounding_mode`` "floor" or "trunc" the quotient is rounded and integers stay integers.
    """
    if rounding_mode is None:
        return apply(DIV, _float_operands("div", input, other))
    if rounding_mode not in ("floor", "trunc"):
        raise ShapeError(f"div: expected rounding_mode None, 'floor' or 'trunc', got {rounding_mode!r}")
    op = DIV_FLOOR if rounding_mode == "floor" else DIV_TRUNC
    return apply(op, _dividends("div", input, other))


def _dividends(name: str, *xs: Any) -> tuple[Tensor, ...]:
    """Operands of a division that keeps integers: as in NumPy an element 0 of an integer divisor gives 0."""
    tensors = operands(name, *xs)
    if not tensors[0].dtype.is_floating_point and isinstance(xs[1], (bool, int)) and xs[1] == 0:
        raise ShapeError(f"{name}: division of {tensors[0].dtype} by the integer 0")
    return tensors


def floor_divide(input: Any, other: Any) -> Tensor:
    """floor(input / other), broadcast; integers stay integers, and division by an integer 0 gives 0."""
    return apply(DIV_FLOOR, _dividends("floor_divide", input, other))


def remainder(input: Any, other: Any) -> Tensor:
    """What floor_divide leaves, with the sign of `other`: Python's %; 0 for an integer `other` of 0."""
    return apply(REMAINDER, _dividends("remainder", input, other))


def fmod(input: Any, other: Any) -> Tensor:
    """What division rounded towards 0 leaves, with the sign of `input`: C's fmod; 0 for an integer `other` of 0."""
    return apply(FMOD, _dividends("fmod", input, other))


def pow(input: Any, exponent: Any) -> Tensor:
    """input ** exponent, broadcast.

    Integers stay integers and wrap around; an integer to the power of an element below 0 is the integer part.
    """
    base, power = operands("pow", input, exponent)
    d = base.dtype
    if d is _core.bool_:
        return apply(LOGICAL_OR, (base, apply(LOGICAL_NOT, (power,))))
    if not d.is_floating_point and isinstance(exponent, int) and exponent < 0:
        raise ShapeError(f"pow: integers to the power {exponent} are not integers; use .float() first")
    special = _POWERS.get(exponent) if isinstance(exponent, (int, float)) and d.is_floating_point else None
    return apply(special, (base,)) if special is not None else apply(POW, (base, power))


_POWERS = {2: SQUARE, 0.5: SQRT, -0.5: RSQRT, -1: RECIPROCAL}


def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: Number = 1) -> Tensor:
    """input + value * tensor1 * tensor2, broadcast."""
    x, a, b = operands("addcmul", input, tensor1, tensor2)
    return apply(ADD, (x, mul(_scaled("addcmul", a, value), b)))


def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: Number = 1) -> Tensor:
    """input + value * tensor1 / tensor2, broadcast; for floating-point tensors."""
    x, a, b = operands("addcdiv", input, tensor1, tensor2)
    _float_only("addcdiv", x)
    return apply(ADD, (x, div(_scaled("addcdiv", a, value), b)))


def lerp(input: Any, end: Any, weight: Any) -> Tensor:
    """input + weight * (end - input), broadcast."""
    return apply(LERP, operands("lerp", input, end, weight))


def clamp(input: Any, min: Any = None, max: Any = None) -> Tensor:
    """Between `min` and `max` (numbers or tensors that broadcast; one may be None).  NaN stays NaN.

    Where ``min > max`` the result is `max`.
    """
    if min is None and max is None:
        raise DtypeError("clamp: expected min, max or both, got neither")
    x, *bounds = operands("clamp", *[v for v in (input, min, max) if v is not None])
    if len(bounds) == 1 and not x.dtype.is_floating_point:
        return apply(MAXIMUM if max is None else MINIMUM, (x, bounds[0]))
    if min is None:
        bounds.insert(0, as_operand(-math.inf, x.dtype))
    elif max is None:
        bounds.append(as_operand(math.inf, x.dtype))
    return apply(CLAMP, (x, *bounds))


def clip(input: Any, min: Any = None, max: Any = None) -> Tensor:
    """Another name of clamp."""
    return clamp(input, min, max)


def clamp_min(input: Any, min: Any) -> Tensor:
    """At least `min`."""
    return clamp(input, min=min)


def clamp_max(input: Any, max: Any) -> Tensor:
    """At most `max`."""
    return clamp(input, max=max)


def nan_to_num(input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """NaN as `nan`, infinities as `posinf` and `neginf` (by default the largest and the lowest finite number)."""
    x = _tensor("nan_to_num", input)
    if not x.dtype.is_floating_point:
        return clone(x)
    greatest = float(np.finfo(np.float64 if x.dtype is _core.float64 else np.float32).max)
    limits = (greatest if posinf is None else posinf, -greatest if neginf is None else neginf)
    return apply(NAN_TO_NUM, (x,), (0.0 if nan is None else float(nan), *map(float, limits)))


def maximum(input: Any, other: Any) -> Tensor:
    """The larger of each pair; NaN propagates."""
    return apply(MAXIMUM, operands("maximum", input, other))


def minimum(input: Any, other: Any) -> Tensor:
    """The smaller of each pair; NaN propagates."""
    return apply(MINIMUM, operands("minimum", input, other))


def _comparison(op: Op) -> Callable[[Any, Any], Tensor]:
    def compare(input: Any, other: Any) -> Tensor:
        return apply(op, operands(op.name, input, other))

    compare.__name__ = compare.__qualname__ = op.name
    compare.__doc__ = f"Elementwise {op.name}, broadcast, as a bool tensor."
    return compare


eq: Comparison = _comparison(EQ)
ne: Comparison = _comparison(NE)
lt: Comparison = _comparison(LT)
le: Comparison = _comparison(LE)
gt: Comparison = _comparison(GT)
ge: Comparison = _comparison(GE)


def _flags(name: str, *xs: Any) -> tuple[Tensor, ...]:
    return tuple(as_operand(x, _core.bool_) for x in _tensors(name, xs))


def logical_and(input: Any, other: Any) -> Tensor:
    """Both are non-zero."""
    return apply(LOGICAL_AND, _flags("logical_and", input, other))


def logical_or(input: Any, other: Any) -> Tensor:
    """One of the two is non-zero."""
    return apply(LOGICAL_OR, _flags("logical_or", input, other))


def logical_xor(input: Any, other: Any) -> Tensor:
    """Exactly one of the two is non-zero."""
    return apply(NE, _flags("logical_xor", input, other))


def logical_not(input: Any) -> Tensor:
    """Zero where it was not, and the reverse, as bool."""
    return apply(LOGICAL_NOT, _flags("logical_not", input))


def _bitwise(name: str, op: Op, of_bools: Op, symbol: str) -> Callable[[Any, Any], Tensor]:
    def function(input: Any, other: Any) -> Tensor:
        a, b = operands(name, input, other)
        return apply(of_bools if a.dtype is _core.bool_ else op, (_integers(name, a), b))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"input {symbol} other of integers, bit by bit, or of bools; broadcast."
    return function


def _integers(name: str, x: Tensor) -> Tensor:
    if x.dtype.is_floating_point:
        raise DtypeError(f"{name}: expected integers or bools, got {x.dtype}")
    return x


bitwise_and: Comparison = _bitwise("bitwise_and", BITWISE_AND, LOGICAL_AND, "&")
bitwise_or: Comparison = _bitwise("bitwise_or", BITWISE_OR, LOGICAL_OR, "|")
bitwise_xor: Comparison = _bitwise("bitwise_xor", BITWISE_XOR, NE, "^")


def bitwise_not(input: Tensor) -> Tensor:
    """~input of integers, bit by bit, or of bools."""
    x = _integers("bitwise_not", _tensor("bitwise_not", input))
    return apply(LOGICAL_NOT if x.dtype is _core.bool_ else BITWISE_NOT, (x,))


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """`input` where the condition holds, else `other`, broadcast.  Alone: the indices at which it holds (`nonzero`)."""
    if input is None and other is None:
        from .index import nonzero

        return nonzero(condition, as_tuple=True)
    if not isinstance(condition, Tensor):
        condition = as_tensor(condition)
    return apply(WHERE, (condition, *operands("where", input, other)))


def cast(input: Tensor, dtype: Any) -> Tensor:
    """The values in another dtype (floats to integers truncate); the tensor itself if it has it already."""
    d = as_dtype(dtype)
    if input.aval.dtype is d:
        return input
    if _core.bfloat16 in (input.aval.dtype, d) and _core.float32 not in (input.aval.dtype, d):
        input = apply(CAST, (input,), (_core.float32.code,))  # bfloat16 is cast to and from float32 only
    return apply(CAST, (input,), (d.code,))


def expand(input: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The tensor repeated along dims of size 1 (and new leading dims); -1 keeps a size."""
    extra = len(shape) - input.ndim
    if extra < 0:
        raise ShapeError(f"expand: expected at least {input.ndim} dims, got {tuple(shape)}")
    full = tuple(input.shape[i - extra] if n == -1 and i >= extra else n for i, n in enumerate(shape))
    for i, n in enumerate(input.shape):
        if n not in (1, full[i + extra]):
            raise ShapeError(f"expand: shape {input.shape} cannot become {tuple(shape)}")
    if full == input.shape:
        return input
    result = apply(EXPAND, (input,), (full,))
    result._copy_of = "an expanded tensor"
    return result


def clone(input: Tensor) -> Tensor:
    """A copy, on the tape."""
    return apply(COPY, (input,))


def _tensor(name: str, x: Any) -> Tensor:
    (found,) = _tensors(name, (x,))
    return found if isinstance(found, Tensor) else tensor(found)


def _as_float(name: str, x: Any) -> Tensor:
    x = _tensor(name, x)
    return x if x.aval.dtype.is_floating_point else cast(x, _core.float32)


def _function(op: Op, text: str) -> Callable[[Any], Tensor]:
    def function(input: Any) -> Tensor:
        return apply(op, (_as_float(op.name, input),))

    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = text
    return function


def neg(input: Tensor) -> Tensor:
    """-input."""
    return apply(NEG, (_tensor("neg", input),))


def abs(input: Tensor) -> Tensor:
    """|input|."""
    return apply(ABS, (_tensor("abs", input),))


def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1 (of a bool: itself); 0 for NaN."""
    x = _tensor("sign", input)
    return clone(x) if x.dtype is _core.bool_ else apply(SIGN, (x,))


def square(input: Tensor) -> Tensor:
    """input * input."""
    x = _tensor("square", input)
    if x.dtype.is_floating_point:
        return apply(SQUARE, (x,))
    x = cast(x, _core.int64) if x.dtype is _core.bool_ else x
    return apply(MUL, (x, x))


sqrt: Function = _function(SQRT, "The square root; NaN for negative numbers.")
rsqrt: Function = _function(RSQRT, "1 / sqrt(input).")
reciprocal: Function = _function(RECIPROCAL, "1 / input.")
exp: Function = _function(EXP, "e ** input.")
exp2: Function = _function(EXP2, "2 ** input.")
expm1: Function = _function(EXPM1, "e ** input - 1, also accurate near 0.")
log: Function = _function(LOG, "The natural logarithm; -inf at 0, NaN below.")
log1p: Function = _function(LOG1P, "log(1 + input), also accurate near 0.")
log2: Function = _function(LOG2, "The logarithm to base 2.")
log10: Function = _function(LOG10, "The logarithm to base 10.")
sin: Function = _function(SIN, "The sine of an angle in radians.")
cos: Function = _function(COS, "The cosine of an angle in radians.")
tan: Function = _function(TAN, "The tangent of an angle in radians.")
tanh: Function = _function(TANH, "The hyperbolic tangent.")
sigmoid: Function = _function(SIGMOID, "1 / (1 + exp(-input)).")
erf: Function = _function(ERF, "The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to input.")


def _whole(op: Op, text: str) -> Callable[[Any], Tensor]:
    def function(input: Any) -> Tensor:
        x = _tensor(op.name, input)
        if x.dtype is _core.bool_:
            raise DtypeError(f"{op.name}: expected numbers, got bool")
        return apply(op, (x,)) if x.dtype.is_floating_point else clone(x)

    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = f"{text}; integers stay as they are.  The derivative is 0."
    return function


floor: Function = _whole(FLOOR, "The largest integer that is not greater")
ceil: Function = _whole(CEIL, "The smallest integer that is not less")
trunc: Function = _whole(TRUNC, "The integer part, rounded towards 0")
_round: Function = _whole(ROUND, "")


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest integer (or multiple of ``10 ** -decimals``), ties to even; the derivative is 0.

    Integers stay as they are and take no `decimals`.
    """
    if not decimals:
        return _round(input)
    x = _tensor("round", input)
    if not x.dtype.is_floating_point:
        raise DtypeError(f"round: expected float32 or float64 with decimals={decimals}, got {x.dtype}")
    scale = 10.0 ** builtins.abs(decimals)
    return div(_round(mul(x, scale)), scale) if decimals > 0 else mul(_round(div(x, scale)), scale)


def _test(op: Op, of_integers: Op, text: str) -> Callable[[Any], Tensor]:
    def function(input: Any) -> Tensor:
        x = _tensor(op.name, input)
        return apply(op, (x,)) if x.dtype.is_floating_point else apply(of_integers, (x, x))

    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = text
    return function


isnan: Function = _test(ISNAN, NE, "Whether an element is NaN, as bool.")
isinf: Function = _test(ISINF, NE, "Whether an element is infinite, as bool.")
isfinite: Function = _test(ISFINITE, EQ, "Whether an element is neither NaN nor infinite, as bool.")
