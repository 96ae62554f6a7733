"""Cases of elementwise operations and casts."""

# ruff: noqa: E501 - tables are read by rows

import numpy as np
from scipy import special

from fastgd.ops import functional as F

from . import BIG, SHAPES, away, case, flags, labels, normal, positive, uniform


def between(*shape):
    """No element near a multiple of 1/2, where rounding jumps."""
    return lambda rng: rng.integers(-3, 4, shape) + rng.uniform(0.05, 0.45, shape)


UNARY = {
    "abs": (np.abs, away), "neg": (np.negative, normal), "sign": (np.sign, away), "square": (np.square, normal),
    "sqrt": (np.sqrt, positive), "rsqrt": (lambda x: 1 / np.sqrt(x), positive), "reciprocal": (np.reciprocal, away),
    "exp": (np.exp, normal), "exp2": (np.exp2, normal), "expm1": (np.expm1, normal), "log": (np.log, positive),
    "log1p": (np.log1p, positive), "log2": (np.log2, positive), "log10": (np.log10, positive), "sin": (np.sin, normal),
    "cos": (np.cos, normal), "tan": (np.tan, lambda *shape: uniform(-1.2, 1.2, *shape)), "erf": (special.erf, normal),
    "tanh": (np.tanh, normal), "sigmoid": (special.expit, normal), "clone": (np.copy, normal),
    "floor": (np.floor, between), "ceil": (np.ceil, between), "trunc": (np.trunc, between), "round": (np.round, between),
}  # fmt: skip
for _name, (_reference, _make) in UNARY.items():
    for _shape in SHAPES if _name in ("tanh", "abs") else SHAPES[-3:]:
        case(_name, _reference, _make(*_shape), text=str(_shape))
    case(_name, _reference, _make(*BIG), text="big", big=True)

BINARY = {
    "add": (np.add, normal), "sub": (np.subtract, normal), "mul": (np.multiply, normal), "div": (np.divide, positive),
    "pow": (np.power, positive), "maximum": (np.maximum, normal), "minimum": (np.minimum, normal),
}  # fmt: skip
PAIRS = (
    ((), ()), ((7,), (7,)), ((5, 7), (7,)), ((5, 1), (1, 7)), ((), (3, 2)), ((2, 1, 3, 1), (4, 1, 6)),
    ((0,), (1,)), ((3, 0), (3, 1)), ((1,), ()),
)  # fmt: skip
for _name, (_reference, _make) in BINARY.items():
    for _a, _b in PAIRS if _name in ("add", "mul", "maximum") else PAIRS[:5]:
        case(_name, _reference, _make(*_a), _make(*_b), text=f"{_a}{_b}")
    case(_name, _reference, _make(*BIG), _make(BIG[0], 1), text="big", big=True)
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _reference = getattr(np, {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
                              "ge": "greater_equal"}[_name])  # fmt: skip
    for _a, _b in (*PAIRS[-4:], (BIG, BIG[1:])):
        case(_name, _reference, normal(*_a), normal(*_b), text=f"{_a}{_b}", differentiable=False)
for _name, _reference in (("isnan", np.isnan), ("isinf", np.isinf), ("isfinite", np.isfinite)):
    case(_name, _reference, lambda rng: rng.choice([np.nan, np.inf, -np.inf, 0.0, 1.5], (7, 9)), differentiable=False)


def signed(low, high, *shape):
    return lambda rng: rng.uniform(low, high, shape) * rng.choice([-1, 1], shape)


# quotients between 2.4 and 2.6: nothing jumps
DIVISIONS = {"remainder": np.remainder, "fmod": np.fmod, "floor_divide": np.floor_divide}
for _name, _reference in DIVISIONS.items():
    for _a, _b in (*PAIRS[:5], (BIG, BIG[1:])):
        case(_name, _reference, signed(7.3, 7.5, *_a), signed(2.9, 3, *_b), text=f"{_a}{_b}", big=_a == BIG)
for _mode, _reference in (("floor", np.floor_divide), ("trunc", lambda a, b: np.trunc(a / b))):
    case("div", _reference, signed(7.3, 7.5, 7), signed(2.9, 3, 5, 7), function=lambda a, b, m=_mode: F.div(a, b, rounding_mode=m), text=_mode)
for _name, _value in (("2", 2), ("0.5", 0.5), ("-0.5", -0.5), ("-1", -1), ("2.5", 2.5)):
    case("pow", lambda a, e=_value: a**e, positive(4), function=lambda a, e=_value: F.pow(a, e), text=f"** {_name}")
case("pow", lambda a: 2.5**a, normal(4), function=lambda a: F.pow(2.5, a), text="of a number")
for _d in (2, -1):
    case("round", lambda x, d=_d: np.round(x, d), lambda rng, d=_d: (rng.integers(-300, 300, 9) + rng.uniform(0.1, 0.4, 9)) / 10.0**d,
         function=lambda x, d=_d: F.round(x, decimals=d), text=f"decimals {_d}")  # fmt: skip
case("nan_to_num", np.copy, normal(5, 7))
case("nan_to_num", lambda x: np.nan_to_num(x, nan=1.0, posinf=2.0, neginf=-3.0),
     lambda rng: rng.choice([np.nan, np.inf, -np.inf, 0.0, 1.5], 30), differentiable=False,
     function=lambda x: F.nan_to_num(x, 1.0, 2.0, -3.0), text="values")  # fmt: skip
