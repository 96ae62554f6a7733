"""The generator of random numbers: a seed and an offset.

Each random call takes one offset in program order, and the position of an element completes the
counter (Philox4x32-10); a checkpoint therefore holds two integers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from . import _core

T = TypeVar("T")


def _refuse_recording(name: str) -> None:
    if _core.is_tracing():
        raise _core.NotOffered(
            f"{name} inside fastgd.compile would happen while the function is recorded and not when it runs; "
            "call it outside"
        )


def manual_seed(seed: int) -> None:
    """Seeds the generator and sets its offset to 0."""
    _refuse_recording("manual_seed")
    _core.set_rng_state(int(seed), 0)


def get_state() -> tuple[int, int]:
    """(seed, offset)."""
    return _core.rng_state()


def set_state(state: tuple[int, int]) -> None:
    """Restores what `get_state` returned."""
    _refuse_recording("set_state")
    seed, offset = state
    _core.set_rng_state(int(seed), int(offset))


def seed() -> int:
    """Seeds from the operating system; returns the seed."""
    value = int.from_bytes(os.urandom(8), "little") >> 1
    manual_seed(value)
    return value


def draw(sample: Callable[[np.random.Generator], T]) -> T:
    """sample(NumPy's own Philox (4x64), keyed by (seed, offset)): for initial values, drawn once and not in a plan.

    Takes one offset; if `sample` fails, none.
    """
    value, offset = _core.rng_state()
    _core.set_rng_state(value, offset + 1)
    try:
        return sample(np.random.Generator(np.random.Philox(key=[value, offset])))
    except BaseException:
        give_back(value, offset)
        raise


def give_back(seed: int, offset: int) -> None:
    """Undoes that an offset was taken, unless the generator has moved on since."""
    if _core.rng_state() == (seed, offset + 1):
        _core.set_rng_state(seed, offset)


def _numpy_dtype(dtype: Any) -> Any:
    return np.float64 if _core.as_dtype(dtype) is _core.float64 else np.float32


def uniform(shape: tuple[int, ...], low: float = 0.0, high: float = 1.0, dtype: Any = "float32") -> np.ndarray:
    """Uniform numbers in [low, high) as a NumPy array; takes one offset."""
    kind = _numpy_dtype(dtype)
    return draw(lambda source: np.asarray(low + (high - low) * source.random(shape, dtype=kind), dtype=kind))


def normal(shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0, dtype: Any = "float32") -> np.ndarray:
    """Normal numbers as a NumPy array; takes one offset."""
    kind = _numpy_dtype(dtype)
    return draw(lambda source: np.asarray(mean + std * source.standard_normal(shape, dtype=kind), dtype=kind))
