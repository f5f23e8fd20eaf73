"""`ChangeJudge`: branches, pull requests, pipelines, approvals (invariants C1 to C6, P1 to P5, H1 to H3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from syndarix_rt.events import Event
from syndarix_rt.simulation.entities import Branch, PullRequest
from syndarix_rt.simulation.idset import IdSet
from syndarix_rt.simulation.issue_judge import IssueJudge
from syndarix_rt.simulation.judge import TOLERANCE_S, Judge
from syndarix_rt.simulation.run_judge import RunJudge

__all__ = ["ChangeJudge"]


class ChangeJudge(Judge):
    """Judges git's events, ``pipeline_*`` and ``approval_*``.

    Args:
        violated: as of `Judge`.
        partial: as of `Judge`.
        runs: knows which runs are open.
        issues: is told what is merged.
    """

    def __init__(
        self, violated: Callable[[str, Event, str], None], *, partial: bool, runs: RunJudge, issues: IssueJudge
    ) -> None:
        super().__init__(violated, partial=partial)
        self._runs = runs
        self._issues = issues
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
        self.handlers = {
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
        }

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
        if commit == branch.head or (event.simulation and commit in branch.commits):  # real people force a branch back
            self._violated("C1", event, f"{commit} was pushed to {name} before")
        branch.commits.add(commit)
        branch.head = commit

    def _check_run(self, event: Event, data: dict[str, Any]) -> None:
        run_id = data.get("run_id")
        if run_id is not None and not self._runs.is_open(run_id, data):
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
            self._issues.merged(data.get("issue_id") or pr.issue_id)
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
            if queued < self._last_queued - TOLERANCE_S:
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

    def _approval_required(self, event: Event, data: dict[str, Any]) -> None:
        approval_id, pr_id, run_id = data["approval_id"], data.get("pr_id"), data.get("run_id")
        if approval_id in self._approvals or approval_id in self._resolved:
            self._violated("H3", event, f"{approval_id} was asked for before")
            return
        self._approvals[approval_id] = pr_id
        if pr_id is not None:
            if self._believe_pr(pr_id) is None:
                self._violated("H2", event, f"{pr_id} is not open")
        elif run_id is not None and not self._runs.is_open(run_id, data):
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
