"""PyTorch's own operator samples (its `op_db`), run against the functions of the same name here.

For every operator of PyTorch's table that fastgd has: each sample's value, dtype and shape in float64, float32,
int64 and bool, and in float64 the gradients of a random projection.  A sample that fastgd refuses with NotOffered
(or, of integers or bools, with an error that names the dtypes it expects) is counted, not failed: arguments are
refused by name, never ignored.  Skipped where PyTorch is not installed.

The last test prints how many samples were compared and refused.
"""

import warnings
from collections import Counter

import numpy as np
import pytest

import fastgd as gd
import fastgd.nn.functional as F

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
pytest.importorskip("expecttest", reason="PyTorch's operator samples need the package expecttest")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

MOST_SAMPLES = 60  # of one operator and dtype, spread evenly over its list
DTYPES = {"float64": torch.float64, "float32": torch.float32, "int64": torch.int64, "bool": torch.bool}
TOLERANCE = {"float64": 1e-9, "float32": 2e-4}  # of the largest element

# What is drawn at random cannot agree in value: shape and dtype only.
RANDOM = {
    "bernoulli", "multinomial", "nn.functional.alpha_dropout", "nn.functional.dropout", "nn.functional.dropout1d",
    "nn.functional.dropout2d", "nn.functional.dropout3d", "nn.functional.feature_alpha_dropout", "nn.functional.rrelu",
    "normal", "rand_like", "randint", "randint_like", "randn", "randn_like", "uniform", "empty", "empty_like",
    "new_empty", "randperm", "rand",
}  # fmt: skip
# Samples that do not fit this comparison, and why.
LEFT_OUT: dict[str, str] = {
    "randperm": "fastgd's takes no generator or dtype",
    "unfold": "torch.Tensor.unfold is another function than nn.functional.unfold",
}

# PyTorch multiplies by 1/6 rounded to float32 here, in float64 too.
LOOSER = {"nn.functional.hardsigmoid": 1e-7}

# PyTorch's table wraps some functions to have the differentiable argument first.
WRAPPED = {
    "nn.functional.embedding": lambda f: lambda weight, index, **options: f(index, weight, **options),
    "where": lambda f: lambda self, condition, other: f(condition, self, other),
}

COUNTS: Counter = Counter()


def ours(name):
    """The function of fastgd with an operator's name, or None."""
    if name.startswith("nn.functional."):
        return getattr(F, name.removeprefix("nn.functional."), None)
    space = gd
    for part in name.split("."):
        space = getattr(space, part, None)
    return space if callable(space) and not isinstance(space, type) else None


OPERATORS = [op for op in op_db if ours(op.name) is not None and op.name not in LEFT_OUT]


class Unsupported(Exception):
    """A sample that uses what fastgd has no word for (complex numbers, sparse layouts ...)."""


def to_ours(x, requires_grad):
    if isinstance(x, torch.Tensor):
        if x.dtype.is_complex or x.layout is not torch.strided or x.dtype in (torch.float16, torch.int8, torch.int16):
            raise Unsupported(str(x.dtype))
        array = x.detach().numpy() if x.dtype is not torch.bfloat16 else x.detach().float().numpy()
        t = gd.tensor(np.array(array, order="C", copy=True), dtype=str(x.dtype).removeprefix("torch."))
        return t.requires_grad_() if requires_grad and x.requires_grad and t.dtype.is_floating_point else t
    if isinstance(x, torch.dtype):
        name = str(x).removeprefix("torch.")
        if not hasattr(gd, name):
            raise Unsupported(name)
        return getattr(gd, name)
    if isinstance(x, (torch.memory_format, torch.layout, torch.Generator)):
        raise Unsupported(type(x).__name__)
    if isinstance(x, torch.device):
        return str(x)
    if isinstance(x, complex):
        raise Unsupported("complex")
    if isinstance(x, (list, tuple)):
        return type(x)(to_ours(y, requires_grad) for y in x) if not hasattr(x, "_fields") else x
    if isinstance(x, dict):
        return {k: to_ours(v, requires_grad) for k, v in x.items()}
    return x


def tensors_of(x):
    if isinstance(x, (torch.Tensor, gd.Tensor)):
        return [x]
    if isinstance(x, dict):
        return [t for v in x.values() for t in tensors_of(v)]
    return [t for v in x for t in tensors_of(v)] if isinstance(x, (list, tuple)) else []


def array(t):
    return t.detach().float().numpy() if t.dtype is torch.bfloat16 else np.asarray(t.detach())


def compare(theirs, mine, dtype, values):
    a, b = tensors_of(theirs), tensors_of(mine)
    assert len(a) == len(b), f"{len(a)} tensors there, {len(b)} here"
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        assert str(x.dtype).removeprefix("torch.") == str(y.dtype).removeprefix("fastgd."), f"result {i}: dtype"
        assert tuple(x.shape) == tuple(y.shape), f"result {i}: shape"
        if values:
            close(array(x), array(y), dtype, f"result {i}")
    if not a:
        assert theirs == mine, "result"


