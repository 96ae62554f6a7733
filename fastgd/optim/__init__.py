"""Optimizers: those of ``torch.optim`` with its names, defaults and state dictionaries, and what came after them."""

from typing import Any as _Any

from .adagrad import Adadelta, Adagrad, RMSprop, Rprop
from .adam import Adam, Adamax, AdamW, NAdam, RAdam
from .layerwise import LAMB, LARS, NovoGrad
from .learning_rate_free import DAdaptAdamW, Prodigy
from .optimizer import Optimizer, ParamGroup
from .schedule_free import ScheduleFreeAdamW, ScheduleFreeSGD
from .sgd import ASGD, SGD
from .variants import ADOPT, AdaBelief, Adan, AdEMAMix, Lion, Sophia

__all__ = [
    "ADOPT",
    "ASGD",
    "LAMB",
    "LARS",
    "SGD",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "DAdaptAdamW",
    "Lion",
    "NAdam",
    "NovoGrad",
    "Optimizer",
    "ParamGroup",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Sophia",
    "lr_scheduler",
]


def __getattr__(name: str) -> _Any:
    """lr_scheduler is imported when first used: with the schedules it took half the time of `import fastgd`."""
    if name == "lr_scheduler":
        import importlib

        return importlib.import_module(f"{__name__}.lr_scheduler")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
