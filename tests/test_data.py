"""Data sets, files, divisions, preprocessing and loaders. No tensors are needed."""

import gzip
import hashlib
import io
import struct
import threading
import urllib.error
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgd import random
from fastgd.data import (
    ArrayLoader,
    Dataset,
    IterableLoader,
    Preprocessor,
    Standardizer,
    Stream,
    fashion_mnist,
    load_csv,
    load_dataset,
    load_digits,
    load_fashion_mnist,
    load_numpy,
    permutation,
    train_test_split,
)
from fastgd.data.loader import in_background

WORD = st.integers(0, 2**64 - 1)


# ------------------------------------------------------------------------------------------------------- order


@given(n=st.integers(0, 300), seed=WORD, epoch=WORD)
def test_permutation_has_every_index_once(n, seed, epoch):
    assert sorted(permutation(n, seed, epoch)) == list(range(n))


def test_permutation_is_pinned():
    """The order is part of what a seed means: a change here breaks resuming of every checkpoint."""
    assert permutation(10, 0).tolist() == PINNED[0]
    assert permutation(10, 7, 3).tolist() == PINNED[1]
    assert permutation(10, 0, stream=Stream.SPLIT).tolist() == PINNED[2]
    assert hashlib.sha256(permutation(100_000, 1, 2).astype("<i8").tobytes()).hexdigest() == PINNED[3]


PINNED = [
    [5, 3, 7, 8, 2, 4, 1, 0, 6, 9],
    [0, 2, 7, 6, 4, 1, 8, 9, 5, 3],
    [6, 7, 2, 9, 1, 3, 5, 0, 4, 8],
    "09e808e17472e2466f35823f5b09bcf899d5cc6618e588d5e6d52a5810c75582",
]


def test_permutation_is_uniform():
    """Each value at each place equally often: chi-squared of 4,000 orders of 5, 16 degrees of freedom."""
    counts = np.zeros((5, 5))
    for epoch in range(4000):
        counts[np.arange(5), permutation(5, 11, epoch)] += 1
    assert ((counts - 800) ** 2 / 800).sum() < 45  # p = 1e-4


@pytest.mark.parametrize(("n", "seed", "epoch"), [(-1, 0, 0), (2**32, 0, 0), (3, -1, 0), (3, 2**64, 0), (3, 0, -1)])
def test_permutation_refuses(n, seed, epoch):
    with pytest.raises(ValueError, match="between 0"):
        permutation(n, seed, epoch)


# ------------------------------------------------------------------------------------------------------ loader


def take(loader, count):
    """The next batches, over the ends of epochs."""
    batches = []
    while len(batches) < count:
        for batch in loader:
            batches.append(batch)
            if len(batches) == count:
                break
    return batches


@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 45),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    before=st.integers(0, 30),
)
def test_loader_resumes_exactly(n, batch_size, shuffle, drop_last, before):
    if drop_last and n < batch_size:
        return
    arrays = (np.arange(n), np.arange(n * 3).reshape(n, 3))

    def make(seed):
        return ArrayLoader(arrays, batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last)

    straight = take(make(5), before + 10)
    first = make(5)
    take(first, before)
    second = make(99)
    take(second, 2)
    second.load_state_dict(first.state_dict())
    for expected, got in zip(straight[before:], take(second, 10), strict=True):
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_array_equal(a, b)


@given(n=st.integers(1, 40), batch_size=st.integers(1, 45), shuffle=st.booleans())
def test_an_epoch_has_every_sample_once(n, batch_size, shuffle):
    x = np.arange(n)
    loader = ArrayLoader([x, -x], batch_size, shuffle=shuffle, seed=3)
    for epoch in range(2):
        batches = list(loader)
        assert loader.epoch == epoch + 1
        assert len(batches) == len(loader)
        assert sorted(np.concatenate([a for a, _ in batches])) == list(range(n))
        assert all((a == -b).all() for a, b in batches)


