"""permute against NumPy's transpose, strided views and broadcasts: bits are copied exactly."""

import itertools

import numpy as np
import pytest
from kernel_testing import guarded, same_bits_at_any_thread_count

from fastgd import _core

DTYPES = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def permute(view):
    """The kernel's contiguous copy of a (strided) view."""
    y, untouched = guarded(view.shape, view.dtype)
    stride = [s // view.itemsize for s in view.strides]
    first = np.lib.stride_tricks.as_strided(view, (1,), (view.itemsize,))  # its address stands for the view
    _core.run_kernel("permute", [y, first], itemsize=view.itemsize, ndim=view.ndim, shape=view.shape, stride=stride)
    untouched()
    return y


def numbers(shape, itemsize):
    """Distinct bit patterns as far as the type has them, NaN patterns of floats included."""
    n = int(np.prod(shape, dtype=np.int64))
    bits = np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (bits >> np.uint64(64 - 8 * itemsize)).astype(DTYPES[itemsize]).reshape(shape)


def check(view):
    (y,) = same_bits_at_any_thread_count(lambda: [permute(view)])
    assert y.tobytes() == np.ascontiguousarray(view).tobytes(), (view.shape, view.strides)


@pytest.mark.parametrize("itemsize", DTYPES)
def test_matrix_transpose(tier, itemsize):
    sizes = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130)
    for rows, cols in itertools.product(sizes, sizes):
        check(numbers((rows, cols), itemsize).T)
    check(numbers((1000, 517), itemsize).T)
    check(numbers((3, 5000), itemsize).T)
    check(numbers((5000, 3), itemsize).T)


@pytest.mark.parametrize("itemsize", DTYPES)
def test_all_permutations(tier, itemsize):
    for shape in [(5, 7, 6), (3, 4, 5, 6), (2, 3, 1, 4, 5), (17, 16, 3), (2, 33, 2, 34)]:
        x = numbers(shape, itemsize)
        for axes in itertools.permutations(range(len(shape))):
            check(x.transpose(axes))


@pytest.mark.parametrize("itemsize", DTYPES)
def test_layouts_of_images(tier, itemsize):
    for n, c, h, w in [(2, 3, 8, 8), (4, 32, 14, 14), (3, 64, 7, 5), (2, 16, 33, 31)]:
        check(numbers((n, c, h, w), itemsize).transpose(0, 2, 3, 1))
        check(numbers((n, h, w, c), itemsize).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("itemsize", DTYPES)
def test_views(tier, itemsize):
    x = numbers((40, 50), itemsize)
    for view in [x, x[3:30], x[:, 5:45], x[::2], x[:, ::3], x[::3, ::2], x[::-1], x[:, ::-1], x[::2, ::-2].T]:
        check(view)
    check(x[3:4, 4].reshape(()))
    check(numbers((2,) * 8, itemsize).transpose(7, 0, 6, 1, 5, 2, 4, 3))


@pytest.mark.parametrize("itemsize", DTYPES)
def test_broadcasts(tier, itemsize):
    check(np.broadcast_to(numbers((1,), itemsize), (3, 1000)))
    check(np.broadcast_to(numbers((50,), itemsize), (300, 50)))
    check(np.broadcast_to(numbers((300, 1), itemsize), (300, 50)))
    check(np.broadcast_to(numbers((5, 1, 20), itemsize), (5, 40, 20)))
    check(np.broadcast_to(numbers((5, 20, 1), itemsize), (5, 20, 33)).transpose(1, 0, 2))
    check(np.broadcast_to(numbers((1, 20, 30), itemsize), (7, 20, 30)).transpose(0, 2, 1))


def test_empty(tier):
    for shape in [(0,), (0, 3), (3, 0), (2, 0, 5)]:
        assert permute(np.empty(shape, np.float32).T).size == 0


def test_large(tier):
    check(numbers((600, 2048), 4).T)
    check(numbers((300_001,), 8))
    check(numbers((300_001, 2), 4)[:, 1])
    check(np.broadcast_to(numbers((1,), 2), (1_000_003,)))
    check(numbers((8, 100, 12, 64), 4).transpose(0, 2, 1, 3))
    check(numbers((8, 100, 12, 64), 4).transpose(0, 2, 3, 1))
