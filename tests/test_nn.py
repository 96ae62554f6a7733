"""Modules, layers, initial values and ready-made networks, against values computed by hand in NumPy."""

import copy
import math
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from cases.activation import ACTIVATIONS

import fastgd as gd
import fastgd.nn.functional as F
from fastgd import models, nn
from fastgd._core import mutation_count


def array(tensor):
    return np.array(tensor.detach().numpy())


def parameter(*shape, value=0.0):
    return nn.Parameter(gd.tensor(np.full(shape, value, np.float32)))


class Block(nn.Module):
    """Something of everything: parameters, an absent one, buffers, children, a shared weight."""

    def __init__(self):
        super().__init__()
        self.scale = parameter(3, value=2.0)
        self.register_parameter("shift", None)
        self.register_buffer("mean", gd.tensor([1.0, 2.0, 3.0]))
        self.register_buffer("scratch", gd.tensor([0.0]), persistent=False)
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


def mutates(change):
    before = mutation_count()
    change()
    return mutation_count() != before


# ---- the tree -----------------------------------------------------------------------------------


def test_names_in_order_and_shared_parameters_once():
    block = Block()
    assert [n for n, _ in block.named_parameters()] == ["scale", "first.weight", "first.bias"]
    assert [n for n, _ in block.named_parameters(remove_duplicate=False)] == [
        "scale",
        "first.weight",
        "first.bias",
        "second.weight",
    ]
    assert [n for n, _ in block.named_parameters(prefix="net", recurse=False)] == ["net.scale"]
    assert [n for n, _ in block.named_buffers()] == ["mean", "scratch"]
    assert [n for n, _ in block.named_children()] == ["first", "second"]
    assert [n for n, _ in block.named_modules()] == ["", "first", "second"]
    assert list(block.modules()) == [block, *block.children()]
    assert list(block.parameters()) == [block.scale, block.first.weight, block.first.bias]
    assert list(block.buffers()) == [block.mean, block.scratch]


def test_shared_modules_come_once_but_have_all_names_in_the_state():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert len(list(model.modules())) == 3
    assert len(list(model.parameters())) == 2
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_get_by_name():
    block = Block()
    assert block.get_submodule("first") is block.first
    assert block.get_submodule("") is block
    assert block.get_parameter("second.weight") is block.first.weight
    with pytest.raises(AttributeError, match="Block has no sub-module 'third'"):
        block.get_submodule("third")


def test_apply_visits_children_first():
    seen = []
    block = Block()
    assert block.apply(lambda m: seen.append(type(m).__name__)) is block
    assert seen == ["Linear", "Linear", "Block"]


def test_attributes():
    block = Block()
    with pytest.raises(AttributeError, match="'Block' object has no attribute 'nothing'"):
        block.nothing  # noqa: B018
    assert block.shift is None
    block.shift = parameter(3)
    assert "shift" in dict(block.named_parameters())
    block.shift = None
    assert "shift" not in dict(block.named_parameters())
    assert {"scale", "mean", "first", "training"} <= set(dir(block))
    del block.first
    assert not hasattr(block, "first")
    with pytest.raises(AttributeError):
        del block.first


def test_an_attribute_may_change_its_kind():
    block = Block()
    block.scale = nn.Identity()
    assert "scale" not in dict(block.named_parameters())
    assert block.get_submodule("scale") is block.scale
    block.note = "text"
    block.note = parameter(1)
    assert block.get_parameter("note") is block.note


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda b: setattr(b, "scale", gd.tensor([1.0])), TypeError, "Block.scale is registered as parameter"),
        (lambda b: setattr(b, "first", 3), TypeError, "Block.first is registered as module"),
        (lambda b: setattr(b, "mean", [1.0]), TypeError, "Block.mean is registered as buffer"),
        (lambda b: b.register_parameter("w", 1.0), TypeError, "Block.w is registered as parameter"),
        (lambda b: b.register_parameter("a.b", parameter(1)), KeyError, "must not be empty or contain"),
        (lambda b: b.add_module("", nn.Identity()), KeyError, "must not be empty"),
        (lambda b: b.register_buffer("forward", gd.tensor([1.0])), KeyError, "Block already has 'forward'"),
        (lambda b: b.train("yes"), ValueError, "mode must be a bool"),
    ],
)
def test_bad_registrations(change, error, words):
    block = Block()
    names = list(dict(block.named_parameters())), list(block.state_dict())
    with pytest.raises(error, match=words):
        change(block)
    assert (list(dict(block.named_parameters())), list(block.state_dict())) == names


def test_assignment_before_init_is_explained():
    class Wrong(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"call super\(\).__init__\(\) before assigning 'layer'"):
        Wrong()


def test_forward_must_be_defined():
    with pytest.raises(NotImplementedError, match=r"Module does not define forward\(\)"):
        nn.Module()(1)


def test_modes():
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    assert model.training
    assert model.eval() is model
    assert not any(m.training for m in model.modules())
    model[1].train()
    assert [m.training for m in model.modules()] == [False, False, True, True]


