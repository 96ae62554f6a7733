"""fastgd: the whole step compiled, or eager; batches are NumPy arrays."""

import itertools

import fastgd as gd
import fastgd.nn.functional as F
from benchmarks import workloads
from benchmarks.libraries import torch_models
from fastgd import nn, optim

VERSION = gd.__version__


def setup(threads):
    gd.set_num_threads(threads)


def mlp(workload, arrays, variant):
    return train(workload, arrays, variant, torch_models.mlp(nn, workload.model), F.cross_entropy)


def cnn(workload, arrays, variant):
    return train(workload, arrays, variant, torch_models.cnn(nn, workload.model), F.cross_entropy)


def resnet(workload, arrays, variant):
    return train(workload, arrays, variant, torch_models.resnet(nn, workload.model), F.cross_entropy)


def make_optimizer(o, parameters):
    if isinstance(o, workloads.SGD):
        return optim.SGD(parameters, lr=o.lr, momentum=o.momentum, weight_decay=o.weight_decay)
    return optim.AdamW(parameters, lr=o.lr, betas=o.betas, eps=o.eps, weight_decay=o.weight_decay)


def train(workload, arrays, variant, model, loss_function):
    model.load_state_dict(workloads.params(arrays))
    optimizer = make_optimizer(workload.optimizer, model.parameters())

    def step(x, y):
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    if variant == "compile":
        step = gd.compile(step)
    feed = itertools.cycle([tuple(map(gd.from_numpy, batch)) for batch in workloads.batches(arrays)])

    def run(count):
        for x, y in itertools.islice(feed, count):
            loss = step(x, y)
        return loss.item()

    return run


def matmul(workload, arrays, variant):
    a, b = gd.from_numpy(arrays["a"]), gd.from_numpy(arrays["b"])

    def run(count):
        for _ in range(count):
            c = gd.matmul(a, b)
        return c[-1, -1].item()

    return run


BUILDERS = {"mlp": mlp, "cnn": cnn, "resnet": resnet, "matmul": matmul}
