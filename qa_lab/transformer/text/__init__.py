"""Text · 分词.

From text to token ids and back: byte-pair encoding and WordPiece.
"""

from qa_lab.transformer.text.byte_pair_encoding import (
    BytePairEncoding,
    apply_merges,
    byte_symbols,
    characters,
    gpt2_words,
    train_byte_pair_encoding,
    utf8_bytes,
)
from qa_lab.transformer.text.merges import (
    Criterion,
    Merge,
    PairCounts,
    learn_merges,
    merge_pair,
    pair_frequency,
)
from qa_lab.transformer.text.subwords import Spelling, Tokeniser, category_class, white_space
from qa_lab.transformer.text.wordpiece import (
    WordPiece,
    bert_words,
    continued_characters,
    likelihood_ratio,
    log_likelihood_gain,
    longest_matches,
    train_wordpiece,
)

__all__ = [
    "BytePairEncoding",
    "Criterion",
    "Merge",
    "PairCounts",
    "Spelling",
    "Tokeniser",
    "WordPiece",
    "apply_merges",
    "bert_words",
    "byte_symbols",
    "category_class",
    "characters",
    "continued_characters",
    "gpt2_words",
    "learn_merges",
    "likelihood_ratio",
    "log_likelihood_gain",
    "longest_matches",
    "merge_pair",
    "pair_frequency",
    "train_byte_pair_encoding",
    "train_wordpiece",
    "utf8_bytes",
    "white_space",
]
