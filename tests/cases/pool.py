"""Cases of pooling: the reference takes each window by itself."""
# ruff: noqa: E501 - tables are read by rows

import functools
import math

import numpy as np

import fastgd as gd
from fastgd import _core
from fastgd.ops import functional as F

from . import APART, away, case, normal, refuses


def windows(n, kernel, stride=None, pad=0, dil=1, ceil=False):
    """For each output along one axis: the positions inside, and how many positions with the padding."""
    stride = kernel if stride is None else stride
    room = n + 2 * pad - dil * (kernel - 1) - 1
    count = (math.ceil if ceil else math.floor)(room / stride) + 1
    if ceil and (count - 1) * stride >= n + pad:
        count -= 1
    found = []
    for o in range(count):
        at = [o * stride - pad + t * dil for t in range(kernel)]
        end = min(o * stride - pad + dil * (kernel - 1) + 1, n + pad)
        found.append(([i for i in at if 0 <= i < n], end - (o * stride - pad)))
    return found


def adaptive(n, out):
    return [(list(range(o * n // out, -((o + 1) * n // -out))), None) for o in range(out)]


def pool(x, rows, cols, reduce):
    """reduce(window [..., r, s], positions with padding) for each pair of windows."""
    y = np.zeros((*x.shape[:-2], len(rows), len(cols)))
    for p, (i, a) in enumerate(rows):
        for q, (j, b) in enumerate(cols):
            y[..., p, q] = reduce(x[..., i, :][..., j], None if a is None else a * b)
    return y


def largest(part, size):
    return part.max((-2, -1), initial=-np.inf)


def mean(part, size):
    return part.mean((-2, -1))


def padded_mean(part, size):
    return part.sum((-2, -1)) / size


def position(x, rows, cols):
    at = np.arange(x.shape[-2] * x.shape[-1]).reshape(x.shape[-2:])
    y = np.zeros((*x.shape[:-2], len(rows), len(cols)), np.int64)
    for p, (i, _) in enumerate(rows):
        for q, (j, _) in enumerate(cols):
            part = x[..., i, :][..., j].reshape(*x.shape[:-2], len(i) * len(j))
            y[..., p, q] = at[i][:, j].reshape(-1)[part.argmax(-1)]
    return y


REGULAR = (  # shape, kernel, stride, pad, dil, ceil
    ((2, 3, 7, 9), 2, None, 0, 1, False), ((3, 8, 8), 3, 2, 1, 1, False), ((1, 2, 7, 8), 3, 2, 1, 1, True), ((2, 1, 9, 40), 2, 1, 1, 2, False),
    ((1, 1, 1, 1), 1, None, 0, 1, False), ((0, 2, 4, 4), 2, None, 0, 1, False), ((1, 2, 5, 70), 3, 3, 0, 1, True), ((1, 1, 6, 6), 3, 5, 1, 2, True),
)  # fmt: skip
for _shape, _k, _s, _p, _d, _ceil in REGULAR:

    def _axes(x, k=_k, s=_s, p=_p, d=_d, c=_ceil):
        return windows(x.shape[-2], k, s, p, d, c), windows(x.shape[-1], k, s, p, d, c)

    _text = f"{_shape, _k, _s, _p, _d, _ceil}".replace(" ", "")
    case("max_pool2d", lambda x, axes=_axes: pool(x, *axes(x), largest), away(*_shape),
         function=lambda x, a=(_k, _s, _p, _d, _ceil): F.max_pool2d(x, *a), text=_text)  # fmt: skip
    case("max_pool2d", lambda x, axes=_axes: position(x, *axes(x)), away(*_shape), differentiable=False,
         function=lambda x, a=(_k, _s, _p, _d, _ceil, True): F.max_pool2d(x, *a)[1], text=f"{_text} at")  # fmt: skip
    if _d == 1:
        case("avg_pool2d", lambda x, axes=_axes: pool(x, *axes(x), padded_mean), normal(*_shape),
             function=lambda x, a=(_k, _s, _p, _ceil): F.avg_pool2d(x, *a), text=_text)  # fmt: skip
        case("avg_pool2d", lambda x, axes=_axes: pool(x, *axes(x), mean), normal(*_shape),
             function=lambda x, a=(_k, _s, _p, _ceil, False): F.avg_pool2d(x, *a), text=f"{_text} inside")  # fmt: skip
case("avg_pool2d", lambda x: pool(x, windows(6, 2), windows(5, 2), lambda part, size: part.sum((-2, -1)) / 3), normal(2, 6, 5),
     function=lambda x: F.avg_pool2d(x, 2, divisor_override=3), text="divisor")  # fmt: skip
for _k, _s, _p, _ceil in ((2, None, 0, False), (3, 2, 1, True)):

    def _line(x, reduce, k=_k, s=_s, p=_p, c=_ceil):
        return pool(x[..., None, :], windows(1, 1), windows(x.shape[-1], k, s, p, 1, c), reduce)[..., 0, :]

    case(
        "max_pool1d",
        functools.partial(_line, reduce=largest),
        away(2, 3, 20),
        function=lambda x, a=(_k, _s, _p, 1, _ceil): F.max_pool1d(x, *a),
    )
    case(
        "avg_pool1d",
        functools.partial(_line, reduce=padded_mean),
        normal(3, 20),
        function=lambda x, a=(_k, _s, _p, _ceil): F.avg_pool1d(x, *a),
    )
for _shape, _out in (((2, 3, 7, 9), (3, 4)), ((2, 8, 6), (4, 3)), ((2, 3, 5, 4), (1, 1)), ((1, 2, 3, 3), (5, 4))):

    def _parts(x, o=_out):
        return adaptive(x.shape[-2], o[0]), adaptive(x.shape[-1], o[1])

    case(
        "adaptive_avg_pool2d",
        lambda x, parts=_parts: pool(x, *parts(x), mean),
        normal(*_shape),
        function=lambda x, o=_out: F.adaptive_avg_pool2d(x, o),
    )
    case(
        "adaptive_max_pool2d",
        lambda x, parts=_parts: pool(x, *parts(x), largest),
        away(*_shape),
        function=lambda x, o=_out: F.adaptive_max_pool2d(x, o),
    )
    case("adaptive_max_pool2d", lambda x, parts=_parts: position(x, *parts(x)), away(*_shape), differentiable=False,
         function=lambda x, o=_out: F.adaptive_max_pool2d(x, o, True)[1])  # fmt: skip
for _out in (1, 3, 5):
    case("adaptive_avg_pool1d", lambda x, o=_out: pool(x[..., None, :], adaptive(1, 1), adaptive(10, o), mean)[..., 0, :], normal(2, 3, 10),
         function=lambda x, o=_out: F.adaptive_avg_pool1d(x, o))  # fmt: skip
    case("adaptive_max_pool1d", lambda x, o=_out: pool(x[..., None, :], adaptive(1, 1), adaptive(10, o), largest)[..., 0, :], away(2, 3, 10),
         function=lambda x, o=_out: F.adaptive_max_pool1d(x, o))  # fmt: skip
for _name, _reduce, _draw in (("max_pool2d", largest, away), ("avg_pool2d", padded_mean, normal)):
    case(_name, lambda x, r=_reduce: pool(x, windows(33, 3, 2, 1), windows(37, 3, 2, 1), r), _draw(3, 20, 33, 37),
         function=lambda x, n=_name: getattr(F, n)(x, 3, 2, 1), text="big", big=True)  # fmt: skip

_x = gd.zeros
refuses(
    "max_pool2d",
    _core.ShapeError,
    "max_pool2d: expected input of 3 or 4 dims, got shape (4, 4)",
    lambda: F.max_pool2d(_x(4, 4), 2),
)
refuses(
    "max_pool2d",
    _core.ShapeError,
    "max_pool2d: expected padding of at most half of the kernel, got 2 and 3",
    lambda: F.max_pool2d(_x(1, 4, 4), 3, padding=2),
)
refuses(
    "max_pool2d",
    _core.ShapeError,
    "max_pool2d: a window of 5 does not fit into 4 (padded input)",
    lambda: F.max_pool2d(_x(1, 4, 4), 5),
)
refuses(
    "max_pool2d",
    _core.ShapeError,
    "max_pool2d: expected stride of at least 1, got 0",
    lambda: F.max_pool2d(_x(1, 4, 4), 2, 0),
)
refuses("max_pool2d", _core.DtypeError, "max_pool2d: expected float32 or float64, got fastgd.int64",
        lambda: F.max_pool2d(_x(1, 4, 4, dtype="int64"), 2))  # fmt: skip
refuses(
    "avg_pool2d",
    _core.ShapeError,
    "avg_pool2d: expected divisor_override other than 0",
    lambda: F.avg_pool2d(_x(1, 4, 4), 2, divisor_override=0),
)
refuses(
    "avg_pool1d",
    _core.ShapeError,
    "avg_pool1d: expected kernel_size of 1 integer, got (2, 2)",
    lambda: F.avg_pool1d(_x(1, 4, 4), (2, 2)),
)
refuses(
    "avg_pool1d",
    _core.ShapeError,
    "avg_pool1d: expected no empty dims but the batch, got shape (1, 4, 0)",
    lambda: F.avg_pool1d(_x(1, 4, 0), 2),
)
refuses("adaptive_avg_pool2d", _core.ShapeError, "adaptive_avg_pool2d: expected output_size of 1 or 2 integers, got (1, 2, 3)",
        lambda: F.adaptive_avg_pool2d(_x(1, 4, 4), (1, 2, 3)))  # fmt: skip
refuses("max_unpool1d", _core.NotOffered, "max_unpool1d: not offered", lambda: F.max_unpool1d(_x(1, 2), _x(1, 2), 2))
refuses(
    "max_unpool2d", _core.NotOffered, "max_unpool2d: not offered", lambda: F.max_unpool2d(_x(1, 2, 2), _x(1, 2, 2), 2)
)
APART |= {"max_unpool1d", "max_unpool2d"}  # not offered: refusals only
