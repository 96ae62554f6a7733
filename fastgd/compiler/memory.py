"""The memory plan: where in one arena each temporary lives.

Lifetimes are intervals of call positions.  Values are placed by size, largest first, at the lowest
offset that is free for their whole lifetime (greedy by size: Pisarchyk, Lee, "Efficient memory
management for deep neural net inference", 2020, section 5).
"""

from __future__ import annotations

ALIGNMENT = 64


class Buffer:
    """A piece of the arena: bytes, and the first and last call that touch it."""

    __slots__ = ("first", "last", "nbytes", "offset")

    def __init__(self, nbytes: int, first: int, last: int) -> None:
        self.nbytes = nbytes
        self.first = first
        self.last = last
        self.offset = 0


def plan_offsets(buffers: list[Buffer]) -> int:
    """Gives every buffer its offset; returns the size of the arena in bytes."""
    placed: list[Buffer] = []
    total = 0
    for buffer in sorted(buffers, key=lambda b: (-b.nbytes, b.first)):
        offset = 0
        size = _aligned(buffer.nbytes)
        for other in placed:  # sorted by offset
            if other.last < buffer.first or buffer.last < other.first:
                continue
            if other.offset - offset >= size:
                break
            offset = max(offset, other.offset + _aligned(other.nbytes))
        buffer.offset = offset
        total = max(total, offset + size)
        placed.append(buffer)
        placed.sort(key=lambda b: b.offset)
    return total


def _aligned(nbytes: int) -> int:
    return (max(nbytes, 1) + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
