"""Dropout and gradient clipping are tested apart, in tests/test_ops.py."""

from . import APART

APART |= {"dropout", "clip_grad_value_", "clip_grad_norm_"}
