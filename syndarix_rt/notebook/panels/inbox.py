"""`ApprovalInbox`: what waits for a person's decision."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from syndarix_rt.delivery import Approval
from syndarix_rt.notebook.panels.sighting import Sighting

__all__ = ["ApprovalInbox", "Pending"]

MAX_PENDING = 500
"""More nobody reads through; then the oldest go."""


class Pending(msgspec.Struct):
    """One that waits."""

    approval_id: str
    since: datetime
    """The time of the question, simulated or real."""
    seen_s: float | None
    """When it was published, seconds since 1970; None if only the server told of it."""
    simulation: str | None
    kind: str
    title: str
    about: str
    """Ids of what it is about."""
    decided: str = ""
    """A decision that was made here and is on its way."""
    error: str = ""
    """Why a decision made here was refused."""


Question = dict[str, Pending | None]
"""What events said while the server was asked, by id; None: decided."""


class ApprovalInbox:
    """Approvals in the order in which they were asked for.

    Attributes:
        pending: those that wait, by id.
        uncertain: whether something may have been asked or decided unseen; the server knows.
        version: grows with every change.
    """

    types: Final = ("approval_required", "approval_resolved")

    def __init__(self) -> None:
        self.pending: dict[str, Pending] = {}
        self.uncertain = True
        self.version = 0
        self._since_asked: Question | None = None

    def see(self, event: Sighting, time_s: float) -> None:
        """One is asked for or decided."""
        data = event.data
        waiting = None
        if event.type == "approval_required":
            waiting = Pending(
                approval_id=data["approval_id"],
                since=event.time,
                seen_s=time_s,
                simulation=event.simulation,
                kind=data.get("kind") or "approval",
                title=data.get("title") or data["approval_id"],
                about=_about(data),
            )
        self._put(data["approval_id"], waiting)
        if self._since_asked is not None:
            self._since_asked[data["approval_id"]] = waiting
        self.version += 1

    def ask(self) -> Question:
        """The server is asked now; what this returns is given to `correct`, with the answer."""
        self.uncertain = False
        self._since_asked = {}
        return self._since_asked

    def correct(self, question: Question, approvals: Iterable[Approval], simulation: str | None = None) -> None:
        """Take what the server says waits; nothing if it was asked again since then, or the log has begun anew.

        Args:
            question: what `ask` returned.
            approvals: all that wait.
            simulation: only those of this simulation count.
        """
        if self._since_asked is not question:
            return
        old, self.pending = self.pending, {}
        for approval in approvals:
            if simulation not in (None, approval.simulation):
                continue
            told = Pending(
                approval_id=approval.approval_id,
                since=approval.since,
                seen_s=None,
                simulation=approval.simulation,
                kind=approval.kind or "approval",
                title=approval.title or approval.approval_id,
                about=_about(msgspec.structs.asdict(approval)),
            )
            self._put(approval.approval_id, old.get(approval.approval_id, told))
        for approval_id, waiting in question.items():
            self._put(approval_id, waiting)
        self._since_asked = None
        self.version += 1

    def decide(self, approval_id: str, decision: str, error: str = "") -> None:
        """A decision is on its way, or (with an empty one and an error) came to nothing."""
        waiting = self.pending.get(approval_id)
        if waiting is not None:
            waiting.decided, waiting.error = decision, error
            self.version += 1

    def prove(self, time_s: float) -> None:
        """An event came; nothing to do."""

    def advance(self, now_s: float) -> None:
        """Time goes on; nothing to do."""

    def gap(self, now_s: float, label: str) -> None:  # noqa: ARG002 - as of all panels
        """Something was lost: ask the server what waits."""
        self.uncertain = True
        self.version += 1

    def begin(self) -> None:
        """The log begins anew: nothing waits, whatever the server answers that was asked before."""
        self.pending.clear()
        self.uncertain = False
        self._since_asked = None
        self.version += 1

    clear = begin

    def _put(self, approval_id: str, waiting: Pending | None) -> None:
        if waiting is None:
            self.pending.pop(approval_id, None)
            return
        self.pending[approval_id] = waiting
        if len(self.pending) > MAX_PENDING:
            del self.pending[next(iter(self.pending))]


def _about(data: dict[str, Any]) -> str:
    return " · ".join(str(data[key]) for key in ("pr_id", "issue_id", "run_id") if data.get(key))
