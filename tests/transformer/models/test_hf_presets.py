"""The presets against Hugging Face's models, with copied random weights."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertForPreTraining,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from qa_lab.transformer.attention import real_tokens
from qa_lab.transformer.models import Bert, MaskedLanguageModel, one_page
from qa_lab.transformer.models.presets import (
    BERT_BASE,
    GPT2_SMALL,
    LLAMA_7B,
    ORIGINAL_BASE,
    bert,
    gpt2,
    llama,
    original,
)
from tests.transformer.models.hugging_face import Float64Angles, with_torchs_norms

LENGTHS = torch.tensor([7, 2, 5])
# The issue's own bounds on the largest difference of two logits.
BOUNDS = [(torch.float64, 1e-9), (torch.float32, 1e-5)]


def randomise(model, dtype):
    """Draw every parameter, biases and gains too, at a size that keeps logits near 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.15)
            parameter.add_(1.0 if parameter.ndim == 1 else 0.0)
    return model.to(dtype).eval()


@torch.no_grad()
def copy(pairs, ours):
    """Copy, and miss no parameter of ours."""
    for mine, theirs in pairs:
        mine.copy_(theirs)
    assert {id(mine) for mine, _ in pairs} == {id(p) for p in ours.parameters()}


def linear(ours, theirs):
    return [(ours.weight, theirs.weight), (ours.bias, theirs.bias)]


def norm(ours, theirs):
    return [(ours.gain, theirs.weight), (ours.bias, theirs.bias)]


def conv1d(ours, weight, bias):
    """GPT-2's layers are stored the other way round, [in, out]."""
    return [(ours.weight, weight.T), (ours.bias, bias)]


def gpt2_pairs(ours, theirs):
    pairs = [
        (ours.embedding.W_E, theirs.transformer.wte.weight),
        (ours.positions.W_P, theirs.transformer.wpe.weight),
        *norm(ours.stack.norm, theirs.transformer.ln_f),
    ]
    for mine, block in zip(ours.stack.blocks, theirs.transformer.h, strict=True):
        three = (mine.attention.W_Q, mine.attention.W_K, mine.attention.W_V)
        weights = block.attn.c_attn.weight.chunk(3, dim=1)
        biases = block.attn.c_attn.bias.chunk(3)
        for part in zip(three, weights, biases, strict=True):
            pairs += conv1d(*part)
        for mine_too, conv in (
            (mine.attention.W_O, block.attn.c_proj),
            (mine.feed_forward.W_1, block.mlp.c_fc),
            (mine.feed_forward.W_2, block.mlp.c_proj),
        ):
            pairs += conv1d(mine_too, conv.weight, conv.bias)
        pairs += norm(mine.attention_norm, block.ln_1) + norm(mine.feed_forward_norm, block.ln_2)
    return pairs


def one_page_pairs(ours, theirs):
    """The same model once more, in PyTorch's own layers; W_Q, W_K and W_V are apart here too."""
    pairs = [
        (ours.W_E, theirs.transformer.wte.weight),
        (ours.W_P, theirs.transformer.wpe.weight),
        *linear(ours.norm, theirs.transformer.ln_f),
    ]
    for mine, block in zip(ours.blocks, theirs.transformer.h, strict=True):
        three = (mine.attention.W_Q, mine.attention.W_K, mine.attention.W_V)
        weights = block.attn.c_attn.weight.chunk(3, dim=1)
        biases = block.attn.c_attn.bias.chunk(3)
        for part in zip(three, weights, biases, strict=True):
            pairs += conv1d(*part)
        pairs += conv1d(mine.attention.W_O, block.attn.c_proj.weight, block.attn.c_proj.bias)
        pairs += conv1d(mine.feed_forward.W_1, block.mlp.c_fc.weight, block.mlp.c_fc.bias)
        pairs += conv1d(mine.feed_forward.W_2, block.mlp.c_proj.weight, block.mlp.c_proj.bias)
        pairs += linear(mine.attention_norm, block.ln_1) + linear(
            mine.feed_forward_norm, block.ln_2
        )
    return pairs


