"""Cases of embeddings."""
# ruff: noqa: E501 - tables are read by rows

import numpy as np

import fastgd as gd
from fastgd import nn
from fastgd.ops import functional as F

from . import case, labels, normal, refuses

# (rows, dim, shape of the indices): one row, vectors and their rests, more places than a chain of 256, nothing
for _rows, _dim, _shape in (
    (1, 1, (3,)), (5, 7, (4,)), (3, 33, (2, 3)), (9, 64, ()), (4, 5, (0,)), (2, 3, (700,)), (6, 0, (2,)), (40, 130, (3, 5)),
):  # fmt: skip
    case("embedding", lambda i, w: w[i], labels(_rows, *_shape), normal(_rows, _dim), text=f"{_rows}x{_dim}{_shape}", f32=2)
case("embedding", lambda i, w: w[i], labels(65, 40, 30), normal(65, 130), text="big", big=True, f32=2)
case("embedding", lambda i, w: w[i], labels(2, 3000), normal(2, 515), text="few long rows", big=True, f32=9)


def reference_with_padding(i, w):
    """The row 1 counts as a constant, so that its gradient is 0: the value it had is what the differences see."""
    kept = np.where(np.arange(len(w))[:, None] == 1, WEIGHT, w)
    return kept[i]


WEIGHT = np.round(np.random.default_rng(0).normal(size=(4, 3)), 2)
case("embedding", reference_with_padding, labels(4, 9), lambda rng: WEIGHT, text="padding_idx",
     function=lambda i, w: F.embedding(i, w, padding_idx=-3))  # fmt: skip

_w, _i = gd.zeros((5, 3)), gd.tensor([0, 1])
refuses("embedding", IndexError, "embedding: index 5 at position 2 is out of range, expected 0 <= index < 5",
        lambda: F.embedding(gd.tensor([[0, 1], [5, 7]]), _w))  # fmt: skip
refuses("embedding", IndexError, "embedding: index -1 at position 0 is out of range, expected 0 <= index < 5",
        lambda: F.embedding(gd.tensor(-1), _w))  # fmt: skip
refuses("embedding", TypeError, "embedding: expected indices of dtype int64 or int32, got fastgd.float32",
        lambda: F.embedding(gd.tensor([0.0]), _w))  # fmt: skip
refuses("embedding", TypeError, "embedding: expected float32 or float64, got fastgd.int64", lambda: F.embedding(_i, _i))
refuses("embedding", ValueError, "embedding: expected weight of 2 dims (num_embeddings, embedding_dim), got shape (3,)",
        lambda: F.embedding(_i, gd.zeros((3,))))  # fmt: skip
refuses("embedding", IndexError, "embedding: padding_idx 5 is out of range for 5 rows", lambda: F.embedding(_i, _w, 5))
refuses("embedding", NotImplementedError,
        "embedding: max_norm, which rewrites the weight in the forward pass, is not offered",
        lambda: F.embedding(_i, _w, max_norm=1.0))  # fmt: skip
refuses("embedding", NotImplementedError, "embedding: scale_grad_by_freq is not offered",
        lambda: F.embedding(_i, _w, scale_grad_by_freq=True))  # fmt: skip
refuses("embedding", NotImplementedError,
        "Embedding: sparse gradients are not offered; the gradient has the shape of the weight",
        lambda: nn.Embedding(2, 3, sparse=True))  # fmt: skip
refuses("embedding", ValueError, "Embedding: expected weight of shape (2, 3), got (5, 3)",
        lambda: nn.Embedding(2, 3, _weight=_w))  # fmt: skip
