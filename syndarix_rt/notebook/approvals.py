"""`ApprovalsWidget`: what waits for a decision, and the buttons to decide."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from syndarix_rt.notebook.panel_widget import PanelWidget, module
from syndarix_rt.notebook.panels.inbox import ApprovalInbox, Pending
from syndarix_rt.notebook.words import duration

__all__ = ["ApprovalsWidget"]

MAX_SHOWN = 50
"""The longest-waiting; more would not be read."""

EVERY_S = 1.0
"""Time between two changes of how long something has waited."""


class ApprovalsWidget(PanelWidget):
    """Shows an `ApprovalInbox`.

    Args:
        inbox: what waits.
        decide: decides an approval (its id, ``approved`` or ``rejected``) somewhere else than on this thread.
        newest: the newest time of an event, up to which simulated questions have waited; None before the first.
    """

    _esm = module("approvals")

    def __init__(
        self,
        inbox: ApprovalInbox,
        decide: Callable[[str, str], None],
        newest: Callable[[], datetime | None],
    ) -> None:
        super().__init__({"title": "Approvals"})
        self._inbox = inbox
        self._decide = decide
        self._newest = newest
        self._due_s = 0.0
        self._version = -1

    def show(self, inbox: ApprovalInbox) -> None:
        """Show another inbox, as of the next `push`."""
        self._inbox, self._version = inbox, -1

    def news(self, now_s: float, *, whole: bool) -> dict[str, Any] | None:
        """All that wait, when that changes and as they wait."""
        inbox = self._inbox
        due = bool(inbox.pending) and now_s >= self._due_s
        if not whole and not due and inbox.version == self._version:
            return None
        self._due_s, self._version = now_s + EVERY_S, inbox.version
        pending = list(inbox.pending.values())
        return {
            "uncertain": inbox.uncertain,
            "count": len(pending),
            "pending": [self._told(waiting, now_s) for waiting in pending[:MAX_SHOWN]],
        }

    def asked_for(self, content: dict[str, Any]) -> None:
        """A button was pressed."""
        approval_id, decision = content.get("approval"), content.get("decision")
        if decision in ("approved", "rejected") and approval_id in self._inbox.pending:
            self._decide(approval_id, decision)

    def _told(self, waiting: Pending, now_s: float) -> dict[str, Any]:
        newest = self._newest()
        if waiting.simulation and newest:
            waited = f"{duration((newest - waiting.since).total_seconds())} of simulated time"
        else:
            waited = duration(now_s - waiting.since.timestamp())
        return {
            "id": waiting.approval_id,
            "title": waiting.title,
            "kind": waiting.kind,
            "about": waiting.about,
            "since": f"{waiting.since:%Y-%m-%d %H:%M:%S} UTC",
            "waited": waited,
            "decided": waiting.decided,
            "error": waiting.error,
        }
