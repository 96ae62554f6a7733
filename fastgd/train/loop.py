"""The training loop: steps, evaluations, what is reported, what is saved, and how it ends.

A step is compiled once and replayed; between two steps the loop looks at the loss, the clock and the signals, and
does nothing else. It assumes that the model, the optimizer and the loader carry all state, so that a checkpoint of
the three and the random state is the whole of a run.
"""

from __future__ import annotations

import itertools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import fastgd as gd

from .._core import NonFiniteError, ShapeError
from ..data import ArrayLoader
from .checkpoint import CheckpointError, load_checkpoint
from .metrics import Metric
from .progress import Listener
from .runlog import RunFolder

__all__ = ["Evaluator", "FitResult", "NonFiniteLossError", "fit", "restore", "training_step"]

REPORT_SECONDS = 0.1
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class NonFiniteLossError(NonFiniteError):
    """The loss became NaN or infinite: training diverged, or the data has such values."""


@dataclass
class FitResult:
    """What came out of :func:`fit`.

    Attributes
    ----------
    step : int
        Updates made, those of earlier calls included.
    seconds : float
        Wall time of this call.
    samples_per_second : float
        Training samples over the time spent training: evaluations and saving are left out.
    figures : dict of str to float
        The last evaluation.
    signal : int
        The signal that ended training early, or 0.
    checkpoint : Path or None
        The last one saved.
    """

    step: int = 0
    seconds: float = 0.0
    samples_per_second: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    signal: int = 0
    checkpoint: Path | None = None


def training_step(model: Any, loss: Callable, optimizer: Any) -> Callable:
    """Return the compiled function (x, y) -> (loss, output) that makes one update."""

    @gd.compile
    def step(x: Any, y: Any) -> tuple[Any, Any]:
        output = model(x)
        value = loss(output, y)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return value.detach(), output.detach()

    return step


class Evaluator:
    """Loss and metric of a model over a whole data set, in evaluation mode and without gradients.

    Parameters
    ----------
    model, loss
        As for :func:`fit`; the loss is a mean over the samples of a batch.
    arrays : tuple of ndarray
        Inputs and targets.
    metric : Metric, optional
    batch_size : int
        Only for speed and memory.
    """

    def __init__(
        self,
        model: Any,
        loss: Callable,
        arrays: Sequence[np.ndarray],
        metric: Metric | None = None,
        batch_size: int = 1024,
    ) -> None:
        self.model = model
        self.metric = metric
        self.loader = ArrayLoader(arrays, batch_size, shuffle=False)

        @gd.compile
        def forward(x: Any, y: Any) -> tuple[Any, Any]:
            output = model(x)
            return loss(output, y), output

        self._forward = forward

    def __call__(self) -> dict[str, float]:
        """Return {"loss": ..., metric's name: ...}; the model's mode is left as it was."""
        training = self.model.training
        self.model.eval()
        try:
            with gd.no_grad():
                return self._run()
        finally:
            self.model.train(training)

    def _run(self) -> dict[str, float]:
        window = Window(self.metric)
        for x, y in self.loader:
            value, output = self._forward(x, y)
            window.add(value.item(), output, y)
        return window.figures()


class Window:
    """Mean loss and metric over the batches since the last reset."""

    def __init__(self, metric: Metric | None) -> None:
        self.metric = metric
        self.reset()

    def reset(self) -> None:
        self.samples, self.total = 0, 0.0
        if self.metric is not None:
            self.metric.reset()

    def add(self, loss: float, output: Any, target: np.ndarray) -> None:
        self.samples += len(target)
        self.total += loss * len(target)
        if self.metric is not None:
            self.metric.update(np.asarray(output), target)

    def figures(self, prefix: str = "") -> dict[str, float]:
        if not self.samples:
            return {}
        figures = {f"{prefix}loss": self.total / self.samples}
        if self.metric is not None:
            figures[f"{prefix}{self.metric.name}"] = self.metric.compute()
        return figures


