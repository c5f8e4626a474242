"""A pytest plugin that makes `pytest --nbval` strict. `notebooks/conftest.py` loads it.

nbval compares sentences, bounds and verdicts. This adds the gates, compares the numbers in the
outputs' metadata, and refuses the options that would blunt the comparison.
"""

import os
import re
from pathlib import Path

import pytest

from qa_lab.claims.claim import FIRST_SEED_VARIABLE
from qa_lab.claims.evidence import drift
from qa_lab.claims.gates import problems

# Compared through the numbers they were drawn from: the same picture differs between CPUs.
COMPARED_BY_NUMBERS = ("image/svg+xml", "text/html")
WHAT_FAILED = "qa_lab.what_failed"


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
    try:
        result = yield
    except Exception as problem:
        if sentence := _last_line(problem):
            item.user_properties.append((WHAT_FAILED, sentence))
        raise
    # With other seeds the numbers are others: the bounds, checked by `prove`, must still hold.
    if FIRST_SEED_VARIABLE not in os.environ:
        if found := drift(item.cell.outputs, item.test_outputs):
            pytest.fail("\n".join(found), pytrace=False)
    return result


def pytest_terminal_summary(terminalreporter) -> None:
    """Say at the very end, a sentence each, which claims do not hold; the rest is traceback."""
    failed = terminalreporter.stats.get("failed", [])
    sentences = [
        f"{Path(report.nodeid.split('::')[0]).stem}: {sentence}"
        for report in failed
        for name, sentence in report.user_properties
        if name == WHAT_FAILED
    ]
    if sentences:
        terminalreporter.section("what does not hold", red=True)
        for sentence in sentences:
            terminalreporter.write_line(sentence)


def _last_line(problem: Exception) -> str | None:
    """What a cell raised, without the traceback and its colours: `ClaimFailed: …`."""
    traceback = re.sub(r"\x1b\[[\d;]*m", "", getattr(problem, "inner_traceback", None) or "")
    raised = re.findall(r"^\w+(?:\.\w+)*: .*$", traceback, flags=re.MULTILINE)
    return raised[-1] if raised else None


def _is_cell(item: pytest.Item) -> bool:
    return type(item).__name__ == "IPyNbCell"
