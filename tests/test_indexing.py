"""Assignment to slices, index arrays and masks, and what writes in place; reading by keys is in tests/cases."""
# ruff: noqa: E501 - tables are read by rows

import numpy as np
import pytest
from kernel_testing import same_bits_at_any_thread_count

import fastgd as gd
from fastgd import _core

A = np.arange(60.0).reshape(4, 3, 5)
MASK = A % 7 == 0
KEYS = [
    0, -1, (1, 2, 3), slice(1, 3), (slice(None), 1), (..., slice(0, 5, 2)), None, (slice(None), None, 0), ...,
    np.array([0, 2]), (slice(None), np.array([2, 0])), (np.array([0, 1]), slice(None), np.array([3, -1])), (slice(1, 3), np.array([1, 2])),
    (np.array([[0], [2]]), np.array([1, 0])),
]  # fmt: skip


def assign(x, key, value):
    x = x.clone()
    x[key] = value
    return x


def numpy_assign(x, key, value):
    x = x.copy()
    x[key] = value
    return x


@pytest.mark.parametrize("key", KEYS, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "float64"])
def test_assignment_is_numpy_s_eager_and_compiled(key, dtype):
    array = A.astype(dtype)
    for value in (7, np.full(array[key].shape, 3, dtype)):
        expected = numpy_assign(array, key, value)
        given = gd.tensor(value) if isinstance(value, np.ndarray) else value
        for function in (assign, gd.compile(assign)):
            got = function(gd.tensor(array), key, given)
            np.testing.assert_array_equal(np.asarray(got), expected)


def test_assignment_casts_and_broadcasts():
    x = gd.zeros(2, 3, dtype="int64")
    x[0] = 2.75  # as in torch
    x[1] = gd.tensor([1.0, 2.0, 3.0])
    x[:, gd.tensor([0])] = gd.ones(1, 2, 1)
    assert x.tolist() == [[1, 2, 2], [1, 2, 3]]
    y = gd.zeros(3, dtype="bfloat16")
    y[1:] = 1.5
    y[gd.tensor([0])] = 2.0
    assert y.tolist() == [2.0, 1.5, 1.5] and y.dtype == "bfloat16"


@pytest.mark.parametrize("compiled", [False, True])
def test_masks(compiled):
    def write(x, mask, rows):
        x, y = x.clone(), x.clone()
        x[mask] = -1.0
        y[rows] = gd.arange(5).float()
        return x, y

    function = gd.compile(write) if compiled else write
    rows = MASK[:, 0, 0]
    x, y = function(gd.tensor(A), gd.tensor(MASK), gd.tensor(rows))
    np.testing.assert_array_equal(np.asarray(x), numpy_assign(A, MASK, -1))
    np.testing.assert_array_equal(np.asarray(y), numpy_assign(A, rows, np.arange(5)))


def test_a_mask_with_a_value_for_each_element():
    values = np.arange(MASK.sum()) + 0.5
    x = gd.tensor(A)
    x[gd.tensor(MASK)] = gd.tensor(values)
    np.testing.assert_array_equal(np.asarray(x), numpy_assign(A, MASK, values))
    with pytest.raises(NotImplementedError, match="a value for each element that a mask names is not offered inside"):
        gd.compile(lambda x, m, v: assign(x, m, v))(gd.tensor(A), gd.tensor(MASK), gd.tensor(values))


def test_writing_to_state_inside_of_a_compiled_function():
    state = gd.zeros(4, 3)

    @gd.compile
    def step(i, row):
        state[i] = row
        state[:, 1:2] = state[:, 1:2] + 1
        return state[0] * 2

    first = step(gd.tensor([2, 2]), gd.tensor([[1.0, 2, 3], [4, 5, 6]]))
    assert state.tolist() == [[0, 1, 0], [0, 1, 0], [4, 6, 6], [0, 1, 0]] and first.tolist() == [0, 2, 0]
    with pytest.raises(IndexError, match="index assignment: index 9 at position 1 is out of range for a dim of size 4"):
        step(gd.tensor([0, 9]), gd.ones(2, 3))
    assert state.tolist() == [[0, 1, 0], [0, 1, 0], [4, 6, 6], [0, 1, 0]]


def test_a_bad_index_changes_nothing():
    x = gd.zeros(4)
    with pytest.raises(IndexError, match="index 4 at position 1"):
        x[gd.tensor([0, 4])] = 1.0
    with pytest.raises(IndexError, match="index 4 is out of range for dim 0"):
        x[4] = 1.0
    with pytest.raises(ValueError, match=r"a value of shape \(3,\) cannot be written into shape \(2,\)"):
        x[:2] = gd.ones(3)
    with pytest.raises(IndexError, match="scatter_add: index 7 at position 0"):
        x.scatter_add_(0, gd.tensor([7]), gd.ones(1))
    assert x.tolist() == [0, 0, 0, 0]


