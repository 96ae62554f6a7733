"""Optimizer steps, grad_norm and scale_all; sgd and adam against float64 loops written from the published formulas.

Momentum: Sutskever et al. 2013 in the form of torch.optim.SGD; Adam: Kingma & Ba 2015, algorithm 1;
AMSGrad: Reddi et al. 2018; AdamW: Loshchilov & Hutter 2019, algorithm 2."""

import numpy as np
import pytest
from kernel_testing import FLOATS, guarded, same_bits_at_any_thread_count, selected_tier, unaligned

from fastgd import _core

HYPER, RECORD = 12, 4  # FGD_HYPER, FGD_RECORD
MAXIMIZE, DECOUPLED = 256, 512
# After all steps, relative to the largest element.  0.999 rounds to float32 with an error of 2e-8 in each step.
TOLERANCE = {"f32": 5e-6, "f64": 1e-12}
SMALL = [13 * 32, 32, 1024, 32, 64, 2]  # the 13-32-32-2 network
ODD = [1, 15, 16, 17, 0, 63, 65, 4095, 4097]
LARGE = [70_000, 5, 16_384, 16_385, 33_333, 1, 27_732]  # ten units of 16,384 to the last element
assert sum(LARGE) == 10 * 16_384


def buffers(lengths, dtype, values=None):
    """Unaligned arrays, one per segment, and what checks their surroundings."""
    arrays, checks = zip(*(guarded((n,), FLOATS[dtype]) for n in lengths), strict=True)
    for i, a in enumerate(arrays):
        a[...] = 0 if values is None else values[i]
    return list(arrays), checks


class Run:
    """A kernel's buffers beside the float64 reference's, both stepping with the same gradients."""

    def __init__(self, lengths, dtype, states, groups, group_of=None, seed=0):
        self.rng = np.random.default_rng(seed)
        self.lengths, self.dtype = lengths, dtype
        start = [self.rng.normal(size=n).astype(FLOATS[dtype]) for n in lengths]
        self.p, self.checks = buffers(lengths, dtype, start)
        self.states = []
        for _ in range(states):
            arrays, checks = buffers(lengths, dtype)
            self.states.append(arrays)
            self.checks += checks
        self.groups = np.zeros((len(groups), HYPER))
        for row, values in zip(self.groups, groups, strict=True):
            row[: len(values)] = values
        self.group_of = group_of or [0] * len(lengths)
        self.records = np.zeros((len(lengths), RECORD))
        self.steps = self.records[:, 0]
        self.reference = [(a.astype(np.float64), *(np.zeros(a.size) for _ in range(states))) for a in start]
        self.tail = [w for s, n in enumerate(lengths) for w in (n, self.group_of[s], s)]

    def gradients(self):
        return [self.rng.normal(size=n).astype(FLOATS[self.dtype]) for n in self.lengths]

    def step(self, kernel, gradients, flags, scale=None):
        operands = [self.groups, self.records]
        if scale is not None:
            operands.append(np.array([scale], FLOATS[self.dtype]))
        operands += self.p + gradients + [a for state in self.states for a in state]
        fields = dict(n_segments=len(self.lengths), n_groups=len(self.groups), flags=flags)
        _core.run_kernel(f"{kernel}_step_{self.dtype}", operands, self.tail, has_scale=scale is not None, **fields)
        for check in self.checks:
            check()

    def compare(self):
        for s, (expected, *states) in enumerate(self.reference):
            for got, want in zip([self.p, *self.states], [expected, *states], strict=True):
                error = np.abs(got[s] - want).max(initial=0) / np.abs(want).max(initial=1)
                assert error < TOLERANCE[self.dtype], (s, error)


def sgd_reference(p, buf, g, step, lr, weight_decay, momentum, dampening, nesterov, maximize):
    """step counts from 0."""
    g = (-g if maximize else g) + weight_decay * p
    if momentum:
        buf = g if step == 0 else momentum * buf + (1 - dampening) * g
        g = g + momentum * buf if nesterov else buf
    return p - lr * g, buf


