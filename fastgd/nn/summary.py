"""What a model consists of and costs: `fastgd.summary(model, input_shape)`.

The model is recorded on shape-only tensors, as `fastgd.compile` does, so nothing is computed and no input is needed.
Costs are those of the kernels that the recorded operations call one by one; compiled, some of them fuse and the
memory traffic shrinks, the floating-point operations stay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import _core
from .._core import DtypeError, ShapeError
from ..compiler.program import Node
from ..compiler.trace import Trace
from ..ops.registry import build_eager
from ..tensor import Tensor
from .module import Module

__all__ = ["Row", "Summary", "summary"]


@dataclass
class Row:
    """One call of a module.

    Attributes
    ----------
    name : str
        As in `named_modules`; "" is the model itself.
    kind : str
        The class.
    depth : int
    output_shapes : tuple of tuple of int
    parameters : int
        Elements of its own parameters; those shared with an earlier row are not counted again.
    flops : float
        Floating-point operations of its own operations, without those of modules inside of it.
    nbytes : float
        Memory that these operations read and write, each run alone.
    activations : int
        Bytes of what its own operations hand on: results that none of them reads.
    """

    name: str
    kind: str
    depth: int
    output_shapes: tuple[tuple[int, ...], ...] = ()
    parameters: int = 0
    flops: float = 0.0
    nbytes: float = 0.0
    activations: int = 0


@dataclass
class Summary:
    """Rows in the order of the calls, and their sums; ``str()`` is a table.

    Attributes
    ----------
    rows : list of Row
    parameters, trainable : int
        Elements; each parameter once.
    parameter_bytes : int
    flops, nbytes : float
    activations : int
    """

    rows: list[Row] = field(default_factory=list)
    parameters: int = 0
    trainable: int = 0
    parameter_bytes: int = 0

    @property
    def flops(self) -> float:
        return sum(row.flops for row in self.rows)

    @property
    def nbytes(self) -> float:
        return sum(row.nbytes for row in self.rows)

    @property
    def activations(self) -> int:
        return sum(row.activations for row in self.rows)

    def __str__(self) -> str:
        header = ("module", "output", "parameters", "flop", "activations", "traffic")
        table = [header]
        for row in self.rows:
            name = "  " * row.depth + (row.name.rpartition(".")[2] or row.kind)
            label = name if row.name == "" else f"{name} ({row.kind})"
            shapes = ", ".join(str(list(s)) for s in row.output_shapes)
            costs = (_count(row.flops), _count(row.activations, "B"), _count(row.nbytes, "B"))
            table.append((label, shapes, f"{row.parameters:,}" if row.parameters else "-", *costs))
        widths = [max(len(line[i]) for line in table) for i in range(len(header))]
        lines = []
        for line in table:
            cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
            lines.append("  ".join(cells).rstrip())
        rule = "-" * max(map(len, lines))
        frozen = self.parameters - self.trainable
        total = [
            f"{self.parameters:,} parameters ({frozen:,} frozen), {_count(self.parameter_bytes, 'B')}",
            f"one forward pass: {_count(self.flops, 'flop')}, {_count(self.activations, 'B')} of results, "
            f"{_count(self.nbytes, 'B')} read and written if nothing fuses",
        ]
        return "\n".join([lines[0], rule, *lines[1:], rule, *total])

    __repr__ = __str__


def summary(
    model: Module, input_shape: Any = None, *, inputs: Sequence[Any] | None = None, dtype: Any = None
) -> Summary:
    """What a model consists of: its modules with output shapes, parameters, floating-point operations and memory.

    Parameters
    ----------
    model : Module
        Left as it is; nothing is computed.
    input_shape : tuple of int, or list of such
        Shape of the argument of `forward`, batch included; a list for several arguments.
    inputs : sequence, optional
        The arguments themselves instead, where their shapes are not all: tensors (of which shape and dtype are
        used), numbers, flags.
    dtype : dtype or str, optional
        Of the inputs given by shape: by default that of the first parameter; integer dtypes for token indices.

    Returns
    -------
    Summary
        ``print(fastgd.summary(model, (1, 784)))`` shows it as a table.

    Examples
    --------
    >>> import fastgd as gd
    >>> gd.summary(gd.models.MLP(784, (512,), 10), (128, 784)).parameters
    407050
    """
    if not isinstance(model, Module):
        raise DtypeError(f"summary: expected a Module, got {type(model).__name__}")
    result = Summary()
    for p in model.parameters():
        result.parameters += p.numel()
        result.trainable += p.numel() if p.requires_grad else 0
        result.parameter_bytes += p.aval.nbytes
    recorder = _Recorder(model, result)
    recorder.run(_arguments(model, input_shape, inputs, dtype))
    return result


def _arguments(model: Module, input_shape: Any, inputs: Sequence[Any] | None, dtype: Any) -> list[Any]:
    if (input_shape is None) == (inputs is None):
        raise ShapeError("summary: expected either input_shape or inputs")
    if inputs is not None:
        return [x.aval if isinstance(x, Tensor) else x for x in inputs]
    first = next(iter(model.parameters()), None)
    kind = _core.as_dtype(dtype) if dtype is not None else first.dtype if first is not None else _core.float32
    shapes = input_shape if isinstance(input_shape, list) else [input_shape]
    for shape in shapes:
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise ShapeError(
                f"summary: expected input_shape to be a tuple of sizes, or a list of such, got {input_shape!r}"
            )
    return [_core.aval(kind, shape) for shape in shapes]


class _Recorder:
    """Records one forward pass and notes which operations belong to which module."""

    def __init__(self, model: Module, result: Summary) -> None:
        self.model, self.result = model, result
        self.names = {id(m): name for name, m in model.named_modules()}
        self.stack: list[Row] = []
        self.counted: set[int] = set()
        self.trace = Trace()
        self.done = 0  # nodes that have an owner
        self.own: dict[int, list[Node]] = defaultdict(list)

    def run(self, arguments: list[Any]) -> None:
        handles = []
        for module in self.model.modules():
            handles += [
                module.register_forward_pre_hook(self._enter, prepend=True),
                module.register_forward_hook(self._leave),
            ]
        previous = _core.set_trace(self.trace)
        grad = _core.set_grad_enabled_state(False)
        try:
            self.model(*[self.trace.add_input(a) if isinstance(a, _core.Aval) else a for a in arguments])
        finally:
            _core.set_trace(previous)
            _core.set_grad_enabled_state(grad)
            for handle in handles:
                handle.remove()
        for row in self.result.rows:
            read = {id(v.root) for node in self.own[id(row)] for v in node.inputs}
            made = [v for node in self.own[id(row)] for v in node.outputs]
            row.activations = sum(v.aval.nbytes for v in made if id(v) not in read)

    def _enter(self, module: Module, args: Any) -> None:
        self._charge()
        row = Row(self.names[id(module)], type(module).__name__, len(self.stack))
        for p in module.parameters(recurse=False):
            if id(p) not in self.counted:
                self.counted.add(id(p))
                row.parameters += p.numel()
        self.result.rows.append(row)
        self.stack.append(row)

    def _leave(self, module: Module, args: Any, result: Any) -> None:
        self._charge()
        row = self.stack.pop()
        outputs = result if isinstance(result, (tuple, list)) else (result,)
        row.output_shapes = tuple(t.shape for t in outputs if isinstance(t, Tensor))

    def _charge(self) -> None:
        """The operations since the last call belong to the innermost module."""
        nodes = self.trace.program.nodes
        for node in nodes[self.done :]:
            if not self.stack or node.op.kind == "alias":
                continue
            row = self.stack[-1]
            self.own[id(row)] += [node]
            flops, nbytes = _cost(node)
            row.flops += flops
            row.nbytes += nbytes
        self.done = len(nodes)


def _cost(node: Any) -> tuple[float, float]:
    """(floating-point operations, bytes) of an operation run alone."""
    plan = build_eager(node.op, tuple(v.aval for v in node.inputs), node.attrs).plan
    facts = [plan.inspect(i) for i in range(plan.n_instructions)]
    return sum(f["flops"] for f in facts), sum(f["bytes"] for f in facts)


def _count(number: float, unit: str = "") -> str:
    """Three digits and a prefix: 1.23 M."""
    for prefix in ("", "k", "M", "G"):
        if abs(number) < 1000:
            return f"{number:.3g} {prefix}{unit}".rstrip()
        number /= 1000
    return f"{number:.3g} T{unit}"
