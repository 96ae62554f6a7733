"""Cases of rearranging and resizing images."""
# ruff: noqa: E501 - tables are read by rows

import itertools

import numpy as np

import fastgd as gd
from fastgd import _core
from fastgd.ops import functional as F

from . import APART, case, normal, refuses


def unfold(x, kernel, dil=(1, 1), pad=(0, 0), stride=(1, 1)):
    """Window by window."""
    single = x.ndim == 3
    around = np.pad(x[None] if single else x, ((0, 0), (0, 0), *[(p, p) for p in pad]))
    rows, cols = (
        range(0, n + 2 * p - d * (k - 1), s)
        for n, p, d, k, s in zip(x.shape[-2:], pad, dil, kernel, stride, strict=True)
    )
    parts = [
        around[:, :, i : i + dil[0] * (kernel[0] - 1) + 1 : dil[0], j : j + dil[1] * (kernel[1] - 1) + 1 : dil[1]]
        for i, j in itertools.product(rows, cols)
    ]
    y = np.stack([p.reshape(p.shape[0], np.prod(p.shape[1:])) for p in parts], -1)
    return y[0] if single else y


def fold(y, size, *window):
    """The transpose of unfold, found by unfolding every unit image."""
    channels = y.shape[-2] // np.prod(window[0])
    units = np.eye(channels * np.prod(size)).reshape(-1, channels, *size)
    return np.einsum("ukl,nkl->nu", unfold(units, *window), y).reshape(-1, channels, *size)


WINDOWS = (((2, 3, 5, 6), (2, 3), (1, 1), (0, 0), (1, 1)), ((1, 2, 6, 7), (3, 2), (2, 1), (1, 2), (2, 3)), ((2, 1, 3, 3), (3, 3), (1, 1), (2, 1), (1, 2)), ((0, 2, 4, 4), (2, 2), (1, 1), (0, 0), (2, 2)))  # fmt: skip
for _shape, *_window in WINDOWS:
    case(
        "unfold",
        lambda x, w=_window: unfold(x, *w),
        normal(*_shape),
        function=lambda x, w=_window: F.unfold(x, *w),
        text=f"{_shape, *_window}",
    )
    _columns = unfold(np.zeros(_shape), *_window).shape
    case("fold", lambda y, n=_shape[-2:], w=_window: fold(y, n, *w), normal(*_columns), function=lambda y, n=_shape[-2:], w=_window: F.fold(y, n, *w), text=f"{_shape, *_window}")  # fmt: skip
case("unfold", lambda x: unfold(x, (2, 2)), normal(2, 4, 3), function=lambda x: F.unfold(x, 2), text="one sample")
case(
    "unfold",
    lambda x: unfold(x, (3, 3), (1, 1), (1, 1)),
    normal(3, 9, 21, 20),
    function=lambda x: F.unfold(x, 3, padding=1),
    text="big",
    big=True,
)


def resize(x, sizes, position):
    """Along each spatial axis y = (1 - t) x[i] + t x[i + 1] at position(n, out) = i + t."""
    for axis, out in enumerate(sizes, 2):
        n = x.shape[axis]
        at = np.clip(position(n, out), 0, n - 1)
        i = np.minimum(np.floor(at).astype(int), n - 1)
        t = (at - i).reshape([-1 if d == axis else 1 for d in range(x.ndim)])
        x = np.take(x, i, axis) * (1 - t) + np.take(x, np.minimum(i + 1, n - 1), axis) * t
    return x


def nearest(scale=None):
    return lambda n, out: np.minimum(np.floor(np.arange(out) * (1 / scale if scale else n / out)), n - 1)


def exact(n, out):
    return np.floor((np.arange(out) + 0.5) * (n / out))


def halves(scale=None):
    return lambda n, out: np.maximum((np.arange(out) + 0.5) * (1 / scale if scale else n / out) - 0.5, 0)


def corners(n, out):
    return np.arange(out) * ((n - 1) / (out - 1) if out > 1 else 0)


for _size in ((8, 10), (3, 7), (4, 5), (1, 1)):
    for _mode, _align, _position in (
        ("nearest", None, nearest()),
        ("nearest-exact", None, exact),
        ("bilinear", None, halves()),
        ("bilinear", True, corners),
    ):
        case("interpolate", lambda x, s=_size, p=_position: resize(x, s, p), normal(2, 3, 4, 5),
             function=lambda x, a=(_size, None, _mode, _align): F.interpolate(x, *a), text=f"{_size, _mode, _align}", f32=10)  # fmt: skip
for _mode, _position in (("nearest", nearest(1.6)), ("bilinear", halves(1.6))):
    case("interpolate", lambda x, p=_position: resize(x, (6, 8), p), normal(2, 3, 4, 5),
         function=lambda x, m=_mode: F.interpolate(x, scale_factor=1.6, mode=m), text=f"{_mode} scale", f32=10)  # fmt: skip
case("interpolate", lambda x: resize(x, (6, 8), halves()), normal(2, 3, 4, 5),
     function=lambda x: F.interpolate(x, scale_factor=1.6, mode="bilinear", recompute_scale_factor=True), text="recomputed", f32=10)  # fmt: skip
