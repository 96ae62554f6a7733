"""Every operation: value, gradient, eager against compiled, thread counts; and random programs made of them.

One table of cases (tests/cases).  Each has a NumPy or SciPy reference that runs in float64; gradients are checked by one
random projection against central differences of that reference (so an error shared by an operation and its
derivative shows).  The last tests fail if an operation, a kernel or a tile operation is reached by no case.
"""
# ruff: noqa: E501 - tables are read by rows

import contextlib
import math

import numpy as np
import pytest
from cases import APART, CASES, REFUSALS
from cases.activation import ACTIVATIONS
from cases.elementwise import BINARY, DIVISIONS, UNARY
from hypothesis import given, settings
from hypothesis import strategies as st

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


# ---- how cases are run -------------------------------------------------------------------------------


def leaves(arrays):
    return [gd.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]


def assert_close(ours, reference, dtype, factor=1.0):
    ours, reference = np.asarray(ours), np.asarray(reference)
    assert ours.shape == reference.shape
    scale = 1 + np.max(np.abs(reference), initial=0)
    np.testing.assert_allclose(ours, reference, rtol=0, atol=TOLERANCE[dtype] * factor * scale)


def projection(shape, dtype, seed=0):
    return np.asarray(np.random.default_rng(1 + seed).normal(size=shape)).astype(dtype)


def run(case, arrays, function=None):
    """[value, gradients of the projected value ...] as arrays."""
    tensors = leaves(arrays)
    outputs = as_tuple((function or case.function)(*tensors))
    values = [np.array(y.detach()) for y in outputs]
    if case.differentiable:
        backward(outputs)
        values += [np.array(t.grad) for t in tensors if t.requires_grad]
    return values


def as_tuple(results):
    return tuple(results) if isinstance(results, (tuple, list)) else (results,)


def projections(arrays):
    """What each floating-point result is multiplied with, before all are summed; None for the others."""
    return [projection(a.shape, a.dtype.name, i) if a.dtype.kind == "f" else None for i, a in enumerate(arrays)]


def backward(outputs):
    """The gradient of the projected results."""
    seeds = projections([np.asarray(y.detach()) for y in outputs])
    terms = [(y * gd.tensor(r)).sum() for y, r in zip(outputs, seeds, strict=True) if r is not None and y.requires_grad]
    sum(terms[1:], terms[0]).backward()


def assert_same_bits(a, b, what):
    assert len(a) == len(b)
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        assert x.dtype == y.dtype and x.shape == y.shape
        assert x.tobytes() == y.tobytes(), f"{what}: result {i} differs by {np.nanmax(np.abs(x - y))}"


every_case = pytest.mark.parametrize("case", CASES, ids=repr)


@every_case
def test_value(case):
    arrays = case.arrays()
    for dtype in ("float64", "float32"):
        results = as_tuple(case.function(*leaves(case.arrays(dtype))))
        exact, rounded = as_tuple(case.reference(*arrays)), as_tuple(case.reference(*case.arrays(dtype)))
        for got, expected, same in zip(results, exact, rounded, strict=True):
            if np.asarray(expected).dtype.kind == "f":
                assert got.dtype == dtype or case.text == "truncates"
                assert_close(got.detach(), expected, dtype, case.f32 if dtype == "float32" else 1)
            else:
                np.testing.assert_array_equal(np.asarray(got), same)


@pytest.mark.parametrize("case", [c for c in CASES if c.differentiable], ids=repr)
def test_gradient(case):
    arrays = case.arrays()
    floats = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    results = run(case, arrays)
    values, grads = results[: -len(floats)], results[-len(floats) :]
    rng = np.random.default_rng(2)
    seeds = projections(values)
    for i, g in zip(floats, grads, strict=True):
        assert g.shape == arrays[i].shape and g.dtype == np.float64
        v = rng.normal(size=arrays[i].shape)
        step = 1e-6

        def at(h, i=i, v=v):
            moved = [*arrays[:i], arrays[i] + h * v, *arrays[i + 1 :]]
            ys = as_tuple(case.reference(*moved))
            return sum(np.sum(np.asarray(y) * r) for y, r in zip(ys, seeds, strict=True) if r is not None)

        numeric = (at(step) - at(-step)) / (2 * step)
        terms = np.sum(np.abs(g * v)) + 1
        size = sum(np.sum(np.abs(y * r)) for y, r in zip(values, seeds, strict=True) if r is not None)
        assert abs(numeric - np.sum(g * v)) <= 1e-7 * terms + 1e-8 * size
    in_float32 = run(case, case.arrays("float32"))
    for a, b in zip(in_float32, results, strict=True):
        if b.dtype.kind == "f":
            assert a.dtype == np.float32
            assert_close(a, b, "float32", 10 * case.f32)


