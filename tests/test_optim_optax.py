"""Optimizers that Optax has: 100 steps on the same random gradients here and there in float64, ``style="optax"`` where
the arithmetic differs. Skipped where Optax is not installed; it is never needed."""

import itertools

import numpy as np
import pytest

import fastgd as gd
from fastgd import nn, optim

optax = pytest.importorskip("optax", reason="Optax is not installed: nothing to compare with")
jax = pytest.importorskip("jax")
contrib = pytest.importorskip("optax.contrib")

SHAPES = [(), (17,), (5, 9), (0,)]
STEPS = 100


@pytest.fixture(autouse=True, scope="module")
def _float64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def grid(**choices):
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def betas(h):
    return {f"b{i}": b for i, b in enumerate(h.pop("betas", ()), 1)}


def optax_like(build, decay=True, **names):
    """The same settings under Optax's names."""

    def make(hyper):
        h = dict(hyper)
        arguments = {"learning_rate": h.pop("lr"), **betas(h)}
        weight_decay = h.pop("weight_decay", 0)
        arguments |= {names.get(key, key): value for key, value in h.items()}
        if decay:
            return build(**arguments, weight_decay=weight_decay)
        # coupled decay is a transformation before the rule's own
        return optax.chain(optax.add_decayed_weights(weight_decay), build(**arguments))

    return make


def adam(learning_rate, amsgrad, **h):
    return (optax.amsgrad if amsgrad else optax.adam)(learning_rate, **h)


def sgd(learning_rate, momentum, nesterov):
    return optax.sgd(learning_rate, momentum or None, nesterov)


def rmsprop(learning_rate, momentum, **h):
    return optax.rmsprop(learning_rate, momentum=momentum or None, **h)


def prodigy(learning_rate, b1, b2, **h):
    return contrib.prodigy(learning_rate, (b1, b2), **h)


def dadapt(learning_rate, b1, b2, **h):
    return contrib.dadapt_adamw(learning_rate, (b1, b2), **h)


def schedule_free_adamw(learning_rate, b1, b2, eps, weight_decay):
    return contrib.schedule_free_adamw(learning_rate, None, b1, b2, eps, weight_decay)


def schedule_free_sgd(learning_rate, momentum, weight_decay):
    return contrib.schedule_free_sgd(learning_rate, None, momentum, weight_decay)


B, WD, D0 = [(0.9, 0.999), (0.3, 0.8)], [0.0, 0.1], [1e-6, 1e-4, 1e-2]
OPTAX = {"style": "optax"}
# ours, settings that Optax does not know, theirs, a grid
RULES = [
    ("SGD", OPTAX, optax_like(sgd, False), grid(lr=[0.1], momentum=[0, 0.9], nesterov=[False], weight_decay=WD)),
    ("SGD", OPTAX, optax_like(sgd, False), grid(lr=[0.1], momentum=[0.9], nesterov=[True])),
    ("Adam", OPTAX, optax_like(adam, False), grid(lr=[0.01], betas=B, eps=[1e-8, 0.01], amsgrad=[False, True])),
    ("AdamW", OPTAX, optax_like(optax.adamw), grid(lr=[0.01], betas=B, eps=[1e-8, 0.01], weight_decay=WD)),
    ("NAdam", OPTAX, optax_like(optax.nadam, False), grid(lr=[0.01], betas=B, eps=[1e-8, 0.01], weight_decay=WD)),
    ("RAdam", OPTAX, optax_like(optax.radam, False), grid(lr=[0.01], betas=[(0.9, 0.999), (0.3, 0.9)], eps=[0.01])),
    ("Adamax", OPTAX, optax_like(optax.adamax, False), grid(lr=[0.01], betas=B, eps=[1e-8, 0.01], weight_decay=WD)),
    (
        "Adagrad",
        OPTAX,
        optax_like(optax.adagrad, False),
        grid(lr=[0.1], initial_accumulator_value=[0.1, 0], eps=[1e-7]),
    ),
    ("Adadelta", OPTAX, optax_like(optax.adadelta, False), grid(lr=[1.0], rho=[0.9, 0.5], eps=[1e-6, 0.01])),
    (
        "RMSprop",
        OPTAX,
        optax_like(rmsprop, False, alpha="decay"),
        grid(lr=[0.01], alpha=[0.9], eps=[1e-8, 0.01], momentum=[0, 0.9], centered=[False, True]),
    ),
    ("Lion", {}, optax_like(optax.lion), grid(lr=[0.01], betas=[(0.9, 0.99), (0.3, 0.6)], weight_decay=WD)),
    (
        "AdaBelief",
        {},
        optax_like(optax.adabelief, False),
        grid(lr=[0.01], betas=B, eps=[1e-16, 0.01], eps_root=[1e-16, 0.01], weight_decay=WD),
    ),
    (
        "Adan",
        OPTAX,
        optax_like(optax.adan),
        grid(lr=[0.01], betas=[(0.98, 0.92, 0.99), (0.5, 0.4, 0.7)], eps=[1e-8], eps_root=[1e-8, 0], weight_decay=WD),
    ),
    (
        "AdEMAMix",
        {},
        optax_like(contrib.ademamix),
        grid(lr=[0.01], betas=[(0.9, 0.999, 0.9999), (0.3, 0.8, 0.9)], alpha=[5.0, 0.5], weight_decay=WD),
    ),
    (
        "ADOPT",
        {},
        optax_like(contrib.adopt, False, clip="use_clipping"),
        grid(lr=[0.01], betas=[(0.9, 0.9999), (0.3, 0.8)], eps=[1e-6, 0.1], clip=[True, False], weight_decay=WD),
    ),
    ("LAMB", {}, optax_like(optax.lamb), grid(lr=[0.01], betas=B, eps=[1e-6, 0.01], weight_decay=WD)),
    (
        "LARS",
        {},
        optax_like(optax.lars),
        grid(lr=[0.1], momentum=[0.9, 0.0], trust_coefficient=[0.001, 0.5], eps=[0.0, 0.1], weight_decay=WD)
        + grid(lr=[0.1], momentum=[0.9], nesterov=[True]),
    ),
    ("NovoGrad", {}, optax_like(optax.novograd), grid(lr=[0.01], betas=[(0.9, 0.25), (0.5, 0.8)], weight_decay=WD)),
    (
        "Prodigy",
        {"use_bias_correction": True},
        optax_like(prodigy, d0="estim_lr0", d_coef="estim_lr_coef"),
        grid(lr=[1.0, 0.1], betas=B, d0=D0, d_coef=[0.5], safeguard_warmup=[False, True], weight_decay=WD),
    ),
    (
        "DAdaptAdamW",
        {},
        optax_like(dadapt, d0="estim_lr0"),
        grid(lr=[1.0, 0.1], betas=B, eps=[1e-8], d0=D0, weight_decay=WD),
    ),
    (
        "ScheduleFreeAdamW",
        {},
        optax_like(schedule_free_adamw),
        grid(lr=[0.01], betas=[(0.9, 0.999), (0.5, 0.8)], eps=[1e-8, 0.01], weight_decay=[0.0]),
    ),
    ("ScheduleFreeSGD", {}, optax_like(schedule_free_sgd), grid(lr=[0.1], momentum=[0.9, 0.5], weight_decay=WD)),
]
CASES = [(name, ours, make, hyper) for name, ours, make, hypers in RULES for hyper in hypers]


