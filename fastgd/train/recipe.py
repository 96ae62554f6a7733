"""From settings to a trained network: what a :class:`TrainConfig` means, and nothing else.

A multilayer perceptron with dropout, trained by AdamW with linear warmup and cosine decay. Classification minimises
the cross-entropy, regression the mean squared error of standardized targets.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastgd as gd

from .. import models, nn, optim, schedules
from ..data import ArrayLoader, Dataset, Split, Standardizer, load_dataset, load_digits, train_test_split
from .config import TrainConfig
from .loop import Evaluator, FitResult, fit
from .metrics import R2, Accuracy, Metric
from .progress import Listener
from .runlog import RunFolder

__all__ = ["Prepared", "load_data", "prepare", "train"]


@dataclass
class Prepared:
    """Everything that training needs, made from settings and data."""

    model: Any
    loss: Callable
    optimizer: Any
    loader: ArrayLoader
    evaluate: Evaluator
    metric: Metric
    steps: int
    extra_state: dict[str, Any]


def load_data(config: TrainConfig) -> Split:
    """Return the data to train on and the data to test on."""
    if config.data == "digits":
        return load_digits()
    return train_test_split(load_dataset(config.data, config.target, config.task), config.test_fraction, config.seed)


def prepare(config: TrainConfig, train_data: Dataset, test_data: Dataset) -> Prepared:
    """Make model, optimizer and loaders; what they draw at random depends on ``config.seed`` alone."""
    if config.threads is not None:
        gd.set_num_threads(config.threads)
    gd.manual_seed(config.seed)
    arrays, test_arrays, extra_state = _scaled(train_data, test_data)
    classify = bool(train_data.classes)
    outputs = len(train_data.classes) if classify else 1
    loader = ArrayLoader(arrays, config.batch_size, seed=config.seed)
    steps = config.epochs * len(loader)
    model = models.MLP(train_data.x.shape[1], config.hidden, outputs, dropout=config.dropout)
    schedule = schedules.warmup_cosine(config.lr, round(config.warmup * steps), steps)
    optimizer = optim.AdamW(model.parameters(), lr=schedule, weight_decay=config.weight_decay)
    loss: Callable = nn.CrossEntropyLoss() if classify else nn.MSELoss()
    metric, test_metric = (Accuracy(), Accuracy()) if classify else (R2(), R2())
    evaluate = Evaluator(model, loss, test_arrays, test_metric)
    return Prepared(model, loss, optimizer, loader, evaluate, metric, steps, extra_state)


def train(
    config: TrainConfig, train_data: Dataset, test_data: Dataset, run: RunFolder, listeners: Sequence[Listener] = ()
) -> FitResult:
    """Train as `config` says, and leave everything in `run`."""
    parts = prepare(config, train_data, test_data)
    run.write_config({"config": config.to_dict(), "data": _summary(train_data, test_data), "ran_on": _environment()})
    return fit(
        parts.model,
        parts.loss,
        parts.optimizer,
        parts.loader,
        parts.steps,
        evaluate=parts.evaluate,
        evaluate_every=len(parts.loader),
        metric=parts.metric,
        listeners=listeners,
        run=run,
        extra_state=parts.extra_state,
    )


def _scaled(train_data: Dataset, test_data: Dataset) -> tuple[tuple, tuple, dict[str, Any]]:
    """Return training and test arrays with the training data's scaling, and that scaling, to be saved."""
    state: dict[str, Any] = {
        "classes": train_data.classes,
        "feature_names": train_data.feature_names,
        "feature_shape": train_data.feature_shape,
    }
    parts = [[data.x, data.y] for data in (train_data, test_data)]
    if not train_data.scaled:
        scaler = Standardizer.fit(train_data.x)
        state["x_scaling"] = {"mean": scaler.mean, "scale": scaler.scale}
        for part in parts:
            part[0] = scaler.apply(part[0])
    if not train_data.classes:
        scaler = Standardizer.fit(train_data.y)
        state["y_scaling"] = {"mean": scaler.mean, "scale": scaler.scale}
        for part in parts:
            part[1] = scaler.apply(part[1])[:, np.newaxis]
    return tuple(parts[0]), tuple(parts[1]), state


def _summary(train_data: Dataset, test_data: Dataset) -> dict[str, Any]:
    return {
        "name": train_data.name,
        "train_samples": len(train_data),
        "test_samples": len(test_data),
        "features": train_data.x.shape[1],
        "classes": len(train_data.classes),
    }


def _environment() -> dict[str, Any]:
    return {
        "fastgd": gd.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "threads": gd.get_num_threads(),
    }
