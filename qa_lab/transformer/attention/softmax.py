"""From scores to weights, over the keys that may be seen."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qa_lab.transformer._precision import at_least_float32
from qa_lab.transformer.attention.masks import check_keep


def masked_softmax(
    scores: Float[Tensor, "*batch query key"],
    keep: Bool[Tensor, "*#batch #query #key"] | None = None,
) -> Float[Tensor, "*batch query key"]:
    r"""Turn each query's scores into weights over the keys that it may see.

    $$ w_{qk} = \frac{keep_{qk} e^{s_{qk}}}{\sum_j keep_{qj} e^{s_{qj}}} $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.3: hidden scores are set to minus
        infinity.
    Departs: a query that may see no key is an error; the paper is silent.

    Args:
        scores: Dimensionless logits.
        keep: True where a query may look. None: everywhere.

    Returns:
        The weights. Each row is >= 0, sums to 1, and is exactly 0 where `keep` is False.

    Raises:
        TypeError: `keep` is not Boolean.
        ValueError: `keep` does not broadcast to the scores, or some query may see no key.
    """
    if keep is not None:
        check_keep(keep, tuple(scores.shape))
        scores = scores.masked_fill(~keep, -torch.inf)
    return at_least_float32(scores).softmax(dim=-1).to(scores.dtype)
