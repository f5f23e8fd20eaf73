"""The trace AIDev-pop: pull requests that coding agents opened on GitHub, December 2024 to July 2025.

Source: Li et al., arXiv 2507.15003; github.com/SAILResearch/AI_Teammates_in_SE3. Two CSV files in one directory:

* ``pr_lifecycle.csv``, a row a pull request: ``agent``, ``pr``, ``repo`` (pseudonyms), ``created_at`` (UTC),
  ``closed_h``, ``merged_h``, ``first_review_h``, ``first_approval_h`` (hours after creation, empty: not seen),
  ``n_commits``, ``changes_requested`` (counts at the end of the collection).
* ``timeline_events.csv``, a row an event: ``agent``, ``pr``, ``event`` (GitHub's timeline name), ``t_s`` (seconds
  after the pull request's creation).

GitHub's times are whole seconds; hours are rounded back to them. How rows become events:

====================================  ================================================================================
in the trace                          event
====================================  ================================================================================
a pull request                        ``pr_created``; implied before it, at the same time, ``branch_created`` and one
                                      ``commit_pushed``: there is no pull request without them
``merged_h`` or ``merged``            ``pr_merged``
``closed_h`` or the last ``closed``   ``pr_closed``, if it was not merged
``first_approval_h``                  ``approval_resolved``; its ``approval_required`` is the last ``review_requested``
                                      before it, or else implied when the pull request was opened
``first_review_h``                    ``pr_reviewed`` (custom), unless it is the first approval itself
``copilot_work_started``              ``agent_started``; if a run is still open, an implied ``agent_error`` ends it
``copilot_work_finished``             ``agent_completed`` of the open run
``copilot_work_finished_failure``     ``agent_error`` of the open run
other names of GitHub's timeline      custom, ``pr_`` before GitHub's name, such as ``pr_labeled``
====================================  ================================================================================

Every event that the trace does not have carries ``data.implied: true``. A cause is the step before it in the life of
its pull request, which is less than a proof that it led to it. What has no time in the trace (counts of commits and of
requested changes) stands as ``snapshot`` in ``pr_created``. There are no issues, sprints or pipelines in this trace, so
there are none in the events.
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from syndarix_rt.events import Event, is_project_name
from syndarix_rt.playback.importers.imported import FileRows, Imported
from syndarix_rt.playback.importers.tables import Row, read_table

__all__ = ["LIFECYCLE", "LIFECYCLE_COLUMNS", "TIMELINE", "TIMELINE_COLUMNS", "import_aidev"]

LIFECYCLE = "pr_lifecycle.csv"
LIFECYCLE_COLUMNS = (
    "agent",
    "pr",
    "repo",
    "created_at",
    "closed_h",
    "merged_h",
    "first_review_h",
    "first_approval_h",
    "n_commits",
    "changes_requested",
)
TIMELINE = "timeline_events.csv"
TIMELINE_COLUMNS = ("agent", "pr", "event", "t_s")

_SOURCE = "/syndarix-rt/import/aidev"

_CUSTOM = frozenset(
    {
        "added_to_merge_queue",
        "assigned",
        "auto_merge_enabled",
        "auto_squash_enabled",
        "deployed",
        "head_ref_deleted",
        "head_ref_force_pushed",
        "labeled",
        "ready_for_review",
        "review_requested",
    }
)
"""Names of GitHub's timeline that the catalogue has nothing for."""

_RUN = {
    "copilot_work_started": "agent_started",
    "copilot_work_finished": "agent_completed",
    "copilot_work_finished_failure": "agent_error",
}

_LONGEST_S = 100 * 366 * 24 * 3600
"""A longer time is a slip, and times with it leave the calendar."""

_SAME_S = 2
"""A close in the timeline and one in the lifecycle are the same one if they are no further apart: GitHub writes the
time of a merge up to a second before the close that it brings (seen in 136 of 2,590 merges)."""


class _Pull(NamedTuple):
    """A row of the lifecycle; times in seconds after creation, None: not seen."""

    agent: str
    pr: str
    repo: str
    created_at: datetime
    closed_s: int | None
    merged_s: int | None
    review_s: int | None
    approval_s: int | None
    snapshot: dict[str, int]

    @classmethod
    def of(cls, row: Row) -> _Pull:
        counts = {"commits": row.count("n_commits"), "changes_requested": row.count("changes_requested")}
        return cls(
            row.name("agent"),
            row.name("pr"),
            row.name("repo"),
            row.time("created_at"),
            _hours(row, "closed_h"),
            _hours(row, "merged_h"),
            _hours(row, "first_review_h"),
            _hours(row, "first_approval_h"),
            {name: count for name, count in counts.items() if count is not None},
        )


class _Fact(NamedTuple):
    """One thing that happened to a pull request."""

    at_s: int
    name: str
    """GitHub's name of it, or ours: ``opened``, ``asked``, ``asked_implied``, ``approved``, ``reviewed``."""

    @property
    def order(self) -> tuple[int, int]:
        """By time; within a second the opening is first, an end late, and what an end brings with it last."""
        return self.at_s, _RANKS.get(self.name, 2)


