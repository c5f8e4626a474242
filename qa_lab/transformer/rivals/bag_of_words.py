"""Bags of words: models that cannot see order, whatever they learn.

What they reach on a task is what the task gives away without order; what another model reaches
above the best of them, it owes to order.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from qa_lab.transformer._checks import check_at_least_one, check_vectors
from qa_lab.transformer._precision import in_float32
from qa_lab.transformer.attention import count_real, real_lengths
from qa_lab.transformer.layers import FeedForward, TokenEmbedding, Unembedding, mean_over_tokens


@in_float32
def causal_mean(x: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch length d_model"]:
    r"""Average, at each position, the tokens so far.

    $$ y_t = \frac{1}{t + 1} \sum_{s=0}^{t} x_s $$

    It is causal attention with equal weights.

    Args:
        x: Tokens.

    Returns:
        One vector for each token. It depends on positions 0..t, and not on their order.
    """
    check_vectors(x, x.shape[-1])
    count = torch.arange(1, x.shape[1] + 1, device=x.device)
    return x.cumsum(dim=1) / count[:, None]


class BagOfWords(nn.Module):
    """The classifier that is blind to order: average the embeddings, then think.

    $$ logits = W_C FFN(mean_t(embed(id_t))) + b_C $$

    Paper: Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods for Text
        Classification" (the deep averaging network).
    Departs: no word dropout.

    Args:
        vocab_size: Tokens in the vocabulary.
        n_classes: Classes.
        d_model: Width of an embedding, in features.
        d_ff: Inner width of the feed-forward network, in features.
        pool: From embeddings and the token mask to one vector for each row; blind to order if the
            model is to be.
        feed_forward: Makes a feed-forward network, `feed_forward(d_model, d_ff)`.
    """

    def __init__(
        self,
        vocab_size: int,
        n_classes: int,
        d_model: int,
        d_ff: int,
        *,
        pool: Callable[[Tensor, Tensor | None], Tensor] = mean_over_tokens,
        feed_forward: Callable[[int, int], nn.Module] = FeedForward,
    ) -> None:
        super().__init__()
        check_at_least_one(n_classes=n_classes)
        self.embedding = TokenEmbedding(vocab_size, d_model)
        self.pool = pool
        self.feed_forward = feed_forward(d_model, d_ff)
        self.W_C = nn.Linear(d_model, n_classes)

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        real: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """Classify each row.

        Args:
            ids: Token ids, padded anywhere.
            real: True at real tokens. None: all real.

        Returns:
            Logits. They depend on how often each token occurs in a row, and not on where.

        Raises:
            ValueError: An id lies outside the vocabulary, or a row has no real token.
        """
        count_real(real, ids)  # only to refuse rows whose mean would be 0/0
        return self.W_C(self.feed_forward(self.pool(self.embedding(ids), real)))


class BagOfWordsLM(nn.Module):
    r"""The language model that is blind to order: predict from the bag of tokens so far.

    $$ logits_t = W_U (m_t + FFN(m_t)),  m_t = \frac{1}{t + 1} \sum_{s \le t} embed(id_s) $$

    Paper: after Mikolov et al. 2013, arXiv:1301.3781, section 3.1 (CBOW).
    Departs: they average the tokens on both sides of the one to predict, and predict without a
        hidden layer that bends.

    Args:
        vocab_size: Tokens in the vocabulary.
        d_model: Width of an embedding, in features.
        d_ff: Inner width of the feed-forward network, in features.
        tied: Whether the embedding and W_U are one matrix.
        feed_forward: Makes a feed-forward network, `feed_forward(d_model, d_ff)`.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        d_ff: int,
        *,
        tied: bool = True,
        feed_forward: Callable[[int, int], nn.Module] = FeedForward,
    ) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(vocab_size, d_model)
        self.feed_forward = feed_forward(d_model, d_ff)
        self.unembedding = Unembedding(
            d_model, vocab_size, tied_to=self.embedding if tied else None
        )

    def forward(
        self,
        ids: Int[Tensor, "batch length"],
        real: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length vocab"]:
        """Predict, at each position, the token after it.

        Args:
            ids: Token ids, padded on the right.
            real: True at real tokens. None: all real.

        Returns:
            Logits. Position t depends on positions 0..t only, and not on their order.

        Raises:
            ValueError: An id lies outside the vocabulary, or padding is not on the right.
        """
        real_lengths(real, ids)  # only to refuse what would be averaged as text
        mean = causal_mean(self.embedding(ids))
        return self.unembedding(mean + self.feed_forward(mean))