def close(x, y, dtype, what, least=0.0):
    if x.dtype.kind != "f":
        np.testing.assert_array_equal(x, y, err_msg=what)
        return
    tolerance = max(least, TOLERANCE[dtype if dtype in TOLERANCE else x.dtype.name])  # integers may become floats
    scale = np.max(np.abs(x[np.isfinite(x)]), initial=1.0)
    np.testing.assert_allclose(y, x, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def project_and_differentiate(outputs, inputs, library):
    floats = [o for o in outputs if o.requires_grad]
    if not floats:
        return None
    seeds = [np.random.default_rng(i).normal(size=tuple(o.shape)) for i, o in enumerate(floats)]
    make = torch.from_numpy if library is torch else gd.tensor
    terms = [(o * make(np.asarray(s)).to(o.dtype)).sum() for o, s in zip(floats, seeds, strict=True)]
    sum(terms[1:], terms[0]).backward()
    return [None if t.grad is None else array(t.grad) for t in inputs if t.is_leaf and t.requires_grad]


def samples(op, dtype):
    grad = dtype.is_floating_point and op.supports_autograd
    found = []
    for s in op.sample_inputs("cpu", dtype, requires_grad=grad):
        found.append(s)
        if len(found) >= 600:
            break
    step = max(1, len(found) // MOST_SAMPLES)
    return found[::step]


def describe(sample):
    def short(x):
        if isinstance(x, torch.Tensor):
            return f"{str(x.dtype)[6:]}{tuple(x.shape)}"
        if isinstance(x, (list, tuple)):
            return f"[{', '.join(map(short, x))}]"
        return repr(x)[:60]

    arguments = [short(sample.input), *map(short, sample.args)]
    return ", ".join(arguments + [f"{k}={short(v)}" for k, v in sample.kwargs.items()])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.formatted_name)
def test_samples(op, dtype):
    if DTYPES[dtype] not in op.supported_dtypes("cpu"):
        pytest.skip("PyTorch has no such instance")
    function = WRAPPED.get(op.name, lambda f: f)(ours(op.name))
    failures, compared, refused = [], 0, 0
    for sample in samples(op, DTYPES[dtype]):
        try:
            with_grad = dtype == "float64" and op.supports_autograd
            arguments = [to_ours(a, with_grad) for a in (sample.input, *sample.args)]
            keywords = to_ours(sample.kwargs, with_grad)
        except Unsupported:
            continue
        their_inputs = tensors_of([sample.input, *sample.args, sample.kwargs])
        my_inputs = tensors_of([*arguments, keywords])
        try:
            theirs = op.op(sample.input, *sample.args, **sample.kwargs)
            their_grads = None
            if with_grad and op.name not in RANDOM:
                for t in their_inputs:  # samples share tensors
                    t.grad = None
                their_grads = project_and_differentiate(tensors_of(theirs), their_inputs, torch)
        except Exception:  # PyTorch itself does not run it: nothing to compare with
            continue
        try:
            mine = function(*arguments, **keywords)
            compare(theirs, mine, dtype, op.name not in RANDOM)
            if their_grads is not None:
                my_grads = project_and_differentiate(tensors_of(mine), my_inputs, gd)
                for i, (x, y) in enumerate(zip(their_grads, my_grads or [], strict=True)):
                    zero = None if x is None else np.zeros_like(x)
                    if x is not None or y is not None:  # None and zero mean the same
                        close(
                            x if x is not None else np.zeros_like(y),
                            y if y is not None else zero,
                            dtype,
                            f"gradient {i}",
                            LOOSER.get(op.name, 0.0),
                        )
            compared += 1
        except gd.NotOffered:
            refused += 1
        except gd.DtypeError as error:  # products of integers, say
            if DTYPES[dtype].is_floating_point or "expected" not in str(error):
                failures.append(f"{op.name}({describe(sample)}): {error}")
            refused += 1
        except Exception as error:
            failures.append(
                f"{op.name}({describe(sample)}): {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            )
    COUNTS["compared"] += compared
    COUNTS["refused as not offered"] += refused
    assert not failures, f"{len(failures)} of {len(failures) + compared} samples:\n" + "\n".join(failures[:8])
    if refused and not compared:
        pytest.skip("all samples are refused as not offered")


def test_how_many_samples_were_compared(capsys):
    with capsys.disabled():
        operators = len({op.name for op in OPERATORS})
        print(
            f"\n{operators} of PyTorch's operators: " + ", ".join(f"{n} samples {what}" for what, n in COUNTS.items())
        )
    assert COUNTS["compared"] > 0
