# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How is padding masked when attention scores are computed?
#
# The proofs behind the page *padding-mask*. Each cell is one claim: a measurement, a bound, and a
# control, the same measurement with one thing broken, that must miss the bound.
#
# One referee serves nearly all of them and needs no mask: each sentence run by itself, without
# padding. Three sentences of 7, 4 and 2 tokens are padded to 11; every path and every model must
# give each real token what it gets when its sentence is alone. In float64 the two differ by
# rounding, so the bound is 1e-10 for whole models and 1e-12 for one attention.

# %%
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from qa_lab.claims import at_least, at_most, broken, exactly, prove, within
from qa_lab.claims.figures import figure, matrix, spread
from qa_lab.experiments.data import tasks
from qa_lab.experiments.fit import fit
from qa_lab.experiments.measures import gaussian, refused
from qa_lab.transformer.attention import (
    DotProductAttention,
    MultiHeadAttention,
    causal_mask,
    dot_product_scores,
    full_mask,
    fused_attention,
    masked_softmax,
    over_keys,
    padding_mask,
    real_tokens,
    real_tokens_from_ids,
    scaled_dot_product_attention,
)
from qa_lab.transformer.layers import mean_over_tokens
from qa_lab.transformer.models import DecoderOnly, Encoder, EncoderOnly, Transformer
from qa_lab.transformer.positions import add_sinusoidal_positions
from qa_lab.transformer.training import cross_entropy

torch.set_num_threads(1)

# %% [markdown]
# ## 1. The mask that works
#
# Padded positions hold random numbers, not zeros: nothing may rest on what they hold. In the first
# claim they are 10¹² times as large as the others, so that no constant stands in for −∞.

# %%
LENGTHS, PADDED, D_MODEL, HEADS = (7, 4, 2), 11, 26, 2


def no_mask(lengths, length):
    """Stands in for `padding_mask`: everybody may look everywhere."""
    return None


def worst(batch, alone, lengths=LENGTHS):
    """Largest |difference| at the real tokens between the batch and each sentence by itself."""
    return max((batch[b, :n] - alone(b, n)).abs().max().item() for b, n in enumerate(lengths))


def attention_and_batch(seed, **changes):
    """One attention, a batch whose padded positions hold noise, and the lengths."""
    attention = MultiHeadAttention(D_MODEL, HEADS, **changes).double()
    return attention, gaussian((len(LENGTHS), PADDED, D_MODEL), seed), torch.tensor(LENGTHS)


def both_paths(attention, x, keep):
    """The outputs of the fused path and of the path that shows its weights."""
    return attention(x, keep=keep), attention.attend_with_weights(x, keep=keep)[0]


def nearer_is_better(queries, keys):
    """A score bias: minus the distance in positions, the same for every head."""
    apart = torch.arange(keys) - torch.arange(queries)[:, None]
    return -apart.abs().double().expand(HEADS, -1, -1)


@torch.no_grad()
def against_alone(seed, hide=padding_mask):
    """Without and with a score bias: both paths, padded with 10¹² times noise, against alone."""
    found = []
    for bias in (None, nearer_is_better):
        attention, x, lengths = attention_and_batch(seed, score_bias=bias)
        x = torch.where(real_tokens(lengths, PADDED)[..., None], x, 1e12 * x)
        found += [
            worst(batch, lambda b, n, x=x, attention=attention: attention(x[b : b + 1, :n]))
            for batch in both_paths(attention, x, hide(lengths, PADDED))
        ]
    return found


prove(
    "padded-batch-equals-each-sentence-alone",
    en="With the mask, every real token gets what it gets without any padding.",
    zh="加了掩码后，每个真实 token 得到的输出与完全不填充时一样。",
    of=(
        "largest |difference|, fused path and weights path, without and with a score bias",
        "最大绝对差（融合路径与显式权重路径，不带与带分数偏置）",
    ),
    measure=against_alone,
    bound=at_most(1e-12),
    control=broken("no mask", "不加掩码", hide=no_mask),
    settles={"pad-mask-neg-inf-gives-zero-weight": "holds"},
)


# %%
def filled(constant):
    """A softmax that overwrites the hidden scores with a constant instead of −∞."""
    return lambda scores, keep: masked_softmax(scores.masked_fill(~keep, constant))


def added(constant):
    """A softmax that adds a constant to the hidden scores instead of overwriting them."""
    return lambda scores, keep: masked_softmax(torch.where(keep, scores, scores + constant))


MINUS_INFINITY = masked_softmax, added(-torch.inf)  # set, and added


@torch.no_grad()
def weight_on_padding(seed, softmaxes=MINUS_INFINITY):
    """Largest weight that any query gives to any padded key, by each softmax."""
    found = []
    for softmax in softmaxes:
        attend = DotProductAttention(softmax=softmax)
        attention, x, lengths = attention_and_batch(seed, attend=attend)
        _, weights = attention.attend_with_weights(x, keep=padding_mask(lengths, PADDED))
        found.append(weights.transpose(1, 3)[~real_tokens(lengths, PADDED)].max())
    return found


prove(
    "masked-keys-get-weight-zero",
    en="A padded key whose score is set to −∞, or has −∞ added, gets weight exactly 0.",
    zh="填充键的分数无论是换成 −∞ 还是加上 −∞，权重都恰好为 0。",
    of=("largest weight on a padded key, set and added", "填充键得到的最大权重（替换与相加）"),
    measure=weight_on_padding,
    bound=exactly(0.0),
    control=broken("−10 instead of −∞", "用 −10 代替 −∞", softmaxes=(filled(-10.0), added(-10.0))),
    settles={"pad-mask-neg-inf-gives-zero-weight": "holds"},
)

