"""The command ``fastgd``: train a network, go on with it, test it, compare runs, and show what the library found here.

Complaints are one line on standard error. Exit codes: 2 for a wrong argument or wrong input, 1 for a failure while
running, 128 plus the signal's number after an interruption (130 for Ctrl-C).
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["main"]

RAW = argparse.RawDescriptionHelpFormatter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    before = warnings.showwarning
    warnings.showwarning = _show_warning
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("fastgd: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has left; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if options.debug:
            raise
        print(f"fastgd: {_one_line(error)}", file=sys.stderr)
        return 2 if getattr(error, "fault_of_input", False) else 1
    finally:
        warnings.showwarning = before


@contextmanager
def _input() -> Iterator[None]:
    """Mark errors as the input's fault, for the exit code; the same types mean something else later on."""
    try:
        yield
    except (ValueError, OSError) as error:
        error.fault_of_input = True  # type: ignore[union-attr]
        raise


def _show_warning(message: Any, category: type, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
    print(f"fastgd: warning: {message}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """argparse with complaints of one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    from fastgd import __version__

    parser = _Parser(
        prog="fastgd",
        formatter_class=RAW,
        description="Train neural networks on this computer's processor.",
        epilog="Try:  fastgd train    trains a network that reads handwritten digits, in a few seconds.",
    )
    parser.add_argument("--version", action="version", version=f"fastgd {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the full Python traceback of an error")
    _add_train(commands, common)
    _add_evaluate(commands, common)
    _add_plot(commands, common)
    info = commands.add_parser(
        "info",
        parents=[common],
        help="show the processor, threads and kernels that fastgd uses here",
        description="Show the processor, threads and kernels that fastgd uses here.",
    )
    info.set_defaults(run=_info)
    return parser


# Options that stand for a setting: --epochs 10 is --set training.epochs=10.
SHORT = {
    "data": ("data.source", "FILE", "a table with one row for each sample (.csv), NumPy arrays (.npz with x and y, or "
             ".npy), or one of the words digits (comes with fastgd) and fashion-mnist"),
    "target": ("data.target", "COLUMN", "the column of the table to predict: its name, or its position counted from 0 "
               "(default: the last column)"),
    "task": ("data.task", "TASK", "classification (which class) or regression (how much); auto looks at "
             "the column: numbers with a fractional part mean regression"),
    "batch-size": ("data.batch_size", "N", "samples looked at before each update of the weights"),
    "hidden": ("model.hidden", "N,N,...", "units in each hidden layer, from the input on"),
    "dropout": ("model.dropout", "SHARE", "share of hidden units switched off at random in each step; more of it "
                "counters learning by heart"),
    "lr": ("optimizer.lr", "RATE", "learning rate, the size of the updates: too large and training blows up, too small "
           "and it crawls; reached after a short warmup, then lowered to 0"),
    "epochs": ("training.epochs", "N", "how many times to go through the training data"),
    "seed": ("seed", "N", "number that all chance is drawn from; the same seed gives the same result"),
    "threads": ("threads", "N", "processor threads (default: one for each core)"),
}  # fmt: skip


def _add_train(commands: Any, common: argparse.ArgumentParser) -> None:
    from fastgd.train.config import TrainConfig

    parser = commands.add_parser(
        "train",
        parents=[common],
        formatter_class=RAW,
        help="train a network on the embedded digits or on a file of yours",
        description=(
            "Train a network and test it on data that it has not seen.\n"
            "Without options it learns to read 8x8 images of handwritten digits.\n"
            "Settings, progress, curves and the trained weights are left in a new folder, runs/001, runs/002, ...\n"
            "Ctrl-C saves everything and ends; --resume goes on as if nothing had happened."
        ),
        epilog=(
            "examples:\n"
            "  fastgd train\n"
            "  fastgd train --epochs 10 --lr 0.003\n"
            "  fastgd train --data houses.csv --target price --task regression\n"
            "  fastgd train houses.toml --set optimizer.name=sgd --set optimizer.lr=0.1\n"
            "  fastgd train --resume runs/001\n"
            "  fastgd train --show            all settings with their values, as a TOML file to start from"
        ),
    )
    parser.add_argument("config", nargs="?", metavar="CONFIG.toml", help="a file of settings")
    parser.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting, such as model.hidden=[64,64] or training.ema=0.999; may be repeated",
    )
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder from its newest checkpoint")
    parser.add_argument("--show", action="store_true", help="print all settings as TOML and do nothing else")
    group = parser.add_argument_group("common settings, in short")
    defaults = TrainConfig().to_dict()
    for name, (key, metavar, text) in SHORT.items():
        section, _, last = key.rpartition(".")
        value = (defaults[section] if section else defaults)[last]
        if value is not None:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            text = f"{text} (default: {shown})"
        group.add_argument(f"--{name}", metavar=metavar, help=f"{text} [{key}]")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", metavar="DIR", help="folder for the results, new or empty (default: the next number under runs)"
    )
    output.add_argument("--no-progress", action="store_true", help="print only the result")
    parser.set_defaults(run=_train)


