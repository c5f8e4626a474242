"""Training · 训练.

Losses, optimizers, schedules, and memory saved by computing twice.
"""

from qa_lab.transformer.training.checkpointing import checkpoint_blocks, recompute
from qa_lab.transformer.training.losses import (
    cross_entropy,
    real_predictions,
    smoothed_cross_entropy,
    smoothing_floor,
)
from qa_lab.transformer.training.optimizers import adam, adamw
from qa_lab.transformer.training.schedules import (
    constant_with_warmup,
    cosine_with_warmup,
    decay_progress,
    linear_with_warmup,
    noam,
)

__all__ = [
    "adam",
    "adamw",
    "checkpoint_blocks",
    "constant_with_warmup",
    "cosine_with_warmup",
    "cross_entropy",
    "decay_progress",
    "linear_with_warmup",
    "noam",
    "real_predictions",
    "recompute",
    "smoothed_cross_entropy",
    "smoothing_floor",
]
