"""Recurrent layers and cells: names, weights and defaults of ``torch.nn``."""

from __future__ import annotations

import math
from typing import Any

from .. import ops
from .._core import DtypeError, NotOffered, ShapeError
from ..tensor import Tensor
from . import init
from .module import Module
from .parameter import Parameter, new_parameter

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


def _uniform(module: Module, hidden_size: int) -> None:
    """All weights and biases uniform in ±1/sqrt(hidden_size)."""
    bound = 1 / math.sqrt(hidden_size)
    for p in module.parameters():
        init.uniform_(p, -bound, bound)


def _check_size(kind: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if type(size) is not int or size < 1:
            raise ShapeError(f"{kind}: expected {name} to be a whole number of at least 1, got {size!r}")


class _Recurrent(Module):
    """What RNN, LSTM and GRU share.

    Attributes
    ----------
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0 : Parameter
        (gates * hidden_size, features), (gates * hidden_size, hidden_size) and (gates * hidden_size,) of layer 0;
        further layers count on, the backward direction has ``_reverse`` behind the name.
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        _check_size(kind, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if not 0 <= dropout <= 1:
            raise ShapeError(f"{kind}: expected 0 <= dropout <= 1, got {dropout}")
        if proj_size:
            raise NotOffered(f"{kind}: projections (proj_size={proj_size}) are not offered")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = 0
        directions = 2 if bidirectional else 1
        rows = self.gates * hidden_size
        self._weight_names: list[list[str]] = []
        for layer in range(num_layers):
            features = input_size if layer == 0 else directions * hidden_size
            for direction in range(directions):
                suffix = f"_l{layer}" + "_reverse" * direction
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, features), "weight_hh": (rows, hidden_size)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                for name, shape in shapes.items():
                    self.register_parameter(name + suffix, new_parameter(shape, device, dtype))
                self._weight_names.append([name + suffix for name in shapes])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases anew from the global generator."""
        _uniform(self, self.hidden_size)

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The weights of each layer and direction, in the order of the operation."""
        return [[getattr(self, name) for name in names] for names in self._weight_names]

    def flatten_parameters(self) -> None:
        """Accepted for scripts that call it: there is nothing to rearrange."""

    def _run(self, function: Any, input: Tensor, hx: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(y, final states); unbatched input and states get a batch dim and lose it again."""
        kind = type(self).__name__
        if not isinstance(input, Tensor):
            raise NotOffered(
                f"{kind}: expected a Tensor, got {type(input).__name__}; packed sequences are not offered: pad, and "
                "mask what comes out"
            )
        if input.ndim not in (2, 3):
            raise ShapeError(f"{kind}: expected an input of 2 (unbatched) or 3 dims, got shape {input.shape}")
        if input.shape[-1] != self.input_size:
            raise ShapeError(f"{kind}: expected an input of {self.input_size} features, got shape {input.shape}")
        batched = input.ndim == 3
        at = 0 if self.batch_first else 1
        x = input if batched else input.unsqueeze(at)
        count = 2 if isinstance(self, LSTM) else 1
        if hx is None:
            shape = (self.num_layers * (2 if self.bidirectional else 1), x.shape[at], self.hidden_size)
            states = (ops.zeros(shape, dtype=x.dtype),) * count
        else:
            states = tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
            if len(states) != count or not all(isinstance(s, Tensor) for s in states):
                expected = "(h_0, c_0)" if count == 2 else "h_0"
                raise DtypeError(f"{kind}: expected hx = {expected}, got {type(hx).__name__}")
            if not batched:
                states = tuple(s.unsqueeze(1) for s in states)
        weights = [p for group in self.all_weights for p in group]
        y, *finals = function(
            x,
            states if count == 2 else states[0],
            weights,
            self.bias,
            self.num_layers,
            self.dropout,
            self.training,
            self.bidirectional,
            self.batch_first,
        )
        return (y, tuple(finals)) if batched else (y.squeeze(at), tuple(s.squeeze(1) for s in finals))

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        return text + "".join(f", {k}={getattr(self, k)}" for k, v in defaults.items() if getattr(self, k) != v)


class RNN(_Recurrent):
    """Elman network: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), in several layers and directions.

    Parameters
    ----------
    input_size, hidden_size : int
    num_layers : int, default 1
    nonlinearity : {"tanh", "relu"}, default "tanh"
    bias : bool, default True
    batch_first : bool, default False
        Sequences are (batch, steps, features); otherwise (steps, batch, features).
    dropout : float, default 0
        Between layers, in training.
    bidirectional : bool, default False

    References
    ----------
    Elman, "Finding structure in time", Cognitive Science 14, 1990.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ShapeError(f"RNN: expected nonlinearity 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device=device, dtype=dtype
        )
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(steps, batch, input_size) -> (steps, batch, directions * hidden_size), h_n"""
        y, (h,) = self._run(ops.rnn_tanh if self.nonlinearity == "tanh" else ops.rnn_relu, input, hx)
        return y, h


class LSTM(_Recurrent):
    """Long short-term memory, in several layers and directions; gates in the order i, f, g, o.

    Parameters
    ----------
    input_size, hidden_size : int
    num_layers : int, default 1
    bias : bool, default True
    batch_first : bool, default False
        Sequences are (batch, steps, features); otherwise (steps, batch, features).
    dropout : float, default 0
        Between layers, in training.
    bidirectional : bool, default False
    proj_size : int, default 0
        Only 0 is offered.

    References
    ----------
    Hochreiter & Schmidhuber, "Long short-term memory", Neural Computation 9, 1997.
    """

    gates = 4

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(steps, batch, input_size) -> (steps, batch, directions * hidden_size), (h_n, c_n)"""
        y, (h, c) = self._run(ops.lstm, input, hx)
        return y, (h, c)


class GRU(_Recurrent):
    """Gated recurrent unit, in several layers and directions; gates in the order r, z, n.

    Parameters
    ----------
    input_size, hidden_size : int
    num_layers : int, default 1
    bias : bool, default True
    batch_first : bool, default False
        Sequences are (batch, steps, features); otherwise (steps, batch, features).
    dropout : float, default 0
        Between layers, in training.
    bidirectional : bool, default False

    References
    ----------
    Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014; the reset gate acts behind
    the product, as in cuDNN and PyTorch.
    """

    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device=device, dtype=dtype
        )

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(steps, batch, input_size) -> (steps, batch, directions * hidden_size), h_n"""
        y, (h,) = self._run(ops.gru, input, hx)
        return y, h


class _Cell(Module):
    """One step of a recurrent layer."""

    gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        _check_size(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = self.gates * hidden_size
        self.weight_ih = new_parameter((rows, input_size), device, dtype)
        self.weight_hh = new_parameter((rows, hidden_size), device, dtype)
        self.register_parameter("bias_ih", new_parameter((rows,), device, dtype) if bias else None)
        self.register_parameter("bias_hh", new_parameter((rows,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases anew from the global generator."""
        _uniform(self, self.hidden_size)

    def _zeros(self, input: Tensor) -> Tensor:
        return ops.zeros((*input.shape[:-1], self.hidden_size), dtype=input.dtype)

    def _weights(self) -> tuple:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """One step of :class:`RNN`: h = tanh(W_ih x + b_ih + W_hh h' + b_hh).

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool, default True
    nonlinearity : {"tanh", "relu"}, default "tanh"
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ShapeError(f"RNNCell: expected nonlinearity 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """(batch, input_size), (batch, hidden_size) -> (batch, hidden_size); or without the batch"""
        step = ops.rnn_tanh_cell if self.nonlinearity == "tanh" else ops.rnn_relu_cell
        return step(input, self._zeros(input) if hx is None else hx, *self._weights())


class LSTMCell(_Cell):
    """One step of :class:`LSTM`.

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool, default True
    """

    gates = 4

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(batch, input_size), ((batch, hidden_size), (batch, hidden_size)) -> (h, c); or without the batch"""
        return ops.lstm_cell(input, (self._zeros(input), self._zeros(input)) if hx is None else hx, *self._weights())


class GRUCell(_Cell):
    """One step of :class:`GRU`.

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool, default True
    """

    gates = 3

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """(batch, input_size), (batch, hidden_size) -> (batch, hidden_size); or without the batch"""
        return ops.gru_cell(input, self._zeros(input) if hx is None else hx, *self._weights())