def test_what_would_be_a_view_is_not_written_and_the_tape_is_kept():
    x = gd.zeros(3, 3)
    with pytest.raises(RuntimeError, match="a slice, which is a copy in fastgd"):
        x[0][1] = 2.0
    w = gd.zeros(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="cannot write in place into a leaf"):
        w[0] = 1.0
    with pytest.raises(NotImplementedError, match="would lose its gradient"):
        x[0] = w


IN_PLACE = {
    "scatter_": (lambda x, i: x.scatter_(0, i, 2.0), lambda x, i: x.scatter(0, i, 2.0)),
    "scatter_add_": (lambda x, i: x.scatter_add_(0, i, x), lambda x, i: x.scatter_add(0, i, x)),
    "index_add_": (lambda x, i: x.index_add_(0, i[:, 0], x, alpha=2), lambda x, i: x.index_add(0, i[:, 0], x, alpha=2)),
    "index_copy_": (lambda x, i: x.index_copy_(0, i[:, 0], x * 2), lambda x, i: x.index_copy(0, i[:, 0], x * 2)),
    "index_fill_": (lambda x, i: x.index_fill_(0, i[:, 0], 3), lambda x, i: x.index_fill(0, i[:, 0], 3)),
    "index_put_": (lambda x, i: x.index_put_((i,), x[0], True), lambda x, i: x.index_put((i,), x[0], True)),
    "masked_fill_": (lambda x, i: x.masked_fill_(x > 1, 0), lambda x, i: x.masked_fill(x > 1, 0)),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_forms_write_what_the_others_return(name):
    write, make = IN_PLACE[name]
    rng = np.random.default_rng(0)
    x, i = gd.tensor(rng.normal(size=(3, 4)).astype(np.float32)), gd.tensor(rng.integers(0, 3, (3, 4)))
    expected = np.array(make(x, i))
    y = x.clone()
    version = y.storage.version
    assert write(y, i) is y and y.storage.version > version
    np.testing.assert_array_equal(np.asarray(y), expected)
    z = x.clone()

    @gd.compile
    def compiled(i):
        write(z, i)

    compiled(i)
    np.testing.assert_array_equal(np.asarray(z), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(1, 50, 1), (3, 7, 300), (1, 1, 5), (2, 40, 17)])
@pytest.mark.parametrize("add", [0, 1])
def test_scatter(tier, dtype, shape, add):
    outer, rows, inner = shape
    rng = np.random.default_rng(0)
    n = 4000
    p = rng.integers(0, rows, n)
    src = rng.integers(0, 3, (outer, n, inner)).astype(dtype)
    base = rng.integers(0, 3, shape).astype(dtype)

    def run():
        results = []
        for ground in (None, base):
            y = np.full(shape, 9, src.dtype) if src.dtype != bool else np.ones(shape, bool)
            fields = {"dtype": _core.as_dtype(dtype).code, "add": add, "outer": outer, "rows": rows, "n": n}
            fields |= {"inner": inner, "has_base": int(ground is not None)}
            _core.run_kernel("scatter", [y, p, src, *([base] if ground is not None else [])], **fields)
            results.append(y)
        return results

    for got, ground in zip(same_bits_at_any_thread_count(run), (np.zeros(shape, dtype), base), strict=True):
        expected = ground.copy()
        for k in range(n):
            expected[:, p[k]] = expected[:, p[k]] + src[:, k] if add else src[:, k]
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 50, 1), (3, 7, 3), (2, 5, 300)])
def test_take(tier, dtype, shape):
    outer, rows, inner = shape
    rng = np.random.default_rng(0)
    x, p = rng.integers(0, 200, shape).astype(dtype), rng.integers(0, rows, 999)

    def run():
        y = np.empty((outer, len(p), inner), dtype)
        fields = {"itemsize": x.itemsize, "outer": outer, "rows": rows, "n": len(p), "inner": inner}
        _core.run_kernel("take", [y, x, p], **fields)
        return [y]

    np.testing.assert_array_equal(same_bits_at_any_thread_count(run)[0], x[:, p])


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_positions_of_every_dtype(tier, dtype):
    x = gd.tensor(np.arange(5000.0))
    i = np.arange(4999, -1, -1) % 200
    np.testing.assert_array_equal(np.asarray(x[gd.tensor(i, dtype=dtype)]), i)
