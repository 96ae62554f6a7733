"""Settings and the command line, from TOML to the run folder, and fastgd.save and load."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastgd as gd
from fastgd import models, nn, optim, schedules
from fastgd.cli import SHORT, main
from fastgd.train import CheckpointError, NonFiniteLossError, TrainConfig, latest_checkpoint, load_checkpoint
from fastgd.train.config import with_assignments
from fastgd.train.registry import MODELS, OPTIMIZERS, SCHEDULES, build_schedule, settings_of
from fastgd.train.runlog import read_config, read_metrics

# ---------------------------------------------------------------------------------------------------- settings


DEFAULT = {"optimizer": "adamw", "schedule": "warmup_cosine"}


def test_every_setting_is_checked():
    bad = {
        "seed": 2**64,
        "threads": 0,
        "data.source": "",
        "data.target": 1.5,
        "data.task": "guess",
        "data.categorical": "a",
        "data.ignore": [1],
        "data.test_fraction": 1.0,
        "data.batch_size": 2.5,
        "data.prefetch": -1,
        "model.hidden": (3, 0),
        "model.dropout": 1.0,
        "model.activation": "step",
        "optimizer.lr": math.nan,
        "schedule.warmup": -0.1,
        "training.epochs": 0,
        "training.steps": True,
        "training.evaluate_every": 0,
        "training.accumulate": 0,
        "training.clip_norm": 0.0,
        "training.clip_value": -1,
        "training.ema": 1.0,
        "training.precision": "bf16",
        "training.on_nonfinite": "ignore",
        "training.monitor": "beauty",
        "training.early_stopping": 0,
        "training.metrics": ["beauty"],
        "output.keep": 0,
        "output.checkpoint_seconds": -1,
        "output.tensorboard": 1,
    }
    for name, value in bad.items():
        section, dot, key = name.rpartition(".")
        values = {section: {key: value}} if dot else {key: value}
        with pytest.raises(ValueError) as caught:
            TrainConfig.from_dict(values)
        if name != "optimizer.lr":  # the optimizer itself checks it
            assert str(caught.value).startswith(f"{name}: expected"), name
    every = {
        f"{section}.{key}" if isinstance(value, dict) else section
        for section, value in TrainConfig().to_dict().items()
        for key in (value if isinstance(value, dict) else [section])
    }
    theirs = {f"{kind}.{key}" for kind in ("optimizer", "schedule") for key in settings_of(kind, DEFAULT[kind])}
    assert every - set(bad) - theirs == {"model.name", "optimizer.name", "schedule.name"}
    with pytest.raises(ValueError, match="nothing beside training.epochs"):
        TrainConfig.from_dict({"training": {"epochs": 3, "steps": 4}})


def test_settings_survive_the_run_folder():
    config = TrainConfig.from_dict({"optimizer": {"name": "sgd", "lr": 0.5}, "model": {"hidden": [3]}})
    again = TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert config.optimizer.settings["momentum"] == 0.9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batchsize": 3}, "unknown setting 'batchsize'; did you mean 'data.batch_size'"),
        ({"lr": 3}, "unknown setting 'lr'; did you mean 'optimizer.lr'"),
        ({"training": {"epoch": 3}}, "unknown setting 'training.epoch'; did you mean 'training.epochs'"),
        ({"optimizer": {"weight_decays": 3}}, "did you mean 'optimizer.weight_decay'"),
        ({"optimizer": {"name": "sgd", "betas": 3}}, "unknown setting 'optimizer.betas'"),
        ({"zzz": 3}, "unknown setting 'zzz'; there are seed, threads, data, model"),
        ({"optimizer": {"name": "adamv"}}, "optimizer.name: expected adamw or adam or sgd"),
        ({"optimizer": {"name": "os.system"}}, "optimizer.name: expected"),
        ({"model": {"name": ["mlp"]}}, "model.name: expected mlp"),
        ({"schedule": "cosine"}, "schedule: expected a section [schedule] with settings, got 'cosine'"),
        ({"optimizer": {"lr": -1}}, "lr of group 0 must be at least 0"),
        ({"optimizer": {"lr": "fast"}}, "must be a number, got 'fast'"),
        ({"model": {"hidden": 5}}, "model.hidden: expected whole numbers of at least 1, got 5"),
    ],
)
def test_unknown_and_impossible_settings_are_errors(values, message):
    with pytest.raises(ValueError) as caught:
        TrainConfig.from_dict(values)
    assert message in str(caught.value)


def test_schedules_span_the_run_and_reach_the_learning_rate():
    def built(name, **settings):
        return build_schedule(name, 0.1, 200, {**settings_of("schedule", name), **settings})

    assert built("warmup_cosine") == schedules.warmup_cosine(0.1, 10, 200)
    assert built("warmup_cosine", warmup_steps=7) == schedules.warmup_cosine(0.1, 7, 200)
    assert built("warmup", warmup=0.5) == schedules.warmup(0.1, 100)
    assert built("linear") == schedules.linear(0.1, 0.0, 200)
    assert built("cosine", steps=50, end=0.01) == schedules.cosine(0.1, 50, 0.01)
    with pytest.raises(ValueError, match=r"schedule\.rate: must be given for exponential"):
        built("exponential")


def test_assignments():
    given = {"data": {"source": "digits"}}
    changed = with_assignments(given, ["data.source=a b.csv", "model.hidden=[3, 4]", "training.ema=0.5", "seed = 3"])
    assert changed == {"data": {"source": "a b.csv"}, "model": {"hidden": [3, 4]}, "training": {"ema": 0.5}, "seed": 3}
    assert given == {"data": {"source": "digits"}}
    assert with_assignments({}, ["a=true", "a=1\nb=2"]) == {"a": "1\nb=2"}
    for wrong in ("a", "=3"):
        with pytest.raises(ValueError, match="section.key=value"):
            with_assignments({}, [wrong])
    with pytest.raises(ValueError, match="'seed' is not a section"):
        with_assignments({"seed": 3}, ["seed.a=1"])


COSINE = "{schedule='cosine', peak=0.01, steps=9}"
NEEDED = {
    "chain": [f"schedules=[{COSINE}, {COSINE}]", "lengths=[9, 9]"],
    "clip": [f"of={COSINE}", "low=0.001"],
    "cyclic": ["start=0.001"],
    "exponential": ["rate=0.9"],
    "inverse_time": ["rate=0.1"],
    "join": [f"schedules=[{COSINE}, {COSINE}]", "boundaries=[9]"],
    "multiply": [f"schedules=[{COSINE}, {COSINE}]"],
    "multistep": ["milestones=[10, 20]"],
    "offset": [f"of={COSINE}", "amount=0.001"],
    "piecewise_constant": ["values=[0.1, 0.01]", "boundaries=[9]"],
    "piecewise_interpolate": ["values=[0.1, 0.01]", "boundaries=[9]"],
    "restarts": [f"decay={COSINE}"],
    "scale": [f"of={COSINE}", "factor=0.5"],
    "shift": [f"of={COSINE}", "steps=3"],
    "warmup_exponential": ["rate=0.9"],
    "with_warmup": [f"of={COSINE}", "steps=5"],
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [("model", n) for n in MODELS] + [("optimizer", n) for n in OPTIMIZERS] + [("schedule", n) for n in SCHEDULES],
)
def test_every_registered_name_trains(tmp_path, monkeypatch, capsys, kind, name):
    monkeypatch.chdir(tmp_path)
    given = [f"{kind}.name={name}", *(f"{kind}.{text}" for text in NEEDED.get(name, ()))]
    assignments = [part for text in given for part in ("--set", text)]
    code, _, err = run_main(capsys, "train", *SHORT_RUN, *assignments)
    assert code == 0, err
    assert read_config("runs/001")["config"][kind]["name"] == name


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
    assert "fastgd evaluate runs/001" in out
    accuracy = float(re.search(r"accuracy ([\d.]+)%", out)[1])
    assert accuracy >= 97.0
    assert re.search(r"1,380 steps in [\d.]+ s, [\d,]+ samples/s", out)
    assert "step 1380/1380  loss" in err
    assert "\r" not in err
    config = json.loads((run / "config.json").read_text())
    assert config["config"]["optimizer"]["lr"] == TrainConfig().optimizer.settings["lr"]
    assert config["data"]["train_samples"] == 1437
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


SHORT_RUN = ("--epochs", "2", "--hidden", "8", "--no-progress")


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
    state = state["preprocessing"]
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
        (("train", "--lr", "fast"), "lr of group 0 must be a number, got 'fast'"),
        (("train", "--lr", "-1"), "lr of group 0 must be at least 0"),
        (("train", "--lr", "0"), "optimizer.lr: expected a number above 0, got 0"),
        (("train", "--hidden", "8,x"), "model.hidden: expected whole numbers of at least 1, got '[8,x]'"),
        (("train", "--hidden", "8,0"), "model.hidden: expected whole numbers of at least 1, got (8, 0)"),
        (("train", "--set", "optimizer.lrr=1"), "did you mean 'optimizer.lr'"),
        (("train", "--set", "lr"), "--set: expected section.key=value, got 'lr'"),
        (("train", "--set", "training.metrics=['r2']"), "training.metrics: r2 does not suit classes"),
        (("train", "--set", "training.metrics=['auc']"), "auc is for two classes, the data has 10"),
        (("train", "--set", "training.monitor=f1"), "'f1' is not among the metrics accuracy"),
        (("train", "--epochs", "1", "--set", "schedule.warmup_steps=99"), "warmup"),
        (("train", "none.toml"), "none.toml: No such file or directory"),
        (("train", "bad.toml"), "bad.toml: not a TOML file"),
        (("train", "--resume", "none"), "none/config.json: No such file or directory; is none the folder of a run?"),
        (("train", "--resume", "full", "--out", "x"), "no CONFIG.toml, --out or --show"),
        (("evaluate", "none"), "is none the folder of a run?"),
        (("plot", "none"), "none: not the folder of a run"),
        (("train", "--threads", "0"), "threads: expected"),
        (("train", "--data", "none.csv"), "none.csv: No such file or directory"),
        (("train", "--data", "none"), "none: expected a file that ends in .csv"),
        (("train", "--data", "bad.csv"), "bad.csv:3:1: 'x' in 'a' is not a number"),
        (("train", "--target", "3"), "data.target: expected none, digits has no columns to choose from, got '3'"),
        (("train", "--task", "regression"), "data.task: expected auto or classification for digits"),
        (("train", "--out", "full"), "full: the folder is not empty"),
        (("train", "--out", "bad.csv"), "bad.csv"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text("a,y\n1,0\nx,1\n")
    (tmp_path / "bad.toml").write_text("[data\n")
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
    code, _, err = run_main(capsys, "train", *SHORT_RUN, "--lr", "1e30")
    assert code == 1
    assert err.count("\n") == 1
    assert "Try a tenth of the learning rate" in err
    with pytest.raises(NonFiniteLossError):
        main(["train", *SHORT_RUN, "--lr", "1e30", "--debug"])


def test_ctrl_c_saves_and_says_where(tmp_path):
    process = start("train", "--epochs", "100000", cwd=tmp_path)
    assert process.stderr.readline().startswith("step")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "To go on:  fastgd train --resume runs/001" in out
    folder = re.search(r"saved: (.*)", out)[1]
    assert load_checkpoint(tmp_path / folder)[1]["step"] == int(re.search(r"at step ([\d,]+)", out)[1].replace(",", ""))
    assert "Traceback" not in err


def test_same_seed_same_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    figures = []
    for seed in ("1", "1", "2"):
        _, out, _ = run_main(capsys, "train", *SHORT_RUN, "--seed", seed)
        figures.append(re.search("On the test data: (.*)", out)[1])
    assert figures[0] == figures[1] != figures[2]


def test_help_version_and_info(capsys):
    code, out, _ = run_main(capsys, "train", "--help")
    assert code == 0
    assert all(f"--{name}" in out for name in SHORT)
    for command in ("evaluate", "plot", "info"):
        code, out, _ = run_main(capsys, command, "--help")
        assert code == 0
        assert out.startswith(f"usage: fastgd {command}")
    assert run_main(capsys, "--version")[1] == f"fastgd {gd.__version__}\n"
    code, out, _ = run_main(capsys, "info")
    assert code == 0
    assert out.count("tier: ") == 1


def test_a_reader_that_leaves_is_no_error(tmp_path):
    process = start("train", *SHORT_RUN, cwd=tmp_path)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert err == ""


def text_of(run, name):
    return (Path(run) / name).read_bytes()


def test_interrupted_and_resumed_is_as_if_never_interrupted(tmp_path, monkeypatch, capsys):
    settings = ["--epochs", "400", "--hidden", "16", "--no-progress", "--set", "output.checkpoint_seconds=0"]
    process = start("train", *settings, "--out", "cut", cwd=tmp_path)
    while not list(tmp_path.glob("cut/checkpoints/step-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    monkeypatch.chdir(tmp_path)
    stopped = load_checkpoint(latest_checkpoint("cut"))[1]["step"]
    assert 0 < stopped < 400 * 23
    code, _, err = run_main(capsys, "train", "--resume", "cut", "--no-progress")
    assert code == 0, err
    assert run_main(capsys, "train", *settings, "--out", "whole")[0] == 0
    for name in ("model.safetensors", "state.safetensors"):
        assert text_of(latest_checkpoint("cut"), name) == text_of(latest_checkpoint("whole"), name)
    rows = [[(row["step"], row.get("test_loss")) for row in read_metrics(run)] for run in ("cut", "whole")]
    assert rows[0] == rows[1]


def test_a_run_can_be_made_longer_but_not_another(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_main(capsys, "train", *SHORT_RUN)[0] == 0
    code, _, err = run_main(capsys, "train", "--resume", "runs/001", "--lr", "0.1")
    assert code == 2
    assert "optimizer.lr: a run that is resumed keeps its data, model and optimizer" in err
    code, out, err = run_main(capsys, "train", "--resume", "runs/001", "--epochs", "3", "--no-progress")
    assert code == 0, err
    assert "fastgd: warning: " in err and "its schedule of lr was" in err
    assert read_metrics("runs/001")[-1]["step"] == 3 * 23
    config = read_config("runs/001")
    assert config["config"]["training"]["epochs"] == 3
    assert config["earlier"][0]["until_step"] == 2 * 23
    assert config["earlier"][0]["config"]["training"]["epochs"] == 2
    assert "Going on from runs/001/checkpoints/step-00000046" in out
    before = (tmp_path / "runs" / "001" / "metrics.jsonl").read_bytes()
    code, out, err = run_main(capsys, "train", "--resume", "runs/001", "--no-progress")
    assert code == 0, err
    assert "Nothing was left to do after step 69." in out
    assert (tmp_path / "runs" / "001" / "metrics.jsonl").read_bytes() == before


def test_a_file_of_settings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run_main(capsys, "train", "--show")
    assert code == 0
    assert not (tmp_path / "runs").exists()
    (tmp_path / "c.toml").write_text(out.replace("epochs = 60", "epochs = 2").replace("[256, 128]", "[8]"))
    code, out, err = run_main(capsys, "train", "c.toml", "--no-progress", "--set", "training.ema=0.9", "--seed", "4")
    assert code == 0, err
    config = read_config("runs/001")["config"]
    assert (config["training"]["epochs"], config["training"]["ema"], config["seed"]) == (2, 0.9, 4)


def test_evaluate_reproduces_the_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run_main(
        capsys, "train", *SHORT_RUN, "--set", "training.ema=0.9", "--set", "training.metrics=['f1']"
    )
    last = read_metrics("runs/001")[-1]
    code, out, _ = run_main(capsys, "evaluate", "runs/001", "--checkpoint", "last")
    assert code == 0
    assert re.search(r"step-00000046, on 360 samples of digits:", out)
    from fastgd.train.recipe import evaluate_run

    figures, _, _ = evaluate_run("runs/001", "last")
    assert figures == {"loss": last["test_loss"], "f1": last["test_f1"]}
    code, _, err = run_main(capsys, "evaluate", "runs/001", "--checkpoint", "7")
    assert (code, err.count("\n")) == (2, 1)
    assert "expected best, last or the step" in err


CITIES = ["north", "south", "east"]


def cities(n, seed):
    rng = np.random.default_rng(seed)
    city, size = rng.integers(0, 3, n), rng.normal(50, 20, n)
    price = 100 * city + size + rng.normal(size=n)
    sizes = [f"{value:.2f}" if rng.uniform() > 0.1 else "NA" for value in size]
    return [f"{s},{CITIES[c]},{p:.2f}" for s, c, p in zip(sizes, city, price, strict=True)]


def test_a_table_with_categories_and_missing_values(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("size,city,price\n" + "\n".join(cities(400, 0)))
    settings = ["--set", "model.dropout=0", "--set", "data.batch_size=16", "--epochs", "60", "--no-progress"]
    code, out, err = run_main(capsys, "train", "--data", "t.csv", *settings)
    assert code == 0, err
    assert float(re.search(r"r2 ([\d.]+)", out)[1]) > 0.9
    state = load_checkpoint(latest_checkpoint("runs/001"))[1]["preprocessing"]
    assert state["categories"] == (None, ("east", "north", "south"))
    assert state["had_missing"].tolist() == [True, False]
    # New data: other order of columns, a city that is new, fewer cities; the same network, scaling and encoding.
    rows = [row.split(",") for row in cities(50, 1)]
    new = "\n".join(f"{'west' if i == 0 else row[1]},{row[2]},{row[0]}" for i, row in enumerate(rows))
    (tmp_path / "new.csv").write_text("city,price,size\n" + new)
    code, out, err = run_main(capsys, "evaluate", "runs/001", "--data", "new.csv")
    assert code == 0, err
    assert "on 50 samples of new:" in out
    assert float(re.search(r"r2 +([\d.]+)", out)[1]) > 0.9
    for text, message in [
        ("city,price\nnorth,1\nsouth,2\n", "new: lacks the columns size that the model was trained on"),
        ("city,size\nnorth,1\nsouth,2\n", "no column 'price' among 'city', 'size'"),
        (
            "size,city,price\nx,north,1.5\ny,south,2\n",
            "column 'size' held numbers in training, here it holds categories",
        ),
    ]:
        (tmp_path / "new.csv").write_text(text)
        code, _, err = run_main(capsys, "evaluate", "runs/001", "--data", "new.csv")
        assert code == 2
        assert message in err


def test_resuming_with_other_data_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("size,city,price\n" + "\n".join(cities(60, 0)))
    assert run_main(capsys, "train", "--data", "t.csv", *SHORT_RUN)[0] == 0
    (tmp_path / "t.csv").write_text("size,city,price\n" + "\n".join(cities(60, 1)))
    code, _, err = run_main(capsys, "train", "--resume", "runs/001", "--epochs", "3")
    assert code == 2
    assert "the data in t.csv is not what the run was started with" in err


def test_plots(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    for seed in ("0", "1"):
        run_main(capsys, "train", *SHORT_RUN, "--seed", seed)
    (tmp_path / "runs" / "001" / "curves.png").unlink()
    assert run_main(capsys, "plot", "runs/001")[:2] == (0, "runs/001/curves.png\n")
    assert run_main(capsys, "plot", "runs/001", "runs/002")[:2] == (0, "compared.png\n")
    assert run_main(capsys, "plot", "runs/001", "runs/002", "--out", "both.svg")[0] == 0
    picture = (tmp_path / "both.svg").read_text()
    assert "<svg" in picture
    assert (tmp_path / "compared.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = run_main(capsys, "plot", "runs/001", "--out", "x.bmp")
    assert code == 2
    assert ".png, .pdf or .svg" in err
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    code, _, err = run_main(capsys, "plot", "runs/001")
    assert code == 1
    assert "needs matplotlib" in err


@pytest.mark.parametrize("damage", ["missing", "tampered", "not json"])
def test_a_damaged_config_is_named(tmp_path, monkeypatch, capsys, damage):
    monkeypatch.chdir(tmp_path)
    run_main(capsys, "train", *SHORT_RUN)
    path = tmp_path / "runs" / "001" / "config.json"
    text = path.read_text()
    path.unlink()
    if damage != "missing":
        path.write_text(text.replace('"hidden"', '"hiden"') if damage == "tampered" else text[:50])
    for command in (["train", "--resume"], ["evaluate"]):
        code, _, err = run_main(capsys, *command, "runs/001")
        assert code == 2
        assert err.count("\n") == 1
        assert ("config.json" in err) or ("unknown setting 'model.hiden'; did you mean 'model.hidden'" in err)


# ----------------------------------------------------------------------------------------------- fastgd.save, load


def test_save_and_load_tensors(tmp_path):
    def parts():
        model = models.MLP(4, (8,), 2)
        return model, optim.AdamW(model.parameters())

    model, optimizer = parts()
    nn.functional.cross_entropy(model(gd.ones((3, 4))), gd.tensor([0, 1, 0])).backward()
    optimizer.step()
    path = tmp_path / "s.safetensors"
    gd.save(path, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "note": [1, None]})
    got = gd.load(path)
    other, other_optimizer = parts()
    other.load_state_dict(got["model"])
    other_optimizer.load_state_dict(got["optimizer"])
    weights = [[np.array(value).tobytes() for value in one.state_dict().values()] for one in (model, other)]
    assert weights[0] == weights[1]
    assert repr(other_optimizer.state_dict()) == repr(optimizer.state_dict())
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
