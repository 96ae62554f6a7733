"""Tensor: what comes in (the gate), what goes out, promotion, writes in place, copies that are views in torch, errors."""
# ruff: noqa: E501 - tables are read by rows

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastgd as gd
import fastgd.nn.functional as NF
from fastgd import _core
from fastgd.ops import functional as F

# ---- the gate ----------------------------------------------------------------------------------------

BASE = np.arange(24.0).reshape(4, 6)
FOREIGN = {
    "strided": BASE[::2, 1::2],
    "negative strides": BASE[::-1, ::-2],
    "Fortran order": np.asfortranarray(BASE),
    "transposed": BASE.T,
    "broadcast": np.broadcast_to(BASE[0], (3, 6)),
    "big-endian": BASE.astype(">f8"),
    "big-endian integers": np.arange(5).astype(">i4"),
    "float16": BASE.astype(np.float16),
    "longdouble": BASE.astype(np.longdouble),
    "int8": np.array([-128, 127], np.int8),
    "int16": np.array([-(2**15)], np.int16),
    "uint16": np.array([2**16 - 1], np.uint16),
    "uint32": np.array([2**32 - 1], np.uint32),
    "uint64": np.array([2**63 - 1], np.uint64),
    "uint8": np.array([255], np.uint8),
    "bool": np.array([True, False]),
    "0-d": np.array(3.5),
    "empty": np.zeros((0, 3), np.float32),
    "empty strided": np.zeros((4, 6))[:, 6:],
    "unaligned": np.frombuffer(b"x" + np.arange(3.0).tobytes(), dtype=np.uint8)[1:].view(np.float64),
    "matrix of a field": np.zeros(3, dtype=[("a", "f8"), ("b", "i4")])["a"],
    "masked-free memmap-like": np.arange(6.0).reshape(2, 3)[:, 1],
}
GIVES = {
    "float16": "float32", "longdouble": "float64", "int8": "int32", "int16": "int32", "uint16": "int64", "uint32": "int64",
    "uint64": "int64", "big-endian integers": "int32", "uint8": "uint8", "bool": "bool", "empty": "float32",
}  # fmt: skip


@pytest.mark.parametrize("make", [gd.tensor, gd.as_tensor, gd.from_numpy])
@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_arrays_come_in_whole(name, make):
    array = FOREIGN[name]
    t = make(array)
    assert t.shape == array.shape and t.dtype == GIVES.get(name, "float64")
    np.testing.assert_array_equal(np.asarray(t).astype(np.float64), array.astype(np.float64))
    if make is gd.tensor:
        assert not np.shares_memory(np.asarray(t), array)


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["<f4", ">f4", "<f8", ">f8", "<f2", "<i8", ">i8", "<i4", ">i2", "i1", "u1", "<u2", "?"]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    st.randoms(),
)
def test_any_layout_of_any_dtype(array, random):
    steps = tuple(slice(None, None, random.choice([1, -1, 2, -2])) for _ in array.shape)
    view = array[steps].transpose(random.sample(range(array.ndim), array.ndim))
    for make in (gd.tensor, gd.as_tensor):
        np.testing.assert_array_equal(np.asarray(make(view)), view.astype(np.asarray(make(view)).dtype))
    back = gd.as_tensor(view)
    assert back.shape == view.shape


def test_sharing():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    for make in (gd.from_numpy, gd.as_tensor):
        t = make(a)
        t.add_(1)
        assert a[0, 0] == t[0, 0].item()
    assert gd.from_numpy(a).data_ptr() == a.ctypes.data
    assert gd.tensor(a).data_ptr() != a.ctypes.data
    t = gd.from_numpy(a[1:])  # contiguous rows of a larger array
    t.zero_()
    assert a[1].tolist() == [0, 0, 0] and a[0].any()
    x = gd.zeros(3)
    assert gd.as_tensor(x) is x and gd.as_tensor(x, "float64").dtype == "float64"


def test_the_array_stays_alive_with_its_tensor():
    t = gd.from_numpy(np.full(100_000, 3.0))
    other = [np.full(100_000, 9.0) for _ in range(5)]
    assert float(t.sum()) == 300_000 and len(other) == 5


