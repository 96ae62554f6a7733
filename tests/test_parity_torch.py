"""The same training run here and in PyTorch: weights, batches and hyper-parameters are shared,
the losses of 300 steps are compared.  Skipped where PyTorch is not installed; it is never needed."""

import inspect

import numpy as np
import pytest

import fastgd as gd
import fastgd.nn.functional as F
from fastgd import models, nn, optim, schedules

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")

OUR_OWN = {"style"}  # arguments that PyTorch does not have
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
    """Every argument of ours exists there, in the same place, with the same default; or is ours alone, by keyword."""

    def arguments(library):
        found = library
        for part in path.split("."):
            found = getattr(found, part)
        return inspect.signature(found).parameters

    ours, theirs = dict(arguments(gd)), arguments(torch)
    for name in OUR_OWN & set(ours):
        assert ours.pop(name).kind is inspect.Parameter.KEYWORD_ONLY
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


# ---- weights in safetensors files, both ways


def test_weights_saved_here_are_read_there(tmp_path):
    from safetensors.torch import load_file

    from fastgd.train import Trainer

    ours = models.MLP(FEATURES, (HIDDEN,), CLASSES, activation="tanh")
    x, y = next(batches("float32"))
    run = Trainer(ours, F.cross_entropy, optim.AdamW(ours.parameters(), lr=1e-2), (x, y), run=tmp_path / "run")
    checkpoint = run.fit(steps=5).checkpoint
    weights = load_file(checkpoint / "model.safetensors")
    theirs = torch_model("float32")
    theirs.load_state_dict({name.removeprefix("layers."): value for name, value in weights.items()})
    ours.eval()
    expected = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(np.asarray(ours(gd.tensor(x))), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "int64", "int32", "uint8", "bool"])
def test_every_dtype_goes_both_ways(tmp_path, dtype):
    from safetensors.torch import load_file, save_file

    values = torch.tensor([[-2.5, 0.0, 1.0], [3.0e38, float("inf"), 7.125]])
    values = values.clamp(0, 200) if dtype in ("int64", "int32", "uint8") else values
    theirs = {"a": values.to(getattr(torch, dtype)), "scalar": torch.ones((), dtype=getattr(torch, dtype))}
    save_file(theirs, tmp_path / "theirs.safetensors")
    ours = gd.load(tmp_path / "theirs.safetensors")
    assert str(ours["a"].dtype).removeprefix("fastgd.") == dtype
    as_float = theirs["a"].float() if dtype == "bfloat16" else theirs["a"]
    np.testing.assert_array_equal(np.asarray(ours["a"]), as_float.numpy())
    gd.save(tmp_path / "ours.safetensors", ours)
    back = load_file(tmp_path / "ours.safetensors")
    for name, value in theirs.items():
        assert back[name].dtype == value.dtype
        assert back[name].shape == value.shape
        assert torch.equal(back[name], value)


def test_a_model_of_bfloat16_weights_is_loaded(tmp_path):
    from safetensors.torch import save_file

    theirs = torch_model("float32").to(torch.bfloat16)
    save_file(theirs.state_dict(), tmp_path / "bf16.safetensors")
    ours = models.MLP(FEATURES, (HIDDEN,), CLASSES)
    ours.layers.load_state_dict(gd.load(tmp_path / "bf16.safetensors"))
    for name, value in ours.layers.state_dict().items():
        assert value.dtype == gd.float32
        np.testing.assert_array_equal(np.asarray(value), theirs.state_dict()[name].float().numpy())


# ---- gradient accumulation and data loaders


def test_accumulated_batches_are_torchs_large_batch():
    """Three batches with labels that do not count, in one update, beside one batch of all of them in PyTorch."""
    from fastgd.train import Trainer

    (x, y), _ = batches("float64", 2)
    y = y.copy()
    y[:20] = -100
    theirs = torch_model("float64")
    ours = our_model(theirs, "float64")
    optimizer = optim.SGD(ours.parameters(), lr=0.5)
    parts = [(x[:25], y[:25]), (x[25:30], y[25:30]), (x[30:], y[30:])]
    Trainer(ours, nn.CrossEntropyLoss(), optimizer, parts, accumulate=3, clip_norm=0.1).fit(steps=1)
    torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y)).backward()
    torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
    torch.optim.SGD(theirs.parameters(), lr=0.5).step()
    for name, value in ours.layers.state_dict().items():
        np.testing.assert_allclose(np.asarray(value), theirs.state_dict()[name].numpy(), rtol=1e-10, atol=1e-12)


def test_data_loaders_give_the_same_batches():
    from torch.utils import data as theirs

    from fastgd.utils import data as ours

    x, y = np.arange(22, dtype=np.float32).reshape(11, 2), np.arange(11)

    def plain(batches):
        return [[np.asarray(part).tolist() for part in batch] for batch in batches]

    for settings in (
        {},
        {"batch_size": 4},
        {"batch_size": 4, "drop_last": True},
        {"batch_size": 3, "sampler": [5, 2, 9, 1]},
    ):
        one = ours.DataLoader(ours.TensorDataset(gd.tensor(x), gd.tensor(y)), **settings)
        other = theirs.DataLoader(theirs.TensorDataset(torch.tensor(x), torch.tensor(y)), **settings)
        assert len(one) == len(other)
        assert plain(one) == plain(other)
        assert [type(batch) for batch in one] == [type(batch) for batch in other]
    samples = [{"a": (1, 2.0), "b": np.ones(2, np.float32)}, {"a": (3, 4.0), "b": np.zeros(2, np.float32)}]
    one, other = ours.default_collate(samples), theirs.default_collate(samples)
    assert [str(p.dtype).split(".")[1] for p in one["a"]] == [str(p.dtype).split(".")[1] for p in other["a"]]
    np.testing.assert_array_equal(np.asarray(one["b"]), other["b"].numpy())
    for lengths in ([0.5, 0.3, 0.2], [4, 4, 3], [1 / 3, 1 / 3, 1 / 3]):
        sizes = [[len(part) for part in library.random_split(range(11), lengths)] for library in (ours, theirs)]
        assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    "name",
    ["DataLoader", "TensorDataset", "Subset", "ConcatDataset", "SequentialSampler", "RandomSampler", "BatchSampler"],
)
def test_data_takes_the_arguments_of_torch(name):
    def arguments(library):
        return dict(inspect.signature(getattr(library.utils.data, name)).parameters)

    ours, theirs = dict(arguments(gd)), arguments(torch)
    for name in OUR_OWN & set(ours):
        assert ours.pop(name).kind is inspect.Parameter.KEYWORD_ONLY
    assert set(ours) <= set(theirs)
    positional = [n for n, a in theirs.items() if a.kind is a.POSITIONAL_OR_KEYWORD]
    assert [n for n, a in ours.items() if a.kind is a.POSITIONAL_OR_KEYWORD][: len(positional)] == positional[
        : len(ours)
    ]
