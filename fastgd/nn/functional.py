"""The operations that layers are made of, under the names and signatures of ``torch.nn.functional``.

They are those of ``fastgd.ops``, where each is declared once; here a family a line.
"""

from ..ops import activation as _activation
from ..ops.activation import *  # noqa: F403 - all of them are there
from ..ops.batch_norm import batch_norm, group_norm, instance_norm
from ..ops.conv import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from ..ops.elementwise import sigmoid, tanh
from ..ops.embedding import embedding
from ..ops.image import (
    affine_grid,
    channel_shuffle,
    fold,
    grid_sample,
    interpolate,
    pixel_shuffle,
    pixel_unshuffle,
    unfold,
)
from ..ops.join import pad
from ..ops.layer_norm import layer_norm, normalize, rms_norm
from ..ops.loss import cross_entropy, mse_loss
from ..ops.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
    max_unpool1d,
    max_unpool2d,
)
from ..ops.product import linear
from ..ops.random import dropout
from ..ops.rowwise import log_softmax, softmax

__all__ = ["batch_norm", "group_norm", "instance_norm"]
__all__ += ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]
__all__ += ["sigmoid", "tanh"]
__all__ += _activation.__all__
__all__ += ["embedding"]
__all__ += [
    "affine_grid",
    "channel_shuffle",
    "fold",
    "grid_sample",
    "interpolate",
    "pixel_shuffle",
    "pixel_unshuffle",
    "unfold",
]
__all__ += ["pad"]
__all__ += ["layer_norm", "normalize", "rms_norm"]
__all__ += ["cross_entropy", "mse_loss"]
__all__ += [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "max_pool1d",
    "max_pool2d",
    "max_unpool1d",
    "max_unpool2d",
]
__all__ += ["linear"]
__all__ += ["dropout"]
__all__ += ["log_softmax", "softmax"]