def test_read_only_arrays_are_read_but_not_written():
    a = np.arange(3.0)
    a.flags.writeable = False
    t = gd.from_numpy(a)
    assert (t * 2).tolist() == [0, 2, 4]
    for write in (lambda: t.add_(1), t.zero_, lambda: t.copy_(gd.zeros(3)), lambda: t.__setitem__(0, 1)):
        with pytest.raises(ValueError, match=r"read-only memory; \.clone\(\) it first"):
            write()
    assert a.tolist() == [0, 1, 2]
    with pytest.raises((ValueError, RuntimeError), match="read-only"):
        t.numpy()[0] = 5
    assert gd.tensor(a).add_(1).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.array([1j]), "complex data not supported"),
        ([1 + 2j], "complex data not supported"),
        (np.array(["a"]), "expected numbers, got an array of <U1"),
        ("text", "expected numbers"),
        (b"bytes", "expected numbers"),
        (None, "object array"),
        ([None, 1], "object array"),
        (np.array([object()]), "object array"),
        ({"a": 1}, "object array"),
        (np.array(["2020-01-01"], "M8[D]"), "expected numbers"),
        (np.zeros(2, dtype=[("a", "f8")]), "expected numbers"),
    ],
)
def test_what_has_no_numbers_is_refused(data, words):
    with pytest.raises(TypeError, match=words):
        gd.tensor(data)


def test_ragged_rows_are_refused():
    with pytest.raises(ValueError):
        gd.tensor([[1, 2], [3]])


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        ([float("nan")], "int64"), ([float("inf")], "uint8"), ([1e30], "int64"), ([2.0**63], "int64"), ([300], "uint8"),
        ([-1], "uint8"), ([2**31], "int32"), (np.array([2**63], np.uint64), None), ([2**63], None),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused(data, dtype):
    with pytest.raises(ValueError, match=r"fit|cannot become"):
        gd.tensor(data, dtype=dtype)


def test_python_data():
    for data, dtype in (
        (1, "int64"), (1.5, "float32"), (True, "bool"), ([1, 2.5], "float32"), ([], "float32"), ([True, 2], "int64"),
        (range(3), "int64"), (np.float64(1), "float64"), (np.float32(1), "float32"), (np.int32(1), "int32"), ((1, 2), "int64"),
    ):  # fmt: skip
        assert gd.tensor(data).dtype == dtype, data
    rows = gd.tensor([gd.tensor([1.0, 2.0]), gd.tensor([3.0, 4.0])])
    assert rows.tolist() == [[1, 2], [3, 4]] and rows.dtype == "float32"
    assert gd.tensor([gd.tensor(1.0), gd.tensor(2.0, requires_grad=True)]).tolist() == [1, 2]
    assert gd.tensor([1.7, -1.7], dtype="int64").tolist() == [1, -1]
    assert gd.tensor([0.0, 0.5, np.nan], dtype="bool").tolist() == [False, True, True]


def test_dtype_names():
    for name in ("float32", gd.float32, np.float32, np.dtype("f4"), float, "torch.float32", "fastgd.float32"):
        assert gd.zeros(1, dtype=name).dtype is gd.float32
    assert gd.zeros(1, dtype=int).dtype is gd.int64 and gd.zeros(1, dtype=bool).dtype is gd.bool
    for bad in ("float8", np.complex64, "foo", object()):
        with pytest.raises(TypeError, match="dtype: expected one of float32"):
            gd.zeros(1, dtype=bad)
    assert gd.float32 == "float32" and gd.float32 != "float64" and repr(gd.float32) == "fastgd.float32"
    assert pickle.loads(pickle.dumps(gd.float32)) is gd.float32  # noqa: S301


# ---- shapes too large to make ------------------------------------------------------------------------


def test_shapes_beyond_2_to_the_31_are_counted_in_64_bits():
    a = _core.aval(gd.float32, (2**20, 2**15))
    assert a.numel == 2**35 and a.nbytes == 2**37
    (product,) = (F.matmul.__globals__["GEMM"]).infer(
        (_core.aval(gd.float32, (2**20, 3)), _core.aval(gd.float32, (3, 2**20))), (False, False)
    )
    assert product.numel == 2**40
    from fastgd.ops import OPS

    (flat,) = OPS["reshape"].infer((a,), ((2**35,),))
    assert flat.shape == (2**35,)
    (total,) = OPS["sum"].infer((a,), ((0,),))
    assert total.shape == (2**15,)
    with pytest.raises(ValueError, match="more elements than can be addressed"):
        _core.aval(gd.float32, (2**40, 2**40))
    with pytest.raises(ValueError, match="more elements than can be addressed"):
        gd.zeros(2**62, 2**62)
    with pytest.raises(ValueError, match="at most 8 dims, got 9"):
        gd.zeros(*[1] * 9)
    with pytest.raises(ValueError, match=r"sizes >= 0, got \(-1,\)"):
        gd.zeros(-1)
    with pytest.raises(MemoryError):
        gd.zeros(2**50)


# ---- promotion ---------------------------------------------------------------------------------------

