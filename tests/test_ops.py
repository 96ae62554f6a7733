"""Every operation: value, gradient, eager against compiled, thread counts; and random programs made of them.

One table of cases.  Each has a NumPy or SciPy reference that runs in float64; gradients are checked by one
random projection against central differences of that reference (so an error shared by an operation and its
derivative shows).  The last tests fail if an operation, a kernel or a tile operation is reached by no case.
"""

import contextlib
import functools
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

import fastgd as gd
from fastgd import _core, optim
from fastgd.compiler import lower as lowering
from fastgd.ops import OPS
from fastgd.ops import functional as F

THREADS = (1, 2, 3, 7)
TOLERANCE = {"float64": 1e-12, "float32": 3e-6}  # times the magnitude of what is summed, see `assert_close`


@pytest.fixture(autouse=True)
def _threads():
    before = gd.get_num_threads()
    yield
    gd.set_num_threads(before)


# ---- inputs ------------------------------------------------------------------------------------------


def normal(*shape):
    return lambda rng: rng.normal(size=shape)


def positive(*shape):
    return lambda rng: rng.uniform(0.2, 3.0, size=shape)


def away(*shape):
    """No element near 0, where kinks are; no two elements near each other."""

    def make(rng):
        n = math.prod(shape)
        values = (rng.permutation(n) + 0.5) / max(n, 1) * 4 + 0.2
        return (values * rng.choice([-1.0, 1.0], n)).reshape(shape)

    return make


def flags(*shape):
    return lambda rng: rng.random(shape) < 0.5


def labels(classes, *shape):
    return lambda rng: rng.integers(0, classes, shape)


# ---- the table ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    name: str  # of the public function
    function: object
    reference: object
    inputs: tuple
    text: str = ""
    differentiable: bool = True
    f32: float = 1.0  # times the float32 tolerance, for long sums
    big: bool = False  # cut into several units of work

    def arrays(self, dtype="float64"):
        rng = np.random.default_rng(sum(map(ord, self.name + self.text)))
        made = [np.asarray(make(rng)) for make in self.inputs]
        return [a.astype(dtype) if a.dtype.kind == "f" else a for a in made]

    def __repr__(self):
        return f"{self.name}-{self.text}"


CASES: list[Case] = []
SHAPES = ((), (1,), (0,), (7,), (3, 0, 2), (5, 1, 3), (33, 65))
BIG = (129, 515)


def case(name, reference, *inputs, function=None, text="", **options):
    CASES.append(Case(name, function or getattr(F, name), reference, inputs, text or f"{len(CASES)}", **options))


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
    for _shape in SHAPES:
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
    for _a, _b in PAIRS:
        case(_name, _reference, _make(*_a), _make(*_b), text=f"{_a}{_b}")
    case(_name, _reference, _make(*BIG), _make(BIG[0], 1), text="big", big=True)
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _reference = getattr(np, {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
                              "ge": "greater_equal"}[_name])  # fmt: skip
    for _a, _b in (*PAIRS, (BIG, BIG[1:])):
        case(_name, _reference, normal(*_a), normal(*_b), text=f"{_a}{_b}", differentiable=False)
case("add", lambda a, b: a + 3 * b, normal(4), normal(4), function=lambda a, b: F.add(a, b, alpha=3), text="alpha")
case("sub", lambda a, b: a - 3 * b, normal(4), normal(4), function=lambda a, b: F.sub(a, b, alpha=3), text="alpha")
case("pow", np.square, normal(4), function=lambda a: F.pow(a, 2), text="square")
case("pow", lambda a: a**3, away(4), function=lambda a: F.pow(a, 3), text="negative base")
case("logical_and", np.logical_and, flags(4, 5), flags(5), differentiable=False)
case("logical_or", np.logical_or, flags(4, 5), flags(5), differentiable=False)
case("logical_not", np.logical_not, flags(4, 5), differentiable=False)
case("where", np.where, flags(5, 1), normal(7), normal(5, 7), text="broadcast")
case("where", lambda c, a: np.where(c, a, 0.5), flags(3), normal(3), function=lambda c, a: F.where(c, a, 0.5), text="number")
case("where", np.where, flags(*BIG), normal(*BIG), normal(*BIG), text="big", big=True)
case("cast", np.copy, normal(4), function=lambda x: F.cast(F.cast(x, "float64"), x.dtype), text="there and back")
case("cast", np.trunc, away(40), function=lambda x: F.cast(x, "int64"), text="truncates", differentiable=False)
for _shape, _new in (((3, 1), (3, 4)), ((), (2, 3)), ((4,), (2, -1)), ((1, 0), (5, 0)), ((2, 1, 3), (2, 5, 3))):
    case("expand", lambda x, s=_new: np.broadcast_to(x, [n if m == -1 else m for m, n in zip(s, (1, *x.shape))] if -1 in s else s),
         normal(*_shape), function=lambda x, s=_new: F.expand(x, s), text=f"{_shape}{_new}")  # fmt: skip

