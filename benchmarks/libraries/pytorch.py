"""PyTorch at its best on a CPU: fused optimizer, denormals flushed, gradients set to None; `torch.compile`
covers forward, loss and backward."""

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import workloads
from benchmarks.libraries import torch_models

VERSION = torch.__version__


def setup(threads):
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def mlp(workload, arrays, variant):
    return train(workload, arrays, variant, torch_models.mlp(nn, workload.model), F.cross_entropy)


def cnn(workload, arrays, variant):
    return images(workload, arrays, variant, torch_models.cnn(nn, workload.model))


def resnet(workload, arrays, variant):
    return images(workload, arrays, variant, torch_models.resnet(nn, workload.model))


def images(workload, arrays, variant, model):
    """Convolutions are fastest channels last."""
    model = model.to(memory_format=torch.channels_last)
    return train(workload, arrays, variant, model, F.cross_entropy, torch.channels_last)


def make_optimizer(o, parameters):
    if isinstance(o, workloads.SGD):
        return torch.optim.SGD(parameters, lr=o.lr, momentum=o.momentum, weight_decay=o.weight_decay, fused=True)
    return torch.optim.AdamW(parameters, lr=o.lr, betas=o.betas, eps=o.eps, weight_decay=o.weight_decay, fused=True)


def train(workload, arrays, variant, model, loss_function, memory_format=torch.contiguous_format):
    model.load_state_dict({name: torch.from_numpy(value) for name, value in workloads.params(arrays).items()})
    batches = [tuple(map(torch.from_numpy, batch)) for batch in workloads.batches(arrays)]
    batches = [(x.contiguous(memory_format=memory_format), y) for x, y in batches]
    optimizer = make_optimizer(workload.optimizer, model.parameters())

    def forward(x, y):
        return loss_function(model(x), y)

    if variant == "compile":
        forward = torch.compile(forward)
    feed = itertools.cycle(batches)

    def run(count):
        for x, y in itertools.islice(feed, count):
            loss = forward(x, y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return run


def matmul(workload, arrays, variant):
    a, b = torch.from_numpy(arrays["a"]), torch.from_numpy(arrays["b"])
    c = torch.empty(workload.m, workload.n)

    def run(count):
        for _ in range(count):
            torch.mm(a, b, out=c)
        return c[-1, -1].item()

    return run


BUILDERS = {"mlp": mlp, "cnn": cnn, "resnet": resnet, "matmul": matmul}
