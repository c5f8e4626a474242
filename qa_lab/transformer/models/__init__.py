"""Blocks and models · 模块与模型.

Layers wired into blocks, blocks into stacks, stacks into whole models, and those that have a name.
"""

from qa_lab.transformer.models import presets
from qa_lab.transformer.models.bert import Bert, MaskedLanguageModel
from qa_lab.transformer.models.blocks import (
    DecoderBlock,
    EncoderBlock,
    Look,
    Residual,
    Stream,
    post_norm,
    pre_norm,
)
from qa_lab.transformer.models.own_token import (
    GuessEveryToken,
    earlier,
    others,
    raw_keys,
    reread,
    two_streams,
)
from qa_lab.transformer.models.segment_recurrence import (
    SegmentRecurrence,
    remember,
)
from qa_lab.transformer.models.stacks import Decoder, Encoder
from qa_lab.transformer.models.whole import DecoderOnly, Embed, EncoderOnly, Positions, Transformer

__all__ = [
    "Bert",
    "Decoder",
    "DecoderBlock",
    "DecoderOnly",
    "Embed",
    "Encoder",
    "EncoderBlock",
    "EncoderOnly",
    "GuessEveryToken",
    "Look",
    "MaskedLanguageModel",
    "Positions",
    "Residual",
    "SegmentRecurrence",
    "Stream",
    "Transformer",
    "earlier",
    "others",
    "post_norm",
    "pre_norm",
    "presets",
    "raw_keys",
    "remember",
    "reread",
    "two_streams",
]