def fit(
    model: Any,
    loss: Callable,
    optimizer: Any,
    loader: ArrayLoader,
    steps: int,
    *,
    first_step: int = 0,
    evaluate: Callable[[], dict[str, float]] | None = None,
    evaluate_every: int = 0,
    metric: Metric | None = None,
    listeners: Sequence[Listener] = (),
    run: RunFolder | None = None,
    checkpoint_seconds: float = 30.0,
    extra_state: Mapping[str, Any] | None = None,
) -> FitResult:
    """Train until `steps` updates are made or a signal asks to stop.

    SIGINT and SIGTERM let the step that is running finish; a checkpoint is saved, and the result says which signal it
    was. A second signal raises KeyboardInterrupt at once.

    Parameters
    ----------
    model : nn.Module
    loss : callable
        (output, target) -> scalar tensor, a mean over the batch.
    optimizer : optim.Optimizer
    loader : ArrayLoader
        Yields (x, y); starts at its own position.
    steps : int
        Number of updates, those of an earlier call included.
    first_step : int
        Updates made by earlier calls, as :func:`restore` returns it.
    evaluate : callable, optional
        Returns figures of the test data, for example an :class:`Evaluator`. Called before the first update, every
        `evaluate_every` updates, and after the last.
    evaluate_every : int
        0: at both ends only.
    metric : Metric, optional
        For the training batches; figures are means since the last evaluation.
    listeners : sequence of Listener
    run : RunFolder, optional
        Where rows and checkpoints go. Checkpoints are saved at the end, and at evaluations if the last one is
        `checkpoint_seconds` old.
    checkpoint_seconds : float
    extra_state : mapping, optional
        Goes into each checkpoint beside the model, optimizer, loader and random state.

    Raises
    ------
    NonFiniteLossError
        Names step and learning rate, what to try, and the checkpoint that is left. Nothing is saved after it.
    """
    if not 0 <= first_step <= steps:
        raise ShapeError(f"fit: first_step must be between 0 and steps = {steps}, got {first_step}")
    session = _Session(
        model, optimizer, loader, steps, first_step, evaluate, metric, listeners, run, checkpoint_seconds, extra_state
    )
    try:
        with _catch_signals() as caught:
            session.train(training_step(model, loss, optimizer), evaluate_every or steps, caught)
    finally:
        for listener in listeners:
            listener.close()
    return session.result


def restore(folder: str | Path, model: Any, optimizer: Any, loader: ArrayLoader) -> tuple[int, dict[str, Any]]:
    """Put everything back to where a checkpoint of :func:`fit` was saved; all of it or nothing.

    Returns
    -------
    step : int
        For `first_step` of :func:`fit`; training then goes on with the same bits as if it had never stopped.
    state : dict
        All that was saved beside the weights, `extra_state` included.

    Raises
    ------
    CheckpointError
        The checkpoint is damaged, or is not one of :func:`fit`.
    ValueError
        It is of another model, optimizer or data. Nothing has been changed.
    """
    tensors, state = load_checkpoint(folder)
    absent = [key for key in ("step", "optimizer", "loader", "random") if key not in state]
    if absent:
        raise CheckpointError(f"{folder}: not a checkpoint of a training run: it lacks {', '.join(absent)}")
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with ExitStack() as undo:
        undo.callback(model.load_state_dict, weights)
        undo.callback(loader.load_state_dict, loader.state_dict())
        undo.callback(gd.random.set_state, gd.random.get_state())
        model.load_state_dict(tensors)
        loader.load_state_dict(state["loader"])
        gd.random.set_state(state["random"])
        optimizer.load_state_dict(state["optimizer"])  # last: the largest to keep a copy of, and needs none
        undo.pop_all()
    return state["step"], state


