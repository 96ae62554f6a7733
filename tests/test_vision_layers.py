"""Statistics of channels and pooling: the kernels on every tier, running statistics, the layers."""

import numpy as np
import pytest
from kernel_testing import FLOATS, guarded, same_bits_at_any_thread_count, unaligned

import fastgd as gd
import fastgd.nn.functional as F
from fastgd import _core, nn

# ---- kernels -----------------------------------------------------------------------------------------

SHAPES = [
    (1, 1, 1),
    (5, 3, 1),
    (257, 70, 1),
    (600, 5, 1),
    (2, 3, 7),
    (4, 9, 130),
    (3, 2, 4097),
    (1, 1, 9000),
    (40, 33, 16),
]


def copy(x, dtype):
    out = unaligned(x.shape, FLOATS[dtype])
    out[...] = x
    return out


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_channel_statistics(tier, shape, dtype):
    """Also where the mean is a thousand standard deviations: nothing cancels."""
    rng, eps = np.random.default_rng(0), np.finfo(FLOATS[dtype]).eps
    n, c, inner = shape
    x = copy(rng.normal(size=shape) + 1000 * (np.arange(c)[:, None] % 2), dtype)
    exact = x.astype(np.longdouble)
    mean, var = exact.mean((0, 2)), exact.var((0, 2))

    def forward():
        results = [guarded((c,), FLOATS[dtype]) for _ in range(2)]
        arrays = [a for a, _ in results]
        _core.run_kernel(f"channel_stats_fwd_{dtype}", [*arrays, x], n=n, c=c, inner=inner)
        for _, untouched in results:
            untouched()
        return arrays

    got = same_bits_at_any_thread_count(forward)
    np.testing.assert_allclose(got[0], mean.astype(float), rtol=4 * eps, atol=20 * eps)
    np.testing.assert_allclose(got[1], var.astype(float), rtol=100 * eps, atol=100 * eps)

    dy, rstd = copy(rng.normal(size=shape), dtype), copy(rng.uniform(0.5, 2, c), dtype)
    center = copy(mean, dtype)

    def backward():
        results = [guarded((c,), FLOATS[dtype]) for _ in range(2)]
        arrays = [a for a, _ in results]
        _core.run_kernel(f"channel_stats_bwd_{dtype}", [*arrays, dy, x, center, rstd], n=n, c=c, inner=inner)
        for _, untouched in results:
            untouched()
        return arrays

    sums = same_bits_at_any_thread_count(backward)
    g, d = dy.astype(np.longdouble), exact - center.astype(np.longdouble)[:, None]
    size = np.abs(g).sum((0, 2)), np.abs(g * d).sum((0, 2)) * rstd
    assert (np.abs(sums[0] - g.sum((0, 2))) <= 30 * eps * size[0]).all()
    assert (np.abs(sums[1] - (g * d).sum((0, 2)) * rstd) <= 30 * eps * size[1]).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_pooling_kernels(tier, dtype):
    rng = np.random.default_rng(0)
    for planes, h, w, r, stride, pad in (
        (3, 5, 7, 2, 2, 0),
        (2, 9, 40, 3, 2, 1),
        (40, 16, 16, 2, 2, 0),
        (1, 3, 70, 3, 1, 1),
    ):
        x = copy(rng.permutation(planes * h * w).reshape(planes, h, w), dtype)
        p, q = ((m + 2 * pad - r) // stride + 1 for m in (h, w))
        around = np.pad(x.astype(float), ((0, 0), (pad, pad), (pad, pad)), constant_values=-np.inf)
        parts = np.lib.stride_tricks.sliding_window_view(around, (r, r), (1, 2))[:, ::stride, ::stride]
        fields = dict(
            planes=planes, h=h, w=w, p=p, q=q, r=r, s=r, stride_h=stride, stride_w=stride, pad_h=pad, pad_w=pad,
            dil_h=1, dil_w=1, adaptive=0, count_pad=0, divisor=0,
        )  # fmt: skip

        def run(x=x, fields=fields, shape=(planes, p, q)):
            y, untouched = guarded(shape, FLOATS[dtype])
            mean, untouched_mean = guarded(shape, FLOATS[dtype])
            index = np.empty(shape, np.int64)
            _core.run_kernel(f"max_pool_fwd_{dtype}", [y, index, x], **fields)
            _core.run_kernel(f"avg_pool_fwd_{dtype}", [mean, x], **fields)
            dx, untouched_dx = guarded(x.shape, FLOATS[dtype])
            _core.run_kernel(f"max_pool_bwd_{dtype}", [dx, y, index], **fields)
            da, untouched_da = guarded(x.shape, FLOATS[dtype])
            _core.run_kernel(f"avg_pool_bwd_{dtype}", [da, y], **fields)
            for check in (untouched, untouched_mean, untouched_dx, untouched_da):
                check()
            return [y, mean, index, dx, da]

        y, mean, index, dx, da = same_bits_at_any_thread_count(run)
        np.testing.assert_array_equal(y, parts.max((-2, -1)))
        np.testing.assert_array_equal(
            np.take_along_axis(x.reshape(planes, -1), index.reshape(planes, -1), 1).ravel(), y.ravel()
        )
        inside = np.where(np.isfinite(parts), parts, 0)
        count = np.isfinite(parts).sum((-2, -1))
        np.testing.assert_allclose(mean, inside.sum((-2, -1)) / count, rtol=1e-6)
        expected = np.zeros((planes, h * w))
        for i in range(planes):
            np.add.at(expected[i], index[i].ravel(), y[i].ravel())
        np.testing.assert_allclose(dx.reshape(planes, -1), expected, rtol=1e-6)
        np.testing.assert_allclose(da.sum(), y.sum(), rtol=1e-5)


# ---- running statistics ------------------------------------------------------------------------------


def expected_statistics(batches, momentum):
    mean, var = 0.0, 1.0
    for i, x in enumerate(batches):
        m = 1 / (i + 1) if momentum is None else momentum
        mean = (1 - m) * mean + m * x.mean((0, 2, 3))
        var = (1 - m) * var + m * x.var((0, 2, 3), ddof=1)
    return mean, var


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
def test_running_statistics(momentum, compiled):
    rng = np.random.default_rng(0)
    layer = nn.BatchNorm2d(3, momentum=momentum).to("float64")
    batches = [rng.normal(size=(4, 3, 5, 2)) * 3 + 1 for _ in range(4)]
    forward = gd.compile(lambda x: layer(x)) if compiled else layer
    for x in batches:
        forward(gd.tensor(x))
    mean, var = expected_statistics(batches, momentum)
    np.testing.assert_allclose(np.asarray(layer.running_mean), mean, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(layer.running_var), var, rtol=1e-12)
    assert layer.num_batches_tracked.item() == 4
    layer.eval()
    x = rng.normal(size=(2, 3, 1, 2))
    y = np.asarray(forward(gd.tensor(x)).detach())
    shape = (3, 1, 1)
    np.testing.assert_allclose(y, (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + 1e-5), rtol=1e-12)
    assert layer.num_batches_tracked.item() == 4


def test_instance_norm_averages_the_samples_statistics():
    rng = np.random.default_rng(0)
    layer = nn.InstanceNorm2d(3, track_running_stats=True).to("float64")
    x = rng.normal(size=(4, 3, 5, 2)) + 2
    layer(gd.tensor(x))
    np.testing.assert_allclose(np.asarray(layer.running_mean), 0.1 * x.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(layer.running_var), 0.9 + 0.1 * x.var((2, 3), ddof=1).mean(0), rtol=1e-12)


def test_a_step_that_fails_leaves_running_statistics_as_they_were():
    """The label out of range is found before the commit phase, in which they are written."""
    layer = nn.BatchNorm1d(3)

    @gd.compile
    def step(x, label):
        return F.cross_entropy(layer(x), label)

    x = gd.tensor(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))
    step(x, gd.tensor([0, 1, 2, 0]))
    before = {k: np.array(v) for k, v in layer.state_dict().items()}
    with pytest.raises(IndexError):
        step(x, gd.tensor([0, 1, 7, 0]))
    for key, value in layer.state_dict().items():
        np.testing.assert_array_equal(np.asarray(value), before[key], err_msg=key)
    with pytest.raises(ValueError):
        layer(gd.ones(1, 3))  # refused: one value per channel
    assert layer.num_batches_tracked.item() == 1
    step(x, gd.tensor([0, 1, 2, 0]))
    assert layer.num_batches_tracked.item() == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_with_batch_norm_has_the_same_bits_compiled(dtype):
    rng = np.random.default_rng(0)
    data = [(rng.normal(size=(6, 2, 7, 5)).astype(dtype), rng.integers(0, 3, 6)) for _ in range(3)]

    def train(compiled):
        gd.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 6, 1), nn.GroupNorm(2, 6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
        ).to(dtype)  # fmt: skip
        optimizer = gd.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x, y):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        step = gd.compile(step) if compiled else step
        losses = [np.array(step(gd.tensor(x), gd.tensor(y)).detach()) for x, y in data]
        return losses + [np.array(v) for v in model.state_dict().values()]

    for a, b in zip(train(False), train(True), strict=True):
        assert a.tobytes() == b.tobytes()


