"""QA Lab: answers about Transformers that are proved by running them.

Data flows one way: `transformer` (mechanisms) → `experiments` (numbers) → `claims` (verdicts) →
the notebooks → `guide` (the site). Nothing imports against it.
"""
