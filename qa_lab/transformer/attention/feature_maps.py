"""Feature maps for linear attention: from queries and keys to features >= 0.

A dot product of features stands where softmax has an exponential of a dot product.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from qa_lab.transformer._checks import check_at_least_one, check_width
from qa_lab.transformer._precision import in_float32

FeatureMap = Callable[[Tensor], Tensor]
"""From queries or keys [... d_k] to features [... features], each >= 0, as `elu_plus_one` does.
Linear attention calls it with float32 at least."""


@in_float32
def elu_plus_one(x: Float[Tensor, "*batch d_k"]) -> Float[Tensor, "*batch d_k"]:
    r"""Map each feature to a positive one, one for one.

    $$ \phi(x) = elu(x) + 1 = \max(x, 0) + e^{\min(x, 0)} $$

    Paper: Katharopoulos et al. 2020, arXiv:2006.16236, section 3.2.1, eq. 7.
    Departs: written without the elu, whose -1 + 1 would round a small feature to 0.

    Args:
        x: Queries or keys.

    Returns:
        The features, dimensionless and > 0.
    """
    return x.relu() + x.clamp(max=0).exp()


@in_float32
def positive_random_features(
    x: Float[Tensor, "*batch d_k"], directions: Float[Tensor, "features d_k"]
) -> Float[Tensor, "*batch features"]:
    r"""Map queries or keys to random features whose dot products estimate softmax's exponentials.

    $$ \phi_i(x) = m^{-1/2} e^{\omega_i \cdot y - |y|^2 / 2},  y = x / d_k^{1/4},
       E[\phi(q) \cdot \phi(k)] = e^{q \cdot k / \sqrt{d_k}} $$

    Paper: Choromanski et al. 2021, arXiv:2009.14794, lemma 1.
    Departs: no maximum is subtracted in the exponent; features that overflow are an error of the
        attention.

    Args:
        x: Queries or keys.
        directions: The omega, m of them, each normal with mean 0 and variance 1 in every entry:
            independent (`torch.randn`) or `orthogonal_directions`. The same for queries and keys.

    Returns:
        The features, dimensionless and >= 0.

    Raises:
        ValueError: There is no direction, or they are of another width than x.
    """
    m, d_k = directions.shape
    check_at_least_one(features=m)
    check_width(x, d_k)
    y = x * d_k**-0.25
    return (y @ directions.to(y).T - y.square().sum(-1, keepdim=True) / 2).exp() * m**-0.5


def orthogonal_directions(
    features: int, d_k: int, generator: torch.Generator | None = None
) -> Float[Tensor, "{features} {d_k}"]:
    """Draw random directions that are at right angles, for a smaller error than independent ones.

    Each row alone is distributed as a row of `torch.randn`, which keeps the features unbiased.

    Paper: Choromanski et al. 2021, arXiv:2009.14794, section 2.4.

    Args:
        features: Directions.
        d_k: Entries of each.
        generator: Where the randomness comes from. None: torch's own.

    Returns:
        The directions. The first d_k rows are orthogonal to each other, so are the next d_k, ...

    Raises:
        ValueError: A size is less than 1.
    """
    if min(features, d_k) < 1:
        raise ValueError(f"features and d_k must be at least 1; got {features} and {d_k}.")
    device = None if generator is None else generator.device
    draw = partial(torch.randn, generator=generator, device=device)
    blocks = []
    for _ in range(0, features, d_k):
        Q, R = torch.linalg.qr(draw(d_k, d_k))
        blocks.append(Q * R.diagonal().sign())  # LAPACK's signs are not random: undo its choice
    norms = draw(features, d_k).norm(dim=-1, keepdim=True)
    return norms * torch.cat(blocks)[:features]
