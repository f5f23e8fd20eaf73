"""What a check remembers of runs, issues, branches and pull requests while they are open."""

from __future__ import annotations

from datetime import datetime
from typing import Any

__all__ = ["Branch", "Issue", "PullRequest", "Run"]


class Run:
    """An open run. ``started`` is None if its start was not seen; ``joined``: the run began before its start says."""

    def __init__(self, agent_id: str, started: datetime | None, concurrency: int = 1, *, joined: bool = False) -> None:
        self.agent_id = agent_id
        self.joined = joined
        self.started = started
        self.concurrency = concurrency
        self.sums: dict[str, float] = {}
        self.busy_s = 0.0
        self.tries: dict[tuple[Any, Any], tuple[int, float]] = {}
        """Failed calls: the number of the try, and the backoff after it."""
        self.calls: set[tuple[Any, Any]] = set()
        """If its start was not seen: the calls of which something was."""


class Issue:
    """An open issue."""

    def __init__(self, sprint_id: str | None = None, *, merged: bool = False) -> None:
        self.sprint_id = sprint_id
        self.merged = merged
        self.updated: dict[str, Any] = {}
        """What its latest update said."""


class Branch:
    """A branch that may still take commits."""

    def __init__(self, *, older: bool = False) -> None:
        self.older = older
        """Whether it has commits that are no longer remembered."""
        self.commits: set[str] = set()
        self.head: str | None = None
        self.pr_id: str | None = None
        self.checked: tuple[str, str | None, str] = ("", None, "")
        """The latest pipeline, its commit, and how it stands: ``running``, ``green`` or ``red``."""

    @property
    def head_state(self) -> str:
        """How the latest pipeline stands if it checks the head, else ``missing``; ``green`` if nobody can know."""
        _, commit, state = self.checked
        if self.head is None and self.older:
            return state or "green"
        return state if commit == self.head and state else "missing"


class PullRequest:
    """An open pull request."""

    def __init__(self, data: dict[str, Any], *, older: bool = False) -> None:
        self.older = older
        """Whether its creation was not seen, so that it may be gated, or approved."""
        self.branch: str | None = data.get("branch")
        self.issue_id: str | None = data.get("issue_id")
        self.gated = bool(data.get("gated"))
        self.require_green = bool(data.get("require_green"))
        self.approved: set[str] = set()
