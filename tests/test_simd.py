"""Accuracy of exp, log, tanh, erf ... in units in the last place, and the random number generator.

The functions are reached through the `elementwise` kernel, in the tier that the process has chosen;
run with FASTGD_ISA=scalar, avx2 ... to test each.  Kernels may take subnormal numbers as zero, also
between two steps of a function, so an error of twice the smallest normal number always passes.
"""

import math

import mpmath
import numpy as np
import pytest
from tile_program import apply, double_bits, op, run

MAX_ULP = 2.0
REFERENCE = {
    "exp": np.exp,
    "log": np.log,
    "expm1": np.expm1,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "sin": np.sin,
    "cos": np.cos,
}
LANES_MAX = 16


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


def ulps(got, reference, dtype):
    """Errors in units in the last place of the reference; inf where a special value is missed."""
    info = np.finfo(dtype)
    rounded = reference.astype(dtype)
    finite = np.isfinite(rounded) & np.isfinite(got)
    unit = np.spacing(np.maximum(np.abs(np.where(finite, rounded, 1)), info.tiny))
    error = np.abs(got.astype(reference.dtype) - reference) / unit
    error[finite & (error * unit <= 2 * info.tiny)] = 0
    agrees = (rounded == got) | (np.isnan(rounded) & np.isnan(got))
    # just below the largest finite number, rounding to infinity is an error of an ulp or so
    agrees |= np.isinf(got) & (np.abs(reference) >= info.max * (1 - 2 * info.eps)) & (got * reference > 0)
    return np.where(finite, error, np.where(agrees, 0, np.inf))


def float32_points():
    """Every 4096th bit pattern, denser near where the algorithms change their ways."""
    spread = np.arange(0, 2**32, 2**12, dtype=np.uint64).astype(np.uint32).view(np.float32)
    seams = np.array(
        [
            0.0,
            0.25,
            0.3465736,
            0.5,
            0.55,
            0.75,
            0.95,
            1.0,
            1.5,
            3.95,
            9.1,
            17.3,
            20.0,
            87.33655,
            88.72284,
            89.0,
            103.97,
            np.pi / 4,
            np.pi / 2,
            100.0,
            1e5,
        ],
        np.float32,
    )
    steps = np.arange(-2000, 2001, dtype=np.int32)
    near = (seams.view(np.int32)[:, None] + steps).clip(0).astype(np.int32).view(np.float32).ravel()
    rng = np.random.default_rng(1)
    usual = np.concatenate([rng.uniform(-s, s, 20000) for s in (0.01, 0.5, 2, 12, 90)]).astype(np.float32)
    x = np.concatenate([spread, near, -near, usual])
    return x[(np.abs(x) >= np.finfo(np.float32).tiny) | (x == 0) | np.isnan(x)]


def float64_points():
    rng = np.random.default_rng(2)
    spread = rng.integers(0, 0x7FF0 << 48, 20000).view(np.float64) * rng.choice([-1, 1], 20000)
    usual = np.concatenate([rng.uniform(-s, s, 15000) for s in (0.01, 0.6, 2, 20, 750)])
    seams = np.array([0.25, 0.34657359027997264, 0.55, 1.0, 1.5, 5.95, 19.1, 37.5, 709.78, 745.13])
    near = (seams[:, None] * (1 + np.linspace(-1e-9, 1e-9, 501))).ravel()
    x = np.concatenate([spread, usual, near, -near, [0.0, -0.0, np.inf, -np.inf, np.nan]])
    return x[(np.abs(x) >= np.finfo(np.float64).tiny) | (x == 0) | np.isnan(x)]


@pytest.mark.parametrize("name", REFERENCE)
def test_float32_accuracy(name):
    x = float32_points()
    error = ulps(apply(name, x), REFERENCE[name](x.astype(np.float64)), np.float32)
    worst = np.argmax(error)
    assert error[worst] <= MAX_ULP, f"{name}({x[worst]!r}): {error[worst]:.3f} ulp"


