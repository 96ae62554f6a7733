"""Embedding layers.

A layer holds parameters and options; what the operation means, its shapes and its errors are those of the function of
:mod:`fastgd.nn.functional` that it calls.
"""

from __future__ import annotations

from typing import Any, Self

from .._core import ShapeError
from ..context import no_grad
from ..ops.embedding import NO_PADDING, padding_row, refuse_options
from ..tensor import Tensor, as_tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter, new_parameter

__all__ = ["Embedding"]


class Embedding(Module):
    """A table of vectors, read by index.

    Weights start normal(0, 1); the row `padding_idx` starts 0 and is not trained.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        Rows of the table and their length.
    padding_idx : int, optional
        A row that gets no gradient; negative values count from the end.
    max_norm, scale_grad_by_freq, sparse
        Not offered.  `norm_type` belongs to `max_norm`.
    device : optional
        Accepted if it is the CPU.
    dtype : dtype or str, optional
        float32 unless given.

    Attributes
    ----------
    weight : Parameter
        (num_embeddings, embedding_dim)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        refuse_options("Embedding", max_norm, scale_grad_by_freq, sparse)
        for name, size in (("num_embeddings", num_embeddings), ("embedding_dim", embedding_dim)):
            if size < 0:
                raise ShapeError(f"Embedding: {name} must be at least 0, got {size}")
        row = padding_row("Embedding", padding_idx, num_embeddings)
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if row == NO_PADDING else row
        if _weight is None:
            self.weight = new_parameter((num_embeddings, embedding_dim), device, dtype)
            self.weight.requires_grad = not _freeze
            self.reset_parameters()
            return
        if _weight.shape != (num_embeddings, embedding_dim):
            raise ShapeError(
                f"Embedding: expected weight of shape ({num_embeddings}, {embedding_dim}), got {_weight.shape}"
            )
        self.weight = Parameter(_weight, requires_grad=not _freeze)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Self:
        """A layer whose table is `embeddings` (num_embeddings, embedding_dim); not trained unless `freeze` is False."""
        table = as_tensor(embeddings)
        if table.ndim != 2:
            raise ShapeError(f"Embedding: expected embeddings of 2 dims, got shape {table.shape}")
        return cls(
            table.shape[0],
            table.shape[1],
            padding_idx=padding_idx,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            sparse=sparse,
            _weight=table,
            _freeze=freeze,
        )

    def reset_parameters(self) -> None:
        """Draw the weight anew from the global generator."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0

    def forward(self, input: Tensor) -> Tensor:
        """indices (...) -> (..., embedding_dim)"""
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