# %% [markdown]
# The mask has shape [batch 1 1 key] and broadcasts over heads and queries. The trap: pass the
# token mask [batch length] itself when batch = length, and it is read as [query key]. Outputs of a
# fresh attention are of order 0.1, so a wrong mask must show by at least 0.01.


# %%
SQUARE = 7  # sentences in the batch, and positions in each: the one place where axes are equal


def as_it_is(tokens):
    """Pass the token mask on, without a change of shape."""
    return tokens


@torch.no_grad()
def square_batch(seed, shape=as_it_is):
    """Sentences of 1, 2 … SQUARE tokens in random order, padded to SQUARE."""
    attention = MultiHeadAttention(D_MODEL, HEADS).double()
    lengths = 1 + torch.randperm(SQUARE)
    x = gaussian((SQUARE, SQUARE, D_MODEL), seed)
    return [
        worst(batch, lambda b, n: attention(x[b : b + 1, :n]), lengths.tolist())
        for batch in both_paths(attention, x, shape(real_tokens(lengths, SQUARE)))
    ]


prove(
    "square-token-mask-is-misread",
    en="If batch = length, a [batch length] mask is taken for [query key], and nobody complains.",
    zh="当 batch 与长度相等时，形状为 [batch length] 的掩码会被当成 [query key]，而且不报错。",
    of=("largest |difference| from each sentence alone", "与单句单独计算的最大绝对差"),
    measure=square_batch,
    bound=at_least(0.01),
    control=broken("reshaped to [batch 1 1 key]", "变形为 [batch 1 1 key]", shape=over_keys),
)

# %% [markdown]
# ## 2. What does not hide a key
#
# A score of 0 is not a weight of 0. Let Z be the sum of exp(score) over the n real keys. A key
# with score 0 adds e⁰ = 1, so P of them take exactly P / (P + Z) of the attention, whether the
# score was multiplied by 0 or the key is a zero vector. (Projected without a bias, a zero vector
# stays one; with a bias its key is the bias, and its share another.)


# %%
def times_zero(scores, keep):
    """A softmax over all keys that multiplies the hidden scores by 0."""
    return masked_softmax(scores * keep)


@torch.no_grad()
def share_of_zero_scores(seed, masked=False):
    """|attention on padding − P / (P + Z)|: for zero vectors, then for scores times 0."""
    attention, x, lengths = attention_and_batch(seed, bias=False)
    real = real_tokens(lengths, PADDED)
    keep = over_keys(real)
    zeros = x.masked_fill(~real[..., None], 0.0)
    _, of_vectors = attention.attend_with_weights(zeros, keep=keep if masked else None)
    attention.attend = DotProductAttention(softmax=None if masked else times_zero)
    _, of_scores = attention.attend_with_weights(x, keep=keep)
    found = []
    for b, n in enumerate(LENGTHS):
        q, k, _ = attention.project(x[b : b + 1, :n])
        z, pads = dot_product_scores(q, k).exp().sum(-1)[0], PADDED - n
        for weights in (of_vectors, of_scores):
            on_padding = weights[b, :, :n, n:].sum(-1)
            found.append((on_padding - pads / (pads + z)).abs().max())
    return found


prove(
    "zero-is-not-a-mask",
    en="Zero vectors (without biases), or scores times 0, take P / (P + Z) of the attention.",
    zh="零向量（投影不带偏置时），或把分数乘 0，都会让填充拿走 P / (P + Z) 的注意力。",
    of=("|attention on padding − P / (P + Z)|", "|填充上的注意力 − P / (P + Z)|"),
    measure=share_of_zero_scores,
    bound=at_most(1e-12),
    control=broken("masked with −∞", "用 −∞ 做掩码", masked=True),
    settles={"pad-or-truncate-needed": "conditional"},
)


# %%
def mask_afterwards(renormalise):
    """A softmax over all keys whose hidden weights are then set to 0."""

    def weights_of(scores, keep):
        weights = masked_softmax(scores).masked_fill(~keep, 0.0)
        return weights / weights.sum(-1, keepdim=True) if renormalise else weights

    return weights_of


@torch.no_grad()
def masked_afterwards(seed, renormalise=True):
    """Mask after the softmax, against each sentence by itself."""
    attention, x, lengths = attention_and_batch(
        seed, attend=DotProductAttention(softmax=mask_afterwards(renormalise))
    )
    alone = MultiHeadAttention(D_MODEL, HEADS).double()
    alone.load_state_dict(attention.state_dict())
    batch = attention(x, keep=padding_mask(lengths, PADDED))
    return worst(batch, lambda b, n: alone(x[b : b + 1, :n]))


prove(
    "renormalising-equals-masking-first",
    en="For moderate scores, masking after the softmax and renormalising equals masking before.",
    zh="分数不极端时，softmax 之后再屏蔽并重新归一化，与之前屏蔽结果相同。",
    of=("largest |difference| from each sentence alone", "与单句单独计算的最大绝对差"),
    measure=masked_afterwards,
    bound=at_most(1e-12),
    control=broken("not renormalised", "不重新归一化", renormalise=False),
)