def _assignments(options: argparse.Namespace) -> list[str]:
    """Return the short options and --set as assignments, in this order."""
    result = []
    for name, (key, _, _) in SHORT.items():
        value = getattr(options, name.replace("-", "_"))
        if value is not None:
            result.append(f"{key}=[{value}]" if name == "hidden" else f"{key}={value}")
    return result + options.assignments


def _train(options: argparse.Namespace) -> int:
    from fastgd.train.config import TrainConfig, read_toml, with_assignments
    from fastgd.train.recipe import check, load_data, resume, train
    from fastgd.train.runlog import RunFolder, read_config

    assignments = _assignments(options)
    with _input():
        if options.resume:
            if options.config or options.out or options.show:
                raise ValueError("--resume takes settings and folder from the run: no CONFIG.toml, --out or --show")
            settings = read_config(options.resume)["config"]
            _check_resumable(assignments)
        else:
            settings = read_toml(options.config) if options.config else {}
        changed = with_assignments(settings, assignments)
        if options.resume and any(a.startswith("training.steps") for a in assignments):
            changed["training"]["epochs"] = None
        if options.resume and any(a.startswith("training.epochs") for a in assignments):
            changed["training"]["steps"] = None
        config = TrainConfig.from_dict(changed)
        if options.show:
            print(_as_toml(config.to_dict()))
            return 0
        split = load_data(config)
        check(config, split)
        run = RunFolder(options.resume or options.out, resume=bool(options.resume))
    train_data, test_data = split
    what = f"{len(train_data.classes)} classes" if train_data.classes else "regression"
    print(f"{train_data.name}: {len(train_data):,} samples to train on, {len(test_data):,} to test on, {what}")
    sys.stdout.flush()
    result = None
    try:
        with _input_errors_of_preparation():
            progress = not options.no_progress
            if options.resume:
                result = resume(config, split, run, progress, lambda found: print(f"Going on from {found}", flush=True))
            else:
                result = train(config, split, run, progress)
    finally:
        run.close()
        # Who interrupts wants to leave: drawing takes longer than saving.
        leaving = result is not None and result.signal
        picture = None if leaving else run.draw(f"{train_data.name}, {run.path}")
    _report(result, run.path, picture)
    return 128 + result.signal if result.signal else 0


@contextmanager
def _input_errors_of_preparation() -> Iterator[None]:
    """A run that cannot be resumed, or settings that do not suit the data, are the input's fault."""
    from fastgd.train.checkpoint import CheckpointError

    try:
        yield
    except CheckpointError as error:
        error.fault_of_input = True  # type: ignore[attr-defined]
        raise


def _check_resumable(assignments: list[str]) -> None:
    for assignment in assignments:
        key = assignment.partition("=")[0]
        if not key.startswith(("training.", "output.")) and key != "threads":
            raise ValueError(f"{key}: a run that is resumed keeps its data, model and optimizer; only training.*, "
                             "output.* and threads can be changed")  # fmt: skip


def _report(result: Any, folder: Path, picture: Path | None) -> None:
    from fastgd.train.progress import format_figure

    again = f"fastgd train --resume {shlex.quote(str(folder))}"
    if result.signal:
        print(f"Stopped at step {result.step:,}. Everything up to there is saved: {result.checkpoint}")
        print(f"To go on:  {again}")
        return
    if result.step == result.first_step:
        print(f"Nothing was left to do after step {result.step:,}. To go further:  {again} --set training.epochs=N")
    if result.stopped_early:
        print(f"Ended at step {result.step:,}: no improvement for too long.")
    figures = ", ".join(f"{name} {format_figure(name, value)}" for name, value in reversed(result.figures.items()))
    print(f"On the test data: {figures}")
    if result.best and result.best["step"] != result.step:
        best = result.best
        value = format_figure(best["monitor"], best["value"])
        print(f"Best {best['monitor']}: {value} at step {best['step']:,}; its weights are kept, too")
    if result.skipped:
        print(f"{result.skipped:,} steps were skipped because their gradients were not finite")
    print(f"{result.step:,} steps in {result.seconds:.1f} s, {result.samples_per_second:,.0f} samples/s")
    print(f"In {folder}:")
    print(f"  {result.checkpoint.relative_to(folder)}/  the trained weights (model.safetensors) and all other state")
    print("  config.json    the settings that were used")
    print("  metrics.jsonl  loss and accuracy as they developed, one JSON object a line")
    if picture is not None:
        print("  curves.png     the same as a picture")
    else:
        print("  (no curves.png: it needs matplotlib, pip install 'fastgd[cli]')")
    print(f"To test it again:  fastgd evaluate {shlex.quote(str(folder))}")


