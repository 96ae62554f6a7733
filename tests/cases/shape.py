"""Cases of operations that rearrange, and of those that put tensors side by side."""
# ruff: noqa: E501, B008 - tables are read by rows

import numpy as np

import fastgd as gd
from fastgd.ops import functional as F

from . import case, normal, refuses

for _shape, _new in (((6,), (2, 3)), ((2, 3), (-1,)), ((), (1, 1)), ((0, 3), (3, 0)), ((4, 5), (2, -1, 5))):
    case("reshape", np.reshape, normal(*_shape), arguments=(_new,), text=f"{_shape}{_new}")
case("flatten", lambda x: x.reshape(2, 12), normal(2, 3, 4), function=lambda x: F.flatten(x, 1), text="1")
case("flatten", lambda x: x.reshape(1), normal(), text="0-d")
case("squeeze", np.squeeze, normal(1, 3, 1), text="all")
case("squeeze", lambda x: x.reshape(1, 3), normal(1, 3, 1), function=lambda x: F.squeeze(x, -1), text="-1")
case("unsqueeze", lambda x: x[:, None], normal(2, 3), function=lambda x: F.unsqueeze(x, 1))
case("unflatten", lambda x: x.reshape(2, 2, 3, 4), normal(2, 6, 4), function=lambda x: F.unflatten(x, 1, (2, -1)))
case("ravel", np.ravel, normal(2, 3))
PERMUTATIONS = (
    ((3, 4), (1, 0)), ((2, 3, 5), (2, 0, 1)), ((1, 4, 1, 3), (3, 1, 0, 2)), ((0, 3), (1, 0)), ((3, 0, 2), (2, 1, 0)),
    ((2, 1, 3, 2, 5), (4, 2, 0, 3, 1)),
)  # fmt: skip
for _shape, _dims in PERMUTATIONS:
    case("permute", np.transpose, normal(*_shape), arguments=(_dims,), text=f"{_shape}{_dims}")
case("permute", np.transpose, normal(33, 65, 37), arguments=((2, 0, 1),), text="big", big=True)
case("transpose", np.swapaxes, normal(3, 4, 5), arguments=(0, -1))
case("swapaxes", np.swapaxes, normal(3, 4, 5), arguments=(0, -1))
case("swapdims", np.swapaxes, normal(3, 4, 5), arguments=(1, 2))
case("t", lambda x: x.T, normal(3, 4), text="matrix")
case("t", np.copy, normal(3), text="vector")
for _from, _to in ((0, -1), ((0, 2), (1, 0)), ((), ())):
    for _name in ("movedim", "moveaxis"):
        case(_name, np.moveaxis, normal(2, 3, 4), arguments=(_from, _to), text=f"{_from}{_to}")

# ---- parts ----

for _dim, _start, _length in ((0, 1, 2), (-1, 0, 5), (1, -2, 1), (2, 5, 0), (0, 0, 3)):
    case("narrow", lambda x, d, s, n: np.take(x, range(s % x.shape[d] if s < 0 else s, (s % x.shape[d] if s < 0 else s) + n), d), normal(3, 4, 5), arguments=(_dim, _start, _length), text=f"{_dim}{_start}{_length}")
for _dim, _at in ((0, 1), (1, -1), (-1, 4)):
    case("select", lambda x, d, i: np.take(x, i, d), normal(3, 4, 5), arguments=(_dim, _at), text=f"{_dim}{_at}")


def pieces(x, sizes, dim):
    return tuple(np.split(x, np.cumsum(sizes)[:-1], dim))


for _size, _sizes, _dim in ((2, (2, 2, 1), 0), (5, (5,), 0), (9, (5,), 0), ([1, 4], (1, 4), 0), ([3, 0, 4], (3, 0, 4), -1), (3, (3, 3, 1), 1)):
    case("split", lambda x, s, d, sizes: pieces(x, sizes, d), normal(5, 7), function=lambda x, s, d, sizes: F.split(x, s, d), arguments=(_size, _dim, _sizes), text=f"{_size}{_dim}")
