"""Hooks, gradients of chosen tensors, derivatives of one's own, and rematerialization: eager and compiled."""

import contextlib
import gc

import numpy as np
import pytest

import fastgd as gd
import fastgd.nn.functional as F
from fastgd import _core, nn, optim


def leaf(values, dtype="float64"):
    return gd.tensor(values, dtype=dtype, requires_grad=True)


def array(t):
    return np.array(t.detach())


# ---- hooks -------------------------------------------------------------------------------------------


def test_a_hook_sees_and_replaces_the_gradient_of_a_leaf():
    x, seen = leaf([1.0, 2.0]), []
    handle = x.register_hook(lambda g: seen.append(array(g)))
    x.register_hook(lambda g: g * 10)
    (x * x + x).sum().backward()  # two paths: the hook sees their sum, once
    np.testing.assert_array_equal(seen, [[3, 5]])
    np.testing.assert_array_equal(array(x.grad), [30, 50])
    handle.remove()
    handle.remove()
    x.sum().backward()
    assert len(seen) == 1
    np.testing.assert_array_equal(array(x.grad), [40, 60])


def test_a_hook_of_an_intermediate_result_changes_what_flows_on():
    x = leaf([1.0, 2.0])
    y = x * 3
    with y.register_hook(lambda g: g * 2):
        (y * y).sum().backward()
    np.testing.assert_array_equal(array(x.grad), [2 * 2 * 3 * 3, 2 * 2 * 6 * 3])


def test_a_hook_must_return_a_gradient_of_the_same_shape():
    x = leaf([1.0, 2.0])
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ValueError, match=r"hook: expected a gradient of float64\[2\] or None, got float64\[\]"):
        x.sum().backward()
    assert x.grad is None
    with pytest.raises(TypeError, match="hook: expected a function, got int"):
        x.register_hook(3)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gd.zeros(2).register_hook(print)


def test_retain_grad():
    x = leaf([1.0, 2.0])
    y = x * 3
    y.retain_grad()
    z = y * y
    z.sum().backward(retain_graph=True)
    np.testing.assert_array_equal(array(y.grad), [6, 12])
    z.sum().backward()
    np.testing.assert_array_equal(array(y.grad), [12, 24])
    x.retain_grad()  # a leaf keeps it anyway
    assert z.grad is None


def test_post_accumulate_hook_can_step_an_optimizer():
    x = leaf([1.0, 2.0])
    optimizer = optim.SGD([x], lr=0.5)

    def step(p):
        optimizer.step()
        p.grad = None

    x.register_post_accumulate_grad_hook(step)
    (x * 2).sum().backward()
    np.testing.assert_array_equal(array(x), [0, 1])
    assert x.grad is None
    with pytest.raises(RuntimeError, match="expected a leaf"):
        (x * 2).register_post_accumulate_grad_hook(step)


def test_hooks_are_part_of_a_compiled_step_and_of_its_guards():
    x = leaf([1.0, 2.0])

    @gd.compile
    def step(a):
        y = x * a
        y.retain_grad()
        (y * y).sum().backward()
        return y.grad

    a = gd.tensor([3.0, 5.0], dtype="float64")

    def run():
        x.grad = None
        return array(step(a)), array(x.grad)

    first = run()
    np.testing.assert_array_equal(first, ([6, 20], [18, 100]))
    handle = x.register_hook(lambda g: g * 2)
    np.testing.assert_array_equal(run(), ([6, 20], [36, 200]))
    handle.remove()
    np.testing.assert_array_equal(run(), first)


# ---- autograd.grad and backward ----------------------------------------------------------------------


def test_grad_of_leaves_and_intermediate_results_touches_no_grad():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    y = x * w
    z = (y * y).sum()
    by_y, by_x = gd.autograd.grad(z, [y, x], retain_graph=True)
    np.testing.assert_array_equal(array(by_y), [6, 16])
    np.testing.assert_array_equal(array(by_x), [18, 64])
    assert x.grad is w.grad is None
    np.testing.assert_array_equal(array(gd.autograd.grad(z, w)[0]), [6, 32])
    with pytest.raises(RuntimeError, match="already been freed"):
        gd.autograd.grad(z, w)


