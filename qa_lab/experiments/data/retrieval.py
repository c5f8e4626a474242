r"""Retrieval from fixed places: what one head can carry, and what several can.

A memory of n places, each with random content of c features. One learned query must return the
contents of K fixed places, concatenated. Content differs from list to list, the places do not, so a
head that cannot see content among its keys has one pattern for all lists, and hands over one
weighted mean: c numbers. H heads hand over H c numbers, linear in the content, and K c are asked:

$$ R^2 \le \min(1, H / K) $$

Nothing about training is in that bound, and no network computed it.
"""

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from qa_lab.experiments.data.tasks import at_least
from qa_lab.experiments.fit import fit
from qa_lab.transformer.attention import MultiHeadAttention
from qa_lab.transformer.training import adam

PLACES = 12
BATCH = 64
HELD_OUT = 4000


def ceiling(n_heads: int, n_targets: int) -> float:
    """Return the largest R squared of heads whose patterns do not depend on the content.

    Args:
        n_heads: Heads, each of which hands over one weighted mean.
        n_targets: Places whose contents are asked for.

    Returns:
        min(1, H / K), dimensionless.
    """
    return min(1.0, n_heads / n_targets)


class PlaceKeys(nn.Linear):
    """A key projection that sees the places only: the content is hidden from it.

    Args:
        content: Features of the content, the first of the input.
        like: The projection that it replaces.
    """

    def __init__(self, content: int, like: nn.Linear) -> None:
        super().__init__(like.in_features, like.out_features)
        self.load_state_dict(like.state_dict())
        self.register_buffer("sees", (torch.arange(like.in_features) >= content).float())

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_keys"]:
        """Project what is left when the content is taken out."""
        return super().forward(x * self.sees)


class Retriever(nn.Module):
    """Learned queries, the lab's multi-head attention, and a linear read-out.

    Args:
        n_heads: Heads.
        n_targets: K, places whose contents each query must return.
        content: c, features of the content of one place.
        d_model: Width of the memory: content, place (one-hot), and zeros.
        n_queries: Learned queries.
        n_layers: Times that a query asks; each answer is added to it before it asks again.
        keys_see_content: Whether a key may depend on what is stored at its place.
        n_kv_heads: Key and value heads. None: n_heads.
        d_k: Width of a query, a key and a value, per head. None: d_model / n_heads.

    Raises:
        ValueError: A count is below 1, or d_model has no room for content and place.
    """

    def __init__(
        self,
        n_heads: int,
        n_targets: int,
        *,
        content: int = 4,
        d_model: int = 32,
        n_queries: int = 1,
        n_layers: int = 1,
        keys_see_content: bool = False,
        n_kv_heads: int | None = None,
        d_k: int | None = None,
    ) -> None:
        super().__init__()
        at_least(1, n_targets=n_targets, content=content, n_queries=n_queries, n_layers=n_layers)
        if content + PLACES > d_model:
            raise ValueError(
                f"d_model = {d_model} has no room for {content} features of content and {PLACES} "
                "places."
            )
        self.query = nn.Parameter(torch.randn(n_queries, d_model))
        self.attentions = nn.ModuleList(
            MultiHeadAttention(d_model, n_heads, n_kv_heads=n_kv_heads, d_k=d_k)
            for _ in range(n_layers)
        )
        if not keys_see_content:
            for attention in self.attentions:
                attention.W_K = PlaceKeys(content, attention.W_K)
        self.read_out = nn.Linear(d_model, n_targets * content)

    def forward(
        self, contents: Float[Tensor, "batch place content"]
    ) -> Float[Tensor, "batch query targets_times_content"]:
        """Return what each query retrieved."""
        memory = self.memory(contents)
        query = self.query.expand(len(memory), -1, -1)
        found = torch.zeros_like(query)
        for attention in self.attentions:
            found = found + attention(query + found, memory)
        return self.read_out(found)

    @property
    def attention(self) -> MultiHeadAttention:
        """The first layer's attention."""
        return self.attentions[0]

    @torch.no_grad()
    def weights(
        self, contents: Float[Tensor, "batch place content"]
    ) -> Float[Tensor, "batch head query place"]:
        """Return where each head of the first layer looks; each row is >= 0 and sums to 1."""
        memory = self.memory(contents)
        query = self.query.expand(len(memory), -1, -1)
        return self.attention.attend_with_weights(query, memory)[1]

    def memory(
        self, contents: Float[Tensor, "batch place content"]
    ) -> Float[Tensor, "batch place d_model"]:
        """Put each content beside its place; what is left of d_model is zero."""
        places = torch.eye(PLACES).expand(len(contents), -1, -1)
        both = torch.cat([contents, places], dim=-1)
        return F.pad(both, (0, self.attention.d_model - both.shape[-1]))


@dataclass(frozen=True)
class Retrieval:
    """What training gave."""

    r_squared: float  # share of the asked contents' variance returned, held out; dimensionless
    weights: Float[
        Tensor, "head query place"
    ]  # learned patterns; means over lists if keys see content
    targets: Int[Tensor, "query target"]  # the places that were asked for
    model: Retriever
    losses: tuple[float, ...]  # squared error per feature, variance 1 without any model; one a step