case(
    "interpolate",
    lambda x: resize(x, (7,), halves()),
    normal(2, 3, 4),
    function=lambda x: F.interpolate(x, 7, mode="linear"),
    text="linear",
    f32=10,
)
case(
    "interpolate",
    lambda x: resize(x, (8,), nearest()),
    normal(2, 3, 4),
    function=lambda x: F.interpolate(x, scale_factor=2),
    text="nearest, one dim",
)
case(
    "interpolate",
    lambda x: resize(x, (40, 50), halves()),
    normal(3, 9, 20, 25),
    function=lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    text="big",
    big=True,
    f32=10,
)
case(
    "pixel_shuffle",
    lambda x, r: x.reshape(2, 3, 2, 2, 3, 4).transpose(0, 1, 4, 2, 5, 3).reshape(2, 3, 6, 8),
    normal(2, 12, 3, 4),
    arguments=(2,),
)
case(
    "pixel_unshuffle",
    lambda x, r: x.reshape(2, 3, 3, 2, 4, 2).transpose(0, 1, 3, 5, 2, 4).reshape(2, 12, 3, 4),
    normal(2, 3, 6, 8),
    arguments=(2,),
)
case(
    "channel_shuffle",
    lambda x, g: x.reshape(2, 3, 2, 5).transpose(0, 2, 1, 3).reshape(2, 6, 5),
    normal(2, 6, 5),
    arguments=(3,),
)

_x = gd.zeros
refuses(
    "unfold",
    _core.ShapeError,
    "unfold: a window of (5, 5) does not fit into (4, 4) with padding (0, 0)",
    lambda: F.unfold(_x(1, 1, 4, 4), 5),
)
refuses(
    "unfold",
    _core.ShapeError,
    "unfold: expected input of 3 or 4 dims, none empty but the batch, got shape (4, 4)",
    lambda: F.unfold(_x(4, 4), 2),
)
refuses(
    "fold",
    _core.ShapeError,
    "fold: expected input of shape (..., a multiple of 4, 9), got (1, 6, 9)",
    lambda: F.fold(_x(1, 6, 9), 4, 2),
)
refuses(
    "fold",
    _core.ShapeError,
    "fold: expected input of shape (..., a multiple of 4, 9), got (1, 8, 8)",
    lambda: F.fold(_x(1, 8, 8), 4, 2),
)
refuses(
    "interpolate",
    _core.NotOffered,
    "interpolate: mode='bicubic' of 4 dims is not offered",
    lambda: F.interpolate(_x(1, 1, 4, 4), 8, mode="bicubic"),
)
refuses(
    "interpolate",
    _core.NotOffered,
    "interpolate: antialias is not offered",
    lambda: F.interpolate(_x(1, 1, 4, 4), 8, mode="bilinear", antialias=True),
)
refuses(
    "interpolate",
    _core.NotOffered,
    "interpolate: mode='nearest' of 5 dims is not offered",
    lambda: F.interpolate(_x(1, 1, 4, 4, 4), 8),
)
refuses(
    "interpolate",
    _core.ShapeError,
    "interpolate: expected mode to be one of nearest, nearest-exact, linear, got 'bilinear'",
    lambda: F.interpolate(_x(1, 1, 4), 8, mode="bilinear"),
)
refuses(
    "interpolate",
    _core.ShapeError,
    "interpolate: expected either size or scale_factor, got None and None",
    lambda: F.interpolate(_x(1, 1, 4)),
)
refuses(
    "interpolate",
    _core.ShapeError,
    "interpolate: align_corners has no meaning with mode='nearest'",
    lambda: F.interpolate(_x(1, 1, 4), 8, align_corners=True),
)
refuses(
    "interpolate",
    _core.ShapeError,
    "interpolate: an input of shape (1, 1, 4) cannot be resized to (0,)",
    lambda: F.interpolate(_x(1, 1, 4), scale_factor=0.1),
)
refuses(
    "pixel_shuffle",
    _core.ShapeError,
    "pixel_shuffle: expected channels to be a multiple of 4, got 6",
    lambda: F.pixel_shuffle(_x(1, 6, 2, 2), 2),
)
refuses(
    "pixel_unshuffle",
    _core.ShapeError,
    "pixel_unshuffle: expected rows and columns to be multiples of 2, got 3 and 4",
    lambda: F.pixel_unshuffle(_x(1, 6, 3, 4), 2),
)
refuses(
    "channel_shuffle",
    _core.ShapeError,
    "channel_shuffle: expected channels to be a multiple of groups, got 6 and 4",
    lambda: F.channel_shuffle(_x(1, 6, 2), 4),
)
refuses(
    "grid_sample", _core.NotOffered, "grid_sample: not offered", lambda: F.grid_sample(_x(1, 1, 2, 2), _x(1, 2, 2, 2))
)
refuses("affine_grid", _core.NotOffered, "affine_grid: not offered", lambda: F.affine_grid(_x(1, 2, 3), (1, 1, 2, 2)))
APART |= {"affine_grid", "grid_sample"}  # not offered: refusals only
