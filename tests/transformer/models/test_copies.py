"""Whole models are copied, saved, loaded and converted; what was one matrix stays one.

After public bug reports about other libraries: tied matrices that `to_empty`, `assign=True` or a
conversion had torn apart, and models that could not be pickled because they held a lambda.
"""

import contextlib
import copy
import io
import pickle
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from qa_lab.transformer.attention import (
    LSHAttention,
    MultiHeadAttention,
    causal_mask,
    tie_query_and_key,
)
from qa_lab.transformer.layers import TokenEmbedding, Unembedding
from qa_lab.transformer.models import (
    Bert,
    Decoder,
    DecoderOnly,
    Encoder,
    EncoderOnly,
    GuessEveryToken,
    MaskedLanguageModel,
    SegmentRecurrence,
    Transformer,
    earlier,
    one_page,
    pre_norm,
    presets,
    two_streams,
)
from qa_lab.transformer.positions import Alibi, LearnedPositions, Rotary, T5Bias
from qa_lab.transformer.rivals import (
    GRU,
    RNN,
    BagOfWords,
    BagOfWordsLM,
    ConvolutionLM,
    FixedContext,
    LuongDecoder,
    RecurrentClassifier,
    RecurrentLM,
    Seq2Seq,
)
from qa_lab.transformer.training import adamw, checkpoint_blocks

VOCAB, D, HEADS, D_FF, LAYERS, CLASSES, LENGTH = 17, 12, 3, 13, 2, 5, 7
SIZES = (VOCAB, D, HEADS, D_FF, LAYERS)


def with_attention(**inside):
    """A language model with something special inside its heads, one module for all layers."""
    return DecoderOnly(*SIZES, attention=partial(MultiHeadAttention, **inside))


def with_tied_queries():
    model = DecoderOnly(*SIZES, attention=partial(MultiHeadAttention, attend=LSHAttention(4, 7)))
    for block in model.stack.blocks:
        tie_query_and_key(block.attention)
    return model


def checkpointed():
    model = DecoderOnly(*SIZES)
    checkpoint_blocks(model.stack)
    return model


IDS = torch.arange(3 * LENGTH).view(3, LENGTH) ** 2 % VOCAB
TARGET = IDS[:, 2:]
X = torch.linspace(-1, 1, 3 * LENGTH * D, dtype=torch.float64).view(3, LENGTH, D).sin()
ONE, TWO, STREAM = (IDS,), (IDS, TARGET), (X,)

ORDER = torch.arange(LENGTH).flip(0)
IN_ORDER = partial(two_streams, see=earlier(ORDER), content_sees=earlier(ORDER, itself=True))

