"""Measures · 测量.

Numbers that several pages read off a mechanism: dependence, spread, cost, time, refusals.
"""

from qa_lab.experiments.measures.clock import seconds
from qa_lab.experiments.measures.cost import (
    Run,
    aten,
    flops,
    parameter_bytes,
    parameter_count,
    peak_bytes,
    saved_bytes,
    sequential_depth,
)
from qa_lab.experiments.measures.measure import (
    dependence,
    entropy_share,
    gaussian,
    softmax_jacobian,
)
from qa_lab.experiments.measures.refusals import refused

__all__ = [
    "Run",
    "aten",
    "dependence",
    "entropy_share",
    "flops",
    "gaussian",
    "parameter_bytes",
    "parameter_count",
    "peak_bytes",
    "refused",
    "saved_bytes",
    "seconds",
    "sequential_depth",
    "softmax_jacobian",
]
