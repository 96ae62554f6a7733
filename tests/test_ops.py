"""Every operation: value, gradient, eager against compiled, thread counts; and random programs made of them.

One table of cases.  Each has a NumPy or SciPy reference that runs in float64; gradients are checked by one
random projection against central differences of that reference (so an error shared by an operation and its
derivative shows).  The last tests fail if an operation, a kernel or a tile operation is reached by no case.
"""
# ruff: noqa: E501 - tables are read by rows

import contextlib
import functools
import math
from dataclasses import dataclass

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
SHAPES = ((1,), (7,), (3, 0, 2), (5, 1, 3), (), (0,), (33, 65))
BIG = (129, 515)


def case(name, reference, *inputs, function=None, arguments=(), text="", **options):
    """Adds a case; `arguments` follow the inputs, in ours and in the reference."""
    function = function or getattr(F, name)
    if arguments:
        function, reference = (lambda *xs, f=f: f(*xs, *arguments) for f in (function, reference))
    CASES.append(Case(name, function, reference, inputs, text or f"{len(CASES)}", **options))


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

# shape
for _shape, _new in (((6,), (2, 3)), ((2, 3), (-1,)), ((), (1, 1)), ((0, 3), (3, 0)), ((4, 5), (2, -1, 5))):
    case("reshape", np.reshape, normal(*_shape), arguments=(_new,), text=f"{_shape}{_new}")
case("flatten", lambda x: x.reshape(2, 12), normal(2, 3, 4), function=lambda x: F.flatten(x, 1), text="1")
case("flatten", lambda x: x.reshape(1), normal(), text="0-d")
case("squeeze", np.squeeze, normal(1, 3, 1), text="all")
case("squeeze", lambda x: x.reshape(1, 3), normal(1, 3, 1), function=lambda x: F.squeeze(x, -1), text="-1")
case("unsqueeze", lambda x: x[:, None], normal(2, 3), function=lambda x: F.unsqueeze(x, 1))
PERMUTATIONS = (
    ((3, 4), (1, 0)), ((2, 3, 5), (2, 0, 1)), ((1, 4, 1, 3), (3, 1, 0, 2)), ((0, 3), (1, 0)), ((3, 0, 2), (2, 1, 0)),
    ((2, 1, 3, 2, 5), (4, 2, 0, 3, 1)),
)  # fmt: skip
for _shape, _dims in PERMUTATIONS:
    case("permute", np.transpose, normal(*_shape), arguments=(_dims,), text=f"{_shape}{_dims}")
case("permute", np.transpose, normal(33, 65, 37), arguments=((2, 0, 1),), text="big", big=True)
case("transpose", np.swapaxes, normal(3, 4, 5), arguments=(0, -1))
case("t", lambda x: x.T, normal(3, 4), text="matrix")
case("t", np.copy, normal(3), text="vector")

# reductions
REDUCTIONS = (
    ((), None), ((1,), None), ((7,), 0), ((4, 5), None), ((4, 5), 0), ((4, 5), -1), ((2, 3, 4), (0, 2)),
    ((2, 3, 4), (1, 2)), ((3, 1, 5), 1), ((2, 1, 3, 1, 2), (0, 2, 4)), ((300, 3), 0), ((3, 4100), 1),
)  # fmt: skip


def numpy_reduction(function):
    return lambda x, dim=None, keepdim=False: function(x, axis=dim, keepdims=keepdim)


for _name, _numpy in (("sum", np.sum), ("mean", np.mean), ("amax", np.max), ("amin", np.min)):
    _reference = numpy_reduction(_numpy)
    for _shape, _dim in REDUCTIONS:
        for _keep in (False, True):
            case(_name, _reference, away(*_shape), arguments=(_dim, _keep), text=f"{_shape}{_dim}{_keep}")
    case(_name, _reference, away(*BIG), text="big", big=True, f32=10)
    case(_name, _reference, away(1025, 67), arguments=(0,), text="big rows", big=True, f32=10)
    case(_name, _reference, away(0, 3), arguments=(1,), text="no rows")
for _dim in (None, 0, 1):
    case("sum", numpy_reduction(np.sum), normal(5, 0), arguments=(_dim,), text=f"empty{_dim}")
for _dim in (None, 0, 1, -1):
    case("argmax", np.argmax, away(4, 5, 3), arguments=(_dim,), text=f"{_dim}", differentiable=False)
