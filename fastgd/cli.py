"""The command ``fastgd``: train a network, and show what the library found on this machine.

Complaints are one line on standard error. Exit codes: 2 for a wrong argument or wrong input, 1 for a failure while
running, 128 plus the signal's number after an interruption (130 for Ctrl-C).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
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


@contextmanager
def _input() -> Iterator[None]:
    """Mark errors as the input's fault, for the exit code; the same types mean something else later on."""
    try:
        yield
    except (ValueError, OSError) as error:
        error.fault_of_input = True  # type: ignore[union-attr]
        raise


class _Parser(argparse.ArgumentParser):
    """argparse with complaints of one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    from fastgd import __version__

    parser = _Parser(
        prog="fastgd",
        description="Train neural networks on this computer's processor.",
        epilog="Try:  fastgd train    trains a network that reads handwritten digits, in a few seconds.",
    )
    parser.add_argument("--version", action="version", version=f"fastgd {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the full Python traceback of an error")
    _add_train(commands, common)
    info = commands.add_parser(
        "info",
        parents=[common],
        help="show the processor, threads and kernels that fastgd uses here",
        description="Show the processor, threads and kernels that fastgd uses here.",
    )
    info.set_defaults(run=_info)
    return parser


def _add_train(commands: Any, common: argparse.ArgumentParser) -> None:
    from fastgd.train.config import TrainConfig

    default = TrainConfig()
    parser = commands.add_parser(
        "train",
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="train a network on the embedded digits or on a file of yours",
        description=(
            "Train a network (a multilayer perceptron) and test it on data that it has not seen.\n"
            "Without options it learns to read 8x8 images of handwritten digits.\n"
            "Settings, progress, curves and the trained weights are left in a new folder, runs/001, runs/002, ..."
        ),
        epilog=(
            "examples:\n"
            "  fastgd train\n"
            "  fastgd train --epochs 10 --lr 0.003\n"
            "  fastgd train --data houses.csv --target price --task regression"
        ),
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        metavar="FILE",
        default=default.data,
        help="a table of numbers (.csv, one row for each sample), NumPy arrays (.npz with x and y, or .npy), or the "
        "word digits for the images that come with fastgd (default: digits)",
    )
    data.add_argument(
        "--target",
        metavar="COLUMN",
        help="the column of the table to predict: its name, or its position counted from 0 (default: the last column)",
    )
    data.add_argument(
        "--task",
        choices=["auto", "classification", "regression"],
        default=default.task,
        help="predict which class (classification) or how much (regression); auto looks at the column: numbers with a "
        "fractional part mean regression (default: %(default)s)",
    )
    data.add_argument(
        "--test-fraction",
        type=float,
        metavar="SHARE",
        default=default.test_fraction,
        help="share of a file's rows that is kept aside for the test (default: %(default)s)",
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "--hidden",
        type=_whole_numbers,
        metavar="N,N,...",
        default=default.hidden,
        help=f"units in each hidden layer, from the input on (default: {','.join(map(str, default.hidden))})",
    )
    network.add_argument(
        "--dropout",
        type=float,
        metavar="SHARE",
        default=default.dropout,
        help="share of hidden units switched off at random in each step; more of it counters learning by heart "
        "(default: %(default)s)",
    )
    training = parser.add_argument_group("training")
    training.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        default=default.epochs,
        help="how many times to go through the training data (default: %(default)s)",
    )
    training.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        default=default.batch_size,
        help="samples looked at before each update of the weights (default: %(default)s)",
    )
    training.add_argument(
        "--lr",
        type=float,
        metavar="RATE",
        default=default.lr,
        help="learning rate, the size of the updates: too large and training blows up, too small and it crawls; "
        "reached after a short warmup, then lowered to 0 (default: %(default)s)",
    )
    training.add_argument(
        "--weight-decay",
        type=float,
        metavar="RATE",
        default=default.weight_decay,
        help="pull of the weights towards 0, which favours simple solutions (default: %(default)s)",
    )
    training.add_argument(
        "--seed",
        type=int,
        metavar="N",
        default=default.seed,
        help="number that all chance is drawn from; the same seed gives the same result (default: %(default)s)",
    )
    training.add_argument("--threads", type=int, metavar="N", help="processor threads (default: one for each core)")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", metavar="DIR", help="folder for the results, new or empty (default: the next number under runs)"
    )
    output.add_argument("--no-progress", action="store_true", help="print only the result")
    parser.set_defaults(run=_train)


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        fault = f"expected whole numbers with commas between, such as 128,64; got {text!r}"
        raise argparse.ArgumentTypeError(fault) from None


def _train(options: argparse.Namespace) -> int:
    from fastgd.train.config import TrainConfig
    from fastgd.train.progress import bar_or_lines
    from fastgd.train.recipe import load_data, train
    from fastgd.train.runlog import RunFolder

    names = TrainConfig().to_dict()
    with _input():
        config = TrainConfig.from_dict({name: value for name, value in vars(options).items() if name in names})
        train_data, test_data = load_data(config)
        run = RunFolder(options.out)
    what = f"{len(train_data.classes)} classes" if train_data.classes else "regression"
    print(f"{train_data.name}: {len(train_data):,} samples to train on, {len(test_data):,} to test on, {what}")
    steps = config.epochs * -(-len(train_data) // config.batch_size)
    listeners = [] if options.no_progress else [bar_or_lines(steps)]
    sys.stdout.flush()
    try:
        result = train(config, train_data, test_data, run, listeners)
    finally:
        run.close()
        picture = run.draw(f"{train_data.name}, {run.path}")
    _report(result, run.path, picture)
    return 128 + result.signal if result.signal else 0


def _report(result: Any, folder: Path, picture: Path | None) -> None:
    from fastgd.train.progress import format_figure

    if result.signal:
        print(f"Stopped at step {result.step:,}. Everything up to there is saved: {result.checkpoint}")
        return
    figures = ", ".join(f"{name} {format_figure(name, value)}" for name, value in reversed(result.figures.items()))
    print(f"On the test data: {figures}")
    print(f"{result.step:,} steps in {result.seconds:.1f} s, {result.samples_per_second:,.0f} samples/s")
    print(f"In {folder}:")
    print(f"  {result.checkpoint.relative_to(folder)}/  the trained weights (model.safetensors) and all other state")
    print("  config.json    the settings that were used")
    print("  metrics.jsonl  loss and accuracy as they developed, one JSON object a line")
    if picture is not None:
        print("  curves.png     the same as a picture")
    else:
        print("  (no curves.png: it needs matplotlib, pip install 'fastgd[cli]')")


def _info(options: argparse.Namespace) -> int:
    import fastgd

    text = fastgd.show_config()
    if text is not None:
        print(text)
    return 0


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    return text
