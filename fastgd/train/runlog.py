"""The folder that a run leaves: what was asked for, what happened, a picture of it, and the weights.

config.json    every setting as it was used, and where it ran
metrics.jsonl  one JSON object a line, written as it happens
curves.png     loss and accuracy against the step, where matplotlib is installed
checkpoints/   see fastgd.train.checkpoint
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checkpoint import make_folder, prune_checkpoints, save_checkpoint, sync, write_text
from .progress import format_figure

__all__ = ["RunFolder", "draw_curves", "read_metrics"]

Row = Mapping[str, Any]


class RunFolder:
    """A new run folder, and the ways to write into it.

    Parameters
    ----------
    path : str or path, optional
        Must not exist, or be empty. Default: the next free number under ``runs``.

    Raises
    ------
    FileExistsError
        There is something in the folder; results of an earlier run are never mixed with or replaced by new ones.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = _next_number(Path("runs")) if path is None else Path(path)
        make_folder(self.path)
        if any(self.path.iterdir()):
            raise FileExistsError(f"{self.path}: the folder is not empty; give another one for the results")
        self._metrics = (self.path / "metrics.jsonl").open("a", encoding="utf-8")

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.json."""
        write_text(self.path / "config.json", json.dumps(_plain(config), indent=2) + "\n")

    def log(self, row: Row) -> None:
        """Append a row to metrics.jsonl, complete and visible to other programs when this returns."""
        self._metrics.write(json.dumps(_plain(row)) + "\n")
        self._metrics.flush()

    def checkpoint(self, step: int, tensors: Mapping[str, Any], state: Mapping[str, Any], keep: int = 2) -> Path:
        """Save a checkpoint and delete all but the newest `keep`; one of the same step is kept as it is."""
        folder = self.path / "checkpoints" / f"step-{step:08d}"
        if not folder.exists():
            save_checkpoint(folder, tensors, state)
            prune_checkpoints(self.path, keep)
        return folder

    def draw(self, title: str) -> Path | None:
        """Draw curves.png from metrics.jsonl; None where matplotlib is not installed."""
        return draw_curves(read_metrics(self.path), self.path / "curves.png", title)

    def close(self) -> None:
        """Close the log."""
        self._metrics.close()


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
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import PercentFormatter
    except ImportError:
        return None
    names = [key.removeprefix("test_") for key in dict.fromkeys(k for row in rows for k in row) if key[:5] == "test_"]
    if not names:
        return None
    figure = Figure(figsize=(5.2 * len(names), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        lowest, highest = math.inf, -math.inf
        for part, colour in (("train", "tab:blue"), ("test", "tab:orange")):
            points = [(row["step"], row[f"{part}_{name}"]) for row in rows if row.get(f"{part}_{name}") is not None]
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            marker = "o" if len(points) == 1 else None
            axes.plot(
                steps,
                values,
                color=colour,
                label=f"{part}  {format_figure(name, values[-1])}",
                linewidth=1.6,
                marker=marker,
            )
            lowest, highest = min(lowest, *values), max(highest, *values)
        if name == "loss" and 0 < lowest < highest / 10:
            axes.set_yscale("log")
        if name == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set(title=name.replace("_", " "), xlabel="step")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
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
