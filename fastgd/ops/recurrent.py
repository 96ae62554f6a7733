"""Recurrent layers over whole sequences: tanh, ReLU, LSTM and GRU, under the names and arguments of torch.

The products that do not depend on the recurrence are ordinary ones, over all steps at once: the input's before, those
of the weight gradients behind.  The recurrence itself is one kernel each way (csrc/kernels/recurrent.c, with the
formulas and their sources).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._core import DtypeError, NotOffered, ShapeError, aval
from ..compiler.lower import Call
from ..tensor import Tensor
from .join import cat, stack
from .product import LINEAR_BWD, linear
from .random import dropout as dropout_of
from .registry import Op, apply
from .rowwise import suffix
from .shape import narrow, reshape, select, squeeze, unsqueeze

__all__ = ["gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell"]

MODES = {"rnn_tanh": 0, "rnn_relu": 1, "lstm": 2, "gru": 3}
LSTM, GRU = MODES["lstm"], MODES["gru"]
GATES = (1, 1, 4, 3)
_NAMES = tuple(MODES)


def _split(inputs: Sequence[Any], attrs: tuple) -> tuple[Any, Any, Any, Any, Any]:
    """(gx, h_0, c_0, w, b) of a recurrent operation; c_0 and b may be None."""
    mode, _, _, bias = attrs
    rest = list(inputs)
    gx, h = rest.pop(0), rest.pop(0)
    c = rest.pop(0) if mode == LSTM else None
    w = rest.pop(0)
    return gx, h, c, w, rest.pop(0) if bias else None


def _infer(avals: tuple, attrs: tuple) -> tuple:
    mode = attrs[0]
    gx, h, _, _, _ = _split(avals, attrs)
    suffix(_NAMES[mode], gx)
    hidden = h.shape[1]
    sequence = (*gx.shape[:2], hidden)
    nothing = aval(gx.dtype, (0,))
    return (
        aval(gx.dtype, sequence),
        h,
        h if mode == LSTM else nothing,
        gx if mode in (LSTM, GRU) else nothing,
        aval(gx.dtype, sequence) if mode in (LSTM, GRU) else nothing,
    )


def _fields(gx: Any, h: Any, attrs: tuple, **given: bool) -> dict[str, Any]:
    mode, batch_first, reverse, bias = attrs
    first, second = gx.aval.shape[:2]
    steps, batch = (second, first) if batch_first else (first, second)
    flags = {"has_dy": False, "has_dh": False, "has_dc": False, **given}
    return {
        "mode": mode, "steps": steps, "batch": batch, "hidden": h.aval.shape[1], "batch_first": batch_first,
        "reverse": reverse, "bias": bias, **flags,
    }  # fmt: skip


def _lower(node: Any) -> Call:
    gx, h, c, w, b = _split(node.inputs, node.attrs)
    operands = [*node.outputs, gx, h, h if c is None else c, w]
    if b is not None:
        operands.append(b)
    kernel = f"recurrent_fwd_{suffix('recurrent', gx.aval)}"
    return Call(kernel, _fields(gx, h, node.attrs), operands, list(node.outputs))


def _infer_bwd(avals: tuple, attrs: tuple) -> tuple:
    mode = attrs[0]
    y, _, _, h = avals[:4]
    dgx = aval(y.dtype, (*y.shape[:2], GATES[mode] * h.shape[1]))
    nothing = aval(y.dtype, (0,))
    return dgx, dgx if mode == GRU else nothing, h, h if mode == LSTM else nothing


def _lower_bwd(node: Any) -> Call:
    mode = node.attrs[0]
    y, gates, extra, h, *rest = node.inputs
    c = rest.pop(0) if mode == LSTM else h
    fields = _fields(y, h, node.attrs[:4], **dict(zip(("has_dy", "has_dh", "has_dc"), node.attrs[4:], strict=True)))
    operands = [*node.outputs, y, gates, extra, h, c, *rest]
    return Call(f"recurrent_bwd_{suffix('recurrent', y.aval)}", fields, operands, list(node.outputs))


RECURRENT_BWD = Op(
    "recurrent_bwd",
    _infer_bwd,
    ("mode", "batch_first", "reverse", "bias", "has_dy", "has_dh", "has_dc"),
    lower=_lower_bwd,
    text="recurrent'(dy, dh_n, dc_n)",
)


def _vjp(n: Any, gy: Tensor | None, gh: Tensor | None, gc: Tensor | None, *unused: None) -> tuple:
    _, h, c, w, _ = _split(n.inputs, n.attrs)
    y, _, _, gates, extra = n.outputs
    mode, batch_first, reverse, bias = n.attrs
    given = tuple(g is not None for g in (gy, gh, gc))
    states = (h, c) if mode == LSTM else (h,)
    grads = [g for g in (gy, gh, gc) if g is not None]
    dgx, dgh, dh, dc = apply(RECURRENT_BWD, (y, gates, extra, *states, w, *grads), (*n.attrs, *given))
    dgh = dgh if mode == GRU else dgx
    needs = _split(n.needs, n.attrs)
    dw = db = None
    if needs[3] or needs[4]:
        wanted = (False, needs[3], bool(needs[4]))[: 3 if bias else 2]
        found = apply(LINEAR_BWD, (dgh, _before(y, h, batch_first, reverse), w), wanted)
        found = list(found if isinstance(found, tuple) else (found,))
        dw = found.pop(0) if needs[3] else None
        db = found.pop(0) if needs[4] else None
    return (dgx, dh, *((dc,) if mode == LSTM else ()), dw, *((db,) if bias else ()))


def _before(y: Tensor, h: Tensor, batch_first: bool, reverse: bool) -> Tensor:
    """The state before each step."""
    dim = 1 if batch_first else 0
    steps = y.shape[dim]
    first = unsqueeze(h, dim)
    return cat((narrow(y, dim, 1, steps - 1), first) if reverse else (first, narrow(y, dim, 0, steps - 1)), dim)


RECURRENT = Op(
    "recurrent",
    _infer,
    ("mode", "batch_first", "reverse", "bias"),
    lower=_lower,
    vjp=_vjp,
    saves="i1 i2 i3 o0 o3 o4",
    text="a recurrent layer over a sequence",
)


# ---- layers ------------------------------------------------------------------------------------------


def _layer(
    name: str, x: Tensor, states: tuple[Tensor, ...], weights: Sequence[Tensor], batch_first: bool, reverse: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One direction of one layer: (y, final states)."""
    mode = MODES[name]
    w_ih, w_hh, *biases = weights
    hidden = w_hh.shape[1] if w_hh.ndim == 2 else -1
    _check_weights(name, x, w_ih, w_hh, biases, hidden)
    gx = linear(x, w_ih, biases[0] if biases else None)
    inputs = (gx, *states, w_hh, *biases[1:])
    y, h, c, _, _ = apply(RECURRENT, inputs, (mode, bool(batch_first), bool(reverse), bool(biases)))
    return y, (h, c) if mode == LSTM else (h,)


