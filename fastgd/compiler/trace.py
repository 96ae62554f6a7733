"""Recording: operations on shape-only tensors become nodes of a program; nothing is executed.

A recording sees three kinds of tensors: its inputs, its own intermediate results (both abstract: they
have a `_value` and no storage), and tensors that exist outside (parameters, buffers, optimizer state),
which it captures by their storage.  Writing to a captured tensor gives its storage a new current value;
the write itself happens in the program's commit phase.
"""

from __future__ import annotations

from typing import Any

from .. import _core
from ..tensor import Tensor
from .passes import resolve
from .program import PERSISTENT, Node, Program, Value


class Captured:
    """A tensor from outside: the value it had on entry and the one it has now."""

    __slots__ = ("current", "entry", "tensor")

    def __init__(self, tensor: Tensor, entry: Value) -> None:
        self.tensor = tensor
        self.entry = entry
        self.current = entry


class Gradient:
    """`.grad` of a parameter during a recording: on entry (an abstract tensor or None) and now."""

    __slots__ = ("current", "entry", "entry_value", "parameter")

    def __init__(self, parameter: Tensor, entry: Tensor | None) -> None:
        self.parameter = parameter
        self.entry = entry
        self.entry_value = entry._value if entry is not None else None
        self.current = entry


class Trace:
    """The recording of one function call."""

    def __init__(self) -> None:
        self.program = Program()
        self.made_after = _core.storage_count()
        self.captured: dict[int, Captured] = {}
        self.written: dict[int, tuple[Value, Value]] = {}  # id(value) -> the value, what its memory holds now
        self.gradients: dict[int, Gradient] = {}
        self.optimizers: list[Any] = []
        self._rng: Tensor | None = None
        self._updated: set[tuple[int, int]] = set()

    # ---- values ----

    def new_value(self, aval: Any, storage: str, binding: Any) -> Value:
        value = Value(aval, storage, binding)
        value.owner = self.program
        return value

    def abstract(self, value: Value) -> Tensor:
        return _core.abstract_tensor(Tensor, value.aval, value)

    def add_input(self, aval: Any) -> Tensor:
        value = self.new_value(aval, "input", len(self.program.inputs))
        self.program.inputs.append(value)
        return self.abstract(value)

    def constant(self, aval: Any, number: float) -> Tensor:
        """A 0-d constant: its number becomes part of the program."""
        return self.abstract(self.new_value(aval, "constant", number))

    def host(self, array: Any, aval: Any) -> Value:
        """Numbers that the host writes before each replay, read through their fixed address."""
        return self.new_value(aval, "host", array)

    def value_of(self, t: Tensor) -> Value:
        """The value that stands for a tensor now; captures it if it is from outside."""
        if t._value is not None:
            if t._value.owner is not self.program:
                raise _core.FastgdError(
                    "compile: a tensor of an earlier recording is used; compiled functions must return what they make, "
                    "not leave it in variables"
                )
            now = self.contents(t)
            if now is resolve(t._value):
                return t._value
            return now if now.aval is t.aval else self.reshape(now, t.aval)
        if t.storage is None:
            raise _core.FastgdError("compile: a tensor without storage cannot be used")
        held = self.captured.get(id(t.storage))
        if held is None:
            storage = "parameter" if t._requires_grad and t._node is None else "state"
            held = self.captured[id(t.storage)] = Captured(t, self.new_value(t.aval, storage, t))
        if held.current.aval is not t.aval:  # a reshape of a captured tensor shares its storage
            return self.reshape(held.current, t.aval)
        return held.current

    def contents(self, t: Tensor) -> Value:
        """What the memory of a tensor holds now; changes when it is written, through whichever tensor."""
        if t._value is not None:
            value = resolve(t._value)
            while id(value) in self.written:
                value = resolve(self.written[id(value)][1])
            return value
        if id(t.storage) not in self.captured:
            self.value_of(t)
        return self.captured[id(t.storage)].current

    def reshape(self, value: Value, aval: Any) -> Value:
        from ..ops.registry import OPS

        return self.program.emit(OPS["reshape"], [value], (aval.shape,))[0]

    # ---- operations ----

    def record(self, op: Any, inputs: tuple[Tensor, ...], attrs: tuple) -> Any:
        """Appends an operation (or what it expands to) and returns abstract tensors."""
        if op.expand is not None:
            op.infer(tuple([t.aval for t in inputs]), attrs)
            previous = _core.set_grad_enabled_state(False)
            try:
                return op.expand(*inputs, *attrs)
            finally:
                _core.set_grad_enabled_state(previous)
        outputs = self.program.emit(op, [self.value_of(t) for t in inputs], attrs)
        results = tuple([self.abstract(v) for v in outputs])
        return results[0] if len(results) == 1 else results

    def rng(self) -> tuple[Tensor, int]:
        """The generator's state, bound at each replay, and the offset of the next random call."""
        if self._rng is None:
            self._rng = self.abstract(self.new_value(_core.aval(_core.int64, (2,)), "host", "rng"))
        offset = self.program.n_random
        self.program.n_random += 1
        return self._rng, offset

    # ---- writes ----

    def rebind(self, target: Tensor, new: Tensor) -> None:
        """`target` is written: from now on it has the value of `new`."""
        value = self.value_of(new)
        if target._value is not None:
            root = self.contents(target)
            if root.storage == "input":
                raise _core.NotOffered(
                    "compile: the function writes in place into one of its arguments; return the new value instead"
                )
            self.written[id(root)] = (root, value)
            return
        self.value_of(target)
        held = self.captured[id(target.storage)]
        held.current = value if held.entry.aval is value.aval else self.reshape(value, held.entry.aval)

    def commit(
        self, op: Any, inputs: list[Value], attrs: tuple, in_place: dict[int, int], targets: list[Tensor]
    ) -> None:
        """Appends an operation that writes persistent storage itself (an optimizer's update).

        in_place: output position -> input position; targets: the captured tensor of each output.
        """
        from ..ops.registry import OPS

        for position, target in enumerate(targets):
            held = self.captured[id(target.storage)]
            if held.current.storage not in PERSISTENT:  # written before: the update goes on from there
                held.current = self._assign(OPS["copy"], held.current, held.entry)
                inputs[in_place[position]] = self.value_of(target)
        outputs = self.program.emit(op, inputs, attrs)
        node = self.program.nodes[-1]
        node.commit = True
        for value, target in zip(outputs, targets, strict=True):
            held = self.captured[id(target.storage)]
            value.storage, value.binding = held.entry.storage, held.entry.binding
            held.current = value

    def note_update(self, optimizer: Any, parameters: list[Tensor]) -> None:
        """An optimizer updates parameters; its host-side step runs once per replay."""
        for p in parameters:
            if (id(optimizer), id(p)) in self._updated:
                raise _core.NotOffered(
                    "compile: the same optimizer steps twice in one compiled function; call the function once per step"
                )
            self._updated.add((id(optimizer), id(p)))
        if not any(o is optimizer for o in self.optimizers):
            self.optimizers.append(optimizer)

    # ---- gradients ----

    def _gradient(self, parameter: Tensor) -> Gradient:
        held = self.gradients.get(id(parameter))
        if held is None:
            entry = None
            if parameter._grad is not None:
                entry = self.abstract(self.new_value(parameter._grad.aval, "state", ("grad", parameter)))
            held = self.gradients[id(parameter)] = Gradient(parameter, entry)
        return held

    def get_grad(self, parameter: Tensor) -> Tensor | None:
        return self._gradient(parameter).current

    def set_grad(self, parameter: Tensor, gradient: Tensor | None) -> None:
        self._gradient(parameter).current = gradient

    # ---- the end ----

    def finish(self, outputs: list[Tensor], extra: list[Value]) -> dict[str, Any]:
        """Turns what was written into explicit nodes; returns how `.grad` is left.

        The program's outputs are those of the function, `extra` ones, then the gradients alive at return.
        """
        from ..ops.registry import OPS

        program = self.program
        for held in list(self.captured.values()):
            made_here = held.tensor.storage.serial > self.made_after  # a constant; what is written into it is not kept
            if held.current is not held.entry and held.current.storage not in PERSISTENT and not made_here:
                self._assign(OPS["copy"], held.current, held.entry)
        grads_out = []
        program.outputs = [self.value_of(t) for t in outputs] + extra
        for grad in self.gradients.values():
            if grad.current is None:
                if grad.entry is not None:
                    grads_out.append((grad.parameter, -1))
            elif grad.current is grad.entry:
                assert grad.entry_value is not None
                value = self.value_of(grad.current)
                if value is not grad.entry_value:
                    self._assign(OPS["copy"], value, grad.entry_value)
            else:
                grads_out.append((grad.parameter, len(program.outputs)))
                program.outputs.append(self.value_of(grad.current))
        return {"grads_out": grads_out}

    def _assign(self, op: Any, value: Value, target: Value) -> Value:
        out = self.new_value(target.aval, target.storage, target.binding)
        node = Node(op, [value], (), [out])
        node.commit = True
        self.program.nodes.append(node)
        out.producer = node
        return out
