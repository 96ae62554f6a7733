"""What is measured, declared once for all libraries.  Needs NumPy only.

A workload names a model (or an operation), its batch and its optimizer, and makes the arrays that all
libraries share: initial parameters under their PyTorch names (`param/...`) and N_BATCHES batches
(`x/<i>`, `y/<i>`).  To add a kind of model: a dataclass with `init` and `sample` here, and a builder
of that name in each file of libraries/ that offers it.
"""

from dataclasses import dataclass, field

import numpy as np

N_BATCHES = 16  # visited in turn, so that no library can live on one batch in its cache


@dataclass(frozen=True)
class AdamW:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2


@dataclass(frozen=True)
class SGD:
    lr: float = 0.005
    momentum: float = 0.9
    weight_decay: float = 1e-4


@dataclass(frozen=True)
class MLP:
    """Linear layers with ReLU between them and cross-entropy at the end."""

    sizes: tuple[int, ...]

    @property
    def layers(self):
        """(name, inputs, outputs) of each linear layer; the name is its place in nn.Sequential."""
        return [(str(2 * i), *pair) for i, pair in enumerate(zip(self.sizes, self.sizes[1:], strict=False))]

    def init(self, rng):
        """PyTorch's default: uniform in ±1/sqrt(inputs)."""
        params = {}
        for name, inputs, outputs in self.layers:
            bound = inputs**-0.5
            params[f"{name}.weight"] = rng.uniform(-bound, bound, (outputs, inputs))
            params[f"{name}.bias"] = rng.uniform(-bound, bound, outputs)
        return params

    def sample(self, rng, batch):
        x = rng.standard_normal((batch, self.sizes[0]))
        y = rng.integers(0, self.sizes[-1], batch)
        return x, y

    def flops(self, batch):
        """Of the matrix products of one training step; the first layer needs no gradient of its input."""
        products = [2.0 * batch * inputs * outputs for _, inputs, outputs in self.layers]
        return 3 * sum(products) - products[0]


def uniform(rng, *shape):
    """PyTorch's default for a layer of this weight."""
    bound = np.prod(shape[1:]) ** -0.5
    return rng.uniform(-bound, bound, shape)


