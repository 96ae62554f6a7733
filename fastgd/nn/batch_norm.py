"""Normalisation layers with statistics of channels: names, defaults and state of ``torch.nn``.

A layer holds parameters, running statistics and options; what the operation means is that of the function of
:mod:`fastgd.nn.functional` that it calls.
"""

from __future__ import annotations

from typing import Any

from .. import _core, ops
from .._core import NotOffered, ShapeError
from ..tensor import Tensor
from . import functional as F
from . import init
from .module import Module
from .parameter import new_parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
]


class _RunningNorm(Module):
    """Weight, bias and running statistics per channel."""

    dims: tuple[int, ...] = ()

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: Any,
        dtype: Any,
        bias: bool,
    ) -> None:
        super().__init__()
        if num_features < 1:
            raise ShapeError(f"{type(self).__name__}: num_features must be at least 1, got {num_features}")
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        for name, there in (("weight", affine), ("bias", affine and bias)):
            self.register_parameter(name, new_parameter((num_features,), device, dtype) if there else None)
        made = track_running_stats
        self.register_buffer("running_mean", ops.zeros((num_features,), dtype=dtype) if made else None)
        self.register_buffer("running_var", ops.ones((num_features,), dtype=dtype) if made else None)
        self.register_buffer("num_batches_tracked", ops.zeros((), dtype=_core.int64) if made else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batches."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, and the running statistics as at the start."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check(self, input: Tensor) -> None:
        name = type(self).__name__
        if input.ndim not in self.dims:
            raise ShapeError(
                f"{name}: expected input of {' or '.join(map(str, self.dims))} dims, got shape {input.shape}"
            )

    def _factor(self) -> Any:
        """How far the running statistics move: momentum, or 1 / batches for their plain average."""
        if not (self.training and self.track_running_stats):
            return 0.0 if self.momentum is None else self.momentum
        if self.momentum is not None:
            return self.momentum
        return 1.0 / (self.num_batches_tracked.to(self.running_mean.dtype) + 1.0)

    def _count(self) -> None:
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_RunningNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input, (N, num_features, ...)."""
        self._check(input)
        if input.shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}: expected {self.num_features} channels, got input of shape {input.shape}"
            )
        training = self.training or self.running_mean is None
        mean, var = (self.running_mean, self.running_var)
        y = F.batch_norm(input, mean, var, self.weight, self.bias, training, self._factor(), self.eps)
        self._count()
        return y


class BatchNorm1d(_BatchNorm):
    """Normalises each channel of a batch (N, C) or (N, C, L); see :func:`fastgd.nn.functional.batch_norm`.

    In training the statistics are those of the batch, and the running ones move towards them; in evaluation the
    running ones are used.

    Parameters
    ----------
    num_features : int
        C.
    eps : float, default 1e-5
    momentum : float or None, default 0.1
        How far the running statistics move per batch; None keeps their plain average.
    affine : bool, default True
        Whether there are weight and bias.
    track_running_stats : bool, default True
        Without, the statistics of the batch are used in evaluation too.
    device : optional
        Accepted if it is the CPU.
    dtype : dtype or str, optional
        float32 unless given.
    bias : bool, default True
        Whether there is a bias beside the weight.

    Attributes
    ----------
    weight, bias : Parameter or None
        (C,); at first ones and zeros.
    running_mean, running_var : Tensor or None
        (C,); at first zeros and ones.
    num_batches_tracked : Tensor or None
        int64, 0-d.
    """

    dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Normalises each channel of a batch (N, C, H, W); see :class:`BatchNorm1d`.

    Parameters
    ----------
    num_features : int
        C.
    eps : float, default 1e-5
    momentum : float or None, default 0.1
    affine : bool, default True
    track_running_stats : bool, default True
    device : optional
        Accepted if it is the CPU.
    dtype : dtype or str, optional
        float32 unless given.
    bias : bool, default True
        Whether there is a bias beside the weight.

    Attributes
    ----------
    weight, bias : Parameter or None
        (C,); at first ones and zeros.
    running_mean, running_var : Tensor or None
        (C,); at first zeros and ones.
    num_batches_tracked : Tensor or None
        int64, 0-d.
    """

    dims = (4,)


class BatchNorm3d(Module):
    """Not offered; making one raises NotImplementedError."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotOffered("BatchNorm3d: three spatial dims are not offered")


class _InstanceNorm(_RunningNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input, (N, num_features, ...) or without N."""
        self._check(input)
        single = input.ndim == self.dims[0]
        x = input.unsqueeze(0) if single else input
        if self.affine and x.shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}: expected {self.num_features} channels, got input of shape {input.shape}"
            )
        use_input = self.training or not self.track_running_stats
        momentum = self.momentum if self.momentum is not None else 0.0
        mean, var = (self.running_mean, self.running_var)
        y = F.instance_norm(x, mean, var, self.weight, self.bias, use_input, momentum, self.eps)
        return y.squeeze(0) if single else y


class InstanceNorm1d(_InstanceNorm):
    """Normalises each channel of each sample, (N, C, L) or (C, L); see :func:`fastgd.nn.functional.instance_norm`.

    Parameters
    ----------
    num_features : int
        C.
    eps : float, default 1e-5
    momentum : float, default 0.1
    affine : bool, default False
    track_running_stats : bool, default False
    device : optional
        Accepted if it is the CPU.
    dtype : dtype or str, optional
        float32 unless given.
    bias : bool, default True
        Whether there is a bias beside the weight.
    """

    dims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Normalises each channel of each sample, (N, C, H, W) or (C, H, W); see :class:`InstanceNorm1d`.

    Parameters
    ----------
    num_features : int
        C.
    eps : float, default 1e-5
    momentum : float, default 0.1
    affine : bool, default False
    track_running_stats : bool, default False
    device : optional
        Accepted if it is the CPU.
    dtype : dtype or str, optional
        float32 unless given.
    bias : bool, default True
        Whether there is a bias beside the weight.
    """

    dims = (3, 4)


class GroupNorm(Module):
    """Normalises groups of channels of each sample; see :func:`fastgd.nn.functional.group_norm`.

    Parameters
    ----------
    num_groups : int
        Divides `num_channels`.
    num_channels : int
    eps : float, default 1e-5
    affine : bool, default True
        Whether there are weight and bias, (num_channels,).
    device : optional
        Accepted if it is the CPU.
    dtype : dtype or str, optional
        float32 unless given.
    bias : bool, default True
        Whether there is a bias beside the weight.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels < 1 or num_channels % num_groups:
            raise ShapeError(
                f"GroupNorm: num_channels must be a multiple of num_groups, got {num_channels} and {num_groups}"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        for name, there in (("weight", affine), ("bias", affine and bias)):
            self.register_parameter(name, new_parameter((num_channels,), device, dtype) if there else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Same shape as the input, (N, num_channels, ...)."""
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )
