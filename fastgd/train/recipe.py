"""From settings to a trained network: what a :class:`TrainConfig` means, and nothing else.

Classification minimises the cross-entropy, regression the mean squared error of standardized targets.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastgd as gd

from .. import nn
from ..data import (
    ArrayLoader,
    Dataset,
    Preprocessor,
    Split,
    load_dataset,
    load_digits,
    load_fashion_mnist,
    train_test_split,
)
from .callbacks import Callback
from .checkpoint import CheckpointError, best_checkpoint, latest_checkpoint, load_checkpoint
from .config import TrainConfig
from .evaluate import Evaluator
from .metrics import METRICS, Metric
from .registry import MODELS, OPTIMIZERS, build_schedule
from .runlog import RunFolder, checkpoint_folder, read_config
from .trainer import FitResult, Trainer

__all__ = ["check", "evaluate_run", "load_data", "resume", "train"]


def load_data(config: TrainConfig) -> Split:
    """Return the data to train on and the data to test on."""
    data = config.data
    if data.source == "digits":
        return load_digits()
    if data.source == "fashion-mnist":
        return load_fashion_mnist()
    whole = load_dataset(data.source, data.target, data.task, data.categorical, data.ignore)
    return train_test_split(whole, data.test_fraction, config.seed)


def train(config: TrainConfig, split: Split, run: RunFolder, progress: bool = True) -> FitResult:
    """Train as `config` says, and leave everything in `run`."""
    trainer = prepare(config, split, run, progress)
    run.write_config({"config": config.to_dict(), "data": summary(split), "ran_on": environment()})
    return trainer.fit(config.training.steps, config.training.epochs)


def resume(
    config: TrainConfig,
    split: Split,
    run: RunFolder,
    progress: bool = True,
    tell: Callable[[Path], None] = lambda checkpoint: None,
) -> FitResult:
    """Go on with a run from its newest checkpoint, as `config` says; `tell` learns which it is."""
    saved = read_config(run.path)
    now = summary(split)
    if saved.get("data", {}).get("sha256") != now["sha256"]:
        raise CheckpointError(f"{run.path}: the data in {config.data.source} is not what the run was started with")
    trainer = prepare(config, split, run, progress)
    tell(trainer.resume())
    if saved["config"] != plain(config.to_dict()):
        history = [*saved.get("earlier", []), {"until_step": trainer.step, "config": saved["config"]}]
        run.write_config({"config": config.to_dict(), "data": now, "ran_on": environment(), "earlier": history})
    return trainer.fit(config.training.steps, config.training.epochs)


def check(config: TrainConfig, split: Split) -> None:
    """Raise ValueError if the settings do not suit the data."""
    processor = Preprocessor.fit(split.train)
    metrics_of(config, processor)
    settings = config.optimizer.settings
    build_schedule(config.schedule.name, settings["lr"], updates(config, len(split.train)), config.schedule.settings)


def updates(config: TrainConfig, samples: int) -> int:
    """Return the number of updates in all."""
    batches = -(-samples // config.data.batch_size)
    return config.training.steps or (config.training.epochs or 0) * -(-batches // config.training.accumulate)


def prepare(
    config: TrainConfig, split: Split, run: RunFolder | None, progress: bool = False, callbacks: Sequence[Callback] = ()
) -> Trainer:
    """Make the trainer; what is drawn at random depends on ``config.seed`` alone."""
    if config.threads is not None:
        gd.set_num_threads(config.threads)
    gd.manual_seed(config.seed)
    processor = Preprocessor.fit(split.train)
    training = config.training
    metrics = metrics_of(config, processor)
    loader = ArrayLoader(
        processor.apply(split.train), config.data.batch_size, seed=config.seed, prefetch=config.data.prefetch
    )
    steps = updates(config, len(split.train))
    model = build_model(config, processor)
    settings = dict(config.optimizer.settings)
    rate = build_schedule(config.schedule.name, settings.pop("lr"), steps, config.schedule.settings)
    optimizer = OPTIMIZERS[config.optimizer.name].make(model.parameters(), lr=rate, **settings)
    return Trainer(
        model,
        loss_of(processor),
        optimizer,
        loader,
        evaluate=processor.apply(split.test),
        batch_size=config.data.batch_size,
        evaluate_batch_size=max(1024, config.data.batch_size),
        metrics=metrics,
        train_metrics=metrics,
        evaluate_every=training.evaluate_every,
        accumulate=training.accumulate,
        clip_norm=training.clip_norm,
        clip_value=training.clip_value,
        ema=training.ema,
        precision=training.precision,
        on_nonfinite=training.on_nonfinite,
        monitor=training.monitor,
        early_stopping=training.early_stopping,
        run=run,
        keep=config.output.keep,
        checkpoint_seconds=config.output.checkpoint_seconds,
        tensorboard=config.output.tensorboard,
        callbacks=callbacks,
        progress=progress,
        extra_state={"preprocessing": processor.state_dict()},
    )


def build_model(config: TrainConfig, processor: Preprocessor) -> Any:
    """Return the network for what comes out of the preprocessing."""
    outputs = len(processor.classes) or 1
    width = len(processor.features)
    shape = processor.feature_shape if np.prod(processor.feature_shape) == width else (width,)
    return MODELS[config.model.name](**config.model.settings).build(shape, outputs)


def loss_of(processor: Preprocessor) -> Callable:
    """Return the loss for the task."""
    return nn.CrossEntropyLoss() if processor.classes else nn.MSELoss()


def metrics_of(config: TrainConfig, processor: Preprocessor) -> list[Metric]:
    """Return the metrics that are asked for, or those that suit the task."""
    names = config.training.metrics or (("accuracy",) if processor.classes else ("r2",))
    for name in names:
        if (name == "r2") == bool(processor.classes):
            raise ValueError(f"training.metrics: {name} does not suit {'classes' if processor.classes else 'numbers'}")
        if name == "auc" and len(processor.classes) != 2:
            raise ValueError(f"training.metrics: auc is for two classes, the data has {len(processor.classes)}")
    if config.training.monitor not in ("loss", *names):
        raise ValueError(f"training.monitor: {config.training.monitor!r} is not among the metrics {', '.join(names)}")
    return [METRICS[name]() for name in names]


def evaluate_run(
    run: str | Path, which: str = "best", data: str | None = None
) -> tuple[dict[str, float], Path, Dataset]:
    """Test a run's network again: on the test data of the run, or on a whole file with the same columns.

    Parameters
    ----------
    run : str or path
    which : {"best", "last"} or str
        Which checkpoint: "best" (by the run's monitor; the last one if nothing was evaluated), "last", or a step.
    data : str, optional
        A file.

    Returns
    -------
    figures : dict of str to float
    checkpoint : Path
    data : Dataset
        What it was tested on.
    """
    config = TrainConfig.from_dict(read_config(run)["config"])
    if config.threads is not None:
        gd.set_num_threads(config.threads)
    checkpoint = find_checkpoint(run, which)
    tensors, state = load_checkpoint(checkpoint)
    if "preprocessing" not in state:
        raise CheckpointError(f"{checkpoint}: was not made by fastgd train: it has no preprocessing")
    processor = Preprocessor.from_state(state["preprocessing"])
    tested = load_data(config).test if data is None else _new_data(config, processor, data)
    gd.manual_seed(config.seed)
    model = build_model(config, processor)
    if state.get("ema") is not None:
        tensors = {**tensors, **state["ema"]["averages"]}
    try:
        model.load_state_dict(tensors)
    except ValueError as error:
        raise CheckpointError(f"{checkpoint}: of another model than {run}/config.json says: {error}") from None
    evaluator = Evaluator(
        model,
        loss_of(processor),
        processor.apply(tested),
        metrics_of(config, processor),
        max(1024, config.data.batch_size),
    )
    figures = evaluator()
    assert figures is not None
    return figures, checkpoint, tested


def find_checkpoint(run: str | Path, which: str) -> Path:
    """Return the checkpoint that "best", "last" or a step means."""
    if which in ("best", "last"):
        found = (best_checkpoint(run) if which == "best" else None) or latest_checkpoint(run)
        if found is None:
            raise CheckpointError(f"{run}: no checkpoint has been saved there")
        return found
    if which.isdecimal() and (folder := checkpoint_folder(run, int(which))).is_dir():
        return folder
    raise CheckpointError(f"{run}: expected best, last or the step of a checkpoint that is there, got {which!r}")


def _new_data(config: TrainConfig, processor: Preprocessor, path: str) -> Dataset:
    is_table = Path(path).suffix.lower() in (".csv", ".tsv", ".txt")
    categorical = [
        name for name, texts in zip(processor.columns, processor.categories, strict=True) if texts is not None
    ]
    task = "classification" if processor.classes else "regression"
    target = processor.target or config.data.target
    return load_dataset(path, target, task, categorical if is_table else ())


def summary(split: Split) -> dict[str, Any]:
    """Return what config.json says of the data; its digest shows whether a resumed run sees the same."""
    digest = hashlib.sha256()
    for part in split:
        for array in (part.x, part.y):
            digest.update(np.ascontiguousarray(array).data)
    train = split.train
    return {
        "name": train.name,
        "train_samples": len(train),
        "test_samples": len(split.test),
        "features": train.x.shape[1],
        "classes": len(train.classes),
        "sha256": digest.hexdigest(),
    }


def environment() -> dict[str, Any]:
    """Return where a run takes place."""
    return {
        "fastgd": gd.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "threads": gd.get_num_threads(),
    }


def plain(value: Any) -> Any:
    """As it comes back from JSON."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
