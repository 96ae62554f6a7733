"""The operators and methods of Tensor that compute: each is an operation under torch's method name."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ..tensor import Tensor, as_tensor, device
from . import functional as F
from .elementwise import ADD, COPY, DIV, MUL, SUB, Op, as_operand
from .index import getitem, setitem
from .registry import apply_in_place, check_writable, no_tape
from .shape import repeat

for _family in F.FAMILIES:
    for _name in getattr(_family, "METHODS", ()):
        setattr(Tensor, _name, getattr(F, _name))


def _expand(self: Tensor, *sizes: Any) -> Tensor:
    return F.expand(self, tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes)


def _view(self: Tensor, *shape: Any) -> Tensor:
    if len(shape) == 1 and not isinstance(shape[0], (int, tuple, list, np.integer)):
        raise _core.NotOffered(f"view: the bits under another dtype are not offered, got {shape[0]}; use .to(dtype)")
    return F.reshape(self, *shape)


def _matrix_transpose(self: Tensor) -> Tensor:
    if self.ndim < 2:
        raise _core.ShapeError(f"mT: expected at least 2 dims, got shape {self.shape}")
    return F.transpose(self, -2, -1)


def _transposed(self: Tensor) -> Tensor:
    """The dims in reverse order."""
    return F.permute(self, tuple(range(self.ndim))[::-1])


def _reflected(function: Any) -> Any:
    return lambda self, other: function(other, self)


def _comparison(function: Any) -> Any:
    def compare(self: Tensor, other: Any) -> Any:
        if not isinstance(other, (Tensor, int, float, bool)) and not hasattr(other, "__array__"):
            return NotImplemented
        return function(self, other)

    return compare


def _in_place(op: Op) -> Any:
    def write(self: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
        check_writable(self, f"{op.name}_", other)
        from_float = other.dtype.is_floating_point if isinstance(other, Tensor) else isinstance(other, float)
        if from_float and not self.dtype.is_floating_point:
            what = other.dtype if isinstance(other, Tensor) else "a float"
            raise _core.DtypeError(f"{op.name}_: a result of {what} cannot be written into {self.dtype}")
        value = (
            as_operand(other, self.dtype) if isinstance(other, (int, float, Tensor)) else as_tensor(other, self.dtype)
        )
        if alpha != 1:
            value = F.mul(value, alpha)
        _fits(self, value, op.name)
        return apply_in_place(op, self, (self, value))

    return write


def _div_(self: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    if rounding_mode is None:
        return _in_place(DIV)(self, other)
    return _written_back("div_", F.div)(self, other, rounding_mode=rounding_mode)


def _written_back(name: str, function: Any) -> Any:
    """The in-place form of any function that keeps shape and dtype: computed, then written (one pass when compiled)."""

    def write(self: Tensor, *args: Any, **keywords: Any) -> Tensor:
        for value in (None, *args, *keywords.values()):
            check_writable(self, name, value)
        with no_tape():
            result = function(self, *args, **keywords)
            if _kind(result.dtype) > _kind(self.dtype):
                raise _core.DtypeError(f"{name}: a result of {result.dtype} cannot be written into {self.dtype}")
            if result.shape != self.shape:
                raise _core.ShapeError(
                    f"{name}: a result of shape {result.shape} cannot be written into shape {self.shape}"
                )
            return apply_in_place(COPY, self, (F.cast(result, self.dtype),))

    write.__name__ = write.__qualname__ = name
    return write


def _kind(dtype: Any) -> int:
    return 2 if dtype.is_floating_point else 0 if dtype is _core.bool_ else 1


for _family in F.FAMILIES:
    for _name in getattr(_family, "IN_PLACE", ()):
        setattr(Tensor, f"{_name}_", _written_back(f"{_name}_", getattr(F, _name)))


def _fits(target: Tensor, value: Tensor, name: str) -> None:
    from .elementwise import broadcast_shapes

    if broadcast_shapes(name, target.shape, value.shape) != target.shape:
        raise _core.ShapeError(f"{name}_: a result of shape {value.shape} cannot be written into shape {target.shape}")


def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Writes the values of `src`, cast and broadcast, into this tensor."""
    check_writable(self, "copy_", src)
    value = src if isinstance(src, Tensor) else as_tensor(src)
    _fits(self, value, "copy")
    previous = _core.set_grad_enabled_state(False)
    try:
        value = F.cast(value.detach(), self.dtype)
        if value.shape != self.shape:
            value = F.expand(value, self.shape)
        return apply_in_place(COPY, self, (value,))
    finally:
        _core.set_grad_enabled_state(previous)


