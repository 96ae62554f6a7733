"""Convolution, normalisation, pooling and resizing beside PyTorch: values, gradients, running statistics, printing.
Skipped where PyTorch is not installed; it is never needed."""
# ruff: noqa: E501 - tables are read by rows

import itertools

import numpy as np
import pytest

import fastgd as gd
import fastgd.nn.functional as F
from fastgd import nn

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
TF = torch.nn.functional
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}


def close(ours, theirs, dtype, what):
    theirs = theirs.detach().numpy()
    scale = 1 + np.max(np.abs(theirs[np.isfinite(theirs)]), initial=0)
    np.testing.assert_allclose(np.asarray(ours.detach()), theirs, rtol=0, atol=TOLERANCE[dtype] * scale, err_msg=what)


def compare(ours, theirs, arrays, dtype, what):
    """Values and gradients of all arrays, or an error in both."""
    mine = [gd.tensor(a.astype(dtype), requires_grad=True) for a in arrays]
    others = [torch.tensor(a.astype(dtype), requires_grad=True) for a in arrays]
    try:
        expected = theirs(*others)
    except (RuntimeError, ValueError):
        with pytest.raises(gd.FastgdError):
            ours(*mine)
        return
    got = ours(*mine)
    close(got, expected, dtype, what)
    seed = np.random.default_rng(1).normal(size=got.shape).astype(dtype)
    (got * gd.tensor(seed)).sum().backward()
    (expected * torch.tensor(seed)).sum().backward()
    for i, (a, b) in enumerate(zip(mine, others, strict=True)):
        close(a.grad, b.grad, dtype, f"{what}, gradient {i}")


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_convolutions(dtype):
    rng = np.random.default_rng(0)
    for stride, pad, dil, groups, transposed in itertools.product(
        (1, 2, (2, 3)), (0, 1, (2, 0)), (1, 2), (1, 2, 4), (False, True)
    ):
        x, b = rng.normal(size=(2, 4, 9, 8)), rng.normal(size=8)
        w = rng.normal(size=(4, 8 // groups, 3, 2) if transposed else (8, 4 // groups, 3, 2))
        options = {"stride": stride, "padding": pad, "dilation": dil, "groups": groups}
        name = "conv_transpose2d" if transposed else "conv2d"
        for extra in (0, 1) if transposed else (None,):
            chosen = options if extra is None else options | {"output_padding": extra}
            compare(
                lambda *a, n=name, o=chosen: getattr(F, n)(*a, **o), lambda *a, n=name, o=chosen: getattr(TF, n)(*a, **o),
                [x, w, b], dtype, f"{name} {chosen}",
            )  # fmt: skip


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_pooling(dtype):
    rng = np.random.default_rng(0)
    x = rng.permutation(2 * 3 * 7 * 9).reshape(2, 3, 7, 9) / 50
    for kernel, stride, pad, ceil in itertools.product((2, 3, (3, 2)), (None, 1, (2, 3)), (0, 1), (False, True)):
        for name, rest in (("max_pool2d", {"dilation": 1}), ("max_pool2d", {"dilation": 2}), ("avg_pool2d", {}),
                           ("avg_pool2d", {"count_include_pad": False}), ("avg_pool2d", {"divisor_override": 5})):  # fmt: skip
            options = {"stride": stride, "padding": pad, "ceil_mode": ceil} | rest
            compare(
                lambda t, n=name, k=kernel, o=options: getattr(F, n)(t, k, **o),
                lambda t, n=name, k=kernel, o=options: getattr(TF, n)(t, k, **o),
                [x], dtype, f"{name} {kernel} {options}",
            )  # fmt: skip
    for size, name in itertools.product((1, 2, (3, 4), (None, 5)), ("adaptive_avg_pool2d", "adaptive_max_pool2d")):
        compare(
            lambda t, n=name, s=size: getattr(F, n)(t, s),
            lambda t, n=name, s=size: getattr(TF, n)(t, s),
            [x],
            dtype,
            name,
        )


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_interpolate(dtype):
    rng = np.random.default_rng(0)
    targets = ((5, None), (13, None), (1, None), (None, 2), (None, 0.5), (None, 1.3), (None, 0.37))
    for shape, (size, scale), again in itertools.product(
        ((2, 3, 7, 9), (1, 2, 1, 5), (2, 3, 11)), targets, (None, True)
    ):
        linear = "bilinear" if len(shape) == 4 else "linear"
        x = rng.normal(size=shape)
        for mode, align in (("nearest", None), ("nearest-exact", None), (linear, None), (linear, True)):
            arguments = (size, scale, mode, align, again)
            compare(
                lambda t, a=arguments: F.interpolate(t, *a),
                lambda t, a=arguments: TF.interpolate(t, *a),
                [x],
                dtype,
                f"{arguments}",
            )


LAYERS = {
    "BatchNorm2d(5)": (4, 5, 6, 7), "BatchNorm2d(5, momentum=None)": (4, 5, 1, 3), "BatchNorm1d(70, affine=False)": (300, 70),
    "BatchNorm1d(5, track_running_stats=False)": (3, 5, 70), "BatchNorm2d(3, eps=1e-3, momentum=0.3)": (2, 3, 70, 66),
    "BatchNorm1d(3, bias=False)": (4, 3), "GroupNorm(2, 6)": (3, 6, 5, 4), "GroupNorm(1, 6, affine=False)": (3, 6, 2),
    "InstanceNorm2d(3)": (2, 3, 5, 4), "InstanceNorm2d(3, affine=True, track_running_stats=True)": (2, 3, 5, 4),
    "InstanceNorm1d(3)": (3, 7), "Conv2d(3, 4, 3, padding='same', padding_mode='reflect')": (2, 3, 6, 7),
    "Conv2d(4, 4, (4, 3), padding=(2, 1), padding_mode='circular', groups=2)": (2, 4, 6, 7),
    "Conv1d(2, 3, 4, padding='same', padding_mode='replicate')": (2, 2, 9), "Conv1d(1, 2, 3, dilation=2)": (1, 9),
    "ConvTranspose2d(4, 4, 3, output_padding=1, stride=2, groups=2, bias=False)": (1, 4, 3, 5),
    "MaxPool2d(2)": (2, 3, 5), "AvgPool2d(3, 2, 1)": (2, 3, 5), "AvgPool1d(2)": (3, 5), "AdaptiveAvgPool2d((1, 2))": (2, 3, 5),
    "Upsample(scale_factor=2)": (1, 2, 3, 3), "Upsample((3, 4), mode='bilinear')": (1, 2, 3, 3), "PixelShuffle(2)": (1, 8, 3, 3),
    "PixelUnshuffle(2)": (1, 2, 4, 6), "ChannelShuffle(2)": (1, 4, 3, 3), "UpsamplingBilinear2d(scale_factor=2)": (1, 2, 3, 3),
    "Unfold(2, padding=1)": (1, 2, 3, 3), "Fold((3, 3), 2)": (1, 8, 4),
}  # fmt: skip


@pytest.mark.parametrize("text", LAYERS)
def test_layers(text):
    """The same printing, state and results over steps of training and evaluation."""
    name, arguments = text[:-1].split("(", 1)
    make = {"nn": nn, "torch": torch.nn}
    ours, theirs = (getattr(make[k], name)(*_parse(arguments)[0], **_parse(arguments)[1]) for k in make)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours, theirs = ours.to("float64"), theirs.to(torch.float64)
    ours.load_state_dict(theirs.state_dict())
    rng = np.random.default_rng(0)
    for mode in (True, True, False, True):
        ours.train(mode)
        theirs.train(mode)
        compare(ours, theirs, [rng.normal(size=LAYERS[text]) * 2 + 5], "float64", text)
        for (key, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            close(a.grad, b.grad, "float64", key)
            a.grad = b.grad = None
        for key, value in theirs.state_dict().items():
            close(ours.state_dict()[key], value, "float64", key)


def _parse(arguments):
    """Literal arguments of a call."""
    import ast

    call = ast.parse(f"f({arguments})", mode="eval").body
    return [ast.literal_eval(a) for a in call.args], {k.arg: ast.literal_eval(k.value) for k in call.keywords}


def test_a_residual_network_trains_as_in_torch():
    """Ten steps of SGD on ResNet-8: losses in float64."""
    pytest.importorskip("benchmarks", reason="needs the source tree")
    from benchmarks import workloads
    from benchmarks.libraries import torch_models

    model = workloads.ResNet(depth=8, width=4, size=8)
    rng = np.random.default_rng(0)
    params, data = model.init(rng), [model.sample(rng, 6) for _ in range(10)]
    losses = []
    for library, optim in ((gd, gd.optim), (torch, torch.optim)):
        net = torch_models.resnet(library.nn, model)
        net = net.to(library.float64)
        make = library.tensor
        net.load_state_dict({k: v if library is gd else torch.tensor(v) for k, v in params.items()})
        optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)

        def step(x, y, net=net, optimizer=optimizer, library=library):
            loss = library.nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        step = gd.compile(step) if library is gd else step
        losses.append([step(make(x), make(y)).item() for x, y in data])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-8)
