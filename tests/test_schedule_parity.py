"""Every schedule of other libraries, value for value: from kept sequences, live where the library is installed, and
for timm, llm.c and DeepSpeed from their formulas, written out here independently.

1e-12 of the value, or 1e-15 of the largest where a wave comes down to nothing.
"""

import math
from bisect import bisect_right
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from schedule_cases import ALL, FEEDBACK, LIBRARIES, METRICS, PEAKS, feedback_originals, originals, ours_of_feedback

from fastgd import schedules as S

GOLDEN = Path(__file__).with_name("golden_schedules.npz")


@cache
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def assert_equal(ours, theirs, what):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    bound = 1e-12 * np.abs(theirs) + 1e-15 * np.max(np.abs(theirs))
    wrong = np.flatnonzero(~(np.abs(ours - theirs) <= bound))
    assert not wrong.size, f"{what}: step {wrong[0]}: {ours[wrong[0]]}, expected {theirs[wrong[0]]}"


@pytest.mark.parametrize(("library", "name"), ALL, ids=[f"{library}-{name}" for library, name in ALL])
def test_equals_the_kept_sequences(library, name):
    values, first = golden()[f"{library}/{name}"], 0
    assert values.size >= 1000
    for case in LIBRARIES[library][0][name]:
        ours = [case.ours(n) for n in range(case.steps)]
        assert_equal(ours, values[first : first + case.steps], f"{case.arguments} {case.ours}")
        first += case.steps
    assert first == values.size


def importable(library):
    pytest.importorskip(library, exc_type=ImportError)


