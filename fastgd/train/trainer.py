"""Trainer: updates, evaluations, what is reported, what is saved, and how it ends.

Model, optimizer, loader, averages and random state carry all state of a run, so a checkpoint of them is the whole
of it. Between two steps the loop looks at the clock and at the signals and does nothing else; losses are read together
when somebody wants to know.
"""

from __future__ import annotations

import math
import os
import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import _core, random
from .._core import NonFiniteError, ShapeError
from .callbacks import Callback, EarlyStopping, TensorBoard, is_better
from .checkpoint import CheckpointError, latest_checkpoint, list_checkpoints, load_checkpoint
from .evaluate import Evaluator, Window, as_batch, as_loader
from .metrics import Metric
from .progress import bar_or_lines
from .runlog import RunFolder, checkpoint_folder
from .saver import Saver, Snapshot
from .signals import Cancelled, Stop, catch_signals
from .step import EMA, TrainingStep, check_precision

__all__ = ["FitResult", "NonFiniteLossError", "Trainer"]

REPORT_SECONDS = 0.1
MAX_SKIPPED = 100  # in a row
PARTS = ("step", "optimizer", "loader", "random", "ema", "window", "best", "callbacks")


class NonFiniteLossError(NonFiniteError):
    """The loss or a gradient became NaN or infinite: training diverged, or the data has such values."""


@dataclass
class FitResult:
    """What came out of :meth:`Trainer.fit`.

    Attributes
    ----------
    step, first_step : int
        Updates made, those of earlier calls included, and those of earlier calls alone.
    seconds : float
        Wall time of this call.
    samples_per_second : float
        Training samples over the time spent training: evaluations are left out.
    figures : dict of str to float
        The last evaluation.
    best : dict or None
        ``{"step": ..., "value": ...}`` of the best evaluation, by `monitor`.
    skipped : int
        Steps left out because of gradients that were not finite.
    signal : int
        The signal that ended training early, or 0.
    stopped_early : bool
        A callback asked to end.
    checkpoint : Path or None
        The last one saved.
    """

    step: int = 0
    first_step: int = 0
    seconds: float = 0.0
    samples_per_second: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    skipped: int = 0
    signal: int = 0
    stopped_early: bool = False
    checkpoint: Path | None = None


