"""Associative recall with one attention head: the smallest task that needs attention.

A list of (key, value) pairs and one query key; the answer is the value that was paired with it. One
head does it if, and only if, the matching key gets more weight than the others, so it is the place
to watch what the size of the scores does to learning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from qa_lab.experiments.data.tasks import Labelled, associative_recall, vocab_size
from qa_lab.experiments.fit import fit
from qa_lab.transformer.attention import dot_product_scores

Scores = Callable[[Tensor, Tensor], Tensor]
"""From queries [*batch query d_k] and keys [*batch key d_k] to scores [*batch query key]."""

SYMBOLS = 20  # keys to choose from, and as many values
PAIRS = 10  # (key, value) pairs in one list
VOCABULARY = vocab_size(2 * SYMBOLS)


class RecallHead(nn.Module):
    """One head that looks a query up among keys and reads the value out.

    Queries and keys start with features of variance 1, the assumption under which a dot product
    has variance d_k. Values have as many features as keys.

    Args:
        d_k: Features of a query and of a key.
        scores: From queries and keys to scores; if it is a module, it is trained too.
        query_gain: Factor on W_Q at the start, dimensionless.
    """

    def __init__(self, d_k: int, scores: Scores = dot_product_scores, query_gain: float = 1.0):
        super().__init__()
        self.query, self.key, self.value = (nn.Embedding(VOCABULARY, d_k) for _ in range(3))
        self.W_Q, self.W_K, self.W_V = (nn.Linear(d_k, d_k, bias=False) for _ in range(3))
        self.readout = nn.Linear(d_k, VOCABULARY)
        self.scores = scores
        nn.init.normal_(self.W_Q.weight, std=query_gain * d_k**-0.5)
        nn.init.normal_(self.W_K.weight, std=d_k**-0.5)

    def forward(
        self, ids: Int[Tensor, "batch two_pairs_plus_one"]
    ) -> Float[Tensor, "batch vocabulary"]:
        """Return the logits of the value that belongs to the query."""
        weights = self.look_up(ids).softmax(-1)
        return self.readout((weights @ self.W_V(self.value(ids[:, 1::2]))).squeeze(1))

    def look_up(
        self, ids: Int[Tensor, "batch two_pairs_plus_one"]
    ) -> Float[Tensor, "batch 1 pair"]:
        """Return the scores of the keys for the query, dimensionless logits."""
        keys, query = ids[:, :-1:2], ids[:, -1:]
        return self.scores(self.W_Q(self.query(query)), self.W_K(self.key(keys)))


@dataclass(frozen=True)
class Recall:
    """What training one head gave."""

    accuracy: float  # share of held-out queries answered, dimensionless
    losses: tuple[float, ...]  # cross-entropy in nats, one a step
    score_std: tuple[float, float]  # of held-out scores, before and after training, dimensionless
    alignment: tuple[float, float]  # mean cosine of a query and its key, before and after training


def train_recall(
    seed: int,
    d_k: int,
    make_scores: Callable[[int], Scores] = lambda d_k: dot_product_scores,
    *,
    query_gain: float = 1.0,
    steps: int = 200,
    lr: float = 3e-3,
) -> Recall:
    """Train one head from scratch on fresh lists, 64 a step.

    Args:
        seed: Decides the initial weights and the data.
        d_k: Features of a query and of a key.
        make_scores: From d_k to a score function; called after the head's own weights are drawn, so
            that heads with different score functions start alike.
        query_gain: Factor on W_Q at the start.
        steps: Optimiser steps.
        lr: Learning rate of Adam.

    Returns:
        Held-out accuracy, the losses, and scores and alignment before and after.
    """
    torch.manual_seed(seed)
    head = RecallHead(d_k, query_gain=query_gain)
    head.scores = make_scores(d_k)
    lists = partial(associative_recall, n_keys=SYMBOLS, n_values=SYMBOLS, n_pairs=PAIRS)
    held_out = lists(Generator().manual_seed(seed + 1_000_000), batch=2000)
    before = _scores(head, held_out)
    losses = fit(
        head,
        lambda head, batch: F.cross_entropy(head(batch.ids), batch.label),
        partial(lists, batch=64),
        steps=steps,
        lr=lr,
        seed=seed,
    )
    with torch.no_grad():
        right = head(held_out.ids).argmax(-1) == held_out.label
    std, alignment = zip(before, _scores(head, held_out), strict=True)
    return Recall(right.float().mean().item(), tuple(losses), std, alignment)


@torch.no_grad()
def _scores(head: RecallHead, lists: Labelled) -> tuple[float, float]:
    """The scores' standard deviation, and the mean cosine of a query and its matching key."""
    asked = lists.ids[:, -1]  # the queried key: one token, embedded as query and as key
    cosine = F.cosine_similarity(head.W_Q(head.query(asked)), head.W_K(head.key(asked)), dim=-1)
    return head.look_up(lists.ids).std().item(), cosine.mean().item()


def twin_losses(seed: int, d_k: int, *, fold_step: bool = True, steps: int = 50) -> float:
    r"""Train a scaled head and an unscaled twin with the scale folded into it, side by side.

    The twin starts with W_Q / sqrt(d_k). Its gradient there is sqrt(d_k) times as large, and Adam
    ignores the size of a gradient, so only a learning rate of lr / sqrt(d_k) for W_Q keeps step.

    Args:
        seed: Decides the initial weights and the data.
        d_k: Features of a query and of a key.
        fold_step: Whether the twin's W_Q learns at the folded rate too.
        steps: Optimiser steps.

    Returns:
        The largest difference between the two losses at any step, in nats.
    """
    scale = d_k**-0.5
    torch.manual_seed(seed)
    head = RecallHead(d_k).double()
    twin = RecallHead(d_k, partial(dot_product_scores, scale=1.0)).double()
    twin.load_state_dict(head.state_dict())
    with torch.no_grad():
        twin.W_Q.weight *= scale
    optimizers = (_adam(head, 1.0), _adam(twin, scale if fold_step else 1.0))
    rng, largest = Generator().manual_seed(seed), 0.0
    for _ in range(steps):
        batch = associative_recall(rng, batch=64, n_keys=SYMBOLS, n_values=SYMBOLS, n_pairs=PAIRS)
        losses = []
        for model, optimizer in zip((head, twin), optimizers, strict=True):
            loss = F.cross_entropy(model(batch.ids), batch.label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        largest = max(largest, abs(losses[0] - losses[1]))
    return largest


def _adam(head: RecallHead, query_rate: float, lr: float = 3e-3) -> torch.optim.Adam:
    """Adam with a learning rate of its own for W_Q; a tiny eps, since eps is not scale-free."""
    rest = [p for p in head.parameters() if p is not head.W_Q.weight]
    groups = [{"params": rest}, {"params": [head.W_Q.weight], "lr": lr * query_rate}]
    return torch.optim.Adam(groups, lr=lr, eps=1e-16)
