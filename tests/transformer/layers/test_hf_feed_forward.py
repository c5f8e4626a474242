"""Feed-forward networks and the RMS norm against Hugging Face's models."""

import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaConfig
from transformers.activations import ACT2FN
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from qa_lab.transformer.layers import (
    GatedFeedForward,
    RMSNorm,
    gated_d_ff,
    gelu,
    gelu_tanh,
    rms_norm,
)
from tests.comparing import assert_same


@pytest.mark.parametrize("config, ours", [(BertConfig, gelu), (GPT2Config, gelu_tanh)])
def test_gelus_are_those_of_bert_and_gpt_2(oracle, config, ours):
    made = config()
    name = made.hidden_act if config is BertConfig else made.activation_function
    x = torch.linspace(-6, 6, 241)
    oracle.close(ours(x), ACT2FN[name](x))


@pytest.mark.parametrize("bias", [True, False])
def test_the_gated_network_is_llamas(oracle, twins, size, bias):
    config = LlamaConfig(
        hidden_size=size.d_model,
        num_attention_heads=1,
        intermediate_size=size.d_ff,
        mlp_bias=bias,
    )
    theirs, ours = LlamaMLP(config), GatedFeedForward(size.d_model, size.d_ff, bias=bias)
    layers = [(theirs.gate_proj, ours.W), (theirs.up_proj, ours.V), (theirs.down_proj, ours.W_2)]
    pairs = [(linear.weight, [mine.weight]) for linear, mine in layers]
    if bias:
        pairs += [(linear.bias, [mine.bias]) for linear, mine in layers]
    oracle.copy_random(pairs, ours)
    x, x2 = twins(size.batch, size.query, size.d_model)
    oracle.agree(ours(x), theirs(x2), slice(None), pairs, [x], [x2])


def test_llamas_inner_width_follows_the_rule():
    config = LlamaConfig()
    assert gated_d_ff(4 * config.hidden_size, multiple_of=256) == config.intermediate_size


def test_the_rms_norm_is_llamas(size):
    """In float32, as theirs computes in it whatever it is given."""
    theirs, ours = LlamaRMSNorm(size.d_model, eps=0.1), RMSNorm(size.d_model, eps=0.1)
    with torch.no_grad():
        ours.gain.copy_(theirs.weight.normal_())
    theirs, ours = theirs.float(), ours.float()
    x = torch.randn(3, 7, size.d_model, dtype=torch.float32)
    assert_same(ours(x), theirs(x))
    assert_same(rms_norm(x, ours.gain, 0.1), theirs(x))
    assert RMSNorm(4).eps == LlamaConfig().rms_norm_eps
    assert LlamaConfig().hidden_act == "silu" and GatedFeedForward(2, 3).activation is F.silu
