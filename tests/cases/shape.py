"""Cases of operations that rearrange."""

import numpy as np

from fastgd.ops import functional as F

from . import case, normal

for _shape, _new in (((6,), (2, 3)), ((2, 3), (-1,)), ((), (1, 1)), ((0, 3), (3, 0)), ((4, 5), (2, -1, 5))):
    case("reshape", np.reshape, normal(*_shape), arguments=(_new,), text=f"{_shape}{_new}")
case("flatten", lambda x: x.reshape(2, 12), normal(2, 3, 4), function=lambda x: F.flatten(x, 1), text="1")
case("flatten", lambda x: x.reshape(1), normal(), text="0-d")
case("squeeze", np.squeeze, normal(1, 3, 1), text="all")
case("squeeze", lambda x: x.reshape(1, 3), normal(1, 3, 1), function=lambda x: F.squeeze(x, -1), text="-1")
case("unsqueeze", lambda x: x[:, None], normal(2, 3), function=lambda x: F.unsqueeze(x, 1))
PERMUTATIONS = (
    ((3, 4), (1, 0)), ((2, 3, 5), (2, 0, 1)), ((1, 4, 1, 3), (3, 1, 0, 2)), ((0, 3), (1, 0)), ((3, 0, 2), (2, 1, 0)),
    ((2, 1, 3, 2, 5), (4, 2, 0, 3, 1)),
)  # fmt: skip
for _shape, _dims in PERMUTATIONS:
    case("permute", np.transpose, normal(*_shape), arguments=(_dims,), text=f"{_shape}{_dims}")
case("permute", np.transpose, normal(33, 65, 37), arguments=((2, 0, 1),), text="big", big=True)
case("transpose", np.swapaxes, normal(3, 4, 5), arguments=(0, -1))
case("t", lambda x: x.T, normal(3, 4), text="matrix")
case("t", np.copy, normal(3), text="vector")
