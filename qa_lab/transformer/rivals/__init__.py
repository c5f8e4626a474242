"""Rivals · 对照模型.

What attention replaced or is compared with: recurrent and convolutional networks, bags of words.
"""

from qa_lab.transformer.rivals.bag_of_words import BagOfWords, BagOfWordsLM, causal_mean
from qa_lab.transformer.rivals.convolution import (
    CausalConvolution,
    ConvolutionBlock,
    ConvolutionLM,
    causal_convolution,
    receptive_field,
)
from qa_lab.transformer.rivals.recurrent import RecurrentClassifier, RecurrentLM
from qa_lab.transformer.rivals.recurrent_cells import (
    GRU,
    LSTM,
    RNN,
    Cell,
    State,
    gru_step,
    lstm_step,
    rnn_step,
)
from qa_lab.transformer.rivals.recurrent_stacks import (
    BidirectionalStack,
    RecurrentLayer,
    RecurrentStack,
)
from qa_lab.transformer.rivals.seq2seq import Seq2Seq
from qa_lab.transformer.rivals.seq2seq_decoders import (
    AttendedContext,
    BahdanauDecoder,
    FixedContext,
    LuongDecoder,
    MakeContext,
    Weights,
    summary,
)

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AttendedContext",
    "BagOfWords",
    "BagOfWordsLM",
    "BahdanauDecoder",
    "BidirectionalStack",
    "CausalConvolution",
    "Cell",
    "ConvolutionBlock",
    "ConvolutionLM",
    "FixedContext",
    "LuongDecoder",
    "MakeContext",
    "RecurrentClassifier",
    "RecurrentLM",
    "RecurrentLayer",
    "RecurrentStack",
    "Seq2Seq",
    "State",
    "Weights",
    "causal_convolution",
    "causal_mean",
    "gru_step",
    "lstm_step",
    "receptive_field",
    "rnn_step",
    "summary",
]
