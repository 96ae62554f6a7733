"""Convolution layers: names, defaults and state of ``torch.nn``.

A layer holds parameters and options; what the operation means, its shapes and its errors are those of the function of
:mod:`fastgd.nn.functional` that it calls.
"""

from __future__ import annotations

import math
from typing import Any

from .._core import NotOffered, ShapeError
from ..ops.conv import Size, padding_of, sizes
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import new_parameter

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """What the four layers share; `ndim` and `transposed` are theirs."""

    padding: Any
    ndim = 0
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        padding: Any,
        dilation: Size,
        output_padding: Size,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        name, n = type(self).__name__, self.ndim
        for what, value in (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups)):
            if value < 1:
                raise ShapeError(f"{name}: {what} must be at least 1, got {value}")
            if value % groups:
                raise ShapeError(f"{name}: {what} must be a multiple of groups, got {value} and {groups}")
        if padding_mode not in PADDING_MODES:
            raise ShapeError(f"{name}: padding_mode must be one of {', '.join(PADDING_MODES)}, got {padding_mode!r}")
        if self.transposed and padding_mode != "zeros":
            raise ShapeError(f"{name}: padding_mode must be 'zeros', got {padding_mode!r}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = sizes(name, "kernel_size", kernel_size, n, 1)
        self.stride = sizes(name, "stride", stride, n, 1)
        self.dilation = sizes(name, "dilation", dilation, n, 1)
        self.output_padding = sizes(name, "output_padding", output_padding, n, 0)
        self._pads = padding_of(name, padding, self.kernel_size, self.stride, self.dilation)
        self.padding = padding if isinstance(padding, str) else self._pads[0]
        self.groups = groups
        self.padding_mode = padding_mode
        channels = (in_channels, out_channels // groups) if self.transposed else (out_channels, in_channels // groups)
        self.weight = new_parameter((*channels, *self.kernel_size), device, dtype)
        self.register_parameter("bias", new_parameter((out_channels,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew from the global generator."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}"]
        parts += [f"kernel_size={self.kernel_size}, stride={self.stride}"]
        defaults = {"padding": 0, "dilation": 1, "output_padding": 0}
        for name, default in defaults.items():
            value = getattr(self, name)
            if value != (default,) * self.ndim:
                parts.append(f"{name}={value}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class _ConvForward(_Conv):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            0,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_channels, ...) or (in_channels, ...) -> (N, out_channels, ...) or (out_channels, ...)"""
        function = F.conv1d if self.ndim == 1 else F.conv2d
        padding = self.padding
        if self.padding_mode != "zeros":
            around = [n for pair in zip(*(p[::-1] for p in self._pads), strict=True) for n in pair]
            input, padding = F.pad(input, around, mode=self.padding_mode), 0
        return function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv1d(_ConvForward):
    """Cross-correlation along one dim; see :func:`fastgd.nn.functional.conv1d`.

    Weight and bias start uniform in ±1/sqrt(in_channels / groups * kernel_size).

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or tuple of int
    padding : int, tuple of int, "valid" or "same"
    groups : int, default 1
    bias : bool, default True
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
    device : optional
        Accepted if it is the CPU.
    dtype : dtype or str, optional
        float32 unless given.

    Attributes
    ----------
    weight : Parameter
        (out_channels, in_channels / groups, kernel_size)
    bias : Parameter or None
        (out_channels,)
    """

    ndim = 1


class Conv2d(_ConvForward):
    """Cross-correlation along two dims; see :func:`fastgd.nn.functional.conv2d`.

    Weight and bias start uniform in ±1/sqrt(in_channels / groups * kernel elements).

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or tuple of int
    padding : int, tuple of int, "valid" or "same"
    groups : int, default 1
    bias : bool, default True
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
    device : optional
        Accepted if it is the CPU.
    dtype : dtype or str, optional
        float32 unless given.

    Attributes
    ----------
    weight : Parameter
        (out_channels, in_channels / groups, rows, columns)
    bias : Parameter or None
        (out_channels,)
    """

    ndim = 2


class _ConvTransposed(_Conv):
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        padding = sizes(type(self).__name__, "padding", padding, self.ndim, 0)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """(N, in_channels, ...) -> (N, out_channels, ...); `output_size` chooses the output padding."""
        function = F.conv_transpose1d if self.ndim == 1 else F.conv_transpose2d
        extra = self.output_padding if output_size is None else self._extra(input, output_size)
        return function(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)

    def _extra(self, input: Tensor, output_size: Any) -> tuple[int, ...]:
        name, n = type(self).__name__, self.ndim
        wanted = tuple(output_size)
        if len(wanted) == input.ndim:
            wanted = wanted[-n:]
        if len(wanted) != n:
            raise ShapeError(f"{name}: expected output_size of {n} or {input.ndim} integers, got {output_size}")
        least = [
            (size - 1) * s - 2 * p + d * (k - 1) + 1
            for size, s, p, d, k in zip(
                input.shape[-n:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True
            )
        ]
        if any(not low <= w < low + s for w, low, s in zip(wanted, least, self.stride, strict=True)):
            most = [low + s - 1 for low, s in zip(least, self.stride, strict=True)]
            raise ShapeError(f"{name}: expected output_size between {least} and {most}, got {list(wanted)}")
        return tuple(w - low for w, low in zip(wanted, least, strict=True))


class ConvTranspose1d(_ConvTransposed):
    """The transpose of a Conv1d as a linear map; see :func:`fastgd.nn.functional.conv_transpose1d`.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding, output_padding, dilation : int or tuple of int
    groups : int, default 1
    bias : bool, default True
    padding_mode : {"zeros"}
    device : optional
        Accepted if it is the CPU.
    dtype : dtype or str, optional
        float32 unless given.

    Attributes
    ----------
    weight : Parameter
        (in_channels, out_channels / groups, kernel_size)
    bias : Parameter or None
        (out_channels,)
    """

    ndim = 1


class ConvTranspose2d(_ConvTransposed):
    """The transpose of a Conv2d as a linear map; see :func:`fastgd.nn.functional.conv_transpose2d`.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding, output_padding, dilation : int or tuple of int
    groups : int, default 1
    bias : bool, default True
    padding_mode : {"zeros"}
    device : optional
        Accepted if it is the CPU.
    dtype : dtype or str, optional
        float32 unless given.

    Attributes
    ----------
    weight : Parameter
        (in_channels, out_channels / groups, rows, columns)
    bias : Parameter or None
        (out_channels,)
    """

    ndim = 2


class Conv3d(Module):
    """Not offered; making one raises NotImplementedError."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotOffered("Conv3d: convolutions in three dims are not offered")


class ConvTranspose3d(Module):
    """Not offered; making one raises NotImplementedError."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotOffered("ConvTranspose3d: convolutions in three dims are not offered")
