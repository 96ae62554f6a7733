"""Tensor: contiguous, NumPy-friendly, eager.

The compiled base class (``_core.TensorBase``) holds storage, shape, dtype and the place on the tape;
operators and methods that compute are attached by ``ops/methods.py``, so that this file imports
nothing above ``_core``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._core import DtypeError, FastgdError, NotOffered, TensorBase

_NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "uint8": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
}


class Tensor(TensorBase):
    """A contiguous array with a dtype, and optionally a place on the tape.

    Make one with `fastgd.tensor` (copies), `fastgd.from_numpy` or `fastgd.as_tensor` (share when they can).
    """

    __slots__ = ()
    __array_priority__ = 1000.0  # NumPy's operators give way to ours

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise DtypeError(
            "Tensor: use fastgd.tensor(data) to make one from data, fastgd.empty(*sizes) for its size alone"
        )

    if TYPE_CHECKING:  # attached by ops/methods.py

        def __getattr__(self, name: str) -> Any: ...

    # ---- facts ----

    @property
    def device(self) -> device:
        return device("cpu")

    @property
    def data(self) -> Tensor:
        """The same memory without the tape; assigning copies nothing and replaces the storage."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor) or value.storage is None:
            raise DtypeError(f"data: expected a Tensor with storage, got {type(value).__name__}")
        self.storage = value.storage
        self.aval = value.aval
        _core.note_mutation()

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self.ndim

    def nelement(self) -> int:
        return self.numel()

    def element_size(self) -> int:
        return self.dtype.itemsize

    def is_contiguous(self) -> bool:
        return True

    def data_ptr(self) -> int:
        return self.storage.address

    def __len__(self) -> int:
        if not self.shape:
            raise DtypeError("len: a 0-d tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Any:
        if not self.shape:
            raise DtypeError("iteration over a 0-d tensor")
        return (self.__getitem__(i) for i in range(self.shape[0]))

    # ---- the tape ----

    def detach(self) -> Tensor:
        """The same memory, off the tape."""
        if self._value is not None:
            new = _core.abstract_tensor(Tensor, self.aval, self._value)
        else:
            new = _core.wrap_storage(Tensor, self.storage, self.aval)
        new._copy_of = self._copy_of
        return new

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        if requires_grad and not self.dtype.is_floating_point:
            raise FastgdError(f"requires_grad_: only floating-point tensors can require grad, got {self.dtype}")
        if not self.is_leaf and not requires_grad:
            raise FastgdError("requires_grad_: a tensor that is on the tape cannot be switched off; use .detach()")
        if self._requires_grad != bool(requires_grad):
            self._requires_grad = bool(requires_grad)
            _core.note_mutation()
        return self

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def grad_fn(self) -> Any:
        return self._node

    def backward(self, gradient: Tensor | None = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Adds this tensor's gradient to the `.grad` of every leaf; see `fastgd.autodiff.backward`."""
        from . import autodiff

        if create_graph:
            raise NotOffered("backward: second derivatives (create_graph=True) are not offered")
        autodiff.backward(self, gradient, bool(retain_graph))

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Any:
        """Calls `hook` with the gradient of this tensor in each backward(); what it returns, if anything, replaces it.

        Returns a handle whose ``remove()`` takes the hook away.  Compiled, the operations of the hook become part of
        the plan.
        """
        from . import autodiff

        return autodiff.HookHandle(autodiff.hooks_of(self).gradient, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> Any:
        """Calls `hook` with this leaf after backward() has written its `.grad`; returns a handle with ``remove()``."""
        from . import autodiff

        if not self.is_leaf:
            raise FastgdError("register_post_accumulate_grad_hook: expected a leaf, got a tensor that is on the tape")
        return autodiff.HookHandle(autodiff.hooks_of(self).accumulated, hook)

    def retain_grad(self) -> None:
        """Keeps the gradient of a tensor that is no leaf in its `.grad`."""
        from . import autodiff

        autodiff.retain_grad(self)

    # ---- out ----

    def _concrete(self, what: str) -> None:
        known = self.storage is not None
        if known and _core.is_tracing():  # a value from outside would be baked into the plan (serial 0: the engine's)
            known = self.storage.serial == 0 or self.storage.serial > _core.current_trace().made_after
        if not known:
            raise FastgdError(
                f"{what}: the values of a tensor are not known while fastgd.compile records a function; return the "
                "tensor and look at it outside, or choose with where() instead of if"
            )

    def item(self) -> Any:
        """The single element as a Python number."""
        self._concrete("item()")
        if self.numel() != 1:
            raise _core.ShapeError(f"item: expected one element, got shape {self.shape}")
        return _core.item(self)

    def __float__(self) -> float:
        self._concrete("float()")
        return float(self.item())

    def __int__(self) -> int:
        self._concrete("int()")
        return int(self.item())

    def __index__(self) -> int:
        self._concrete("index()")
        if self.dtype.is_floating_point or self.numel() != 1:
            raise DtypeError(f"index: expected one integer, got {self.aval!r}")
        return int(self.item())

    def __bool__(self) -> bool:
        self._concrete("bool()")
        if self.numel() != 1:
            raise _core.ShapeError(f"bool: a tensor of shape {self.shape} is neither true nor false")
        return bool(self.item())

    def _view(self) -> np.ndarray:
        if self.storage is None:
            self._concrete("numpy()")
        if self.dtype == "bfloat16":
            bits = np.frombuffer(self.storage, np.uint16).astype(np.uint32) << 16
            return bits.view(np.float32).reshape(self.shape)
        if not self.numel():
            return np.empty(self.shape, _NUMPY_DTYPES[self.dtype.name])
        return np.frombuffer(self.storage, _NUMPY_DTYPES[self.dtype.name]).reshape(self.shape)

    def numpy(self) -> np.ndarray:
        """The values as an array that shares this tensor's memory (bfloat16: a float32 copy)."""
        if self._requires_grad:
            raise FastgdError("numpy: the tensor requires grad; use .detach().numpy()")
        self._concrete("numpy()")
        return self._view()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self._concrete("numpy()")
        array = self._view()
        if self._requires_grad and array.base is not None:
            array.flags.writeable = False
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"a {self.dtype} tensor cannot become a {dtype} array without a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def tolist(self) -> Any:
        self._concrete("tolist()")
        return self._view().tolist()

    def __repr__(self) -> str:
        extra = "" if self.dtype == "float32" else f", dtype={self.dtype}"
        if self._requires_grad:
            extra += ", requires_grad=True"
        if self.storage is None:
            return f"tensor(<recorded {self.aval!r}>{extra})"
        text = np.array2string(self._view(), separator=", ", precision=4, prefix="tensor(", threshold=1000)
        return f"tensor({text}{extra})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.numel() == 1 else format(repr(self), spec)

    def __hash__(self) -> int:
        return id(self)

    def __deepcopy__(self, memo: dict) -> Tensor:
        if self._node is not None:
            raise FastgdError("deepcopy: only leaf tensors can be copied; use .detach().clone()")
        self._concrete("deepcopy")
        new = _core.empty_tensor(type(self), self.aval)
        _core.copy_bytes(new, self.storage)
        new._requires_grad = self._requires_grad
        memo[id(self)] = new
        if self._grad is not None:
            new._grad = self._grad.__deepcopy__(memo)
        return new

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), self.dtype.name, self.shape, bytes(self.storage), self._requires_grad)

    # ---- converting ----

    def cpu(self) -> Tensor:
        return self

    def contiguous(self) -> Tensor:
        return self


_core.register_tensor_class(Tensor)


def _rebuild(cls: type, dtype: str, shape: tuple, data: bytes, requires_grad: bool) -> Tensor:
    t: Tensor = _core.empty_tensor(cls, _core.aval(_core.as_dtype(dtype), tuple(shape)))
    _core.copy_bytes(t, data)
    t._requires_grad = requires_grad
    return t


class device:
    """Only "cpu" exists; anything else is refused."""

    __slots__ = ("type",)

    def __init__(self, type: Any = "cpu", index: int | None = None) -> None:
        name = str(getattr(type, "type", type))
        if name.split(":")[0] != "cpu":
            raise NotOffered(f"device: fastgd runs on the CPU only, got {name!r}")
        self.type = "cpu"

    def __repr__(self) -> str:
        return "device(type='cpu')"

    def __str__(self) -> str:
        return "cpu"

    def __eq__(self, other: object) -> bool:
        return str(other) == "cpu"

    def __hash__(self) -> int:
        return hash("cpu")


# ---- the gate: everything foreign comes in here -------------------------------------------------------


def _as_array(data: Any, dtype: Any) -> np.ndarray:
    """A C-contiguous array in native byte order of a dtype that fastgd has; or a clear error."""
    if hasattr(data, "detach") and not isinstance(data, (Tensor, np.ndarray)):
        data = data.detach()  # a torch tensor that requires grad
    if type(data).__module__.startswith("torch") and str(getattr(data, "dtype", "")) == "torch.bfloat16":
        data = data.float()
    array = np.asarray(data)
    if array.dtype == object:
        if any(isinstance(x, Tensor) for x in np.ravel(array)):
            return _as_array([np.asarray(x) for x in data], dtype)
        raise DtypeError("tensor: expected numbers, got an object array (ragged rows, None or mixed types)")
    kind = array.dtype.kind
    if kind == "c":
        raise DtypeError("tensor: complex data not supported")
    if kind not in "fiub":
        raise DtypeError(f"tensor: expected numbers, got an array of {array.dtype}")
    if dtype is None:
        dtype = _native(
            array, python=not isinstance(data, (np.ndarray, np.generic, Tensor)) and not hasattr(data, "__array__")
        )
    _check_range(array, np.dtype(dtype))
    return np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)


