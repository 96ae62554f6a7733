"""Random networks drawn from the table of operations: eager, compiled and rematerialized they give the same bits.

Each layer is a differentiable case of tests/cases, whatever family it is of: what comes out of one is cut or repeated
to the shape that the next one wants, its other operands are parameters.
"""

import math

import numpy as np
import pytest
from cases import CASES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastgd as gd
from fastgd import optim
from fastgd.ops import functional as F

LAYERS = [
    c
    for c in CASES
    if c.differentiable
    and not (c.big or c.eager_only)
    and all(a.size for a in c.arrays())
    and c.arrays()[0].dtype.kind == "f"
]
SIZE = 4000  # elements of a layer's operands, at most
LAYERS = [c for c in LAYERS if sum(a.size for a in c.arrays()) <= SIZE]


def fitted(x, shape):
    """The elements of x in another shape, as often as it takes; in (0.2, 2.2), where every operation is defined."""
    n = math.prod(shape)
    flat = F.reshape(x, (-1,))
    times = -(-n // flat.shape[0])
    if times > 1:
        flat = F.cat([flat] * times)
    return F.sigmoid(F.reshape(flat[:n], shape)) * 2 + 0.2


class Network:
    def __init__(self, layers, dropout_at, seed):
        rng = np.random.default_rng(seed)
        self.layers = [LAYERS[i] for i in layers]
        self.dropout_at = dropout_at
        self.input = gd.tensor(rng.normal(size=(5, 7)).astype(np.float32))
        self.operands = []
        for layer in self.layers:
            arrays = layer.arrays("float32")[1:]
            self.operands.append([gd.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays])
        self.shapes = [layer.arrays()[0].shape for layer in self.layers]
        self.first = gd.tensor(rng.normal(size=(7, 6)).astype(np.float32), requires_grad=True)

    @property
    def parameters(self):
        return [self.first, *[t for ts in self.operands for t in ts if t.requires_grad]]

    def layer(self, i, x):
        outputs = self.layers[i].function(fitted(x, self.shapes[i]), *self.operands[i])
        outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        floats = [F.reshape(t, (-1,)) for t in outputs if t.requires_grad]
        y = F.cat(floats) if len(floats) > 1 else floats[0]
        if not y.numel():  # nothing to go on with
            return x
        return F.dropout(F.tanh(y), 0.2) if i == self.dropout_at else F.tanh(y)

    def loss(self, wrap=lambda f: f):
        x = self.input @ self.first
        kept = []
        for i in range(len(self.layers)):
            x = wrap(lambda x, i=i: self.layer(i, x))(x)
            kept.append(F.mean(x * x))
        return sum(kept[1:], kept[0])

    def run(self, compiled=False, wrap=lambda f: f):
        """Loss and gradients of two runs."""

        def step():
            loss = self.loss(wrap)
            loss.backward()
            return loss.detach()

        if compiled:
            step = gd.compile(step)
        found = []
        gd.manual_seed(3)
        for _ in range(2):
            for p in self.parameters:
                p.grad = None
            found.append(np.array(step()))
            found += [np.zeros(p.shape) if p.grad is None else np.array(p.grad) for p in self.parameters]
        return found


def assert_same(a, b, what):
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        same = x.tobytes() == y.tobytes() or np.array_equal(x, y, equal_nan=True)
        assert same, f"{what}: result {i} differs by {np.nanmax(np.abs(x - y))}"


NETWORK = st.tuples(
    st.lists(st.integers(0, len(LAYERS) - 1), min_size=1, max_size=5), st.integers(-1, 4), st.integers(0, 100)
)


def check(description):
    network = Network(*description)
    names = [repr(layer) for layer in network.layers]
    eager = network.run()
    assert_same(eager, network.run(compiled=True), f"{names} compiled")
    assert_same(eager, network.run(wrap=gd.remat), f"{names} rematerialized")
    assert_same(eager, network.run(compiled=True, wrap=gd.remat), f"{names} rematerialized and compiled")


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(NETWORK)
def test_networks(description):
    check(description)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(NETWORK)
def test_200_networks(description):
    check(description)


@pytest.mark.slow
def test_each_layer_once():
    for i in range(len(LAYERS)):
        check(((i, 0), -1, 0))


def test_a_network_trains_compiled():
    network = Network([next(i for i, c in enumerate(LAYERS) if c.name == "linear")], -1, 0)
    optimizer = optim.SGD(network.parameters, lr=0.1)

    @gd.compile
    def step():
        loss = network.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    losses = [step().item() for _ in range(20)]
    assert losses[-1] < losses[0]