case("split", lambda x: pieces(x, (65, 65, 65), 1), normal(129, 195), function=lambda x: F.split(x, 65, 1), text="big", big=True)
case("split", lambda x: x[:, 2:4] * 3, normal(5, 7), function=lambda x: F.split(x, 2, 1)[1] * 3, text="one of them")
for _n, _sizes in ((1, (7,)), (3, (3, 3, 1)), (7, (1,) * 7), (9, (1,) * 7)):
    case("chunk", lambda x, n, sizes: pieces(x, sizes, 1), normal(2, 7), function=lambda x, n, sizes: F.chunk(x, n, 1), arguments=(_n, _sizes), text=f"{_n}")
for _at in (3, 1, 9, (2, 5), (5, 2), (-2,)):
    case("tensor_split", lambda x, at: tuple(np.array_split(x, at, 1)), normal(2, 7), function=lambda x, at: F.tensor_split(x, at, 1), arguments=(_at,), text=f"{_at}")
for _dim in (0, 1, -1):
    case("unbind", lambda x, d: tuple(np.moveaxis(x, d, 0)), normal(3, 1, 2), arguments=(_dim,), text=f"{_dim}")
for _dims in ((0,), (1, -1), (0, 1, 2)):
    case("flip", np.flip, normal(3, 4, 5), arguments=(_dims,), text=f"{_dims}")
case("flip", np.flip, normal(0, 3), arguments=((0,),), text="empty")
case("flip", np.flip, normal(129, 515), arguments=((0, 1),), text="big", big=True)
case("fliplr", np.fliplr, normal(3, 4))
case("flipud", np.flipud, normal(3, 4))
for _offset in (-2, 0, 1, 5):
    case("diagonal", np.diagonal, normal(3, 4, 2), arguments=(_offset, 0, 1), text=f"{_offset}")
    case("diag", np.diag, normal(3, 4), arguments=(min(_offset, 3),), text=f"matrix{_offset}")
    case("diag", np.diag, normal(3), arguments=(_offset,), text=f"vector{_offset}")
    case("diag_embed", lambda x, k: np.stack([np.diag(r, k) for r in x]), normal(2, 3), arguments=(_offset,), text=f"{_offset}")
case("diagonal", lambda x: np.diagonal(x, 0, 2, 0), normal(3, 4, 2), function=lambda x: F.diagonal(x, 0, 2, 0), text="dims")
for _k in (-2, 0, 1):
    for _shape in ((3, 4), (2, 4, 3), (0, 2)):
        case("tril", np.tril, normal(*_shape), arguments=(_k,), text=f"{_shape}{_k}")
        case("triu", np.triu, normal(*_shape), arguments=(_k,), text=f"{_shape}{_k}")

# ---- repetitions ----

case("broadcast_to", np.broadcast_to, normal(3, 1), arguments=((2, 3, 4),))
case("broadcast_tensors", lambda a, b: tuple(map(np.copy, np.broadcast_arrays(a, b))), normal(3, 1), normal(4))
for _shape, _times in (((3,), (2,)), ((2, 3), (2, 3)), ((2, 3), (2, 1, 2)), ((), (3,)), ((2, 3), (0, 1)), ((2, 3), (1, 1)), ((1, 2, 1, 2, 1, 2), (2, 2, 2, 2, 2, 2))):
    case("tile", np.tile, normal(*_shape), arguments=(_times,), text=f"{_shape}{_times}")
case("tile", lambda x: np.tile(x, 2), normal(2, 3), function=lambda x: F.tile(x, (2,)), text="short")
for _dim in (None, 0, 1):
    case("repeat_interleave", lambda x, n, d: np.repeat(x, n, d), normal(2, 3), arguments=(2, _dim), text=f"{_dim}")
for _name, _make in (("atleast_1d", np.atleast_1d), ("atleast_2d", np.atleast_2d), ("atleast_3d", np.atleast_3d)):
    for _shape in ((), (2,), (2, 3), (1, 2, 3)):
        case(_name, _make, normal(*_shape), text=f"{_shape}")

# ---- side by side ----

