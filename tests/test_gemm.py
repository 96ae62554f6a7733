"""gemm_f32 and gemm_f64 against a float64 oracle, and against their own canonical order.

Two kinds of check.  Values: every shape, layout, alpha, beta, batch and special value against
`scipy.linalg.blas.dgemm` or a plain float64 product, with the a-priori bound of a dot product
(Higham, Accuracy and Stability of Numerical Algorithms, eq. 3.5).  Bits: an element of c depends
on its row of a and its column of b alone, so layouts, threads, neighbours and the size of the
product around it must not change a single bit of it; `canonical` computes those bits in exact
arithmetic.
"""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import blas

import fastgd
from fastgd._core import run_kernel

KC = 256  # FGD_GEMM_KC and FGD_ROW_SUM_BLOCK of csrc/gemm/gemm.h
DTYPES = [np.float32, np.float64]
LAYOUTS = ["row", "col", "padded", "strided"]
EDGES = [1, 2, 5, 6, 7, 13, 14, 15, 16, 17, 31, 32, 33, 64, 129]
K_EDGES = [0, 1, 2, 15, 255, 256, 257, 513]


@pytest.fixture
def rng():
    return np.random.default_rng(20240917)


@pytest.fixture(autouse=True)
def one_thread():
    fastgd.set_num_threads(1)
    yield
    fastgd.set_num_threads(1)


class Operand:
    """A matrix (or a batch of them) as the kernel sees it: a buffer and a strided view of it."""

    def __init__(self, values, layout="row", offset=0):
        *batch, rows, cols = values.shape
        item = values.dtype.itemsize
        rs, cs, block = {
            "row": (cols, 1, rows * cols),
            "col": (1, rows, rows * cols),
            "padded": (cols + 3, 1, rows * (cols + 3)),
            "strided": (2 * cols + 1, 2, rows * (2 * cols + 1)),
        }[layout]
        strides = []
        total = block
        for extent in reversed(batch):
            strides.insert(0, total)
            total *= extent
        # What lies between the elements must never be read as a value.
        self.buffer = np.full(total + offset + 1, np.nan, values.dtype)[offset:]
        self.view = np.lib.stride_tricks.as_strided(
            self.buffer, values.shape, [s * item for s in (*strides, rs, cs)]
        )
        self.view[...] = values
        self.batch, self.rs, self.cs = strides, rs, cs


def gemm(a, b, *, c=None, alpha=1.0, beta=0.0, row_sum=False, c_offset=0, epilogue=None):
    """alpha * a @ b + beta * c for two operands; c is the old value (None: NaN everywhere).
    With an Epilogue, the list of its outputs instead."""
    batch = np.broadcast_shapes(a.view.shape[:-2], b.view.shape[:-2])
    m, k = a.view.shape[-2:]
    n = b.view.shape[-1]
    dtype = a.view.dtype
    guard = 64
    shape = (*batch, m, n)
    size = int(np.prod(shape))
    storage = np.full(size + 2 * guard + c_offset, 7.0, dtype)
    out = storage[guard + c_offset :][:size].reshape(shape)
    out[...] = np.nan if c is None else c
    sums = np.full(m, np.nan, dtype)

    def batch_strides(x):
        extents = (1,) * (len(batch) - len(x.batch)) + x.view.shape[:-2]
        strides = [0] * (len(batch) - len(x.batch)) + x.batch
        return [0 if e == 1 else s for e, s in zip(extents, strides, strict=True)]

    operands = [out, a.buffer, b.buffer] + ([sums] if row_sum else [])
    tail, results = (), []
    if epilogue is not None:
        tail = epilogue.tail(shape, dtype)
        results = epilogue.new_outputs(out)
        operands += results + epilogue.inputs
    run_kernel(
        "gemm_f32" if dtype == np.float32 else "gemm_f64",
        operands,
        batch_ndim=len(batch), batch_shape=batch, m=m, n=n, k=k,
        a_batch=batch_strides(a), a_rs=a.rs, a_cs=a.cs,
        b_batch=batch_strides(b), b_rs=b.rs, b_cs=b.cs,
        row_sum=int(row_sum), alpha=alpha, beta=beta, tail=tail,
    )  # fmt: skip
    assert (storage[: guard + c_offset] == 7.0).all()
    assert (storage[guard + c_offset + size :] == 7.0).all()
    if epilogue is not None:
        return results
    return (out, sums) if row_sum else out