@dataclass
class _Session:
    """The variables of one call of :func:`fit`."""

    model: Any
    optimizer: Any
    loader: ArrayLoader
    steps: int
    first_step: int
    evaluate: Callable[[], dict[str, float]] | None
    metric: Metric | None
    listeners: Sequence[Listener]
    run: RunFolder | None
    checkpoint_seconds: float
    extra_state: Mapping[str, Any] | None

    def __post_init__(self) -> None:
        self.result = FitResult(step=self.first_step)
        self.window = Window(self.metric)
        self.started = time.perf_counter()
        self.training = 0.0  # seconds spent in steps, and the samples seen in them
        self.samples = 0
        self.saved = -math.inf

    def train(self, step: Callable, evaluate_every: int, caught: list[int]) -> None:
        self.evaluation()
        batches = itertools.chain.from_iterable(itertools.repeat(self.loader))
        clock = reported = time.perf_counter()
        while self.result.step < self.steps and not caught:
            x, y = next(batches)
            value, output = step(x, y)
            loss = value.item()
            if not math.isfinite(loss):
                raise NonFiniteLossError(self.divergence(loss))
            self.window.add(loss, output, y)
            self.result.step += 1
            self.samples += len(y)
            now = time.perf_counter()
            self.training += now - clock
            clock = now
            if self.result.step % evaluate_every == 0 or self.result.step == self.steps:
                self.evaluation()
                clock = reported = time.perf_counter()
            elif now - reported >= REPORT_SECONDS:
                self.tell("on_step", self.row())
                reported = now
        if caught:
            self.result.signal = caught[0]
        self.save()
        self.result.seconds = time.perf_counter() - self.started

    def row(self) -> dict[str, Any]:
        """Return where training is, in the order in which people want to read it."""
        done = self.result.step
        here = done - self.first_step
        rate = self.samples / self.training if self.training else 0.0
        self.result.samples_per_second = rate
        return {
            "step": done,
            "epoch": self.loader.epoch + self.loader.position / self.loader.samples,
            "seconds": round(time.perf_counter() - self.started, 4),
            "lr": current_lr(self.optimizer, self.result.step),
            **self.window.figures("train_"),
            "samples_per_second": rate,
            "eta": (self.steps - done) * self.training / here if here else None,
        }

    def evaluation(self) -> None:
        """Evaluate, report, and save if it is time to."""
        row = self.row()
        if self.evaluate is not None:
            self.result.figures = self.evaluate()
            row.update({f"test_{name}": value for name, value in self.result.figures.items()})
        if self.run is not None:
            self.run.log({key: value for key, value in row.items() if key != "eta"})
        self.tell("on_evaluation", row)
        if not math.isfinite(self.result.figures.get("loss", 0.0)):
            raise NonFiniteLossError(self.divergence(self.result.figures["loss"]))
        self.window.reset()
        if time.perf_counter() - self.saved >= self.checkpoint_seconds:
            self.save()

    def save(self) -> None:
        if self.run is None:
            return
        state = {
            "step": self.result.step,
            "optimizer": self.optimizer.state_dict(),
            "loader": self.loader.state_dict(),
            "random": gd.random.get_state(),
            **(self.extra_state or {}),
        }
        self.result.checkpoint = self.run.checkpoint(self.result.step, self.model.state_dict(), state)
        self.saved = time.perf_counter()

    def tell(self, event: str, row: dict[str, Any]) -> None:
        for listener in self.listeners:
            getattr(listener, event)(row)

    def divergence(self, loss: float) -> str:
        lr = current_lr(self.optimizer, self.result.step)
        text = (
            f"the loss became {loss} at step {self.result.step} (learning rate {lr:.3g}). Try a tenth of the learning "
            f"rate, a longer warmup or gradient clipping, and look for extreme values in the data."
        )
        if self.result.checkpoint is not None:
            text += f" The last checkpoint before it: {self.result.checkpoint}"
        return text


def current_lr(optimizer: Any, step: int) -> float:
    """Return the learning rate of the first parameter group for update number `step`."""
    lr = optimizer.param_groups[0]["lr"]
    return float(lr(step) if callable(lr) else lr)


@contextmanager
def _catch_signals() -> Iterator[list[int]]:
    """Collect signals instead of dying of them; a second one raises KeyboardInterrupt. Main thread only."""
    caught: list[int] = []

    def note(number: int, frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    # What the parent process told us to ignore (nohup, a background job) stays ignored.
    ours = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]
    for number in ours:
        signal.signal(number, note)
    try:
        yield caught
    finally:
        for number in ours:
            signal.signal(number, before[number])