@pytest.mark.parametrize("name", [name for name in REFERENCE if name != "erf"])
@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="needs an extended long double")
def test_float64_accuracy(name):
    x = float64_points()
    error = ulps(apply(name, x), REFERENCE[name](x.astype(np.longdouble)), np.float64)
    worst = np.argmax(error)
    assert error[worst] <= MAX_ULP, f"{name}({x[worst]!r}): {error[worst]:.3f} ulp"


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sin", "erf"])
def test_float64_accuracy_against_mpmath(name):
    """An independent reference; for erf the only one with enough digits."""
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.uniform(-s, s, 2500) for s in (0.01, 1.2, 6)])
    x = np.abs(x) if name == "log" else x
    with mpmath.workprec(100):
        exact = [getattr(mpmath, name)(mpmath.mpf(float(v))) for v in x]
        heads = np.array([float(v) for v in exact])
        tails = np.array([float(v - mpmath.mpf(float(v))) for v in exact])
    error = np.abs((apply(name, x) - heads) - tails) / np.spacing(np.abs(heads))
    assert error.max() <= MAX_ULP, f"{name}({x[np.argmax(error)]!r}): {error.max():.3f} ulp"


SPECIAL = {
    "exp": [(0.0, 1.0), (-0.0, 1.0), (np.inf, np.inf), (-np.inf, 0.0), (1e30, np.inf), (-1e30, 0.0)],
    "log": [(1.0, 0.0), (0.0, -np.inf), (-0.0, -np.inf), (np.inf, np.inf), (-1.0, np.nan), (-np.inf, np.nan)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (np.inf, np.inf), (-np.inf, -1.0), (-1e30, -1.0), (1e30, np.inf)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1.0, -np.inf), (np.inf, np.inf), (-2.0, np.nan), (-np.inf, np.nan)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (np.inf, 1.0), (-np.inf, -1.0), (1e30, 1.0), (-1e30, -1.0)],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (np.inf, 1.0), (-np.inf, 0.0), (1e30, 1.0), (-1e30, 0.0)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (np.inf, 1.0), (-np.inf, -1.0), (1e30, 1.0), (-1e30, -1.0)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (np.inf, np.nan), (-np.inf, np.nan)],
    "cos": [(0.0, 1.0), (-0.0, 1.0), (np.inf, np.nan), (-np.inf, np.nan)],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name, dtype):
    """C99's Annex F.  NaN goes through every function."""
    x, expected = np.array([*SPECIAL[name], (np.nan, np.nan)], dtype).T.copy()
    got = apply(name, x)
    same = (got == expected) & (np.signbit(got) == np.signbit(expected)) | np.isnan(got) & np.isnan(expected)
    assert same.all(), list(zip(x[~same], got[~same], strict=False))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", REFERENCE)
def test_subnormal_arguments_count_as_themselves_or_as_zero(name, dtype):
    tiny = np.finfo(dtype).tiny
    x = np.array([tiny / 2, -tiny / 2, tiny / 1024, -tiny / 1024], dtype)
    got = apply(name, x).astype(np.float64)
    itself, zero = REFERENCE[name](x.astype(np.float64)), REFERENCE[name](x.astype(np.float64) * 0)
    close = np.abs(got - itself) <= tiny
    if name == "log":
        zero[:] = -np.inf  # also of negative ones: they count as -0
        close |= np.isnan(got) & (x < 0) | (np.abs(got / itself - 1) < 1e-6)
    assert (close | (got == zero)).all(), got


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*REFERENCE, "pow"])
def test_bits_do_not_depend_on_position(name, dtype):
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.normal(size=70) * s for s in (0.1, 1, 30)] + [[1e6, np.inf, np.nan, 0.0, 1e-3]]).astype(
        dtype
    )
    arrays = (np.abs(x), x) if name == "pow" else (x,)
    whole = apply(name, *arrays)
    for begin in range(LANES_MAX + 1):
        part = apply(name, *(a[begin : begin + 100] for a in arrays))
        assert part.tobytes() == whole[begin : begin + 100].tobytes()
    alone = np.concatenate([apply(name, *(a[i : i + 1] for a in arrays)) for i in range(x.size)])
    assert alone.tobytes() == whole.tobytes()