@cache
def train_retrieval(
    seed: int,
    *,
    n_heads: int,
    n_targets: int,
    content: int = 4,
    d_model: int = 32,
    n_queries: int = 1,
    n_layers: int = 1,
    keys_see_content: bool = False,
    n_kv_heads: int | None = None,
    d_k: int | None = None,
    tie_heads: bool = False,
    shake: float | None = None,
    n_lists: int | None = None,
    steps: int = 300,
    lr: float = 1e-2,
) -> Retrieval:
    """Train a retriever on fresh contents, 64 lists a step.

    The same arguments are trained for once in a process, so a claim and a figure can share a run.

    Args:
        seed: Decides the places, the initial weights and the contents.
        n_heads: H.
        n_targets: K, different places that each query must return, in a random order.
        content: c, features of the content of one place.
        d_model: Width of the memory and of the attention.
        n_queries: Learned queries, each with places of its own.
        n_layers: Attention layers, which ask one after the other. L of them hand over L H means,
            so the bound H / K is for one.
        keys_see_content: Whether a key may depend on what is stored at its place. If so, the bound
            H / K does not hold.
        n_kv_heads: Key and value heads. None: n_heads.
        d_k: Width of a query, a key and a value, per head. None: d_model / n_heads.
        tie_heads: Whether all heads are made equal at the start and after each step.
        shake: Instead, make the heads equal at the start, add noise of this standard deviation
            once, and leave them free. None: do not.
        n_lists: Train on this many lists, the same at every step. None: on fresh ones.
        steps: Optimiser steps; the last third at a tenth of the rate.
        lr: Learning rate of Adam.

    Returns:
        The held-out R squared, the patterns, the places, the model and the losses.

    Raises:
        ValueError: A count is below 1, there are more targets than places, or heads are to be tied
            and shaken, or either with fewer key heads than query heads.
    """
    if n_targets > PLACES:
        raise ValueError(f"{n_targets} different places cannot be chosen from {PLACES}.")
    if tie_heads and shake is not None:
        raise ValueError("heads that are tied after each step cannot be shaken apart.")
    if n_kv_heads not in (None, n_heads) and (tie_heads or shake is not None):
        raise ValueError("heads that share keys and values cannot be made equal one by one.")
    rng = Generator().manual_seed(seed + 1_000_000)
    targets = torch.stack(
        [torch.randperm(PLACES, generator=rng)[:n_targets] for _ in range(n_queries)]
    )
    torch.manual_seed(seed)
    model = Retriever(
        n_heads,
        n_targets,
        content=content,
        d_model=d_model,
        n_queries=n_queries,
        n_layers=n_layers,
        keys_see_content=keys_see_content,
        n_kv_heads=n_kv_heads,
        d_k=d_k,
    )
    for attention in model.attentions:
        if tie_heads or shake is not None:
            make_heads_equal(attention)
        if shake is not None:
            shake_apart(attention, shake, rng)

    def draw(rng: Generator, lists: int = BATCH) -> Tensor:
        return torch.randn(lists, PLACES, content, generator=rng, device=rng.device)

    at_least(1, n_lists=BATCH if n_lists is None else n_lists)
    few = None if n_lists is None else draw(Generator().manual_seed(seed), n_lists)

    def loss(model: Retriever, contents: Tensor) -> Tensor:
        return F.mse_loss(model(contents), contents[:, targets].flatten(-2))

    def optimizer(model: nn.Module, lr: float) -> torch.optim.Optimizer:
        update = adam(model, lr)
        if tie_heads:
            update.register_step_post_hook(
                lambda *_: [make_heads_equal(attention) for attention in model.attentions]
            )
        return update

    losses = fit(
        model,
        loss,
        draw if few is None else lambda rng: few,
        steps=steps,
        lr=lr,
        seed=seed,
        optimizer=optimizer,
        schedule=lambda done: 1.0 if done < 2 * steps / 3 else 0.1,
    )
    held_out = draw(rng, HELD_OUT)
    with torch.no_grad():
        error = loss(model, held_out) / held_out[:, targets].square().mean()
    weights = model.weights(held_out[:100]).mean(dim=0)
    return Retrieval(1 - error.item(), weights, targets, model, tuple(losses))


@torch.no_grad()
def make_heads_equal(attention: MultiHeadAttention) -> None:
    """Give every head the mean of all heads' weights: the nearest point where heads are equal."""
    for part in heads_of(attention):
        part.copy_(part.mean(dim=0, keepdim=True).expand_as(part))


@torch.no_grad()
def shake_apart(attention: MultiHeadAttention, size: float, rng: Generator) -> None:
    """Add noise to every head's weights, of the given standard deviation."""
    for part in heads_of(attention):
        part.add_(size * torch.randn(part.shape, generator=rng, device=rng.device).to(part.device))


def heads_of(attention: MultiHeadAttention) -> list[Float[Tensor, "head ..."]]:
    """Return views of the weights that belong to one head each: of W_Q, W_K, W_V and W_O."""
    rows = [
        weight.unflatten(0, (attention.n_heads, -1))
        for layer in (attention.W_Q, attention.W_K, attention.W_V)
        for weight in (layer.weight, layer.bias)
    ]
    columns = attention.W_O.weight.unflatten(1, (attention.n_heads, -1)).transpose(0, 1)
    return [*rows, columns]
