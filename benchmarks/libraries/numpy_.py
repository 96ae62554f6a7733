"""NumPy and the BLAS it ships with, for matrix products."""

import numpy as np

VERSION = np.__version__


def setup(threads):
    """The BLAS reads the number of threads from the environment, which the driver sets."""


def matmul(workload, arrays, variant):
    a, b = arrays["a"], arrays["b"]
    c = np.empty((workload.m, workload.n), np.float32)

    def run(count):
        for _ in range(count):
            np.matmul(a, b, out=c)
        return float(c[-1, -1])

    return run


BUILDERS = {"matmul": matmul}
