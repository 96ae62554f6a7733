"""Convolutions in one and two dims, and their transposes.

Three kernels (csrc/kernels/conv.c) are all of it: forward, backward-data, backward-weights.  A transposed convolution
is the backward-data of a convolution, whose forward is then its own derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._core import DtypeError, NotOffered, ShapeError, aval
from ..compiler.lower import Call
from ..tensor import Tensor, as_tensor
from .elementwise import ADD
from .product import _as_tuple, gemm
from .reduce import sum as reduce_sum
from .registry import Op, apply
from .rowwise import suffix
from .shape import reshape

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
]

Size = int | Sequence[int]

# ---- the kernels ----


def _lower(kernel: str, of: Any) -> Any:
    """`of(node)` is (x, y, w) among the inputs and outputs of a node; its operands are outputs, then inputs."""

    def lower(node: Any) -> Call:
        x, y, w = (v.aval.shape for v in of(node))
        stride, pad, dil, groups, _ = node.attrs
        h, p, r, stride_h, pad_h, dil_h = (
            (1, 1, 1, 1, 0, 1) if len(x) == 3 else (x[2], y[2], w[2], stride[0], pad[0], dil[0])
        )
        fields = {
            "n": x[0], "groups": groups, "c": x[1] // groups, "h": h, "w": x[-1], "k": y[1] // groups, "p": p,
            "q": y[-1], "r": r, "s": w[-1], "stride_h": stride_h, "stride_w": stride[-1], "pad_h": pad_h,
            "pad_w": pad[-1], "dil_h": dil_h, "dil_w": dil[-1],
        }  # fmt: skip
        out = node.outputs[0]
        return Call(f"{kernel}_{suffix('conv', out.aval)}", fields, [out, *node.inputs], [out])

    return lower


_ATTRS = ("stride", "pad", "dilation", "groups", "size")


def _infer_result(channels: Any) -> Any:
    def infer(avals: tuple, attrs: tuple) -> tuple:
        return (aval(avals[0].dtype, (*channels(avals, attrs), *attrs[4])),)

    return infer


def _fwd_vjp(n: Any, g: Tensor) -> tuple:
    x, w = n.inputs
    dx = apply(CONV_BWD_X, (g, w), (*n.attrs[:4], n.in_avals[0].shape[2:])) if n.needs[0] else None
    dw = apply(CONV_BWD_W, (g, x), (*n.attrs[:4], n.in_avals[1].shape[2:])) if n.needs[1] else None
    return dx, dw


def _bwd_x_vjp(n: Any, g: Tensor) -> tuple:
    dy, w = n.inputs
    ddy = apply(CONV_FWD, (g, w), (*n.attrs[:4], n.in_avals[0].shape[2:])) if n.needs[0] else None
    dw = apply(CONV_BWD_W, (dy, g), (*n.attrs[:4], n.in_avals[1].shape[2:])) if n.needs[1] else None
    return ddy, dw


CONV_FWD = Op(
    "conv_fwd",
    _infer_result(lambda avals, attrs: (avals[0].shape[0], avals[1].shape[0])),
    _ATTRS,
    lower=_lower("conv_fwd", lambda n: (n.inputs[0], n.outputs[0], n.inputs[1])),
    vjp=_fwd_vjp,
    saves="i0 i1",
    epilogue=True,
)
CONV_BWD_X: Op = Op(
    "conv_bwd_x",
    _infer_result(lambda avals, attrs: (avals[0].shape[0], avals[1].shape[1] * attrs[3])),
    _ATTRS,
    lower=_lower("conv_bwd_x", lambda n: (n.outputs[0], n.inputs[0], n.inputs[1])),
    vjp=_bwd_x_vjp,
    saves="i0 i1",
    epilogue=True,
)
CONV_BWD_W: Op = Op(
    "conv_bwd_w",
    _infer_result(lambda avals, attrs: (avals[0].shape[1], avals[1].shape[1] // attrs[3])),
    _ATTRS,
    lower=_lower("conv_bwd_w", lambda n: (n.inputs[1], n.inputs[0], n.outputs[0])),
)


def _is_product(w: Any, stride: tuple, pad: tuple, groups: int) -> bool:
    """A kernel of one element that visits each pixel once: an ordinary product, with the same order of sums."""
    return groups == 1 and all(n == 1 for n in (*w.shape[2:], *stride)) and not any(pad)


def _fwd(x: Tensor, w: Tensor, attrs: tuple) -> Tensor:
    stride, pad, _, groups, size = attrs
    if _is_product(w, stride, pad, groups) and x.shape[2:] == size:
        y = gemm(reshape(w, w.shape[:2]), reshape(x, (*x.shape[:2], _count(size))))
        return reshape(y, (*y.shape[:2], *size))
    return apply(CONV_FWD, (x, w), attrs)


def _bwd_x(g: Tensor, w: Tensor, attrs: tuple) -> Tensor:
    stride, pad, _, groups, size = attrs
    if _is_product(w, stride, pad, groups) and g.shape[2:] == size:
        y = gemm(reshape(w, w.shape[:2]), reshape(g, (*g.shape[:2], _count(size))), True)
        return reshape(y, (*y.shape[:2], *size))
    return apply(CONV_BWD_X, (g, w), attrs)


def _count(size: tuple[int, ...]) -> int:
    return int(np.prod(size, dtype=np.int64))


# ---- the operations ----


def _check(name: str, avals: tuple, transposed: bool, groups: int) -> None:
    x, w = avals[:2]
    for a in avals:
        suffix(name, a)
    if len({a.dtype for a in avals}) > 1:
        raise DtypeError(f"{name}: expected one dtype, got {' and '.join(str(a.dtype) for a in avals)}")
    out_channels = w.shape[1] * groups if transposed else w.shape[0]
    if w.shape[0] % groups or (not transposed and x.shape[1] != w.shape[1] * groups):
        expected = f"(a multiple of {groups}, {x.shape[1] / groups:g}, ...)"
        raise ShapeError(f"{name}: expected weight of shape {expected}, got {w.shape} (input of shape {x.shape})")
    if transposed and x.shape[1] != w.shape[0]:
        raise ShapeError(
            f"{name}: expected weight of shape ({x.shape[1]}, ...), got {w.shape} (input of shape {x.shape})"
        )
    if not all(w.shape):
        raise ShapeError(f"{name}: expected weight without empty dims, got shape {w.shape}")
    if len(avals) > 2 and avals[2].shape != (out_channels,):
        raise ShapeError(f"{name}: expected bias of shape ({out_channels},), got {avals[2].shape}")


def _infer_conv(avals: tuple, attrs: tuple) -> tuple:
    x, w = avals[:2]
    stride, pad, after, dil, groups = attrs
    name = f"conv{x.ndim - 2}d"
    _check(name, avals, False, groups)
    size = []
    for n, k, s, before, behind, d in zip(x.shape[2:], w.shape[2:], stride, pad, after, dil, strict=True):
        if n + before + behind < d * (k - 1) + 1:
            raise ShapeError(
                f"{name}: a kernel of {d * (k - 1) + 1} (dilated) does not fit into {n + before + behind} "
                "(padded input)"
            )
        size.append((n + before + behind - d * (k - 1) - 1) // s + 1)
    return (aval(x.dtype, (x.shape[0], w.shape[0], *size)),)


def _with_bias(y: Tensor, bias: tuple[Tensor, ...]) -> Tensor:
    return apply(ADD, (y, reshape(bias[0], (-1, *[1] * (y.ndim - 2))))) if bias else y


def _expand_conv(x: Tensor, w: Tensor, *rest: Any) -> Tensor:
    stride, pad, _, dil, groups = rest[-5:]
    size = _infer_conv((x.aval, w.aval), rest[-5:])[0].shape[2:]
    return _with_bias(_fwd(x, w, (stride, pad, dil, groups, size)), rest[:-5])


def _infer_transposed(avals: tuple, attrs: tuple) -> tuple:
    x, w = avals[:2]
    stride, pad, extra, dil, groups = attrs
    name = f"conv_transpose{x.ndim - 2}d"
    _check(name, avals, True, groups)
    size = []
    for n, k, s, p, e, d in zip(x.shape[2:], w.shape[2:], stride, pad, extra, dil, strict=True):
        if e >= s and e >= d:
            raise ShapeError(f"{name}: expected output_padding below stride or dilation, got {e} with {s} and {d}")
        size.append((n - 1) * s - 2 * p + d * (k - 1) + e + 1)
        if not n or size[-1] < 1:
            raise ShapeError(f"{name}: an input of shape {x.shape} leaves an output of size {size[-1]}")
    return (aval(x.dtype, (x.shape[0], w.shape[1] * groups, *size)),)


def _expand_transposed(x: Tensor, w: Tensor, *rest: Any) -> Tensor:
    stride, pad, _, dil, groups = rest[-5:]
    size = _infer_transposed((x.aval, w.aval), rest[-5:])[0].shape[2:]
    return _with_bias(_bwd_x(x, w, (stride, pad, dil, groups, size)), rest[:-5])


def _infer_bwd(avals: tuple, attrs: tuple) -> tuple:
    g, x, w = avals
    shapes = (x.shape, w.shape, (g.shape[1],))
    return tuple(aval(g.dtype, s) for s, needed in zip(shapes, attrs[-1], strict=False) if needed)


def _expand_bwd(transposed: bool) -> Any:
    def expand(g: Tensor, x: Tensor, w: Tensor, *attrs: Any) -> Any:
        stride, pad, _, dil, groups, needs = attrs
        fixed = (stride, pad, dil, groups)
        results = []
        if needs[0]:
            results.append((_fwd if transposed else _bwd_x)(g, w, (*fixed, x.shape[2:])))
        if needs[1]:
            y, of = (x, g) if transposed else (g, x)
            results.append(apply(CONV_BWD_W, (y, of), (*fixed, w.shape[2:])))
        if len(needs) > 2 and needs[2]:
            results.append(reduce_sum(g, (0, *range(2, g.ndim))))
        return tuple(results) if len(results) != 1 else results[0]

    return expand


def _vjp(bwd: Op) -> Any:
    def vjp(n: Any, g: Tensor) -> tuple:
        results = iter(_as_tuple(apply(bwd, (g, *n.inputs[:2]), (*n.attrs, n.needs))))
        return tuple(next(results) if needed else None for needed in n.needs)

    return vjp


CONV_BWD = Op(
    "conv_bwd", _infer_bwd, ("stride", "pad", "pad_after", "dilation", "groups", "needs"), expand=_expand_bwd(False)
)
CONV_TRANSPOSED_BWD = Op(
    "conv_transposed_bwd",
    _infer_bwd,
    ("stride", "pad", "output_padding", "dilation", "groups", "needs"),
    expand=_expand_bwd(True),
)
CONV = Op(
    "conv",
    _infer_conv,
    ("stride", "pad", "pad_after", "dilation", "groups"),
    expand=_expand_conv,
    vjp=_vjp(CONV_BWD),
    saves="i0 i1",
)
CONV_TRANSPOSED = Op(
    "conv_transposed",
    _infer_transposed,
    ("stride", "pad", "output_padding", "dilation", "groups"),
    expand=_expand_transposed,
    vjp=_vjp(CONV_TRANSPOSED_BWD),
    saves="i0 i1",
)


# ---- functions ----


def sizes(name: str, what: str, value: Any, ndim: int, least: int) -> tuple[int, ...]:
    """An argument that is one integer or one per dim."""
    found = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if any(isinstance(v, bool) or not isinstance(v, (int, np.integer)) for v in found):
        raise DtypeError(f"{name}: expected {what} of integers, got {value!r}")
    if len(found) == 1:
        found *= ndim
    if len(found) != ndim:
        raise ShapeError(f"{name}: expected {what} of {'1 or 2 integers' if ndim == 2 else '1 integer'}, got {value!r}")
    if any(v < least for v in found):
        raise ShapeError(f"{name}: expected {what} of at least {least}, got {value!r}")
    return tuple(int(v) for v in found)


def _operands(name: str, ndim: int, input: Any, weight: Any, bias: Any) -> tuple[bool, tuple[Tensor, ...]]:
    """Whether the input is a single sample, and the operands with a batch dim."""
    tensors = tuple(t if isinstance(t, Tensor) else as_tensor(t) for t in (input, weight, bias) if t is not None)
    x, w = tensors[:2]
    if x.ndim not in (ndim + 1, ndim + 2):
        raise ShapeError(f"{name}: expected input of {ndim + 1} or {ndim + 2} dims, got shape {x.shape}")
    if w.ndim != ndim + 2:
        raise ShapeError(f"{name}: expected weight of {ndim + 2} dims, got shape {w.shape}")
    single = x.ndim == ndim + 1
    return single, (reshape(x, (1, *x.shape)) if single else x, *tensors[1:])


def _groups(name: str, groups: Any) -> int:
    if isinstance(groups, bool) or not isinstance(groups, (int, np.integer)):
        raise DtypeError(f"{name}: expected an integer for groups, got {groups!r}")
    if groups < 1:
        raise ShapeError(f"{name}: expected groups of at least 1, got {groups}")
    return int(groups)


def padding_of(name: str, padding: Any, kernel: tuple[int, ...], stride: tuple, dilation: tuple) -> tuple:
    """Padding before and behind, per dim."""
    if not isinstance(padding, str):
        pad = sizes(name, "padding", padding, len(kernel), 0)
        return pad, pad
    if padding not in ("same", "valid"):
        raise ShapeError(f"{name}: expected padding 'same', 'valid' or integers, got {padding!r}")
    if padding == "valid":
        return (0,) * len(kernel), (0,) * len(kernel)
    if any(s != 1 for s in stride):
        raise ShapeError(f"{name}: padding='same' needs stride 1, got {stride}")
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)


def _conv(
    ndim: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Tensor:
    name = f"conv{ndim}d"
    single, tensors = _operands(name, ndim, input, weight, bias)
    steps, dil = sizes(name, "stride", stride, ndim, 1), sizes(name, "dilation", dilation, ndim, 1)
    before, after = padding_of(name, padding, tensors[1].shape[2:], steps, dil)
    y = apply(CONV, tensors, (steps, before, after, dil, _groups(name, groups)))
    return reshape(y, y.shape[1:]) if single else y


def _transposed(
    ndim: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> Tensor:
    name = f"conv_transpose{ndim}d"
    single, tensors = _operands(name, ndim, input, weight, bias)
    steps, dil = sizes(name, "stride", stride, ndim, 1), sizes(name, "dilation", dilation, ndim, 1)
    pad, extra = sizes(name, "padding", padding, ndim, 0), sizes(name, "output_padding", output_padding, ndim, 0)
    y = apply(CONV_TRANSPOSED, tensors, (steps, pad, extra, dil, _groups(name, groups)))
    return reshape(y, y.shape[1:]) if single else y


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation along one dim.

    y[n, k, p] = bias[k] + sum over c and s of w[k, c, s] x[n, c, p * stride - padding + s * dilation]

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (C, L)
    weight : Tensor, shape (K, C / groups, S)
    bias : Tensor, shape (K,), optional
    stride, dilation : int or tuple of int
    padding : int, tuple of int, "valid" or "same"
        Zeros on both sides; "same" keeps the length, the odd one of an uneven padding goes behind, and needs stride 1.
    groups : int
        Groups of channels that do not mix; C and K are multiples of it.

    Returns
    -------
    Tensor, shape (N, K, P) or (K, P)
        P = (L + 2 padding - dilation (S - 1) - 1) // stride + 1
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation along two dims.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W)
    weight : Tensor, shape (K, C / groups, R, S)
    bias : Tensor, shape (K,), optional
    stride, dilation : int or tuple of int
    padding : int, tuple of int, "valid" or "same"
        Zeros on both sides; "same" keeps the size, the odd one of an uneven padding goes behind, and needs stride 1.
    groups : int
        Groups of channels that do not mix; C and K are multiples of it.

    Returns
    -------
    Tensor, shape (N, K, P, Q) or (K, P, Q)
        P = (H + 2 padding - dilation (R - 1) - 1) // stride + 1, Q likewise.

    Raises
    ------
    ValueError
        For shapes that do not fit, or a kernel larger than the padded input.
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The transpose of conv1d as a linear map: what its gradient with respect to the input computes.

    Parameters
    ----------
    input : Tensor, shape (N, C, L) or (C, L)
    weight : Tensor, shape (C, K / groups, S)
    bias : Tensor, shape (K,), optional
    padding : int or tuple of int
        Taken away from both ends of the result.
    output_padding : int or tuple of int
        Added behind the result; below stride or dilation.

    Returns
    -------
    Tensor, shape (N, K, P) or (K, P)
        P = (L - 1) stride - 2 padding + dilation (S - 1) + output_padding + 1
    """
    return _transposed(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The transpose of conv2d as a linear map; see conv_transpose1d.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W) or (C, H, W)
    weight : Tensor, shape (C, K / groups, R, S)
    bias : Tensor, shape (K,), optional

    Returns
    -------
    Tensor, shape (N, K, P, Q) or (K, P, Q)
    """
    return _transposed(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Not offered; raises NotImplementedError."""
    raise NotOffered("conv3d: convolutions in three dims are not offered")


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """Not offered; raises NotImplementedError."""
    raise NotOffered("conv_transpose3d: convolutions in three dims are not offered")
