"""Cases of recurrent layers; the references walk through the steps in NumPy."""
# ruff: noqa: E501 - tables are read by rows

import numpy as np
from scipy.special import expit

import fastgd as gd
from fastgd.ops import functional as F

from . import case, normal, refuses

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}


def step(name, x, h, c, w_ih, w_hh, b_ih, b_hh):
    u, a = x @ w_ih.T + b_ih, h @ w_hh.T + b_hh
    if name == "rnn_tanh":
        return np.tanh(u + a), c
    if name == "rnn_relu":
        return np.maximum(u + a, 0), c
    if name == "lstm":
        i, f, g, o = np.split(u + a, 4, -1)
        c = expit(f) * c + expit(i) * np.tanh(g)
        return expit(o) * np.tanh(c), c
    (ur, uz, un), (ar, az, an) = np.split(u, 3, -1), np.split(a, 3, -1)
    r, z = expit(ur + ar), expit(uz + az)
    n = np.tanh(un + r * an)
    return (1 - z) * n + z * h, c


def reference(name, layers, directions, bias, batch_first):
    def run(x, *rest):
        states, weights = list(rest[: 2 if name == "lstm" else 1]), list(rest[2 if name == "lstm" else 1 :])
        if batch_first:
            x = np.swapaxes(x, 0, 1)
        hs, cs = [], []
        for layer in range(layers):
            ys = []
            for direction in range(directions):
                at = layer * directions + direction
                w = [weights.pop(0) for _ in range(4 if bias else 2)]
                w += [0.0, 0.0] * (not bias)
                h, c = states[0][at], states[-1][at]
                out = [None] * len(x)
                for t in range(len(x))[:: -1 if direction else 1]:
                    h, c = step(name, x[t], h, c, *w)
                    out[t] = h
                ys.append(np.stack(out))
                hs.append(h)
                cs.append(c)
            x = np.concatenate(ys, -1)
        y = np.swapaxes(x, 0, 1) if batch_first else x
        return (y, np.stack(hs), np.stack(cs)) if name == "lstm" else (y, np.stack(hs))

    return run


def ours(name, layers, directions, bias, batch_first):
    n = 2 if name == "lstm" else 1

    def run(x, *rest):
        hx = rest[:n] if n == 2 else rest[0]
        return getattr(F, name)(x, hx, rest[n:], bias, layers, 0.0, True, directions == 2, batch_first)

    return run


def sequence(name, steps, batch, features, hidden, layers=1, directions=1, bias=True, batch_first=False, **options):
    rows = GATES[name] * hidden
    inputs = [normal(batch, steps, features) if batch_first else normal(steps, batch, features)]
    inputs += [normal(layers * directions, batch, hidden)] * (2 if name == "lstm" else 1)
    for layer in range(layers):
        for _ in range(directions):
            wide = features if layer == 0 else directions * hidden
            inputs += [scaled(rows, wide), scaled(rows, hidden)] + [normal(rows)] * (2 * bias)
    form = (layers, directions, bias, batch_first)
    case(
        name,
        reference(name, *form),
        *inputs,
        function=ours(name, *form),
        text=f"{(steps, batch, features, hidden, *form)}",
        **options,
    )


def scaled(*shape):
    return lambda rng: rng.normal(size=shape) / np.sqrt(shape[-1] + 1)


for _name in GATES:
    sequence(_name, 4, 3, 5, 7)
    sequence(_name, 1, 1, 1, 1, bias=False)
    sequence(_name, 3, 9, 2, 17, layers=2, directions=2, batch_first=True)
    sequence(_name, 3, 33, 4, 18, directions=2, bias=False)
    sequence(_name, 2, 0, 3, 4)
sequence("lstm", 5, 40, 13, 33, layers=2, big=True, f32=4)
sequence("gru", 4, 19, 13, 300, batch_first=True, big=True, f32=8)

for _name, _n in (("rnn_tanh", 1), ("rnn_relu", 1), ("lstm", 2), ("gru", 1)):
    for _batch in ((6,), ()):
        _rows = GATES[_name] * 5
        _inputs = [
            normal(*_batch, 3),
            *[normal(*_batch, 5)] * _n,
            normal(_rows, 3),
            normal(_rows, 5),
            normal(_rows),
            normal(_rows),
        ]

        def _ours(x, *rest, name=_name, n=_n):
            return getattr(F, f"{name}_cell")(x, rest[0] if n == 1 else rest[:2], *rest[n:])

        def _reference(x, *rest, name=_name, n=_n):
            h, c = step(name, x, rest[0], rest[n - 1], *rest[n:])
            return (h, c) if n == 2 else h

        case(f"{_name}_cell", _reference, *_inputs, function=_ours, text=f"{_batch}")


