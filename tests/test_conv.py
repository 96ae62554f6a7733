"""conv_* kernels on every tier (around tiles, vectors, blocks and bands; unaligned; any number of threads), their bits
against a matrix product, and the layers."""

import numpy as np
import pytest
from cases.conv import conv, conv_transposed, taps
from kernel_testing import FLOATS, guarded, same_bits_at_any_thread_count, unaligned

import fastgd as gd
import fastgd.nn.functional as F
from fastgd import _core, nn
from fastgd.ops import conv as family

# n groups c h w k r s  stride pad dil: c and k in a group
SHAPES = [
    (2, 1, 3, 9, 8, 5, 3, 3, (1, 1), (1, 1), (1, 1)),
    (1, 1, 29, 8, 8, 15, 3, 3, (1, 1), (1, 1), (1, 1)),  # the depth is more than one block
    (1, 1, 16, 33, 31, 29, 3, 3, (1, 1), (1, 1), (1, 1)),  # several bands of one image
    (2, 2, 5, 10, 11, 4, 3, 2, (2, 1), (1, 0), (1, 2)),
    (3, 1, 6, 12, 13, 7, 3, 3, (2, 2), (1, 1), (1, 1)),
    (1, 1, 4, 7, 9, 3, 2, 2, (3, 3), (0, 1), (1, 1)),  # taps that some phases lack
    (1, 1, 2, 3, 1100, 3, 2, 3, (1, 1), (1, 1), (1, 1)),  # a row in several bands
    (2, 1, 1, 11, 12, 17, 3, 5, (1, 1), (1, 2), (1, 1)),  # fewer channels than taps
    (1, 1, 70, 1, 1, 33, 1, 1, (1, 1), (0, 0), (1, 1)),
    (3, 5, 1, 13, 21, 1, 3, 3, (1, 1), (1, 1), (1, 1)),  # depthwise
    (2, 3, 1, 14, 19, 2, 3, 2, (2, 2), (1, 1), (1, 2)),
    (33, 1, 16, 8, 8, 16, 3, 3, (1, 1), (1, 1), (1, 1)),  # several chunks of images
]


def sizes(shape):
    n, groups, c, h, w, k, r, s, stride, pad, dil = shape
    p, q = (
        (m + 2 * a - d * (t - 1) - 1) // b + 1 for m, a, d, t, b in zip((h, w), pad, dil, (r, s), stride, strict=True)
    )
    return (n, groups * c, h, w), (n, groups * k, p, q), (groups * k, c, r, s)


def fields(shape):
    n, groups, c, h, w, k, r, s, stride, pad, dil = shape
    p, q = sizes(shape)[1][2:]
    return dict(
        n=n, groups=groups, c=c, h=h, w=w, k=k, p=p, q=q, r=r, s=s, stride_h=stride[0], stride_w=stride[1],
        pad_h=pad[0], pad_w=pad[1], dil_h=dil[0], dil_w=dil[1],
    )  # fmt: skip


def copy(x, dtype):
    out = unaligned(x.shape, FLOATS[dtype])
    out[...] = x
    return out


def reference(shape, x, dy, w):
    """Values and sums of magnitudes of y, dx and dw."""
    _, groups, c, h, width, k, _, _, stride, pad, dil = shape
    extra = [
        (a + 2 * b - d * (t - 1) - 1) % s
        for a, b, d, t, s in zip((h, width), pad, dil, w.shape[2:], stride, strict=True)
    ]
    y = conv(x, w, None, stride, pad, dil, groups)
    dx = conv_transposed(dy, w, None, stride, pad, tuple(extra), dil, groups)
    dw = np.empty(w.shape)
    n, size = x.shape[0], dy.shape[2:]
    grouped = dy.reshape(n, groups, k, *size)
    for i, j, part in taps(x, w.shape, size, stride, pad, dil):
        at = np.einsum("ngkpq,ngcpq->gkc", grouped, part.reshape(n, groups, c, *size))
        dw[:, :, i, j] = at.reshape(groups * k, c)
    return y, dx, dw


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernels(tier, shape, dtype):
    rng = np.random.default_rng(0)
    x, dy, w = (copy(rng.normal(size=s), dtype) for s in sizes(shape))
    exact, size = reference(shape, *(a.astype(float) for a in (x, dy, w))), reference(shape, *map(np.abs, (x, dy, w)))
    eps = np.finfo(FLOATS[dtype]).eps
    calls = (("fwd", exact[0].shape, (x, w)), ("bwd_x", x.shape, (dy, w)), ("bwd_w", w.shape, (dy, x)))
    for (name, out, operands), expected, scale in zip(calls, exact, size, strict=True):

        def run(name=name, out=out, operands=operands):
            y, untouched = guarded(out, FLOATS[dtype])
            _core.run_kernel(f"conv_{name}_{dtype}", [y, *operands], **fields(shape))
            untouched()
            return [y]

        (got,) = same_bits_at_any_thread_count(run)
        assert (np.abs(got - expected) <= 64 * eps * scale).all(), name


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [s for s in SHAPES if s[1] == 1], ids=str)
def test_the_order_of_the_sums_is_that_of_a_matrix_product(tier, shape, dtype):
    """The bits of unfold and a product: that is what makes them the same however the work is cut."""
    rng = np.random.default_rng(1)
    x_shape, y_shape, w_shape = sizes(shape)
    x, w = (rng.normal(size=s).astype(FLOATS[dtype]) for s in (x_shape, w_shape))
    y = np.empty(y_shape, FLOATS[dtype])
    _core.run_kernel(f"conv_fwd_{dtype}", [y, x, w], **fields(shape))
    columns = np.empty((x_shape[0], *w_shape[1:], *y_shape[2:]), FLOATS[dtype])
    for i, j, part in taps(x, w_shape, y_shape[2:], *shape[-3:]):
        columns[:, :, i, j] = part
    k, m, n = int(np.prod(w_shape[1:])), w_shape[0], y_shape[2] * y_shape[3]
    product = np.empty((x_shape[0], m, n), FLOATS[dtype])
    for i in range(x_shape[0]):
        strides = dict(batch_ndim=0, batch_shape=[], a_batch=[], b_batch=[], a_rs=k, a_cs=1, b_rs=n, b_cs=1)
        _core.run_kernel(
            f"gemm_{dtype}", [product[i], w, columns[i]], m=m, n=n, k=k, row_sum=0, alpha=1.0, beta=0.0, **strides
        )
    assert product.tobytes() == y.tobytes()


