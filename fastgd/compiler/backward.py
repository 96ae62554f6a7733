"""The backward pass of a compiled forward pass, as a plan of its own.

When a compiled function returns tensors that are still on the tape, the derivative is recorded right
behind the forward pass, in the same recording.  It is then cut off into a second program.  What crosses
the cut (activations, arguments, the generator's state) becomes an extra output of the forward program and
an input of the backward program; parameters are read where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import _core
from ..autodiff import TapeNode, gradients, reachable
from ..tensor import Tensor, as_tensor
from .lower import lower
from .passes import resolve
from .program import PERSISTENT, Node, Program, Value
from .trace import Trace


class Backward:
    """The recorded backward pass.

    Attributes
    ----------
    program : Program
        Inputs: a gradient per differentiable result, then what was saved.
    results : list of int
        Numbers of the function's results that are differentiable.
    targets : list
        Per output of the program: the position of a tensor argument, or a parameter.
    sources : list of ("argument" or "output", int)
        Where each saved input comes from: a tensor argument or an output of the forward program.
    reached : list of set of int
        Per differentiable result, the numbers of the targets that it depends on.
    extra_outputs : list of Value
        What the forward program returns besides the function's results.
    """

    def __init__(self, results: list[int], targets: list[Any], reached: list[set[int]]) -> None:
        self.program = Program()
        self.results = results
        self.targets = targets
        self.reached = reached
        self.sources: list[tuple[str, int]] = []
        self.extra_outputs: list[Value] = []

    def build(self, bind: Callable, lock: Any) -> BackwardPlan:
        """The plan; `lock` guards the arena that it shares with the forward plan."""
        return BackwardPlan(self, bind(self.program, lower(self.program), [], []), lock)


def record_backward(trace: Trace, outputs: list[Tensor], arguments: list[Tensor]) -> Backward | None:
    """Records the derivative of the results that are still on the tape; None if there are none.

    Results whose tape was used up by backward() inside the function (a training step's loss), or needs what
    was overwritten since, come back off the tape.
    """
    position = {id(t): i for i, t in enumerate(arguments)}

    def lives_outside(leaf: Tensor) -> bool:
        return id(leaf) in position or leaf.storage is not None

    def differentiable(t: Tensor) -> bool:
        if t._node is None:  # a leaf handed through
            return lives_outside(t)
        return not any(n.freed or n.overwritten for n in reachable([t._node]))

    open_results = [i for i, t in enumerate(outputs) if t._requires_grad and differentiable(t)]
    if not open_results:
        return None
    mark = len(trace.program.nodes)
    seeds = [trace.new_value(outputs[i].aval, "input", n) for n, i in enumerate(open_results)]
    found = gradients([(outputs[i], trace.abstract(g)) for i, g in zip(open_results, seeds, strict=True)])
    found = [entry for entry in found if lives_outside(entry[0])]  # not leaves made during the recording
    leaves = [position.get(id(leaf), leaf) for leaf, _, _ in found]
    below = [_leaves_below(outputs[i]) for i in open_results]
    reached = [{n for n, (leaf, _, _) in enumerate(found) if id(leaf) in ids} for ids in below]
    backward = Backward(open_results, leaves, reached)
    nodes = trace.program.nodes[mark:]
    del trace.program.nodes[mark:]
    _cut(backward, nodes, seeds, [trace.value_of(g) for _, g, _ in found], [trace.value_of(t) for t in outputs])
    return backward


def _leaves_below(t: Tensor) -> set[int]:
    if t._node is None:
        return {id(t)}
    return {id(e) for node in reachable([t._node]) for e in node.edges if e is not None and not isinstance(e, tuple)}


def _cut(backward: Backward, nodes: list[Node], seeds: list[Value], results: list[Value], outputs: list[Value]) -> None:
    """Makes `nodes` a program of its own: values of the forward pass are replaced by inputs."""
    program = backward.program
    program.inputs = list(seeds)
    border = _Border(backward, {id(v) for n in nodes for v in n.outputs} | {id(v) for v in seeds}, outputs)
    for node in nodes:
        node.inputs = [border.inside(v) for v in node.inputs]
    program.outputs = [border.inside(v) for v in results]
    program.nodes += nodes


class _Border:
    """What stands in the backward program for a value of the forward program."""

    def __init__(self, backward: Backward, here: set[int], outputs: list[Value]) -> None:
        self.backward, self.here, self.outputs = backward, here, outputs
        self.replaced: dict[int, Value] = {}

    def inside(self, v: Value) -> Value:
        fixed = v.storage in (*PERSISTENT, "constant") or (v.storage == "host" and v.binding != "rng")
        if fixed or id(v) in self.here:
            return v
        if id(v) not in self.replaced:
            self.replaced[id(v)] = self._stand_in(v)
        return self.replaced[id(v)]

    def _stand_in(self, v: Value) -> Value:
        program = self.backward.program
        if v.producer is not None and _made_again(v.producer):
            return program.emit(v.producer.op, [self.inside(v.producer.inputs[0])], v.producer.attrs)[0]
        new = Value(v.aval, "input", len(program.inputs))
        new.owner = program
        program.inputs.append(new)
        self.backward.sources.append(_source(self.backward, v, self.outputs))
        return new


def _made_again(node: Node) -> bool:
    """Reshapes and views are made again, not saved, but for small parts of something large."""
    small = 4 * node.outputs[0].aval.numel < node.inputs[0].aval.numel
    return node.op.kind == "alias" or (node.op.kind == "view" and not small)


def _source(backward: Backward, v: Value, outputs: list[Value]) -> tuple[str, int]:
    if v.storage == "input":
        return "argument", v.binding
    for i, out in enumerate([*outputs, *backward.extra_outputs]):
        if out is v or (out.aval is v.aval and resolve(out) is v):
            return "output", i
    backward.extra_outputs.append(v)
    return "output", len(outputs) + len(backward.extra_outputs) - 1


class BackwardPlan:
    """Stands on the tape for a compiled forward pass: its derivative is a replay.

    It has the attributes of an operation's declaration that the tape reads.
    """

    name = "compiled function"
    saved_inputs: tuple[int, ...] = ()
    saved_outputs: tuple[int, ...] = ()

    def __init__(self, backward: Backward, replay: Any, lock: Any) -> None:
        self.backward = backward
        self.replay = replay
        self.lock = lock
        # Read where they are, differentiated or not: a frozen weight must not change before the backward pass.
        self.read = [v.binding.storage for v in replay.program.slots if v.storage in PERSISTENT]

    def attach(self, arguments: list[Any], results: list[Tensor]) -> None:
        """Puts the results of one forward replay on the tape."""
        tensors = [as_tensor(a) for a in arguments]
        saved = tuple(tensors[i] if kind == "argument" else results[i] for kind, i in self.backward.sources)
        leaves = tuple(tensors[t] if isinstance(t, int) else t for t in self.backward.targets)
        differentiable = tuple(results[i] for i in self.backward.results)
        detached = tuple(t.detach() for t in saved)
        node = TapeNode(self, leaves, detached, differentiable)
        watched = [*detached, *[t for t in leaves if t.is_leaf]]
        node.versions = [(s, s.version) for s in (*[t.storage for t in watched], *self.read)]

    def vjp(self, node: TapeNode, *grads: Tensor | None) -> tuple:
        from ..ops.functional import zeros

        seeds = [zeros(a.shape, dtype=a.dtype) if g is None else g for g, a in zip(grads, node.out_avals, strict=True)]
        if _core.is_tracing():
            raise _core.NotOffered(
                "compile: backward() of an already compiled function inside another recording; compile the whole step"
            )
        with self.lock:
            results = self.replay.run([*seeds, *node.attrs])
        wanted = set().union(*(r for r, g in zip(self.backward.reached, grads, strict=True) if g is not None))
        return tuple(r if i in wanted else None for i, r in enumerate(results))
