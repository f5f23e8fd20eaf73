"""Approvals on their way between a server and those who decide: what waits, and what was decided."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

__all__ = ["DECISION_SOURCE", "Approval", "Decision", "Verdict"]

DECISION_SOURCE = "/syndarix-rt/approvals"
"""The ``source`` of a person's decision; a simulation's own have the simulation's."""

Verdict = Literal["approved", "rejected"]


class Approval(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One that waits for a decision, as its ``approval_required`` put it."""

    approval_id: str
    since: datetime
    """When it was asked for: the event's ``time``, simulated or real."""
    epoch: str
    offset: int
    """Where that event stands, or stood, in the project's log."""
    event: str
    """That event's id; the ``cause`` of the decision."""
    kind: str | None = None
    """What is asked for: ``merge``, ``tool`` …"""
    title: str | None = None
    pr_id: str | None = None
    run_id: str | None = None
    issue_id: str | None = None
    simulation: str | None = None
    """Of a simulated one: which simulation asks."""


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an approval was decided, as its ``approval_resolved`` says."""

    approval_id: str
    decision: Verdict
    time: datetime
    """That event's ``time``: the wall time of a decision, or for a simulated approval the simulated time."""
    epoch: str
    offset: int
    """Where that event stands in the project's log."""
    by: str | None = None
    comment: str | None = None
