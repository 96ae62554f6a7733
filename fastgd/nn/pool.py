"""Pooling layers: names and defaults of ``torch.nn``.

A layer holds options; what the operation means, its shapes and its errors are those of the function of
:mod:`fastgd.nn.functional` that it calls.
"""

from __future__ import annotations

from typing import Any

from ..ops.conv import Size
from ..tensor import Tensor
from . import functional as F
from .module import Module

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "MaxPool1d",
    "MaxPool2d",
]


class _MaxPool(Module):
    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def _arguments(self) -> tuple:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The largest element of each window along the last dim; see :func:`fastgd.nn.functional.max_pool1d`.

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int or tuple of int
        The stride is the kernel's size unless given.
    return_indices, ceil_mode : bool, default False
    """

    def forward(self, input: Tensor) -> Any:
        """(N, C, L) or (C, L) -> the same dims with fewer elements"""
        return F.max_pool1d(input, *self._arguments())


class MaxPool2d(_MaxPool):
    """The largest element of each window; see :func:`fastgd.nn.functional.max_pool2d`.

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int or tuple of int
        The stride is the kernel's size unless given.
    return_indices, ceil_mode : bool, default False
    """

    def forward(self, input: Tensor) -> Any:
        """(N, C, H, W) or (C, H, W) -> the same dims with fewer elements"""
        return F.max_pool2d(input, *self._arguments())


class AvgPool1d(Module):
    """The mean of each window along the last dim; see :func:`fastgd.nn.functional.avg_pool1d`.

    Parameters
    ----------
    kernel_size, stride, padding : int or tuple of int
        The stride is the kernel's size unless given.
    ceil_mode : bool, default False
    count_include_pad : bool, default True
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = (
            (v if isinstance(v, tuple) else (v,))
            for v in (kernel_size, kernel_size if stride is None else stride, padding)
        )
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, L) or (C, L) -> the same dims with fewer elements"""
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """The mean of each window; see :func:`fastgd.nn.functional.avg_pool2d`.

    Parameters
    ----------
    kernel_size, stride, padding : int or tuple of int
        The stride is the kernel's size unless given.
    ceil_mode : bool, default False
    count_include_pad : bool, default True
    divisor_override : int, optional
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W) -> the same dims with fewer elements"""
        return F.avg_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool1d(Module):
    """The mean of windows that part the last dim evenly; see :func:`fastgd.nn.functional.adaptive_avg_pool1d`.

    Parameters
    ----------
    output_size : int
    """

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, L) or (C, L) -> (..., C, output_size)"""
        return F.adaptive_avg_pool1d(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool2d(Module):
    """The mean of windows that part the plane evenly; see :func:`fastgd.nn.functional.adaptive_avg_pool2d`.

    Parameters
    ----------
    output_size : int, or two of int or None
    """

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W) -> (..., C, *output_size)"""
        return F.adaptive_avg_pool2d(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(Module):
    """The largest element of windows that part the last dim evenly.

    Parameters
    ----------
    output_size : int
    return_indices : bool, default False
    """

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size = output_size
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        """(N, C, L) or (C, L) -> (..., C, output_size)"""
        return F.adaptive_max_pool1d(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool2d(Module):
    """The largest element of windows that part the plane evenly.

    Parameters
    ----------
    output_size : int, or two of int or None
    return_indices : bool, default False
    """

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size = output_size
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        """(N, C, H, W) or (C, H, W) -> (..., C, *output_size)"""
        return F.adaptive_max_pool2d(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"
