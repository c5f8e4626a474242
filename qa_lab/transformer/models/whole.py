"""Whole models: embeddings, positions, a stack of blocks, logits.

The keyword arguments that a model does not name (`norm`, `attention`, `feed_forward`, `look`,
`dropout`) go to its blocks: see `EncoderBlock`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one, to_be_read
from qa_lab.transformer._sharing import register_once
from qa_lab.transformer.attention import Cache, causal_mask
from qa_lab.transformer.layers import TokenEmbedding, Unembedding, every_token
from qa_lab.transformer.models.blocks import Residual, pre_norm
from qa_lab.transformer.models.stacks import Decoder, Encoder
from qa_lab.transformer.positions import add_sinusoidal_positions

Positions = Callable[..., Tensor]
"""From embeddings to embeddings that tell their position, as `add_sinusoidal_positions` does.
Called as `positions(x)`, or `positions(x, start)` when a cache has seen `start` tokens before x."""
Embed = Callable[[int, int], nn.Module]
"""Makes the embedding, `embed(vocab_size, d_model)`, as `TokenEmbedding` does."""


def place(
    positions: Positions, x: Float[Tensor, "batch length d_model"], cache: Cache | None
) -> Float[Tensor, "batch length d_model"]:
    """Tell embeddings their positions, which follow those that the cache has seen."""
    return positions(x) if cache is None else positions(x, cache.seen)


def check_begins(real: Tensor | None, name: str = "real") -> None:
    """Refuse padding before the first token, which would tell the others wrong positions.

    Raises:
        ValueError: A row begins with padding.
    """
    if real is not None and real.ndim == 2 and to_be_read(real) and not real[:, 0].all():
        raise ValueError(
            f"row {int(real[:, 0].int().argmin())} of {name} begins with padding, so its tokens "
            "would be told other positions: pad on the right."
        )


class Transformer(nn.Module):
    """The encoder-decoder: read the source once, predict each next target token.

    $$ memory = encoder(embed(source)),  logits = decoder(embed(target), memory) W_U^T $$

    Paper: Vaswani et al. 2017, arXiv:1706.03762, section 3 and figure 1; one matrix for both
        embeddings and W_U, section 3.4; dropout on embeddings plus positions, section 5.4.
    Departs: no dropout by default, where the paper's base model has 0.1.

    Args:
        vocab_size: Tokens in the vocabulary that source and target share.
        d_model: Width of the stream, in features.
        n_heads: Attention heads of a block.
        d_ff: Inner width of the feed-forward networks, in features.
        n_layers: Blocks in the encoder, and again in the decoder.
        embed: Makes the embeddings, `embed(vocab_size, d_model)`.
        positions: Called as `positions(x)` on embeddings.
        tied: Whether both embeddings and W_U are one matrix.
        dropout: Probability of dropping, in [0, 1).
        unembed: Makes what gives the logits, `unembed(d_model, vocab_size, tied_to=)`.
        encoder: Further arguments of the encoder alone.
        decoder: Further arguments of the decoder alone, `cross_attention` for instance.
        cross_attention: Makes the attention to the memory. None: as `attention`, without positions.
        **block: Further arguments of both stacks: `residual`, `norm`, `attention`, `feed_forward`.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        n_heads: int,
        d_ff: int,
        n_layers: int,
        *,
        embed: Embed = TokenEmbedding,
        positions: Positions = add_sinusoidal_positions,
        tied: bool = True,
        dropout: float = 0.0,
        unembed: Callable[..., nn.Module] = Unembedding,
        encoder: Mapping[str, object] = MappingProxyType({}),
        decoder: Mapping[str, object] = MappingProxyType({}),
        cross_attention: Callable[[int, int], nn.Module] | None = None,
        **block: object,
    ) -> None:
        super().__init__()
        block = {"dropout": dropout, **block}
        sizes = (d_model, n_heads, d_ff, n_layers)
        self.source_embedding = embed(vocab_size, d_model)
        self.target_embedding = self.source_embedding if tied else embed(vocab_size, d_model)
        self.positions = positions
        self.dropout = nn.Dropout(dropout)
        self.encoder = Encoder(*sizes, **{**block, **encoder})
        self.decoder = Decoder(*sizes, **{"cross_attention": cross_attention, **block, **decoder})
        self.unembedding = unembed(
            d_model, vocab_size, tied_to=self.target_embedding if tied else None
        )
        register_once(self)

    def forward(
        self,
        source_ids: Int[Tensor, "batch source"],
        target_ids: Int[Tensor, "batch target"],
        source_real: Bool[Tensor, "batch source"] | None = None,
        target_real: Bool[Tensor, "batch target"] | None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """Predict, at each target position, the token after it.

        Args:
            source_ids: The source.
            target_ids: The target, beginning with the start token.
            source_real: True at real source tokens. None: all real.
            target_real: True at real target tokens. None: all real.

        Returns:
            Logits. Position t depends on the source and on target positions 0..t only.

        Raises:
            ValueError: An id lies outside the vocabulary, or a sequence has no real token.
        """
        memory = self.encode(source_ids, source_real)
        return self.decode(target_ids, memory, target_real, source_real)

    def encode(
        self,
        source_ids: Int[Tensor, "batch source"],
        source_real: Bool[Tensor, "batch source"] | None = None,
    ) -> Float[Tensor, "batch source d_model"]:
        """Read the source into a memory, one vector for each token."""
        x = self.dropout(self.positions(self.source_embedding(source_ids)))
        return self.encoder(x, source_real)

    def decode(
        self,
        target_ids: Int[Tensor, "batch target"],
        memory: Float[Tensor, "batch source d_model"],
        target_real: Bool[Tensor, "batch total"] | None = None,
        source_real: Bool[Tensor, "batch source"] | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """Predict each next target token from the memory; see `forward`.

        With a cache, `target_ids` are the tokens that follow those it has seen, the memory is read
        at the first call only, and `target_real` covers the tokens seen too.
        """
        check_begins(target_real, "target_real")
        y = self.dropout(place(self.positions, self.target_embedding(target_ids), cache))
        return self.unembedding(self.decoder(y, memory, target_real, source_real, cache))

    def new_cache(self, window: int | None = None) -> Cache:
        """Make an empty cache for `decode`; see `Cache`."""
        return Cache(len(self.decoder.blocks), window)


class DecoderOnly(nn.Module):
    """The causal language model: predict each next token from the tokens so far.

    $$ logits = blocks(embed(ids)) W_U^T,  with causal self-attention in every block $$

    Paper: Liu et al. 2018, arXiv:1801.10198, section 4.2 (T-D), drops the encoder, and with it
        cross-attention.
    Departs: pre-norm by default (Xiong et al. 2020, arXiv:2002.04745), which needs no warm-up.

    Args:
        vocab_size: Tokens in the vocabulary.
        d_model: Width of the stream, in features.
        n_heads: Attention heads of a block.
        d_ff: Inner width of the feed-forward networks, in features.
        n_layers: Blocks.
        embed: Makes the embeddings, `embed(vocab_size, d_model)`.
        positions: Called as `positions(x)` on embeddings.
        tied: Whether the embedding and W_U are one matrix.
        dropout: Probability of dropping, in [0, 1).
        residual: `pre_norm`, `post_norm`, or another wiring.
        **block: Further arguments of `EncoderBlock`; `look` is `causal_mask` unless given.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        n_heads: int,
        d_ff: int,
        n_layers: int,
        *,
        embed: Embed = TokenEmbedding,
        positions: Positions = add_sinusoidal_positions,
        tied: bool = True,
        dropout: float = 0.0,
        residual: Residual = pre_norm,
        **block: object,
    ) -> None:
        super().__init__()
        block = {"look": causal_mask, **block}
        self.embedding = embed(vocab_size, d_model)
        self.positions = positions
        self.dropout = nn.Dropout(dropout)
        self.stack = Encoder(
            d_model, n_heads, d_ff, n_layers, dropout=dropout, residual=residual, **block
        )
        self.unembedding = Unembedding(
            d_model, vocab_size, tied_to=self.embedding if tied else None
        )

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        real: Bool[Tensor, "batch total"] | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch length vocab"]:
        """Predict, at each position, the token after it.

        Args:
            ids: Token ids, padded on the right: what comes first is at position 0.
            real: True at real tokens, those that the cache has seen included. None: all real.
            cache: What the model remembers of the tokens before `ids`. None: `ids` is all.

        Returns:
            Logits. Position t depends on positions 0..t only, unless a norm mixes positions.

        Raises:
            ValueError: An id lies outside the vocabulary, or a first token is padding.
        """
        check_begins(real)
        x = self.dropout(place(self.positions, self.embedding(ids), cache))
        return self.unembedding(self.stack(x, real, cache))

    def new_cache(self, window: int | None = None) -> Cache:
        """Make an empty cache for `forward`; see `Cache`."""
        return Cache(len(self.stack.blocks), window)


class EncoderOnly(nn.Module):
    """The tagger or classifier: every token looks both ways, then logits over the classes.

    $$ logits = pool(encoder(embed(ids))) W_C + b_C $$

    Paper: Devlin et al. 2018, arXiv:1810.04805, section 3.
    Departs: no segment embeddings and no [CLS] token: `pool` says what is classified.

    Args:
        vocab_size: Tokens in the vocabulary.
        n_classes: Classes.
        d_model: Width of the stream, in features.
        n_heads: Attention heads of a block.
        d_ff: Inner width of the feed-forward networks, in features.
        n_layers: Blocks.
        pool: `every_token` (tags), `mean_over_tokens` (one class for a sequence), or another.
        embed: Makes the embeddings, `embed(vocab_size, d_model)`.
        positions: Called as `positions(x)` on embeddings.
        dropout: Probability of dropping, in [0, 1).
        **block: Further arguments of `Encoder`: `residual`, `norm`, `attention`, `feed_forward`,
            `look`.
    """

    def __init__(
        self,
        vocab_size: int,
        n_classes: int,
        d_model: int,
        n_heads: int,
        d_ff: int,
        n_layers: int,
        *,
        pool: Callable[[Tensor, Tensor | None], Tensor] = every_token,
        embed: Embed = TokenEmbedding,
        positions: Positions = add_sinusoidal_positions,
        dropout: float = 0.0,
        **block: object,
    ) -> None:
        super().__init__()
        self.embedding = embed(vocab_size, d_model)
        self.positions = positions
        self.dropout = nn.Dropout(dropout)
        self.encoder = Encoder(d_model, n_heads, d_ff, n_layers, dropout=dropout, **block)
        check_at_least_one(n_classes=n_classes)
        self.pool = pool
        self.W_C = nn.Linear(d_model, n_classes)

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        real: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length classes"] | Float[Tensor, "batch classes"]:
        """Classify each token, or each sequence, as `pool` says.

        Args:
            ids: Token ids.
            real: True at real tokens. None: all real.

        Returns:
            Logits.

        Raises:
            ValueError: An id lies outside the vocabulary, or a sequence has no real token.
        """
        x = self.dropout(self.positions(self.embedding(ids)))
        return self.W_C(self.pool(self.encoder(x, real), real))
