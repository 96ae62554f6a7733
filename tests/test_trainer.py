"""The Trainer: what it computes, reports, saves and refuses; metrics; and runs that are killed and resumed."""

import contextlib
import io
import json
import math
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import termios
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastgd as gd
import fastgd.nn.functional as F
from fastgd import models, nn, optim, schedules
from fastgd.data import ArrayLoader, Dataset, IterableLoader
from fastgd.train import (
    AUC,
    EMA,
    F1,
    R2,
    Accuracy,
    Callback,
    CheckpointError,
    NonFiniteLossError,
    Perplexity,
    RunFolder,
    TopK,
    Trainer,
    best_checkpoint,
    latest_checkpoint,
    load_checkpoint,
)
from fastgd.train.checkpoint import list_checkpoints
from fastgd.train.evaluate import Window
from fastgd.train.progress import LineProgress, bar_or_lines, describe, format_time
from fastgd.train.runlog import read_metrics
from fastgd.train.step import loss_weight
from fastgd.utils.data import DataLoader, TensorDataset

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(gd.__file__).parents[1])}


def bits(model):
    return {name: np.array(value).tobytes() for name, value in model.state_dict().items()}


def samples(n=50, features=4):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, features)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64)


def trainer(seed=0, steps=20, data=None, **options):
    """A small classification with dropout and a schedule: everything that a resumed run has to get right."""
    x, y = samples()
    gd.manual_seed(seed)
    model = models.MLP(4, (8,), 2, dropout=0.2)
    optimizer = optim.AdamW(model.parameters(), lr=schedules.warmup_cosine(0.05, 3, steps))
    options = {"batch_size": 8, "evaluate": (x, y), "metrics": [Accuracy()], "seed": seed, **options}
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, (x, y) if data is None else data, **options)


# ---------------------------------------------------------------------------------------------------- metrics


def batches_of(arrays, sizes=(1, 7, 12)):
    begin = 0
    for size in [*sizes, 10**9]:
        yield tuple(array[begin : begin + size] for array in arrays)
        begin += size


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    output = np.round(rng.normal(size=(60, 4)), 1).astype(np.float32)  # with ties
    return output, rng.integers(0, 4, 60)


def measured(metric, arrays):
    for batch in batches_of(arrays):
        metric.update(*batch)
    return metric.compute()


def test_accuracy_and_top_k(scores):
    output, target = scores
    assert measured(Accuracy(), scores) == np.mean(output.argmax(1) == target)
    ranks = (output > output[np.arange(60), target][:, None]).sum(1)
    for k in (1, 2, 4):
        assert measured(TopK(k), scores) == np.mean(ranks < k)
    assert TopK(3).name == "top3"
    ignored = target.copy()
    ignored[::2] = -100
    assert measured(Accuracy(), (output, ignored)) == np.mean(output[1::2].argmax(1) == target[1::2])
    tokens = Accuracy()  # (batch, classes, positions), as cross_entropy has it
    tokens.update(output.reshape(6, 10, 4).transpose(0, 2, 1), target.reshape(6, 10))
    assert tokens.compute() == measured(Accuracy(), scores)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_f1(scores, average):
    metrics = pytest.importorskip("sklearn.metrics")
    output, target = scores
    target = np.where(target == 3, 0, target)  # a class that is never a label
    expected = metrics.f1_score(target, output.argmax(1), average=average)
    assert measured(F1(average), (output, target)) == pytest.approx(expected, abs=1e-12)


def test_f1_and_auc_of_two_classes():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    logit = np.round(rng.normal(size=(80, 1)), 1).astype(np.float32)
    target = (logit[:, 0] + rng.normal(size=80) > 0).astype(np.int64)
    both = np.concatenate([np.zeros_like(logit), logit], axis=1)
    for output in (logit, logit[:, 0], both):
        assert measured(AUC(), (output, target)) == pytest.approx(metrics.roc_auc_score(target, logit), abs=1e-12)
        expected = metrics.f1_score(target, logit[:, 0] > 0)
        assert measured(F1("binary"), (output, target)) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="two classes"):
        AUC().update(np.zeros((2, 3)), np.zeros(2))
    with pytest.raises(ValueError, match="use 'macro'"):
        F1("binary").update(np.zeros((2, 3)), np.zeros(2, int))


