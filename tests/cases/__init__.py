"""The table of cases that tests/test_ops.py runs: one file per family of operations, all imported here.

A case names a public function and has a NumPy or SciPy reference that runs in float64, independent of our kernels;
`refuses` adds a call that must raise, with its exact message.
"""

import importlib
import math
import pkgutil
from dataclasses import dataclass

import numpy as np

from fastgd.ops import functional as F

# ---- inputs ------------------------------------------------------------------------------------------


def normal(*shape):
    return lambda rng: rng.normal(size=shape)


def positive(*shape):
    return lambda rng: rng.uniform(0.2, 3.0, size=shape)


def away(*shape):
    """No element near 0, where kinks are; no two elements near each other."""

    def make(rng):
        n = math.prod(shape)
        values = (rng.permutation(n) + 0.5) / max(n, 1) * 4 + 0.2
        return (values * rng.choice([-1.0, 1.0], n)).reshape(shape)

    return make


def uniform(low, high, *shape):
    return lambda rng: rng.uniform(low, high, size=shape)


def flags(*shape):
    return lambda rng: rng.random(shape) < 0.5


def labels(classes, *shape):
    return lambda rng: rng.integers(0, classes, shape)


# ---- the tables --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    name: str  # of the public function
    function: object  # returns a tensor, or a tuple of tensors
    reference: object  # returns an array, or a tuple of arrays
    inputs: tuple
    text: str = ""
    differentiable: bool = True
    f32: float = 1.0  # times the float32 tolerance, for long sums
    eager_only: bool = False  # the shape of its result depends on values: refused inside fastgd.compile
    big: bool = False  # cut into several units of work: run with several numbers of threads

    def arrays(self, dtype="float64"):
        rng = np.random.default_rng(sum(map(ord, self.name + self.text)))
        made = [np.asarray(make(rng)) for make in self.inputs]
        return [a.astype(dtype) if a.dtype.kind == "f" else a for a in made]

    def __repr__(self):
        return f"{self.name}-{self.text}"


@dataclass(frozen=True)
class Refusal:
    name: str  # of the public function
    error: type
    message: str  # the whole text
    call: object

    def __repr__(self):
        return f"{self.name}-{self.message[:40]}"


CASES: list[Case] = []
REFUSALS: list[Refusal] = []
APART: set[str] = set()  # functions that tests of their own cover, because no reference can say what comes out
SHAPES = ((1,), (7,), (3, 0, 2), (5, 1, 3), (), (0,), (33, 65))
BIG = (129, 515)


def case(name, reference, *inputs, function=None, arguments=(), text="", **options):
    """Adds a case; `arguments` follow the inputs, in ours and in the reference."""
    function = function or getattr(F, name)
    if arguments:
        function, reference = (lambda *xs, f=f: f(*xs, *arguments) for f in (function, reference))
    CASES.append(Case(name, function, reference, inputs, text or f"{len(CASES)}", **options))


def refuses(name, error, message, call):
    """Adds a call without arguments that must raise `error` with exactly `message`."""
    REFUSALS.append(Refusal(name, error, message, call))


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
