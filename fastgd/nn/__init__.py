"""Neural-network building blocks with the names of ``torch.nn``: what each file lists in its `__all__`."""
# ruff: noqa: F403

from . import (
    activation,
    batch_norm,
    containers,
    conv,
    dropout,
    embedding,
    functional,
    image,
    init,
    layer_norm,
    linear,
    loss,
    pool,
    recurrent,
    utils,
)
from .activation import *
from .batch_norm import *
from .containers import *
from .conv import *
from .dropout import *
from .embedding import *
from .image import *
from .layer_norm import *
from .linear import *
from .loss import *
from .module import Module
from .parameter import Parameter
from .pool import *
from .recurrent import *

__all__ = ["Module", "Parameter", "functional", "init", "utils"]
__all__ += activation.__all__
__all__ += batch_norm.__all__
__all__ += containers.__all__
__all__ += conv.__all__
__all__ += dropout.__all__
__all__ += embedding.__all__
__all__ += image.__all__
__all__ += layer_norm.__all__
__all__ += linear.__all__
__all__ += loss.__all__
__all__ += recurrent.__all__
__all__ += pool.__all__
