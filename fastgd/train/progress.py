"""What a person sees while a model trains: a bar in a terminal, now and then a line everywhere else.

Both are callbacks (:mod:`fastgd.train.callbacks`).
"""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from .callbacks import Callback, Row

__all__ = ["LineProgress", "bar_or_lines"]


def bar_or_lines(steps: int | None, stream: TextIO | None = None) -> Callback:
    """Return a bar if `stream` (default: standard error) is a terminal and tqdm is installed, else lines."""
    stream = sys.stderr if stream is None else stream
    if stream.isatty():
        try:
            return BarProgress(steps, stream)
        except ImportError:
            pass
    return LineProgress(steps, stream)


class LineProgress(Callback):
    """A line for an evaluation, unless the last line was less than `every` seconds ago."""

    def __init__(self, steps: int | None, stream: TextIO, every: float = 1.0) -> None:
        self.steps = steps
        self.stream = stream
        self.every = every
        self._last = float("-inf")
        self._printed: Row | None = None
        self._row: Row | None = None

    def on_evaluation(self, row: Row) -> None:
        self._row = row
        if time.monotonic() - self._last >= self.every:
            self._print(row)

    def close(self) -> None:
        if self._row is not self._printed and self._row is not None:
            self._print(self._row)

    def _print(self, row: Row) -> None:
        of = "" if self.steps is None else f"/{self.steps}"
        width = max(len(of) - 1, 0)
        print(f"step {row['step']:>{width}}{of}  {describe(row)}", file=self.stream, flush=True)
        self._last = time.monotonic()
        self._printed = row


class BarProgress(Callback):
    """A bar by tqdm. Its samples per second and remaining time are the loop's, which leave evaluations out."""

    def __init__(self, steps: int | None, stream: TextIO) -> None:
        from tqdm import tqdm

        form = "{percentage:3.0f}%|{bar}| {desc}" if steps else "step {n}  {desc}"
        self._bar = tqdm(total=steps, file=stream, bar_format=form, dynamic_ncols=True)
        self._test: dict[str, Any] = {}

    def on_step(self, row: Row) -> None:
        self._bar.n = row["step"]
        self._bar.set_description_str(describe({**row, **self._test}))

    def on_evaluation(self, row: Row) -> None:
        # The line must fit a terminal of 80 columns: of the test's figures only the one that people wait for.
        self._test = {key: value for key, value in row.items() if key.startswith("test_") and key != "test_loss"}
        self.on_step({key: value for key, value in row.items() if key != "test_loss"})

    def close(self) -> None:
        self._bar.close()


def describe(row: Row) -> str:
    """Return the figures of a row in words, those that it has.

    >>> describe({"train_loss": 0.25, "test_loss": 0.5, "test_accuracy": 0.5, "samples_per_second": 1234.5, "eta": 75})
    'loss 0.2500 (test 0.5000)  accuracy (test 50.0%)  1,234 samples/s  1:15 left'
    """
    parts = []
    measured = [key.partition("_") for key in row if key.startswith(("train_", "test_"))]
    for name in dict.fromkeys(name for _, _, name in measured):
        train, test = (format_figure(name, row.get(f"{part}_{name}")) for part in ("train", "test"))
        parts.append(" ".join(filter(None, (name, train, f"(test {test})" if test else ""))))
    if row.get("samples_per_second"):
        parts.append(f"{row['samples_per_second']:,.0f} samples/s")
    if row.get("eta"):
        parts.append(f"{format_time(row['eta'])} left")
    return "  ".join(parts)


def format_figure(name: str, value: float | None) -> str:
    """Return an accuracy in percent, anything else in six characters or so; nothing for None."""
    if value is None:
        return ""
    if name == "accuracy" or name.startswith("top"):
        return f"{value:.1%}"
    return f"{value:.4f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.2e}"


def format_time(seconds: float) -> str:
    """Return minutes and seconds, with hours if there are any.

    >>> format_time(3.4), format_time(3700)
    ('0:03', '1:01:40')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
