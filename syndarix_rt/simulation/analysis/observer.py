"""`Observer`: follows one project of one simulation, and writes what its events tell into a tally.

Of what a run does inside, `ObservedRun` keeps track; here is what lies between runs: issues, pull requests, pipelines,
approvals, and who waited for whom.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, NamedTuple

from syndarix_rt.events import Event
from syndarix_rt.events.payloads import MAX_COUNT
from syndarix_rt.simulation.analysis.frame_rows import FrameRow
from syndarix_rt.simulation.analysis.observed_run import ObservedRun
from syndarix_rt.simulation.analysis.tally import Tally

__all__ = ["Observer"]

_GAP, _GREEN = "gap", "green"
"""What an issue of a simulation may be waiting for: the next run; the next run, or the end of its pull request."""

_CHANGE_KEYS = ("branch", "pr_id", "issue_id")
"""What a change may go by."""

_NO_VERDICT = ("infra", "cancelled")
"""Why a pipeline may fail without saying anything about the change."""


class _Seen(NamedTuple):
    """An event, when it happened in seconds since 1970, and its payload."""

    event: Event | FrameRow
    now_s: float
    data: dict[str, Any]


class _Pull:
    """A pull request."""

    def __init__(self, created_s: float, thread: Hashable, commits: float | None, *, gated: bool | None) -> None:
        self.created_s = created_s
        self.gated = gated
        self.thread = thread
        self.commits = commits
        self.reviewed = self.approved = False
        self.merged: bool | None = None
        """None: it is open."""
        self.ended_s = math.inf


class Observer:
    """What is going on, and what was.

    Attributes:
        arrivals: times of issues, of requests by the run that stands for their source, of pull requests by repository;
            seconds since 1970, by a name whose first word is the kind.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._first_s = self._last_s = math.nan
        self._issues: dict[str, float] = {}
        self._runs: dict[str, ObservedRun] = {}
        self._pulls: dict[str, _Pull] = {}
        self._approvals: dict[str, tuple[float, str]] = {}
        """When it was asked for, and the pull request."""
        self._pipelines: dict[str, float] = {}
        self._verdicts: list[tuple[float, bool]] = []
        """Start of a pipeline and whether it failed."""
        self._waits: dict[str, tuple[str, float]] = {}
        """Of issues of a simulation: what they wait for, and since when."""
        self._green_gaps = self._green_ends = 0
        """How waits of `_GREEN` for pull requests without approval were over."""
        self._gated: dict[str, bool] = {}
        """Of issues: whether their pull request needs an approval."""
        self._queued_s = self._decided_s = 0.0
        """The longest wait for an agent; and for a human who was noticed, with the decision."""
        self._caused_s: dict[str, float] = {}
        """When events happened, without the activities; only of a simulation."""
        self._ended_s: dict[Hashable, float] = {}
        """Of a branch: when the last developer's run on it ended."""
        self._pipeline_ends: dict[str, tuple[float, bool]] = {}
        """Of a branch, pull request or issue of a real trace: when its last pipeline ended, and whether it failed."""
        self._runs_of: Counter[Hashable] = Counter()
        self._commits_of: Counter[Hashable] = Counter()
        self._supported: set[Hashable] = set()
        """Issues that a tester or reviewer looked at."""
        self._supports = False
        self._open_by_role: Counter[str] = Counter()
        self.arrivals: dict[str, list[float]] = defaultdict(list)

    def feed(self, event: Event | FrameRow) -> None:
        """Take the next event."""
        now_s = event.time.timestamp()
        if math.isnan(self._first_s):
            self._first_s = now_s
        self._last_s = now_s
        handler = self._HANDLERS.get(event.type)
        if handler is not None:
            handler(self, _Seen(event, now_s, event.data))
        if event.simulation is not None and event.type != "agent_activity":
            self._caused_s[event.id] = now_s

    # issues

    def _issue_created(self, seen: _Seen) -> None:
        self._issues[seen.data["issue_id"]] = seen.now_s
        self.arrivals["issues"].append(seen.now_s)

    def _issue_closed(self, seen: _Seen) -> None:
        self._waits.pop(seen.data["issue_id"], None)
        created_s = self._issues.pop(seen.data["issue_id"], None)
        if created_s is not None:
            self._tally.samples["trace.issues.time_to_close_h"].append((seen.now_s - created_s) / 3600)

    # runs

    def _run_started(self, seen: _Seen) -> None:
        data = seen.data
        implied = bool(data.get("implied"))
        thread = _word(data, "pr_id") or data.get("branch") or data.get("issue_id")
        run = self._runs[data["run_id"]] = ObservedRun(self._tally, data["role"], seen.now_s, thread, implied=implied)
        if not implied:
            self._open_by_role[run.role] += 1
            self._tally.peaks[run.role] = max(self._tally.peaks[run.role], self._open_by_role[run.role])
            if run.role == "developer" and (thread is None or not self._runs_of[thread]):
                self._tally.arrived["work"] += 1
        if run.role in ("tester", "reviewer"):
            self._supports = True
            if "issue_id" in data:
                self._supported.add(data["issue_id"])
        self._queued_s = max(self._queued_s, data.get("queued_s") or 0)
        waited = self._waits.pop(data.get("issue_id") or "", None)
        if waited is not None and waited[0] == _GREEN and run.role == "developer":
            self._green_gaps += not self._gated.get(data["issue_id"])
        if run.role != "developer" or implied or thread is None:
            return
        self._runs_of[thread] += 1
        ended_s = self._ended_s.get(thread)
        if ended_s is not None:
            since_s = self._caused_s.get(seen.event.cause or "", ended_s)
            self._tally.samples["changes.gap_min"].append(
                max(seen.now_s - since_s - (data.get("queued_s") or 0), 0) / 60
            )
            self._went_on(seen, again=True)

    def _activity(self, seen: _Seen) -> None:
        run = self._runs.get(seen.data["run_id"])
        if run is not None and run.activity(seen.data) and run.implied:
            name = f"requests {seen.data['run_id']}"
            self.arrivals[name].append(seen.now_s - (seen.data.get("duration_s") or 0))

    def _run_ended(self, seen: _Seen) -> None:
        data = seen.data
        run = self._runs.get(data["run_id"])
        if run is None or run.implied or data.get("implied"):  # an implied end: nobody saw when
            return
        del self._runs[data["run_id"]]
        self._open_by_role[run.role] -= 1
        completed = seen.event.type == "agent_completed"
        if run.thread is not None and run.role == "developer":
            self._ended_s[run.thread] = seen.now_s
        if data["end_reason"] == "cancelled":
            return
        if run.role in ("tester", "reviewer"):
            self._wait(seen, _GREEN)
        elif run.role == "developer" and not completed:
            self._wait(seen, _GAP)
        run.end(seen.now_s, data["end_reason"], data.get("cost_usd"), completed=completed)

    # changes

    def _wait(self, seen: _Seen, kind: str) -> None:
        """From now on the issue waits for people, unless something happens at once."""
        if seen.event.simulation is not None and (issue_id := seen.data.get("issue_id")):
            self._waits[issue_id] = kind, seen.now_s

    def _commit_pushed(self, seen: _Seen) -> None:
        run = self._runs.get(seen.data.get("run_id") or "")
        if run is not None:
            run.commits += 1
        self._commits_of[seen.data["branch"]] += 1

    def _pr_created(self, seen: _Seen) -> None:
        data = seen.data
        self._pulls[data["pr_id"]] = _Pull(seen.now_s, data.get("branch"), _commits(data), gated=data.get("gated"))
        if data.get("gated") is not None:
            self._tally.count("approvals.gated_share", data["gated"], 1)
            self._gated[data.get("issue_id") or ""] = data["gated"]
        self.arrivals[f"prs {data.get('repo', '')}"].append(seen.now_s)

    def _pr_reviewed(self, seen: _Seen) -> None:
        pull = self._pulls.get(_word(seen.data, "pr_id"))
        if pull is not None and not pull.reviewed:
            pull.reviewed = True
            self._tally.samples["trace.prs.first_review_h"].append((seen.now_s - pull.created_s) / 3600)

    def _pr_ended(self, seen: _Seen) -> None:
        data = seen.data
        pull = self._pulls.get(data["pr_id"])
        if pull is None or pull.merged is not None:
            return
        pull.merged = merged = seen.event.type == "pr_merged"
        pull.ended_s = seen.now_s
        self._tally.count("changes.closed_unmerged_share", not merged, 1)
        self._went_on(seen, again=False)
        wait, since_s = self._waits.pop(data.get("issue_id") or "", ("", 0.0))
        if not pull.gated and wait == _GREEN:
            self._green_ends += 1
            if not merged:  # dropped, after as long a wait as that for a merge
                self._tally.samples["changes.merge_h"].append((seen.now_s - since_s) / 3600)
        if not merged:
            return
        self._tally.samples["trace.prs.merge_h"].append((seen.now_s - pull.created_s) / 3600)
        if pull.gated is None:
            self._tally.count("approvals.gated_share", pull.approved, 1)
        if not pull.approved:
            milestone_s = max(pull.created_s, self._last_pipeline(seen)[0])
            since_s = self._caused_s.get(seen.event.cause or "", milestone_s)
            self._tally.samples["changes.merge_h"].append((seen.now_s - since_s) / 3600)
        looked_at = data.get("issue_id") in self._supported if self._supports else pull.reviewed
        self._tally.count("changes.reviewed_share", looked_at, 1)

    def _went_on(self, seen: _Seen, *, again: bool) -> None:
        """A real change got another run, or came to its end."""
        if seen.event.simulation is None:
            _, failed = self._last_pipeline(seen)
            self._tally.count("pipelines.fix_share" if failed else "changes.rework_share", again, 1)

    def _last_pipeline(self, seen: _Seen) -> tuple[float, bool]:
        """When it ended, and whether it failed."""
        names = (_word(seen.data, key) for key in _CHANGE_KEYS)
        return max((self._pipeline_ends[name] for name in names if name in self._pipeline_ends), default=(0.0, False))

    # pipelines

    def _pipeline_started(self, seen: _Seen) -> None:
        self._pipelines[seen.data["pipeline_id"]] = seen.now_s
        self._tally.peaks["pipelines"] = max(self._tally.peaks["pipelines"], len(self._pipelines))
        self._waits.pop(seen.data.get("issue_id") or "", None)

    def _pipeline_ended(self, seen: _Seen) -> None:
        start_s = self._pipelines.pop(seen.data["pipeline_id"], None)
        if start_s is None or seen.data.get("reason") in _NO_VERDICT:
            return
        failed = seen.event.type == "pipeline_failed"
        if seen.event.simulation is None:
            names = (_word(seen.data, key) for key in _CHANGE_KEYS)
            self._pipeline_ends |= dict.fromkeys(filter(None, names), (seen.now_s, failed))
        self._verdicts.append((start_s, failed))
        self._wait(seen, _GAP if failed else _GREEN)
        self._tally.samples["pipelines.failure_min" if failed else "pipelines.success_min"].append(
            (seen.now_s - start_s) / 60
        )

    # approvals

    def _approval_required(self, seen: _Seen) -> None:
        self._approvals[seen.data["approval_id"]] = seen.now_s, seen.data.get("pr_id") or ""
        self._waits.pop(seen.data.get("issue_id") or "", None)

    def _approval_resolved(self, seen: _Seen) -> None:
        data = seen.data
        asked_s, _ = self._approvals.pop(data["approval_id"], (None, ""))
        if asked_s is not None:
            busy_s = data.get("busy_s")
            decided_s = (busy_s or 0) + (data.get("queued_s") or 0)
            self._decided_s = max(self._decided_s, decided_s)
            wait_s = seen.now_s - asked_s - decided_s
            self._tally.samples["approvals.response_h"].append(max(wait_s, 0) / 3600)
            if busy_s is not None:
                self._tally.samples["approvals.review_min"].append(busy_s / 60)
        pull = self._pulls.get(data.get("pr_id") or "")
        if pull is not None and data["decision"] == "approved" and not pull.approved:
            pull.approved = True
            self._tally.samples["trace.prs.first_approval_h"].append((seen.now_s - pull.created_s) / 3600)
        self._pr_reviewed(seen)

    _HANDLERS: ClassVar[dict[str, Callable[[Observer, _Seen], None]]] = {
        "issue_created": _issue_created,
        "issue_closed": _issue_closed,
        "agent_started": _run_started,
        "agent_activity": _activity,
        "agent_completed": _run_ended,
        "agent_error": _run_ended,
        "commit_pushed": _commit_pushed,
        "pr_created": _pr_created,
        "pr_reviewed": _pr_reviewed,
        "pr_merged": _pr_ended,
        "pr_closed": _pr_ended,
        "pipeline_started": _pipeline_started,
        "pipeline_completed": _pipeline_ended,
        "pipeline_failed": _pipeline_ended,
        "approval_required": _approval_required,
        "approval_resolved": _approval_resolved,
    }

    def finish(self) -> None:
        """Write into the tally what only the whole stream tells."""
        tally = self._tally
        tally.hours += (self._last_s - self._first_s) / 3600
        tally.open["runs"] += sum(not run.implied for run in self._runs.values())
        tally.open["pull requests"] += sum(pull.merged is None for pull in self._pulls.values())
        tally.open["issues"] += len(self._issues)
        tally.open["pipelines"] += len(self._pipelines)
        tally.open["approvals"] += len(self._approvals)
        self._still_open()
        for name, times in self.arrivals.items():
            tally.arrived[name.partition(" ")[0]] += len(times)
        self._verdicts.sort()
        for (_, before), (_, failed) in zip(self._verdicts, self._verdicts[1:], strict=False):
            name = "pipelines.fail_after_failure_share" if before else "pipelines.fail_after_success_share"
            tally.count(name, failed, 1)
        tally.samples["trace.prs.runs"] += self._runs_of.values()
        for pull in self._pulls.values():
            commits = self._commits_of[pull.thread] if pull.commits is None else pull.commits
            if commits:
                tally.samples["trace.prs.commits"].append(commits)

    def _still_open(self) -> None:
        """People's waits of a project that were not over.

        Whoever waits may by now wait for an agent or a busy human instead, so the longest such wait is taken off.
        """
        for asked_s, pr_id in self._approvals.values():
            ended_s = min(self._last_s, self._pulls[pr_id].ended_s if pr_id in self._pulls else math.inf)
            self._tally.still_open["approvals.response_h"].append(max(ended_s - asked_s - self._decided_s, 0) / 3600)
        gaps_s: list[float] = []
        either_s: list[float] = []
        for issue_id, (kind, since_s) in self._waits.items():
            lasted_s = max(self._last_s - since_s - self._queued_s, 0)
            (gaps_s if kind == _GAP or self._gated.get(issue_id) else either_s).append(lasted_s)
        # In such proportions as those that are over; evenly among short and long ones.
        share = self._green_ends / ((self._green_ends + self._green_gaps) or 1)
        for place, lasted_s in enumerate(sorted(either_s)):
            if int((place + 1) * share + 0.5) > int(place * share + 0.5):
                self._tally.still_open["changes.merge_h"].append(lasted_s / 3600)
            else:
                gaps_s.append(lasted_s)
        self._tally.still_open["changes.gap_min"] += [lasted_s / 60 for lasted_s in gaps_s]


def _word(data: dict[str, Any], key: str) -> str:
    """What stands there if it is a text; the catalogue does not check every key that a payload may have."""
    value = data.get(key)
    return value if isinstance(value, str) else ""


def _commits(data: dict[str, Any]) -> int | None:
    """How many commits an imported pull request had in the end, if that is known."""
    snapshot = data.get("snapshot")
    commits = snapshot.get("commits") if isinstance(snapshot, dict) else None
    return commits if isinstance(commits, int) and 0 < commits <= MAX_COUNT else None
