"""`Observations`: what events tell about the quantities that a profile holds, value by value.

A value is what is over. Of people's waits that are not over at the end it is known that they last at least as long as
they did so far (``still_open``); other runs, pull requests and pipelines that are open at the end are counted, so that
whoever fits a law can say how many it leaves out. A run that the trace merely implies (``data.implied``) says
nothing about runs; its LLM calls are *requests* of which only arrival and tokens are known.

Where a simulation says what caused a step, a wait runs from its cause; a real trace cannot tell why, and it runs from
the milestone before: a merge from the pull request's opening or its last pipeline, a run from the end of the one before
on the same branch. Why a run came after another one is told by the last pipeline between them: it failed, or somebody
wanted more.
For the same reason only a simulation tells what an open pull request waits for; of a real one nobody knows whether it
will ever be merged, or go on.

Real agents have roles of all names: one that the model does not know works as a developer. They seldom say what of a
prompt is new; it is what the prompt has beyond the one before it in the run and its answer.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from syndarix_rt.events import Event
from syndarix_rt.events.payloads import LLM_OPERATIONS, MAX_COUNT
from syndarix_rt.simulation.analysis.frame_rows import FrameRow

__all__ = ["HUMAN_WAITS", "Observations"]

Floats = npt.NDArray[np.float64]

HUMAN_WAITS = ("changes.gap_min", "changes.merge_h", "approvals.response_h", "approvals.review_min")
"""What a scenario multiplies by its ``human_time_scale``."""

_GAP, _GREEN = "gap", "green"
"""What an issue of a simulation may be waiting for: the next run; the next run, or the end of its pull request."""

_SUPPORT = ("planner", "tester", "reviewer")
"""Roles of the model beside the developer's."""

_CHANGE_KEYS = ("branch", "pr_id", "issue_id")
"""What a change may go by."""

_NO_VERDICT = ("infra", "cancelled")
"""Why a pipeline may fail without saying anything about the change."""


class _Run:
    """A run while it is open."""

    def __init__(self, role: str, start_s: float, thread: Hashable, *, implied: bool) -> None:
        self.role = role if role in _SUPPORT else "developer"
        self.start_s = start_s
        self.context_tokens = 0
        """Of the latest LLM call: its prompt and its answer."""
        self.thread = thread
        self.implied = implied
        self.llm_calls = self.commits = 0
        self.tools: list[int] = []
        """Of each LLM call so far: tool calls that followed."""
        self.logs: list[float] = []
        """Logarithms of the LLM calls' durations."""


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


class _Group:
    """What belongs to one project of one simulation."""

    def __init__(self) -> None:
        self.first_s = self.last_s = math.nan
        self.issues: dict[str, float] = {}
        self.runs: dict[str, _Run] = {}
        self.pulls: dict[str, _Pull] = {}
        self.approvals: dict[str, tuple[float, str]] = {}
        """When it was asked for, and the pull request."""
        self.pipelines: dict[str, float] = {}
        self.verdicts: list[tuple[float, bool]] = []
        """Start of a pipeline and whether it failed."""
        self.waits: dict[str, tuple[str, float]] = {}
        """Of issues of a simulation: what they wait for, and since when."""
        self.green_gaps = self.green_ends = 0
        """How waits of `_GREEN` for pull requests without approval were over."""
        self.gated: dict[str, bool] = {}
        """Of issues: whether their pull request needs an approval."""
        self.queued_s = self.decided_s = 0.0
        """The longest wait for an agent; and for a human who was noticed, with the decision."""
        self.caused_s: dict[str, float] = {}
        """When events happened, without the activities; only of a simulation."""
        self.ended_s: dict[Hashable, float] = {}
        """Of a branch: when the last developer's run on it ended."""
        self.pipeline_ends: dict[str, tuple[float, bool]] = {}
        """Of a branch, pull request or issue of a real trace: when its last pipeline ended, and whether it failed."""
        self.runs_of: Counter[Hashable] = Counter()
        self.commits_of: Counter[Hashable] = Counter()
        self.supported: set[Hashable] = set()
        """Issues that a tester or reviewer looked at."""
        self.supports = False
        self.open_by_role: Counter[str] = Counter()
        self.arrivals: dict[str, list[float]] = defaultdict(list)
        """Times of issues, of requests by the run that stands for their source, of pull requests by repository."""