# %% [markdown]
# In float32 the smallest positive number is 1.4e-45 = e⁻¹⁰³. Scores within ± 4 of 0, and 128 more
# for the padded keys, put these at least 120 above the real ones, which are left with e⁻¹²⁰ at
# most: zero, and nothing to renormalise.


# %%
def left_for_real_keys(seed, mask_first=False):
    """Total weight of the real keys in float32 when padded keys score at least 120 more."""
    scores = gaussian((16, PADDED), seed).clamp(-4, 4).float()
    keep = torch.arange(PADDED) < 7
    scores[:, ~keep] += 128
    weights = masked_softmax(scores, keep[None] if mask_first else None)
    return weights[:, keep].sum(-1)


prove(
    "renormalising-fails-when-padding-dominates",
    en="If padding scores 120 above the rest, float32 has nothing left to renormalise.",
    zh="若填充的分数高出 120，float32 下真实键的权重全部下溢，再归一化就是 0/0。",
    of=("weight left for the real keys", "真实键剩下的总权重"),
    measure=left_for_real_keys,
    bound=exactly(0.0),
    control=broken("masked before the softmax", "在 softmax 之前屏蔽", mask_first=True),
)

# %% [markdown]
# ## 3. A large negative number instead of −∞


# %%
def beside_infinity(seed, constant=-1e9):
    """Largest |difference| in float32 from the weights with −∞; filled in, then added."""
    scores, keep = gaussian((64, PADDED), seed).float(), torch.arange(PADDED)[None] < 7
    return [
        (softmax(scores, keep) - masked_softmax(scores, keep)).abs().max()
        for softmax in (filled(constant), added(constant))
    ]


prove(
    "minus-1e9-equals-minus-infinity-for-moderate-scores",
    en="In float32, with a live key and moderate scores, −10⁹ gives the same weights as −∞.",
    zh="float32 下，只要该行还有可见的键且分数不极端，−10⁹ 与 −∞ 给出的权重相同。",
    of=("largest |difference| of the weights", "权重的最大绝对差"),
    measure=beside_infinity,
    bound=at_most(1e-6),  # float32: a weight of at most 1, rounded by a few units
    control=broken("−10 instead", "改用 −10", constant=-10.0),
    settles={"large-negative-equals-neg-inf": "conditional"},
)


# %% [markdown]
# A constant c is a point on the scale of the scores, and the softmax knows only differences. Added,
# it loses to a padded key that scores 2c more; filled in, it loses to real keys that score 2c less.


# %%
def outweighed(seed, hide=None):
    """Weight of one padded key, hidden with −c where the scores are 2c apart; c = 10⁴ and 10⁹."""
    drawn, keep = gaussian((16, PADDED), seed), torch.arange(PADDED)[None] < PADDED - 1
    found = []
    for dtype in (torch.float64, torch.float32):
        scores = drawn.to(dtype)
        for c in (1e4, 1e9):
            found.append((hide or added(-c))(scores + 2 * c * ~keep, keep)[:, -1])
            found.append((hide or filled(-c))(scores - 2 * c * keep, keep)[:, -1])
    return found


prove(
    "any-finite-constant-can-lose",
    en="Any finite constant can lose: where scores differ by twice its size, padding takes over.",
    zh="任何有限的常数都可能失效：分数相差到它的两倍时，填充拿走全部权重。",
    of=(
        "weight of the padded key, 10⁴ and 10⁹, float64 and float32",
        "填充键的权重（常数取 10⁴ 和 10⁹，float64 与 float32）",
    ),
    measure=outweighed,
    bound=at_least(0.99),
    control=broken("−∞ instead", "改用 −∞", hide=masked_softmax),
    settles={"large-negative-equals-neg-inf": "conditional"},
)


# %%
def share_of_nan(seed, dtype=torch.float16):
    """Share of NaN weights where all keys are hidden by adding −10⁹."""
    scores = gaussian((16, PADDED), seed).to(dtype)
    hidden = torch.tensor(-1e9).to(dtype)
    return masked_softmax(scores + hidden).isnan().double().mean()


prove(
    "minus-1e9-is-minus-infinity-in-float16",
    en="In float16 −10⁹ is −∞: add it to a whole row, and every weight is NaN.",
    zh="float16 下 −10⁹ 就是 −∞：整行都加上它，权重就全是 NaN。",
    of=("share of NaN weights in fully hidden rows", "整行被屏蔽时权重为 NaN 的比例"),
    measure=share_of_nan,
    bound=exactly(1.0),
    control=broken("in float32", "改用 float32", dtype=torch.float32),
    settles={"large-negative-equals-neg-inf": "conditional"},
)


# %% [markdown]
# With every key hidden, a constant that is filled in wipes out the scores. One that is added
# cancels, as a shift of all scores does, and leaves the weights of no mask at all. −10⁴ rounds a
# float64 score by less than 1e-12, hence the bound 1e-10.


# %%
def evenness(seed, visible=0):
    """|n · weight − 1| over a row with `visible` keys, the rest filled with −10⁹."""
    scores, keep = gaussian((16, PADDED), seed), torch.arange(PADDED)[None] < visible
    return (filled(-1e9)(scores, keep) * PADDED - 1).abs().amax(-1)


