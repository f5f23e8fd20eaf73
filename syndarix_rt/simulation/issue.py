"""The life of one issue: planned, worked on, changed by commits, checked by CI, reviewed, decided, closed.

::

    open -> assigned -> in_progress -> in_review -> closed (done)
                             ^             |------> closed (wont_do): refused, dropped, or given up
                             |-------------|        a pipeline failed, or the review asks for more
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import simpy

from syndarix_rt.simulation.run import AgentRun, RunPlan

if TYPE_CHECKING:
    from syndarix_rt.simulation.world import World

__all__ = ["IssueLife"]

Steps = Generator[simpy.Event, Any, Any]

_SUPPORT_RUNS_MAX = 3  # [P]: then work goes on without a plan, test or review

_VERBS = ("Fix", "Add", "Speed up", "Document", "Test", "Simplify", "Harden", "Migrate")
_THINGS = (
    "login", "search", "export", "billing report", "upload", "retry logic", "date parsing", "settings page",
    "API pagination", "cache", "audit log", "notifications",
)  # fmt: skip


class IssueLife:
    """One issue in its world.

    All chance of its own is drawn when it begins; the runs and pipelines of the issue have generators of their own.
    """

    def __init__(self, world: World, ordinal: int) -> None:
        self.world = world
        self.issue_id = world.new_id("issue")
        self.branch = f"agent/{self.issue_id}"
        self._ordinal = ordinal
        self._opened = False
        self._pr_id = ""
        self._head = ""
        """Hash of the newest commit."""
        self._pushed = ""
        """The event that CI answers: the newest commit, or the pull request."""
        self._commits = self._pipelines = 0
        self._runs: Counter[str] = Counter()
        """By role."""
        changes, approvals = world.project.changes, world.project.approvals
        rng = world.streams.generator("issue", ordinal)
        verb, thing, gated, refused = rng.random(4)
        self.title = f"{_VERBS[int(verb * len(_VERBS))]} {_THINGS[int(thing * len(_THINGS))]}"
        self._gated = bool(gated < approvals.gated_share)
        self._refused = bool(refused < changes.closed_unmerged_share)
        self._response_s = 3600 * approvals.response_h.draw(rng)
        self._review_s = 60 * approvals.review_min.draw(rng)
        self._rework = (rng.random(changes.runs_max) < changes.rework_share).tolist()
        self._gaps_s = (60 * changes.gap_min.draws(rng, changes.runs_max)).tolist()

    def process(self) -> Steps:
        """From the issue's creation to its closing."""
        cause = self._emit("issue_created", {"title": self.title, "state": "open"}, None)
        if "planner" in self.world.agents:
            cause = yield from self._support("planner", cause)
            cause = self.update("assigned", cause)
        for attempt in range(1, self.world.project.changes.runs_max + 1):
            if attempt > 1:
                yield self.world.wait_for_people(self._gaps_s[attempt - 1])
            run: AgentRun = yield from self._work("developer", cause)
            cause = run.last
            if not run.completed:
                continue
            cause, green = yield from self._check()
            if not green:
                continue
            for role in ("tester", "reviewer"):
                if role in self.world.agents:
                    cause = yield from self._support(role, cause)
            if not self._rework[attempt - 1]:
                cause, merged = yield from self._decide(cause)
                break
        else:
            merged = False
            if self._pr_id:
                cause = self._finish_pr("pr_closed", {"reason": f"given up after {attempt} runs"}, cause)
        self._emit("issue_closed", {"resolution": "done" if merged else "wont_do"}, cause)
        self.world.issue_closed(self._ordinal)

    def update(self, state: str, cause: str, **details: str) -> str:
        """The issue changes its state."""
        return self._emit("issue_updated", {"state": state, **details}, cause)

    def begin_work(self, run: AgentRun) -> None:
        """A developer's run has started: it opens the branch, or goes on with it."""
        if not self._opened:
            self._opened = True
            self.world.emit("branch_created", self._change(run), self.branch, run.last)
        self.update("in_progress", run.last, agent_id=run.agent_id, run_id=run.run_id)

    def push(self, run: AgentRun) -> None:
        """A developer's run pushes a commit."""
        self._commits += 1
        self._head = self.world.commit_hash(self._ordinal, self._commits)
        self._pushed = self.world.emit(
            "commit_pushed", self._change(run) | {"commit": self._head}, self._head, run.last
        )

    def propose(self, run: AgentRun) -> None:
        """A developer's run has done its work: it opens the pull request, or puts it up for review again."""
        if not self._pr_id:
            self._pr_id = self.world.new_id("pr")
            request = {"pr_id": self._pr_id, "commit": self._head, "gated": self._gated, "require_green": True}
            self._pushed = self.world.emit("pr_created", self._change(run) | request, self._pr_id, self._pushed)
        self.update("in_review", self._pushed, pr_id=self._pr_id)

    def _support(self, role: str, cause: str) -> Steps:
        """A run that plans, tests or reviews; it is tried again when it ends with an error."""
        for _ in range(_SUPPORT_RUNS_MAX):
            run: AgentRun = yield from self._work(role, cause)
            cause = run.last
            if run.completed:
                break
        return cause

    def _work(self, role: str, cause: str) -> Steps:
        """Wait for an agent of the role and let it work; the result is its `AgentRun`."""
        pool = self.world.agents[role]
        agent_id = yield pool.get()
        self._runs[role] += 1
        rng = self.world.streams.generator(f"{role} run", self._ordinal, self._runs[role])
        project = self.world.project
        run = AgentRun(self, agent_id, role, attempt=self._runs[role])
        yield from run.process(RunPlan.draw(rng, project.runs, project.changes, role), cause)
        pool.put(agent_id)
        return run

    def _check(self) -> Steps:
        """A pipeline on the head; the result is its last event and whether it went well."""
        world, ci = self.world, self.world.project.pipelines
        self._pipelines += 1
        rng = world.streams.generator("pipeline", self._ordinal, self._pipelines)
        luck, success_min, failure_min = rng.random(), ci.success_min.draw(rng), ci.failure_min.draw(rng)
        queued_us = world.env.now
        runner = yield world.runners.get()
        started_us = world.env.now
        pipeline_id = world.new_id("pipeline")
        about = {"pipeline_id": pipeline_id, "branch": self.branch, "commit": self._head, "pr_id": self._pr_id}
        about |= {"issue_id": self.issue_id, "runner": runner}
        queued = {"queued_s": (started_us - queued_us) / 1e6}
        started = world.emit("pipeline_started", {**about, **queued}, pipeline_id, self._pushed)
        failed = world.pipeline_fails(luck)
        yield world.wait(60 * (failure_min if failed else success_min))
        took = {"duration_s": (world.env.now - started_us) / 1e6}
        if failed:
            ended = world.emit("pipeline_failed", {**about, **took, "reason": "tests"}, pipeline_id, started)
        else:
            ended = world.emit("pipeline_completed", {**about, **took}, pipeline_id, started)
        world.runners.put(runner)
        return ended, not failed

    def _decide(self, cause: str) -> Steps:
        """Merge or refuse, by a human where the request is gated; result: last event, whether merged."""
        approval = {}
        if self._gated:
            world = self.world
            asked_us = world.env.now
            approval = {"approval_id": world.new_id("approval")}
            about = {**approval, "pr_id": self._pr_id, "issue_id": self.issue_id}
            asked = {**about, "kind": "merge", "title": self.title}
            cause = world.emit("approval_required", asked, approval["approval_id"], cause)
            yield world.wait_for_people(self._response_s)
            human = yield world.humans.get()
            yield world.wait_for_people(self._review_s)
            decision = {"decision": "rejected" if self._refused else "approved", "by": human}
            waited = {"waited_s": (world.env.now - asked_us) / 1e6}
            cause = world.emit("approval_resolved", {**about, **decision, **waited}, approval["approval_id"], cause)
            world.humans.put(human)
        if self._refused:
            return self._finish_pr("pr_closed", {"reason": "rejected" if self._gated else "dropped"}, cause), False
        return self._finish_pr("pr_merged", approval, cause), True

    def _finish_pr(self, kind: str, details: dict[str, Any], cause: str) -> str:
        data = {"pr_id": self._pr_id, "branch": self.branch, "commit": self._head, "issue_id": self.issue_id}
        return self.world.emit(kind, data | details, self._pr_id, cause)

    def _change(self, run: AgentRun) -> dict[str, Any]:
        """What every change by a run says."""
        return {"branch": self.branch, "issue_id": self.issue_id, "agent_id": run.agent_id, "run_id": run.run_id}

    def _emit(self, kind: str, data: dict[str, Any], cause: str | None) -> str:
        about = {"issue_id": self.issue_id, "sprint_id": self.world.sprint_id}
        return self.world.emit(kind, about | data, self.issue_id, cause)
