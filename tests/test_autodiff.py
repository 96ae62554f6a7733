"""The tape: accumulation, freeing, in-place writes, grad mode, shared leaves and memory, gradients of functions."""

import gc
import weakref

import numpy as np
import pytest

import fastgd as gd
from fastgd.ops import functional as F


def leaf(*values):
    return gd.tensor(list(values), dtype="float64", requires_grad=True)


def values(t):
    return np.asarray(t).tolist()


# ---- accumulating and freeing ------------------------------------------------------------------------


def test_gradients_accumulate_until_cleared():
    w = leaf(1.0, 2.0)
    for n in (1, 2, 3):
        (w * w).sum().backward()
        assert values(w.grad) == [2.0 * n, 4.0 * n]
    w.grad = None
    (w * 3).sum().backward()
    assert values(w.grad) == [3, 3]


def test_a_gradient_that_is_set_by_hand_is_added_to():
    w = leaf(1.0)
    w.grad = gd.tensor([10.0], dtype="float64")
    (w * 2).backward()
    assert values(w.grad) == [12]


def test_second_backward_needs_retain_graph():
    w = leaf(1.0, 2.0)
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert values(w.grad) == [4, 8]
    with pytest.raises(RuntimeError, match=r"already been freed by an earlier backward\(\).*retain_graph=True"):
        loss.backward()
    assert values(w.grad) == [4, 8]


def test_a_freed_part_shared_by_two_losses_is_named():
    w = leaf(2.0)
    common = F.exp(w)
    first, second = common * 2, common * 3
    first.backward()
    with pytest.raises(RuntimeError, match="saved tensors of exp"):
        second.backward()


def test_the_tape_goes_with_the_result():
    w = leaf(1.0)
    y = F.exp(w)
    hidden = weakref.ref(y)
    z = (y * y).sum()
    del y
    assert hidden() is None  # the tape holds the memory, not the tensor
    node = weakref.ref(w)
    del z, w
    gc.collect()
    assert node() is None


def test_a_deep_chain_does_not_recurse():
    w = leaf(1.0)
    y = w
    for _ in range(5000):
        y = y + 1
    y.backward()
    assert values(w.grad) == [1]
    del y  # freeing it must not overflow the stack either


# ---- leaves that are used several times --------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x + x, 2),
        (lambda x: x * x, 6),
        (lambda x: x - x, 0),
        (lambda x: x / x, 0),
        (lambda x: x * x * x, 27),
        (lambda x: F.maximum(x, x), 1),
        (lambda x: F.where(x > 0, x, x), 1),
        (lambda x: x.reshape(1, 1).sum() + x, 2),
        (lambda x: F.matmul(x, x), 6),
        (lambda x: F.linear(x.reshape(1, 1), x.reshape(1, 1), x), 7),
        (lambda x: F.mse_loss(x, x * 2), 6),
        (lambda x: F.mse_loss(x, x), 0),
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_the_same_tensor_in_several_places(function, expected, compiled):
    x = leaf(3.0)
    y = (gd.compile(function) if compiled else function)(x)
    y.backward(gd.ones_like(y))
    assert values(x.grad) == [expected]


def test_gradients_do_not_alias():
    """add hands its gradient through to both leaves: each must own its memory."""
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = a + b
    seed = gd.tensor([1.0, 1.0], dtype="float64")
    y.backward(seed)
    a.grad.add_(5)
    assert values(b.grad) == [1, 1] and values(seed) == [1, 1]
    for make in (
        lambda a, b: a.reshape(2, 1) + b.reshape(2, 1),
        lambda a, b: (a + 0) + (b + 0),
        lambda a, b: F.clone(a) + F.reshape(b, (2,)),
        lambda a, b: F.expand(a, (2,)) + b,
    ):
        a.grad = b.grad = None
        y = make(a, b)
        seed = gd.ones_like(y.detach())
        y.backward(seed, retain_graph=True)
        a.grad.zero_()
        assert values(b.grad) == [1, 1] and np.all(np.asarray(seed) == 1)
        y.backward(seed)
        assert values(a.grad) == [1, 1] and values(b.grad) == [2, 2]


def test_gradients_in_the_middle_do_not_alias():
    """As above, where the gradient that is handed through is not the one that the caller gave."""
    a, b, c = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(5.0, 6.0)
    (((a + b) + c.reshape(2)) * 2).sum().backward()
    a.grad.zero_()
    assert values(b.grad) == values(c.grad) == [2, 2]
    b.grad.zero_()
    assert values(c.grad) == [2, 2]


def test_a_leaf_that_is_its_own_result():
    w = leaf(2.0)
    seed = gd.tensor([3.0], dtype="float64")
    w.backward(seed)
    w.backward(seed)
    assert values(w.grad) == [6] and values(seed) == [3]