def test_gradients_are_forgotten_or_zeroed():
    layer = nn.Linear(2, 1)
    layer.weight.grad = gd.tensor([[1.0, 2.0]])
    layer.zero_grad(set_to_none=False)
    np.testing.assert_array_equal(array(layer.weight.grad), [[0.0, 0.0]])
    assert layer.bias.grad is None
    layer.zero_grad()
    assert layer.weight.grad is None
    assert layer.requires_grad_(False) is layer
    assert not layer.weight.requires_grad


def test_casts_keep_the_parameter_objects_and_values():
    block = Block()
    parameters, before = list(block.parameters()), array(block.first.weight)
    block.register_buffer("count", gd.tensor([1, 2]))
    block.first.bias.grad = gd.tensor([1.0, 2.0, 3.0])
    assert block.double() is block
    assert list(map(id, block.parameters())) == list(map(id, parameters))
    assert all(p.dtype == "float64" for p in block.parameters())
    assert block.mean.dtype == "float64"
    assert block.count.dtype == "int64"
    assert block.first.bias.grad.dtype == "float64"
    np.testing.assert_array_equal(array(block.first.weight), before.astype(np.float64))
    assert block.to("cpu") is block.to(device="cpu") is block.cpu() is block
    assert block.mean.dtype == "float64"
    assert block.to("cpu", dtype="float32").mean.dtype == "float32"
    with pytest.raises(TypeError, match=r"to: expected a floating-point dtype, got fastgd\.int64"):
        block.to("int64")
    with pytest.raises(TypeError, match="to: expected one dtype"):
        block.to("float32", dtype="float64")
    with pytest.raises(NotImplementedError, match="runs on the CPU only, got 'cuda:0'"):
        block.to("cuda:0")


# ---- what invalidates compiled plans ---------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda b: setattr(b, "scale", parameter(3)),
        lambda b: setattr(b, "scale", None),
        lambda b: setattr(b, "first", nn.Identity()),
        lambda b: setattr(b, "mean", gd.tensor([0.0])),
        lambda b: setattr(b, "new", parameter(1)),
        lambda b: setattr(b, "plain", 0.5),
        lambda b: delattr(b, "scale"),
        lambda b: b.eval(),
        lambda b: b.second.eval(),
        lambda b: b.requires_grad_(False),
        lambda b: b.register_buffer("other", gd.tensor([0.0])),
        lambda b: b.register_parameter("other", None),
        lambda b: b.add_module("other", nn.Identity()),
        lambda b: b.double(),
    ],
)
def test_structural_changes_are_mutations(change):
    block = Block()
    assert mutates(lambda: change(block))


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.train(),
        lambda b: b.requires_grad_(True),
        lambda b: b.state_dict(),
        lambda b: b.load_state_dict(b.state_dict()),
        lambda b: setattr(b, "plain", None),
        lambda b: b.zero_grad(),
        lambda b: b.to("cpu"),
        lambda b: list(b.parameters()),
    ],
)
def test_what_changes_nothing_is_no_mutation(change):
    block = Block()
    block.plain = None
    assert not mutates(lambda: change(block))


def test_a_forward_pass_that_remembers_something_is_not_recorded_again():
    class Remembers(nn.Module):
        def forward(self, x):
            self.calls = getattr(self, "calls", 0) + 1
            return x * 2.0

    model = Remembers()
    functions = [gd.compile(model), gd.compile(model)]  # recording one must not invalidate the other
    for function in functions:
        function(gd.tensor(X))
    recorded = model.calls
    for function in functions * 3:
        function(gd.tensor(X))
    assert model.calls == recorded


# ---- parameters ------------------------------------------------------------------------------------


def test_parameter():
    data = gd.tensor([1.0, 2.0])
    p = nn.Parameter(data)
    assert p.requires_grad
    assert p.is_leaf
    data.fill_(3.0)
    np.testing.assert_array_equal(np.asarray(p), [3.0, 3.0])
    assert repr(p) == "Parameter containing:\ntensor([3., 3.], requires_grad=True)"
    counts = nn.Parameter(np.array([1, 2]), requires_grad=False)
    assert counts.dtype == "int64"
    assert not counts.requires_grad
    with pytest.raises(TypeError, match="only floating-point tensors can require grad"):
        nn.Parameter(np.array([1, 2]))


# ---- state dictionaries ------------------------------------------------------------------------------


def test_state_dict_names_and_sharing():
    block = Block()
    state = block.state_dict()
    assert list(state) == ["scale", "mean", "first.weight", "first.bias", "second.weight"]
    assert list(block.state_dict(prefix="net.")) == ["net." + name for name in state]
    assert block.state_dict(keep_vars=True)["scale"] is block.scale
    assert not state["scale"].requires_grad
    with gd.no_grad():
        block.scale.fill_(5.0)
    np.testing.assert_array_equal(array(state["scale"]), [5.0, 5.0, 5.0])


class Foreign:
    """Stands for a tensor of another library: only NumPy's protocol, and only once detached."""

    def __init__(self, values, attached=True):
        self.values, self.attached = values, attached

    def detach(self):
        return Foreign(self.values, attached=False)

    def cpu(self):
        return self

    def __array__(self, dtype=None, copy=None):
        if self.attached:
            raise RuntimeError("call detach() first")
        return np.asarray(self.values, dtype)