def _as_toml(config: dict[str, Any]) -> str:
    """Settings as TOML; a setting that is not set is a comment."""

    def line(key: str, value: Any) -> str:
        return f"# {key} =" if value is None else f"{key} = {_toml_value(value)}"

    lines = [line(key, value) for key, value in config.items() if not isinstance(value, dict)]
    for section, settings in config.items():
        if isinstance(settings, dict):
            lines += ["", f"[{section}]", *(line(key, value) for key, value in settings.items())]
    return "\n".join(lines)


def _toml_value(value: Any) -> str:
    import json

    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False)  # the same for text, booleans and finite numbers


def _add_evaluate(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "evaluate",
        parents=[common],
        formatter_class=RAW,
        help="test a trained network again, or on new data",
        description=(
            "Test the network of a run: on the same test data as during training, or on a file with the same columns.\n"
            "New data is scaled and encoded with the numbers measured on the run's training data."
        ),
        epilog=(
            "examples:\n"
            "  fastgd evaluate runs/001\n"
            "  fastgd evaluate runs/001 --checkpoint last\n"
            "  fastgd evaluate runs/001 --data new-houses.csv"
        ),
    )
    parser.add_argument("folder", metavar="RUN", help="the folder that fastgd train left, such as runs/001")
    parser.add_argument(
        "--checkpoint",
        metavar="WHICH",
        default="best",
        help="best (by the figure that was monitored), last, or a step of which there is a checkpoint (default: best)",
    )
    parser.add_argument("--data", metavar="FILE", help="test on all rows of this file")
    parser.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from fastgd.train.progress import format_figure
    from fastgd.train.recipe import evaluate_run

    with _input():
        figures, checkpoint, data = evaluate_run(options.folder, options.checkpoint, options.data)
    print(f"{checkpoint}, on {len(data):,} samples of {data.name}:")
    for name, value in reversed(figures.items()):
        print(f"  {name:<10} {format_figure(name, value)}")
    return 0


def _add_plot(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "plot",
        parents=[common],
        formatter_class=RAW,
        help="draw the curves of one run, or of several to compare them",
        description="Draw loss and other figures against the step: one run in training and test, several in test.",
        epilog="examples:\n  fastgd plot runs/001\n  fastgd plot runs/001 runs/002 runs/003 --out compared.png",
    )
    parser.add_argument("folders", nargs="+", metavar="RUN", help="folders that fastgd train left")
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="the picture, .png, .pdf or .svg (default: RUN/curves.png, or compared.png for several)",
    )
    parser.set_defaults(run=_plot)


def _plot(options: argparse.Namespace) -> int:
    from fastgd.train.runlog import draw_comparison, draw_curves, read_metrics

    folders = list(dict.fromkeys(Path(folder) for folder in options.folders))
    with _input():
        for folder in folders:
            if not (folder / "metrics.jsonl").is_file():
                raise FileNotFoundError(2, "not the folder of a run: it has no metrics.jsonl", str(folder))
        rows = {str(folder): read_metrics(folder) for folder in folders}
        several = len(folders) > 1
        path = Path(options.out or ("compared.png" if several else folders[0] / "curves.png"))
        if path.suffix.lower() not in (".png", ".pdf", ".svg"):
            raise ValueError(f"{path}: expected a name that ends in .png, .pdf or .svg")
        drawn = draw_comparison(rows, path) if several else draw_curves(rows[str(folders[0])], path, str(folders[0]))
    if drawn is None:
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            raise ImportError("drawing needs matplotlib, which is not installed: pip install 'fastgd[cli]'") from None
        raise ValueError(f"{', '.join(rows)}: nothing has been measured there yet")
    print(path)
    return 0


def _info(options: argparse.Namespace) -> int:
    import fastgd

    fastgd.show_config()
    return 0


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    return text
