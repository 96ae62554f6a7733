"""What each operation means: shapes, dtypes, errors, derivative, kernel; one family a file."""

from typing import TYPE_CHECKING

from . import methods as methods  # attaches operators and methods to Tensor
from .functional import *  # noqa: F403
from .functional import FAMILIES
from .registry import OPS as OPS

if not TYPE_CHECKING:
    __all__ = [name for family in FAMILIES for name in family.__all__]
