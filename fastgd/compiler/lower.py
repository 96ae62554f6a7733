"""From groups of nodes to kernel calls, slots and memory."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import _core
from .layout import LOOP_DIMS, MAX_BATCH_DIMS, collapse, contiguous_strides, is_whole, place, strides_over
from .memory import Buffer, plan_offsets
from .passes import Group, resolve, run_passes
from .program import PERSISTENT, Node, Program, Value


@dataclass
class Call:
    """One kernel call: its argument fields and its operands in the order of kernels.def.

    Attributes
    ----------
    operands : list of Value
    written : list of Value
        Those of the operands that are results.
    in_place : list of (Value, Value)
        (result, operand) pairs that may share one buffer.
    message : callable, optional
        ``(where, value, bound) -> str``: words a fault that the kernel reports.
    """

    kernel: str
    fields: dict[str, Any]
    operands: list[Value]
    written: list[Value]
    tail: list[int] = field(default_factory=list)
    in_place: list[tuple[Value, Value]] = field(default_factory=list)
    message: Any = None
    group: Group | None = None

    def written_values(self) -> list[Value]:
        """All values that the call's nodes make, whatever their memory."""
        return self.group.outputs() if self.group is not None else []


@dataclass
class Lowered:
    """A program as calls over slots.

    slot_of maps id(value) to a slot; `slots` lists the value of each slot; temporaries have an offset
    in the arena, in `offsets`.
    """

    program: Program
    calls: list[Call]
    commit_from: int
    slots: list[Value]
    slot_of: dict[int, int]
    offsets: dict[int, int]
    arena_bytes: int

    def plan(self) -> Any:
        """The finished C plan."""
        instructions = [
            (
                c.kernel,
                _core.pack_args(c.kernel, c.fields, c.tail),
                [self.slot_of[id(resolve(v))] for v in c.operands],
                [place(v).offset * v.aval.dtype.itemsize for v in c.operands],
            )
            for c in self.calls
        ]
        plan = _core.Plan(len(self.slots), instructions, self.commit_from)
        plan.messages = [c.message for c in self.calls]
        return plan


def lower(program: Program) -> Lowered:
    """Runs the passes and lowers the groups; slots are in the order inputs, others, temporaries."""
    groups = run_passes(program)
    calls = []
    for group in groups:
        call = _lower_group(group)
        call.group = group
        calls.append(call)
    commit_from = next((i for i, g in enumerate(groups) if g.commit), len(groups))
    return _assign_memory(program, calls, commit_from)


# ---- groups ----


def _lower_group(group: Group) -> Call:
    if group.root is None:
        return _lower_tile(group)
    if group.root.op.kind == "gemm":
        return _lower_gemm(group)
    if group.root.op.kind == "view":
        return _lower_copy(group.root)
    call = group.root.op.lower(group.root)
    if group.nodes:
        _add_epilogue(call, group)
    return call


def _lower_copy(node: Node) -> Call:
    """A view that is not absorbed: one strided copy."""
    y = node.outputs[0]
    seen = Node(node.op, node.inputs, node.attrs, [])
    seen.absorbed = True
    x = Value(y.aval, producer=seen)  # the original, as the view sees it
    fields = {"itemsize": y.aval.dtype.itemsize, "ndim": y.aval.ndim, "shape": y.aval.shape, "stride": place(x).strides}
    return Call("permute", fields, [y, x], [y])


_OPCODES: dict[str, tuple[int, int]] = {}
_OF_BOOLS = {"add": "logical_or", "maximum": "logical_or", "mul": "logical_and", "minimum": "logical_and"}


def _opcode(name: str, dtype: Any, target: int = 0) -> int:
    """The number of a row of csrc/kernels/elementwise.def, which must have an instance for `dtype`.

    A cast goes to the dtype with the code `target`."""
    if not _OPCODES:
        _OPCODES.update({row[0]: (i, row[2]) for i, row in enumerate(_core.tile_ops())})
    if dtype is _core.bool_:
        name = _OF_BOOLS.get(name, name)
    if name not in _OPCODES:
        raise _core.FastgdError(f"no row {name!r} in csrc/kernels/elementwise.def")
    opcode, dtypes = _OPCODES[name]
    if not dtypes >> dtype.code & 1:
        offered = ", ".join(d.name for d in _core.dtypes if dtypes >> d.code & 1)
        raise _core.DtypeError(f"{name}: expected one of {offered}, got {dtype.name}")
    if name == "cast":
        pair = {dtype, _core.dtypes[target]}
        if _core.bfloat16 in pair and not pair <= {_core.bfloat16, _core.float32}:
            raise _core.DtypeError(f"cast: not offered from {dtype} to {_core.dtypes[target]}; go through float32")
    return opcode


