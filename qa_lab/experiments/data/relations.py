r"""Relations between tokens: whom does each one look for, and can one matrix say so?

A list holds every symbol once, each with a random value. Each symbol must return the value of its
partner: the next symbol in its cycle. In cycles of two the relation is symmetric (my partner's
partner is me); in cycles of three or more it has a direction.

With one matrix for queries and keys, scores are symmetric, S_ab = S_ba. Around a cycle of three,
a -> b -> c -> a, all three cannot prefer their partners to the third:

$$ S_{ab} > S_{ac} = S_{ca} > S_{cb} = S_{bc} > S_{ba} = S_{ab} $$

is a contradiction. So at least one in every cycle looks elsewhere, whatever was learned. If a token
may look at itself too, even a pair has a loser: S is a matrix of dot products of the same vectors,
so 2 S_ab <= S_aa + S_bb, and not both of S_aa and S_bb can be below S_ab.
"""

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from qa_lab.experiments.fit import fit
from qa_lab.transformer.attention import MultiHeadAttention, full_mask, tie_query_and_key

SYMBOLS = 6
VALUES = 8
BATCH = 64
HELD_OUT = 2000


def partners(cycle: int, n_symbols: int = SYMBOLS) -> Int[Tensor, " symbol"]:
    """Name each symbol's partner, the next in its cycle: 1 2 0 4 5 3 in cycles of three.

    Args:
        cycle: Symbols in a cycle.
        n_symbols: Symbols in all.

    Returns:
        The partner of each symbol.

    Raises:
        ValueError: The cycles do not fill the symbols, or a symbol would be its own partner.
    """
    if cycle < 2 or n_symbols % cycle:
        raise ValueError(f"{n_symbols} symbols do not fall into cycles of {cycle}.")
    return torch.arange(n_symbols).unflatten(0, (-1, cycle)).roll(-1, dims=1).flatten()


def ceiling(cycle: int, *, sees_itself: bool = False) -> float:
    """Return the largest share of tokens that look at their partner most, under symmetric scores.

    Args:
        cycle: Symbols in a cycle.
        sees_itself: Whether a token may look at itself; then the scores must be dot products of one
            vector per token, too.

    Returns:
        All but one of each cycle; all of a pair, or half if it sees itself. Dimensionless.
    """
    return 1.0 if cycle == 2 and not sees_itself else (cycle - 1) / cycle


def not_itself(n_symbols: int = SYMBOLS) -> Bool[Tensor, "query key"]:
    """Let each token look at every token but itself."""
    return full_mask(n_symbols) & ~torch.eye(n_symbols, dtype=torch.bool)


class RelationHead(nn.Module):
    """One head over symbols with values, without positions, and a linear read-out.

    Args:
        tied: Whether one matrix makes queries and keys.
        sees_itself: Whether a token may look at itself.
        d_model: Width of the embeddings and of the head, in features.
    """

    def __init__(self, *, tied: bool, sees_itself: bool, d_model: int = 32) -> None:
        super().__init__()
        self.symbol = nn.Embedding(SYMBOLS, d_model)
        self.value = nn.Embedding(VALUES, d_model)
        self.attention = MultiHeadAttention(d_model, n_heads=1)
        self.read_out = nn.Linear(d_model, VALUES)
        if tied:
            tie_query_and_key(self.attention)
        self.keep = full_mask(SYMBOLS) if sees_itself else not_itself()

    def forward(
        self, values: Int[Tensor, "batch symbol"]
    ) -> tuple[Float[Tensor, "batch symbol value"], Float[Tensor, "batch symbol symbol"]]:
        """Return the logits of the value that each symbol looked up, and where it looked."""
        x = self.symbol.weight + self.value(values)
        found, weights = self.attention.attend_with_weights(x, keep=self.keep)
        return self.read_out(found), weights[:, 0]


@dataclass(frozen=True)
class Relation:
    """What training one head gave, on held-out lists."""

    accuracy: float  # share of symbols that returned their partner's value, dimensionless
    found: float  # share of symbols that gave their partner the largest weight, dimensionless
    weights: Float[Tensor, "symbol symbol"]  # mean over lists


@cache
def train_relation(
    seed: int,
    *,
    cycle: int,
    tied: bool,
    sees_itself: bool = False,
    steps: int = 100,
    lr: float = 1e-2,
) -> Relation:
    """Train one head to look its partners up, 64 lists a step.

    The same arguments are trained for once in a process, so a claim and a figure can share a run.

    Args:
        seed: Decides the initial weights and the values.
        cycle: Symbols in a cycle: 2 for a symmetric relation, more for a directed one.
        tied: Whether one matrix makes queries and keys.
        sees_itself: Whether a token may look at itself.
        steps: Optimiser steps.
        lr: Learning rate of Adam.

    Returns:
        Accuracy, and where the tokens looked.
    """
    partner = partners(cycle)
    torch.manual_seed(seed)
    head = RelationHead(tied=tied, sees_itself=sees_itself)

    def draw(rng: Generator, lists: int = BATCH) -> Tensor:
        return torch.randint(VALUES, (lists, SYMBOLS), generator=rng, device=rng.device)

    def loss(head: RelationHead, values: Tensor) -> Tensor:
        return F.cross_entropy(head(values)[0].flatten(0, 1), values[:, partner].flatten())

    fit(head, loss, draw, steps=steps, lr=lr, seed=seed)
    values = draw(Generator().manual_seed(seed + 1_000_000), HELD_OUT)
    head.double()  # a tied pair learns almost equal vectors: float32 would toss between them
    with torch.no_grad():
        logits, weights = head(values)
    return Relation(
        accuracy=(logits.argmax(-1) == values[:, partner]).double().mean().item(),
        found=(weights.argmax(-1) == partner).double().mean().item(),
        weights=weights.mean(0),
    )