def _check_weights(name: str, x: Tensor, w_ih: Tensor, w_hh: Tensor, biases: Sequence[Tensor], hidden: int) -> None:
    rows = GATES[MODES[name]] * hidden
    wanted = [(rows, x.shape[-1]), (rows, hidden), *[(rows,)] * len(biases)]
    got = [t.shape for t in (w_ih, w_hh, *biases)]
    if hidden < 0 or got != wanted:
        raise ShapeError(f"{name}: expected weights of shapes {wanted} for an input of shape {x.shape}, got {got}")


def _whole(
    name: str,
    input: Tensor,
    hx: Any,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """All layers and directions: (y, h_n[, c_n])."""
    mode = MODES[name]
    states = tuple(hx) if mode == LSTM and isinstance(hx, (tuple, list)) else (hx,)
    if not all(isinstance(s, Tensor) for s in states) or len(states) != (2 if mode == LSTM else 1):
        expected = "hx = (h_0, c_0), two tensors" if mode == LSTM else "hx = h_0, a tensor"
        raise DtypeError(f"{name}: expected {expected}, got {type(hx).__name__}")
    if input.ndim != 3:
        raise ShapeError(f"{name}: expected an input of 3 dims, got shape {input.shape}")
    directions = 2 if bidirectional else 1
    each = 4 if has_biases else 2
    if len(params) != num_layers * directions * each:
        raise ShapeError(
            f"{name}: expected {num_layers * directions * each} weights ({each} for each of {num_layers} layers and "
            f"{directions} directions), got {len(params)}"
        )
    if not 0 <= dropout <= 1:
        raise ShapeError(f"{name}: expected 0 <= dropout <= 1, got {dropout}")
    steps, batch = (input.shape[1], input.shape[0]) if batch_first else input.shape[:2]
    if not steps:
        raise ShapeError(f"{name}: expected a sequence of at least 1 step, got an input of shape {input.shape}")
    wanted = (num_layers * directions, batch, params[1].shape[-1])
    for label, s in zip(("h_0", "c_0"), states, strict=False):
        if s.shape != wanted:
            raise ShapeError(f"{name}: expected {label} of shape {wanted}, got {s.shape}")
        if s.dtype is not input.dtype:
            raise DtypeError(f"{name}: expected {label} of dtype {input.dtype}, got {s.dtype}")
    x, finals = input, []
    for layer in range(num_layers):
        if layer and dropout and train:
            x = dropout_of(x, dropout)
        ys = []
        for direction in range(directions):
            at = layer * directions + direction
            own = tuple(select(s, 0, at) for s in states)
            y, final = _layer(name, x, own, params[at * each : (at + 1) * each], batch_first, direction == 1)
            ys.append(y)
            finals.append(final)
        x = ys[0] if directions == 1 else cat(ys, -1)
    return (x, *[stack(parts, 0) for parts in zip(*finals, strict=True)])


def _declare(name: str, what: str, result: str, source: str) -> Any:
    def function(
        input: Tensor,
        hx: Any,
        params: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool = False,
    ) -> tuple[Tensor, ...]:
        if isinstance(hx, (tuple, list)) and isinstance(params, bool):
            raise NotOffered(f"{name}: packed sequences are not offered; pad, and mask what comes out")
        return _whole(
            name, input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first
        )  # fmt: skip

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{what} over a sequence, all layers and directions; what ``nn.{what.split()[0]}`` calls.

    Parameters
    ----------
    input : Tensor, shape (steps, batch, features), or (batch, steps, features) with `batch_first`
    hx : {result}
        Initial state, of shape (num_layers * directions, batch, hidden) each.
    params : sequence of Tensor
        For each layer and direction: w_ih (gates * hidden, features), w_hh (gates * hidden, hidden) and, with
        `has_biases`, b_ih and b_hh (gates * hidden,).
    dropout : float
        Between layers, if `train`.

    Returns
    -------
    tuple
        The states of the last layer at each step, and the final state(s).

    References
    ----------
    {source}
    """
    return function


rnn_tanh = _declare("rnn_tanh", "RNN (tanh)", "Tensor", 'Elman, "Finding structure in time", 1990.')
rnn_relu = _declare("rnn_relu", "RNN (ReLU)", "Tensor", 'Elman, "Finding structure in time", 1990.')
lstm = _declare(
    "lstm", "LSTM", "pair of Tensor", 'Hochreiter & Schmidhuber, "Long short-term memory", 1997; Gers et al., 2000.'
)
gru = _declare("gru", "GRU", "Tensor", "Cho et al., 2014, with the reset gate behind the product, as cuDNN and torch.")


# ---- cells: one step ----------------------------------------------------------------------------------


def _cell(name: str, input: Tensor, states: tuple, w_ih: Tensor, w_hh: Tensor, b_ih: Any, b_hh: Any) -> tuple:
    if (b_ih is None) != (b_hh is None):
        raise ShapeError(f"{name}: expected both b_ih and b_hh, or neither")
    if input.ndim not in (1, 2):
        raise ShapeError(f"{name}: expected an input of 1 or 2 dims, got shape {input.shape}")
    batched = input.ndim == 2
    x = input if batched else unsqueeze(input, 0)
    own = tuple(s if batched or s.ndim != 1 else unsqueeze(s, 0) for s in states)
    wanted = (x.shape[0], w_hh.shape[-1])
    for label, s in zip(("hx", "cx"), own, strict=False):
        if s.shape != wanted:
            shown = wanted if batched else wanted[1:]
            raise ShapeError(f"{name}: expected {label} of shape {shown}, got {s.shape if batched else s.shape[1:]}")
    weights = (w_ih, w_hh) if b_ih is None else (w_ih, w_hh, b_ih, b_hh)
    _, final = _layer(name, reshape(x, (1, *x.shape)), own, weights, False, False)
    return final if batched else tuple(squeeze(s, 0) for s in final)


def lstm_cell(
    input: Tensor,
    hx: Any,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM: (h, c) from input (batch, features) and hx = (h, c), each (batch, hidden); see `lstm`."""
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        raise DtypeError(f"lstm_cell: expected hx = (h, c), two tensors, got {type(hx).__name__}")
    return _cell("lstm", input, tuple(hx), w_ih, w_hh, b_ih, b_hh)


def gru_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """One step of a GRU: h from input (batch, features) and hx (batch, hidden); see `gru`."""
    return _cell("gru", input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


def rnn_tanh_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """tanh(input w_ih^T + b_ih + hx w_hh^T + b_hh)."""
    return _cell("rnn_tanh", input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


def rnn_relu_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """max(input w_ih^T + b_ih + hx w_hh^T + b_hh, 0)."""
    return _cell("rnn_relu", input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]
