"""Building arguments of the `elementwise` kernel from arrays, for the tests of tile programs."""

import struct

import numpy as np

from fastgd import _core

LOOP_DIMS = 6
DTYPES = {"float32": 0, "float64": 1, "bfloat16": 2, "int32": 3, "int64": 4, "uint8": 5, "bool": 6}
OPS = {name: (code, n_inputs, mask) for code, (name, n_inputs, mask, _) in enumerate(_core.tile_ops())}
# What tests pass as p and q of the operations that have them: exact in float32, so that references need no rounding.
IMMEDIATES = {
    "leaky_relu": (0.25, 0), "elu": (0.5, 2), "softplus": (2, 3), "hardtanh": (-0.5, 2), "hardshrink": (0.5, 0),
    "softshrink": (0.5, 0), "threshold": (0.5, -2.5), "leaky_relu_bwd": (0.25, 0), "elu_bwd": (0.5, 2),
    "softplus_bwd": (2, 3), "hardtanh_bwd": (-0.5, 2), "shrink_bwd": (0.5, 0), "threshold_bwd": (0.5, -2.5),
}  # fmt: skip


def double_bits(value):
    """The bits of a double as the integer that carries it through a program."""
    return struct.unpack("=q", struct.pack("=d", value))[0]


def dtype_code(dtype):
    """Accepts NumPy dtypes and "bfloat16", whose arrays are uint16 here."""
    name = "bfloat16" if np.dtype("uint16") == dtype or dtype == "bfloat16" else np.dtype(dtype).name
    return DTYPES[name]


def op(name, dtype, dst, *inputs, imm0=0, imm1=0):
    """One operation; dtype is that of its inputs, registers are numbers."""
    if name in IMMEDIATES:
        imm0, imm1 = map(double_bits, IMMEDIATES[name])
    code, n_inputs, _ = OPS[name]
    assert len(inputs) == n_inputs
    registers = list(inputs) + [-1] * (3 - n_inputs)
    return [code, dtype_code(dtype), dst, *registers, imm0, imm1]


def run(shape, outputs, inputs, ops):
    """Runs a program over `shape`.

    outputs are (array, register) pairs, inputs arrays that broadcast to the shape (their strides
    are passed as they are, so transposed and repeated views are fine); input i is register i.
    """
    tail, n_registers = [], len(inputs)
    for array in inputs:
        strides = [s // array.itemsize for s in np.broadcast_to(array, shape).strides]
        tail += [dtype_code(array.dtype), *strides, *[0] * (LOOP_DIMS - len(shape))]
    for array, register in outputs:
        assert array.shape == tuple(shape) and array.flags.c_contiguous
        tail += [dtype_code(array.dtype), register]
    for operation in ops:
        tail += operation
        n_registers = max(n_registers, operation[2] + 1)
    return _core.run_kernel(
        "elementwise", [array for array, _ in outputs] + list(inputs), tail,
        ndim=len(shape), shape=list(shape), n_outputs=len(outputs), n_inputs=len(inputs),
        n_ops=len(ops), n_registers=n_registers)


def apply(name, *arrays, out_dtype=None, imm0=0, imm1=0, out=None):
    """One operation over one-dimensional arrays of one length; the last array sets the dtype."""
    dtype = arrays[-1].dtype
    if out is None:
        out = np.empty(arrays[0].shape, out_dtype or dtype)
    k = len(arrays)
    run(out.shape, [(out, k)], list(arrays), [op(name, dtype, k, *range(k), imm0=imm0, imm1=imm1)])
    return out
