"""How an operation is declared, and how a call of one runs.

An operation is declared once: its shape and dtype rule with the error messages (`infer`), what
computes it (`tile`: an operation of the elementwise kernel; `lower`: a kernel call; `expand`: other
operations), and its derivative in terms of other operations (`vjp`).

A call is recorded if a function is being traced.  Otherwise the operation is compiled as a program of
its own, once for each combination of shapes, dtypes and attributes, and run by the same executor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import _core
from ..autodiff import TapeNode
from ..compiler.lower import lower_eager
from ..compiler.trace import Trace
from ..tensor import Tensor

MAX_EAGER_PLANS = 4096

OPS: dict[str, Op] = {}


@dataclass(eq=False)
class Op:
    """The declaration of an operation.

    Parameters
    ----------
    name : str
        Also the name that `explain()` prints.
    infer : callable
        ``infer(avals, attrs) -> tuple of Aval``: checks the arguments, raises the operation's errors.
    attrs : tuple of str
        Names of the attributes, in the order of the attribute tuple.
    tile : callable, optional
        For an elementwise operation: ``tile(attrs) -> (opcode name, imm0, imm1)``; see csrc/kernels.def.
    lower : callable, optional
        ``lower(node) -> Call``: one kernel call.
    expand : callable, optional
        ``expand(*tensors, *attrs) -> tensor(s)``: the operation in terms of others; absorbed when compiled.
    kind : str
        ``tile``, ``gemm``, ``alias`` (same elements in the same order), ``view``, ``kernel`` or ``composite``.
    view : callable, optional
        ``view(shape, strides, attrs) -> (offset, strides)``: where the elements of the result lie in an input of
        this shape and these strides.  Copied only where nothing can read it in place.
    strided : bool
        Its kernel reads operands by their strides (``layout.place``), not only contiguous ones.
    vjp : callable, optional
        ``vjp(node, *gradients of the outputs) -> gradients of the inputs`` (None where there is none).
    saves : str
        What the derivative reads: any of ``i0 i1 ...`` (inputs) and ``o0 o1 ...`` (outputs).
    raw : tuple of int
        Inputs of an elementwise operation that it reads through their pointer, outside of the loop.
    fold_scale : object, optional
        For an optimizer's update: how to take over a scalar factor of its gradients; see ops/optim.py.
    epilogue : bool
        The kernel takes an elementwise program (its `tail`) over (first dim, second dim, all others) of its result.
    text : str
        One line for explain() and the documentation.
    """

    name: str
    infer: Callable[[tuple, tuple], tuple]
    attrs: tuple[str, ...] = ()
    tile: Callable[[tuple], tuple] | None = None
    lower: Callable[[Any], Any] | None = None
    expand: Callable[..., Any] | None = None
    view: Callable[[tuple, list, tuple], tuple[int, list]] | None = None
    strided: bool = False
    kind: str = ""
    vjp: Callable[..., Any] | None = None
    saves: str = ""
    raw: tuple[int, ...] = ()
    text: str = ""
    fold_scale: Any = None
    epilogue: bool = False
    plans: dict = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.kind:
            self.kind = (
                "tile" if self.tile else "view" if self.view else "composite" if self.expand else "kernel"
            )
        self.saved_inputs = tuple(int(s[1:]) for s in self.saves.split() if s[0] == "i")
        self.saved_outputs = tuple(int(s[1:]) for s in self.saves.split() if s[0] == "o")
        if self.name in OPS:
            raise AssertionError(f"operation {self.name} is declared twice")
        OPS[self.name] = self


def apply(op: Op, inputs: tuple[Tensor, ...], attrs: tuple = ()) -> Any:
    """Runs or records `op` and puts it on the tape; returns a Tensor or a tuple of Tensors."""
    if _core.is_tracing():
        result = _core.current_trace().record(op, inputs, attrs)
    else:
        result = _plan_for(op, inputs, attrs).run(Tensor, inputs)
    if op.vjp is not None and _core.is_grad_enabled():
        for t in inputs:
            if t._requires_grad:
                TapeNode(op, inputs, attrs, result)
                break
    return result


def apply_in_place(op: Op, target: Tensor, inputs: tuple[Tensor, ...], attrs: tuple = ()) -> Tensor:
    """Runs `op` and writes its one output into `target`, whose Aval it must have."""
    check_writable(target, op.name)
    if _core.is_tracing():
        trace = _core.current_trace()
        with no_tape():
            trace.rebind(target, trace.record(op, inputs, attrs))
        return target
    _plan_for(op, inputs, attrs).run(Tensor, inputs, (target,))
    return target


def _plan_for(op: Op, inputs: tuple[Tensor, ...], attrs: tuple) -> Any:
    """The eager plan for these shapes, dtypes and attributes, made on first use."""
    key = (attrs, *[t.aval for t in inputs])
    plan = op.plans.get(key)
    if plan is None:
        plan = build_eager(op, key[1:], attrs)
        if len(op.plans) >= MAX_EAGER_PLANS:
            op.plans.clear()
        op.plans[key] = plan
    return plan


def check_writable(target: Tensor, name: str, value: Any = None) -> None:
    """Refuses writes that torch refuses, into a copy that would be a view in torch, and of a `value` on the tape."""
    if isinstance(value, Tensor) and value._requires_grad and _core.is_grad_enabled():
        raise _core.NotOffered(
            f"{name}: writing a tensor that requires grad in place would lose its gradient; make a new tensor "
            "(total = total + loss), or write .detach() of it"
        )
    if target._requires_grad and _core.is_grad_enabled():
        what = "a leaf that requires grad" if target.is_leaf else "a tensor that is on the tape"
        raise _core.FastgdError(
            f"{name}: cannot write in place into {what}; do it under fastgd.no_grad() or on .detach()/.data"
        )
    if target._copy_of is not None:
        raise _core.FastgdError(
            f"{name}: this tensor is {target._copy_of}, which is a copy in fastgd (a view in torch): "
            "writing into it would not change the original; assign to the original or .clone() first"
        )
    if target.storage is not None and target.storage.readonly:
        raise _core.ShapeError(f"{name}: the tensor borrows read-only memory; .clone() it first")


def build_eager(op: Op, avals: tuple, attrs: tuple) -> Any:
    """Compiles one operation on fixed shapes as a program of its own."""
    trace = Trace()
    inputs = tuple(trace.add_input(a) for a in avals)
    previous = _core.set_trace(trace)
    try:
        with no_tape():
            result = trace.record(op, inputs, attrs)
    finally:
        _core.set_trace(previous)
    outputs = result if isinstance(result, tuple) else (result,)
    trace.program.outputs = [trace.value_of(t) for t in outputs]
    return lower_eager(trace.program)


class no_tape:
    """As no_grad, for internal use: nothing inside goes on the tape."""

    def __enter__(self) -> None:
        self.previous = _core.set_grad_enabled_state(False)

    def __exit__(self, *exc: object) -> None:
        _core.set_grad_enabled_state(self.previous)