case("argmax", np.argmax, away(*BIG), text="big", differentiable=False, big=True)
case("max", np.max, away(4, 5), text="all")
for _dim in (0, 1, -1):
    case("max", np.max, away(4, 5, 3), function=lambda x, d: F.max(x, d)[0], arguments=(_dim,), text=f"{_dim}")
case(
    "max", np.argmax, away(4, 5), function=lambda x, d: F.max(x, d)[1], arguments=(1,), text="at", differentiable=False
)

# softmax, losses
SOFTMAXES = (
    ((7,), 0),
    ((4, 5), 0),
    ((4, 5), 1),
    ((2, 3, 4), 1),
    ((3, 0), 0),
    ((0, 3), 1),
    ((1, 1), -1),
    ((3, 1030), 1),
)
for _name in ("softmax", "log_softmax"):
    for _shape, _dim in SOFTMAXES:
        case(_name, getattr(special, _name), normal(*_shape), arguments=(_dim,), text=f"{_shape}{_dim}")
    case(_name, lambda x, d: np.copy(x), normal(3, 0), arguments=(1,), text="no classes")
case("softmax", lambda x, d: np.ones(()), normal(), arguments=(0,), text="0-d")
case("log_softmax", lambda x, d: np.zeros(()), normal(), arguments=(0,), text="0-d")
case("softmax", special.softmax, normal(*BIG), arguments=(1,), text="big", big=True)
case("log_softmax", special.log_softmax, normal(*BIG), arguments=(0,), text="big", big=True)


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
case(
    "cross_entropy",
    lambda x, y: reference_cross_entropy(x[None], y.reshape(1), "mean"),
    normal(4),
    labels(4),
    text="one row",
)
for _reduction, _reference in (
    ("none", lambda d: d * d),
    ("mean", lambda d: np.mean(d * d)),
    ("sum", lambda d: np.sum(d * d)),
):
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
    "randperm", "zeros", "zeros_like", "dropout", "clip_grad_value_", "clip_grad_norm_",
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


FIRST = {c.name: c for c in reversed(CASES)}  # float64 takes the same path through the compiler: one case each


@pytest.mark.parametrize(
    ("case", "dtype"), [(c, "float32") for c in CASES] + [(c, "float64") for c in FIRST.values()], ids=repr
)
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


# ---- special values, integers, bfloat16 --------------------------------------------------------------

SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 1e-3, -30.0, 30.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", UNARY)
def test_special_values_of_functions(name, dtype):
    x = SPECIAL.astype(dtype)
    with np.errstate(all="ignore"):
        expected = UNARY[name][0](x.astype(np.float64))
    if name in ("gelu", "silu"):
        expected[x == -np.inf] = np.nan  # -inf * 0, as in torch
    if name == "sign":
        expected[np.isnan(x)] = 0  # as in torch
    got = np.asarray(getattr(F, name)(gd.tensor(x)))
    np.testing.assert_allclose(got, expected, rtol=1e-5 if dtype == "float32" else 1e-12, atol=1e-12)
    if name == "relu":
        assert np.isnan(got[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", BINARY)
def test_special_values_of_pairs(name, dtype):
    a, b = (x.astype(dtype) for x in np.meshgrid(SPECIAL, SPECIAL))
    with np.errstate(all="ignore"):
        expected = BINARY[name][0](a, b)
    got = np.asarray(getattr(F, name)(gd.tensor(a), gd.tensor(b)))
    np.testing.assert_allclose(got, expected, rtol=2e-6 if dtype == "float32" else 1e-13, atol=1e-37)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_integer_arithmetic_wraps_around(dtype):
    info = np.iinfo(dtype)
    a = np.array([info.min, info.max, 0, 1, 7, info.max // 2 + 1], dtype)[:, None]
    b = np.array([info.min, info.max, 0, 1, 3], dtype)
    x, y = gd.tensor(a), gd.tensor(b)
    with np.errstate(over="ignore"):
        for name in ("add", "sub", "mul", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge"):
            reference = {"sub": np.subtract, "mul": np.multiply, "eq": np.equal, "ne": np.not_equal, "lt": np.less}
            reference |= {"le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "add": np.add}
            expected = (reference | {"maximum": np.maximum, "minimum": np.minimum})[name](a, b)
            got = np.asarray(getattr(F, name)(x, y))
            assert got.dtype == expected.dtype, name
            np.testing.assert_array_equal(got, expected, err_msg=name)
        np.testing.assert_array_equal(np.asarray(-x), -a)
        np.testing.assert_array_equal(np.asarray(abs(x)), np.abs(a))
    np.testing.assert_array_equal(np.asarray(F.sum(y)), b.astype(np.int64).sum())
    assert F.amax(y).item() == info.max and F.amax(y).dtype == dtype
    assert F.max(y, 0).values.dtype == dtype


@pytest.mark.parametrize("source", ["float32", "float64", "int32", "int64", "uint8", "bool", "bfloat16"])
@pytest.mark.parametrize("target", ["float32", "float64", "int32", "int64", "uint8", "bool", "bfloat16"])
def test_casts(source, target):
    values = np.array([0, 1, 2, 100, 127] * 30)
    x = gd.tensor(values, dtype=source)
    y = F.cast(x, target)
    assert y.dtype == target
    expected = values.astype(bool).astype(float) if "bool" in (source, target) else values
    np.testing.assert_array_equal(np.asarray(y).astype(float), expected)
    np.testing.assert_array_equal(np.asarray(gd.compile(lambda t: F.cast(t, target))(x)), np.asarray(y))


def test_bfloat16_rounds_to_nearest_even():
    x = np.array([1 + 2**-9, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, np.inf, np.nan, 3.4e38], np.float32)
    expected = np.array([1, 1, 1 + 2**-6, -1, np.inf, np.nan, np.inf], np.float32)
    np.testing.assert_array_equal(np.asarray(gd.tensor(x).bfloat16()), expected)


@pytest.mark.parametrize("name", ["add", "neg", "exp", "maximum", "eq", "sum", "matmul", "softmax", "where"])
def test_bfloat16_arithmetic_is_refused_by_name(name):
    x = gd.ones(2, 2, dtype=gd.bfloat16)
    arguments = {"neg": (x,), "exp": (x,), "sum": (x,), "softmax": (x, 0), "where": (gd.tensor([True]), x, x)}
    with pytest.raises(TypeError, match=f"{name}: expected .*, got (fastgd.)?bfloat16"):
        getattr(F, name)(*arguments.get(name, (x, x)))


def test_derivatives_at_kinks_and_ties_are_those_of_torch():
    def grads(f, *values):
        ts = [gd.tensor(v, requires_grad=True) for v in values]
        f(*ts).sum().backward()
        return [t.grad.tolist() for t in ts]

    assert grads(F.abs, [-2.0, 0.0, 2.0]) == [[-1, 0, 1]]
    assert grads(F.relu, [-2.0, 0.0, 2.0]) == [[0, 0, 1]]
    assert grads(F.maximum, [1.0, 2.0, 3.0], [1.0, 3.0, 2.0]) == [[0.5, 0, 1], [0.5, 1, 0]]
    assert grads(F.minimum, [1.0, 2.0, np.nan], [1.0, 3.0, 2.0]) == [[0.5, 1, 1], [0.5, 0, 1]]
    assert grads(F.amax, [1.0, 3.0, 3.0]) == [[0, 0.5, 0.5]]
    assert grads(lambda x: F.max(x, 0)[0], [1.0, 3.0, 3.0]) == [[0, 1, 0]]
    assert grads(lambda x: F.max(x, 0)[0], [1.0, np.inf, 3.0]) == [[0, 1, 0]]
    assert grads(F.pow, [0.0, 0.0, 0.0, 2.0], [0.0, 1.0, 2.0, 0.0]) == [
        [0, 1, 0, 0],
        [0, 0, 0, pytest.approx(np.log(2))],
    ]
    assert grads(lambda x: F.where(gd.tensor([True, False]), x, F.log(x)), [0.0, 1.0]) == [
        [pytest.approx(np.nan, nan_ok=True), 1]
    ]
    assert grads(F.sign, [-2.0, 0.0]) == [[0, 0]]


# ---- functions that are not in the table -------------------------------------------------------------


def test_creation():
    made = {
        "zeros": (gd.zeros(2, 3), np.zeros((2, 3), np.float32)),
        "ones": (gd.ones((2, 0)), np.ones((2, 0), np.float32)),
        "full": (gd.full((2,), 7), np.full(2, 7)),
        "eye": (gd.eye(2, 3), np.eye(2, 3, dtype=np.float32)),
        "arange": (gd.arange(1, 7, 2), np.arange(1, 7, 2)),
        "linspace": (gd.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype=np.float32)),
        "zeros_like": (gd.zeros_like(gd.arange(3)), np.zeros(3, np.int64)),
        "ones_like": (gd.ones_like(gd.ones(3, dtype="float64")), np.ones(3)),
        "full_like": (gd.full_like(gd.ones(2), 0.5), np.full(2, 0.5, np.float32)),
        "arange of floats": (gd.arange(0, 1, 0.25), np.arange(0, 1, 0.25, dtype=np.float32)),
    }
    for name, (ours, expected) in made.items():
        array = np.asarray(ours)
        assert array.dtype == expected.dtype, name
        np.testing.assert_array_equal(array, expected, err_msg=name)
    assert gd.empty(3, 4).shape == gd.empty_like(gd.zeros(3, 4)).shape == (3, 4)
    assert gd.full(np.int64(2), True).dtype == "bool"
    assert gd.zeros(2, requires_grad=True).requires_grad
    compiled = gd.compile(
        lambda x: (gd.zeros(2) + x, gd.full((2,), 3) + x, gd.arange(2) + x, gd.ones_like(x), gd.empty(2) * 0 + x)
    )
    for got, expected in zip(compiled(gd.tensor([1.0, 2.0])), ([1, 2], [4, 5], [1, 3], [1, 1], [1, 2]), strict=True):
        assert got.tolist() == expected


def test_random_creation():
    gd.manual_seed(3)
    first = [gd.rand(1000), gd.randn(1000), gd.randint(2, 9, (1000,)), gd.randperm(50)]
    gd.manual_seed(3)
    again = [gd.rand(1000), gd.randn(1000), gd.randint(2, 9, (1000,)), gd.randperm(50)]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    u, z, i, p = map(np.asarray, first)
    assert u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 0.05
    assert abs(z.mean()) < 0.15 and abs(z.std() - 1) < 0.1
    assert set(i) == set(range(2, 9)) and sorted(p) == list(range(50))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (129, 515)])
def test_dropout(shape, dtype):
    x = gd.tensor(np.asarray(np.random.default_rng(0).normal(size=shape) + 10), dtype=dtype, requires_grad=True)
    compiled = gd.compile(lambda t: F.dropout(t, 0.25))
    results = []
    for function in (lambda t: F.dropout(t, 0.25), compiled, compiled):
        for threads in THREADS:
            gd.set_num_threads(threads)
            gd.manual_seed(5)
            x.grad = None
            y = function(x)
            y.backward(gd.ones_like(y))
            results.append([np.array(y.detach()), np.array(x.grad)])
    for other in results:
        assert_same_bits(results[0], other, "dropout")
    y, g = results[0]
    kept = y != 0
    np.testing.assert_allclose(y, np.where(kept, np.asarray(x) / 0.75, 0), rtol=1e-6)
    np.testing.assert_allclose(g, np.where(kept, 1 / 0.75, 0), rtol=1e-6)  # backward made the same mask
    if y.size > 1000:
        assert abs(kept.mean() - 0.75) < 0.01
        gd.manual_seed(6)
        assert (np.asarray(F.dropout(x, 0.25).detach()) != y).any()
    assert F.dropout(x, 0.25, training=False) is x and F.dropout(x, 0.0) is x
    assert not np.asarray(F.dropout(x, 1.0).detach()).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clip_grad_norm(dtype):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s).astype(dtype) for s in ((3, 5), (700, 65), (1,))]
    norm = math.sqrt(sum(float(np.sum(a.astype(np.float64) ** 2)) for a in arrays))

    def clipped(max_norm):
        parameters = [gd.zeros_like(gd.tensor(a), requires_grad=True) for a in arrays]
        for p, a in zip(parameters, arrays, strict=True):
            p.grad = gd.tensor(a)
        return F.clip_grad_norm_(parameters, max_norm).item(), [np.array(p.grad) for p in parameters]

    total, grads = clipped(1.0)
    assert total == pytest.approx(norm, rel=1e-5)
    for g, a in zip(grads, arrays, strict=True):
        np.testing.assert_allclose(g, a / (norm + 1e-6), rtol=1e-5)
    assert_same_bits(clipped(2 * norm)[1], arrays, "no clipping below max_norm")


@pytest.mark.parametrize("compiled", [False, True])
def test_clip_grad_value(compiled):
    p = gd.zeros(4, requires_grad=True)
    p.grad = gd.tensor([-3.0, 0.5, 3.0, np.nan])
    clip = (lambda: F.clip_grad_value_(p, 1.0)) if not compiled else gd.compile(lambda: F.clip_grad_value_(p, 1.0))
    clip()
    np.testing.assert_array_equal(np.asarray(p.grad), np.array([-1, 0.5, 1, np.nan], np.float32))
    with pytest.raises(ValueError, match="expected clip_value >= 0, got -1"):
        F.clip_grad_value_(p, -1)


def _step(optimizer, dtype, compiled):
    """Three clipped steps; returns losses and parameters."""
    rng = np.random.default_rng(0)
    x, y = gd.tensor(rng.normal(size=(9, 5)).astype(dtype)), gd.tensor(rng.normal(size=(9, 2)).astype(dtype))
    w = gd.tensor(rng.normal(size=(2, 5)).astype(dtype), requires_grad=True)
    o = optimizer([w])

    def step():
        o.zero_grad()
        loss = F.mse_loss(F.linear(x, w), y)
        loss.backward()
        F.clip_grad_norm_([w], 0.5)
        o.step()
        return loss.detach()

    step = gd.compile(step) if compiled else step
    return [np.array(step()) for _ in range(3)] + [np.array(w.detach())]


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, lr=0.1),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_whole_step_has_the_same_bits_compiled(name, dtype):
    assert_same_bits(_step(OPTIMIZERS[name], dtype, False), _step(OPTIMIZERS[name], dtype, True), name)