def llama_pairs(ours, theirs, tied):
    pairs = [
        (ours.embedding.W_E, theirs.model.embed_tokens.weight),
        (ours.stack.norm.gain, theirs.model.norm.weight),
    ]
    pairs += [] if tied else [(ours.unembedding.W_U, theirs.lm_head.weight)]
    for mine, block in zip(ours.stack.blocks, theirs.model.layers, strict=True):
        pairs += [
            (mine.attention.W_Q.weight, block.self_attn.q_proj.weight),
            (mine.attention.W_K.weight, block.self_attn.k_proj.weight),
            (mine.attention.W_V.weight, block.self_attn.v_proj.weight),
            (mine.attention.W_O.weight, block.self_attn.o_proj.weight),
            (mine.feed_forward.W.weight, block.mlp.gate_proj.weight),
            (mine.feed_forward.V.weight, block.mlp.up_proj.weight),
            (mine.feed_forward.W_2.weight, block.mlp.down_proj.weight),
            (mine.attention_norm.gain, block.input_layernorm.weight),
            (mine.feed_forward_norm.gain, block.post_attention_layernorm.weight),
        ]
    return pairs


def bert_pairs(ours, theirs):
    pairs = [
        (ours.embedding.W_E, theirs.embeddings.word_embeddings.weight),
        (ours.positions.W_P, theirs.embeddings.position_embeddings.weight),
        (ours.segments.W_E, theirs.embeddings.token_type_embeddings.weight),
        *norm(ours.embedding_norm, theirs.embeddings.LayerNorm),
        *linear(ours.W_P, theirs.pooler.dense),
    ]
    for mine, block in zip(ours.encoder.blocks, theirs.encoder.layer, strict=True):
        pairs += linear(mine.attention.W_Q, block.attention.self.query)
        pairs += linear(mine.attention.W_K, block.attention.self.key)
        pairs += linear(mine.attention.W_V, block.attention.self.value)
        pairs += linear(mine.attention.W_O, block.attention.output.dense)
        pairs += norm(mine.attention_norm, block.attention.output.LayerNorm)
        pairs += linear(mine.feed_forward.W_1, block.intermediate.dense)
        pairs += linear(mine.feed_forward.W_2, block.output.dense)
        pairs += norm(mine.feed_forward_norm, block.output.LayerNorm)
    return pairs


def assert_equal(ours, theirs, bound):
    assert ours.shape == theirs.shape
    spread = theirs.std()
    assert 0.1 < spread < 10, f"logits with a standard deviation of {spread} would hide errors"
    assert (ours - theirs).abs().max() <= bound


def ids_and_mask():
    return torch.randint(17, (3, 7)), real_tokens(LENGTHS, 7)


@pytest.mark.parametrize(("dtype", "bound"), BOUNDS)
def test_gpt2_is_gpt2(dtype, bound):
    config = GPT2Config(
        vocab_size=17, n_embd=22, n_head=2, n_inner=13, n_layer=3, n_positions=11,
        attn_implementation="sdpa",
    )  # fmt: skip
    theirs = randomise(GPT2LMHeadModel(config), dtype)
    ours = gpt2(17, 22, 2, 13, 3, max_length=11).to(dtype).eval()
    copy(gpt2_pairs(ours, theirs), ours)
    ids, real = ids_and_mask()
    assert_equal(ours(ids), theirs(ids).logits, bound)
    padded = theirs(ids, attention_mask=real.long()).logits
    assert_equal(ours(ids, real)[real], padded[real], bound)


