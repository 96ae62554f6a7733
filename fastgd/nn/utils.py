"""What acts on the parameters of a model as a whole: gradient clipping (``torch.nn.utils``)."""

from __future__ import annotations

from collections.abc import Iterable

from .. import ops
from .._core import NotOffered, ShapeError
from ..tensor import Tensor

__all__ = ["clip_grad_norm_"]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
    error_if_nonfinite: bool = False, foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients by ``min(1, max_norm / (norm + 1e-6))``, in place.

    `norm` is the Euclidean norm of all gradients taken together.

    Parameters
    ----------
    parameters : Tensor or iterable of Tensor
        Those without a gradient are skipped.
    max_norm : float
        At least 0.
    norm_type : float
        Only 2.0 is offered.
    error_if_nonfinite : bool, default False
        Raise if the norm is NaN or infinite, before any gradient is changed.
    foreach : bool, optional
        Accepted and ignored.

    Returns
    -------
    Tensor
        The norm before clipping, of shape ().

    Raises
    ------
    ValueError
        If `max_norm` is negative or NaN.
    FloatingPointError
        If the norm is not finite and `error_if_nonfinite` is set.

    References
    ----------
    Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013,
    algorithm 1.
    """
    if float(norm_type) != 2.0:
        raise NotOffered(
            f"clip_grad_norm_: norm_type = {norm_type} is not offered, only 2.0")
    if not max_norm >= 0.0:
        raise ShapeError(f"clip_grad_norm_: max_norm must be at least 0, got {max_norm}")
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    return ops.clip_grad_norm_(list(parameters), float(max_norm),
                               error_if_nonfinite=error_if_nonfinite)