def test_r2_in_batches_is_r2_of_all():
    rng = np.random.default_rng(0)
    y = 1e6 + rng.normal(size=(60, 1))
    output = y + 0.3 * rng.normal(size=(60, 1))
    expected = 1 - ((y - output) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert measured(R2(), (output, y)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("metric", [Accuracy(), TopK(), F1(), AUC(), R2()], ids=lambda m: m.name)
def test_metrics_start_empty_and_forget(metric):
    assert math.isnan(metric.compute())
    metric.update(np.array([[0.0, 1.0], [1.0, 0.0]]) if metric.name != "r2" else np.zeros(2), np.array([0, 1]))
    metric.reset()
    assert math.isnan(metric.compute())


def test_perplexity_follows_from_the_loss():
    assert Perplexity().from_loss(math.log(7.0)) == pytest.approx(7.0)
    assert Perplexity().from_loss(1e9) > 1e300


# ------------------------------------------------------------------------------------------------- the figures


def test_figures_in_words():
    row = {"train_loss": 0.25, "test_loss": 0.5, "test_accuracy": 0.5, "samples_per_second": 1234.4, "eta": 75}
    assert describe(row) == "loss 0.2500 (test 0.5000)  accuracy (test 50.0%)  1,234 samples/s  1:15 left"
    assert describe({}) == ""
    assert describe({"train_loss": 1e-5}) == "loss 1.00e-05"
    assert [format_time(seconds) for seconds in (3.4, 3700)] == ["0:03", "1:01:40"]


def test_lines_are_few_and_the_last_is_there():
    stream = io.StringIO()
    progress = LineProgress(50, stream, every=1000)
    for step in range(0, 51, 10):
        progress.on_step({"step": step})
        progress.on_evaluation({"step": step, "test_loss": 1.0})
    progress.close()
    assert stream.getvalue() == "step  0/50  loss (test 1.0000)\nstep 50/50  loss (test 1.0000)\n"


def test_a_bar_only_in_a_terminal(monkeypatch):
    assert isinstance(bar_or_lines(5, io.StringIO()), LineProgress)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (25, 80))
    with open(theirs, "w") as terminal:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "tqdm", None)
            assert isinstance(bar_or_lines(5, terminal), LineProgress)
        bar = bar_or_lines(5, terminal)
        assert not isinstance(bar, LineProgress)
        bar.on_evaluation({"step": 5, "train_loss": 0.5, "test_accuracy": 0.75})
        bar.close()
    seen = ""
    with contextlib.suppress(OSError):  # EIO: the other end is closed and all is read
        while chunk := os.read(ours, 10_000):
            seen += chunk.decode()
    os.close(ours)
    assert "100%" in seen
    assert "accuracy (test 75.0%)" in seen


# ---------------------------------------------------------------------------------------------------- training


def test_three_lines_from_python():
    x, y = samples()
    model = models.MLP(4, (16,), 2)
    result = Trainer(model, F.cross_entropy, optim.AdamW(model.parameters(), lr=0.01), (x, y)).fit(epochs=40)
    assert result.step == 40
    assert (np.asarray(model(gd.tensor(x))).argmax(1) == y).mean() > 0.9


def test_it_learns_and_logs(tmp_path):
    one = trainer(steps=120, run=tmp_path / "run", evaluate_every=50, train_metrics=[Accuracy()])
    result = one.fit(steps=120)
    rows = read_metrics(tmp_path / "run")
    assert [row["step"] for row in rows] == [0, 50, 100, 120]
    assert result.step == 120
    assert result.signal == 0
    assert result.figures["accuracy"] > 0.9
    assert rows[-1]["test_loss"] == result.figures["loss"] < rows[0]["test_loss"] / 2
    assert rows[1]["train_loss"] > rows[-1]["train_loss"]
    assert 0 < rows[1]["train_accuracy"] <= 1
    assert "train_loss" not in rows[0]
    assert latest_checkpoint(tmp_path / "run") == result.checkpoint
    assert one.model.training


def test_the_figures_are_those_of_all_samples():
    one = trainer(evaluate_batch_size=7)
    result = one.fit(steps=3)
    one.model.eval()
    x, y = samples()
    output = one.model(gd.tensor(x))
    assert result.figures["loss"] == pytest.approx(F.cross_entropy(output, gd.tensor(y)).item(), rel=1e-6)
    assert result.figures["accuracy"] == np.mean(np.asarray(output).argmax(1) == y)


def test_the_learning_rate_in_the_log_is_the_schedule(tmp_path):
    trainer(steps=20, run=tmp_path / "run", evaluate_every=4).fit(steps=20)
    schedule = schedules.warmup_cosine(0.05, 3, 20)
    for row in read_metrics(tmp_path / "run"):
        assert row["lr"] == pytest.approx(float(schedule(row["step"])), abs=1e-7)


@pytest.mark.parametrize("options", [{}, {"ema": 0.9, "clip_norm": 0.5}, {"accumulate": 3}, {"clip_value": 0.01}])
def test_eager_and_compiled_give_the_same_bits(options):
    results = []
    for compiled in (True, False):
        one = trainer(compiled=compiled, **options)
        figures = one.fit(steps=9).figures
        averages = one.ema.state_dict() if one.ema else {"averages": {}}
        results.append((bits(one.model), figures, {k: np.array(v).tobytes() for k, v in averages["averages"].items()}))
    assert results[0] == results[1]


def test_calls_of_fit_go_on():
    straight = trainer()
    straight.fit(steps=14)
    halves = trainer()
    halves.fit(epochs=1)
    assert halves.step == 7
    halves.fit(epochs=2)
    assert bits(halves.model) == bits(straight.model)
    assert halves.fit(epochs=2).step == 14


def test_wrong_arguments():
    for options, message in [
        ({"precision": "bf16"}, "expected precision 'fp32', got 'bf16'"),
        ({"on_nonfinite": "ignore"}, "on_nonfinite must be one of raise, skip, warn, got 'ignore'"),
        ({"accumulate": 0}, "accumulate: expected a whole number of at least 1, got 0"),
        ({"monitor": "f1"}, "monitor must be loss or a metric, got 'f1'"),
        ({"ema": 1.0}, "decay must be between 0 and 1"),
        ({"evaluate": None, "early_stopping": 2}, "early_stopping needs evaluate"),
        ({"tensorboard": True}, "tensorboard needs run"),
    ]:
        with pytest.raises((ValueError, NotImplementedError), match=re.escape(message)):
            trainer(**options)
    with pytest.raises(ValueError, match="either steps or epochs"):
        trainer().fit()
    with pytest.raises(NotImplementedError, match="bf16"):
        trainer(precision="bf16")


