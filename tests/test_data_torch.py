"""The names of torch.utils.data: data sets, samplers and DataLoader."""

import threading
import time

import numpy as np
import pytest

import fastgd as gd
from fastgd.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    random_split,
)


class Squares(Dataset):
    def __init__(self, n=10):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if not 0 <= index < self.n:
            raise IndexError(index)
        return np.float32([index, index**2]), index


class Count(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(range(self.n))


def numbers(loader):
    return [np.asarray(batch[1] if isinstance(batch, list) else batch).tolist() for batch in loader]


def test_tensor_dataset():
    data = TensorDataset(gd.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([0, 1, 2]))
    assert len(data) == 3
    x, y = data[1]
    assert (np.asarray(x).tolist(), y.item()) == ([3.0, 4.0], 1)
    with pytest.raises(ValueError, match=r"tensors of one length, got \[3, 2\]"):
        TensorDataset(np.zeros(3), np.zeros(2))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_in_order(workers, drop_last):
    for data in (Squares(), TensorDataset(np.zeros((10, 2)), np.arange(10))):
        loader = DataLoader(data, 4, num_workers=workers, drop_last=drop_last)
        expected = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]][: 3 - drop_last]
        assert len(loader) == len(expected)
        assert numbers(loader) == expected
        assert numbers(loader) == expected
        x, y = next(iter(loader))
        assert isinstance(x, gd.Tensor)
        assert (x.shape, y.dtype) == ((4, 2), gd.int64)


@pytest.mark.parametrize("workers", [0, 2])
def test_iterable_datasets(workers):
    assert numbers(DataLoader(Count(5), 2, num_workers=workers)) == [[0, 1], [2, 3], [4]]
    assert numbers(DataLoader(Count(5), 2, drop_last=True, num_workers=workers)) == [[0, 1], [2, 3]]
    assert list(DataLoader(Count(3), None, num_workers=workers)) == [0, 1, 2]
    with pytest.raises(ValueError, match="its own order"):
        DataLoader(Count(5), 2, shuffle=True)


def test_shuffling_hangs_on_the_seed_and_takes_one_number_a_pass():
    loader = DataLoader(Squares(50), 8, shuffle=True)
    gd.manual_seed(3)
    first, second = numbers(loader), numbers(loader)
    assert gd.random.get_state() == (3, 2)
    assert sorted(index for batch in first for index in batch) == list(range(50))
    assert first != second
    gd.manual_seed(3)
    with_threads = DataLoader(Squares(50), 8, shuffle=True, num_workers=3)
    assert [numbers(with_threads), numbers(with_threads)] == [first, second]
    gd.manual_seed(3)
    source = iter(loader)
    gd.rand(3)  # draws of others while the pass goes on change nothing
    assert numbers(source) == first


def test_samplers():
    gd.manual_seed(0)
    assert list(SequentialSampler(Squares(4))) == [0, 1, 2, 3]
    assert sorted(RandomSampler(Squares(6))) == list(range(6))
    assert len(list(RandomSampler(Squares(3), num_samples=8))) == 8
    assert sorted(RandomSampler(Squares(3), num_samples=6)) == [0, 0, 1, 1, 2, 2]
    drawn = list(RandomSampler(Squares(3), replacement=True, num_samples=300))
    assert set(drawn) == {0, 1, 2}
    assert sorted(SubsetRandomSampler([5, 7, 9])) == [5, 7, 9]
    weighted = list(WeightedRandomSampler([0.0, 1.0, 3.0], 4000))
    assert weighted.count(0) == 0
    assert 0.2 < weighted.count(1) / 4000 < 0.3
    assert sorted(WeightedRandomSampler([0.5, 0.0, 3.0], 2, replacement=False)) == [0, 2]
    assert list(BatchSampler(SequentialSampler(Squares(5)), 2, True)) == [[0, 1], [2, 3]]
    assert numbers(DataLoader(Squares(), batch_sampler=[[3, 1], [9]])) == [[3, 1], [9]]
    assert numbers(DataLoader(Squares(), 2, sampler=[4, 2, 0])) == [[4, 2], [0]]

    class Backwards(Sampler):
        def __iter__(self):
            return iter(range(9, -1, -1))

        def __len__(self):
            return 10

    assert numbers(DataLoader(Squares(), 5, sampler=Backwards()))[0] == [9, 8, 7, 6, 5]