prove(
    "fully-hidden-row-turns-uniform",
    en="A row that is filled with −10⁹ throughout has uniform weights, all of them on hidden keys.",
    zh="整行都换成 −10⁹，权重就变成均匀分布，而且全部落在被屏蔽的键上。",
    of=("|n · weight − 1|", "|n · 权重 − 1|"),
    measure=evenness,
    bound=at_most(1e-12),
    control=broken("one key visible", "留一个可见的键", visible=1),
    settles={"large-negative-equals-neg-inf": "conditional"},
)


# %%
def beside_no_mask(seed, visible=0):
    """Largest |difference| from the weights without a mask: −10⁴ on all but `visible` keys."""
    scores, keep = gaussian((16, PADDED), seed), torch.arange(PADDED)[None] < visible
    return (added(-1e4)(scores, keep) - masked_softmax(scores)).abs().amax(-1)


prove(
    "added-constant-cancels-in-a-fully-hidden-row",
    en="Added to every score of a row, −10⁴ cancels: the weights are those of no mask at all.",
    zh="整行的分数都加上 −10⁴，就等于没加：权重与完全不加掩码时一样。",
    of=("largest |difference| from the weights without a mask", "与不加掩码时权重的最大绝对差"),
    measure=beside_no_mask,
    bound=at_most(1e-10),
    control=broken("one key visible", "留一个可见的键", visible=1),
    settles={"large-negative-equals-neg-inf": "conditional"},
)


# %%
def refusals(seed, visible=0):
    """1 for each path that refuses one query with `visible` keys, 0 for each that answers."""
    q = gaussian((2, HEADS, 3, 13), seed)
    k, v = gaussian((2, 2, HEADS, 5, 13), seed)
    keep = torch.ones(2, 1, 3, 5, dtype=torch.bool)
    keep[1, :, 1, visible:] = False  # of the second sentence alone
    paths = fused_attention, scaled_dot_product_attention
    return [refused(partial(attend, q, k, v, keep)) for attend in paths]


prove(
    "blind-query-is-refused",
    en="A query that may see no key is an error in this lab, on both paths, not NaN or zeros.",
    zh="在实验室里，看不到任何键的查询会直接报错，两条路径都是，而不是返回 NaN 或零。",
    of=("1 = refused, 0 = answered", "1 = 报错，0 = 照常返回"),
    measure=refusals,
    bound=exactly(1.0),
    control=broken("one key visible", "留一个可见的键", visible=1),
)

# %% [markdown]
# A weight of 0 silences every finite number. It does not silence NaN: 0 · NaN is NaN.


# %%
@torch.no_grad()
def poisoned(seed, content=torch.nan):
    """Share of NaN among the real tokens' outputs when padded positions hold `content`."""
    attention, x, lengths = attention_and_batch(seed)
    real = real_tokens(lengths, PADDED)
    x = x.masked_fill(~real[..., None], content)
    return [y[real].isnan().double().mean() for y in both_paths(attention, x, over_keys(real))]


prove(
    "weight-zero-does-not-silence-nan",
    en="NaN in the padded positions makes every real output NaN, with the mask in place.",
    zh="填充位置里若有 NaN，即使加了掩码，真实 token 的输出也全是 NaN。",
    of=("share of NaN among the real outputs", "真实 token 的输出中 NaN 的比例"),
    measure=poisoned,
    bound=exactly(1.0),
    control=broken("10⁹ instead of NaN", "把 NaN 换成 10⁹", content=1e9),
)

# %% [markdown]
# ## 4. Whole models: where the mask is needed
#
# Two or three layers, both paths. `without_mask` takes the mask away from one attention of one
# layer and leaves the rest alone; the control does so layer by layer, and every single one must
# leak.

# %%
VOCAB = 17
PATHS = {"fused": DotProductAttention(), "weights": scaled_dot_product_attention}


def sentences(seed):
    """Ids [batch length]: random tokens, then the padding id 0."""
    rng, ids = torch.Generator().manual_seed(seed), torch.zeros(len(LENGTHS), PADDED, dtype=int)
    for b, n in enumerate(LENGTHS):
        ids[b, :n] = torch.randint(1, VOCAB, (n,), generator=rng)
    return ids


def build(model, path="fused", layers=3, **changes):
    """A fresh float64 model: its vocabulary (and classes), then d_model, heads, d_ff, layers."""
    sizes = (VOCAB, 19) if model is EncoderOnly else (VOCAB,)
    attention = partial(MultiHeadAttention, attend=PATHS[path])
    model = model(*sizes, D_MODEL, HEADS, 37, layers, attention=attention, **changes)
    return model.double().eval()


def without_mask(attention):
    """Take the mask away from this one attention, until the handle is removed."""
    return attention.register_forward_pre_hook(
        lambda _, args, named: (args[:2], {**named, "keep": None}), with_kwargs=True
    )


def leaks(attentions, broken_layers, difference):
    """The difference as it is, or with the mask taken from one of the attentions at a time."""
    if not broken_layers:
        return [difference()]
    found = []
    for attention in attentions:
        handle = without_mask(attention)
        found.append(difference())
        handle.remove()
    return found


