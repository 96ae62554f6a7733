"""optim.lr_scheduler beside torch's: rates, momenta and writes by hand, from kept sequences and live; state
dictionaries of both; compiled steps; errors that change nothing."""

import copy
import json
import math
import warnings
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from schedule_cases import BY_HAND, LIBRARIES, SCHEDULER_STEPS, SCHEDULERS, drive, scheduler_original, torch_optimizer
from schedule_cases import torch_schedulers as torchs

import fastgd as gd
from fastgd import nn, optim, schedules
from fastgd.optim import lr_scheduler as L

GOLDEN = Path(__file__).with_name("golden_schedules.npz")


@cache
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def make_optimizer(adam=False):
    p, q = (nn.Parameter(gd.ones(1)) for _ in range(2))
    p.grad, q.grad = gd.ones(1), gd.ones(1)
    kind = optim.Adam if adam else partial(optim.SGD, momentum=0.9)
    return kind([{"params": [p]}, {"params": [q], "lr": 0.2}], lr=0.3)


def uses_adam(name):
    return "three" in name or "2" in name


def begin(name):
    optimizer = make_optimizer(uses_adam(name))
    return optimizer, SCHEDULERS[name](L, optimizer)


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-13)


# ---- rates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULERS)
def test_rates_and_momenta_are_those_of_torch(name):
    optimizer, scheduler = begin(name)
    theirs = golden()[f"scheduler/{name}"]
    assert_close(drive(optimizer, scheduler, SCHEDULER_STEPS), theirs)
    assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
    assert len(np.unique(theirs[:, :2])) > 2 or name == "SWALR at once"
    assert all(group.get("betas", (0, 0.999))[1] == 0.999 for group in optimizer.param_groups)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_kept_rates_are_those_of_torch(name):
    pytest.importorskip("torch")
    np.testing.assert_array_equal(golden()[f"scheduler/{name}"], scheduler_original(name))


@pytest.mark.parametrize("name", [name for name in LIBRARIES["torch"][0] if "momentum" not in name])
def test_the_whole_grid(name):
    """The cases of the pure schedules, through the schedulers."""
    first = 0
    for case in LIBRARIES["torch"][0][name]:
        arguments = dict(case.arguments)
        optimizer = optim.SGD([nn.Parameter(gd.ones(1))], lr=arguments.pop("lr", 0.1), momentum=0.9)
        theirs = golden()[f"torch/{name}"][first : first + case.steps]
        first += case.steps
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler = getattr(L, name)(optimizer, **arguments)
            ours = []
            for _ in range(case.steps):
                ours += scheduler.get_last_lr()
                if len(ours) < case.steps:
                    scheduler.step()
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12 * np.max(np.abs(theirs)), err_msg=str(case))


