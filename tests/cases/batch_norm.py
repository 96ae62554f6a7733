"""Cases of normalisation with statistics of channels."""
# ruff: noqa: E501 - tables are read by rows

import math

import numpy as np

import fastgd as gd
from fastgd import _core
from fastgd.ops import functional as F

from . import case, normal, positive, refuses


def per_channel(v, ndim):
    return v.reshape(-1, *[1] * (ndim - 2))


def batch_norm(x, w=None, b=None, mean=None, var=None, eps=1e-5):
    axes = (0, *range(2, x.ndim))
    mean = x.mean(axes) if mean is None else mean
    var = x.var(axes) if var is None else var
    y = (x - per_channel(mean, x.ndim)) / np.sqrt(per_channel(var, x.ndim) + eps)
    y = y if w is None else y * per_channel(w, x.ndim)
    return y if b is None else y + per_channel(b, x.ndim)


def group_norm(x, groups, w=None, b=None, eps=1e-5):
    parts = x.reshape(x.shape[0], groups, math.prod(x.shape[1:]) // groups)
    y = (parts - parts.mean(-1, keepdims=True)) / np.sqrt(parts.var(-1, keepdims=True) + eps)
    y = y.reshape(x.shape)
    y = y if w is None else y * per_channel(w, x.ndim)
    return y if b is None else y + per_channel(b, x.ndim)


for _shape in ((4, 3), (300, 70), (3, 5, 7), (2, 3, 4, 5), (1, 2, 3, 1), (2, 2, 70, 61), (5, 1), (3, 2, 5, 1, 2)):
    _c = _shape[1]
    case("batch_norm", batch_norm, normal(*_shape), normal(_c), normal(_c),
         function=lambda x, w, b: F.batch_norm(x, None, None, w, b, True), text=f"{_shape}", f32=40)  # fmt: skip
    case("batch_norm", lambda x, w, b, m, v: batch_norm(x, w, b, m, v, 1e-3), normal(*_shape), normal(_c), normal(_c), normal(_c), positive(_c),
         function=lambda x, w, b, m, v: F.batch_norm(x, m.detach(), v.detach(), w, b, eps=1e-3), text=f"{_shape} eval", f32=10,
         differentiable=False)  # fmt: skip
case(
    "batch_norm",
    batch_norm,
    normal(3, 2, 4, 5),
    function=lambda x: F.batch_norm(x, None, None, training=True),
    text="plain",
    f32=40,
)
case(
    "batch_norm",
    batch_norm,
    normal(3, 2, 4),
    normal(2),
    function=lambda x, w: F.batch_norm(x, None, None, w, None, True),
    text="no bias",
    f32=40,
)
case("batch_norm", lambda x, b: batch_norm(x, None, b), normal(3, 2, 4), normal(2),
     function=lambda x, b: F.batch_norm(x, None, None, None, b, True), text="no weight", f32=40)  # fmt: skip
case("batch_norm", lambda x, w, b: batch_norm(x, w, b, np.array([0.5, -1.0]), np.array([2.0, 0.3])), normal(3, 2, 4, 5), normal(2), normal(2),
     function=lambda x, w, b: F.batch_norm(x, gd.tensor([0.5, -1.0], dtype=x.dtype), gd.tensor([2.0, 0.3], dtype=x.dtype), w, b), text="eval", f32=10)  # fmt: skip
case("batch_norm", lambda x, w, b: np.maximum(batch_norm(x, w, b) + x, 0), normal(5, 20, 31, 29), normal(20), normal(20),
     function=lambda x, w, b: F.relu(F.batch_norm(x, None, None, w, b, True) + x), text="big", big=True, f32=100)  # fmt: skip
case("batch_norm", batch_norm, normal(700, 130), normal(130), normal(130),
     function=lambda x, w, b: F.batch_norm(x, None, None, w, b, True), text="big rows", big=True, f32=100)  # fmt: skip
for _shape, _g in (
    ((3, 6, 5), 2),
    ((2, 6), 3),
    ((2, 4, 3, 5), 1),
    ((2, 4, 3, 5), 4),
    ((1, 2, 70, 61), 1),
    ((0, 4, 3), 2),
):
    _c = _shape[1]
    case("group_norm", lambda x, w, b, g=_g: group_norm(x, g, w, b), normal(*_shape), normal(_c), normal(_c),
         function=lambda x, w, b, g=_g: F.group_norm(x, g, w, b), text=f"{_shape, _g}", f32=40)  # fmt: skip
    case(
        "group_norm",
        lambda x, g=_g: group_norm(x, g),
        normal(*_shape),
        function=lambda x, g=_g: F.group_norm(x, g),
        text=f"{_shape, _g} plain",
        f32=40,
    )
case("group_norm", lambda x, w, b: group_norm(x, 4, w, b), normal(5, 20, 31, 29), normal(20), normal(20),
     function=lambda x, w, b: F.group_norm(x, 4, w, b), text="big", big=True, f32=100)  # fmt: skip
case("instance_norm", lambda x, w, b: group_norm(x, 3, w, b), normal(2, 3, 4, 5), normal(3), normal(3),
     function=lambda x, w, b: F.instance_norm(x, None, None, w, b), f32=40)  # fmt: skip
case("instance_norm", lambda x: group_norm(x, 3), normal(2, 3, 70), function=F.instance_norm, f32=40)
case("instance_norm", lambda x: batch_norm(x, None, None, np.array([0.5, -1.0]), np.array([2.0, 0.3])), normal(3, 2, 4),
     function=lambda x: F.instance_norm(x, gd.tensor([0.5, -1.0], dtype=x.dtype), gd.tensor([2.0, 0.3], dtype=x.dtype), use_input_stats=False),
     text="running", f32=10)  # fmt: skip

_x = gd.zeros
refuses("batch_norm", _core.ShapeError, "batch_norm: expected more than 1 value per channel when training, got shape (1, 3)",
        lambda: F.batch_norm(_x(1, 3), None, None, training=True))  # fmt: skip
refuses(
    "batch_norm",
    _core.ShapeError,
    "batch_norm: expected running_mean and running_var if not training, got None",
    lambda: F.batch_norm(_x(2, 3), None, None),
)
refuses(
    "batch_norm",
    _core.ShapeError,
    "batch_norm: expected weight of shape (3,), got (4,)",
    lambda: F.batch_norm(_x(2, 3), None, None, _x(4), training=True),
)
refuses("batch_norm", _core.DtypeError, "batch_norm: expected bias of fastgd.float32, got fastgd.float64",
        lambda: F.batch_norm(_x(2, 3), None, None, None, _x(3, dtype="float64"), True))  # fmt: skip
refuses(
    "batch_norm",
    _core.ShapeError,
    "batch_norm: expected input of at least 2 dims, got shape (3,)",
    lambda: F.batch_norm(_x(3), None, None, training=True),
)
refuses(
    "group_norm",
    _core.ShapeError,
    "group_norm: expected channels to be a multiple of num_groups, got 3 and 2",
    lambda: F.group_norm(_x(2, 3, 4), 2),
)
refuses(
    "group_norm",
    _core.ShapeError,
    "group_norm: expected more than 1 value per group, got shape (2, 3)",
    lambda: F.group_norm(_x(2, 3), 3),
)
refuses(
    "instance_norm",
    _core.ShapeError,
    "instance_norm: expected more than 1 spatial element, got shape (2, 3, 1)",
    lambda: F.instance_norm(_x(2, 3, 1)),
)
refuses("instance_norm", _core.ShapeError, "instance_norm: expected running_mean and running_var if not use_input_stats, got None",
        lambda: F.instance_norm(_x(2, 3, 4), use_input_stats=False))  # fmt: skip
