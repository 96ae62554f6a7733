"""Models written with PyTorch's names, for PyTorch and for fastgd alike: `nn` is either one's."""


def mlp(nn, model):
    """The network of workloads.MLP; gives logits."""
    modules = []
    for _, inputs, outputs in model.layers:
        modules += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*modules[:-1])
