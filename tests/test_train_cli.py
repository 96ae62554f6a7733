"""The training loop and the command line, from settings to the run folder."""

import contextlib
import io
import json
import math
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from pathlib import Path

import numpy as np
import pytest

import fastgd as gd
from fastgd import models, nn, optim, schedules
from fastgd.cli import main
from fastgd.data import ArrayLoader
from fastgd.train import CheckpointError, TrainConfig, latest_checkpoint, load_checkpoint
from fastgd.train.loop import Evaluator, NonFiniteLossError, fit, restore
from fastgd.train.metrics import R2, Accuracy
from fastgd.train.progress import LineProgress, bar_or_lines, describe, format_time
from fastgd.train.runlog import RunFolder, read_metrics

# ------------------------------------------------------------------------------------------- settings and figures


def test_every_setting_is_checked():
    bad = {
        "data": "",
        "task": "guess",
        "test_fraction": 1.0,
        "hidden": (3, 0),
        "dropout": 1.0,
        "epochs": 0,
        "batch_size": 2.5,
        "lr": math.nan,
        "warmup": -0.1,
        "weight_decay": -1.0,
        "seed": 2**64,
        "threads": 0,
    }
    for name, value in bad.items():
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            TrainConfig(**{name: value})
    assert set(bad) | {"target"} == set(TrainConfig().to_dict())


def test_unknown_settings_are_errors():
    assert TrainConfig.from_dict({"lr": 0.5, "hidden": [3]}) == TrainConfig(lr=0.5, hidden=(3,))
    with pytest.raises(ValueError, match="unknown setting 'batchsize'; did you mean 'batch_size'"):
        TrainConfig.from_dict({"batchsize": 3})
    with pytest.raises(ValueError, match="unknown setting 'zzz'; there are data, "):
        TrainConfig.from_dict({"zzz": 3})


def test_accuracy():
    metric = Accuracy()
    assert math.isnan(metric.compute())
    metric.update(np.array([[0.0, 1.0], [2.0, 1.0]]), np.array([1, 1]))
    metric.update(np.array([[0.0, 1.0]]), np.array([1]))
    assert metric.compute() == 2 / 3
    metric.reset()
    assert math.isnan(metric.compute())


def test_r2_in_batches_is_r2_of_all():
    rng = np.random.default_rng(0)
    y = 1e6 + rng.normal(size=(60, 1))
    output = y + 0.3 * rng.normal(size=(60, 1))
    metric = R2()
    for begin, end in [(0, 1), (1, 20), (20, 60)]:
        metric.update(output[begin:end], y[begin:end])
    assert metric.compute() == pytest.approx(1 - ((y - output) ** 2).sum() / ((y - y.mean()) ** 2).sum(), rel=1e-9)


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


# ------------------------------------------------------------------------------------------------------- the loop


class Parts:
    """A small classification with dropout and a schedule: everything that a resumed run has to get right."""

    def __init__(self, seed=0, steps=20):
        rng = np.random.default_rng(1)
        x = rng.normal(size=(50, 4)).astype(np.float32)
        y = (x[:, 0] > 0).astype(np.int64)
        gd.manual_seed(seed)
        self.model = models.MLP(4, (8,), 2, dropout=0.2)
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = optim.AdamW(self.model.parameters(), lr=schedules.warmup_cosine(0.05, 3, steps))
        self.loader = ArrayLoader((x, y), 8, seed=seed)
        self.evaluate = Evaluator(self.model, self.loss, (x, y), Accuracy())

    def fit(self, steps, **options):
        return fit(self.model, self.loss, self.optimizer, self.loader, steps, **options)

    def weights(self):
        return {name: np.array(value).tobytes() for name, value in self.model.state_dict().items()}


