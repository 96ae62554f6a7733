"""Residual networks for small images."""

from __future__ import annotations

from .. import nn
from .._core import ShapeError
from ..nn import functional as F
from ..tensor import Tensor

__all__ = ["ResNet"]


class _Block(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)); the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        changes = stride != 1 or before != after
        self.shortcut = (
            nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            if changes
            else nn.Identity()
        )

    def forward(self, input: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(input)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(input))


class ResNet(nn.Module):
    """The residual network of the CIFAR experiments: three stages of blocks of two 3x3 convolutions.

    Parameters
    ----------
    classes : int
        Outputs per image: logits.
    depth : int, default 20
        6 n + 2: layers with weights, n blocks per stage.
    width : int, default 16
        Channels of the first stage; each later stage has twice as many on half the rows and columns.
    in_channels : int, default 3

    Raises
    ------
    ValueError
        If `depth` is not 6 n + 2.

    References
    ----------
    He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2; shortcuts that
    change the shape are projections (option B), initial weights those of He et al., ICCV 2015.

    Examples
    --------
    >>> ResNet(10)(images)        # images (N, 3, 32, 32) -> (N, 10)
    """

    def __init__(self, classes: int, depth: int = 20, width: int = 16, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ShapeError(f"ResNet: expected depth 6 n + 2 (8, 14, 20, ...), got {depth}")
        blocks, channels = (depth - 2) // 6, width
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        stages: list[nn.Module] = []
        for stage in range(3):
            after = width * 2**stage
            layers = []
            for block in range(blocks):
                layers.append(_Block(channels, after, 2 if stage and not block else 1))
                channels = after
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.linear = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_channels, rows, columns) -> (N, classes)"""
        y = self.stages(F.relu(self.bn1(self.conv1(input))))
        return self.linear(F.adaptive_avg_pool2d(y, 1).flatten(1))