class LanguageModel(nn.Module):
    """Returns (logits, loss), as language models do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x, y):
        logits = self.layer(x)
        return logits, F.cross_entropy(logits, y)


def test_a_model_that_returns_its_loss():
    x, y = samples()
    gd.manual_seed(0)
    model = LanguageModel()
    one = Trainer(
        model,
        None,
        optim.SGD(model.parameters(), lr=0.1),
        (x, y),
        evaluate=(x, y),
        metrics=[Perplexity(), Accuracy()],
        batch_size=8,
    )
    result = one.fit(epochs=5)
    assert result.figures["perplexity"] == pytest.approx(math.exp(result.figures["loss"]))
    assert result.figures["accuracy"] > 0.8

    class Odd(LanguageModel):
        def forward(self, x, y):
            return super().forward(x, y)[0]

    model = Odd()
    with pytest.raises(ValueError, match=r"must return a loss, or it and an output; got \(8, 3\)"):
        Trainer(model, None, optim.SGD(model.parameters(), lr=0.1), (x, y), batch_size=8).fit(steps=1)


# -------------------------------------------------------------------------------------------- accumulation, ema


def gradient_by_sgd(loss, data, accumulate, dtype="float64"):
    """The gradient of one update, from what SGD with lr 1 changed."""
    gd.manual_seed(0)
    model = models.MLP(4, (8,), 3).to(dtype)
    before = {name: np.array(p) for name, p in model.named_parameters()}
    Trainer(model, loss, optim.SGD(model.parameters(), lr=1.0), data, accumulate=accumulate).fit(steps=1)
    return {name: before[name] - np.asarray(p) for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    "loss",
    [nn.CrossEntropyLoss(), F.cross_entropy, nn.CrossEntropyLoss(ignore_index=2), nn.CrossEntropyLoss(reduction="sum")],
    ids=["module", "function", "ignore 2", "sum"],
)
def test_accumulated_batches_are_the_large_batch(loss):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(21, 4)), rng.integers(0, 3, 21)
    y[:4] = 2 if getattr(loss, "ignore_index", -100) == 2 else -100  # most of the first batch does not count
    if getattr(loss, "ignore_index", -100) == -100:
        assert loss_weight(loss, 5, (y[:5],)) == (1.0 if getattr(loss, "reduction", "") == "sum" else 1)
    parts = [(x[:5], y[:5]), (x[5:16], y[5:16]), (x[16:], y[16:])]
    whole, summed = gradient_by_sgd(loss, [(x, y)], 1), gradient_by_sgd(loss, parts, 3)
    for name, gradient in whole.items():
        np.testing.assert_allclose(summed[name], gradient, rtol=1e-12, atol=1e-14)
    wrong = gradient_by_sgd(loss, [parts[0]], 1)
    assert any(abs(wrong[name] - whole[name]).max() > 1e-3 for name in whole)


def test_groups_do_not_go_beyond_an_epoch():
    seen = []

    class Watched(ArrayLoader):
        def batch(self, epoch, position):
            seen.append((epoch, position))
            return super().batch(epoch, position)

    one = trainer(data=Watched(samples(), 8), accumulate=3)  # 7 batches: 3 + 3 + 1
    assert one.updates_in_epoch() == 3
    assert one.fit(epochs=2).step == 6
    assert len(seen) == 14
    assert one.loader.state_dict()["epoch"] == 2


def test_ema_is_its_formula_and_is_what_is_evaluated():
    one = trainer(ema=0.99, steps=50)
    history = []

    class Watch(Callback):
        def on_evaluation(self, row):
            history.append({name: np.array(p, np.float64) for name, p in one.model.named_parameters()})

    one.callbacks.append(Watch())
    one.evaluate_every = 1
    result = one.fit(steps=12)
    average = history[0]
    for n, weights in enumerate(history[1:]):
        decay = min(0.99, (1 + n) / (10 + n))
        average = {name: average[name] + (1 - decay) * (weights[name] - average[name]) for name in average}
    for name, value in one.ema.averages.items():
        np.testing.assert_allclose(np.asarray(value), average[name], rtol=1e-5, atol=1e-6)
    before = bits(one.model)
    one.model.eval()
    with one.ema.applied():
        x, y = samples()
        loss = F.cross_entropy(one.model(gd.tensor(x)), gd.tensor(y)).item()
        assert bits(one.model) != before
    assert result.figures["loss"] == pytest.approx(loss, rel=1e-6)
    assert bits(one.model) == before
    with pytest.raises(ValueError, match="another model"):
        one.ema.load_state_dict(EMA(models.MLP(3, (2,), 2), 0.99).state_dict())


# ------------------------------------------------------------------------------------------------ stopping, best


class Planned(Callback):
    """Held-out figures as planned."""

    def __init__(self, values):
        self.values = iter(values)

    def __call__(self):
        return {"loss": next(self.values)}


def test_early_stopping_and_the_best_checkpoint(tmp_path):
    one = trainer(
        run=tmp_path / "run",
        evaluate=Planned([9, 5, 4, 3, 4, 3, 3.5, 1]),
        metrics=[],
        evaluate_every=2,
        early_stopping=3,
    )
    result = one.fit(steps=100)
    assert result.stopped_early
    assert result.step == 12  # evaluations at 0, 2, ..., the best at 6, three worse ones after it
    assert result.best == {"step": 6, "monitor": "loss", "value": 3}
    assert best_checkpoint(tmp_path / "run").name == "step-00000006"
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["step-00000006", "step-00000012"]
    assert load_checkpoint(best_checkpoint(tmp_path / "run"))[1]["step"] == 6


def written_one_by_one(monkeypatch, one):
    """However fast the disk is: each save waits for the one before it."""
    submit = one.saver.submit
    monkeypatch.setattr(one.saver, "submit", lambda snapshot: (one.saver.wait(), submit(snapshot)))


def test_the_best_stays_however_many_are_saved_after_it(tmp_path, monkeypatch):
    values = [9, 1, *range(2, 40)]
    options = {"evaluate": Planned(values), "metrics": [], "evaluate_every": 1, "checkpoint_every": 1, "keep": 2}
    one = trainer(run=tmp_path / "run", **options)
    written_one_by_one(monkeypatch, one)
    one.fit(steps=12)
    names = [path.name for path in list_checkpoints(tmp_path / "run")]
    assert names == ["step-00000001", "step-00000011", "step-00000012"]
    assert best_checkpoint(tmp_path / "run").name == "step-00000001"


def test_a_slow_disk_gets_the_newest_and_the_best(tmp_path, monkeypatch):
    from fastgd.train import runlog

    original, written, gate = runlog.save_checkpoint, [], threading.Event()

    def save(folder, tensors, state):
        gate.wait(10)
        written.append(state["step"])
        return original(folder, tensors, state)

    monkeypatch.setattr(runlog, "save_checkpoint", save)
    values = [9, 5, 4, 3, *range(4, 40)]
    options = {"evaluate": Planned(values), "metrics": [], "evaluate_every": 1, "checkpoint_every": 1, "keep": 9}
    one = trainer(run=tmp_path / "run", **options)

    class Open(Callback):
        def on_evaluation(self, row):
            if row["step"] == 8:
                gate.set()

    one.callbacks.append(Open())
    one.fit(steps=8)
    assert written in ([1, 3, 8], [3, 8])  # the first if the thread was quick, the best, and the last
    assert best_checkpoint(tmp_path / "run").name == "step-00000003"
    del written[:]
    one = trainer(run=tmp_path / "late", **{**options, "evaluate": Planned(values), "checkpoint_every": 8})
    one.fit(steps=8)
    assert written == [3, 8]  # the best was held until a checkpoint was due, and written before it


def test_a_metric_can_say_what_is_best():
    one = trainer(monitor="accuracy", evaluate_every=3, steps=60)
    result = one.fit(steps=60)
    assert one.greater_is_better
    assert result.best["value"] >= result.figures["accuracy"]


def test_callbacks_see_rows_and_may_stop():
    class Third(Callback):
        rows, closed = [], 0

        def on_evaluation(self, row):
            self.rows.append(row["step"])
            return len(self.rows) == 3

        def close(self):
            self.closed += 1

    watch = Third()
    result = trainer(callbacks=[watch], evaluate_every=5).fit(steps=50)
    assert (watch.rows, watch.closed, result.step, result.stopped_early) == ([0, 5, 10], 1, 10, True)


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    trainer(run=tmp_path / "run", tensorboard=True).fit(steps=3)
    [events] = (tmp_path / "run" / "tensorboard").iterdir()
    assert b"test/accuracy" in events.read_bytes()


def test_tensorboard_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r'pip install "fastgd\[tensorboard\]"'):
        trainer(run=tmp_path / "run", tensorboard=True)


# ---------------------------------------------------------------------------------------------- what is not finite


def poisoned(at=3, n=50):
    x, y = samples(n)
    batches = [(x[i : i + 10].copy(), y[i : i + 10]) for i in range(0, n, 10)]
    batches[at][0][0, 0] = np.nan
    return batches


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_raise_leaves_everything_as_it_was(tmp_path, compiled, accumulate):
    clean = trainer(data=poisoned(), compiled=compiled, accumulate=accumulate)
    clean.fit(steps=3 // accumulate)
    one = trainer(data=poisoned(), compiled=compiled, accumulate=accumulate, run=tmp_path / "run")
    with pytest.raises(NonFiniteLossError) as caught:
        one.fit(steps=20)
    message = str(caught.value)
    assert "the gradient of layers.0.weight is not finite at step" in message
    assert "(learning rate " in message
    assert "tenth of the learning rate" in message
    assert bits(one.model) == bits(clean.model)
    assert one.optimizer._updates == 3 // accumulate
    if accumulate == 1:
        assert gd.random.get_state()[1] == 3 + 4  # three masks of dropout after two weights and two biases
    assert all(p.grad is None for p in one.model.parameters())


@pytest.mark.parametrize("compiled", [True, False])
def test_skip_goes_on_without_the_batch(compiled):
    one = trainer(data=poisoned(), compiled=compiled, on_nonfinite="skip")
    result = one.fit(epochs=3)
    assert (result.step, result.skipped, one.optimizer._updates) == (15, 3, 12)
    assert math.isfinite(result.figures["loss"])
    without = trainer(data=[b for i, b in enumerate(poisoned()) if i != 3], compiled=compiled)
    without.fit(epochs=3)
    assert bits(one.model) == bits(without.model)


def test_skip_gives_up_in_the_end():
    one = trainer(data=[poisoned()[3]], on_nonfinite="skip")
    with pytest.raises(NonFiniteLossError, match="100th time in a row"):
        one.fit(steps=500)


def test_warn_goes_on():
    one = trainer(data=poisoned(), on_nonfinite="warn")
    with pytest.warns(RuntimeWarning, match="the loss became nan at step"):
        assert one.fit(steps=8).step == 8


# ----------------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("half", [1, 6, 10, 13])
@pytest.mark.parametrize(
    "options", [{}, {"ema": 0.95, "accumulate": 2, "train_metrics": [Accuracy()]}], ids=["", "all"]
)
def test_resuming_gives_the_same_bits_and_figures(tmp_path, half, compiled, options):
    options = {"compiled": compiled, "evaluate_every": 4, **options}
    straight = trainer(run=tmp_path / "straight", **options)
    straight.fit(steps=20)
    trainer(run=tmp_path / "run", **options).fit(steps=half)
    resumed = trainer(seed=5, run=RunFolder(tmp_path / "run", resume=True), **options)
    assert resumed.resume().name == f"step-{half:08d}"
    resumed.fit(steps=20)
    assert bits(resumed.model) == bits(straight.model)
    assert resumed.loader.state_dict() == straight.loader.state_dict()
    assert gd.random.get_state() is not None
    # (Its training figures begin anew where the first call of fit ended with an evaluation.)
    rows = [
        [
            {k: v for k, v in row.items() if k in ("step", "epoch", "lr") or k[:5] == "test_"}
            for row in read_metrics(path)
        ]
        for path in (tmp_path / "straight", tmp_path / "run")
    ]
    assert [row for row in rows[1] if row["step"] % 4 == 0] == rows[0]


def test_training_figures_survive_the_break(tmp_path):
    options = {"evaluate_every": 6, "checkpoint_every": 1, "train_metrics": [Accuracy()]}
    trainer(run=tmp_path / "straight", **options).fit(steps=12)
    trainer(run=tmp_path / "run", **options).fit(steps=9)  # the last checkpoint was saved before the last evaluation
    one = trainer(run=RunFolder(tmp_path / "run", resume=True), **options)
    one.resume()
    one.fit(steps=12)
    ours, theirs = (read_metrics(tmp_path / name)[-1] for name in ("run", "straight"))
    assert ours["step"] == theirs["step"] == 12
    assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-12)
    assert ours["train_accuracy"] == theirs["train_accuracy"]


LOADERS = {
    "DataLoader": lambda x, y: DataLoader(TensorDataset(x, y), 8, shuffle=True),
    "DataLoader with workers": lambda x, y: DataLoader(TensorDataset(x, y), 8, shuffle=True, num_workers=2),
    "list": lambda x, y: [(x[i : i + 8], y[i : i + 8]) for i in range(0, 50, 8)],
    "prefetched": lambda x, y: ArrayLoader((x, y), 8, seed=3, prefetch=2),
    "prefetched list": lambda x, y: IterableLoader([(x[i : i + 8], y[i : i + 8]) for i in range(0, 50, 8)], prefetch=2),
    "function": lambda x, y: IterableLoader(lambda: ((x[i : i + 8], y[i : i + 8]) for i in range(0, 50, 8))),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_any_loader_resumes_exactly(tmp_path, kind):
    make = LOADERS[kind]
    straight = trainer(data=make(*samples()))
    straight.fit(steps=20)
    trainer(data=make(*samples()), run=tmp_path / "run").fit(steps=11)
    resumed = trainer(seed=4, data=make(*samples()), run=RunFolder(tmp_path / "run", resume=True))
    resumed.resume()
    resumed.fit(steps=20)
    assert bits(resumed.model) == bits(straight.model)


def test_iterables_that_cannot_be_repeated_are_refused():
    with pytest.raises(TypeError, match="only once"):
        trainer(data=iter([1]))
    with pytest.raises(TypeError, match="got int"):
        IterableLoader(3)
    with pytest.raises(ValueError, match="no batches"):
        trainer(data=[]).fit(steps=1)


def test_epochs_of_a_stream_without_length():
    x, y = samples()

    def stream():
        for i in range(0, 50, 10):
            yield x[i : i + 10], y[i : i + 10]

    assert trainer(data=stream).fit(epochs=3).step == 15


def test_data_in_any_form_trains_the_same():
    x, y = samples()
    data = Dataset(x, y, "d", tuple("abcd"), (0, 1))
    results = []
    for form in ((x, y), data, [gd.tensor(x), gd.tensor(y)], ArrayLoader((x, y), 8)):
        one = trainer(data=form)
        one.fit(steps=5)
        results.append(bits(one.model))
    assert all(result == results[0] for result in results)


def test_the_moments_of_saving_do_not_change_training(tmp_path):
    plain = trainer()
    plain.fit(steps=12)
    saving = trainer(run=tmp_path / "run", evaluate_every=1, checkpoint_every=1)
    saving.fit(steps=12)
    assert bits(saving.model) == bits(plain.model)


def test_the_state_of_training_is_in_the_checkpoint(tmp_path):
    result = trainer(run=tmp_path / "run", ema=0.9, early_stopping=9).fit(steps=3)
    index = json.loads((result.checkpoint / "state.json").read_text())
    assert index["schema"] == 1
    assert index["fastgd"] == gd.__version__
    assert set(index["files"]) == {"model.safetensors", "state.safetensors"}
    state = load_checkpoint(result.checkpoint)[1]
    assert state["ran_on"] == {"tier": gd._core.current_tier(), "threads": gd.get_num_threads()}
    assert "warmup_cosine" in state["optimizer"]["param_groups"][0]["schedules"]["lr"]
    assert state["optimizer"]["updates"] == 3
    assert {"step", "loader", "random", "ema", "window", "best", "callbacks"} <= set(state)


def everything(one):
    return (
        bits(one.model),
        {k: np.array(v).tobytes() for k, v in one.ema.averages.items()} if one.ema else None,
        repr(one.optimizer.state_dict()),
        one.loader.state_dict(),
        gd.random.get_state(),
        one.step,
    )


def test_other_checkpoints_are_refused_with_everything_as_it_was(tmp_path):
    good = trainer(run=tmp_path / "run", ema=0.9).fit(steps=3).checkpoint
    x, y = samples()

    def other_model():
        model = models.MLP(4, (9,), 2)
        return Trainer(model, F.cross_entropy, optim.AdamW(model.parameters()), (x, y), batch_size=8, ema=0.9)

    def other_optimizer():
        one = trainer(ema=0.9)
        return Trainer(one.model, F.cross_entropy, optim.SGD(one.model.parameters(), lr=0.1), (x, y), ema=0.9)

    cases = {
        "layers.0.weight": other_model,
        "not the state of SGD": other_optimizer,
        "50 samples, the data has 40": lambda: trainer(data=(x[:40], y[:40]), ema=0.9),
        "decay 0.9, now it is 0.8": lambda: trainer(ema=0.8),
        "saved with ema": trainer,
    }
    for message, make in cases.items():
        one = make()
        one.fit(steps=1)
        before = everything(one)
        with pytest.raises(CheckpointError) as caught:
            one.restore(good)
        assert str(good) in str(caught.value)
        assert message in str(caught.value)
        assert everything(one) == before
    (good / "model.safetensors").write_bytes(b"")
    one = trainer(ema=0.9)
    before = everything(one)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        one.restore(good)
    assert everything(one) == before


def test_differences_that_change_results_are_told(tmp_path):
    good = trainer(run=tmp_path / "run").fit(steps=3).checkpoint
    other = trainer(steps=40)
    with pytest.warns(RuntimeWarning, match="its schedule of lr was warmup_cosine"):
        other.restore(good)


def test_damaged_newer_checkpoints_step_aside(tmp_path, monkeypatch):
    straight = trainer()
    straight.fit(steps=12)
    first = trainer(run=tmp_path / "run", checkpoint_every=4, evaluate_every=2)
    written_one_by_one(monkeypatch, first)
    first.fit(steps=8)
    first.run.close()
    newest = tmp_path / "run" / "checkpoints" / "step-00000008"
    (newest / "state.json").write_text("{")
    one = trainer(seed=3, run=RunFolder(tmp_path / "run", resume=True), checkpoint_every=4, evaluate_every=2)
    with pytest.warns(RuntimeWarning, match="passing over a damaged checkpoint"):
        assert one.resume().name == "step-00000004"
    one.fit(steps=12)
    assert bits(one.model) == bits(straight.model)
    assert load_checkpoint(latest_checkpoint(tmp_path / "run"))[1]["step"] == 12
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [0, 2, 4, 6, 8, 10, 12]
    assert len(list((tmp_path / "run" / "checkpoints").glob("damaged-*"))) == 1


def test_nothing_to_resume(tmp_path):
    RunFolder(tmp_path / "run").close()
    with pytest.raises(CheckpointError, match="nothing to resume"):
        trainer(run=RunFolder(tmp_path / "run", resume=True)).resume()
    with pytest.raises(FileNotFoundError, match=r"metrics\.jsonl"):
        RunFolder(tmp_path / "none", resume=True)


def test_two_processes_do_not_share_a_run(tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(OSError, match="another process is training"):
        RunFolder(tmp_path / "run", resume=True)
    run.close()
    RunFolder(tmp_path / "run", resume=True).close()


def test_a_full_disk_is_a_warning_and_training_goes_on(tmp_path, monkeypatch):
    from fastgd.train import runlog

    original, full = runlog.save_checkpoint, []

    def save(folder, tensors, state):
        if 4 <= state["step"] < 8:
            full.append(state["step"])
            raise OSError(28, "No space left on device", str(folder))
        return original(folder, tensors, state)

    monkeypatch.setattr(runlog, "save_checkpoint", save)
    straight = trainer()
    straight.fit(steps=12)
    one = trainer(run=tmp_path / "run", checkpoint_every=1)
    written_one_by_one(monkeypatch, one)
    with pytest.warns(RuntimeWarning, match="training goes on: .*No space left"):
        result = one.fit(steps=12)
    assert full == [4, 5, 6, 7]
    assert bits(one.model) == bits(straight.model)
    assert latest_checkpoint(tmp_path / "run") == result.checkpoint
    monkeypatch.setattr(runlog, "save_checkpoint", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(
        OSError, match=r"the last checkpoint could not be written: .*newest checkpoint: .*step-00000012"
    ):
        one.fit(steps=14)
    assert latest_checkpoint(tmp_path / "run") == result.checkpoint


def test_a_disk_that_is_full_for_a_while(tmp_path):
    """From step 4 to step 8 the log cannot take a whole row, and no checkpoint can be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Full(Callback):
        def on_evaluation(self, row):
            one.saver.wait()
            if row["step"] == 4:
                room = os.path.getsize(tmp_path / "run" / "metrics.jsonl") + 10
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
            elif row["step"] == 8:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)

    straight = trainer()
    straight.fit(steps=12)
    one = trainer(run=tmp_path / "run", evaluate_every=1, checkpoint_every=1, keep=9, callbacks=[Full()])
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.warns(RuntimeWarning) as told:
            one.fit(steps=12)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    texts = {str(warning.message)[:30] for warning in told}
    assert texts == {"a checkpoint could not be writ", "a row of the log could not be "}
    assert bits(one.model) == bits(straight.model)
    logged = [row["step"] for row in read_metrics(tmp_path / "run")]
    assert logged == [0, 1, 2, 3, 4, 9, 10, 11, 12]
    for path in list_checkpoints(tmp_path / "run"):
        load_checkpoint(path)  # each is whole


