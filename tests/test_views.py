"""Views: where the compiler reads them in place and where it copies; the kernel that puts parts side by side."""

import itertools

import numpy as np
import pytest
from kernel_testing import same_bits_at_any_thread_count

import fastgd as gd
from fastgd import _core
from fastgd.compiler.layout import contiguous_strides, reshaped_strides
from fastgd.ops import functional as F

RNG = np.random.default_rng(0)


def calls(function, *arrays):
    """Kernel names of the compiled function, and that it has the bits of the eager run."""
    tensors = [gd.tensor(a.astype(np.float32)) for a in arrays]
    compiled = gd.compile(function)
    want, got = function(*tensors), compiled(*tensors)
    assert np.asarray(want).tobytes() == np.asarray(got).tobytes() and want.shape == got.shape
    text = compiled.explain(*tensors)
    return [line.split()[1] for line in text.splitlines() if line[:3].strip().isdigit()], text


A, B = RNG.normal(size=(4, 6)), RNG.normal(size=(6, 4))
X = RNG.normal(size=(2, 5, 12))
HEADS = RNG.normal(size=(2, 3, 5, 4))


@pytest.mark.parametrize(
    ("function", "arrays", "kernels"),
    [
        (lambda a: a[1:, ::2] * 2, (A,), ["elementwise"]),
        (lambda a, b: a.t() + b, (A, B), ["elementwise"]),
        (lambda a, b: a.t() @ b.t(), (A, B), ["gemm_f32"]),
        (lambda a, b: a[:, 1:4] @ b[1:4], (A, B), ["gemm_f32"]),
        (lambda a: F.flip(a, (1,)) - a[0], (A,), ["elementwise"]),
        (lambda a: F.softmax(a[1:3], -1), (A,), ["softmax_fwd_f32"]),  # contiguous: any kernel reads it in place
        (lambda a: F.softmax(a[:, 1:3], -1), (A,), ["permute", "softmax_fwd_f32"]),
        (lambda a: F.sum(a[2]), (A,), ["reduce_f32"]),
        (lambda a: a.unsqueeze(1).expand(4, 3, 6) * a.unsqueeze(1), (A,), ["elementwise"]),
        (lambda x: F.cat([c.flip(-1) for c in x.chunk(3, -1)], 1), (X,), ["assemble"]),
        (lambda h: h.transpose(1, 2).reshape(2, 5, 12), (HEADS,), ["permute"]),  # no strides say that
        # attention's heads: views of one product's result, all the way
        (
            lambda x: (lambda q, k, v: F.softmax(q @ k.transpose(-1, -2), -1) @ v)(
                *(t.reshape(2, 5, 2, 2).transpose(1, 2) for t in x.split(4, -1))
            ),
            (X,),
            ["gemm_f32", "softmax_fwd_f32", "gemm_f32"],
        ),
        (lambda a: a.t(), (A,), ["permute"]),  # a result has memory of its own
        (lambda a: (a.exp().t() * 2).reshape(-1)[3:9], (A,), ["elementwise", "elementwise", "permute"]),
    ],
)
def test_views_are_read_in_place_where_they_can_be(function, arrays, kernels):
    found, text = calls(function, *arrays)
    assert found == kernels, text


def test_explain_says_which_views_are_read_in_place():
    _, text = calls(lambda a, b: a[:, 1:4] @ b.t()[1:4].exp(), A, RNG.normal(size=(5, 6)))
    assert "reads through slice, permute" in text and "reads through slice" in text


def test_large_transpositions_are_made_once():
    found, _ = calls(lambda a: a.t() * 2, RNG.normal(size=(200, 300)))
    assert found == ["permute", "elementwise"]


