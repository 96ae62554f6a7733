"""Optimizer: parameter groups, state and the update step, shared by all update rules.

An update rule is one declaration (:class:`Rule`) beside its kernel row in ``csrc/kernels.def``:
which hyper-parameters make up a row of the kernel's table, which options are flags, which state
buffers exist.  Everything else - groups, schedules, step counts, state dictionaries, errors - is
here, once.  The update itself runs in C, all parameters in one call; inside ``fastgd.compile`` the
same call is recorded instead of run.

Hyper-parameters are never baked into a compiled plan.  They live in ``_hyper``, a float64 array of
one row per group that the kernel reads; ``_prepare_step`` refreshes it before each update, eager or
replayed, from ``param_groups`` and the schedules.  What a plan does bake in (flags and therefore
the set of buffers) bumps the mutation counter when it changes.  ``_records`` holds a row of numbers
for each parameter, which the kernel keeps: its step count, then what its rule needs (``Rule.record``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import numpy as np

from .. import _core
from .._core import DtypeError, NotOffered, ShapeError
from ..ops.optim import Entry, optimizer_step
from ..tensor import Tensor, as_tensor

__all__ = ["Optimizer", "ParamGroup", "Range", "Rule"]

#: Row lengths of the kernels' tables of hyper-parameters and of records (FGD_HYPER, FGD_RECORD in csrc).
HYPER_COLUMNS, RECORD_COLUMNS = 12, 4

#: What all kernels have in their first columns of hyper-parameters, and their flags beside those of the rule.
SHARED_COLUMNS = {"lr": 0, "weight_decay": 1}
SHARED_FLAGS = {"maximize": 256, "decoupled_weight_decay": 512}
DECOUPLED, OWN_DECAY = 512, 4096  # for Rule.always: weight decay is always decoupled, or part of the rule's formula
STYLE_FLAGS = {"torch": 0, "optax": 1024, "keras": 2048}


#: Bounds of a hyper-parameter: low <= value < high.
Range = tuple[float, float]

#: A hyper-parameter as a function of the number of updates made so far.
Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Rule:
    """What the base class needs to know of an update rule.

    Attributes
    ----------
    kernel : str
        Row of ``csrc/kernels.def`` without the dtype suffix.
    hyper : dict of str to Range or tuple of Range
        Group keys with bounds, in the order of the kernel's columns (lr and weight_decay have columns of
        their own); a tuple stands for a value that is a tuple of that length (``betas``) and takes as many.
    flags : dict of str to int
        The rule's own group keys and the bit (1 to 128) that a true (non-zero) value sets.
    buffers : dict of str to (str or None)
        State tensors in the order of the kernel's operands, under PyTorch's names, and the group
        key that must be true for them to exist; the first such key has flag 1, the second 2.
    record : tuple of str
        Names of the numbers that the kernel keeps for each parameter beside its step count.
    always : int
        Flags that are always set.
    styles : tuple of str
        Libraries whose arithmetic the rule knows.
    shared : bool
        The update needs sums over all parameters: one kernel call must have them all.
    """

    kernel: str
    hyper: Mapping[str, Range | tuple[Range, ...]]
    flags: Mapping[str, int]
    buffers: Mapping[str, str | None]
    record: tuple[str, ...] = ()
    always: int = 0
    styles: tuple[str, ...] = ("torch",)
    shared: bool = False

    def flag_word(self, group: Mapping[str, Any]) -> int:
        """The kernel's flags for a group."""
        word = self.always | STYLE_FLAGS.get(group.get("style", "torch"), 0)
        for key, bit in (*SHARED_FLAGS.items(), *self.flags.items()):
            if group.get(key):
                word |= bit
        return word

    def setting(self, key: str, value: Any) -> Any:
        """The value as a group keeps it: a list of numbers as a tuple, whose elements cannot be edited unseen."""
        bounds = self.hyper.get(key)
        return tuple(value) if isinstance(value, list) and bounds and isinstance(bounds[0], tuple) else value

    def columns(self, group: Mapping[str, Any]) -> Iterator[tuple[int, str, Any, Range]]:
        """The group's row of the kernel's table: (column, name, number or schedule, bounds)."""
        own = len(SHARED_COLUMNS)
        for key, bounds in self.hyper.items():
            if key in SHARED_COLUMNS:
                yield SHARED_COLUMNS[key], key, group[key], bounds  # type: ignore[misc]
            elif isinstance(bounds[0], tuple):
                for i, (value, one) in enumerate(zip(group[key], bounds, strict=True)):
                    yield own + i, f"{key}[{i}]", value, one
                own += len(bounds)
            else:
                yield own, key, group[key], bounds
                own += 1

    def active_buffers(self, group: Mapping[str, Any]) -> list[str]:
        """The state tensors that the kernel takes for a group."""
        return [name for name, key in self.buffers.items() if key is None or group[key]]


def settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of a group from ``locals()`` at the top of an optimizer's ``__init__``."""
    return {key: value for key, value in arguments.items() if key not in ("self", "params", "__class__")}


class ParamGroup(dict[str, Any]):
    """A dictionary of hyper-parameters that tells its optimizer when it is edited.

    Values may be changed at any time; ``"params"`` and the presence of keys may not.
    """

    _owner: Optimizer | None = None

    def __setitem__(self, key: str, value: Any) -> None:
        owner = self._owner
        if owner is None:  # being built, copied or unpickled
            super().__setitem__(key, value)
            return
        if _core.is_tracing():
            raise NotOffered(
                f"param_groups: setting {key!r} inside fastgd.compile would happen while the function is recorded and "
                "not when it runs; do it outside, or give lr as a schedule"
            )
        if key == "params" and key in self:
            raise ShapeError("param_groups: params cannot be replaced; use add_param_group")
        copied = key not in self  # copy.deepcopy fills a group whose owner is not complete yet
        before = owner.rule.flag_word(self)
        super().__setitem__(key, owner.rule.setting(key, value))
        owner._edited = True
        if owner.rule.flag_word(self) != before and not copied:
            owner._restart_without_buffers()
            _core.note_mutation()

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self, other: Any) -> ParamGroup:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def _refuse_removal(self, *args: Any) -> NoReturn:
        raise ShapeError("param_groups: entries can be changed, not removed")

    __delitem__ = pop = popitem = clear = _refuse_removal