ORDER = ["bool", "uint8", "int32", "int64", "float32", "float64"]
# torch.promote_types, written out: row and column as in ORDER (uint8 with int32 is int32, and so on).
PROMOTED = {(a, b): ORDER[max(ORDER.index(a), ORDER.index(b))] for a in ORDER for b in ORDER}
# A Python number takes part only if its kind is higher than that of the tensor.
WITH_NUMBER = {  # True, 2, 2.0
    "bool": ("bool", "int64", "float32"),
    "uint8": ("uint8", "uint8", "float32"),
    "int32": ("int32", "int32", "float32"),
    "int64": ("int64", "int64", "float32"),
    "float32": ("float32", "float32", "float32"),
    "float64": ("float64", "float64", "float64"),
}
KIND = {"bool": 0, "uint8": 1, "int32": 1, "int64": 1, "float32": 2, "float64": 2}


@pytest.mark.parametrize("a", ORDER)
@pytest.mark.parametrize("b", ORDER)
def test_promotion_of_tensors(a, b):
    x, y, zero_d = gd.ones(2, dtype=a), gd.ones(2, dtype=b), gd.ones((), dtype=b)
    assert (x * y).dtype == (y * x).dtype == PROMOTED[a, b]
    # A 0-d tensor takes part only if its kind is higher than that of the tensor with dims.
    assert (x * zero_d).dtype == (zero_d * x).dtype == (b if KIND[b] > KIND[a] else a)
    assert (gd.ones((), dtype=a) * zero_d).dtype == PROMOTED[a, b]
    assert (x / y).dtype == (PROMOTED[a, b] if KIND[PROMOTED[a, b]] == 2 else "float32")
    assert F.where(gd.tensor([True, False]), x, y).dtype == PROMOTED[a, b]
    assert (x == y).dtype == "bool"
    compiled = gd.compile(lambda s, t: s * t)
    assert compiled(x, y).dtype == PROMOTED[a, b]


@pytest.mark.parametrize("a", ORDER)
def test_promotion_with_numbers(a):
    x = gd.ones(2, dtype=a)
    for number, expected in zip((True, 2, 2.0), WITH_NUMBER[a], strict=True):
        assert (x * number).dtype == (number * x).dtype == expected, number
        assert gd.compile(lambda t, n=number: t * n)(x).dtype == expected
    assert (x * np.float64(2)).dtype == ("float32" if a != "float64" else a)  # NumPy scalars are Python floats


def test_numbers_that_do_not_fit():
    byte = gd.tensor([1], dtype="uint8")
    assert (byte - 2).tolist() == [255] and (byte + -2).tolist() == [255]
    for wrong in (lambda t: t + 256, lambda t: t * 2**70):
        for function in (wrong, gd.compile(wrong)):
            with pytest.raises(ValueError, match=r"number: .* does not fit fastgd.uint8"):
                function(byte)


@pytest.mark.parametrize("other", ["a", None, 1j, object(), {}])
def test_operands_that_are_no_numbers(other):
    with pytest.raises(TypeError, match="add: expected tensors or numbers, got"):
        gd.ones(2) + other
    assert (gd.ones(2) == other) is False or isinstance(other, (str, complex))


def test_arrays_and_lists_as_operands():
    x = gd.ones(2)
    for result in (x + np.ones(2), np.ones(2) + x, x * [1.0, 2.0], np.float32(2) * x, np.array(2.0) * x):
        assert isinstance(result, gd.Tensor)
    assert isinstance(np.sin(x), np.ndarray)