def test_views_of_parameters_are_copied_before_an_update():
    p = gd.tensor(A, requires_grad=True)

    def step(x):
        before = p.t()[1:]
        with gd.no_grad():
            p.mul_(x)
            p.copy_(F.flip(p, (0,)))
        return before * 1, p.t() * 1

    results = []
    for function in (step, gd.compile(step)):
        with gd.no_grad():
            p.copy_(gd.tensor(A))
        results.append([np.array(t.detach()) for t in (*function(gd.tensor(2.0)), p)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_assignment_from_a_view_of_itself():
    p = gd.zeros(4, 4)
    values = RNG.normal(size=(4, 4)).astype(np.float32)

    @gd.compile
    def transpose_in_place():
        p.copy_(p.t())

    p.copy_(gd.tensor(values))
    transpose_in_place()
    np.testing.assert_array_equal(np.asarray(p), values.T)


def test_what_dies_is_not_overwritten_while_a_part_of_it_is_read():
    def f(x):
        y = x.exp()
        return F.softmax(y[:1] * y[1:2] + y[2:], -1) @ y.t()

    calls(f, RNG.normal(size=(3, 130)))


def test_a_bias_gradient_still_joins_its_product():
    w = gd.tensor(RNG.normal(size=(6, 3)).astype(np.float32))
    found, _ = calls(lambda a: (a.t() @ w[:4] * 1).sum() + a.sum(0).sum(), A)
    assert found.count("reduce_f32") == 2


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 6, 1), (5,), (), (2, 0, 3)])
def test_reshaped_strides_are_those_of_numpy(shape):
    base = np.arange(max(int(np.prod(shape)), 1) * 2)[::2][: int(np.prod(shape))]
    for order in itertools.permutations(range(len(shape))):
        view = base.reshape(shape).transpose(order)
        for new in ((-1,), (2, -1), (-1, 2), (3, -1), (1, -1, 1)):
            try:
                target = view.reshape(new)
            except ValueError:
                continue
            strides = reshaped_strides(view.shape, [s // 8 for s in view.strides], target.shape)
            if strides is None:
                assert not np.shares_memory(view, target) or not view.size
            elif view.size:
                again = np.lib.stride_tricks.as_strided(view, target.shape, [8 * s for s in strides])
                np.testing.assert_array_equal(again, target)


def assemble(y, parts, ground=0, fill=0, base=None):
    """parts: (view of y, source view)."""
    tail, operands = [], []
    start = y.__array_interface__["data"][0]
    for target, source in parts:
        rest = [0] * (8 - source.ndim)
        offset = (target.__array_interface__["data"][0] - start) // y.itemsize
        tail += [source.ndim, offset, *source.shape, *rest, *(s // y.itemsize for s in target.strides), *rest]
        tail += [*(s // y.itemsize for s in source.strides), *rest]
        operands.append(source if source.flags.c_contiguous else np.lib.stride_tricks.as_strided(source, (1,), (8,)))
    fields = {"itemsize": y.itemsize, "numel": y.size, "n_parts": len(parts), "ground": ground, "fill": fill}
    _core.run_kernel("assemble", [y, *([base] if base is not None else []), *operands], tail, **fields)
    return y


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float64"])
def test_assemble(tier, dtype):
    source = RNG.integers(0, 200, (37, 515)).astype(dtype)

    def run():
        tiled = np.full((40, 1040), 7, dtype)
        assemble(tiled, [(tiled[1:38, 2:517], source), (tiled[3:, 520:1035].T, source.T)], ground=1, fill=3)
        covered = np.empty((37, 1030), dtype)
        assemble(covered, [(covered[:, :515], source), (covered[:, 515:], source[:, ::-1])])
        ground = np.arange(2000).astype(dtype)
        written = np.empty(2000, dtype)
        assemble(written, [(written[5:2000:5], source[0, :399])], ground=2, base=ground)
        return [tiled, covered, written]

    tiled, covered, written = same_bits_at_any_thread_count(run)
    expected = np.full((40, 1040), np.asarray(3).astype(dtype) if dtype != "float64" else np.int64(3).view("float64"))
    expected[1:38, 2:517] = source
    expected[3:, 520:1035] = source
    np.testing.assert_array_equal(tiled, expected)
    np.testing.assert_array_equal(covered, np.hstack([source, source[:, ::-1]]))
    expected = np.arange(2000).astype(dtype)
    expected[5::5] = source[0, :399]
    np.testing.assert_array_equal(written, expected)


def test_contiguous_strides():
    assert contiguous_strides((2, 3, 4)) == [12, 4, 1] and contiguous_strides(()) == []
