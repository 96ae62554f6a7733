"""Optimizers against their formulas in NumPy float64, and the contract around them: groups,
schedules, skipped parameters, state dictionaries, and errors that change nothing."""

import copy
import itertools
import json
import math
import pickle

import numpy as np
import pytest

import fastgd as gd
import fastgd.nn.functional as F
from fastgd import models, nn, optim, schedules
from fastgd._core import is_grad_enabled, mutation_count

SHAPES = [(7, 5), (5,), (1,), (33, 3), ()]
# One step in float32 rounds a few times; twelve steps stay well inside this.
TOLERANCE = {"float32": 2e-5, "float64": 1e-13}


# ---- references, written from the formulas in the docstrings ----------------------------------


class ReferenceSGD:
    def __init__(self, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False):
        self.h = dict(locals())
        self.buffer = None

    def step(self, p, g, lr):
        h = self.h
        g = (-g if h["maximize"] else g) + h["weight_decay"] * p
        if h["momentum"]:
            if self.buffer is None:
                self.buffer = g
            else:
                self.buffer = h["momentum"] * self.buffer + (1 - h["dampening"]) * g
            g = g + h["momentum"] * self.buffer if h["nesterov"] else self.buffer
        return p - lr * g


class ReferenceAdam:
    decoupled, default_decay = False, 0.0

    def __init__(self, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=None, amsgrad=False, maximize=False):
        self.h = dict(locals())
        if weight_decay is None:
            self.h["weight_decay"] = self.default_decay
        self.m = self.v = self.largest = 0.0
        self.t = 0

    def step(self, p, g, lr):
        h, (b1, b2) = self.h, self.h["betas"]
        self.t += 1
        g = -g if h["maximize"] else g
        if self.decoupled:
            p = p * (1 - lr * h["weight_decay"])
        else:
            g = g + h["weight_decay"] * p
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g**2
        self.largest = np.maximum(self.largest, self.v)
        v = (self.largest if h["amsgrad"] else self.v) / (1 - b2**self.t)
        return p - lr * (self.m / (1 - b1**self.t)) / (np.sqrt(v) + h["eps"])


class ReferenceAdamW(ReferenceAdam):
    decoupled, default_decay = True, 1e-2


class ReferenceLion:
    def __init__(self, betas=(0.9, 0.99), weight_decay=1e-3):
        self.h, self.m = dict(locals()), 0.0

    def step(self, p, g, lr):
        b1, b2 = self.h["betas"]
        p = p - lr * (np.sign(b1 * self.m + (1 - b1) * g) + self.h["weight_decay"] * p)
        self.m = b2 * self.m + (1 - b2) * g
        return p


class ReferenceAdaBelief:
    def __init__(self, betas=(0.9, 0.999), eps=1e-16, weight_decay=0.0, eps_root=1e-16):
        self.h, self.m, self.s, self.t = dict(locals()), 0.0, 0.0, 0

    def step(self, p, g, lr):
        h, (b1, b2) = self.h, self.h["betas"]
        self.t += 1
        g = g + h["weight_decay"] * p
        self.m = b1 * self.m + (1 - b1) * g
        self.s = b2 * self.s + (1 - b2) * (g - self.m) ** 2 + h["eps_root"]
        return p - lr * self.m / (1 - b1**self.t) / (np.sqrt(self.s / (1 - b2**self.t)) + h["eps"])


class ReferenceAdan:
    """sail-sg/Adan, adan.py: the betas of the code, the proximal decay of the paper."""

    def __init__(self, betas=(0.98, 0.92, 0.99), eps=1e-8, weight_decay=0.0, no_prox=False, eps_root=0.0):
        self.h, self.m, self.v, self.n, self.before, self.t = dict(locals()), 0.0, 0.0, 0.0, None, 0

    def step(self, p, g, lr):
        h, (b1, b2, b3) = self.h, self.h["betas"]
        self.t += 1
        d = 0 * g if self.before is None else g - self.before
        self.before = g
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * d
        self.n = b3 * self.n + (1 - b3) * (g + b2 * d) ** 2
        root = np.sqrt(self.n / (1 - b3**self.t) + h["eps_root"]) + h["eps"]
        u = (self.m / (1 - b1**self.t) + b2 * self.v / (1 - b2**self.t)) / root
        if h["no_prox"]:
            return p * (1 - lr * h["weight_decay"]) - lr * u
        return (p - lr * u) / (1 + lr * h["weight_decay"])


class ReferenceAdEMAMix:
    def __init__(self, betas=(0.9, 0.999, 0.9999), alpha=5.0, eps=1e-8, weight_decay=0.0):
        self.h, self.m, self.slow, self.v, self.t = dict(locals()), 0.0, 0.0, 0.0, 0

    def step(self, p, g, lr):
        h, (b1, b2, b3) = self.h, self.h["betas"]
        self.t += 1
        self.m = b1 * self.m + (1 - b1) * g
        self.slow = b3 * self.slow + (1 - b3) * g
        self.v = b2 * self.v + (1 - b2) * g * g
        u = (self.m / (1 - b1**self.t) + h["alpha"] * self.slow) / (np.sqrt(self.v / (1 - b2**self.t)) + h["eps"])
        return p - lr * (u + h["weight_decay"] * p)


class ReferenceADOPT:
    def __init__(self, betas=(0.9, 0.9999), eps=1e-6, weight_decay=0.0, decoupled_weight_decay=False, clip=True):
        self.h, self.m, self.v, self.t = dict(locals()), 0.0, None, 0

    def step(self, p, g, lr):
        h, (b1, b2) = self.h, self.h["betas"]
        if not h["decoupled_weight_decay"]:
            g = g + h["weight_decay"] * p
        if self.v is None:
            self.v = g * g
            return p
        self.t += 1
        if h["decoupled_weight_decay"]:
            p = p * (1 - lr * h["weight_decay"])
        u = g / np.maximum(np.sqrt(self.v), h["eps"])
        if h["clip"]:
            u = np.clip(u, -(self.t**0.25), self.t**0.25)
        self.m = b1 * self.m + (1 - b1) * u
        self.v = b2 * self.v + (1 - b2) * g * g
        return p - lr * self.m