class Observations:
    """Values and shares by the key of the constant that they are evidence for.

    Attributes:
        samples: durations, sizes and counts, in the unit of the key.
        still_open: of people's waits that were not over, how long they had lasted, in the unit of the key.
        shares: how often something happened, how often it could have, and of how many observations that is the sum.
        open: what was still going on at the end, by what it is.
        logs: of each run, logarithms of the durations of its LLM calls.
        hours: how long each project was seen, summed.
        arrived: number of issues, requests, pull requests, and of developers' runs that began a piece of work.
        peaks: most runs by role, and most ``pipelines``, that were going on at once in a project.
        models: LLM calls by the model that was asked.
    """

    def __init__(self) -> None:
        self.samples: dict[str, list[float]] = defaultdict(list)
        self.still_open: dict[str, list[float]] = defaultdict(list)
        self.shares: dict[str, tuple[float, float, int]] = {}
        self.open: Counter[str] = Counter()
        self.logs: list[list[float]] = []
        self.hours = 0.0
        self.arrived: Counter[str] = Counter()
        self.peaks: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self._groups: dict[tuple[str | None, str], _Group] = {}

    @classmethod
    def of(cls, events: Iterable[Event | FrameRow]) -> Observations:
        """What all of them tell, to the end."""
        observations = cls()
        for event in events:
            observations.feed(event)
        observations.finish()
        return observations

    def arrival_times(self, kind: str) -> Floats:
        """When ``issues``, ``requests`` or ``prs`` arrived, of all projects together: seconds since 1970, ascending."""
        times = [
            time_s
            for group in self._groups.values()
            for name, those in group.arrivals.items()
            if name.partition(" ")[0] == kind
            for time_s in those
        ]
        return np.sort(np.array(times, float))

    @property
    def sources(self) -> int:
        """How many sources the requests are from: files of an imported trace."""
        return sum(name.startswith("requests ") for group in self._groups.values() for name in group.arrivals)

    def interarrivals(self, kind: str, unit_s: float) -> Floats:
        """Times between arrivals of ``issues``, ``requests`` or ``prs``, in units of so many seconds.

        Those of several projects, sources or repositories are brought to the common mean first, so that their shape is
        that of one of them, not of their different rates; ones with fewer than 30 are left out, if there is more than
        one.
        """
        gaps = [
            np.diff(np.sort(np.array(times)))
            for group in self._groups.values()
            for name, times in group.arrivals.items()
            if name.partition(" ")[0] == kind and len(times) > 1
        ]
        if len(gaps) > 1:
            gaps = [each for each in gaps if len(each) >= _ENOUGH_GAPS and each.mean() > 0]
        if not gaps:
            return np.array([])
        mean = np.concatenate(gaps).mean()
        return np.asarray(np.concatenate([each / (each.mean() or 1) for each in gaps]) * mean / unit_s, float)

    def feed(self, event: Event | FrameRow) -> None:
        """Take the next event."""
        key = (event.simulation, event.project)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
        now_s = event.time.timestamp()
        if math.isnan(group.first_s):
            group.first_s = now_s
        group.last_s = now_s
        handler = self._HANDLERS.get(event.type)
        if handler is not None:
            handler(self, group, _Seen(event, now_s, event.data))
        if event.simulation is not None and event.type != "agent_activity":
            group.caused_s[event.id] = now_s

    def _count(self, name: str, yes: float, all_: float) -> None:
        yes_before, all_before, n = self.shares.get(name, (0.0, 0.0, 0))
        self.shares[name] = yes_before + yes, all_before + all_, n + 1

    # issues

    def _issue_created(self, group: _Group, seen: _Seen) -> None:
        group.issues[seen.data["issue_id"]] = seen.now_s
        group.arrivals["issues"].append(seen.now_s)

    def _issue_closed(self, group: _Group, seen: _Seen) -> None:
        group.waits.pop(seen.data["issue_id"], None)
        created_s = group.issues.pop(seen.data["issue_id"], None)
        if created_s is not None:
            self.samples["trace.issues.time_to_close_h"].append((seen.now_s - created_s) / 3600)

    # runs

    def _run_started(self, group: _Group, seen: _Seen) -> None:
        data = seen.data
        implied = bool(data.get("implied"))
        thread = _word(data, "pr_id") or data.get("branch") or data.get("issue_id")
        run = group.runs[data["run_id"]] = _Run(data["role"], seen.now_s, thread, implied=implied)
        if not implied:
            group.open_by_role[run.role] += 1
            self.peaks[run.role] = max(self.peaks[run.role], group.open_by_role[run.role])
            if run.role == "developer" and (thread is None or not group.runs_of[thread]):
                self.arrived["work"] += 1
        if run.role in ("tester", "reviewer"):
            group.supports = True
            group.supported.add(data.get("issue_id"))
        group.queued_s = max(group.queued_s, data.get("queued_s") or 0)
        waited = group.waits.pop(data.get("issue_id") or "", None)
        if waited is not None and waited[0] == _GREEN and run.role == "developer":
            group.green_gaps += not group.gated.get(data["issue_id"])
        if run.role != "developer" or implied or thread is None:
            return
        group.runs_of[thread] += 1
        ended_s = group.ended_s.get(thread)
        if ended_s is not None:
            since_s = group.caused_s.get(seen.event.cause or "", ended_s)
            self.samples["changes.gap_min"].append(max(seen.now_s - since_s - (data.get("queued_s") or 0), 0) / 60)
            self._went_on(group, seen, again=True)

    def _activity(self, group: _Group, seen: _Seen) -> None:
        data = seen.data
        run = group.runs.get(data["run_id"])
        operation = data.get("gen_ai.operation.name")
        failed = data.get("status") == "error"
        if run is not None and operation == "execute_tool" and data.get("attempt") is None:
            self._count("runs.tool_error_share", failed, 1)
        if run is None or failed:
            return
        if operation in LLM_OPERATIONS:
            self._llm_call(group, seen, run)
        elif operation == "execute_tool":
            if run.tools:
                run.tools[-1] += 1
            if data.get("duration_s") is not None:
                self.samples["runs.tool_s"].append(data["duration_s"])
            if data.get("attempt") is not None:
                self._count("runs.tool_error_share", data["attempt"] - 1, data["attempt"])

    def _llm_call(self, group: _Group, seen: _Seen, run: _Run) -> None:
        data, samples = seen.data, self.samples
        put_in, output = data.get("gen_ai.usage.input_tokens"), data.get("gen_ai.usage.output_tokens")
        prefix, cached = data.get("prefix_tokens"), data.get("cached_tokens")
        duration_s = data.get("duration_s")
        append = data.get("append_tokens")
        if prefix is None and put_in is not None and not run.implied and 0 < run.context_tokens <= put_in:
            prefix, append = run.context_tokens, put_in - run.context_tokens
        run.context_tokens = (put_in or 0) + (output or 0)
        if model := data.get("gen_ai.request.model"):
            self.models[model] += 1
        if output is not None:
            samples["runs.output_tokens"].append(output)
        if prefix and append is not None:
            samples["runs.append_tokens"].append(append)
        if run.implied:
            group.arrivals[f"requests {data['run_id']}"].append(seen.now_s - (duration_s or 0))
            if put_in is not None:
                samples["trace.requests.input_tokens"].append(put_in)
                if cached is not None:
                    self._count("trace.requests.cached_share", cached, put_in)
            return
        if put_in is not None:
            samples["trace.runs.call_input_tokens" if run.llm_calls else "runs.first_context_tokens"].append(put_in)
        if prefix and cached is not None:
            self._count("runs.cache_hit_share", min(cached, prefix), prefix)
        if duration_s is not None:
            samples["runs.llm_s"].append(duration_s)
            run.logs.append(math.log(max(duration_s, 1e-6)))
        run.llm_calls += 1
        run.tools.append(0)

    def _run_ended(self, group: _Group, seen: _Seen) -> None:
        data = seen.data
        run = group.runs.get(data["run_id"])
        if run is None or run.implied or data.get("implied"):  # an implied end: nobody saw when
            return
        del group.runs[data["run_id"]]
        group.open_by_role[run.role] -= 1
        completed, minutes = seen.event.type == "agent_completed", (seen.now_s - run.start_s) / 60
        if run.thread is not None and run.role == "developer":
            group.ended_s[run.thread] = seen.now_s
        if data["end_reason"] == "cancelled":
            return
        if run.role in ("tester", "reviewer"):
            self._wait(group, seen, _GREEN)
        elif run.role == "developer" and not completed:
            self._wait(group, seen, _GAP)
        if run.logs:
            self.logs.append(run.logs)
        if run.llm_calls:
            self._count(
                "runs.fatal_error_share",
                not completed and data["end_reason"] != "max_iters",
                run.llm_calls + (data["end_reason"] in ("rate_limited", "llm_failure")),
            )
        if data.get("cost_usd"):
            self.samples["trace.runs.cost_usd"].append(data["cost_usd"])
        if run.tools and completed:
            self.samples["runs.tools_per_call"] += run.tools
        if run.role != "developer":
            return
        self._count("trace.runs.error_share", not completed, 1)
        self.samples["trace.runs.duration_min" if completed else "trace.runs.failed_duration_min"].append(minutes)
        if completed and run.llm_calls:
            self.samples["runs.calls"].append(run.llm_calls)
        if completed and run.commits:
            self.samples["changes.commits_per_run"].append(run.commits)

    # changes

    def _wait(self, group: _Group, seen: _Seen, kind: str) -> None:
        """From now on the issue waits for people, unless something happens at once."""
        if seen.event.simulation is not None and (issue_id := seen.data.get("issue_id")):
            group.waits[issue_id] = kind, seen.now_s

    def _commit_pushed(self, group: _Group, seen: _Seen) -> None:
        run = group.runs.get(seen.data.get("run_id") or "")
        if run is not None:
            run.commits += 1
        group.commits_of[seen.data["branch"]] += 1

    def _pr_created(self, group: _Group, seen: _Seen) -> None:
        data = seen.data
        group.pulls[data["pr_id"]] = _Pull(seen.now_s, data.get("branch"), _commits(data), gated=data.get("gated"))
        if data.get("gated") is not None:
            self._count("approvals.gated_share", data["gated"], 1)
            group.gated[data.get("issue_id") or ""] = data["gated"]
        group.arrivals[f"prs {data.get('repo', '')}"].append(seen.now_s)

    def _pr_reviewed(self, group: _Group, seen: _Seen) -> None:
        pull = group.pulls.get(_word(seen.data, "pr_id"))
        if pull is not None and not pull.reviewed:
            pull.reviewed = True
            self.samples["trace.prs.first_review_h"].append((seen.now_s - pull.created_s) / 3600)

    def _pr_ended(self, group: _Group, seen: _Seen) -> None:
        data = seen.data
        pull = group.pulls.get(data["pr_id"])
        if pull is None or pull.merged is not None:
            return
        pull.merged = merged = seen.event.type == "pr_merged"
        pull.ended_s = seen.now_s
        self._count("changes.closed_unmerged_share", not merged, 1)
        self._went_on(group, seen, again=False)
        wait, since_s = group.waits.pop(data.get("issue_id") or "", ("", 0.0))
        if not pull.gated and wait == _GREEN:
            group.green_ends += 1
            if not merged:  # dropped, after as long a wait as that for a merge
                self.samples["changes.merge_h"].append((seen.now_s - since_s) / 3600)
        if not merged:
            return
        self.samples["trace.prs.merge_h"].append((seen.now_s - pull.created_s) / 3600)
        if pull.gated is None:
            self._count("approvals.gated_share", pull.approved, 1)
        if not pull.approved:
            milestone_s = max(pull.created_s, self._last_pipeline(group, seen)[0])
            since_s = group.caused_s.get(seen.event.cause or "", milestone_s)
            self.samples["changes.merge_h"].append((seen.now_s - since_s) / 3600)
        looked_at = data.get("issue_id") in group.supported if group.supports else pull.reviewed
        self._count("changes.reviewed_share", looked_at, 1)

    def _went_on(self, group: _Group, seen: _Seen, *, again: bool) -> None:
        """A real change got another run, or came to its end."""
        if seen.event.simulation is None:
            _, failed = self._last_pipeline(group, seen)
            self._count("pipelines.fix_share" if failed else "changes.rework_share", again, 1)

    def _last_pipeline(self, group: _Group, seen: _Seen) -> tuple[float, bool]:
        """When it ended, and whether it failed."""
        names = (_word(seen.data, key) for key in _CHANGE_KEYS)
        return max((group.pipeline_ends[name] for name in names if name in group.pipeline_ends), default=(0.0, False))

    # pipelines

    def _pipeline_started(self, group: _Group, seen: _Seen) -> None:
        group.pipelines[seen.data["pipeline_id"]] = seen.now_s
        self.peaks["pipelines"] = max(self.peaks["pipelines"], len(group.pipelines))
        group.waits.pop(seen.data.get("issue_id") or "", None)

    def _pipeline_ended(self, group: _Group, seen: _Seen) -> None:
        start_s = group.pipelines.pop(seen.data["pipeline_id"], None)
        if start_s is None or seen.data.get("reason") in _NO_VERDICT:
            return
        failed = seen.event.type == "pipeline_failed"
        if seen.event.simulation is None:
            names = (_word(seen.data, key) for key in _CHANGE_KEYS)
            group.pipeline_ends |= dict.fromkeys(filter(None, names), (seen.now_s, failed))
        group.verdicts.append((start_s, failed))
        self._wait(group, seen, _GAP if failed else _GREEN)
        self.samples["pipelines.failure_min" if failed else "pipelines.success_min"].append((seen.now_s - start_s) / 60)

    # approvals

    def _approval_required(self, group: _Group, seen: _Seen) -> None:
        group.approvals[seen.data["approval_id"]] = seen.now_s, seen.data.get("pr_id") or ""
        group.waits.pop(seen.data.get("issue_id") or "", None)

    def _approval_resolved(self, group: _Group, seen: _Seen) -> None:
        data = seen.data
        asked_s, _ = group.approvals.pop(data["approval_id"], (None, ""))
        if asked_s is not None:
            busy_s = data.get("busy_s")
            decided_s = (busy_s or 0) + (data.get("queued_s") or 0)
            group.decided_s = max(group.decided_s, decided_s)
            wait_s = seen.now_s - asked_s - decided_s
            self.samples["approvals.response_h"].append(max(wait_s, 0) / 3600)
            if busy_s is not None:
                self.samples["approvals.review_min"].append(busy_s / 60)
        pull = group.pulls.get(data.get("pr_id") or "")
        if pull is not None and data["decision"] == "approved" and not pull.approved:
            pull.approved = True
            self.samples["trace.prs.first_approval_h"].append((seen.now_s - pull.created_s) / 3600)
        self._pr_reviewed(group, seen)

    _HANDLERS: ClassVar[dict[str, Callable[[Observations, _Group, _Seen], None]]] = {
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
        """Take in what only the whole stream tells; call it once, after the last event."""
        for group in self._groups.values():
            self.hours += (group.last_s - group.first_s) / 3600
            self.open["runs"] += sum(not run.implied for run in group.runs.values())
            self.open["pull requests"] += sum(pull.merged is None for pull in group.pulls.values())
            self.open["issues"] += len(group.issues)
            self.open["pipelines"] += len(group.pipelines)
            self.open["approvals"] += len(group.approvals)
            self._still_open(group)
            for name, times in group.arrivals.items():
                self.arrived[name.partition(" ")[0]] += len(times)
            group.verdicts.sort()
            for (_, before), (_, failed) in zip(group.verdicts, group.verdicts[1:], strict=False):
                name = "pipelines.fail_after_failure_share" if before else "pipelines.fail_after_success_share"
                self._count(name, failed, 1)
            self.samples["trace.prs.runs"] += group.runs_of.values()
            for pull in group.pulls.values():
                commits = group.commits_of[pull.thread] if pull.commits is None else pull.commits
                if commits:
                    self.samples["trace.prs.commits"].append(commits)
        for name in [name for name, values in self.samples.items() if not values]:
            del self.samples[name]

    def _still_open(self, group: _Group) -> None:
        """People's waits of a project that were not over.

        Whoever waits may by now wait for an agent or a busy human instead, so the longest such wait is taken off.
        """
        for asked_s, pr_id in group.approvals.values():
            ended_s = min(group.last_s, group.pulls[pr_id].ended_s if pr_id in group.pulls else math.inf)
            self.still_open["approvals.response_h"].append(max(ended_s - asked_s - group.decided_s, 0) / 3600)
        gaps_s: list[float] = []
        either_s: list[float] = []
        for issue_id, (kind, since_s) in group.waits.items():
            lasted_s = max(group.last_s - since_s - group.queued_s, 0)
            (gaps_s if kind == _GAP or group.gated.get(issue_id) else either_s).append(lasted_s)
        # In such proportions as those that are over; evenly among short and long ones.
        share = group.green_ends / ((group.green_ends + group.green_gaps) or 1)
        for place, lasted_s in enumerate(sorted(either_s)):
            if int((place + 1) * share + 0.5) > int(place * share + 0.5):
                self.still_open["changes.merge_h"].append(lasted_s / 3600)
            else:
                gaps_s.append(lasted_s)
        self.still_open["changes.gap_min"] += [lasted_s / 60 for lasted_s in gaps_s]


_ENOUGH_GAPS = 30


def _word(data: dict[str, Any], key: str) -> str:
    """What stands there if it is a text; the catalogue does not check every key that a payload may have."""
    value = data.get(key)
    return value if isinstance(value, str) else ""


def _commits(data: dict[str, Any]) -> int | None:
    """How many commits an imported pull request had in the end, if that is known."""
    snapshot = data.get("snapshot")
    commits = snapshot.get("commits") if isinstance(snapshot, dict) else None
    return commits if isinstance(commits, int) and 0 < commits <= MAX_COUNT else None


class _Seen(NamedTuple):
    """An event, when it happened in seconds since 1970, and its payload."""

    event: Event | FrameRow
    now_s: float
    data: dict[str, Any]
