"""Normalisation with statistics of channels: batch_norm, instance_norm, group_norm.

One kernel makes the statistics and one the two sums of the derivative (csrc/kernels/channel_stats.c); everything else
is elementwise, so that a compiled step fuses it with the activation or the residual beside it.

    y = (x - mean) (rstd w) + b
    dx = (dy - sum(dy) / m - xhat sum(dy xhat) / m) (rstd w)        xhat = (x - mean) rstd,  m elements in a channel
"""

from __future__ import annotations

import math
from typing import Any

from .._core import DtypeError, ShapeError, aval
from ..compiler.lower import Call
from ..tensor import Tensor
from .elementwise import add, clone, div, mul, sqrt, sub
from .product import _as_tuple
from .reduce import mean as reduce_mean
from .reduce import sum as reduce_sum
from .registry import Op, apply, check_writable, no_tape
from .rowwise import suffix
from .shape import reshape

__all__ = ["batch_norm", "group_norm", "instance_norm"]


# ---- statistics ----


def _fields(shape: tuple[int, ...]) -> dict[str, int]:
    return {"n": shape[0], "c": shape[1], "inner": math.prod(shape[2:])}


def _lower(kernel: str, x: int) -> Any:
    def lower(node: Any) -> Call:
        of = node.inputs[x].aval
        results = list(node.outputs)
        return Call(f"{kernel}_{suffix(kernel, of)}", _fields(of.shape), [*results, *node.inputs], results)

    return lower


STATS = Op(
    "channel_stats",
    lambda avals, attrs: (aval(avals[0].dtype, (avals[0].shape[1],)),) * 2,
    lower=_lower("channel_stats_fwd", 0),
    text="mean and variance of each channel",
)
STATS_BWD = Op(
    "channel_stats_bwd",
    lambda avals, attrs: (aval(avals[0].dtype, (avals[0].shape[1],)),) * 2,
    lower=_lower("channel_stats_bwd", 1),
    text="sum(dy) and sum(dy xhat) of each channel",
)


def _rstd(var: Tensor, eps: float) -> Tensor:
    return div(1.0, sqrt(add(var, eps)))


def _dx(g: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, sums: tuple, count: int, spread: Any) -> Tensor:
    """dx / rstd, for statistics that depend on x; `spread` gives a value per channel the shape that broadcasts."""
    slope = mul(mul(sums[1], rstd), 1.0 / max(count, 1))
    centred = sub(g, spread(mul(sums[0], 1.0 / max(count, 1))))
    return sub(centred, mul(sub(x, spread(mean)), spread(slope)))


def _spread(ndim: int) -> Any:
    return lambda t: reshape(t, (-1, *[1] * (ndim - 2)))


# ---- batch_norm ----


def _affine(rest: tuple, has_w: bool, has_b: bool) -> tuple[Tensor | None, Tensor | None]:
    return (rest[0] if has_w else None), (rest[int(has_w)] if has_b else None)


def _infer_batch_norm(avals: tuple, attrs: tuple) -> tuple:
    statistics = aval(avals[0].dtype, (avals[0].shape[1],))
    return (avals[0], statistics, statistics, statistics)


def _expand_batch_norm(x: Tensor, *rest: Any) -> tuple:
    """y, mean, 1 / standard deviation, variance; the statistics are made, or come behind weight and bias."""
    training, has_w, has_b, eps = rest[-4:]
    # (results must not be the running statistics themselves: results go on the tape)
    mean, var = apply(STATS, (x,)) if training else map(clone, rest[-6:-4])
    w, b = _affine(rest[:-4], has_w, has_b)
    spread = _spread(x.ndim)
    rstd = _rstd(var, eps)
    y = mul(sub(x, spread(mean)), spread(rstd if w is None else mul(rstd, w)))
    return (y if b is None else add(y, spread(b))), mean, rstd, var


def _batch_norm_vjp(n: Any, g: Tensor, *unused: Any) -> tuple:
    training, has_w, has_b, _ = n.attrs
    wanted = (n.needs[0], has_w and n.needs[1], has_b and n.needs[1 + has_w])
    x, mean, rstd = n.inputs[0], n.outputs[1], n.outputs[2]
    weight = (n.inputs[1],) if has_w else ()
    results = iter(_as_tuple(apply(BATCH_NORM_BWD, (g, x, mean, rstd, *weight), (training, *map(bool, wanted)))))
    grads: list[Tensor | None] = [None] * len(n.needs)
    for position, needed in zip((0, 1, 1 + has_w), wanted, strict=True):
        if needed:
            grads[position] = next(results)
    return tuple(grads)


def _infer_batch_norm_bwd(avals: tuple, attrs: tuple) -> tuple:
    channel = aval(avals[1].dtype, (avals[1].shape[1],))
    return tuple(a for a, needed in zip((avals[1], channel, channel), attrs[1:], strict=True) if needed)