@pytest.mark.parametrize(
    "convert",
    [
        lambda t: t,
        array,
        lambda t: array(t).astype(np.float64),
        lambda t: array(t).tolist(),
        lambda t: np.asfortranarray(array(t)),
        lambda t: Foreign(array(t)),
    ],
    ids=["Tensor", "NumPy", "float64", "list", "Fortran", "foreign"],
)
def test_load_state_dict_copies_in_place(convert):
    source, target = nn.Linear(3, 4), nn.Linear(3, 4)
    weight = target.weight
    view = target.weight.detach()
    result = target.load_state_dict({name: convert(t) for name, t in source.state_dict().items()})
    assert result == ([], [])
    assert result.missing_keys == []
    assert target.weight is weight
    np.testing.assert_array_equal(array(view), array(source.weight))
    np.testing.assert_array_equal(array(target.bias), array(source.bias))


def test_load_state_dict_reports_everything_and_changes_nothing():
    block = Block()
    before = {name: array(t) for name, t in block.state_dict().items()}
    state = {name: np.full(t.shape, 9.0) for name, t in block.state_dict().items()}
    del state["scale"], state["second.weight"]
    state |= {"extra": 1, "mean": np.zeros(4), "first.bias": "text"}
    with pytest.raises(ValueError, match=r"Block\.load_state_dict:") as info:
        block.load_state_dict(state)
    assert isinstance(info.value, RuntimeError)
    text = str(info.value)
    assert "missing keys: scale, second.weight" in text
    assert "unexpected keys: extra" in text
    assert "mean: expected shape (3,), got (4,)" in text
    assert "first.bias: tensor: expected numbers" in text
    for name, t in block.state_dict().items():
        np.testing.assert_array_equal(array(t), before[name])


def test_load_state_dict_into_read_only_memory_changes_nothing():
    frozen = np.ones(3, np.float32)
    frozen.flags.writeable = False
    model = nn.Module()
    model.a, model.b = parameter(3), nn.Parameter(frozen)
    with pytest.raises(ValueError, match="b: copy_: the tensor borrows read-only memory"):
        model.load_state_dict({"a": np.full(3, 5.0), "b": np.full(3, 5.0)})
    assert model.a.tolist() == [0, 0, 0] and frozen.tolist() == [1, 1, 1]


def test_load_state_dict_while_recording_is_refused():
    layer = nn.Linear(2, 1)
    state = {name: np.zeros(t.shape) for name, t in layer.state_dict().items()}
    with pytest.raises(NotImplementedError, match="load_state_dict inside fastgd.compile"):
        gd.compile(lambda: layer.load_state_dict(state))()


def test_load_state_dict_keeps_double_precision():
    layer = nn.Linear(1, 1, bias=False, dtype="float64")
    layer.load_state_dict({"weight": [[0.1]]})
    assert layer.weight.item() == 0.1


def test_load_state_dict_not_strict():
    layer = nn.Linear(2, 1)
    bias = array(layer.bias)
    result = layer.load_state_dict({"weight": np.ones((1, 2)), "extra": 1}, strict=False)
    assert result == (["bias"], ["extra"])
    np.testing.assert_array_equal(array(layer.weight), [[1.0, 1.0]])
    np.testing.assert_array_equal(array(layer.bias), bias)
    with pytest.raises(ValueError, match="weight: expected shape"):
        layer.load_state_dict({"weight": np.ones((2, 1))}, strict=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])  # noqa: S301
def test_copies_are_equal_and_independent(duplicate):
    block = Block().eval()
    block.second.weight.requires_grad_(False)
    twin = duplicate(block)
    assert twin.second.weight is twin.first.weight
    assert twin.first.weight is not block.first.weight
    assert isinstance(twin.scale, nn.Parameter)
    assert not twin.first.weight.requires_grad
    assert twin.scale.requires_grad
    assert not twin.training
    with gd.no_grad():
        twin.scale.fill_(7.0)
    np.testing.assert_array_equal(array(block.scale), [2.0, 2.0, 2.0])
    for (name, a), (_, b) in zip(block.first.state_dict().items(), twin.first.state_dict().items(), strict=True):
        np.testing.assert_array_equal(array(a), array(b), err_msg=name)


# ---- printing ------------------------------------------------------------------------------------------


def test_printing():
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Sequential(nn.ReLU(), nn.Dropout(0.1)), nn.Softmax(dim=1))
    assert (
        repr(model)
        == """\
Sequential(
  (0): Linear(in_features=2, out_features=3, bias=False)
  (1): Sequential(
    (0): ReLU()
    (1): Dropout(p=0.1, inplace=False)
  )
  (2): Softmax(dim=1)
)"""
    )
    layers = [nn.GELU("tanh"), nn.SiLU(), nn.Tanh(), nn.Sigmoid(), nn.Identity(), nn.Flatten(), nn.LogSoftmax(-1)]
    assert list(map(repr, layers)) == [
        "GELU(approximate='tanh')",
        "SiLU()",
        "Tanh()",
        "Sigmoid()",
        "Identity()",
        "Flatten(start_dim=1, end_dim=-1)",
        "LogSoftmax(dim=-1)",
    ]
    assert repr(nn.ReLU(inplace=True)) == "ReLU(inplace=True)"


# ---- containers -----------------------------------------------------------------------------------------


