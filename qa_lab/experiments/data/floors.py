"""Floors and ceilings: what no model can beat, computed without any model.

A model that scores higher than `order_blind_accuracy` is proved to use the order of its tokens; one
whose loss falls below the `surprisal` of the best predictor is proved to look ahead.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qa_lab.experiments.data.tasks import FIRST_SYMBOL, Sentences, at_least

MOST_SEQUENCES = 2**24


def all_sequences(n_symbols: int, length: int) -> Int[Tensor, "{n_symbols}**{length} {length}"]:
    """List every sequence there is: 2 symbols, length 2 -> 3 3, 3 4, 4 3, 4 4.

    Args:
        n_symbols: Symbols, ids FIRST_SYMBOL and up.
        length: Tokens in a sequence.

    Returns:
        The n_symbols^length sequences, in rising order.

    Raises:
        ValueError: A count is below 1, or there are more than MOST_SEQUENCES.
    """
    at_least(1, n_symbols=n_symbols, length=length)
    if n_symbols**length > MOST_SEQUENCES:
        raise ValueError(
            f"{n_symbols}^{length} sequences are too many to list; {MOST_SEQUENCES} at most."
        )
    places = n_symbols ** torch.arange(length - 1, -1, -1)
    return FIRST_SYMBOL + torch.arange(n_symbols**length)[:, None] // places % n_symbols


def order_blind_accuracy(
    ids: Int[Tensor, "sequence length"], label: Int[Tensor, " sequence"]
) -> float:
    r"""Return the best accuracy of a predictor that sees how often each token comes, and no order.

    $$ \frac{1}{N} \sum_{bag} \max_{label} | \{ sequences with this bag and label \} | $$

    Exact if the rows list every equally likely sequence once, as `all_sequences` does:

        ids = all_sequences(n_symbols=3, length=4)
        ceiling = order_blind_accuracy(ids, ids[:, 0])  # to name the first token

    Args:
        ids: The sequences, equally likely.
        label: The answer to each.

    Returns:
        The accuracy, dimensionless: 1 if order does not matter.

    Raises:
        ValueError: There is no sequence, or not as many labels as sequences.
    """
    if not len(ids) or len(ids) != len(label):
        raise ValueError(
            f"each sequence needs one label, and there must be one or more; got {len(ids)} "
            f"sequences and {len(label)} labels."
        )
    bags, bag = ids.sort(dim=1).values.unique(dim=0, return_inverse=True)
    kinds, kind = label.unique(return_inverse=True)
    counts = torch.bincount(bag * len(kinds) + kind, minlength=len(bags) * len(kinds))
    return counts.view(len(bags), len(kinds)).max(dim=1).values.sum().item() / len(ids)


def surprisal(
    probabilities: Float[Tensor, "batch predicted vocab"], sentences: Sentences
) -> Float[Tensor, "batch predicted"]:
    r"""Return the loss of a predictor at each token; of the best predictor, the floor for a model.

    $$ loss_{bt} = -\ln p(ids_{b,t+1} | ids_{b,\le t}) $$

    Compare a model with the floor on the same sentences: that leaves out the luck of the draw.

    Args:
        probabilities: For each token but the last, the next one's, from `predict` of a source or a
            model's softmax.
        sentences: What was predicted.

    Returns:
        The losses in nats, one for each token but the first; 0 at PAD.

    Raises:
        ValueError: The shapes do not fit.
    """
    ids, real = sentences.ids[:, 1:], sentences.real[:, 1:]
    if probabilities.shape[:2] != ids.shape:
        raise ValueError(
            f"{list(ids.shape)} predicted tokens need probabilities [{len(ids)} {ids.shape[1]} "
            f"vocab]; got {list(probabilities.shape)}."
        )
    chosen = probabilities.gather(2, ids[:, :, None])[:, :, 0]
    return -chosen.masked_fill(~real, 1.0).log()
