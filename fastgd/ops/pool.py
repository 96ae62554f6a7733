"""Pooling in one and two dims: maximum and average over windows, regular and adaptive."""

from __future__ import annotations

import math
from typing import Any

from .. import _core
from .._core import NotOffered, ShapeError, aval
from ..compiler.lower import Call
from ..tensor import Tensor
from .conv import Size, sizes
from .reduce import mean
from .registry import Op, apply
from .rowwise import suffix
from .shape import reshape

__all__ = [
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

# Attributes: kernel, stride, pad, dilation, adaptive, count_pad, divisor, and the spatial size of the result.
_ATTRS = ("kernel", "stride", "pad", "dilation", "adaptive", "count_pad", "divisor", "size")


def _fields(x: tuple[int, ...], y: tuple[int, ...], attrs: tuple) -> dict[str, int]:
    kernel, stride, pad, dil, adaptive, count_pad, divisor = attrs[:7]
    n = len(kernel)
    (h, w), (p, q) = ((1, *s[-1:]) if n == 1 else s[-2:] for s in (x, y))
    (r, s), (sh, sw), (ph, pw), (dh, dw) = ((o, *v) if n == 1 else v for o, v in zip((1, 1, 0, 1), (kernel, stride, pad, dil), strict=True))  # fmt: skip  # noqa: E501
    return {
        "planes": math.prod(x[:-n]), "h": h, "w": w, "p": p, "q": q, "r": r, "s": s, "stride_h": sh, "stride_w": sw,
        "pad_h": ph, "pad_w": pw, "dil_h": dh, "dil_w": dw, "adaptive": adaptive, "count_pad": count_pad,
        "divisor": divisor,
    }  # fmt: skip


def _lower_fwd(kernel: str) -> Any:
    def lower(node: Any) -> Call:
        x, y = node.inputs[0].aval, node.outputs[0].aval
        results = list(node.outputs)
        return Call(
            f"{kernel}_{suffix(kernel, x)}", _fields(x.shape, y.shape, node.attrs), [*results, x_of(node)], results
        )

    return lower


def x_of(node: Any) -> Any:
    return node.inputs[0]


def _lower_bwd(kernel: str) -> Any:
    def lower(node: Any) -> Call:
        dx, dy = node.outputs[0], node.inputs[0]
        fields = _fields(dx.aval.shape, dy.aval.shape, node.attrs)
        return Call(f"{kernel}_{suffix(kernel, dy.aval)}", fields, [dx, *node.inputs], [dx])

    return lower


def _result(avals: tuple, attrs: tuple) -> Any:
    x = avals[0]
    return aval(x.dtype, (*x.shape[: -len(attrs[-1])], *attrs[-1]))


def _bwd_attrs(n: Any) -> tuple:
    return (*n.attrs[:-1], n.in_avals[0].shape[-len(n.attrs[-1]) :])


MAX_POOL_BWD = Op("max_pool_bwd", lambda a, attrs: (_result(a, attrs),), _ATTRS, lower=_lower_bwd("max_pool_bwd"))
AVG_POOL_BWD = Op("avg_pool_bwd", lambda a, attrs: (_result(a, attrs),), _ATTRS, lower=_lower_bwd("avg_pool_bwd"))
MAX_POOL = Op(
    "max_pool",
    lambda a, attrs: (_result(a, attrs), aval(_core.int64, _result(a, attrs).shape)),
    _ATTRS,
    lower=_lower_fwd("max_pool_fwd"),
    vjp=lambda n, g, unused=None: (apply(MAX_POOL_BWD, (g, n.outputs[1]), _bwd_attrs(n)),),
    saves="o1",
)
AVG_POOL = Op(
    "avg_pool",
    lambda a, attrs: (_result(a, attrs),),
    _ATTRS,
    lower=_lower_fwd("avg_pool_fwd"),
    vjp=lambda n, g: (apply(AVG_POOL_BWD, (g,), _bwd_attrs(n)),),
)


def _check(name: str, input: Tensor, ndim: int) -> None:
    suffix(name, input.aval)
    if input.ndim not in (ndim + 1, ndim + 2):
        raise ShapeError(f"{name}: expected input of {ndim + 1} or {ndim + 2} dims, got shape {input.shape}")
    if 0 in input.shape[-ndim - 1 :]:
        raise ShapeError(f"{name}: expected no empty dims but the batch, got shape {input.shape}")


def _window(
    name: str, ndim: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple:
    """(kernel, stride, pad, dilation), size of the result."""
    _check(name, input, ndim)
    kernel = sizes(name, "kernel_size", kernel_size, ndim, 1)
    absent = stride is None or (isinstance(stride, (tuple, list)) and not stride)
    step = kernel if absent else sizes(name, "stride", stride, ndim, 1)
    pad, dil = sizes(name, "padding", padding, ndim, 0), sizes(name, "dilation", dilation, ndim, 1)
    size = []
    for n, k, s, p, d in zip(input.shape[-ndim:], kernel, step, pad, dil, strict=True):
        if 2 * p > k:
            raise ShapeError(f"{name}: expected padding of at most half of the kernel, got {p} and {k}")
        room = n + 2 * p - d * (k - 1) - 1
        out = (room + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (out - 1) * s >= n + p:  # the last window would begin in the padding behind
            out -= 1
        if out < 1:
            raise ShapeError(f"{name}: a window of {d * (k - 1) + 1} does not fit into {n + 2 * p} (padded input)")
        size.append(out)
    return (kernel, step, pad, dil), tuple(size)


def _max_pool(ndim: int, input: Tensor, window: tuple, return_indices: bool) -> Any:
    y, index = apply(MAX_POOL, (input,), (*window[0], False, False, 0, window[1]))
    return (y, index) if return_indices else y


def max_pool1d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window along the last dim; see max_pool2d.

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (C, L)
    """
    window = _window("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool(1, input, window, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window; NaN counts as largest.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W)
    kernel_size : int or tuple of int
    stride : int or tuple of int, optional
        The kernel's size unless given.
    padding : int or tuple of int
        At most half of the kernel; the margin never wins.
    dilation : int or tuple of int
    ceil_mode : bool
        Whether a window that begins inside but ends outside counts.
    return_indices : bool
        Whether the flat positions in the plane are returned too, int64.

    Returns
    -------
    Tensor, or (Tensor, Tensor)
        The gradient of an element goes to the position; of equal elements it is the first.
    """
    window = _window("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool(2, input, window, return_indices)


def avg_pool1d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window along the last dim; see avg_pool2d.

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (C, L)
    """
    window, size = _window("avg_pool1d", 1, input, kernel_size, stride, padding, 1, ceil_mode)
    return apply(AVG_POOL, (input,), (*window, False, bool(count_include_pad), 0, size))


def avg_pool2d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W)
    kernel_size : int or tuple of int
    stride : int or tuple of int, optional
        The kernel's size unless given.
    padding : int or tuple of int
        Zeros, at most half of the kernel.
    ceil_mode : bool
        Whether a window that begins inside but ends outside counts.
    count_include_pad : bool
        Whether the padding (but not what lies behind it) counts in the divisor.
    divisor_override : int, optional
        What the sums are divided by.
    """
    window, size = _window("avg_pool2d", 2, input, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override == 0:
        raise ShapeError("avg_pool2d: expected divisor_override other than 0")
    return apply(AVG_POOL, (input,), (*window, False, bool(count_include_pad), int(divisor_override or 0), size))


def _adaptive(name: str, ndim: int, input: Tensor, output_size: Any) -> tuple[tuple, tuple[int, ...]]:
    """The attributes of the adaptive windows; those that divide evenly are regular ones."""
    _check(name, input, ndim)
    found = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * ndim
    if len(found) != ndim:
        raise ShapeError(f"{name}: expected output_size of 1 or {ndim} integers, got {output_size!r}")
    filled = tuple(n if o is None else o for o, n in zip(found, input.shape[-ndim:], strict=True))
    size = sizes(name, "output_size", filled, ndim, 0)
    whole = input.shape[-ndim:]
    if all(o and n % o == 0 for o, n in zip(size, whole, strict=True)):
        kernel = tuple(n // o for n, o in zip(whole, size, strict=True))
        return (kernel, kernel, (0,) * ndim, (1,) * ndim, False, False, 0), size
    ones = (1,) * ndim
    return (ones, ones, (0,) * ndim, ones, True, False, 0), size


def _adaptive_avg(name: str, ndim: int, input: Tensor, output_size: Any) -> Tensor:
    attrs, size = _adaptive(name, ndim, input, output_size)
    if all(n == 1 for n in size):
        return reshape(mean(input, tuple(range(-ndim, 0))), (*input.shape[:-ndim], *size))
    return apply(AVG_POOL, (input,), (*attrs, size))


def _adaptive_max(name: str, ndim: int, input: Tensor, output_size: Any, return_indices: bool) -> Any:
    attrs, size = _adaptive(name, ndim, input, output_size)
    y, index = apply(MAX_POOL, (input,), (*attrs, size))
    return (y, index) if return_indices else y


def adaptive_avg_pool1d(input: Tensor, output_size: Size) -> Tensor:
    """The mean of each of `output_size` windows that part the last dim evenly; see adaptive_avg_pool2d.

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (C, L)
    """
    return _adaptive_avg("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The mean of windows that part the plane evenly: rows floor(p H / P) to ceil((p + 1) H / P).

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W)
    output_size : int, or two of int or None
        (P, Q); None keeps the size of the input.
    """
    return _adaptive_avg("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_max_pool1d(input: Tensor, output_size: Size, return_indices: bool = False) -> Any:
    """The largest element of each of `output_size` windows that part the last dim evenly.

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (C, L)
    """
    return _adaptive_max("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The largest element of windows that part the plane evenly; see adaptive_avg_pool2d.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W)
    output_size : int, or two of int or None
    return_indices : bool
    """
    return _adaptive_max("adaptive_max_pool2d", 2, input, output_size, return_indices)


def max_unpool1d(
    input: Tensor, indices: Tensor, kernel_size: Size, stride: Any = None, padding: Size = 0, output_size: Any = None
) -> Tensor:
    """Not offered; raises NotImplementedError."""
    raise NotOffered("max_unpool1d: not offered")


def max_unpool2d(
    input: Tensor, indices: Tensor, kernel_size: Size, stride: Any = None, padding: Size = 0, output_size: Any = None
) -> Tensor:
    """Not offered; raises NotImplementedError."""
    raise NotOffered("max_unpool2d: not offered")