def test_sequential():
    a, b, c, d = (nn.Identity() for _ in range(4))
    model = nn.Sequential(a, b)
    assert model.append(c) is model
    assert len(model) == 3
    assert list(model) == [a, b, c]
    assert model[-1] is c
    assert list(model[1:]) == [b, c]
    assert [n for n, _ in model.named_children()] == ["0", "1", "2"]
    model[1] = d
    assert list(model) == [a, d, c]
    del model[0]
    assert list(model) == [d, c]
    assert [n for n, _ in model.named_children()] == ["0", "1"]
    model.insert(1, b)
    assert list(model) == [d, b, c]
    assert model.pop() is c
    assert list(model.extend([a])) == [d, b, a]
    for i in (3, -4):
        with pytest.raises(IndexError, match=f"Sequential: index {i} is out of range for 3 modules"):
            model[i]
    with pytest.raises(TypeError, match="Sequential: expected a Module, got function"):
        nn.Sequential(lambda x: x)


def test_sequential_of_named_modules():
    model = nn.Sequential(OrderedDict([("up", nn.Linear(2, 4)), ("act", nn.ReLU()), ("down", nn.Linear(4, 1))]))
    assert model[0] is model.up
    assert list(model.state_dict()) == ["up.weight", "up.bias", "down.weight", "down.bias"]
    assert [n for n, _ in model[1:].named_children()] == ["act", "down"]


def test_module_list_and_dict():
    layers = nn.ModuleList([nn.Linear(2, 2)]).append(nn.ReLU())
    assert [n for n, _ in layers.named_parameters()] == ["0.weight", "0.bias"]
    assert type(layers[:1]) is nn.ModuleList
    assert layers[-1] is list(layers)[1]
    table = nn.ModuleDict({"a": nn.Linear(2, 2)})
    table["b"] = nn.ReLU()
    assert list(table) == list(table.keys()) == ["a", "b"]
    assert "b" in table
    assert dict(table.items())["b"] is table["b"]
    del table["b"]
    assert len(table) == 1
    with pytest.raises(KeyError):
        del table["training"]


# ---- layers and functions ----------------------------------------------------------------------------------


X = np.array([[-3.0, -0.5, 0.0], [0.25, 1.0, 4.0]], np.float32)
SIGMOID = 1 / (1 + np.exp(-X.astype(np.float64)))
SOFTMAX = np.exp(X.astype(np.float64)) / np.exp(X.astype(np.float64)).sum(1, keepdims=True)
PHI = np.vectorize(lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2))))(X.astype(np.float64))
GELU_TANH = 0.5 * X * (1 + np.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X.astype(np.float64) ** 3)))
ACTIVATION_LAYERS = {
    "relu6": nn.ReLU6(), "leaky_relu": nn.LeakyReLU(), "rrelu": nn.RReLU().eval(), "elu": nn.ELU(), "celu": nn.CELU(),
    "selu": nn.SELU(), "mish": nn.Mish(), "softplus": nn.Softplus(), "softsign": nn.Softsign(),
    "logsigmoid": nn.LogSigmoid(), "tanhshrink": nn.Tanhshrink(), "hardtanh": nn.Hardtanh(),
    "hardsigmoid": nn.Hardsigmoid(), "hardswish": nn.Hardswish(), "hardshrink": nn.Hardshrink(),
    "softshrink": nn.Softshrink(),
}  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "function", "expected"),
    [
        (nn.ReLU(), F.relu, np.maximum(X, 0)),
        (nn.GELU(), F.gelu, X * PHI),
        (nn.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh"), GELU_TANH),
        (nn.SiLU(), F.silu, X * SIGMOID),
        (nn.Tanh(), F.tanh, np.tanh(X.astype(np.float64))),
        (nn.Sigmoid(), F.sigmoid, SIGMOID),
        (nn.Softmax(dim=1), lambda x: F.softmax(x, dim=1), SOFTMAX),
        (nn.LogSoftmax(dim=1), lambda x: F.log_softmax(x, dim=1), np.log(SOFTMAX)),
        (nn.Softmax(dim=0), lambda x: F.softmax(x, 0), np.exp(X) / np.exp(X).sum(0)),
        *[
            (layer, getattr(F, name), ACTIVATIONS[name][0](X.astype(np.float64)))
            for name, layer in ACTIVATION_LAYERS.items()
        ],
        (nn.LeakyReLU(0.2), lambda x: F.leaky_relu(x, 0.2), np.where(X > 0, X, 0.2 * X)),
        (nn.Threshold(0.5, 7), lambda x: F.threshold(x, 0.5, 7), np.where(X > 0.5, X, 7)),
        (nn.Hardtanh(-2, 0.5), lambda x: F.hardtanh(x, -2, 0.5), np.clip(X, -2, 0.5)),
        (nn.GLU(0), lambda x: F.glu(x, 0), X[:1] * SIGMOID[1:]),
        (nn.SwiGLU(0), lambda x: F.swiglu(x, 0), X[:1] * SIGMOID[:1] * X[1:]),
        (nn.Softmin(dim=1), lambda x: F.softmin(x, 1), np.exp(-X) / np.exp(-X).sum(1, keepdims=True)),
        (nn.PReLU(), lambda x: F.prelu(x, gd.tensor([0.25])), np.where(X > 0, X, X / 4)),
        (nn.PReLU(3, 0.5), lambda x: F.prelu(x, gd.full((3,), 0.5)), np.where(X > 0, X, X / 2)),
        (nn.Identity(1, unused=2), lambda x: x, X),
        (nn.Flatten(0), lambda x: x.flatten(), X.ravel()),
    ],
)
def test_layers_without_parameters(layer, function, expected):
    for result in (layer(gd.tensor(X)), function(gd.tensor(X))):
        assert result.dtype == "float32"
        np.testing.assert_allclose(array(result), expected, rtol=2e-6, atol=2e-7)