def test_operators_of_bools_and_integers():
    a, b = gd.tensor([True, True, False]), gd.tensor([True, False, False])
    assert (a & b).tolist() == [True, False, False] and (a | b).tolist() == [True, True, False]
    assert (~b).tolist() == [False, True, True] and (a & True).tolist() == [True, True, False]
    assert (a + b).tolist() == [True, True, False] and (a * b).tolist() == [True, False, False]
    assert (a ^ b).tolist() == [False, True, False] and (True ^ a).tolist() == [False, False, True]
    x = gd.tensor([5, -7, 12])
    assert (x & 6).tolist() == [4, 0, 4] and (6 | x).tolist() == [7, -1, 14] and (x ^ x).tolist() == [0, 0, 0]
    assert (~x).tolist() == [-6, 6, -13] and (a & gd.tensor([1, 2, 3])).tolist() == [1, 0, 0]
    assert (x // 4).tolist() == [1, -2, 3] and (x % 4).tolist() == [1, 1, 0] and (x**2).tolist() == [25, 49, 144]
    assert (7 // gd.tensor([2, -2])).tolist() == [3, -4] and (7 % gd.tensor([2, -2])).tolist() == [1, -1]
    assert (2 ** gd.tensor([0, 3])).tolist() == [1, 8] and (gd.tensor([7.5, -7.5]) // 2).tolist() == [3, -4]
    for wrong in (lambda: a - b, lambda: -a, lambda: a % b):
        with pytest.raises(TypeError, match="got bool"):
            wrong()


IN_PLACE = {"addcdiv": (2.0, 4.0), "addcmul": (2.0, 4.0), "clamp": (0.3, 0.6), "clip": (0.3, 0.6), "lerp": (2.0, 0.25)}
AT = gd.tensor([2, 0])
IN_PLACE |= {"scatter": (0, AT, 5.0), "scatter_add": (0, AT, gd.ones(2)), "index_add": (0, AT, gd.ones(2)), "index_copy": (0, AT, gd.ones(2))}
IN_PLACE |= {"index_fill": (0, AT, 5.0), "index_put": ((AT,), gd.ones(2)), "masked_fill": (gd.tensor([True, False, True]), 5.0)}
OF_TWO = ["bitwise_and", "bitwise_or", "bitwise_xor", "clamp_max", "clamp_min", "div", "eq", "floor_divide", "fmod", "ge", "gt", "le", "logical_and", "logical_or", "logical_xor", "lt", "mul", "ne", "pow", "remainder", "sub", "add"]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", sorted({n for f in F.FAMILIES for n in getattr(f, "IN_PLACE", ())}))
def test_every_in_place_form_writes_what_the_function_gives(name, compiled):
    start = np.array([0.25, 0.5, 0.75], np.float32)
    if name.startswith("bitwise"):
        start = np.array([5, 6, 7])
    arguments = IN_PLACE.get(name, () if name not in OF_TWO else (3 if name.startswith("bitwise") else 0.5,))
    expected = np.asarray(getattr(F, name)(gd.tensor(start), *arguments)).astype(start.dtype)
    x = gd.tensor(start)
    same_memory = x.reshape(3, 1)
    write = lambda: getattr(x, f"{name}_")(*arguments)  # noqa: E731
    result = gd.compile(lambda: (write(), None)[1])() if compiled else write()
    assert result is None if compiled else result is x
    assert np.asarray(x).tolist() == expected.tolist() == np.asarray(same_memory).ravel().tolist()


def test_what_in_place_forms_refuse():
    x, i = gd.tensor([1.0, 2.0]), gd.tensor([1, 2])
    leaf = gd.tensor([1.0, 2.0], requires_grad=True)
    for error, message, call in (
        (TypeError, "exp_: a result of fastgd.float32 cannot be written into fastgd.int64", lambda: i.exp_()),
        (ValueError, "pow_: a result of shape (2, 2) cannot be written into shape (2,)", lambda: x.pow_(gd.ones(2, 2))),
        (TypeError, "remainder_: a result of fastgd.float32 cannot be written into fastgd.int64", lambda: i.remainder_(0.5)),
    ):
        before = np.array(x), np.array(i)
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value) == message
        assert (np.asarray(x) == before[0]).all() and (np.asarray(i) == before[1]).all()
    with pytest.raises(RuntimeError, match="exp_: cannot write in place into a leaf that requires grad"):
        leaf.exp_()
    with pytest.raises(NotImplementedError, match="addcmul_: writing a tensor that requires grad in place"):
        x.addcmul_(leaf, 2.0)
    with gd.no_grad():
        assert leaf.clamp_(max=1.5).tolist() == [1, 1.5]


# ---- writes in place ---------------------------------------------------------------------------------


def test_writes_in_place():
    t = gd.tensor([1.0, 2.0, 3.0])
    same = t
    t += 1
    t -= gd.tensor([1.0])
    t *= [2.0, 2.0, 2.0]
    t /= 4
    assert t is same and t.tolist() == [0.5, 1, 1.5]
    assert t.add_(gd.ones(3), alpha=2).sub_(1).mul_(2).div_(2) is t and t.tolist() == [1.5, 2, 2.5]
    t[1:] = 7
    t[gd.tensor([0])] = gd.tensor([8.0])
    assert t.tolist() == [8, 7, 7]
    assert (
        t.copy_(gd.tensor(2.0)).tolist() == [2, 2, 2]
        and t.fill_(3).tolist() == [3, 3, 3]
        and t.zero_().tolist() == [0, 0, 0]
    )
    assert t.copy_(gd.tensor([1, 2, 3])).dtype == "float32"
    n = gd.tensor([1, 2])
    n += True
    assert n.tolist() == [2, 3]
    view = t.reshape(3, 1)
    view += 1
    assert t.tolist() == [2, 3, 4]
    t += t
    assert t.tolist() == [4, 6, 8]


def test_writes_in_place_that_do_not_fit():
    t, n = gd.zeros(2, 3), gd.tensor([1, 2])
    for wrong, words in (
        (lambda: t.add_(gd.zeros(4)), r"add: shapes \(2, 3\) and \(4,\) cannot be broadcast together"),
        (lambda: gd.zeros(3).add_(t), r"add_: a result of shape \(2, 3\) cannot be written into shape \(3,\)"),
        (lambda: gd.zeros(3).copy_(t), r"copy_: a result of shape \(2, 3\) cannot be written into shape \(3,\)"),
        (lambda: t.__setitem__(0, gd.zeros(2)), "cannot be written into shape"),
    ):
        with pytest.raises(ValueError, match=words):
            wrong()
    for wrong, words in (
        (lambda: n.add_(1.5), "add_: a result of a float cannot be written into fastgd.int64"),
        (lambda: n.mul_(gd.ones(2)), "mul_: a result of fastgd.float32 cannot be written into fastgd.int64"),
        (lambda: n.div_(2), "div: expected float32 or float64, got fastgd.int64"),
    ):
        with pytest.raises(TypeError, match=words):
            wrong()
    with pytest.raises(IndexError, match=r"index assignment: index 5 is out of range for dim 0 of shape \(2, 3\)"):
        t[5] = 1
    assert not np.asarray(t).any() and n.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda t: t.t(), "transposed"), (lambda t: t.T, "transposed"), (lambda t: t.transpose(0, 1), "transposed"),
        (lambda t: t.permute(1, 0), "transposed"), (lambda t: t[0], "slice"), (lambda t: t[:, 1:], "slice"),
        (lambda t: t.reshape(1, 2, 3).expand(4, 2, 3), "expanded"), (lambda t: t.t().reshape(6), "transposed"),
        (lambda t: t.t().detach(), "transposed"), (lambda t: t[0].data, "slice"), (lambda t: t.t()[0], "slice"),
    ],
)  # fmt: skip
def test_a_copy_that_would_be_a_view_in_torch_is_not_written(make, what):
    t = gd.zeros(2, 3)
    copy_ = make(t)
    for write in (
        lambda: copy_.add_(1),
        copy_.zero_,
        lambda: copy_.copy_(gd.ones(1)),
        lambda: copy_.__setitem__(0, 1.0),
    ):
        with pytest.raises(RuntimeError, match=f"{what}.*which is a copy in fastgd"):
            write()
    assert make(t).clone().add_(1).sum().item() == copy_.numel()
    assert (make(t) + 1).add_(1).sum().item() == 2 * copy_.numel()