# ----------------------------------------------------------------------------------------------------- signals


class Interrupt(Callback):
    """Sends signals to this process after an evaluation, as a user would."""

    def __init__(self, number, times=1):
        self.number = number
        self.times = times

    def on_evaluation(self, row):
        if row["step"] == 4:
            for _ in range(self.times):
                signal.raise_signal(self.number)


def test_an_evaluation_that_a_signal_cuts_short_is_made_up_for(tmp_path):
    options = {"evaluate_every": 4, "train_metrics": [Accuracy()]}
    trainer(run=tmp_path / "straight", **options).fit(steps=12)
    one = trainer(run=tmp_path / "run", **options)
    original = one.evaluate._run

    def interrupted(stop):
        if one.step == 4:
            signal.raise_signal(signal.SIGTERM)
        return original(stop)

    one.evaluate._run = interrupted
    assert one.fit(steps=12).step == 4
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [0]
    one.run.close()
    again = trainer(seed=3, run=RunFolder(tmp_path / "run", resume=True), **options)
    again.resume()
    again.fit(steps=12)
    keys = ("step", "epoch", "lr", "test_loss", "test_accuracy", "train_accuracy")
    rows = [[[row.get(key) for key in keys] for row in read_metrics(tmp_path / name)] for name in ("straight", "run")]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends(tmp_path, number):
    before = signal.getsignal(number), signal.getsignal(signal.SIGALRM)
    one = trainer(run=tmp_path / "run", evaluate_every=4, callbacks=[Interrupt(number)])
    result = one.fit(steps=20)
    assert (result.signal, result.step) == (number, 4)
    assert (signal.getsignal(number), signal.getsignal(signal.SIGALRM)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert load_checkpoint(result.checkpoint)[1]["step"] == 4
    one.callbacks.clear()
    one.fit(steps=20)
    straight = trainer()
    straight.fit(steps=20)
    assert bits(one.model) == bits(straight.model)


def test_a_second_signal_ends_at_once():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer(evaluate_every=4, callbacks=[Interrupt(signal.SIGINT, times=2)]).fit(steps=20)
    assert signal.getsignal(signal.SIGINT) is before


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert trainer(evaluate_every=4, callbacks=[Interrupt(signal.SIGINT)]).fit(steps=8).step == 8
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_step_that_takes_too_long_is_undone(tmp_path, monkeypatch):
    """A compiled step of seconds is cancelled between two instructions; the state that is saved is that before it."""
    from fastgd.train import signals

    monkeypatch.setattr(signals, "GRACE", 0.05)
    gd.manual_seed(0)
    width = 600

    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(*[nn.Linear(width, width) for _ in range(6)])

        def forward(self, x):
            for _ in range(60):
                x = self.layers(x)
            return x

    model = Slow()
    data = (np.ones((3000, width), np.float32), np.zeros((3000, width), np.float32))
    one = Trainer(model, F.mse_loss, optim.SGD(model.parameters(), lr=1e-9), data, batch_size=1000, run=tmp_path / "r")
    before, start = bits(model), []

    def kill():
        start.append(time.perf_counter())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)

    timer = threading.Timer(0.4, kill)
    timer.start()
    result = one.fit(steps=5)
    took = time.perf_counter() - start[0]
    assert result.signal == signal.SIGTERM
    assert took < 5
    state = load_checkpoint(result.checkpoint)[1]
    assert state["step"] == result.step == state["optimizer"]["updates"]
    assert state["loader"]["position"] == 1000 * result.step % 3000
    if result.step == 0:
        assert bits(model) == before


