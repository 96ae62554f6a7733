"""Where values lie (a root, an offset and strides), and which dims of an iteration space a kernel's loops can merge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .program import Node, Value

MAX_DIMS = 8  # of a tensor (FGD_MAX_DIMS)
LOOP_DIMS = 6  # of an elementwise program (FGD_LOOP_DIMS)
MAX_BATCH_DIMS = 4  # of a matrix product


@dataclass(frozen=True)
class Place:
    """Where the elements of a value lie: in the memory of `root`, from `offset` on, `strides` apart (in elements)."""

    root: Value
    offset: int
    strides: list[int]


def place(value: Value) -> Place:
    """The place of a value: memory of its own, or a part of what it is a reshape or an absorbed view of."""
    made = value.producer
    if made is None or not made.makes_no_copy:
        return Place(value, 0, contiguous_strides(value.aval.shape))
    below, shape = place(made.inputs[0]), made.inputs[0].aval.shape
    if made.op.kind == "alias":
        strides = reshaped_strides(shape, below.strides, value.aval.shape)
        assert strides is not None, "a view is absorbed only if what is made of it can be"
        return Place(below.root, below.offset, strides)
    offset, strides = made.op.view(shape, below.strides, made.attrs)
    return Place(below.root, below.offset + offset if value.aval.numel else 0, strides)


def is_contiguous(value: Value) -> bool:
    """Whether the elements lie one after the other, wherever that is."""
    strides = place(value).strides
    wanted = contiguous_strides(value.aval.shape)
    return not value.aval.numel or all(
        n == 1 or s == w for n, s, w in zip(value.aval.shape, strides, wanted, strict=True)
    )


def is_whole(value: Value) -> bool:
    """Whether a value is all of its root's memory, in order."""
    return place(value).root.aval.numel == value.aval.numel and is_contiguous(value)


def reshaped_strides(shape: tuple[int, ...], strides: list[int], new: tuple[int, ...]) -> list[int] | None:
    """The strides under another shape of elements that lie `strides` apart; None if no strides describe it."""
    if 0 in shape:
        return contiguous_strides(new)
    sizes, (steps,) = collapse(shape, [strides])
    result: list[int] = []
    at = len(sizes) - 1
    left, step = sizes[at], steps[at]
    for size in reversed(new):
        if size == 1:
            result.append(step)
            continue
        if left == 1:
            at -= 1
            left, step = sizes[at], steps[at]
        if left % size:
            return None
        result.append(step)
        left //= size
        step *= size
    return result[::-1]


def strides_over(value: Value, shape: tuple[int, ...]) -> list[int]:
    """Element strides of a value read over `shape`, 0 where it is broadcast."""
    own = [0 if n == 1 else s for n, s in zip(value.aval.shape, place(value).strides, strict=True)]
    return [0] * (len(shape) - len(own)) + own


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
