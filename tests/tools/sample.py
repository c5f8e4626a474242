"""A sample of the proofs, chosen by a rule, that `make test` runs as another processor would.

python -m tests.tools.sample 3                      the three quickest notebooks
pytest -p tests.tools.sample --every 5 tests/…      every fifth test, in the order of collection
"""

import sys
from pathlib import Path

from qa_lab.claims.manifest import load_manifest
from qa_lab.claims.notebooks import NOTEBOOKS


def quickest(count: int) -> list[Path]:
    """The recorded notebooks that take least time, by what `docs/questions.yaml` says of them."""
    questions = sorted(load_manifest().published, key=lambda q: (q.reprove_seconds, q.slug))
    return [NOTEBOOKS / f"{question.path}.ipynb" for question in questions[:count]]


def pytest_addoption(parser) -> None:
    parser.addoption("--every", type=int, default=1, help="run one test in so many")


def pytest_collection_modifyitems(config, items) -> None:
    every = config.getoption("--every")
    config.hook.pytest_deselected(items=[item for i, item in enumerate(items) if i % every])
    items[:] = items[::every]


if __name__ == "__main__":
    print(*quickest(int(sys.argv[1])), sep="\n")
