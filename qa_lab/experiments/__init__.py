"""Experiments · 实验.

Numbers out, no verdicts: how a model is trained here, on what data, and what is read off it.
"""