def test_compiled_gradients_do_not_alias():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)

    @gd.compile
    def step():
        (a + b).sum().backward()

    step()
    a.grad.zero_()
    assert values(b.grad) == [1, 1]


# ---- writes in place ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda t: t.add_(1), lambda t: t.zero_(), lambda t: t.fill_(2), lambda t: t.__setitem__(0, 5.0),
        lambda t: t.copy_(gd.zeros(2)), lambda t: t.reshape(2, 1).mul_(2),
    ],
)  # fmt: skip
def test_writing_to_a_saved_tensor_is_found(write):
    w, x = leaf(1.0, 2.0), gd.tensor([3.0, 4.0], dtype="float64")
    loss = (w * x).sum()
    write(x)
    with pytest.raises(RuntimeError, match="derivative of mul needs was written in place"):
        loss.backward()
    assert w.grad is None


def test_writing_to_a_tensor_that_no_derivative_reads_is_fine():
    w, x = leaf(1.0, 2.0), gd.tensor([3.0, 4.0], dtype="float64")
    loss = (w + x).sum()
    x.add_(1)
    loss.backward()
    assert values(w.grad) == [1, 1]


def test_saved_results_are_watched_too():
    w = leaf(0.0)
    y = F.exp(w)
    with gd.no_grad():
        y.mul_(2)
    with pytest.raises(RuntimeError, match="derivative of exp"):
        y.backward()


def test_in_place_writes_that_are_refused():
    w = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match=r"a leaf that requires grad.*no_grad"):
        w.add_(1)
    with pytest.raises(RuntimeError, match="a tensor that is on the tape"):
        (w * 2).add_(1)
    total = gd.zeros(2, dtype="float64")
    for write in (lambda: total.add_(w), lambda: total.copy_(w), lambda: total.__setitem__(0, w.sum())):
        with pytest.raises(NotImplementedError, match="would lose its gradient"):
            write()
    with gd.no_grad():
        w.add_(1)
        total.add_(w)
    assert values(w) == values(total) == [2, 3]


# ---- grad mode ---------------------------------------------------------------------------------------


def test_no_grad_and_enable_grad_nest_and_restore():
    w = leaf(1.0)
    with gd.no_grad():
        assert not gd.is_grad_enabled() and not (w * 2).requires_grad
        with gd.enable_grad():
            assert (w * 2).requires_grad
        assert not gd.is_grad_enabled()
    assert gd.is_grad_enabled()
    with pytest.raises(KeyError), gd.no_grad():
        raise KeyError
    assert gd.is_grad_enabled()
    with gd.set_grad_enabled(False):
        assert not gd.is_grad_enabled()
    assert gd.is_grad_enabled()


@pytest.mark.parametrize("decorate", [gd.no_grad, gd.no_grad(), gd.inference_mode()])
def test_no_grad_as_a_decorator(decorate):
    @decorate
    def double(x, times=2):
        """Twice."""
        return x * times

    assert not double(leaf(1.0), times=3).requires_grad
    assert gd.is_grad_enabled() and double.__name__ == "double" and double.__doc__ == "Twice."

    @gd.enable_grad()
    def on(x):
        return x * 2

    with gd.no_grad():
        assert on(leaf(1.0)).requires_grad


def test_detach_shares_memory_and_stops_gradients():
    w = leaf(2.0)
    d = w.detach()
    assert not d.requires_grad and d.is_leaf and d.data_ptr() == w.data_ptr()
    (w * d).backward()
    assert values(w.grad) == [2]
    d.fill_(7)
    assert values(w) == [7]


def test_requires_grad():
    w = leaf(1.0)
    assert w.is_leaf and w.grad_fn is None and not (w * 2).is_leaf and (w * 2).grad_fn is not None
    assert not (w > 0).requires_grad and not w.long().requires_grad
    with pytest.raises(RuntimeError, match=r"only floating-point tensors can require grad, got fastgd.int64"):
        gd.tensor([1]).requires_grad_()
    with pytest.raises(RuntimeError, match="on the tape cannot be switched off"):
        (w * 2).requires_grad_(False)
    w.requires_grad = False
    assert not (w * 2).requires_grad


# ---- errors ------------------------------------------------------------------------------------------


def test_errors_of_backward():
    w = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match=r"one element or an explicit gradient, got shape \(2,\)"):
        (w * 2).backward()
    with pytest.raises(ValueError, match=r"expected a gradient of float64\[2\], got float64\[3\]"):
        (w * 2).backward(gd.zeros(3, dtype="float64"))
    with pytest.raises(ValueError, match=r"expected a gradient of float64\[2\], got float32\[2\]"):
        (w * 2).backward(gd.zeros(2))
    with pytest.raises(RuntimeError, match="does not depend on anything that requires grad"):
        gd.ones(1).backward()
    with pytest.raises(NotImplementedError, match="second derivatives"):
        (w * 2).sum().backward(create_graph=True)
    with pytest.raises(ValueError, match=r"grad: expected float64\[2\], got float64\[1\]"):
        w.grad = gd.zeros(1, dtype="float64")
    with pytest.raises(TypeError, match="grad: expected a Tensor or None, got list"):
        w.grad = [1, 2]