def test_grad_visits_only_what_leads_to_its_inputs():
    x, w = leaf([1.0]), leaf([2.0])
    left, right = x * x, w * w
    left.register_hook(lambda g: pytest.fail("not on the way to w"))
    assert array(gd.autograd.grad((left + right).sum(), w)[0]) == 4


def test_grad_of_what_is_not_used():
    x, w = leaf([1.0]), leaf([2.0])
    with pytest.raises(ValueError, match="do not depend on input 1; pass allow_unused=True"):
        gd.autograd.grad((x * x).sum(), [x, w])
    assert gd.autograd.grad((x * x).sum(), [x, w], allow_unused=True)[1] is None
    assert array(gd.autograd.grad((x * x).sum(), [x, w], materialize_grads=True)[1]) == 0
    with pytest.raises(RuntimeError, match="input 0 does not require grad"):
        gd.autograd.grad((x * x).sum(), gd.zeros(1))
    with pytest.raises(NotImplementedError, match="second derivatives"):
        gd.autograd.grad((x * x).sum(), x, create_graph=True)


def test_several_outputs_with_their_weights():
    x = leaf([1.0, 2.0])
    a, b = x * 2, x * x
    (found,) = gd.autograd.grad(
        [a, b], x, [gd.tensor([1.0, 1.0], dtype="float64"), gd.tensor([0.0, 3.0], dtype="float64")]
    )
    np.testing.assert_array_equal(array(found), [2, 2 + 12])
    gd.autograd.backward([(x * 2).sum(), (x * x).sum()])
    np.testing.assert_array_equal(array(x.grad), [4, 6])
    with pytest.raises(ValueError, match="expected a gradient for each of 2 outputs, got 1"):
        gd.autograd.backward([a, b], [None])


# ---- Function ----------------------------------------------------------------------------------------


class Cube(gd.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x)
        ctx.scale = scale
        return x * x * x * scale

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x * x * ctx.scale, None


@pytest.mark.parametrize("compiled", [False, True])
def test_function(compiled):
    x = leaf([1.0, 2.0])

    def step():
        y = Cube.apply(x, 2.0)
        y.sum().backward()
        return y.detach()

    step = gd.compile(step) if compiled else step
    np.testing.assert_array_equal(array(step()), [2, 16])
    np.testing.assert_array_equal(array(x.grad), [6, 24])


def test_function_notices_a_write_to_what_it_saved_and_wrong_gradients():
    x = leaf([1.0, 2.0])
    h = x * 1
    y = Cube.apply(h, 1.0)
    h.detach().mul_(2)
    with pytest.raises(RuntimeError, match="was written in place"):
        y.sum().backward()

    class Wrong(Cube):
        @staticmethod
        def backward(ctx, g):
            return g.sum(), None

    with pytest.raises(ValueError, match=r"Wrong.backward: expected a gradient of .*, got"):
        Wrong.apply(x, 1.0).sum().backward()

    class Few(Cube):
        @staticmethod
        def backward(ctx, g):
            return g

    with pytest.raises(ValueError, match="Few.backward: expected 2 gradients, one per argument, got 1"):
        Few.apply(x, 1.0).sum().backward()
    assert not Cube.apply(x.detach(), 1.0).requires_grad
    with gd.no_grad():
        assert not Cube.apply(x, 1.0).requires_grad


# ---- remat -------------------------------------------------------------------------------------------


def network(use_remat, dtype="float32", p=0.3):
    gd.manual_seed(0)
    first = nn.Linear(7, 33).to(dtype)
    blocks = nn.ModuleList(
        [nn.Sequential(nn.Linear(33, 50), nn.GELU(), nn.Dropout(p), nn.Linear(50, 33)) for _ in range(3)]
    ).to(dtype)
    last = nn.Linear(33, 1).to(dtype)
    wrap = gd.remat if use_remat else (lambda f: f)

    def forward(x):
        h = F.dropout(first(x), p)
        for block in blocks:
            h = h + wrap(block)(h)
        return last(h)

    return forward, [*first.parameters(), *blocks.parameters(), *last.parameters()]


def gradients(use_remat, compiled, dtype="float32", steps=2):
    forward, parameters = network(use_remat, dtype)
    x = gd.tensor(np.random.default_rng(0).normal(size=(11, 7)), dtype=dtype, requires_grad=True)
    gd.manual_seed(5)

    def step():
        loss = (forward(x) ** 2).mean()
        loss.backward()
        return loss.detach()

    step = gd.compile(step) if compiled else step
    found = []
    for _ in range(steps):
        found.append(array(step()))
        found += [array(t.grad) for t in (x, *parameters)]
        for t in (x, *parameters):
            t.grad = None
    return found, gd.random.get_state()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("compiled", [False, True])