def test_epochs_and_seeds_differ():
    def orders(seed):
        loader = ArrayLoader([np.arange(50)], 50, seed=seed)
        return [next(iter(loader))[0].tolist() for _ in range(3)]

    a, b = orders(0), orders(1)
    assert len({tuple(order) for order in a + b}) == 6


def test_drop_last_and_length():
    assert len(ArrayLoader([np.arange(10)], 4)) == 3
    loader = ArrayLoader([np.arange(10)], 4, drop_last=True, shuffle=False)
    assert [len(x) for (x,) in loader] == [4, 4]
    assert len(loader) == 2


def test_shuffled_batches_are_copies_and_others_views():
    x = np.zeros(6)
    assert np.shares_memory(next(iter(ArrayLoader([x], 2, shuffle=False)))[0], x)
    assert not np.shares_memory(next(iter(ArrayLoader([x], 2)))[0], x)


def test_loader_works_on_read_only_and_mapped_arrays(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(12.0).reshape(6, 2))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    (batch,) = next(iter(ArrayLoader([x], 6, seed=1)))
    np.testing.assert_array_equal(batch, x[permutation(6, 1, 0)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 2), "at least one array"),
        (([np.float32(3)], 2), "dimension"),
        (([np.arange(3), np.arange(4)], 2), r"same number of samples, got \[3, 4\]"),
        (([np.arange(3)], 0), "batch_size"),
        (([np.arange(0)], 2), "empty"),
        (([np.arange(3)], 4, True, 0, True), "fewer than batch_size"),
        (([np.arange(3)], 2, True, -1), "seed"),
    ],
)
def test_loader_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ArrayLoader(*arguments)


@pytest.mark.parametrize(
    "change",
    [{"samples": 9}, {"position": 10}, {"position": -1}, {"seed": -1}, {"epoch": 2**64}, {"more": 1}, {"seed": None}],
)
def test_a_wrong_state_changes_nothing(change):
    loader = ArrayLoader([np.arange(10)], 3)
    take(loader, 5)
    before = loader.state_dict()
    state = {**before, **change}
    if change == {"seed": None}:
        del state["seed"]
    with pytest.raises(ValueError):
        loader.load_state_dict(state)
    assert loader.state_dict() == before


# ---------------------------------------------------------------------------------- digits, division and scaling


def test_digits():
    train, test = digits = load_digits()
    assert digits.train is train
    assert digits.test is test
    assert (train.x.shape, test.x.shape) == ((1437, 64), (360, 64))
    x, y = np.concatenate([train.x, test.x]), np.concatenate([train.y, test.y])
    assert (x.dtype, y.dtype, x.min(), x.max()) == (np.float32, np.int64, 0, 1)
    # Published with the data: how many images there are of each digit.
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (np.abs(np.bincount(test.y) - np.bincount(y) / 5) < 1).all()
    # Nearly all images are different: a sample in both parts would show.
    assert not set(map(bytes, train.x)) & set(map(bytes, test.x))
    assert hashlib.sha256(test.y.astype("<i8").tobytes()).hexdigest() == PINNED_TEST_LABELS


PINNED_TEST_LABELS = "650fc5c9c3c3103e8c5efd56d72ab8885c972cf47d114556990d88eb3734df43"


def labelled(y, classes=()):
    y = np.asarray(y)
    return Dataset(np.arange(len(y), dtype=np.float32)[:, None], y, "made", ("a",), classes)


@given(y=st.lists(st.integers(0, 4), min_size=2, max_size=80), fraction=st.floats(0.05, 0.95), seed=WORD)
def test_split_divides_and_keeps_shares(y, fraction, seed):
    data = labelled(y, tuple(range(5)))
    wanted = int(np.ceil(fraction * len(y)))
    if wanted == len(y):
        with pytest.raises(ValueError, match="cannot be divided"):
            train_test_split(data, fraction, seed)
        return
    train, test = train_test_split(data, fraction, seed)
    assert sorted(np.concatenate([train.x, test.x])[:, 0]) == list(range(len(y)))
    counts, tested = np.bincount(y, minlength=5), np.bincount(test.y, minlength=5)
    assert (tested < np.maximum(counts, 1)).all()
    assert (np.abs(tested - counts * wanted / len(y)) <= 1).all()


