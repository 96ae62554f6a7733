"""Training: the loop, checkpoints, progress and the run folder.

The loop needs the engine and is imported when it is first used; checkpoints and settings need NumPy only.
"""

from .checkpoint import CheckpointError, latest_checkpoint, load, load_checkpoint, save, save_checkpoint
from .config import TrainConfig

__all__ = [
    "CheckpointError",
    "TrainConfig",
    "latest_checkpoint",
    "load",
    "load_checkpoint",
    "save",
    "save_checkpoint",
]