# ---- NumPy, Python, copies ---------------------------------------------------------------------------


def test_arrays_that_share():
    t = gd.zeros(3)
    t.numpy()[0] = 5
    np.asarray(t)[1] = 6
    assert t.tolist() == [5, 6, 0]
    w = gd.zeros(3, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"use \.detach\(\)\.numpy\(\)"):
        w.numpy()
    array = np.asarray(w)
    assert np.shares_memory(array, w.detach().numpy())
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    w.detach().numpy()[0] = 2
    assert array[0] == 2
    assert not np.shares_memory(np.array(t), t.numpy())
    assert np.asarray(t, dtype=np.float64).dtype == np.float64
    assert np.asarray(gd.zeros(2, 0, 3)).shape == (2, 0, 3) and np.asarray(gd.tensor(2.0)).shape == ()
    half = gd.tensor([1.5], dtype="bfloat16")
    assert np.asarray(half).dtype == np.float32 and half.tolist() == [1.5]
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        with pytest.raises(ValueError, match="without a copy"):
            np.asarray(t, dtype=np.float64, copy=False)


def test_an_array_outlives_its_tensor():
    array = (gd.zeros(1000) + 3).numpy()
    other = [gd.zeros(1000) for _ in range(4)]
    assert (array == 3).all() and len(other) == 4


@pytest.mark.parametrize("dtype", [*ORDER, "bfloat16"])
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 3)])
def test_copies(dtype, shape):
    t = gd.ones(shape, dtype=dtype)
    if dtype.startswith("float"):
        t.requires_grad_()
    for again in (copy.deepcopy(t), pickle.loads(pickle.dumps(t)), copy.copy(t)):  # noqa: S301
        assert again.dtype == t.dtype and again.shape == t.shape and again.tolist() == t.tolist()
        assert again.requires_grad == t.requires_grad and again is not t
    if t.numel():
        again = copy.deepcopy(t)
        again.detach().zero_()
        assert np.asarray(t).all()


def test_deepcopy_keeps_identity_and_gradients():
    w = gd.ones(2, requires_grad=True)
    (w * 3).sum().backward()
    a, b = copy.deepcopy([w, w])
    assert a is b and a.grad.tolist() == [3, 3] and a.grad is not w.grad
    with pytest.raises(RuntimeError, match="only leaf tensors can be copied"):
        copy.deepcopy(w * 2)