def test_split_of_regression():
    train, test = train_test_split(labelled(np.linspace(0, 1, 11)), 0.25, 1)
    assert (len(train), len(test)) == (8, 3)
    assert not set(train.y) & set(test.y)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_split_refuses(fraction):
    with pytest.raises(ValueError, match="test_fraction"):
        train_test_split(labelled([0.5, 1.5]), fraction)


def test_standardizer_is_fitted_once():
    rng = np.random.default_rng(0)
    train = (rng.normal(size=(500, 3)) * [1, 1e3, 1e-3] + [0, 1e4, 5]).astype(np.float32)
    scaler = Standardizer.fit(train)
    scaled = scaler.apply(train)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-3)
    other = train + 1
    np.testing.assert_allclose(scaler.apply(other), (other - scaler.mean) / scaler.scale, rtol=1e-6)
    np.testing.assert_allclose(scaler.undo(scaled), train, rtol=1e-5)


def test_standardizer_leaves_constant_columns_finite():
    x = np.full((7, 2), 0.1, dtype=np.float32)
    assert (np.abs(Standardizer.fit(x).apply(x)) < 1e-6).all()


# -------------------------------------------------------------------------------------------------------- tables


def table(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_csv_with_header_and_text_labels(tmp_path):
    data = load_csv(table(tmp_path, "a,b,kind\n1,2,cat\n3,4.5,dog\n\n5,6,cat\n7,8,dog\n"))
    assert data.x.tolist() == [[1, 2], [3, 4.5], [5, 6], [7, 8]]
    assert data.x.dtype == np.float32
    assert data.y.tolist() == [0, 1, 0, 1]
    assert data.classes == ("cat", "dog")
    assert data.feature_names == ("a", "b")


def test_csv_without_header(tmp_path):
    data = load_csv(table(tmp_path, "1,2,cat\n3,4,dog\n5,6,dog\n7,8,cat"))
    assert data.y.tolist() == [0, 1, 1, 0]
    assert data.feature_names == ("column 0", "column 1")


@pytest.mark.parametrize("target", ["b", 1, "1", -2])
def test_csv_target_by_name_and_position(tmp_path, target):
    data = load_csv(table(tmp_path, "a,b,c\n1,5,3\n2,7,4\n2,7,4\n2,5,4\n"), target)
    assert data.feature_names == ("a", "c")
    assert data.classes == (5, 7)
    assert data.x[0].tolist() == [1, 3]


def test_a_numeric_header_is_seen_by_its_target(tmp_path):
    data = load_csv(table(tmp_path, "1,2,y\n1,5,3\n2,7,4\n3,7,4\n2,7,3\n"))
    assert len(data) == 4
    assert data.feature_names == ("1", "2")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_dialects(tmp_path, delimiter):
    text = 'a,"b",y\r\n1,"2",0\r\n3, 4 ,1\r\n3, 4 ,1\r\n3, 4 ,0\r\n'.replace(",", delimiter)
    data = load_csv(table(tmp_path, b"\xef\xbb\xbf" + text.encode()))
    assert data.feature_names == ("a", "b")
    assert data.x[1].tolist() == [3, 4]


def test_csv_tasks(tmp_path):
    whole = table(tmp_path, "a,y\n1,1\n2,2\n3,1\n4,2\n")
    assert load_csv(whole).classes == (1, 2)
    regression = load_csv(whole, task="regression")
    assert regression.classes == ()
    assert regression.y.dtype == np.float32
    fractions = table(tmp_path, "a,y\n1,1.5\n2,2\n3,1.5\n4,2\n")
    assert load_csv(fractions).classes == ()
    assert load_csv(fractions, task="classification").classes == ("1.5", "2")


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("", ":1", "empty"),
        ("\n\n", ":1", "empty"),
        ("a,b,y\n", ":1", "no data"),
        ("only\n1\n2\n", ":1:1", "two columns"),
        ("a,b,y\n1,2,0\n1,2\n", ":3", "expected 3 values as in the first row, got 2"),
        ("a,b,y\n\n1,2,0\n\n1,2,3,4\n", ":5", "got 4"),
        ("a,b,y\n1,2,0\n1,x,1\n", ":3:2", "'x' in 'b' is not a number"),
        ("y,b,a\n1,2,0\n1,2,z\n", ":3:3", "'z' in 'a' is not a number"),
        ("a,b,y\n1,,0\n1,,1\n", ":1:2", "'b' has no values at all; leave it out with data.ignore"),
        ("a,b,y\n1,inf,0\n1,2,1\n", ":2:2", "not a finite number"),
        ("a,b,y\n1,2,0\n1,1e999,1\n", ":3:2", "not a finite number"),
        ("a,b,y\n1,1_0,0\n1,2,1\n", ":2:2", "'1_0' in 'b' is not a number"),
        ("a,b,y\n1,2,0\n1,2,\n", ":3:3", "target 'y' is empty"),
        ("a,a,y\n1,2,0\n", ":1:2", "'a' twice"),
        ('a,b,y\n1,"2\n', "", "unexpected end of data"),
        ("a,b,y\n1,2,0\n1,2,0\n", "", "all targets are 0"),
        ("a,b,y\n1,2,1\n1,2,2\n1,3,3\n1,3,4\n", "", "too many for classes"),
        ("a,b,y\n1e300,2,1\n1,2,1\n1,3,0\n1,3,0\n", "", "too large for float32"),
        (b"a,b,y\n1,2,caf\xe9\n", "", "UTF-8"),
    ],
)
def test_csv_errors_say_where(tmp_path, text, where, message):
    path = table(tmp_path, text)
    target = 0 if isinstance(text, str) and text.startswith("y") else None
    with pytest.raises(ValueError) as caught:
        load_csv(path, target)
    assert str(caught.value).startswith(f"{path}{where}")
    assert message in str(caught.value)


