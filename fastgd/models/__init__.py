"""Ready-made networks."""

from .cnn import CNN
from .mlp import MLP
from .resnet import ResNet

__all__ = ["CNN", "MLP", "ResNet"]
