"""Text · 分词.

From text to token ids and back: byte-pair encoding and WordPiece, and the files of both.
"""

from qa_lab.transformer.text.byte_pair_encoding import (
    BytePairEncoding,
    EndMarked,
    EndsSpaced,
    apply_merges,
    byte_spelled,
    byte_symbols,
    byte_text,
    characters,
    train_byte_pair_encoding,
    utf8_bytes,
)
from qa_lab.transformer.text.files import (
    from_dict,
    to_dict,
)
from qa_lab.transformer.text.merges import (
    Criterion,
    Merge,
    PairCounts,
    learn_merges,
    merge_pair,
    pair_frequency,
)
from qa_lab.transformer.text.subwords import (
    Frame,
    Spelling,
    Tokeniser,
)
from qa_lab.transformer.text.wordpiece import (
    WordPiece,
    continued_characters,
    joined_pieces,
    likelihood_ratio,
    log_likelihood_gain,
    longest_matches,
    tidied_pieces,
    train_wordpiece,
)
from qa_lab.transformer.text.words import (
    BertNormaliser,
    InTurn,
    Normalised,
    Words,
    bert_words,
    category_class,
    digits_apart,
    gpt2_words,
    punctuation_words,
    space_first,
    white_space,
    white_space_words,
)

__all__ = [
    "BertNormaliser",
    "BytePairEncoding",
    "Criterion",
    "EndMarked",
    "EndsSpaced",
    "Frame",
    "InTurn",
    "Merge",
    "Normalised",
    "PairCounts",
    "Spelling",
    "Tokeniser",
    "WordPiece",
    "Words",
    "apply_merges",
    "bert_words",
    "byte_spelled",
    "byte_symbols",
    "byte_text",
    "category_class",
    "characters",
    "continued_characters",
    "digits_apart",
    "from_dict",
    "gpt2_words",
    "joined_pieces",
    "learn_merges",
    "likelihood_ratio",
    "log_likelihood_gain",
    "longest_matches",
    "merge_pair",
    "pair_frequency",
    "punctuation_words",
    "space_first",
    "tidied_pieces",
    "to_dict",
    "train_byte_pair_encoding",
    "train_wordpiece",
    "utf8_bytes",
    "white_space",
    "white_space_words",
]
