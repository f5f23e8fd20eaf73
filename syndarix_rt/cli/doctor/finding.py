"""`Finding`: one thing that was looked at."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PROJECT", "Finding", "good", "mend"]

PROJECT = "doctor-check"
"""Of the events that are stored and sent to see whether they can be; emptied again."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    text: str
    """What was seen, and what to do about it unless it is good."""
    is_good: bool


def good(what: str, text: str) -> Finding:
    """Of what is as it should be, or need not be."""
    return Finding(what, text, is_good=True)


def mend(what: str, text: str) -> Finding:
    """Of what there is to do."""
    return Finding(what, text, is_good=False)
