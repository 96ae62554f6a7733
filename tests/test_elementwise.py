"""The elementwise kernel: every operation of elementwise.def in every dtype that it claims, and
programs of several operations over broadcast, strided and aliased operands.

Everything is driven by the table: an operation without a reference here fails.  The references are
NumPy in the operation's own dtype where the result is exact or correctly rounded, and in extended
precision with a bound where it is not.  The accuracy of exp, log ... is the subject of
test_simd.py.
"""

import itertools
import math

import numpy as np
import pytest
from tile_program import DTYPES, OPS, apply, double_bits, op, run

from fastgd import _core

NUMPY_DTYPES = [name for name in DTYPES if name != "bfloat16"]
SIZES = [0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 511, 512, 513, 1023, 1024, 1025, 5000]
wide = np.longdouble
erf = np.vectorize(math.erf, otypes=[wide])


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def threads():
    """Sets the number of threads for one test."""
    before = _core.get_num_threads()
    yield _core.set_num_threads
    _core.set_num_threads(before)


# ---- references --------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normal_cdf(x):
    return (1 + erf(x / np.sqrt(wide(2)))) / 2


def normal_pdf(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * wide(np.pi))


def gelu_tanh_slope(x):
    root, cubic = np.sqrt(2 / wide(np.pi)), wide(0.044715)
    t = np.tanh(root * (x + cubic * x**3))
    return (1 + t) / 2 + x * (1 - t * t) / 2 * root * (1 + 3 * cubic * x * x)


def sign(a):
    return (a > 0).astype(a.dtype) - (a < 0).astype(a.dtype)


def clip(a, low, high):
    return np.minimum(np.maximum(a, low), high)


def softplus(z):
    return np.logaddexp(z, wide(0))


def mish_slope(x):
    t = np.tanh(softplus(x))
    return t + x * (1 - t * t) * sigmoid(x)


SELU_ALPHA, SELU_SCALE = wide("1.6732632423543772848"), wide("1.0507009873554804934")


# in the operation's own dtype: the bits must agree
EXACT = {
    "copy": lambda a: a,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "abs": np.abs,
    "sign": sign,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "div_floor": np.floor_divide,
    "div_trunc": lambda a, b: np.trunc(a / b),
    "remainder": np.remainder,
    "fmod": np.fmod,
    "clamp": clip,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "bitwise_not": np.invert,
    "square": lambda a: a * a,
    "sqrt": np.sqrt,
    "reciprocal": lambda a: 1 / a,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "relu": lambda a: np.where(a < 0, a.dtype.type(0), a),
    "floor": np.floor,
    "round": np.rint,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "leaky_relu": lambda a: np.where(a > 0, a, a * a.dtype.type(0.25)),
    "softsign": lambda a: a / (1 + np.abs(a)),
    "hardtanh": lambda a: clip(a, a.dtype.type(-0.5), a.dtype.type(2)),
    "hardsigmoid": lambda a: clip(a + 3, a.dtype.type(0), a.dtype.type(6)) / 6,
    "hardswish": lambda a: a * clip(a + 3, a.dtype.type(0), a.dtype.type(6)) / 6,
    "hardshrink": lambda a: np.where(np.abs(a) <= 0.5, a.dtype.type(0), a),
    "softshrink": lambda a: np.where(np.abs(a) <= 0.5, a.dtype.type(0), a - np.copysign(a.dtype.type(0.5), a)),
    "threshold": lambda a: np.where(a <= 0.5, a.dtype.type(-2.5), a),
    "leaky_relu_bwd": lambda dy, x: np.where(x > 0, dy, dy * dy.dtype.type(0.25)),
    "softsign_bwd": lambda dy, x: dy / ((1 + np.abs(x)) * (1 + np.abs(x))),
    "hardtanh_bwd": lambda dy, x: np.where((x <= -0.5) | (x >= 2), dy.dtype.type(0), dy),
    "hardsigmoid_bwd": lambda dy, x: np.where(np.abs(x) < 3, dy / 6, dy.dtype.type(0)),
    "hardswish_bwd": lambda dy, x: np.where(
        x <= -3, dy.dtype.type(0), np.where(x < 3, dy * (x / 3 + dy.dtype.type(0.5)), dy)
    ),
    "shrink_bwd": lambda dy, x: np.where(np.abs(x) <= 0.5, dy.dtype.type(0), dy),
    "threshold_bwd": lambda dy, x: np.where(x <= 0.5, dy.dtype.type(0), dy),
    "relu_bwd": lambda dy, y: np.where(y <= 0, dy.dtype.type(0), dy),
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "isnan": np.isnan,
    "isfinite": np.isfinite,
    "isinf": np.isinf,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_not": np.logical_not,
    "where": np.where,
}