def test_a_failing_backward_leaves_grad_mode_and_gradients():
    w = leaf(1.0)
    loss = (w * w).sum()
    loss.backward()
    with pytest.raises(RuntimeError):
        loss.backward()
    assert gd.is_grad_enabled() and values(w.grad) == [2]


# ---- explicit gradients, branches, dropout -----------------------------------------------------------


def test_an_explicit_gradient_weighs_the_elements():
    w = leaf(1.0, 2.0)
    (w * w).backward(gd.tensor([10.0, 100.0], dtype="float64"))
    assert values(w.grad) == [20, 400]


def test_only_the_branches_that_lead_to_the_root_count():
    w, v = leaf(1.0), leaf(2.0)
    used, unused = w * 2, w * 100 + v
    used.backward()
    assert values(w.grad) == [2] and v.grad is None
    assert unused.requires_grad


def test_gradients_follow_the_dtype_of_the_leaf():
    w = gd.tensor([1.0, 2.0], requires_grad=True)
    (w * gd.tensor([3.0, 4.0], dtype="float64")).sum().backward()
    assert w.grad.dtype == "float32" and values(w.grad) == [3, 4]
    h = gd.tensor([1.0, 2.0], dtype="bfloat16", requires_grad=True)
    (h.float() * 3).sum().backward()
    assert h.grad.dtype == "bfloat16" and values(h.grad) == [3, 3]


def test_dropout_uses_one_mask_for_both_passes():
    w = gd.ones(1000, requires_grad=True)
    y = F.dropout(w, 0.5)
    F.dropout(w, 0.5)  # moves the generator on
    y.sum().backward()
    np.testing.assert_array_equal(np.asarray(w.grad), np.asarray(y.detach()))


def test_reshape_of_a_leaf_is_on_the_tape():
    w = leaf(1.0, 2.0)
    (w.reshape(2, 1) * gd.tensor([[3.0], [4.0]], dtype="float64")).sum().backward()
    assert values(w.grad) == [3, 4]
    with gd.no_grad():
        assert not w.reshape(2, 1).requires_grad


# ---- gradients of functions --------------------------------------------------------------------------


def test_grad_and_value_and_grad():
    def f(x, y, scale=1.0):
        return (x * x * y).sum() * scale

    x, y = gd.tensor([1.0, 2.0]), gd.tensor([3.0, 4.0])
    value, g = gd.value_and_grad(f)(x, y)
    assert value.item() == 19 and values(g) == [6, 16] and not value.requires_grad
    assert values(gd.grad(f)(x, y, scale=2.0)) == [12, 32]
    gx, gy = gd.grad(f, argnums=(0, 1))(x, y)
    assert values(gx) == [6, 16] and values(gy) == [1, 4]
    assert not x.requires_grad and x.grad is None
    with gd.no_grad():
        assert values(gd.grad(f)(x, y)) == [6, 16]
    assert values(gd.grad(f)(np.array([1.0, 2.0]), y)) == [6, 16]
    assert values(gd.grad(lambda x: gd.ones(1).sum())(x)) == [0, 0]
    compiled = gd.compile(gd.value_and_grad(f))
    for _ in range(2):
        value, g = compiled(x, y)
        assert value.item() == 19 and values(g) == [6, 16]


def test_grad_does_not_touch_other_leaves():
    w = gd.tensor([1.0], requires_grad=True)
    gd.grad(lambda x: (x * w).sum())(gd.tensor([2.0]))
    assert w.grad is None


def test_grad_of_the_same_array_twice():
    x = gd.tensor([3.0])
    a, b = gd.grad(lambda a, b: (a * a * b).sum(), argnums=(0, 1))(x, x)
    assert values(a) == [18] and values(b) == [9]


def test_a_result_that_is_not_used_gives_no_gradient_compiled():
    """As in eager mode: a leaf that only the other result depends on keeps `.grad` None."""
    a, b = leaf(1.0), leaf(2.0)
    first, second = gd.compile(lambda x, y: (x * 2, x * y))(a, b)
    first.backward(retain_graph=True)
    assert values(a.grad) == [2] and b.grad is None
    second.backward()
    assert values(a.grad) == [4] and values(b.grad) == [1]


def test_leaves_that_a_compiled_function_returns():
    a, b = leaf(1.0), leaf(2.0)
    same, column = gd.compile(lambda x: (x, b.reshape(1, 1)))(a)
    same.backward(gd.tensor([3.0], dtype="float64"), retain_graph=True)  # one tape node for all results
    column.backward()
    assert values(a.grad) == [3] and values(b.grad) == [1]
