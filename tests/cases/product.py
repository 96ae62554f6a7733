"""Cases of matrix products."""
# ruff: noqa: E501 - tables are read by rows

import numpy as np

from . import case, normal

for _a, _b in (((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((5, 7), (7, 3)), ((1, 1), (1, 1)), ((0, 3), (3, 2)), ((2, 0), (0, 3)),
               ((4, 2, 3), (3, 5)), ((2, 3), (4, 3, 5)), ((4, 2, 3), (4, 3, 5)), ((4, 1, 2, 3), (6, 3, 2)), ((1, 2, 3), (5, 3, 2)),
               ((3,), (2, 3, 4)), ((2, 5, 3), (3,))):  # fmt: skip
    case("matmul", np.matmul, normal(*_a), normal(*_b), text=f"{_a}{_b}")
case("matmul", np.matmul, normal(129, 257), normal(257, 131), text="big", big=True, f32=30)
case("mm", np.matmul, normal(3, 4), normal(4, 5))
case("bmm", np.matmul, normal(2, 3, 4), normal(2, 4, 5))
for _x, _o in (((3,), 4), ((5, 3), 4), ((2, 5, 3), 1), ((0, 3), 4), ((1, 1), 1)):
    case("linear", lambda x, w, b: x @ w.T + b, normal(*_x), normal(_o, _x[-1]), normal(_o), text=f"{_x}{_o}")
    case("linear", lambda x, w: x @ w.T, normal(*_x), normal(_o, _x[-1]), text=f"{_x}{_o} no bias")
case("linear", lambda x, w, b: x @ w.T + b, normal(130, 257), normal(67, 257), normal(67), text="big", big=True, f32=30)
