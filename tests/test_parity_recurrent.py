"""Recurrent layers against PyTorch's with the same weights: values, gradients, state dictionaries."""

import itertools

import numpy as np
import pytest

import fastgd as gd
from fastgd import nn

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")

KINDS = ("RNN", "LSTM", "GRU")
FORMS = [
    {"num_layers": layers, "bidirectional": both, "batch_first": first, "bias": bias}
    for layers, both, first, bias in itertools.product((1, 3), (False, True), (False, True), (False, True))
]


def pair(kind, *sizes, **options):
    theirs = getattr(torch.nn, kind)(*sizes, **options, dtype=torch.float64)
    mine = getattr(nn, kind)(*sizes, **options, dtype="float64")
    mine.load_state_dict(theirs.state_dict())
    assert list(mine.state_dict()) == list(theirs.state_dict())
    return theirs, mine


def flat(result):
    if isinstance(result, (tuple, list)):
        return [t for part in result for t in flat(part)]
    return [result]


def compare(theirs, mine, x, *states):
    """Values of all results, and gradients of a random projection."""

    def run(module, make, to_array):
        args = [make(x), *[tuple(map(make, s)) if isinstance(s, tuple) else make(s) for s in states]]
        leaves = flat(args)
        for t in leaves:
            t.requires_grad_()
        outputs = flat(module(*args))
        rng = np.random.default_rng(7)
        sum((o * make(rng.normal(size=tuple(o.shape)))).sum() for o in outputs).backward()
        return [to_array(t) for t in outputs], [to_array(t.grad) for t in (*leaves, *module.parameters())]

    a = run(theirs, torch.from_numpy, lambda t: t.detach().numpy())
    b = run(mine, gd.tensor, lambda t: np.asarray(t.detach()))
    for x, y in zip(a[0] + a[1], b[0] + b[1], strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("form", FORMS, ids=lambda f: "-".join(str(int(v)) for v in f.values()))
@pytest.mark.parametrize("kind", [*KINDS, "RNN relu"])
def test_layers(kind, form):
    rng = np.random.default_rng(0)
    kind, _, relu = kind.partition(" ")
    form = form | ({"nonlinearity": "relu"} if relu else {})
    theirs, mine = pair(kind, 5, 6, **form)
    x = rng.normal(size=(4, 3, 5))
    batch = 4 if form["batch_first"] else 3
    h, c = rng.normal(size=(2, form["num_layers"] * (1 + form["bidirectional"]), batch, 6))
    compare(theirs, mine, x)
    compare(theirs, mine, x, (h, c) if kind == "LSTM" else h)


@pytest.mark.parametrize("kind", KINDS)
def test_unbatched_input(kind):
    rng = np.random.default_rng(0)
    theirs, mine = pair(kind, 5, 6, num_layers=2)
    h, c = rng.normal(size=(2, 2, 6))
    compare(theirs, mine, rng.normal(size=(4, 5)), (h, c) if kind == "LSTM" else h)


@pytest.mark.parametrize("kind", [f"{k}Cell" for k in KINDS])
@pytest.mark.parametrize("batch", [(3,), ()])
def test_cells(kind, batch):
    rng = np.random.default_rng(0)
    theirs, mine = pair(kind, 5, 6)
    h, c = rng.normal(size=(2, *batch, 6))
    compare(theirs, mine, rng.normal(size=(*batch, 5)))
    compare(theirs, mine, rng.normal(size=(*batch, 5)), (h, c) if kind == "LSTMCell" else h)


def test_the_functions_have_the_arguments_of_torch():
    rng = np.random.default_rng(0)
    x, h, c = rng.normal(size=(4, 3, 5)), rng.normal(size=(1, 3, 6)), rng.normal(size=(1, 3, 6))
    for name, gates in (("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1)):
        rows = gates * 6
        weights = [rng.normal(size=s) for s in ((rows, 5), (rows, 6), (rows,), (rows,))]

        def call(library, make, name=name, weights=weights):
            hx = (make(h), make(c)) if name == "lstm" else make(h)
            return getattr(library, name)(make(x), hx, list(map(make, weights)), True, 1, 0.0, False, False, False)

        for a, b in zip(call(torch, torch.from_numpy), call(gd, gd.tensor), strict=True):
            np.testing.assert_allclose(np.asarray(b), a.numpy(), rtol=1e-12, atol=1e-14)
