"""Rearranging and resizing images: unfold, fold, interpolate, pixel_shuffle and their kin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _core
from .._core import DtypeError, NotOffered, ShapeError, aval
from ..compiler.lower import Call
from ..tensor import Tensor
from .conv import Size, sizes
from .registry import Op, apply
from .rowwise import suffix
from .shape import permute, reshape

__all__ = [
    "affine_grid",
    "channel_shuffle",
    "fold",
    "grid_sample",
    "interpolate",
    "pixel_shuffle",
    "pixel_unshuffle",
    "unfold",
]

# ---- unfold and fold ----


def _columns(size: tuple, kernel: tuple, dil: tuple, pad: tuple, stride: tuple) -> tuple[int, ...]:
    """Places of the kernel along each axis."""
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in zip(size, kernel, dil, pad, stride, strict=True)
    )


def _lower(kernel: str, image: Any) -> Any:
    def lower(node: Any) -> Call:
        h, w = image(node)
        (r, s), dil, pad, stride = node.attrs[1:]
        (p, q), out = _columns((h, w), (r, s), dil, pad, stride), node.outputs[0]
        shape = node.inputs[0].aval.shape if kernel == "unfold" else out.aval.shape
        fields = {
            "n": math.prod(shape[:-2]), "groups": 1, "c": 1, "h": h, "w": w, "k": 1, "p": p, "q": q, "r": r, "s": s,
            "stride_h": stride[0], "stride_w": stride[1], "pad_h": pad[0], "pad_w": pad[1], "dil_h": dil[0],
            "dil_w": dil[1],
        }  # fmt: skip
        return Call(f"{kernel}_{suffix(kernel, out.aval)}", fields, [out, *node.inputs], [out])

    return lower


def _infer_unfold(avals: tuple, attrs: tuple) -> tuple:
    (x,), (_, kernel, *window) = avals, attrs
    places = _columns(x.shape[-2:], kernel, *window)
    return (aval(x.dtype, (*x.shape[:-3], x.shape[-3] * math.prod(kernel), math.prod(places))),)


def _infer_fold(avals: tuple, attrs: tuple) -> tuple:
    (x,), (size, kernel) = avals, attrs[:2]
    return (aval(x.dtype, (*x.shape[:-2], x.shape[-2] // math.prod(kernel), *size)),)


_ATTRS = ("size", "kernel", "dilation", "padding", "stride")
UNFOLD = Op(
    "unfold",
    _infer_unfold,
    _ATTRS,
    lower=_lower("unfold", lambda n: n.inputs[0].aval.shape[-2:]),
    vjp=lambda n, g: (apply(FOLD, (g,), n.attrs),),
)
FOLD: Op = Op(
    "fold",
    _infer_fold,
    _ATTRS,
    lower=_lower("fold", lambda n: n.attrs[0]),
    vjp=lambda n, g: (apply(UNFOLD, (g,), n.attrs),),
)


def _window(name: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> tuple:
    return (
        sizes(name, "kernel_size", kernel_size, 2, 1),
        sizes(name, "dilation", dilation, 2, 1),
        sizes(name, "padding", padding, 2, 0),
        sizes(name, "stride", stride, 2, 1),
    )


def _check_places(name: str, size: tuple[int, ...], window: tuple) -> tuple[int, ...]:
    places = _columns(size, *window)
    if any(n < 1 for n in places):
        raise ShapeError(f"{name}: a window of {window[0]} does not fit into {tuple(size)} with padding {window[2]}")
    return places


def unfold(input: Tensor, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1) -> Tensor:
    """The windows of images as columns (im2col).

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W)
    kernel_size, dilation, padding, stride : int or tuple of int

    Returns
    -------
    Tensor, shape (N, C * kernel elements, windows)
    """
    window = _window("unfold", kernel_size, dilation, padding, stride)
    suffix("unfold", input.aval)
    if input.ndim not in (3, 4) or 0 in input.shape[-3:]:
        raise ShapeError(f"unfold: expected input of 3 or 4 dims, none empty but the batch, got shape {input.shape}")
    _check_places("unfold", input.shape[-2:], window)
    return apply(UNFOLD, (input,), (input.shape[-2:], *window))


def fold(
    input: Tensor, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> Tensor:
    """Adds up columns of windows to images: the transpose of unfold as a linear map.

    Parameters
    ----------
    input : Tensor, shape (N, C * kernel elements, windows) or without N
    output_size : int or tuple of int
        (H, W)
    kernel_size, dilation, padding, stride : int or tuple of int

    Returns
    -------
    Tensor, shape (N, C, H, W) or (C, H, W)
    """
    window = _window("fold", kernel_size, dilation, padding, stride)
    size = sizes("fold", "output_size", output_size, 2, 1)
    suffix("fold", input.aval)
    if input.ndim not in (2, 3):
        raise ShapeError(f"fold: expected input of 2 or 3 dims, got shape {input.shape}")
    places = _check_places("fold", size, window)
    elements = math.prod(window[0])
    if input.shape[-2] % elements or not input.shape[-2] or input.shape[-1] != math.prod(places):
        raise ShapeError(
            f"fold: expected input of shape (..., a multiple of {elements}, {math.prod(places)}), got {input.shape}"
        )
    return apply(FOLD, (input,), (size, *window))


# ---- interpolate ----

# Attributes: linear, for each axis a table of (neighbour, neighbour, weight of the second), and the size of the result.


def _lower_resize(kernel: str, image: Any) -> Any:
    def lower(node: Any) -> Call:
        linear, tables, _ = node.attrs
        x, out = image(node), node.outputs[0]
        tail = [word for table in tables for row in table for word in (row[0], row[1], _bits(row[2]))]
        fields = {
            "planes": math.prod(x.shape[:2]), "h": x.shape[2] if len(tables) > 1 else 1, "w": x.shape[-1],
            "p": len(tables[0]) if len(tables) > 1 else 1, "q": len(tables[-1]), "linear": linear,
        }  # fmt: skip
        if len(tables) == 1:
            tail = [0, 0, _bits(0.0), *tail]
        return Call(f"{kernel}_{suffix(kernel, out.aval)}", fields, [out, *node.inputs], [out], tail)

    return lower


def _bits(weight: float) -> int:
    return int(np.float64(weight).view(np.int64))


RESIZE = Op(
    "resize",
    lambda avals, attrs: (aval(avals[0].dtype, (*avals[0].shape[:2], *map(len, attrs[1]))),),
    ("linear", "tables", "size"),
    lower=_lower_resize("resize_fwd", lambda n: n.inputs[0].aval),
    vjp=lambda n, g: (apply(RESIZE_BWD, (g,), n.attrs),),
)
RESIZE_BWD: Op = Op(
    "resize_bwd",
    lambda avals, attrs: (aval(avals[0].dtype, (*avals[0].shape[:2], *attrs[2])),),
    ("linear", "tables", "size"),
    lower=_lower_resize("resize_bwd", lambda n: n.outputs[0].aval),
    vjp=lambda n, g: (apply(RESIZE, (g,), n.attrs),),
)


def _nearest(n: int, out: int, scale: float | None, exact: bool) -> tuple:
    """torch computes these positions in float32, whatever the dtype."""
    step = np.float32(1.0 / scale) if scale else np.float32(n) / np.float32(out)
    at = np.arange(out, dtype=np.float32) + np.float32(0.5 if exact else 0)
    found = np.minimum(np.floor(at * step).astype(np.int64), n - 1).tolist()
    return tuple((i, i, 0.0) for i in found)


def _linear(n: int, out: int, scale: float | None, align: bool, dtype: Any) -> tuple:
    t: Any = np.float32 if dtype is _core.float32 else np.float64
    at: Any = np.arange(out).astype(t)
    if align:
        position = at * (t(n - 1) / t(out - 1) if out > 1 else t(0))
    else:
        position = np.maximum(t(1.0 / scale if scale else n / out) * (at + t(0.5)) - t(0.5), t(0))
    first = np.minimum(position.astype(np.int64), n - 1)
    weight = np.clip(position - first.astype(t), 0, 1)
    second = np.minimum(first + 1, n - 1)
    return tuple(zip(first.tolist(), second.tolist(), weight.astype(float).tolist(), strict=True))


_MODES = {3: ("nearest", "nearest-exact", "linear"), 4: ("nearest", "nearest-exact", "bilinear")}
_KNOWN = ("nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area")


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resizes along the spatial dims by nearest neighbours or linear interpolation.

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (N, C, H, W)
    size : int or tuple of int, optional
        Of the result; or
    scale_factor : float or tuple of float, optional
        by how much: the size is rounded down, positions step by 1 / scale_factor unless `recompute_scale_factor`.
    mode : {"nearest", "nearest-exact", "linear", "bilinear"}
        "linear" for three dims, "bilinear" for four; "area", "bicubic" and "trilinear" are not offered.
    align_corners : bool, optional
        For linear modes: whether the centres of the corner elements coincide (else the edges do).

    Raises
    ------
    ValueError
        If not exactly one of `size` and `scale_factor` is given, or for an empty result.
    """
    name, dims = "interpolate", input.ndim - 2
    suffix(name, input.aval)
    if mode not in _KNOWN:
        raise ShapeError(f"{name}: expected mode to be one of {', '.join(_KNOWN)}, got {mode!r}")
    if mode in ("bicubic", "trilinear", "area") or antialias or dims not in (1, 2):
        what = "antialias" if antialias else f"mode={mode!r} of {input.ndim} dims"
        raise NotOffered(f"{name}: {what} is not offered")
    if mode not in _MODES[input.ndim]:
        raise ShapeError(f"{name}: expected mode to be one of {', '.join(_MODES[input.ndim])}, got {mode!r}")
    if mode.startswith("nearest") and align_corners is not None:
        raise ShapeError(f"{name}: align_corners has no meaning with mode={mode!r}")
    if (size is None) == (scale_factor is None):
        raise ShapeError(f"{name}: expected either size or scale_factor, got {size} and {scale_factor}")
    whole = input.shape[2:]
    if size is not None:
        if recompute_scale_factor:
            raise ShapeError(f"{name}: recompute_scale_factor has no meaning with size")
        target = sizes(name, "size", size, dims, 1)
        scales: tuple[float | None, ...] = (None,) * dims
    else:
        factors = tuple(scale_factor) if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * dims
        if len(factors) != dims:
            raise ShapeError(f"{name}: expected scale_factor of 1 or {dims} numbers, got {scale_factor}")
        if any(isinstance(f, bool) or not isinstance(f, (int, float, np.number)) for f in factors):
            raise DtypeError(f"{name}: expected scale_factor of numbers, got {scale_factor!r}")
        target = tuple(math.floor(float(n) * f) for n, f in zip(whole, factors, strict=True))
        scales = (None,) * dims if recompute_scale_factor else tuple(float(f) for f in factors)
    if any(n < 1 for n in target) or 0 in input.shape[1:]:
        raise ShapeError(f"{name}: an input of shape {input.shape} cannot be resized to {target}")
    if mode.startswith("nearest"):
        exact = mode == "nearest-exact"
        tables = tuple(_nearest(n, o, s, exact) for n, o, s in zip(whole, target, scales, strict=True))
    else:
        align = bool(align_corners)
        tables = tuple(_linear(n, o, s, align, input.dtype) for n, o, s in zip(whole, target, scales, strict=True))
    return apply(RESIZE, (input,), (not mode.startswith("nearest"), tables, whole))