BOUNDS = (
    ((5, 7), (7,), (5, 1)), ((7,), (3, 7), ()), ((), (), ()), ((0, 3), (3,), (1,)), ((1,), (1,), (1,)),
)  # fmt: skip
for _x, _low, _high in BOUNDS:
    case("clamp", lambda x, a, b: np.minimum(np.maximum(x, a), b), normal(*_x), normal(*_low), normal(*_high),
         text=f"{_x}{_low}{_high}")  # fmt: skip
case("clamp", lambda x: np.clip(x, -0.5, 0.75), away(*BIG), function=lambda x: F.clamp(x, -0.5, 0.75), text="numbers", big=True)
for _name in ("clamp", "clip"):
    case(_name, lambda x: np.maximum(x, 0.25), away(9), function=lambda x, n=_name: getattr(F, n)(x, 0.25), text="min")
    case(_name, lambda x: np.minimum(x, 0.25), away(9), function=lambda x, n=_name: getattr(F, n)(x, max=0.25), text="max")
case("clamp_min", np.maximum, normal(5, 3), normal(3))
case("clamp_max", np.minimum, normal(5, 3), normal(3))
for _shapes in (((7,), (7,), (7,)), ((5, 1), (7,), ()), ((), (), ()), ((3, 0), (0,), (3, 1))):
    _inputs = tuple(normal(*s) for s in _shapes)
    case("addcmul", lambda x, a, b: x + 0.5 * a * b, *_inputs, text=f"{_shapes}",
         function=lambda x, a, b: F.addcmul(x, a, b, value=0.5))  # fmt: skip
    case("addcdiv", lambda x, a, b: x - 2 * a / b, *_inputs[:2], away(*_shapes[2]), text=f"{_shapes}",
         function=lambda x, a, b: F.addcdiv(x, a, b, value=-2.0))  # fmt: skip
    case("lerp", lambda a, b, w: a + w * (b - a), *_inputs, text=f"{_shapes}")
case("lerp", lambda a, b: a + 0.75 * (b - a), normal(4), normal(4), function=lambda a, b: F.lerp(a, b, 0.75), text="number")
case("add", lambda a, b: a + 3 * b, normal(4), normal(4), function=lambda a, b: F.add(a, b, alpha=3), text="alpha")
case("sub", lambda a, b: a - 3 * b, normal(4), normal(4), function=lambda a, b: F.sub(a, b, alpha=3), text="alpha")
case("pow", np.square, normal(4), function=lambda a: F.pow(a, 2), text="square")
case("pow", lambda a: a**3, away(4), function=lambda a: F.pow(a, 3), text="negative base")
case("logical_and", np.logical_and, flags(4, 5), flags(5), differentiable=False)
case("logical_or", np.logical_or, flags(4, 5), flags(5), differentiable=False)
case("logical_xor", np.logical_xor, flags(4, 5), flags(5), differentiable=False)
for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    case(_name, getattr(np, _name), labels(99, 4, 5), labels(99, 5), text="integers", differentiable=False)
    case(_name, getattr(np, _name), flags(4, 5), flags(4, 1), text="bools", differentiable=False)
case("bitwise_not", np.invert, labels(99, 4, 5), text="integers", differentiable=False)
case("bitwise_not", np.invert, flags(4, 5), text="bools", differentiable=False)
for _name, _reference in (("floor", np.copy), ("pow", lambda a: a**3), ("square", np.square), ("clamp", lambda a: np.clip(a, 2, 5)),
                          ("clamp_min", lambda a: np.maximum(a, 4)), ("remainder", lambda a: a % 3), ("fmod", lambda a: a % 3),
                          ("floor_divide", lambda a: a // 3), ("sign", np.sign), ("abs", np.abs), ("isnan", np.isnan)):  # fmt: skip
    _more = {"pow": (3,), "clamp": (2, 5), "clamp_min": (4,), "remainder": (3,), "fmod": (3,), "floor_divide": (3,)}.get(_name, ())
    case(_name, _reference, labels(99, 9), text="of integers", differentiable=False,
         function=lambda a, n=_name, more=_more: getattr(F, n)(a, *more))  # fmt: skip
case("logical_not", np.logical_not, flags(4, 5), differentiable=False)
case("where", np.where, flags(5, 1), normal(7), normal(5, 7), text="broadcast")
case(
    "where",
    lambda c, a: np.where(c, a, 0.5),
    flags(3),
    normal(3),
    function=lambda c, a: F.where(c, a, 0.5),
    text="number",
)
case("where", np.where, flags(*BIG), normal(*BIG), normal(*BIG), text="big", big=True)
case("cast", np.copy, normal(4), function=lambda x: F.cast(F.cast(x, "float64"), x.dtype), text="there and back")
case("cast", np.trunc, away(40), function=lambda x: F.cast(x, "int64"), text="truncates", differentiable=False)
for _shape, _new in (((3, 1), (3, 4)), ((), (2, 3)), ((4,), (2, 4)), ((1, 0), (5, 0)), ((2, 1, 3), (2, 5, 3))):
    case("expand", np.broadcast_to, normal(*_shape), arguments=(_new,), text=f"{_shape}{_new}")
case("expand", lambda x: np.stack([x, x]), normal(4), function=lambda x: F.expand(x, (2, -1)), text="-1")
