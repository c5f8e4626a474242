"""A pytest plugin that makes `pytest --nbval` strict. `notebooks/conftest.py` loads it.

nbval compares sentences, bounds and verdicts. This adds the gates, compares the numbers in the
outputs' metadata, and refuses the options that would blunt the comparison.
"""

import os

import pytest

from qa_lab.claims.claim import FIRST_SEED_VARIABLE
from qa_lab.claims.evidence import drift
from qa_lab.claims.gates import problems

# Compared through the numbers they were drawn from: the same picture differs between CPUs.
COMPARED_BY_NUMBERS = ("image/svg+xml", "text/html")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse the options with which nbval would compare less than everything."""
    option = config.option
    if getattr(option, "nbval_lax", False):
        raise pytest.UsageError("--nbval-lax compares nothing. Use --nbval.")
    if getattr(option, "nbval_sanitize_with", None):
        raise pytest.UsageError("--nbval-sanitize-with can hide any number. Leave it out.")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Leave to `drift` what nbval could only compare byte by byte."""
    notebook = item.parent
    if _is_cell(item) and COMPARED_BY_NUMBERS[0] not in notebook.skip_compare:
        notebook.skip_compare = (*notebook.skip_compare, *COMPARED_BY_NUMBERS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """Run the gates with a notebook's first cell, and compare every cell's numbers."""
    if not _is_cell(item):
        return (yield)
    if item.cell_num == 0 and (found := problems(item.path)):
        pytest.fail("\n".join(found), pytrace=False)
    result = yield
    # With other seeds the numbers are others: the bounds, checked by `prove`, must still hold.
    if FIRST_SEED_VARIABLE not in os.environ:
        if found := drift(item.cell.outputs, item.test_outputs):
            pytest.fail("\n".join(found), pytrace=False)
    return result


def _is_cell(item: pytest.Item) -> bool:
    return type(item).__name__ == "IPyNbCell"