class ReferenceSophia:
    """The curvature is 0: steps of lr times a clipped m / eps."""

    def __init__(self, betas=(0.965, 0.99), weight_decay=0.1, eps=1e-15):
        self.h, self.m = dict(locals()), 0.0

    def step(self, p, g, lr):
        b1, _ = self.h["betas"]
        self.m = b1 * self.m + (1 - b1) * g
        return p * (1 - lr * self.h["weight_decay"]) - lr * np.clip(self.m / self.h["eps"], -1, 1)


class ReferenceScheduleFreeSGD:
    """The paper's three sequences: x the average, z the iterates, y where gradients are taken."""

    adam = False

    def __init__(
        self, momentum=0.9, weight_decay=0.0, warmup_steps=0, r=0.0, weight_lr_power=2.0, betas=None, eps=1e-8
    ):
        self.h, self.x, self.z, self.v, self.t, self.sum, self.most = dict(locals()), None, None, 0.0, 0, 0.0, 0.0
        self.beta, self.beta2 = betas or ((0.9, 0.999) if self.adam else (momentum, 0.0))

    def step(self, y, g, lr):
        h = self.h
        if self.x is None:
            self.x = self.z = y
        self.t += 1
        lr *= min(1, self.t / h["warmup_steps"]) if h["warmup_steps"] else 1
        self.most = max(self.most, lr)
        weight = self.t ** h["r"] * self.most ** h["weight_lr_power"]
        self.sum += weight
        if self.adam:
            self.v = self.beta2 * self.v + (1 - self.beta2) * g * g
            g = g / (np.sqrt(self.v / (1 - self.beta2**self.t)) + h["eps"])
        self.z = self.z - lr * (g + h["weight_decay"] * y)
        self.x = self.x + (weight / self.sum if self.sum else 0) * (self.z - self.x)
        return self.beta * self.x + (1 - self.beta) * self.z


class ReferenceScheduleFreeAdamW(ReferenceScheduleFreeSGD):
    adam = True


def norm(x):
    return np.sqrt(np.sum(x * x))


