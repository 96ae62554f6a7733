"""A picture of schedules.  matplotlib is imported when it is needed: ``pip install fastgd[cli]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._core import ShapeError
from .base import Function, read_steps

__all__ = ["plot"]

#: More points than a screen has columns show nothing more.
POINTS = 2000

#: A longer name would cover the picture.
LABEL = 60


def plot(schedules: Function | Sequence[Function] | Mapping[str, Function], steps: int, ax: Any = None) -> Any:
    """Draw schedules over the steps 0, 1, ..., `steps` - 1.

    Parameters
    ----------
    schedules : callable ``step -> float``, sequence of them, or mapping of str to them
        A mapping says how they are named in the legend; otherwise they are shown as they print.
    steps : int
        At least 1.  Of more than 2,000 steps an even selection is drawn, the last among them.
    ax : matplotlib.axes.Axes, optional
        Where to draw.  Default: a new figure, without a window; ``ax.figure.savefig(path)`` keeps it.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If a schedule has no value at a step; nothing has been drawn.
    """
    steps = read_steps("plot: steps", steps)
    if callable(schedules):
        schedules = [schedules]
    if not isinstance(schedules, Mapping):
        schedules = dict(zip(map(repr, schedules), schedules, strict=True))
    if not schedules:
        raise ShapeError("plot: there is no schedule to draw")
    count = min(steps, POINTS)
    at = sorted({i * (steps - 1) // max(1, count - 1) for i in range(count)})
    curves = {name: [float(schedule(n)) for n in at] for name, schedule in schedules.items()}
    if ax is None:
        ax = _new_axes()
    for name, values in curves.items():
        label = name if len(name) <= LABEL else name[: LABEL - 1] + "…"
        ax.plot(at, values, label=label, drawstyle="steps-post" if steps <= 50 else "default")
    ax.set_xlabel("updates made so far")
    ax.set_ylabel("value")
    ax.set_xlim(0, max(1, steps - 1))
    ax.margins(y=0.05)
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small").set_in_layout(False)
    return ax


def _new_axes() -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("schedules.plot needs matplotlib: pip install fastgd[cli]") from None
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()