def values(rng, *shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def check_values(c, a, b, alpha=1.0, beta=0.0, old=None):
    """|c - oracle| within the bound for k products, their scaling and the update."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    k = a.shape[-1]
    if a.ndim == 2 and b.ndim == 2 and min(*a.shape, *b.shape) > 0:
        product = blas.dgemm(1.0, a64, b64)
    else:
        product = a64 @ b64
    magnitude = abs(alpha) * (np.abs(a64) @ np.abs(b64))
    expected = alpha * product
    if beta:
        expected = expected + beta * old.astype(np.float64)
        magnitude = magnitude + abs(beta) * np.abs(old.astype(np.float64))
    bound = (k + 4) * np.finfo(c.dtype).eps * magnitude + np.finfo(c.dtype).tiny
    assert c.shape == expected.shape
    np.testing.assert_array_less(np.abs(c - expected), bound + 1e-300)


def assert_same_bits(x, y):
    bits = {4: np.uint32, 8: np.uint64}[x.dtype.itemsize]
    np.testing.assert_array_equal(
        np.ascontiguousarray(x).view(bits), np.ascontiguousarray(y).view(bits)
    )


# ---- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", EDGES)
def test_sizes_around_the_tiles(rng, dtype, m):
    for n in EDGES:
        for k in (1, 3, 33, 257):
            a, b = values(rng, m, k, dtype=dtype), values(rng, k, n, dtype=dtype)
            check_values(gemm(Operand(a), Operand(b)), a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", K_EDGES)
@pytest.mark.parametrize("b_layout", LAYOUTS)
@pytest.mark.parametrize("a_layout", LAYOUTS)
def test_layouts(rng, dtype, k, a_layout, b_layout):
    # On both sides of the limit below which nothing is packed, and with either side longer.
    for m, n in [(14, 32), (33, 67), (70, 161), (161, 70)]:
        a, b = values(rng, m, k, dtype=dtype), values(rng, k, n, dtype=dtype)
        c = gemm(Operand(a, a_layout), Operand(b, b_layout))
        if k == 0:
            assert_same_bits(c, np.zeros((m, n), dtype))
        else:
            check_values(c, a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta", [0.0, 1.0, -0.5])
@pytest.mark.parametrize("alpha", [0.0, 1.0, 0.7, -2.0])
@pytest.mark.parametrize("shape", [(5, 3, 0), (13, 32, 32), (90, 95, 300), (3, 5, 70000)])
def test_alpha_and_beta(rng, dtype, alpha, beta, shape):
    m, n, k = shape
    a, b = values(rng, m, k, dtype=dtype), values(rng, k, n, dtype=dtype)
    old = values(rng, m, n, dtype=dtype)
    c = gemm(Operand(a), Operand(b, "col"), c=old, alpha=alpha, beta=beta)
    check_values(c, a, b, float(dtype(alpha)), float(dtype(beta)), old)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("a_batch", "b_batch"),
    [
        ((3,), (3,)),
        ((3,), ()),
        ((), (3,)),
        ((2, 1), (1, 3)),
        ((2, 3), (2, 1)),
        ((2, 2, 1, 2), (1, 2, 3, 1)),
    ],
)
@pytest.mark.parametrize("shape", [(4, 6, 5), (66, 130, 40), (130, 66, 300)])
def test_batches_broadcast(rng, dtype, a_batch, b_batch, shape):
    m, n, k = shape
    a, b = values(rng, *a_batch, m, k, dtype=dtype), values(rng, *b_batch, k, n, dtype=dtype)
    for a_layout, b_layout in [("row", "row"), ("col", "padded"), ("row", "col")]:
        check_values(gemm(Operand(a, a_layout), Operand(b, b_layout)), a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [1, 3])
def test_element_alignment_is_enough(rng, dtype, offset):
    for m, n, k in [(13, 32, 31), (70, 161, 80)]:
        a, b = values(rng, m, k, dtype=dtype), values(rng, k, n, dtype=dtype)
        for layout in ("row", "col"):
            c = gemm(Operand(a, layout, offset), Operand(b, layout, offset), c_offset=offset)
            check_values(c, a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (0, 0, 0), (0, 5, 0)])
def test_empty_results(rng, dtype, shape):
    m, n, k = shape
    c = gemm(Operand(values(rng, m, k, dtype=dtype)), Operand(values(rng, k, n, dtype=dtype)))
    assert c.shape == (m, n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_empty_batch(rng, dtype):
    a, b = values(rng, 0, 3, 4, dtype=dtype), values(rng, 0, 4, 5, dtype=dtype)
    assert gemm(Operand(a), Operand(b)).shape == (0, 3, 5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 7, 5), (66, 130, 70), (130, 66, 600)])
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_special_values_stay_in_their_row_and_column(rng, dtype, shape, special):
    m, n, k = shape
    a, b = values(rng, m, k, dtype=dtype), values(rng, k, n, dtype=dtype)
    clean = gemm(Operand(a), Operand(b))
    a[2, 3], b[1, n - 1] = special, special
    with np.errstate(invalid="ignore"):
        expected = a.astype(np.float64) @ b.astype(np.float64)
    c = gemm(Operand(a), Operand(b, "col"))
    np.testing.assert_array_equal(np.isnan(c), np.isnan(expected))
    np.testing.assert_array_equal(c[np.isinf(expected)], expected[np.isinf(expected)])
    assert_same_bits(np.delete(c, 2, 0)[:, :-1], np.delete(clean, 2, 0)[:, :-1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinity_times_zero_is_nan(dtype):
    a, b = np.zeros((20, 4), dtype), np.zeros((4, 40), dtype)
    a[7, 2] = np.inf
    c = gemm(Operand(a), Operand(b))
    assert np.isnan(c[7]).all() and (np.delete(c, 7, 0) == 0).all()


# ---- row sums ----------------------------------------------------------------------------------


def sum_in_blocks(rows):
    """The canonical order of kernels/reduce.c over k: chains of KC, added in order."""
    totals = []
    for start in range(0, rows.shape[1], KC):
        block = np.zeros(rows.shape[0], rows.dtype)
        for column in rows[:, start : start + KC].T:
            block = block + column
        totals.append(block)
    total = totals[0] if totals else np.zeros(rows.shape[0], rows.dtype)
    for block in totals[1:]:
        total = total + block
    return total


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "shape",
    [
        (3, 0, 5),
        (3, 2, 0),
        (32, 13, 32),
        (33, 100, 255),
        (200, 90, 257),
        (90, 200, 700),
        (5, 3, 70000),
    ],
)
def test_row_sums(rng, dtype, layout, shape):
    m, n, k = shape
    a, b = values(rng, m, k, dtype=dtype), values(rng, k, n, dtype=dtype)
    for threads in (1, 3):
        fastgd.set_num_threads(threads)
        c, sums = gemm(Operand(a, layout), Operand(b), row_sum=True)
        assert_same_bits(sums, sum_in_blocks(a))
        assert_same_bits(c, gemm(Operand(a, layout), Operand(b)))


# ---- bits --------------------------------------------------------------------------------------


def round_to(exact, dtype):
    """The nearest dtype value of a Fraction; through float64 rounded to odd for float32, so that
    rounding twice cannot differ from rounding once."""
    near = float(exact)
    if dtype == np.float64 or Fraction(near) == exact:
        return dtype(near)
    if not np.float64(near).view(np.uint64) & 1:
        near = float(np.nextafter(near, np.inf if exact > Fraction(near) else -np.inf))
    return dtype(near)


def tier_has_fma():
    """x * x - round(x * x) is 0 only where the product is rounded before it is added."""
    x = np.float32(1 + 2**-12)
    a, b = np.array([[-1, x]], np.float32), np.array([[x * x], [x]], np.float32)
    return gemm(Operand(a), Operand(b))[0, 0] != 0


def canonical(row, column, fused):
    """One element of a @ b in the order that csrc/gemm/gemm.h fixes."""
    dtype = row.dtype.type
    total = None
    for start in range(0, len(row), KC):
        block = dtype(0)
        for x, y in zip(row[start : start + KC], column[start : start + KC], strict=True):
            product = Fraction(float(x)) * Fraction(float(y))
            if not fused:
                product = Fraction(float(round_to(product, dtype)))
            block = round_to(product + Fraction(float(block)), dtype)
        total = block if total is None else dtype(total + block)
    return total


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 5, 40), (40, 70, 257), (70, 40, 600), (3, 2, 9000)])
def test_canonical_order(rng, dtype, shape):
    m, n, k = shape
    a, b = values(rng, m, k, dtype=dtype), values(rng, k, n, dtype=dtype)
    c = gemm(Operand(a), Operand(b))
    fused = tier_has_fma()
    for i, j in [(0, 0), (m - 1, n - 1), (m // 2, 1)]:
        assert c[i, j] == canonical(a[i], b[:, j], fused)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(13, 32, 32), (32, 2, 32), (150, 230, 520), (230, 150, 90), (7, 9, 20000)]
)
def test_layout_does_not_change_a_bit(rng, dtype, shape):
    m, n, k = shape
    a, b = values(rng, m, k, dtype=dtype), values(rng, k, n, dtype=dtype)
    reference = gemm(Operand(a), Operand(b))
    for a_layout in LAYOUTS:
        for b_layout in LAYOUTS:
            assert_same_bits(gemm(Operand(a, a_layout), Operand(b, b_layout)), reference)
    assert_same_bits(gemm(Operand(b.T), Operand(a.T)), reference.T)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [2, 3, 7])
@pytest.mark.parametrize(
    "shape", [(13, 32, 32), (128, 512, 300), (300, 70, 900), (64, 64, 5000), (1, 1000, 1000)]
)
def test_threads_do_not_change_a_bit(rng, dtype, threads, shape):
    m, n, k = shape
    a, b = values(rng, m, k, dtype=dtype), values(rng, k, n, dtype=dtype)
    old = values(rng, m, n, dtype=dtype)
    for b_layout in ("row", "col"):
        for scale in ({}, {"alpha": 0.3, "beta": 1.5, "c": old}):
            fastgd.set_num_threads(1)
            one = gemm(Operand(a), Operand(b, b_layout), **scale)
            fastgd.set_num_threads(threads)
            assert_same_bits(gemm(Operand(a), Operand(b, b_layout), **scale), one)


@pytest.mark.parametrize("dtype", DTYPES)
def test_batches_in_threads_do_not_change_a_bit(rng, dtype):
    a, b = values(rng, 4, 3, 70, 80, dtype=dtype), values(rng, 3, 80, 90, dtype=dtype)
    one = gemm(Operand(a), Operand(b, "col"))
    fastgd.set_num_threads(3)
    assert_same_bits(gemm(Operand(a), Operand(b, "col")), one)
    fastgd.set_num_threads(1)
    for i, j in np.ndindex(4, 3):
        assert_same_bits(one[i, j], gemm(Operand(a[i, j]), Operand(b[j])))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [31, 256, 800])
def test_an_element_does_not_depend_on_its_neighbours(rng, dtype, k):
    a, b = values(rng, 230, k, dtype=dtype), values(rng, k, 310, dtype=dtype)
    large = gemm(Operand(a), Operand(b))
    for i0, i1, j0, j1 in [
        (0, 1, 0, 1),
        (3, 20, 7, 9),
        (100, 230, 301, 310),
        (17, 18, 0, 310),
        (0, 230, 33, 34),
    ]:
        part = gemm(Operand(a[i0:i1]), Operand(b[:, j0:j1], "col"))
        assert_same_bits(part, large[i0:i1, j0:j1])


# ---- epilogues ---------------------------------------------------------------------------------

OPCODES = {
    name: opcode
    for opcode, name in enumerate(
        re.findall(
            r"^FGD_TILE_OP\((\w+)",
            (Path(__file__).parents[1] / "csrc/kernels/elementwise.def").read_text(),
            re.MULTILINE,
        )
    )
}


class Epilogue:
    """A tile program over c (register 0) and further inputs, broadcast to c's shape.

    ops are (name, destination, sources...); outputs are registers; in_place says which output
    overwrites c itself."""

    def __init__(self, inputs, ops, outputs, in_place=None):
        self.inputs, self.ops, self.outputs, self.in_place = inputs, ops, outputs, in_place

    def tail(self, shape, dtype):
        code = {np.dtype(np.float32): 0, np.dtype(np.float64): 1}[np.dtype(dtype)]
        words = [len(self.outputs), 1 + len(self.inputs), len(self.ops)]
        words.append(1 + max(op[1] for op in self.ops))
        for x in [np.empty(shape, dtype), *self.inputs]:
            strides = [s // x.itemsize for s in np.broadcast_to(x, shape).strides]
            words += [code, *strides, *[0] * (6 - len(strides))]
        for register in self.outputs:
            words += [code, register]
        for name, dst, *sources in self.ops:
            words += [OPCODES[name], code, dst, *sources, *[-1] * (3 - len(sources)), 0, 0]
        return words

    def new_outputs(self, c):
        return [
            c if i == self.in_place else np.full_like(c, np.nan) for i in range(len(self.outputs))
        ]

    def of(self, c):
        """What the elementwise kernel makes of a finished c."""
        words = self.tail(c.shape, c.dtype)
        c = c.copy()
        results = [np.empty_like(c) for _ in self.outputs]
        run_kernel(
            "elementwise", [*results, c, *self.inputs], tail=words[4:], ndim=c.ndim,
            shape=c.shape, n_outputs=words[0], n_inputs=words[1], n_ops=words[2],
            n_registers=words[3],
        )  # fmt: skip
        return results


def bias_relu(rng, shape, dtype):
    bias = values(rng, shape[-1], dtype=dtype)
    return Epilogue([bias], [("add", 2, 0, 1), ("relu", 3, 2)], [3], in_place=0)


def times_relu_derivative(rng, shape, dtype):
    return Epilogue([values(rng, *shape, dtype=dtype)], [("relu_bwd", 2, 0, 1)], [2], in_place=0)


def bias_gelu_keeping_both(rng, shape, dtype):
    bias = values(rng, shape[-1], dtype=dtype)
    return Epilogue([bias], [("add", 2, 0, 1), ("gelu", 3, 2)], [2, 3])


def row_bias_and_residual(rng, shape, dtype):
    column, residual = values(rng, shape[-2], 1, dtype=dtype), values(rng, *shape, dtype=dtype)
    return Epilogue([column, residual], [("add", 3, 0, 1), ("add", 4, 3, 2)], [4])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "make", [bias_relu, times_relu_derivative, bias_gelu_keeping_both, row_bias_and_residual]
)
@pytest.mark.parametrize(
    "shape", [(5, 3, 0), (13, 32, 32), (90, 195, 300), (195, 90, 40), (3, 5, 70000)]
)
def test_epilogue_is_the_elementwise_kernel(rng, dtype, threads, make, shape):
    m, n, k = shape
    a, b = values(rng, m, k, dtype=dtype), values(rng, k, n, dtype=dtype)
    old = values(rng, m, n, dtype=dtype)
    program = make(rng, (m, n), dtype)
    for scale in ({}, {"alpha": 0.3, "beta": 1.5, "c": old}):
        fastgd.set_num_threads(1)
        expected = program.of(gemm(Operand(a), Operand(b), **scale))
        fastgd.set_num_threads(threads)
        results = gemm(Operand(a), Operand(b, "col"), epilogue=program, **scale)
        for y, reference in zip(results, expected, strict=True):
            assert_same_bits(y, reference)


@pytest.mark.parametrize("dtype", DTYPES)
def test_epilogue_of_a_batch(rng, dtype):
    a, b = values(rng, 2, 1, 70, 33, dtype=dtype), values(rng, 3, 33, 130, dtype=dtype)
    plain = gemm(Operand(a), Operand(b))
    program = row_bias_and_residual(rng, plain.shape, dtype)
    (y,) = gemm(Operand(a), Operand(b), epilogue=program)
    assert_same_bits(y, program.of(plain)[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_epilogue_values(rng, dtype):
    """Not only the same as the elementwise kernel: the right numbers."""
    a, b = values(rng, 20, 30, dtype=dtype), values(rng, 30, 40, dtype=dtype)
    program = bias_relu(rng, (20, 40), dtype)
    c = gemm(Operand(a), Operand(b))
    (y,) = gemm(Operand(a), Operand(b), epilogue=program)
    np.testing.assert_array_equal(y, np.maximum(c + program.inputs[0], 0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_epilogue_beside_row_sums(rng, dtype):
    a, b = values(rng, 33, 70, dtype=dtype), values(rng, 70, 40, dtype=dtype)
    program = bias_gelu_keeping_both(rng, (33, 40), dtype)
    expected = program.of(gemm(Operand(a), Operand(b)))
    results = gemm(Operand(a, "col"), Operand(b), epilogue=program, row_sum=True)
    for y, reference in zip(results, expected, strict=True):
        assert_same_bits(y, reference)