def test_csv_missing_column_suggests(tmp_path):
    path = table(tmp_path, "length,price\n1,2\n")
    with pytest.raises(ValueError, match="no column 'prize' among 'length', 'price'; did you mean 'price'"):
        load_csv(path, "prize")
    with pytest.raises(ValueError, match="no column 2"):
        load_csv(path, 2)


# ---- categories, missing values


def test_csv_with_categories_and_missing_values(tmp_path):
    text = "size,city,code,y\n1,north,7,0\nNA,south,8,1\n3,?,7,0\n,north,,1\n"
    data = load_csv(table(tmp_path, text), categorical=["code"])
    assert data.categories == (None, ("north", "south"), ("7", "8"))
    np.testing.assert_array_equal(data.x, np.float32([[1, 0, 0], [np.nan, 1, 1], [3, np.nan, 0], [np.nan, 0, np.nan]]))
    assert data.target == "y"
    ignored = load_csv(table(tmp_path, text), ignore=["city", "code"])
    assert (ignored.feature_names, ignored.categories) == (("size",), ())


def test_numbers_among_texts_keep_their_spelling(tmp_path):
    data = load_csv(table(tmp_path, "cabin,y\nC1,0\n007,1\nB2,0\n7,1\nC1,0\nB2,1\nB2,0\n"))
    assert data.categories == (("007", "7", "B2", "C1"),)
    assert data.x[:, 0].tolist() == [3, 0, 2, 1, 3, 2, 2]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("color,shape,y\nred,round,0\nblue,flat,1\n", True),
        ("red,round,0\nblue,flat,1\nblue,flat,0\nred,flat,1\n", True),  # no number in it: taken for names
        ("red,5,0\nblue,6,1\nblue,7,0\nred,8,1\n", False),
        ("color,5,y\nred,6,0\nblue,7,1\n", True),  # the target is text above numbers
        ("NA,5,0\n3,6,1\n3,7,0\n3,8,1\n", False),  # a missing value is no name
        ("1,2,3\n4,5,6\n", False),
    ],
)
def test_headers_of_tables_with_text(tmp_path, text, header):
    rows = text.count("\n")
    if header and text.startswith("red"):
        assert len(load_csv(table(tmp_path, text))) == rows - 1
        return
    assert len(load_csv(table(tmp_path, text), task="regression")) == rows - header


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"categorical": ["citi"]}, "no column 'citi' among 'city', 'y'; did you mean 'city'"),
        ({"ignore": ["city"]}, "no columns are left"),
        ({"ignore": ["y"]}, "'y' is the target"),
    ],
)
def test_columns_that_cannot_be_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_csv(table(tmp_path, "city,y\nnorth,0\nsouth,1\n"), **arguments)