# ---- the inner operations of the elementwise kernel --------------------------------------------------

TILE_OPS = {
    "copy": np.copy, "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
    "abs": np.abs, "sign": np.sign, "maximum": np.maximum, "minimum": np.minimum, "pow": np.power, "square": np.square,
    "sqrt": np.sqrt, "rsqrt": lambda a: 1 / np.sqrt(a), "reciprocal": np.reciprocal, "exp": np.exp, "log": np.log,
    "expm1": np.expm1, "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "sigmoid": special.expit,
    "erf": special.erf, "relu": lambda a: np.maximum(a, 0), "gelu": gelu, "gelu_tanh": gelu_tanh,
    "silu": lambda a: a * special.expit(a), "floor": np.floor, "round": np.round,
    "relu_bwd": lambda a, b: np.where(b <= 0, 0, a), "sigmoid_bwd": lambda a, b: a * b * (1 - b),
    "tanh_bwd": lambda a, b: a * (1 - b * b), "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal, "isnan": np.isnan, "isfinite": np.isfinite,
    "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_not": np.logical_not, "where": np.where,
    "gelu_bwd": lambda a, b: a * (special.ndtr(b) + b * np.exp(-b * b / 2) / np.sqrt(2 * np.pi)),
    "silu_bwd": lambda a, b: a * special.expit(b) * (1 + b * (1 - special.expit(b))),
    "gelu_tanh_bwd": lambda a, b: a * (gelu_tanh(b + 1e-6) - gelu_tanh(b - 1e-6)) / 2e-6,
    "cast": np.copy, "const": lambda: 3,
}  # fmt: skip
TILE_OPS_APART = {"dropout"}  # test_dropout