# shape
for _shape, _new in (((6,), (2, 3)), ((2, 3), (-1,)), ((), (1, 1)), ((0, 3), (3, 0)), ((4, 5), (2, -1, 5))):
    case("reshape", lambda x, s=_new: x.reshape(s), normal(*_shape), function=lambda x, s=_new: F.reshape(x, s), text=f"{_shape}{_new}")
case("flatten", lambda x: x.reshape(2, 12), normal(2, 3, 4), function=lambda x: F.flatten(x, 1), text="1")
case("flatten", lambda x: x.reshape(1), normal(), text="0-d")
case("squeeze", np.squeeze, normal(1, 3, 1), text="all")
case("squeeze", lambda x: x.reshape(1, 3), normal(1, 3, 1), function=lambda x: F.squeeze(x, -1), text="-1")
case("unsqueeze", lambda x: x[:, None], normal(2, 3), function=lambda x: F.unsqueeze(x, 1))
for _shape, _dims in (((3, 4), (1, 0)), ((2, 3, 5), (2, 0, 1)), ((1, 4, 1, 3), (3, 1, 0, 2)), ((0, 3), (1, 0)), ((2, 1, 3, 2, 5), (4, 2, 0, 3, 1))):
    case("permute", lambda x, d=_dims: x.transpose(d), normal(*_shape), function=lambda x, d=_dims: F.permute(x, d), text=f"{_shape}{_dims}")
case("permute", lambda x: x.transpose(2, 0, 1), normal(33, 65, 37), function=lambda x: F.permute(x, 2, 0, 1), text="big", big=True)
case("transpose", lambda x: x.swapaxes(0, -1), normal(3, 4, 5), function=lambda x: F.transpose(x, 0, -1))
case("t", lambda x: x.T, normal(3, 4), text="matrix")
case("t", np.copy, normal(3), text="vector")

# reductions
REDUCTIONS = (
    ((), None), ((1,), None), ((7,), 0), ((4, 5), None), ((4, 5), 0), ((4, 5), -1), ((2, 3, 4), (0, 2)), ((2, 3, 4), (1, 2)),
    ((3, 1, 5), 1), ((2, 1, 3, 1, 2), (0, 2, 4)), ((5, 0), 0), ((300, 3), 0), ((3, 4100), 1),
)  # fmt: skip
for _name, _numpy in (("sum", np.sum), ("mean", np.mean), ("amax", np.max), ("amin", np.min)):
    for _shape, _dim in REDUCTIONS:
        for _keep in (False, True):
            case(_name, lambda x, f=_numpy, d=_dim, k=_keep: f(x, axis=d, keepdims=k) if x.size else np.zeros(F.sum(gd.tensor(x), d, k).shape),
                 away(*_shape), function=lambda x, f=getattr(F, _name), d=_dim, k=_keep: f(x, d, k),
                 text=f"{_shape}{_dim}{_keep}", differentiable=bool(math.prod(_shape))) if math.prod(_shape) or _name == "sum" else None  # fmt: skip
    case(_name, lambda x, f=_numpy: f(x), away(*BIG), text="big", big=True, f32=10)
    case(_name, lambda x, f=_numpy: f(x, axis=0), away(1025, 67), function=lambda x, f=getattr(F, _name): f(x, 0), text="big rows", big=True, f32=10)
for _dim in (None, 0, 1, -1):
    case("argmax", lambda x, d=_dim: np.argmax(x, d), away(4, 5, 3), function=lambda x, d=_dim: F.argmax(x, d), text=f"{_dim}", differentiable=False)
    case("max", lambda x, d=_dim: np.max(x, d), away(4, 5, 3), function=lambda x, d=_dim: F.max(x) if d is None else F.max(x, d)[0], text=f"{_dim}")
case("argmax", np.argmax, away(*BIG), text="big", differentiable=False, big=True)
case("max", lambda x: np.argmax(x, 1), away(4, 5), function=lambda x: F.max(x, 1).indices, text="indices", differentiable=False)

