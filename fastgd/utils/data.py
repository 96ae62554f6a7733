"""Data sets, samplers and the loader under the names of ``torch.utils.data``.

Names, arguments and meaning are PyTorch's; batches are tensors. What differs: workers are threads of this process, and
there is one generator of random numbers, fastgd's own (:func:`fastgd.manual_seed`), from which each pass over
shuffled data takes one offset when it starts. Its order is then a function of (seed, offset) alone.
"""

from __future__ import annotations

import bisect
import itertools
import math
import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from .. import random
from .._core import DtypeError, NotOffered, ShapeError
from ..tensor import Tensor, as_tensor

__all__ = [
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "default_collate",
    "random_split",
]

# ---- data sets ----


class Dataset:
    """Samples by their index: a subclass has ``__getitem__`` and usually ``__len__``."""

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset):
    """Samples in the order in which they come: a subclass has ``__iter__``."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")


class TensorDataset(Dataset):
    """Samples that are rows of tensors: ``dataset[i] == (a[i], b[i], ...)``.

    Parameters
    ----------
    *tensors : Tensor or ndarray
        The same length along the first dimension.
    """

    def __init__(self, *tensors: Any) -> None:
        self.tensors = tuple(as_tensor(tensor) for tensor in tensors)
        lengths = {len(tensor) for tensor in self.tensors}
        if len(lengths) != 1:
            raise ShapeError(f"TensorDataset: expected tensors of one length, got {[len(t) for t in self.tensors]}")

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(as_tensor(np.asarray(tensor)[index]) for tensor in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class Subset(Dataset):
    """The samples of `dataset` at `indices`."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> Any:
        return self.dataset[int(self.indices[index])]

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset):
    """Data sets one after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ShapeError("ConcatDataset: expected at least one data set")
        self.cumulative_sizes = list(itertools.accumulate(len(dataset) for dataset in self.datasets))

    def __getitem__(self, index: int) -> Any:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"ConcatDataset: index {index} is out of range for {len(self)} samples")
        index %= len(self)
        which = bisect.bisect_right(self.cumulative_sizes, index)
        return self.datasets[which][index - (self.cumulative_sizes[which - 1] if which else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


def random_split(dataset: Any, lengths: Sequence[float], generator: Any = None) -> list[Subset]:
    """Divide a data set at random into parts that share no sample.

    Parameters
    ----------
    dataset
        With ``__len__`` and ``__getitem__``.
    lengths : sequence of int or float
        Numbers of samples that add up to all, or shares that add up to 1 (rounded down; what is left goes to the first
        parts, one sample each).
    """
    _no_generator("random_split", generator)
    total = len(dataset)
    if (
        math.isclose(sum(lengths), 1.0)
        and sum(lengths) <= 1.0 + 1e-9
        and any(length != int(length) for length in lengths)
    ):
        if not all(0.0 <= share <= 1.0 for share in lengths):
            raise ShapeError(f"random_split: expected shares between 0 and 1, got {list(lengths)}")
        sizes = [math.floor(total * share) for share in lengths]
        for index in range(total - sum(sizes)):
            sizes[index % len(sizes)] += 1
    else:
        sizes = [operator.index(length) for length in lengths]  # type: ignore[arg-type]
    if sum(sizes) != total:
        raise ShapeError(f"random_split: the lengths {list(lengths)} do not add up to the {total} samples")
    order = random.draw(lambda source: source.permutation(total)).tolist()
    ends = list(itertools.accumulate(sizes))
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


# ---- samplers: iterating one draws what it needs at once, and not while the pass goes on ----


class Sampler:
    """Gives indices, in the order in which samples are wanted: a subclass has ``__iter__``."""

    def __init__(self, data_source: Any = None) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")


class SequentialSampler(Sampler):
    """0, 1, 2, ..."""

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """Every index once in random order, or `num_samples` of them, with `replacement` if asked for."""

    def __init__(
        self, data_source: Any, replacement: bool = False, num_samples: int | None = None, generator: Any = None
    ) -> None:
        _no_generator("RandomSampler", generator)
        if num_samples is not None and (not isinstance(num_samples, int) or num_samples < 1):
            raise ShapeError(f"RandomSampler: expected num_samples of at least 1, got {num_samples!r}")
        self.data_source, self.replacement = data_source, bool(replacement)
        self._num_samples = num_samples

    @property
    def num_samples(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        n, wanted = len(self.data_source), self.num_samples
        if self.replacement:
            return iter(random.draw(lambda source: source.integers(0, n, wanted)).tolist())
        rounds = -(-wanted // n) if n else 0
        draw = random.draw(lambda source: [source.permutation(n) for _ in range(rounds)])
        return iter(np.concatenate([*draw, np.zeros(0, np.int64)])[:wanted].tolist())

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler):
    """The given indices, each once, in random order."""

    def __init__(self, indices: Sequence[int], generator: Any = None) -> None:
        _no_generator("SubsetRandomSampler", generator)
        self.indices = indices

    def __iter__(self) -> Iterator[int]:
        order = random.draw(lambda source: source.permutation(len(self.indices))).tolist()
        return iter([self.indices[index] for index in order])

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """`num_samples` indices, each drawn with a probability in proportion to its weight."""

    def __init__(
        self, weights: Sequence[float], num_samples: int, replacement: bool = True, generator: Any = None
    ) -> None:
        _no_generator("WeightedRandomSampler", generator)
        self.weights = np.asarray(weights, np.float64)
        if self.weights.ndim != 1 or not np.isfinite(self.weights).all() or (self.weights < 0).any():
            raise ShapeError("WeightedRandomSampler: expected weights of shape (n,), finite and at least 0")
        if not isinstance(num_samples, int) or num_samples < 1:
            raise ShapeError(f"WeightedRandomSampler: expected num_samples of at least 1, got {num_samples!r}")
        if not self.weights.sum() > 0 or (not replacement and np.count_nonzero(self.weights) < num_samples):
            raise ShapeError("WeightedRandomSampler: there are not enough weights above 0")
        self.num_samples, self.replacement = num_samples, bool(replacement)

    def __iter__(self) -> Iterator[int]:
        p = self.weights / self.weights.sum()
        return iter(random.draw(lambda s: s.choice(len(p), self.num_samples, self.replacement, p)).tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler):
    """Lists of `batch_size` indices of another sampler; the last may be shorter unless `drop_last`."""

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
            raise ShapeError(f"BatchSampler: expected batch_size of at least 1, got {batch_size!r}")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, bool(drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        return self._batches(iter(self.sampler))  # the sampler draws now, not at the first batch

    def _batches(self, indices: Iterator[int]) -> Iterator[list[int]]:
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


# ---- the loader ----


def default_collate(batch: Sequence[Any]) -> Any:
    """Put samples together: numbers, arrays and tensors are stacked, tuples and dictionaries entry by entry."""
    first = batch[0]
    if isinstance(first, (str, bytes)):
        return list(batch)
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(default_collate(column) for column in zip(*batch, strict=True)))
    if isinstance(first, (tuple, list)):
        if any(len(sample) != len(first) for sample in batch):
            raise ShapeError("default_collate: expected samples with the same number of entries")
        return [default_collate(column) for column in zip(*batch, strict=True)]  # a list for tuples too, as PyTorch's
    if isinstance(first, float):
        return as_tensor(np.array(batch, np.float64))
    if hasattr(first, "__array__") or isinstance(first, (int, np.generic)):
        try:
            return as_tensor(np.stack([np.asarray(sample) for sample in batch]))
        except ValueError:
            shapes = sorted({str(np.shape(sample)) for sample in batch})
            raise ShapeError(f"default_collate: expected samples of one shape, got {', '.join(shapes)}") from None
    raise DtypeError(
        f"default_collate: expected tensors, arrays, numbers, text or containers, got {type(first).__name__}"
    )


class DataLoader:
    """Batches of a data set.

    Parameters
    ----------
    dataset
        With ``__getitem__`` and ``__len__``, or an IterableDataset.
    batch_size : int or None
        None: samples are handed out as they are.
    shuffle : bool
        A new order in each pass, drawn when the pass starts.
    sampler, batch_sampler
        Where indices, or lists of them, come from.
    num_workers : int
        Threads that make batches ahead, `prefetch_factor` (default 2) each. NumPy and most readers of files let go of
        Python's lock while they work; transformations written in Python do not become faster.
    collate_fn : callable
        Makes a batch of a list of samples; default :func:`default_collate`.
    pin_memory, persistent_workers, in_order
        Accepted; there is no device to copy to, threads are cheap to start, and batches always come in order.
    drop_last : bool
    timeout, worker_init_fn, multiprocessing_context, generator
        Not offered.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        _no_generator("DataLoader", generator)
        for name, value in (
            ("timeout", timeout),
            ("worker_init_fn", worker_init_fn),
            ("multiprocessing_context", multiprocessing_context),
            ("pin_memory_device", pin_memory_device),
        ):
            if value:
                raise NotOffered(f"DataLoader: {name} is not offered, got {value!r}")
        if not in_order:
            raise NotOffered("DataLoader: in_order=False is not offered")
        if num_workers < 0 or (prefetch_factor is not None and (not num_workers or prefetch_factor < 1)):
            raise ShapeError("DataLoader: expected num_workers >= 0, and prefetch_factor >= 1 only with workers")
        iterable = isinstance(dataset, IterableDataset)
        if iterable and (shuffle or sampler is not None or batch_sampler is not None):
            raise ShapeError("DataLoader: an IterableDataset has its own order: no shuffle, sampler or batch_sampler")
        if sampler is not None and shuffle:
            raise ShapeError("DataLoader: shuffle and sampler exclude each other")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ShapeError("DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last")
        if batch_size is None and drop_last:
            raise ShapeError("DataLoader: batch_size=None excludes drop_last")
        self.dataset, self.num_workers, self.drop_last = dataset, num_workers, drop_last
        self.batch_size = None if batch_sampler is not None else batch_size
        self.prefetch_factor = prefetch_factor or (2 if num_workers else None)
        self.collate_fn = collate_fn or (default_collate if batch_size is not None else lambda sample: sample)
        self._own_collate = collate_fn is not None
        self._iterable = iterable
        if iterable:
            sampler = itertools.repeat(None)
        elif sampler is None:
            sampler = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
        self.sampler = sampler
        if batch_sampler is None and batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_sampler = batch_sampler

    def __len__(self) -> int:
        if self._iterable:
            n = len(self.dataset)
            if self.batch_size is None:
                return n
            return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return len(self.batch_sampler if self.batch_sampler is not None else self.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        # Not a generator: samplers draw their order now, whoever asks for the first batch, and in whichever thread.
        if self._iterable:
            return self._stream(iter(self.dataset))
        wanted = iter(self.batch_sampler if self.batch_sampler is not None else self.sampler)
        return self._ahead(wanted) if self.num_workers else map(self._fetch, wanted)

    def _fetch(self, index: Any) -> Any:
        if self.batch_sampler is None:
            return self.collate_fn(self.dataset[index])
        if isinstance(self.dataset, TensorDataset) and not self._own_collate:  # one gather, not one for each row
            rows = np.asarray(index, np.int64)
            return [as_tensor(np.take(tensor.detach().numpy(), rows, axis=0)) for tensor in self.dataset.tensors]
        if hasattr(self.dataset, "__getitems__"):
            return self.collate_fn(self.dataset.__getitems__(index))
        return self.collate_fn([self.dataset[one] for one in index])

    def _ahead(self, wanted: Iterator[Any]) -> Iterator[Any]:
        depth = self.num_workers * (self.prefetch_factor or 2)
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="fastgd-data")
        try:
            coming: deque[Future] = deque(pool.submit(self._fetch, index) for index in itertools.islice(wanted, depth))
            while coming:
                batch = coming.popleft().result()
                coming.extend(pool.submit(self._fetch, index) for index in itertools.islice(wanted, 1))
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _stream(self, samples: Iterator[Any]) -> Iterator[Any]:
        if self.num_workers:
            from ..data.loader import in_background

            samples = in_background(samples, self.num_workers * (self.prefetch_factor or 2) * (self.batch_size or 1))
        if self.batch_size is None:
            yield from map(self.collate_fn, samples)
            return
        while batch := list(itertools.islice(samples, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield self.collate_fn(batch)


def _no_generator(name: str, generator: Any) -> None:
    if generator is not None:
        raise NotOffered(f"{name}: generator is not offered; the order is drawn from fastgd.manual_seed's generator")
