"""Training: the Trainer, checkpoints, metrics, callbacks, and what the command line is made of.

What needs the whole engine is imported when it is first used; saving and loading need NumPy only.
"""

from typing import Any as _Any

from .checkpoint import (
    CheckpointError,
    best_checkpoint,
    latest_checkpoint,
    load,
    load_checkpoint,
    save,
    save_checkpoint,
)

__all__ = [
    "AUC",
    "EMA",
    "F1",
    "R2",
    "Accuracy",
    "Callback",
    "CheckpointError",
    "EarlyStopping",
    "Evaluator",
    "FitResult",
    "Metric",
    "NonFiniteLossError",
    "Perplexity",
    "RunFolder",
    "TensorBoard",
    "TopK",
    "TrainConfig",
    "Trainer",
    "best_checkpoint",
    "latest_checkpoint",
    "load",
    "load_checkpoint",
    "save",
    "save_checkpoint",
]

_HOMES = {
    "metrics": ("AUC", "F1", "R2", "Accuracy", "Metric", "Perplexity", "TopK"),
    "callbacks": ("Callback", "EarlyStopping", "TensorBoard"),
    "config": ("TrainConfig",),
    "evaluate": ("Evaluator",),
    "runlog": ("RunFolder",),
    "step": ("EMA",),
    "trainer": ("FitResult", "NonFiniteLossError", "Trainer"),
}


def __getattr__(name: str) -> _Any:
    import importlib

    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
