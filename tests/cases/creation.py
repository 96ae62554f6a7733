"""Functions that make tensors are tested apart, in tests/test_ops.py."""

from . import APART

APART |= {
    "arange", "empty", "empty_like", "eye", "full", "full_like", "linspace", "ones", "ones_like", "rand", "randint",
    "randn", "randperm", "zeros", "zeros_like",
}  # fmt: skip