def _tile_cases():
    names = {d.code: d.name for d in _core.dtypes if d is not _core.bfloat16}
    for opcode, (name, n_inputs, mask, _) in enumerate(_core.tile_ops()):
        for code, dtype in names.items():
            if mask >> code & 1 and name not in TILE_OPS_APART:
                yield pytest.param(opcode, name, n_inputs, code, dtype, id=f"{name}-{dtype}")


@pytest.mark.parametrize(("opcode", "name", "n_inputs", "code", "dtype"), list(_tile_cases()))
def test_tile_operation(opcode, name, n_inputs, code, dtype):
    rng = np.random.default_rng(opcode)
    n = 1037  # two tiles and a rest that is no multiple of a vector
    draw = {"f": lambda: rng.uniform(0.1, 3, n), "b": lambda: rng.random(n) < 0.5}
    inputs = [draw.get(np.dtype(dtype).kind, lambda: rng.integers(0, 11, n))().astype(dtype) for _ in range(n_inputs)]
    if name == "where":
        inputs[0] = rng.random(n) < 0.5
    exact = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in inputs]
    expected = np.broadcast_to(TILE_OPS[name](*exact), (n,))
    if name == "const":
        expected = expected.astype(dtype)
    result = 6 if expected.dtype == bool else code
    out = np.empty(n, "bool" if result == 6 else dtype)
    imm0 = np.float64(3).view(np.int64) if np.dtype(dtype).kind == "f" else 3
    words = [w for a in inputs for w in (6 if a.dtype == bool else code, 1, 0, 0, 0, 0, 0)]
    registers = [*range(n_inputs), *[-1] * (3 - n_inputs)]
    words += [result, n_inputs, opcode, code, n_inputs, *registers, int(imm0), code]
    fields = {"ndim": 1, "shape": [n], "n_outputs": 1, "n_inputs": n_inputs, "n_ops": 1, "n_registers": n_inputs + 1}
    _core.run_kernel("elementwise", [out, *inputs], words, **fields)
    tolerance = {"float32": 2e-6, "float64": 1e-13 if name != "gelu_tanh_bwd" else 1e-8}.get(dtype, 0)
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)