def test_fit_in_another_thread():
    straight = trainer()
    straight.fit(steps=10)
    one, results = trainer(), []
    thread = threading.Thread(target=lambda: results.append(one.fit(steps=10)))
    thread.start()
    thread.join()
    assert results[0].step == 10
    assert bits(one.model) == bits(straight.model)


# ------------------------------------------------------------------------------------- killed, and resumed bit for bit

CHILD = """
import sys
sys.path[:0] = [{tests!r}]
from test_trainer import trainer
from fastgd.train import RunFolder
run = RunFolder({run!r}, resume={resume})
one = trainer(run=run, checkpoint_every=1, evaluate_every=6, compiled={compiled}, steps=100000)
if {resume}:
    one.resume()
print("at", one.step, flush=True)
one.fit(steps={steps})
"""


def child(run, steps, compiled, resume=False):
    text = CHILD.format(tests=str(Path(__file__).parent), run=str(run), resume=resume, compiled=compiled, steps=steps)
    return subprocess.Popen([sys.executable, "-c", text], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("compiled", [True, False])
def test_2n_is_n_then_sigkill_then_n(tmp_path, compiled):
    process = child(tmp_path / "run", 1_000_000, compiled)
    process.stdout.readline()
    while not list_checkpoints(tmp_path / "run") or int(list_checkpoints(tmp_path / "run")[-1].name[5:]) < 9:
        time.sleep(0.01)
    process.kill()
    process.wait()
    process.stdout.close()
    reached = load_checkpoint(latest_checkpoint(tmp_path / "run"))[1]["step"]
    process = child(tmp_path / "run", 2 * reached + 1, compiled, resume=True)
    assert int(process.stdout.readline().split()[1]) == reached
    assert process.wait(timeout=120) == 0
    process.stdout.close()
    straight = trainer(compiled=compiled, steps=100000, evaluate_every=6, run=tmp_path / "straight")
    straight.fit(steps=2 * reached + 1)
    tensors, state = load_checkpoint(latest_checkpoint(tmp_path / "run"))
    assert {name: value.tobytes() for name, value in tensors.items()} == bits(straight.model)
    assert state["loader"] == straight.loader.state_dict()
    ours, theirs = read_metrics(tmp_path / "run"), read_metrics(tmp_path / "straight")
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    assert [row["test_loss"] for row in ours] == [row["test_loss"] for row in theirs]
    figures = [[row["train_loss"] for row in rows[1:]] for rows in (ours, theirs)]
    assert figures[0] == pytest.approx(figures[1], rel=1e-12)  # summed up in other portions


@pytest.mark.slow
def test_100_sigkills_of_a_training_run(tmp_path):
    """Killed at random moments while it saves after every step, a run goes on from what it had and ends with the same
    bits."""
    rng = np.random.default_rng(0)
    process = child(tmp_path / "run", 10**9, True)
    last, found = 0, None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no checkpoint may ever be found damaged
        for i in range(100):
            assert process.stdout.readline().startswith("at ")
            while i % 4 and list_checkpoints(tmp_path / "run")[-1:] in ([], [found]):
                time.sleep(0.002)  # three times in four until it is saving, so that not only its start is hit
            time.sleep(rng.uniform(0.0, 0.2))
            process.kill()
            process.wait()
            process.stdout.close()
            found = latest_checkpoint(tmp_path / "run")
            step = load_checkpoint(found)[1]["step"] if found else 0
            assert step >= last
            last = step
            if not found:
                import shutil

                shutil.rmtree(tmp_path / "run")
            process = child(tmp_path / "run", 10**9, True, resume=bool(found))
    process.kill()
    process.wait()
    process.stdout.close()
    tensors, state = load_checkpoint(latest_checkpoint(tmp_path / "run"))
    assert state["step"] > 100
    straight = trainer(steps=100000, evaluate_every=6)
    straight.fit(steps=state["step"])
    assert {name: value.tobytes() for name, value in tensors.items()} == bits(straight.model)


# ------------------------------------------------------------------------------------------------- the window


def test_losses_are_weighted_by_what_they_average_over():
    window = Window(nn.CrossEntropyLoss())
    x = np.zeros((4, 2))
    window.add(gd.tensor(1.0), None, (x, np.array([0, -100, -100, -100])))
    window.add(gd.tensor(4.0), None, (x, np.array([0, 1, 0, -100])))
    window.add(gd.tensor(math.nan), None, (x, np.array([-100] * 4)))
    assert window.figures()["loss"] == (1 + 3 * 4) / 4


def test_pending_outputs_are_bounded(monkeypatch):
    from fastgd.train import evaluate

    monkeypatch.setattr(evaluate, "PENDING_BATCHES", 3)
    window = Window(F.cross_entropy, [Accuracy()])
    for _ in range(7):
        window.add(gd.tensor(1.0), gd.tensor([[0.0, 1.0]]), (np.zeros((1, 2)), np.array([1])))
        assert len(window._pending) < 3
    assert window.figures() == {"loss": 1.0, "accuracy": 1.0}
