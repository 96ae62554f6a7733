"""Batches: from arrays in memory, in an order that is a pure function of two integers, and from any Python iterable.

The order of an epoch depends on (seed, epoch) and on nothing else: not on the batch size, the number of threads, or
what was drawn before. So the position of a run in its data is three integers, and resuming in the middle of an epoch
costs one sort. The random words come from NumPy's Philox bit generator [1]_, whose raw stream NumPy guarantees not to
change (unlike ``Generator.permutation``); each use of random order has its own key, apart from the numbers that the
engine draws for dropout and initialisation.

.. [1] J. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import operator
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Any

import numpy as np

from .. import random

__all__ = ["ArrayLoader", "IterableLoader", "Loader", "Stream", "in_background", "permutation"]


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


class Loader(ABC):
    """Batches that know where they are: what training reads from, and what makes its resumption exact.

    Iterating yields the *rest* of the current epoch and then moves on to the next one, so that
    ``for epoch in range(epochs): for x, y in loader: ...`` reads as usual, and a loop that was left in the middle,
    or restored by :meth:`load_state_dict`, goes on where it was. The position moves when a batch is handed out: a
    state saved after a training step is the state before the next batch, however many batches were made ahead.

    Attributes
    ----------
    epoch, position : int
        Where the next batch begins; the unit of `position` is the loader's own.
    prefetch : int
        How many batches a background thread makes ahead; 0: none.
    """

    epoch = 0
    position = 0
    prefetch = 0

    @abstractmethod
    def batches(self, epoch: int, position: int) -> Iterator[tuple[Any, int | None]]:
        """Yield (batch, next position) from `position` on, None after the last of the epoch; moves nothing."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the position in the data."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a position that :meth:`state_dict` returned; a state of other data raises and changes nothing."""

    @property
    def progress(self) -> float:
        """Epochs done, with the share of the current one if its length is known."""
        return float(self.epoch)

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch
        source = self.batches(epoch, self.position)
        if self.prefetch:
            source = in_background(source, self.prefetch)
        for batch, following in source:
            self.epoch, self.position = (epoch + 1, 0) if following is None else (epoch, following)
            yield batch


class ArrayLoader(Loader):
    """Batches of arrays that are in memory (or memory-mapped), shuffled anew each epoch.

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
    prefetch : int
        Batches that a background thread makes ahead: worth it for memory-mapped arrays, whose pages come from a disk.

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
        prefetch: int = 0,
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
        self.prefetch = _depth("ArrayLoader", prefetch)
        self._order: tuple[tuple[int, int], np.ndarray] | None = None

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        return -(-self.end // self.batch_size)

    def batches(self, epoch: int, position: int) -> Iterator[tuple[tuple[np.ndarray, ...], int | None]]:
        for begin in range(position, self.end, self.batch_size):
            following = begin + self.batch_size
            yield self.batch(epoch, begin), following if following < self.end else None

    @property
    def progress(self) -> float:
        return self.epoch + self.position / self.end

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


class IterableLoader(Loader):
    """Batches of any Python iterable, such as a :class:`fastgd.utils.data.DataLoader` or a generator function.

    An epoch is one pass over ``iter(source)``, or over ``source()`` if it is a function. To resume in the middle of an
    epoch, the generator of random numbers (:mod:`fastgd.random`) is put back to where it was when the epoch began, and
    the batches that had been handed out are skipped. That is exact for what draws its order from that generator
    when it is started, as DataLoader does, or from nothing. A source with ``state_dict`` and ``load_state_dict`` of its
    own is asked for its position instead.

    Parameters
    ----------
    source : iterable, or callable that returns one
    prefetch : int
        Batches that a background thread makes ahead. The source must then draw nothing from fastgd's generator
        while it runs, and have no position of its own.
    """

    def __init__(self, source: Any, prefetch: int = 0) -> None:
        if not callable(source) and not isinstance(source, Iterable):
            raise TypeError(f"IterableLoader: expected an iterable of batches, got {type(source).__name__}")
        if isinstance(source, Iterator):
            raise TypeError(
                "IterableLoader: got an iterator, which can be gone through only once; pass what makes it: a list, an "
                "object with __iter__, or the generator function itself"
            )
        self.source = source
        self.prefetch = _depth("IterableLoader", prefetch)
        self._own = hasattr(source, "state_dict") and hasattr(source, "load_state_dict")
        if self._own and self.prefetch:
            raise ValueError("IterableLoader: a source that keeps its own position cannot be prefetched")
        self._began = random.get_state()  # when the epoch began
        self._source_state: Any = None  # before the batch that was made ahead

    def __len__(self) -> int:
        """Return the number of batches in an epoch, if the source knows it."""
        return len(self.source)

    def batches(self, epoch: int, position: int) -> Iterator[tuple[Any, int | None]]:
        if position and not self._own:
            now = random.get_state()
            random.set_state(self._began)
            source = self._start()
            random.set_state(now)
        else:
            if not position:
                self._began = random.get_state()
            source = self._start()
        if not self._own:
            for _ in range(position):
                next(source, None)
        number = position
        missing = object()
        batch = next(source, missing)
        if batch is missing and not position:
            raise ValueError("IterableLoader: the source has no batches")
        while batch is not missing:
            number += 1
            # One batch is made ahead, to know which is the last; the source's own state is that before it.
            self._source_state = self.source.state_dict() if self._own else None
            following = next(source, missing)
            yield batch, None if following is missing else number
            batch = following

    def _start(self) -> Iterator[Any]:
        return iter(self.source() if callable(self.source) else self.source)

    @property
    def progress(self) -> float:
        try:
            return self.epoch + self.position / max(len(self), 1)
        except TypeError:
            return float(self.epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return epoch, batches handed out in it, and the random state at its beginning."""
        state = {"epoch": self.epoch, "position": self.position, "random": tuple(self._began)}
        return state | ({"source": self._source_state} if self._own else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        expected = {"epoch", "position", "random"} | ({"source"} if self._own else set())
        if set(state) != expected:
            raise ValueError(f"IterableLoader: expected a state with {sorted(expected)}, got {sorted(state)}")
        epoch, position = _word("epoch", state["epoch"]), _word("position", state["position"])
        with suppress(TypeError):
            if position >= len(self):
                raise ValueError(f"IterableLoader: the state is at batch {position}, an epoch has {len(self)}")
        seed, offset = (_word("random", value) for value in state["random"])
        if self._own and state["source"] is not None:
            self.source.load_state_dict(state["source"])
        self.epoch, self.position, self._began = epoch, position, (seed, offset)


def in_background(source: Iterator[Any], depth: int) -> Iterator[Any]:
    """Yield what `source` yields, made by a thread that runs at most `depth` items ahead; errors come out here."""
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    leaving = threading.Event()
    done = object()

    def put(item: tuple[bool, Any]) -> None:
        while not leaving.is_set():
            with suppress(queue.Full):
                return ready.put(item, timeout=0.1)
        return None

    def produce() -> None:
        try:
            for item in source:
                put((True, item))
                if leaving.is_set():
                    return
            put((True, done))
        except BaseException as error:
            put((False, error))

    thread = threading.Thread(target=produce, name="fastgd-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            good, item = ready.get()
            if not good:
                raise item
            if item is done:
                return
            yield item
    finally:
        leaving.set()
        thread.join()


def _depth(name: str, prefetch: int) -> int:
    prefetch = operator.index(prefetch)
    if prefetch < 0:
        raise ValueError(f"{name}: prefetch must be at least 0, got {prefetch}")
    return prefetch


def _word(name: str, value: int) -> int:
    value = operator.index(value)
    if not 0 <= value < 2**64:
        raise ValueError(f"{name} must be between 0 and 2**64 - 1, got {value}")
    return value