def test_text_that_is_no_category(tmp_path):
    with pytest.raises(ValueError, match=r":1:1: 'name' has 30 different texts in 30 rows.*data\.ignore"):
        load_csv(table(tmp_path, "name,y\n" + "".join(f"n{i},{i % 2}\n" for i in range(30))))
    with pytest.raises(ValueError, match=r":5:1: '3\+' in 'n' is not a number, as most.*data\.categorical"):
        load_csv(table(tmp_path, "n,y\n1,0\n2,1\n1,0\n3+,1\n"))


def parts(tmp_path):
    text = "size,city,same,y\n1,north,5,1.5\nNA,south,5,2\n3,?,5,3\n8,north,5,9.5\n"
    return load_csv(table(tmp_path, text))


def test_preprocessing_is_fitted_once_and_stored(tmp_path):
    data = parts(tmp_path)
    processor = Preprocessor.fit(data.take(np.arange(3)))
    names = ("size", "size is missing", "city is north", "city is south", "city is missing", "same")
    assert processor.features == names
    x, y = processor.apply(data)
    assert x.dtype == np.float32
    filled = np.array([1, 2, 3])  # the median in place of the missing one
    scale = filled.std()
    np.testing.assert_allclose(x[:, 0], (np.array([1, 2, 3, 8]) - 2) / scale, rtol=1e-6)
    assert x[:, 1].tolist() == [0, 1, 0, 0]
    assert x[:, 2:5].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert x[:, 5].tolist() == [0, 0, 0, 0]
    targets = np.array([1.5, 2, 3])
    np.testing.assert_allclose(y[:, 0], (data.y - targets.mean()) / targets.std(), rtol=1e-6)
    again = Preprocessor.from_state(processor.state_dict())
    for one, other in zip(again.apply(data), (x, y), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="not the state of a Preprocessor"):
        Preprocessor.from_state({"columns": ()})


def test_preprocessing_never_looks_at_the_test_data(tmp_path):
    data = parts(tmp_path)
    train = data.take(np.arange(3))
    changed = data.x.copy()
    changed[3, 0] = 1e6
    before = Preprocessor.fit(train)
    same = Preprocessor.fit(
        Dataset(changed, data.y, "d", data.feature_names, categories=data.categories).take(np.arange(3))
    )
    np.testing.assert_array_equal(same.scaling.mean, before.scaling.mean)