class ReferenceLAMB(ReferenceAdam):
    def __init__(self, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
        super().__init__(betas=betas, eps=eps, weight_decay=weight_decay)

    def step(self, p, g, lr):
        h, (b1, b2) = self.h, self.h["betas"]
        self.t += 1
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g**2
        u = self.m / (1 - b1**self.t) / (np.sqrt(self.v / (1 - b2**self.t)) + h["eps"]) + h["weight_decay"] * p
        return p - lr * u * (norm(p) / norm(u) if norm(p) * norm(u) else 1)


class ReferenceLARS:
    def __init__(self, momentum=0.9, weight_decay=0.0, trust_coefficient=1e-3, eps=0.0, nesterov=False):
        self.h, self.buffer = dict(locals()), 0.0

    def step(self, p, g, lr):
        h = self.h
        g = g + h["weight_decay"] * p
        u = lr * g * (h["trust_coefficient"] * norm(p) / (norm(g) + h["eps"]) if norm(p) * norm(g) else 1)
        self.buffer = h["momentum"] * self.buffer + u
        return p - (u + h["momentum"] * self.buffer if h["nesterov"] else self.buffer)


class ReferenceNovoGrad:
    def __init__(self, betas=(0.9, 0.25), eps=1e-6, weight_decay=0.0):
        self.h, self.m, self.v = dict(locals()), 0.0, None

    def step(self, p, g, lr):
        h, (b1, b2) = self.h, self.h["betas"]
        square = np.sum(g * g)
        self.v = square if self.v is None else b2 * self.v + (1 - b2) * square
        self.m = b1 * self.m + g / (np.sqrt(self.v) + h["eps"]) + h["weight_decay"] * p
        return p - lr * self.m


REFERENCE = {
    optim.SGD: ReferenceSGD,
    optim.Adam: ReferenceAdam,
    optim.AdamW: ReferenceAdamW,
    optim.Lion: ReferenceLion,
    optim.AdaBelief: ReferenceAdaBelief,
    optim.Adan: ReferenceAdan,
    optim.AdEMAMix: ReferenceAdEMAMix,
    optim.ADOPT: ReferenceADOPT,
    optim.Sophia: ReferenceSophia,
    optim.ScheduleFreeSGD: ReferenceScheduleFreeSGD,
    optim.ScheduleFreeAdamW: ReferenceScheduleFreeAdamW,
    optim.LAMB: ReferenceLAMB,
    optim.LARS: ReferenceLARS,
    optim.NovoGrad: ReferenceNovoGrad,
}


def grid(**choices):
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


SGD_GRID = [
    h
    for h in grid(
        momentum=[0.0, 0.9],
        dampening=[0.0, 0.3],
        weight_decay=[0.0, 0.1],
        nesterov=[False, True],
        maximize=[False, True],
    )
    if not h["nesterov"] or (h["momentum"] and not h["dampening"])
]
ADAM_GRID = grid(
    betas=[(0.9, 0.999), (0.0, 0.5)],
    eps=[1e-8, 1e-2],
    weight_decay=[0.0, 0.1],
    amsgrad=[False, True],
    maximize=[False, True],
)
WD = [0.0, 0.1]
GRIDS = {
    optim.SGD: SGD_GRID,
    optim.Adam: ADAM_GRID,
    optim.AdamW: ADAM_GRID,
    optim.Lion: grid(betas=[(0.9, 0.99), (0.3, 0.6)], weight_decay=WD),
    optim.AdaBelief: grid(betas=[(0.9, 0.999), (0.3, 0.8)], eps=[1e-16, 0.01], weight_decay=WD, eps_root=[1e-16, 0.1]),
    optim.Adan: grid(betas=[(0.98, 0.92, 0.99), (0.5, 0.4, 0.7)], weight_decay=WD, no_prox=[False, True]),
    optim.AdEMAMix: grid(betas=[(0.9, 0.999, 0.9999), (0.3, 0.8, 0.9)], alpha=[5.0, 0.5], weight_decay=WD),
    optim.ADOPT: grid(
        betas=[(0.9, 0.9999)], clip=[False, True], weight_decay=WD, decoupled_weight_decay=[False, True]
    ),
    optim.Sophia: grid(betas=[(0.965, 0.99), (0.3, 0.6)], weight_decay=WD, eps=[1e-15, 1.0]),
    optim.ScheduleFreeSGD: grid(
        momentum=[0.9, 0.5], weight_decay=WD, warmup_steps=[0, 5], r=[0.0, 1.5], weight_lr_power=[2.0, 0.0]
    ),
    optim.ScheduleFreeAdamW: grid(betas=[(0.9, 0.999), (0.5, 0.6)], eps=[0.01], weight_decay=WD, warmup_steps=[0, 5]),
    optim.LAMB: grid(betas=[(0.9, 0.999), (0.3, 0.8)], eps=[1e-6, 0.01], weight_decay=WD),
    optim.LARS: grid(momentum=[0.9], weight_decay=WD, trust_coefficient=[0.1], eps=[0, 0.1], nesterov=[False, True]),
    optim.NovoGrad: grid(betas=[(0.9, 0.25), (0.5, 0.8)], eps=[1e-6, 0.1], weight_decay=WD),
}
CASES = [(kind, hyper) for kind, hypers in GRIDS.items() for hyper in hypers]
RULES = [(optim.SGD, {"momentum": 0.9}), (optim.Adam, {"amsgrad": True}), (optim.AdamW, {})]
RULES += [(kind, {}) for kind in REFERENCE if kind not in (optim.SGD, optim.Adam, optim.AdamW)]
# Their sums run over all parameters, which their references would have to know (test_optim_optax.py does); here are
# the rest of their contract, and that of those that test_optim_torch.py compares with PyTorch.
OTHERS = [
    (kind, {})
    for kind in (getattr(optim, name) for name in optim.__all__)
    if isinstance(kind, type) and hasattr(kind, "rule") and kind not in REFERENCE
]


def make_parameters(rng, dtype="float64", shapes=SHAPES):
    return [nn.Parameter(gd.tensor(np.asarray(rng.normal(size=shape), dtype=dtype))) for shape in shapes]


def set_gradients(parameters, rng, skip=()):
    """Draws a gradient for every parameter (also the skipped ones, so that runs stay comparable)."""
    arrays = []
    for i, p in enumerate(parameters):
        array = rng.normal(size=p.shape) * 10.0 ** rng.integers(-3, 3)
        array = np.asarray(array, dtype=np.asarray(p).dtype)
        p.grad = None if i in skip else gd.tensor(array)
        arrays.append(None if i in skip else array.astype(np.float64))
    return arrays


def values(parameters):
    return [np.array(p.detach().numpy()) for p in parameters]


def assert_same_bits(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


# ---- the update rules -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "hyper"), CASES, ids=str)
def test_update_rule(kind, hyper, dtype):
    rng = np.random.default_rng(1)
    parameters = make_parameters(rng, dtype)
    expected = [v.astype(np.float64) for v in values(parameters)]
    optimizer = kind(parameters, lr=0.01, **hyper)
    references = [REFERENCE[kind](**hyper) for _ in parameters]
    for n in range(12):
        skip = {n % len(parameters), 3} if n < 8 else {1}  # parameter 3 starts late
        for i, g in enumerate(set_gradients(parameters, rng, skip)):
            if g is not None:
                expected[i] = references[i].step(expected[i], g, 0.01)
        optimizer.step()
        for got, want in zip(values(parameters), expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize(("kind", "hyper"), RULES, ids=str)
def test_groups_have_their_own_settings(kind, hyper):
    rng = np.random.default_rng(2)
    parameters = make_parameters(rng)
    expected = values(parameters)
    optimizer = kind(
        [{"params": parameters[:2]}, {"params": parameters[2:3], "lr": 0.5, "maximize": True}],
        lr=0.01,
        weight_decay=0.1,
        **hyper,
    )
    optimizer.add_param_group({"params": parameters[3:], "weight_decay": 0.0})
    settings = [(0.01, 0.1, 1)] * 2 + [(0.5, 0.1, -1)] + [(0.01, 0.0, 1)] * 2
    references = [REFERENCE[kind](**{**hyper, "weight_decay": decay}) for _, decay, _ in settings]
    for _ in range(5):
        for i, g in enumerate(set_gradients(parameters, rng)):
            expected[i] = references[i].step(expected[i], settings[i][2] * g, settings[i][0])
        optimizer.step()
    for got, want in zip(values(parameters), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


def test_parameters_of_two_dtypes():
    rng = np.random.default_rng(3)
    parameters = make_parameters(rng, "float32", [(3,)]) + make_parameters(rng, "float64", [(4,)])
    expected = [v.astype(np.float64) for v in values(parameters)]
    optimizer = optim.Adam(parameters, lr=0.1)
    references = [ReferenceAdam(), ReferenceAdam()]
    for _ in range(3):
        for i, g in enumerate(set_gradients(parameters, rng)):
            expected[i] = references[i].step(expected[i], g, 0.1)
        optimizer.step()
    np.testing.assert_allclose(values(parameters)[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(values(parameters)[1], expected[1], rtol=1e-13)


def test_edits_of_a_group_hold_from_the_next_step():
    rng = np.random.default_rng(4)
    parameters = make_parameters(rng, shapes=[(4,)])
    expected = values(parameters)[0]
    optimizer = optim.SGD(parameters, lr=0.1)
    for lr in (0.1, 0.2, np.float32(0.25)):
        optimizer.param_groups[0]["lr"] = lr
        expected = expected - float(lr) * set_gradients(parameters, rng)[0]
        optimizer.step()
    optimizer.param_groups[0].update(weight_decay=0.5)
    expected = expected - 0.25 * (set_gradients(parameters, rng)[0] + 0.5 * expected)
    optimizer.step()
    np.testing.assert_allclose(values(parameters)[0], expected, rtol=1e-13)


def test_betas_given_as_a_list_cannot_be_edited_unseen():
    p = nn.Parameter(np.ones(2))
    optimizer = optim.Adam([p], betas=[0.9, 0.99])
    group = optimizer.param_groups[0]
    assert group["betas"] == (0.9, 0.99)
    with pytest.raises(TypeError):
        group["betas"][0] = 0.0
    group["betas"] = [0.5, 0.75]
    assert group["betas"] == (0.5, 0.75)
    state = json.loads(json.dumps({"state": {}, "param_groups": optimizer.state_dict()["param_groups"]}))
    optimizer.load_state_dict(state)
    assert group["betas"] == (0.5, 0.75)


def test_momentum_switched_on_late_starts_with_the_gradient_itself():
    rng = np.random.default_rng(5)
    parameters = make_parameters(rng, shapes=[(4,)])
    optimizer = optim.SGD(parameters, lr=1.0, dampening=0.5)
    set_gradients(parameters, rng)
    optimizer.step()
    optimizer.param_groups[0]["momentum"] = 0.9
    before, [g] = values(parameters)[0], set_gradients(parameters, rng)
    optimizer.step()
    np.testing.assert_allclose(values(parameters)[0], before - g, rtol=1e-13)


def test_looking_at_a_step_does_not_count_as_one():
    """explain() records the step; recording leaves the step counts of buffers that are yet to be used alone."""
    p = nn.Parameter(np.ones(4, np.float32))
    optimizer = optim.SGD([p], lr=0.1)

    @gd.compile
    def step(x):
        (p * x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    x = np.ones(4, np.float32)
    step(x), step(x)
    optimizer.param_groups[0]["momentum"] = 0.9
    before = optimizer._records.tolist()
    step.explain(x)
    assert optimizer._records.tolist() == before
    step(x)
    assert optimizer.state[p]["step"] == 1


def test_a_state_without_buffers_starts_its_momentum_afresh():
    p = nn.Parameter(np.ones(1))
    optimizer = optim.SGD([p], lr=1.0)
    saved = {"state": {0: {"step": 5}}, "param_groups": optimizer.state_dict()["param_groups"]}
    saved["param_groups"][0].update(momentum=0.9, dampening=0.5)
    optimizer.load_state_dict(saved)
    p.grad = gd.ones(1, dtype="float64")
    optimizer.step()
    assert p.item() == 0 and optimizer.state[p]["step"] == 1



# ---- schedules and counting -------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "hyper"), RULES, ids=str)
def test_update_n_uses_schedule_n(kind, hyper):
    rng = np.random.default_rng(6)
    parameters = make_parameters(rng)
    expected = values(parameters)
    schedule = schedules.warmup_cosine(0.1, 3, 8, end=0.01)
    optimizer = kind([{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.03}], lr=schedule, **hyper)
    references = [REFERENCE[kind](**hyper) for _ in parameters]
    for n in range(11):
        for i, g in enumerate(set_gradients(parameters, rng)):
            expected[i] = references[i].step(expected[i], g, schedule(n) if i < 2 else 0.03)
        optimizer.step()
    for got, want in zip(values(parameters), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


def test_schedules_count_updates_and_steps_count_per_parameter():
    seen = []
    rng = np.random.default_rng(7)
    parameters = make_parameters(rng, shapes=[(2,), (3,)])
    optimizer = optim.Adam(parameters, lr=lambda n: seen.append(n) or 0.1)
    for skip in ({0}, {0, 1}, {0}, {1}):  # in the second nothing has a gradient: no update
        set_gradients(parameters, rng, skip)
        optimizer.step()
    assert seen == [0, 1, 2]
    assert [optimizer.state[p]["step"] for p in parameters] == [1, 2]


def lines(*ends):
    return [schedules.linear(start, end, 6) for start, end in ends]


SCHEDULED = {
    "sgd": (
        optim.SGD,
        dict(
            zip(
                ("lr", "momentum", "dampening", "weight_decay"),
                lines((1, 0), (0.5, 0.9), (0, 0.5), (0.1, 0)),
                strict=True,
            )
        ),
    ),
    "nesterov": (optim.SGD, {"lr": 0.1, "momentum": schedules.linear(0.5, 0.9, 6), "nesterov": True}),
    "adam": (
        optim.Adam,
        {"lr": 0.1, "betas": tuple(lines((0.95, 0.85), (0.9, 0.99))), "eps": schedules.constant(1e-3)},
    ),
    "adamw": (
        optim.AdamW,
        {"betas": (schedules.linear(0.95, 0.85, 6), 0.99), "weight_decay": schedules.cosine(0.5, 6)},
    ),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("case", SCHEDULED)
def test_every_hyper_parameter_takes_a_schedule(case, compiled):
    """The same bits as writing the numbers by hand before each step; and a compiled step is recorded once."""
    kind, hyper = SCHEDULED[case]

    def at(n):
        def number(value):
            return value(n) if callable(value) else value

        return {k: tuple(map(number, v)) if isinstance(v, tuple) else number(v) for k, v in hyper.items()}

    def train(by_hand):
        p = nn.Parameter(gd.tensor(np.linspace(-1.0, 1.0, 11)))
        optimizer = kind([p], **(at(0) if by_hand else hyper))
        recorded = []

        def step(x):
            recorded.append(None)
            optimizer.zero_grad()
            ((p - x) ** 2).sum().backward()
            optimizer.step()

        run = gd.compile(step) if compiled else step
        for n in range(8):
            if by_hand:
                optimizer.param_groups[0].update(at(n))
            run(gd.tensor(np.full(11, 0.1 * n)))
            if n == 1:  # the first call with gradients there
                early = len(recorded)
        assert len(recorded) == (early if compiled else 8)
        return values([p])

    assert_same_bits(train(False), train(True))


def test_schedules_of_a_tuple_in_a_state():
    def make(beta1):
        return optim.Adam([p], betas=(beta1, 0.99))

    p = nn.Parameter(gd.tensor([1.0, 2.0]))
    beta1 = schedules.linear(0.9, 0.5, 4)
    optimizer = make(beta1)
    for _ in range(2):
        p.grad = gd.tensor([1.0, -1.0])
        optimizer.step()
    state = optimizer.state_dict()
    assert state["param_groups"][0]["betas"] == (beta1(2), 0.99)
    assert state["param_groups"][0]["schedules"] == {"betas[0]": repr(beta1)}
    state["param_groups"][0]["betas"] = (0.1, 0.95)
    resumed = make(beta1)
    resumed.load_state_dict(state)
    assert resumed.param_groups[0]["betas"] == (beta1, 0.95)  # the schedule is code, the number is state
    with pytest.raises(ValueError, match=r"was saved with the schedule linear.*; give it as betas\[0\]"):
        make(0.9).load_state_dict(state)


@pytest.mark.parametrize(
    ("kind", "hyper", "words"),
    [
        (optim.SGD, {"lr": lambda n: -0.1 * n}, "SGD: the schedule of group 0 gives lr = -0.1 for update 1"),
        (optim.SGD, {"momentum": lambda n: 0.5 if n < 1 else math.nan}, "gives momentum = nan for update 1"),
        (optim.Adam, {"betas": (0.9, lambda n: 0.5 + 0.5 * n)}, r"Adam: .*gives betas\[1\] = 1.0 for update 1"),
        (optim.AdamW, {"weight_decay": lambda n: math.inf if n else 0}, "gives weight_decay = inf for update 1"),
    ],
)
def test_a_schedule_out_of_range_changes_nothing(kind, hyper, words):
    p = nn.Parameter(gd.tensor([1.0, 2.0]))
    optimizer = kind([p], **{"lr": schedules.linear(0.1, 0.2, 5), **hyper})
    p.grad = gd.tensor([1.0, 1.0])
    optimizer.step()
    before, table = values([p]), optimizer._hyper.copy()
    with pytest.raises(ValueError, match=words):
        optimizer.step()
    assert_same_bits(values([p]), before)
    assert optimizer.state[p]["step"] == optimizer._updates == 1
    np.testing.assert_array_equal(optimizer._hyper, table)
    with pytest.raises(ValueError, match=words):
        optimizer.state_dict()


def test_skipped_parameters_keep_value_and_have_no_state():
    rng = np.random.default_rng(8)
    parameters = make_parameters(rng, shapes=[(2,), (3,)])
    before = values(parameters)
    optimizer = optim.AdamW(parameters, lr=0.1)
    set_gradients(parameters, rng, skip={0})
    optimizer.step()
    np.testing.assert_array_equal(values(parameters)[0], before[0])
    assert np.all(values(parameters)[1] != before[1])
    assert list(optimizer.state) == [parameters[1]]


def test_closure():
    p = nn.Parameter(gd.tensor([1.0, 2.0]))
    optimizer = optim.SGD([p], lr=0.5)

    def closure():
        assert is_grad_enabled()
        p.grad = gd.tensor([1.0, 1.0])
        return "the loss"

    with gd.no_grad():
        assert optimizer.step(closure) == "the loss"
        assert not is_grad_enabled()
    np.testing.assert_array_equal(values([p])[0], [0.5, 1.5])
    assert optimizer.step() is None


def test_zero_grad():
    p = nn.Parameter(gd.tensor([1.0, 2.0]))
    optimizer = optim.SGD([p])
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is None
    p.grad = gd.tensor([1.0, 1.0])
    optimizer.zero_grad(set_to_none=False)
    np.testing.assert_array_equal(np.asarray(p.grad), [0.0, 0.0])
    optimizer.zero_grad()
    assert p.grad is None


# ---- state dictionaries -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "hyper"), RULES + OTHERS, ids=str)
@pytest.mark.parametrize("carry", ["as it is", "deepcopy", "json"])
def test_resuming_gives_the_same_bits(kind, hyper, dtype, carry):
    schedule = schedules.warmup_cosine(0.1, 3, 20)

    def start():
        return make_parameters(np.random.default_rng(9), dtype)

    def train(parameters, optimizer, steps):
        for n in steps:
            set_gradients(parameters, np.random.default_rng(100 + n), skip={0} if n < 7 else set())
            optimizer.step()

    straight = start()
    if "weight_decay" in kind.rule.hyper:
        hyper = {**hyper, "weight_decay": 0.1}
    train(straight, kind(straight, lr=schedule, **hyper), range(10))

    first = start()
    optimizer = kind(first, lr=schedule, **hyper)
    train(first, optimizer, range(5))
    saved, weights = optimizer.state_dict(), values(first)
    train(first, optimizer, range(5, 8))  # the snapshot must not move on
    if carry == "deepcopy":
        saved = copy.deepcopy(saved)
    elif carry == "json":
        saved = json.loads(json.dumps(saved, default=lambda t: np.asarray(t).tolist()))

    second = [nn.Parameter(gd.tensor(w)) for w in weights]
    resumed = kind(second, lr=schedule, **hyper)
    resumed.load_state_dict(saved)
    train(second, resumed, range(5, 10))
    assert_same_bits(values(second), values(straight))


@pytest.mark.parametrize(("kind", "hyper"), RULES + OTHERS, ids=str)
def test_loading_resets_what_the_saved_run_had_not_touched(kind, hyper):
    rng = np.random.default_rng(10)
    parameters = make_parameters(rng)
    optimizer = kind(parameters, **hyper)
    fresh = optimizer.state_dict()
    set_gradients(parameters, rng)
    optimizer.step()
    optimizer.load_state_dict(fresh)
    assert all(state["step"] == 0 for state in optimizer.state.values())
    again = [nn.Parameter(gd.tensor(v)) for v in values(parameters)]
    other = kind(again, **hyper)
    for p, q in zip(parameters, again, strict=True):
        q.grad = p.grad
    optimizer.step()
    other.step()
    assert_same_bits(values(parameters), values(again))


def test_state_dict_has_the_structure_of_torch():
    rng = np.random.default_rng(11)
    parameters = make_parameters(rng)
    optimizer = optim.Adam([{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.5}], amsgrad=True)
    set_gradients(parameters, rng, skip={1})
    optimizer.step()
    saved = optimizer.state_dict()
    assert [g["params"] for g in saved["param_groups"]] == [[0, 1], [2, 3, 4]]
    assert [g["lr"] for g in saved["param_groups"]] == [1e-3, 0.5]
    assert sorted(saved["state"]) == [0, 2, 3, 4]
    assert list(saved["state"][0]) == ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"]
    assert saved["state"][0]["exp_avg"].shape == SHAPES[0]


def test_torch_state_of_sgd_has_no_step():
    p = nn.Parameter(gd.tensor([1.0, 2.0], dtype="float64"))
    optimizer = optim.SGD([p], lr=1.0, momentum=0.5)
    group = {**optimizer.state_dict()["param_groups"][0]}
    optimizer.load_state_dict({"state": {0: {"momentum_buffer": np.array([4.0, 8.0])}}, "param_groups": [group]})
    p.grad = gd.tensor([1.0, 1.0], dtype="float64")
    optimizer.step()
    np.testing.assert_array_equal(values([p])[0], [1.0 - 3.0, 2.0 - 5.0])
    optimizer.load_state_dict({"state": {0: {"momentum_buffer": None}}, "param_groups": [group]})
    p.grad = gd.tensor([1.0, 1.0], dtype="float64")
    optimizer.step()
    np.testing.assert_array_equal(values([p])[0], [-3.0, -4.0])


def test_torch_state_of_adam_has_float_steps_and_no_update_count():
    p = nn.Parameter(gd.tensor([1.0, 2.0], dtype="float64"))
    optimizer = optim.Adam([p], lr=lambda n: float(n))
    saved = {
        "state": {0: {"step": np.float32(7), "exp_avg": np.zeros(2), "exp_avg_sq": np.ones(2)}},
        "param_groups": [
            {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0, "initial_lr": 0.1, "params": [0]}
        ],
    }
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)
    assert optimizer.param_groups[0]["initial_lr"] == 0.1
    p.grad = gd.tensor([0.0, 0.0], dtype="float64")
    optimizer.step()
    assert optimizer.state[p]["step"] == 8
    assert optimizer.state_dict()["param_groups"][0]["lr"] == 8.0


def broken_states():
    def edit(change):
        def apply(saved):
            change(saved)
            return saved

        return apply

    yield "not a dict", lambda saved: 3, "expected a dict with 'state'"
    yield "no groups", edit(lambda s: s.pop("param_groups")), "expected a dict with 'state'"
    yield "other sizes", edit(lambda s: s["param_groups"][0]["params"].append(9)), "parameters per group"
    yield "other rule", edit(lambda s: s["param_groups"][0].pop("betas")), "group 0 lacks betas"
    yield "bad value", edit(lambda s: s["param_groups"][0].update(lr=-1.0)), "lr of group 0 must be at least 0"
    yield "bad shape", edit(lambda s: s["state"][1].update(exp_avg=np.zeros(3))), r"1: exp_avg: expected shape \(5,\)"
    yield "bad step", edit(lambda s: s["state"][1].update(step=-1)), "parameter 1: step must be a whole number"
    yield "missing", edit(lambda s: s["state"][2].pop("exp_avg_sq")), r"parameter 2: .*missing \['exp_avg_sq'\]"
    yield "unexpected", edit(lambda s: s["state"][2].update(velocity=0)), r"parameter 2: unexpected \['velocity'\]"
    yield "unknown", edit(lambda s: s["state"].update({17: {}})), r"state of unknown parameters \['17'\]"
    yield "not numbers", edit(lambda s: s["state"][0].update(exp_avg="x")), "parameter 0: tensor: expected numbers"
    yield "no list", edit(lambda s: s.update(param_groups=3)), "'param_groups' to be a list of dicts"
    yield "no dicts", edit(lambda s: s.update(param_groups=[1])), r"'params', got \[1\]"
    yield "no params", edit(lambda s: s["param_groups"][0].pop("params")), "a list of dicts with a list 'params'"
    yield "no betas", edit(lambda s: s["param_groups"][0].update(betas="ab")), "betas of group 0 must be 2 numbers"
    yield "no number", edit(lambda s: s["param_groups"][0].update(eps=[])), "eps of group 0 must be a number"
    yield "no state", edit(lambda s: s.update(state=[])), r"expected 'state' to be a dict, got \[\]"
    yield "no entry", edit(lambda s: s["state"].update({0: 5})), "state of parameter 0: expected a dict, got 5"
    yield "huge step", edit(lambda s: s["state"][1].update(step=1e30)), "parameter 1: step must be a whole number"
    yield "no step", edit(lambda s: s["state"][1].update(step="x")), "parameter 1: could not convert"
    yield "no count", edit(lambda s: s.update(updates=-3)), "updates must be a whole number, got -3"
    yield "no counts", edit(lambda s: s.update(updates=[1, 2])), "load_state_dict:\n.*scalar"
    schedule = {"lr": "cosine(...)", "betas[0]": "linear(...)"}
    yield "schedule", edit(lambda s: s["param_groups"][0].update(schedules=schedule)), "schedule cosine.*as lr"
    yield "schedule of", edit(lambda s: s["param_groups"][0].update(schedules=schedule)), r"linear.*as betas\[0\]"
    yield "no schedules", edit(lambda s: s["param_groups"][0].update(schedules=3)), "'schedules' to be a dict, got 3"


@pytest.mark.parametrize(("breaks", "words"), [c[1:] for c in broken_states()], ids=[c[0] for c in broken_states()])
def test_a_state_that_does_not_fit_changes_nothing(breaks, words):
    rng = np.random.default_rng(12)
    parameters = make_parameters(rng)
    optimizer = optim.Adam(parameters)
    set_gradients(parameters, rng)
    optimizer.step()
    before = optimizer.state_dict()
    other = optimizer.state_dict()
    other["param_groups"][0]["eps"] = 0.125
    for state in other["state"].values():
        state["step"] = 99
        state["exp_avg"] = np.full(state["exp_avg"].shape, 7.0)
    with pytest.raises(ValueError, match=words) as info:
        optimizer.load_state_dict(breaks(other))
    assert isinstance(info.value, RuntimeError)  # what PyTorch's users catch
    assert str(info.value).startswith("Adam.load_state_dict:")
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for i, state in before["state"].items():
        assert after["state"][i]["step"] == state["step"]
        np.testing.assert_array_equal(np.asarray(after["state"][i]["exp_avg"]), np.asarray(state["exp_avg"]))


def test_all_problems_are_in_one_error():
    rng = np.random.default_rng(13)
    parameters = make_parameters(rng)
    optimizer = optim.Adam(parameters)
    set_gradients(parameters, rng)
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"][0].pop("exp_avg")
    saved["state"][3]["exp_avg"] = np.zeros(1)
    with pytest.raises(ValueError, match=r"(?s)parameter 0: .*parameter 3: "):
        optimizer.load_state_dict(saved)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])  # noqa: S301
def test_model_and_optimizer_are_copied_together(duplicate):
    rng = np.random.default_rng(14)
    model = nn.Linear(3, 2)
    optimizer = optim.AdamW(model.parameters(), lr=schedules.cosine(0.1, 10))
    set_gradients(list(model.parameters()), rng)
    optimizer.step()
    twin, twin_optimizer = duplicate((model, optimizer))
    before = values(model.parameters())
    set_gradients(list(twin.parameters()), np.random.default_rng(15))
    twin_optimizer.step()
    assert_same_bits(values(model.parameters()), before)
    set_gradients(list(model.parameters()), np.random.default_rng(15))
    optimizer.step()
    assert_same_bits(values(model.parameters()), values(twin.parameters()))
    twin_optimizer.param_groups[0]["lr"] = 0.5
    assert callable(optimizer.param_groups[0]["lr"])
    set_gradients(list(twin.parameters()), rng)
    twin_optimizer.step()


# ---- what invalidates compiled plans ----------------------------------------------------------------


def mutates(change):
    before = mutation_count()
    change()
    return mutation_count() != before


def test_only_structural_edits_of_groups_are_mutations():
    p = nn.Parameter(gd.tensor([1.0]))
    optimizer = optim.SGD([p], momentum=0.9)
    group = optimizer.param_groups[0]
    assert not mutates(lambda: group.update(lr=0.5, weight_decay=0.1, dampening=0.2))
    assert not mutates(lambda: group.update(momentum=0.8))
    assert mutates(lambda: group.update(momentum=0.0))
    assert mutates(lambda: group.update(maximize=True))
    assert mutates(lambda: optimizer.add_param_group({"params": [nn.Parameter(gd.tensor([1.0]))]}))
    assert mutates(lambda: optimizer.load_state_dict(optimizer.state_dict()))


# ---- compiled steps ---------------------------------------------------------------------------------


def train(compiled, make, edits, steps=12):
    """Losses, weights and optimizer state of a short run; `edits` maps a step to what happens before it."""
    gd.manual_seed(0)
    model = models.MLP(6, (8,), 3, dropout=0.2)
    optimizer = make(model)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    function = gd.compile(step) if compiled else step
    rng = np.random.default_rng(18)
    losses = []
    for n in range(steps):
        if n in edits:
            edits[n](model, optimizer)
        x, y = rng.normal(size=(5, 6)).astype(np.float32), rng.integers(0, 3, 5)
        losses.append(function(gd.tensor(x), gd.tensor(y)).item())
    return losses, values(model.parameters()), optimizer.state_dict()


def add_layer(model, optimizer):
    model.layers.insert(0, nn.Linear(6, 6))
    optimizer.add_param_group({"params": model.layers[0].parameters(), "amsgrad": True})


def replace_weight(model, optimizer):
    model.layers[0].weight = nn.Parameter(gd.tensor(np.full((8, 6), 0.1, np.float32)))
    optimizer.add_param_group({"params": [model.layers[0].weight]})


def group_edit(**values):
    return lambda model, optimizer: optimizer.param_groups[0].update(values)


COMPILED = {
    "momentum": (lambda m: optim.SGD(m.parameters(), lr=0.1, momentum=0.9, nesterov=True), {}),
    "schedule": (lambda m: optim.AdamW(m.parameters(), lr=schedules.warmup_cosine(0.1, 3, 10)), {}),
    "two groups": (
        lambda m: optim.Adam(
            [
                {"params": m.layers[0].parameters(), "lr": schedules.warmup(0.1, 5)},
                {"params": m.layers[3].parameters(), "amsgrad": True},
            ]
        ),
        {},
    ),
    "lr edited": (
        lambda m: optim.Adam(m.parameters()),
        {3: group_edit(lr=0.1), 7: group_edit(lr=schedules.linear(1, 0, 20))},
    ),
    "flag edited": (lambda m: optim.Adam(m.parameters()), {5: group_edit(maximize=True), 8: group_edit(amsgrad=True)}),
    "late momentum": (lambda m: optim.SGD(m.parameters(), lr=0.1, dampening=0.3), {5: group_edit(momentum=0.9)}),
    "frozen": (
        lambda m: optim.Adam(m.parameters()),
        {4: lambda m, o: m.layers[0].requires_grad_(False), 8: lambda m, o: m.layers[0].requires_grad_(True)},
    ),
    "eval": (lambda m: optim.Adam(m.parameters()), {5: lambda m, o: m.eval(), 8: lambda m, o: m.train()}),
    "dropout edited": (lambda m: optim.Adam(m.parameters()), {5: lambda m, o: setattr(m.layers[2], "p", 0.6)}),
    "reloaded": (
        lambda m: optim.Adam(m.parameters()),
        {
            5: lambda m, o: o.load_state_dict({**o.state_dict(), "state": {}}),
            8: lambda m, o: m.load_state_dict({k: 0.5 * np.asarray(t) for k, t in m.state_dict().items()}),
        },
    ),
    "new layer": (lambda m: optim.Adam(m.parameters()), {5: add_layer}),
    "new weight": (lambda m: optim.Adam(m.parameters()), {5: replace_weight}),
}


@pytest.mark.parametrize("case", COMPILED)
def test_compiled_and_eager_runs_have_the_same_bits(case):
    make, edits = COMPILED[case]
    (losses, weights, state), (losses_c, weights_c, state_c) = (train(c, make, edits) for c in (False, True))
    assert losses == losses_c
    assert_same_bits(weights, weights_c)
    assert state["updates"] == state_c["updates"] == 12
    assert state["param_groups"] == state_c["param_groups"]
    assert state["state"].keys() == state_c["state"].keys()
    for index, tensors in state["state"].items():
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(np.asarray(tensor), np.asarray(state_c["state"][index][name]))
    if edits:  # an edit that changes nothing would test nothing
        assert losses != train(False, make, {})[0]


def test_a_bad_schedule_stops_a_compiled_step_before_anything_changes():
    p = nn.Parameter(gd.tensor([1.0, 2.0]))
    optimizer = optim.Adam([p], lr=lambda n: 0.1 if n < 2 else math.nan)

    @gd.compile
    def step(x):
        optimizer.zero_grad()
        loss = (p * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    x = gd.tensor([1.0, 1.0])
    step(x)
    step(x)
    before = values([p])
    with pytest.raises(ValueError, match="Adam: the schedule of group 0 gives lr = nan for update 2"):
        step(x)
    assert_same_bits(values([p]), before)
    assert optimizer.state[p]["step"] == 2
    optimizer.param_groups[0]["lr"] = 0.1
    step(x)
    assert optimizer.state[p]["step"] == 3


# ---- errors -----------------------------------------------------------------------------------------


def one():
    return [nn.Parameter(gd.tensor([1.0, 2.0]))]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: optim.SGD([]), ValueError, "SGD: params is empty"),
        (lambda: optim.SGD(one()[0]), TypeError, "SGD: params must be an iterable"),
        (lambda: optim.SGD({"params": one()}), TypeError, "SGD: params must be an iterable"),
        (lambda: optim.SGD([1.0]), TypeError, "SGD: params must be tensors, got float"),
        (lambda: optim.SGD([np.zeros(3)]), TypeError, "SGD: params must be tensors, got ndarray"),
        (lambda: optim.SGD(one() * 2), ValueError, "SGD: a parameter of shape .* is given twice"),
        (lambda: optim.SGD([{"lr": 1.0}]), TypeError, "must be a dict with 'params'"),
        (lambda: optim.SGD([{"params": set(one())}]), TypeError, "SGD: params must be ordered"),
        (lambda: optim.SGD([gd.tensor([1, 2])]), TypeError, "parameters must be float32 or float64"),
        (lambda: optim.SGD(one(), lr=-0.1), ValueError, "SGD: lr of group 0 must be at least 0, got -0.1"),
        (lambda: optim.SGD(one(), lr=math.nan), ValueError, "SGD: lr of group 0 must be at least 0"),
        (lambda: optim.SGD(one(), lr="fast"), TypeError, "SGD: lr of group 0 must be a number"),
        (lambda: optim.SGD(one(), momentum=-1), ValueError, "SGD: momentum of group 0 must be at least 0"),
        (lambda: optim.SGD(one(), dampening=math.inf), ValueError, "SGD: dampening of group 0 must be finite"),
        (lambda: optim.SGD(one(), weight_decay=-1), ValueError, "SGD: weight_decay of group 0"),
        (lambda: optim.SGD(one(), nesterov=True), ValueError, "SGD: nesterov of group 0 needs momentum"),
        (lambda: optim.SGD(one(), momentum=0.9, dampening=0.1, nesterov=True), ValueError, "SGD: nesterov"),
        (
            lambda: optim.Adam(one(), betas=(1.0, 0.9)),
            ValueError,
            "betas of group 0 must be at least 0 and less than 1",
        ),
        (lambda: optim.Adam(one(), betas=(0.9, -0.1)), ValueError, "Adam: betas of group 0"),
        (lambda: optim.Adam(one(), betas=0.9), ValueError, "Adam: betas of group 0 must be 2 numbers"),
        (lambda: optim.AdamW(one(), eps=-1e-8), ValueError, "AdamW: eps of group 0"),
        (lambda: optim.AdamW([{"params": one()}, {"params": one(), "lr": -1}]), ValueError, "lr of group 1"),
        (
            lambda: optim.Adam(one(), differentiable=True),
            NotImplementedError,
            "Adam: differentiable=True is not offered",
        ),
    ],
)
def test_bad_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words) as info:
        make()
    assert isinstance(info.value, RuntimeError)


@pytest.mark.parametrize("edit", [{"lr": -1.0}, {"betas": (0.9, 2.0)}, {"lr": lambda n: math.nan}, {"eps": math.inf}])
def test_a_bad_edit_is_found_by_the_next_step_which_changes_nothing(edit):
    rng = np.random.default_rng(16)
    parameters = make_parameters(rng)
    optimizer = optim.Adam(parameters)
    set_gradients(parameters, rng)
    optimizer.step()
    before, good = values(parameters), dict(optimizer.param_groups[0])
    optimizer.param_groups[0].update(edit)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"Adam: .*group 0"):
            optimizer.step()
    assert_same_bits(values(parameters), before)
    assert optimizer.state[parameters[0]]["step"] == 1
    optimizer.param_groups[0].update({key: good[key] for key in edit})
    optimizer.step()
    assert optimizer.state[parameters[0]]["step"] == 2


@pytest.mark.parametrize("groups", [1, 2])
def test_a_step_that_cannot_write_one_parameter_writes_none(groups):
    """The others are of another dtype, or in a group with other flags: updated by another kernel call."""
    frozen = np.ones(3, np.float32)
    frozen.flags.writeable = False
    good, bad = nn.Parameter(np.ones(3, "float64" if groups == 1 else "float32")), nn.Parameter(frozen)
    parameters = [good, bad] if groups == 1 else [{"params": [good]}, {"params": [bad], "momentum": 0.9}]
    optimizer = optim.SGD(parameters, lr=0.1)
    (good.sum() + bad.sum()).backward()
    for _ in range(2):
        with pytest.raises(ValueError, match="read-only"):
            optimizer.step()
    assert good.tolist() == [1, 1, 1]
    assert not any(entry["step"] for entry in optimizer.state_dict()["state"].values())


def test_a_failed_add_leaves_the_optimizer_as_it_was():
    parameters = one()
    optimizer = optim.Adam(parameters)
    for bad in ({"params": parameters}, {"params": one(), "lr": -1}):
        with pytest.raises(ValueError, match="Adam: "):
            optimizer.add_param_group(bad)
    assert len(optimizer.param_groups) == 1
    parameters[0].grad = gd.tensor([1.0, 1.0])
    optimizer.step()
    optimizer.add_param_group({"params": one()})
    assert optimizer.state[parameters[0]]["step"] == 1


def test_params_of_a_group_cannot_be_replaced():
    optimizer = optim.SGD(one())
    group = optimizer.param_groups[0]
    with pytest.raises(ValueError, match="use add_param_group"):
        group["params"] = one()
    for remove in (lambda: group.pop("lr"), lambda: group.clear(), lambda: group.popitem()):
        with pytest.raises(ValueError, match="can be changed, not removed"):
            remove()
    group["initial_lr"] = 0.5
    assert group.setdefault("initial_lr", 1.0) == 0.5


def test_a_cast_after_the_first_step_is_an_error():
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters())
    set_gradients(list(model.parameters()), np.random.default_rng(17))
    optimizer.step()
    model.double()
    set_gradients(list(model.parameters()), np.random.default_rng(17))
    with pytest.raises(TypeError, match=r"exp_avg is .*float32.* but its parameter is now .*float64"):
        optimizer.step()


def test_printing():
    text = repr(optim.SGD(one(), lr=schedules.constant(0.5)))
    assert text.startswith("SGD (\nParameter Group 0\n    dampening: 0\n")
    assert "\n    lr: constant(value=0.5)\n" in text
