"""Optimizers: those of ``torch.optim`` with its names, defaults and state dictionaries, and what came after them."""

from . import lr_scheduler
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