def _expand_batch_norm_bwd(g: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, *rest: Any) -> Any:
    training, *wanted = rest[-4:]
    w = rest[0] if len(rest) > 4 else None
    sums = apply(STATS_BWD, (g, x, mean, rstd))
    results = []
    if wanted[0]:
        spread, count = _spread(x.ndim), math.prod(x.shape) // max(x.shape[1], 1)
        inner = _dx(g, x, mean, rstd, sums, count, spread) if training else g
        results.append(mul(inner, spread(rstd if w is None else mul(rstd, w))))
    if wanted[1]:
        results.append(sums[1])
    if wanted[2]:
        results.append(sums[0])
    return tuple(results) if len(results) != 1 else results[0]


BATCH_NORM_BWD = Op(
    "batch_norm_bwd",
    _infer_batch_norm_bwd,
    ("training", "needs_x", "needs_w", "needs_b"),
    expand=_expand_batch_norm_bwd,
)
BATCH_NORM = Op(
    "batch_norm",
    _infer_batch_norm,
    ("training", "has_w", "has_b", "eps"),
    expand=_expand_batch_norm,
    vjp=_batch_norm_vjp,
    saves="i0 i1 o1 o2",
)


def _check(name: str, input: Tensor, least: int, *channels: tuple[str, Tensor | None]) -> None:
    suffix(name, input.aval)
    if input.ndim < least:
        raise ShapeError(f"{name}: expected input of at least {least} dims, got shape {input.shape}")
    for what, t in channels:
        if t is not None and t.shape != (input.shape[1],):
            raise ShapeError(f"{name}: expected {what} of shape ({input.shape[1]},), got {t.shape}")
        if t is not None and t.dtype is not input.dtype:
            raise DtypeError(f"{name}: expected {what} of {input.dtype}, got {t.dtype}")


def _update(name: str, running: Tensor | None, new: Tensor, momentum: Any) -> Any:
    """running = (1 - momentum) running + momentum new, made now and written when `write` is called."""
    if running is None:
        return lambda: None
    check_writable(running, name)
    with no_tape():
        value = add(mul(running, 1.0 - momentum), mul(new, momentum))
    return lambda: running.copy_(value)