def test_new_data_finds_its_columns_and_categories(tmp_path):
    data = parts(tmp_path)
    processor = Preprocessor.fit(data)
    x, _ = processor.apply(data)
    text = "same,y,city,more,size\n5,1.5,north,1,1\n5,2,south,1,\n5,3,,1,3\n5,9.5,west,1,8\n"
    other = load_csv(table(tmp_path, text, "new.csv"), "y")
    expected = x.copy()
    expected[3, 2:5] = 0  # a city that training did not know
    np.testing.assert_array_equal(processor.apply(other)[0], expected)
    with pytest.raises(ValueError, match="new: lacks the columns city"):
        processor.apply(load_csv(table(tmp_path, text, "new.csv"), "y", ignore=["city"]))
    numbers = load_csv(
        table(tmp_path, text.replace("north", "1").replace("south", "2").replace("west", "1"), "n.csv"), "y"
    )
    with pytest.raises(ValueError, match="column 'city' held categories in training, here it holds numbers"):
        processor.apply(numbers)


def test_labels_are_those_of_training(tmp_path):
    processor = Preprocessor.fit(load_csv(table(tmp_path, "a,y\n1,cat\n2,dog\n3,cat\n")))
    new = load_csv(table(tmp_path, "a,y\n1,dog\n2,cat\n3,dog\n", "n.csv"))
    assert processor.apply(new)[1].tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="unknown labels cow; in training there were cat, dog"):
        processor.apply(load_csv(table(tmp_path, "a,y\n1,dog\n2,cow\n3,cow\n", "n.csv")))


# ---- Fashion-MNIST: small files of the same form stand in for the real ones


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """Four files with 6 and 4 images, pinned as the real ones are."""
    rng = np.random.default_rng(0)
    files, folder = {}, tmp_path / "files"
    folder.mkdir()
    for name, (shape, _) in fashion_mnist.FILES.items():
        shape = (6 if name.startswith("train") else 4, *shape[1:])
        data = struct.pack(f">{1 + len(shape)}I", 0x800 | len(shape), *shape)
        data += rng.integers(0, 10, shape).astype(np.uint8).tobytes()
        files[name] = (shape, hashlib.sha256(data).hexdigest())
        (folder / f"{name}.gz").write_bytes(gzip.compress(data))
    monkeypatch.setattr(fashion_mnist, "FILES", files)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "none")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTGD_DATA", raising=False)
    return folder


def test_fashion_mnist_is_looked_for(fashion, tmp_path, monkeypatch):
    train, test = load_fashion_mnist(fashion)
    assert (train.x.shape, test.x.shape) == ((6, 784), (4, 784))
    assert train.x.dtype == np.float32
    assert train.x.max() <= 9 / 255
    assert train.feature_shape == (1, 28, 28)
    assert len(train.classes) == 10
    with pytest.raises(FileNotFoundError, match="no Fashion-MNIST files there"):
        load_fashion_mnist(download=False)
    with pytest.raises(FileNotFoundError):
        load_fashion_mnist(tmp_path / "none")
    monkeypatch.setenv("FASTGD_DATA", str(fashion))
    assert len(load_fashion_mnist(download=False).train) == 6
    monkeypatch.setenv("FASTGD_DATA", str(tmp_path))
    fashion.rename(tmp_path / "fashion-mnist")
    assert len(load_fashion_mnist(download=False).train) == 6


@pytest.mark.parametrize("damage", ["flipped", "truncated", "longer", "text"])
def test_fashion_mnist_that_is_damaged(fashion, damage):
    path = fashion / "t10k-labels-idx1-ubyte.gz"
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(
        {
            "flipped": gzip.compress(data[:-1] + bytes([data[-1] ^ 1])),
            "truncated": path.read_bytes()[:-9],
            "longer": gzip.compress(data + bytes(1)),
            "text": b"<html>",
        }[damage]
    )
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz: not"):
        load_fashion_mnist(fashion)


class Response(io.BytesIO):
    headers: ClassVar = {"Content-Length": "9"}