def test_a_scheduler_that_nobody_disturbs_is_its_schedule():
    optimizer = optim.SGD([nn.Parameter(gd.ones(1))], lr=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler, schedule = L.CosineAnnealingLR(optimizer, 100, 1e-3), schedules.cosine(0.3, 100, 1e-3, style="torch")
        for n in range(1000):
            assert optimizer.param_groups[0]["lr"] == pytest.approx(schedule(n), rel=1e-9)
            scheduler.step()


def test_fractions_of_an_epoch():
    optimizer = make_optimizer()
    scheduler = L.CosineAnnealingWarmRestarts(optimizer, 10, 2)
    optimizer.step()
    for epoch in (0.25, 7.5, 10.0, 12.5, 31.0, 3.0):
        scheduler.step(epoch)
        start, length = (0, 10) if epoch < 10 else (10, 20) if epoch < 30 else (30, 40)
        expected = 0.3 * (1 + math.cos(math.pi * (epoch - start) / length)) / 2
        assert scheduler.get_last_lr()[0] == pytest.approx(expected)
        assert scheduler.last_epoch == math.floor(epoch)
    scheduler.step()
    assert scheduler.get_last_lr()[0] == pytest.approx(0.3 * (1 + math.cos(math.pi * 0.4)) / 2)


def test_step_with_an_epoch_jumps():
    optimizer = make_optimizer()
    scheduler = L.StepLR(optimizer, 7, 0.5)
    optimizer.step()
    with pytest.warns(UserWarning, match="step.. without an epoch"):
        scheduler.step(21)
    assert scheduler.get_last_lr() == [0.3 / 8, 0.2 / 8] and scheduler.last_epoch == 21


@pytest.mark.parametrize("name", ["StepLR", "LinearLR", "ExponentialLR", "CosineAnnealingLR floor", "PolynomialLR"])
def test_last_epoch_continues(name):
    torch = pytest.importorskip("torch")
    seen = []
    for module, optimizer in ((L, make_optimizer()), (torchs(), torch_optimizer())):
        for group in optimizer.param_groups:
            group["initial_lr"], group["lr"] = group["lr"], group["lr"] / 3
        kinds = {
            "StepLR": lambda o, m=module: m.StepLR(o, 7, 0.5, last_epoch=6),
            "LinearLR": lambda o, m=module: m.LinearLR(o, 0.25, 0.75, 20, last_epoch=6),
            "ExponentialLR": lambda o, m=module: m.ExponentialLR(o, 0.9, last_epoch=6),
            "CosineAnnealingLR floor": lambda o, m=module: m.CosineAnnealingLR(o, 11, 0.01, last_epoch=6),
            "PolynomialLR": lambda o, m=module: m.PolynomialLR(o, 20, last_epoch=6),
        }
        seen.append(drive(optimizer, kinds[name](optimizer), 20))
    assert torch and seen[0][0] == pytest.approx(seen[1][0])
    assert_close(*seen)


# ---- state ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULERS)
def test_resuming_from_the_state_is_the_same_run(name, tmp_path):
    optimizer, scheduler = begin(name)
    drive(optimizer, scheduler, 20)
    gd.save(tmp_path / "state", {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()})
    expected = drive(optimizer, scheduler, SCHEDULER_STEPS - 20, 20)
    resumed, continued = begin(name)
    state = gd.load(tmp_path / "state")
    resumed.load_state_dict(state["optimizer"])
    continued.load_state_dict(state["scheduler"])
    assert drive(resumed, continued, SCHEDULER_STEPS - 20, 20) == expected
    assert continued.get_last_lr() == scheduler.get_last_lr()
    assert continued.state_dict() == scheduler.state_dict()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_state_of_torch_continues_here(name):
    pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = torch_optimizer(uses_adam(name))
        scheduler = SCHEDULERS[name](torchs(), theirs)
        drive(theirs, scheduler, 20)
        optimizer, ours = begin(name)
        optimizer.load_state_dict(theirs.state_dict())
        ours.load_state_dict(copy.deepcopy(scheduler.state_dict()))
        assert_close(drive(optimizer, ours, 20, 20), drive(theirs, scheduler, 20, 20))


def test_a_state_says_what_it_is_in_plain_words():
    _, scheduler = begin("MultiStepLR")
    assert json.loads(json.dumps(scheduler.state_dict())) == {
        "base_lrs": [0.3, 0.2], "last_epoch": 0, "_step_count": 1, "_last_lr": [0.3, 0.2],
        "milestones": [5, 5, 20], "gamma": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_state_that_does_not_fit_changes_nothing(name):
    optimizer, scheduler = begin(name)
    drive(optimizer, scheduler, 3)
    good = scheduler.state_dict()
    for bad in (None, {}, {**good, "unknown": 1}, {k: v for k, v in good.items() if k != "_last_lr"}):
        with pytest.raises(ValueError, match=f"{scheduler._name()}.load_state_dict: "):
            scheduler.load_state_dict(bad)
        assert scheduler.state_dict() == good
    if "_schedulers" in good:
        bad = copy.deepcopy(good)
        bad["_schedulers"][-1]["base_lrs"] = [1.0]
    else:
        bad = {**good, "base_lrs": [1.0]}
    with pytest.raises(ValueError, match="base_lrs: expected 2 numbers, got 1"):
        scheduler.load_state_dict(bad)
    assert scheduler.state_dict() == good


def test_milestones_of_torch_are_a_counter():
    _, scheduler = begin("MultiStepLR")
    scheduler.load_state_dict({**scheduler.state_dict(), "milestones": {"7": 2, "3": 1}})
    assert scheduler.milestones == [3, 7, 7]


def test_the_rates_of_a_cycle_are_its_own_whatever_came_before():
    optimizer, _ = begin("StepLR")
    scheduler = L.CyclicLR(optimizer, 0.01, 0.2, 4)
    assert scheduler.base_lrs == scheduler.get_last_lr() == [0.01, 0.01]


class Halving:
    def __init__(self, start):
        self.start = start

    def __call__(self, n):
        return self.start * 0.5**n


def test_attributes_of_a_callable_object_are_state():
    optimizer, other = make_optimizer(), make_optimizer()
    scheduler = L.LambdaLR(optimizer, [Halving(0.5), schedules.linear(1.0, 0.0, 5)])
    state = scheduler.state_dict()
    assert state["lr_lambdas"] == [{"start": 0.5}, None]
    again = L.LambdaLR(other, [Halving(7.0), schedules.linear(1.0, 0.0, 5)])
    again.load_state_dict(state)
    assert again.lr_lambdas[0].start == 0.5
    with pytest.raises(ValueError, match="'lr_lambdas' does not fit"):
        L.LambdaLR(make_optimizer(), factor).load_state_dict(state)


def factor(n):
    return 1.0


# ---- plateau ----------------------------------------------------------------------------------


def test_plateau_lowers_each_group():
    optimizer = make_optimizer()
    scheduler = L.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, min_lr=[0.1, 0.15], cooldown=1)
    rates = []
    for metric in [1.0, 0.5, 0.5, gd.tensor(0.5), 0.5, 0.5, 0.5, 0.5, 0.5, math.nan, 0.1]:
        optimizer.step()
        scheduler.step(metric)
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert rates[:5] == [[0.3, 0.2]] * 3 + [[0.15, 0.15]] * 2
    assert rates[6:] == [[0.1, 0.15]] * 5
    assert scheduler.get_last_lr() == [0.1, 0.15] and scheduler.best == 0.1 and scheduler.last_epoch == 11


def test_plateau_resumes_from_its_own_state_and_that_of_torch():
    torch = pytest.importorskip("torch")
    metrics = [math.exp(-min(n, 20) / 5) + 0.1 * math.sin(n * n) for n in range(80)]
    runs = []
    theirs, states = torch_optimizer(), []
    original = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, factor=0.7, patience=2, cooldown=3)
    ours = make_optimizer()
    scheduler = L.ReduceLROnPlateau(ours, factor=0.7, patience=2, cooldown=3)
    for pair in ((theirs, original), (ours, scheduler)):
        for metric in metrics[:40]:
            pair[1].step(metric)
        states.append((copy.deepcopy(pair[0].state_dict()), copy.deepcopy(pair[1].state_dict())))
        for metric in metrics[40:]:
            pair[1].step(metric)
        runs.append(pair[1].get_last_lr())
    for optimizer_state, state in states:
        resumed = make_optimizer()
        again = L.ReduceLROnPlateau(resumed)
        resumed.load_state_dict(optimizer_state)
        again.load_state_dict(state)
        for metric in metrics[40:]:
            again.step(metric)
        runs.append(again.get_last_lr())
    for run in runs[1:]:
        assert run == pytest.approx(runs[0], rel=1e-12)
    assert runs[0][0] < 0.1


