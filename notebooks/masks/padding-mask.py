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
# The proofs behind the page *padding-mask*. Each cell is one claim: a measurement, a bound fixed
# beforehand, and a control, the same measurement with one thing broken, that must miss the bound.
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

from qa_lab.claims import at_least, at_most, broken, exactly, prove
from qa_lab.experiments import tasks
from qa_lab.experiments.figures import figure, matrix, spread
from qa_lab.experiments.fit import fit
from qa_lab.experiments.measure import gaussian
from qa_lab.experiments.refusals import refused
from qa_lab.transformer.attention import (
    MultiHeadAttention,
    dot_product_scores,
    fused_attention,
    scaled_dot_product_attention,
)
from qa_lab.transformer.losses import cross_entropy
from qa_lab.transformer.masks import (
    causal_mask,
    full_mask,
    masked_softmax,
    over_keys,
    padding_mask,
    real_tokens,
    real_tokens_from_ids,
)
from qa_lab.transformer.models import DecoderOnly, EncoderOnly, Transformer, mean_over_tokens
from qa_lab.transformer.positions import add_sinusoidal_positions
from qa_lab.transformer.stacks import Encoder

torch.set_num_threads(1)

# %% [markdown]
# ## 1. The mask that works
#
# Padded positions hold random numbers, not zeros: nothing may rest on what they hold.

# %%
LENGTHS, PADDED, D_MODEL, HEADS = (7, 4, 2), 11, 22, 2


def no_mask(lengths, length):
    """Stands in for `padding_mask`: everybody may look everywhere."""
    return None


def worst(batch, alone):
    """Largest |difference| at the real tokens between the batch and each sentence by itself."""
    return max((batch[b, :n] - alone(b, n)).abs().max().item() for b, n in enumerate(LENGTHS))


def attention_and_batch(seed, **changes):
    """One attention, a batch whose padded positions hold noise, and the lengths."""
    attention = MultiHeadAttention(D_MODEL, HEADS, **changes).double()
    return attention, gaussian((len(LENGTHS), PADDED, D_MODEL), seed), torch.tensor(LENGTHS)


@torch.no_grad()
def against_alone(seed, hide=padding_mask):
    """Both paths of one attention, padded, against each sentence by itself."""
    attention, x, lengths = attention_and_batch(seed)
    keep = hide(lengths, PADDED)
    for batch in (attention(x, keep=keep), attention.attend_with_weights(x, keep=keep)[0]):
        yield worst(batch, lambda b, n: attention(x[b : b + 1, :n]))