def test_softmax2d_is_over_channels():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    expected = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    np.testing.assert_allclose(array(nn.Softmax2d()(gd.tensor(x))), expected, rtol=1e-5)
    np.testing.assert_allclose(array(nn.Softmax2d()(gd.tensor(x[0]))), expected[0], rtol=1e-5)
    with pytest.raises(ValueError, match=r"Softmax2d: expected 3 or 4 dims, .* got shape \(2, 3\)"):
        nn.Softmax2d()(gd.ones(2, 3))


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias):
    layer = nn.Linear(3, 4, bias=bias)
    assert layer.weight.shape == (4, 3)
    expected = X @ array(layer.weight).T + (array(layer.bias) if bias else 0)
    np.testing.assert_allclose(array(layer(gd.tensor(X))), expected, rtol=1e-5, atol=1e-6)
    assert layer(gd.tensor(X.reshape(2, 1, 3))).shape == (2, 1, 4)
    assert nn.Linear(3, 4, dtype="float64").weight.dtype == "float64"
    with pytest.raises(ValueError, match="Linear: in_features must be at least 1"):
        nn.Linear(0, 3)
    with pytest.raises(NotImplementedError, match="runs on the CPU only"):
        nn.Linear(3, 4, device="cuda")


def test_cross_entropy():
    target = np.array([2, -100])
    rows = -np.log(SOFTMAX)[[0, 1], [2, 0]] * [1, 0]
    for reduction, expected in (("mean", rows[0]), ("sum", rows[0]), ("none", rows)):
        loss = nn.CrossEntropyLoss(reduction=reduction)(gd.tensor(X), gd.tensor(target))
        np.testing.assert_allclose(array(loss), expected, rtol=1e-6)
    ignored = F.cross_entropy(gd.tensor(X), gd.tensor(np.array([2, 1])), ignore_index=1)
    np.testing.assert_allclose(array(ignored), rows[0], rtol=1e-6)


def test_mse_loss():
    y = X[::-1].copy()
    for reduction, expected in (("mean", np.mean((X - y) ** 2)), ("sum", np.sum((X - y) ** 2)), ("none", (X - y) ** 2)):
        loss = nn.MSELoss(reduction=reduction)(gd.tensor(X), gd.tensor(y))
        np.testing.assert_allclose(array(loss), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.CrossEntropyLoss(weight=gd.tensor([1.0] * 3)), "cross_entropy: class weights"),
        (lambda: nn.CrossEntropyLoss(label_smoothing=0.1), "cross_entropy: class weights and label_smoothing"),
        (nn.RReLU, "rrelu: training=True"),
        (lambda: nn.CrossEntropyLoss(reduce=True), "cross_entropy: size_average and reduce are not offered"),
        (lambda: nn.MSELoss(size_average=True), "mse_loss: size_average, reduce and weight are not offered"),
    ],
)
def test_what_is_not_offered_says_so(make, words):
    with pytest.raises(NotImplementedError, match=words):
        layer = make()
        layer(*[gd.tensor(X)] * (1 if isinstance(layer, nn.RReLU) else 2))


def test_bad_options():
    with pytest.raises(ValueError, match="mse_loss: "):
        nn.MSELoss(reduction="avg")(gd.tensor(X), gd.tensor(X))
    with pytest.raises(ValueError, match=r"Dropout: p must be between 0 and 1, got 1\.5"):
        nn.Dropout(1.5)
    with pytest.raises(TypeError, match="softmax: expected dim"):
        nn.Softmax()(gd.tensor(X))


def test_dropout():
    gd.manual_seed(0)
    ones = gd.tensor(np.ones((100, 100), np.float32))
    layer = nn.Dropout(0.25)
    y = array(layer(ones))
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.02  # five standard deviations
    np.testing.assert_array_equal(array(layer.eval()(ones)), array(ones))
    np.testing.assert_array_equal(array(F.dropout(ones, 0.25, training=False)), array(ones))


# ---- gradient clipping -----------------------------------------------------------------------------------


def gradients(*values):
    parameters = [parameter(len(v)) for v in values]
    for p, v in zip(parameters, values, strict=True):
        p.grad = gd.tensor(np.array(v, np.float32))
    return [*parameters, parameter(2)]  # the last has no gradient


def test_clip_grad_norm():
    parameters = gradients([3.0], [0.0, 4.0])
    norm = nn.utils.clip_grad_norm_(parameters, 1.0)
    assert norm.item() == pytest.approx(5.0)
    coefficient = 1.0 / (5.0 + 1e-6)
    np.testing.assert_allclose(array(parameters[0].grad), [3 * coefficient], rtol=1e-6)
    np.testing.assert_allclose(array(parameters[1].grad), [0, 4 * coefficient], rtol=1e-6)


