"""Activation checkpointing: the same numbers from fewer saved bytes."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from qa_lab.transformer.attention import real_tokens
from qa_lab.transformer.layers import BatchNorm
from qa_lab.transformer.models import Decoder, Encoder
from qa_lab.transformer.training import RecomputedBlocks, checkpoint_blocks, recompute

LENGTHS = torch.tensor([7, 2, 5])
MEMORY_LENGTHS = torch.tensor([1, 5, 3])


def stack_and_inputs(kind, size, twins):
    real = real_tokens(LENGTHS, size.query)
    x, x2 = twins(size.batch, size.query, size.d_model)
    if kind == "encoder":
        stack = Encoder(size.d_model, size.head, size.d_ff, 3, dropout=0.3)
        return stack, (x, real), (x2, real)
    stack = Decoder(size.d_model, size.head, size.d_ff, 3, dropout=0.3)
    memory, memory2 = twins(size.batch, size.key, size.d_model)
    keep = real_tokens(MEMORY_LENGTHS, size.key)
    return stack, (x, memory, real, keep), (x2, memory2, real, keep)


def saved_bytes(stack, inputs):
    """The output, and bytes of what autograd keeps for the backward pass, parameters apart."""
    kept, parameters = {}, {p.data_ptr() for p in stack.parameters()}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = stack(*inputs)
    return out, sum(s.nbytes() for pointer, s in kept.items() if pointer not in parameters)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_gradients_are_those_of_the_plain_run_dropout_included(oracle, twins, size, kind):
    plain, inputs, inputs2 = stack_and_inputs(kind, size, twins)
    checkpointed = copy.deepcopy(plain)
    checkpoint_blocks(checkpointed)
    direction = torch.randn(size.batch, size.query, size.d_model)
    outs = []
    for stack, given in ((plain, inputs), (checkpointed, inputs2)):
        torch.manual_seed(3)
        out = stack(*given)
        torch.rand(5)  # what comes between must not move the dropout of the second run
        (out * direction).sum().backward()
        outs.append(out)
    oracle.close(*outs)
    for (name, p), (name2, p2) in zip(
        plain.named_parameters(), checkpointed.named_parameters(), strict=True
    ):
        assert name == name2
        oracle.close(p.grad, p2.grad, name)
    for x, x2 in zip(inputs, inputs2, strict=True):
        if x.is_floating_point():
            oracle.close(x.grad, x2.grad, "input gradient")


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_only_the_streams_between_blocks_are_saved_and_each_block_runs_again(size, twins, kind):
    plain, inputs, _ = stack_and_inputs(kind, size, twins)
    checkpointed = copy.deepcopy(plain)
    checkpoint_blocks(checkpointed)
    _, before = saved_bytes(plain, inputs)
    calls = []
    for i in range(3):
        checkpointed.blocks[i].register_forward_pre_hook(lambda block, _: calls.append(block))
    out, after = saved_bytes(checkpointed, inputs)
    streams = 3 * inputs[0].nbytes + sum(x.nbytes for x in inputs[1:])
    assert after <= streams < before / 10
    first, second, third = calls
    out.sum().backward()
    assert calls == [first, second, third, third, second, first]


def test_nothing_is_run_twice_when_no_gradient_is_wanted():
    calls = []

    def block(x):
        calls.append(torch.is_grad_enabled())
        return x * x  # its backward pass needs x, so it saves something

    x = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        assert recompute(block, x).tolist() == [1, 1, 1]
    recompute(block, x).sum().backward()
    assert calls == [False, True, True] and x.grad.tolist() == [2, 2, 2]


def test_saved_weights_fit_with_and_without_it(size):
    make = partial(Encoder, size.d_model, size.head, size.d_ff, 2)
    plain, checkpointed = make(), make()
    checkpoint_blocks(checkpointed)
    checkpointed.load_state_dict(plain.state_dict())
    plain.load_state_dict(checkpointed.state_dict())
    assert isinstance(checkpointed.blocks[1], type(plain.blocks[1]))
    assert len(list(checkpointed.blocks)) == len(checkpointed.blocks) == 2
    block = checkpointed.blocks[0]
    checkpoint_blocks(checkpointed)  # twice is once
    assert checkpointed.blocks[0] is block


def test_a_block_that_writes_is_refused(size):
    x = torch.ones(2, 3, requires_grad=True)
    with pytest.raises(TypeError, match="takes tensors or None; got dict"):
        recompute(lambda x, cache: x, x, {})
    with torch.no_grad():
        assert recompute(lambda x, cache: x, x, {}) is x  # decoding with a cache is not training
    norm = partial(BatchNorm, count_padding=True)
    stack = Encoder(size.d_model, size.head, size.d_ff, 2, norm=norm)
    with pytest.raises(ValueError, match=r"norm\.running_mean, .* would be moved twice"):
        checkpoint_blocks(stack)


def test_a_stack_has_a_list_of_blocks():
    with pytest.raises(TypeError, match=r"Linear has no nn\.ModuleList called blocks"):
        checkpoint_blocks(nn.Linear(2, 3))
    loose = nn.Module()
    loose.blocks = [nn.Linear(2, 3)]  # a list that the module does not know
    with pytest.raises(TypeError, match=r"Module has no nn\.ModuleList"):
        checkpoint_blocks(loose)
    with pytest.raises(ValueError, match="no block to recompute"):
        RecomputedBlocks(nn.ModuleList())
