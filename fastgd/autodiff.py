"""The tape and backward().

Each recorded operation is a TapeNode that holds what its derivative reads and where its inputs came
from.  backward() walks the nodes from the newest to the oldest; the derivative of an operation is
written in terms of other operations, so the same walk runs eagerly and inside a recording.

An edge says where a gradient goes: a leaf Tensor, or a pair (TapeNode, output position).
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from . import _core
from .tensor import Tensor

_counter = itertools.count()

Edge = Any  # a leaf Tensor or a pair (TapeNode, output position)


class Hooks:
    """Functions that see the gradient of one tensor.

    Attributes
    ----------
    gradient : dict of int to callable
        Called with the gradient in the order of registration; a result that is not None replaces it.
    accumulated : dict of int to callable
        Of a leaf: called with the leaf after its `.grad` was written.
    retained : weakref to a Tensor that is no leaf, or None
        Whose `.grad` keeps the gradient.
    """

    __slots__ = ("accumulated", "gradient", "retained")

    def __init__(self) -> None:
        self.gradient: dict[int, Callable] = {}
        self.accumulated: dict[int, Callable] = {}
        self.retained: Any = None

    def see(self, grad: Tensor) -> Tensor:
        for hook in list(self.gradient.values()):
            result = hook(grad)
            if result is None:
                continue
            if not isinstance(result, Tensor) or result.aval is not grad.aval:
                got = getattr(result, "aval", type(result).__name__)
                raise _core.ShapeError(f"hook: expected a gradient of {grad.aval} or None, got {got}")
            grad = result
        tensor = self.retained() if self.retained is not None else None
        if tensor is not None:
            tensor._grad = grad if tensor._grad is None else tensor._grad + grad
        return grad


class HookHandle:
    """What registering a hook returns; also a context manager that removes it."""

    def __init__(self, table: dict[int, Any], hook: Callable, entry: Any = None) -> None:
        if not callable(hook):
            raise _core.DtypeError(f"hook: expected a function, got {type(hook).__name__}")
        self._table = table
        self._key = next(_counter)
        table[self._key] = hook if entry is None else entry
        _core.note_mutation()  # compiled functions have recorded what the hooks do

    def remove(self) -> None:
        """The hook is not called any more; a second call does nothing."""
        if self._table.pop(self._key, None) is not None:
            _core.note_mutation()

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def hooks_of(tensor: Tensor) -> Hooks:
    """The hooks of a tensor that requires grad, made on first use: a leaf's are its own, others lie on the tape."""
    if not tensor._requires_grad:
        raise _core.FastgdError("register_hook: the tensor does not require grad, so it never has a gradient")
    node = tensor._node
    if node is None:
        if tensor._hooks is None:
            tensor._hooks = Hooks()
        return tensor._hooks
    if node.hooks is None:
        node.hooks = {}
    return node.hooks.setdefault(tensor._node_index, Hooks())


def retain_grad(tensor: Tensor) -> None:
    """Lets backward() keep the gradient of a tensor that is no leaf in its `.grad`."""
    if tensor._node is None:
        hooks_of(tensor)  # refuses what does not require grad; a leaf keeps its gradient anyway
        return
    hooks_of(tensor).retained = weakref.ref(tensor)


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

    __slots__ = (
        "attrs",
        "edges",
        "hooks",
        "in_avals",
        "inputs",
        "needs",
        "op",
        "out_avals",
        "outputs",
        "sequence",
        "versions",
    )

    def __init__(self, op: Any, inputs: tuple[Tensor, ...], attrs: tuple, result: Any) -> None:
        outputs = result if isinstance(result, tuple) else (result,)
        self.op = op
        self.attrs = attrs
        self.hooks: dict[int, Hooks] | None = None
        self.sequence = next(_counter)
        self.needs = tuple([t._requires_grad for t in inputs])
        self.edges = tuple([edge_of(t) for t in inputs])
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


def mark() -> int:
    """A position on the tape: nodes made from now on have a larger `sequence`."""
    return next(_counter)


def edge_of(tensor: Tensor) -> Edge:
    """Where the gradient of a tensor goes; None if it has none."""
    if not tensor._requires_grad:
        return None
    return tensor if tensor._node is None else (tensor._node, tensor._node_index)


