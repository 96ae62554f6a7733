"""A small convolutional network: two convolutions or more, one pooling, one hidden layer."""

from __future__ import annotations

from collections.abc import Sequence

from .. import nn
from .._core import ShapeError
from ..tensor import Tensor

__all__ = ["CNN"]


class CNN(nn.Module):
    """3x3 convolutions with ReLU, 2x2 max pooling, a hidden linear layer and the logits.

    Parameters
    ----------
    image_size : int
        Rows and columns of an image; at least 2 more than 2 per convolution.
    classes : int
        Outputs per image: logits.
    in_channels : int, default 1
    channels : sequence of int, default (32, 64)
        Channels after each convolution (without padding).
    hidden : int, default 128
        Width of the hidden layer.
    dropout : float, default 0.0
        Probability after pooling and after the hidden layer; 0 adds no layers.

    Raises
    ------
    ValueError
        If the image is too small for the convolutions, or a size is less than 1.

    References
    ----------
    LeCun et al., "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 1998, with ReLU and fewer
    poolings: the network of PyTorch's MNIST example with the default sizes.

    Examples
    --------
    >>> CNN(28, 10)(images)        # images (N, 1, 28, 28) -> (N, 10)
    """

    def __init__(
        self,
        image_size: int,
        classes: int,
        in_channels: int = 1,
        channels: Sequence[int] = (32, 64),
        hidden: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        left = (image_size - 2 * len(channels)) // 2
        if not channels or left < 1:
            raise ShapeError(
                f"CNN: images of {image_size} x {image_size} are too small for {len(channels)} convolutions "
                "and a pooling"
            )
        layers: list[nn.Module] = []
        widths = [in_channels, *channels]
        for before, after in zip(widths, channels, strict=False):
            layers += [nn.Conv2d(before, after, 3), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        if dropout:
            layers.append(nn.Dropout(dropout))
        layers += [nn.Flatten(), nn.Linear(widths[-1] * left * left, hidden), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(hidden, classes))
        self.image_size = image_size
        self.in_channels = in_channels
        self.layers = nn.Sequential(*layers)

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_channels, image_size, image_size), or as many elements in rows -> (N, classes)"""
        if input.ndim < 4:
            input = input.reshape(input.shape[0], self.in_channels, self.image_size, self.image_size)
        return self.layers(input)
