"""Cases of reductions."""

import numpy as np

from fastgd.ops import functional as F

from . import BIG, away, case, normal

REDUCTIONS = (
    ((), None), ((1,), None), ((7,), 0), ((4, 5), None), ((4, 5), 0), ((4, 5), -1), ((2, 3, 4), (0, 2)),
    ((2, 3, 4), (1, 2)), ((3, 1, 5), 1), ((2, 1, 3, 1, 2), (0, 2, 4)), ((300, 3), 0), ((3, 4100), 1),
)  # fmt: skip


def numpy_reduction(function):
    return lambda x, dim=None, keepdim=False: function(x, axis=dim, keepdims=keepdim)


for _name, _numpy in (("sum", np.sum), ("mean", np.mean), ("amax", np.max), ("amin", np.min)):
    _reference = numpy_reduction(_numpy)
    for _shape, _dim in REDUCTIONS:
        for _keep in (False, True):
            case(_name, _reference, away(*_shape), arguments=(_dim, _keep), text=f"{_shape}{_dim}{_keep}")
    case(_name, _reference, away(*BIG), text="big", big=True, f32=10)
    case(_name, _reference, away(1025, 67), arguments=(0,), text="big rows", big=True, f32=10)
    case(_name, _reference, away(0, 3), arguments=(1,), text="no rows")
for _dim in (None, 0, 1):
    case("sum", numpy_reduction(np.sum), normal(5, 0), arguments=(_dim,), text=f"empty{_dim}")
for _dim in (None, 0, 1, -1):
    case("argmax", np.argmax, away(4, 5, 3), arguments=(_dim,), text=f"{_dim}", differentiable=False)
case("argmax", np.argmax, away(*BIG), text="big", differentiable=False, big=True)
case("max", np.max, away(4, 5), text="all")
for _dim in (0, 1, -1):
    case("max", np.max, away(4, 5, 3), function=lambda x, d: F.max(x, d)[0], arguments=(_dim,), text=f"{_dim}")
case(
    "max", np.argmax, away(4, 5), function=lambda x, d: F.max(x, d)[1], arguments=(1,), text="at", differentiable=False
)