def test_fit_learns_and_logs(tmp_path):
    parts = Parts(steps=120)
    run = RunFolder(tmp_path / "run")
    result = parts.fit(120, evaluate=parts.evaluate, evaluate_every=50, metric=Accuracy(), run=run)
    run.close()
    rows = read_metrics(run.path)
    assert [row["step"] for row in rows] == [0, 50, 100, 120]
    assert result.step == 120
    assert result.signal == 0
    assert result.figures["accuracy"] > 0.9
    assert rows[-1]["test_loss"] == result.figures["loss"] < rows[0]["test_loss"] / 2
    assert rows[1]["train_loss"] > rows[-1]["train_loss"]
    assert "train_loss" not in rows[0]
    assert latest_checkpoint(run.path) == result.checkpoint
    assert parts.model.training


def test_the_learning_rate_in_the_log_is_the_schedule(tmp_path):
    parts = Parts(steps=20)
    run = RunFolder(tmp_path / "run")
    parts.fit(20, evaluate_every=4, run=run)
    run.close()
    schedule = schedules.warmup_cosine(0.05, 3, 20)
    for row in read_metrics(run.path):
        assert row["lr"] == pytest.approx(float(schedule(row["step"])), abs=1e-7)


@pytest.mark.parametrize("half", [1, 6, 10, 13])
def test_resuming_gives_the_same_bits(tmp_path, half):
    straight = Parts()
    straight.fit(20)
    run = RunFolder(tmp_path / "run")
    checkpoint = Parts().fit(half, run=run).checkpoint
    run.close()
    resumed = Parts(seed=5)  # other weights, other order, other masks: all of it must be replaced
    step, state = restore(checkpoint, resumed.model, resumed.optimizer, resumed.loader)
    assert step == state["step"] == half
    resumed.fit(20, first_step=step)
    assert resumed.weights() == straight.weights()
    assert resumed.loader.state_dict() == straight.loader.state_dict()


def test_the_moments_of_saving_do_not_change_training(tmp_path):
    plain = Parts()
    plain.fit(12)
    run = RunFolder(tmp_path / "run")
    saving = Parts()
    saving.fit(12, evaluate=saving.evaluate, evaluate_every=1, run=run, checkpoint_seconds=0)
    run.close()
    assert saving.weights() == plain.weights()


def test_a_loss_that_is_not_finite_says_where_and_what_to_try(tmp_path):
    parts = Parts()
    parts.loader.arrays[0][7] = np.nan
    run = RunFolder(tmp_path / "run")
    with pytest.raises(NonFiniteLossError) as caught:
        parts.fit(20, run=run)
    run.close()
    message = str(caught.value)
    assert re.search(r"became (nan|inf|-inf) at step \d+ \(learning rate ", message)
    assert "tenth of the learning rate" in message
    assert str(latest_checkpoint(run.path)) in message


def test_a_damaged_checkpoint_leaves_the_model_alone(tmp_path):
    run = RunFolder(tmp_path / "run")
    checkpoint = Parts().fit(3, run=run).checkpoint
    run.close()
    (checkpoint / "model.safetensors").write_bytes(b"")
    parts = Parts(seed=1)
    before = parts.weights()
    with pytest.raises(CheckpointError):
        restore(checkpoint, parts.model, parts.optimizer, parts.loader)
    assert parts.weights() == before


class Interrupt:
    """Sends signals to this process after the first evaluation, as a user would."""

    def __init__(self, number, times=1):
        self.number = number
        self.times = times

    def on_step(self, row):
        pass

    def on_evaluation(self, row):
        if row["step"] == 4:
            for _ in range(self.times):
                signal.raise_signal(self.number)

    def close(self):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends(tmp_path, number):
    parts, run = Parts(), RunFolder(tmp_path / "run")
    before = signal.getsignal(number)
    result = parts.fit(20, evaluate_every=4, run=run, listeners=[Interrupt(number)])
    run.close()
    assert (result.signal, result.step) == (number, 4)
    assert signal.getsignal(number) is before
    assert load_checkpoint(result.checkpoint)[1]["step"] == 4
    parts.fit(20, first_step=4)
    straight = Parts()
    straight.fit(20)
    assert parts.weights() == straight.weights()