# softmax, losses
for _shape, _dim in (((), 0), ((7,), 0), ((4, 5), 0), ((4, 5), 1), ((2, 3, 4), 1), ((3, 0), 1), ((0, 3), 1), ((1, 1), -1), ((3, 1030), 1)):
    for _name in ("softmax", "log_softmax"):
        case(_name, lambda x, f=getattr(special, _name), d=_dim: f(x, axis=d) if x.size and x.ndim else (np.copy(x) if x.size == 0 else f(x.reshape(1)).reshape(())),
             normal(*_shape), function=lambda x, f=getattr(F, _name), d=_dim: f(x, d), text=f"{_shape}{_dim}")  # fmt: skip
case("softmax", lambda x: special.softmax(x, 1), normal(*BIG), function=lambda x: F.softmax(x, 1), text="big", big=True)
case("log_softmax", lambda x: special.log_softmax(x, 0), normal(*BIG), function=lambda x: F.log_softmax(x, 0), text="big", big=True)


def reference_cross_entropy(x, y, reduction, ignore=-100):
    counts = y != ignore
    log_p = special.log_softmax(x, axis=1) if x.size else x
    loss = np.where(counts, -np.take_along_axis(log_p, np.where(counts, y, 0)[:, None], 1)[:, 0], 0.0)
    return {"none": loss, "sum": loss.sum(), "mean": loss.sum() / counts.sum()}[reduction]


for _reduction in ("none", "mean", "sum"):
    for _n, _c in ((1, 1), (5, 3), (33, 65), (700, 65)):
        case("cross_entropy", functools.partial(reference_cross_entropy, reduction=_reduction), normal(_n, _c), labels(_c, _n),
             function=lambda x, y, r=_reduction: F.cross_entropy(x, y, reduction=r), text=f"{_reduction}{_n}", big=_n == 700, f32=3)  # fmt: skip
    case("cross_entropy", functools.partial(reference_cross_entropy, reduction=_reduction, ignore=1), normal(9, 3), labels(3, 9),
         function=lambda x, y, r=_reduction: F.cross_entropy(x, y, reduction=r, ignore_index=1), text=f"{_reduction} ignore")  # fmt: skip
case("cross_entropy", lambda x, y: reference_cross_entropy(np.moveaxis(x, 1, -1).reshape(-1, 3), y.reshape(-1), "none").reshape(y.shape),
     normal(2, 3, 4, 5), labels(3, 2, 4, 5), function=lambda x, y: F.cross_entropy(x, y, reduction="none"), text="image")  # fmt: skip
case("cross_entropy", lambda x, y: reference_cross_entropy(x[None], y.reshape(1), "mean"), normal(4), labels(4), text="one row")
for _reduction, _reference in (("none", lambda d: d * d), ("mean", lambda d: np.mean(d * d)), ("sum", lambda d: np.sum(d * d))):
    case("mse_loss", lambda a, b, f=_reference: f(a - b), normal(5, 3), normal(5, 3),
         function=lambda a, b, r=_reduction: F.mse_loss(a, b, reduction=r), text=_reduction)  # fmt: skip

