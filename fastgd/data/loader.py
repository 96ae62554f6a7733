"""Batches from arrays in memory, in an order that is a pure function of two integers.

The order of an epoch depends on (seed, epoch) and on nothing else: not on the batch size, the number of threads, or
what was drawn before. So the position of a run in its data is three integers, and resuming in the middle of an epoch
costs one sort. The random words come from NumPy's Philox bit generator [1]_, whose raw stream NumPy guarantees not to
change (unlike ``Generator.permutation``); each use of random order has its own key, apart from the numbers that the
engine draws for dropout and initialisation.

.. [1] J. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from enum import IntEnum

import numpy as np

__all__ = ["ArrayLoader", "Stream", "permutation"]


class Stream(IntEnum):
    """What a random order is for: the second half of the Philox key. The numbers are part of every checkpoint."""

    SHUFFLE = 1
    SPLIT = 2


def permutation(n: int, seed: int, epoch: int = 0, stream: Stream = Stream.SHUFFLE) -> np.ndarray:
    """Return a random order of ``range(n)`` that depends on the arguments only.

    Each index is put into the low bits of its own 64-bit random word, and the words are sorted. The words are
    distinct, so the result does not depend on the sorting algorithm; that leaves 64 - log2(n) random bits, enough for
    the bias of ties to be of no account.

    Parameters
    ----------
    n : int
        Number of elements, below 2**32.
    seed, epoch : int
        Between 0 and 2**64 - 1: key and counter of the generator.
    stream : Stream
        Which of the independent orders of this seed.

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    if not 0 <= n < 2**32:
        raise ValueError(f"permutation: n must be between 0 and 2**32 - 1, got {n}")
    key = np.array([_word("seed", seed), stream], dtype=np.uint64)
    counter = np.array([0, 0, 0, _word("epoch", epoch)], dtype=np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(n)
    low = np.uint64((1 << max(n - 1, 1).bit_length()) - 1)
    words &= ~low
    words |= np.arange(n, dtype=np.uint64)
    words.sort()
    words &= low
    return words.astype(np.int64)


class ArrayLoader:
    """Batches of arrays that are in memory (or memory-mapped), shuffled anew each epoch.

    Iterating yields the *rest* of the current epoch and then moves on to the next one, so that
    ``for epoch in range(epochs): for x, y in loader: ...`` reads as usual, and a loop that was left in the middle,
    or restored by :meth:`load_state_dict`, goes on where it was. The position moves when a batch is handed out: a
    state saved after a training step is the state before the next batch.

    Parameters
    ----------
    arrays : sequence of array_like
        Arrays with the same length along axis 0; a batch has one array for each of them.
    batch_size : int
        Samples in a batch. The last batch of an epoch may be shorter.
    shuffle : bool
        True: the order of epoch e is ``permutation(n, seed, e)``, and batches are copies.
        False: the order of the arrays, and batches are views.
    seed : int
        Between 0 and 2**64 - 1.
    drop_last : bool
        Leave out a last batch that would be shorter.

    Examples
    --------
    >>> loader = ArrayLoader([np.arange(5)], batch_size=2, shuffle=False)
    >>> [batch.tolist() for (batch,) in loader]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        arrays: Sequence[np.ndarray],
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.arrays = tuple(np.asarray(array) for array in arrays)
        if not self.arrays:
            raise ValueError("ArrayLoader: expected at least one array")
        if any(array.ndim == 0 for array in self.arrays):
            raise ValueError("ArrayLoader: arrays need at least one dimension, the samples")
        lengths = [len(array) for array in self.arrays]
        if len(set(lengths)) != 1:
            raise ValueError(f"ArrayLoader: arrays must have the same number of samples, got {lengths}")
        self.batch_size = operator.index(batch_size)
        if self.batch_size < 1:
            raise ValueError(f"ArrayLoader: batch_size must be at least 1, got {batch_size}")
        self.shuffle = bool(shuffle)
        self.drop_last = bool(drop_last)
        self.samples = lengths[0]
        self.end = self.samples - self.samples % self.batch_size if drop_last else self.samples
        if self.end == 0:
            short = f"{self.samples} samples, fewer than batch_size {batch_size}, with drop_last"
            raise ValueError(f"ArrayLoader: no batches: {short if self.samples else 'the arrays are empty'}")
        self.seed = _word("seed", seed)
        self.epoch = 0
        self.position = 0
        self._order: tuple[tuple[int, int], np.ndarray] | None = None

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        return -(-self.end // self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        epoch = self.epoch
        while self.epoch == epoch:
            batch = self.batch(epoch, self.position)
            self.position += self.batch_size
            if self.position >= self.end:
                self.epoch, self.position = epoch + 1, 0
            yield batch

    def batch(self, epoch: int, position: int) -> tuple[np.ndarray, ...]:
        """Return the batch that begins with sample number `position` of `epoch`; changes no state."""
        stop = min(position + self.batch_size, self.end)
        if not self.shuffle:
            return tuple(array[position:stop] for array in self.arrays)
        chosen = self._order_of(epoch)[position:stop]
        return tuple(np.take(array, chosen, axis=0) for array in self.arrays)

    def state_dict(self) -> dict[str, int]:
        """Return the position in the data: integers only."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position, "samples": self.samples}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a position that :meth:`state_dict` returned; a state of other data raises and changes nothing."""
        expected = {"seed", "epoch", "position", "samples"}
        if set(state) != expected:
            raise ValueError(f"ArrayLoader: expected a state with {sorted(expected)}, got {sorted(state)}")
        if state["samples"] != self.samples:
            raise ValueError(f"ArrayLoader: the state is of {state['samples']} samples, the data has {self.samples}")
        position = operator.index(state["position"])
        if not 0 <= position < self.end:
            raise ValueError(f"ArrayLoader: position must be between 0 and {self.end - 1}, got {position}")
        seed, epoch = _word("seed", state["seed"]), _word("epoch", state["epoch"])
        self.seed, self.epoch, self.position = seed, epoch, position

    def _order_of(self, epoch: int) -> np.ndarray:
        key = (self.seed, epoch)
        if self._order is None or self._order[0] != key:
            self._order = (key, permutation(self.samples, self.seed, epoch))
        return self._order[1]


def _word(name: str, value: int) -> int:
    value = operator.index(value)
    if not 0 <= value < 2**64:
        raise ValueError(f"{name} must be between 0 and 2**64 - 1, got {value}")
    return value
