"""Cases of indexing by arrays; integers, slices, None and ... are in shape.py."""
# ruff: noqa: E501 - tables are read by rows

import numpy as np

import fastgd as gd
from fastgd.ops import functional as F

from . import case, flags, labels, normal, refuses

I, J = np.array([0, 2, 2, -1]), np.array([[1], [-2]])
KEYS = (
    (I,), (slice(None), I), (..., I), (I, slice(1, 3)), (slice(1, 3), I, slice(None, None, 2)), (None, I), (I[:2], J), (slice(None), J, I),
    (I, slice(None), J), (J, slice(None), None, I), (np.zeros((0,), np.int64),), (slice(0, 2), np.array([True, False, True, True])),
    (np.array([True, False, True, False]),), (np.arange(16).reshape(4, 4) % 3 == 0,), (slice(None), np.arange(20).reshape(4, 5) % 3 == 0),
)  # fmt: skip
for _key in KEYS:
    case("take", lambda x, key: x[key], normal(4, 4, 5), function=lambda x, key: x[key], arguments=(_key,), text=f"key{_key}")
# Integers are taken first, as in torch and unlike NumPy, which counts them among the arrays.
case("take", lambda x: x[0][:, I], normal(2, 3, 4), function=lambda x: x[0, :, I], text="integer before")
case("take", lambda x: x[:, 1][I[:2] % 2], normal(2, 3, 4), function=lambda x: x[gd.tensor(I[:2] % 2), 1], text="integer behind")
case("take", lambda x: x[np.arange(300) * 7 % 129] * 2, normal(129, 515), function=lambda x: x[np.arange(300) * 7 % 129] * 2, text="big rows", big=True, f32=4)
case("take", lambda x: x[:, np.arange(300) * 7 % 129], normal(515, 129), function=lambda x: x[:, np.arange(300) * 7 % 129], text="big columns", big=True, f32=4)
case("take", lambda x, i: x.reshape(-1)[i], normal(3, 4), labels(12, 2, 5), text="flat")
case("take", lambda x, i: x.reshape(-1)[i], normal(300, 400), labels(50, 400, 500), text="big", big=True, f32=40)
for _dim in (0, 1, -1):
    case("index_select", lambda x, i, d: np.take(x, i, d), normal(4, 5, 6), labels(4, 7), function=lambda x, i, d: F.index_select(x, d, i), arguments=(_dim,), text=f"{_dim}")
    case("gather", lambda x, i, d: np.take_along_axis(x, i, d), normal(4, 4, 4), labels(4, 4, 4, 4), function=lambda x, i, d: F.gather(x, d, i), arguments=(_dim,), text=f"{_dim}")
    case("take_along_dim", lambda x, i, d: np.take_along_axis(x, i, d), normal(4, 4, 4), labels(4, 4, 4, 4), function=lambda x, i, d: F.take_along_dim(x, i, d), arguments=(_dim,), text=f"{_dim}")
case("index_select", lambda x, i: x[i], normal(5), labels(5, 3), function=lambda x, i: F.index_select(x, 0, i), text="vector")
case("gather", lambda x, i: np.take_along_axis(x[:2, :3], i, 1), normal(4, 3), labels(3, 2, 5), function=lambda x, i: F.gather(x, 1, i), text="smaller")
case("gather", lambda x, i: np.take_along_axis(x, i, 1), normal(129, 515), labels(515, 129, 300), function=lambda x, i: F.gather(x, 1, i), text="big", big=True, f32=10)
case("gather", lambda x, i: x[i], normal(3), labels(3, 0), function=lambda x, i: F.gather(x, 0, i), text="empty")
case("take_along_dim", lambda x, i: np.take_along_axis(x, np.broadcast_to(i, (4, 5)), 1), normal(4, 3), labels(3, 1, 5), function=lambda x, i: F.take_along_dim(x, i, 1), text="broadcast")
case("take_along_dim", lambda x, i: x.reshape(-1)[i.reshape(-1)], normal(4, 3), labels(12, 2, 5), text="flat")


