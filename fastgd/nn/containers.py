"""Containers of modules and of parameters, as in ``torch.nn``."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from .._core import DtypeError, RangeError
from ..tensor import Tensor
from .module import Module
from .parameter import Parameter

__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]


class _Indexed(Module):
    """Sub-modules named "0", "1", ...: what Sequential and ModuleList share.

    Names of a Sequential made from a mapping are kept until an insertion or deletion renumbers.
    """

    def _position(self, index: Any) -> int:
        i, n = operator.index(index), len(self)
        if not -n <= i < n:
            raise RangeError(f"{type(self).__name__}: index {i} is out of range for {n} modules")
        return i % n

    def _name_at(self, index: Any) -> str:
        return list(self._modules)[self._position(index)]

    def _renumber(self, modules: Iterable[Module]) -> None:
        kept = list(modules)
        for name in list(self._modules):
            delattr(self, name)
        self.extend(kept)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(list(self._modules.values()))

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._name_at(index), _checked(self, module))

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index if isinstance(index, slice) else self._position(index)]
        self._renumber(modules)

    def append(self, module: Module) -> Self:
        """Add a module at the end; return self."""
        self.add_module(str(len(self)), _checked(self, module))
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end; return self."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Insert a module before `index`; return self."""
        modules = list(self)
        modules.insert(index, _checked(self, module))
        self._renumber(modules)
        return self

    def pop(self, index: int = -1) -> Module:
        """Remove and return the module at `index`."""
        module = list(self)[self._position(index)]
        del self[index]
        return module


class Sequential(_Indexed):
    """Modules applied one after another.

    Parameters
    ----------
    *modules : Module, or one mapping of str to Module
        Names are "0", "1", ... or the keys of the mapping.

    Examples
    --------
    >>> model = Sequential(Linear(4, 8), ReLU(), Linear(8, 2))
    >>> model[0].weight.shape
    (8, 4)
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, _checked(self, module))
        else:
            self.extend(modules)

    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return type(self)(dict(list(self._modules.items())[index]))
        return self._modules[self._name_at(index)]

    def forward(self, input: Any) -> Any:
        """Apply the modules in order."""
        for module in self._modules.values():
            input = module(input)
        return input


class ModuleList(_Indexed):
    """A list whose modules are registered.

    Parameters
    ----------
    modules : iterable of Module, optional
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(() if modules is None else modules)

    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._modules[self._name_at(index)]


class ModuleDict(Module):
    """A dictionary whose modules are registered.

    Parameters
    ----------
    modules : mapping of str to Module, optional
    """

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update({} if modules is None else modules)

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, _checked(self, module))

    def __delitem__(self, key: str) -> None:
        self._modules[key]  # a KeyError for an unknown key, never an AttributeError
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def keys(self) -> Iterable[str]:
        """Names, in order of insertion."""
        return self._modules.keys()

    def values(self) -> Iterable[Module]:
        """Modules, in order of insertion."""
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Names and modules, in order of insertion."""
        return self._modules.items()

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add or replace modules."""
        for key, module in modules.items():
            self[key] = module


class ParameterList(Module):
    """A list whose tensors are registered as parameters.

    Parameters
    ----------
    values : iterable of Parameter or Tensor, optional
        A plain tensor becomes a Parameter that shares its memory.
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(() if values is None else values)

    def _position(self, index: Any) -> str:
        i, n = operator.index(index), len(self)
        if not -n <= i < n:
            raise RangeError(f"ParameterList: index {i} is out of range for {n} parameters")
        return str(i % n)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._parameters[self._position(index)]

    def __setitem__(self, index: int, value: Any) -> None:
        self.register_parameter(self._position(index), _parameter(self, value))

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._parameters.values()))

    def append(self, value: Any) -> Self:
        """Add a parameter at the end; returns the list."""
        self.register_parameter(str(len(self)), _parameter(self, value))
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Add parameters at the end; returns the list."""
        for value in [_parameter(self, value) for value in values]:
            self.append(value)
        return self

    def __iadd__(self, values: Iterable[Any]) -> Self:
        return self.extend(values)

    def extra_repr(self) -> str:
        return ", ".join(f"({name}): {p.aval!r}" for name, p in self._parameters.items() if p is not None)


class ParameterDict(Module):
    """A dictionary whose tensors are registered as parameters.

    Parameters
    ----------
    parameters : mapping of str to Parameter or Tensor, optional
    """

    def __init__(self, parameters: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.update({} if parameters is None else parameters)

    def __getitem__(self, key: str) -> Any:
        return self._parameters[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.register_parameter(key, _parameter(self, value))

    def __delitem__(self, key: str) -> None:
        self._parameters[key]  # a KeyError for an unknown key, never an AttributeError
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._parameters))

    def __contains__(self, key: object) -> bool:
        return key in self._parameters

    def keys(self) -> Iterable[str]:
        """Names, in order of insertion."""
        return self._parameters.keys()

    def values(self) -> Iterable[Any]:
        """Parameters, in order of insertion."""
        return self._parameters.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """Names and parameters, in order of insertion."""
        return self._parameters.items()

    def update(self, parameters: Mapping[str, Any]) -> None:
        """Add or replace parameters."""
        for key, value in parameters.items():
            self[key] = value


def _parameter(owner: Module, value: Any) -> Parameter:
    if isinstance(value, Parameter):
        return value
    if not isinstance(value, Tensor):
        raise DtypeError(f"{type(owner).__name__}: expected a Parameter or a Tensor, got {type(value).__name__}")
    return Parameter(value)


def _checked(owner: Module, module: Any) -> Module:
    if not isinstance(module, Module):
        raise DtypeError(f"{type(owner).__name__}: expected a Module, got {type(module).__name__}")
    return module