prove(
    "padded-batch-equals-each-sentence-alone",
    en="With the mask, every real token gets what it gets without any padding.",
    zh="加了掩码后，每个真实 token 得到的输出与完全不填充时一样。",
    of=(
        "largest |difference|, fused path and weights path",
        "最大绝对差（融合路径与显式权重路径）",
    ),
    measure=lambda seed, hide=padding_mask: list(against_alone(seed, hide)),
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
    return lambda scores, keep: masked_softmax(scores + constant * ~keep)


@torch.no_grad()
def weight_on_padding(seed, softmax=masked_softmax):
    """Largest weight that any query gives to any padded key."""
    attention, x, lengths = attention_and_batch(seed, softmax=softmax)
    keep = padding_mask(lengths, PADDED)
    _, weights = attention.attend_with_weights(x, keep=keep)
    padded = torch.arange(PADDED) >= lengths[:, None]
    return weights.transpose(1, 3)[padded].max()


prove(
    "masked-keys-get-weight-zero",
    en="A padded key whose score is −∞ gets weight exactly 0: not small, zero.",
    zh="分数被置为 −∞ 的填充键，权重恰好为 0：不是很小，而是零。",
    of=("largest weight on a padded key", "填充键得到的最大权重"),
    measure=weight_on_padding,
    bound=exactly(0.0),
    control=broken("−10 instead of −∞", "用 −10 代替 −∞", softmax=filled(-10.0)),
    settles={"pad-mask-neg-inf-gives-zero-weight": "holds"},
)

# %% [markdown]
# The mask has shape [batch 1 1 key] and broadcasts over heads and queries. The trap: pass the
# token mask [batch length] itself when batch = length, and it is read as [query key]. Outputs of a
# fresh attention are of order 0.1, so a wrong mask must show by at least 0.01.


# %%
@torch.no_grad()
def square_batch(seed, shape=lambda tokens: tokens):
    """Seven sentences of 1 to 7 tokens, padded to 7: the token mask is square."""
    attention = MultiHeadAttention(D_MODEL, HEADS).double()
    lengths = 1 + torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    x = gaussian((7, 7, D_MODEL), seed)
    keep = shape(torch.arange(7) < lengths[:, None])
    for batch in (attention(x, keep=keep), attention.attend_with_weights(x, keep=keep)[0]):
        yield max(
            (batch[b, :n] - attention(x[b : b + 1, :n])).abs().max().item()
            for b, n in enumerate(lengths.tolist())
        )


prove(
    "square-token-mask-is-misread",
    en="If batch = length, a [batch length] mask is taken for [query key], and nobody complains.",
    zh="当 batch 与长度相等时，形状为 [batch length] 的掩码会被当成 [query key]，而且不报错。",
    of=("largest |difference| from each sentence alone", "与单句单独计算的最大绝对差"),
    measure=lambda seed, shape=lambda tokens: tokens: list(square_batch(seed, shape)),
    bound=at_least(0.01),
    control=broken("reshaped to [batch 1 1 key]", "变形为 [batch 1 1 key]", shape=over_keys),
)

# %% [markdown]
# ## 2. What does not hide a key
#
# A score of 0 is not a weight of 0. Let Z be the sum of exp(score) over the n real keys. A key
# with score 0 adds e⁰ = 1, so P of them take exactly P / (P + Z) of the attention, whether the
# score became 0 by multiplying it or because the key is a zero vector.


# %%
@torch.no_grad()
def share_of_zero_scores(seed, masked=False):
    """|attention on padding − P / (P + Z)|: for zero vectors, then for scores times 0."""
    attention, x, lengths = attention_and_batch(seed, bias=False)
    keep, real = padding_mask(lengths, PADDED), torch.arange(PADDED) < lengths[:, None]
    _, of_vectors = attention.attend_with_weights(
        x.masked_fill(~real[..., None], 0.0), keep=keep if masked else None
    )
    attention.softmax = masked_softmax if masked else filled(0.0)
    _, of_scores = attention.attend_with_weights(x, keep=keep)
    for b, n in enumerate(LENGTHS):
        q, k, _ = attention.project(x[b : b + 1, :n])
        z, pads = dot_product_scores(q, k).exp().sum(-1)[0], PADDED - n
        for weights in (of_vectors, of_scores):
            on_padding = weights[b, :, :n, n:].sum(-1)
            yield (on_padding - pads / (pads + z)).abs().max().item()


prove(
    "zero-is-not-a-mask",
    en="Unmasked zero vectors, and scores times 0, give the padding P / (P + Z) of the attention.",
    zh="不加掩码的零向量，或把分数乘 0，都会让填充分走 P / (P + Z) 的注意力。",
    of=("|attention on padding − P / (P + Z)|", "|填充上的注意力 − P / (P + Z)|"),
    measure=lambda seed, masked=False: list(share_of_zero_scores(seed, masked)),
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
    attention, x, lengths = attention_and_batch(seed, softmax=mask_afterwards(renormalise))
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
# In float32 the smallest positive number is 1.4e-45 = e⁻¹⁰³. A pad 120 above the real scores (which
# are within ± 4 of 0) leaves the real keys e⁻¹¹² at most: zero, with nothing left to renormalise.


# %%
def left_for_real_keys(seed, mask_first=False):
    """Total weight of the real keys in float32 when padded keys score 120 more."""
    scores = gaussian((16, PADDED), seed).clamp(-4, 4).float()
    keep = torch.arange(PADDED) < 7
    scores[:, ~keep] += 120
    weights = masked_softmax(scores, keep[None] if mask_first else None)
    return weights[:, keep].sum(-1).tolist()


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
    for softmax in (filled(constant), added(constant)):
        yield (softmax(scores, keep) - masked_softmax(scores, keep)).abs().max().item()


prove(
    "minus-1e9-equals-minus-infinity-for-moderate-scores",
    en="In float32, with a live key and moderate scores, −10⁹ gives the very same bits as −∞.",
    zh="float32 下，只要该行还有可见的键且分数不极端，−10⁹ 与 −∞ 的结果逐位相同。",
    of=("largest |difference| of the weights", "权重的最大绝对差"),
    measure=lambda seed, constant=-1e9: list(beside_infinity(seed, constant)),
    bound=exactly(0.0),
    control=broken("−10 instead", "改用 −10", constant=-10.0),
    settles={"large-negative-equals-neg-inf": "conditional"},
)


# %% [markdown]
# A constant c is a point on the scale of the scores, and the softmax knows only differences. Added,
# it loses to a padded key that scores 2c more; filled in, it loses to real keys that score 2c less.


# %%
def outweighed(seed, hide=None):
    """Weight of one padded key, hidden with −c where the scores are 2c apart; c = 10⁴ and 10⁹."""
    scores, keep = gaussian((16, PADDED), seed), torch.arange(PADDED)[None] < PADDED - 1
    for c in (1e4, 1e9):
        yield (hide or added(-c))(scores + 2 * c * ~keep, keep)[:, -1].tolist()
        yield (hide or filled(-c))(scores - 2 * c * keep, keep)[:, -1].tolist()


prove(
    "any-finite-constant-can-lose",
    en="Any finite constant can lose: where scores differ by twice its size, padding takes over.",
    zh="任何有限的常数都可能失效：分数相差到它的两倍时，填充拿走全部权重。",
    of=("weight of the padded key, 10⁴ and 10⁹", "填充键的权重（常数取 10⁴ 和 10⁹）"),
    measure=lambda seed, hide=None: list(outweighed(seed, hide)),
    bound=at_least(0.99),
    control=broken("−∞ instead", "改用 −∞", hide=masked_softmax),
    settles={"large-negative-equals-neg-inf": "conditional"},
)


# %%
def not_numbers(seed, dtype=torch.float16):
    """Share of NaN weights where all keys are hidden by adding −10⁹."""
    scores = gaussian((16, PADDED), seed).to(dtype)
    hidden = torch.tensor(-1e9).to(dtype)
    return masked_softmax(scores + hidden).isnan().double().mean()


prove(
    "minus-1e9-is-minus-infinity-in-float16",
    en="In float16 −10⁹ is −∞, so a row with every key hidden is all NaN.",
    zh="float16 下 −10⁹ 就是 −∞，因此整行都被屏蔽时结果全是 NaN。",
    of=("share of NaN weights in fully hidden rows", "整行被屏蔽时权重为 NaN 的比例"),
    measure=not_numbers,
    bound=exactly(1.0),
    control=broken("in float32", "改用 float32", dtype=torch.float32),
    settles={"large-negative-equals-neg-inf": "conditional"},
)


# %%
def evenness(seed, visible=0):
    """|n · weight − 1| over a row with `visible` keys, the rest filled with −10⁹."""
    scores, keep = gaussian((16, PADDED), seed), torch.arange(PADDED)[None] < visible
    return (filled(-1e9)(scores, keep) * PADDED - 1).abs().amax(-1).tolist()


prove(
    "fully-hidden-row-turns-uniform",
    en="With −10⁹ and every key hidden, the weights are uniform: all of them on padding.",
    zh="用 −10⁹ 且整行都被屏蔽时，权重变成均匀分布：全部落在填充上。",
    of=("|n · weight − 1|", "|n · 权重 − 1|"),
    measure=evenness,
    bound=at_most(1e-12),
    control=broken("one key visible", "留一个可见的键", visible=1),
    settles={"large-negative-equals-neg-inf": "conditional"},
)


# %%
def refusals(seed, visible=0):
    """1 for each path that refuses a query with `visible` keys, 0 for each that answers."""
    q, k, v = (gaussian((1, HEADS, 5, 11), seed + i) for i in range(3))
    keep = torch.ones(1, 1, 5, 5, dtype=torch.bool)
    keep[..., 3, visible:] = False
    for attend in (fused_attention, scaled_dot_product_attention):
        yield refused(partial(attend, q, k, v, keep))


prove(
    "blind-query-is-refused",
    en="A query that may see no key is an error in this lab, on both paths, not NaN or zeros.",
    zh="本实验库中，看不到任何键的查询会直接报错，两条路径都是，而不是返回 NaN 或零。",
    of=("1 = refused, 0 = answered", "1 = 报错，0 = 照常返回"),
    measure=lambda seed, visible=0: list(refusals(seed, visible)),
    bound=exactly(1.0),
    control=broken("one key visible", "留一个可见的键", visible=1),
)

# %% [markdown]
# ## 4. Whole models: where the mask is needed
#
# Two or three layers, both paths. `without_mask` takes the mask away from one attention of one
# layer and leaves the rest alone. A leak of any size misses the bound of 1e-10.

# %%
VOCAB = 17
PATHS = {"fused": masked_softmax, "weights": lambda scores, keep: masked_softmax(scores, keep)}


def sentences(seed):
    """Ids [batch length]: random tokens, then the padding id 0."""
    rng, ids = torch.Generator().manual_seed(seed), torch.zeros(len(LENGTHS), PADDED, dtype=int)
    for b, n in enumerate(LENGTHS):
        ids[b, :n] = torch.randint(1, VOCAB, (n,), generator=rng)
    return ids


def build(model, path="fused", layers=3, **changes):
    """A fresh float64 model: its vocabulary (and classes), then d_model, heads, d_ff, layers."""
    sizes = (VOCAB, 13) if model is EncoderOnly else (VOCAB,)
    attention = partial(MultiHeadAttention, softmax=PATHS[path])
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
    source = torch.randint(1, VOCAB, (1, 5))
    for path in PATHS:
        encoder = build(EncoderOnly, path)
        decoder = build(Transformer, path, look=full_mask)
        yield from leaks(
            [block.attention for block in encoder.encoder.blocks],
            broken_layers,
            lambda m=encoder: worst(m(ids, keep), lambda b, n: m(ids[b : b + 1, :n])),
        )
        yield from leaks(
            [block.self_attention for block in decoder.decoder.blocks],
            broken_layers,
            lambda m=decoder: worst(
                m(source.expand(3, -1), ids, None, keep),
                lambda b, n: m(source, ids[b : b + 1, :n]),
            ),
        )


prove(
    "every-layer-needs-the-mask",
    en="In a stack that looks both ways, one layer without the mask lets the padding through.",
    zh="在双向可见的多层模型里，只要有一层漏了掩码，真实 token 的输出就会变。",
    of=(
        "largest |difference| of the logits from each sentence alone",
        "与单句单独计算的 logit 最大绝对差",
    ),
    measure=lambda seed, broken_layers=False: list(self_attention_leaks(seed, broken_layers)),
    bound=at_most(1e-10),
    control=broken(
        "one of three layers without the mask", "三层中有一层不加掩码", broken_layers=True
    ),
    settles={"pad-mask-makes-encoder-ignore-padding": "conditional"},
)


# %%
@torch.no_grad()
def cross_attention_leaks(seed, broken_layers=False):
    """The encoder-decoder, both sides padded, against each pair by itself."""
    ids, target = sentences(seed), sentences(seed + 1_000_000).flip(0)
    lengths = torch.tensor(LENGTHS)
    keep, target_keep = real_tokens(lengths, PADDED), real_tokens(lengths.flip(0), PADDED)
    pairs = list(enumerate(zip(LENGTHS, LENGTHS[::-1], strict=True)))

    def difference(model):
        whole = model(ids, target, keep, target_keep)
        return max(
            (whole[b, :m] - model(ids[b : b + 1, :n], target[b : b + 1, :m])[0]).abs().max().item()
            for b, (n, m) in pairs
        )

    for path in PATHS:
        model = build(Transformer, path, layers=2)
        yield from leaks(
            [block.cross_attention for block in model.decoder.blocks],
            broken_layers,
            partial(difference, model),
        )


prove(
    "cross-attention-needs-the-source-mask",
    en="Cross-attention needs the source's padding mask too: the encoder's is not enough.",
    zh="交叉注意力也需要源端的填充掩码，只在编码器里加是不够的。",
    of=(
        "largest |difference| of the logits from each pair alone",
        "与每对句子单独计算的 logit 最大绝对差",
    ),
    measure=lambda seed, broken_layers=False: list(cross_attention_leaks(seed, broken_layers)),
    bound=at_most(1e-10),
    control=broken(
        "cross-attention of one layer without it", "有一层的交叉注意力不加掩码", broken_layers=True
    ),
    settles={"pad-mask-locations": "conditional"},
)


# %%
@torch.no_grad()
def right_padding(seed, masked=False, **look):
    """Causal models padded on the right, without a padding mask, against each one alone."""
    ids = sentences(seed)
    keep = real_tokens_from_ids(ids, 0) if masked else None
    source = torch.randint(1, VOCAB, (1, 5))
    for path in PATHS:
        decoder = build(DecoderOnly, path, **look)
        yield worst(decoder(ids, keep), lambda b, n, m=decoder: m(ids[b : b + 1, :n]))
        model = build(Transformer, path, layers=2, **look)
        yield worst(
            model(source.expand(3, -1), ids, None, keep),
            lambda b, n, m=model: m(source, ids[b : b + 1, :n]),
        )


prove(
    "causal-mask-already-hides-right-padding",
    en="Padding on the right needs no padding mask in causal self-attention: it is the future.",
    zh="填充在右边时，因果自注意力不需要填充掩码：填充本来就是「未来」。",
    of=(
        "largest |difference| of the logits from each sentence alone",
        "与单句单独计算的 logit 最大绝对差",
    ),
    measure=lambda seed, look=None: list(right_padding(seed, **({"look": look} if look else {}))),
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
def left_padding(seed, look=hide_left):
    """A causal model with padding on the left, against the same weights without padding."""
    ids = torch.randint(1, VOCAB, (3, 7))
    for path in PATHS:
        padded = build(DecoderOnly, path, look=look, positions=from_first_real)
        alone = build(DecoderOnly, path)
        alone.load_state_dict(padded.state_dict())
        yield (padded(F.pad(ids, (LEFT, 0)))[:, LEFT:] - alone(ids)).abs().max().item()


prove(
    "left-padding-needs-a-mask",
    en="Padding on the left needs a padding mask even in a causal model: it is the past.",
    zh="填充在左边时，因果模型也需要填充掩码：填充成了「过去」。",
    of=("largest |difference| of the logits from no padding", "与不填充时的 logit 最大绝对差"),
    measure=lambda seed, look=hide_left: list(left_padding(seed, look)),
    bound=at_most(1e-10),
    control=broken("the causal mask alone", "只有因果掩码", look=causal_mask),
    settles={"pad-mask-locations": "conditional"},
)


# %% [markdown]
# ## 5. What the mask does not do
#
# It hides columns (keys), not rows (queries). Restricting the padded rows as well changes nothing
# that anybody reads; restricting them instead hides nothing.


# %%
@torch.no_grad()
def hidden_rows(seed, hide_keys=True):
    """Three layers whose padded rows see only themselves, against the sentence by itself."""
    real = torch.arange(PADDED) < LENGTHS[0]
    keys = real if hide_keys else torch.ones(PADDED, dtype=torch.bool)
    look = torch.where(real[:, None], keys, torch.eye(PADDED, dtype=torch.bool))
    x = gaussian((2, PADDED, D_MODEL), seed)
    for softmax in PATHS.values():
        attention = partial(MultiHeadAttention, softmax=softmax)
        padded = Encoder(D_MODEL, HEADS, 37, 3, look=lambda *_: look, attention=attention).double()
        alone = Encoder(D_MODEL, HEADS, 37, 3, attention=attention).double()
        alone.load_state_dict(padded.state_dict())
        yield (padded(x)[:, : LENGTHS[0]] - alone(x[:, : LENGTHS[0]])).abs().max().item()


prove(
    "hide-columns-not-rows",
    en="What padded rows may look at does not matter; what matters is hiding the padded columns.",
    zh="填充所在的行能看哪里无关紧要，要紧的是把填充所在的列藏起来。",
    of=("largest |difference| at the real tokens", "真实 token 处的最大绝对差"),
    measure=lambda seed, hide_keys=True: list(hidden_rows(seed, hide_keys)),
    bound=at_most(1e-10),
    control=broken("rows hidden instead of columns", "藏行而不藏列", hide_keys=False),
)


# %%
def all_positions(x, keep=None):
    """The mean over every position, padding included."""
    return mean_over_tokens(x)


@torch.no_grad()
def pooled(seed, pool=mean_over_tokens):
    """Sentence classes from a masked encoder and `pool`, against each sentence by itself."""
    ids = sentences(seed)
    for path in PATHS:
        model = build(EncoderOnly, path, pool=pool)
        batch = model(ids, real_tokens_from_ids(ids, 0))
        yield from [
            (batch[b] - model(ids[b : b + 1, :n])[0]).abs().max().item()
            for b, n in enumerate(LENGTHS)
        ]


prove(
    "pooling-must-leave-padding-out",
    en="A perfectly masked encoder still leaks its padding if the pooling averages every position.",
    zh="编码器的掩码再正确，池化时若对所有位置取平均，填充照样会漏进结果。",
    of=(
        "largest |difference| of the logits from the sentence alone",
        "与单句单独计算的 logit 最大绝对差",
    ),
    measure=lambda seed, pool=mean_over_tokens: list(pooled(seed, pool)),
    bound=at_most(1e-10),
    control=broken("a mean over all positions", "对所有位置取平均", pool=all_positions),
    settles={"pad-mask-makes-encoder-ignore-padding": "conditional"},
)

# %% [markdown]
# The loss, against a floor that needs no network. Tokens are uniform over V symbols: nobody can
# predict one with less than ln V nats. Take a guesser that knows nothing except where the padding
# is. Its true loss is ln V; counting the padding scales that by the share of real tokens, 13 / 33.


# %%
def guesser_loss(seed, count_padding=False):
    """How far the guesser's loss lies from the floor ln V, as a share of the floor."""
    targets = sentences(seed)
    keep = real_tokens(torch.tensor(LENGTHS), PADDED)
    logits = torch.zeros(*targets.shape, VOCAB, dtype=torch.float64)
    logits[..., 0] = -torch.inf  # at real positions every symbol is as likely as the others
    logits[targets == 0] = torch.where(torch.arange(VOCAB) == 0, 0.0, -torch.inf).double()
    loss = cross_entropy(logits, targets, None if count_padding else keep)
    return (loss / tasks.entropy_floor(VOCAB - 1) - 1).abs()


prove(
    "loss-must-leave-padding-out",
    en="A loss that counts padding falls below the entropy floor, where no honest loss can be.",
    zh="把填充算进去的损失会低于熵下界，而诚实的损失不可能低于它。",
    of=(
        "|loss / ln V − 1| of a guesser that knows only the padding",
        "只知道填充位置的猜测者的 |损失 / ln V − 1|",
    ),
    measure=guesser_loss,
    bound=at_most(1e-12),
    control=broken("padding counted", "把填充也算进去", count_padding=True),
    settles={"pad-mask-locations": "conditional"},
)

# %% [markdown]
# ## 6. What it costs
#
# Multiply-adds, counted as the matrices are multiplied (on the weights path, where every product is
# visible). A batch of four sentences of 8 tokens, padded to 32.


# %%
def flops(ids, keep=None, **changes):
    """Floating-point operations of one forward pass of an encoder of two layers."""
    model = build(EncoderOnly, "weights", layers=2, **changes)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(ids, keep)
    return counter.get_total_flops()


def masked_cost(seed, length=32):
    """FLOPs of 8 real tokens a sentence, padded and masked to `length`, over 32 real ones."""
    full = torch.randint(1, VOCAB, (4, 32))
    keep = padded_keep = torch.arange(length).expand(4, -1) < 8
    return flops(full[:, :length] * keep, padded_keep) / flops(full)


prove(
    "masking-saves-no-compute",
    en="With three quarters of a batch masked, every multiplication is still done, then hidden.",
    zh="批次里四分之三都是填充、都被屏蔽，也没省下一次乘法：全都算了，再藏起来。",
    of=("FLOPs, masked / all tokens real", "FLOPs：加掩码 / 全是真实 token"),
    measure=masked_cost,
    bound=exactly(1.0),
    control=broken("padding cut off", "把填充裁掉", length=8),
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
    row = torch.cat([ids[b, :n] for b, n in enumerate(LENGTHS)])[None]
    for path in PATHS:
        model = build(
            EncoderOnly, path, look=look or same_sentence(LENGTHS), positions=restarting(LENGTHS)
        )
        alone = build(EncoderOnly, path)
        alone.load_state_dict(model.state_dict())
        for b, piece in enumerate(model(row)[0].split(LENGTHS)):
            yield (piece - alone(ids[b : b + 1, : LENGTHS[b]])[0]).abs().max().item()


prove(
    "packed-sentences-need-no-padding",
    en="Sentences laid end to end under a block-diagonal mask need neither padding nor truncation.",
    zh="把句子首尾相接、配上分块对角掩码，既不用填充也不用截断。",
    of=(
        "largest |difference| of the logits from each sentence alone",
        "与单句单独计算的 logit 最大绝对差",
    ),
    measure=lambda seed, look=None: list(packed(seed, look)),
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
    ids = tasks.vocab_size(SYMBOLS)
    counts = torch.bincount(drawn.ids[:, 0] * ids + drawn.label, minlength=ids * ids)
    return counts.view(ids, ids).amax(1).sum().item() / lists


CEILING = first_token_ceiling()


@cache
def accuracies(seed, masked):
    """Train with or without the mask; held-out accuracy for each amount of extra padding."""
    torch.manual_seed(seed)
    ids = tasks.vocab_size(SYMBOLS)
    model = EncoderOnly(ids, ids, 32, 1, 64, 1, pool=first_token)

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
TOKENS = ("the", "cat", "sat", "down", "·", "·", "·")


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
        ax.set_xlabel("key (token; · is padding)")
        ax.set_ylabel("query (token)")


figure("weights-with-and-without-mask", draw_weights, panels=2, size=(8.6, 3.8))


# %%
PLACES = {
    "encoder self-attention": (self_attention_leaks, lambda s: self_attention_leaks(s, True)),
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
    for masked, label in ((True, "with the mask"), (False, "without a mask")):
        runs = [list(accuracies(seed, masked).values()) for seed in range(5)]
        spread(ax, x, runs, label=label, marker="o")
    ax.axhline(CEILING, color="C2", linestyle="--", label="best guess from the first token")
    ax.set_xscale("log", base=2)
    ax.set_xticks(x, [str(extra) for extra in EXTRA])
    ax.set_xlabel("extra padding (tokens)")
    ax.set_ylabel("held-out accuracy")
    ax.set_ylim(0, 1.05)
    ax.legend(loc="lower left")


figure("accuracy-against-padding", draw_collapse, tolerance=0.25)


# %%
def draw_cost(ax):
    real, sentences_ = 8, 8
    lengths = [8, 12, 16, 24, 32, 48, 64]
    share = [1 - real / length for length in lengths]
    ids = torch.ones(sentences_, lengths[-1], dtype=int)
    base = flops(ids[:, :real])
    padded = [
        flops(ids[:, :n], torch.arange(n).expand(sentences_, -1) < real) / base for n in lengths
    ]
    ax.plot(share, padded, marker="o", label="padded and masked")
    row = flops(
        ids[:1, : real * sentences_],
        look=same_sentence([real] * sentences_),
        positions=restarting([real] * sentences_),
    )
    ax.plot(share, [row / base] * len(share), marker="s", label="packed, dense scores")
    ax.plot(share, [1.0] * len(share), "--", label="padding cut off")
    ax.set_xlabel("share of the batch that is padding")
    ax.set_ylabel("FLOPs / FLOPs of the real tokens")
    ax.set_ylim(0, None)
    ax.legend()


figure("flops-against-padding", draw_cost)