class Optimizer:
    """Base class of all optimizers.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        Parameters, or groups ``{"params": [...], key: value, ...}`` with their own settings.
    defaults : dict
        Settings of the groups that do not say otherwise.

    Attributes
    ----------
    param_groups : tuple of ParamGroup
        Writable settings: ``optimizer.param_groups[0]["lr"] = 0.1`` holds from the next step on.
    rule : Rule
        Set by each subclass.

    Notes
    -----
    Every numeric hyper-parameter, ``lr``, ``momentum``, one of the ``betas`` ..., is a number or a
    schedule, a function of the number of updates made so far: update number n, counted from 0, uses
    ``lr(n)``.  A step in which no parameter has a gradient is not an update.  What depends on a
    setting being zero or not (``momentum``: is there a buffer?) counts a schedule as not zero.
    """

    rule: ClassVar[Rule]

    def __init__(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], defaults: dict[str, Any]) -> None:
        if defaults.get("differentiable"):
            raise NotOffered(f"{self._name()}: differentiable=True is not offered")
        self.defaults = dict(defaults)
        self.param_groups: tuple[ParamGroup, ...] = ()
        self._params: list[Tensor] = []
        self._group_of: list[int] = []  # parameter index -> group index
        self._buffers: list[dict[str, Tensor]] = []  # parameter index -> state tensors
        self._records = _core.persistent_zeros((0, RECORD_COLUMNS), "float64")
        self._hyper = np.zeros((0, HYPER_COLUMNS))
        self._schedules: list[tuple[int, int, str, Schedule, Range]] = []  # row, column of _hyper, name, -, bounds
        self._updates = 0
        self._edited = True

        if isinstance(params, (Tensor, Mapping, str)):
            raise DtypeError(
                f"{self._name()}: params must be an iterable of tensors or of groups, got {type(params).__name__}"
            )
        given: list[Any] = list(params)
        if not given:
            raise ShapeError(f"{self._name()}: params is empty")
        groups = given if isinstance(given[0], Mapping) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)

    @classmethod
    def _name(cls) -> str:
        return cls.__name__

    # ---- groups -------------------------------------------------------------------------------

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add parameters with their own settings.

        Parameters
        ----------
        param_group : dict
            ``{"params": tensors, key: value, ...}``; absent keys take the defaults.

        Raises
        ------
        ValueError
            If a setting is out of range, a parameter is not a leaf or occurs twice.
        TypeError
            If something is not a floating-point tensor.
        """
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise DtypeError(f"{self._name()}: a parameter group must be a dict with 'params', got {param_group!r}")
        tensors = self._checked_params(param_group["params"])
        settings = {**self.defaults, **param_group, "params": tensors}
        group = ParamGroup({key: self.rule.setting(key, value) for key, value in settings.items()})
        self._check_group(group, len(self.param_groups))
        group._owner = self

        records = _core.persistent_zeros((len(self._params) + len(tensors), RECORD_COLUMNS), "float64")
        _array(records)[: len(self._params)] = _array(self._records)
        self._records = records
        self._hyper = np.zeros((len(self.param_groups) + 1, HYPER_COLUMNS))
        self._group_of += [len(self.param_groups)] * len(tensors)
        self._params += tensors
        self._buffers += [{} for _ in tensors]
        self.param_groups = (*self.param_groups, group)
        self._edited = True
        _core.note_mutation()

    def _checked_params(self, params: Any) -> tuple[Tensor, ...]:
        if isinstance(params, (set, frozenset)):
            raise DtypeError(f"{self._name()}: params must be ordered, got a {type(params).__name__}")
        tensors = (params,) if isinstance(params, Tensor) else tuple(params)
        known = {id(p) for p in self._params}
        for p in tensors:
            if not isinstance(p, Tensor):
                raise DtypeError(f"{self._name()}: params must be tensors, got {type(p).__name__}")
            if p.dtype not in ("float32", "float64"):
                raise DtypeError(f"{self._name()}: parameters must be float32 or float64, got {p.dtype}")
            if not p.is_leaf:
                raise ShapeError(
                    f"{self._name()}: cannot optimize a tensor that is computed from others (shape {tuple(p.shape)})"
                )
            if id(p) in known:
                raise ShapeError(f"{self._name()}: a parameter of shape {tuple(p.shape)} is given twice")
            known.add(id(p))
        return tensors

    def _check_group(self, group: Mapping[str, Any], index: int) -> None:
        """Raise unless every hyper-parameter of the group is in range; rules may extend it."""
        for key, bounds in self.rule.hyper.items():
            value = group[key]
            if isinstance(bounds[0], tuple) and (not isinstance(value, (tuple, list)) or len(value) != len(bounds)):
                raise ShapeError(f"{self._name()}: {key} of group {index} must be {len(bounds)} numbers, got {value!r}")
        for _, name, value, one in self.rule.columns(group):
            if not callable(value):
                _check_number(f"{self._name()}: {name.split('[')[0]} of group {index}", value, one)
        style = group.get("style", "torch")
        if style not in self.rule.styles:
            raise ShapeError(f"{self._name()}: style of group {index} must be one of {self.rule.styles}, got {style!r}")

    # ---- the step -------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Parameters
        ----------
        closure : callable, optional
            Called first, with gradients enabled; computes gradients and returns the loss.

        Returns
        -------
        What `closure` returned, or None.

        Raises
        ------
        ValueError
            If a hyper-parameter is out of range or not finite.  Nothing has been updated.
        """
        loss = None if closure is None else self._evaluate(closure)
        batches = self._batches()
        if not batches:
            return loss
        if self.rule.shared and (len(batches) > 1 or len({e[0].dtype for b in batches.values() for e in b}) > 1):
            raise ShapeError(f"{self._name()}: parameters must have one dtype and groups the same options")
        recording = _core.is_tracing()
        if not recording:
            self._prepare_step()
        optimizer_step(self, kernel=self.rule.kernel, hyper=self._hyper, records=self._records, batches=batches)
        if not recording:
            self._finish_step()
        return loss

    @staticmethod
    def _evaluate(closure: Callable[[], Any]) -> Any:
        previous = _core.set_grad_enabled_state(True)
        try:
            return closure()
        finally:
            _core.set_grad_enabled_state(previous)

    def _batches(self) -> dict[int, list[Entry]]:
        """What to update, by the kernel flags of the groups: (p, g, state tensors, group, index)."""
        kinds = [(self.rule.flag_word(group), self.rule.active_buffers(group)) for group in self.param_groups]
        batches: dict[int, list[Entry]] = {}
        for index, (p, row) in enumerate(zip(self._params, self._group_of, strict=True)):
            grad = p.grad
            if grad is not None:
                flags, names = kinds[row]
                entry = (p, grad, self._state_tensors(index, names), row, index)
                batches.setdefault(flags, []).append(entry)
        return batches

    def _state_tensors(self, index: int, names: list[str]) -> tuple[Tensor, ...]:
        """State tensors of a parameter, created on first use."""
        p, buffers = self._params[index], self._buffers[index]
        # All or none: a state with half of its tensors could not be loaded again.
        buffers.update({name: _core.persistent_zeros(p.shape, p.dtype) for name in names if name not in buffers})
        for name in names:
            if (buffers[name].dtype, buffers[name].shape) != (p.dtype, p.shape):
                raise DtypeError(
                    f"{self._name()}: {name} is {buffers[name].aval!r} but its parameter is now {p.aval!r}; "
                    "make a new optimizer after a cast"
                )
        return tuple([buffers[name] for name in names])

    def _prepare_step(self) -> None:
        """Bring `_hyper` up to date for the update that follows; the engine calls it too."""
        if self._edited:
            self._rewrite_hyper()
        values = [self._scheduled(row, name, one, bounds) for row, _, name, one, bounds in self._schedules]
        for (row, column, *_), value in zip(self._schedules, values, strict=True):
            self._hyper[row, column] = value

    def _finish_step(self) -> None:
        """Count an update that has been made eagerly (a replay counts in C, where no signal can come in between)."""
        self._updates += 1

    def _rewrite_hyper(self) -> None:
        schedules = []
        for row, group in enumerate(self.param_groups):
            self._check_group(group, row)
            for column, name, value, bounds in self.rule.columns(group):
                if callable(value):
                    schedules.append((row, column, name, value, bounds))
                else:
                    self._hyper[row, column] = float(value)
        self._schedules = schedules
        self._edited = False

    def _scheduled(self, row: int, name: str, schedule: Schedule, bounds: Range) -> float:
        """The value for the next update, in bounds."""
        value = float(schedule(self._updates))
        low, high = bounds
        if not (math.isfinite(value) and low <= value < high):
            raise ShapeError(
                f"{self._name()}: the schedule of group {row} gives {name} = {value} for update {self._updates}"
            )
        return value

    def _without_schedules(self, row: int, settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Settings of a group with the values of the next update for its schedules, and those as text by column."""
        values, texts = dict(settings), {}
        for _, name, value, bounds in self.rule.columns(settings):
            if callable(value):
                texts[name] = repr(value)
                _set_column(values, name, self._scheduled(row, name, value, bounds))
        return values, texts

    def _restart_without_buffers(self) -> None:
        """Steps count the updates of the state: momentum that is switched on late starts afresh."""
        for index, row in enumerate(self._group_of):
            if not self._buffers[index] and self.rule.active_buffers(self.param_groups[row]):
                self._set_step(index, 0)

    def _set_step(self, index: int, step: int) -> None:
        _array(self._records)[index, 0] = step

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or with ``set_to_none=False`` fill them with zeros."""
        for p in self._params:
            if set_to_none:
                p.grad = None
            elif p.grad is not None:
                p.grad.zero_()

    # ---- state ----------------------------------------------------------------------------------

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        """State by parameter: ``"step"`` and the live tensors under PyTorch's names."""
        return {p: self._state_of(i) for i, p in enumerate(self._params) if self._has_state(i)}

    def _has_state(self, index: int) -> bool:
        return bool(self._buffers[index] or _array(self._records)[index, 0])

    def _state_of(self, index: int) -> dict[str, Any]:
        step, *kept = _array(self._records)[index].tolist()
        return {"step": int(step), **dict(zip(self.rule.record, kept, strict=False)), **self._buffers[index]}

    def state_dict(self) -> dict[str, Any]:
        """A snapshot in PyTorch's structure, with copies of all tensors.

        Returns
        -------
        dict
            ``{"state": {index: {"step": int, name: Tensor, ...}}, "param_groups": [{..., "params":
            [index, ...]}], "updates": int}``.  Schedules are code, only their position (`updates`)
            is state: such a group has their values for the next update and, as text, ``"schedules"``.
        """
        state = {}
        for index in range(len(self._params)):
            if self._has_state(index):
                state[index] = {
                    name: value.detach().clone() if isinstance(value, Tensor) else value
                    for name, value in self._state_of(index).items()
                }
        return {"state": state, "param_groups": list(self._packed_groups()), "updates": self._updates}

    def _packed_groups(self) -> Iterator[dict[str, Any]]:
        first = 0
        for row, group in enumerate(self.param_groups):
            packed = {key: value for key, value in group.items() if key != "params"}
            packed, texts = self._without_schedules(row, packed)
            if texts:
                packed["schedules"] = texts
            count = len(group["params"])
            yield {**packed, "params": list(range(first, first + count))}
            first += count

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`, or that of the same optimizer of PyTorch; all of it or nothing.

        Schedules of our groups are kept and continue at the saved position; without ``"updates"``
        (PyTorch) that is the largest step count.

        Parameters
        ----------
        state_dict : dict
            Tensors may be anything that NumPy can read.

        Raises
        ------
        ValueError
            Naming everything that does not fit.  Nothing has been changed.
        """
        if _core.is_tracing():
            raise NotOffered("load_state_dict inside fastgd.compile is not offered: call it between two steps")
        problems: list[str] = []
        groups = self._read_groups(state_dict, problems)
        state = self._read_state(state_dict, problems) if not problems else {}
        updates = self._read_updates(state_dict, state, problems) if not problems else 0
        if problems:
            raise ShapeError(f"{self._name()}.load_state_dict:\n    " + "\n    ".join(problems))
        fresh = {
            (index, name): _core.persistent_zeros(tensor.shape, tensor.dtype)
            for index, (_, tensors) in state.items()
            for name, tensor in tensors.items()
            if name not in self._buffers[index] or self._buffers[index][name].aval is not tensor.aval
        }

        # Nothing below can fail, for nothing below allocates.
        for group, values in zip(self.param_groups, groups, strict=True):
            group.update(values)
        for (index, name), tensor in fresh.items():
            self._buffers[index][name] = tensor
        for index, buffers in enumerate(self._buffers):
            record, tensors = state.get(index, (np.zeros(RECORD_COLUMNS), {}))
            _array(self._records)[index] = record
            for name, buffer in buffers.items():
                if name in tensors:
                    _core.copy_bytes(buffer, tensors[name].storage)
                else:
                    _core.fill_zero(buffer)
                buffer.storage.version += 1
        self._restart_without_buffers()
        self._updates = updates
        _core.note_mutation()

    def _read_groups(self, state_dict: Any, problems: list[str]) -> list[dict[str, Any]]:
        """New values of each group from a state dictionary; what is wrong goes to `problems`."""
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
            problems.append("expected a dict with 'state' and 'param_groups'")
            return []
        saved_groups = state_dict["param_groups"]
        if not _is_list_of_groups(saved_groups):
            problems.append(f"expected 'param_groups' to be a list of dicts with a list 'params', got {saved_groups!r}")
            return []
        expected = [len(group["params"]) for group in self.param_groups]
        given = [len(group["params"]) for group in saved_groups]
        if expected != given:
            problems.append(f"parameters per group: expected {expected}, got {given}")
            return []
        groups = []
        for row, (group, saved) in enumerate(zip(self.param_groups, saved_groups, strict=True)):
            absent = [key for key in self.rule.hyper if key not in saved]
            if absent:
                problems.append(f"group {row} lacks {', '.join(absent)}: not the state of {self._name()}")
                continue
            values = {key: value for key, value in saved.items() if key not in ("params", "schedules")}
            ours = {name: value for _, name, value, _ in self.rule.columns(group) if callable(value)}
            theirs = saved.get("schedules", {})
            if not isinstance(theirs, Mapping):
                problems.append(f"group {row}: expected 'schedules' to be a dict, got {theirs!r}")
                continue
            problems += [
                f"group {row} was saved with the schedule {text}; give it as {name}"
                for name, text in theirs.items()
                if name not in ours
            ]
            try:
                for name, value in ours.items():
                    _set_column(values, name, value)
                self._check_group({**group, **values}, row)
            except (TypeError, ValueError) as error:
                problems.append(str(error))
            groups.append(values)
        return groups

    def _read_state(
        self,
        state_dict: Mapping[str, Any],
        problems: list[str],
    ) -> dict[int, tuple[np.ndarray, dict[str, Tensor]]]:
        """(record, tensors) by our parameter index; what is wrong goes to `problems`."""
        if not isinstance(state_dict["state"], Mapping):
            problems.append(f"expected 'state' to be a dict, got {state_dict['state']!r}")
            return {}
        order = [key for group in state_dict["param_groups"] for key in group["params"]]
        saved = {str(key): value for key, value in state_dict["state"].items()}  # JSON has string keys
        unknown = set(saved) - {str(key) for key in order}
        if unknown:
            problems.append(f"state of unknown parameters {sorted(unknown)}")
        state = {}
        for index, key in enumerate(order):
            if str(key) in saved:
                try:
                    state[index] = self._read_parameter_state(index, saved[str(key)])
                except (TypeError, ValueError) as error:
                    problems.append(f"state of parameter {index}: {error}")
        return state

    def _read_updates(
        self,
        state_dict: Mapping[str, Any],
        state: Mapping[int, tuple[np.ndarray, Any]],
        problems: list[str],
    ) -> int:
        try:
            most = max((record[0] for record, _ in state.values()), default=0)
            return _whole("updates", state_dict.get("updates", most))
        except (TypeError, ValueError) as error:
            problems.append(str(error))
            return 0

    def _read_parameter_state(self, index: int, saved: Any) -> tuple[np.ndarray, dict[str, Tensor]]:
        if not isinstance(saved, Mapping):
            raise ValueError(f"expected a dict, got {saved!r}")
        saved = self._complete_state({name: value for name, value in saved.items() if value is not None})
        needed = {"step", *self.rule.record, *(name for name, key in self.rule.buffers.items() if key is None)}
        wrong = set(saved) - needed - set(self.rule.buffers)
        absent = needed - set(saved)
        if wrong or absent:
            raise ValueError(f"unexpected {sorted(wrong)}, missing {sorted(absent)}")
        record = np.zeros(RECORD_COLUMNS)
        record[0] = _whole("step", saved.pop("step"))
        for column, name in enumerate(self.rule.record, 1):
            record[column] = float(np.asarray(saved.pop(name)))
        p = self._params[index]
        tensors = {name: as_tensor(value, p.dtype).detach() for name, value in saved.items()}
        for name, tensor in tensors.items():
            if tensor.shape != p.shape:
                raise ShapeError(f"{name}: expected shape {p.shape}, got {tensor.shape}")
        return record, tensors

    def _complete_state(self, saved: dict[str, Any]) -> dict[str, Any]:
        """For rules whose PyTorch counterpart leaves something out of its state."""
        return saved

    # ---- printing -------------------------------------------------------------------------------

    def __repr__(self) -> str:
        lines = [f"{self._name()} ("]
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def _set_column(settings: dict[str, Any], name: str, value: Any) -> None:
    """Set a hyper-parameter, or one number of a tuple, by the name that Rule.columns gives it."""
    key, _, index = name.partition("[")
    if index and isinstance(settings[key], (tuple, list)):
        i = int(index[:-1])
        value = (*settings[key][:i], value, *settings[key][i + 1 :])
    settings[key] = value


def _check_number(where: str, value: Any, bounds: Range) -> None:
    low, high = bounds
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise DtypeError(f"{where} must be a number, got {value!r}") from None
    if not (math.isfinite(number) and low <= number < high):
        limits = f"at least {low:g}" + (f" and less than {high:g}" if high < math.inf else "")
        raise ShapeError(f"{where} must be {limits if low > -math.inf else 'finite'}, got {number}")


def _is_list_of_groups(given: Any) -> bool:
    return isinstance(given, (list, tuple)) and all(
        isinstance(group, Mapping) and isinstance(group.get("params"), (list, tuple)) for group in given
    )


def _whole(name: str, value: Any) -> int:
    """A count from a state dictionary: PyTorch has tensors of floats there."""
    number = float(np.asarray(value))
    if not (0 <= number < 2**53 and number.is_integer()):
        raise ValueError(f"{name} must be a whole number, got {number}")
    return int(number)


def _array(tensor: Tensor) -> np.ndarray:
    """The tensor's own memory."""
    return tensor.detach().numpy()
