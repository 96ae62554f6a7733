"""What acts on the parameters of a model as a whole, under the names of ``torch.nn.utils``."""

from ..ops import clip_grad_norm_, clip_grad_value_

__all__ = ["clip_grad_norm_", "clip_grad_value_"]
