"""The operations that layers are made of, under the names and signatures of ``torch.nn.functional``.

They are those of ``fastgd.ops``, where each is declared once.
"""

from ..ops import (
    cross_entropy,
    dropout,
    gelu,
    linear,
    log_softmax,
    mse_loss,
    relu,
    sigmoid,
    silu,
    softmax,
    tanh,
)

__all__ = [
    "cross_entropy",
    "dropout",
    "gelu",
    "linear",
    "log_softmax",
    "mse_loss",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
]