def test_subsets_and_splits():
    gd.manual_seed(0)
    data = Squares(10)
    parts = random_split(data, [7, 3])
    assert [len(part) for part in parts] == [7, 3]
    assert sorted(part[i][1] for part in parts for i in range(len(part))) == list(range(10))
    assert [len(part) for part in random_split(data, [0.55, 0.25, 0.2])] == [6, 2, 2]
    assert Subset(data, [4, 2])[1][1] == 2
    both = data + Squares(3)
    assert isinstance(both, ConcatDataset)
    assert (len(both), both[9][1], both[10][1], both[-1][1]) == (13, 9, 0, 2)
    with pytest.raises(IndexError):
        both[13]
    with pytest.raises(ValueError, match="do not add up to the 10"):
        random_split(data, [7, 2])
    with pytest.raises(ValueError, match="shares between 0 and 1"):
        random_split(data, [1.5, -0.5])


def test_collate():
    samples = [{"x": np.ones(2), "n": (1, 2.5), "s": "a"}, {"x": np.zeros(2), "n": (3, 4.5), "s": "b"}]
    batch = default_collate(samples)
    assert (batch["x"].shape, batch["s"]) == ((2, 2), ["a", "b"])
    assert [part.dtype for part in batch["n"]] == [gd.int64, gd.float64]
    assert list(DataLoader(Squares(4), 2, collate_fn=len)) == [2, 2]
    with pytest.raises(ValueError, match=r"one shape, got \(2,\), \(3,\)"):
        default_collate([np.ones(2), np.ones(3)])
    with pytest.raises(TypeError, match="got object"):
        default_collate([object()])
    with pytest.raises(ValueError, match="same number of entries"):
        default_collate([(1, 2), (3,)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size of at least 1, got 0"),
        ({"shuffle": True, "sampler": [1]}, "exclude each other"),
        ({"batch_sampler": [[1]], "batch_size": 3}, "batch_sampler excludes"),
        ({"batch_size": None, "drop_last": True}, "excludes drop_last"),
        ({"num_workers": -1}, "num_workers >= 0"),
        ({"prefetch_factor": 2}, "only with workers"),
        ({"generator": object()}, "generator is not offered"),
        ({"timeout": 3}, "timeout is not offered"),
        ({"worker_init_fn": print}, "worker_init_fn is not offered"),
        ({"multiprocessing_context": "fork"}, "multiprocessing_context is not offered"),
        ({"in_order": False}, "in_order=False is not offered"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises((ValueError, NotImplementedError), match=message):
        DataLoader(Squares(), **arguments)


def test_workers_run_ahead_at_once_and_end():
    """Four threads that wait for a disk make a batch in the time of one sample; none is left behind."""
    running, most = [0], [0]
    lock = threading.Lock()

    class Slow(Squares):
        def __getitem__(self, index):
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            time.sleep(0.005)
            with lock:
                running[0] -= 1
            return super().__getitem__(index)

    before = threading.active_count()
    source = iter(DataLoader(Slow(64), 4, num_workers=4))
    assert np.asarray(next(source)[1]).tolist() == [0, 1, 2, 3]
    source.close()
    assert most[0] > 1
    assert threading.active_count() == before


def test_errors_of_workers_come_out():
    class Broken(Squares):
        def __getitem__(self, index):
            if index == 5:
                raise KeyError("five")
            return super().__getitem__(index)

    for workers in (0, 2):
        with pytest.raises(KeyError, match="five"):
            numbers(DataLoader(Broken(), 2, num_workers=workers))