def test_fashion_mnist_is_downloaded_once(fashion, tmp_path, monkeypatch):
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        return Response((fashion / url.rpartition("/")[2]).read_bytes())

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    assert len(load_fashion_mnist().test) == 4
    assert len(asked) == 4
    assert all(url.startswith("https://") for url in asked)
    load_fashion_mnist()
    assert len(asked) == 4
    assert len(list((tmp_path / "cache/fastgd/fashion-mnist").iterdir())) == 4


@pytest.mark.parametrize("fault", ["wrong", "large", "offline"])
def test_a_download_that_fails_leaves_nothing(fashion, tmp_path, monkeypatch, fault):
    def urlopen(url, timeout):
        if fault == "offline":
            raise urllib.error.URLError("no route to host")
        return Response(b"x" * 100)

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    if fault == "large":
        monkeypatch.setattr(fashion_mnist, "MAX_DOWNLOAD", 99)
    message = {"wrong": "not readable", "large": "larger than 99 bytes", "offline": "no route.*set FASTGD_DATA"}[fault]
    with pytest.raises((ValueError, OSError), match=message):
        load_fashion_mnist()
    assert list((tmp_path / "cache/fastgd/fashion-mnist").iterdir()) == []


@pytest.mark.skipif(not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="Debian's files are not installed")
def test_the_real_fashion_mnist():
    train, test = load_fashion_mnist("/usr/share/datasets/fashion-mnist")
    assert (train.x.shape, test.x.shape) == ((60000, 784), (10000, 784))
    assert np.bincount(train.y).tolist() == [6000] * 10
    assert train.classes[train.y[0]] == "ankle boot"


# ---- prefetching


def test_prefetching_changes_nothing_but_when():
    plain, ahead = ([tuple(map(bytes, b)) for b in ArrayLoader([np.arange(20)], 3, seed=1, prefetch=p)] for p in (0, 3))
    assert plain == ahead
    loader = ArrayLoader([np.arange(20)], 3, shuffle=False, prefetch=4)
    for (batch,) in loader:
        assert loader.position == batch[-1] + 1
        if loader.position == 9:
            break
    assert next(batch.tolist() for (batch,) in loader) == [9, 10, 11]


def test_errors_of_the_background_come_out():
    def broken():
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(in_background(broken(), 2))
    before = threading.active_count()
    source = in_background(iter(range(10**9)), 2)
    assert next(source) == 0
    source.close()
    assert threading.active_count() == before
    with pytest.raises(ValueError, match="prefetch must be at least 0"):
        ArrayLoader([np.arange(3)], 1, prefetch=-1)


def test_iterables_go_on_where_they_were():
    batches = [np.full(2, i) for i in range(5)]
    loader = IterableLoader(batches)
    assert len(loader) == 5
    seen = []
    for batch in loader:
        seen.append(int(batch[0]))
        if len(seen) == 3:
            break
    assert loader.state_dict() == {"epoch": 0, "position": 3, "random": tuple(random.get_state())}
    other = IterableLoader(batches)
    other.load_state_dict(loader.state_dict())
    assert [int(batch[0]) for batch in other] == [3, 4]
    assert (other.epoch, other.position) == (1, 0)
    with pytest.raises(ValueError, match="at batch 9, an epoch has 5"):
        other.load_state_dict({**loader.state_dict(), "position": 9})


def test_a_source_that_knows_its_position_is_asked_for_it():
    class Stream:
        def __init__(self):
            self.at = 0

        def __iter__(self):
            while self.at < 6:
                self.at += 1
                yield self.at
            self.at = 0

        def state_dict(self):
            return {"at": self.at}

        def load_state_dict(self, state):
            self.at = state["at"]

    loader = IterableLoader(Stream())
    source = iter(loader)
    assert [next(source) for _ in range(3)] == [1, 2, 3]
    state = loader.state_dict()
    other = IterableLoader(Stream())
    other.load_state_dict(state)
    assert list(other) == [4, 5, 6]


