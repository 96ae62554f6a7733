"""Optimizers with the names, defaults and state dictionaries of ``torch.optim``."""

from .adam import Adam, AdamW
from .optimizer import Optimizer, ParamGroup
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "ParamGroup"]
