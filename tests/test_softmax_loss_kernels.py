"""softmax_* and cross_entropy_* against formulas in extended precision: layouts, special rows, labels, threads."""

import numpy as np
import pytest
from kernel_testing import FLOATS, guarded, same_bits_at_any_thread_count, unaligned

from fastgd import _core

# (outer, r, inner): few classes, around the lanes, several rows to a unit, blocks of 4096, columns
SHAPES = [(rows, r, 1) for r in (1, 2, 3, 7, 8, 10, 15, 16, 17, 31, 33, 65) for rows in (1, 2, 15, 16, 17, 33)]
SHAPES += [(3, 257, 1), (2, 4095, 1), (2, 4096, 1), (2, 4097, 1), (3, 50_257, 1), (3000, 10, 1), (500, 100, 1)]
SHAPES += [(1, 5, 2), (2, 3, 15), (3, 10, 16), (2, 7, 17), (2, 100, 33), (1, 300, 5), (20, 30, 40), (1, 1, 7)]

ROWS = [1, 2, 15, 16, 17, 32, 33, 128, 3000]
CLASSES = [1, 2, 3, 8, 9, 10, 16, 17, 33, 100, 1000]
LABELS = {np.int32: 3, np.int64: 4, np.uint8: 5}
REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}
IGNORE = -100


def copy(x, dtype):
    """x as the kernel's type at an unaligned address."""
    out = unaligned(x.shape, FLOATS[dtype])
    out[...] = x
    return out


def run_softmax(name, arrays, dtype, log):
    y, untouched = guarded(arrays[0].shape, FLOATS[dtype])
    outer, r, inner = y.shape
    _core.run_kernel(f"softmax_{name}_{dtype}", [y, *arrays], log=log, outer=outer, r=r, inner=inner)
    untouched()
    return y


def log_softmax(x):
    shifted = x - x.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


