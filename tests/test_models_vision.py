"""CNN and ResNet learn the embedded digits to a stated accuracy, compiled and eager alike."""

import numpy as np
import pytest

import fastgd as gd
import fastgd.nn.functional as F
from fastgd import data, models, optim, schedules


def images(split):
    return split.x.reshape(-1, 1, 8, 8), split.y


def train(model, optimizer, epochs, batch=64):
    x, y = images(data.load_digits().train)
    rng = np.random.default_rng(0)

    @gd.compile
    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    for _ in range(epochs):
        order = rng.permutation(len(x))
        for at in range(0, len(x) - batch + 1, batch):
            step(gd.tensor(x[order[at : at + batch]]), gd.tensor(y[order[at : at + batch]]))


def accuracy(model):
    x, y = images(data.load_digits().test)
    model.eval()
    with gd.no_grad():
        return float((np.asarray(model(gd.tensor(x))).argmax(1) == y).mean())


def test_cnn_learns_the_digits():
    gd.manual_seed(0)
    model = models.CNN(8, 10, channels=(16, 32), hidden=64)
    train(model, optim.AdamW(model.parameters(), lr=3e-3), epochs=10)
    assert accuracy(model) >= 0.97


def test_resnet_learns_the_digits():
    gd.manual_seed(0)
    model = models.ResNet(10, depth=8, width=8, in_channels=1)
    lr = schedules.warmup_cosine(0.2, 20, 8 * 22)
    train(model, optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4), epochs=8)
    assert accuracy(model) >= 0.97


def test_shapes_and_parameters():
    model = models.ResNet(10)
    assert model(gd.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert sum(p.numel() for p in model.parameters()) == 272_474
    assert models.ResNet(3, 14, 4, 1)(gd.zeros(1, 1, 9, 7)).shape == (1, 3)
    model = models.CNN(28, 10)
    assert model(gd.zeros(2, 1, 28, 28)).shape == model(gd.zeros(2, 784)).shape == (2, 10)
    assert sum(p.numel() for p in model.parameters()) == 1_199_882
    assert models.CNN(8, 10, dropout=0.5).layers[5].p == 0.5


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="ResNet: expected depth 6 n \\+ 2 \\(8, 14, 20, ...\\), got 18"):
        models.ResNet(10, 18)
    with pytest.raises(ValueError, match="CNN: images of 5 x 5 are too small for 2 convolutions and a pooling"):
        models.CNN(5, 10)