_RANKS = {"opened": 0, "asked_implied": 1, "merged": 3, "closed": 3, "head_ref_deleted": 4}


def import_aidev(path: str | os.PathLike[str], project: str = "aidev") -> Imported:
    """Read the trace and make events of it.

    Args:
        path: the directory with the two files.
        project: all events go into this one; the repository stands in their data.

    Raises:
        RecordingError: a file cannot be read, a column is missing, a cell is no number or no time, a pull request
            stands there twice.
        ValueError: ``project`` is no project name.
    """
    if not is_project_name(project):
        raise ValueError(f"not a project name: {project!r} (1 to 64 of letters, digits, '_' and '-')")
    lifecycle, timeline = FileRows(LIFECYCLE), FileRows(TIMELINE)
    pulls: dict[str, _Pull] = {}
    for row in read_table(Path(path) / LIFECYCLE, LIFECYCLE_COLUMNS):
        pull = _Pull.of(row)
        if pull.pr in pulls:
            raise row.wrong("pr", "names a pull request that stands in an earlier line too")
        pulls[pull.pr] = pull
        lifecycle.rows += 1
        lifecycle.mapped += 1

    timelines: dict[str, list[_Fact]] = {pr: [] for pr in pulls}
    for row in read_table(Path(path) / TIMELINE, TIMELINE_COLUMNS):
        timeline.rows += 1
        at_s = _seconds(row, "t_s")
        if at_s is None:
            raise row.wrong("t_s", "is empty")
        if row.cells["pr"] not in timelines:
            timeline.ignored[f"its pull request is not in {LIFECYCLE}"] += 1
        elif at_s < 0:
            timeline.ignored["before its pull request was opened"] += 1
        else:
            timelines[row.cells["pr"]].append(_Fact(at_s, row.cells["event"]))

    events: list[Event] = []
    notes: Counter[str] = Counter()
    for pull in pulls.values():
        facts = _facts(pull, timelines[pull.pr], timeline)
        events += _Story(pull, project, timeline, notes).tell(facts)
    events.sort(key=lambda event: event.time)  # stable: within a pull request the order stays
    notes["events implied by the trace, not in it (data.implied)"] = sum("implied" in e.data for e in events)
    return Imported(events, (lifecycle, timeline), notes)


def _facts(pull: _Pull, rows: list[_Fact], timeline: FileRows) -> list[_Fact]:
    """All that is known of a pull request, in order; counts the rows that say nothing more as ignored."""
    rows = sorted(rows, key=lambda row: row.at_s)
    end = _end(pull, rows)
    facts = [_Fact(0, "opened")]
    if end is not None:
        facts.append(end)
    approval_s = pull.approval_s
    if approval_s is not None and end is not None and approval_s > end.at_s:
        approval_s = None  # nothing was left to be approved: it counts as the review that it was
    if approval_s is not None:
        requests = [row for row in rows if row.name == "review_requested" and row.at_s <= approval_s]
        facts.append(_Fact(requests[-1].at_s, "asked") if requests else _Fact(0, "asked_implied"))
        facts.append(_Fact(approval_s, "approved"))
        if requests:
            rows.remove(requests[-1])
            timeline.mapped += 1
    if pull.review_s is not None and pull.review_s != approval_s:
        facts.append(_Fact(pull.review_s, "reviewed"))

    end_is_told = False
    for row in rows:
        if row.name in _RUN or row.name in _CUSTOM:
            facts.append(row)
        elif row.name not in {"closed", "merged", "reopened"}:
            timeline.ignored[f"unknown event {row.name[:40]!r}"] += 1
        elif end is not None and row.name == end.name and abs(row.at_s - end.at_s) <= _SAME_S and not end_is_told:
            end_is_told = True
            timeline.mapped += 1
        elif end is not None and end.name == "merged" and row.name == "closed" and row.at_s >= end.at_s - _SAME_S:
            timeline.ignored["closed by its merge: pr_merged says both"] += 1
        else:
            timeline.ignored[f"{row.name}, but it was not the end: only the last close becomes an event"] += 1
    return sorted(facts, key=lambda fact: fact.order)


def _end(pull: _Pull, rows: list[_Fact]) -> _Fact | None:
    """How the pull request ended, by the lifecycle or, if that was written earlier, by the timeline."""
    merged_s = pull.merged_s
    if merged_s is None:
        merged_s = next((row.at_s for row in rows if row.name == "merged"), None)
    if merged_s is not None:
        return _Fact(merged_s, "merged")
    if pull.closed_s is not None:
        return _Fact(pull.closed_s, "closed")
    last = next((row for row in reversed(rows) if row.name in {"closed", "reopened"}), None)
    return last if last is not None and last.name == "closed" else None