# ---- softmax ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("log", [0, 1], ids=["softmax", "log_softmax"])
def test_softmax_forward(tier, log, dtype):
    rng = np.random.default_rng(0)
    eps = np.finfo(FLOATS[dtype]).eps
    for shape in SHAPES:
        x = copy(rng.normal(size=shape) * 4 + 30, dtype)
        expected = log_softmax(x.astype(np.longdouble))
        (y,) = same_bits_at_any_thread_count(lambda x=x: [run_softmax("fwd", [x], dtype, log)])
        if log:
            assert (np.abs(y - expected) <= eps * (24 + 4 * np.abs(expected))).all(), shape
        else:
            # x - max is rounded, and exp turns that into a relative error
            bound = eps * (24 + np.abs(x - x.max(axis=1, keepdims=True)))
            assert (np.abs(y / np.exp(expected) - 1) <= bound).all(), shape


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("log", [0, 1], ids=["softmax", "log_softmax"])
def test_softmax_backward(tier, log, dtype):
    rng = np.random.default_rng(1)
    eps = np.finfo(FLOATS[dtype]).eps
    for shape in SHAPES:
        y = copy(log_softmax(rng.normal(size=shape) * 2) if log else np.exp(log_softmax(rng.normal(size=shape))), dtype)
        dy = copy(rng.normal(size=shape), dtype)
        y64, dy64 = y.astype(np.longdouble), dy.astype(np.longdouble)
        if log:
            terms, factor = dy64, np.exp(y64)
            expected = dy64 - factor * terms.sum(axis=1, keepdims=True)
        else:
            terms, factor = dy64 * y64, y64
            expected = factor * (dy64 - terms.sum(axis=1, keepdims=True))
        (dx,) = same_bits_at_any_thread_count(lambda a=[dy, y]: [run_softmax("bwd", a, dtype, log)])
        bound = 32 * eps * (np.abs(dy64) * (1 if log else factor) + factor * np.abs(terms).sum(axis=1, keepdims=True))
        assert (np.abs(dx - expected) <= bound).all(), shape


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("log", [0, 1], ids=["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(3, 5, 1), (3, 40, 1), (3, 5000, 1), (3, 40, 5)], ids=str)
def test_softmax_special_rows(tier, shape, log, dtype):
    def softmax(values):
        x = np.zeros(shape)
        x[1] = -np.inf
        for position, value in values.items():
            x[1, position] = value
        y = run_softmax("fwd", [copy(x, dtype)], dtype, log)
        others = -np.log(shape[1]) if log else 1 / shape[1]
        assert np.allclose(y[[0, 2]], others, rtol=1e-6), "a neighbouring row was changed"
        return y[1]

    assert np.isnan(softmax({})).all(), "nothing but -inf"
    assert np.isnan(softmax({1: np.nan, 2: 5.0})).all()
    bad = softmax({1: np.inf, 2: 5.0})
    assert np.isnan(bad[1]).all()
    one = softmax({2: -1e30})
    assert (one[2] == (0 if log else 1)).all()
    assert (one[3] == (-np.inf if log else 0)).all()
    two = softmax({0: 3.0e4, 4: 3.0e4})
    assert np.allclose(two[[0, 4]], np.log(0.5) if log else 0.5, rtol=1e-6)


# ---- cross-entropy ---------------------------------------------------------------------------------------------------


def forward(x, label, reduction, dtype, ignore=IGNORE):
    rows, classes = x.shape
    loss, check_loss = guarded((rows if reduction == "none" else 1,), FLOATS[dtype])
    lse, check_lse = guarded((rows,), FLOATS[dtype])
    count = np.full(1, -1, FLOATS[dtype])
    fields = dict(rows=rows, classes=classes, label_dtype=LABELS[label.dtype.type], ignore_index=ignore)
    try:
        _core.run_kernel(
            f"cross_entropy_fwd_{dtype}", [loss, lse, count, x, label], reduction=REDUCTIONS[reduction], **fields
        )
    finally:
        check_loss()
        check_lse()
    return loss, lse, count


def backward(g, x, lse, label, count, reduction, dtype, ignore=IGNORE):
    dx, check = guarded(x.shape, FLOATS[dtype])
    fields = dict(rows=x.shape[0], classes=x.shape[1], label_dtype=LABELS[label.dtype.type], ignore_index=ignore)
    try:
        _core.run_kernel(
            f"cross_entropy_bwd_{dtype}", [dx, g, x, lse, label, count], reduction=REDUCTIONS[reduction], **fields
        )
    finally:
        check()
    return dx


def problem(rows, classes, dtype, label_type=np.int64, ignored=0.0, seed=0):
    rng = np.random.default_rng(seed)
    x = copy(rng.normal(size=(rows, classes)) * 3, dtype)
    label = rng.integers(0, min(classes, 250), size=rows).astype(label_type)
    label[rng.random(rows) < ignored] = IGNORE if label_type != np.uint8 else 255
    return x, label


def reference(x, label, ignore=IGNORE):
    """Row losses (0 where ignored), lse and what counts, in extended precision."""
    x = x.astype(np.longdouble)
    counts = label != ignore
    lse = x.max(axis=1) + np.log(np.exp(x - x.max(axis=1, keepdims=True)).sum(axis=1))
    picked = x[np.arange(len(x)), np.where(counts, label, 0).astype(np.int64)]
    return np.where(counts, lse - picked, 0), lse, counts


def reduced(losses, counts, reduction):
    if reduction == "none":
        return losses
    return losses.sum() / (counts.sum() if reduction == "mean" else 1)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy_forward(tier, reduction, dtype):
    eps = np.finfo(FLOATS[dtype]).eps
    for rows in ROWS:
        for classes in CLASSES if rows <= 128 else [2, 10, 50]:
            x, label = problem(rows, classes, dtype)
            losses, lse, counts = reference(x, label)
            got = same_bits_at_any_thread_count(lambda a=(x, label): forward(*a, reduction, dtype))
            assert np.allclose(got[0], reduced(losses, counts, reduction), rtol=8 * eps, atol=8 * eps), (rows, classes)
            assert np.allclose(got[1], lse, rtol=8 * eps, atol=8 * eps), (rows, classes)
            assert got[2][0] == rows


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy_backward(tier, reduction, dtype):
    eps = np.finfo(FLOATS[dtype]).eps
    rng = np.random.default_rng(3)
    for rows in ROWS:
        for classes in CLASSES if rows <= 128 else [2, 10, 50]:
            x, label = problem(rows, classes, dtype)
            lse = reference(x, label)[1].astype(FLOATS[dtype])
            count = np.array([rows], FLOATS[dtype])
            g = rng.normal(size=rows if reduction == "none" else 1).astype(FLOATS[dtype])
            arguments = (g, x, lse, label, count, reduction, dtype)
            (dx,) = same_bits_at_any_thread_count(lambda a=arguments: [backward(*a)])
            scale = g.astype(np.longdouble).reshape(-1, 1) / (rows if reduction == "mean" else 1)
            p = np.exp(x.astype(np.longdouble) - reference(x, label)[1][:, None])
            expected = (p - np.eye(classes)[label]) * scale
            assert (np.abs(dx - expected) <= 64 * eps * np.abs(scale)).all(), (rows, classes)


@pytest.mark.parametrize("label_type", LABELS, ids=lambda t: t.__name__)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_label_types_and_ignored_rows(tier, reduction, label_type):
    ignore = 255 if label_type == np.uint8 else IGNORE
    for rows, classes in [(40, 3), (40, 10), (40, 30), (700, 40)]:
        x, label = problem(rows, classes, "f32", label_type, ignored=0.3)
        x[label == ignore] = np.nan  # must not be looked at
        with np.errstate(invalid="ignore"):
            losses, _, counts = reference(x, label, ignore)
        loss, lse, count = same_bits_at_any_thread_count(lambda a=(x, label): forward(*a, reduction, "f32", ignore))
        assert count[0] == counts.sum() < rows
        assert np.allclose(loss, reduced(losses, counts, reduction), rtol=2e-6, atol=2e-6)
        g = np.ones(rows if reduction == "none" else 1, np.float32)
        dx = backward(g, x, lse, label, count, reduction, "f32", ignore)
        assert (dx[~counts] == 0).all()
        scale = 1 / counts.sum() if reduction == "mean" else 1
        assert np.allclose(dx[counts].sum(axis=1), 0, atol=1e-5 * scale)
        assert (dx[counts, label[counts].astype(np.int64)] < 0).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_class_may_be_ignored(tier, reduction):
    x, label = problem(100, 5, "f32")
    losses, _, counts = reference(x, label, ignore=3)
    loss, lse, count = forward(x, label, reduction, "f32", ignore=3)
    assert 0 < count[0] == counts.sum() < 100
    assert np.allclose(loss, reduced(losses, counts, reduction), rtol=2e-6, atol=2e-6)
    g = np.ones(100 if reduction == "none" else 1, np.float32)
    dx = backward(g, x, lse, label, count, reduction, "f32", ignore=3)
    assert (dx[~counts] == 0).all() and (dx[counts] != 0).all()


def test_nothing_counts(tier):
    x, label = problem(5, 3, "f32")
    label[...] = IGNORE
    for reduction, expected in [("mean", np.nan), ("sum", 0), ("none", 0)]:
        loss, lse, count = forward(x, label, reduction, "f32")
        assert np.array_equal(loss, np.full_like(loss, expected), equal_nan=True) and count[0] == 0
        g = np.ones(5 if reduction == "none" else 1, np.float32)
        assert (backward(g, x, lse, label, count, reduction, "f32") == 0).all()


def test_no_rows(tier):
    x, label = np.empty((0, 3), np.float32), np.empty(0, np.int64)
    assert np.isnan(forward(x, label, "mean", "f32")[0])
    assert forward(x, label, "sum", "f32")[0] == 0


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("bad", [-1, 10, 2**40])
def test_label_out_of_range(tier, bad, reduction):
    for rows, at in [(7, 3), (4000, 3999)]:
        x, label = problem(rows, 10, "f32")
        label[at] = bad
        with pytest.raises(IndexError, match=str(bad)):
            forward(x, label, reduction, "f32")
        lse, count = np.zeros(rows, np.float32), np.array([rows], np.float32)
        with pytest.raises(IndexError, match=str(bad)):
            backward(np.ones(rows, np.float32), x, lse, label, count, reduction, "f32")


def test_large_logits(tier):
    """The loss does not lose the digits of large logits."""
    x = np.array([[1e4, 1e4 - 1, 1e4 - 2], [-1e4, -1e4 - 3, -1e4]])
    label = np.array([1, 2])
    expected, _, _ = reference(x, label)
    assert np.allclose(forward(copy(x, "f32"), label, "none", "f32")[0], expected, rtol=1e-6)
    x = np.array([[0, -np.inf, 1], [-np.inf, -np.inf, -np.inf], [np.nan, 0, 0]])
    loss = forward(copy(x, "f32"), np.array([1, 1, 1]), "none", "f32")[0]
    assert loss[0] == np.inf and np.isnan(loss[1:]).all()
