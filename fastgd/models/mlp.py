"""The multilayer perceptron: linear layers with an activation between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from .. import nn
from .._core import ShapeError
from ..tensor import Tensor

__all__ = ["ACTIVATIONS", "MLP"]

#: Activations by name: a literal table, since names may come from a configuration file.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}


class MLP(nn.Module):
    """Linear layers, each hidden one followed by an activation and, if asked for, dropout.

    Parameters
    ----------
    in_features : int
        Features per row; an input of more than two dimensions is flattened to (N, in_features).
    hidden : sequence of int
        Widths of the hidden layers; empty for a linear model.
    out_features : int
        Outputs per row: logits, one per class, or regression targets.
    activation : str, default "relu"
        One of "relu", "gelu", "silu", "tanh", "sigmoid", "identity".
    dropout : float, default 0.0
        Probability after each hidden activation; 0 adds no layer.

    Raises
    ------
    ValueError
        If a width is less than 1, the activation unknown, or `dropout` outside [0, 1].

    Examples
    --------
    >>> MLP(784, (512, 512), 10)(images)        # images (N, 1, 28, 28) -> (N, 10)
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ShapeError(f"MLP: activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        layers: list[nn.Module] = []
        widths = [in_features, *hidden]
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(widths[-1], out_features))
        self.layers = nn.Sequential(*layers)

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_features) or (N, ..., any) with as many elements per row -> (N, out_features)"""
        if input.ndim > 2:
            input = input.flatten(1)
        return self.layers(input)
