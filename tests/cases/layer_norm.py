"""Cases of layer_norm, rms_norm and normalize."""
# ruff: noqa: E501 - tables are read by rows

import numpy as np

import fastgd as gd
from fastgd.ops import functional as F

from . import BIG, away, case, normal, refuses


def layer_norm(x, *parameters, dims=1, eps=1e-5, center=True):
    axes = tuple(range(-dims, 0))
    centred = x - x.mean(axes, keepdims=True) if center else x
    y = centred / np.sqrt(np.mean(centred**2, axes, keepdims=True) + eps)
    for p, apply in zip(parameters, (np.multiply, np.add), strict=False):
        y = apply(y, p)
    return y


def rms_norm(x, *weight, **options):
    return layer_norm(x, *weight, center=False, **options)


# (shape, normalised dims)
SHAPES = (((7,), 1), ((3, 1), 1), ((5, 33), 1), ((2, 3, 4, 5), 2), ((0, 3), 1), ((2, 65), 1), ((300, 3), 1), ((2, 4100), 1))
for _shape, _dims in SHAPES:
    _last = _shape[-_dims:]
    _f32 = 3 if _shape[0] == 300 else 1
    case("layer_norm", lambda x, w, b, d=_dims: layer_norm(x, w, b, dims=d), normal(*_shape), normal(*_last), normal(*_last),
         function=lambda x, w, b, s=_last: F.layer_norm(x, s, w, b), text=f"{_shape}{_dims}", f32=_f32)  # fmt: skip
    case("layer_norm", lambda x, d=_dims: layer_norm(x, dims=d, eps=0.1), normal(*_shape),
         function=lambda x, s=_last: F.layer_norm(x, s, eps=0.1), text=f"{_shape}{_dims} plain")  # fmt: skip
    case("rms_norm", lambda x, w, d=_dims: rms_norm(x, w, dims=d, eps=1e-3), normal(*_shape), normal(*_last),
         function=lambda x, w, s=_last: F.rms_norm(x, s, w, 1e-3), text=f"{_shape}{_dims}", f32=_f32)  # fmt: skip
case("layer_norm", lambda x, w: layer_norm(x, w), normal(3, 5), normal(5), function=lambda x, w: F.layer_norm(x, 5, w), text="weight alone")
case("layer_norm", lambda x, b: layer_norm(x) + b, normal(3, 5), normal(5), function=lambda x, b: F.layer_norm(x, 5, None, b), text="bias alone")
case("layer_norm", lambda x, w, b: layer_norm(x + 1000, w, b), normal(3, 5), normal(5), normal(5),
     function=lambda x, w, b: F.layer_norm(x + 1000, 5, w, b), text="far from 0", f32=300)  # fmt: skip
case("rms_norm", lambda x: rms_norm(x, eps=0), away(4, 9), function=lambda x: F.rms_norm(x, (9,)), text="plain")
case("layer_norm", layer_norm, normal(*BIG), normal(BIG[1]), normal(BIG[1]), text="big", big=True, f32=3,
     function=lambda x, w, b: F.layer_norm(x, BIG[1], w, b))  # fmt: skip
case("layer_norm", layer_norm, normal(1100, 65), normal(65), normal(65), text="many rows", big=True, f32=9,
     function=lambda x, w, b: F.layer_norm(x, 65, w, b))  # fmt: skip
case("rms_norm", rms_norm, normal(1100, 65), normal(65), text="many rows", big=True, f32=9,
     function=lambda x, w: F.rms_norm(x, 65, w, 1e-5))  # fmt: skip

for _p, _dim in ((2.0, 1), (2.0, (0, 2)), (1.0, 0), (3.0, -1), (np.inf, 1)):
    _axis = _dim if isinstance(_dim, tuple) else (_dim,)
    case("normalize", lambda x, p=_p, a=_axis: x / (np.max(np.abs(x), a, keepdims=True) if p == np.inf else
                                                  np.sum(np.abs(x) ** p, a, keepdims=True) ** (1 / p)),
         away(3, 5, 2), function=lambda x, p=_p, d=_dim: F.normalize(x, p, d), text=f"{_p}{_dim}", f32=2)  # fmt: skip
case("normalize", lambda x: x / 1e3, normal(2, 3), function=lambda x: F.normalize(x, eps=1e3), text="eps")

_x, _p = gd.zeros((2, 4)), gd.zeros((4,))
refuses("layer_norm", ValueError, "layer_norm: expected input of shape (..., 5), got (2, 4)", lambda: F.layer_norm(_x, 5))
refuses("layer_norm", ValueError, "layer_norm: expected input of shape (..., 3, 2, 4), got (2, 4)",
        lambda: F.layer_norm(_x, (3, 2, 4)))  # fmt: skip
refuses("layer_norm", ValueError, "layer_norm: expected normalized_shape of at least 1 dim, got ()", lambda: F.layer_norm(_x, ()))
refuses("layer_norm", ValueError, "layer_norm: expected weight of shape (2, 4), got (4,)", lambda: F.layer_norm(_x, (2, 4), _p))
refuses("layer_norm", ValueError, "layer_norm: expected bias of shape (4,), got (2, 4)", lambda: F.layer_norm(_x, 4, _p, _x))
refuses("layer_norm", TypeError, "layer_norm: expected one dtype, got fastgd.float32 and fastgd.float64",
        lambda: F.layer_norm(_x, 4, _p.double()))  # fmt: skip
refuses("rms_norm", TypeError, "rms_norm: expected float32 or float64, got fastgd.int64", lambda: F.rms_norm(_x.long(), 4))
refuses("rms_norm", ValueError, "rms_norm: expected input of shape (..., 3), got (2, 4)", lambda: F.rms_norm(_x, 3))
refuses("normalize", NotImplementedError, "normalize: out= is not offered", lambda: F.normalize(_x, out=_x))
refuses("normalize", NotImplementedError, "normalize: expected p > 0, got 0", lambda: F.normalize(_x, 0))
refuses("normalize", TypeError, "normalize: expected float32 or float64, got fastgd.int64", lambda: F.normalize(_x.long()))
