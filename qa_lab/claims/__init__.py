"""Verdicts: the claim, its bound and control, and what reads proved claims back.

A notebook needs only these names:

    from qa_lab.claims import at_least, at_most, broken, exactly, prove, within
"""

from qa_lab.claims.bounds import at_least, at_most, exactly, within
from qa_lab.claims.claim import Claim, ClaimFailed, ControlPassed, broken, prove
from qa_lab.claims.sample import NotFinite

__all__ = [
    "Claim",
    "ClaimFailed",
    "ControlPassed",
    "NotFinite",
    "at_least",
    "at_most",
    "broken",
    "exactly",
    "prove",
    "within",
]