# ---- random programs ---------------------------------------------------------------------------------

UNARY_STEPS = (
    F.tanh, F.sigmoid, F.relu, F.gelu, F.silu, F.neg, F.abs, F.clone, lambda a: F.exp(F.tanh(a)), lambda a: a * 0.5 + 1,
    lambda a: F.softmax(a, -1), lambda a: F.log_softmax(a, 0) * 0.1, lambda a: F.reshape(a, (-1,)),
    lambda a: F.reshape(F.reshape(a, (-1,)), a.shape), lambda a: F.permute(a, tuple(range(a.ndim))[::-1]),
    lambda a: F.sum(a, 0, True), lambda a: F.mean(a, -1, True), lambda a: F.amax(a, 0), lambda a: F.sum(a),
    lambda a: F.unsqueeze(a, 0) if a.ndim < 4 else a, F.squeeze, lambda a: F.where(a > 0, a, 0.25),
    lambda a: F.cast(F.cast(a, "float64") * 3, "float32"), F.square, lambda a: F.max(a, 0)[0],
)  # fmt: skip
BINARY_STEPS = (
    F.add,
    F.sub,
    F.mul,
    F.maximum,
    F.minimum,
    lambda a, b: F.where(a > b, a, b),
    lambda a, b: a / (1 + F.abs(b)),
)


def _compatible(a, b):
    return (
        all(m == n or 1 in (m, n) for m, n in zip(a.shape[::-1], b.shape[::-1], strict=False))
        and max(a.ndim, b.ndim) <= 4
    )


def _interpret(code, xs):
    """Runs a list of (kind, choice, i, j) on a growing pool of tensors; sizes and magnitudes stay bounded."""
    pool = list(xs)
    for kind, choice, i, j in code:
        a, b = pool[-1 - i % len(pool)], pool[-1 - j % len(pool)]
        if kind == 0:
            new = UNARY_STEPS[choice % len(UNARY_STEPS)](a)
        elif kind == 1 and _compatible(a, b):
            new = BINARY_STEPS[choice % len(BINARY_STEPS)](a, b)
        elif a.ndim == 2 and b.ndim == 2 and a.shape[1] == b.shape[0]:
            new = F.matmul(a, b)
        elif a.ndim and b.ndim == 2 and a.shape[-1] == b.shape[1]:
            new = F.linear(a, b)
        elif a.ndim == b.ndim == 2 and a.shape[0] == b.shape[0]:
            new = F.matmul(F.t(a), b)
        else:
            new = F.tanh(a)
        if new.numel() <= 5000:
            pool.append(F.tanh(new) if len(pool) % 5 == 4 else new)
    return pool[-1], pool[-(1 + len(pool) // 2)], sum((F.mean(t) for t in pool[-3:]), gd.zeros(()))


STEP = st.tuples(st.integers(0, 2), st.integers(0, 200), st.integers(0, 5), st.integers(0, 5))


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, min_size=2, max_size=14), st.sampled_from([(5, 7), (1, 4), (3, 3), (20, 33)]), st.integers(0, 3))
def test_random_programs_have_the_same_bits_compiled(code, shape, seed):
    rng = np.random.default_rng(seed)
    m, n = shape
    arrays = [rng.normal(size=s).astype(np.float32) for s in ((m, n), (n,), (m, 1), (n, m), (n, n))]

    def forward(*xs):
        first, second, loss = _interpret(code, xs)
        return first.detach(), second.detach(), loss

    def results(function):
        tensors = leaves(arrays)
        *values, loss = function(*tensors)
        if loss.requires_grad:
            loss.backward()
        return [np.array(v.detach()) for v in (*values, loss)] + [
            np.array(t.grad) for t in tensors if t.grad is not None
        ]

    expected = results(forward)
    compiled = gd.compile(forward)
    assert_same_bits(expected, results(compiled), "forward compiled")
    assert_same_bits(expected, results(compiled), "replay")
    tensors = leaves(arrays)

    @gd.compile
    def step():
        *values, loss = forward(*tensors)
        if loss.requires_grad:
            loss.backward()
        return tuple(v.detach() for v in (*values, loss))

    got = [np.array(v.detach()) for v in step()] + [np.array(t.grad) for t in tensors if t.grad is not None]
    assert_same_bits(expected, got, "step compiled")