def test_remat_changes_no_bit(compiled, dtype):
    expected, state = gradients(False, False, dtype)
    got, after = gradients(True, compiled, dtype)
    assert after == state
    for a, b in zip(expected, got, strict=True):
        assert a.tobytes() == b.tobytes()


def test_remat_of_a_compiled_forward_pass():
    forward, parameters = network(True)
    reference, _ = network(False)
    x = gd.tensor(np.random.default_rng(0).normal(size=(11, 7)), dtype="float32")
    gd.manual_seed(5)
    expected = reference(x)
    gd.manual_seed(5)
    y = gd.compile(forward)(x)
    assert array(y).tobytes() == array(expected).tobytes()
    y.sum().backward()
    assert all(p.grad is not None for p in parameters)


def test_remat_keeps_less_memory():
    def peak(use_remat, compiled=False):
        wrap = gd.remat if use_remat else (lambda f: f)
        weights = [
            gd.tensor(np.random.default_rng(i).normal(size=(64, 64)) / 8, dtype="float32", requires_grad=True)
            for i in range(12)
        ]

        def step(x):
            for w in weights:
                x = wrap(lambda h, w: F.gelu(F.gelu(F.gelu(h @ w)) @ w) @ w)(x, w)
            loss = (x * x).mean()
            loss.backward()
            return loss.detach()

        x = gd.ones(2000, 64)
        if compiled:
            step = gd.compile(step)
            step(x)
            return step.memory()["arena"]
        gc.collect()
        _core.alloc_peak_bytes(True)
        before = _core.alloc_live_bytes()
        step(x)
        return _core.alloc_peak_bytes() - before

    assert peak(True) < 0.55 * peak(False)
    assert peak(True, True) < 0.55 * peak(False, True)


def test_remat_through_structures_constants_and_nesting():
    w = leaf([2.0, 3.0])
    h = w * 2  # on the tape, used from outside of the arguments

    @gd.remat
    def inner(x):
        return (x * x, None, 3)

    @gd.remat
    def outer(x, names=("a",)):
        square, _, number = inner(x)
        return {names[0]: [square * h * number], "same": x}

    x = leaf([1.0, 4.0])
    result = outer(x, names=("b",))
    assert result["same"] is x
    result["b"][0].sum().backward()
    np.testing.assert_array_equal(array(x.grad), 2 * array(x) * array(w) * 2 * 3)
    np.testing.assert_array_equal(array(w.grad), array(x) ** 2 * 3 * 2)


def test_remat_without_a_tape_is_the_function_itself():
    calls = []
    f = gd.remat(lambda x: calls.append(1) or x * 2)
    x = leaf([1.0])
    with gd.no_grad():
        assert not f(x).requires_grad
    assert not f(x.detach()).requires_grad
    assert len(calls) == 2


def test_remat_notices_what_cannot_be_run_again():
    x = leaf([1.0, 2.0])
    sizes = iter([2, 3])

    @gd.remat
    def fickle(a):
        return a * gd.ones(next(sizes), 2, dtype="float64")

    with pytest.raises(RuntimeError, match=r"remat\(fickle\): the second run made"):
        fickle(x).sum().backward()
    outside = gd.ones(2, dtype="float64")
    y = gd.remat(lambda a: a * outside)(x)
    outside.mul_(2)
    with pytest.raises(RuntimeError, match="was written in place"):
        y.sum().backward()
    with pytest.raises(TypeError, match="remat: expected a function or a Module, got int"):
        gd.remat(3)


def test_an_error_in_the_second_run_leaves_random_and_grad_state():
    runs = []

    @gd.remat
    def f(x):
        runs.append(gd.autograd.enable_grad)
        if len(runs) == 2:
            raise OSError("second")
        return F.dropout(x, 0.5)

    x = leaf([1.0, 2.0])
    y = f(x)
    state = gd.random.get_state()
    with contextlib.suppress(OSError):
        y.sum().backward()
    assert len(runs) == 2
    assert gd.random.get_state() == state and gd.is_grad_enabled() and x.grad is None
