r"""GPT-2 on one page, to be read first: plain PyTorch, and nothing from the rest of the lab.

It is the model that Hugging Face calls `GPT2LMHeadModel` and the lab `presets.gpt2`: given the same
weights, it gives the same logits. Read it from top to bottom, as a token travels. `GPT2` turns ids
into vectors, and vectors into logits. On the way every `Block` adds two things to each vector: what
`Attention` found at earlier positions, and what `FeedForward` makes of the position by itself. Then
`loss` says how well the logits predict a text, and `generate` draws one from them.

What a part can do besides, with its papers and the reasons, is in the rooms of the lab:

    here           in full
    GPT2           models.DecoderOnly, models.presets
    W_E, W_P       layers.TokenEmbedding, layers.Unembedding, positions
    Block          models.EncoderBlock: post-norm, dropout, padding, a cache
    nn.LayerNorm   layers.LayerNorm, layers.RMSNorm
    Attention      attention.MultiHeadAttention, attention.scaled_dot_product_attention
    FeedForward    layers.FeedForward, layers.GatedFeedForward
    loss           training.cross_entropy
    generate       decoding.generate: samplers, beams, speculation

Axes stand in comments: batch, length (query and key, where they meet), head, d_model, d_k, vocab.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GPT2(nn.Module):
    r"""Predict each next token from the tokens so far.

    $$ x = W_E[ids] + W_P,  x <- block_i(x),  logits = norm(x) W_E^T $$

    Paper: Radford et al. 2019 (GPT-2), section 2.3, and its code.
    Departs: no dropout; positions start with a standard deviation of 0.02, that code's with 0.01.
    """

    def __init__(
        self,
        vocab_size: int = 50_257,  # the defaults make the smallest GPT-2: 124 439 808 parameters
        d_model: int = 768,  # width of the stream, in features
        n_heads: int = 12,  # per block; they share the features
        d_ff: int = 3072,  # inner width of the feed-forward networks
        n_layers: int = 12,  # blocks
        max_length: int = 1024,  # positions that can be told, in tokens
    ) -> None:
        super().__init__()
        self.W_E = nn.Parameter(torch.empty(vocab_size, d_model))
        self.W_P = nn.Parameter(torch.empty(max_length, d_model))
        self.blocks = nn.ModuleList(Block(d_model, n_heads, d_ff) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:  # a matrix; those that write to the stream start smaller
                writes = name.endswith(("W_O.weight", "W_2.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * n_layers if writes else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids: Tensor) -> Tensor:  # batch length
        """Score the vocabulary at every position; position t has seen tokens 0 .. t only."""
        x = self.W_E[ids] + self.W_P[: ids.shape[1]]  # batch length d_model: the residual stream
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.W_E.T  # batch length vocab: one matrix embeds and unembeds


class Block(nn.Module):
    """Let each part read a normalised copy of the stream, and add what it says to the stream."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = Attention(d_model, n_heads)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff)

    def forward(self, x: Tensor) -> Tensor:  # batch length d_model
        """Add twice. The stream itself goes straight through, from the first block to the last."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class Attention(nn.Module):
    r"""Let every position ask itself and those before it, in several heads at once.

    $$ head_i = softmax(Q_i K_i^T / \sqrt{d_k}) V_i,  out = [head_1 ... head_h] W_O $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.W_Q, self.W_K, self.W_V, self.W_O = (nn.Linear(d_model, d_model) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:  # batch length d_model
        """Average what is found where the questions match the keys."""
        q, k, v = (
            W(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # batch head length d_k
            for W in (self.W_Q, self.W_K, self.W_V)
        )
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # batch head query key
        later = torch.ones_like(scores, dtype=torch.bool).triu(1)  # keys that a query must not see
        weights = scores.masked_fill(later, -torch.inf).softmax(-1)  # over the keys: sum 1
        return self.W_O((weights @ v).transpose(1, 2).flatten(-2))  # batch length d_model


class FeedForward(nn.Module):
    """Work on each position by itself: widen, bend, narrow.

    $$ out = gelu(x W_1 + b_1) W_2 + b_2 $$
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.W_1 = nn.Linear(d_model, d_ff)
        self.W_2 = nn.Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:  # batch length d_model
        """Apply one and the same network at every position."""
        return self.W_2(F.gelu(self.W_1(x), approximate="tanh"))


def loss(model: nn.Module, ids: Tensor) -> Tensor:  # batch length
    """Return the surprise at each next token, on average, in nats: what training makes small."""
    logits = model(ids[:, :-1])  # batch length-1 vocab
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


@torch.no_grad()
def generate(model: GPT2, ids: Tensor, n_new: int, temperature: float = 1.0) -> Tensor:
    """Append tokens to each row, one at a time, each drawn from what the model predicts."""
    for _ in range(n_new):
        logits = model(ids[:, -len(model.W_P) :])[:, -1]  # batch vocab, after the last token
        drawn = torch.multinomial((logits / temperature).softmax(-1), num_samples=1)
        ids = torch.cat([ids, drawn], dim=1)
    return ids
