"""Process and thread settings: grad mode, gradients of functions, and what this build runs on."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from . import _core
from .tensor import as_tensor


class set_grad_enabled:
    """Switches the tape on or off, as a call, a context manager or a decorator."""

    def __init__(self, mode: bool) -> None:
        self.mode = bool(mode)
        self.previous = _core.set_grad_enabled_state(self.mode)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        _core.set_grad_enabled_state(self.previous)

    def __call__(self, function: Callable) -> Callable:
        self.__exit__()  # as a decorator it switches only while the function runs

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)(self.mode):
                return function(*args, **kwargs)

        return wrapped


class _GradMode:
    """no_grad and enable_grad: with parentheses a context manager or decorator, without them a decorator."""

    mode = False
    _previous: list[bool]

    def __new__(cls, function: Callable | None = None) -> Any:
        self = super().__new__(cls)
        self._previous = []
        return self if function is None else self(function)

    def __enter__(self) -> None:
        self._previous.append(_core.set_grad_enabled_state(self.mode))

    def __exit__(self, *exc: object) -> None:
        _core.set_grad_enabled_state(self._previous.pop())

    def __call__(self, function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return function(*args, **kwargs)

        return wrapped


class no_grad(_GradMode):
    """Nothing inside goes on the tape; a context manager or a decorator."""


class enable_grad(_GradMode):
    """Puts operations on the tape again inside no_grad."""

    mode = True


inference_mode = no_grad


def is_grad_enabled() -> bool:
    """Whether operations of this thread go on the tape."""
    return _core.is_grad_enabled()


def value_and_grad(function: Callable, argnums: int | tuple[int, ...] = 0) -> Callable:
    """A function that returns (value, gradients with respect to the arguments `argnums`).

    The arguments are tensors or arrays; the value must have one element.  With one argument number the
    gradient is a tensor, with several a tuple.
    """
    if not callable(function):
        raise _core.DtypeError(f"value_and_grad: expected a function of tensors, got {type(function).__name__}")
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from . import autodiff
        from .ops import functional as ops

        values = list(args)
        for i in numbers:
            values[i] = as_tensor(values[i]).detach()
            values[i]._requires_grad = True
        with enable_grad():
            result = function(*values, **kwargs)
            found = autodiff.of_leaves(result) if result._requires_grad else {}
        grads = tuple(found[id(values[i])] if id(values[i]) in found else ops.zeros_like(values[i]) for i in numbers)
        return result.detach(), grads[0] if isinstance(argnums, int) else grads

    return wrapped


def grad(function: Callable, argnums: int | tuple[int, ...] = 0) -> Callable:
    """A function that returns the gradients of `function`; see value_and_grad."""
    both = value_and_grad(function, argnums)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return wrapped


class cuda:
    """For scripts that ask: there is no CUDA here."""

    @staticmethod
    def is_available() -> bool:
        return False

    @staticmethod
    def device_count() -> int:
        return 0


def show_config(file: Any = None) -> str:
    """Prints, and returns, what was chosen on this machine and why."""
    import numpy

    import fastgd

    asked = os.environ.get("FASTGD_ISA")
    lines = [
        f"fastgd {fastgd.__version__}, Python {sys.version.split()[0]}, NumPy {numpy.__version__}",
        f"tier: {_core.current_tier()}" + (f" (FASTGD_ISA={asked})" if asked else " (the best that runs here)"),
        f"CPU features: {_core.cpu_features() or 'baseline only'}",
        *[f"  {name:7s} {why}" for name, (usable, why) in _core.tiers().items()],
        f"threads: {_core.get_num_threads()}"
        + (" (OMP_NUM_THREADS)" if os.environ.get("OMP_NUM_THREADS") else "")
        + ("" if _core.has_openmp() else "; built without OpenMP: everything runs on one thread"),
    ]
    text = "\n".join(lines)
    print(text, file=file)
    return text
