"""BERT: read both ways, and guess the tokens that were hidden."""

from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from qa_lab.transformer._checks import check_ids, check_vectors
from qa_lab.transformer.layers import FeedForward, LayerNorm, TokenEmbedding, Unembedding, gelu
from qa_lab.transformer.models.blocks import post_norm
from qa_lab.transformer.models.stacks import Encoder
from qa_lab.transformer.positions import LearnedPositions

EPS = 1e-12


class Bert(nn.Module):
    r"""The bidirectional encoder: a vector for each token, and one for the whole.

    $$ x_t = LayerNorm(W_E[id_t] + P_t + S[segment_t]),  out = encoder(x) $$

    Paper: Devlin et al. 2018, arXiv:1810.04805, section 3 and figure 2.

    Args:
        vocab_size: Tokens in the vocabulary.
        d_model: Width of the stream, in features.
        n_heads: Attention heads.
        d_ff: Inner width of the feed-forward networks, in features.
        n_layers: Blocks.
        max_length: Positions in the table, in tokens.
        n_segments: Sentences that can be told apart; BERT packs two.
        dropout: Probability of dropping, in [0, 1).

    Raises:
        ValueError: n_heads does not divide d_model.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        n_heads: int,
        d_ff: int,
        n_layers: int,
        *,
        max_length: int,
        n_segments: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        norm = partial(LayerNorm, eps=EPS)
        self.embedding = TokenEmbedding(vocab_size, d_model, factor=1.0)
        self.positions = LearnedPositions(max_length, d_model)
        self.segments = TokenEmbedding(n_segments, d_model, factor=1.0)
        self.embedding_norm = norm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.encoder = Encoder(
            d_model,
            n_heads,
            d_ff,
            n_layers,
            residual=post_norm,
            norm=norm,
            feed_forward=partial(FeedForward, activation=gelu),
            dropout=dropout,
        )
        self.W_P = nn.Linear(d_model, d_model)

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        real: Bool[Tensor, "batch length"] | None = None,
        segments: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """Read the tokens.

        Args:
            ids: Token ids. In BERT the first is [CLS], and [SEP] ends a sentence.
            real: True at real tokens. None: all real.
            segments: Which sentence each token belongs to, 0 or 1. None: 0 everywhere.

        Returns:
            One vector for each token, which depends on all real tokens.

        Raises:
            TypeError: The ids or the segments are not whole numbers, or `real` is not Boolean.
            ValueError: An id or a segment lies outside its table, there is not one segment for each
                token, a sequence is longer than the table of positions, or it has no real token.
        """
        check_ids(ids)
        segments = torch.zeros_like(ids) if segments is None else segments
        check_ids(segments, "segments")
        if segments.shape != ids.shape:
            raise ValueError(
                f"segments must be one for each token, {list(ids.shape)}; got "
                f"{list(segments.shape)}."
            )
        x = self.positions(self.embedding(ids) + self.segments(segments))
        x = self.dropout(self.embedding_norm(x, real))
        return self.encoder(x, real)

    def pool(self, x: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch d_model"]:
        r"""Summarise a sequence by its first token, [CLS].

        $$ y = \tanh(x_0 W_P + b_P) $$

        Args:
            x: What `forward` returned.

        Returns:
            One vector for each sequence, in (-1, 1).

        Raises:
            ValueError: x is not [batch length d_model], or holds no token.
        """
        check_vectors(x, self.W_P.in_features)
        return torch.tanh(self.W_P(x[:, 0]))


class MaskedLanguageModel(nn.Module):
    r"""BERT with the head that guesses hidden tokens.

    $$ logits = LayerNorm(GELU(x W_T + b_T)) W_E^T + b_U $$

    Paper: Devlin et al. 2018, arXiv:1810.04805, section 3.1, task 1; the layer before the tied
        matrix is in its published code.

    Args:
        bert: The encoder, whose embedding serves as the output matrix.
    """

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        vocab_size, d_model = bert.embedding.W_E.shape
        self.bert = bert
        self.W_T = nn.Linear(d_model, d_model)
        self.norm = LayerNorm(d_model, eps=EPS)
        self.unembedding = Unembedding(d_model, vocab_size, tied_to=bert.embedding)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        real: Bool[Tensor, "batch length"] | None = None,
        segments: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length vocab"]:
        """Guess the token at each position, from all positions.

        Args:
            ids: Token ids, some replaced by [MASK].
            real: True at real tokens. None: all real.
            segments: Which sentence each token belongs to. None: 0 everywhere.

        Returns:
            Logits of the token that stands at the position itself, not of the next.

        Raises:
            ValueError: As `Bert.forward`.
        """
        x = self.norm(gelu(self.W_T(self.bert(ids, real, segments))))
        return self.unembedding(x) + self.bias
