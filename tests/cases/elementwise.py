"""Cases of elementwise operations, activations and casts."""

import numpy as np
from scipy import special

from fastgd.ops import functional as F

from . import BIG, SHAPES, away, case, flags, normal, positive


def gelu(x):
    return x * special.ndtr(x)


def gelu_tanh(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


UNARY = {
    "abs": (np.abs, away), "neg": (np.negative, normal), "sign": (np.sign, away), "square": (np.square, normal),
    "sqrt": (np.sqrt, positive), "exp": (np.exp, normal), "log": (np.log, positive), "tanh": (np.tanh, normal),
    "sigmoid": (special.expit, normal), "relu": (lambda x: np.maximum(x, 0), away), "gelu": (gelu, normal),
    "silu": (lambda x: x * special.expit(x), normal), "clone": (np.copy, normal),
}  # fmt: skip
for _name, (_reference, _make) in UNARY.items():
    for _shape in SHAPES if _name in ("tanh", "relu") else SHAPES[-3:]:
        case(_name, _reference, _make(*_shape), text=str(_shape))
    case(_name, _reference, _make(*BIG), text="big", big=True)
case("gelu", gelu_tanh, normal(9, 11), function=lambda x: F.gelu(x, approximate="tanh"), text="tanh")

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
case("add", lambda a, b: a + 3 * b, normal(4), normal(4), function=lambda a, b: F.add(a, b, alpha=3), text="alpha")
case("sub", lambda a, b: a - 3 * b, normal(4), normal(4), function=lambda a, b: F.sub(a, b, alpha=3), text="alpha")
case("pow", np.square, normal(4), function=lambda a: F.pow(a, 2), text="square")
case("pow", lambda a: a**3, away(4), function=lambda a: F.pow(a, 3), text="negative base")
case("logical_and", np.logical_and, flags(4, 5), flags(5), differentiable=False)
case("logical_or", np.logical_or, flags(4, 5), flags(5), differentiable=False)
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
