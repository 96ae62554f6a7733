"""Schedules against their closed forms and against Optax's formulas, written out by hand."""

import json
import math
import pickle

import numpy as np
import pytest

from fastgd import schedules
from fastgd.schedules import constant, cosine, from_config, join, linear, warmup, warmup_cosine

EXAMPLES = [
    constant(0.1),
    linear(1.0, 0.25, 8),
    cosine(0.3, 10, end=0.1),
    warmup(0.5, 5),
    warmup_cosine(0.3, 10, 100, end=0.01),
    join([warmup(1.0, 4), constant(1.0), cosine(1.0, 6)], [4, 9]),
]
IDS = [type(s).__name__ for s in EXAMPLES]


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
    assert all(type(schedule(n)) is float for n in range(12))
    with pytest.raises(AttributeError):
        schedule.peak = 1.0


def test_different_schedules_are_unequal():
    assert cosine(0.1, 10) != cosine(0.1, 11)
    assert cosine(0.1, 10) != warmup(0.1, 10)


def test_numpy_arguments_become_plain_numbers():
    s = cosine(np.float64(0.5), np.int32(10))
    assert repr(s) == "cosine(peak=0.5, steps=10, end=0.0)"
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
        (lambda: join([constant(1)] * 2, [1.5]), TypeError, "join: boundaries must be integers"),
        (lambda: join([lambda n: 1.0], []).config(), TypeError, "has no config"),
        (lambda: from_config({"schedule": "os.system"}), ValueError, "schedule must be one of"),
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
