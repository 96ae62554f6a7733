"""The tape and backward().

Each recorded operation is a TapeNode that holds what its derivative reads and where its inputs came
from.  backward() walks the nodes from the newest to the oldest; the derivative of an operation is
written in terms of other operations, so the same walk runs eagerly and inside a recording.
"""

from __future__ import annotations

import itertools
from typing import Any

from . import _core
from .tensor import Tensor

_counter = itertools.count()


class TapeNode:
    """One operation on the tape.

    Attributes
    ----------
    inputs, outputs : tuple of (Tensor or None)
        What the operation's `saves` asks for, detached; None where it is not needed.
    edges : tuple
        Per input: the leaf Tensor, a pair (TapeNode, output position), or None.
    needs : tuple of bool
        Which inputs want a gradient.
    in_avals, out_avals : tuple of Aval
    """

    __slots__ = ("attrs", "edges", "in_avals", "inputs", "needs", "op", "out_avals", "outputs", "sequence", "versions")

    def __init__(self, op: Any, inputs: tuple[Tensor, ...], attrs: tuple, result: Any) -> None:
        outputs = result if isinstance(result, tuple) else (result,)
        self.op = op
        self.attrs = attrs
        self.sequence = next(_counter)
        self.needs = tuple([t._requires_grad for t in inputs])
        self.edges = tuple(
            [None if not t._requires_grad else t if t._node is None else (t._node, t._node_index) for t in inputs]
        )
        self.in_avals = tuple([t.aval for t in inputs])
        self.out_avals = tuple([t.aval for t in outputs])
        self.inputs: Any = [None] * len(inputs)
        self.outputs: Any = [None] * len(outputs)
        self.versions: list = []
        for i in op.saved_inputs:
            if i < len(inputs):
                self.inputs[i] = self._save(inputs[i])
        for i in op.saved_outputs:
            self.outputs[i] = self._save(outputs[i])
        for i, t in enumerate(outputs):
            if t.aval.dtype.is_floating_point:
                t._requires_grad = True
                t._node = self
                t._node_index = i

    def _save(self, t: Tensor) -> Tensor:
        saved = t.detach()  # the tape must not keep itself alive through its outputs
        if saved.storage is not None:
            self.versions.append((saved.storage, saved.storage.version))
        if _core.is_tracing():  # nothing is written while recording: there, the contents themselves are followed
            self.versions.append((saved, _core.current_trace().contents(saved)))
        return saved

    def check(self) -> None:
        """Raises if the node was freed or a saved tensor was written since."""
        if self.inputs is None:
            raise _core.FastgdError(
                f"backward: the saved tensors of {self.op.name} have already been freed by an earlier backward(); "
                "pass retain_graph=True to the first one if you need a second"
            )
        if self.overwritten:
            raise _core.FastgdError(
                f"backward: a tensor that the derivative of {self.op.name} needs was written in place after it was "
                "used; do not write to it before backward()"
            )

    @property
    def freed(self) -> bool:
        return self.inputs is None

    @property
    def overwritten(self) -> bool:
        """Whether a saved tensor was written since."""
        for held, version in self.versions:
            if isinstance(held, Tensor):
                if not _core.is_tracing() or _core.current_trace().contents(held) is not version:
                    return True
            elif held.version != version:
                return True
        return False

    def free(self) -> None:
        self.inputs = self.outputs = None
        self.attrs = ()
        self.versions = []


def reachable(roots: list[TapeNode]) -> list[TapeNode]:
    """The nodes that lead to `roots`, newest first: every node comes before those it depends on."""
    stack = list({id(n): n for n in roots}.values())
    seen = {id(n) for n in stack}
    found = []
    while stack:
        node = stack.pop()
        found.append(node)
        for edge in node.edges:
            if isinstance(edge, tuple) and id(edge[0]) not in seen:
                seen.add(id(edge[0]))
                stack.append(edge[0])
    found.sort(key=lambda n: n.sequence, reverse=True)
    return found


