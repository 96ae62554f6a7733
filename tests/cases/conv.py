"""Cases of convolutions: the reference adds one shifted product per tap of the kernel."""
# ruff: noqa: E501 - tables are read by rows

import functools

import numpy as np

import fastgd as gd
from fastgd import _core
from fastgd.ops import functional as F

from . import APART, case, normal, refuses


def pairs(*values):
    return tuple(v if isinstance(v, tuple) else (v, v) for v in values)


def taps(x, w_shape, size, stride, pad, dil):
    """For each tap (r, s) the elements of x, padded with zeros, that the outputs of `size` meet."""
    (p, q), (sh, sw), (ph, pw), (dh, dw) = size, stride, pad, dil
    (r, s), far = w_shape[2:], 3 * max(*w_shape[2:], 1) * max(sh, sw, dh, dw) + 8
    padded = np.pad(x, ((0, 0), (0, 0), (ph, far), (pw, far)))
    for i in range(r):
        for j in range(s):
            yield i, j, padded[:, :, i * dh :, j * dw :][:, :, : p * sh : sh, : q * sw : sw][:, :, :p, :q]


def conv(x, w, b=None, stride=1, pad=0, dil=1, groups=1, after=None):
    stride, pad, dil = pairs(stride, pad, dil)
    after = pad if after is None else after
    n, c = x.shape[:2]
    k = w.shape[0]
    size = [
        (m + p + a - d * (t - 1) - 1) // s + 1
        for m, p, a, d, t, s in zip(x.shape[2:], pad, after, dil, w.shape[2:], stride, strict=True)
    ]
    y = np.zeros((n, k, *size))
    for i, j, part in taps(x, w.shape, size, stride, pad, dil):
        grouped = part.reshape(n, groups, c // groups, *size)
        weights = w[:, :, i, j].reshape(groups, k // groups, c // groups)
        y += np.einsum("gkc,ngcpq->ngkpq", weights, grouped).reshape(y.shape)
    return y if b is None else y + b[:, None, None]


def conv_transposed(x, w, b=None, stride=1, pad=0, extra=0, dil=1, groups=1):
    stride, pad, extra, dil = pairs(stride, pad, extra, dil)
    n, c, h, m = x.shape
    k = w.shape[1] * groups
    full = [
        (a - 1) * s + d * (t - 1) + e + 1
        for a, s, d, t, e in zip(x.shape[2:], stride, dil, w.shape[2:], extra, strict=True)
    ]
    y = np.zeros((n, k, *full))
    grouped = x.reshape(n, groups, c // groups, h, m)
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            weights = w[:, :, i, j].reshape(groups, c // groups, k // groups)
            part = np.einsum("gck,ngcpq->ngkpq", weights, grouped).reshape(n, k, h, m)
            y[:, :, i * dil[0] :, j * dil[1] :][:, :, : h * stride[0] : stride[0], : m * stride[1] : stride[1]][
                :, :, :h, :m
            ] += part
    y = y[:, :, pad[0] : full[0] - pad[0], pad[1] : full[1] - pad[1]]
    return y if b is None else y + b[:, None, None]


def one_dim(function, **options):
    """The reference in one dim, by a second one of size 1."""
    options = {
        name: (0 if name in ("pad", "extra") else 1, v) if name != "groups" else v for name, v in options.items()
    }
    return lambda x, w, *b: function(x[:, :, None], w[:, :, None], *b, **options)[:, :, 0]


CONV2D = (  # N C K groups H W R S  stride pad dil
    (2, 3, 5, 1, 7, 9, 3, 3, 1, 1, 1), (2, 3, 5, 1, 7, 9, 3, 3, 2, 1, 1), (1, 4, 6, 2, 8, 7, 3, 2, (2, 1), (0, 1), (1, 2)),
    (1, 17, 15, 1, 5, 6, 3, 3, 1, 1, 1), (2, 4, 3, 1, 3, 4, 1, 1, 1, 0, 1), (2, 4, 3, 1, 5, 5, 1, 1, 2, 0, 1),
    (1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1), (0, 2, 3, 1, 4, 4, 3, 3, 1, 1, 1), (1, 2, 3, 1, 5, 5, 5, 5, 1, 0, 1), (2, 2, 3, 1, 5, 6, 2, 2, 3, 1, 1),
    (1, 2, 3, 1, 9, 8, 3, 3, 3, 2, 2), (1, 1, 2, 1, 4, 4, 3, 3, 1, 4, 1), (1, 1, 2, 1, 3, 35, 2, 3, 1, 0, 1), (1, 33, 2, 1, 3, 3, 3, 3, 1, 1, 1),
    (2, 3, 3, 3, 6, 9, 3, 3, 1, 1, 1), (1, 3, 6, 3, 7, 19, 3, 2, 2, 1, 1), (1, 4, 4, 4, 9, 5, 3, 3, (2, 3), (2, 0), (1, 2)), (0, 2, 2, 2, 3, 3, 1, 1, 1, 0, 1),
)  # fmt: skip
for _n, _c, _k, _g, _h, _w, _r, _s, _stride, _pad, _dil in CONV2D:
    _options = {"stride": _stride, "pad": _pad, "dil": _dil, "groups": _g}
    _text = f"{_n, _c, _k, _g, _h, _w, _r, _s, _stride, _pad, _dil}".replace(" ", "")
    case("conv2d", functools.partial(conv, **_options), normal(_n, _c, _h, _w), normal(_k, _c // _g, _r, _s), normal(_k),
         function=lambda x, w, b, a=(_stride, _pad, _dil, _g): F.conv2d(x, w, b, *a), text=_text, f32=10)  # fmt: skip
for _n, _c, _k, _g, _h, _w, _r, _s, _stride, _pad, _dil, _extra in (
    (2, 3, 5, 1, 4, 5, 3, 3, 1, 1, 1, 0), (2, 3, 5, 1, 4, 5, 3, 3, 2, 1, 1, 1), (1, 4, 6, 2, 3, 5, 3, 2, (2, 1), (0, 1), (1, 2), 0),
    (1, 2, 3, 1, 3, 3, 2, 2, 3, 0, 1, (2, 1)), (2, 4, 3, 1, 3, 4, 1, 1, 1, 0, 1, 0), (1, 3, 3, 3, 4, 5, 3, 3, 2, 1, 1, 1), (1, 3, 6, 3, 4, 5, 2, 3, 2, 0, 1, 0),
    (1, 2, 2, 1, 5, 4, 3, 3, 2, 1, 2, 1), (0, 2, 3, 1, 3, 3, 3, 3, 1, 1, 1, 0),
):  # fmt: skip
    _options = {"stride": _stride, "pad": _pad, "extra": _extra, "dil": _dil, "groups": _g}
    case("conv_transpose2d", functools.partial(conv_transposed, **_options), normal(_n, _c, _h, _w), normal(_c, _k // _g, _r, _s), normal(_k),
         function=lambda x, w, b, a=(_stride, _pad, _extra, _g, _dil): F.conv_transpose2d(x, w, b, *a), text=f"{_n, _c, _k, _g, _stride, _extra}", f32=10)  # fmt: skip
for _length, _s, _stride, _pad, _dil, _g in (
    (20, 3, 1, 1, 1, 1),
    (21, 5, 2, 2, 3, 2),
    (600, 3, 1, 1, 1, 1),
    (7, 1, 1, 0, 1, 1),
    (9, 3, 2, 1, 1, 4),
):
    _options = {"stride": _stride, "pad": _pad, "dil": _dil, "groups": _g}
    case("conv1d", one_dim(conv, **_options), normal(2, 4, _length), normal(8, 4 // _g, _s), normal(8),
         function=lambda x, w, b, a=(_stride, _pad, _dil, _g): F.conv1d(x, w, b, *a), text=f"{_length, _s, _stride, _dil, _g}", f32=10)  # fmt: skip
    case("conv_transpose1d", one_dim(conv_transposed, **_options), normal(2, 8, _length), normal(8, 4 // _g, _s), normal(4),
         function=lambda x, w, b, a=(_stride, _pad, 0, _g, _dil): F.conv_transpose1d(x, w, b, *a), text=f"{_length, _s, _stride, _dil, _g}", f32=10)  # fmt: skip
case("conv2d", functools.partial(conv, pad=(1, 0), after=(2, 1)), normal(1, 2, 5, 6), normal(3, 2, 4, 2), normal(3),
     function=lambda x, w, b: F.conv2d(x, w, b, padding="same"), text="same")  # fmt: skip
case(
    "conv2d",
    conv,
    normal(1, 2, 5, 6),
    normal(3, 2, 4, 2),
    function=lambda x, w: F.conv2d(x, w, padding="valid"),
    text="valid, no bias",
)
case(
    "conv2d", lambda x, w, b: conv(x[None], w, b)[0], normal(2, 5, 6), normal(3, 2, 2, 3), normal(3), text="one sample"
)
case("conv1d", lambda x, w: one_dim(conv)(x[None], w)[0], normal(2, 9), normal(3, 2, 2), text="one sample")
case(
    "conv_transpose2d",
    lambda x, w: conv_transposed(x[None], w)[0],
    normal(2, 5, 6),
    normal(2, 3, 2, 3),
    text="one sample",
)
case("conv2d", lambda x, w, b: np.maximum(conv(x, w, b, pad=1), 0) * 2, normal(2, 3, 6, 7), normal(9, 3, 3, 3), normal(9),
     function=lambda x, w, b: F.relu(F.conv2d(x, w, b, padding=1)) * 2, text="epilogue", f32=10)  # fmt: skip
case("conv2d", lambda x, w, z: conv(x, w) * z + z, normal(2, 3, 6, 7), normal(4, 3, 3, 3), normal(2, 1, 4, 1),
     function=lambda x, w, z: F.conv2d(x, w) * z + z, text="an epilogue that rows and columns do not share")  # fmt: skip
case("conv2d", functools.partial(conv, pad=1), normal(9, 20, 14, 17), normal(31, 20, 3, 3), normal(31),
     function=lambda x, w, b: F.conv2d(x, w, b, padding=1), text="big", big=True, f32=40)  # fmt: skip
case("conv2d", functools.partial(conv, pad=1, stride=2), normal(1, 20, 44, 40), normal(31, 20, 3, 3), normal(31),
     function=lambda x, w, b: F.conv2d(x, w, b, padding=1, stride=2), text="big, one image", big=True, f32=40)  # fmt: skip
case("conv2d", functools.partial(conv, pad=1, groups=24), normal(5, 24, 20, 37), normal(24, 1, 3, 3), normal(24),
     function=lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=24), text="big, depthwise", big=True, f32=40)  # fmt: skip
case("conv_transpose2d", functools.partial(conv_transposed, stride=2, pad=1, extra=1), normal(5, 24, 10, 9), normal(24, 20, 3, 3), normal(20),
     function=lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1), text="big", big=True, f32=40)  # fmt: skip


def _x(*shape, dtype="float32"):
    return gd.zeros(*shape, dtype=dtype)


refuses("conv2d", _core.ShapeError, "conv2d: expected weight of shape (a multiple of 1, 3, ...), got (4, 2, 3, 3) (input of shape (1, 3, 5, 5))",
        lambda: F.conv2d(_x(1, 3, 5, 5), _x(4, 2, 3, 3)))  # fmt: skip
refuses("conv2d", _core.ShapeError, "conv2d: expected weight of shape (a multiple of 2, 2, ...), got (3, 2, 3, 3) (input of shape (1, 4, 5, 5))",
        lambda: F.conv2d(_x(1, 4, 5, 5), _x(3, 2, 3, 3), groups=2))  # fmt: skip
refuses(
    "conv2d",
    _core.ShapeError,
    "conv2d: expected bias of shape (4,), got (3,)",
    lambda: F.conv2d(_x(1, 3, 5, 5), _x(4, 3, 3, 3), _x(3)),
)
refuses(
    "conv2d",
    _core.ShapeError,
    "conv2d: expected input of 3 or 4 dims, got shape (5, 5)",
    lambda: F.conv2d(_x(5, 5), _x(4, 3, 3, 3)),
)
refuses(
    "conv2d",
    _core.ShapeError,
    "conv2d: expected weight of 4 dims, got shape (4, 3, 3)",
    lambda: F.conv2d(_x(1, 3, 5, 5), _x(4, 3, 3)),
)
refuses("conv2d", _core.ShapeError, "conv2d: a kernel of 5 (dilated) does not fit into 4 (padded input)",
        lambda: F.conv2d(_x(1, 3, 4, 9), _x(4, 3, 3, 3), dilation=2))  # fmt: skip
refuses(
    "conv2d",
    _core.ShapeError,
    "conv2d: expected stride of at least 1, got 0",
    lambda: F.conv2d(_x(1, 3, 5, 5), _x(4, 3, 3, 3), stride=0),
)
refuses(
    "conv2d",
    _core.ShapeError,
    "conv2d: expected padding of 1 or 2 integers, got (1, 1, 1)",
    lambda: F.conv2d(_x(1, 3, 5, 5), _x(4, 3, 3, 3), padding=(1, 1, 1)),
)
refuses(
    "conv2d",
    _core.DtypeError,
    "conv2d: expected dilation of integers, got 1.5",
    lambda: F.conv2d(_x(1, 3, 5, 5), _x(4, 3, 3, 3), dilation=1.5),
)
refuses(
    "conv2d",
    _core.ShapeError,
    "conv2d: expected padding 'same', 'valid' or integers, got 'full'",
    lambda: F.conv2d(_x(1, 3, 5, 5), _x(4, 3, 3, 3), padding="full"),
)
refuses(
    "conv2d",
    _core.ShapeError,
    "conv2d: padding='same' needs stride 1, got (2, 2)",
    lambda: F.conv2d(_x(1, 3, 5, 5), _x(4, 3, 3, 3), None, 2, "same"),
)
refuses(
    "conv2d",
    _core.ShapeError,
    "conv2d: expected groups of at least 1, got 0",
    lambda: F.conv2d(_x(1, 3, 5, 5), _x(4, 3, 3, 3), groups=0),
)
refuses(
    "conv2d",
    _core.DtypeError,
    "conv2d: expected one dtype, got fastgd.float32 and fastgd.float64",
    lambda: F.conv2d(_x(1, 3, 5, 5), _x(4, 3, 3, 3, dtype="float64")),
)
refuses(
    "conv2d",
    _core.DtypeError,
    "conv2d: expected float32 or float64, got fastgd.int64",
    lambda: F.conv2d(_x(1, 3, 5, 5, dtype="int64"), _x(4, 3, 3, 3, dtype="int64")),
)
refuses(
    "conv1d",
    _core.ShapeError,
    "conv1d: expected input of 2 or 3 dims, got shape (1, 3, 5, 5)",
    lambda: F.conv1d(_x(1, 3, 5, 5), _x(4, 3, 3)),
)
refuses("conv_transpose2d", _core.ShapeError, "conv_transpose2d: expected weight of shape (3, ...), got (4, 2, 3, 3) (input of shape (1, 3, 5, 5))",
        lambda: F.conv_transpose2d(_x(1, 3, 5, 5), _x(4, 2, 3, 3)))  # fmt: skip
refuses("conv_transpose2d", _core.ShapeError, "conv_transpose2d: expected output_padding below stride or dilation, got 2 with 2 and 1",
        lambda: F.conv_transpose2d(_x(1, 3, 5, 5), _x(3, 2, 3, 3), stride=2, output_padding=2))  # fmt: skip
refuses("conv_transpose1d", _core.ShapeError, "conv_transpose1d: an input of shape (1, 3, 2) leaves an output of size 0",
        lambda: F.conv_transpose1d(_x(1, 3, 2), _x(3, 2, 3), padding=2))  # fmt: skip
refuses(
    "conv3d",
    _core.NotOffered,
    "conv3d: convolutions in three dims are not offered",
    lambda: F.conv3d(_x(1, 3, 5, 5, 5), _x(4, 3, 3, 3, 3)),
)
refuses(
    "conv_transpose3d",
    _core.NotOffered,
    "conv_transpose3d: convolutions in three dims are not offered",
    lambda: F.conv_transpose3d(_x(1, 3, 5, 5, 5), _x(3, 4, 3, 3, 3)),
)
APART |= {"conv3d", "conv_transpose3d"}  # not offered: refusals only
