"""What transformers are made of, beside PyTorch's with the same weights: values and gradients.

Skipped where PyTorch is not installed; it is never needed."""

import inspect

import numpy as np
import pytest

import fastgd as gd
import fastgd.nn.functional as F
from fastgd import nn

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
TF = torch.nn.functional

TOLERANCE = {"float64": 1e-12, "float32": 2e-5}


def both(shape, dtype, seed):
    """The same leaf here and there."""
    a = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    return gd.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)


def assert_same(ours, theirs, dtype):
    ours, theirs = np.asarray(ours.detach()), theirs.detach().numpy()
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    scale = 1 + np.max(np.abs(theirs), initial=0)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[dtype] * scale)


def assert_same_run(ours, theirs, pairs, dtype, seed=9):
    """Values, and the gradients of one random projection."""
    assert_same(ours, theirs, dtype)
    g = np.random.default_rng(seed).normal(size=ours.shape).astype(dtype)
    ours.backward(gd.tensor(g))
    theirs.backward(torch.tensor(g))
    for a, b in pairs:
        assert_same(a.grad, b.grad, dtype)


dtypes = pytest.mark.parametrize("dtype", ["float64", "float32"])


@dtypes
@pytest.mark.parametrize("padding_idx", [None, 2, -1])
def test_embedding(dtype, padding_idx):
    w, tw = both((7, 5), dtype, 0)
    index = np.random.default_rng(1).integers(0, 7, (4, 9))
    ours = F.embedding(gd.tensor(index), w, padding_idx)
    theirs = TF.embedding(torch.tensor(index), tw, padding_idx)
    assert_same_run(ours, theirs, [(w, tw)], dtype)


@dtypes
@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 6), (6,), (300, 6)], ids=str)
@pytest.mark.parametrize("kind", ["LayerNorm", "LayerNorm no bias", "LayerNorm plain", "RMSNorm", "RMSNorm plain"])
def test_normalisation(dtype, shape, kind):
    name, _, option = kind.partition(" ")
    options = {"no bias": {"bias": False}, "plain": {"elementwise_affine": False}}.get(option, {})
    theirs = getattr(torch.nn, name)(6, dtype=getattr(torch, dtype), **options)
    with torch.no_grad():
        for i, p in enumerate(theirs.parameters()):
            p += torch.tensor(np.random.default_rng(i).normal(size=6))
    ours = getattr(nn, name)(6, dtype=dtype, **options)
    ours.load_state_dict(theirs.state_dict())
    x, tx = both(shape, dtype, 2)
    pairs = [(x, tx), *zip(ours.parameters(), theirs.parameters(), strict=True)]
    assert_same_run(ours(x), theirs(tx), pairs, dtype)


@pytest.mark.parametrize("p", [1, 2, 2.5, np.inf])
def test_normalize(p):
    x, tx = both((3, 4, 5), "float64", 3)
    assert_same_run(F.normalize(x, p, 1), TF.normalize(tx, p, 1), [(x, tx)], "float64")


@pytest.mark.parametrize(
    "path",
    [
        "nn.Embedding", "nn.Embedding.from_pretrained", "nn.LayerNorm", "nn.RMSNorm", "nn.functional.embedding",
        "nn.functional.layer_norm", "nn.functional.rms_norm", "nn.functional.normalize",
    ],
)  # fmt: skip
def test_arguments_and_defaults_are_those_of_torch(path):
    """Every argument of torch's is there, in the same place, with the same default."""

    def arguments(library):
        found = library
        for part in path.split("."):
            found = getattr(found, part)
        return [(a.name, a.default, a.kind) for a in inspect.signature(found).parameters.values()]

    assert arguments(gd) == arguments(torch)


@pytest.mark.parametrize(
    "make",
    [
        lambda nn: nn.Embedding(5, 3, padding_idx=-1),
        lambda nn: nn.LayerNorm((2, 3), bias=False),
        lambda nn: nn.RMSNorm(4, eps=1e-3),
    ],
)
def test_layers_are_printed_alike(make):
    assert repr(make(nn)) == repr(make(torch.nn))
