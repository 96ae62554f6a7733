"""The folder that a run leaves: what was asked for, what happened, a picture of it, and the weights.

config.json    every setting as it was used, and where it ran
metrics.jsonl  one JSON object a line, written as it happens
curves.png     loss and accuracy against the step, where matplotlib is installed
checkpoints/   see fastgd.train.checkpoint
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checkpoint import CheckpointError, make_folder, prune_checkpoints, save_checkpoint, sync, write_text
from .progress import format_figure

__all__ = ["RunFolder", "checkpoint_folder", "draw_comparison", "draw_curves", "read_config", "read_metrics"]

Row = Mapping[str, Any]


class RunFolder:
    """A run folder, and the ways to write into it; only one process at a time may have it.

    Parameters
    ----------
    path : str or path, optional
        Must not exist, or be empty. Default: the next free number under ``runs``.
    resume : bool
        The folder is that of a run that goes on.

    Raises
    ------
    FileExistsError
        There is something in the folder; results of an earlier run are never mixed with or replaced by new ones.
    """

    def __init__(self, path: str | Path | None = None, resume: bool = False) -> None:
        self.path = _next_number(Path("runs")) if path is None else Path(path)
        log = self.path / "metrics.jsonl"
        if resume:
            if not log.is_file():
                raise FileNotFoundError(2, "not the folder of a run: it has no metrics.jsonl", str(self.path))
        else:
            make_folder(self.path)
            if any(self.path.iterdir()):
                raise FileExistsError(f"{self.path}: the folder is not empty; give another one for the results")
        self._metrics = log.open("ab", buffering=0)
        try:
            fcntl.flock(self._metrics, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._metrics.close()
            raise OSError(f"{self.path}: another process is training in this folder") from None
        except OSError:
            pass  # a file system without locks

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json, in one step if there is one already."""
        draft = self.path / ".tmp-config.json"
        write_text(draft, json.dumps(_plain(config), indent=2) + "\n")
        os.replace(draft, self.path / "config.json")
        sync(self.path)

    def log(self, row: Row) -> None:
        """Append a row to metrics.jsonl, complete and visible to other programs when this returns; whole or not at
        all."""
        data = (json.dumps(_plain(row)) + "\n").encode()
        size = os.fstat(self._metrics.fileno()).st_size
        try:
            while data:
                data = data[os.write(self._metrics.fileno(), data) :]
        except OSError:
            os.ftruncate(self._metrics.fileno(), size)
            raise

    def rewind(self, step: int) -> None:
        """Cut metrics.jsonl behind `step`: what was logged after the checkpoint that training goes on from."""
        keep = 0
        with (self.path / "metrics.jsonl").open("rb") as file:
            for line in file:
                try:
                    whole = line.endswith(b"\n") and json.loads(line)["step"] <= step
                except (ValueError, KeyError, TypeError):
                    whole = False
                if not whole:
                    break
                keep += len(line)
        self._metrics.truncate(keep)

    def checkpoint(
        self,
        step: int,
        tensors: Mapping[str, Any],
        state: Mapping[str, Any],
        keep: int = 2,
        protect: tuple[int, ...] = (),
    ) -> Path:
        """Save a checkpoint and delete all but the newest `keep` and those of the steps `protect`.

        One of the same step is kept as it is.
        """
        folder = checkpoint_folder(self.path, step)
        if not folder.exists():
            save_checkpoint(folder, tensors, state)
        prune_checkpoints(self.path, keep, protect)
        return folder

    def draw(self, title: str) -> Path | None:
        """Draw curves.png from metrics.jsonl; None where matplotlib is not installed."""
        return draw_curves(read_metrics(self.path), self.path / "curves.png", title)

    def close(self) -> None:
        """Close the log."""
        self._metrics.close()

    def __del__(self) -> None:
        if hasattr(self, "_metrics"):
            self._metrics.close()


def checkpoint_folder(run: str | Path, step: int) -> Path:
    """Return where the checkpoint of a step is."""
    return Path(run) / "checkpoints" / f"step-{step:08d}"


def read_config(run: str | Path) -> dict[str, Any]:
    """Return a run's config.json.

    Raises
    ------
    CheckpointError
        It is missing or damaged.
    """
    path = Path(run) / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; is {run} the folder of a run?") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise CheckpointError(f"{path}: not the settings of a run")
    return config


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics.jsonl; a last line that was cut off by a crash is left out."""
    lines = (Path(run) / "metrics.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def draw_curves(rows: list[dict[str, Any]], path: Path, title: str) -> Path | None:
    """Draw every pair of ``train_*`` and ``test_*`` columns of `rows` against ``step``, one panel for each.

    Returns
    -------
    Path or None
        `path`, or None where matplotlib is not installed or nothing was measured.
    """
    names = _figures(rows)
    panels = {
        name: [
            (part, colour, _points(rows, f"{part}_{name}"))
            for part, colour in (("train", "tab:blue"), ("test", "tab:orange"))
        ]
        for name in names
    }
    return _draw(panels, path, title)


def draw_comparison(runs: Mapping[str, list[dict[str, Any]]], path: Path) -> Path | None:
    """Draw the ``test_*`` columns of several runs, one panel for each figure and one line for each run; see
    draw_curves."""
    names = dict.fromkeys(name for rows in runs.values() for name in _figures(rows))
    panels = {
        name: [(run, f"C{index}", _points(rows, f"test_{name}")) for index, (run, rows) in enumerate(runs.items())]
        for name in names
    }
    return _draw(panels, path, "on the test data")


Line = tuple[str, str, list[tuple[int, float]]]  # label, colour, (step, value)


def _figures(rows: list[dict[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("test_"))
    return [key.removeprefix("test_") for key in keys]


def _points(rows: list[dict[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(row["step"], row[key]) for row in rows if row.get(key) is not None]


def _draw(panels: Mapping[str, list[Line]], path: Path, title: str) -> Path | None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import PercentFormatter
    except ImportError:
        return None
    if not panels:
        return None
    figure = Figure(figsize=(5.2 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, (name, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        lowest, highest = math.inf, -math.inf
        for label, colour, points in lines:
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            marker = "o" if len(points) == 1 else None
            label = f"{label}  {format_figure(name, values[-1])}"
            axes.plot(steps, values, color=colour, label=label, linewidth=1.6, marker=marker)
            lowest, highest = min(lowest, *values), max(highest, *values)
        if name == "loss" and 0 < lowest < highest / 10:
            axes.set_yscale("log")
        if name == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set(title=name.replace("_", " "), xlabel="step")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.has_data():
            axes.legend(title="last value", frameon=False)
    figure.savefig(path, dpi=120)
    return path


def _next_number(root: Path) -> Path:
    """Make the folder root/001, root/002, ... that comes after all that are there; safe against other runs."""
    make_folder(root)
    number = max((int(path.name) for path in root.iterdir() if path.name.isdecimal()), default=0)
    while True:
        number += 1
        path = root / f"{number:03d}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        sync(root)
        return path


def _plain(value: Any) -> Any:
    """Replace what JSON cannot say: a number that is not finite becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
