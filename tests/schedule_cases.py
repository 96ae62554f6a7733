"""The schedules of other libraries: how each is called there, and what it is here.

CASES is the grid; ORIGINALS computes a sequence with the library itself.  ``make_golden_schedules.py`` keeps the
sequences, so that parity is tested where the libraries are not installed; ``test_schedule_parity.py`` compares.
"""

import contextlib
import math
import os
import warnings
from functools import partial
from itertools import product
from typing import NamedTuple

import fastgd.schedules as S

PEAKS = (0.3, 1e-3)


class Case(NamedTuple):
    arguments: dict  # the library's own names; "lr" is the optimizer's
    ours: object
    steps: int  # values 0 .. steps - 1, past the end included


def grid(**axes):
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def cases(make, *, steps=160, **axes):
    return [Case(a, make(**a), steps) for a in grid(**axes)]


# ---- torch -------------------------------------------------------------------------------------------


def factor_of(n):
    return 0.9 + 0.2 / (n + 2)


TORCH = {
    "LambdaLR": cases(lambda lr, lr_lambda: S.scale(lr_lambda, lr), lr=PEAKS, lr_lambda=(factor_of,), steps=500),
    "MultiplicativeLR": cases(
        lambda lr, lr_lambda: S.multiplicative(lr, lr_lambda), lr=PEAKS, lr_lambda=(factor_of,), steps=500
    ),
    "StepLR": cases(
        lambda lr, step_size, gamma: S.exponential(lr, gamma, step_size, staircase=True),
        lr=PEAKS, step_size=(1, 7, 30), gamma=(0.1, 0.5),
    ),
    "MultiStepLR": cases(
        lambda lr, milestones, gamma: S.multistep(lr, milestones, gamma),
        lr=PEAKS, milestones=([30, 80], [5, 5, 90], [100]), gamma=(0.1, 0.7),
    ),
    "ConstantLR": cases(
        lambda lr, factor, total_iters: S.piecewise_constant([lr * factor, lr], [total_iters]),
        lr=PEAKS, factor=(1 / 3, 0.5, 1.0), total_iters=(5, 40),
    ),
    "LinearLR": cases(
        lambda lr, start_factor, end_factor, total_iters: S.linear(lr * start_factor, lr * end_factor, total_iters),
        lr=PEAKS, start_factor=(1 / 3, 1.0), end_factor=(1.0, 0.25), total_iters=(5, 100),
    ) + cases(lambda lr, total_iters: S.warmup(lr, total_iters, style="torch"), lr=PEAKS, total_iters=(5, 100)),
    "ExponentialLR": cases(lambda lr, gamma: S.exponential(lr, gamma), lr=PEAKS, gamma=(0.9, 0.99, 1.01, 1.0)),
    "PolynomialLR": cases(
        lambda lr, total_iters, power: S.polynomial(lr, 0.0, total_iters, power),
        lr=PEAKS, total_iters=(5, 100), power=(1.0, 2.0, 0.5),
    ),
    "CosineAnnealingLR": cases(
        lambda lr, T_max, eta_min: S.cosine(lr, T_max, eta_min, style="torch"),
        lr=PEAKS, T_max=(20, 101), eta_min=(0.0, 1e-4),
    ) + cases(
        lambda lr, T_max, eta_min: S.cosine(lr, T_max, eta_min, style="torch"), lr=(1.0,), T_max=(1, 2), eta_min=(0.0,)
    ),
    "CosineAnnealingWarmRestarts": cases(
        lambda lr, T_0, T_mult, eta_min: S.restarts(S.cosine(lr, T_0, eta_min), length_factor=T_mult),
        lr=PEAKS, T_0=(1, 10), T_mult=(1, 2, 3), eta_min=(0.0, 1e-4),
    ),
    "CyclicLR": cases(
        lambda base_lr, max_lr, step_size_up, step_size_down, mode, gamma: S.cyclic(
            base_lr, max_lr, step_size_up, step_size_down, mode, gamma
        ),
        base_lr=(0.01,), max_lr=(0.3,), step_size_up=(7, 20), step_size_down=(None, 11),
        mode=("triangular", "triangular2", "exp_range"), gamma=(0.99,),
    ),
    "CyclicLR momentum": cases(
        lambda base_momentum, max_momentum, step_size_up, step_size_down, mode, gamma: S.cyclic(
            max_momentum, base_momentum, step_size_up, step_size_down, mode, gamma
        ),
        base_momentum=(0.8,), max_momentum=(0.9,), step_size_up=(7, 20), step_size_down=(None, 11),
        mode=("triangular", "triangular2", "exp_range"), gamma=(0.99,),
    ),
    "OneCycleLR": [
        Case(
            {"max_lr": peak, "total_steps": total, "pct_start": pct, "anneal_strategy": strategy, **extra},
            S.one_cycle(peak, total, pct, shape={"cos": "cosine"}.get(strategy, strategy), **extra),
            total + 1,
        )
        for peak, total, pct, strategy, extra in product(
            PEAKS, (10, 101), (0.3, 0.25, 0.0), ("cos", "linear"),
            ({}, {"div_factor": 10.0, "final_div_factor": 50.0}),
        )
    ] + [
        Case(
            {"max_lr": 0.3, "total_steps": total, "pct_start": pct, "anneal_strategy": "cos", "three_phase": True},
            S.one_cycle(0.3, total, pct, three_phase=True), total + 1,
        )
        for total, pct in product((20, 101), (0.3, 0.45))
    ],
    "OneCycleLR momentum": [
        Case(
            {"total_steps": total, "pct_start": pct, "anneal_strategy": strategy, "three_phase": three, **extra},
            S.one_cycle_momentum(
                total,
                *extra.values(),
                pct_start=pct,
                shape={"cos": "cosine"}.get(strategy, strategy),
                three_phase=three,
            ),
            total + 1,
        )
        for total, pct, strategy, three, extra in product(
            (20, 101), (0.3, 0.45), ("cos", "linear"), (False, True), ({}, {"base_momentum": 0.7, "max_momentum": 0.99})
        )
    ],
    "SWALR": cases(
        lambda lr, swa_lr, anneal_epochs, anneal_strategy: (S.cosine if anneal_strategy == "cos" else S.linear)(
            **{"peak" if anneal_strategy == "cos" else "start": lr}, steps=anneal_epochs, end=swa_lr
        ),
        lr=(0.3,), swa_lr=(0.05, 0.6), anneal_epochs=(1, 10, 100), anneal_strategy=("cos", "linear"), steps=120,
    ),
}  # fmt: skip