def test_repr():
    assert repr(gd.tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    assert repr(gd.tensor([1, 2])) == "tensor([1, 2], dtype=fastgd.int64)"
    assert repr(gd.tensor(1.0, requires_grad=True)) == "tensor(1., requires_grad=True)"
    assert repr(gd.zeros(0, 2)).startswith("tensor([]")
    assert len(repr(gd.zeros(1000, 1000))) < 1000
    assert f"{gd.tensor(3.14159):.2f}" == "3.14" and str(gd.tensor([True])) == "tensor([ True], dtype=fastgd.bool)"


def test_single_elements():
    assert gd.tensor([[2.5]]).item() == 2.5 and isinstance(gd.tensor(1).item(), int) and gd.tensor(True).item() is True
    assert float(gd.tensor(2)) == 2.0 and int(gd.tensor(2.9)) == 2 and [10, 20][gd.tensor(1)] == 20
    assert bool(gd.tensor([1.0])) and not gd.tensor(0)
    for wrong, words in (
        (lambda: gd.zeros(2).item(), r"item: expected one element, got shape \(2,\)"),
        (lambda: bool(gd.zeros(2)), r"bool: a tensor of shape \(2,\) is neither true nor false"),
        (lambda: bool(gd.zeros(0)), "neither true nor false"),
        (lambda: float(gd.zeros(2)), "expected one element"),
    ):
        with pytest.raises(ValueError, match=words):
            wrong()
    for wrong, words in (
        (lambda: [1][gd.tensor(0.0)], r"index: expected one integer, got float32\[\]"),
        (lambda: len(gd.tensor(1.0)), "0-d tensor has no length"),
        (lambda: list(gd.tensor(1.0)), "iteration over a 0-d tensor"),
    ):
        with pytest.raises(TypeError, match=words):
            wrong()


def test_sequences():
    t = gd.tensor([[1, 2], [3, 4]])
    assert len(t) == 2 and [row.tolist() for row in t] == [[1, 2], [3, 4]]
    assert 3 in gd.arange(5) and 7 not in gd.arange(5)
    assert len({t, t, gd.zeros(1)}) == 2


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        slice(None),
        slice(1, 3),
        slice(None, None, 2),
        ...,
        None,
        (0, 1),
        (slice(None), 1),
        [0, 2],
        (..., 0),
        (None, 1),
    ],
)
def test_indexing(index):
    array = np.arange(12.0).reshape(4, 3)
    np.testing.assert_array_equal(np.asarray(gd.tensor(array)[index]), array[index])


def test_indexing_with_tensors_and_its_errors():
    t = gd.arange(5)
    assert t[t > 2].tolist() == [3, 4] and t[gd.tensor([4, 0])].tolist() == [4, 0]
    assert gd.tensor([1.0, 2.0], dtype="bfloat16")[0].dtype == "bfloat16"
    with pytest.raises(IndexError, match=r"indexing: index 9 is out of range for dim 0 of shape \(5,\)"):
        t[9]
    assert gd.compile(lambda x: x[1:])(gd.arange(4)).tolist() == [1, 2, 3]


def test_values_are_not_known_inside_a_recording():
    for use in (lambda x: x.item(), float, bool, int, lambda x: x.numpy(), lambda x: x.tolist(), lambda x: [1, 2][x]):
        with pytest.raises(RuntimeError, match=r"the values of a tensor are not known while fastgd\.compile records"):
            gd.compile(lambda x, use=use: (use(x), x)[1])(gd.tensor([1]))


def test_conversion():
    t = gd.tensor([1.5, 0.0])
    assert t.to("float64").dtype == t.double().dtype == t.to(gd.zeros(1, dtype="float64")).dtype == "float64"
    assert t.to(gd.float32) is t and t.to("cpu") is t and t.to(gd.device("cpu")) is t and t.cpu() is t
    assert t.to("float32", copy=True) is not t and t.contiguous() is t and t.is_contiguous()
    assert t.long().tolist() == [1, 0] and t.bool().tolist() == [True, False] and t.int().dtype == "int32"
    for wrong in (lambda: t.to("cuda"), lambda: gd.device("cuda:0"), lambda: gd.tensor([1], device="mps")):
        with pytest.raises(NotImplementedError, match="runs on the CPU only"):
            wrong()
    with pytest.raises(TypeError, match=r"to: unexpected arguments \['nonsense'\]"):
        t.to("float32", nonsense=True)
    t.data = gd.zeros(3)
    assert t.shape == (3,)
    with pytest.raises(TypeError, match="data: expected a Tensor with storage, got list"):
        t.data = [1]


# ---- errors of the public functions ------------------------------------------------------------------