for _dim, _shapes in ((0, ((2, 3), (1, 3), (4, 3))), (1, ((2, 3), (2, 1))), (-1, ((2, 0), (2, 2), (2, 0))), (0, ((3,), (2,)))):
    case("cat", lambda *xs, d=_dim: np.concatenate(xs, d), *(normal(*s) for s in _shapes), function=lambda *xs, d=_dim: F.cat(xs, d), text=f"{_dim}{_shapes}")
    for _name in ("concat", "concatenate"):
        case(_name, lambda *xs, d=_dim: np.concatenate(xs, d), *(normal(*s) for s in _shapes), function=lambda *xs, d=_dim, f=getattr(F, _name): f(xs, d), text=f"{_dim}{_shapes}")
case("cat", lambda a, b: np.concatenate([a, b], 1), normal(129, 300), normal(129, 215), function=lambda a, b: F.cat((a, b), 1), text="big", big=True)
case("cat", lambda a, b: np.concatenate([a[:, 1:], b.T, a[:, ::2], np.broadcast_to(b[:1].T, (3, 2))], 1), normal(3, 4), normal(2, 3),
     function=lambda a, b: F.cat([a[:, 1:], F.t(b), a[:, ::2], F.broadcast_to(F.t(b[:1]), (3, 2))], 1), text="views")  # fmt: skip
case("cat", lambda a: np.concatenate([a, a]), normal(2, 3), function=lambda a: F.cat([a, gd.zeros(0, dtype=a.dtype), a]), text="legacy empty")
for _dim in (0, 1, -1):
    case("stack", lambda a, b, d: np.stack([a, b], d), normal(2, 3), normal(2, 3), function=lambda a, b, d: F.stack([a, b], d), arguments=(_dim,), text=f"{_dim}")
for _name, _make in (("hstack", np.hstack), ("vstack", np.vstack), ("row_stack", np.vstack), ("dstack", np.dstack), ("column_stack", np.column_stack)):
    for _shape in ((3,), (2, 3)):
        case(_name, lambda a, b, f=_make: f([a, b]), normal(*_shape), normal(*_shape), function=lambda a, b, f=getattr(F, _name): f([a, b]), text=f"{_shape}")
for _shift, _dims in ((1, 0), (-2, 1), ((1, 2), (0, 1)), (3, None), (0, 0), (14, 1)):
    case("roll", np.roll, normal(3, 5), arguments=(_shift, _dims), text=f"{_shift}{_dims}")

# ---- padding ----

MODES = {"constant": {"mode": "constant"}, "reflect": {"mode": "reflect"}, "replicate": {"mode": "edge"}, "circular": {"mode": "wrap"}}


