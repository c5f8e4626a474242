"""Toy data · 玩具数据.

Sources whose laws are known, tasks with one right answer, and the floors that follow from them.
Each file is a source of its own: import from the file.
"""
