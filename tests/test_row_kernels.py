"""embedding_* and rownorm_* on every tier: around vectors, strips and blocks, unaligned, any number of threads."""

import numpy as np
import pytest
from kernel_testing import FLOATS, guarded, same_bits_at_any_thread_count, unaligned

from fastgd import _core

I32, I64 = 3, 4


def copy(x, dtype):
    out = unaligned(x.shape, FLOATS[dtype])
    out[...] = x
    return out


# ---- embedding -------------------------------------------------------------------------------------------------------

# (places, rows, dim)
TABLES = [(1, 1, 1), (5, 3, 7), (40, 9, 64), (300, 2, 33), (7, 40, 130), (0, 3, 5), (3, 4, 0)]
TABLES += [(3000, 65, 100), (600, 3, 2000)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("index_dtype", [I32, I64])
def test_embedding(tier, dtype, index_dtype):
    rng = np.random.default_rng(0)
    eps = np.finfo(FLOATS[dtype]).eps
    for n, rows, dim in TABLES:
        index = rng.integers(0, rows, n).astype(np.int32 if index_dtype == I32 else np.int64)
        w, dy = copy(rng.normal(size=(rows, dim)), dtype), copy(rng.normal(size=(n, dim)), dtype)
        fields = dict(n=n, rows=rows, dim=dim, index_dtype=index_dtype, padding=1)

        def forward(w=w, index=index, n=n, dim=dim, fields=fields):
            y, untouched = guarded((n, dim), FLOATS[dtype])
            _core.run_kernel(f"embedding_fwd_{dtype}", [y, w, index], **fields)
            untouched()
            return [y]

        def backward(dy=dy, index=index, rows=rows, dim=dim, fields=fields):
            dw, untouched = guarded((rows, dim), FLOATS[dtype])
            _core.run_kernel(f"embedding_bwd_{dtype}", [dw, dy, index], **fields)
            untouched()
            return [dw]

        np.testing.assert_array_equal(same_bits_at_any_thread_count(forward)[0], w[index])
        expected, size = np.zeros((2, rows, dim))
        np.add.at(expected, index, dy)
        np.add.at(size, index, np.abs(dy))
        expected[1:2] = 0
        (dw,) = same_bits_at_any_thread_count(backward)
        assert (np.abs(dw - expected) <= 300 * eps * size).all(), (n, rows, dim)


@pytest.mark.parametrize("dtype", FLOATS)
def test_embedding_gradient_has_the_order_of_a_sum_over_rows(tier, dtype):
    """All places name one row: the bits are those of the kernel that sums rows."""
    rng = np.random.default_rng(1)
    for n, dim in ((255, 7), (257, 64), (1000, 33)):
        dy = copy(rng.normal(size=(n, dim)), dtype)
        total, dw = np.empty(dim, FLOATS[dtype]), np.empty((1, dim), FLOATS[dtype])
        _core.run_kernel(f"reduce_{dtype}", [total, dy], kind=0, outer=1, r=n, inner=dim)
        fields = dict(n=n, rows=1, dim=dim, index_dtype=I64, padding=-1)
        _core.run_kernel(f"embedding_bwd_{dtype}", [dw, dy, np.zeros(n, np.int64)], **fields)
        assert dw.tobytes() == total.tobytes()


def test_embedding_reports_the_first_index_out_of_range_and_stays_inside(tier):
    w, index = np.ones((3, 4), np.float32), np.array([0, 2, 3, -1], np.int64)
    y, untouched = guarded((4, 4), np.float32)
    with pytest.raises(IndexError) as caught:
        _core.run_kernel("embedding_fwd_f32", [y, w, index], n=4, rows=3, dim=4, index_dtype=I64, padding=-1)
    untouched()
    assert "3" in str(caught.value)
    dw, untouched = guarded((3, 4), np.float32)
    _core.run_kernel("embedding_bwd_f32", [dw, y + 1, index], n=4, rows=3, dim=4, index_dtype=I64, padding=-1)
    untouched()
    np.testing.assert_array_equal(dw[1], 0)


# ---- normalisation of rows -------------------------------------------------------------------------------------------

ROWS = [(1, 1), (3, 7), (2, 15), (2, 16), (2, 17), (5, 64), (2, 65), (3, 130)]
ROWS += [(2, 4095), (2, 4097), (255, 3), (257, 70), (600, 130), (0, 4)]


def norm_reference(x, dy, w, b, eps, center):
    x, dy, w, b = (a.astype(np.longdouble) for a in (x, dy, w, b))
    mean = x.mean(1, keepdims=True) if center else 0
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(1, keepdims=True) + eps)
    xhat, g = (x - mean) * rstd, dy * w
    first = g.mean(1, keepdims=True) if center else 0
    dx = rstd * (g - first - xhat * (g * xhat).mean(1, keepdims=True))
    return xhat * w + b, dx, (dy * xhat).sum(0), dy.sum(0)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("center", [0, 1], ids=["rms", "layer"])
