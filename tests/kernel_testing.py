"""What the tests of single kernels share: every tier of this CPU, several thread counts, awkward addresses."""

from contextlib import contextmanager

import numpy as np

from fastgd import _core


def _usable_tiers():
    before = _core.current_tier()
    usable = []
    for name in ("scalar", "avx2", "avx512", "neon"):
        try:
            _core.select_tier(name)
        except RuntimeError:  # not built, or the CPU lacks it
            continue
        usable.append(name)
    _core.select_tier(before)
    return usable


TIERS = _usable_tiers()


@contextmanager
def selected_tier(name):
    """Runs the block on another tier."""
    before = _core.current_tier()
    _core.select_tier(name)
    try:
        yield
    finally:
        _core.select_tier(before)


FLOATS = {"f32": np.float32, "f64": np.float64}
THREADS = (1, 2, 3, 7)


def unaligned(shape, dtype, offset=1):
    """An uninitialised array whose address is a multiple of the element size and of nothing more."""
    n = int(np.prod(shape, dtype=np.int64))
    return np.empty(n + offset + 64, dtype)[offset : offset + n].reshape(shape)


def guarded(shape, dtype):
    """An unaligned array for an output, and a function that fails if anything around it was written."""
    n = int(np.prod(shape, dtype=np.int64))
    raw = np.full((n + 34) * np.dtype(dtype).itemsize, 0xAB, np.uint8).view(dtype)
    inside = raw[17 : 17 + n].reshape(shape)

    def check():
        around = np.concatenate([raw[:17], raw[17 + n :]]).view(np.uint8)
        assert (around == 0xAB).all(), "written outside of the output"

    return inside, check


def same_bits_at_any_thread_count(compute):
    """compute() returns a list of arrays; returns that of one thread after comparing the bits of the others."""
    results = []
    before = _core.get_num_threads()
    for n in THREADS:
        _core.set_num_threads(n)
        results.append([np.array(a) for a in compute()])
    _core.set_num_threads(before)
    for n, other in zip(THREADS, results, strict=True):
        for a, b in zip(results[0], other, strict=True):
            assert a.tobytes() == b.tobytes(), f"{n} threads give other bits than one"
    return results[0]
