"""`IssueJudge`: issues and the sprints they are in (invariants S1 to S5, T1 and T2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from syndarix_rt.events import Event
from syndarix_rt.simulation.entities import Issue
from syndarix_rt.simulation.idset import IdSet
from syndarix_rt.simulation.judge import Judge

__all__ = ["IssueJudge"]


class IssueJudge(Judge):
    """Judges ``issue_*`` and ``sprint_*``."""

    def __init__(self, violated: Callable[[str, Event, str], None], *, partial: bool) -> None:
        super().__init__(violated, partial=partial)
        self._issues: dict[str, Issue] = {}
        self._closed_issues = IdSet()
        self._sprint_id: str | None = None
        self._closed_in_sprint = 0
        self._ended_sprints = IdSet()
        self._knows_sprint = not partial
        """Whether it is known which sprint is open, if any."""
        self.handlers = {
            "issue_created": self._issue_created,
            "issue_updated": self._issue_updated,
            "issue_closed": self._issue_closed,
            "sprint_started": self._sprint_started,
            "sprint_completed": self._sprint_completed,
        }

    def merged(self, issue_id: str | None) -> None:
        """A pull request of this issue is merged."""
        issue = self._issues.get(issue_id or "")
        if issue is not None:
            issue.merged = True

    def _issue_created(self, event: Event, data: dict[str, Any]) -> None:
        issue_id = data["issue_id"]
        if issue_id in self._issues or issue_id in self._closed_issues:
            self._violated("S1", event, f"{issue_id} was created before")
            return
        self._issues[issue_id] = Issue()
        self._place(event, data, self._issues[issue_id])

    def _issue_updated(self, event: Event, data: dict[str, Any]) -> None:
        issue_id, reopened = data["issue_id"], data.get("state") == "reopened"
        issue = self._issues.get(issue_id)
        if issue is None:
            if issue_id not in self._closed_issues:
                self._unseen("S1", event, f"{issue_id} was never created")
            elif not reopened:
                self._violated("S2", event, f"{issue_id} is closed")
                return
            issue = self._issues[issue_id] = Issue(merged=True)
        elif reopened:
            self._violated("S3", event, f"{issue_id} is reopened, but open")
        elif event.simulation and data == issue.updated:  # real reporters may repeat what holds
            self._violated("S2", event, f"the update of {issue_id} before it said the same")
        issue.updated = data
        self._place(event, data, issue)

    def _issue_closed(self, event: Event, data: dict[str, Any]) -> None:
        issue_id = data["issue_id"]
        issue = self._issues.pop(issue_id, None)
        if issue is None:
            if issue_id in self._closed_issues:
                self._violated("S3", event, f"{issue_id} is closed already")
                return
            self._unseen("S1", event, f"{issue_id} was never created")
            issue = Issue(merged=True)
        self._place(event, data, issue)
        if data.get("resolution") == "done" and not issue.merged:
            self._violated("S4", event, f"no pull request of {issue_id} was merged")
        self._closed_issues.add(issue_id)
        self._closed_in_sprint += 1

    def _place(self, event: Event, data: dict[str, Any], issue: Issue) -> None:
        sprint_id = data.get("sprint_id")
        if sprint_id is None:
            return
        if issue.sprint_id not in (None, sprint_id) and issue.sprint_id == self._sprint_id:
            self._violated("S5", event, f"it is in {issue.sprint_id}, which is open, and would be in {sprint_id}")
        else:
            issue.sprint_id = sprint_id

    def _sprint_started(self, event: Event, data: dict[str, Any]) -> None:
        sprint_id = data["sprint_id"]
        if self._sprint_id is not None:
            self._violated("T1", event, f"{self._sprint_id} is still open")
        elif sprint_id in self._ended_sprints:
            self._violated("T1", event, f"{sprint_id} is over")
        self._sprint_id, self._closed_in_sprint, self._knows_sprint = sprint_id, 0, True
        planned = data.get("issues_planned")
        if planned is None or not event.simulation:  # real people plan what they want of what is open
            return
        seen = sum(issue.sprint_id is not None for issue in self._issues.values())  # in a simulation all have one
        if planned < seen or (planned > seen and not self._partial):
            self._violated("T2", event, f"issues_planned is {planned}, the events say {seen}")

    def _sprint_completed(self, event: Event, data: dict[str, Any]) -> None:
        sprint_id, open_id = data["sprint_id"], self._sprint_id
        is_whole, self._knows_sprint = self._knows_sprint, True
        self._sprint_id = None
        is_new = self._ended_sprints.add(sprint_id)
        if sprint_id != open_id and (is_whole or not is_new):
            self._violated("T1", event, f"{sprint_id} is not the open sprint, which is {open_id}")
            return
        carried_over = sum(issue.sprint_id == sprint_id for issue in self._issues.values())
        for key, counted, is_all in (
            ("issues_completed", self._closed_in_sprint, is_whole),
            ("issues_carried_over", carried_over, not self._partial),
        ):
            said = data.get(key)
            if said is not None and (said < counted or (is_all and said > counted)):
                self._violated("T2", event, f"{key} is {said}, the events say {counted}")
