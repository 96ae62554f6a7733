"""Cases of softmax and log-softmax."""

import numpy as np
from scipy import special

from . import BIG, case, normal

SOFTMAXES = (
    ((7,), 0),
    ((4, 5), 0),
    ((4, 5), 1),
    ((2, 3, 4), 1),
    ((3, 0), 0),
    ((0, 3), 1),
    ((1, 1), -1),
    ((3, 1030), 1),
)
for _name in ("softmax", "log_softmax"):
    for _shape, _dim in SOFTMAXES:
        case(_name, getattr(special, _name), normal(*_shape), arguments=(_dim,), text=f"{_shape}{_dim}")
    case(_name, lambda x, d: np.copy(x), normal(3, 0), arguments=(1,), text="no classes")
case("softmax", lambda x, d: np.ones(()), normal(), arguments=(0,), text="0-d")
case("log_softmax", lambda x, d: np.zeros(()), normal(), arguments=(0,), text="0-d")
case("softmax", special.softmax, normal(*BIG), arguments=(1,), text="big", big=True)
case("log_softmax", special.log_softmax, normal(*BIG), arguments=(0,), text="big", big=True)
