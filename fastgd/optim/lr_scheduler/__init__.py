"""The interface of ``torch.optim.lr_scheduler`` over the pure schedules: objects that write the rate into the groups.

New code does not need them: a schedule given as ``lr`` is a function of the number of updates, has no state and cannot
be stepped twice.  These exist so that PyTorch's training loops run.  They have its arguments and defaults and keep its
rules: ``scheduler.step()`` comes after ``optimizer.step()``; most schedulers *multiply the present rate*, so that what
somebody else wrote into ``param_groups[i]["lr"]`` (another scheduler, a person) stays in effect; the state dictionary
has PyTorch's names.
Where PyTorch multiplies step by step, the factor here is the quotient of two values of the pure schedule.

Rates are inputs of a compiled plan: ``scheduler.step()`` outside a compiled step records nothing again; inside one it
is refused.
"""

from __future__ import annotations

from .base import LRScheduler
from .cycles import SWALR, CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from .factors import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from .plateau import ReduceLROnPlateau
from .several import ChainedScheduler, SequentialLR

__all__ = [
    "SWALR",
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]