# ---- shuffles ----


def _channels(name: str, input: Tensor, least: int) -> tuple[int, ...]:
    if input.ndim < least:
        raise ShapeError(f"{name}: expected input of at least {least} dims, got shape {input.shape}")
    return math.prod(input.shape[:-3]), *input.shape[-3:]


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels become pixels: (..., C r^2, H, W) -> (..., C, H r, W r) (Shi et al., 2016).

    Parameters
    ----------
    input : Tensor, shape (..., C r^2, H, W)
    upscale_factor : int
        r
    """
    r = sizes("pixel_shuffle", "upscale_factor", upscale_factor, 1, 1)[0]
    n, c, h, w = _channels("pixel_shuffle", input, 3)
    if c % (r * r):
        raise ShapeError(f"pixel_shuffle: expected channels to be a multiple of {r * r}, got {c}")
    parts = permute(reshape(input, (n, c // (r * r), r, r, h, w)), (0, 1, 4, 2, 5, 3))
    return reshape(parts, (*input.shape[:-3], c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Pixels become channels, the inverse of pixel_shuffle: (..., C, H r, W r) -> (..., C r^2, H, W).

    Parameters
    ----------
    input : Tensor, shape (..., C, H r, W r)
    downscale_factor : int
        r
    """
    r = sizes("pixel_unshuffle", "downscale_factor", downscale_factor, 1, 1)[0]
    n, c, h, w = _channels("pixel_unshuffle", input, 3)
    if h % r or w % r:
        raise ShapeError(f"pixel_unshuffle: expected rows and columns to be multiples of {r}, got {h} and {w}")
    parts = permute(reshape(input, (n, c, h // r, r, w // r, r)), (0, 1, 3, 5, 2, 4))
    return reshape(parts, (*input.shape[:-3], c * r * r, h // r, w // r))


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channel i of each group beside channel i of the others (Zhang et al., ShuffleNet, 2018).

    Parameters
    ----------
    input : Tensor, shape (N, C, ...)
    groups : int
        Divides C.
    """
    g = sizes("channel_shuffle", "groups", groups, 1, 1)[0]
    if input.ndim < 3:
        raise ShapeError(f"channel_shuffle: expected input of at least 3 dims, got shape {input.shape}")
    n, c, inner = input.shape[0], input.shape[1], math.prod(input.shape[2:])
    if c % g:
        raise ShapeError(f"channel_shuffle: expected channels to be a multiple of groups, got {c} and {g}")
    return reshape(permute(reshape(input, (n, g, c // g, inner)), (0, 2, 1, 3)), input.shape)


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Not offered; raises NotImplementedError."""
    raise NotOffered("grid_sample: not offered")


def affine_grid(theta: Tensor, size: Any, align_corners: bool | None = None) -> Tensor:
    """Not offered; raises NotImplementedError."""
    raise NotOffered("affine_grid: not offered")
