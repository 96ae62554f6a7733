"""Schedules against their closed forms and against Optax's formulas, written out by hand."""

import copy
import dataclasses
import json
import math
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from fastgd import schedules
from fastgd import schedules as S
from fastgd.schedules import constant, cosine, from_config, join, linear, warmup, warmup_cosine

EXAMPLES = [
    constant(0.1),
    linear(1.0, 0.25, 8),
    cosine(0.3, 10, end=0.1),
    cosine(0.3, 10, 0.1, 2.0, style="keras"),
    warmup(0.5, 5),
    warmup(0.5, 5, 0.1, "1-sqrt", style="llm.c"),
    warmup_cosine(0.3, 10, 100, end=0.01),
    join([warmup(1.0, 4), constant(1.0), cosine(1.0, 6)], [4, 9]),
    S.chain([warmup(1.0, 4), cosine(1.0, 6)], [4, 6], repeat=True),
    S.clip(linear(1.0, 0.0, 8), low=0.25),
    S.cyclic(0.1, 0.5, 3, 5, "triangular2"),
    S.exponential(0.5, 0.5, 4, end=0.1),
    S.inverse_sqrt(0.3, 4),
    S.inverse_time(0.3, 0.5, 4, staircase=True),
    S.multiply([constant(0.5), warmup(1.0, 3)]),
    S.multistep(1.0, [3, 5], [0.5, 0.1]),
    S.offset(warmup(1.0, 3), 0.25),
    S.one_cycle(0.3, 20, three_phase=True),
    S.one_cycle_momentum(20, pct_start=0.25),
    S.piecewise_constant([1.0, 0.1], [4], style="keras"),
    S.piecewise_interpolate([1.0, 0.5, 0.75], [4, 8], "cosine"),
    S.polynomial(1.0, 0.1, 5, 2.0, cycle=True),
    S.restarts(S.tanh(0.3, 4, lb=-3.0), 2.0, 0.5, 2, style="timm"),
    S.scale(warmup(1.0, 3), 0.25),
    S.shift(cosine(0.3, 10), 4),
    S.tanh(0.3, 10, 0.1),
    S.warmup_cosine_restarts(0.3, 2, 20, 3),
    S.warmup_exponential(0.3, 2, 0.9),
    S.warmup_linear(0.3, 2, 20, style="deepspeed"),
    S.warmup_polynomial(0.3, 2, 20, power=2.0),
    S.warmup_stable_decay(0.3, 2, 20, 5, 0.1, decay_shape="cosine"),
    S.with_warmup(S.tanh(0.3, 10), 4, peak=0.2, style="timm"),
]
IDS = [type(s).__name__ for s in EXAMPLES]


def test_every_schedule_has_an_example_and_can_be_named():
    names = {name for name in S.__all__ if isinstance(getattr(S, name), type) and name.islower()}
    assert set(S.REGISTRY) == names
    assert all(S.REGISTRY[name] is getattr(S, name) and S.REGISTRY[name].__name__ == name for name in names)
    assert names - set(IDS) == {"multiplicative"}  # is made of a function
    assert not any(f.name == "schedule" for kind in S.REGISTRY.values() for f in dataclasses.fields(kind))


# ---- Optax 0.2 (optax/schedules/_schedule.py), for scalars and non-negative counts -----------


def optax_linear(init, end, transition_steps):
    def schedule(count):
        count = min(max(count, 0), transition_steps)
        return (init - end) * (1 - count / transition_steps) + end

    return schedule


def optax_cosine_decay(init, decay_steps, alpha):
    def schedule(count):
        count = min(count, decay_steps)
        decay = 0.5 * (1 + math.cos(math.pi * count / decay_steps))
        return init * ((1 - alpha) * decay + alpha)

    return schedule


def optax_join(parts, boundaries):
    def schedule(step):
        output = parts[0](step)
        for boundary, part in zip(boundaries, parts[1:], strict=True):
            output = output if step < boundary else part(step - boundary)
        return output

    return schedule


