"""reduce_* and argmax_* against float64 NumPy: all layouts, block edges, special values, thread counts."""

import numpy as np
import pytest
from kernel_testing import FLOATS, guarded, same_bits_at_any_thread_count, unaligned

from fastgd import _core

KINDS = {"sum": 0, "max": 1, "min": 2, "prod": 3, "mean": 4}
REFERENCES = {"sum": np.sum, "max": np.max, "min": np.min, "prod": np.prod, "mean": np.mean}

# (outer, r, inner): around the lanes, the blocks of rows (256) and of elements (4096), the strips of columns
SHAPES = [(1, r, 1) for r in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 255, 256, 257, 4095, 4096, 4097)]
SHAPES += [(3, 10, 1), (100, 16, 1), (37, 1000, 1), (5, 9000, 1), (1000, 2, 1), (2, 70_000, 1), (1, 200_001, 1)]
SHAPES += [(1, r, n) for r in (1, 2, 255, 256, 257, 600) for n in (2, 3, 15, 16, 17, 63, 65, 127, 129, 300)]
SHAPES += [(4, 49, 32), (2, 513, 5), (3, 3, 1000), (1, 5000, 40), (7, 300, 9), (1, 40_000, 3)]


def reduce(kind, x, dtype):
    """Runs the kernel on x[outer, r, inner] from and to unaligned memory."""
    outer, r, inner = x.shape
    source = unaligned(x.shape, x.dtype)
    source[...] = x
    y, untouched = guarded((outer, inner), x.dtype)
    _core.run_kernel(f"reduce_{dtype}", [y, source], kind=KINDS[kind], outer=outer, r=r, inner=inner)
    untouched()
    return y


def argmax(x, dtype):
    outer, r, inner = x.shape
    y = np.full((outer, inner), -1, np.int64)
    _core.run_kernel(f"argmax_{dtype}", [y, x], outer=outer, r=r, inner=inner)
    return y


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_against_float64(tier, kind, dtype):
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        x = rng.normal(size=shape).astype(FLOATS[dtype])
        if kind == "prod":
            x = np.exp(x / 50 / np.sqrt(shape[1])).astype(FLOATS[dtype])
        expected = REFERENCES[kind](x.astype(np.float64), axis=1)
        (y,) = same_bits_at_any_thread_count(lambda x=x: [reduce(kind, x, dtype)])
        # rounding errors of a sum are relative to the sum of magnitudes
        scale = np.sum(np.abs(x.astype(np.float64)), axis=1) if kind in ("sum", "mean") else np.abs(expected)
        scale = scale / shape[1] if kind == "mean" else scale
        steps = shape[1] if kind == "prod" else 64  # every factor rounds
        assert (np.abs(y - expected) <= steps * np.finfo(x.dtype).eps * scale).all(), shape
        if kind in ("max", "min"):
            assert (y == expected).all(), shape


@pytest.mark.parametrize("kind", ["sum", "max", "min", "prod"])
def test_int64_is_exact(tier, kind):
    rng = np.random.default_rng(2)
    for shape in SHAPES[::3]:
        x = rng.integers(-(2**62), 2**62, size=shape)
        (y,) = same_bits_at_any_thread_count(lambda x=x: [reduce(kind, x, "i64")])
        with np.errstate(over="ignore"):
            assert (y == REFERENCES[kind](x, axis=1)).all(), shape


def test_int64_mean_is_refused(tier):
    with pytest.raises(RuntimeError):
        reduce("mean", np.ones((1, 2, 1), np.int64), "i64")


@pytest.mark.parametrize("dtype", FLOATS)
def test_ten_million_positive_numbers(dtype):
    x = np.random.default_rng(3).random(10_000_000).astype(FLOATS[dtype])
    exact = np.sum(x.astype(np.longdouble))
    for shape in [(1, x.size, 1), (1, x.size // 10, 10)]:
        (y,) = same_bits_at_any_thread_count(lambda s=shape: [reduce("sum", x.reshape(s), dtype)])
        assert abs(y.astype(np.longdouble).sum() - exact) <= 10 * np.finfo(x.dtype).eps * exact


@pytest.mark.parametrize("dtype", FLOATS)
def test_canonical_order_of_columns(tier, dtype):
    """The documented order, in plain NumPy: a chain within 256 rows, then the blocks in order."""
    x = np.random.default_rng(4).normal(size=(1, 700, 23)).astype(FLOATS[dtype])
    total = None
    for start in range(0, 700, 256):
        chain = np.zeros(23, x.dtype)
        for row in x[0, start : start + 256]:
            chain = chain + row
        total = chain if total is None else total + chain
    assert reduce("sum", x, dtype)[0].tobytes() == total.tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_nan_propagates_from_anywhere(tier, kind, dtype):
    for shape in [(1, 1, 1), (2, 5, 1), (1, 77, 1), (1, 5000, 1), (1, 70_001, 1), (1, 300, 7), (1, 9, 40)]:
        for at in {0, shape[1] // 2, shape[1] - 1}:
            x = np.random.default_rng(5).normal(size=shape).astype(FLOATS[dtype])
            x[:, at, :] = np.nan
            if at + 1 < shape[1]:
                x[:, at + 1, :] = np.inf
            assert np.isnan(reduce(kind, x, dtype)).all(), (shape, at)


@pytest.mark.parametrize("dtype", FLOATS)
def test_infinities(tier, dtype):
    for shape in [(1, 40, 1), (1, 40, 5)]:
        x = np.full(shape, -np.inf, FLOATS[dtype])
        for kind in ("sum", "max", "min", "mean"):
            assert (reduce(kind, x, dtype) == -np.inf).all()
        x[:, 3, :] = np.inf
        assert (reduce("max", x, dtype) == np.inf).all()
        assert np.isnan(reduce("sum", x, dtype)).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_empty(tier, dtype):
    for outer, inner in [(1, 1), (3, 1), (2, 5)]:
        x = np.empty((outer, 0, inner), FLOATS[dtype])
        assert (reduce("sum", x, dtype) == 0).all()
        assert (reduce("prod", x, dtype) == 1).all()
        assert np.isnan(reduce("mean", x, dtype)).all()
    for shape in [(0, 5, 1), (0, 5, 3), (2, 5, 0)]:
        assert reduce("sum", np.empty(shape, FLOATS[dtype]), dtype).size == 0
        assert argmax(np.empty(shape, FLOATS[dtype]), dtype).size == 0


@pytest.mark.parametrize("dtype", [*FLOATS, "i64"])
def test_argmax(tier, dtype):
    rng = np.random.default_rng(6)
    for shape in SHAPES:
        x = rng.integers(-50, 50, size=shape).astype(FLOATS.get(dtype, np.int64))  # many ties: the first wins
        (y,) = same_bits_at_any_thread_count(lambda x=x: [argmax(x, dtype)])
        assert (y == np.argmax(x, axis=1)).all(), shape


@pytest.mark.parametrize("dtype", FLOATS)
def test_argmax_of_nan_and_infinities(tier, dtype):
    for shape in [(1, 50, 1), (1, 50, 3), (2, 50, 70)]:
        x = np.full(shape, -np.inf, FLOATS[dtype])
        assert (argmax(x, dtype) == 0).all()
        x[:, 7, :] = np.inf
        assert (argmax(x, dtype) == 7).all()
        x[:, 20, :] = x[:, 30, :] = np.nan
        assert (argmax(x, dtype) == 20).all()
        x[:, 0, :] = np.nan
        assert (argmax(x, dtype) == 0).all()