def test_a_second_signal_ends_at_once():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        Parts().fit(20, evaluate_every=4, listeners=[Interrupt(signal.SIGINT, times=2)])
    assert signal.getsignal(signal.SIGINT) is before


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert Parts().fit(8, evaluate_every=4, listeners=[Interrupt(signal.SIGINT)]).step == 8
    finally:
        signal.signal(signal.SIGINT, before)


def test_fit_in_another_thread():
    straight = Parts()
    straight.fit(10)
    parts = Parts()
    results = []
    thread = threading.Thread(target=lambda: results.append(parts.fit(10)))
    thread.start()
    thread.join()
    assert results[0].step == 10
    assert parts.weights() == straight.weights()


# ----------------------------------------------------------------------------------------------- the command line


# A child process must find the same fastgd, installed or not.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(gd.__file__).parents[1])}


def start(*arguments, cwd):
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "fastgd", *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_digits_end_to_end(tmp_path):
    """The first thing that a new user does."""
    process = start("train", cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    run = tmp_path / "runs" / "001"
    assert {"config.json", "metrics.jsonl", "curves.png", "checkpoints"} == set(os.listdir(run))
    accuracy = float(re.search(r"accuracy ([\d.]+)%", out)[1])
    assert accuracy >= 97.0
    assert re.search(r"1,380 steps in [\d.]+ s, [\d,]+ samples/s", out)
    assert "step 1380/1380  loss" in err
    assert "\r" not in err
    config = json.loads((run / "config.json").read_text())
    assert config["config"]["lr"] == TrainConfig().lr
    assert read_metrics(run)[-1]["test_accuracy"] == pytest.approx(accuracy / 100, abs=1e-3)
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    tensors, state = load_checkpoint(latest_checkpoint(run))
    assert state["step"] == 1380
    assert sorted(value.shape for value in tensors.values()) == [
        (10,),
        (10, 128),
        (128,),
        (128, 256),
        (256,),
        (256, 64),
    ]


def run_main(capsys, *arguments):
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


SHORT = ("--epochs", "2", "--hidden", "8", "--no-progress")


def test_a_table_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)) * [1, 100, 0.01] + [0, 500, 3]
    kinds = np.where(x[:, 1] > 500, "up", "down")
    lines = [f"{a},{b},{c},{kind}" for (a, b, c), kind in zip(x, kinds, strict=True)]
    (tmp_path / "t.csv").write_text("a,b,c,kind\n" + "\n".join(lines))
    code, out, _ = run_main(capsys, "train", "--data", "t.csv", "--epochs", "20", "--no-progress", "--out", "here")
    assert code == 0
    assert "240 samples to train on, 60 to test on, 2 classes" in out
    assert float(re.search(r"accuracy ([\d.]+)%", out)[1]) > 85
    _, state = load_checkpoint(latest_checkpoint("here"))
    assert state["classes"] == ("down", "up")
    assert state["x_scaling"]["scale"][1] == pytest.approx(100, rel=0.2)