FIRST = {c.name: c for c in reversed(CASES)}  # float64 takes the same path through the compiler: one case each


@pytest.mark.parametrize(
    ("case", "dtype"),
    [(c, "float32") for c in CASES if not c.eager_only] + [(c, "float64") for c in FIRST.values() if not c.eager_only],
    ids=repr,
)
def test_compiled_has_the_same_bits(case, dtype):
    arrays = case.arrays(dtype)
    eager = run(case, arrays)
    compiled = gd.compile(case.function)
    assert_same_bits(eager, run(case, arrays, compiled), "first call")
    assert_same_bits(eager, run(case, arrays, compiled), "replay")
    if case.differentiable:
        tensors = leaves(arrays)

        @gd.compile
        def step():
            outputs = as_tuple(case.function(*tensors))
            seeds = projections(eager[: len(outputs)])
            terms = [
                (y * gd.tensor(r)).sum()
                for y, r in zip(outputs, seeds, strict=True)
                if r is not None and y.requires_grad
            ]
            sum(terms[1:], terms[0]).backward()
            return tuple(y.detach() for y in outputs)

        whole = [*map(np.array, step()), *[np.array(t.grad) for t in tensors if t.requires_grad]]
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
@pytest.mark.parametrize("name", UNARY | ACTIVATIONS)
def test_special_values_of_functions(name, dtype):
    x = SPECIAL.astype(dtype)
    with np.errstate(all="ignore"):
        expected = (UNARY | ACTIVATIONS)[name][0](x.astype(np.float64))
    if name in ("gelu", "silu", "mish"):
        expected[x == -np.inf] = np.nan  # -inf * 0, as in torch
    if name == "sign":
        expected[np.isnan(x)] = 0  # as in torch
    got = np.asarray(getattr(F, name)(gd.tensor(x)))
    atol = 1e-10 if name == "tanhshrink" else 1e-12  # x - tanh(x) as it stands
    np.testing.assert_allclose(got, expected, rtol=1e-5 if dtype == "float32" else 1e-12, atol=atol)
    if name == "relu":
        assert np.isnan(got[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", BINARY | DIVISIONS)
def test_special_values_of_pairs(name, dtype):
    a, b = (x.astype(dtype) for x in np.meshgrid(SPECIAL, SPECIAL))
    with np.errstate(all="ignore"):
        expected = DIVISIONS[name](a, b) if name in DIVISIONS else BINARY[name][0](a, b)
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
    "nadam": lambda p: optim.NAdam(p, lr=0.1),
    "radam": lambda p: optim.RAdam(p, lr=0.1),
    "adamax": lambda p: optim.Adamax(p, lr=0.1),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.1),
    "adadelta": lambda p: optim.Adadelta(p, lr=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.1, momentum=0.9, centered=True),
    "rprop": lambda p: optim.Rprop(p, lr=0.1),
    "asgd": lambda p: optim.ASGD(p, lr=0.1, t0=1),
    "lion": lambda p: optim.Lion(p, lr=0.1),
    "adabelief": lambda p: optim.AdaBelief(p, lr=0.1),
    "adan": lambda p: optim.Adan(p, lr=0.1, weight_decay=0.1),
    "ademamix": lambda p: optim.AdEMAMix(p, lr=0.1),
    "adopt": lambda p: optim.ADOPT(p, lr=0.1),
    "sophia": lambda p: optim.Sophia(p, lr=0.1),
    "schedule free": lambda p: optim.ScheduleFreeAdamW(p, lr=0.1),
    "lamb": lambda p: optim.LAMB(p, lr=0.1, weight_decay=0.1),
    "lars": lambda p: optim.LARS(p, lr=1.0, weight_decay=0.1),
    "novograd": lambda p: optim.NovoGrad(p, lr=0.1),
    "prodigy": lambda p: optim.Prodigy(p, d0=0.1),
    "dadapt": lambda p: optim.DAdaptAdamW(p, d0=0.1),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_whole_step_has_the_same_bits_compiled(name, dtype):
    assert_same_bits(_step(OPTIMIZERS[name], dtype, False), _step(OPTIMIZERS[name], dtype, True), name)


# ---- random programs ---------------------------------------------------------------------------------



def np_index(a):
    return gd.tensor(np.arange(6).reshape(2, 3) % a.numel())


UNARY_STEPS = (
    F.tanh, F.sigmoid, F.relu, F.gelu, F.silu, F.neg, F.abs, F.clone, lambda a: F.exp(F.tanh(a)), lambda a: a * 0.5 + 1,
    lambda a: F.softmax(a, -1), lambda a: F.log_softmax(a, 0) * 0.1, lambda a: F.reshape(a, (-1,)),
    lambda a: F.reshape(F.reshape(a, (-1,)), a.shape), lambda a: F.permute(a, tuple(range(a.ndim))[::-1]),
    lambda a: F.sum(a, 0, True), lambda a: F.mean(a, -1, True), lambda a: F.amax(a, 0), lambda a: F.sum(a),
    lambda a: F.unsqueeze(a, 0) if a.ndim < 4 else a, F.squeeze, lambda a: F.where(a > 0, a, 0.25),
    lambda a: F.cast(F.cast(a, "float64") * 3, "float32"), F.square, lambda a: F.max(a, 0)[0],
    lambda a: a[..., 1:] if a.ndim and a.shape[-1] > 1 else a, lambda a: a[::2] if a.ndim else a, lambda a: F.flip(a, (0,)) if a.ndim else a,
    lambda a: F.cat([a, a * 2], -1) if a.ndim else a, lambda a: F.stack([a, F.flip(a, (-1,))], 0) if 0 < a.ndim < 4 else a,
    lambda a: F.pad(a, (1, 2), "replicate") if a.ndim else a, lambda a: F.pad(a, (2, -1)) if a.ndim and a.shape[-1] else a,
    lambda a: F.roll(a, 1, -1) if a.ndim else a, lambda a: F.chunk(a, 2, -1)[-1] if a.ndim else a, lambda a: a[0] if a.ndim else a,
    lambda a: F.tril(a) if a.ndim > 1 else a, lambda a: F.diagonal(a, 0, -2, -1) if a.ndim > 1 else a,
    lambda a: a.repeat(*(2,) * a.ndim), lambda a: F.transpose(a[..., :3], 0, -1) if a.ndim else a,
    lambda a: F.broadcast_to(F.unsqueeze(a, -1), (*a.shape, 3)) if a.ndim < 4 else a,
    lambda a: F.reshape(F.transpose(a, 0, -1), (-1, a.shape[0])) if a.ndim > 1 else a,
    lambda a: a[np.arange(a.shape[0] + 1) % 2 % a.shape[0]] if a.ndim else a, lambda a: F.take(a, np_index(a)), lambda a: F.masked_fill(a, a > 1, 0.5),
    lambda a: F.gather(a, -1, F.argmax(a, -1, True)) if a.ndim else a, lambda a: F.scatter_add(a, -1, F.argmax(a, -1, True), a * 2) if a.ndim else a,
    lambda a: a[..., gd.tensor([0, -1, 0])] if a.ndim else a,
)  # fmt: skip
BINARY_STEPS = (
    F.add,
    F.sub,
    F.mul,
    F.maximum,
    F.minimum,
    lambda a, b: F.where(a > b, a, b),
    lambda a, b: a / (1 + F.abs(b)),
    lambda a, b: F.cat(list(F.broadcast_tensors(a, b)), -1) if a.ndim + b.ndim else a,
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
    assert seen["tiles"] == {row[0] for row in _core.tile_ops()}  # each alone: tests/test_elementwise.py


@pytest.mark.parametrize("refusal", REFUSALS, ids=repr)
def test_refusals_say_exactly_why(refusal):
    with pytest.raises(refusal.error) as caught:
        refusal.call()
    assert str(caught.value) == refusal.message


def test_every_public_function_has_a_case():
    assert {c.name for c in CASES} | APART == set(F.__all__)
    for c in CASES:
        assert hasattr(F, c.name)