def integer_power(a, b):
    """With Python's integers; a negative power keeps the integer part of the true one."""
    return int(a) ** int(b) if b >= 0 else {1: 1, -1: 1 if b % 2 == 0 else -1}.get(int(a), 0)


def power_of_integers(a, b):
    b = np.clip(b, -100, 100)  # see `arguments`
    bits = 8 * a.itemsize
    powers = [integer_power(x, y) for x, y in zip(a, b, strict=True)]
    low = -(2 ** (bits - 1)) if a.dtype.kind == "i" else 0
    wrapped = [(x - low) % 2**bits + low for x in powers]
    return np.array(wrapped, object).astype(a.dtype)


def quotient_of_integers(a, b):
    """Towards 0: the floor of the sizes with the sign of the quotient."""
    floor = np.floor_divide(a, b)
    rest = (a - floor * b).astype(a.dtype)
    return (floor + ((rest != 0) & (floor < 0)) * (b != 0)).astype(a.dtype)


# where integers need another formula
OF_INTEGERS = {"pow": power_of_integers, "div_trunc": quotient_of_integers}

# in extended precision: error <= bound * eps * (|result| + scale(arguments)); the scale is there
# where the formula cancels (1 + erf of a negative number, say)
BOUNDED = {
    "pow": (lambda a, b: np.power(a, b), 2, None),
    "exp": (np.exp, 2, None),
    "log": (np.log, 2, None),
    "expm1": (np.expm1, 2, None),
    "log1p": (np.log1p, 2, None),
    "exp2": (np.exp2, 2, None),
    "log2": (np.log2, 2, None),
    "log10": (np.log10, 2, None),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(2 * x) / 2), 2, None),
    "selu": (lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(x)), 3, None),
    "mish": (lambda x: x * np.tanh(softplus(x)), 4, None),
    "softplus": (lambda x: np.where(2 * x > 3, x, softplus(2 * x) / 2), 3, None),
    "logsigmoid": (lambda x: -softplus(-x), 3, None),
    "elu_bwd": (lambda dy, x: dy * np.where(x > 0, 1, np.exp(2 * x)), 3, None),
    "selu_bwd": (lambda dy, x: dy * SELU_SCALE * np.where(x > 0, 1, SELU_ALPHA * np.exp(x)), 3, None),
    "mish_bwd": (lambda dy, x: dy * mish_slope(x), 6, lambda dy, x: np.abs(dy * sigmoid(x)) * (1 + np.abs(x))),
    "softplus_bwd": (lambda dy, x: dy * np.where(2 * x > 3, 1, sigmoid(2 * x)), 3, None),
    "logsigmoid_bwd": (lambda dy, x: dy * sigmoid(-x), 3, None),
    "sin": (np.sin, 2, None),
    "cos": (np.cos, 2, None),
    "tanh": (np.tanh, 2, None),
    "sigmoid": (sigmoid, 2, None),
    "erf": (erf, 2, None),
    "gelu": (lambda x: x * normal_cdf(x), 3, lambda x: np.abs(x) / 4),
    "gelu_tanh": (
        lambda x: x * (1 + np.tanh(np.sqrt(2 / wide(np.pi)) * (x + wide(0.044715) * x**3))) / 2,
        3,
        lambda x: np.abs(x),
    ),
    "silu": (lambda x: x * sigmoid(x), 3, None),
    "sigmoid_bwd": (lambda dy, y: dy * y * (1 - y), 3, None),
    "tanh_bwd": (lambda dy, y: dy * (1 - y * y), 2, lambda dy, y: np.abs(dy) * y * y),
    "gelu_bwd": (lambda dy, x: dy * (normal_cdf(x) + x * normal_pdf(x)), 4, lambda dy, x: np.abs(dy)),
    "gelu_tanh_bwd": (lambda dy, x: dy * gelu_tanh_slope(x), 8, lambda dy, x: np.abs(dy) * (1 + np.abs(x))),
    "silu_bwd": (
        lambda dy, x: dy * sigmoid(x) * (1 + x * (1 - sigmoid(x))),
        4,
        lambda dy, x: np.abs(dy * sigmoid(x) * x),
    ),
}

