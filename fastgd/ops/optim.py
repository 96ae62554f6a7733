"""Optimizer updates and gradient norms: one call over a table of segments (parameters)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from .._core import DtypeError, NotOffered, ShapeError, aval
from ..compiler.lower import Call
from ..tensor import Tensor
from .elementwise import maximum, minimum, mul
from .registry import Op, apply, check_writable, no_tape
from .rowwise import suffix

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
]

# hyper, records, [scale], then all parameters, all gradients, all of the first state buffer, ...
HEAD = 2

#: (parameter, gradient, state tensors, group, record)
Entry = tuple[Tensor, Tensor, tuple[Tensor, ...], int, int]


class FoldScale:
    """How a scalar factor of all gradients (the coefficient of clipping) moves into the update."""

    @staticmethod
    def gradients(node: Any) -> list[Any]:
        lengths, has_scale = node.attrs[2], node.attrs[5]
        n = len(lengths)
        return [] if has_scale else node.inputs[HEAD + n : HEAD + 2 * n]

    @staticmethod
    def apply(node: Any, scale: Any, plain: list[Any]) -> None:
        n = len(plain)
        node.inputs = [*node.inputs[:HEAD], scale, *node.inputs[HEAD : HEAD + n], *plain, *node.inputs[HEAD + 2 * n :]]
        node.attrs = (*node.attrs[:-1], True)


def _infer_update(avals: tuple, attrs: tuple) -> tuple:
    n = len(attrs[2])
    head = HEAD + bool(attrs[5])
    parameters, gradients, states = avals[head : head + n], avals[head + n : head + 2 * n], avals[head + 2 * n :]
    for p, g in zip(parameters, gradients, strict=True):
        if p is not g:
            raise ShapeError(f"optimizer: expected a gradient of {p!r}, got {g!r}")
    return (avals[1], *parameters, *states)


def _lower_update(node: Any) -> Call:
    kernel, flags, lengths, groups, rows, has_scale = node.attrs
    head = HEAD + bool(has_scale)
    n = len(lengths)
    tail = [x for row in zip(lengths, groups, rows, strict=True) for x in row]
    fields = {"n_segments": n, "n_groups": node.inputs[0].aval.shape[0], "flags": flags, "has_scale": has_scale}
    name = f"{kernel}_{suffix('optimizer', node.inputs[head].aval)}"
    return Call(name, fields, list(node.inputs), [node.inputs[1], *node.inputs[head : head + n]], tail)


UPDATE = Op(
    "optimizer_step",
    _infer_update,
    ("kernel", "flags", "lengths", "groups", "rows", "has_scale"),
    lower=_lower_update,
    fold_scale=FoldScale,
)


def optimizer_step(
    optimizer: Any,
    *,
    kernel: str,
    hyper: np.ndarray,
    records: Tensor,
    batches: Mapping[int, Sequence[Entry]],
) -> None:
    """Updates parameters in place, all of them or none, with one C call; or records the update.

    Parameters
    ----------
    optimizer : object
        A replay calls its `_prepare_step()` before it runs and counts `_updates` up after the commit.
    kernel : str
        Row of kernels.def without the dtype: "sgd_step", "adam_step".
    hyper : ndarray of float64, shape (n_groups, 12)
        Read through its address at each run; numbers may change between runs, the array may not.
    records : Tensor of float64, shape (n_parameters, 4)
        Step counts, and what the rule keeps beside them; the kernel updates those of the parameters in `batches`.
    batches : mapping of int to sequence of (parameter, gradient, state tensors, group, record)
        What to update, by the kernel's flags.
    """
    parts = [_Part.of(kernel, flags, rows) for flags, entries in batches.items() for rows in _by_dtype(entries)]
    if any(t.storage.readonly for part in parts for t in part.written(records)):
        raise ShapeError("optimizer: a parameter borrows read-only memory; make it from a copy, as by tensor(data)")
    trace = _core.current_trace()
    if trace is None:
        _update_now(hyper, records, parts)
        return
    trace.note_update(optimizer, [p for part in parts for p in part.parameters])
    for part in parts:
        _record_update(trace, hyper, records, part)


class _Part(NamedTuple):
    """Parameters of one dtype and one set of flags: what one kernel call updates."""

    attrs: tuple
    parameters: list[Tensor]
    gradients: list[Tensor]
    states: list[Tensor]  # all of the first buffer, all of the second, ...

    @classmethod
    def of(cls, kernel: str, flags: int, rows: Sequence[Entry]) -> _Part:
        parameters, gradients, states, groups, rows = zip(*rows, strict=True)
        lengths = tuple(p.numel() for p in parameters)
        columns = zip(*states, strict=True)
        return cls(
            (kernel, flags, lengths, groups, rows, False),
            list(parameters),
            list(gradients),
            [s for column in columns for s in column],
        )

    def written(self, records: Tensor) -> list[Tensor]:
        return [records, *self.parameters, *self.states]

    def operands(self) -> list[Tensor]:
        return [*self.parameters, *self.gradients, *self.states]


def _by_dtype(entries: Sequence[Entry]) -> Iterable[list[Entry]]:
    rows: dict[Any, list[Entry]] = {}
    for entry in entries:
        rows.setdefault(entry[0].dtype, []).append(entry)
    return rows.values()


def _record_update(trace: Any, hyper: np.ndarray, records: Tensor, part: _Part) -> None:
    table = trace.host(hyper, aval(_core.float64, hyper.shape))
    inputs = [table, *[trace.value_of(t) for t in (records, *part.operands())]]
    n = len(part.parameters)
    taken = {0: 1, **{1 + i: HEAD + i for i in range(n)}}
    taken.update({1 + n + i: HEAD + 2 * n + i for i in range(len(part.states))})
    trace.commit(UPDATE, inputs, part.attrs, taken, part.written(records))


_plans: dict[tuple, Any] = {}


def _update_now(hyper: np.ndarray, records: Tensor, parts: list[_Part]) -> None:
    """Runs all parts as one plan: everything that can fail, scratch memory included, comes before the first write."""
    for part in parts:
        for p, g in zip(part.parameters, part.gradients, strict=True):
            if p.aval is not g.aval:
                raise ShapeError(f"optimizer: expected a gradient of {p.aval!r}, got {g.aval!r}")
    key = (len(hyper), *[(part.parameters[0].dtype.name, len(part.states), *part.attrs) for part in parts])
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) > 256:
            _plans.clear()
        plan = _plans[key] = _update_plan(len(hyper), parts)
    plan.run([hyper, records, *[t for part in parts for t in part.operands()]])
    for part in parts:
        for t in part.written(records):
            t.storage.version += 1


def _update_plan(n_groups: int, parts: list[_Part]) -> Any:
    instructions, first = [], HEAD
    for part in parts:
        kernel, flags, lengths, groups, rows, _ = part.attrs
        name = f"{kernel}_{suffix('optimizer', part.parameters[0].aval)}"
        fields = {"n_segments": len(lengths), "n_groups": n_groups, "flags": flags, "has_scale": 0}
        tail = [x for row in zip(lengths, groups, rows, strict=True) for x in row]
        last = first + len(part.operands())
        instructions.append((name, _core.pack_args(name, fields, tail), (*range(HEAD), *range(first, last))))
        first = last
    return _core.Plan(first, instructions, 0)


def _infer_norm(avals: tuple, attrs: tuple) -> tuple:
    scalar = aval(avals[0].dtype, ())
    if len({a.dtype for a in avals}) > 1:
        raise DtypeError("clip_grad_norm_: gradients of different dtypes in one call are not offered")
    return scalar, scalar


def _lower_norm(node: Any) -> Call:
    first = node.inputs[0].aval
    fields = {"n_segments": len(node.inputs), "max_norm": node.attrs[0], "check_finite": node.attrs[1]}
    call = Call(
        f"grad_norm_{suffix('clip_grad_norm_', first)}",
        fields,
        [*node.outputs, *node.inputs],
        list(node.outputs),
        [v.aval.numel for v in node.inputs],
    )
    call.message = lambda where, value, bound: (
        "clip_grad_norm_: the total norm of the gradients is not finite"
        + (f" (gradient {where})" if where >= 0 else "")
    )
    return call


GRAD_NORM = Op("grad_norm", _infer_norm, ("max_norm", "check_finite"), lower=_lower_norm)


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scales all gradients by min(1, max_norm / (norm + 1e-6)), norm the 2-norm of all of them together.

    Compiled, the scaling is part of the optimizer's pass over memory (Pascanu, Mikolov, Bengio, 2013).

    Returns
    -------
    Tensor
        The total norm before clipping, 0-d.
    """
    if norm_type != 2.0:
        raise NotOffered(f"clip_grad_norm_: only the 2-norm is offered, got norm_type={norm_type}")
    if not max_norm >= 0:
        raise ShapeError(f"clip_grad_norm_: expected max_norm >= 0, got {max_norm}")
    given: Iterable[Tensor] = [parameters] if isinstance(parameters, Tensor) else parameters
    owners = [p for p in given if p.grad is not None]
    if not owners:
        from .creation import zeros

        return zeros(())
    with no_tape():
        gradients = [p.grad for p in owners]
        for g in gradients:
            check_writable(g, "clip_grad_norm_")
        norm, coefficient = apply(GRAD_NORM, tuple(gradients), (float(max_norm), bool(error_if_nonfinite)))
        _scale_all(gradients, coefficient)
    return norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Clamps every element of every gradient to [-clip_value, clip_value], in place; NaN stays NaN."""
    limit = float(clip_value)
    if not limit >= 0:
        raise ShapeError(f"clip_grad_value_: expected clip_value >= 0, got {clip_value}")
    given: Iterable[Tensor] = [parameters] if isinstance(parameters, Tensor) else parameters
    with no_tape():
        gradients = [p.grad for p in given if p.grad is not None]
        for g in gradients:
            check_writable(g, "clip_grad_value_")
        for g in gradients:
            g.copy_(maximum(minimum(g, limit), -limit))


def _scale_all(gradients: list[Tensor], scale: Tensor) -> None:
    trace = _core.current_trace()
    if trace is not None:
        for g in gradients:
            trace.rebind(g, mul(g, scale))
        return
    lengths = tuple(g.numel() for g in gradients)
    name = f"scale_all_{suffix('clip_grad_norm_', scale.aval)}"
    plan = _plans.get((name, lengths))
    if plan is None:
        if len(_plans) > 256:
            _plans.clear()
        plan = _core.prepare_kernel(name, 1 + len(lengths), lengths, n_segments=len(lengths))
        _plans[(name, lengths)] = plan
    plan.run([scale, *gradients])
    for g in gradients:
        g.storage.version += 1
