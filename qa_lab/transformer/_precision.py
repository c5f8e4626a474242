"""Half precision stores; it does not count.

float16 ends at 65504 and bfloat16 has three digits: a sum over a few thousand tokens stands still
in one and overflows in the other. So sums, powers and exponentials are computed in float32, and the
result is rounded once.
"""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Return x in float32 if it is in half precision, and x itself otherwise."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