def reachable(roots: list[TapeNode], since: int = -1) -> list[TapeNode]:
    """The nodes newer than `since` that lead to `roots`, newest first: each comes before those it depends on."""
    stack = list({id(n): n for n in roots}.values())
    seen = {id(n) for n in stack}
    found = []
    while stack:
        node = stack.pop()
        found.append(node)
        for edge in node.edges:
            if isinstance(edge, tuple) and edge[0].sequence > since and id(edge[0]) not in seen:
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
    backward_of([(tensor, _root_gradient(tensor, gradient))], retain_graph)


def backward_of(roots: list[tuple[Tensor, Tensor]], retain_graph: bool = False) -> None:
    """backward() from several tensors at once, each with its gradient."""
    for leaf, grad, shared in gradients(roots, retain_graph):
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


def gradients(
    roots: list[tuple[Tensor, Tensor]],
    retain_graph: bool = False,
    since: int = -1,
    targets: Sequence[Edge] = (),
) -> list[tuple[Edge, Tensor, bool]]:
    """(edge, gradient, whether its memory is also somebody else's), each edge once.

    roots: tensors and the gradients of the final quantity with respect to them.
    Of every leaf; or, with `since`, of what the nodes newer than it depend on, which may lie on older nodes; or, with
    `targets`, of these edges and nothing else, and only nodes that lead to them are visited.
    """
    from .ops import functional as ops  # the tape knows operations by their declarations; only addition is its own

    # Gradients whose memory two owners might hold: handed through unchanged by a derivative.
    shared: set[int] = {_memory(g) for _, g in roots}
    ends: dict[Any, tuple[Edge, Tensor]] = {}
    pending: dict[int, list] = {}
    nodes = reachable([t._node for t, _ in roots if t._node is not None and t._node.sequence > since], since)
    wanted = {edge_key(e) for e in targets}
    if wanted:
        nodes = _leading_to(nodes, wanted)
    visited = {id(n) for n in nodes}

    def deliver(edge: Edge, grad: Tensor) -> None:
        if isinstance(edge, tuple) and id(edge[0]) in visited:
            slots = pending.setdefault(id(edge[0]), [None] * len(edge[0].out_avals))
            old = slots[edge[1]]
            slots[edge[1]] = grad if old is None else ops.add(old, grad)
            return
        key = edge_key(edge)
        if wanted and key not in wanted:
            return
        held = ends.get(key)
        ends[key] = (edge, grad if held is None else ops.add(held[1], grad))

    previous = _core.set_grad_enabled_state(False)
    try:
        for tensor, gradient in roots:
            deliver(edge_of(tensor), gradient)
        for node in nodes:
            grads = pending.pop(id(node), None)
            if grads is None:
                continue
            if node.hooks is not None:
                grads = [g if g is None or i not in node.hooks else node.hooks[i].see(g) for i, g in enumerate(grads)]
            for i, g in enumerate(grads if wanted else ()):
                if g is not None and (id(node), i) in wanted:
                    ends[id(node), i] = ((node, i), g)
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
        for key, (edge, grad) in ends.items():
            if isinstance(edge, Tensor) and edge._hooks is not None:
                ends[key] = (edge, edge._hooks.see(grad))
    finally:
        _core.set_grad_enabled_state(previous)
    return [(edge, grad, _memory(grad) in shared) for edge, grad in ends.values()]


def edge_key(edge: Edge) -> Any:
    """Equal for equal edges."""
    return (id(edge[0]), edge[1]) if isinstance(edge, tuple) else id(edge)


def _leading_to(nodes: list[TapeNode], wanted: set) -> list[TapeNode]:
    """The nodes from which a wanted edge can be reached, or whose outputs are wanted."""
    leading: set[int] = set()
    for node in reversed(nodes):  # oldest first
        if any(
            e is not None and (edge_key(e) in wanted or (isinstance(e, tuple) and id(e[0]) in leading))
            for e in node.edges
        ) or any((id(node), i) in wanted for i in range(len(node.out_avals))):
            leading.add(id(node))
    return [n for n in nodes if id(n) in leading]


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
    if leaf._hooks is not None:
        for hook in list(leaf._hooks.accumulated.values()):
            hook(leaf)