@dataclass(frozen=True)
class CNN:
    """3x3 convolutions with ReLU, 2x2 max pooling, a hidden layer: PyTorch's MNIST example without dropout."""

    size: int
    channels: tuple[int, ...] = (1, 32, 64)
    hidden: int = 128
    classes: int = 10

    @property
    def features(self):
        return self.channels[-1] * ((self.size - 2 * (len(self.channels) - 1)) // 2) ** 2

    def init(self, rng):
        convolutions = len(self.channels) - 1
        shapes = {2 * i: (b, a, 3, 3) for i, (a, b) in enumerate(zip(self.channels, self.channels[1:], strict=False))}
        shapes |= {
            2 * convolutions + 2: (self.hidden, self.features),
            2 * convolutions + 4: (self.classes, self.hidden),
        }
        params = {}
        for place, shape in shapes.items():
            params[f"{place}.weight"] = uniform(rng, *shape)
            params[f"{place}.bias"] = uniform(rng, shape[0], np.prod(shape[1:]))[:, 0]
        return params

    def sample(self, rng, batch):
        return rng.standard_normal((batch, 1, self.size, self.size)), rng.integers(0, self.classes, batch)

    def flops(self, batch):
        """Of the products of one training step; the first layer needs no gradient of its input."""
        products, size = [], self.size
        for before, after in zip(self.channels, self.channels[1:], strict=False):
            size -= 2
            products.append(2.0 * batch * 9 * before * after * size**2)
        products += [2.0 * batch * self.features * self.hidden, 2.0 * batch * self.hidden * self.classes]
        return 3 * sum(products) - products[0]


@dataclass(frozen=True)
class ResNet:
    """The residual network for CIFAR (He et al., 2016, section 4.2) with projections where the shape changes."""

    depth: int = 20
    width: int = 16
    size: int = 32
    classes: int = 10

    @property
    def blocks(self):
        """(name, channels before, channels after, stride) of each block."""
        found, before = [], self.width
        for stage in range(3):
            after = self.width * 2**stage
            for block in range((self.depth - 2) // 6):
                found.append((f"stages.{stage}.{block}", before, after, 2 if stage and not block else 1))
                before = after
        return found

    @property
    def convolutions(self):
        """(name, name of its normalisation, weight shape, rows and columns of the result)"""
        size = self.size
        found = [("conv1", "bn1", (self.width, 3, 3, 3), size)]
        for name, before, after, stride in self.blocks:
            size = -(-size // stride)
            found.append((f"{name}.conv1", f"{name}.bn1", (after, before, 3, 3), size))
            found.append((f"{name}.conv2", f"{name}.bn2", (after, after, 3, 3), size))
            if stride != 1 or before != after:
                found.append((f"{name}.shortcut.0", f"{name}.shortcut.1", (after, before, 1, 1), size))
        return found

    def init(self, rng):
        params = {}
        for name, norm, shape, _ in self.convolutions:
            params[f"{name}.weight"] = rng.normal(0, (2 / (shape[0] * shape[2] * shape[3])) ** 0.5, shape)
            start = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
            params |= {f"{norm}.{key}": np.full(shape[0], value) for key, value in start.items()}
            params[f"{norm}.num_batches_tracked"] = np.zeros(())
        params["linear.weight"] = uniform(rng, self.classes, 4 * self.width)
        params["linear.bias"] = uniform(rng, self.classes, 4 * self.width)[:, 0]
        return params

    def sample(self, rng, batch):
        return rng.standard_normal((batch, 3, self.size, self.size)), rng.integers(0, self.classes, batch)

    def flops(self, batch):
        """Of the convolutions of one training step; the first needs no gradient of its input."""
        products = [2.0 * batch * np.prod(shape) * size**2 for _, _, shape, size in self.convolutions]
        return 3 * sum(products) - products[0]


@dataclass(frozen=True)
class Training:
    """Steps of forward, backward and update; the value that libraries must agree on is the loss."""

    name: str
    model: MLP | CNN | ResNet
    batch: int
    optimizer: AdamW | SGD = field(default_factory=AdamW)
    seed: int = 0

    @property
    def builder(self):
        return type(self.model).__name__.lower()

    @property
    def flops(self):
        return self.model.flops(self.batch)

    def arrays(self):
        rng = np.random.default_rng(self.seed)
        arrays = {f"param/{name}": value.astype(np.float32) for name, value in self.model.init(rng).items()}
        for i in range(N_BATCHES):
            x, y = self.model.sample(rng, self.batch)
            arrays[f"x/{i}"] = x.astype(np.float32) if np.issubdtype(x.dtype, np.floating) else x
            arrays[f"y/{i}"] = y
        return arrays


@dataclass(frozen=True)
class Fit:
    """Epochs of an estimator's `fit` on the same rows in float32, shuffled; the value to agree on is the loss of the
    last epoch."""

    name: str
    model: MLP
    batch: int
    rows: int
    seed: int = 0
    builder = "fit"

    @property
    def flops(self):
        return self.rows / self.batch * self.model.flops(self.batch)

    def arrays(self):
        x, y = self.model.sample(np.random.default_rng(self.seed), self.rows)
        return {"x": x.astype(np.float32), "y": y}


@dataclass(frozen=True)
class Matmul:
    """c[m, n] = a[m, k] @ b[k, n], all row-major; the value to agree on is an element of c."""

    m: int
    n: int
    k: int
    seed: int = 0
    builder = "matmul"

    @property
    def name(self):
        return f"{self.m}x{self.n}x{self.k}"

    @property
    def flops(self):
        return 2.0 * self.m * self.n * self.k

    def arrays(self):
        # Positive, so that the agreement of one element is not at the mercy of cancellation.
        rng = np.random.default_rng(self.seed)
        return {
            "a": rng.uniform(0.5, 1.5, (self.m, self.k)).astype(np.float32),
            "b": rng.uniform(0.5, 1.5, (self.k, self.n)).astype(np.float32),
        }


STEPS = [
    Training("mlp_large", MLP((784, 512, 512, 10)), batch=128),
    Training("mlp_small", MLP((13, 32, 32, 2)), batch=32),
    Training("cnn", CNN(28), batch=64),
    Training("resnet20", ResNet(), batch=64, optimizer=SGD()),
]

FITS = [
    Fit("fit_large", MLP((784, 512, 512, 10)), batch=128, rows=2048),
    Fit("fit_small", MLP((13, 32, 32, 2)), batch=32, rows=512),
]

# The products of an MLP layer forward and backward, of a small GPT, of GPT-2, and one large square.
GEMM = [
    Matmul(128, 512, 784),
    Matmul(128, 512, 512),
    Matmul(512, 784, 128),
    Matmul(256, 1536, 384),
    Matmul(3072, 1536, 384),
    Matmul(3072, 384, 1536),
    Matmul(256, 3072, 768),
    Matmul(1024, 1024, 1024),
]

WORKLOADS = {workload.name: workload for workload in STEPS + FITS + GEMM}


def batches(arrays):
    """The (x, y) pairs of a workload's arrays, in order."""
    return [(arrays[f"x/{i}"], arrays[f"y/{i}"]) for i in range(N_BATCHES)]


def params(arrays):
    """The initial parameters of a workload's arrays, by their PyTorch names."""
    return {name.removeprefix("param/"): value for name, value in arrays.items() if name.startswith("param/")}