# ---- operations --------------------------------------------------------------------------------------


def test_a_kernel_of_one_element_is_a_product_of_the_same_bits():
    rng = np.random.default_rng(0)
    x, w = (gd.tensor(rng.normal(size=s), dtype="float32") for s in ((3, 20, 7, 5), (9, 20, 1, 1)))
    attrs = ((1, 1), (0, 0), (1, 1), 1, (7, 5))
    as_product, as_convolution = F.conv2d(x, w), family.apply(family.CONV_FWD, (x, w), attrs)
    assert np.asarray(as_product).tobytes() == np.asarray(as_convolution).tobytes()


def test_bias_and_activation_join_the_convolution():
    x, w, b = gd.ones(2, 3, 8, 8), gd.ones(4, 3, 3, 3), gd.ones(4)
    step = gd.compile(lambda x, w, b: F.relu(F.conv2d(x, w, b, padding=1)))
    step(x, w, b)
    assert "1 kernel calls" in step.explain() and "[conv_fwd + add + relu]" in step.explain()


def test_the_derivative_of_a_derivative():
    """The three kernels are each other's derivatives, so the parts of the operation can be differentiated twice."""
    rng = np.random.default_rng(0)
    x, w = (gd.tensor(rng.normal(size=s), requires_grad=True) for s in ((2, 3, 6, 5), (4, 3, 3, 3)))
    attrs = ((2, 1), (1, 1), (1, 1), 1)
    y = family.apply(family.CONV_FWD, (x, w), (*attrs, (3, 5)))
    again = family.apply(family.CONV_BWD_X, (y, w), (*attrs, (6, 5)))
    (again * again).sum().backward()
    t = 1e-6
    v = rng.normal(size=w.shape)

    def value(w):
        y = conv(np.array(x.detach()), w, None, (2, 1), 1)
        dx = conv_transposed(y, w, None, (2, 1), 1, (1, 0))
        return (dx * dx).sum()

    numeric = (value(np.array(w.detach()) + t * v) - value(np.array(w.detach()) - t * v)) / (2 * t)
    np.testing.assert_allclose((np.array(w.grad) * v).sum(), numeric, rtol=1e-6)


# ---- layers ------------------------------------------------------------------------------------------


def test_layers_hold_what_torch_holds():
    layer = nn.Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0), groups=2)
    assert {n: p.shape for n, p in layer.named_parameters()} == {"weight": (6, 2, 3, 2), "bias": (6,)}
    assert repr(layer) == "Conv2d(4, 6, kernel_size=(3, 2), stride=(2, 2), padding=(1, 0), groups=2)"
    bound = 1 / np.sqrt(12)
    assert np.abs(np.asarray(layer.weight.detach())).max() <= bound
    layer = nn.ConvTranspose1d(4, 6, 3, output_padding=1, stride=2, bias=False)
    assert {n: p.shape for n, p in layer.named_parameters()} == {"weight": (4, 6, 3)}
    assert layer(gd.ones(2, 4, 5)).shape == (2, 6, 12)
    assert layer(gd.ones(2, 4, 5), output_size=[11]).shape == (2, 6, 11)
    assert nn.Conv1d(2, 3, 4, padding="same")(gd.ones(2, 9)).shape == (3, 9)
    assert nn.ConvTranspose2d(2, 3, 3, stride=2)(gd.ones(1, 2, 4, 4), output_size=(1, 3, 10, 9)).shape == (1, 3, 10, 9)


@pytest.mark.parametrize(
    ("error", "message", "make"),
    [
        (ValueError, "Conv2d: in_channels must be a multiple of groups, got 3 and 2",
         lambda: nn.Conv2d(3, 4, 3, groups=2)),
        (ValueError, "Conv2d: out_channels must be at least 1, got 0", lambda: nn.Conv2d(3, 0, 3)),
        (ValueError, "Conv2d: expected kernel_size of at least 1, got 0", lambda: nn.Conv2d(3, 4, 0)),
        (ValueError, "Conv2d: padding_mode must be one of zeros, reflect, replicate, circular, got 'mirror'",
         lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror")),
        (ValueError, "ConvTranspose2d: padding_mode must be 'zeros', got 'reflect'",
         lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect")),
        (ValueError, "ConvTranspose1d: expected output_size between [9] and [10], got [11]",
         lambda: nn.ConvTranspose1d(1, 1, 3, stride=2)(gd.ones(1, 1, 4), output_size=[11])),
        (NotImplementedError, "Conv3d: convolutions in three dims are not offered", lambda: nn.Conv3d(1, 1, 3)),
        (NotImplementedError, "ConvTranspose3d: convolutions in three dims are not offered",
         lambda: nn.ConvTranspose3d(1, 1, 3)),
    ],
)  # fmt: skip
def test_layers_refuse(error, message, make):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message