def _check_range(array: np.ndarray, dtype: np.dtype) -> None:
    """Raises if a value does not fit an integer dtype, where NumPy would wrap around."""
    if dtype.kind not in "iu" or array.dtype == dtype or not array.size:
        return
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _core.ShapeError(f"tensor: NaN or infinity cannot become {dtype}")
    limits = np.iinfo(dtype)
    low, high = (x.item() for x in (array.min(), array.max()))
    if low < limits.min or high > limits.max:
        raise _core.ShapeError(f"tensor: a value between {low} and {high} does not fit {dtype}")


def _native(array: np.ndarray, python: bool) -> np.dtype:
    """The dtype that an array without an asked-for one gets."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "f":
        return np.dtype(np.float64 if size >= 8 and not python else np.float32)
    if kind == "b":
        return np.dtype(np.bool_)
    if kind == "u":
        if size == 8 and array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise _core.ShapeError("tensor: an unsigned 64-bit value does not fit int64")
        return np.dtype(np.uint8 if size == 1 else np.int64)
    return np.dtype(np.int32 if size <= 4 and not python else np.int64)


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, *, device: Any = None) -> Tensor:
    """A new tensor that holds a copy of `data`.

    Parameters
    ----------
    data : array_like
        Numbers, nested lists, NumPy arrays (any layout, byte order, read-only), torch tensors.
    dtype : optional
        Target dtype; by default Python floats become float32, NumPy arrays keep float32 and float64
        (float16 becomes float32), integers become int64 (int8, int16 and int32 arrays: int32; uint8 stays).

    Raises
    ------
    TypeError
        For objects, strings and complex numbers.
    """
    if device is not None:
        _check_device(device)
    want = None if dtype is None else _core.as_dtype(dtype)
    if want is _core.bfloat16:
        t: Tensor = tensor(data, _core.float32).to(_core.bfloat16)
    else:
        if _core.is_tracing() and isinstance(data, Tensor) and data.storage is None:
            raise FastgdError("tensor: the values are not known while fastgd.compile records a function; use .clone()")
        array = _as_array(data, None if want is None else _NUMPY_DTYPES[want.name])
        t = _core.empty_tensor(Tensor, _core.aval(_core.as_dtype(array.dtype), array.shape))
        _core.copy_bytes(t, array)
    if requires_grad:
        t.requires_grad_()
    return t


_check_device = device


def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """As `tensor`, but shares memory with a NumPy array that can be used as it is."""
    if isinstance(data, Tensor):
        return data if dtype is None or data.dtype is _core.as_dtype(dtype) else data.to(dtype)
    if isinstance(data, np.ndarray):
        found = _core.buffer_aval(data)
        if found is not None and (dtype is None or found.dtype is _core.as_dtype(dtype)):
            return _core.wrap_storage(Tensor, _core.borrow(data), found)
    return tensor(data, dtype)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory where it can (contiguous, native, a dtype that fastgd has)."""
    if not isinstance(array, np.ndarray):
        raise DtypeError(f"from_numpy: expected a numpy.ndarray, got {type(array).__name__}")
    return as_tensor(array)