MODELS = {
    "gpt2": (partial(presets.gpt2, *SIZES, max_length=LENGTH), ONE),
    "GPT2 on one page": (partial(one_page.GPT2, *SIZES, LENGTH), ONE),
    "llama": (partial(presets.llama, *SIZES, n_kv_heads=1), ONE),
    "tied llama": (partial(presets.llama, *SIZES, tied=True), ONE),
    "original": (partial(presets.original, *SIZES), TWO),
    "t5": (partial(presets.t5, *SIZES), TWO),
    "t5, untied": (partial(presets.t5, *SIZES, tied=False), TWO),
    "bert": (partial(presets.bert, *SIZES, max_length=LENGTH), ONE),
    "Bert and its head": (lambda: MaskedLanguageModel(Bert(*SIZES, max_length=LENGTH)), ONE),
    "DecoderOnly": (partial(DecoderOnly, *SIZES), ONE),
    "DecoderOnly, untied": (partial(DecoderOnly, *SIZES, tied=False), ONE),
    "one Alibi": (lambda: with_attention(score_bias=Alibi(HEADS)), ONE),
    "one T5Bias": (lambda: with_attention(score_bias=T5Bias(HEADS, bidirectional=False)), ONE),
    "one Rotary": (lambda: with_attention(rotate=Rotary(D // HEADS)), ONE),
    "one W_Q and W_K": (with_tied_queries, ONE),
    "one table of positions": (
        lambda: Transformer(*SIZES, positions=LearnedPositions(LENGTH, D)),
        TWO,
    ),
    "checkpointed": (checkpointed, ONE),
    "Transformer, untied": (partial(Transformer, *SIZES, tied=False), TWO),
    "EncoderOnly": (partial(EncoderOnly, VOCAB, CLASSES, *SIZES[1:]), ONE),
    "GuessEveryToken": (partial(GuessEveryToken, VOCAB, LENGTH, *SIZES[1:]), ONE),
    "GuessEveryToken, in an order": (
        partial(GuessEveryToken, VOCAB, LENGTH, *SIZES[1:], way=IN_ORDER),
        ONE,
    ),
    "SegmentRecurrence": (
        lambda: SegmentRecurrence(Encoder(*SIZES[1:], residual=pre_norm, look=causal_mask), 4),
        STREAM,
    ),
    "Decoder": (partial(Decoder, *SIZES[1:]), (X, X[:, 2:])),
    "RecurrentLM": (partial(RecurrentLM, VOCAB, D, 2), ONE),
    "RecurrentLM, untied": (partial(RecurrentLM, VOCAB, D, 2, cell=RNN, tied=False), ONE),
    "RecurrentClassifier": (partial(RecurrentClassifier, VOCAB, CLASSES, D, 2, cell=GRU), ONE),
    "Seq2Seq": (partial(Seq2Seq, VOCAB, D, 2), TWO),
    "Seq2Seq, no attention": (partial(Seq2Seq, VOCAB, D, decoder=LuongDecoder, tied=False), TWO),
    "Seq2Seq, one context": (partial(Seq2Seq, VOCAB, D, context=FixedContext), TWO),
    "BagOfWords": (partial(BagOfWords, VOCAB, CLASSES, D, D_FF), ONE),
    "BagOfWordsLM": (partial(BagOfWordsLM, VOCAB, D, D_FF), ONE),
    "ConvolutionLM": (partial(ConvolutionLM, VOCAB, D, 2), ONE),
}
TIED = {
    "gpt2": "embedding",
    "tied llama": "embedding",
    "original": "source_embedding",
    "t5": "source_embedding",
    "Bert and its head": "bert.embedding",
    "one table of positions": "source_embedding",
    "checkpointed": "embedding",
    "RecurrentLM": "embedding",
    "Seq2Seq": "source_embedding",
    "BagOfWordsLM": "embedding",
    "ConvolutionLM": "embedding",
}


def made(name):
    """A model with no parameter that is 0 or 1 throughout, and what it is called on."""
    make, inputs = MODELS[name]
    model = make().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, inputs


def output(model, inputs):
    torch.manual_seed(5)  # LSHAttention draws
    out = model(*inputs)
    return out[0] if isinstance(out, tuple) else out


def gap(one, other):
    return (one - other).abs().max().item()


def sharing(model):
    """Which names stand for one parameter."""
    groups = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return list(groups.values())


def saved(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def through_a_file(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def into_another(name, **how):
    model = MODELS[name][0]().eval()
    return lambda old: (model.load_state_dict(saved(old), **how), model)[1]


def full_of_nan(tensor, device):
    """What memory that nobody has filled may hold."""
    return torch.full(tensor.shape, torch.nan, dtype=tensor.dtype, device=device)


def from_meta(name, **how):
    """Made without memory, as a model is that is too large to be made twice."""
    with torch.device("meta"):
        model = MODELS[name][0]().eval()
    if not how:
        with pytest.MonkeyPatch.context() as memory:
            memory.setattr(torch, "empty_like", full_of_nan)
            model = model.to_empty(device="cpu")
    return lambda old: (model.load_state_dict(saved(old), **how), model)[1]


WAYS = {
    "deepcopy": lambda name: copy.deepcopy,
    "pickle": lambda name: lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": lambda name: through_a_file,
    "load, assign": partial(into_another, assign=True),
    "meta, to_empty, load": from_meta,
    "meta, load, assign": partial(from_meta, assign=True),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_a_copy_says_the_same_is_another_and_learns_the_same(name, way):
    model, inputs = made(name)
    expected = output(model, inputs).detach()
    twin = WAYS[way](name)(model)
    assert gap(output(twin, inputs), expected) <= 1e-12
    assert list(twin.state_dict()) == list(model.state_dict())
    shifts = {name: 1.0 + torch.rand_like(p) for name, p in model.named_parameters()}
    shift(twin, shifts)
    assert gap(output(model, inputs), expected) <= 1e-12
    shift(model, shifts)  # what is one matrix here is moved at both ends there
    assert gap(output(twin, inputs), output(model, inputs)) <= 1e-12
    assert gap(output(twin, inputs), expected) > 1e-2


@torch.no_grad()
def shift(model, shifts):
    parameters = dict(model.named_parameters())
    assert parameters.keys() == shifts.keys()
    for name, parameter in parameters.items():
        parameter.add_(shifts[name])


def submodule(model, name):
    return model.get_submodule(TIED[name])


@contextlib.contextmanager
def conversions(swap=False, overwrite=False):
    torch.__future__.set_swap_module_params_on_conversion(swap)
    torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)
    torch.__future__.set_overwrite_module_params_on_conversion(False)


@pytest.mark.parametrize("how", [{}, {"swap": True}, {"overwrite": True}], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_conversion_leaves_one_matrix_one(name, how):
    """There and back through both half precisions: the weights are rounded, and nothing else."""
    model, inputs = made(name)
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.bfloat16().half())
    groups = sharing(model)
    with conversions(**how):
        model = model.bfloat16().half().float().double()
    assert sharing(model) == groups
    assert gap(output(model, inputs), output(rounded, inputs)) <= 1e-12
    if name in TIED:
        assert model.unembedding.W_U is submodule(model, name).W_E


@pytest.mark.parametrize("name", TIED)
def test_gradients_of_both_uses_meet_in_one_parameter(name):
    """Against the same model with a matrix for each use: its gradients add up to ours."""
    model, inputs = made(name)
    names = [n for n, p in model.named_parameters() if p is model.unembedding.W_U]
    assert names == [f"{TIED[name]}.W_E"]
    apart = copy.deepcopy(model)
    apart.unembedding = Unembedding(D, VOCAB, factor=model.unembedding.factor)
    with torch.no_grad():
        apart.unembedding.W_U.copy_(model.unembedding.W_U)
    for each in (model, apart):
        output(each, inputs).square().sum().backward()
    embedded, unembedded = submodule(apart, name).W_E.grad, apart.unembedding.W_U.grad
    assert gap(model.unembedding.W_U.grad, embedded + unembedded) <= 1e-10
    assert min(embedded.abs().max(), unembedded.abs().max()) > 1e-2
    moved = [p for group in adamw(model, 0.1).param_groups for p in group["params"]]
    assert sum(p is model.unembedding.W_U for p in moved) == 1


class Doubled(nn.Module):
    """A parametrization: the matrix is twice what is learned."""

    def forward(self, W):
        return 2 * W


@pytest.mark.parametrize("name", TIED)
def test_a_parametrized_embedding_is_unembedded_with_what_it_embeds_with(name):
    model, inputs = made(name)
    doubled = copy.deepcopy(model)
    with torch.no_grad():
        submodule(doubled, name).W_E.mul_(2)
    parametrize.register_parametrization(submodule(model, name), "W_E", Doubled())
    assert gap(output(model, inputs), output(doubled, inputs)) <= 1e-12
    twin = copy.deepcopy(model)
    assert gap(output(twin, inputs), output(doubled, inputs)) <= 1e-12
    parametrize.remove_parametrizations(submodule(model, name), "W_E")
    assert gap(output(model, inputs), output(doubled, inputs)) <= 1e-12


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("name", TIED)
def test_a_matrix_that_was_saved_twice_is_loaded_once(name, assign):
    """As these models were saved before the unembedding asked the embedding."""
    model, inputs = made(name)
    old = saved(model)
    assert "unembedding.W_U" not in old
    old["unembedding.W_U"] = old[f"{TIED[name]}.W_E"].clone()
    given = dict(old)
    other = MODELS[name][0]().eval()
    assert not any(other.load_state_dict(old, assign=assign))
    assert old.keys() == given.keys()  # the caller's dictionary is left alone
    assert gap(output(other, inputs), output(model, inputs)) <= 1e-12
    with torch.no_grad():
        for matrix in (old["unembedding.W_U"], old[f"{TIED[name]}.W_E"]):
            matrix[3] = torch.nan  # a run that went wrong can be looked into, too
    other.load_state_dict(old)
    other.float().load_state_dict(old)  # both are rounded alike


@pytest.mark.parametrize("name", TIED)
def test_an_untied_matrix_is_not_lost_in_a_tied_model(name):
    model, _ = made(name)
    for wrong in (torch.randn(VOCAB, D), torch.randn(VOCAB + 1, D)):
        state = saved(model) | {"unembedding.W_U": wrong}
        for strict in (True, False):
            with pytest.raises(RuntimeError, match=r"W_U was saved with values other than.*tied"):
                model.load_state_dict(state, strict=strict)
    alone = {"unembedding.W_U": torch.randn(VOCAB, D)}
    with pytest.raises(RuntimeError, match="tied=False to load both"):
        model.load_state_dict(alone, strict=False)
    model.load_state_dict({"unembedding.W_U": model.unembedding.W_U.detach()}, strict=False)


def test_without_values_only_names_are_loaded():
    with torch.device("meta"):
        model = presets.gpt2(*SIZES, max_length=LENGTH)
        state = model.state_dict() | {"unembedding.W_U": torch.empty(VOCAB, D)}
        model.load_state_dict(state, assign=True)
    assert model.unembedding.W_U.is_meta


SHARED = {
    "original": ("source_embedding.W_E", "target_embedding.W_E"),
    "Seq2Seq": ("source_embedding.W_E", "target_embedding.W_E"),
    "one W_Q and W_K": (
        "stack.blocks.1.attention.W_Q.bias",
        "stack.blocks.1.attention.W_K.bias",
    ),
    "t5": (
        "decoder.blocks.0.self_attention.score_bias.W_R",
        "decoder.blocks.1.self_attention.score_bias.W_R",
    ),
    "t5, untied": ("source_embedding.W_E", "target_embedding.W_E"),
    "one T5Bias": (
        "stack.blocks.0.attention.score_bias.W_R",
        "stack.blocks.1.attention.score_bias.W_R",
    ),
}


@pytest.mark.parametrize("name", SHARED)
def test_what_was_saved_under_two_names_is_loaded_if_it_is_one(name):
    """The last of them would win without a word."""
    model, inputs = made(name)
    first, second = SHARED[name]
    state = saved(model)
    assert first in state and second not in state
    other = MODELS[name][0]().eval()
    other.load_state_dict(state | {second: state[first].clone()})
    assert gap(output(other, inputs), output(model, inputs)) <= 1e-12
    value = state.pop(first)
    other = MODELS[name][0]().eval()
    other.load_state_dict(state | {second: value})
    assert gap(output(other, inputs), output(model, inputs)) <= 1e-12
    with pytest.raises(RuntimeError, match=f"{first} and {second} are one here, but two"):
        other.load_state_dict(state | {first: value, second: value + 1})


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_one_name_and_functional_call_gives_them_back(name):
    model, inputs = made(name)
    assert all(len(names) == 1 for names in sharing(model))
    before, own = output(model, inputs), dict(model.named_parameters())
    others = {name: torch.randn_like(parameter) for name, parameter in own.items()}
    moved = copy.deepcopy(model)
    moved.load_state_dict(saved(model) | others)
    with_others = partial(functional_call, model, others)
    assert gap(output(lambda *given: with_others(given), inputs), output(moved, inputs)) <= 1e-12
    assert all(parameter is own[name] for name, parameter in model.named_parameters())
    assert gap(output(model, inputs), before) <= 1e-12


def test_a_part_of_a_pair_is_copied_with_what_it_needs():
    embedding = TokenEmbedding(VOCAB, D)
    tied = copy.deepcopy(Unembedding(D, VOCAB, tied_to=embedding))
    assert not list(tied.parameters()) and not tied.state_dict()
    assert tied.W_U is not embedding.W_E and gap(tied.W_U, embedding.W_E) == 0  # a copy of values
    with pytest.raises(KeyError, match="W_U"):
        tied.W_U = nn.Parameter(torch.zeros(VOCAB, D))
    with pytest.raises(AttributeError, match="W_X"):
        _ = tied.W_X
