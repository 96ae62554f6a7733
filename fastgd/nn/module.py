"""Module: a tree of parameters, buffers and sub-modules, with the behaviour of ``torch.nn.Module``.

A module keeps three ordered tables, ``_parameters``, ``_buffers`` and ``_modules``; attribute
assignment sorts values into them, and everything else (names, state dictionaries, dtype changes,
printing) is a walk over the tables.  There are no hooks.

Compiled plans are valid for one structure of the model.  Every change of it bumps the process-wide
mutation counter (``_core.note_mutation``): assigning or deleting parameters, modules and buffers,
``train``/``eval``, ``requires_grad_``, ``to``, and assigning a *different* object to any other
attribute (``model.drop.p = 0.1`` must take effect).  Only attributes written while a plan is being
recorded are exempt if plain: a forward pass that remembers something must not invalidate itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

from .. import _core
from .._core import DtypeError, NotOffered, ShapeError
from ..autodiff import HookHandle
from ..ops.registry import check_writable
from ..tensor import Tensor, as_tensor, device
from .parameter import Parameter

__all__ = ["IncompatibleKeys", "Module"]

_TABLES = ("_parameters", "_buffers", "_modules")
_MISSING = object()


class IncompatibleKeys(NamedTuple):
    """What :meth:`Module.load_state_dict` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of all layers and models.

    A subclass calls ``super().__init__()`` before it assigns parameters or modules, and defines
    ``forward``; calling the module calls ``forward``.

    Attributes
    ----------
    training : bool
        True after construction and :meth:`train`, False after :meth:`eval`.
    """

    training: bool

    def __init__(self) -> None:
        for table in _TABLES:
            object.__setattr__(self, table, {})
        object.__setattr__(self, "_non_persistent", set())
        object.__setattr__(self, "training", True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation; every subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        hooks = self.__dict__.get("_hooks")
        if not hooks:
            return self.forward(*args, **kwargs)
        for before, hook, with_kwargs in list(hooks.values()):
            if before:
                args, kwargs = self._run_before(hook, with_kwargs, args, kwargs)
        result = self.forward(*args, **kwargs)
        for before, hook, with_kwargs in list(hooks.values()):
            if not before:
                changed = hook(self, args, kwargs, result) if with_kwargs else hook(self, args, result)
                result = result if changed is None else changed
        return result

    def _run_before(self, hook: Callable, with_kwargs: bool, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        changed = hook(self, args, kwargs) if with_kwargs else hook(self, args)
        if changed is None:
            return args, kwargs
        if with_kwargs:
            if not (isinstance(changed, tuple) and len(changed) == 2):
                raise DtypeError(
                    f"{type(self).__name__}: a forward pre-hook with kwargs must return None or (args, kwargs), "
                    f"got {type(changed).__name__}"
                )
            return changed
        return (changed if isinstance(changed, tuple) else (changed,)), kwargs

    def _register_hook(self, before: bool, hook: Callable, prepend: bool, with_kwargs: bool) -> HookHandle:
        table = self.__dict__.setdefault("_hooks", {})
        handle = HookHandle(table, hook, (before, hook, bool(with_kwargs)))
        if prepend:
            rest = list(table.items())
            table.clear()
            table.update([rest[-1], *rest[:-1]])
        return handle

    def register_forward_pre_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Calls ``hook(module, args)`` before each forward; what it returns, if anything, replaces the arguments.

        With `with_kwargs` it is ``hook(module, args, kwargs)`` and may return ``(args, kwargs)``. Returns a handle
        whose ``remove()`` takes it away.
        """
        return self._register_hook(True, hook, prepend, with_kwargs)

    def register_forward_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> HookHandle:
        """Calls ``hook(module, args, result)`` after each forward; what it returns, if anything, replaces the result.

        With `with_kwargs` it is ``hook(module, args, kwargs, result)``. Returns a handle whose ``remove()`` takes it
        away.
        """
        if always_call:
            raise NotOffered("register_forward_hook: always_call=True is not offered")
        return self._register_hook(False, hook, prepend, with_kwargs)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> Any:
        """Not offered: put a hook on the tensors themselves, ``tensor.register_hook``."""
        raise NotOffered("register_full_backward_hook is not offered; use tensor.register_hook on inputs or results")

    # ---- attributes -------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self.add_module(name, value)
        elif (table := self._table_of(name)) is not None:
            self._assign_to_table(table, name, value)
        else:
            changed = self.__dict__.get(name, _MISSING) is not value
            object.__setattr__(self, name, value)
            if changed and not _core.is_tracing():
                _core.note_mutation()

    def __getattr__(self, name: str) -> Any:
        # Called only where the ordinary lookup failed; must not recurse before __init__.
        for table in _TABLES:
            entries = self.__dict__.get(table)
            if entries is not None and name in entries:
                return entries[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        table = self._table_of(name)
        if table is None:
            object.__delattr__(self, name)
        else:
            del self.__dict__[table][name]
            self._non_persistent.discard(name)
        _core.note_mutation()

    def __dir__(self) -> list[str]:
        entries = itertools.chain.from_iterable(self.__dict__.get(t, ()) for t in _TABLES)
        return sorted({*super().__dir__(), *entries})

    def _table_of(self, name: str) -> str | None:
        for table in _TABLES:
            if name in self.__dict__.get(table, ()):
                return table
        return None

    def _assign_to_table(self, table: str, name: str, value: Any) -> None:
        allowed = {"_parameters": Parameter, "_buffers": Tensor, "_modules": Module}[table]
        if value is not None and not isinstance(value, allowed):
            raise DtypeError(
                f"{type(self).__name__}.{name} is registered as {table[1:-1]}: expected "
                f"{allowed.__name__} or None, got {type(value).__name__}"
            )
        self.__dict__[table][name] = value
        _core.note_mutation()

    def _register(self, table: str, name: str, value: Any) -> None:
        if table not in self.__dict__:
            raise AttributeError(f"{type(self).__name__}: call super().__init__() before assigning {name!r}")
        if not isinstance(name, str):
            raise DtypeError(f"{table[1:-1]} name must be a string, got {name!r}")
        if name == "" or "." in name:
            raise KeyError(f"{table[1:-1]} name must not be empty or contain '.', got {name!r}")
        self.__dict__.pop(name, None)
        for other in _TABLES:
            if other != table:
                self.__dict__[other].pop(name, None)
        self._non_persistent.discard(name)
        self._assign_to_table(table, name, value)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter, or None for one that is absent (a layer without bias).

        Raises
        ------
        TypeError
            If `param` is neither a :class:`Parameter` nor None.
        KeyError
            If `name` is empty or contains a dot.
        """
        self._register("_parameters", name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but is not trained, such as a running mean.

        Parameters
        ----------
        name : str
        tensor : Tensor or None
        persistent : bool, default True
            Whether :meth:`state_dict` includes it.
        """
        if hasattr(self, name) and name not in self._buffers:
            raise KeyError(f"register_buffer: {type(self).__name__} already has {name!r}")
        self._register("_buffers", name, tensor)
        if not persistent:
            self._non_persistent.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a sub-module under `name`."""
        self._register("_modules", name, module)

    register_module = add_module

    # ---- walks ------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Direct sub-modules with their names, each once."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """Direct sub-modules, each once."""
        return (module for _, module in self.named_children())

    def named_modules(
        self,
        memo: set[int] | None = None,
        prefix: str = "",
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with dotted names; parents before children."""
        memo = set() if memo is None else memo
        if remove_duplicate and id(self) in memo:
            return
        memo.add(id(self))
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, _dotted(prefix, name), remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def _named_entries(
        self,
        table: str,
        prefix: str,
        recurse: bool,
        remove_duplicate: bool,
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        owners = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for owner, module in owners:
            for name, value in module.__dict__[table].items():
                if value is None or (remove_duplicate and id(value) in seen):
                    continue
                seen.add(id(value))
                yield _dotted(owner, name), value

    def named_parameters(
        self,
        prefix: str = "",
        recurse: bool = True,
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, Parameter]]:
        """Parameters with their dotted names; a shared one comes once, under its first name."""
        return self._named_entries("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Parameters, each once: what an optimizer wants."""
        return (param for _, param in self.named_parameters(recurse=recurse))

    def named_buffers(
        self,
        prefix: str = "",
        recurse: bool = True,
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, Tensor]]:
        """Buffers with their dotted names."""
        return self._named_entries("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The sub-module with dotted name `target`; ``""`` is the module itself."""
        modules = dict(self.named_modules(remove_duplicate=False))
        if target not in modules:
            raise AttributeError(f"{type(self).__name__} has no sub-module {target!r}")
        return modules[target]

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with dotted name `target`."""
        parameters = dict(self.named_parameters(remove_duplicate=False))
        if target not in parameters:
            raise AttributeError(f"{type(self).__name__} has no parameter {target!r}")
        return parameters[target]

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every module below this one, then on this one; return self."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # ---- modes and gradients ------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout active) here and below; return self."""
        if not isinstance(mode, bool):
            raise ShapeError(f"train: mode must be a bool, got {mode!r}")
        changed = False
        for module in self.modules():
            changed |= module.training is not mode
            object.__setattr__(module, "training", mode)
        if changed:
            _core.note_mutation()
        return self

    def eval(self) -> Self:
        """Set evaluation mode here and below; return self."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Choose whether the parameters here and below receive gradients; return self."""
        changed = False
        for param in self.parameters():
            changed |= param.requires_grad is not requires_grad
            param.requires_grad_(requires_grad)
        if changed:
            _core.note_mutation()
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or with ``set_to_none=False`` fill them with zeros."""
        for param in self.parameters():
            if set_to_none:
                param.grad = None
            elif param.grad is not None:
                param.grad.zero_()

    # ---- dtype ------------------------------------------------------------------------------

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Cast floating-point parameters and buffers in place: ``to(dtype)``; return self.

        ``to("cpu")``, ``to(device="cpu")`` and ``non_blocking`` are accepted and change nothing.

        Parameters
        ----------
        dtype : dtype or str
            A floating-point dtype.

        Raises
        ------
        TypeError
            If the dtype is not a floating-point one.
        """
        dtype = _dtype_of_to(args, kwargs)
        if dtype is None:
            return self
        for param in self.parameters():
            if param.dtype != dtype and param.dtype.is_floating_point:
                grad = param.grad
                param.grad = None
                param.data = param.detach().to(dtype)
                if grad is not None:
                    param.grad = grad.detach().to(dtype)
        for module in self.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.dtype.is_floating_point:
                    module._buffers[name] = buffer.to(dtype)
        _core.note_mutation()
        return self

    def float(self) -> Self:
        """Cast to float32; return self."""
        return self.to("float32")

    def double(self) -> Self:
        """Cast to float64; return self."""
        return self.to("float64")

    def cpu(self) -> Self:
        """Return self: there is no other device."""
        return self

    # ---- state --------------------------------------------------------------------------------

    def _named_state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        for owner, module in self.named_modules(prefix=prefix, remove_duplicate=False):
            for name, param in module._parameters.items():
                if param is not None:
                    yield _dotted(owner, name), param
            for name, buffer in module._buffers.items():
                if buffer is not None and name not in module._non_persistent:
                    yield _dotted(owner, name), buffer

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """Parameters and persistent buffers by dotted name.

        The tensors share memory with the module, as in PyTorch: copy them for a snapshot.

        Parameters
        ----------
        prefix : str, default ""
            Put in front of every name as it stands; ends in a dot if it is to be one.
        keep_vars : bool, default False
            Return the parameters themselves instead of detached tensors.
        """
        return {prefix + name: value if keep_vars else value.detach() for name, value in self._named_state()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy values into the parameters and buffers, in place; all of them or none.

        Parameters
        ----------
        state_dict : mapping of str to array
            Tensors, NumPy arrays, or anything NumPy can read, such as PyTorch tensors.  Values
            are cast to the dtype of the parameter.
        strict : bool, default True
            Whether missing and unexpected names are an error.  A wrong shape always is.

        Returns
        -------
        IncompatibleKeys
            ``(missing_keys, unexpected_keys)``.

        Raises
        ------
        ValueError
            Naming every missing, unexpected and unfit key.  Nothing has been changed.
        """
        if _core.is_tracing():
            raise NotOffered("load_state_dict inside fastgd.compile is not offered: call it between two steps")
        if not isinstance(state_dict, Mapping):
            raise DtypeError(f"load_state_dict: expected a mapping, got {type(state_dict).__name__}")
        own = dict(self._named_state())
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        problems = []
        if strict and missing:
            problems.append("missing keys: " + ", ".join(missing))
        if strict and unexpected:
            problems.append("unexpected keys: " + ", ".join(map(str, unexpected)))
        values = {}
        for name, target in own.items():
            if name in state_dict:
                try:
                    values[name] = _fitting(state_dict[name], target)
                except (TypeError, ValueError) as error:
                    problems.append(f"{name}: {error}")
        if problems:
            raise ShapeError(f"{type(self).__name__}.load_state_dict:\n    " + "\n    ".join(problems))
        # Nothing below can fail, for nothing below allocates.
        for name, value in values.items():
            _core.copy_bytes(own[name], value.storage)
            own[name].storage.version += 1
        return IncompatibleKeys(missing, unexpected)

    # ---- printing -----------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What a subclass wants printed between the parentheses."""
        return ""

    def __repr__(self) -> str:
        name, extra = type(self).__name__, self.extra_repr()
        if not self._modules:
            return f"{name}({extra})"
        lines = [extra] if extra else []
        for key, module in self._modules.items():
            lines.append(f"({key}): {module!r}".replace("\n", "\n  "))
        return f"{name}(\n  " + "\n  ".join(lines) + "\n)"


def _fitting(value: Any, target: Tensor) -> Tensor:
    """`value` as a tensor of the shape and dtype of `target`, into which it can be written."""
    tensor = as_tensor(value, target.dtype).detach()
    if tensor.shape != target.shape:
        raise ShapeError(f"expected shape {target.shape}, got {tensor.shape}")
    check_writable(target.detach(), "copy_")
    return tensor


def _dotted(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _dtype_of_to(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The dtype among the arguments of ``to``, or None; anything not understood is an error."""
    unknown = set(kwargs) - {"dtype", "device", "non_blocking"}
    if unknown:
        raise DtypeError(f"to: unexpected arguments {sorted(unknown)}")
    found = [kwargs["dtype"]] if kwargs.get("dtype") is not None else []
    for arg in (*args, kwargs.get("device")):
        if isinstance(arg, device) or (isinstance(arg, str) and arg.split(":")[0] in ("cpu", "cuda", "mps")):
            device(arg)
        elif arg is not None and not isinstance(arg, bool):
            found.append(arg)
    if len(found) > 1:
        raise DtypeError(f"to: expected one dtype, got {found}")
    dtype = _core.as_dtype(found[0]) if found else None
    if dtype is not None and not dtype.is_floating_point:
        raise DtypeError(f"to: expected a floating-point dtype, got {dtype}")
    return dtype