# ---- compiled steps ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CosineAnnealingLR", "OneCycleLR", "CyclicLR2", "SequentialLR", "ChainedScheduler"])
def test_a_compiled_step_records_nothing_again(name):
    def train(compiled):
        p, q = (nn.Parameter(gd.tensor(np.linspace(-1, 1, 7))) for _ in range(2))
        kind = optim.Adam if uses_adam(name) else partial(optim.SGD, momentum=0.9)
        optimizer = kind([{"params": [p]}, {"params": [q], "lr": 0.2}], lr=0.3)
        scheduler = SCHEDULERS[name](L, optimizer)
        recorded = []

        def step(x):
            recorded.append(None)
            optimizer.zero_grad()
            loss = ((p * q - x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        run, losses = gd.compile(step) if compiled else step, []
        for n in range(9):  # at call 10 a compiled function looks whether it is still the same
            losses.append(run(gd.tensor(np.full(7, 0.5))).item())
            scheduler.step()
            if n == 1:
                early = len(recorded)
        assert len(recorded) == (early if compiled else 9)
        return losses, np.asarray(p).tobytes(), [group["lr"] for group in optimizer.param_groups]

    assert train(True) == train(False)


def test_inside_a_compiled_step_it_is_refused():
    optimizer, scheduler = begin("StepLR")
    plateau = L.ReduceLROnPlateau(optimizer)
    before = scheduler.state_dict(), plateau.state_dict()
    for act in (scheduler.step, lambda: plateau.step(1.0)):

        def step(x, act=act):
            act()
            return x * 2

        with pytest.raises(NotImplementedError, match="inside fastgd.compile"):
            gd.compile(step)(gd.ones(3))
    assert (scheduler.state_dict(), plateau.state_dict()) == before


# ---- errors and warnings ----------------------------------------------------------------------


def test_a_bad_rate_changes_nothing():
    optimizer = make_optimizer()
    scheduler = L.LambdaLR(optimizer, [lambda n: 1.0, lambda n: math.nan if n == 2 else 0.5])
    optimizer.step()
    scheduler.step()
    before, rates = scheduler.state_dict(), [group["lr"] for group in optimizer.param_groups]
    with pytest.raises(ValueError, match="LambdaLR: step 2 gives lr = nan for group 1"):
        scheduler.step()
    assert scheduler.state_dict() == before
    assert [group["lr"] for group in optimizer.param_groups] == rates


def test_one_cycle_ends():
    optimizer = make_optimizer()
    scheduler = L.OneCycleLR(optimizer, 0.3, 5)
    optimizer.step()
    for _ in range(5):
        scheduler.step()
    before = scheduler.state_dict()
    with pytest.raises(ValueError, match="OneCycleLR: step 6 is past the end, 5 steps"):
        scheduler.step()
    assert scheduler.state_dict() == before


def test_the_order_of_steps_is_watched():
    optimizer, scheduler = begin("StepLR")
    with pytest.warns(UserWarning, match=r"StepLR.step\(\) before the first optimizer.step\(\)"):
        scheduler.step()
    optimizer, scheduler = begin("StepLR")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        scheduler.step()


def test_a_group_that_is_added_later_is_named():
    optimizer, scheduler = begin("StepLR")
    optimizer.add_param_group({"params": [nn.Parameter(gd.ones(2))]})
    optimizer.step()
    with pytest.raises(ValueError, match="StepLR: expected 2 parameter groups, there are 3"):
        scheduler.step()


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda o: L.StepLR(None, 3), TypeError, "StepLR: expected an Optimizer, got NoneType"),
        (lambda o: L.LambdaLR(None, factor), TypeError, "LambdaLR: expected an Optimizer, got NoneType"),
        (lambda o: L.StepLR(o, 0), ValueError, "exponential: steps must be at least 1, got 0"),
        (lambda o: L.StepLR(o, 3, last_epoch=4), ValueError, "StepLR: last_epoch=4 continues, but group 0 has no"),
        (lambda o: L.LambdaLR(o, [factor]), ValueError, "LambdaLR: expected lr_lambda for 2 parameter groups, got 1"),
        (lambda o: L.MultiplicativeLR(o, 0.5), TypeError, "MultiplicativeLR: lr_lambda must be callable, got 0.5"),
        (lambda o: L.ConstantLR(o, 1.5), ValueError, "ConstantLR: factor must be from 0 to 1, got 1.5"),
        (lambda o: L.LinearLR(o, 0.0), ValueError, "LinearLR: start_factor must be more than 0, got 0.0"),
        (lambda o: L.CosineAnnealingLR(o, 2.5), TypeError, "cosine: steps must be an integer, got 2.5"),
        (lambda o: L.CosineAnnealingWarmRestarts(o, 0), ValueError, "cosine: steps must be at least 1, got 0"),
        (lambda o: L.CosineAnnealingWarmRestarts(o, 5, 0), ValueError, "T_mult must be at least 1, got 0"),
        (lambda o: L.CyclicLR(o, 0.1, [0.2]), ValueError, "CyclicLR: expected max_lr for 2 parameter groups, got 1"),
        (lambda o: L.CyclicLR(o, 0.1, 0.2, mode="x"), ValueError, "cyclic: mode must be one of triangular"),
        (lambda o: L.OneCycleLR(o, 0.1), ValueError, "OneCycleLR: expected total_steps, or epochs and steps_per_epoch"),
        (lambda o: L.OneCycleLR(o, 0.1, 9, pct_start=2.0), ValueError, "pct_start must be from 0 to 1, got 2.0"),
        (lambda o: L.OneCycleLR(o, 0.1, 9, anneal_strategy="x"), ValueError, "anneal_strategy must be one of cos"),
        (lambda o: L.SWALR(o, 0.1, -1), ValueError, "SWALR: anneal_epochs must be at least 0, got -1"),
        (lambda o: L.ReduceLROnPlateau(o, factor=1.0), ValueError, "Plateau: factor must be less than 1, got 1.0"),
        (lambda o: L.SequentialLR(o, [], []), ValueError, "SequentialLR: expected at least one scheduler"),
        (lambda o: L.SequentialLR(o, [3], []), TypeError, "SequentialLR: expected schedulers, got 3 at 0"),
        (lambda o: L.SequentialLR(o, [L.StepLR(o, 3)], [1]), ValueError, "expected 0 increasing milestones, got"),
        (lambda o: L.ChainedScheduler([L.ReduceLROnPlateau(o)]), NotImplementedError, "needs a metric at each step"),
        (
            lambda o: L.ChainedScheduler([L.StepLR(o, 3), L.StepLR(make_optimizer(), 3)]),
            ValueError,
            "ChainedScheduler: scheduler 1, StepLR, belongs to another optimizer",
        ),
        (
            lambda o: L.SequentialLR(o, [L.StepLR(o, 3), L.ChainedScheduler([L.StepLR(o, 3)])], [4]),
            NotImplementedError,
            "ChainedScheduler at 1 cannot begin again at a milestone",
        ),
    ],
)
def test_bad_arguments_are_named_and_change_nothing(make, error, words):
    optimizer = make_optimizer()
    before = [{k: v for k, v in group.items() if k not in ("params", "initial_lr")} for group in optimizer.param_groups]
    with pytest.raises(error, match=words):
        make(optimizer)
    after = [{k: v for k, v in group.items() if k not in ("params", "initial_lr")} for group in optimizer.param_groups]
    assert after == before