@pytest.mark.parametrize(("library", "name"), ALL, ids=[f"{library}-{name}" for library, name in ALL])
def test_the_kept_sequences_are_those_of_the_library(library, name, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    importable(library)
    theirs = np.concatenate(originals(library, name))
    assert_equal(golden()[f"{library}/{name}"], theirs, f"{library} {name}")


@pytest.mark.parametrize(("library", "name"), ALL, ids=[f"{library}-{name}" for library, name in ALL])
def test_cases_can_be_printed_and_kept(library, name):
    """What is written in a log or a configuration makes the same schedule."""
    for case in LIBRARIES[library][0][name]:
        if "lambda" in str(case.arguments) or "function" in str(case.ours):
            continue
        assert eval(repr(case.ours), vars(S)) == case.ours
        assert S.from_config(case.ours.config()) == case.ours


def test_the_comparison_finds_a_difference():
    case = LIBRARIES["keras"][0]["PiecewiseConstantDecay"][0]
    new_at_once = S.piecewise_constant(case.arguments["values"], case.arguments["boundaries"])
    with pytest.raises(AssertionError, match="step 10: 0.5, expected"):
        assert_equal([new_at_once(n) for n in range(20)], [case.ours(n) for n in range(20)], "a boundary")


# ---- timm 1.0 (timm/scheduler/{cosine,tanh,poly,step,multistep}_lr.py): _get_lr, with t the number of the update ----


def timm_cycle(t, first, mul):
    if mul != 1:
        i = math.floor(math.log(1 - t / first * (1 - mul), mul))
        return i, t - (1 - mul**i) / (1 - mul) * first, mul**i * first
    return t // first, t - first * (t // first), first


def timm(kind, base, t_initial, lr_min, mul, decay, limit, warmup_t, warmup_lr, prefix, **extra):
    def shape(t):
        i, t_curr, t_i = timm_cycle(t, t_initial, mul)
        if i >= limit:
            return lr_min
        top = base * decay**i
        k = extra.get("k_decay", 1.0)
        if kind == "cosine":
            return lr_min + 0.5 * (top - lr_min) * (1 + math.cos(math.pi * t_curr**k / t_i**k))
        if kind == "poly":
            return lr_min + (top - lr_min) * (1 - t_curr**k / t_i**k) ** extra["power"]
        x = t_curr / t_i
        return lr_min + 0.5 * (top - lr_min) * (1 - math.tanh(extra["lb"] * (1.0 - x) + extra["ub"] * x))

    target = base if kind != "tanh" or prefix or not warmup_t else shape(warmup_t)

    def lr(t):
        if t < warmup_t:
            return warmup_lr + t * (target - warmup_lr) / warmup_t
        return shape(t - warmup_t if prefix else t)

    return lr, target


TIMM_EXTRA = {
    "cosine": ({}, {"k_decay": 2.0}),
    "poly": ({"power": 0.5}, {"power": 2.0, "k_decay": 0.5}),
    "tanh": ({"lb": -7.0, "ub": 3.0}, {"lb": -4.0, "ub": 4.0}),
}


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("warmup_t", [0, 5])
@pytest.mark.parametrize("kind", TIMM_EXTRA)
def test_timm(kind, warmup_t, prefix):
    for extra, (mul, decay, limit), lr_min in product(
        TIMM_EXTRA[kind], [(1.0, 1.0, 1), (1.0, 0.5, 3), (2.0, 0.5, 3)], (0.0, 1e-3)
    ):
        theirs, target = timm(kind, 0.3, 30, lr_min, mul, decay, limit, warmup_t, 1e-4, prefix, **extra)
        make = {"cosine": S.cosine, "tanh": S.tanh}.get(kind, lambda a, n, b, **k: S.polynomial(a, b, n, **k))
        ours = S.restarts(make(0.3, 30, lr_min, **extra), mul, decay, cycles=limit, style="timm")
        if warmup_t:
            ours = S.with_warmup(ours, warmup_t, 1e-4, target, style="optax" if prefix else "timm")
        assert_equal([ours(n) for n in range(260)], [theirs(n) for n in range(260)], f"{ours}")


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("milestones", [None, [40, 100]])
def test_timm_steps(milestones, prefix):
    for peak, warmup_t, rate in product(PEAKS, (0, 10), (0.1, 0.7)):

        def theirs(t, peak=peak, warmup_t=warmup_t, rate=rate):
            if t < warmup_t:
                return 1e-4 + t * (peak - 1e-4) / warmup_t
            t = t - warmup_t if prefix else t
            return peak * rate ** (bisect_right(milestones, t) if milestones else t // 30)

        if milestones:
            ours = S.multistep(peak, milestones, rate)
        else:
            ours = S.exponential(peak, rate, 30, staircase=True)
        if warmup_t:
            ours = S.with_warmup(ours, warmup_t, 1e-4, style="optax" if prefix else "timm")
        assert_equal([ours(n) for n in range(150)], [theirs(n) for n in range(150)], f"{ours}")


@pytest.mark.parametrize("peak", PEAKS)
def test_timm_cosine_with_the_warmup_over_its_beginning(peak):
    """warmup_cosine(style="timm") is CosineLRScheduler(t_initial=120, warmup_t=20) with timm's defaults."""
    theirs, _ = timm("cosine", peak, 120, 1e-5, 1.0, 1.0, 1, 20, 0.0, False)
    ours = S.warmup_cosine(peak, 20, 120, 1e-5, style="timm")
    assert_equal([ours(n) for n in range(500)], [theirs(n) for n in range(500)], f"{ours}")
    assert ours(20) < 0.95 * peak  # the jump: the cosine is 20 steps old


def test_restarts_begin_where_they_should():
    """timm's logarithm puts the fifth restart with factor 3 one step late; ours is exact."""
    begin = (3**5 - 1) // 2 * 10
    assert timm_cycle(begin, 10, 3.0)[0] == 4 and math.log(3**5, 3.0) < 5
    ours = S.restarts(S.cosine(1.0, 10), 3.0, cycles=9)
    assert ours(begin) == 1.0 and ours(begin - 1) < 1e-4
    for factor, first in product((1.1, 1.5, 2.0, 3.0, 10.0), (1, 10, 1000)):
        s = S.restarts(S.cosine(1.0, first), factor)
        assert s(0) == s(first) == 1.0
        assert s(10**9) <= 1.0


# ---- llm.c (llmc/schedulers.h), in float64 --------------------------------------------------------------


def llmc(kind, lr, warmup, total, frac):
    def value(step):
        if kind == "constant":
            return lr
        if step < warmup:
            return lr * (step + 1) / warmup
        low = lr * frac
        if kind == "wsd":
            point = int(0.8 * total)
            if step < point:
                return lr
            ratio = (step - point) / (total - point)
            return low + (1.0 - math.sqrt(ratio)) * (lr - low)
        ratio = (step - warmup) / (total - warmup)
        if kind == "linear":
            return lr - ratio * (lr - low)
        return low + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (lr - low)

    return value


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd", "constant"])
def test_llmc(kind):
    count = 0
    for lr, warmup, total, frac in product(PEAKS, (0, 1, 30), (101, 125), (0.0, 0.1)):
        theirs = llmc(kind, lr, warmup, total, frac)
        ours = {
            "cosine": lambda: S.warmup_cosine(lr, warmup, total, lr * frac, style="llm.c"),  # noqa: B023
            "linear": lambda: S.warmup_linear(lr, warmup, total, lr * frac, style="llm.c"),  # noqa: B023
            "wsd": lambda: S.warmup_stable_decay(lr, warmup, total, end=lr * frac, style="llm.c"),  # noqa: B023
            "constant": lambda: S.constant(lr),  # noqa: B023
        }[kind]()
        assert_equal([ours(n) for n in range(total + 1)], [theirs(n) for n in range(total + 1)], f"{ours}")
        count += total + 1
        if kind != "constant":
            with pytest.raises(ValueError, match=f"step {total + 1} is past the end, {total} steps .style='llm.c'"):
                ours(total + 1)
    assert count >= 1000


# ---- DeepSpeed 0.18 (deepspeed/runtime/lr_schedules.py): WarmupLR, WarmupDecayLR, WarmupCosineLR -----------


def deepspeed(kind, peak, warmup, total, low, end):
    warmup = max(2, warmup)

    def value(step):
        if step < warmup:
            return low + (peak - low) * math.log(step + 1) / math.log(warmup)
        if kind == "warmup":
            return peak
        if kind == "decay":  # delta * gamma above the lowest
            return low + (peak - low) * max(0.0, (total - step) / max(1.0, total - warmup))
        x = min(1.0, (step - warmup + 1) / max(1, total - warmup))
        return max(0.0, end + (peak - end) * (1 + math.cos(math.pi * x)) / 2)

    return value


@pytest.mark.parametrize("kind", ["warmup", "decay", "cosine"])
def test_deepspeed(kind):
    for peak, warmup, total, low in product(PEAKS, (1, 2, 40), (60, 120), (0.0, 1e-4)):
        end = 1e-4 * peak
        theirs = deepspeed(kind, peak, warmup, total, low, end)
        ours = {
            "warmup": lambda: S.warmup(peak, warmup, low, style="deepspeed"),  # noqa: B023
            "decay": lambda: S.warmup_linear(peak, warmup, total, low, low, style="deepspeed"),  # noqa: B023
            "cosine": lambda: S.warmup_cosine(peak, warmup, total, end, low, style="deepspeed"),  # noqa: B023
        }[kind]()
        assert_equal([ours(n) for n in range(160)], [theirs(n) for n in range(160)], f"{ours}")


# ---- feedback ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FEEDBACK)
def test_feedback_equals_the_kept_sequences(name):
    values = golden()[f"feedback/{name}"]
    ours = np.concatenate([ours_of_feedback(name, case) for case in FEEDBACK[name]])
    assert_equal(ours, values, name)
    assert len(np.unique(values)) > 5, "a rule that never acts tests nothing"


@pytest.mark.parametrize("name", FEEDBACK)
def test_the_kept_feedback_is_that_of_the_library(name, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    importable(name.split()[0])
    assert_equal(golden()[f"feedback/{name}"], np.concatenate(feedback_originals(name)), name)


@pytest.mark.parametrize("name", FEEDBACK)
def test_feedback_resumes_from_its_state(name):
    for case in FEEDBACK[name]:
        whole, half = case.make(), case.make()
        for metric in METRICS[:60]:
            half.update(metric)
        resumed = case.make()
        resumed.load_state_dict(half.state_dict())
        expected = [whole.update(m) for m in METRICS][60:]
        assert [resumed.update(m) for m in METRICS[60:]] == expected