def _call(name, x=(4, 2, 3), h=(1, 2, 5), w=((15, 3), (15, 5), (15,), (15,)), **other):
    options = {"has_biases": True, "num_layers": 1, "dropout": 0.0, "train": True, "bidirectional": False} | other
    return lambda: getattr(F, name)(gd.zeros(x), gd.zeros(h), [gd.zeros(s) for s in w], *options.values())


refuses("gru", ValueError, "gru: expected an input of 3 dims, got shape (4, 3)", _call("gru", x=(4, 3)))
refuses("gru", ValueError, "gru: expected h_0 of shape (1, 2, 5), got (2, 5)", _call("gru", h=(2, 5)))
refuses(
    "gru",
    ValueError,
    "gru: expected a sequence of at least 1 step, got an input of shape (0, 2, 3)",
    _call("gru", x=(0, 2, 3)),
)
refuses("gru", ValueError, "gru: expected 0 <= dropout <= 1, got 2", _call("gru", dropout=2))
refuses(
    "gru",
    ValueError,
    "gru: expected weights of shapes [(15, 4), (15, 5), (15,), (15,)] for an input of shape (4, 2, 4), got [(15, 3), (15, 5), (15,), (15,)]",
    _call("gru", x=(4, 2, 4)),
)
refuses(
    "gru",
    ValueError,
    "gru: expected 8 weights (4 for each of 2 layers and 1 directions), got 4",
    _call("gru", num_layers=2),
)
refuses(
    "gru",
    TypeError,
    "gru: expected h_0 of dtype fastgd.float32, got fastgd.float64",
    lambda: F.gru(
        gd.zeros(4, 2, 3),
        gd.zeros(1, 2, 5, dtype="float64"),
        [gd.zeros(15, 3), gd.zeros(15, 5)],
        False,
        1,
        0.0,
        True,
        False,
    ),
)
refuses(
    "lstm",
    TypeError,
    "lstm: expected hx = (h_0, c_0), two tensors, got Tensor",
    _call("lstm", w=((20, 3), (20, 5), (20,), (20,))),
)
refuses(
    "rnn_tanh",
    ValueError,
    "rnn_tanh: expected h_0 of shape (1, 2, 5), got (1, 3, 5)",
    _call("rnn_tanh", h=(1, 3, 5), w=((5, 3), (5, 5), (5,), (5,))),
)
refuses(
    "rnn_relu",
    ValueError,
    "rnn_relu: expected h_0 of shape (1, 2, 5), got (1, 3, 5)",
    _call("rnn_relu", h=(1, 3, 5), w=((5, 3), (5, 5), (5,), (5,))),
)
refuses(
    "lstm_cell",
    TypeError,
    "lstm_cell: expected hx = (h, c), two tensors, got Tensor",
    lambda: F.lstm_cell(gd.zeros(2, 3), gd.zeros(2, 5), gd.zeros(20, 3), gd.zeros(20, 5)),
)
refuses(
    "gru_cell",
    ValueError,
    "gru: expected hx of shape (2, 5), got (3, 5)",
    lambda: F.gru_cell(gd.zeros(2, 3), gd.zeros(3, 5), gd.zeros(15, 3), gd.zeros(15, 5)),
)
refuses(
    "rnn_tanh_cell",
    ValueError,
    "rnn_tanh: expected both b_ih and b_hh, or neither",
    lambda: F.rnn_tanh_cell(gd.zeros(2, 3), gd.zeros(2, 5), gd.zeros(5, 3), gd.zeros(5, 5), gd.zeros(5)),
)
refuses(
    "rnn_relu_cell",
    ValueError,
    "rnn_relu: expected an input of 1 or 2 dims, got shape (1, 2, 3)",
    lambda: F.rnn_relu_cell(gd.zeros(1, 2, 3), gd.zeros(2, 5), gd.zeros(5, 3), gd.zeros(5, 5)),
)