def test_clip_grad_norm_below_the_limit_changes_nothing():
    parameters = gradients([3.0], [0.0, 4.0])
    nn.utils.clip_grad_norm_(iter(parameters), 10.0)
    np.testing.assert_array_equal(array(parameters[1].grad), [0.0, 4.0])
    assert nn.utils.clip_grad_norm_(parameters[0], 10.0).item() == pytest.approx(3.0)


def test_clip_grad_norm_finite_check():
    parameters = gradients([3.0], [math.inf, 4.0])
    with pytest.raises(FloatingPointError):
        nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(array(parameters[0].grad), [3.0])
    with pytest.raises(ValueError, match="clip_grad_norm_: expected max_norm >= 0"):
        nn.utils.clip_grad_norm_(parameters, -1.0)
    with pytest.raises(NotImplementedError, match="clip_grad_norm_: only the 2-norm"):
        nn.utils.clip_grad_norm_(parameters, 1.0, norm_type=1.0)


# ---- initial values ----------------------------------------------------------------------------------------


def drawn(function, *args, shape=(200, 300), **kwargs):
    gd.manual_seed(1)
    p = parameter(*shape, value=9.0)
    assert function(p, *args, **kwargs) is p
    assert p.requires_grad
    return array(p).astype(np.float64)


def assert_uniform(values, bound):
    assert np.abs(values).max() <= bound
    assert np.abs(values).max() > 0.99 * bound
    assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert abs(values.mean()) < 0.02 * bound


def assert_normal(values, mean, std):
    assert values.mean() == pytest.approx(mean, abs=0.02 * std)
    assert values.std() == pytest.approx(std, rel=0.02)
    assert np.mean(np.abs(values - mean) < std) == pytest.approx(math.erf(math.sqrt(0.5)), abs=0.01)


def test_constants():
    np.testing.assert_array_equal(drawn(nn.init.constant_, 0.5, shape=(2, 2)), 0.5)
    np.testing.assert_array_equal(drawn(nn.init.zeros_, shape=(2, 2)), 0.0)
    np.testing.assert_array_equal(drawn(nn.init.ones_, shape=(2, 2)), 1.0)
    np.testing.assert_array_equal(drawn(nn.init.eye_, shape=(2, 3)), [[1, 0, 0], [0, 1, 0]])


def test_distributions():
    assert_uniform(drawn(nn.init.uniform_, -2.0, 2.0), 2.0)
    assert 0 <= drawn(nn.init.uniform_).min() < drawn(nn.init.uniform_).max() <= 1
    assert_normal(drawn(nn.init.normal_), 0.0, 1.0)
    assert_normal(drawn(nn.init.normal_, 3.0, 0.5), 3.0, 0.5)


def test_xavier():
    assert_uniform(drawn(nn.init.xavier_uniform_), math.sqrt(6 / 500))
    assert_uniform(drawn(nn.init.xavier_uniform_, gain=5 / 3), 5 / 3 * math.sqrt(6 / 500))
    assert_normal(drawn(nn.init.xavier_normal_), 0.0, math.sqrt(2 / 500))
    # (out, in, 3, 5): fans are 20 * 15 and 40 * 15
    assert_uniform(drawn(nn.init.xavier_uniform_, shape=(40, 20, 3, 5)), math.sqrt(6 / 900))


def test_kaiming():
    assert_uniform(drawn(nn.init.kaiming_uniform_), math.sqrt(6 / 300))
    assert_uniform(drawn(nn.init.kaiming_uniform_, mode="fan_out"), math.sqrt(6 / 200))
    assert_uniform(drawn(nn.init.kaiming_uniform_, a=math.sqrt(5)), math.sqrt(1 / 300))
    assert_uniform(drawn(nn.init.kaiming_uniform_, nonlinearity="tanh"), 5 / 3 * math.sqrt(3 / 300))
    assert_normal(drawn(nn.init.kaiming_normal_, nonlinearity="relu"), 0.0, math.sqrt(2 / 300))


def test_initial_values_are_refused_while_recording():
    with pytest.raises(RuntimeError, match=r"Parameter: fastgd\.compile cannot record"):
        gd.compile(lambda x: nn.Linear(3, 4)(x))(gd.tensor(X))


def test_linear_starts_like_torch():
    gd.manual_seed(2)
    layer = nn.Linear(100, 400)
    assert_uniform(array(layer.weight), 0.1)
    assert_uniform(array(nn.Linear(100, 4000).bias), 0.1)


def test_truncated_normal():
    x = drawn(nn.init.trunc_normal_)
    assert np.abs(x).max() <= 2.0
    assert x.std() == pytest.approx(0.8796, rel=0.01)  # of N(0, 1) truncated to ±2
    x = drawn(nn.init.trunc_normal_, 1.0, 0.1, 1.2, 1.5)  # two deviations above the mean
    assert 1.2 <= x.min() < 1.201
    assert x.mean() == pytest.approx(1.2373, abs=0.001)
    x = drawn(nn.init.trunc_normal_, 0.0, 0.01, -100.0, 100.0)  # bounds far beyond the tails
    assert_normal(x, 0.0, 0.01)