def test_a_rate_that_is_a_schedule_is_not_scheduled_again():
    optimizer = optim.SGD([nn.Parameter(gd.ones(1))], lr=schedules.cosine(0.1, 5))
    with pytest.raises(TypeError, match=r"StepLR: lr of group 0 is a schedule already, cosine\(peak=0.1, steps=5\)"):
        L.StepLR(optimizer, 3)
    with pytest.raises(ValueError, match="OneCycleLR: cycle_momentum needs an optimizer with momentum or betas"):
        plain = optim.SGD([nn.Parameter(gd.ones(1))], lr=0.1)
        del plain.defaults["momentum"]
        L.OneCycleLR(plain, 0.1, 9)
    assert max(BY_HAND) < SCHEDULER_STEPS  # the writes by hand are part of what is compared


def test_signatures_are_those_of_torch():
    torch = pytest.importorskip("torch")
    import inspect

    theirs = torchs()
    for name in (*torch.optim.lr_scheduler.__all__, "SWALR"):
        if name in ("LRScheduler", "SequentialLR", "ChainedScheduler"):
            continue
        mine, original = (inspect.signature(getattr(m, name)).parameters for m in (L, theirs))
        assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in original.values()], name
    assert set(L.__all__) == {*torch.optim.lr_scheduler.__all__, "SWALR"}
