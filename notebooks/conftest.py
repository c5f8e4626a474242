"""Every `pytest --nbval` run over these notebooks is a strict one."""

from qa_lab.claims.strict import (
    pytest_configure,
    pytest_itemcollected,
    pytest_runtest_call,
    pytest_terminal_summary,
)

__all__ = [
    "pytest_configure",
    "pytest_itemcollected",
    "pytest_runtest_call",
    "pytest_terminal_summary",
]
