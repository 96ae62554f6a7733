"""fastgd trains neural networks on CPUs: torch's names, one small wheel, steps that are replayed in C."""

from typing import Any as _Any

try:
    from . import _core
except ImportError as error:
    if "_core" in str(error) and "circular" in str(error):  # the extension module is not beside this file
        raise ImportError(
            "fastgd: this is its source folder, whose core is not compiled. Run Python in another folder to use the "
            "installed package, or compile in place with: make build"
        ) from None
    raise
from . import _threads

_threads.initialise()

from . import autodiff, autograd, nn, optim, ops, random
from ._core import (
    DtypeError,
    FastgdError,
    NonFiniteError,
    NotOffered,
    RangeError,
    ShapeError,
    bfloat16,
    float32,
    float64,
    get_num_threads,
    int32,
    int64,
    set_num_threads,
    uint8,
)
from ._core import bool_ as bool
from ._core import dtype as dtype
from .compiler.function import compile
from .context import (
    cuda,
    enable_grad,
    grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
    show_config,
    value_and_grad,
)
from .ops import *  # noqa: F403
from .random import manual_seed
from .remat import remat
from .tensor import Tensor, as_tensor, device, from_numpy, tensor

float = float32
double = float64
long = int64
int = int32


_LAZY = ("cli", "data", "diagnose", "models", "schedules", "sklearn", "train", "tune", "utils")
_LAZY_FUNCTIONS = {
    "Trainer": "train.trainer",
    "load": "train.checkpoint",
    "save": "train.checkpoint",
    "summary": "nn.summary",
}


def __getattr__(name: str) -> _Any:
    """Subpackages that a training script may not need are imported when first used."""
    import importlib

    if name == "__version__":  # reading the package's metadata takes longer than importing it
        from importlib import metadata

        try:
            return metadata.version("fastgd")
        except metadata.PackageNotFoundError:  # a source tree that is not installed
            return "0+source"
    if name in _LAZY:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _LAZY_FUNCTIONS:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