# %%
@torch.no_grad()
def self_attention_leaks(seed, broken_layers=False):
    """An encoder, and a decoder that looks both ways: padded against each sentence by itself."""
    ids = sentences(seed)
    keep = real_tokens_from_ids(ids, 0)
    source, found = torch.randint(1, VOCAB, (1, 5)), []
    for path in PATHS:
        encoder = build(EncoderOnly, path)
        decoder = build(Transformer, path, look=full_mask)
        found += leaks(
            [block.attention for block in encoder.encoder.blocks],
            broken_layers,
            lambda m=encoder: worst(m(ids, keep), lambda b, n: m(ids[b : b + 1, :n])),
        )
        found += leaks(
            [block.self_attention for block in decoder.decoder.blocks],
            broken_layers,
            lambda m=decoder: worst(
                m(source.expand(3, -1), ids, None, keep),
                lambda b, n: m(source, ids[b : b + 1, :n]),
            ),
        )
    return found


prove(
    "every-layer-needs-the-mask",
    en="In a stack that looks both ways, padding is without effect only if every layer masks it.",
    zh="在双向可见的多层模型里，每一层都加掩码，填充才毫无影响；漏掉一层就不行。",
    of=(
        "largest |difference| of the logits from each sentence alone",
        "与单句单独计算的 logit 最大绝对差",
    ),
    measure=self_attention_leaks,
    bound=at_most(1e-10),
    control=broken(
        "one of three layers without the mask", "三层中有一层不加掩码", broken_layers=True
    ),
    settles={
        "pad-mask-makes-encoder-ignore-padding": "holds",
        "pad-mask-locations": "conditional",
    },
)


# %%
@torch.no_grad()
def cross_attention_leaks(seed, broken_layers=False):
    """The encoder-decoder, both sides padded, against each pair by itself."""
    ids, target = sentences(seed), sentences(seed + 1_000_000).flip(0)
    lengths = torch.tensor(LENGTHS)
    keep, target_real = real_tokens(lengths, PADDED), real_tokens(lengths.flip(0), PADDED)
    pairs = list(enumerate(zip(LENGTHS, LENGTHS[::-1], strict=True)))

    def difference(model):
        whole = model(ids, target, keep, target_real)
        return max(
            (whole[b, :m] - model(ids[b : b + 1, :n], target[b : b + 1, :m])[0]).abs().max().item()
            for b, (n, m) in pairs
        )

    found = []
    for path in PATHS:
        model = build(Transformer, path, layers=2)
        cross = [block.cross_attention for block in model.decoder.blocks]
        found += leaks(cross, broken_layers, partial(difference, model))
    return found


prove(
    "cross-attention-needs-the-source-mask",
    en="Cross-attention needs the source's padding mask too: the encoder's is not enough.",
    zh="交叉注意力也需要源端的填充掩码，只在编码器里加是不够的。",
    of=(
        "largest |difference| of the logits from each pair alone",
        "与每对句子单独计算的 logit 最大绝对差",
    ),
    measure=cross_attention_leaks,
    bound=at_most(1e-10),
    control=broken(
        "cross-attention of one layer without it", "有一层的交叉注意力不加掩码", broken_layers=True
    ),
    settles={"pad-mask-locations": "conditional"},
)


# %%
@torch.no_grad()
def right_padding(seed, look=None, masked=False):
    """Models padded on the right, causal unless `look` is given, against each sentence alone."""
    ids = sentences(seed)
    keep = real_tokens_from_ids(ids, 0) if masked else None
    source, found = torch.randint(1, VOCAB, (1, 5)), []
    changes = {"look": look} if look else {}
    for path in PATHS:
        decoder = build(DecoderOnly, path, **changes)
        found.append(worst(decoder(ids, keep), lambda b, n, m=decoder: m(ids[b : b + 1, :n])))
        model = build(Transformer, path, layers=2, **changes)
        whole = model(source.expand(3, -1), ids, None, keep)
        found.append(worst(whole, lambda b, n, m=model: m(source, ids[b : b + 1, :n])))
    return found


prove(
    "causal-mask-already-hides-right-padding",
    en="Padding on the right needs no padding mask in causal self-attention: it is the future.",
    zh="填充在右边时，因果自注意力不需要填充掩码：填充本来就是“未来”。",
    of=(
        "largest |difference| of the logits from each sentence alone",
        "与单句单独计算的 logit 最大绝对差",
    ),
    measure=right_padding,
    bound=at_most(1e-10),
    control=broken("look both ways", "双向可见", look=full_mask),
    settles={"pad-mask-locations": "conditional"},
)

# %% [markdown]
# Padding on the left lies in the past, so the causal mask shows it. The mask must hide it from the
# real tokens; a padded position, which would then see nothing, is left itself to look at. Positions
# are counted from the first real token in both runs.

# %%
LEFT = 4


def hide_left(length, device=None):
    """Causal, without the first LEFT keys; each position keeps itself, so that none is blind."""
    real = torch.arange(length) >= LEFT
    return causal_mask(length) & real | torch.eye(length, dtype=torch.bool)


def from_first_real(x):
    """Sinusoidal positions that count from the first real token."""
    return torch.cat([x[:, :LEFT], add_sinusoidal_positions(x[:, LEFT:])], dim=1)


@torch.no_grad()
def left_padding(seed, look=hide_left, positions=from_first_real):
    """A causal model with padding on the left, against the same weights without padding."""
    ids, found = torch.randint(1, VOCAB, (3, 7)), []
    for path in PATHS:
        padded = build(DecoderOnly, path, look=look, positions=positions)
        alone = build(DecoderOnly, path)
        alone.load_state_dict(padded.state_dict())
        found.append((padded(F.pad(ids, (LEFT, 0)))[:, LEFT:] - alone(ids)).abs().max())
    return found


