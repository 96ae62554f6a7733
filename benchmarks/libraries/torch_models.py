"""Models written with PyTorch's names, for PyTorch and for fastgd alike: `nn` is either one's."""


def mlp(nn, model):
    """The network of workloads.MLP; gives logits."""
    modules = []
    for _, inputs, outputs in model.layers:
        modules += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def cnn(nn, model):
    """The network of workloads.CNN."""
    modules = []
    for before, after in zip(model.channels, model.channels[1:], strict=False):
        modules += [nn.Conv2d(before, after, 3), nn.ReLU()]
    modules += [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(model.features, model.hidden), nn.ReLU()]
    return nn.Sequential(*modules, nn.Linear(model.hidden, model.classes))


def resnet(nn, model):
    """The network of workloads.ResNet."""
    relu = nn.functional.relu

    class Block(nn.Module):
        def __init__(self, before, after, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
            self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
            projection = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            self.shortcut = projection if stride != 1 or before != after else nn.Identity()

        def forward(self, x):
            y = relu(self.bn1(self.conv1(x)))
            return relu(self.bn2(self.conv2(y)) + self.shortcut(x))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, model.width, 3, 1, 1, bias=False), nn.BatchNorm2d(model.width)
            stages = [[], [], []]
            for name, before, after, stride in model.blocks:
                stages[int(name.split(".")[1])].append(Block(before, after, stride))
            self.stages = nn.Sequential(*[nn.Sequential(*blocks) for blocks in stages])
            self.linear = nn.Linear(4 * model.width, model.classes)

        def forward(self, x):
            y = self.stages(relu(self.bn1(self.conv1(x))))
            return self.linear(nn.functional.adaptive_avg_pool2d(y, 1).flatten(1))

    return Network()