def _bits(number: float | int) -> int:
    if isinstance(number, float):
        return struct.unpack("=q", struct.pack("=d", number))[0]
    return int(number)


class TileProgram:
    """The inner program of an elementwise call or of a matrix product's epilogue.

    `first` is the value that is register 0 without being an operand of its own (the product)."""

    def __init__(self, nodes: list[Node], external: set[int], first: Value | None = None) -> None:
        made = {id(v) for n in nodes for v in n.outputs}
        self.inputs: list[Value] = [first] if first is not None else []
        constants: list[Value] = []
        # Operands that an operation reads through their pointer (a generator's state) have no place in the loop.
        self.raw = {id(n.inputs[i]) for n in nodes for i in n.op.raw}
        for node in nodes:
            for v in node.inputs:
                known = constants if resolve(v).storage == "constant" else self.inputs
                if id(v) not in made and not any(v is k for k in known):
                    known.append(v)
        self.outputs = [v for n in nodes for v in n.outputs if id(v) in external]
        register = {id(v): i for i, v in enumerate(self.inputs)}
        last_use: dict[int, int] = {}
        for at, node in enumerate(nodes):
            for v in node.inputs:
                last_use[id(v)] = at
        self.last_use, self.made_at = last_use, {id(v): at for at, n in enumerate(nodes) for v in n.outputs}
        self.n_registers = len(self.inputs)
        free: dict[int, list[int]] = {}
        self.ops: list[int] = []
        for v in constants:  # filled once; they keep their register
            register[id(v)] = self._new_register()
            code = v.aval.dtype
            bound = resolve(v).binding
            number = float(bound) if code.is_floating_point else int(bound)
            self.ops += [_opcode("const", code), code.code, register[id(v)], -1, -1, -1, _bits(number), 0]
        keep = {id(v) for v in self.outputs} | {id(v) for v in constants} | {id(v) for v in self.inputs}
        for at, node in enumerate(nodes):
            name, imm0, imm1 = node.op.tile(node.attrs)
            (out,) = node.outputs
            code = out.aval.dtype.code
            operands = [register[id(v)] for v in node.inputs] + [-1] * (3 - len(node.inputs))
            pool = free.setdefault(code, [])
            register[id(out)] = pool.pop() if pool else self._new_register()
            typed = node.inputs[1] if name == "where" else node.inputs[0]
            dtype = typed.aval.dtype
            opcode = _opcode(name, dtype, imm1 if name == "cast" else 0)
            self.ops += [opcode, dtype.code, register[id(out)], *operands, _bits(imm0), _bits(imm1)]
            for v in {id(v): v for v in node.inputs}.values():
                if id(v) not in keep and last_use[id(v)] == at:
                    free.setdefault(v.aval.dtype.code, []).append(register[id(v)])
        self.register = register

    def strides(self, shape: tuple[int, ...]) -> list[list[int]]:
        """Element strides of each input over `shape`, 0 where it is broadcast."""
        return [[0] * len(shape) if id(v) in self.raw else strides_over(v, shape) for v in self.inputs]

    def _new_register(self) -> int:
        self.n_registers += 1
        return self.n_registers - 1

    def words(self, strides: list[list[int]]) -> list[int]:
        """inputs, outputs and ops as kernels.def lays them out; `strides` has a row per input."""
        words: list[int] = []
        for v, row in zip(self.inputs, strides, strict=True):
            words += [v.aval.dtype.code, *row, *[0] * (LOOP_DIMS - len(row))]
        for v in self.outputs:
            words += [v.aval.dtype.code, self.register[id(v)]]
        return words + self.ops

    def counts(self) -> dict[str, int]:
        return {
            "n_outputs": len(self.outputs),
            "n_inputs": len(self.inputs),
            "n_ops": len(self.ops) // 8,
            "n_registers": self.n_registers,
        }

    def in_place(self) -> list[tuple[Value, Value]]:
        """(output, input) pairs for which the input's last read is not after the output is made."""
        return [
            (out, v)
            for out in self.outputs
            for v in self.inputs
            if v.aval is not None
            and v.aval.dtype.itemsize == out.aval.dtype.itemsize
            and v.aval.shape == out.aval.shape
            and is_whole(v)
            and self.last_use.get(id(v), -1) <= self.made_at[id(out)]
        ]


