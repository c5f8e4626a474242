"""The mechanisms of the Transformer: torch only, nothing printed, read or plotted.

Each room is a package with a public face: `from qa_lab.transformer.attention import causal_mask`.
Read `models.one_page` first, a GPT-2 that needs nothing else; then `attention` (masks, dot_product,
multi_head), `positions` and `layers`, and `models` (blocks, stacks, whole, presets). What surrounds
a model is in `text`, `training` and `decoding`, what it is compared with in `rivals`. Axes are
words (batch, head, query, key, length), sizes the papers' names (d_model, d_k, d_v, d_ff). The one
exception to the first sentence: a tokeniser writes and reads the file that it is told to `save` and
`load`.
"""