prove(
    "left-padding-needs-a-mask",
    en="Padding on the left needs a padding mask even in a causal model: it is the past.",
    zh="填充在左边时，因果模型也需要填充掩码：填充成了“过去”。",
    of=("largest |difference| of the logits from no padding", "与不填充时的 logit 最大绝对差"),
    measure=left_padding,
    bound=at_most(1e-10),
    control=broken("the causal mask alone", "只有因果掩码", look=causal_mask),
    settles={"pad-mask-locations": "conditional"},
)

# %%
prove(
    "left-padding-shifts-positions",
    en="With padding on the left, absolute positions must count from the first real token.",
    zh="填充在左边时，绝对位置必须从第一个真实 token 数起。",
    of=("largest |difference| of the logits from no padding", "与不填充时的 logit 最大绝对差"),
    measure=left_padding,
    bound=at_most(1e-10),
    control=broken(
        "counted from the first padded position",
        "从第一个填充位置数起",
        positions=add_sinusoidal_positions,
    ),
)


# %% [markdown]
# ## 5. What the mask does not do
#
# It hides columns (keys), not rows (queries). Whatever the padded rows may look at (themselves, all
# the padding, everything), nothing that anybody reads changes, as long as no real row sees them.


# %%
@torch.no_grad()
def hidden_rows(seed, hide_columns=True):
    """Three layers, for each thing padded rows may look at, against the sentence by itself."""
    real = torch.arange(PADDED) < LENGTHS[0]
    columns = real if hide_columns else torch.ones_like(real)
    x, found = gaussian((3, PADDED, D_MODEL), seed), []
    for attend in PATHS.values():
        encoder = partial(
            Encoder,
            D_MODEL,
            HEADS,
            37,
            3,
            attention=partial(MultiHeadAttention, attend=attend),
        )
        alone = encoder().double()
        for rows in (torch.eye(PADDED, dtype=torch.bool), ~real, torch.ones_like(real)):
            look = torch.where(real[:, None], columns, rows)
            padded = encoder(look=lambda *_, look=look: look).double()
            padded.load_state_dict(alone.state_dict())
            difference = padded(x)[:, : LENGTHS[0]] - alone(x[:, : LENGTHS[0]])
            found.append(difference.abs().max())
    return found


prove(
    "hide-columns-not-rows",
    en="What padded rows may look at does not matter; what matters is hiding the padded columns.",
    zh="填充所在的行能看哪里无关紧要，要紧的是屏蔽填充所在的列。",
    of=("largest |difference| at the real tokens", "真实 token 处的最大绝对差"),
    measure=hidden_rows,
    bound=at_most(1e-10),
    control=broken("columns not hidden", "不屏蔽列", hide_columns=False),
)


# %%
def all_positions(x, keep=None):
    """The mean over every position, padding included."""
    return mean_over_tokens(x)


@torch.no_grad()
def pooled(seed, pool=mean_over_tokens):
    """Sentence classes from a masked encoder and `pool`, against each sentence by itself."""
    ids, found = sentences(seed), []
    for path in PATHS:
        model = build(EncoderOnly, path, pool=pool)
        batch = model(ids, real_tokens_from_ids(ids, 0))
        found += [
            (batch[b] - model(ids[b : b + 1, :n])[0]).abs().max().item()
            for b, n in enumerate(LENGTHS)
        ]
    return found


prove(
    "pooling-must-leave-padding-out",
    en="Pooling must leave padding out too: only a mean over the real tokens is free of it.",
    zh="池化也要排除填充：编码器的掩码再正确，也只能对真实 token 的输出取平均。",
    of=(
        "largest |difference| of the logits from the sentence alone",
        "与单句单独计算的 logit 最大绝对差",
    ),
    measure=pooled,
    bound=at_most(1e-10),
    control=broken("a mean over all positions", "对所有位置取平均", pool=all_positions),
)

# %% [markdown]
# The loss, against a floor that needs no network. Tokens are uniform over V symbols: nobody can
# predict one with less than ln V nats. Take a guesser that knows nothing except where the padding
# is. Its true loss is ln V; counting the padding scales that by the share of real tokens, 13 / 33,
# and puts it 20 / 33 below the floor.


# %%
def guesser_loss(seed, count_padding=False):
    """How far the guesser's loss lies below the floor ln V, as a share of the floor."""
    targets = sentences(seed)
    keep = real_tokens(torch.tensor(LENGTHS), PADDED)
    logits = torch.zeros(*targets.shape, VOCAB, dtype=torch.float64)
    logits[..., 0] = -torch.inf  # at real positions every symbol is as likely as the others
    logits[targets == 0] = torch.where(torch.arange(VOCAB) == 0, 0.0, -torch.inf).double()
    loss = cross_entropy(logits, targets, None if count_padding else keep)
    return 1 - loss / tasks.entropy_floor(VOCAB - 1)


prove(
    "loss-must-leave-padding-out",
    en="Knowing only where the padding is, the loss is ln V; with padding counted, far below it.",
    zh="只知道填充在哪里，损失就等于 ln V；若把填充也算进去，就会远低于它。",
    of=("1 − loss / ln V", "1 − 损失 / ln V"),
    measure=guesser_loss,
    bound=within(-1e-12, 1e-12),
    control=broken("padding counted", "把填充也算进去", count_padding=True),
)

