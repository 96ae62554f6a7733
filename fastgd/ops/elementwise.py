"""Elementwise operations with broadcasting: arithmetic, comparison, functions, activations, casts.

Each is one row of csrc/kernels/elementwise.def; a chain of them is one pass over memory when compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import _core
from .._core import DtypeError, NotOffered, ShapeError, as_dtype, aval
from ..tensor import Tensor, as_tensor, tensor
from .registry import Op, apply

__all__ = [
    "abs",
    "add",
    "cast",
    "clone",
    "div",
    "eq",
    "exp",
    "expand",
    "ge",
    "gelu",
    "gt",
    "le",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "ne",
    "neg",
    "pow",
    "relu",
    "sigmoid",
    "sign",
    "silu",
    "sqrt",
    "square",
    "sub",
    "tanh",
    "where",
]

# Those that Tensor has as methods.
METHODS = (
    "abs",
    "add",
    "clone",
    "div",
    "eq",
    "exp",
    "expand",
    "ge",
    "gt",
    "le",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "ne",
    "neg",
    "pow",
    "relu",
    "sigmoid",
    "sign",
    "sqrt",
    "square",
    "sub",
    "tanh",
)

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


POW = _binary("pow", _pow_vjp, "i0 i1 o0", float_only=True)


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
TANH = _unary("tanh", lambda n, g: apply(TANH_BWD, (g, n.outputs[0])), "o0")
SIGMOID = _unary("sigmoid", lambda n, g: apply(SIGMOID_BWD, (g, n.outputs[0])), "o0")
RELU = _unary("relu", lambda n, g: apply(RELU_BWD, (g, n.outputs[0])), "o0")
GELU = _unary("gelu", lambda n, g: apply(GELU_BWD, (g, n.inputs[0])), "i0")
GELU_TANH = _unary("gelu_tanh", lambda n, g: apply(GELU_TANH_BWD, (g, n.inputs[0])), "i0")
SILU = _unary("silu", lambda n, g: apply(SILU_BWD, (g, n.inputs[0])), "i0")
TANH_BWD: Op = _derivative("tanh_bwd")
SIGMOID_BWD: Op = _derivative("sigmoid_bwd")
RELU_BWD: Op = _derivative("relu_bwd")
GELU_BWD: Op = _derivative("gelu_bwd")
GELU_TANH_BWD: Op = _derivative("gelu_tanh_bwd")
SILU_BWD: Op = _derivative("silu_bwd")


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


def add(input: Any, other: Any, *, alpha: Number = 1) -> Tensor:
    """input + alpha * other, broadcast."""
    a, b = operands("add", input, other)
    if a.aval.dtype is _core.bool_ and alpha == 1:
        return apply(LOGICAL_OR, (a, b))
    return apply(ADD, (a, b if alpha == 1 else mul(b, alpha)))


def sub(input: Any, other: Any, *, alpha: Number = 1) -> Tensor:
    """input - alpha * other, broadcast."""
    a, b = operands("sub", input, other)
    return apply(SUB, (a, b if alpha == 1 else mul(b, alpha)))


def mul(input: Any, other: Any) -> Tensor:
    """input * other, broadcast."""
    a, b = operands("mul", input, other)
    return apply(LOGICAL_AND if a.aval.dtype is _core.bool_ else MUL, (a, b))


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input / other, broadcast; integers become float32."""
    if rounding_mode is not None:
        raise NotOffered(f"div: rounding_mode={rounding_mode!r} is not offered")
    return apply(DIV, _float_operands("div", input, other))


def pow(input: Any, exponent: Any) -> Tensor:
    """input ** exponent, broadcast."""
    base, power = operands("pow", input, exponent)
    if not base.dtype.is_floating_point:
        raise NotOffered("pow: powers of integers are not offered; use .float() first")
    return square(base) if isinstance(exponent, (int, float)) and exponent == 2 else apply(POW, (base, power))


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


def logical_and(input: Tensor, other: Tensor) -> Tensor:
    """Both are non-zero."""
    return apply(LOGICAL_AND, (cast(input, _core.bool_), cast(other, _core.bool_)))


def logical_or(input: Tensor, other: Tensor) -> Tensor:
    """One of the two is non-zero."""
    return apply(LOGICAL_OR, (cast(input, _core.bool_), cast(other, _core.bool_)))


def logical_not(input: Tensor) -> Tensor:
    """Zero where it was not, and the reverse, as bool."""
    return apply(LOGICAL_NOT, (cast(input, _core.bool_),))


def where(condition: Tensor, input: Any, other: Any) -> Tensor:
    """`input` where the condition holds, else `other`, broadcast."""
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


def _as_float(name: str, x: Any) -> Tensor:
    if not isinstance(x, Tensor):
        x = as_tensor(x) if not isinstance(x, (int, float)) else tensor(float(x))
    return x if x.aval.dtype.is_floating_point else cast(x, _core.float32)


def _function(op: Op, text: str) -> Callable[[Any], Tensor]:
    def function(input: Any) -> Tensor:
        return apply(op, (_as_float(op.name, input),))

    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = text
    return function


def neg(input: Tensor) -> Tensor:
    """-input."""
    return apply(NEG, (input,))


def abs(input: Tensor) -> Tensor:
    """|input|."""
    return apply(ABS, (input,))


def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1."""
    return apply(SIGN, (input,))


square: Function = _function(SQUARE, "input * input.")
sqrt: Function = _function(SQRT, "The square root; NaN for negative numbers.")
exp: Function = _function(EXP, "e ** input.")
log: Function = _function(LOG, "The natural logarithm; -inf at 0, NaN below.")
tanh: Function = _function(TANH, "The hyperbolic tangent.")
sigmoid: Function = _function(SIGMOID, "1 / (1 + exp(-input)).")


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0); NaN stays NaN.  `inplace` is accepted; the result is a new tensor."""
    return apply(RELU, (_as_float("relu", input),))


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """input * Phi(input), Phi the normal distribution function (Hendrycks, Gimpel, 2016).

    ``approximate="tanh"``: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    """
    if approximate not in ("none", "tanh"):
        raise ShapeError(f"gelu: expected approximate 'none' or 'tanh', got {approximate!r}")
    return apply(GELU if approximate == "none" else GELU_TANH, (_as_float("gelu", input),))


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """input * sigmoid(input) (Elfwing, Uchibe, Doya, 2017)."""
    return apply(SILU, (_as_float("silu", input),))
