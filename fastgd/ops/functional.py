"""Every operation as a function, in one namespace."""

from .creation import (
    arange,
    empty,
    empty_like,
    eye,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    rand,
    randint,
    randn,
    randperm,
    zeros,
    zeros_like,
)
from .dropout import dropout
from .elementwise import (
    abs,
    add,
    cast,
    clone,
    div,
    eq,
    exp,
    expand,
    ge,
    gelu,
    gt,
    le,
    log,
    logical_and,
    logical_not,
    logical_or,
    lt,
    maximum,
    minimum,
    mul,
    ne,
    neg,
    pow,
    relu,
    sigmoid,
    sign,
    silu,
    sqrt,
    square,
    sub,
    tanh,
    where,
)
from .loss import cross_entropy, mse_loss
from .optim import clip_grad_norm_
from .product import bmm, linear, matmul, mm
from .reduce import amax, amin, argmax, max, mean, sum
from .shape import flatten, permute, reshape, squeeze, t, transpose, unsqueeze
from .softmax import log_softmax, softmax

__all__ = [name for name in dir() if not name.startswith("_")]