def _write_running(
    name: str, running_mean: Any, running_var: Any, mean: Tensor, var: Tensor, count: int, momentum: Any
) -> None:
    """Moves the running statistics towards those of this batch, the variance unbiased; compiled, when committing."""
    with no_tape():
        unbiased = mul(var.detach(), count / max(count - 1, 1))
        writes = [
            _update(name, running_mean, mean.detach(), momentum),
            _update(name, running_var, unbiased, momentum),
        ]
        for write in writes:
            write()


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias with the mean and variance of each channel.

    Parameters
    ----------
    input : Tensor, shape (N, C) or (N, C, ...)
    running_mean, running_var : Tensor, shape (C,), or None
        Used if not `training`; if `training` they are moved towards the statistics of the batch, the variance unbiased,
        by ``running = (1 - momentum) running + momentum new``.
    weight, bias : Tensor, shape (C,), optional
    training : bool
        Whether the statistics of the batch are used, biased variance.
    momentum : float
    eps : float

    References
    ----------
    Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithms 1 and 2.
    """
    name = "batch_norm"
    if input.shape == (0,):  # torch lets this one pass
        return clone(input)
    _check(
        name, input, 2, ("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)
    )
    count = math.prod(input.shape) // max(input.shape[1], 1)
    affine = tuple(t for t in (weight, bias) if t is not None)
    options = (weight is not None, bias is not None, float(eps))
    if not training:
        if running_mean is None or running_var is None:
            raise ShapeError("batch_norm: expected running_mean and running_var if not training, got None")
        return apply(BATCH_NORM, (input, *affine, running_mean, running_var), (False, *options))[0]
    if count == 1:
        raise ShapeError(f"batch_norm: expected more than 1 value per channel when training, got shape {input.shape}")
    y, mean, _, var = apply(BATCH_NORM, (input, *affine), (True, *options))
    if running_mean is not None or running_var is not None:
        _write_running(name, running_mean, running_var, mean, var, count, momentum)
    return y


# ---- group_norm ----


def _grouped(x: Tensor, groups: int) -> tuple[Tensor, tuple[int, ...]]:
    """x as (n, groups, channels of one, inner)."""
    shape = (x.shape[0], groups, x.shape[1] // groups, math.prod(x.shape[2:]))
    return reshape(x, shape), shape


def _rows(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """One channel per group of each sample."""
    return reshape(x, (1, shape[0] * shape[1], shape[2] * shape[3]))


def _infer_group_norm(avals: tuple, attrs: tuple) -> tuple:
    statistics = aval(avals[0].dtype, (avals[0].shape[0] * attrs[0],))
    return (avals[0], statistics, statistics, statistics)


def _expand_group_norm(x: Tensor, *rest: Any) -> tuple:
    """y, and for each sample and group mean, 1 / standard deviation, variance."""
    groups, has_w, has_b, eps = rest[-4:]
    w, b = _affine(rest[:-4], has_w, has_b)
    parts, shape = _grouped(x, groups)
    mean, var = apply(STATS, (_rows(x, shape),))
    rstd = _rstd(var, eps)
    of_group, of_channel = (shape[0], groups, 1, 1), (1, groups, shape[2], 1)
    y = mul(sub(parts, reshape(mean, of_group)), reshape(rstd, of_group))
    y = y if w is None else mul(y, reshape(w, of_channel))
    y = y if b is None else add(y, reshape(b, of_channel))
    return reshape(y, x.shape), mean, rstd, var


def _group_norm_vjp(n: Any, g: Tensor, *unused: Any) -> tuple:
    groups, has_w, has_b, _ = n.attrs
    wanted = (n.needs[0], has_w and n.needs[1], has_b and n.needs[1 + has_w])
    weight = (n.inputs[1],) if has_w else ()
    inputs = (g, n.inputs[0], n.outputs[1], n.outputs[2], *weight)
    results = iter(_as_tuple(apply(GROUP_NORM_BWD, inputs, (groups, *map(bool, wanted)))))
    grads: list[Tensor | None] = [None] * len(n.needs)
    for position, needed in zip((0, 1, 1 + has_w), wanted, strict=True):
        if needed:
            grads[position] = next(results)
    return tuple(grads)


def _expand_group_norm_bwd(g: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, *rest: Any) -> Any:
    groups, *wanted = rest[-4:]
    w = rest[0] if len(rest) > 4 else None
    parts, shape = _grouped(x, groups)
    dy = reshape(g, shape)
    of_group = (shape[0], groups, 1, 1)

    def spread(t: Tensor) -> Tensor:
        return reshape(t, of_group)

    results = []
    if wanted[0]:
        scaled = dy if w is None else mul(dy, reshape(w, (1, groups, shape[2], 1)))
        sums = apply(STATS_BWD, (_rows(scaled, shape), _rows(x, shape), mean, rstd))
        inner = _dx(scaled, parts, mean, rstd, sums, shape[2] * shape[3], spread)
        results.append(reshape(mul(inner, spread(rstd)), x.shape))
    if wanted[1]:
        xhat = mul(sub(parts, spread(mean)), spread(rstd))
        results.append(reshape(reduce_sum(mul(dy, xhat), (0, 3)), (-1,)))
    if wanted[2]:
        results.append(reshape(reduce_sum(dy, (0, 3)), (-1,)))
    return tuple(results) if len(results) != 1 else results[0]


GROUP_NORM_BWD = Op(
    "group_norm_bwd",
    _infer_batch_norm_bwd,
    ("groups", "needs_x", "needs_w", "needs_b"),
    expand=_expand_group_norm_bwd,
)
GROUP_NORM = Op(
    "group_norm",
    _infer_group_norm,
    ("groups", "has_w", "has_b", "eps"),
    expand=_expand_group_norm,
    vjp=_group_norm_vjp,
    saves="i0 i1 o1 o2",
)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalises each group of channels of each sample to mean 0 and variance 1, then weight and bias per channel.

    Parameters
    ----------
    input : Tensor, shape (N, C, ...)
    num_groups : int
        Divides C.
    weight, bias : Tensor, shape (C,), optional
    eps : float

    References
    ----------
    Wu and He, "Group Normalization", ECCV 2018.
    """
    _check("group_norm", input, 2, ("weight", weight), ("bias", bias))
    if num_groups < 1 or input.shape[1] % num_groups:
        raise ShapeError(
            f"group_norm: expected channels to be a multiple of num_groups, got {input.shape[1]} and {num_groups}"
        )
    if math.prod(input.shape) and math.prod(input.shape) // (input.shape[0] * num_groups) == 1:
        raise ShapeError(f"group_norm: expected more than 1 value per group, got shape {input.shape}")
    affine = tuple(t for t in (weight, bias) if t is not None)
    return apply(GROUP_NORM, (input, *affine), (int(num_groups), weight is not None, bias is not None, float(eps)))[0]


# ---- instance_norm ----


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalises each channel of each sample; running statistics as in batch_norm, averaged over the samples.

    Parameters
    ----------
    input : Tensor, shape (N, C, ...)
    running_mean, running_var : Tensor, shape (C,), optional
        Used if not `use_input_stats`, else moved towards the statistics of the batch.
    weight, bias : Tensor, shape (C,), optional
    momentum, eps : float

    References
    ----------
    Ulyanov, Vedaldi and Lempitsky, "Instance Normalization", 2016.
    """
    name = "instance_norm"
    _check(
        name, input, 3, ("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)
    )
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ShapeError("instance_norm: expected running_mean and running_var if not use_input_stats, got None")
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    count = math.prod(input.shape[2:])
    if count == 1:
        raise ShapeError(f"instance_norm: expected more than 1 spatial element, got shape {input.shape}")
    affine = tuple(t for t in (weight, bias) if t is not None)
    attrs = (input.shape[1], weight is not None, bias is not None, float(eps))
    y, mean, _, var = apply(GROUP_NORM, (input, *affine), attrs)
    if running_mean is not None or running_var is not None:
        with no_tape():
            mean, var = (reduce_mean(reshape(t.detach(), input.shape[:2]), 0) for t in (mean, var))
        _write_running(name, running_mean, running_var, mean, var, count, momentum)
    return y
