"""Activation checkpointing: the same numbers from fewer saved bytes."""

import copy
import pickle
from functools import partial

import jaxtyping
import pytest
import torch
from torch import nn
from torch.func import functional_call

from qa_lab.transformer.attention import causal_mask, real_tokens
from qa_lab.transformer.layers import BatchNorm
from qa_lab.transformer.models import (
    Decoder,
    DecoderOnly,
    Encoder,
    EncoderBlock,
    SegmentRecurrence,
    pre_norm,
    raw_keys,
)
from qa_lab.transformer.training import checkpoint_blocks, recompute

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
    for block in checkpointed.blocks:
        block.feed_forward.register_forward_pre_hook(lambda part, _: calls.append(part))
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
    assert list(checkpointed.state_dict()) == list(plain.state_dict())


def runs(stack, *inputs):
    """How often the first block is run for one training step, and the gradients of all."""
    calls = []
    stack.zero_grad()
    first = stack.blocks[0].feed_forward.register_forward_pre_hook(lambda *_: calls.append(1))
    stack(*inputs).square().sum().backward()
    first.remove()
    return len(calls), [p.grad for p in stack.parameters()]


def stacks(size):
    """The same stack, plain and checkpointed, without dropout."""
    plain = Encoder(size.d_model, size.head, size.d_ff, 2)
    checkpointed = copy.deepcopy(plain)
    checkpoint_blocks(checkpointed)
    return plain, checkpointed, torch.randn(size.batch, size.query, size.d_model)


def test_twice_is_once(size):
    plain, checkpointed, x = stacks(size)
    assert (runs(plain, x)[0], runs(checkpointed, x)[0]) == (1, 2)
    checkpoint_blocks(checkpointed)
    assert runs(checkpointed, x)[0] == 2


def segments(stack, x):
    reader = SegmentRecurrence(stack, 4)
    _, memories = reader(x[:, :3])
    return reader(x[:, 3:], memories)[0]


def guesses(stack, x):
    return stack.norm(raw_keys(stack, x.flip(1), x))


@pytest.mark.parametrize("read", [segments, guesses])
def test_blocks_stay_what_they_are(size, read):
    """Whoever loops over the blocks, to call them or to look into them, finds them."""
    plain = Encoder(
        size.d_model, size.head, size.d_ff, 2, residual=pre_norm, look=causal_mask, dropout=0.3
    )
    checkpointed = copy.deepcopy(plain)
    blocks = list(checkpointed.blocks)
    checkpoint_blocks(checkpointed)
    assert all(a is b for a, b in zip(checkpointed.blocks, blocks, strict=True))
    assert all(type(block) is EncoderBlock for block in checkpointed.blocks)
    x = torch.randn(size.batch, size.query, size.d_model)
    results = []
    for stack in (plain, checkpointed):
        torch.manual_seed(3)
        out = read(stack, x)
        out.square().sum().backward()
        results.append([out, *(p.grad for p in stack.parameters())])
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).abs().max() <= 1e-12


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_a_copy_is_checkpointed_too_and_runs_itself(size, how):
    plain, checkpointed, x = stacks(size)
    twin = how(checkpointed)
    with torch.no_grad():
        for parameter in checkpointed.parameters():
            parameter.zero_()
    (times, ours), (_, theirs) = runs(twin, x), runs(plain, x)
    assert times == 2
    assert max((a - b).abs().max() for a, b in zip(ours, theirs, strict=True)) <= 1e-12
    part = pickle.loads(pickle.dumps(twin.blocks[0].forward))  # whichever comes first in the file
    assert (part(x) - plain.blocks[0](x)).abs().max() <= 1e-12


def test_hooks_of_a_block_fire_once(size):
    _, checkpointed, x = stacks(size)
    calls = []
    checkpointed.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    assert runs(checkpointed, x)[0] == 2 and calls == [1]


def test_another_forward_of_a_block_is_kept(size):
    """As `torch.compile` gives it one."""
    x = torch.randn(size.batch, size.query, size.d_model)
    stack = Encoder(size.d_model, size.head, size.d_ff, 1)
    inner = stack.blocks[0].forward
    stack.blocks[0].forward = lambda *inputs: -inner(*inputs)
    expected = stack(x)
    checkpoint_blocks(stack)
    assert runs(stack, x)[0] == 2
    assert (stack(x) - expected).abs().max() <= 1e-12 and expected.abs().max() > 1e-2


def test_it_compiles_in_one_piece(size):
    plain, checkpointed, x = stacks(size)
    jaxtyping.config.update("jaxtyping_disable", True)  # what checks shapes cannot be compiled
    try:
        compiled = torch.compile(checkpointed, backend="eager", fullgraph=True)
        compiled(x).square().sum().backward()
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    (_, theirs), ours = runs(plain, x), [p.grad for p in checkpointed.parameters()]
    assert max((a - b).abs().max() for a, b in zip(ours, theirs, strict=True)) <= 1e-12


def test_it_decodes_with_a_cache(size):
    plain = DecoderOnly(size.vocab, size.d_model, size.head, size.d_ff, 2, dropout=0.3).eval()
    checkpointed = copy.deepcopy(plain)
    checkpoint_blocks(checkpointed.stack)
    ids = torch.randint(size.vocab, (size.batch, size.query))
    cache, parts = checkpointed.new_cache(), []
    with torch.no_grad():
        for part in ids.split(3, dim=1):
            parts.append(checkpointed(part, cache=cache))
    assert (torch.cat(parts, dim=1) - plain(ids)).abs().max() <= 1e-12
    with pytest.raises(TypeError, match="takes tensors, functions or None; got LayerCache"):
        checkpointed(ids, cache=checkpointed.new_cache())


def test_parameters_that_are_gone_in_the_backward_pass_are_missed(size):
    """With those of the module, the gradients would be wrong without a word."""
    plain, checkpointed, x = stacks(size)
    others = {name: 2 * p.detach() for name, p in plain.named_parameters()}
    for value in others.values():
        value.requires_grad_()
    functional_call(plain, others, x).square().sum().backward()
    out = functional_call(checkpointed, others, x)
    with pytest.raises(RuntimeError, match="this EncoderBlock are no longer those that it was run"):
        out.square().sum().backward()


def test_a_block_that_writes_is_refused(size):
    x = torch.ones(2, 3, requires_grad=True)
    with pytest.raises(TypeError, match="takes tensors, functions or None; got dict"):
        recompute(lambda x, cache: x, x, {})
    with pytest.raises(TypeError, match="takes tensors, functions or None; got list"):
        recompute(lambda x, cache: x, x, cache=[])
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
    loose.blocks = nn.ModuleList()
    with pytest.raises(ValueError, match="no block to recompute"):
        checkpoint_blocks(loose)