@pytest.mark.parametrize(("name", "extra", "make", "hyper"), CASES, ids=lambda x: "" if callable(x) else str(x))
def test_a_hundred_steps(name, extra, make, hyper):
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape) for shape in SHAPES]
    ours = [nn.Parameter(gd.tensor(np.array(a))) for a in start]
    optimizer = getattr(optim, name)(ours, **hyper, **extra)
    theirs = [jax.numpy.asarray(a) for a in start]
    rule = make(hyper)
    state = rule.init(theirs)

    @jax.jit
    def update(g, state, p):
        u, state = rule.update(g, state, p)
        return optax.apply_updates(p, u), state

    for _ in range(STEPS):
        gradients = [rng.normal(size=p.shape) * 10.0 ** (i - 2) for i, p in enumerate(ours)]
        for p, g in zip(ours, gradients, strict=True):
            p.grad = gd.tensor(np.array(g))
        optimizer.step()
        theirs, state = update([jax.numpy.asarray(g) for g in gradients], state, theirs)
    for p, q in zip(ours, theirs, strict=True):
        got, want = np.asarray(p.detach()), np.asarray(q)
        assert np.abs(got - want).max(initial=0) <= 1e-12 * np.abs(want).max(initial=1)
    # A hundred steps of a learning-rate-free rule that starts at d0 = 1e-6 go 1e-6 times as far as others.
    least = 1e-5 * min(1, hyper["lr"] * hyper.get("d0", 1) / 1e-5)
    assert any(np.abs(np.asarray(p.detach()) - a).max(initial=0) > least for p, a in zip(ours, start, strict=True))


def test_schedule_free_average():
    rng = np.random.default_rng(1)
    start = rng.normal(size=5)
    p = nn.Parameter(gd.tensor(np.array(start)))
    optimizer = optim.ScheduleFreeAdamW([p], lr=0.01)
    rule = contrib.schedule_free_adamw(0.01)
    q = jax.numpy.asarray(start)
    state = rule.init(q)
    for _ in range(10):
        g = rng.normal(size=5)
        p.grad = gd.tensor(np.array(g))
        optimizer.step()
        u, state = rule.update(jax.numpy.asarray(g), state, q)
        q = optax.apply_updates(q, u)
    optimizer.eval()
    np.testing.assert_allclose(np.asarray(p.detach()), contrib.schedule_free_eval_params(state, q), rtol=1e-12)
    optimizer.train()
    np.testing.assert_allclose(np.asarray(p.detach()), q, rtol=1e-12)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_sophia_with_a_given_curvature(weight_decay):
    rng = np.random.default_rng(2)
    start, curvature = rng.normal(size=7), [rng.normal(size=7) ** 2 for _ in range(5)]
    p = nn.Parameter(gd.tensor(np.array(start)))
    optimizer = optim.Sophia([p], lr=0.01, rho=0.5, eps=1e-8, weight_decay=weight_decay, style="optax")
    h = np.zeros(7)
    q, m = np.array(start), np.zeros(7)
    for t in range(1, 51):
        g = rng.normal(size=7)
        p.grad = gd.tensor(np.array(g))
        optimizer.step()
        m = 0.965 * m + 0.035 * g
        q = q - 0.01 * (np.clip(m / (1 - 0.965**t) / np.maximum(0.5 * h, 1e-8), -1, 1) + weight_decay * q)
        if t % 10 == 1:  # as Optax does, after the update
            e = np.sqrt(curvature[t // 10])
            p.grad = gd.tensor(np.array(e))
            optimizer.update_hessian(batch_size=1)
            h = 0.99 * h + 0.01 * curvature[t // 10]
    np.testing.assert_allclose(np.asarray(p.detach()), q, rtol=1e-12)
