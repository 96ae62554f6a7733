"""Parameter: a tensor that a Module registers when it is assigned to one of its attributes."""

from __future__ import annotations

from typing import Any

from .. import ops
from .._core import DtypeError, FastgdError
from ..tensor import Tensor, as_tensor
from ..tensor import device as check_device

__all__ = ["Parameter"]


class Parameter(Tensor):
    """A leaf tensor that is trained.

    Parameters
    ----------
    data : Tensor or array_like
        The initial value; a tensor's memory is shared, as in PyTorch.
    requires_grad : bool, default True
        Whether it receives a gradient.

    Raises
    ------
    TypeError
        If it is to receive a gradient and is not of a floating-point dtype.
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        tensor = as_tensor(data)
        if tensor.storage is None:
            raise FastgdError("Parameter: fastgd.compile cannot record making one; make it outside")
        if requires_grad and not tensor.dtype.is_floating_point:
            raise DtypeError(f"Parameter: only floating-point tensors can require grad, got {tensor.dtype}")
        self.storage = tensor.storage
        self.aval = tensor.aval
        self._requires_grad = bool(requires_grad)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


def new_parameter(shape: tuple[int, ...], device: Any, dtype: Any) -> Parameter:
    """A layer's parameter before its initial values: zeros; `device` must be the CPU."""
    if device is not None:
        check_device(device)
    return Parameter(ops.zeros(shape, dtype=dtype))