@pytest.mark.parametrize(
    ("sizes", "length"),
    [((17, 22, 2, 13, 3, 11), 7), ((29, 20, 5, 31, 1, 7), 7), ((211, 96, 6, 160, 5, 50), 41)],
)
def test_gpt2_on_one_page_is_gpt2(sizes, length):
    vocab, d_model, heads, d_ff, layers, max_length = sizes
    config = GPT2Config(
        vocab_size=vocab, n_embd=d_model, n_head=heads, n_inner=d_ff, n_layer=layers,
        n_positions=max_length, attn_implementation="sdpa",
    )  # fmt: skip
    theirs = randomise(GPT2LMHeadModel(config), torch.float64)
    page, lab = one_page.GPT2(*sizes), gpt2(*sizes[:-1], max_length=max_length).eval()
    copy(one_page_pairs(page, theirs), page)
    copy(gpt2_pairs(lab, theirs), lab)
    ids = torch.randint(vocab, (3, length))
    expected = theirs(ids, labels=ids)
    assert_equal(page(ids), expected.logits, 1e-10)
    assert_equal(page(ids), lab(ids), 1e-10)
    assert (one_page.loss(page, ids) - expected.loss).abs() <= 1e-5  # over there in float32
    direction = torch.randn(3, length, vocab) / length
    (page(ids) * direction).sum().backward()
    (expected.logits * direction).sum().backward()
    query = theirs.transformer.h[0].attn.c_attn.weight.grad[:, :d_model].T
    for mine, other in [
        (page.W_E.grad, theirs.transformer.wte.weight.grad),
        (page.blocks[0].attention.W_Q.weight.grad, query),
    ]:
        assert (mine - other).abs().max() <= 1e-10 and other.std() > 0.01


@pytest.mark.parametrize(("dtype", "bound"), BOUNDS)
@pytest.mark.parametrize(
    ("kv_heads", "tied", "base", "eps"),
    [(4, False, 10_000.0, 1e-6), (2, True, 500.0, 1e-2), (1, False, 77.0, 0.3)],
)
def test_llama_is_llama(dtype, bound, kv_heads, tied, base, eps):
    config = LlamaConfig(
        vocab_size=17, hidden_size=24, num_attention_heads=4, num_key_value_heads=kv_heads,
        intermediate_size=13, num_hidden_layers=3, tie_word_embeddings=tied, rms_norm_eps=eps,
        rope_parameters={"rope_type": "default", "rope_theta": base}, attn_implementation="sdpa",
    )  # fmt: skip
    theirs = randomise(LlamaForCausalLM(config), dtype)
    ours = llama(17, 24, 4, 13, 3, n_kv_heads=kv_heads, tied=tied, base=base, eps=eps)
    ours = ours.to(dtype).eval()
    if dtype is torch.float64:
        with_torchs_norms(theirs, eps)
        theirs.model.rotary_emb = Float64Angles(base, d_k=6)
    copy(llama_pairs(ours, theirs, tied), ours)
    ids, real = ids_and_mask()
    assert_equal(ours(ids), theirs(ids).logits, bound)
    padded = theirs(ids, attention_mask=real.long()).logits
    assert_equal(ours(ids, real)[real], padded[real], bound)


def test_llamas_defaults_are_its_first_models():
    """Against the defaults of Hugging Face's configuration: n_kv_heads, base, eps, untied."""
    config = LlamaConfig(
        vocab_size=17, hidden_size=24, num_attention_heads=4, intermediate_size=13,
        num_hidden_layers=2, attn_implementation="sdpa",
    )  # fmt: skip
    theirs = randomise(LlamaForCausalLM(config), torch.float64)
    ours = llama(17, 24, 4, 13, 2).eval()
    copy(llama_pairs(ours, theirs, tied=False), ours)
    ids, _ = ids_and_mask()
    with torch.no_grad():  # small activations, where eps shows
        for embedding in (ours.embedding.W_E, theirs.model.embed_tokens.weight):
            embedding.mul_(1e-3)
    assert (ours(ids) - theirs(ids).logits).abs().max() < 1e-5  # angles in float32 over there


@pytest.mark.parametrize(("dtype", "bound"), BOUNDS)
def test_bert_is_bert(dtype, bound):
    config = BertConfig(
        vocab_size=17, hidden_size=22, num_attention_heads=2, intermediate_size=13,
        num_hidden_layers=3, max_position_embeddings=11, attn_implementation="sdpa",
    )  # fmt: skip
    theirs = randomise(BertForPreTraining(config), dtype)
    ours = MaskedLanguageModel(bert(17, 22, 2, 13, 3, max_length=11)).to(dtype).eval()
    head = theirs.cls.predictions
    pairs = [
        *bert_pairs(ours.bert, theirs.bert),
        *linear(ours.W_T, head.transform.dense),
        *norm(ours.norm, head.transform.LayerNorm),
        (ours.bias, head.bias),
    ]
    copy(pairs, ours)
    ids, real = ids_and_mask()
    segments = (torch.arange(7) >= torch.tensor([[3], [1], [7]])).long()
    for mask, types in [(None, None), (real, segments)]:
        expected = theirs(
            ids,
            attention_mask=None if mask is None else mask.long(),
            token_type_ids=types,
            output_hidden_states=True,
        )
        kept = torch.ones_like(real) if mask is None else mask
        hidden = ours.bert(ids, mask, types)
        assert_equal(hidden[kept], expected.hidden_states[-1][kept], bound)
        assert_equal(ours(ids, mask, types)[kept], expected.prediction_logits[kept], bound)
        pooled = theirs.bert.pooler(expected.hidden_states[-1])
        assert_equal(ours.bert.pool(hidden), pooled, bound)


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_published_sizes_have_the_published_numbers_of_parameters():
    """Nothing is allocated: the meta device knows shapes only."""
    with torch.device("meta"):
        assert count(bert(**BERT_BASE)) == count(BertModel(BertConfig())) == 109_482_240
        assert count(gpt2(**GPT2_SMALL)) == count(GPT2LMHeadModel(GPT2Config())) == 124_439_808
        assert count(one_page.GPT2()) == 124_439_808
        assert count(llama(**LLAMA_7B)) == count(LlamaForCausalLM(LlamaConfig())) == 6_738_415_616
        theirs = torch.nn.Transformer(512, 8, 6, 6, 2048, batch_first=True)
        final_norms = 2 * 2 * 512  # PyTorch has them after post-norm stacks too; the paper has not
        base = 37_000 * 512 + count(theirs) - final_norms
        assert count(original(**ORIGINAL_BASE)) == base == 63_082_496
        unbiased = original(**ORIGINAL_BASE, attention_bias=False)
        assert count(unbiased) == base - 18 * 4 * 512  # 18 attentions with four biases each


@pytest.mark.parametrize("made", [bert, gpt2])
def test_dropout_is_a_tenth_unless_told(made):
    sizes = (17, 24, 2, 13, 2)
    rates = [m.p for m in made(*sizes, max_length=5).modules() if isinstance(m, torch.nn.Dropout)]
    assert rates == [0.1] * 3
    model = made(*sizes, max_length=5, dropout=0.3)
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}
    rates = [m.p for m in original(*sizes).modules() if isinstance(m, torch.nn.Dropout)]
    assert rates == [0.1] * 5
    assert {
        m.p for m in Bert(*sizes, max_length=5).modules() if isinstance(m, torch.nn.Dropout)
    } == {0}
    model = original(*sizes, dropout=0.3)
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}
    assert {m.p for m in llama(*sizes).modules() if isinstance(m, torch.nn.Dropout)} == {0.0}


def test_the_first_weights_are_small_and_those_of_gpt2_smaller_towards_the_stream():
    """Radford 2019, section 2.3; standard errors of the deviations are below 1 %."""
    model = gpt2(101, 64, 4, 128, 3, max_length=50)
    block = model.stack.blocks[1]
    for weight in (model.embedding.W_E, block.attention.W_K.weight, block.feed_forward.W_1.weight):
        assert 0.019 < weight.std() < 0.021
    for weight in (block.attention.W_O.weight, block.feed_forward.W_2.weight):
        assert 0.95 < weight.std() / (0.02 * 6**-0.5) < 1.05
    assert (block.attention.W_O.bias == 0).all() and (block.attention_norm.gain == 1).all()
    for made in (bert(101, 64, 4, 128, 2, max_length=50), llama(101, 64, 4, 128, 2)):
        matrices = [p for p in made.parameters() if p.ndim > 1]
        assert all(0.017 < p.std() < 0.023 for p in matrices)
        assert all(p.min() == p.max() for p in made.parameters() if p.ndim == 1)


def test_a_new_head_favours_no_token():
    assert (MaskedLanguageModel(Bert(17, 22, 2, 13, 1, max_length=5)).bias == 0).all()


def test_bert_refuses_what_its_tables_do_not_hold():
    model = bert(17, 22, 2, 13, 1, max_length=5)
    ids = torch.zeros(1, 6, dtype=torch.long)
    with pytest.raises(ValueError, match="the table holds max_length = 5"):
        model(ids)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        model(ids[:, :3], None, torch.full((1, 3), 2))
