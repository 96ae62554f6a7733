"""What each operation means: shapes, dtypes, errors, derivative, kernel; one family a file."""

from . import methods as methods  # attaches operators and methods to Tensor
from .functional import *  # noqa: F403
from .functional import __all__ as __all__
from .registry import OPS as OPS