# ---- layers ------------------------------------------------------------------------------------------


def test_layers_hold_what_torch_holds():
    assert list(nn.BatchNorm2d(3).state_dict()) == [
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    ]
    assert list(nn.BatchNorm2d(3, affine=False, track_running_stats=False).state_dict()) == []
    assert nn.BatchNorm1d(3, bias=False).bias is None and nn.BatchNorm1d(3, bias=False).weight is not None
    assert list(nn.GroupNorm(2, 4).state_dict()) == ["weight", "bias"] and list(nn.InstanceNorm1d(2).state_dict()) == []
    assert repr(nn.MaxPool2d(2)) == "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"
    assert repr(nn.AvgPool1d(2)) == "AvgPool1d(kernel_size=(2,), stride=(2,), padding=(0,))"
    assert nn.MaxPool1d(2, return_indices=True)(gd.ones(1, 2, 6))[1].dtype == "int64"
    assert nn.AvgPool2d(3, 2, 1)(gd.ones(2, 6, 6)).shape == (2, 3, 3)
    assert nn.AdaptiveMaxPool2d((2, None))(gd.ones(1, 2, 6, 5)).shape == (1, 2, 2, 5)
    assert nn.AdaptiveAvgPool1d(2)(gd.ones(2, 6)).shape == (2, 2) and nn.AdaptiveMaxPool1d(2)(gd.ones(2, 6)).shape == (
        2,
        2,
    )
    assert nn.InstanceNorm2d(2)(gd.ones(2, 3, 3)).shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("error", "message", "make"),
    [
        (ValueError, "BatchNorm2d: num_features must be at least 1, got 0",
         lambda: nn.BatchNorm2d(0)),
        (ValueError, "BatchNorm2d: expected input of 4 dims, got shape (2, 3)",
         lambda: nn.BatchNorm2d(3)(gd.ones(2, 3))),
        (ValueError, "BatchNorm1d: expected input of 2 or 3 dims, got shape (2, 3, 1, 1)",
         lambda: nn.BatchNorm1d(3)(gd.ones(2, 3, 1, 1))),
        (ValueError, "BatchNorm1d: expected 3 channels, got input of shape (2, 4)",
         lambda: nn.BatchNorm1d(3)(gd.ones(2, 4))),
        (ValueError, "GroupNorm: num_channels must be a multiple of num_groups, got 4 and 3",
         lambda: nn.GroupNorm(3, 4)),
        (NotImplementedError, "BatchNorm3d: three spatial dims are not offered",
         lambda: nn.BatchNorm3d(3)),
    ],
)  # fmt: skip
def test_layers_refuse(error, message, make):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message


def test_image_layers():
    assert nn.Upsample(scale_factor=2)(gd.ones(1, 2, 3, 4)).shape == (1, 2, 6, 8)
    assert nn.UpsamplingNearest2d(5)(gd.ones(1, 2, 3, 4)).shape == (1, 2, 5, 5)
    assert nn.PixelUnshuffle(2)(nn.PixelShuffle(2)(gd.ones(1, 8, 3, 4))).shape == (1, 8, 3, 4)
    assert nn.ChannelShuffle(2)(gd.tensor([[[0.0], [1], [2], [3]]])).flatten().tolist() == [0, 2, 1, 3]
    assert nn.Fold((4, 5), 2)(nn.Unfold(2)(gd.ones(1, 3, 4, 5)))[0, 0].tolist() == [
        [1, 2, 2, 2, 1], [2, 4, 4, 4, 2], [2, 4, 4, 4, 2], [1, 2, 2, 2, 1]
    ]  # fmt: skip