# products
for _a, _b in (((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((5, 7), (7, 3)), ((1, 1), (1, 1)), ((0, 3), (3, 2)), ((2, 0), (0, 3)),
               ((4, 2, 3), (3, 5)), ((2, 3), (4, 3, 5)), ((4, 2, 3), (4, 3, 5)), ((4, 1, 2, 3), (6, 3, 2)), ((1, 2, 3), (5, 3, 2)),
               ((3,), (2, 3, 4)), ((2, 5, 3), (3,))):  # fmt: skip
    case("matmul", np.matmul, normal(*_a), normal(*_b), text=f"{_a}{_b}")
case("matmul", np.matmul, normal(129, 257), normal(257, 131), text="big", big=True, f32=30)
case("mm", np.matmul, normal(3, 4), normal(4, 5))
case("bmm", np.matmul, normal(2, 3, 4), normal(2, 4, 5))
for _x, _o in (((3,), 4), ((5, 3), 4), ((2, 5, 3), 1), ((0, 3), 4), ((1, 1), 1)):
    case("linear", lambda x, w, b: x @ w.T + b, normal(*_x), normal(_o, _x[-1]), normal(_o), text=f"{_x}{_o}")
    case("linear", lambda x, w: x @ w.T, normal(*_x), normal(_o, _x[-1]), text=f"{_x}{_o} no bias")
case("linear", lambda x, w, b: x @ w.T + b, normal(130, 257), normal(67, 257), normal(67), text="big", big=True, f32=30)

WITHOUT_A_CASE = {  # functions tested apart, below
    "arange", "empty", "empty_like", "eye", "full", "full_like", "linspace", "ones", "ones_like", "rand", "randint", "randn",
    "randperm", "zeros", "zeros_like", "dropout", "clip_grad_norm_",
}  # fmt: skip

# ---- how cases are run -------------------------------------------------------------------------------


def leaves(arrays):
    return [gd.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]


def assert_close(ours, reference, dtype, factor=1.0):
    ours, reference = np.asarray(ours), np.asarray(reference)
    assert ours.shape == reference.shape
    scale = 1 + np.max(np.abs(reference), initial=0)
    np.testing.assert_allclose(ours, reference, rtol=0, atol=TOLERANCE[dtype] * factor * scale)


def projection(shape, dtype):
    return np.asarray(np.random.default_rng(1).normal(size=shape)).astype(dtype)


def run(case, arrays, function=None):
    """[value, gradients of the projected value ...] as arrays."""
    tensors = leaves(arrays)
    y = (function or case.function)(*tensors)
    results = [np.array(y.detach())]
    if case.differentiable:
        y.backward(gd.tensor(projection(y.shape, y.dtype.name)))
        results += [np.array(t.grad) for t in tensors if t.requires_grad]
    return results


def assert_same_bits(a, b, what):
    assert len(a) == len(b)
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        assert x.dtype == y.dtype and x.shape == y.shape
        assert x.tobytes() == y.tobytes(), f"{what}: result {i} differs by {np.nanmax(np.abs(x - y))}"


every_case = pytest.mark.parametrize("case", CASES, ids=repr)


@every_case
def test_value(case):
    arrays = case.arrays()
    expected = case.reference(*arrays)
    for dtype in ("float64", "float32"):
        got = case.function(*leaves(case.arrays(dtype)))
        if np.asarray(expected).dtype.kind == "f":
            assert got.dtype == dtype or case.text == "truncates"
            assert_close(got.detach(), expected, dtype, case.f32 if dtype == "float32" else 1)
        else:
            np.testing.assert_array_equal(np.asarray(got), case.reference(*case.arrays(dtype)))


@pytest.mark.parametrize("case", [c for c in CASES if c.differentiable], ids=repr)
def test_gradient(case):
    arrays = case.arrays()
    value, *grads = run(case, arrays)
    floats = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    assert len(grads) == len(floats)
    rng = np.random.default_rng(2)
    r = projection(value.shape, "float64")
    for i, g in zip(floats, grads, strict=True):
        assert g.shape == arrays[i].shape and g.dtype == np.float64
        v = rng.normal(size=arrays[i].shape)
        step = 1e-6

        def at(h, i=i, v=v):
            moved = [*arrays[:i], arrays[i] + h * v, *arrays[i + 1 :]]
            return np.sum(np.asarray(case.reference(*moved)) * r)

        numeric = (at(step) - at(-step)) / (2 * step)
        terms = np.sum(np.abs(g * v)) + 1
        assert abs(numeric - np.sum(g * v)) <= 1e-7 * terms + 1e-8 * np.sum(np.abs(value * r))
    in_float32 = run(case, case.arrays("float32"))
    for a, b in zip(in_float32, [value, *grads], strict=True):
        assert a.dtype == np.float32
        assert_close(a, b, "float32", 10 * case.f32)


@every_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compiled_has_the_same_bits(case, dtype):
    arrays = case.arrays(dtype)
    eager = run(case, arrays)
    compiled = gd.compile(case.function)
    assert_same_bits(eager, run(case, arrays, compiled), "first call")
    assert_same_bits(eager, run(case, arrays, compiled), "replay")
    if case.differentiable:
        tensors = leaves(arrays)
        seed = gd.tensor(projection(eager[0].shape, dtype))

        @gd.compile
        def step():
            y = case.function(*tensors)
            y.backward(seed)
            return y.detach()

        whole = [np.array(step()), *[np.array(t.grad) for t in tensors if t.requires_grad]]
        assert_same_bits(eager, whole, "backward inside of the compiled function")


@pytest.mark.parametrize("case", [c for c in CASES if c.big], ids=repr)
def test_any_number_of_threads_gives_the_same_bits(case):
    arrays = case.arrays("float32")
    compiled = gd.compile(case.function)
    gd.set_num_threads(1)
    first = run(case, arrays)
    for n in THREADS:
        gd.set_num_threads(n)
        assert_same_bits(first, run(case, arrays), f"{n} threads")
        assert_same_bits(first, run(case, arrays, compiled), f"{n} threads, compiled")
