"""`ProjectChecker`: judges what events are about: runs, issues, changes, pipelines, approvals, sprints.

What an event does not say is not judged, so traces of real agents can be checked that know neither tokens nor sprints.
After a violation the checker believes the event and goes on from there: one fault is one violation.

Only what is open is remembered in full; of what is over, the id (see `IdSet`). So memory follows what goes on at a
time, not the length of the stream.

In a *partial* stream, one that was joined midway, what an event refers to and was not seen may have begun before. It is
believed and from then on known, so whatever contradicts it, or anything else that was seen, is a violation still. Sums
over a run or a sprint whose start was not seen are at least what was seen of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

from syndarix_rt.events import Event
from syndarix_rt.simulation.entities import Branch, Issue, PullRequest, Run
from syndarix_rt.simulation.idset import IdSet

__all__ = ["LLM_OPERATIONS", "ProjectChecker"]

_TOLERANCE_S = 0.001
"""Simulated times are exact; real reporters round durations to milliseconds."""

LLM_OPERATIONS = ("chat", "generate_content", "text_completion")
_TOKENS = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cost_usd": "cost_usd",
}


class ProjectChecker:
    """Checks the entities of one project in one simulation.

    Args:
        violated: called with invariant, event and reason.
        partial: whether things may have happened before the first event.
    """

    def __init__(self, violated: Callable[[str, Event, str], None], *, partial: bool = False) -> None:
        self._violated = violated
        self._partial = partial
        self._runs: dict[str, Run] = {}
        self._ended_runs = IdSet()
        self._agents: dict[str, set[str]] = {}
        self._issues: dict[str, Issue] = {}
        self._closed_issues = IdSet()
        self._branches: dict[str, Branch] = {}
        self._idle_branches, self._merged_branches = IdSet(), IdSet()
        self._prs: dict[str, PullRequest] = {}
        self._ended_prs = IdSet()
        self._pipelines: dict[str, dict[str, Any]] = {}
        self._ended_pipelines = IdSet()
        self._runners: dict[str, str] = {}
        """Busy ones, and their pipelines."""
        self._last_queued = -math.inf
        """When the pipeline that started last was queued, in seconds since 1970."""
        self._approvals: dict[str, str | None] = {}
        """Pending ones, and the pull request that each is about."""
        self._resolved = IdSet()
        self._sprint_id: str | None = None
        self._closed_in_sprint = 0
        self._ended_sprints = IdSet()
        self._knows_sprint = not partial
        """Whether it is known which sprint is open, if any."""
        self._handlers: dict[str, Callable[[Event, dict[str, Any]], None]] = {
            "agent_started": self._agent_started,
            "agent_activity": self._agent_activity,
            "agent_completed": self._agent_ended,
            "agent_error": self._agent_ended,
            "issue_created": self._issue_created,
            "issue_updated": self._issue_updated,
            "issue_closed": self._issue_closed,
            "branch_created": self._branch_created,
            "commit_pushed": self._commit_pushed,
            "pr_created": self._pr_created,
            "pr_merged": self._pr_ended,
            "pr_closed": self._pr_ended,
            "pipeline_started": self._pipeline_started,
            "pipeline_completed": self._pipeline_ended,
            "pipeline_failed": self._pipeline_ended,
            "approval_required": self._approval_required,
            "approval_resolved": self._approval_resolved,
            "sprint_started": self._sprint_started,
            "sprint_completed": self._sprint_completed,
        }

    def check(self, event: Event) -> None:
        """Judge one event; custom types are not judged."""
        handler = self._handlers.get(event.type)
        if handler:
            handler(event, event.data)

    def _unseen(self, invariant: str, event: Event, reason: str) -> None:
        """What should have come before was not seen: a violation, unless the stream began later than that."""
        if not self._partial:
            self._violated(invariant, event, reason)

    # agents

    def _agent_started(self, event: Event, data: dict[str, Any]) -> None:
        run_id, agent_id = data["run_id"], data["agent_id"]
        if run_id in self._runs:
            self._violated("A1", event, f"{run_id} was started before")
            return
        if run_id in self._ended_runs:
            self._violated("A3", event, f"{run_id} has ended")
            return
        open_runs = self._agents.setdefault(agent_id, set())
        run = Run(agent_id, event.time, data.get("concurrency") or 1)
        if len(open_runs) >= run.concurrency:
            self._violated("A4", event, f"{agent_id} works on {', '.join(sorted(open_runs))} already")
            open_runs -= {other for other in open_runs if self._runs[other].started is None}  # believed wrongly
        open_runs.add(run_id)
        self._runs[run_id] = run

    def _agent_activity(self, event: Event, data: dict[str, Any]) -> None:
        run_id = data["run_id"]
        run = self._runs.get(run_id)
        if run is None:
            if run_id in self._ended_runs:
                self._violated("A3", event, f"{run_id} has ended")
                return
            run = self._believe_run(run_id, data)
            if run is None:
                self._violated("A1", event, f"{run_id} was never started")
                run = self._runs[run_id] = Run(data["agent_id"], None)
        self._check_tokens(event, data)
        self._check_tries(event, data, run)
        self._check_duration(event, data, run)
        for total, key in _TOKENS.items():
            if (value := data.get(key)) is not None:
                run.sums[total] = run.sums.get(total, 0) + value
        operation = data.get("gen_ai.operation.name")
        calls = "llm_calls" if operation in LLM_OPERATIONS else "tool_calls" if operation == "execute_tool" else None
        if calls:
            run.sums[calls] = run.sums.get(calls, 0) + 1

    def _believe_run(self, run_id: str, data: dict[str, Any]) -> Run | None:
        """A run that began before a partial stream; None if it cannot have."""
        if not self._partial or run_id in self._ended_runs:
            return None
        agent_id = data.get("agent_id") or ""
        open_runs = self._agents.setdefault(agent_id, set()) if agent_id else set()
        newest = max((run for run in map(self._runs.__getitem__, open_runs) if run.started), key=_start, default=None)
        if newest is not None and len(open_runs) >= newest.concurrency:
            return None  # its agent would have been busy when it took up the newest one
        open_runs.add(run_id)
        run = self._runs[run_id] = Run(agent_id, None)
        return run

    def _agent_ended(self, event: Event, data: dict[str, Any]) -> None:
        run_id = data["run_id"]
        if run_id in self._ended_runs:
            self._violated("A2", event, f"{run_id} has ended before")
            return
        if run_id not in self._runs and self._believe_run(run_id, data) is None:
            self._violated("A1", event, f"{run_id} was never started")
        run = self._runs.pop(run_id, None)
        self._ended_runs.add(run_id)
        if run is None:
            return
        open_runs = self._agents.get(run.agent_id, set())
        open_runs.discard(run_id)
        if not open_runs:
            self._agents.pop(run.agent_id, None)
        if run.started is None and not self._partial:
            return
        for total, summed in run.sums.items():
            said, tolerance = data.get(total), 1e-6 * max(1, summed)
            if said is not None and (said < summed - tolerance or (run.started and said > summed + tolerance)):
                self._violated("A5", event, f"{total} is {said}, the activities of {run_id} sum to {summed:.10g}")
        elapsed_s = math.inf if run.started is None else (event.time - run.started).total_seconds()
        longest_s = min(elapsed_s, data.get("duration_s") or elapsed_s)
        if event.simulation and run.busy_s > longest_s + _TOLERANCE_S:  # real agents may call in parallel
            self._violated("A8", event, f"{run_id} took {longest_s:.3f} s, its calls {run.busy_s:.3f} s")

    def _check_duration(self, event: Event, data: dict[str, Any], run: Run) -> None:
        duration_s = data.get("duration_s") or 0
        if run.started is not None and duration_s > (event.time - run.started).total_seconds() + _TOLERANCE_S:
            self._violated("A8", event, f"the call took {duration_s:.3f} s, so it began before its run")
        else:
            run.busy_s += duration_s

    def _check_tokens(self, event: Event, data: dict[str, Any]) -> None:
        put_in = data.get("gen_ai.usage.input_tokens")
        prefix, append, cached = data.get("prefix_tokens"), data.get("append_tokens"), data.get("cached_tokens")
        if put_in is None:
            return
        if prefix is not None and append is not None and prefix + append != put_in:
            self._violated("A6", event, f"prefix {prefix} + append {append} is not input {put_in}")
        elif cached is not None and cached > put_in:
            self._violated("A6", event, f"{cached} tokens cached of {put_in} input")

    def _check_tries(self, event: Event, data: dict[str, Any], run: Run) -> None:
        attempt = data.get("attempt")
        if attempt is None:
            return
        call = (data.get("gen_ai.operation.name"), data.get("gen_ai.tool.call.id") or data.get("gen_ai.tool.name"))
        before, backoff_before_s = run.tries.pop(call, (0, 0.0))
        backoff_s = data.get("backoff_s") or 0.0
        is_first_seen = run.started is None and call not in run.calls
        if run.started is None:
            run.calls.add(call)
        if attempt not in (1, before + 1) and not is_first_seen:
            self._violated(
                "A7", event, f"try {attempt} follows try {before}" if before else f"try {attempt} is the first"
            )
        elif attempt > 1 and data.get("backoff_s") is not None and backoff_s < backoff_before_s:
            self._violated("A7", event, f"backs off {backoff_s} s after {backoff_before_s} s")
        if data.get("status") == "error":
            run.tries[call] = (attempt, backoff_s)

    # issues and sprints

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

    # changes

    def _branch_created(self, event: Event, data: dict[str, Any]) -> None:
        self._check_run(event, data)
        name = data["branch"]
        if name in self._branches:
            self._violated("C1", event, f"{name} was created before")
            return
        self._branches[name] = Branch()

    def _commit_pushed(self, event: Event, data: dict[str, Any]) -> None:
        self._check_run(event, data)
        name, commit = data["branch"], data["commit"]
        branch = self._branch(name)
        if branch is None:
            if name in self._merged_branches:
                self._violated("C4", event, f"{name} is merged")
                return
            self._violated("C1", event, f"{name} was never created")
            branch = self._branches[name] = Branch()
        branch.commits.add(commit)
        branch.head = commit

    def _check_run(self, event: Event, data: dict[str, Any]) -> None:
        run_id = data.get("run_id")
        if run_id is not None and run_id not in self._runs and self._believe_run(run_id, data) is None:
            self._violated("C6", event, f"{run_id} is not open")

    def _branch(self, name: str | None) -> Branch | None:
        """The branch if it may take commits; one whose request was closed without a merge may again."""
        if name is None:
            return None
        branch = self._branches.get(name)
        if branch is None and (name in self._idle_branches or (self._partial and name not in self._merged_branches)):
            branch = self._branches[name] = Branch(older=True)
        return branch

    def _pr_created(self, event: Event, data: dict[str, Any]) -> None:
        pr_id, name = data["pr_id"], data.get("branch")
        if pr_id in self._prs or pr_id in self._ended_prs:
            self._violated("C3", event, f"{pr_id} was created before")
            return
        self._prs[pr_id] = PullRequest(data)
        branch = self._branch(name)
        if branch is None:
            if name is not None and name not in self._merged_branches:
                self._violated("C2", event, f"{name} was never created")
            return
        if not branch.commits and not branch.older:
            self._violated("C2", event, f"{name} has no commit")
        if branch.pr_id is not None:
            self._violated("C5", event, f"{name} has {branch.pr_id} open")
        branch.pr_id = pr_id

    def _pr_ended(self, event: Event, data: dict[str, Any]) -> None:
        pr_id, merged = data["pr_id"], event.type == "pr_merged"
        pr = self._prs.pop(pr_id, None)
        is_new = self._ended_prs.add(pr_id)
        if pr is None:
            if not is_new:
                self._violated("C3", event, f"{pr_id} is merged or closed already")
                return
            self._unseen("C3", event, f"{pr_id} was never created")
            if not self._partial:
                return
            pr = PullRequest({}, older=True)
        name = pr.branch or data.get("branch")
        branch = self._branch(name)
        if merged:
            self._check_merge(event, data, pr, branch)
            issue = self._issues.get(data.get("issue_id") or pr.issue_id or "")
            if issue is not None:
                issue.merged = True
        if name is not None and branch is not None:
            del self._branches[name]
            (self._merged_branches if merged else self._idle_branches).add(name)

    def _check_merge(self, event: Event, data: dict[str, Any], pr: PullRequest, branch: Branch | None) -> None:
        if pr.require_green and branch is not None and (state := branch.head_state) != "green":
            self._violated("P5", event, f"the last pipeline of {pr.branch} at {branch.head} is {state}")
        approval_id = data.get("approval_id")
        if pr.gated and not pr.approved:
            self._violated("H1", event, f"{data['pr_id']} is gated, and nobody approved it")
        elif approval_id is not None and approval_id not in pr.approved:
            was_seen = approval_id in self._approvals or approval_id in self._resolved
            if was_seen or not pr.older:
                self._violated("H1", event, f"{approval_id} did not approve {data['pr_id']}")

    def _believe_pr(self, pr_id: str | None) -> PullRequest | None:
        """The open request; one that was not seen is believed in a partial stream."""
        if pr_id is None:
            return None
        pr = self._prs.get(pr_id)
        if pr is None and self._partial and pr_id not in self._ended_prs:
            pr = self._prs[pr_id] = PullRequest({}, older=True)
        return pr

    # pipelines

    def _pipeline_started(self, event: Event, data: dict[str, Any]) -> None:
        pipeline_id, commit, runner = data["pipeline_id"], data.get("commit"), data.get("runner")
        if pipeline_id in self._pipelines or pipeline_id in self._ended_pipelines:
            self._violated("P1", event, f"{pipeline_id} was started before")
            return
        self._pipelines[pipeline_id] = data
        branch = self._branch(data.get("branch"))
        if commit is not None and not self._partial and not self._was_pushed(commit, data.get("branch")):
            self._violated("P2", event, f"{commit} was never pushed")
            commit = None
        if branch is not None:
            branch.checked = (pipeline_id, commit or branch.head, "running")
        if runner is not None:
            if runner in self._runners:
                self._violated("P3", event, f"{runner} runs {self._runners[runner]}")
            self._runners[runner] = pipeline_id
        if data.get("queued_s") is not None:
            queued = event.time.timestamp() - data["queued_s"]
            if queued < self._last_queued - _TOLERANCE_S:
                self._violated("P4", event, f"{pipeline_id} was queued before one that started earlier")
            self._last_queued = max(queued, self._last_queued)

    def _was_pushed(self, commit: str, name: str | None) -> bool:
        """Whether the commit is known; true where it cannot be known any more."""
        branch = self._branch(name)
        if (branch and (branch.older or commit in branch.commits)) or (name and name in self._merged_branches):
            return True
        return any(commit in branch.commits for branch in self._branches.values())

    def _pipeline_ended(self, event: Event, data: dict[str, Any]) -> None:
        pipeline_id = data["pipeline_id"]
        started = self._pipelines.pop(pipeline_id, None)
        is_new = self._ended_pipelines.add(pipeline_id)
        if started is None:
            if not is_new:
                self._violated("P1", event, f"{pipeline_id} has ended before")
            else:
                self._unseen("P1", event, f"{pipeline_id} was never started")
            return
        runner: str = started.get("runner") or ""
        if self._runners.get(runner) == pipeline_id:
            del self._runners[runner]
        branch = self._branches.get(started.get("branch", ""))
        if branch is not None and branch.checked[0] == pipeline_id:
            branch.checked = (*branch.checked[:2], "green" if event.type == "pipeline_completed" else "red")

    # approvals

    def _approval_required(self, event: Event, data: dict[str, Any]) -> None:
        approval_id, pr_id, run_id = data["approval_id"], data.get("pr_id"), data.get("run_id")
        if approval_id in self._approvals or approval_id in self._resolved:
            self._violated("H3", event, f"{approval_id} was asked for before")
            return
        self._approvals[approval_id] = pr_id
        if pr_id is not None:
            if self._believe_pr(pr_id) is None:
                self._violated("H2", event, f"{pr_id} is not open")
        elif run_id is not None and run_id not in self._runs and self._believe_run(run_id, data) is None:
            self._violated("H2", event, f"{run_id} is not open")

    def _approval_resolved(self, event: Event, data: dict[str, Any]) -> None:
        approval_id = data["approval_id"]
        was_asked = approval_id in self._approvals
        pr_id = self._approvals.pop(approval_id, None)
        if not self._resolved.add(approval_id):
            self._violated("H3", event, f"{approval_id} is resolved already")
            return
        if not was_asked:
            self._unseen("H3", event, f"{approval_id} was never asked for")
            if not self._partial:
                return
        pr = self._believe_pr(data.get("pr_id") or pr_id)
        if pr is not None and data["decision"] == "approved":
            pr.approved.add(approval_id)


def _start(run: Run) -> datetime:
    assert run.started is not None
    return run.started
