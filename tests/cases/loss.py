"""Cases of losses."""
# ruff: noqa: E501 - tables are read by rows

import functools

import numpy as np
from scipy import special

from fastgd.ops import functional as F

from . import case, labels, normal


def reference_cross_entropy(x, y, reduction, ignore=-100):
    counts = y != ignore
    log_p = special.log_softmax(x, axis=1) if x.size else x
    loss = np.where(counts, -np.take_along_axis(log_p, np.where(counts, y, 0)[:, None], 1)[:, 0], 0.0)
    return {"none": loss, "sum": loss.sum(), "mean": loss.sum() / counts.sum()}[reduction]


for _reduction in ("none", "mean", "sum"):
    for _n, _c in ((1, 1), (5, 3), (33, 65), (700, 65)):
        case("cross_entropy", functools.partial(reference_cross_entropy, reduction=_reduction), normal(_n, _c), labels(_c, _n),
             function=lambda x, y, r=_reduction: F.cross_entropy(x, y, reduction=r), text=f"{_reduction}{_n}", big=_n == 700, f32=3)  # fmt: skip
    case("cross_entropy", functools.partial(reference_cross_entropy, reduction=_reduction, ignore=1), normal(9, 3), labels(3, 9),
         function=lambda x, y, r=_reduction: F.cross_entropy(x, y, reduction=r, ignore_index=1), text=f"{_reduction} ignore")  # fmt: skip
case("cross_entropy", lambda x, y: reference_cross_entropy(np.moveaxis(x, 1, -1).reshape(-1, 3), y.reshape(-1), "none").reshape(y.shape),
     normal(2, 3, 4, 5), labels(3, 2, 4, 5), function=lambda x, y: F.cross_entropy(x, y, reduction="none"), text="image")  # fmt: skip
case(
    "cross_entropy",
    lambda x, y: reference_cross_entropy(x[None], y.reshape(1), "mean"),
    normal(4),
    labels(4),
    text="one row",
)
for _reduction, _reference in (
    ("none", lambda d: d * d),
    ("mean", lambda d: np.mean(d * d)),
    ("sum", lambda d: np.sum(d * d)),
):
    case("mse_loss", lambda a, b, f=_reference: f(a - b), normal(5, 3), normal(5, 3),
         function=lambda a, b, r=_reduction: F.mse_loss(a, b, reduction=r), text=_reduction)  # fmt: skip