# tested by name below, or in test_simd.py
ELSEWHERE = {"cast", "const", "dropout"}

CASES = [
    (name, dtype)
    for name, (_, _, mask) in OPS.items()
    for dtype in NUMPY_DTYPES
    if mask >> DTYPES[dtype] & 1 and name not in ELSEWHERE
]


def test_every_operation_has_a_reference():
    references = [set(EXACT), set(BOUNDED), ELSEWHERE]
    assert set.union(*references) == set(OPS)
    assert sum(map(len, references)) == len(OPS)


def test_only_copy_and_cast_know_bfloat16():
    assert {name for name, (_, _, mask) in OPS.items() if mask >> DTYPES["bfloat16"] & 1} == {"copy", "cast"}


def values(dtype, n, rng, special=True):
    """Numbers of every kind that the dtype has, in random order."""
    if dtype == "bool":
        return rng.integers(0, 2, n).astype(bool)
    if dtype == "uint8":
        return rng.integers(0, 256, n).astype(np.uint8)
    info = np.iinfo(dtype) if dtype.startswith("int") else np.finfo(dtype)
    if dtype.startswith("int"):
        x = rng.integers(-100, 100, n, dtype=dtype)
        odd = [info.min, info.max, info.min + 1, 0, -1]
    else:
        x = (rng.normal(size=n) * rng.choice([0.1, 1, 4], n)).astype(dtype)
        odd = [np.nan, np.inf, -np.inf, 0.0, -0.0, info.max, -info.max, 1e-30, 0.5, -2.5]
    if special and n:
        at = rng.integers(0, n, n // 4)
        x[at] = rng.choice(np.array(odd, dtype), at.size)
    return x


def arguments(name, dtype, n, seed=0, special=True):
    rng = np.random.default_rng([seed, n, *name.encode()])
    arrays = [values(dtype, n, rng, special) for _ in range(OPS[name][1])]
    if name == "where":
        arrays[0] = rng.integers(0, 2, n).astype(bool)
    if name == "pow" and dtype.startswith(("int", "uint")):
        arrays[1] = np.clip(arrays[1], -100 if dtype.startswith("int") else 0, 100)  # the reference's numbers grow
    return arrays


def assert_result(name, got, arrays):
    exact = EXACT.get(name) if got.dtype.kind == "f" else OF_INTEGERS.get(name, EXACT.get(name))
    if exact is not None:
        expected = exact(*arrays)
        assert got.dtype == expected.dtype
        if got.dtype.kind == "f":  # kernels may flush subnormal results to zero
            small = (expected != 0) & (np.abs(expected) <= np.finfo(got.dtype).tiny)
            expected = np.where(small & (got == 0), got, expected)
        assert np.array_equal(got, expected, equal_nan=got.dtype.kind == "f"), (got, expected)
        return
    function, bound, scale = BOUNDED[name]
    extended = [a.astype(wide) for a in arrays]
    expected, info = function(*extended), np.finfo(got.dtype)
    slack = np.abs(expected) + (scale(*extended) if scale else 0)
    # with infinite or very large arguments the result hangs on the formula (0 * inf, overflow)
    tame = np.all([np.abs(a) < np.sqrt(info.max) for a in arrays], axis=0)
    finite = tame & np.isfinite(expected) & (np.abs(expected) < info.max)
    error = np.abs(got.astype(wide) - expected)
    bad = finite & ~(error <= bound * info.eps * slack + 2 * info.tiny)
    assert not bad.any(), (name, [a[bad] for a in arrays], got[bad], expected[bad])
    if name not in ("pow", "elu_bwd", "selu_bwd"):  # torch's elu passes the gradient on where the input is NaN
        assert np.isnan(got[np.any(np.isnan(arrays), axis=0)]).all()


def result_dtype(name, dtype):
    return "bool" if name in {"eq", "ne", "lt", "le", "gt", "ge", "isnan", "isfinite", "isinf"} else dtype


# ---- single operations -------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_operation(name, dtype):
    """Sizes around the vectors and the tile, misaligned, and nothing written outside."""
    for n in SIZES:
        arrays = arguments(name, dtype, n + 1)
        shifted = [a[1:] for a in arrays]
        room = np.full(n + 40, 77, result_dtype(name, dtype))
        out = room[17 : 17 + n]
        apply(name, *shifted, out=out)
        assert_result(name, out, shifted)
        assert (np.delete(room, np.s_[17 : 17 + n]) == room[0]).all()


@pytest.mark.parametrize(("name", "dtype"), [c for c in CASES if OPS[c[0]][1] > 0])
def test_operation_in_place(name, dtype):
    """The output may be the buffer of any input of its element size."""
    for n, which in itertools.product((17, 1300), range(OPS[name][1])):
        arrays = arguments(name, dtype, n)
        apart = apply(name, *arrays, out_dtype=result_dtype(name, dtype))
        buffer = arrays[which]
        if buffer.itemsize != apart.itemsize:
            continue
        apply(name, *arrays, out=buffer.view(apart.dtype))
        assert buffer.tobytes() == apart.tobytes()


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_bits_do_not_depend_on_position(name, dtype):
    arrays = arguments(name, dtype, 83)
    whole = apply(name, *arrays, out_dtype=result_dtype(name, dtype))
    for begin, end in [(1, 83), (5, 40), (16, 17), (31, 64), (50, 83), (82, 83)]:
        part = apply(name, *(a[begin:end] for a in arrays), out_dtype=result_dtype(name, dtype))
        assert part.tobytes() == whole[begin:end].tobytes()


@pytest.mark.parametrize("name", ["relu", "maximum", "minimum", "sigmoid", "gelu", "silu", "gelu_tanh"])
def test_nan_propagates(name):
    nan, one = np.full(40, np.nan, np.float32), np.ones(40, np.float32)
    arrays = [[nan]] if OPS[name][1] == 1 else [[nan, one], [one, nan]]
    for a in arrays:
        assert np.isnan(apply(name, *a)).all()


def test_signs_of_torch():
    """What torch gives where NumPy differs: sign(NaN) is 0; the gradient of relu passes NaN."""
    x = np.array([np.nan, -0.0, 5, -5], np.float32)
    assert apply("sign", x).tolist() == [0, 0, 1, -1]
    assert apply("relu_bwd", np.full(4, 2, np.float32), x).tolist() == [2, 0, 2, 0]


# ---- casts and constants -----------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), list(itertools.product(NUMPY_DTYPES, NUMPY_DTYPES)))
def test_cast(source, target):
    rng = np.random.default_rng(7)
    for n in (1, 16, 33, 700):
        x = values(source, n, rng, special=not target.startswith(("int", "uint")))
        if source.startswith("float") and target == "uint8":
            x = np.abs(x)
        got = apply("cast", x, out_dtype=target, imm1=DTYPES[target])
        assert np.array_equal(got, x.astype(target), equal_nan=target.startswith("float"))


def bfloat16(x):
    """Rounds float32 to the nearest even of 8 significant bits, through float64 arithmetic."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    rounded = np.ldexp(np.rint(np.ldexp(mantissa, 8)), exponent - 8)
    return np.where(np.abs(rounded) > 3.3895313892515355e38, np.copysign(np.inf, x), rounded).astype(np.float32)


def test_bfloat16():
    rng = np.random.default_rng(8)
    x = rng.integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32)
    x = x[(np.abs(x) >= np.finfo(np.float32).tiny) & np.isfinite(x)]
    halfway = ((rng.integers(1, 0x7F00, 500).astype(np.uint32) << 16) + 0x8000).view(np.float32)
    x = np.concatenate(
        [x, halfway[np.abs(halfway) >= np.finfo(np.float32).tiny], np.float32([0, -0.0, np.inf, -np.inf, np.nan])]
    )
    stored = apply("cast", x, out_dtype=np.uint16, imm1=DTYPES["bfloat16"])
    back = apply("cast", stored, out_dtype=np.float32, imm1=DTYPES["float32"])
    expected = bfloat16(x)
    assert np.array_equal(back, expected, equal_nan=True)
    assert np.array_equal(np.signbit(back[:-1]), np.signbit(expected[:-1]))
    assert np.array_equal(apply("copy", stored), stored)


def test_bfloat16_keeps_every_nan():
    x = (np.arange(1, 2**23, 97, dtype=np.uint32) | 0x7F800000).view(np.float32)
    stored = apply("cast", x, out_dtype=np.uint16, imm1=DTYPES["bfloat16"])
    assert ((stored & 0x7F80) == 0x7F80).all() and (stored & 0x7F).all()


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
@pytest.mark.parametrize("n", [1, 100, 3000])
def test_constant(dtype, n):
    value = {"bool": 1, "uint8": 200}.get(dtype, -7)
    imm0 = double_bits(value + 0.25) if dtype.startswith("float") else value
    out = np.empty(n, dtype)
    run((n,), [(out, 0)], [], [op("const", dtype, 0, imm0=imm0)])
    assert (out == (value + 0.25 if dtype.startswith("float") else np.array(value).astype(dtype))).all()


# ---- iteration spaces --------------------------------------------------------------------------

SPACES = [
    ((7,), [(7,), (1,)]),
    ((1, 1, 1), [(1, 1, 1), (1,)]),
    ((32, 32), [(32, 32), (32,), (32, 1), (1, 1)]),
    ((5, 513), [(5, 513), (513,), (5, 1)]),
    ((3, 1400), [(3, 1400), (1400,), (3, 1)]),
    ((600, 1), [(600, 1), (1, 1), (600, 1)]),
    ((4, 1, 6), [(4, 1, 6), (4, 1, 1), (6,)]),
    ((2, 3, 4), [(2, 3, 4), (2, 1, 4), (3, 1), (1, 3, 4)]),
    ((3, 5, 7, 2), [(3, 5, 7, 2), (5, 1, 2), (3, 1, 7, 1), (1, 1, 1, 2)]),
    ((2, 3, 2, 3, 2, 3), [(2, 3, 2, 3, 2, 3), (2, 1, 2, 1, 2, 1), (1, 3, 1, 3, 1, 3), (3, 2, 3)]),
    ((2, 9, 300), [(2, 9, 300), (9, 1), (2, 1, 300), (300,)]),
    ((20, 2, 1030), [(20, 1, 1030), (2, 1), (20, 2, 1030)]),
    ((0, 5), [(0, 5), (5,)]),
    ((5, 0), [(5, 0), (5, 1)]),
]


@pytest.mark.parametrize(("shape", "inputs"), SPACES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_broadcasting(shape, inputs, dtype, threads):
    rng = np.random.default_rng(9)
    arrays = [rng.integers(0, 9, s).astype(dtype) for s in inputs]
    expected = arrays[0]
    ops, last = [], 0
    for i in range(1, len(arrays)):
        expected = expected * arrays[i] + arrays[i]
        ops += [op("mul", dtype, len(arrays), last, i), op("add", dtype, len(arrays), len(arrays), i)]
        last = len(arrays)
    for n in (1, 3):
        threads(n)
        out = np.full(shape, 99, dtype)
        run(shape, [(out, last)], arrays, ops)
        assert np.array_equal(out, np.broadcast_to(expected, shape).astype(dtype))


def random_view(shape, dtype, rng):
    """An array that broadcasts to the shape: repeated, transposed, reversed or gapped at random."""
    order = rng.permutation(len(shape))
    repeated = rng.random(len(shape)) < 0.3
    step = rng.integers(1, 3)
    dims = [1 if repeated[d] else shape[d] * (step if d == order[-1] else 1) for d in order]
    array = rng.normal(size=dims).astype(dtype)
    index = [slice(None)] * len(shape)
    if not repeated[order[-1]]:
        index[-1] = slice(None, None, step)
    array = array[tuple(index)].transpose(np.argsort(order))
    return array[::-1] if rng.random() < 0.2 and array.shape[0] > 1 else array


@pytest.mark.parametrize("seed", range(120))
def test_random_programs(seed, threads):
    """Chains with temporaries, several outputs, and inputs of any layout, up to six dimensions."""
    rng = np.random.default_rng([10, seed])
    shape = tuple(rng.integers(1, [7, 40, 200][seed % 3], rng.integers(1, 4 if seed % 3 else 7)))
    if np.prod(shape) > 300_000:
        shape = shape[:2]
    dtype = ["float32", "float64"][seed % 2]
    inputs = [random_view(shape, dtype, rng) for _ in range(rng.integers(1, 5))]
    registers = {i: np.broadcast_to(a, shape) for i, a in enumerate(inputs)}
    ops = []
    for _i in range(rng.integers(1, 8)):
        name = rng.choice(["add", "sub", "mul", "maximum", "neg", "relu", "const"])
        chosen = [int(r) for r in rng.choice(list(registers), OPS[name][1])]
        # sometimes a temporary is used again, also in place
        temporaries = [r for r in registers if r >= len(inputs)]
        fresh = len(inputs) + len(temporaries)
        dst = int(rng.choice(temporaries)) if temporaries and rng.random() < 0.3 else fresh
        if name == "const":
            ops.append(op(name, dtype, dst, imm0=double_bits(1.5)))
            registers[dst] = np.full(shape, 1.5, dtype)
        else:
            ops.append(op(name, dtype, dst, *chosen))
            registers[dst] = EXACT[name](*(registers[r] for r in chosen))
    kept = [int(r) for r in rng.choice(list(registers), rng.integers(1, 4))]
    threads(1 + seed % 3)
    outputs = [(np.full(shape, 99, dtype), r) for r in kept]
    run(shape, outputs, inputs, ops)
    for array, register in outputs:
        assert np.array_equal(array, registers[register])


def test_outputs_of_several_dtypes():
    """Mask, index and value from one pass, as in where(x > 0, x, 0) that keeps its condition."""
    x = np.random.default_rng(11).normal(size=(40, 30)).astype(np.float32)
    mask, whole, chosen = np.empty(x.shape, bool), np.empty(x.shape, np.int64), np.empty_like(x)
    run(
        x.shape,
        [(mask, 2), (whole, 3), (chosen, 4)],
        [x],
        [
            op("const", "float32", 1, imm0=double_bits(0.0)),
            op("gt", "float32", 2, 0, 1),
            op("cast", "float32", 3, 0, imm1=DTYPES["int64"]),
            op("where", "float32", 4, 2, 0, 1),
        ],
    )
    assert np.array_equal(mask, x > 0)
    assert np.array_equal(whole, x.astype(np.int64))
    assert np.array_equal(chosen, np.where(x > 0, x, 0))


@pytest.mark.parametrize("shape", [(9,), (40, 30), (3, 2000)])
def test_chain_in_place_over_its_last_reader(shape):
    """x is read twice; the operation that makes the output in x's buffer is its last reader."""
    rng = np.random.default_rng(12)
    x, b = rng.normal(size=shape).astype(np.float32), rng.normal(size=shape[-1]).astype(np.float32)
    t = x * b
    expected, doubled = t + x, t + t
    twice = np.empty_like(x)
    run(
        shape,
        [(x, 3), (twice, 4)],
        [x, b],
        [op("mul", "float32", 2, 0, 1), op("add", "float32", 3, 2, 0), op("add", "float32", 4, 2, 2)],
    )
    assert np.array_equal(x, expected) and np.array_equal(twice, doubled)


def test_a_register_written_twice_does_not_reach_the_output_early():
    """Register 1 is a temporary first and the output later; its buffer is still read in between."""
    x = np.random.default_rng(13).normal(size=1000).astype(np.float32)
    expected = (x * x + x) * x
    run(
        x.shape,
        [(x, 1)],
        [x],
        [op("square", "float32", 1, 0), op("add", "float32", 2, 1, 0), op("mul", "float32", 1, 2, 0)],
    )
    assert np.array_equal(x, expected)


# ---- splitting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(100_000,), (1000, 70), (7, 30_000), (3, 33_333)])
def test_same_bits_at_any_number_of_threads(shape, threads):
    rng = np.random.default_rng(14)
    x, b = rng.normal(size=shape).astype(np.float32), rng.normal(size=shape[-1]).astype(np.float32)
    c = rng.normal(size=(*shape[:-1], 1)).astype(np.float32)
    results = []
    for n in (1, 2, 3, 7):
        threads(n)
        out = np.full(shape, np.nan, np.float32)
        run(
            shape,
            [(out, 6)],
            [x, b, c],
            [
                op("add", "float32", 3, 0, 1),
                op("gelu", "float32", 4, 3),
                op("mul", "float32", 5, 4, 2),
                op("tanh", "float32", 6, 5),
            ],
        )
        results.append(out.tobytes())
    assert np.isfinite(out).all()
    assert len(set(results)) == 1


@pytest.mark.parametrize("shape", [(40_000,), (300, 41)])
def test_dropout_is_the_same_in_parts(shape, threads):
    """The random word belongs to the element, not to the tile, unit or thread."""
    x, state = np.ones(shape, np.float32), np.array([5, 6], np.int64)
    results = []
    for n in (1, 2, 7):
        threads(n)
        y = np.empty_like(x)
        run(
            shape,
            [(y, 3)],
            [x, state[:1].reshape((1,) * len(shape))],
            [op("neg", "float32", 2, 0), op("dropout", "float32", 3, 2, 1, imm0=double_bits(0.25))],
        )
        results.append(y.tobytes())
    assert len(set(results)) == 1
    assert abs((y == 0).mean() - 0.25) < 0.02
