"""The mechanisms of the Transformer: torch only, nothing printed, read or plotted.

Read in this order: masks, attention, feed_forward, norms, positions, embeddings, blocks, stacks,
models, losses, decoding. Axes are words (batch, head, query, key, length) and sizes are the papers'
names (d_model, d_k, d_v, d_ff).
"""