# ---- pow ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "reference"), [("float32", np.float64), ("float64", np.longdouble)])
def test_pow_accuracy(dtype, reference):
    rng = np.random.default_rng(5)
    x = np.concatenate(
        [np.exp(rng.uniform(-30, 30, 20000)), rng.uniform(0, 10, 20000), 1 + rng.uniform(-1e-3, 1e-3, 20000)]
    ).astype(dtype)
    y = np.concatenate([rng.uniform(-3, 3, 20000), rng.uniform(-30, 30, 20000), rng.uniform(-5e4, 5e4, 20000)]).astype(
        dtype
    )
    error = ulps(apply("pow", x, y), np.power(x.astype(reference), y.astype(reference)), dtype)
    worst = np.argmax(error)
    assert error[worst] <= MAX_ULP, f"{x[worst]!r} ** {y[worst]!r}: {error[worst]:.3f} ulp"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pow_special_values(dtype):
    """All pairs of awkward numbers, against C's pow through NumPy."""
    awkward = np.array(
        [
            0.0,
            -0.0,
            1,
            -1,
            2,
            -2,
            0.5,
            -0.5,
            3,
            -3,
            np.inf,
            -np.inf,
            np.nan,
            2.5,
            -2.5,
            1e30,
            -1e30,
            1e-30,
            8388609.0,
            16777217.0,
        ],
        dtype,
    )
    x, y = (a.ravel() for a in np.meshgrid(awkward, awkward))
    got, expected = apply("pow", x, y), np.power(x, y)
    close = np.isclose(got, expected, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)
    same = close & (np.signbit(got) == np.signbit(expected)) | np.isnan(got) & np.isnan(expected)
    assert same.all(), list(zip(x[~same], y[~same], got[~same], expected[~same], strict=False))


# ---- Philox ------------------------------------------------------------------------------------


def philox_words(seed, offset, n):
    """Philox4x32-10 as in the paper, one round after the other; words of blocks 0, 1, 2 ..."""
    mask = np.uint64(0xFFFFFFFF)
    block = np.arange((n + 3) // 4, dtype=np.uint64)
    counter = [
        block & mask,
        block >> np.uint64(32),
        np.full_like(block, offset & 0xFFFFFFFF),
        np.full_like(block, offset >> 32),
    ]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = counter[0] * np.uint64(0xD2511F53), counter[2] * np.uint64(0xCD9E8D57)
        counter = [
            (p1 >> np.uint64(32)) ^ counter[1] ^ np.uint64(key[0]),
            p1 & mask,
            (p0 >> np.uint64(32)) ^ counter[3] ^ np.uint64(key[1]),
            p0 & mask,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(counter, 1).ravel()[:n].astype(np.uint32)


def test_philox_reference_answers():
    """Known answers that accompany the authors' Random123 library."""
    assert [f"{w:08x}" for w in philox_words(0, 0, 4)] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


def dropout(x, seed, offset, p, added=0):
    state, y = np.array([seed, offset], np.uint64).view(np.int64), np.empty_like(x)
    run(
        x.shape,
        [(y, 2)],
        [x, state[:1].reshape((1,) * x.ndim)],
        [op("dropout", x.dtype, 2, 0, 1, imm0=double_bits(p), imm1=added)],
    )
    return y


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape", [(1,), (3,), (4,), (31,), (63,), (64,), (65,), (511,), (513,), (5000,), (7, 9), (3, 700)]
)
def test_dropout_words(shape, dtype):
    """Every word is the paper's: with a random threshold the kept elements are those above it."""
    seed, offset, added = 0x0123456789ABCDEF, 0xFFFFFFFF0, 25
    x = np.random.default_rng(6).normal(size=shape).astype(dtype)
    words = philox_words(seed, offset + added, x.size).reshape(shape)
    for p in (0.0, 0.1, 0.5, 0.9):
        expected = np.where(words >= np.uint32(p * 2**32), x * np.dtype(dtype).type(1 / (1 - p)), 0)
        assert np.array_equal(dropout(x, seed, offset, p, added), expected)
    assert not dropout(x, seed, offset, 1.0).any()


def test_dropout_threshold_is_exact():
    """Just at a word's value the element is kept, just above it is not."""
    x, words = np.ones(64, np.float64), philox_words(7, 1, 64)
    for i in (0, 5, 63):
        at, above = int(words[i]) / 2**32, (int(words[i]) + 1) / 2**32
        assert dropout(x, 7, 1, at)[i] != 0 and dropout(x, 7, 1, above)[i] == 0


def test_dropout_drops_what_is_not_finite():
    x = np.full(1000, np.inf, np.float32)
    y = dropout(x, 1, 2, 0.5)
    assert set(y) == {0.0, np.inf}
