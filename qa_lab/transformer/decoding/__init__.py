"""Decoding · 解码.

How text is written with a trained model: greedy, sampled, by beam, speculatively.
"""

from qa_lab.transformer.decoding.beam import Penalty, beam_search, power_penalty, wu_penalty
from qa_lab.transformer.decoding.generation import Choose, Ends, generate, greedy
from qa_lab.transformer.decoding.readers import LanguageReader, Reader, Step, TranslationReader
from qa_lab.transformer.decoding.sampling import Sampler, keep_top_k, keep_top_p, with_temperature
from qa_lab.transformer.decoding.speculation import (
    Distribution,
    Speculation,
    as_it_is,
    greedily,
    guess,
    speculative,
)

__all__ = [
    "Choose",
    "Distribution",
    "Ends",
    "LanguageReader",
    "Penalty",
    "Reader",
    "Sampler",
    "Speculation",
    "Step",
    "TranslationReader",
    "as_it_is",
    "beam_search",
    "generate",
    "greedily",
    "greedy",
    "guess",
    "keep_top_k",
    "keep_top_p",
    "power_penalty",
    "speculative",
    "with_temperature",
    "wu_penalty",
]