# %% [markdown]
# ## 6. What it costs
#
# Multiply-adds, counted as the matrices are multiplied (on the weights path, where every product is
# visible). A batch of five sentences of 7 tokens, padded to 28: three quarters are padding.

# %%
SENTENCES, REAL, LONG = 5, 7, 28


def flops(ids, keep=None, **changes):
    """Floating-point operations of one forward pass of an encoder of two layers."""
    model = build(EncoderOnly, "weights", layers=2, **changes)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(ids, keep)
    return counter.get_total_flops()


def masked_cost(seed, length=LONG):
    """FLOPs of REAL tokens a sentence, padded and masked to `length`, over those of LONG real."""
    full = torch.randint(1, VOCAB, (SENTENCES, LONG))
    keep = torch.arange(length).expand(SENTENCES, -1) < REAL
    return flops(full[:, :length] * keep, keep) / flops(full)


prove(
    "masking-saves-no-compute",
    en="With three quarters of a batch masked, every multiplication is still done, then hidden.",
    zh="批次里四分之三都是填充、都被屏蔽，也没省下一次乘法：全都算了，再盖掉。",
    of=("FLOPs, masked / all tokens real", "FLOPs：加掩码 / 全是真实 token"),
    measure=masked_cost,
    bound=exactly(1.0),
    control=broken("padding cut off", "把填充裁掉", length=REAL),
    settles={"pad-positions-not-computed": "refuted"},
)

# %% [markdown]
# Packing puts the sentences end to end in one row. Each token may look within its own sentence
# (a block-diagonal mask), and positions start again with each sentence.


# %%
def same_sentence(lengths):
    """The block-diagonal mask of sentences laid end to end."""
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    return lambda length, device=None: owner[:, None] == owner


def restarting(lengths):
    """Sinusoidal positions that begin again with every sentence."""
    return lambda x: torch.cat([add_sinusoidal_positions(s) for s in x.split(lengths, 1)], 1)


@torch.no_grad()
def packed(seed, look=None):
    """Three sentences in one row without padding, against each by itself."""
    ids = sentences(seed)
    row, found = torch.cat([ids[b, :n] for b, n in enumerate(LENGTHS)])[None], []
    for path in PATHS:
        model = build(
            EncoderOnly, path, look=look or same_sentence(LENGTHS), positions=restarting(LENGTHS)
        )
        alone = build(EncoderOnly, path)
        alone.load_state_dict(model.state_dict())
        for b, piece in enumerate(model(row)[0].split(LENGTHS)):
            found.append((piece - alone(ids[b : b + 1, : LENGTHS[b]])[0]).abs().max())
    return found


prove(
    "packed-sentences-need-no-padding",
    en="Sentences laid end to end under a block-diagonal mask need neither padding nor truncation.",
    zh="把句子首尾相接、配上分块对角掩码，既不用填充也不用截断。",
    of=(
        "largest |difference| of the logits from each sentence alone",
        "与单句单独计算的 logit 最大绝对差",
    ),
    measure=packed,
    bound=at_most(1e-10),
    control=broken("everybody may look everywhere", "不分句，处处可见", look=full_mask),
    settles={"pad-or-truncate-needed": "conditional"},
)

# %% [markdown]
# ## 7. Why nobody notices
#
# Name the most frequent of 8 symbols in a sentence of 3 to 8, padded to 8; the answer is read off
# the first position, so that attention is the only way to see the rest. One layer, one head, Adam,
# 200 steps. Then the same held-out sentences with more padding.
#
# The ceiling, without a network: as padding without a mask grows, the attention output tends to the
# same vector for every sentence, and the first token is all that is left. The best guess from the
# first token alone is right with a probability that counting answers gives. The bound allows 0.1
# above it: 3.6 standard errors of an accuracy over 300 sentences. "Looks fine" is 0.85 or more.

# %%
SYMBOLS = 8
most_frequent = partial(tasks.most_frequent_token, n_symbols=SYMBOLS, lengths=range(3, 9))
EXTRA = (0, 2, 8, 32, 128, 512)


def first_token(x, keep=None):
    """Read the answer off the first position."""
    return x[:, 0]


def first_token_ceiling(lists=100_000):
    """Accuracy of the best guess from the first token alone, by counting."""
    drawn = most_frequent(torch.Generator().manual_seed(0), batch=lists)
    n_ids = tasks.vocab_size(SYMBOLS)
    counts = torch.bincount(drawn.ids[:, 0] * n_ids + drawn.label, minlength=n_ids**2)
    return counts.view(n_ids, n_ids).amax(1).sum().item() / lists


CEILING = first_token_ceiling()


@cache
def accuracies(seed, masked):
    """Train with or without the mask; held-out accuracy for each amount of extra padding."""
    torch.manual_seed(seed)
    n_ids = tasks.vocab_size(SYMBOLS)
    model = EncoderOnly(n_ids, n_ids, 32, 1, 64, 1, pool=first_token)

    def logits(model, ids):
        return model(ids, real_tokens_from_ids(ids, tasks.PAD) if masked else None)

    fit(
        model,
        lambda model, batch: F.cross_entropy(logits(model, batch.ids), batch.label),
        partial(most_frequent, batch=64),
        steps=200,
        lr=5e-3,
        seed=seed,
    )
    held_out = most_frequent(torch.Generator().manual_seed(seed + 1_000_000), batch=300)
    with torch.no_grad():
        right = [
            logits(model, F.pad(held_out.ids, (0, extra), value=tasks.PAD)).argmax(-1)
            == held_out.label
            for extra in EXTRA
        ]
    return {extra: r.float().mean().item() for extra, r in zip(EXTRA, right, strict=True)}