A, B, C = gd.zeros(2, 3), gd.zeros(4, 5), gd.zeros(2, 3, dtype="int64")
LABELS = gd.zeros(2, dtype="int64")
SHAPE_ERRORS = [
    (lambda: F.add(A, B), "add: shapes (2, 3) and (4, 5) cannot be broadcast together (dim -2)"),
    (lambda: F.where(A > 0, A, B), "where: shapes (2, 3) and (2, 3) and (4, 5) cannot be broadcast together (dim -2)"),
    (lambda: F.matmul(A, B), "matmul: inner sizes differ: (2, 3) @ (4, 5) (of shapes (2, 3) and (4, 5))"),
    (lambda: F.matmul(A, gd.tensor(1.0)), "matmul: expected at least 1 dim, got shapes (2, 3) and ()"),
    (lambda: F.mm(A, gd.zeros(3)), "mm: expected two tensors of 2 dims and one batch size, got (2, 3) and (3,)"),
    (lambda: F.bmm(gd.zeros(2, 3, 4), gd.zeros(1, 4, 5)), "bmm: expected two tensors of 3 dims and one batch size"),
    (lambda: F.linear(A, B), "linear: expected weight of shape (4, 3), got (4, 5) (input of shape (2, 3))"),
    (lambda: F.linear(A, gd.zeros(4, 3), gd.zeros(3)), "linear: expected bias of shape (4,), got (3,)"),
    (lambda: F.linear(A, gd.zeros(3)), "linear: expected weight of 2 dims (out_features, in_features), got shape (3,)"),
    (lambda: F.reshape(A, (4, 2)), "reshape: shape (2, 3) has 6 elements, (4, 2) has 8"),
    (lambda: F.reshape(A, (-1, -1)), "reshape: only one size may be -1, got (-1, -1)"),
    (lambda: F.reshape(A, (-1, 4)), "reshape: shape (2, 3) cannot become (-1, 4)"),
    (lambda: F.reshape(gd.zeros(0), (-1, 0)), "reshape: shape (0,) cannot become (-1, 0)"),
    (lambda: F.expand(A, (4, 3)), "expand: shape (2, 3) cannot become (4, 3)"),
    (lambda: F.expand(A, (3,)), "expand: expected at least 2 dims, got (3,)"),
    (lambda: F.permute(A, 0, 0), "permute: expected each of 2 dims once, got (0, 0)"),
    (lambda: F.t(gd.zeros(1, 1, 1)), "t: expected at most 2 dims, got 3; use transpose(dim0, dim1)"),
    (lambda: F.flatten(gd.zeros(1, 1, 1), 2, 1), "flatten: start_dim 2 comes after end_dim 1"),
    (lambda: F.sum(A, (0, 0)), "sum: a dim appears twice in (0, 0)"),
    (lambda: F.amax(gd.zeros(0, 3), 0), "amax: shape (0, 3) has no elements along dims (0,)"),
    (lambda: F.argmax(gd.zeros(0)), "argmax: shape (0,) has no elements along dims (0,)"),
    (lambda: F.cross_entropy(A, gd.zeros(3, dtype="int64")), "cross_entropy: expected logits (rows, classes) and labels (rows,), got (2, 3) and (3,)"),
    (lambda: F.cross_entropy(A, LABELS, reduction="avg"), "cross_entropy: expected reduction 'none', 'mean' or 'sum', got 'avg'"),
    (lambda: F.mse_loss(A, gd.zeros(3)), "mse_loss: expected equal shapes, got (2, 3) and (3,)"),
    (lambda: F.dropout(A, 1.5), "dropout: expected 0 <= p <= 1, got 1.5"),
    (lambda: gd.randn(-1), "randn: expected sizes >= 0, got (-1,)"),
    (lambda: gd.rand(2, -3), "rand: expected sizes >= 0, got (2, -3)"),
    (lambda: gd.randperm(-1), "randperm: expected sizes >= 0, got (-1,)"),
    (lambda: gd.randint(5, 2, (3,)), "randint: expected low < high, got low = 5, high = 2"),
    (lambda: gd.zeros(2, -1), "zeros: expected sizes >= 0, got (2, -1)"),
    (lambda: F.gelu(A, approximate="erf"), "gelu: expected approximate 'none' or 'tanh', got 'erf'"),
]  # fmt: skip
TYPE_ERRORS = [
    (lambda: F.matmul(C, C), "matmul: expected float32 or float64, got fastgd.int64"),
    (lambda: F.linear(A, gd.zeros(4, 3, dtype="float64")), "linear: expected one dtype, got fastgd.float32 and fastgd.float64"),
    (lambda: F.mean(C), "mean: expected a floating-point tensor, got fastgd.int64; pass dtype=fastgd.float32"),
    (lambda: F.softmax(C, 0), "softmax: expected float32 or float64, got fastgd.int64"),
    (lambda: F.softmax(A), "softmax: expected dim, an integer (dim=-1 for the last)"),
    (lambda: F.sum(A, "x"), "sum: expected an integer dim, got str"),
    (lambda: F.dropout(C), "dropout: expected float32 or float64, got fastgd.int64"),
    (lambda: F.where(A, A, A), "where: expected a bool condition, got fastgd.float32"),
    (lambda: F.cross_entropy(A, LABELS.bool()), "cross_entropy: expected labels of dtype int64, int32 or uint8, got bool"),
    (lambda: F.mse_loss(C, C), "mse_loss: expected floating-point tensors, got fastgd.int64"),
    (lambda: gd.rand(2, dtype="int64"), "rand: expected a floating-point dtype, got fastgd.int64"),
    (lambda: gd.randn(2, dtype="bool"), "randn: expected a floating-point dtype, got fastgd.bool"),
    (lambda: gd.randint(0, 2.5, (3,)), "randint: expected integers, got (2.5,)"),
    (lambda: gd.randint(5), "randint: expected integers, got (None,)"),
    (lambda: gd.randint(5, (2,), dtype="float128"), "float128"),
    (lambda: gd.zeros("a"), "zeros: expected integers, got ('a',)"),
    (lambda: gd.ones([2, 1.5]), "ones: expected integers, got [2, 1.5]"),
    (lambda: gd.full("ab", 1), "full: expected integers, got ('a', 'b')"),
    (lambda: gd.empty(2.0), "empty: expected integers, got (2.0,)"),
    (lambda: F.add(A, "a"), "add: expected tensors or numbers, got str"),
]  # fmt: skip
RANGE_ERRORS = [
    (lambda: F.sum(A, 2), "sum: dim 2 is out of range for 2 dims (expected -2 <= dim < 2)"),
    (lambda: F.softmax(A, -3), "softmax: dim -3 is out of range for 2 dims (expected -2 <= dim < 2)"),
    (lambda: F.transpose(A, 0, 5), "transpose: dim 5 is out of range for 2 dims (expected -2 <= dim < 2)"),
    (lambda: F.unsqueeze(A, 4), "unsqueeze: dim 4 is out of range for 3 dims (expected -3 <= dim < 3)"),
    (lambda: F.cross_entropy(A, gd.tensor([0, 3])), "cross_entropy: label 3 at row 1 is out of range, expected 0 <= label < 3"),
    (lambda: F.cross_entropy(A, gd.tensor([-1, 0])), "cross_entropy: label -1 at row 0 is out of range, expected 0 <= label < 3"),
    (lambda: gd.compile(F.cross_entropy)(A, gd.tensor([0, 9])), "cross_entropy: label 9 at row 1 is out of range"),
]  # fmt: skip
NOT_OFFERED = [
    (lambda: F.cross_entropy(A, A), "class probabilities are not offered"),
    (lambda: F.cross_entropy(A, LABELS, label_smoothing=0.1), "label_smoothing are not offered"),
    (lambda: F.rrelu(A, training=True), "rrelu: training=True (random slopes) is not offered; use leaky_relu or prelu"),
    (lambda: F.clip_grad_norm_([], 1.0, norm_type=1.0), "only the 2-norm is offered"),
    (lambda: gd.compile(lambda: gd.rand(2))(), "rand inside fastgd.compile is not offered yet"),
]


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [(c, k, w) for k, rows in ((ValueError, SHAPE_ERRORS), (TypeError, TYPE_ERRORS), (IndexError, RANGE_ERRORS), (NotImplementedError, NOT_OFFERED)) for c, w in rows],
)  # fmt: skip
def test_errors_name_the_operation_and_what_came(call, kind, words):
    before = gd.random.get_state()
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)
    assert isinstance(caught.value, RuntimeError)  # torch users catch that
    assert gd.random.get_state() == before