def optax_warmup_cosine(init, peak, warmup_steps, decay_steps, end):
    alpha = 0.0 if peak == 0 else end / peak
    return optax_join(
        [optax_linear(init, peak, warmup_steps), optax_cosine_decay(peak, decay_steps - warmup_steps, alpha)],
        [warmup_steps],
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (linear(1e-3, 1e-5, 7), optax_linear(1e-3, 1e-5, 7)),
        (cosine(3e-4, 50, end=3e-5), optax_cosine_decay(3e-4, 50, 0.1)),
        (warmup(2.0, 13), optax_linear(0.0, 2.0, 13)),
        (warmup_cosine(1e-2, 10, 120, end=1e-4), optax_warmup_cosine(0.0, 1e-2, 10, 120, 1e-4)),
        (
            join([warmup(1.0, 3), linear(1.0, 0.0, 5)], [6]),
            optax_join([optax_linear(0.0, 1.0, 3), optax_linear(1.0, 0.0, 5)], [6]),
        ),
    ],
)
def test_agrees_with_optax(ours, theirs):
    for n in range(150):
        assert ours(n) == pytest.approx(theirs(n), rel=1e-13, abs=1e-18)


# ---- closed forms -----------------------------------------------------------------------------


def test_constant():
    assert [constant(0.1)(n) for n in (0, 1, 10**12)] == [0.1, 0.1, 0.1]


