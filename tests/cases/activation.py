"""Cases of activations."""
# ruff: noqa: E501 - tables are read by rows

import numpy as np
from scipy import special

from fastgd.ops import functional as F

from . import BIG, SHAPES, away, case, normal, uniform


def gelu(x):
    return x * special.ndtr(x)


def gelu_tanh(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def elu(x, alpha=1.0, scale=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) * scale))


def shrunk(x, by, lambd=0.5):
    return np.where(np.abs(x) <= lambd, 0, x - by * np.sign(x))


def leaky_relu(x, slope=0.01):
    return np.where(x > 0, x, slope * x)


def wide(*shape):
    """Also beyond the bends at 3 and -3, and none near a bend."""
    return lambda rng: rng.integers(-5, 5, shape) + uniform(0.1, 0.4, *shape)(rng)


ACTIVATIONS = {
    "relu": (lambda x: np.maximum(x, 0), away), "relu6": (lambda x: np.clip(x, 0, 6), away), "gelu": (gelu, normal),
    "silu": (lambda x: x * special.expit(x), normal), "mish": (lambda x: x * np.tanh(np.logaddexp(x, 0)), normal),
    "leaky_relu": (leaky_relu, away), "rrelu": (lambda x: leaky_relu(x, (1 / 8 + 1 / 3) / 2), away),
    "elu": (elu, away), "celu": (elu, away),
    "selu": (lambda x: 1.0507009873554804934 * elu(x, 1.6732632423543772848), away),
    "softplus": (lambda x: np.where(x > 20, x, np.logaddexp(x, 0)), normal), "softsign": (lambda x: x / (1 + np.abs(x)), away),
    "logsigmoid": (special.log_expit, normal), "hardtanh": (lambda x: np.clip(x, -1, 1), wide),
    "hardsigmoid": (lambda x: np.clip(x + 3, 0, 6) / 6, wide), "hardswish": (lambda x: x * np.clip(x + 3, 0, 6) / 6, wide),
    "hardshrink": (lambda x: shrunk(x, 0), away), "softshrink": (lambda x: shrunk(x, 0.5), away),
    "tanhshrink": (lambda x: x - np.tanh(x), normal),
}  # fmt: skip
for _name, (_reference, _make) in ACTIVATIONS.items():
    for _shape in SHAPES if _name == "relu" else SHAPES[-3:]:
        case(_name, _reference, _make(*_shape), text=str(_shape))
    case(_name, _reference, _make(*BIG), text="big", big=True)
case("gelu", gelu_tanh, normal(9, 11), function=lambda x: F.gelu(x, approximate="tanh"), text="tanh")
case("gelu", gelu_tanh, normal(*BIG), function=lambda x: F.gelu(x, approximate="tanh"), text="tanh big", big=True)
ARGUMENTS = (
    ("leaky_relu", (0.2,), lambda x: leaky_relu(x, 0.2)), ("leaky_relu", (-0.2,), lambda x: leaky_relu(x, -0.2)),
    ("elu", (0.7,), lambda x: elu(x, 0.7)), ("celu", (0.7,), lambda x: elu(x, 0.7, 1 / 0.7)),
    ("celu", (-0.7,), lambda x: np.where(x > 0, x, -0.7 * np.expm1(np.minimum(x, 0) / -0.7))),
    ("softplus", (2, 3), lambda x: np.where(2 * x > 3, x, np.logaddexp(2 * x, 0) / 2)),
    ("hardtanh", (-0.3, 2), lambda x: np.clip(x, -0.3, 2)), ("hardshrink", (1.25,), lambda x: shrunk(x, 0, 1.25)),
    ("softshrink", (1.25,), lambda x: shrunk(x, 1.25, 1.25)), ("threshold", (0.5, -2), lambda x: np.where(x > 0.5, x, -2)),
    ("rrelu", (0.1, 0.3), lambda x: leaky_relu(x, 0.2)),
)  # fmt: skip
for _name, _arguments, _reference in ARGUMENTS:
    case(_name, _reference, away(5, 9), function=lambda x, n=_name, more=_arguments: getattr(F, n)(x, *more), text=f"{_arguments}")
for _x, _w in (((4, 3, 5), (3,)), ((4, 3), (3,)), ((4, 3), (1,)), ((5,), (1,)), ((), ()), ((2, 3, 0), (3,)), ((2, 1, 3, 2), (1,))):
    case("prelu", lambda x, w: np.where(x > 0, x, x * w.reshape(-1, *[1] * (x.ndim - 2)).reshape(() if w.size == 1 else (-1, *[1] * (x.ndim - 2)))),
         away(*_x), normal(*_w), text=f"{_x}{_w}")  # fmt: skip
for _shape, _dim in (((4, 6), -1), ((4, 6), 0), ((2, 8, 3), 1), ((2,), 0), ((0, 4), 1), ((4, 0), 1), ((3, 2 * 1031), 1)):
    case("glu", lambda x, d: np.split(x, 2, d)[0] * special.expit(np.split(x, 2, d)[1]), normal(*_shape), arguments=(_dim,), text=f"{_shape}{_dim}")
    case("swiglu", lambda x, d: np.split(x, 2, d)[0] * special.expit(np.split(x, 2, d)[0]) * np.split(x, 2, d)[1], normal(*_shape),
         arguments=(_dim,), text=f"{_shape}{_dim}")  # fmt: skip
for _dim in (0, 1):
    case("glu", lambda x, d: np.split(x, 2, d)[0] * special.expit(np.split(x, 2, d)[1]), normal(130, 514), arguments=(_dim,), text=f"big{_dim}", big=True)
    case("swiglu", lambda x, d: np.split(x, 2, d)[0] * special.expit(np.split(x, 2, d)[0]) * np.split(x, 2, d)[1], normal(130, 514),
         arguments=(_dim,), text=f"big{_dim}", big=True)  # fmt: skip
case("softmin", lambda x, d: special.softmax(-x, d), normal(4, 5), arguments=(1,), text="1")
for _name, _reference in (("relu", lambda x: np.maximum(x, 0)), ("relu6", lambda x: np.clip(x, 0, 6)), ("hardtanh", lambda x: np.clip(x, -1, 1))):
    case(_name, _reference, lambda rng: rng.integers(-9, 10, 20), text="of integers", differentiable=False)
case("threshold", lambda x: np.where(x > 2, x, 7), lambda rng: rng.integers(-9, 10, 20), function=lambda x: F.threshold(x, 2, 7),
     text="of integers", differentiable=False)  # fmt: skip