def _lower_tile(group: Group) -> Call:
    program = TileProgram(group.nodes, group.external)
    strides = program.strides(group.shape)
    contiguous = contiguous_strides(group.shape)
    sizes, steps = collapse(group.shape, [contiguous, *strides])
    if len(sizes) > LOOP_DIMS:
        raise _core.NotOffered(
            f"elementwise: broadcasting over {len(sizes)} dims that cannot be merged, at most {LOOP_DIMS} are offered"
        )
    fields = {"ndim": len(sizes), "shape": sizes, **program.counts()}
    return Call(
        "elementwise",
        fields,
        [*program.outputs, *program.inputs],
        list(program.outputs),
        program.words(steps[1:]),
        program.in_place(),
    )


def _lower_gemm(group: Group) -> Call:
    """A product with its epilogue.  Batch dims over which one operand only streams become rows."""
    root = group.root
    assert root is not None
    (a, b), c = root.inputs, root.outputs[0]
    ta, tb = root.attrs[:2]
    shape = c.aval.shape
    m, n = shape[-2:]
    k = a.aval.shape[-2] if ta else a.aval.shape[-1]
    batch = shape[:-2]

    def matrix(v: Value, transposed: bool) -> tuple[list[int], int, int]:
        rows = strides_over(v, (*batch, *v.aval.shape[-2:]))[: len(batch)]
        rs, cs = place(v).strides[-2:]
        return (rows, cs, rs) if transposed else (rows, rs, cs)

    a_batch, a_rs, a_cs = matrix(a, ta)
    b_batch, b_rs, b_cs = matrix(b, tb)
    program = TileProgram(group.nodes, group.external, c) if group.nodes else None
    steps = program.strides(shape) if program else []
    steps = [contiguous_strides(shape), *steps]

    if batch and not any(b_batch) and not ta:
        # One weight for the whole batch: (batch, m) is one long dim of rows, if every operand walks it so.
        sizes, merged = collapse(shape, [*[[*s[:-1], 0] for s in steps], [*a_batch, a_rs, 0]], keep_last=1)
        if len(sizes) <= 2:
            m = m * int(np.prod(batch))
            steps = [[s[-2] if len(sizes) == 2 else 0, full[-1]] for s, full in zip(merged[:-1], steps, strict=True)]
            batch, a_batch, b_batch = (), [], []
    if batch:
        rows = [[*s[:-2]] for s in steps]
        sizes, merged = collapse(batch, [*rows, a_batch, b_batch])
        steps = [[*row, *full[-2:]] for row, full in zip(merged[:-2], steps, strict=True)]
        batch, a_batch, b_batch = tuple(sizes), merged[-2], merged[-1]
    if len(batch) > MAX_BATCH_DIMS:
        raise _core.NotOffered(
            f"matmul: {len(batch)} batch dims that cannot be merged, at most {MAX_BATCH_DIMS} are offered"
        )

    row_sum = root.outputs[1] if len(root.outputs) > 1 else None
    fields = {
        "batch_ndim": len(batch), "batch_shape": batch, "m": m, "n": n, "k": k,
        "a_batch": a_batch, "a_rs": a_rs, "a_cs": a_cs, "b_batch": b_batch, "b_rs": b_rs, "b_cs": b_cs,
        "row_sum": row_sum is not None, "alpha": root.attrs[2] if len(root.attrs) > 2 else 1.0, "beta": 0.0,
    }  # fmt: skip
    kernel = f"gemm_{'f64' if c.aval.dtype is _core.float64 else 'f32'}"
    operands, written = [c, a, b], [c]
    if row_sum is not None:
        operands.append(row_sum)
        written.append(row_sum)
    call = Call(kernel, fields, operands, written)
    if program:
        call.operands += [*program.outputs, *program.inputs[1:]]
        call.written += program.outputs
        call.in_place = program.in_place()
        call.tail = [*program.counts().values(), *program.words(steps[1:])]
    return call


def _add_epilogue(call: Call, group: Group) -> None:
    """The elementwise nodes behind a root whose kernel runs them over (first dim, second dim, all others)."""
    assert group.root is not None
    result = group.root.outputs[0]
    shape = result.aval.shape
    program = TileProgram(group.nodes, group.external, result)
    steps = program.strides(shape)
    _, inner = collapse(shape[2:], [contiguous_strides(shape)[2:], *[row[2:] for row in steps]])
    call.operands += [*program.outputs, *program.inputs[1:]]
    call.written += program.outputs
    call.in_place += program.in_place()
    words = program.words([[*row[:2], last[0]] for row, last in zip(steps, inner[1:], strict=True)])
    call.tail = [*program.counts().values(), *words]


# ---- memory ----