def test_missing_file_and_unknown_kind(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_dataset(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="ends in"):
        load_dataset(tmp_path / "x.pickle")
    with pytest.raises(ValueError, match="task"):
        load_dataset(table(tmp_path, "a,y\n1,2\n"), task="guess")


@given(values=st.lists(st.tuples(st.floats(-1e30, 1e30), st.sampled_from("pq")), min_size=4, max_size=20))
def test_csv_round_trip(tmp_path_factory, values):
    labels = ["p", "q", *(label for _, label in values)]
    numbers = [0.0, 1.0, *(number for number, _ in values)]
    text = "v,label\n" + "".join(f"{n!r},{label}\n" for n, label in zip(numbers, labels, strict=True))
    data = load_csv(table(tmp_path_factory.mktemp("t"), text))
    np.testing.assert_array_equal(data.x[:, 0], np.float32(numbers))
    assert [data.classes[index] for index in data.y] == labels


# -------------------------------------------------------------------------------------------------- NumPy's files


def test_npz(tmp_path):
    x = np.arange(24, dtype=">i2").reshape(4, 2, 3)
    np.savez(tmp_path / "d.npz", x=x, y=np.array(["u", "v", "v", "u"]))
    data = load_numpy(tmp_path / "d.npz")
    assert data.feature_shape == (2, 3)
    assert data.classes == ("u", "v")
    np.testing.assert_array_equal(data.x, x.reshape(4, 6))
    assert data.x.dtype == np.dtype("=f4")


def test_npy(tmp_path):
    values = np.asfortranarray([[0, 1.5, 2], [1, 2.5, 3], [0, 3.5, 4], [1, 4.5, 5]])
    np.save(tmp_path / "d.npy", values)
    assert load_numpy(tmp_path / "d.npy", 0).classes == (0, 1)
    assert load_dataset(tmp_path / "d.npy", "1").y.tolist() == [1.5, 2.5, 3.5, 4.5]


def bad_arrays():
    y = np.array([0, 1, 0, 1])
    x = np.ones((4, 2))
    return {
        "Complex": {"x": x + 0j, "y": y},
        "Python objects": {"x": np.array([[1], [2], [3], [None]]), "y": y},
        "expected y of shape": {"x": x, "y": y[:3]},
        "no samples": {"x": x[:0], "y": y[:0]},
        "not finite": {"x": np.where(np.eye(4, 2), np.nan, x), "y": y},
        "must be numbers": {"x": x.astype("U5"), "y": y},
        "expected the arrays x and y": {"x": x, "labels": y},
        "finite number as the target": {"x": x, "y": np.array([0.5, np.inf, 1, 1])},
        "targets must be": {"x": x, "y": y.astype("datetime64[D]")},
    }


@pytest.mark.parametrize("message", bad_arrays())
def test_npz_refuses(tmp_path, message):
    np.savez(tmp_path / "d.npz", **bad_arrays()[message])
    with pytest.raises(ValueError, match=message):
        load_numpy(tmp_path / "d.npz")


def test_npz_truncated_at_every_byte(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.ones((4, 2), np.float32), y=np.array([0, 1, 0, 1]))
    whole = (tmp_path / "d.npz").read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.npz"):
            load_numpy(path)


def test_npy_that_promises_too_much(tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**20)})
    path = tmp_path / "huge.npy"
    path.write_bytes(buffer.getvalue() + bytes(64))
    with pytest.raises(ValueError, match="more than the file holds"):
        load_numpy(path)
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("x.npy", path.read_bytes())
        archive.writestr("y.npy", path.read_bytes())
    with pytest.raises(ValueError, match="more than the file holds"):
        load_numpy(tmp_path / "huge.npz")


def test_npz_has_no_target_column(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.ones((4, 2)), y=np.array([0, 1, 0, 1]))
    with pytest.raises(ValueError, match="leave out target"):
        load_numpy(tmp_path / "d.npz", "y")
