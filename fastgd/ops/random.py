"""Operations that draw random numbers: dropout.

The mask is a function of (seed, offset, position): backward makes it again instead of keeping it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._core import ShapeError
from ..random import give_back
from ..tensor import Tensor
from .elementwise import _float_only
from .registry import Op, apply

__all__ = [
    "dropout",
]


def _infer(avals: tuple, attrs: tuple) -> tuple:
    _float_only("dropout", avals[0])
    return (avals[0],)


def _vjp(n: Any, g: Tensor) -> tuple:
    return apply(DROPOUT, (g, n.inputs[1]), n.attrs), None


DROPOUT = Op(
    "dropout",
    _infer,
    ("p", "offset"),
    tile=lambda attrs: ("dropout", float(attrs[0]), attrs[1]),
    vjp=_vjp,
    saves="i1",
    raw=(1,),
    text="0 with probability p, else x / (1 - p)",
)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zeroes elements with probability `p` and scales the others by 1 / (1 - p) (Srivastava et al., 2014).

    `inplace` is accepted; the result is a new tensor.  Takes one offset of the generator, or none if
    it fails.
    """
    if not 0.0 <= p <= 1.0:
        raise ShapeError(f"dropout: expected 0 <= p <= 1, got {p}")
    if not training or p == 0.0:
        return input
    if _core.is_tracing():
        state, offset = _core.current_trace().rng()
        return apply(DROPOUT, (input, state), (float(p), offset))
    state = _core.take_rng_state(Tensor, 1)
    try:
        return apply(DROPOUT, (input, state), (float(p), 0))
    except BaseException:
        give_back(*np.asarray(state).view(np.uint64).tolist())
        raise
