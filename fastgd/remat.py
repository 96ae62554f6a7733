"""Rematerialization: activations are computed again in the backward pass instead of being kept.

Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost", 2016.  A wrapped function leaves one node on
the tape, whose derivative runs the function once more and differentiates that run.  Random numbers are drawn
again from the same offsets, so the gradients have the bits of those without rematerialization.  Inside a recording
the same happens to the program: what is computed again is recorded behind the forward pass.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from . import _core
from .autodiff import TapeNode, edge_key, gradients, mark, reachable
from .tensor import Tensor

__all__ = ["is_recomputing", "remat"]

_state = threading.local()


def is_recomputing() -> bool:
    """Whether this thread is in the second run of a function under `remat`: running statistics were updated before."""
    return getattr(_state, "recomputing", False)


def remat(function: Callable) -> Callable:
    """The function, keeping none of its intermediate results for the backward pass: they are computed again there.

    Parameters
    ----------
    function : callable
        Takes any arguments, returns a tensor or a list, tuple or dict of tensors.  It may use parameters and other
        tensors from outside; it must do the same when it is run again, and is, with the same random numbers.

    Returns
    -------
    callable
        Same values, same gradients, less memory between the passes, one more forward pass.

    Notes
    -----
    What a run writes besides (running statistics of a batch norm) is written once: see `is_recomputing`.
    """
    if not callable(function):
        raise _core.DtypeError(f"remat: expected a function or a Module, got {type(function).__name__}")

    @functools.wraps(function, assigned=("__name__", "__qualname__", "__doc__", "__module__"))
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not _core.is_grad_enabled():
            return function(*args, **kwargs)
        start, since, before = _random_position(), mark(), _core.storage_count()
        recorded = len(_core.current_trace().program.nodes) if _core.is_tracing() else 0
        result = function(*args, **kwargs)
        outputs = _made_since(result, since)
        if outputs:
            _replace_tape(_Remat(function, start), (args, kwargs), outputs, since, before, recorded)
        return result

    return wrapped


class _Remat:
    """Stands on the tape where an operation's declaration does."""

    saved_inputs: tuple[int, ...] = ()
    saved_outputs: tuple[int, ...] = ()

    def __init__(self, function: Callable, start: Any) -> None:
        self.function = function
        self.start = start
        self.name = f"remat({getattr(function, '__name__', type(function).__name__)})"

    def vjp(self, node: TapeNode, *grads: Tensor | None) -> tuple:
        args, kwargs = node.attrs
        since = mark()
        with _again(self.start, self.name):
            outputs = _made_since(self.function(*args, **kwargs), since)
        if [t.aval for t in outputs] != list(node.out_avals):
            raise _core.FastgdError(
                f"{self.name}: the second run made {[t.aval for t in outputs]}, the first {list(node.out_avals)}; the "
                "function must do the same each time"
            )
        roots = [(t, g) for t, g in zip(outputs, grads, strict=True) if g is not None]
        found = {edge_key(edge): g for edge, g, _ in gradients(roots, since=since)}
        if not found.keys() <= {edge_key(e) for e in node.edges}:
            raise _core.FastgdError(f"{self.name}: the second run used tensors that the first did not")
        return tuple(found.get(edge_key(e)) for e in node.edges)


def _replace_tape(op: _Remat, arguments: tuple, outputs: list[Tensor], since: int, before: int, recorded: int) -> None:
    """One node instead of those that the function left; they go when the last reference to them does."""
    nodes = reachable([t._node for t in outputs], since)
    edges: dict[Any, Any] = {}
    for node in nodes:
        for edge in node.edges:
            if edge is not None and (not isinstance(edge, tuple) or edge[0].sequence <= since):
                edges.setdefault(edge_key(edge), edge)
    new = TapeNode(op, (), arguments, tuple(outputs))
    new.edges = tuple(edges.values())
    new.needs = (True,) * len(new.edges)
    new.in_avals = tuple(e[0].out_avals[e[1]] if isinstance(e, tuple) else e.aval for e in new.edges)
    # What came from outside must not be written before the second run.
    new.versions = [v for node in nodes for v in node.versions if _is_outside(v[0], before, recorded)]


def _is_outside(held: Any, before: int, recorded: int) -> bool:
    if not isinstance(held, Tensor):
        return held.serial <= before
    if held._value is None:
        return True
    producer = held._value.producer
    if producer is None:
        return True
    return not any(n is producer for n in _core.current_trace().program.nodes[recorded:])


def _made_since(result: Any, since: int) -> list[Tensor]:
    """The tensors in a result that are on the tape and were made after `since`, each once."""
    found = {id(t): t for t in _tensors(result) if t._node is not None and t._node.sequence > since}
    return list(found.values())


def _tensors(result: Any) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, dict):
        for value in result.values():
            yield from _tensors(value)
    elif isinstance(result, (list, tuple)):
        for value in result:
            yield from _tensors(value)


def _random_position() -> tuple:
    """Where the generator is: its state, or the number of random calls in this recording."""
    if _core.is_tracing():
        return "recording", _core.current_trace(), _core.current_trace().program.n_random
    return "eager", None, _core.rng_state()


@contextmanager
def _again(start: tuple, name: str) -> Iterator[None]:
    """Runs what is inside with the tape on and the random numbers of `start`, and then goes on from where it was."""
    kind, trace, position = start
    now = _random_position()
    if now[0] != kind or now[1] is not trace:
        raise _core.NotOffered(
            f"{name}: its forward pass ran outside of this recording and its backward pass inside; compile both or "
            "neither"
        )

    def move(to: Any) -> None:
        if trace is not None:
            trace.program.n_random = to
        else:
            _core.set_rng_state(*to)

    with_tape = _core.set_grad_enabled_state(True)
    outer, _state.recomputing = is_recomputing(), True
    move(position)
    try:
        yield
    finally:
        move(now[2])
        _state.recomputing = outer
        _core.set_grad_enabled_state(with_tape)
