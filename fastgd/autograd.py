"""Gradients of chosen tensors, and operations with a derivative of one's own, under the names of ``torch.autograd``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import _core, autodiff
from .context import enable_grad, no_grad, set_grad_enabled
from .tensor import Tensor

__all__ = ["Function", "backward", "enable_grad", "grad", "no_grad", "set_grad_enabled"]


def _sequence(x: Any) -> tuple:
    return (x,) if isinstance(x, Tensor) or x is None else tuple(x)


def _roots(name: str, outputs: Any, grad_outputs: Any) -> list[tuple[Tensor, Tensor]]:
    tensors = _sequence(outputs)
    given = _sequence(grad_outputs) if grad_outputs is not None else (None,) * len(tensors)
    if len(given) != len(tensors):
        raise _core.ShapeError(f"{name}: expected a gradient for each of {len(tensors)} outputs, got {len(given)}")
    return [(t, autodiff._root_gradient(t, g)) for t, g in zip(tensors, given, strict=True)]


def _refuse_second(name: str, create_graph: bool) -> None:
    if create_graph:
        raise _core.NotOffered(f"{name}: second derivatives (create_graph=True) are not offered")


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Adds the gradients of `tensors`, each weighted by its `grad_tensors`, to the `.grad` of their leaves."""
    _refuse_second("backward", create_graph)
    autodiff.backward_of(_roots("backward", tensors, grad_tensors), bool(retain_graph))


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of the sum of `outputs` with respect to `inputs`, leaves or not; no `.grad` is touched.

    Parameters
    ----------
    outputs : Tensor or sequence
        Of one element each, unless `grad_outputs` is given.
    inputs : Tensor or sequence
    grad_outputs : Tensor or sequence, optional
        What each output is weighted with; has its shape.
    retain_graph : bool, optional
        Keep what the derivatives need, so that another call can follow.
    allow_unused : bool, optional
        None for inputs that the outputs do not depend on, where otherwise a ValueError is raised.
    materialize_grads : bool
        Zeros instead of None for them.

    Returns
    -------
    tuple of (Tensor or None)
        One for each input.
    """
    _refuse_second("grad", create_graph)
    if is_grads_batched:
        raise _core.NotOffered("grad: is_grads_batched=True is not offered")
    if materialize_grads and allow_unused is False:
        raise _core.ShapeError("grad: expected allow_unused to be True or left out where materialize_grads is True")
    wanted = _sequence(inputs)
    for i, t in enumerate(wanted):
        if not t._requires_grad:
            raise _core.FastgdError(f"grad: input {i} does not require grad")
    edges = [autodiff.edge_of(t) for t in wanted]
    found = {
        autodiff.edge_key(e): g
        for e, g, _ in autodiff.gradients(_roots("grad", outputs, grad_outputs), bool(retain_graph), targets=edges)
    }
    grads = [found.get(autodiff.edge_key(e)) for e in edges]
    for i, (t, g) in enumerate(zip(wanted, grads, strict=True)):
        if g is not None:
            continue
        if materialize_grads:
            from .ops import functional as ops

            grads[i] = ops.zeros_like(t)
        elif not allow_unused:
            raise _core.ShapeError(
                f"grad: the outputs do not depend on input {i}; pass allow_unused=True to get None for it"
            )
    return tuple(grads)


class _Context:
    """What `forward` leaves for `backward` of a Function.

    Attributes
    ----------
    needs_input_grad : tuple of bool
        Which arguments want a gradient.
    saved_tensors : tuple of Tensor
        Those given to `save_for_backward`; raises if one was written since.
    """

    def __init__(self, needs_input_grad: tuple[bool, ...], tensors: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._tensors = tensors
        self._saved: tuple[Tensor | None, ...] = ()
        self._plain: set[int] = set()
        self._materialize = True
        self._node: Any = None

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        if self._node is not None:
            self._node.check()
        return self._saved

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        self._plain |= {id(t) for t in tensors}

    def set_materialize_grads(self, value: bool) -> None:
        self._materialize = bool(value)

    def mark_dirty(self, *tensors: Tensor) -> None:
        raise _core.NotOffered("Function: mark_dirty (writing arguments in place) is not offered; return new tensors")


class Function:
    """An operation with a derivative of one's own: subclass it and call ``YourFunction.apply(...)``.

    ``forward(ctx, *args)`` and ``backward(ctx, *gradients of the results)`` are static methods, written with
    fastgd's operations; `backward` returns one gradient (or None) for each argument of `forward`.  Works
    inside ``fastgd.compile``.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        raise _core.NotOffered("Function: define the static method forward(ctx, ...)")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise _core.NotOffered("Function: define the static method backward(ctx, ...)")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Runs `forward`; the results are on the tape if an argument is."""
        needs = tuple(isinstance(a, Tensor) and a._requires_grad for a in args)
        ctx = _Context(needs, tuple(isinstance(a, Tensor) for a in args))
        previous = _core.set_grad_enabled_state(False)
        try:
            result = cls.forward(ctx, *args, **kwargs)
        finally:
            _core.set_grad_enabled_state(previous)
        if not any(needs) or not previous:
            return result
        outputs = tuple(result) if isinstance(result, (tuple, list)) else (result,)
        outputs = tuple(_own(t, args) for t in outputs)
        inputs = tuple(a for a in args if isinstance(a, Tensor))
        node = autodiff.TapeNode(_Custom(cls, ctx), inputs, (), outputs)
        node.versions = [v for t in ctx._saved if t is not None for v in _version(t)]
        ctx._node = node
        for t in outputs:
            if id(t) in ctx._plain:
                t._requires_grad, t._node = False, None
        return outputs if isinstance(result, (tuple, list)) else outputs[0]


class _Custom:
    """A Function on the tape, where an operation's declaration stands."""

    saved_inputs: tuple[int, ...] = ()
    saved_outputs: tuple[int, ...] = ()

    def __init__(self, function: type[Function], ctx: _Context) -> None:
        self.function, self.ctx = function, ctx
        self.name = function.__name__

    def vjp(self, node: autodiff.TapeNode, *grads: Tensor | None) -> tuple:
        from .ops import functional as ops

        if self.ctx._materialize:
            pairs = zip(grads, node.out_avals, strict=True)
            grads = tuple(ops.zeros(a.shape, dtype=a.dtype) if g is None else g for g, a in pairs)
        found = self.function.backward(self.ctx, *grads)
        found = tuple(found) if isinstance(found, (tuple, list)) else (found,)
        n = len(self.ctx.needs_input_grad)
        if len(found) != n:
            raise _core.ShapeError(f"{self.name}.backward: expected {n} gradients, one per argument, got {len(found)}")
        return self._checked(node, found)

    def _checked(self, node: autodiff.TapeNode, found: tuple) -> tuple:
        """The gradients of the tensor arguments, of their shapes."""
        tensors = [g for g, is_tensor in zip(found, self.ctx._tensors, strict=True) if is_tensor]
        for g, a, needed in zip(tensors, node.in_avals, node.needs, strict=True):
            if needed and g is not None and g.aval is not a:
                raise _core.ShapeError(f"{self.name}.backward: expected a gradient of {a}, got {g.aval}")
        return tuple(tensors)


def _own(t: Tensor, args: tuple) -> Tensor:
    """A result that is an argument handed through gets a tensor object of its own."""
    return t.detach() if any(t is a for a in args) else t


def _version(t: Tensor) -> list:
    found: list = [] if t.storage is None else [(t.storage, t.storage.version)]
    if _core.is_tracing():
        found.append((t, _core.current_trace().contents(t)))
    return found