# %%
prove(
    "unmasked-model-looks-fine-at-first",
    en="Trained without a mask, the model looks fine as long as padding stays as in training.",
    zh="不加掩码训练出的模型，只要填充量与训练时一样，看起来一切正常。",
    of=("held-out accuracy without a mask", "不加掩码的留出集准确率"),
    measure=lambda seed, extra=0: accuracies(seed, False)[extra],
    bound=at_least(0.85),
    control=broken("512 more pads", "再多 512 个填充", extra=512),
    tolerance=0.25,
)

# %%
prove(
    "unmasked-model-collapses-with-more-padding",
    en="With 512 more pads it knows no more than the first token tells: the rest is drowned.",
    zh="再多 512 个填充，它知道的就不超过第一个 token 透露的：其余全被淹没。",
    of=(
        "accuracy − the best possible from the first token",
        "准确率 − 只看第一个 token 的最优准确率",
    ),
    measure=lambda seed, masked=False: accuracies(seed, masked)[512] - CEILING,
    bound=at_most(0.1),
    control=broken("trained and run with the mask", "训练和推理都加掩码", masked=True),
    tolerance=0.5,
)

# %% [markdown]
# ## 8. Figures

# %%
TOKENS = ("the", "cat", "sat", "down", "pad", "pad", "pad")


@torch.no_grad()
def draw_weights(left, right):
    torch.manual_seed(0)
    attention = MultiHeadAttention(D_MODEL, 1).double()
    x = gaussian((1, 7, D_MODEL), 3)
    keep = padding_mask(torch.tensor([4]), 7)
    for ax, mask, title in ((left, None, "no mask"), (right, keep, "padding mask")):
        _, weights = attention.attend_with_weights(2 * x, keep=mask)
        matrix(ax, weights[0, 0], rows=TOKENS, columns=TOKENS, high=0.6)
        ax.set_title(title)
        ax.set_xlabel("key (token)")
        ax.set_ylabel("query (token)")


figure("weights-with-and-without-mask", draw_weights, panels=2, size=(8.6, 3.8))


# %%
PLACES = {
    "two-way self-attention": (self_attention_leaks, lambda s: self_attention_leaks(s, True)),
    "cross-attention": (cross_attention_leaks, lambda s: cross_attention_leaks(s, True)),
    "causal decoder, padded right": (lambda s: right_padding(s, masked=True), right_padding),
    "causal decoder, padded left": (left_padding, lambda s: left_padding(s, causal_mask)),
    "mean pooling": (pooled, lambda s: pooled(s, all_positions)),
}


def draw_places(ax):
    found = []
    for place in PLACES.values():
        row = []
        for measure in place:
            runs = []
            for seed in range(3):
                torch.manual_seed(seed)
                runs.append(max(measure(seed)))
            row.append(sorted(runs)[1])
        found.append(row)
    matrix(ax, found, rows=list(PLACES), columns=["mask here", "no mask here"], high=1.5)
    ax.set_xlabel("largest |difference| of a logit from no padding")
    ax.set_ylabel("place (all others masked)")


figure("where-the-mask-is-needed", draw_places, size=(6.4, 3.4))


# %%
def draw_collapse(ax):
    x = [extra + 1 for extra in EXTRA]
    for masked, key, label in (
        (True, "masked", "with the mask"),
        (False, "unmasked", "without a mask"),
    ):
        runs = [list(accuracies(seed, masked).values()) for seed in range(5)]
        spread(ax, x, runs, gid=key, label=label, marker="o")
    guess = {"gid": "guess", "label": "best guess from the first token"}
    ax.axhline(CEILING, color="C2", linestyle="--", **guess)
    ax.set_xscale("log", base=2)
    ax.set_xticks(x, [str(extra) for extra in EXTRA])
    ax.set_xlabel("extra padding (tokens, log scale)")
    ax.set_ylabel("held-out accuracy")
    ax.set_ylim(0, 1.05)
    ax.legend(loc="lower left")


figure("accuracy-against-padding", draw_collapse, tolerance=0.25)


# %%
def draw_cost(ax):
    lengths = [7, 10, 14, 20, 28, 42, 56]
    share = [1 - REAL / length for length in lengths]
    ids = torch.ones(SENTENCES, lengths[-1], dtype=int)
    base = flops(ids[:, :REAL])
    padded = [
        flops(ids[:, :n], torch.arange(n).expand(SENTENCES, -1) < REAL) / base for n in lengths
    ]
    ax.plot(share, padded, marker="o", gid="padded", label="padded and masked")
    ends = [REAL] * SENTENCES
    row = torch.ones(1, REAL * SENTENCES, dtype=int)
    dense = flops(row, look=same_sentence(ends), positions=restarting(ends)) / base
    ax.plot(share, [dense] * len(share), marker="s", gid="packed", label="packed, dense scores")
    ax.plot(share, [1.0] * len(share), "--", gid="cut", label="padding cut off")
    ax.set_xlabel("share of the batch that is padding")
    ax.set_ylabel("FLOPs / FLOPs of the real tokens")
    ax.set_ylim(0, None)
    ax.legend()


figure("flops-against-padding", draw_cost)