def test_linear():
    assert [linear(0.0, 1.0, 4)(n) for n in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert [linear(3.0, 1.0, 2)(n) for n in range(4)] == [3.0, 2.0, 1.0, 1.0]


def test_cosine():
    s = cosine(2.0, 4)
    root = math.sqrt(0.5)
    assert [s(n) for n in range(6)] == pytest.approx([2.0, 1 + root, 1.0, 1 - root, 0.0, 0.0])


def test_warmup_starts_at_zero_and_holds_the_peak():
    assert [warmup(2.0, 4)(n) for n in range(6)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]


def test_no_warmup_means_the_peak_at_once():
    assert warmup(2.0, 0)(0) == 2.0
    assert [warmup_cosine(2.0, 0, 10)(n) for n in range(12)] == [cosine(2.0, 10)(n) for n in range(12)]


def test_warmup_cosine_total_includes_the_warmup():
    s = warmup_cosine(0.3, 10, 30, end=0.1)
    assert s(0) == 0.0
    assert s(5) == pytest.approx(0.15)
    assert s(10) == 0.3
    assert s(20) == pytest.approx(0.2)
    assert s(29) > 0.1
    assert s(30) == s(31) == s(10**9) == 0.1


def test_warmup_cosine_is_the_join_it_says():
    whole = warmup_cosine(0.3, 7, 40, end=0.02)
    parts = join([warmup(0.3, 7), cosine(0.3, 33, end=0.02)], [7])
    assert [whole(n) for n in range(60)] == [parts(n) for n in range(60)]


def test_ends_are_exact():
    # 0.1 + (0.3 - 0.1) is not 0.3 in float64
    for s in (linear(0.3, 0.1, 3), cosine(0.3, 3, end=0.1)):
        assert s(0) == 0.3
        assert s(3) == 0.1


def test_join_uses_the_new_piece_at_the_boundary_with_steps_since_it():
    calls = []

    def record(name):
        return lambda n: calls.append((name, n)) or 1.0

    s = join([record("a"), record("b"), record("c")], [2, 3])
    for n in range(5):
        s(n)
    assert calls == [("a", 0), ("a", 1), ("b", 0), ("c", 0), ("c", 1)]


def test_joins_nest():
    inner = join([constant(1.0), constant(2.0)], [2])
    s = join([constant(0.0), inner], [3])
    assert [s(n) for n in range(7)] == [0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0]


# ---- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", EXAMPLES, ids=IDS)
def test_schedules_are_values(schedule):
    again = eval(repr(schedule), vars(schedules))
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert pickle.loads(pickle.dumps(schedule)) == schedule  # noqa: S301
    assert from_config(json.loads(json.dumps(schedule.config()))) == schedule
    assert copy.deepcopy(schedule) == schedule == copy.copy(schedule)
    assert all(type(schedule(n)) is float for n in range(12))
    with pytest.raises(AttributeError):
        schedule.peak = 1.0


@pytest.mark.parametrize("schedule", [*EXAMPLES, S.multiplicative(0.5, lambda n: 1 - 1 / (n + 1))])
def test_a_value_depends_on_the_step_alone(schedule):
    """In any order, from a fresh copy, from several threads: resuming at n needs nothing but n."""
    values = [schedule(n) for n in range(20)]
    assert [schedule(n) for n in reversed(range(20))] == values[::-1]
    assert [copy.copy(schedule)(n) for n in range(20)] == values
    seen = []
    workers = [threading.Thread(target=lambda: seen.append([schedule(n) for n in range(20)])) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert seen == [values] * 4


@pytest.mark.parametrize("schedule", [s for s in EXAMPLES if not type(s).__name__.startswith("one_cycle")])
def test_very_large_steps_have_values(schedule):
    for n in (10**6, 2**40):
        assert math.isfinite(schedule(n))


# ---- compositions -----------------------------------------------------------------------------


def test_compositions_are_their_formulas():
    a, b = warmup(2.0, 4), linear(1.0, 0.5, 6)
    for n in range(15):
        assert S.scale(a, 3.0)(n) == (a * 3.0)(n) == (3.0 * a)(n) == 3.0 * a(n)
        assert S.multiply([a, b])(n) == (a * b)(n) == a(n) * b(n)
        assert S.multiply([a, lambda n: 0.5])(n) == 0.5 * a(n)
        assert S.offset(a, 0.25)(n) == a(n) + 0.25
        assert S.shift(b, 3)(n) == b(max(0, n - 3))
        assert S.shift(b, -3)(n) == b(n + 3)
        assert S.clip(a, 0.5, 1.5)(n) == min(max(a(n), 0.5), 1.5)
        assert S.chain([a, b], [4])(n) == S.chain([a, b], [4, 6])(n) == join([a, b], [4])(n)
        assert S.chain([a, b], [4, 6], repeat=True)(n) == join([a, b], [4])(n % 10)
    with pytest.raises(TypeError, match="scale: factor must be a number, got 'x'"):
        a * "x"


def test_a_configuration_file_makes_a_schedule():
    text = """{"schedule": "multiply", "schedules": [
        {"schedule": "join", "boundaries": [3], "schedules": [
            {"schedule": "warmup", "peak": 1, "steps": 3}, {"schedule": "constant", "value": 1}]},
        {"schedule": "clip", "of": {"schedule": "cosine", "peak": 0.1, "steps": 10, "style": "torch"}, "low": 0.01}]}"""
    made = from_config(json.loads(text))
    rate = S.clip(cosine(0.1, 10, style="torch"), low=0.01)
    assert made == S.multiply([join([warmup(1.0, 3), constant(1.0)], [3]), rate])


# ---- feedback ---------------------------------------------------------------------------------


def test_feedback_is_a_factor_of_a_schedule():
    plateau = S.Plateau(patience=0, factor=0.5)
    rate = warmup(0.1, 2) * plateau
    assert [rate(n) for n in (1, 2)] == [0.05, 0.1]
    plateau.update(1.0)
    plateau.update(math.nan)  # no improvement
    assert rate(2) == 0.05
    assert eval(repr(plateau), vars(S)).update(1.0) == 0.5
    with pytest.raises(TypeError, match=r"multiply: schedules\[1\] = Plateau.* has no config"):
        rate.config()


@pytest.mark.parametrize("rule", [S.Plateau(0.3, patience=1), S.Greedy(0.3, window=3)])
def test_a_state_that_does_not_fit_changes_no_rule(rule):
    rule.update(2.0)
    good = rule.state_dict()
    assert json.loads(json.dumps(good)) == {k: list(v) if isinstance(v, tuple) else v for k, v in good.items()}
    for bad in ({}, None, {**good, "x": 1}, {**good, "bad": -1}, {**good, "bad": 0.5}, {**good, "value": "x"}):
        with pytest.raises((ValueError, TypeError), match=type(rule).__name__):
            rule.load_state_dict(bad)
        assert rule.state_dict() == good


# ---- the picture ------------------------------------------------------------------------------


def test_plot_draws_every_step_of_every_schedule():
    pytest.importorskip("matplotlib")
    a, b = warmup_cosine(0.3, 10, 100), constant(0.1)
    axes = S.plot({"rate": a, "b": b}, 120)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["rate", "b"]
    for line, schedule in zip(axes.lines, (a, b), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(120))
        np.testing.assert_array_equal(line.get_ydata(), [schedule(n) for n in range(120)])
    assert S.plot(a, 120, ax=axes) is axes and len(axes.lines) == 3
    assert axes.lines[2].get_label() == repr(a)
    [nested] = S.plot(S.scale(a, 2.0) * S.clip(a, 0.1), 5).lines
    assert nested.get_label().startswith("multiply(schedules=(scale(of=") and len(nested.get_label()) == 60
    [long] = S.plot(a, 10**6).lines
    assert len(long.get_xdata()) == 2000 and long.get_xdata()[-1] == 10**6 - 1
    [one] = S.plot([b], 1).lines
    assert list(one.get_xdata()) == [0]
    with pytest.raises(ValueError, match="there is no schedule"):
        S.plot([], 10)
    with pytest.raises(ValueError, match="past the end"):
        S.plot(S.one_cycle(0.1, 10), 20, ax=axes)
    assert len(axes.lines) == 3


def test_matplotlib_is_imported_for_the_picture_alone():
    code = "import sys, fastgd; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_different_schedules_are_unequal():
    assert cosine(0.1, 10) != cosine(0.1, 11)
    assert cosine(0.1, 10) != warmup(0.1, 10)


def test_numpy_arguments_become_plain_numbers():
    s = cosine(np.float64(0.5), np.int32(10))
    assert repr(s) == "cosine(peak=0.5, steps=10)"
    assert s(np.int64(5)) == s(5)


# ---- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: constant(math.nan), ValueError, "constant: value must be finite"),
        (lambda: constant("fast"), TypeError, "constant: value must be a number"),
        (lambda: linear(0.0, math.inf, 3), ValueError, "linear: end must be finite"),
        (lambda: linear(0.0, 1.0, 0), ValueError, "linear: steps must be at least 1"),
        (lambda: cosine(1.0, 2.5), TypeError, "cosine: steps must be an integer"),
        (lambda: cosine(1.0, 10, end=-math.inf), ValueError, "cosine: end must be finite"),
        (lambda: warmup(1.0, -1), ValueError, "warmup: steps must be at least 0"),
        (lambda: warmup_cosine(1.0, -1, 5), ValueError, "warmup_cosine: warmup_steps must be"),
        (lambda: warmup_cosine(1.0, 5, 5), ValueError, "warmup_cosine: total_steps includes"),
        (lambda: join([], []), ValueError, "join: schedules must not be empty"),
        (lambda: join([0.1], []), TypeError, r"join: schedules\[0\] must be callable"),
        (lambda: join([constant(1)], [3]), ValueError, "join: boundaries must be one fewer"),
        (lambda: join([constant(1)] * 3, [3, 3]), ValueError, "join: boundaries must increase"),
        (lambda: join([constant(1)] * 2, [0]), ValueError, "join: boundaries must increase"),
        (lambda: join([constant(1)] * 2, [1.5]), TypeError, r"join: boundaries\[0\] must be an integer"),
        (lambda: join([lambda n: 1.0], []).config(), TypeError, "has no config"),
        (lambda: from_config({"schedule": "os.system"}), ValueError, "schedule must be one of"),
        (lambda: from_config({"schedule": ["join"]}), ValueError, "schedule must be one of"),
        (lambda: from_config("cosine"), ValueError, "schedule must be a mapping with 'schedule' and arguments"),
        (lambda: from_config({"schedule": "scale", "of": {"schedule": 3}, "factor": 1}), ValueError, "must be one"),
        (lambda: from_config({"schedule": "scale", "of": 1, "factor": 1}), TypeError, "scale: of must be callable"),
        (lambda: cosine(1.0, 5, style="keras3"), ValueError, "cosine: style must be one of optax, keras, timm, torch"),
        (lambda: cosine(1.0, 5, exponent=0), ValueError, "cosine: exponent must be more than 0, got 0.0"),
        (lambda: S.tanh(1.0, 5, lb=3, ub=3), ValueError, "tanh: lb must be less than ub, got 3.0 and 3.0"),
        (lambda: S.inverse_time(1.0, -1), ValueError, "inverse_time: rate must be at least 0"),
        (lambda: S.exponential(1.0, 0.5, staircase=1), TypeError, "exponential: staircase must be True or False"),
        (lambda: S.multistep(1.0, [1, 2], [0.1]), ValueError, "expected 2 factors, one per milestone, got 1"),
        (lambda: S.multistep(1.0, [-1]), ValueError, r"multistep: milestones\[0\] must be at least 0, got -1"),
        (lambda: S.multistep(1.0, 3), TypeError, "multistep: milestones must be a sequence, got 3"),
        (lambda: S.piecewise_constant([1.0], [3]), ValueError, "boundaries must be one fewer than the 1 values, got 1"),
        (lambda: S.piecewise_constant([1, 2, 3], [3, 3]), ValueError, r"boundaries must increase, got \(3, 3\)"),
        (lambda: S.piecewise_constant([1, math.nan], [3]), ValueError, r"values\[1\] must be finite"),
        (lambda: S.chain([constant(1)], [0]), ValueError, r"chain: lengths must be at least 1, got \(0,\)"),
        (lambda: S.chain([constant(1)], [], repeat=True), ValueError, "a length for each of the 1 schedules, got 0"),
        (lambda: S.multiply([]), ValueError, "multiply: schedules must not be empty"),
        (lambda: S.clip(constant(1)), ValueError, "clip: low or high must be given"),
        (lambda: S.clip(constant(1), 2, 1), ValueError, "clip: low must be at most high, got 2.0 and 1.0"),
        (lambda: S.restarts(constant(1)), TypeError, "decay must be linear, polynomial, cosine or tanh, got constant"),
        (lambda: S.restarts(cosine(1, 5), 0.5), ValueError, "restarts: length_factor must be at least 1, got 0.5"),
        (lambda: S.restarts(cosine(1, 5), peak_factor=0.5), ValueError, "restarts: torch has no peak_factor"),
        (lambda: S.one_cycle(1, 20, pct_start=2), ValueError, "one_cycle: pct_start must be from 0 to 1, got 2.0"),
        (lambda: S.one_cycle(1, 20, 0.9, three_phase=True), ValueError, "expected phases that end one after the other"),
        (lambda: S.one_cycle(1, 20, style="optax", three_phase=True), ValueError, "three_phase needs style='torch'"),
        (lambda: S.one_cycle(1, 20, pct_final=0.5), ValueError, "pct_final needs style='optax', got 0.5"),
        (lambda: S.one_cycle(1, 20)(21), ValueError, "one_cycle: step 21 is past the end, 20 steps .style='torch'"),
        (lambda: warmup(1, 0, style="deepspeed"), ValueError, "warmup: steps must be at least 1, got 0; style='deepsp"),
        (lambda: warmup_cosine(1, 2, 9, cycles=2), ValueError, "cycles needs style='transformers', got 2.0"),
        (lambda: S.warmup_stable_decay(1, 9, 10, 2), ValueError, "must fit into total_steps = 10, got 9 and 2"),
        (lambda: S.warmup_stable_decay(1, 1, 10, cycles=2), ValueError, "cycles needs decay_shape='cosine', got 2.0"),
        (lambda: S.exponential(1.0, 2.0)(5000), ValueError, "exponential: the value at step 5000 is not finite: inf"),
        (lambda: S.Plateau(factor=1.0), ValueError, "Plateau: factor must be less than 1, got 1.0"),
        (lambda: S.Plateau(mode="up"), ValueError, "Plateau: mode must be one of min, max, got 'up'"),
        (lambda: S.Plateau(accumulate=2), ValueError, "Plateau: accumulate needs style='optax', got 2"),
        (lambda: S.Plateau(style="keras"), ValueError, "keras has no relative threshold"),
        (lambda: S.Greedy(0.1, patience=-1), ValueError, "Greedy: patience must be at least 0, got -1"),
        (lambda: from_config({}), ValueError, "schedule must be one of"),
        (lambda: from_config({"schedule": "constant", "v": 1}), ValueError, "unknown arguments"),
        (lambda: from_config({"schedule": "constant"}), ValueError, "constant: .*missing"),
    ],
)
def test_bad_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("schedule", EXAMPLES, ids=IDS)
def test_bad_steps(schedule):
    with pytest.raises(ValueError, match="step must be at least 0, got -1"):
        schedule(-1)
    with pytest.raises(TypeError, match="step must be an integer"):
        schedule(1.0)


def test_a_value_that_is_not_finite_is_an_error():
    s = join([constant(1.0), lambda n: math.inf], [2])
    assert s(1) == 1.0
    with pytest.raises(ValueError, match="join: the value at step 2 is not finite"):
        s(2)