def fill_(self: Tensor, value: Any) -> Tensor:
    """Writes one value everywhere."""
    check_writable(self, "fill_")
    if _core.is_tracing():
        return copy_(self, F.full(self.shape, value, dtype=self.dtype))
    if self.dtype == "bfloat16":
        return copy_(self, F.full(self.shape, value, dtype=_core.float32))
    self._view()[...] = value
    self.storage.version += 1
    return self


def zero_(self: Tensor) -> Tensor:
    """Writes zeros."""
    return fill_(self, 0)


def to(self: Tensor, *args: Any, dtype: Any = None, device: Any = None, copy: bool = False, **ignored: Any) -> Tensor:
    """Another dtype; devices other than "cpu" are refused."""
    unknown = set(ignored) - {"non_blocking", "memory_format"}
    if unknown:
        raise _core.DtypeError(f"to: unexpected arguments {sorted(unknown)}")
    for a in args:
        if isinstance(a, Tensor):
            dtype = a.dtype
        elif isinstance(a, device_class) or (isinstance(a, str) and a.split(":")[0] in ("cpu", "cuda", "mps")):
            device = a
        elif not isinstance(a, bool):
            dtype = a
    if device is not None:
        device_class(device)
    result = self if dtype is None else F.cast(self, dtype)
    return F.clone(result) if copy and result is self else result


device_class = device


def _cast_method(d: Any) -> Any:
    return lambda self: F.cast(self, d)


_OPERATORS: dict[str, Any] = {
    "__add__": F.add, "__radd__": _reflected(F.add), "__sub__": F.sub, "__rsub__": _reflected(F.sub),
    "__mul__": F.mul, "__rmul__": _reflected(F.mul), "__truediv__": F.div, "__rtruediv__": _reflected(F.div),
    "__pow__": F.pow, "__rpow__": _reflected(F.pow), "__matmul__": F.matmul, "__rmatmul__": _reflected(F.matmul),
    "__neg__": F.neg, "__abs__": F.abs, "__invert__": F.bitwise_not,
    "__floordiv__": F.floor_divide, "__rfloordiv__": _reflected(F.floor_divide),
    "__mod__": F.remainder, "__rmod__": _reflected(F.remainder),
    "__eq__": _comparison(F.eq), "__ne__": _comparison(F.ne), "__lt__": _comparison(F.lt),
    "__le__": _comparison(F.le), "__gt__": _comparison(F.gt), "__ge__": _comparison(F.ge),
    "__and__": F.bitwise_and, "__rand__": _reflected(F.bitwise_and), "__or__": F.bitwise_or,
    "__ror__": _reflected(F.bitwise_or), "__xor__": F.bitwise_xor, "__rxor__": _reflected(F.bitwise_xor),
    "__iadd__": _in_place(ADD), "__isub__": _in_place(SUB), "__imul__": _in_place(MUL), "__itruediv__": _in_place(DIV),
    "__ifloordiv__": _written_back("floor_divide_", F.floor_divide), "__ipow__": _written_back("pow_", F.pow),
    "__imod__": _written_back("remainder_", F.remainder), "__iand__": _written_back("bitwise_and_", F.bitwise_and),
    "__ior__": _written_back("bitwise_or_", F.bitwise_or), "__ixor__": _written_back("bitwise_xor_", F.bitwise_xor),
    "add_": _in_place(ADD), "sub_": _in_place(SUB), "mul_": _in_place(MUL), "div_": _div_,
    "copy_": copy_, "fill_": fill_, "zero_": zero_, "to": to, "type": to, "view": _view, "expand": _expand,
    "expand_as": lambda self, other: F.expand(self, other.shape),
    "float": _cast_method(_core.float32), "double": _cast_method(_core.float64), "long": _cast_method(_core.int64),
    "int": _cast_method(_core.int32), "bool": _cast_method(_core.bool_), "bfloat16": _cast_method(_core.bfloat16),
    "__getitem__": getitem, "__setitem__": setitem,
    "T": property(_transposed), "mT": property(_matrix_transpose), "repeat": repeat,
    "view_as": lambda self, other: F.reshape(self, other.shape),
    "reshape_as": lambda self, other: F.reshape(self, other.shape), "__hash__": lambda self: id(self),
}  # fmt: skip
for _name, _method in _OPERATORS.items():
    setattr(Tensor, _name, _method)