def torch_sequence(name, arguments, steps):
    """The closed form where the scheduler has one (its steps multiply, and so drift by a rounding at each)."""
    import torch

    name, _, what = name.partition(" ")
    arguments = dict(arguments)
    lr = arguments.pop("lr", 0.1)
    if what:
        arguments |= {"OneCycleLR": {"max_lr": 0.1}, "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1}}[name]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
    kind = torch.optim.swa_utils.SWALR if name == "SWALR" else getattr(torch.optim.lr_scheduler, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = kind(optimizer, **arguments)
        values = []
        for n in range(steps):
            if n:
                optimizer.step()
                scheduler.step()
            if what:
                values.append(optimizer.param_groups[0][what])
            elif hasattr(scheduler, "_get_closed_form_lr"):
                values.append(scheduler._get_closed_form_lr()[0])
            else:
                values.append(scheduler.get_last_lr()[0])
    return values


# ---- Optax -------------------------------------------------------------------------------------------

BEGINS = (0, 6)


def optax_piecewise(init_value, boundaries_and_scales):
    return S.multistep(init_value, list(boundaries_and_scales), list(boundaries_and_scales.values()))


def optax_interpolate(interpolate_type, init_value, boundaries_and_scales):
    values = [init_value]
    for scale in boundaries_and_scales.values():
        values.append(values[-1] * scale)
    return S.piecewise_interpolate(values, list(boundaries_and_scales), interpolate_type)


def optax_exponential(init_value, transition_begin, staircase=False, end_value=None, **a):
    s = S.exponential(init_value, a["decay_rate"], a["transition_steps"], staircase, end_value)
    return S.shift(s, transition_begin) if transition_begin else s


SCALES = ({20: 0.5, 70: 0.1}, {1: 3.0, 2: 0.0, 90: 1.0})

OPTAX = {
    "constant_schedule": cases(lambda value: S.constant(value), value=PEAKS, steps=500),
    "linear_schedule": cases(
        lambda init_value, end_value, transition_steps, transition_begin: S.shift(
            S.linear(init_value, end_value, transition_steps), transition_begin
        ),
        init_value=PEAKS, end_value=(0.0, 0.5), transition_steps=(1, 100), transition_begin=BEGINS,
    ),
    "polynomial_schedule": cases(
        lambda init_value, end_value, power, transition_steps, transition_begin: S.shift(
            S.polynomial(init_value, end_value, transition_steps, power), transition_begin
        ),
        init_value=(0.3,), end_value=(0.0, 0.5), power=(2, 0.5), transition_steps=(7, 100), transition_begin=BEGINS,
    ),
    "piecewise_constant_schedule": cases(
        optax_piecewise, init_value=PEAKS, boundaries_and_scales=SCALES, steps=260
    ),
    "piecewise_interpolate_schedule": cases(
        optax_interpolate, interpolate_type=("linear", "cosine"), init_value=PEAKS, boundaries_and_scales=SCALES
    ),
    "exponential_decay": cases(
        optax_exponential, init_value=(0.3,), transition_steps=(1, 9), decay_rate=(0.9, 1.05), transition_begin=BEGINS,
        staircase=(False, True),
    ) + cases(
        optax_exponential, init_value=(0.3,), transition_steps=(9,), decay_rate=(0.9,), transition_begin=(0,),
        end_value=(0.1, 0.4),
    ) + cases(
        optax_exponential, init_value=(0.3,), transition_steps=(9,), decay_rate=(1.1,), transition_begin=(3,),
        end_value=(0.2, 0.9),
    ),
    "cosine_decay_schedule": cases(
        lambda init_value, decay_steps, alpha, exponent: S.cosine(
            init_value, decay_steps, alpha * init_value, exponent
        ),
        init_value=PEAKS, decay_steps=(1, 100), alpha=(0.0, 0.1), exponent=(1.0, 2.0),
    ),
    "linear_onecycle_schedule": cases(
        lambda transition_steps, peak_value, **a: S.one_cycle(
            peak_value, transition_steps, shape="linear", style="optax", **a
        ),
        transition_steps=(20, 101), peak_value=PEAKS, pct_start=(0.3, 0.0), pct_final=(0.85, 0.6),
        div_factor=(25.0, 7.0),
    ),
    "cosine_onecycle_schedule": cases(
        lambda transition_steps, peak_value, **a: S.one_cycle(peak_value, transition_steps, style="optax", **a),
        transition_steps=(20, 101), peak_value=PEAKS, pct_start=(0.3, 0.0), final_div_factor=(1e4, 10.0),
    ),
    "warmup_constant_schedule": cases(
        lambda init_value, peak_value, warmup_steps: S.warmup(peak_value, warmup_steps, init_value),
        init_value=(0.0, 0.01), peak_value=PEAKS, warmup_steps=(1, 50),
    ),
    "warmup_cosine_decay_schedule": cases(
        lambda init_value, peak_value, warmup_steps, decay_steps, end_value, exponent: S.warmup_cosine(
            peak_value, warmup_steps, decay_steps, end_value, init_value, exponent
        ),
        init_value=(0.0, 0.01), peak_value=(0.3,), warmup_steps=(1, 20), decay_steps=(21, 120), end_value=(0.0, 1e-3),
        exponent=(1.0, 2.0),
    ),
    "warmup_exponential_decay_schedule": cases(
        lambda init_value, peak_value, warmup_steps, transition_steps, decay_rate, staircase: S.warmup_exponential(
            peak_value, warmup_steps, decay_rate, transition_steps, staircase, start=init_value
        ),
        init_value=(0.0, 0.01), peak_value=(0.3,), warmup_steps=(1, 20), transition_steps=(1, 8), decay_rate=(0.9,),
        staircase=(False, True),
    ),
    "sgdr_schedule": [
        Case(
            {"cosine_kwargs": [
                {"init_value": 0.0, "peak_value": peak * f, "warmup_steps": w, "decay_steps": d, "end_value": 1e-4}
                for f, w, d in pieces
            ]},
            S.chain(
                [S.warmup_cosine(peak * f, w, d, 1e-4, 0.0) for f, w, d in pieces], [d for _, _, d in pieces]
            ),
            260,
        )
        for peak, pieces in product(PEAKS, ([(1, 5, 40), (0.5, 5, 80)], [(1, 1, 30), (1, 1, 30), (0.1, 20, 120)]))
    ],
}  # fmt: skip


def optax_sequence(name, arguments, steps):
    import jax
    import numpy as np
    import optax

    with jax.enable_x64(True):
        schedule = getattr(optax, name)(**arguments)
        return [float(schedule(np.asarray(n))) for n in range(steps)]


# ---- Keras -------------------------------------------------------------------------------------------

KERAS = {
    "ExponentialDecay": cases(
        lambda initial_learning_rate, decay_steps, decay_rate, staircase: S.exponential(
            initial_learning_rate, decay_rate, decay_steps, staircase
        ),
        initial_learning_rate=PEAKS, decay_steps=(1, 30), decay_rate=(0.9, 1.02), staircase=(False, True),
    ),
    "PiecewiseConstantDecay": [
        Case({"boundaries": b, "values": v}, S.piecewise_constant(v, b, style="keras"), 260)
        for b, v in (
            ([10], [1.0, 0.5]), ([1, 2, 100], [0.1, 0.2, 0.3, 0.05]), ([50, 51], [1.0, 2.0, 3.0]), ([200], [3e-4, 1e-5])
        )
    ],
    "PolynomialDecay": cases(
        lambda initial_learning_rate, decay_steps, end_learning_rate, power, cycle: S.polynomial(
            initial_learning_rate, end_learning_rate, decay_steps, power, cycle=cycle
        ),
        initial_learning_rate=PEAKS, decay_steps=(7, 100), end_learning_rate=(1e-4,), power=(1.0, 0.5),
        cycle=(False, True),
    ),
    "InverseTimeDecay": cases(
        lambda initial_learning_rate, decay_steps, decay_rate, staircase: S.inverse_time(
            initial_learning_rate, decay_rate, decay_steps, staircase
        ),
        initial_learning_rate=PEAKS, decay_steps=(1, 30), decay_rate=(0.5, 2.0), staircase=(False, True),
    ),
    "CosineDecay": cases(
        lambda initial_learning_rate, decay_steps, alpha: S.cosine(
            initial_learning_rate, decay_steps, alpha * initial_learning_rate, style="keras"
        ),
        initial_learning_rate=PEAKS, decay_steps=(1, 100), alpha=(0.0, 0.1),
    ) + cases(
        lambda initial_learning_rate, warmup_target, warmup_steps, decay_steps, alpha: S.warmup_cosine(
            warmup_target, warmup_steps, decay_steps, alpha * warmup_target, initial_learning_rate, style="keras"
        ),
        initial_learning_rate=(0.0, 0.01), warmup_target=(0.3,), warmup_steps=(1, 30), decay_steps=(20, 100),
        alpha=(0.0, 0.1),
    ),
    "CosineDecayRestarts": cases(
        lambda initial_learning_rate, first_decay_steps, t_mul, m_mul, alpha: S.restarts(
            S.cosine(initial_learning_rate, first_decay_steps, alpha * initial_learning_rate), t_mul, m_mul,
            style="keras",
        ),
        initial_learning_rate=(0.3,), first_decay_steps=(7, 40), t_mul=(1.0, 2.0, 1.5), m_mul=(1.0, 0.7),
        alpha=(0.0, 0.1),
    ),
}  # fmt: skip


def keras_sequence(name, arguments, steps):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        schedule = getattr(keras.optimizers.schedules, name)(**arguments)
        return [float(schedule(n)) for n in range(steps)]
    finally:
        keras.config.set_floatx(before)


# ---- transformers ------------------------------------------------------------------------------------


def hf(make, steps=160, **axes):
    return [Case(a, make(**a), steps) for a in grid(lr=PEAKS, **axes)]


RUN = {"num_warmup_steps": (0, 1, 30), "num_training_steps": (40, 120)}

TRANSFORMERS = {
    "constant": hf(lambda lr: S.constant(lr), steps=500),
    "constant_with_warmup": hf(
        lambda lr, num_warmup_steps: S.warmup(lr, num_warmup_steps, style="transformers"), steps=300,
        num_warmup_steps=(0, 1, 30),
    ),
    "linear": hf(
        lambda lr, num_warmup_steps, num_training_steps: S.warmup_linear(
            lr, num_warmup_steps, num_training_steps, style="transformers"
        ),
        **RUN,
    ),
    "cosine": hf(
        lambda lr, num_warmup_steps, num_training_steps, num_cycles: S.warmup_cosine(
            lr, num_warmup_steps, num_training_steps, cycles=num_cycles, style="transformers"
        ),
        **RUN, num_cycles=(0.5, 1.25),
    ),
    "cosine_with_restarts": hf(
        lambda lr, num_warmup_steps, num_training_steps, num_cycles: S.warmup_cosine_restarts(
            lr, num_warmup_steps, num_training_steps, num_cycles
        ),
        **RUN, num_cycles=(1, 3),
    ),
    "polynomial": hf(
        lambda lr, num_warmup_steps, num_training_steps, lr_end, power: S.warmup_polynomial(
            lr, num_warmup_steps, num_training_steps, lr_end, power, style="transformers"
        ),
        **RUN, lr_end=(1e-7,), power=(1.0, 2.0),
    ),
    "inverse_sqrt": hf(
        lambda lr, num_warmup_steps, timescale: S.inverse_sqrt(lr, num_warmup_steps, timescale),
        num_warmup_steps=(0, 1, 30), timescale=(None, 50),
    ),
    "cosine_with_min_lr": hf(
        lambda lr, num_warmup_steps, num_training_steps, min_lr_rate: S.warmup_cosine(
            lr, num_warmup_steps, num_training_steps, lr * min_lr_rate, style="transformers"
        ),
        **RUN, min_lr_rate=(0.0, 0.1),
    ),
    "cosine_warmup_with_min_lr": hf(
        lambda lr, num_warmup_steps, num_training_steps, min_lr_rate, warmup_lr_rate: S.warmup_cosine(
            lr, num_warmup_steps, num_training_steps, lr * min_lr_rate,
            None if warmup_lr_rate is None else lr * warmup_lr_rate, style="transformers-min-lr",
        ),
        **RUN, min_lr_rate=(0.1,), warmup_lr_rate=(None, 0.05),
    ),
    "warmup_stable_decay": [
        Case(
            {"lr": lr, "num_warmup_steps": w, "num_decay_steps": d, "num_training_steps": 120, "warmup_type": up,
             "decay_type": down, "min_lr_ratio": ratio},
            S.warmup_stable_decay(lr, w, 120, d, lr * ratio, warmup_shape=up, decay_shape=down),
            140,
        )
        for lr, (w, d), (up, down), ratio in product(
            (0.3,), ((0, 24), (20, 50)), product(("linear", "cosine", "1-sqrt"), repeat=2), (0.0, 0.1)
        )
    ],
}  # fmt: skip


def transformers_sequence(name, arguments, steps):
    import torch
    from transformers import get_scheduler

    arguments = dict(arguments)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=arguments.pop("lr"))
    own = {key: arguments.pop(key, None) for key in ("num_warmup_steps", "num_training_steps")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = get_scheduler(name, optimizer, **own, scheduler_specific_kwargs=arguments)
        values = []
        for _ in range(steps):
            values.append(scheduler.get_last_lr()[0])
            scheduler.step()
    return values


LIBRARIES = {
    "torch": (TORCH, torch_sequence),
    "optax": (OPTAX, optax_sequence),
    "keras": (KERAS, keras_sequence),
    "transformers": (TRANSFORMERS, transformers_sequence),
}
ALL = [(library, name) for library, (table, _) in LIBRARIES.items() for name in table]


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def originals(library, name):
    """The library's own values for each case of a schedule."""
    table, sequence = LIBRARIES[library]
    with quiet():
        return [sequence(name, case.arguments, case.steps) for case in table[name]]


# ---- schedulers that write into the groups: L is torch.optim.lr_scheduler or ours, o an optimizer ------

SCHEDULERS = {
    "LambdaLR": lambda L, o: L.LambdaLR(o, [factor_of, lambda n: 0.95**n]),
    "MultiplicativeLR": lambda L, o: L.MultiplicativeLR(o, factor_of),
    "StepLR": lambda L, o: L.StepLR(o, 7, 0.5),
    "MultiStepLR": lambda L, o: L.MultiStepLR(o, [5, 5, 20], 0.5),
    "ConstantLR": lambda L, o: L.ConstantLR(o, 0.25, 15),
    "LinearLR": lambda L, o: L.LinearLR(o, 0.25, 0.75, 20),
    "LinearLR default": lambda L, o: L.LinearLR(o),
    "ExponentialLR": lambda L, o: L.ExponentialLR(o, 0.95),
    "PolynomialLR": lambda L, o: L.PolynomialLR(o, 33, 2.0),
    "PolynomialLR default": lambda L, o: L.PolynomialLR(o),
    "CosineAnnealingLR": lambda L, o: L.CosineAnnealingLR(o, 11),
    "CosineAnnealingLR floor": lambda L, o: L.CosineAnnealingLR(o, 11, 0.01),
    "CosineAnnealingWarmRestarts": lambda L, o: L.CosineAnnealingWarmRestarts(o, 5, 2, 0.01),
    "CyclicLR": lambda L, o: L.CyclicLR(o, 0.01, [0.2, 0.4], 4, 7),
    "CyclicLR2": lambda L, o: L.CyclicLR(o, 0.01, 0.2, 6, mode="triangular2", base_momentum=0.7, max_momentum=0.85),
    "CyclicLR own": lambda L, o: L.CyclicLR(o, 0.01, 0.2, 6, scale_fn=lambda n: 1 / (n + 1), scale_mode="iterations"),
    "CyclicLR plain": lambda L, o: L.CyclicLR(o, 0.01, 0.2, 6, mode="exp_range", gamma=0.98, cycle_momentum=False),
    "OneCycleLR": lambda L, o: L.OneCycleLR(o, [0.5, 0.1], 45),
    "OneCycleLR three": lambda L, o: L.OneCycleLR(o, 0.5, epochs=5, steps_per_epoch=9, three_phase=True),
    "OneCycleLR linear": lambda L, o: L.OneCycleLR(o, 0.5, 45, anneal_strategy="linear", cycle_momentum=False),
    "SequentialLR": lambda L, o: L.SequentialLR(
        o, [L.LinearLR(o, 0.1, total_iters=5), L.CosineAnnealingLR(o, 20), L.ConstantLR(o, 0.5, 6)], [5, 25]
    ),
    "SequentialLR restarts": lambda L, o: L.SequentialLR(
        o, [L.ConstantLR(o, 0.1, 100), L.CosineAnnealingWarmRestarts(o, 6), L.ExponentialLR(o, 0.9)], [10, 31]
    ),
    "SequentialLR lambda": lambda L, o: L.SequentialLR(
        o, [L.ExponentialLR(o, 0.9), L.LambdaLR(o, lambda n: 1 / (1 + n)), L.StepLR(o, 3, 0.5)], [4, 9]
    ),
    "ChainedScheduler": lambda L, o: L.ChainedScheduler([L.ConstantLR(o, 0.1, 4), L.ExponentialLR(o, 0.9)], o),
    "ChainedScheduler of three": lambda L, o: L.ChainedScheduler(
        [L.LinearLR(o, 0.2, total_iters=9), L.StepLR(o, 8, 0.5), L.CosineAnnealingLR(o, 17, 0.01)]
    ),
    "SWALR": lambda L, o: L.SWALR(o, 0.05, 12),
    "SWALR linear": lambda L, o: L.SWALR(o, [0.05, 0.9], 12, "linear"),
    "SWALR at once": lambda L, o: L.SWALR(o, 0.05, 0),
}
SCHEDULER_STEPS = 45
BY_HAND = (13, 29)


def drive(optimizer, scheduler, steps, first=0):
    """The rates and momenta of the groups at each step; now and then somebody writes into them."""
    rows = []
    for n in range(first, first + steps):
        rows.append([group["lr"] for group in optimizer.param_groups])
        rows[-1] += [group["betas"][0] if "betas" in group else group["momentum"] for group in optimizer.param_groups]
        if n in BY_HAND:
            optimizer.param_groups[0]["lr"] *= 0.5
        optimizer.step()
        scheduler.step()
    return rows


def torch_schedulers():
    """torch.optim.lr_scheduler, with SWALR."""
    import types

    import torch

    return types.SimpleNamespace(**vars(torch.optim.lr_scheduler), SWALR=torch.optim.swa_utils.SWALR)


def torch_optimizer(adam=False):
    import torch

    p, q = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    p.grad, q.grad = torch.ones(1), torch.ones(1)
    kind = torch.optim.Adam if adam else partial(torch.optim.SGD, momentum=0.9)
    return kind([{"params": [p]}, {"params": [q], "lr": 0.2}], lr=0.3)


def scheduler_original(name):
    with quiet():
        optimizer = torch_optimizer("three" in name or "2" in name)
        return drive(optimizer, SCHEDULERS[name](torch_schedulers(), optimizer), SCHEDULER_STEPS)


# ---- feedback rules ----------------------------------------------------------------------------------


#: Falls, with waves and two stretches on which nothing gets better.
METRICS = [
    1.0 + math.exp(-min(n, 90) / 40.0) * (1.0 + 0.3 * math.sin(n * n)) - (0.004 * max(0, n - 200)) for n in range(400)
]


class Rule(NamedTuple):
    arguments: dict
    make: object  # -> the rule of ours


def rules(make, **axes):
    return [Rule(a, partial(make, **a)) for a in grid(**axes)]


FEEDBACK = {
    "torch ReduceLROnPlateau": rules(
        lambda min_lr, **a: S.Plateau(0.3, low=min_lr, **a),
        factor=(0.5, 0.9), patience=(0, 3), threshold_mode=("rel", "abs"), mode=("min", "max"), cooldown=(0, 4),
        min_lr=(1e-3,),
    ),
    "keras ReduceLROnPlateau": rules(
        lambda min_delta, min_lr, **a: S.Plateau(
            0.3, threshold=min_delta, threshold_mode="abs", low=min_lr, style="keras", **a
        ),
        factor=(0.5, 0.9), patience=(1, 3), min_delta=(1e-4, 0.01), mode=("min", "max"), cooldown=(0, 4),
        min_lr=(1e-2,),
    ),
    "optax reduce_on_plateau": rules(
        lambda rtol, accumulation_size, min_scale, **a: S.Plateau(
            threshold=rtol, accumulate=accumulation_size, low=min_scale, style="optax", **a
        ),
        factor=(0.5, 0.9), patience=(0, 1, 3), rtol=(1e-4, 0.01), cooldown=(0, 4), accumulation_size=(1, 3),
        min_scale=(1e-2,),
    ),
    "transformers GreedyLR": rules(
        lambda min_lr, max_lr, window_size, reset_start, smooth, **a: S.Greedy(
            0.3, low=min_lr, high=max_lr, window=window_size, reset_after=reset_start, **a
        ),
        factor=(0.5, 0.9), patience=(0, 3), mode=("min", "max"), cooldown=(0, 4), warmup=(0, 2), min_lr=(1e-2,),
        max_lr=(0.6,), smooth=(True,), window_size=(1, 5), reset_start=(4,),
    ),
}  # fmt: skip


def ours_of_feedback(name, case):
    rule = case.make()
    return [rule.update(metric) for metric in METRICS]


def torch_feedback(kind, arguments):
    import torch
    from transformers.optimization import GreedyLR

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    kinds = {"ReduceLROnPlateau": torch.optim.lr_scheduler.ReduceLROnPlateau, "GreedyLR": GreedyLR}
    rule, values = kinds[kind](optimizer, **arguments), []
    for metric in METRICS:
        rule.step(metric)
        values.append(optimizer.param_groups[0]["lr"])
    return values


def keras_feedback(kind, arguments):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    class Rate:  # what the callback asks of an optimizer, in float64
        learning_rate = 0.3

    class Model:
        optimizer = Rate()

    rule, values = getattr(keras.callbacks, kind)(monitor="loss", **arguments), []
    rule._model = model = Model()
    rule.on_train_begin()
    for epoch, metric in enumerate(METRICS):
        model.optimizer.learning_rate = float(model.optimizer.learning_rate)
        rule.on_epoch_end(epoch, {"loss": metric})
        values.append(float(model.optimizer.learning_rate))
    return values


def optax_feedback(kind, arguments):
    import jax
    import jax.numpy as jnp
    from optax import contrib

    with jax.enable_x64(True):
        rule = getattr(contrib, kind)(**arguments)
        one = jnp.ones((), jnp.float64)
        state = rule.init(one)
        update, values = jax.jit(lambda state, value: rule.update(one, state, value=value)), []
        for metric in METRICS:
            scaled, state = update(state, jnp.asarray(metric))
            values.append(float(scaled))
    return values


def feedback_originals(name):
    library, kind = name.split()
    run = {"keras": keras_feedback, "optax": optax_feedback}.get(library, torch_feedback)
    return [run(kind, case.arguments) for case in FEEDBACK[name]]
