"""Strides of operands over an iteration space, and which dims a kernel's loops can merge."""

from __future__ import annotations

from typing import Any

from .program import Node, Value

LOOP_DIMS = 6  # of an elementwise program (FGD_LOOP_DIMS)
MAX_BATCH_DIMS = 4  # of a matrix product


def strides_over(value: Value, shape: tuple[int, ...]) -> list[int]:
    """Element strides of a contiguous value read over `shape`, 0 where it is broadcast."""
    own: list[int] = []
    step = 1
    for size in reversed(value.aval.shape):
        own.append(0 if size == 1 else step)
        step *= size
    own += [0] * (len(shape) - len(own))
    return own[::-1]


def collapse(shape: tuple[int, ...], strides: list[list[int]], keep_last: int = 0) -> tuple[list[int], list[list[int]]]:
    """Merges neighbouring dims that every operand walks as one; the last `keep_last` dims stay apart."""
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    n = len(shape)
    for d in range(n):
        protected = d >= n - keep_last
        if shape[d] == 1 and not protected:
            continue
        joins = (
            bool(sizes)
            and not protected
            and all(s[-1] == row[d] * shape[d] for s, row in zip(steps, strides, strict=True))
        )
        if joins:
            sizes[-1] *= shape[d]
            for s, row in zip(steps, strides, strict=True):
                s[-1] = row[d]
        else:
            sizes.append(shape[d])
            for s, row in zip(steps, strides, strict=True):
                s.append(row[d])
    if not sizes:
        sizes = [1]
        for s in steps:
            s.append(0)
    return sizes, steps


def contiguous_strides(shape: tuple[int, ...]) -> list[int]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return strides[::-1]


def walkable(root: Node | None, shape: tuple[int, ...], operands: list[Value]) -> bool:
    """Whether the loops of an elementwise program (or of the epilogue of the product `root`) can walk the operands."""
    rows: list[Any] = [contiguous_strides(shape), *[strides_over(v, shape) for v in operands if fits(v, shape)]]
    if root is None:
        return len(collapse(shape, rows)[0]) <= LOOP_DIMS
    if root.op.epilogue:
        return len(collapse(shape[2:], [row[2:] for row in rows])[0]) == 1
    batch = shape[:-2]
    rows += [strides_over(v, (*batch, *v.aval.shape[-2:])) for v in root.inputs]
    return len(collapse(batch, [row[: len(batch)] for row in rows])[0]) <= MAX_BATCH_DIMS


def fits(value: Value, shape: tuple[int, ...]) -> bool:
    """Whether a value broadcasts to `shape` (a generator's state, read through its pointer, need not)."""
    own = value.aval.shape
    return len(own) <= len(shape) and all(n in (1, m) for n, m in zip(own[::-1], shape[::-1], strict=False))