class _Story:
    """Tells the life of one pull request in events."""

    def __init__(self, pull: _Pull, project: str, timeline: FileRows, notes: Counter[str]) -> None:
        self._pull = pull
        self._project = project
        self._timeline = timeline
        self._notes = notes
        self._events: list[Event] = []
        self._about = {"pr_id": pull.pr, "branch": f"{pull.repo}/{pull.pr}", "repo": pull.repo}
        self._latest: dict[str, Event] = {}  # by type: what may be a cause
        self._runs = 0
        self._run: Event | None = None  # the open one's start

    def tell(self, facts: list[_Fact]) -> list[Event]:
        """The events of these facts, in their order."""
        for fact in facts:
            if fact.name in _RUN:
                self._tell_run(fact)
            elif fact.name in _CUSTOM:
                self._add("pr_" + fact.name, fact.at_s, cause=self._cause("pr_merged", "pr_closed", "pr_created"))
                self._timeline.mapped += 1
            else:
                self._tell_change(fact)
        if self._run is not None:
            self._notes["runs without an end in the trace"] += 1
        return self._events

    def _tell_change(self, fact: _Fact) -> None:
        """The pull request itself, its review and its end."""
        pull, at_s = self._pull, fact.at_s
        approval = {"approval_id": f"{pull.pr}-approval", "kind": "merge"}
        match fact.name:
            case "opened":
                commit = {"commit": f"{pull.pr}-first", "agent_id": self._agent_id}
                self._add("branch_created", at_s, {"agent_id": self._agent_id}, implied=True)
                self._add("commit_pushed", at_s, commit, cause=self._cause("branch_created"), implied=True)
                opened = commit | {"agent": pull.agent, "snapshot": pull.snapshot}
                self._add("pr_created", at_s, opened, cause=self._cause("commit_pushed"))
            case "asked" | "asked_implied":
                implied = fact.name == "asked_implied"
                self._add("approval_required", at_s, approval, cause=self._cause("pr_created"), implied=implied)
            case "approved":
                asked = self._latest["approval_required"]
                waited_s = at_s - (asked.time - pull.created_at).total_seconds()
                decision = approval | {"decision": "approved", "waited_s": waited_s}
                self._add("approval_resolved", at_s, decision, cause=asked)
            case "reviewed":
                self._add("pr_reviewed", at_s, cause=self._cause("pr_created"))
            case "merged":
                self._add("pr_merged", at_s, cause=self._cause("approval_resolved", "pr_created"))
            case "closed":
                self._add("pr_closed", at_s, cause=self._cause("pr_created"))

    def _tell_run(self, fact: _Fact) -> None:
        """A start or an end of a run, and what is done when the other one is missing."""
        if _RUN[fact.name] == "agent_started":
            if self._run is not None:
                self._end_run("agent_error", fact.at_s, {"end_reason": "unknown"}, implied=True)
                self._notes["runs without an end in the trace before the next start, which ends them"] += 1
            self._runs += 1
            run = {"run_id": f"{self._pull.pr}-run{self._runs}", "attempt": self._runs}
            self._run = self._add("agent_started", fact.at_s, self._agent | run, cause=self._cause("pr_created"))
        elif self._run is None:
            self._timeline.ignored["end of a run without a start"] += 1
            return
        else:
            duration_s = fact.at_s - (self._run.time - self._pull.created_at).total_seconds()
            end_reason = "completed" if _RUN[fact.name] == "agent_completed" else "failed"
            self._end_run(_RUN[fact.name], fact.at_s, {"end_reason": end_reason, "duration_s": duration_s})
        self._timeline.mapped += 1

    def _end_run(self, event_type: str, at_s: int, data: dict[str, Any], *, implied: bool = False) -> None:
        assert self._run is not None
        run = self._agent | {"run_id": self._run.data["run_id"]}
        self._add(event_type, at_s, run | data, cause=self._run, implied=implied)
        self._run = None

    @property
    def _agent_id(self) -> str:
        """One agent a pull request: the trace does not say which of them are the same."""
        return f"{self._pull.agent}-{self._pull.pr}"

    @property
    def _agent(self) -> dict[str, Any]:
        return {"agent_id": self._agent_id, "role": "developer", "gen_ai.agent.name": self._pull.agent}

    def _cause(self, *types: str) -> Event:
        """The newest event of the first of these types that happened at all."""
        return next(self._latest[event_type] for event_type in types if event_type in self._latest)

    def _add(
        self,
        event_type: str,
        at_s: int,
        data: dict[str, Any] | None = None,
        *,
        cause: Event | None = None,
        implied: bool = False,
    ) -> Event:
        event = Event.new(
            event_type,
            self._about | (data or {}) | ({"implied": True} if implied else {}),
            project=self._project,
            id=f"{self._pull.pr}-{len(self._events) + 1}",
            time=self._pull.created_at + timedelta(seconds=at_s),
            source=_SOURCE,
            subject=self._pull.pr,
            cause=None if cause is None else cause.id,
        )
        self._events.append(event)
        self._latest[event_type] = event
        return event


def _hours(row: Row, column: str) -> int | None:
    """A column of hours after creation in whole seconds."""
    seconds = _seconds(row, column, unit_s=3600)
    if seconds is not None and seconds < 0:
        raise row.wrong(column, "is negative")
    return seconds


def _seconds(row: Row, column: str, *, unit_s: int = 1) -> int | None:
    number = row.number(column)
    if number is None:
        return None
    if abs(number) * unit_s > _LONGEST_S:
        raise row.wrong(column, "is more than 100 years")
    return round(number * unit_s)