def scattered(x, dim, index, src, add):
    y = x.copy()
    for at in np.ndindex(*index.shape):
        to = list(at)
        to[dim] = index[at]
        y[tuple(to)] = (y[tuple(to)] if add else 0) + (src[at] if isinstance(src, np.ndarray) else src)
    return y


for _dim in (0, 1):
    case("scatter_add", lambda x, i, s, d: scattered(x, d, i, s, True), normal(4, 5), labels(4, 3, 4), normal(4, 5), function=lambda x, i, s, d: F.scatter_add(x, d, i, s), arguments=(_dim,), text=f"{_dim}")
    case("index_add", lambda x, i, s, d: np.moveaxis(scattered(np.moveaxis(x, d, 0), 0, np.broadcast_to(i[:, None, None], (3, 4, 4)), 2 * np.moveaxis(s, d, 0), True), 0, d), normal(4, 4, 4), labels(4, 3), normal(*((3, 4, 4) if _dim == 0 else (4, 3, 4))),
         function=lambda x, i, s, d: F.index_add(x, d, i, s, alpha=2), arguments=(_dim,), text=f"{_dim}")  # fmt: skip
case("scatter", lambda x, s: scattered(x, 1, np.array([[2, 0], [1, 4]]), s, False), normal(3, 5), normal(2, 2), function=lambda x, s: F.scatter(x, 1, gd.tensor([[2, 0], [1, 4]]), s), text="src")
case("scatter", lambda x, i: scattered(x, 1, i, 2.5, False), normal(3, 5), labels(5, 2, 2), function=lambda x, i: F.scatter(x, 1, i, 2.5), text="number")
case("scatter", lambda x, i, s: scattered(x, 0, i, s, True), normal(3, 5), labels(3, 2, 2), normal(2, 2), function=lambda x, i, s: F.scatter(x, 0, i, s, reduce="add"), text="add")
case("scatter", lambda x, i: np.copy(x), normal(3, 5), labels(3, 0, 5), function=lambda x, i: F.scatter(x, 0, i, 1.0), text="empty")
case("scatter_add", lambda x, i, s: scattered(x, 0, i, s, True), normal(700), labels(7, 40000), normal(40000), function=lambda x, i, s: F.scatter_add(x, 0, i, s), text="big", big=True, f32=300)
case("index_copy", lambda x, s: scattered(x, 0, np.broadcast_to(np.array([[2], [0]]), (2, 3)), s, False), normal(4, 3), normal(2, 3), function=lambda x, s: F.index_copy(x, 0, gd.tensor([2, 0]), s))
case("index_fill", lambda x, i: scattered(x, 0, np.broadcast_to(i[:, None], (2, 3)), 1.5, False), normal(4, 3), labels(4, 2), function=lambda x, i: F.index_fill(x, 0, i, 1.5))
case("index_put", lambda x, i, s: scattered(x, 0, np.broadcast_to(i[:, None], (5, 3)), s, True), normal(4, 3), labels(4, 5), normal(5, 3), function=lambda x, i, s: F.index_put(x, (i,), s, True), text="accumulate")
case("index_put", lambda x, s: scattered(x.reshape(-1), 0, np.array([1, 11]), s, False).reshape(4, 3), normal(4, 3), normal(2), function=lambda x, s: F.index_put(x, (gd.tensor([0, 3]), gd.tensor([1, -1])), s))
case("masked_fill", lambda x, m: np.where(m, -2.0, x), normal(3, 5), flags(5), function=lambda x, m: F.masked_fill(x, m, -2))
case("masked_select", lambda x: x[x.astype(np.float64) < 9], normal(3, 5), function=lambda x: F.masked_select(x, gd.ones(3, 5, dtype="bool")), eager_only=True)
case("nonzero", lambda x: np.stack(np.nonzero(np.ones((3, 2))), 1), normal(3, 2), function=lambda x: F.nonzero(gd.ones(3, 2)), differentiable=False, eager_only=True)
case("argwhere", lambda x: np.argwhere(np.eye(3)), normal(3, 2), function=lambda x: F.argwhere(gd.eye(3)), differentiable=False, eager_only=True)
case("repeat_interleave", lambda x: np.repeat(x, [2, 0, 1], 1), normal(2, 3), function=lambda x: F.repeat_interleave(x, gd.tensor([2, 0, 1]), 1), text="each")