def padded(x, pad, mode):
    pairs = [(0, 0)] * x.ndim
    for i in range(len(pad) // 2):
        pairs[x.ndim - 1 - i] = pad[2 * i : 2 * i + 2]
    return np.pad(x, pairs, **MODES[mode])


for _mode in MODES:
    for _shape, _pad in (((2, 3), (1, 2)), ((2, 3, 4), (2, 1, 1, 0)), ((2, 5), (0, 3)), ((3, 3), (0, 0)), ((2, 3, 4, 5), (1, 1, 2, 2, 1, 0))):
        case("pad", padded, normal(*_shape), arguments=(_pad, _mode), text=f"{_shape}{_pad}{_mode}")
    case("pad", padded, normal(3, 65, 131), arguments=((3, 2, 1, 4), _mode), text=f"big{_mode}", big=True)
case("pad", lambda x: np.pad(x[1:, :-2], ((0, 0), (3, 0)), constant_values=2.5), normal(3, 4), function=lambda x: F.pad(x, (3, -2, -1, 0), value=2.5), text="crops")
case("pad", lambda x: x[1:], normal(3, 4), function=lambda x: F.pad(x, (0, 0, -1, 0)), text="crops only")
case("pad", lambda x: np.zeros((3, 2)), normal(3, 0), function=lambda x: F.pad(x, (1, 1)), text="empty")

# ---- keys ----

KEYS = (
    (0,), (-1,), (slice(1, 3),), (slice(None, None, 2),), (slice(-3, None, 3), 1), (..., 0), (None, 1), (slice(None), None, slice(0, 2)),
    (1, 2, 3), (..., None), (slice(5, 2),), (), (..., slice(1, 4, 2), slice(None)), (slice(None), slice(3, 1)),
)  # fmt: skip
for _key in KEYS:
    case("select", lambda x, key: x[key], normal(4, 3, 5), function=lambda x, key: x[key], arguments=(_key,), text=f"key{_key}")


# ---- regions ----


def written(x, y, key):
    z = x.copy()
    z[key] = y
    return z


case("slice_scatter", lambda x, y: written(x, y, np.s_[:, 1:4:2]), normal(3, 5), normal(3, 2), function=lambda x, y: F.slice_scatter(x, y, 1, 1, 4, 2))
case("slice_scatter", lambda x, y: written(x, y, np.s_[-2:]), normal(3, 5), normal(2, 5), function=lambda x, y: F.slice_scatter(x, y, 0, -2), text="end")
case("slice_scatter", lambda x, y: written(x, y, np.s_[3:103]), normal(129, 515), normal(100, 515), function=lambda x, y: F.slice_scatter(x, y, 0, 3, 103), text="big", big=True)
case("select_scatter", lambda x, y: written(x, y, np.s_[:, -2]), normal(3, 5), normal(3), function=lambda x, y: F.select_scatter(x, y, 1, -2))
case("diagonal_scatter", lambda x, y: written(x, y, (np.arange(3), np.arange(1, 4))), normal(3, 5), normal(3), function=lambda x, y: F.diagonal_scatter(x, y, 1))

X = gd.zeros(2, 3)
refuses("slice_scatter", ValueError, "slice_scatter: expected src of shape (1, 3), got (2, 3)", lambda: F.slice_scatter(X, X, 0, 1))
refuses("slice_scatter", ValueError, "slice_scatter: expected a step > 0, got 0", lambda: F.slice_scatter(X, X, 0, 1, 2, 0))
refuses("select_scatter", ValueError, "select_scatter: expected src of shape (2,), got (3,)", lambda: F.select_scatter(X, gd.zeros(3), 1, 0))
refuses("select_scatter", IndexError, "select_scatter: index 3 is out of range for dim 1 of size 3", lambda: F.select_scatter(X, gd.zeros(2), 1, 3))
refuses("diagonal_scatter", TypeError, "diagonal_scatter: expected src of fastgd.float32, got fastgd.int64", lambda: F.diagonal_scatter(X, gd.arange(2)))
refuses("narrow", ValueError, "narrow: start 1 + length 3 exceeds dim 1 of size 3", lambda: F.narrow(X, 1, 1, 3))
refuses("narrow", IndexError, "narrow: start 4 is out of range for dim 1 of size 3", lambda: F.narrow(X, 1, 4, 0))
refuses("narrow", TypeError, "narrow: expected start as integers, got 0.5", lambda: F.narrow(X, 1, 0.5, 1))
refuses("narrow", ValueError, "narrow: expected at least 1 dim, got a 0-d tensor", lambda: F.narrow(gd.tensor(1.0), 0, 0, 1))
refuses("select", IndexError, "select: index 3 is out of range for dim 1 of size 3 (expected -3 <= index < 3)", lambda: F.select(X, 1, 3))
refuses("select", ValueError, "indexing: expected a step > 0, got -1 (dim 0); use flip", lambda: X[::-1])
refuses("select", IndexError, "indexing: index 2 is out of range for dim 0 of shape (2, 3)", lambda: X[2])
refuses("select", IndexError, "indexing: too many indices, 3 for 2 dims", lambda: X[0, 0, 0])
refuses("select", IndexError, "indexing: expected at most one Ellipsis (...), got 2", lambda: X[..., 0, ...])
refuses("select", TypeError, "indexing: expected integers, slices, None, ... or index arrays, got str", lambda: X["a"])
refuses("split", ValueError, "split: expected sizes that sum to 3 (dim 1 of (2, 3)), got (1, 1)", lambda: F.split(X, [1, 1], 1))
refuses("split", ValueError, "split: expected a size > 0 for dim 0 of size 2, got 0", lambda: F.split(X, 0))
refuses("split", ValueError, "split: expected sizes >= 0, got -1", lambda: F.split(X, -1))
refuses("chunk", ValueError, "chunk: expected chunks > 0, got 0", lambda: F.chunk(X, 0))
refuses("tensor_split", ValueError, "tensor_split: expected a number of sections > 0, got 0", lambda: F.tensor_split(X, 0))
refuses("unbind", ValueError, "unbind: expected at least 1 dim, got a 0-d tensor", lambda: F.unbind(gd.tensor(1.0)))
refuses("flip", ValueError, "flip: a dim appears twice in (0, -2)", lambda: F.flip(X, (0, -2)))
refuses("diagonal", ValueError, "diagonal: expected two different dims, got 0 and -2 of shape (2, 3)", lambda: F.diagonal(X, 0, 0, -2))
refuses("diag", ValueError, "diag: expected 1 or 2 dims, got shape (1, 1, 1)", lambda: F.diag(gd.zeros(1, 1, 1)))
refuses("tril", ValueError, "tril: expected at least 2 dims, got shape (3,)", lambda: F.tril(gd.zeros(3)))
refuses("unflatten", ValueError, "unflatten: dim 1 of size 3 cannot become (2, -1)", lambda: F.unflatten(X, 1, (2, -1)))
refuses("movedim", ValueError, "movedim: expected as many source as destination dims, got 0 and (0, 1)", lambda: F.movedim(X, 0, (0, 1)))
refuses("tile", ValueError, "repeat: expected numbers >= 0, got (1, -1)", lambda: F.tile(X, (1, -1)))
refuses("tile", ValueError, "repeat: expected at least 2 numbers for shape (2, 3), got (1,)", lambda: X.repeat(1))
refuses("repeat_interleave", ValueError, "repeat_interleave: expected repeats >= 0, got -1", lambda: F.repeat_interleave(X, -1))
refuses("cat", ValueError, "cat: expected shapes that agree but in dim 0, got (2, 3) and (2, 2) (tensor 1)", lambda: F.cat([X, gd.zeros(2, 2)]))
refuses("cat", ValueError, "cat: expected at least one tensor, got none", lambda: F.cat([]))
refuses("cat", TypeError, "cat: expected a list of tensors, got Tensor", lambda: F.cat(X))
refuses("cat", TypeError, "cat: expected tensors, got float", lambda: F.cat([X, 1.0]))
refuses("cat", ValueError, "cat: expected tensors of at least 1 dim, got a 0-d tensor; use stack", lambda: F.cat([gd.tensor(1.0)]))
refuses("cat", IndexError, "cat: dim 2 is out of range for 2 dims (expected -2 <= dim < 2)", lambda: F.cat([X, X], 2))
refuses("stack", ValueError, "stack: expected tensors of one shape, got (2, 3) and (2,) (tensor 1)", lambda: F.stack([X, gd.zeros(2)]))
refuses("roll", ValueError, "roll: expected as many shifts as dims, got (1, 2) and (0,)", lambda: F.roll(X, (1, 2), 0))
refuses("pad", ValueError, "pad: expected pairs for at most 2 dims, got (1,)", lambda: F.pad(X, (1,)))
refuses("pad", ValueError, "pad: reflect takes less than the 3 elements of dim 1, got (3, 0)", lambda: F.pad(X, (3, 0), "reflect"))
refuses("pad", ValueError, "pad: circular takes at most the 3 elements of dim 1, got (4, 0)", lambda: F.pad(X, (4, 0), "circular"))
refuses("pad", ValueError, "pad: expected mode 'constant', 'reflect', 'replicate' or 'circular', got 'mirror'", lambda: F.pad(X, (1, 1), "mirror"))
refuses("pad", NotImplementedError, "pad: negative numbers with mode 'reflect' are not offered, got (1, -1)", lambda: F.pad(X, (1, -1), "reflect"))
refuses("pad", ValueError, "pad: dim 1 of size 3 cannot lose 4 elements", lambda: F.pad(X, (-2, -2)))