def test_memory_is_not_reused_while_it_is_read():
    """Each of these once overwrote an operand that was still to be read: through a reshape, or by the product."""

    def reshaped_sum(x, w):
        a = F.softmax(x, 0)
        again = a.reshape(-1).reshape(a.shape)
        c = F.exp(a)
        return F.sum(c) + F.sum(F.softmax(F.tanh(c) * again, 1) * w)

    def two_results_of_an_epilogue(x, w):
        s = F.softmax(x, 0)
        y = w @ s + s
        return F.softmax(y, 1) + F.softmax(F.tanh(y), 1)

    def group_of_its_own_reshape(x, w):
        a = x + 1
        return a.reshape(-1).reshape(a.shape) * w + a

    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(130, 130)).astype(np.float32) for _ in range(2)]
    for function in (reshaped_sum, two_results_of_an_epilogue, group_of_its_own_reshape):
        tensors = [gd.tensor(a) for a in arrays]
        expected, got = (np.array(f(*tensors)) for f in (function, gd.compile(function)))
        assert_same_bits([expected], [got], function.__name__)


# ---- nothing without a case --------------------------------------------------------------------------


@contextlib.contextmanager
def _watched(monkeypatch):
    """Notes which operations, kernels and tile operations are compiled."""
    seen = {"ops": set(), "kernels": set(), "tiles": set()}
    for op in OPS.values():

        def infer(avals, attrs, op=op, original=op.infer):
            seen["ops"].add(op.name)
            return original(avals, attrs)

        monkeypatch.setattr(op, "infer", infer)
        op.plans.clear()
    pack, opcode = _core.pack_args, lowering._opcode

    def watch(kind, original):
        def watched(name, *args, **kwargs):
            seen[kind].add(name)
            return original(name, *args, **kwargs)

        return watched

    monkeypatch.setattr(_core, "pack_args", watch("kernels", pack))
    monkeypatch.setattr(lowering, "_opcode", watch("tiles", opcode))
    optim_plans = __import__("fastgd.ops.optim", fromlist=["_plans"])._plans
    optim_plans.clear()
    yield seen


def test_every_operation_and_kernel_is_reached_by_a_case(monkeypatch):
    with _watched(monkeypatch) as seen:
        for c in CASES:
            if not c.big:
                for dtype in ("float32", "float64"):
                    run(c, c.arrays(dtype))
        for dtype in ("float32", "float64"):
            test_clip_grad_norm(dtype)
            test_dropout((7,), dtype)
            for name in OPTIMIZERS:
                _step(OPTIMIZERS[name], dtype, False)
                _step(OPTIMIZERS[name], dtype, True)
        test_integer_arithmetic_wraps_around("int32")
        F.argmax(gd.arange(3))
    assert seen["ops"] == set(OPS)
    assert seen["kernels"] == set(_core.kernels())
    direct = set(TILE_OPS) | TILE_OPS_APART
    assert direct == {row[0] for row in _core.tile_ops()}
    assert seen["tiles"] <= direct


def test_every_public_function_has_a_case():
    assert {c.name for c in CASES} | WITHOUT_A_CASE == set(F.__all__)
    for c in CASES:
        assert hasattr(F, c.name)