def _assign_memory(program: Program, calls: list[Call], commit_from: int) -> Lowered:
    """Slots for all values; temporaries share the arena by lifetime, and results take over dying operands."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    values: dict[int, Value] = {}
    for at, call in enumerate(calls):
        for v in call.operands:
            root = resolve(v)
            values.setdefault(id(root), root)
            first.setdefault(id(root), at)
            last[id(root)] = at
    for v in program.outputs:
        root = resolve(v)
        values.setdefault(id(root), root)
        last[id(root)] = len(calls)

    # A result takes over the buffer of an operand that nobody reads later.
    shares: dict[int, int] = {}  # id(value) -> id(value whose buffer it is)
    taken: set[int] = set()

    def holder(key: int) -> int:
        while key in shares:
            key = shares[key]
        return key

    for at, call in enumerate(calls):
        used: set[int] = set()
        for out, operand in call.in_place:
            o, i = id(resolve(out)), id(resolve(operand))
            if o == i or o in shares or i in taken or o in used or holder(i) in used:
                continue
            if sum(resolve(v) is resolve(operand) for v in call.operands) > 1:
                continue  # also read as a reshape of itself, or by the product whose epilogue this is
            own_result = any(operand is w for w in call.written)  # a product under its own epilogue
            if not is_whole(operand):
                continue  # a part of something larger
            if values[i].storage != "arena" or last[i] != at or not (own_result or first[i] < at):
                continue
            if own_result:  # the product lives in its epilogue's result, wherever that is
                shares[i] = o
            elif values[o].storage == "arena":
                shares[o] = i
            else:
                continue
            taken.update((i, o) if own_result else (i,))
            used.update((o, holder(i)))

    lifetimes: dict[int, list[int]] = {}
    for key in values:
        h = holder(key)
        span = lifetimes.setdefault(h, [first.get(key, len(calls)), last[key]])
        span[0], span[1] = min(span[0], first.get(key, len(calls))), max(span[1], last[key])
    buffers = {h: Buffer(values[h].aval.nbytes, *span) for h, span in lifetimes.items() if values[h].storage == "arena"}
    arena_bytes = plan_offsets(list(buffers.values()))

    slots: list[Value] = []
    slot_of: dict[int, int] = {}
    by_binding: dict[tuple, int] = {}
    for key in values:
        h = holder(key)
        target = values[h]
        # Values of one persistent storage (before and after a write) are one slot.
        name: tuple = ("value", h)
        if target.storage in PERSISTENT or target.storage == "host":
            bound = target.binding
            name = (bound[0], id(bound[1])) if isinstance(bound, tuple) else ("at", _identity(bound))
        if name not in by_binding:
            by_binding[name] = len(slots)
            slots.append(target)
        slot_of[key] = by_binding[name]
    offsets = {slot_of[h]: buffer.offset for h, buffer in buffers.items()}
    return Lowered(program, calls, commit_from, slots, slot_of, offsets, arena_bytes)


def _identity(bound: Any) -> Any:
    return id(bound.storage) if hasattr(bound, "storage") else bound if isinstance(bound, str) else id(bound)


# ---- eager ----


def lower_eager(program: Program) -> Any:
    """The plan of a one-operation program, with slots in the order that EagerPlan binds."""
    lowered = lower(program)
    outputs = [resolve(v) for v in program.outputs]
    order = [*outputs, *program.inputs]
    rest = [v for v in lowered.slots if not any(v is o for o in order)]
    temporaries = [v for v in rest if v.storage == "arena"]
    constants = [v for v in rest if v.storage == "constant"]
    number = {id(v): i for i, v in enumerate([*order, *temporaries, *constants])}
    old = lowered.slots
    lowered.slot_of = {key: number[id(old[slot])] for key, slot in lowered.slot_of.items()}
    lowered.slots = [*order, *temporaries, *constants]
    offsets = [lowered.offsets[next(i for i, o in enumerate(old) if o is v)] for v in temporaries]
    return _core.EagerPlan(
        lowered.plan(),
        [v.aval for v in program.outputs],
        len(program.inputs),
        offsets,
        lowered.arena_bytes,
        [constant_storage(v) for v in constants],
        lowered,
    )


def constant_storage(value: Value) -> Any:
    """Memory that holds a constant which a kernel reads as an operand."""
    names = {
        "bool": "bool",
        "uint8": "uint8",
        "int32": "int32",
        "int64": "int64",
        "float32": "float32",
        "float64": "float64",
    }
    return _core.borrow(np.full(value.aval.shape or (1,), value.binding, dtype=names[value.aval.dtype.name]))