X, I2 = gd.zeros(2, 3), gd.tensor([[0, 1]])
refuses("take", IndexError, "indexing: index 5 at position 1 is out of range for a dim of size 3", lambda: X[:, gd.tensor([0, 5])])
refuses("take", IndexError, "indexing: index -4 at position 0 is out of range for a dim of size 3", lambda: gd.compile(lambda x, i: x[:, i])(X, gd.tensor([-4])))
refuses("take", ValueError, "indexing: shapes (2,) and (3,) cannot be broadcast together (dim -1)", lambda: X[gd.tensor([0, 1]), gd.tensor([0, 1, 2])])
refuses("take", TypeError, "indexing: expected indices of int64, int32 or uint8, got fastgd.float32", lambda: X[gd.tensor([0.0])])
refuses("take", IndexError, "indexing: expected a mask of shape (2, 3), got (2, 2)", lambda: X[gd.ones(2, 2, dtype="bool")])
refuses("take", NotImplementedError, "indexing: a single bool as an index is not offered", lambda: X[True])
_UNKNOWN = "how many elements a boolean array names is not known inside fastgd.compile; use where() or masked_fill(), or index outside"
refuses("take", NotImplementedError, f"indexing: {_UNKNOWN}", lambda: gd.compile(lambda x: x[x > 0])(X))
refuses("nonzero", NotImplementedError, f"nonzero: {_UNKNOWN}", lambda: gd.compile(lambda x: F.nonzero(x))(X))
refuses("masked_select", NotImplementedError, f"masked_select: {_UNKNOWN}", lambda: gd.compile(lambda x: F.masked_select(x, x > 0))(X))
refuses("index_select", IndexError, "index_select: index -1 at position 0 is out of range for a dim of size 2", lambda: F.index_select(X, 0, gd.tensor([-1])))
refuses("index_select", ValueError, "index_select: expected index of at most 1 dim, got shape (1, 2)", lambda: F.index_select(X, 0, I2))
refuses("gather", IndexError, "gather: index 3 at position 1 is out of range for a dim of size 3", lambda: F.gather(X, 1, gd.tensor([[0, 3]])))
refuses("gather", ValueError, "gather: expected index of 2 dims, got shape (1,)", lambda: F.gather(X, 1, gd.tensor([0])))
refuses("gather", ValueError, "gather: expected index no larger than (2, 3) but in dim 1, got (3, 1)", lambda: F.gather(X, 1, gd.zeros(3, 1, dtype="int64")))
refuses("gather", TypeError, "gather: expected index as a tensor of integers, got list", lambda: F.gather(X, 1, [[0]]))
refuses("scatter", NotImplementedError, "scatter: reduce='multiply' is not offered, expected None or 'add'", lambda: F.scatter(X, 1, I2, 2.0, reduce="multiply"))
refuses("scatter", ValueError, "scatter: expected src at least as large as index, (1, 2), got (1, 1)", lambda: F.scatter(X, 1, I2, gd.zeros(1, 1)))
refuses("scatter_add", TypeError, "scatter_add: expected src of fastgd.float32, got fastgd.int64", lambda: F.scatter_add(X, 1, I2, I2))
refuses("index_add", ValueError, "index_add: expected source of shape (2, 3), got (1, 3)", lambda: F.index_add(X, 0, gd.tensor([0, 1]), gd.zeros(1, 3)))
refuses("index_fill", ValueError, "index_fill: expected a number or a 0-d tensor, got shape (2,)", lambda: F.index_fill(X, 0, gd.tensor([0]), gd.zeros(2)))
refuses("masked_fill", TypeError, "masked_fill: expected a bool mask, got fastgd.float32", lambda: F.masked_fill(X, X, 1))