def backward(tensor: Tensor, gradient: Tensor | None = None, retain_graph: bool = False) -> None:
    """Adds the gradient of `tensor` to the `.grad` of every leaf that it depends on.

    Parameters
    ----------
    tensor : Tensor
        Has one element unless `gradient` is given.
    gradient : Tensor, optional
        Gradient of the final quantity with respect to `tensor`, of the same shape.
    retain_graph : bool
        Keep what the derivatives need, so that backward() can run again.
    """
    for leaf, grad, shared in gradients([(tensor, _root_gradient(tensor, gradient))], retain_graph):
        _accumulate(leaf, grad, shared)


def _root_gradient(tensor: Tensor, gradient: Tensor | None) -> Tensor:
    """The checked gradient that backward() starts from: 1 for a single element."""
    from .ops import functional as ops

    if not tensor._requires_grad:
        raise _core.FastgdError(
            "backward: the tensor does not depend on anything that requires grad (it has no tape; was it made under "
            "no_grad, detached, or computed from plain data?)"
        )
    if gradient is None:
        if tensor.numel() != 1:
            raise _core.ShapeError(
                f"backward: expected a tensor of one element or an explicit gradient, got shape {tensor.shape}"
            )
        return ops.ones_like(tensor)
    if not isinstance(gradient, Tensor) or gradient.aval is not tensor.aval:
        raise _core.ShapeError(
            f"backward: expected a gradient of {tensor.aval}, got {getattr(gradient, 'aval', gradient)}"
        )
    return gradient


def gradients(roots: list[tuple[Tensor, Tensor]], retain_graph: bool = False) -> list[tuple[Tensor, Tensor, bool]]:
    """(leaf, gradient, whether its memory is also somebody else's) for every leaf, each leaf once.

    roots: tensors and the gradients of the final quantity with respect to them.
    """
    from .ops import functional as ops  # the tape knows operations by their declarations; only addition is its own

    # Gradients whose memory two owners might hold: handed through unchanged by a derivative.
    shared: set[int] = {_memory(g) for _, g in roots}
    leaves: dict[int, tuple[Tensor, Tensor]] = {}
    pending: dict[int, list] = {}

    def deliver(edge: Any, grad: Tensor) -> None:
        if isinstance(edge, tuple):
            slots = pending.setdefault(id(edge[0]), [None] * len(edge[0].out_avals))
            old = slots[edge[1]]
            slots[edge[1]] = grad if old is None else ops.add(old, grad)
        else:
            held = leaves.get(id(edge))
            leaves[id(edge)] = (edge, grad if held is None else ops.add(held[1], grad))

    previous = _core.set_grad_enabled_state(False)
    try:
        for tensor, gradient in roots:
            deliver(tensor if tensor._node is None else (tensor._node, tensor._node_index), gradient)
        for node in reachable([t._node for t, _ in roots if t._node is not None]):
            grads = pending.pop(id(node), None)
            if grads is None:
                continue
            node.check()
            incoming = {_memory(g) for g in grads if g is not None}
            results = node.op.vjp(node, *grads)
            if not isinstance(results, tuple):
                results = (results,)
            made: set[int] = set()
            for edge, grad in zip(node.edges, results, strict=True):
                if edge is None or grad is None:
                    continue
                memory = _memory(grad)
                if memory in incoming or memory in made:
                    shared.add(memory)
                made.add(memory)
                deliver(edge, grad)
            if not retain_graph:
                node.free()
    finally:
        _core.set_grad_enabled_state(previous)
    return [(leaf, grad, _memory(grad) in shared) for leaf, grad in leaves.values()]


def of_leaves(tensor: Tensor) -> dict[int, Tensor]:
    """id(leaf) -> gradient of a tensor of one element; nothing is accumulated."""
    return {id(leaf): g for leaf, g, _ in gradients([(tensor, _root_gradient(tensor, None))])}


def _memory(t: Tensor) -> int:
    return id(t.storage) if t.storage is not None else id(t._value.root)


def _accumulate(leaf: Tensor, grad: Tensor, shared: bool) -> None:
    from .ops import functional as ops

    old = leaf.grad
    if old is None:
        if shared:
            grad = ops.clone(grad)
        grad._copy_of = None  # a gradient of its own, however it was made
        leaf.grad = grad
    else:
        with_tape = _core.set_grad_enabled_state(False)
        try:
            old.add_(grad)
        finally:
            _core.set_grad_enabled_state(with_tape)
