"""The same training run here and in PyTorch: weights, batches and hyper-parameters are shared,
the losses of 300 steps are compared.  Skipped where PyTorch is not installed; it is never needed."""

import inspect

import numpy as np
import pytest

import fastgd as gd
import fastgd.nn.functional as F
from fastgd import models, nn, optim, schedules

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")

STEPS, BATCH, FEATURES, HIDDEN, CLASSES = 300, 64, 20, 32, 5
# Rounding differences grow along a run; these are what 300 steps of it may come to.
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
LR = {"sgd": 0.05, "adam": 3e-3, "adamw": schedules.warmup_cosine(1e-2, 30, STEPS, end=1e-4)}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_optimizer(library, name, parameters, lr):
    if name == "sgd":
        return library.SGD(parameters, lr=lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
    if name == "adam":
        return library.Adam(parameters, lr=lr, amsgrad=True)
    return library.AdamW(parameters, lr=lr, weight_decay=0.05)


def torch_model(dtype):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(FEATURES, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, CLASSES)]
    return torch.nn.Sequential(*layers).to(getattr(torch, dtype))


def our_model(theirs, dtype):
    model = models.MLP(FEATURES, (HIDDEN,), CLASSES, activation="tanh").to(dtype)
    model.layers.load_state_dict(theirs.state_dict())
    return model


def batches(dtype, count=STEPS):
    rng = np.random.default_rng(0)
    teacher = rng.normal(size=(FEATURES, CLASSES))
    for _ in range(count):
        x = rng.normal(size=(BATCH, FEATURES))
        y = np.argmax(x @ teacher + rng.normal(size=(BATCH, CLASSES)), axis=1)
        yield x.astype(dtype), y


class TorchRun:
    def __init__(self, name, dtype):
        self.model = torch_model(dtype)
        lr = LR[name]
        self.optimizer = make_optimizer(torch.optim, name, self.model.parameters(), 1.0 if callable(lr) else lr)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lr) if callable(lr) else None

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(self.model(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        return loss.item()


class OurRun:
    def __init__(self, name, dtype, compiled, theirs):
        self.model = our_model(theirs.model, dtype)
        self.optimizer = make_optimizer(optim, name, self.model.parameters(), LR[name])

        def step(x, y):
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
            self.optimizer.step()
            return loss

        self.function = gd.compile(step) if compiled else step

    def step(self, x, y):
        return self.function(gd.tensor(x), gd.tensor(y)).item()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_training_gives_the_same_losses(name, dtype, compiled):
    theirs = TorchRun(name, dtype)
    ours = OurRun(name, dtype, compiled, theirs)
    losses = np.array([(theirs.step(x, y), ours.step(x, y)) for x, y in batches(dtype)])
    assert losses[-20:, 0].mean() < 0.6 * losses[0, 0]  # the run is a real one
    difference = np.abs(losses[:, 1] - losses[:, 0]) / losses[:, 0]
    assert difference.max() <= TOLERANCE[dtype]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_run_moves_over_from_torch_and_back(name):
    theirs = TorchRun(name, "float64")
    data = list(batches("float64", 60))
    for x, y in data[:20]:
        theirs.step(x, y)

    ours = OurRun(name, "float64", False, theirs)
    ours.optimizer.load_state_dict(theirs.optimizer.state_dict())
    losses = [(theirs.step(x, y), ours.step(x, y)) for x, y in data[20:40]]
    np.testing.assert_allclose(*np.transpose(losses), rtol=1e-10)

    back = TorchRun(name, "float64")
    back.model.load_state_dict(
        {key: torch.from_numpy(np.array(t)) for key, t in ours.model.layers.state_dict().items()}
    )
    saved = ours.optimizer.state_dict()
    saved["state"] = {
        index: {key: torch.from_numpy(np.array(value, dtype=np.float64)) for key, value in state.items()}
        for index, state in saved["state"].items()
    }
    back.optimizer.load_state_dict(saved)
    if back.scheduler is not None:
        back.scheduler.load_state_dict(theirs.scheduler.state_dict())
    losses = [(theirs.step(x, y), back.step(x, y)) for x, y in data[40:]]
    np.testing.assert_allclose(*np.transpose(losses), rtol=1e-10)


@pytest.mark.parametrize(
    "path",
    [
        "optim.SGD",
        "optim.Adam",
        "optim.AdamW",
        "nn.Linear",
        "nn.Dropout",
        "nn.ReLU",
        "nn.GELU",
        "nn.SiLU",
        "nn.Softmax",
        "nn.LogSoftmax",
        "nn.Flatten",
        "nn.CrossEntropyLoss",
        "nn.MSELoss",
        "nn.functional.relu",
        "nn.functional.silu",
        "nn.functional.dropout",
        "nn.functional.cross_entropy",
        "nn.functional.mse_loss",
        "nn.utils.clip_grad_norm_",
        "nn.init.uniform_",
        "nn.init.normal_",
        "nn.init.trunc_normal_",
        "nn.init.xavier_uniform_",
        "nn.init.xavier_normal_",
        "nn.init.kaiming_uniform_",
        "nn.init.kaiming_normal_",
        "nn.init.orthogonal_",
        "nn.init.calculate_gain",
        "nn.Module.load_state_dict",
        "nn.Module.named_parameters",
        "nn.Module.register_buffer",
        "nn.Module.zero_grad",
    ],
)
def test_arguments_and_defaults_are_those_of_torch(path):
    """Every argument of ours exists there, in the same place, with the same default."""

    def arguments(library):
        found = library
        for part in path.split("."):
            found = getattr(found, part)
        return inspect.signature(found).parameters

    ours, theirs = arguments(gd), arguments(torch)
    assert set(ours) <= set(theirs)
    for name, argument in ours.items():
        default = theirs[name].default
        default = default.item() if isinstance(default, torch.Tensor) else default
        assert argument.default == default, name
        assert argument.kind == theirs[name].kind, name
    positional = [n for n, a in ours.items() if a.kind is a.POSITIONAL_OR_KEYWORD]
    assert positional == [n for n in theirs if n in positional]


def test_models_are_printed_alike():
    def tree(nn):
        return nn.Sequential(
            nn.Linear(2, 3, bias=False),
            nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(0.1)),
            nn.GELU(approximate="tanh"),
            nn.SiLU(),
            nn.Flatten(),
            nn.Softmax(dim=1),
        )

    assert repr(tree(nn)) == repr(tree(torch.nn))
    assert repr(nn.ModuleDict({"a": nn.Identity()})) == repr(torch.nn.ModuleDict({"a": torch.nn.Identity()}))


def test_torch_tensors_that_require_grad_can_be_loaded():
    theirs = torch.nn.Linear(3, 2)
    ours = nn.Linear(3, 2)
    ours.load_state_dict(dict(theirs.named_parameters()))
    np.testing.assert_array_equal(np.asarray(ours.weight), theirs.weight.detach().numpy())