@pytest.mark.parametrize("shape", [(20, 20), (30, 10), (10, 30), (8, 2, 3)])
def test_orthogonal(shape):
    w = drawn(nn.init.orthogonal_, 2.0, shape=shape).reshape(shape[0], -1)
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, 4.0 * np.eye(len(gram)), atol=1e-5)


def test_orthogonal_is_uniform():
    signs = {nn.init.orthogonal_(parameter(1, 1)).item() for _ in range(30)}  # plain QR would always give +1
    assert signs == {1.0, -1.0}


def test_gains():
    gains = {"linear": 1, "conv2d": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
    for name, gain in gains.items():
        assert nn.init.calculate_gain(name) == pytest.approx(gain)
    assert nn.init.calculate_gain("leaky_relu") == pytest.approx(math.sqrt(2 / 1.0001))
    assert nn.init.calculate_gain("leaky_relu", 0.2) == pytest.approx(math.sqrt(2 / 1.04))


def test_a_seed_fixes_a_model():
    def make(seed):
        gd.manual_seed(seed)
        return [array(p) for p in models.MLP(3, (4,), 2).parameters()]

    for a, b, c in zip(make(1), make(1), make(2), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nn.init.xavier_uniform_(parameter(3)), "xavier_uniform_: expected at least 2 dimensions"),
        (lambda: nn.init.kaiming_normal_(parameter(3)), "kaiming_normal_: expected at least 2 dimensions"),
        (lambda: nn.init.kaiming_uniform_(parameter(3, 3), mode="fan"), "mode must be 'fan_in' or 'fan_out'"),
        (lambda: nn.init.calculate_gain("softplus"), "nonlinearity must be one of"),
        (lambda: nn.init.eye_(parameter(3)), "eye_: expected a matrix"),
        (lambda: nn.init.orthogonal_(parameter(3)), "orthogonal_: expected at least 2 dimensions"),
        (lambda: nn.init.trunc_normal_(parameter(3), a=1.0, b=1.0), "trunc_normal_: a must be less than b"),
        (lambda: nn.init.trunc_normal_(parameter(3), 0.0, 0.01, 1.0, 2.0), "holds no probability"),
    ],
)
def test_bad_initialisations(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# ---- models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("tanh", np.tanh),
        ("identity", lambda x: x),
        ("silu", lambda x: x / (1 + np.exp(-x))),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    ],
)
def test_mlp(activation, function):
    gd.manual_seed(3)
    model = models.MLP(12, (8, 6), 5, activation=activation)
    images = np.random.default_rng(0).normal(size=(7, 3, 2, 2)).astype(np.float32)
    w1, b1, w2, b2, w3, b3 = (array(p) for p in model.parameters())
    h = function(images.reshape(7, 12) @ w1.T + b1)
    expected = function(h @ w2.T + b2) @ w3.T + b3
    np.testing.assert_allclose(array(model(gd.tensor(images))), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(array(model(gd.tensor(images.reshape(7, 12)))), expected, rtol=1e-4, atol=1e-5)


def test_mlp_layers():
    kinds = [type(m).__name__ for m in models.MLP(4, (3, 3), 2, activation="gelu", dropout=0.1).layers]
    assert kinds == ["Linear", "GELU", "Dropout", "Linear", "GELU", "Dropout", "Linear"]
    assert [type(m) for m in models.MLP(4, (), 2).layers] == [nn.Linear]
    with pytest.raises(ValueError, match=r"MLP: activation must be one of relu, gelu, .* got 'os.system'"):
        models.MLP(4, (3,), 2, activation="os.system")


# ---- hooks, lists of parameters, summary ---------------------------------------------------------------


def test_forward_hooks_see_and_replace():
    layer, seen = nn.Linear(2, 3), []
    x = gd.ones(1, 2)
    plain = array(layer(x))
    first = layer.register_forward_pre_hook(lambda m, args: seen.append("first"))
    second = layer.register_forward_pre_hook(lambda m, args: (args[0] * 2,), prepend=True)
    third = layer.register_forward_hook(lambda m, args, result: seen.append(array(args[0])) or result + 1)
    bias = array(layer.bias)
    np.testing.assert_allclose(array(layer(x)), 2 * (plain - bias) + bias + 1, rtol=1e-6)
    assert seen[0] == "first"
    np.testing.assert_array_equal(seen[1], [[2, 2]])
    for handle in (first, second, third):
        handle.remove()
    np.testing.assert_array_equal(array(layer(x)), plain)


def test_forward_hooks_with_keywords_and_compiled():
    class Scale(nn.Module):
        def forward(self, x, by=1.0):
            return x * by

    layer = Scale()
    compiled = gd.compile(lambda x: layer(x, by=2.0))
    assert compiled(gd.ones(1)).item() == 2
    with layer.register_forward_pre_hook(lambda m, a, k: (a, {"by": 5.0}), with_kwargs=True):
        assert compiled(gd.ones(1)).item() == 5
        layer.register_forward_hook(lambda m, a, k, result: result * k["by"], with_kwargs=True)
        assert compiled(gd.ones(1)).item() == 25
    assert compiled(gd.ones(1)).item() == 4
    with (
        layer.register_forward_pre_hook(lambda m, a, k: 3, with_kwargs=True),
        pytest.raises(TypeError, match=r"must return None or \(args, kwargs\), got int"),
    ):
        layer(gd.ones(1))
    with pytest.raises(NotImplementedError, match="use tensor.register_hook"):
        layer.register_full_backward_hook(print)


def test_parameter_list_and_dict():
    p = nn.ParameterList([gd.zeros(2), nn.Parameter(gd.ones(3))])
    p.append(gd.zeros(1))
    p += [gd.zeros(4)]
    assert [q.shape for q in p] == [(2,), (3,), (1,), (4,)] and len(p) == 4 and p[-1].shape == (4,)
    assert list(p.state_dict()) == ["0", "1", "2", "3"]
    p[1] = gd.zeros(5)
    assert p[1].requires_grad and isinstance(p[1:3], nn.ParameterList)
    with pytest.raises(IndexError, match="ParameterList: index 4 is out of range for 4 parameters"):
        p[4]
    with pytest.raises(TypeError, match="ParameterList: expected a Parameter or a Tensor, got int"):
        p.append(3)
    d = nn.ParameterDict({"a": gd.zeros(2)})
    d["b"] = nn.Parameter(gd.ones(1))
    assert list(d) == ["a", "b"] and "a" in d and [q.numel() for q in d.values()] == [2, 1]
    del d["a"]
    assert list(dict(d.named_parameters())) == ["b"] and dict(d.items())["b"] is d["b"]
    with pytest.raises(KeyError):
        del d["a"]


def test_dirac_and_sparse():
    w = gd.zeros(4, 3, 3)
    nn.init.dirac_(w)
    expected = np.zeros((4, 3, 3))
    expected[[0, 1, 2], [0, 1, 2], 1] = 1
    np.testing.assert_array_equal(array(w), expected)
    w = gd.zeros(4, 2, 3, 5)
    nn.init.dirac_(w, groups=2)
    expected = np.zeros((4, 2, 3, 5))
    expected[[0, 1, 2, 3], [0, 1, 0, 1], 1, 2] = 1
    np.testing.assert_array_equal(array(w), expected)
    s = array(nn.init.sparse_(gd.zeros(50, 20), 0.3, std=2.0))
    assert ((s == 0).sum(axis=0) == 15).all() and 1.5 < s[s != 0].std() < 2.5
    with pytest.raises(ValueError, match="dirac_: expected 3 to 5 dimensions"):
        nn.init.dirac_(gd.zeros(2, 2))
    with pytest.raises(ValueError, match="sparse_: expected 0 <= sparsity <= 1, got 2"):
        nn.init.sparse_(gd.zeros(2, 2), 2)


def test_normal_quantile_against_the_standard_library():
    from statistics import NormalDist

    p = np.concatenate([np.geomspace(1e-300, 0.4, 200), np.linspace(0.01, 0.99, 99), 1 - np.geomspace(1e-15, 0.4, 50)])
    expected = np.array([NormalDist().inv_cdf(x) for x in p])
    np.testing.assert_allclose(nn.init._normal_quantile(p), expected, rtol=1e-14, atol=1e-15)


def test_summary_counts_parameters_shapes_and_products():
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5, bias=False))
    model[2].weight.requires_grad_(False)
    before = model.training, list(model.named_parameters())
    made = gd.summary(model, (7, 20))
    assert (made.parameters, made.trainable) == (20 * 30 + 30 + 150, 630)
    assert [(r.name, r.kind, r.output_shapes) for r in made.rows] == [
        ("", "Sequential", ((7, 5),)),
        ("0", "Linear", ((7, 30),)),
        ("1", "ReLU", ((7, 30),)),
        ("2", "Linear", ((7, 5),)),
    ]
    assert made.rows[1].flops >= 2 * 7 * 20 * 30 and made.rows[3].flops == 2 * 7 * 30 * 5
    assert made.rows[2].activations == 4 * 7 * 30
    assert "780 parameters (150 frozen)" in str(made) and "one forward pass:" in str(made)
    assert (model.training, list(model.named_parameters())) == before
    assert not model._hooks and made.flops == sum(r.flops for r in made.rows)


def test_summary_of_shared_modules_several_inputs_and_bad_shapes():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Linear(4, 4)

        def forward(self, a, b, scale):
            return self.shared(a) + self.shared(b) * scale

    made = gd.summary(Two(), inputs=[gd.zeros(2, 4), gd.zeros(2, 4), 3.0])
    assert [r.parameters for r in made.rows] == [0, 20, 0] and made.rows[0].flops > 0
    with pytest.raises(ValueError, match="summary: expected either input_shape or inputs"):
        gd.summary(Two())
    with pytest.raises(ValueError, match="summary: expected input_shape to be a tuple of sizes"):
        gd.summary(nn.Linear(2, 2), 5)
    with pytest.raises(TypeError, match="summary: expected a Module, got int"):
        gd.summary(3, (1,))
    with pytest.raises(ValueError, match="linear: expected"):
        gd.summary(nn.Linear(2, 2), (1, 3))