def test_regression(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    np.savez("r.npz", x=x, y=1000 + 50 * (x[:, 0] - 2 * x[:, 1]))
    code, out, _ = run_main(capsys, "train", "--data", "r.npz", "--epochs", "60", "--dropout", "0", "--no-progress")
    assert code == 0
    assert "regression" in out
    assert float(re.search(r"r2 ([\d.]+)", out)[1]) > 0.95
    assert (tmp_path / "runs" / "001" / "curves.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "required: COMMAND"),
        (("trian",), "invalid choice: 'trian'"),
        (("train", "--epoch-count", "3"), "unrecognized arguments: --epoch-count"),
        (("train", "--lr", "fast"), "argument --lr: invalid float value: 'fast'"),
        (("train", "--lr", "-1"), "lr: expected a number above 0, got -1.0"),
        (("train", "--hidden", "8,x"), "whole numbers with commas between"),
        (("train", "--hidden", "8,0"), "hidden: expected whole numbers of at least 1, got (8, 0)"),
        (("train", "--threads", "0"), "threads: expected"),
        (("train", "--data", "none.csv"), "none.csv: No such file or directory"),
        (("train", "--data", "none"), "none: expected a file that ends in .csv"),
        (("train", "--data", "bad.csv"), "bad.csv:3:1: 'x' in 'a' is not a number"),
        (("train", "--target", "3"), "target: expected none, digits has no columns to choose from, got '3'"),
        (("train", "--task", "regression"), "task: expected auto or classification for digits"),
        (("train", "--out", "full"), "full: the folder is not empty"),
        (("train", "--out", "bad.csv"), "bad.csv"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text("a,y\n1,0\nx,1\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    code, out, err = run_main(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("fastgd")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_divergence_is_one_line_and_code_1(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_main(capsys, "train", *SHORT, "--lr", "1e30")
    assert code == 1
    assert err.count("\n") == 1
    assert "Try a tenth of the learning rate" in err
    with pytest.raises(NonFiniteLossError):
        main(["train", *SHORT, "--lr", "1e30", "--debug"])


def test_ctrl_c_saves_and_says_where(tmp_path):
    process = start("train", "--epochs", "100000", cwd=tmp_path)
    assert process.stderr.readline().startswith("step")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    folder = re.search(r"saved: (.*)", out)[1]
    assert load_checkpoint(tmp_path / folder)[1]["step"] == int(re.search(r"at step ([\d,]+)", out)[1].replace(",", ""))
    assert "Traceback" not in err


def test_same_seed_same_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    figures = []
    for seed in ("1", "1", "2"):
        _, out, _ = run_main(capsys, "train", *SHORT, "--seed", seed)
        figures.append(re.search("On the test data: (.*)", out)[1])
    assert figures[0] == figures[1] != figures[2]


def test_help_version_and_info(capsys):
    code, out, _ = run_main(capsys, "train", "--help")
    assert code == 0
    for name in TrainConfig().to_dict():
        assert name == "warmup" or f"--{name.replace('_', '-')}" in out
    assert run_main(capsys, "--version")[1] == f"fastgd {gd.__version__}\n"
    code, out, _ = run_main(capsys, "info")
    assert code == 0
    assert out.strip()


def test_a_reader_that_leaves_is_no_error(tmp_path):
    process = start("train", *SHORT, cwd=tmp_path)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert err == ""


# ----------------------------------------------------------------------------------------------- fastgd.save, load


def test_save_and_load_tensors(tmp_path):
    parts = Parts()
    parts.fit(3)
    path = tmp_path / "s.safetensors"
    gd.save(path, {"model": parts.model.state_dict(), "optimizer": parts.optimizer.state_dict(), "note": [1, None]})
    got = gd.load(path)
    other = Parts(seed=3)
    other.model.load_state_dict(got["model"])
    other.optimizer.load_state_dict(got["optimizer"])
    assert other.weights() == parts.weights()
    assert got["note"] == [1, None]
    assert all(isinstance(value, gd.Tensor) for value in got["model"].values())


def test_load_a_file_of_another_program(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.arange(3, dtype=np.float32)}, tmp_path / "x.safetensors")
    loaded = gd.load(tmp_path / "x.safetensors")
    assert isinstance(loaded["a"], gd.Tensor)
    assert np.asarray(loaded["a"]).tolist() == [0, 1, 2]
    with pytest.raises(FileNotFoundError):
        gd.load(tmp_path / "none")
    (tmp_path / "x.safetensors").write_bytes(b"pickle")
    with pytest.raises(CheckpointError, match=r"x\.safetensors: truncated"):
        gd.load(tmp_path / "x.safetensors")