def test_rownorm(tier, center, dtype):
    rng = np.random.default_rng(2)
    eps = np.finfo(FLOATS[dtype]).eps
    for rows, n in ROWS:
        x, dy = (copy(rng.normal(size=(rows, n)) + 0.5, dtype) for _ in range(2))
        w, b = (copy(rng.normal(size=n), dtype) for _ in range(2))
        fields = dict(rows=rows, n=n, center=center, has_w=1, has_b=1, eps=1e-5)

        def compute(rows=rows, n=n, x=x, dy=dy, w=w, b=b, fields=fields):
            y, dx, mean, rstd, dw, db = (
                guarded(s, FLOATS[dtype]) for s in ((rows, n), (rows, n), (rows,), (rows,), (n,), (n,))
            )
            statistics = [mean[0], rstd[0]] if center else [rstd[0]]
            _core.run_kernel(f"rownorm_fwd_{dtype}", [y[0], *statistics, x, w, b], **fields)
            _core.run_kernel(f"rownorm_bwd_x_{dtype}", [dx[0], dy, x, *statistics, w], **fields)
            _core.run_kernel(f"rownorm_bwd_w_{dtype}", [dw[0], db[0], dy, x, *statistics], **fields)
            for _, untouched in (y, dx, mean, rstd, dw, db):
                untouched()
            return [y[0], dx[0], dw[0], db[0]]

        results = same_bits_at_any_thread_count(compute)
        for got, expected in zip(results, norm_reference(x, dy, w, b, 1e-5, center), strict=True):
            scale = 1 + np.max(np.abs(expected), initial=0)
            # one row of one element: the variance is 0, 1 / sqrt(eps) stretches every rounding error
            bound = (3e4 if n == 1 else 100 + rows / 8) * eps * scale
            assert np.max(np.abs(got - expected), initial=0) <= bound, (rows, n)
        total = np.empty(n, FLOATS[dtype])
        _core.run_kernel(f"reduce_{dtype}", [total, dy], kind=0, outer=1, r=rows, inner=n)
        if n > 1:
            assert results[3].tobytes() == total.tobytes(), "db is not in the canonical order"


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_row_far_from_zero_keeps_its_variance(tier, dtype):
    x = copy(np.arange(64.0)[None] + 1e4, dtype)
    y, mean, rstd = np.empty_like(x), np.empty(1, x.dtype), np.empty(1, x.dtype)
    fields = dict(rows=1, n=64, center=1, has_w=0, has_b=0, eps=0.0)
    _core.run_kernel(f"rownorm_fwd_{dtype}", [y, mean, rstd, x], **fields)
    centred = np.arange(64.0) - 31.5
    np.testing.assert_allclose(y[0], centred / np.sqrt(np.mean(centred**2)), rtol=1e-5)
