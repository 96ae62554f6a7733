"""Programs: instructions over values, before they become kernel calls.

A value has dtype and shape (its Aval), a layout and a storage class; writes to persistent storage
are explicit nodes.  Values are never changed: an operation "in place" makes a new value whose
storage is the old one's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Where a value lives.  `parameter` and `state` are persistent: their memory belongs to tensors that
# exist outside the program and outlive it.
STORAGE_CLASSES = ("arena", "parameter", "state", "input", "output", "constant", "host")
PERSISTENT = ("parameter", "state")
LAYOUTS = ("row",)


class Value:
    """One value of a program.

    Attributes
    ----------
    aval : Aval
        dtype and shape.
    storage : str
        One of STORAGE_CLASSES.
    binding : object
        What the storage is bound to: a Tensor (parameter, state), ``("grad", parameter)``, the
        position of an argument (input), a number (constant), a NumPy array (host) or None.
    producer : Node or None
    owner : Program or None
        The program it was recorded in; a value used in another one is an error.
    """

    __slots__ = ("aval", "binding", "layout", "owner", "producer", "storage")

    def __init__(self, aval: Any, storage: str = "arena", binding: Any = None, producer: Node | None = None) -> None:
        self.aval = aval
        self.storage = storage
        self.layout = "row"
        self.binding = binding
        self.producer = producer
        self.owner: Any = None

    def __repr__(self) -> str:
        return f"<{self.storage} {self.aval!r}>"

    @property
    def root(self) -> Value:
        """The value whose memory this one shares: itself, or what it is a reshape or an absorbed view of."""
        value = self
        while value.producer is not None and value.producer.makes_no_copy:
            value = value.producer.inputs[0]
        return value


class Node:
    """One instruction: an operation's declaration, its inputs, attributes and outputs.

    `commit` marks nodes that write persistent storage or read what such a node wrote; `absorbed` views that
    everybody who reads them reads in place, by strides (compiler/passes.py, absorb_views).
    """

    __slots__ = ("absorbed", "attrs", "commit", "inputs", "op", "outputs")

    def __init__(self, op: Any, inputs: list[Value], attrs: tuple, outputs: list[Value]) -> None:
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.outputs = outputs
        self.commit = False
        self.absorbed = False

    @property
    def makes_no_copy(self) -> bool:
        """Whether its output lies in its input's memory."""
        return self.absorbed or (self.op is not None and self.op.kind == "alias")

    def __repr__(self) -> str:
        return f"{self.op.name}({', '.join(map(repr, self.inputs))}) -> {self.outputs!r}"


RETURN = Node(None, [], (), [])  # stands for the caller where users of a value are listed


@dataclass
class Program:
    """Nodes in execution order, and what goes in and out."""

    nodes: list[Node] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    n_random: int = 0

    def emit(self, op: Any, inputs: list[Value], attrs: tuple) -> list[Value]:
        """Appends a node of `op` and returns its output values."""
        avals = op.infer(tuple(v.aval for v in inputs), attrs)
        node = Node(op, inputs, attrs, [])
        node.outputs = [Value(a, producer=node) for a in avals]
        for v in node.outputs:
            v.owner = self
        self.nodes.append(node)
        return node.outputs

    def release(self) -> None:
        """Unties values and nodes, which refer to each other: else what values are bound to (parameters, optimizer
        state) would stay in memory until the garbage collector comes by.  The program is of no use afterwards."""
        for node in self.nodes:
            for v in (*node.inputs, *node.outputs):
                v.binding = v.producer = v.owner = None
        for v in (*self.inputs, *self.outputs):
            v.binding = v.producer = v.owner = None
        self.nodes, self.inputs, self.outputs = [], [], []

    def fingerprint(self, made_after: int) -> list[tuple]:
        """One line per node, equal for equal programs over equal bindings.

        Storages made during the recording (serial above `made_after`) are constants: compared by content."""
        number: dict[int, tuple] = {}

        def name(v: Value) -> tuple:
            if id(v) not in number:
                bound: Any = None
                if v.storage in PERSISTENT or v.storage == "host":
                    bound = _identity(v.binding, made_after)
                elif v.storage in ("input", "constant"):
                    bound = repr(v.binding)
                number[id(v)] = (len(number), v.storage, bound, id(v.aval))
            return number[id(v)]

        lines = [
            (n.op.name, n.attrs, tuple(name(v) for v in n.inputs), tuple(name(v) for v in n.outputs))
            for n in self.nodes
        ]
        lines.append(("return", (), tuple(name(v) for v in self.outputs), ()))
        return lines


def _identity(binding: Any, made_after: int) -> Any:
    if isinstance(binding, tuple):
        return binding[0], id(binding[1])
    storage = getattr(binding, "storage", None)
    if storage is None:
        return binding if isinstance(binding, str) else id(binding)
    return id(storage) if storage.serial <= made_after else Constant(storage)


class Constant:
    """Memory that was made or borrowed during a recording: equal if it is the same array, or has the same contents.

    (An array of the caller's is read where it lies, whatever it contains by then.)"""

    def __init__(self, storage: Any) -> None:
        self.owner, self.contents = storage.owner, bytes(storage)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constant):
            return NotImplemented
        return (self.owner is not None and self.owner is other.owner) or self.contents == other.contents

    __hash__ = None  # type: ignore[assignment]
