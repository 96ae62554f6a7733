"""fastgd.compile: a function is recorded, made into a plan, and from then on replayed in C.

The first call records the function twice on shape-only tensors (nothing is executed) and compares the
two programs; it then already replays.  Later calls check the guards and replay.

What is guarded and what is not is written at `compile` below.
"""

from __future__ import annotations

import functools
import os
import types
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core
from .._core import FastgdError, NotOffered
from ..tensor import Tensor, as_tensor
from . import explain as _explain
from .backward import record_backward
from .lower import Lowered, constant_storage, lower
from .passes import resolve
from .program import PERSISTENT, Program
from .trace import Trace

MAX_PLANS = 16
RECORD_AGAIN = tuple(10**k for k in range(1, 19))  # calls at which a function is recorded again


_locks: weakref.WeakSet = weakref.WeakSet()


def _renew_locks() -> None:
    for lock in list(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


class Recording:
    """One recording: the finished program and how its results go back to the caller.

    If results are still on the tape at return (a compiled forward pass), their backward pass is recorded
    too and becomes a program of its own; what it reads of the forward pass becomes extra outputs.

    Attributes
    ----------
    program, backward : Program, Backward or None
    tree : nested tuple
        The structure of the result, tensors replaced by their numbers.
    left : dict
        How `.grad` of parameters is left; see Trace.finish.
    """

    def __init__(self, function: Callable, args: list[Any], requires_grad: list[bool], rebuild: Callable) -> None:
        made_after = _core.storage_count()
        self.trace = Trace()
        flat = [self.trace.add_input(a) if isinstance(a, _core.Aval) else a for a in args]
        self.arguments = [a for a in flat if isinstance(a, Tensor) and a.storage is None]
        for tensor, required in zip(self.arguments, requires_grad, strict=True):
            tensor._requires_grad = required
        positional, keywords = rebuild(flat)
        previous = _core.set_trace(self.trace)
        try:
            result = function(*positional, **keywords)
            outputs: list[Tensor] = []
            self.tree = _flatten(result, outputs)
            self.n_outputs = len(outputs)
            self.backward = record_backward(self.trace, outputs, self.arguments) if _core.is_grad_enabled() else None
            extra = self.backward.extra_outputs if self.backward else []
            self.left = self.trace.finish(outputs, extra)
            if any(r and t._grad is not None for t, r in zip(self.arguments, requires_grad, strict=True)):
                raise NotOffered(
                    "compile: backward() inside the function reaches an argument that requires grad; let the function "
                    "refer to that tensor itself, or return the loss and call backward() outside"
                )
        finally:
            _core.set_trace(previous)
        self.program = self.trace.program
        self.lines = self.program.fingerprint(made_after)
        self.lines.append(("grads", tuple((id(p), i) for p, i in self.left["grads_out"]), self.tree, ()))
        if self.backward:
            self.lines += self.backward.program.fingerprint(made_after)

    def release(self) -> None:
        """Lets go of the tensors that were captured; only `lines` can be used afterwards."""
        self.program.release()
        if self.backward:
            self.backward.program.release()
        for held in self.trace.captured.values():  # one that was only read or only written is in no node
            for v in (held.entry, held.current):
                v.binding = v.producer = v.owner = None

    def difference(self, other: Recording) -> str | None:
        """The first operation in which two recordings differ, in words."""
        for i, (a, b) in enumerate(zip(self.lines, other.lines, strict=False)):
            if a != b:
                return f"operation {i}: {_line(a)} the first time, {_line(b)} the second{_detail(a, b)}"
        if len(self.lines) != len(other.lines):
            return f"{len(self.lines)} operations the first time, {len(other.lines)} the second"
        return None


def _detail(a: tuple, b: tuple) -> str:
    """What differs between two lines that read the same."""
    if a[0] == "grads":
        return " (which gradients are left, or what is returned)"
    if _line(a) != _line(b):
        return ""
    for i, (x, y) in enumerate(zip(a[2], b[2], strict=False)):
        if x != y:
            numbers = (
                f": {x[2]} and {y[2]}" if x[1] == "constant" and y[1] == "constant" else ", another tensor or value"
            )
            return f" (operand {i}{numbers})"
    return ""


def _line(line: tuple) -> str:
    shapes = ", ".join(str(v[1]) for v in line[2]) if line[0] not in ("return", "grads") else ""
    return f"{line[0]}{line[1] if line[1] else ''}({shapes})"


class CompiledFunction(_core.CompiledCall):
    """What `fastgd.compile` returns; call it as the function.

    Methods
    -------
    explain(*args, profile=False)
        The program, one line per kernel call: shapes, bytes, flops, what was fused; optionally times.
    memory(*args)
        Bytes of the plan by kind, known before anything runs.
    """

    def __init__(self, function: Callable, precision: str = "fp32") -> None:
        if precision != "fp32":
            raise NotOffered(f"compile: expected precision 'fp32', got {precision!r} (bf16 is not offered yet)")
        if not callable(function):
            raise _core.DtypeError(f"compile: expected a function or a Module, got {type(function).__name__}")
        self._function = function
        self._plans: list[_core.Replay] = []
        self._recordings: dict[int, Recording] = {}
        self._arena: Any = None
        self._bound: weakref.WeakSet = weakref.WeakSet()  # plans that use the arena
        self._name = getattr(function, "__name__", type(function).__name__)
        self._lock = _core.Exclusive(self._name)
        _locks.add(self._lock)
        self._names_in, self._names, self._cells = _references(function)
        functools.update_wrapper(self, function, updated=())

    def __del__(self) -> None:
        for recording in self.__dict__.get("_recordings", {}).values():
            recording.release()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "_function":
            raise AttributeError(name)
        return getattr(self._function, name)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def _ready(self, args: tuple, kwargs: dict) -> tuple[Any, list]:
        """The plan for these arguments, recorded if there is none, and the tensors to bind."""
        flat, rebuild, layout = (args, None, None) if not kwargs else _flat_arguments(args, kwargs)
        tensors: list = []
        replay = self._last
        self._calls += 1
        self._check_at = min(k for k in RECORD_AGAIN if k > self._calls)
        if (
            replay is not None
            and not replay.stale
            and replay.output_tree[1] == layout
            and self._calls not in RECORD_AGAIN
            and replay.matches(flat, tensors)
        ):
            return replay, tensors
        if rebuild is None and any(isinstance(a, (list, tuple, dict)) for a in args):
            flat, rebuild, layout = _flat_arguments(args, kwargs)
        flat = tuple([_bindable(a) for a in flat])
        tensors = []
        replay = self._find(flat, layout, tensors)
        if replay is None:
            replay = self._build(flat, layout, rebuild, tensors)
        elif self._calls in RECORD_AGAIN:
            self._check_again(replay, flat, rebuild)
        self._last = replay
        return replay, tensors

    # ---- plans ----

    def _find(self, flat: tuple, layout: Any, tensors: list) -> Any:
        """A plan that was made for these arguments and this state, recorded again if it may be stale."""
        for replay in self._plans:
            del tensors[:]
            if replay.output_tree[1] != layout or not replay.matches(flat, tensors):
                continue
            if replay.stale:
                again = self._record(flat, None, layout)
                again.release()
                if self._recordings[id(replay)].difference(again):
                    continue
                replay.refresh()
            return replay
        del tensors[:]
        return None

    def _record(self, flat: tuple, rebuild: Any, layout: Any = None) -> Recording:
        if rebuild is None:
            rebuild = (lambda values: (values, {})) if layout is None else functools.partial(_rebuild_arguments, layout)
        requires_grad = [getattr(a, "_requires_grad", False) for a in flat if isinstance(a, (Tensor, np.ndarray))]
        return Recording(self._function, _avals(flat), requires_grad, rebuild)

    def _build(self, flat: tuple, layout: Any, rebuild: Any, tensors: list) -> Any:
        first = self._record(flat, rebuild, layout)
        recording = self._record(flat, rebuild, layout)
        first.release()
        difference = first.difference(recording)
        if difference:
            recording.release()
            raise FastgdError(
                "compile: the function does different things when it is recorded twice; it must not depend on "
                f"counters, time or random choices of its own. {difference}"
            )
        lowered = lower(recording.program)
        replay = self._bind(recording.program, lowered, recording.left["grads_out"], recording.trace.optimizers)
        replay.output_tree = (recording.tree, layout)
        if recording.backward is not None:
            replay.backward = recording.backward.build(self._bind, self._lock)
        pattern = [(g.parameter, g.entry is None) for g in recording.trace.gradients.values()]
        required = [t._requires_grad for t in recording.arguments]
        names = tuple(
            n for n in self._names if n in self._names_in and not isinstance(self._names_in[n], types.ModuleType)
        )
        replay.guard(tuple(_avals(flat)), required, self._names_in, names, self._cells, pattern)
        tensors.extend(a for a in flat if isinstance(a, (Tensor, np.ndarray)))
        self._recordings[id(replay)] = recording
        self._plans.append(replay)
        if len(self._plans) > MAX_PLANS:
            warnings.warn(
                f"compile: {self._name} needs more than {MAX_PLANS} plans; the oldest is dropped. Arguments that "
                "change at every call should be tensors, and batches should have one size",
                stacklevel=4,
            )
            self._recordings.pop(id(self._plans.pop(0))).release()
        return replay

    def _check_again(self, replay: Any, flat: tuple, rebuild: Any) -> None:
        """Catches what the guards do not cover; see the text of this module."""
        again = self._record(flat, rebuild, replay.output_tree[1])
        again.release()
        difference = self._recordings[id(replay)].difference(again)
        if difference:
            self._plans.remove(replay)
            self._recordings.pop(id(replay)).release()
            self._last = None
            raise FastgdError(
                "compile: the function has changed in a way that is not guarded (see fastgd.compile's documentation). "
                f"Its plan was dropped; {difference}"
            )

    def _bind(self, program: Program, lowered: Lowered, grads_out: list, optimizers: list) -> Any:
        """Says where each slot's memory comes from."""
        inputs = {id(v): i for i, v in enumerate(program.inputs)}
        outputs = {id(resolve(v)) for v in program.outputs}
        fixed, in_slots, grad_in, arena_slots, rng_slot = [], {}, [], [], 0
        for slot, value in enumerate(lowered.slots):
            if slot in lowered.offsets:
                arena_slots.append((slot, lowered.offsets[slot]))
            elif id(value) in inputs:
                in_slots[inputs[id(value)]] = slot
            elif id(value) in outputs:
                continue
            elif isinstance(value.binding, tuple):
                grad_in.append((slot, value.binding[1]))
            elif isinstance(value.binding, str):
                rng_slot = slot
            elif value.storage == "constant":
                fixed.append((slot, constant_storage(value)))
            else:
                fixed.append((slot, value.binding))
        n = len(lowered.slots)  # an argument that nobody reads has no slot: it is bound to a spare one
        written = {
            id(v.binding.storage): v.binding.storage
            for call in lowered.calls
            for v in call.written_values()
            if v.storage in PERSISTENT and not isinstance(v.binding, tuple)
        }
        grads_written = {
            id(v.binding[1])
            for call in lowered.calls
            for v in call.written_values()
            if v.storage in PERSISTENT and isinstance(v.binding, tuple)
        }
        bound = [t.storage for _, t in fixed if isinstance(t, Tensor)]
        _core.refuse_shared_memory(bound, [id(s) in written for s in bound])
        replay = _core.Replay(
            lowered.plan(),
            fixed=fixed,
            inputs=[(in_slots.get(i, n), v.aval) for i, v in enumerate(program.inputs)],
            grad_in=[(slot, p, id(p) in grads_written) for slot, p in grad_in],
            outputs=[(lowered.slot_of[id(resolve(v))], v.aval) for v in program.outputs],
            written=list(written.values()),
            grads_out=grads_out,
            optimizers=optimizers,
            rng_slot=rng_slot,
            n_random=program.n_random,
            arena_slots=arena_slots,
            arena_bytes=lowered.arena_bytes,
            program=lowered,
            tensor_class=Tensor,
        )
        if self._arena is None or self._arena.nbytes < lowered.arena_bytes:
            self._arena = _core.new_storage(max(lowered.arena_bytes, 64))
            for other in self._bound:
                other.bind_arena(self._arena)
        replay.bind_arena(self._arena)
        self._bound.add(replay)
        return replay

    # ---- looking at it ----

    def _plan_for(self, what: str, args: tuple, kwargs: dict) -> Any:
        """The plan for the arguments, made but not run; without arguments that of the last call."""
        if args or kwargs:
            with self._lock:
                return self._ready(args, kwargs)[0]
        if self._last is None:
            raise FastgdError(
                f"{what}: pass arguments as in a call, or call the function first; shapes are not known yet"
            )
        return self._last

    def explain(self, *args: Any, profile: bool = False, **kwargs: Any) -> str:
        """The program for these arguments (default: of the last call), one line per kernel call.

        With `profile` the function is also run on them, each kernel call timed; it counts as a call.
        """
        if not profile:
            return _explain.explain(self._plan_for("explain", args, kwargs))
        if not args and not kwargs:
            raise FastgdError("explain: profile=True runs the function; pass arguments as in a call")
        with self._lock:
            replay, tensors = self._ready(args, kwargs)
            replay.run(tensors, True)
        return _explain.explain(replay, True)

    def memory(self, *args: Any, **kwargs: Any) -> dict[str, int]:
        """Bytes that the plan for these arguments needs, by kind, known before anything runs.

        Without arguments: of the last call.  Kinds: arena, outputs, persistent, scratch and their sum, peak.
        """
        return _explain.memory(self._plan_for("memory", args, kwargs))


def compile(function: Callable | None = None, *, precision: str = "fp32") -> Any:
    """Compiles a function, usually a whole training step, or a Module.

    Parameters
    ----------
    function : callable
        Takes tensors or arrays (and other values, which become part of the plan) and returns tensors.
    precision : {"fp32"}

    Returns
    -------
    CompiledFunction
        Same results, bit for bit, as the function itself.

    Raises
    ------
    FastgdError
        If two recordings of the function differ, or values are needed while it is recorded
        (``item()``, ``if tensor:``).

    Notes
    -----
    Guarded: shapes and dtypes of arguments, other arguments by value, the closure cells and globals that the
    function itself names (numbers and strings by value, everything else by identity), grad mode, which
    gradients are None, and a process-wide counter of mutations (modules, parameters, train/eval,
    requires_grad, the structure of optimizer groups).  When the counter has moved, the function is recorded
    again and its program compared.

    Not guarded: the contents of NumPy arrays that the function turns into tensors itself, attributes of
    objects that are not modules or parameters (``config.alpha``), elements of lists and dicts, globals of
    functions that are called.  They are caught, late, when the function is recorded again at
    calls 10, 100, 1,000 ...; a difference raises.
    """
    if function is None:
        return functools.partial(compile, precision=precision)
    return CompiledFunction(function, precision)


# ---- arguments and results ----


def _avals(flat: tuple) -> list[Any]:
    """Tensors and arrays as their Aval, other arguments as they are."""
    return [a.aval if isinstance(a, Tensor) else _core.buffer_aval(a) if isinstance(a, np.ndarray) else a for a in flat]


def _bindable(argument: Any) -> Any:
    """Arrays that cannot be bound by pointer as they are become tensors (one conversion per call)."""
    if isinstance(argument, Tensor):
        if argument.storage is None:
            raise FastgdError("compile: an argument is a tensor of a recording")
        return argument
    if isinstance(argument, np.ndarray):
        return argument if _core.buffer_aval(argument) is not None else as_tensor(argument)
    if hasattr(argument, "__array__") and not isinstance(argument, (int, float, bool, type)):
        return as_tensor(argument)
    return argument


def _flat_arguments(args: tuple, kwargs: dict) -> tuple[tuple, Callable, Any]:
    flat: list[Any] = []

    def walk(x: Any) -> Any:
        if isinstance(x, (list, tuple)) and not hasattr(x, "_fields"):
            return (type(x).__name__, *[walk(y) for y in x])
        if isinstance(x, dict):
            return ("dict", tuple(x), *[walk(y) for y in x.values()])
        flat.append(x)
        return None

    layout = (tuple(walk(a) for a in args), tuple(kwargs), tuple(walk(a) for a in kwargs.values()))
    return tuple(flat), functools.partial(_rebuild_arguments, layout), layout


def _rebuild_arguments(layout: Any, values: list[Any]) -> tuple[list, dict]:
    rest = iter(values)

    def build(shape: Any) -> Any:
        if shape is None:
            return next(rest)
        if shape[0] == "dict":
            return {k: build(s) for k, s in zip(shape[1], shape[2:], strict=True)}
        items = [build(s) for s in shape[1:]]
        return tuple(items) if shape[0] == "tuple" else items

    positional = [build(s) for s in layout[0]]
    return positional, {k: build(s) for k, s in zip(layout[1], layout[2], strict=True)}


def _flatten(result: Any, tensors: list[Tensor]) -> Any:
    """The structure of a result with each tensor replaced by its number."""
    if isinstance(result, Tensor):
        tensors.append(result)
        return ("tensor", len(tensors) - 1)
    if isinstance(result, (list, tuple)):
        return (type(result).__name__, *[_flatten(x, tensors) for x in result])
    if isinstance(result, dict):
        return ("dict", *[(k, _flatten(v, tensors)) for k, v in result.items()])
    if result is None or isinstance(result, (int, float, str, bool)):
        return ("value", result)
    raise FastgdError(
        "compile: a compiled function returns tensors, numbers, and lists, tuples or dicts of them, "
        f"got {type(result).__name__}"
    )


def _references(function: Callable) -> tuple[dict, tuple, tuple]:
    """The globals that a function names and its closure cells: what it may silently depend on."""
    plain: Any = function
    cells: list[Any] = []
    while True:  # through methods, decorators that tell what they wrap (no_grad), and partial
        cells += getattr(plain, "__closure__", None) or ()
        inner = plain.func if isinstance(plain, functools.partial) else getattr(plain, "__func__", None)
        inner = inner or getattr(plain, "__wrapped__", None)
        if inner is None:
            break
        plain = inner
    code = getattr(plain, "__code__", None)
    if code is None:  # a Module or another callable object: guarded by the mutation counter
        return {}, (), ()
    names: set[str] = set()
    pending = [code]
    while pending:
        one = pending.pop()
        names.update(one.co_names)
        pending.extend(c for c in one.co_consts if isinstance(c, types.CodeType))
    return plain.__globals__, tuple(sorted(names)), tuple(cells)
