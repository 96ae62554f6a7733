"""Every operation as a function, in one namespace: what each family lists in its `__all__`."""
# ruff: noqa: F403

from typing import TYPE_CHECKING

from . import activation as _activation
from . import batch_norm as _batch_norm
from . import conv as _conv
from . import creation as _creation
from . import elementwise as _elementwise
from . import embedding as _embedding
from . import image as _image
from . import index as _index
from . import join as _join
from . import layer_norm as _layer_norm
from . import loss as _loss
from . import optim as _optim
from . import pool as _pool
from . import product as _product
from . import random as _random
from . import recurrent as _recurrent
from . import reduce as _reduce
from . import rowwise as _rowwise
from . import shape as _shape
from .activation import *
from .batch_norm import *
from .conv import *
from .creation import *
from .elementwise import *
from .embedding import *
from .image import *
from .index import *
from .join import *
from .layer_norm import *
from .loss import *
from .optim import *
from .pool import *
from .product import *
from .random import *
from .recurrent import *
from .reduce import *
from .rowwise import *
from .shape import *

FAMILIES = (
    _image,
    _batch_norm,
    _conv,
    _activation,
    _creation,
    _elementwise,
    _embedding,
    _layer_norm,
    _index,
    _join,
    _loss,
    _optim,
    _pool,
    _product,
    _random,
    _recurrent,
    _reduce,
    _rowwise,
    _shape,
)

if not TYPE_CHECKING:  # type checkers follow the stars; they do not add lists up across modules that import each other
    __all__ = [name for family in FAMILIES for name in family.__all__]
