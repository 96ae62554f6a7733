"""Layers that transformers are made of: embeddings, normalisation."""

import numpy as np
import pytest

import fastgd as gd
import fastgd.nn.functional as F
from fastgd import nn


def test_embedding_starts_normal_and_its_padding_row_starts_at_zero():
    gd.manual_seed(0)
    layer = nn.Embedding(400, 16, padding_idx=-2)
    w = np.asarray(layer.weight)
    assert layer.padding_idx == 398 and (w[398] == 0).all()
    assert abs(w.mean()) < 0.05 and abs(w.std() - 1) < 0.05
    assert repr(layer) == "Embedding(400, 16, padding_idx=398)"
    layer(gd.tensor([[398, 1]])).sum().backward()
    assert (np.asarray(layer.weight.grad)[398] == 0).all() and (np.asarray(layer.weight.grad)[1] == 1).all()


def test_embedding_from_pretrained_is_frozen_unless_asked_for():
    table = np.arange(6.0, dtype=np.float32).reshape(3, 2)
    layer = nn.Embedding.from_pretrained(table)
    assert not layer.weight.requires_grad and layer.num_embeddings == 3 and layer.embedding_dim == 2
    np.testing.assert_array_equal(np.asarray(layer(gd.tensor([2, 0]))), table[[2, 0]])
    assert nn.Embedding.from_pretrained(table, freeze=False, padding_idx=1).weight.requires_grad
    assert not nn.Embedding(3, 2, _freeze=True).weight.requires_grad
    with pytest.raises(ValueError, match=r"expected embeddings of 2 dims, got shape \(2,\)"):
        nn.Embedding.from_pretrained(table[0])


def test_an_index_out_of_range_in_a_compiled_step_changes_nothing():
    layer = nn.Embedding(4, 3)
    optimizer = gd.optim.SGD(layer.parameters(), lr=0.1)

    @gd.compile
    def step(i):
        loss = F.embedding(i, layer.weight).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    before = np.array(layer.weight.detach())
    with pytest.raises(IndexError, match="embedding: index 4 at position 3 is out of range, expected 0 <= index < 4"):
        step(gd.tensor([[0, 1], [2, 4]]))
    np.testing.assert_array_equal(np.asarray(layer.weight), before)
    step(gd.tensor([[0, 1], [2, 2]]))
    np.testing.assert_allclose(np.asarray(layer.weight), before - 0.1 * np.array([[1], [1], [2], [0]]), rtol=1e-6)


def test_normalisation_layers():
    layer = nn.LayerNorm((3, 4))
    assert repr(layer) == "LayerNorm((3, 4), eps=1e-05, elementwise_affine=True, bias=True)"
    assert list(layer.state_dict()) == ["weight", "bias"] and layer.weight.shape == (3, 4)
    assert list(nn.LayerNorm(4, bias=False).state_dict()) == ["weight"]
    assert list(nn.LayerNorm(4, elementwise_affine=False).state_dict()) == []
    assert repr(nn.RMSNorm(4)) == "RMSNorm((4,), eps=None, elementwise_affine=True)"
    assert list(nn.RMSNorm(4).state_dict()) == ["weight"]
    x = gd.tensor(np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32))
    y = np.asarray(layer(x).detach())
    np.testing.assert_allclose(y.mean((1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(y.std((1, 2)), 1, atol=1e-4)
    y = np.asarray(nn.RMSNorm(4, elementwise_affine=False)(x))
    np.testing.assert_allclose((y**2).mean(-1), 1, atol=1e-5)