def adam_reference(p, m, v, vmax, g, step, lr, weight_decay, beta1, beta2, eps, amsgrad, maximize, decoupled):
    """step counts from 1."""
    g = -g if maximize else g
    if decoupled:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    vmax = np.maximum(vmax, v)
    v_hat = (vmax if amsgrad else v) / (1 - beta2**step)
    return p - lr * (m / (1 - beta1**step)) / (np.sqrt(v_hat) + eps), m, v, vmax


# lr, weight_decay, momentum, dampening; flags 1 momentum, 2 nesterov
SGD_CASES = [
    (0.1, 0.0, 0.0, 0.0, 0),
    (0.1, 0.01, 0.0, 0.0, MAXIMIZE),
    (0.05, 0.0, 0.9, 0.0, 1),
    (0.05, 0.01, 0.9, 0.1, 1),
    (0.05, 0.01, 0.9, 0.0, 3),
    (0.05, 0.001, 0.9, 0.3, 1 | MAXIMIZE),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", SGD_CASES)
@pytest.mark.parametrize("lengths", [SMALL, ODD, LARGE], ids=["small", "odd", "large"])
def test_sgd(tier, lengths, case, dtype):
    *hyper, flags = case
    run = Run(lengths, dtype, flags & 1, [hyper])
    n_steps = 10 if lengths is LARGE else 100
    for step in range(n_steps):
        gradients = run.gradients()
        run.step("sgd", gradients, flags)
        for s, g in enumerate(gradients):
            p, *buf = run.reference[s]
            p, new = sgd_reference(p, *(buf or [None]), g.astype(np.float64), step, *hyper, flags & 2, flags & MAXIMIZE)
            run.reference[s] = (p, new) if buf else (p,)
    run.compare()
    assert (run.steps == n_steps).all()


# lr, weight_decay, beta1, beta2, eps; flags 1 amsgrad
ADAM_CASES = [
    (1e-2, 0.0, 0.9, 0.999, 1e-8, 0),
    (1e-2, 0.05, 0.9, 0.999, 1e-8, 0),
    (1e-2, 0.05, 0.9, 0.999, 1e-8, DECOUPLED),
    (1e-2, 0.1, 0.9, 0.95, 1e-6, 1 | DECOUPLED),
    (1e-2, 0.1, 0.8, 0.99, 1e-3, 1 | DECOUPLED | MAXIMIZE),
    (1e-2, 0.0, 0.0, 0.99, 1e-8, MAXIMIZE),
    (1e-2, 0.01, 0.3, 0.9, 1e-8, 1),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", ADAM_CASES)
@pytest.mark.parametrize("lengths", [SMALL, ODD, LARGE], ids=["small", "odd", "large"])
def test_adam(tier, lengths, case, dtype):
    *hyper, flags = case
    run = Run(lengths, dtype, 3 if flags & 1 else 2, [hyper])
    n_steps = 10 if lengths is LARGE else 100
    for step in range(1, n_steps + 1):
        gradients = run.gradients()
        run.step("adam", gradients, flags)
        for s, g in enumerate(gradients):
            p, m, v, *vmax = run.reference[s]
            options = flags & 1, flags & MAXIMIZE, flags & DECOUPLED
            state = adam_reference(p, m, v, vmax[0] if vmax else 0, g.astype(np.float64), step, *hyper, *options)
            run.reference[s] = state[: 3 + len(vmax)]
    run.compare()
    assert (run.steps == n_steps).all()


@pytest.mark.parametrize("kernel", ["sgd", "adam"])
def test_groups_steps_and_scale(tier, kernel):
    """Segments of two groups, some of them ahead of others, and a gradient scale that is not exact."""
    groups = {
        "sgd": [(0.1, 0.0, 0.9, 0.5), (0.01, 0.1, 0.5, 0.0)],
        "adam": [(1e-2, 0.1, 0.9, 0.999, 1e-8), (1e-3, 0.0, 0.7, 0.9, 1e-6)],
    }[kernel]
    lengths = [40, 100, 7, 300, 5]
    run = Run(lengths, "f64", 1 if kernel == "sgd" else 2, groups, group_of=[0, 1, 1, 0, 0])
    run.steps[...] = start = np.array([0, 3, 3, 7, 0])
    scale = 0.3
    for step in range(20):
        gradients = run.gradients()
        run.step(kernel, gradients, 1 if kernel == "sgd" else DECOUPLED, scale)
        for s, g in enumerate(gradients):
            hyper, n = groups[run.group_of[s]], start[s] + step
            if kernel == "sgd":
                run.reference[s] = sgd_reference(*run.reference[s], scale * g, n, *hyper, 0, 0)
            else:
                run.reference[s] = adam_reference(*run.reference[s], 0, scale * g, n + 1, *hyper, 0, 0, 1)[:3]
    run.compare()
    assert (run.steps == start + 20).all()


#: Every rule: state buffers with all flags set, those flags, and hyper-parameters after lr and weight_decay.
RULES = {
    "sgd": (1, 3, (0.9, 0.0)),
    "adam": (3, 1, (0.9, 0.99, 1e-8)),
    "nadam": (2, 0, (0.9, 0.99, 1e-8, 4e-3)),
    "adamax": (2, 0, (0.9, 0.99, 1e-8)),
    "adagrad": (1, 0, (0.01, 0.1, 1e-10)),
    "adadelta": (2, 0, (0.9, 1e-6)),
    "rmsprop": (3, 3, (0.99, 1e-8, 0.9)),
    "rprop": (2, 0, (0.5, 1.2, 1e-6, 50.0)),
    "asgd": (1, 0, (1e-4, 0.75, 1.0)),
    "lion": (1, 0, (0.9, 0.99)),
    "adabelief": (2, 0, (0.9, 0.99, 1e-8, 1e-16)),
    "adan": (4, 0, (0.98, 0.92, 0.99, 1e-8, 0.0)),
    "ademamix": (3, 0, (0.9, 0.99, 0.999, 5.0, 1e-8)),
    "adopt": (2, 1, (0.9, 0.99, 1e-6)),
    "schedule_free": (2, 1, (0.9, 0.99, 1e-8, 2.0, 1.0, 2.0)),
    "sophia": (2, 0, (0.9, 0.99, 0.1, 1e-3)),
    "lamb": (2, 0, (0.9, 0.99, 1e-6)),
    "lars": (1, 1, (0.9, 0.01, 1e-8)),
    "novograd": (1, 0, (0.9, 0.3, 1e-6)),
    "prodigy": (4, 0, (0.9, 0.99, 1e-8, 1e-2, 1.0)),
    "dadapt_adam": (3, 0, (0.9, 0.99, 1e-8, 1e-2)),
}
OWN_DECAY = {"adan", "adopt", "schedule_free", "lamb", "novograd", "prodigy", "dadapt_adam"}


def test_every_rule_is_here():
    assert {f"{name}_step_{d}" for name in RULES for d in FLOATS} == {k for k in _core.kernels() if "_step_f" in k}


def run_rule(kernel, lengths, dtype, steps=3, decay=0.1):
    states, flags, hyper = RULES[kernel]
    flags |= 4096 if kernel in OWN_DECAY else 0
    run = Run(lengths, dtype, states, [(0.01, decay, *hyper)])
    for _ in range(steps):
        run.step(kernel, run.gradients(), flags)
    return run


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel", RULES)
def test_same_bits_however_the_segments_are_cut(tier, kernel, dtype):
    def compute():
        run = run_rule(kernel, LARGE, dtype)
        return [a for arrays in (run.p, *run.states, [run.records]) for a in arrays]

    same_bits_at_any_thread_count(compute)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel", RULES)
@pytest.mark.parametrize("lengths", [ODD, LARGE], ids=["odd", "large"])
def test_all_tiers_agree(tier, kernel, lengths, dtype):
    """The formulas themselves are tested through the optimizers; here every tier, unaligned, in and across units,
    against the numbers of the scalar tier."""
    run = run_rule(kernel, lengths, dtype)
    with selected_tier("scalar"):
        scalar = run_rule(kernel, lengths, dtype)
    assert any(np.any(state) for arrays in run.states for state in arrays) and np.all(run.steps == 3)
    for got, want in zip([run.p, *run.states], [scalar.p, *scalar.states], strict=True):
        for a, b in zip(got, want, strict=True):
            assert np.abs(a - b).max(initial=0) <= TOLERANCE[dtype] * np.abs(b).max(initial=1)


def test_a_segment_has_the_same_bits_in_any_company(tier):
    """Alone in one unit, or in the middle of a long list: elementwise updates do not depend on the cut."""
    results = []
    for before in ([], [20_000, 3]):
        run = Run([*before, 30_001], "f32", 2, [(0.01, 0.1, 0.9, 0.99, 1e-8)])
        rng = np.random.default_rng(9)
        run.p[-1][...] = rng.normal(size=30_001)
        gradients = run.gradients()
        gradients[-1][...] = rng.normal(size=30_001)
        run.step("adam", gradients, DECOUPLED)
        results.append(run.p[-1].tobytes())
    assert results[0] == results[1]


def test_nonfinite_gradients_spread_only_to_their_element(tier):
    run = Run([100], "f32", 2, [(0.01, 0.1, 0.9, 0.99, 1e-8)])
    (g,) = run.gradients()
    g[[3, 50, 99]] = np.nan, np.inf, -np.inf
    run.step("adam", [g], DECOUPLED)
    assert (np.flatnonzero(np.isnan(run.p[0])) == [3, 50, 99]).all()


# ---- the gradient norm -----------------------------------------------------------------------------------------------


def grad_norm(gradients, dtype, max_norm=1.0, check_finite=0):
    norm, coef = np.empty(1, FLOATS[dtype]), np.empty(1, FLOATS[dtype])
    fields = dict(n_segments=len(gradients), max_norm=max_norm, check_finite=check_finite)
    _core.run_kernel(f"grad_norm_{dtype}", [norm, coef, *gradients], [g.size for g in gradients], **fields)
    return norm, coef


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("lengths", [[1], [15, 17], SMALL, ODD, LARGE, [1_000_000]], ids=str)
def test_grad_norm(tier, lengths, dtype):
    rng = np.random.default_rng(0)
    gradients = []
    for n in lengths:
        g = unaligned((n,), FLOATS[dtype])
        g[...] = rng.normal(size=n)
        gradients.append(g)
    exact = np.sqrt(sum(np.sum(g.astype(np.longdouble) ** 2) for g in gradients))
    eps = np.finfo(FLOATS[dtype]).eps
    for max_norm in (0.5, 1e9):
        norm, coef = same_bits_at_any_thread_count(lambda m=max_norm: grad_norm(gradients, dtype, m))
        assert abs(norm[0] - exact) <= 4 * eps * exact
        assert abs(coef[0] - min(1, max_norm / (exact + 1e-6))) <= 8 * eps * coef[0]


def test_grad_norm_special_values(tier):
    for bad, expected in [(np.inf, 0.0), (np.nan, np.nan)]:
        gradients = [np.ones(20, np.float32), np.array([1, bad, 3], np.float32), np.array([bad], np.float32)]
        norm, coef = grad_norm(gradients, "f32")
        assert not np.isfinite(norm[0])
        assert np.array_equal(coef[0], expected, equal_nan=True)
        with pytest.raises(FloatingPointError):
            grad_norm(gradients, "f32", check_finite=1)
    huge = [np.full(1000, 1e30, np.float32)]
    assert np.isclose(grad_norm(huge, "f32", check_finite=1)[0][0], 1e30 * np.sqrt(1000), rtol=1e-6)
    norm, coef = grad_norm([np.zeros(5, np.float32)], "f32")
    assert norm[0] == 0 and coef[0] == 1
    with pytest.raises(FloatingPointError):
        grad_norm([np.ones(40_000), np.full(40_000, np.nan)], "f64", check_finite=1)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scale", [0.3, 1.0, 0.0, -2.0])
def test_scale_all(tier, scale, dtype):
    scale = np.array([scale], FLOATS[dtype])

    def compute():
        rng = np.random.default_rng(0)
        arrays, checks = buffers(ODD + LARGE, dtype, [rng.normal(size=n) for n in ODD + LARGE])
        expected = [a * scale for a in arrays]
        _core.run_kernel(f"scale_all_{dtype}", [scale, *arrays], [a.size for a in arrays], n_segments=len(arrays))
        for a, e, check in zip(arrays, expected, checks, strict=True):
            assert a.tobytes() == e.tobytes()
            check()
        return arrays

    same_bits_at_any_thread_count(compute)