class Trainer:
    """Trains a model.

    >>> trainer = gd.Trainer(model, F.cross_entropy, optim.AdamW(model.parameters(), lr=3e-3), (x, y))
    >>> trainer.fit(epochs=10)

    Parameters
    ----------
    model : nn.Module
    loss : callable or None
        ``loss(model(input), target)``, a scalar tensor; a mean over the batch. None: ``model(input, target)`` returns
        the loss, or the loss and an output, as language models do.
    optimizer : optim.Optimizer
        Its learning rate may be a schedule.
    data
        What to train on: arrays ``(x, y)``, a :class:`fastgd.data.Dataset`, a :class:`fastgd.data.Loader`, a
        :class:`fastgd.utils.data.DataLoader`, or any iterable of batches ``(input, target)`` that can be gone through
        again, such as a list or a generator function.
    evaluate : optional
        Held-out data in the same forms, or a function that returns ``{"loss": ..., name: ...}``.
    batch_size : int
        For arrays.
    seed : int
        Of the order of arrays. Weights and dropout are drawn from :func:`fastgd.manual_seed`'s generator.
    metrics, train_metrics : sequence of Metric
        For the held-out data, and for the training batches (which costs a look at each output).
    evaluate_every : int, optional
        Updates between evaluations; default: an epoch, or nothing but both ends if its length is not known.
    evaluate_batch_size : int, optional
        Only speed and memory depend on it; default: four times `batch_size`.
    accumulate : int
        Batches for each update. Together they count as one large batch, whatever their sizes; groups do not go
        beyond an epoch. (Layers that look at a whole batch, such as batch normalisation, still see the parts.)
    clip_norm, clip_value : float, optional
        Limits of the norm of all gradients together, and of each element.
    ema : float, optional
        Decay of a moving average of the weights, which is then what is evaluated; see ``trainer.ema``.
    precision : {"fp32"}
    on_nonfinite : {"raise", "skip", "warn"}
        What to do when a gradient is not finite. raise and skip look before anything is written, so model and optimizer
        stay as they were; after 100 skipped steps in a row training ends with the error. warn goes on, and says so.
    monitor : str
        The figure of the evaluation that says which checkpoint is best; "loss" or a metric's name.
    early_stopping : int, optional
        End after so many evaluations without a new best.
    run : str, path, RunFolder or None
        Folder for the log and the checkpoints. None: nothing is written.
    keep : int
        How many of the newest checkpoints stay. The best stays besides.
    checkpoint_seconds, checkpoint_every : float, int or None
        Save when so many seconds or updates have passed since the last time, and at the end.
    callbacks : sequence of Callback
    progress : bool
        A bar on a terminal, lines elsewhere, on standard error.
    tensorboard : bool
        Scalars for TensorBoard in the run folder; needs the extra ``tensorboard``.
    compiled : bool
        False: run operation by operation, for debugging; same bits.
    extra_state : mapping, optional
        Goes into each checkpoint.
    """

    def __init__(
        self,
        model: Any,
        loss: Callable | None,
        optimizer: Any,
        data: Any,
        *,
        evaluate: Any = None,
        batch_size: int = 64,
        seed: int = 0,
        metrics: Sequence[Metric] = (),
        train_metrics: Sequence[Metric] = (),
        evaluate_every: int | None = None,
        evaluate_batch_size: int | None = None,
        accumulate: int = 1,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        ema: float | None = None,
        precision: str = "fp32",
        on_nonfinite: str = "raise",
        monitor: str = "loss",
        early_stopping: int | None = None,
        run: str | Path | RunFolder | None = None,
        keep: int = 2,
        checkpoint_seconds: float | None = 30.0,
        checkpoint_every: int | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = False,
        tensorboard: bool = False,
        compiled: bool = True,
        extra_state: Mapping[str, Any] | None = None,
    ) -> None:
        check_precision(precision)
        _choice("on_nonfinite", on_nonfinite, ("raise", "skip", "warn"))
        for name, number in (("accumulate", accumulate), ("batch_size", batch_size), ("keep", keep)):
            _at_least_one(name, number)
        for name, value in (
            ("evaluate_every", evaluate_every),
            ("evaluate_batch_size", evaluate_batch_size),
            ("early_stopping", early_stopping),
            ("checkpoint_every", checkpoint_every),
        ):
            if value is not None:
                _at_least_one(name, value)
        if early_stopping is not None and evaluate is None:
            raise ShapeError("Trainer: early_stopping needs evaluate, held-out data to judge by")
        self.model, self.optimizer = model, optimizer
        self.loader = as_loader(data, batch_size, shuffle=True, seed=seed)
        self.ema = EMA(model, ema) if ema is not None else None
        self.accumulate, self.on_nonfinite = accumulate, on_nonfinite
        self.evaluate_every = evaluate_every
        self.checkpoint_seconds, self.checkpoint_every = checkpoint_seconds, checkpoint_every
        self.window = Window(loss if loss is not None else model, train_metrics)
        self.training_step = TrainingStep(
            model,
            loss,
            optimizer,
            clip_norm=clip_norm,
            clip_value=clip_value,
            ema=self.ema,
            check_finite=on_nonfinite != "warn",
            with_outputs=self.window.needs_output,
            compiled=compiled,
        )
        self.evaluate = evaluate
        if evaluate is not None and not _returns_figures(evaluate):
            size = evaluate_batch_size or 4 * batch_size
            self.evaluate = Evaluator(model, loss, evaluate, metrics, size, self.ema, compiled)
        by_name = {metric.name: metric for metric in metrics}
        greater = monitor in by_name and by_name[monitor].greater_is_better
        if monitor != "loss" and monitor not in by_name and isinstance(self.evaluate, Evaluator):
            raise ShapeError(f"Trainer: monitor must be loss or a metric, got {monitor!r}")
        self.monitor, self.greater_is_better = monitor, greater
        self.run = run if isinstance(run, RunFolder) or run is None else RunFolder(run)
        self.saver = Saver(self.run, keep) if self.run is not None else None
        self.callbacks = list(callbacks)
        if early_stopping is not None:
            self.callbacks.append(EarlyStopping(early_stopping, f"test_{monitor}", greater))
        if tensorboard:
            if self.run is None:
                raise ShapeError("Trainer: tensorboard needs run, a folder to write to")
            self.callbacks.append(TensorBoard(self.run.path / "tensorboard"))
        self.progress = progress
        self.extra_state = dict(extra_state or {})
        self.best: dict[str, Any] | None = None
        self.step = 0
        self.evaluated = -1  # the step of the last evaluation that was finished

    # ---- the loop ----

    def fit(self, steps: int | None = None, epochs: int | None = None) -> FitResult:
        """Train until so many updates, or passes over the data, are made in all: earlier calls count.

        SIGINT and SIGTERM let the step that is running finish; everything is saved, and the result says which signal it
        was. A second signal raises KeyboardInterrupt at once.

        Raises
        ------
        NonFiniteLossError
            Names step, learning rate and tensor, what to try, and the checkpoint that is left.
        OSError
            The last checkpoint could not be written. (During training that is a warning, and training goes on.)
        """
        if (steps is None) == (epochs is None):
            raise ShapeError("fit: expected either steps or epochs")
        for name, value in (("steps", steps), ("epochs", epochs)):
            if value is not None:
                _at_least_one(name, value)
        return _Session(self, steps, epochs).run()

    def updates_in_epoch(self) -> int | None:
        """Updates in a whole epoch, None if the data does not know its length."""
        try:
            return -(-len(self.loader) // self.accumulate)  # type: ignore[arg-type]
        except TypeError:
            return None

    # ---- state ----

    def snapshot(self) -> Snapshot:
        """Copy everything that a run is made of."""
        state = {
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "loader": self.loader.state_dict(),
            "random": random.get_state(),
            "ema": _copied(self.ema.state_dict()) if self.ema is not None else None,
            "window": _copied(self.window.state_dict()),
            "best": None if self.best is None else dict(self.best),
            "evaluated": self.evaluated,
            "callbacks": [[type(c).__name__, c.state_dict()] for c in self.callbacks if c.state_dict()],
            "ran_on": {"tier": _core.current_tier(), "threads": _core.get_num_threads()},
            **self.extra_state,
        }
        tensors = {name: np.array(value) for name, value in self.model.state_dict().items()}
        return Snapshot(self.step, tensors, state)

    def restore(self, checkpoint: str | Path) -> dict[str, Any]:
        """Put everything back to where a checkpoint was saved; all of it or nothing.

        Training then goes on with the same bits as if it had never stopped, on the same tier.

        Returns
        -------
        dict
            All that was saved beside the weights, `extra_state` included.

        Raises
        ------
        CheckpointError
            The checkpoint is damaged, is not one of a Trainer, or is of another model, optimizer or data. Nothing has
            been changed.
        """
        tensors, state = load_checkpoint(checkpoint)
        absent = [key for key in PARTS if key not in state]
        if absent:
            raise CheckpointError(f"{checkpoint}: not a checkpoint of a training run: it lacks {', '.join(absent)}")
        if (state["ema"] is None) != (self.ema is None):
            raise CheckpointError(f"{checkpoint}: saved {'without' if self.ema else 'with'} ema; use the same settings")
        weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        averages: Any = _copied(self.ema.state_dict()) if self.ema is not None else None
        try:
            with ExitStack() as undo:
                undo.callback(self.model.load_state_dict, weights)
                undo.callback(self.loader.load_state_dict, self.loader.state_dict())
                undo.callback(random.set_state, random.get_state())
                self.model.load_state_dict(tensors)
                self.loader.load_state_dict(state["loader"])
                random.set_state(state["random"])
                if self.ema is not None:
                    undo.callback(self.ema.load_state_dict, averages)
                    self.ema.load_state_dict(state["ema"])
                step = int(state["step"])
                self.optimizer.load_state_dict(state["optimizer"])  # last: the largest to copy, and needs no copy
                undo.pop_all()
        except (ValueError, TypeError, KeyError) as error:
            text = str(error)
            raise CheckpointError(f"{checkpoint}: of another model, optimizer or data: {text}") from None
        self.step, self.best = step, state["best"]
        self.evaluated = state.get("evaluated", step)
        self.window.load_state_dict(state["window"])
        saved = dict(state["callbacks"])
        for callback in self.callbacks:
            if type(callback).__name__ in saved:
                callback.load_state_dict(saved[type(callback).__name__])
        self._warn_of_differences(checkpoint, state)
        return state

    def resume(self) -> Path:
        """Go on from the newest checkpoint of the run folder that can be loaded.

        Newer ones that are damaged are renamed, and the log is cut behind the checkpoint's step.

        Returns
        -------
        Path
            The checkpoint.

        Raises
        ------
        CheckpointError
            There is none.
        """
        if self.run is None:
            raise ShapeError("resume: the trainer has no run folder")
        found = latest_checkpoint(self.run.path)
        if found is None:
            raise CheckpointError(f"{self.run.path}: no checkpoint has been saved there; nothing to resume")
        self.restore(found)
        for newer in list_checkpoints(self.run.path):
            if newer.name > found.name:
                os.rename(newer, newer.with_name(f"damaged-{newer.name}-{secrets.token_hex(2)}"))
        self.run.rewind(self.step)
        if self.saver is not None:
            self.saver.newest = found
        return found

    def _warn_of_differences(self, checkpoint: str | Path, state: dict[str, Any]) -> None:
        tier = (state.get("ran_on") or {}).get("tier")
        if tier is not None and tier != _core.current_tier():
            text = f"{checkpoint}: made on tier {tier}, this is {_core.current_tier()}: results will differ in rounding"
            warnings.warn(text, RuntimeWarning, stacklevel=3)
        for now, saved in zip(self.optimizer._packed_groups(), state["optimizer"]["param_groups"], strict=True):
            for name, text in saved.get("schedules", {}).items():
                if text != now["schedules"][name]:
                    text = f"{checkpoint}: its schedule of {name} was {text}, now it is {now['schedules'][name]}"
                    warnings.warn(text, RuntimeWarning, stacklevel=3)


class _Session:
    """The variables of one call of :meth:`Trainer.fit`."""

    def __init__(self, trainer: Trainer, steps: int | None, epochs: int | None) -> None:
        self.trainer = trainer
        self.loader = trainer.loader
        self.epochs = epochs
        in_epoch = trainer.updates_in_epoch()
        self.steps = epochs * in_epoch if epochs is not None and in_epoch is not None else steps
        self.evaluate_every = trainer.evaluate_every or in_epoch
        self.first_step = trainer.step
        self.callbacks = list(trainer.callbacks)
        if trainer.progress:
            self.callbacks.append(bar_or_lines(self.steps))
        self.result = FitResult(step=trainer.step, first_step=trainer.step)
        self.started = time.perf_counter()
        self.training = 0.0  # seconds spent in steps, and the samples seen in them
        self.samples = 0
        self.saved_at = self.started
        self.saved_step = -1 if trainer.step == 0 else trainer.step
        self.refused = 0  # steps in a row

    def run(self) -> FitResult:
        trainer = self.trainer
        try:
            with catch_signals() as stop:
                self.train(stop)
                self.finish(stop)
        finally:
            for callback in self.callbacks:
                callback.close()
            if trainer.saver is not None:
                trainer.saver.close()
                trainer.saver._thread, trainer.saver._closed = None, False
        return self.result

    @property
    def done(self) -> bool:
        """Whether the number of updates or epochs is reached."""
        if self.steps is not None:
            return self.trainer.step >= self.steps
        return self.epochs is not None and self.loader.epoch >= self.epochs

    def groups(self) -> Iterator[list[tuple[Any, ...]]]:
        """Batches for one update after the other, never from two epochs."""
        size = self.trainer.accumulate
        while True:
            epoch, group = self.loader.epoch, []
            for batch in self.loader:
                group.append(as_batch(batch))
                if len(group) == size or self.loader.epoch != epoch:
                    yield group
                    group = []

    def train(self, stop: Stop) -> None:
        trainer, loader, window = self.trainer, self.loader, self.trainer.window
        step = trainer.training_step
        # At the beginning, and where a signal cut an evaluation short.
        if trainer.evaluated != trainer.step and trainer.step % (self.evaluate_every or trainer.step + 1) == 0:
            self.evaluation(stop)
        groups = self.groups()
        clock = reported = time.perf_counter()
        while not stop and not self.done and not self.result.stopped_early:
            before = (loader.epoch, loader.position, random.get_state(), trainer.optimizer._updates)
            batches = next(groups)
            stop.cancellable = True
            try:
                results = step(batches)
            except NonFiniteError as error:
                self.refuse(error)
                results = []
            except Cancelled:
                if not self.undo(before):
                    trainer.step += 1
                break
            finally:
                stop.cancellable = False
            for (loss, output, _), batch in zip(results, batches, strict=False):
                window.add(loss, output, batch)
                self.samples += len(batch[0])
            self.refused = 0 if results else self.refused
            trainer.step += 1
            now = time.perf_counter()
            self.training += now - clock
            clock = now
            if self.evaluate_every is not None and trainer.step % self.evaluate_every == 0:
                self.evaluation(stop)
                clock = reported = time.perf_counter()
            elif now - reported >= REPORT_SECONDS:
                self.tell("on_step", self.row())
                reported = now
            if self.is_due(now):
                self.save()
        groups.close()  # type: ignore[attr-defined]

    def undo(self, before: tuple[int, int, Any, int]) -> bool:
        """After a step that was cut short: the data goes back to before it, unless its update was made after all."""
        epoch, position, state, updates = before
        self.trainer.optimizer.zero_grad()
        if self.trainer.optimizer._updates != updates:
            return False
        self.loader.epoch, self.loader.position = epoch, position
        random.set_state(state)
        return True

    def finish(self, stop: Stop) -> None:
        trainer = self.trainer
        if not stop and trainer.step == self.first_step > 0:  # nothing was left to do
            self.result.figures = (self.figures(stop) if trainer.evaluate is not None else None) or {}
        elif not stop and trainer.evaluated != trainer.step:
            self.evaluation(stop)
        self.check_losses()
        self.result.signal = stop.number
        self.result.step, self.result.best = trainer.step, trainer.best
        if trainer.saver is not None:
            if self.saved_step != trainer.step:
                self.save()
            trainer.saver.wait()
            error = trainer.saver.error()
            newest = self.result.checkpoint = trainer.saver.newest
            if error is not None and newest == checkpoint_folder(trainer.saver.run.path, trainer.step):
                self.warn_of(error)  # an earlier one was lost, this one was not
            elif error is not None:
                raise OSError(f"the last checkpoint could not be written: {error}{self.left()}")
        self.result.seconds = time.perf_counter() - self.started

    # ---- what is reported ----

    def row(self) -> dict[str, Any]:
        """Return where training is, in the order in which people want to read it."""
        self.check_losses()
        done = self.trainer.step
        here = done - self.first_step
        rate = self.samples / self.training if self.training else 0.0
        self.result.samples_per_second = rate
        row = {
            "step": done,
            "epoch": self.loader.progress,
            "seconds": round(time.perf_counter() - self.started, 4),
            "lr": current_lr(self.trainer.optimizer),
            **self.trainer.window.figures("train_"),
            "samples_per_second": rate,
            "eta": (self.steps - done) * self.training / here if here and self.steps is not None else None,
        }
        return row | ({"skipped": self.result.skipped} if self.result.skipped else {})

    def evaluation(self, stop: Stop) -> None:
        """Evaluate, report, note the best."""
        trainer = self.trainer
        row = self.row()
        if trainer.evaluate is not None:
            figures = self.figures(stop)
            if figures is None:
                return
            self.result.figures = figures
            row.update({f"test_{name}": value for name, value in figures.items()})
        self.log({key: value for key, value in row.items() if key != "eta"})
        self.result.stopped_early = self.tell("on_evaluation", row)
        if trainer.on_nonfinite != "warn" and not math.isfinite(self.result.figures.get("loss", 0.0)):
            loss = self.result.figures["loss"]
            raise NonFiniteLossError(self.divergence(f"the loss of the held-out data became {loss}"))
        trainer.window.reset()
        trainer.evaluated = trainer.step
        self.note_best()

    def log(self, row: dict[str, Any]) -> None:
        if self.trainer.run is None:
            return
        try:
            self.trainer.run.log(row)
        except OSError as error:
            warnings.warn(
                f"a row of the log could not be written, training goes on: {error}", RuntimeWarning, stacklevel=6
            )

    def figures(self, stop: Stop) -> dict[str, float] | None:
        evaluate = self.trainer.evaluate
        if not isinstance(evaluate, Evaluator):
            return evaluate()
        stop.cancellable = True
        try:
            return evaluate(lambda: bool(stop))
        except Cancelled:
            return None
        finally:
            stop.cancellable = False

    def note_best(self) -> None:
        trainer = self.trainer
        value = self.result.figures.get(trainer.monitor)
        if trainer.evaluate is None or value is None or trainer.step == 0:
            return
        if is_better(value, trainer.best["value"] if trainer.best else None, trainer.greater_is_better):
            trainer.best = {"step": trainer.step, "monitor": trainer.monitor, "value": value}
            if trainer.saver is not None:
                trainer.saver.hold(trainer.snapshot())

    def tell(self, event: str, row: dict[str, Any]) -> bool:
        """Tell all callbacks; return whether one of them wants to end."""
        answers = [getattr(callback, event)(row) for callback in self.callbacks]
        return any(answers)

    # ---- what is saved ----

    def is_due(self, now: float) -> bool:
        trainer = self.trainer
        if trainer.saver is None:
            return False
        if trainer.checkpoint_every is not None and trainer.step % trainer.checkpoint_every == 0:
            return True
        return trainer.checkpoint_seconds is not None and now - self.saved_at >= trainer.checkpoint_seconds

    def save(self) -> None:
        """Hand a copy to the thread that writes; say so if an earlier one could not be written."""
        saver = self.trainer.saver
        assert saver is not None
        self.check_losses()  # nothing is saved after a loss that was not finite
        error = saver.error()
        if error is not None:
            self.warn_of(error)
        saver.submit(self.trainer.snapshot())
        self.saved_at, self.saved_step = time.perf_counter(), self.trainer.step

    def warn_of(self, error: OSError) -> None:
        text = f"a checkpoint could not be written, training goes on: {error}{self.left()}"
        warnings.warn(text, RuntimeWarning, stacklevel=6)

    def left(self) -> str:
        saver = self.trainer.saver
        return f". The newest checkpoint: {saver.newest}" if saver is not None and saver.newest is not None else ""

    # ---- what is not finite ----

    def refuse(self, error: NonFiniteError) -> None:
        """A step was not made: raise, or count it."""
        self.refused += 1
        what = f"{self.trainer.training_step.culprit(error)} is not finite"
        if self.trainer.on_nonfinite == "raise":
            raise NonFiniteLossError(self.divergence(what)) from None
        self.result.skipped += 1
        if self.refused >= MAX_SKIPPED:
            raise NonFiniteLossError(self.divergence(f"{what}, for the {MAX_SKIPPED}th time in a row")) from None

    def check_losses(self) -> None:
        window = self.trainer.window
        window.read()
        if math.isfinite(window.total):
            return
        what = f"the loss became {window.total}"
        if self.trainer.on_nonfinite == "warn":
            warnings.warn(self.divergence(what), RuntimeWarning, stacklevel=5)
            window.reset()
        else:
            raise NonFiniteLossError(self.divergence(what))

    def divergence(self, what: str) -> str:
        step, lr = self.trainer.step, current_lr(self.trainer.optimizer)
        text = (
            f"{what} at step {step} (learning rate {lr:.3g}). Try a tenth of the learning rate, a longer warmup or "
            f"gradient clipping, and look for extreme values in the data."
        )
        if self.trainer.saver is not None:
            self.trainer.saver.wait()
        return text + self.left()


def current_lr(optimizer: Any) -> float:
    """Return the learning rate of the first parameter group for the next update."""
    lr = optimizer.param_groups[0]["lr"]
    return float(lr(optimizer._updates) if callable(lr) else lr)


def _returns_figures(evaluate: Any) -> bool:
    """A function that evaluates, as opposed to one that makes batches."""
    import inspect

    return isinstance(evaluate, Evaluator) or (callable(evaluate) and not inspect.isgeneratorfunction(evaluate))


def _copied(state: Any) -> Any:
    """A copy of nested dictionaries and lists, tensors and arrays included."""
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_copied(value) for value in state)
    return np.array(state) if hasattr(state, "__array__") and not np.isscalar(state) else state


def _choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ShapeError(f"Trainer: {name} must be one of {', '.join(choices)}, got {value!r}")


def _at_least_one(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ShapeError(f"{name}: expected a whole number of at least 1, got {value!r}")