def test_nn_functional_has_the_same_errors():
    with pytest.raises(ValueError, match=r"linear: expected weight of shape \(4, 3\), got \(4, 5\)"):
        NF.linear(A, B)
    with pytest.raises(IndexError, match="label 3 at row 1"):
        NF.cross_entropy(A, gd.tensor([0, 3]))


@pytest.mark.parametrize("mode", [False, True])
def test_set_grad_enabled_is_a_call_a_context_and_a_decorator(mode):
    @gd.set_grad_enabled(mode)
    def inside():
        """Asks."""
        return gd.is_grad_enabled()

    assert gd.is_grad_enabled() and inside.__doc__ == "Asks."
    with gd.set_grad_enabled(not mode):
        assert inside() is mode
        assert gd.is_grad_enabled() is not mode
    try:
        gd.set_grad_enabled(mode)
        assert gd.is_grad_enabled() is mode
    finally:
        gd.set_grad_enabled(True)


@pytest.mark.parametrize("arguments", [(), ([1.0, 2.0],), (2, 3)])
def test_tensor_is_not_made_by_its_class(arguments):
    with pytest.raises(TypeError, match=r"fastgd\.tensor\(data\)"):
        gd.Tensor(*arguments)


def test_an_empty_shell_is_an_error_and_no_crash():
    shell = gd.Tensor.__new__(gd.Tensor)
    for use in (lambda: shell.shape, lambda: repr(shell), lambda: shell + 1, lambda: len(shell), lambda: gd.exp(shell)):
        with pytest.raises((AttributeError, RuntimeError, TypeError)):
            use()
