"""Guessing every token from the others: what it takes to keep a token from its own position.

Three ways to read a text with the blocks of an encoder, all in streams that start from positions
and hold no token: `reread` (one stream, whose outputs are the next layer's keys), `raw_keys` (the
keys stay the tokens themselves) and `two_streams` (a second stream, which does see the tokens,
gives the keys). What differs is what the keys of the second layer have already seen.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from qa_lab.transformer.layers import TokenEmbedding, Unembedding
from qa_lab.transformer.models.blocks import Look, Stream
from qa_lab.transformer.models.stacks import Encoder
from qa_lab.transformer.positions import LearnedPositions


def others(length: int, device: torch.device | None = None) -> Bool[Tensor, "{length} {length}"]:
    """Let every position look at every position but itself.

    $$ keep_{qk} = [q != k] $$

    Args:
        length: Positions, in tokens; with fewer than 2, the one position sees nothing.
        device: Where the mask is made.

    Returns:
        All True but the diagonal.
    """
    return ~torch.eye(length, dtype=torch.bool, device=device)


def earlier(rank: Int[Tensor, " length"], *, itself: bool = False) -> Look:
    """Let every position look at those that come earlier in some order of the positions.

    $$ keep_{qk} = [rank_k < rank_q],  with <= if itself $$

    Paper: Yang et al. 2019, arXiv:1906.08237, section 2.3, figure 1: without itself for the query
        stream, with itself for the content stream.
    Departs: the first of the order, which has nothing before it, looks at itself.

    Args:
        rank: Place of each position in the order; the numbers 0 to length - 1.
        itself: Whether a position may look at itself.

    Returns:
        Makes the look mask, for sequences as long as `rank`.
    """
    keep = rank <= rank[:, None] if itself else rank < rank[:, None]
    first = torch.diag(rank == rank.min())
    return partial(fixed_look, keep | first)


def fixed_look(
    keep: Bool[Tensor, "length length"], length: int, device: torch.device | None = None
) -> Bool[Tensor, "length length"]:
    """Show the same mask whatever the length; a model that holds this can be saved."""
    return keep.to(device)


def reread(encoder: Encoder, places: Stream, tokens: Stream, *, see: Look = others) -> Stream:
    """Ask from the positions alone; what one layer found is what the next one looks at.

    Args:
        encoder: Its blocks are used.
        places: A vector for each position, without its token.
        tokens: A vector for each token, which the first layer looks at.
        see: Where a position may look, in every layer.

    Returns:
        What the last layer found. In the first layer no position sees its own token; from the
        second on, it may hear of it from the others.
    """
    memory = tokens
    for block in encoder.blocks:
        memory = block(places.expand_as(tokens), memory=memory, look=see)
    return memory


def raw_keys(encoder: Encoder, places: Stream, tokens: Stream, *, see: Look = others) -> Stream:
    """Ask in a stream that starts from the positions; look, in every layer, at the tokens.

    Paper: Shin et al. 2020, arXiv:2004.08097 (T-TA).

    Args:
        encoder: Its blocks are used.
        places: A vector for each position, without its token.
        tokens: A vector for each token.
        see: Where a position may look, in every layer.

    Returns:
        The stream. It holds nothing of a position's own token, at any depth, unless `see` shows it.
    """
    stream = places.expand_as(tokens)
    for block in encoder.blocks:
        stream = block(stream, memory=tokens, look=see)
    return stream


def two_streams(
    encoder: Encoder, places: Stream, tokens: Stream, *, see: Look, content_sees: Look
) -> Stream:
    """Ask in one stream, and let another, which sees the tokens, give the keys.

    Paper: Yang et al. 2019, arXiv:1906.08237, section 2.3 (two-stream self-attention); the two
        streams share their weights.

    Args:
        encoder: Its blocks are used, by both streams.
        places: A vector for each position, without its token: the query stream's start.
        tokens: A vector for each token: the content stream's start.
        see: Which content the query stream may look at.
        content_sees: Which content the content stream may look at.

    Returns:
        The query stream. With `earlier(rank)` and `earlier(rank, itself=True)` it depends on
        earlier tokens of the order only.
    """
    asks, content = places.expand_as(tokens), tokens
    for block in encoder.blocks:
        asks, content = (
            block(asks, memory=content, look=see),
            block(content, look=content_sees),
        )
    return asks


class GuessEveryToken(nn.Module):
    """Guess each token of a text from the others, all in one pass.

    $$ logits = way(encoder, P, W_E[ids] + P) W_U^T $$

    Args:
        vocab_size: Tokens in the vocabulary.
        length: Tokens in a text.
        d_model: Width of the streams, in features.
        n_heads: Attention heads.
        d_ff: Inner width of the feed-forward networks, in features.
        n_layers: Blocks.
        way: How to read: `reread`, `raw_keys`, or another of their form.
    """

    def __init__(
        self,
        vocab_size: int,
        length: int,
        d_model: int,
        n_heads: int,
        d_ff: int,
        n_layers: int,
        *,
        way: Callable[[Encoder, Stream, Stream], Stream] = raw_keys,
    ) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(vocab_size, d_model)
        self.positions = LearnedPositions(length, d_model, std=1.0)
        self.encoder = Encoder(d_model, n_heads, d_ff, n_layers)
        self.unembedding = Unembedding(d_model, vocab_size)
        self.way = way

    def forward(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length vocab"]:
        """Guess.

        Args:
            ids: Token ids; none is hidden.

        Returns:
            Logits of the token that stands at the position itself.
        """
        tokens = self.embedding(ids)
        places = self.positions(torch.zeros_like(tokens))
        return self.unembedding(self.way(self.encoder, places, self.positions(tokens)))
