"""The life of one issue: planned, worked on, changed by commits, checked by CI, reviewed, decided, closed.

::

    open -> assigned -> in_progress -> in_review -> closed (done)
                             ^             |------> closed (wont_do): refused, dropped, not mended, or given up
                             |-------------|        a pipeline failed, or the review asks for more
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import simpy

from syndarix_rt.simulation.run import AgentRun, RunPlan

if TYPE_CHECKING:
    from syndarix_rt.simulation.world import World

__all__ = ["CRITICAL", "NORMAL", "SUPPORT_RUNS_MAX", "Decision", "IssueLife"]

Steps = Generator[simpy.Event, Any, Any]

CRITICAL, NORMAL = 0, 1
"""Priorities in the queues for agents; the lower goes first."""

SUPPORT_RUNS_MAX = 3  # [P]
"""After so many runs that fail, work goes on without a plan, test or review."""

_VERBS = ("Fix", "Add", "Speed up", "Document", "Test", "Simplify", "Harden", "Migrate")
_THINGS = (
    "login", "search", "export", "billing report", "upload", "retry logic", "date parsing", "settings page",
    "API pagination", "cache", "audit log", "notifications",
)  # fmt: skip


class Decision(NamedTuple):
    """What a human says about a merge."""

    approved: bool
    by: str
    comment: str = ""
    event_id: str = ""
    """The event that says so already; empty: there is none yet."""
    queued_us: int = 0
    """How long it waited for a human who was busy."""
    busy_us: int = 0
    """How long it kept a human busy."""


class IssueLife:
    """One issue in its world.

    All chance of its own is drawn when it begins; the runs and pipelines of the issue have generators of their own.
    """

    def __init__(self, world: World, ordinal: int, priority: int = NORMAL, cause: str | None = None) -> None:
        self.world = world
        self.issue_id = world.new_id("issue")
        self.branch = f"agent/{self.issue_id}"
        self.priority = priority
        self._cause = cause
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
        verb, thing, gated, refused, reviewed = rng.random(5)
        self.title = f"{_VERBS[int(verb * len(_VERBS))]} {_THINGS[int(thing * len(_THINGS))]}"
        self._gated = bool(gated < approvals.gated_share)
        self._refused = bool(refused < changes.closed_unmerged_share)
        self._reviewed = bool(reviewed < changes.reviewed_share)
        self._response_s = 3600 * approvals.response_h.draw(rng)
        self._review_s = 60 * approvals.review_min.draw(rng)
        self._merge_s = 3600 * changes.merge_h.draw(rng)
        self._rework = (rng.random(changes.runs_max) < changes.rework_share).tolist()
        self._fixed = (rng.random(changes.runs_max) < world.project.pipelines.fix_share).tolist()
        self._gaps_s = (60 * changes.gap_min.draws(rng, changes.runs_max)).tolist()
        self.process = world.env.process(self._live())

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

    def _live(self) -> Steps:
        """From the issue's creation to its closing."""
        cause = self._emit("issue_created", {"title": self.title, "state": "open"}, self._cause)
        if self.world.agents["planner"].size:
            cause = yield from self._support("planner", cause)
            cause = self.update("assigned", cause)
        cause, merged = yield from self._develop(cause)
        self._emit("issue_closed", {"resolution": "done" if merged else "wont_do"}, cause)
        self.world.issue_closed(self._ordinal)

    def _develop(self, cause: str) -> Steps:
        """Runs of developers, each checked and reviewed, until one is decided; result: last event, whether merged."""
        runs_max = self.world.project.changes.runs_max
        for attempt in range(runs_max):
            if attempt:
                yield self.world.wait_for_people(self._gaps_s[attempt])
            run: AgentRun = yield from self._work("developer", cause)
            cause = run.last
            if not run.completed:
                continue
            cause, green = yield from self._check()
            if not green:
                if not self._fixed[attempt]:
                    return self._finish_pr("pr_closed", {"reason": "the pipeline failed"}, cause), False
                continue
            for role in ("tester", "reviewer"):
                if self._reviewed and self.world.agents[role].size:
                    cause = yield from self._support(role, cause)
            if not self._rework[attempt]:
                return (yield from self._decide(cause))
        if self._pr_id:
            cause = self._finish_pr("pr_closed", {"reason": f"given up after {runs_max} runs"}, cause)
        return cause, False

    def _support(self, role: str, cause: str) -> Steps:
        """A run that plans, tests or reviews; it is tried again when it ends with an error."""
        for _ in range(SUPPORT_RUNS_MAX):
            run: AgentRun = yield from self._work(role, cause)
            cause = run.last
            if run.completed:
                break
        return cause

    def _work(self, role: str, cause: str) -> Steps:
        """Wait for an agent of the role and let it work; the result is its `AgentRun`.

        A run that something more urgent displaced is no try: the work queues again.
        """
        world = self.world
        pool = world.agents[role]
        while True:
            asked_us = world.now_us
            waiting = pool.request(self.priority)
            if self.priority == CRITICAL and not waiting.triggered:
                world.displace(role, cause)
            agent_id = yield waiting
            self._runs[role] += 1
            rng = world.streams.generator(f"{role} run", self._ordinal, self._runs[role])
            project = world.project
            run = AgentRun(self, agent_id, role, attempt=self._runs[role], queued_us=world.now_us - asked_us)
            world.runs[agent_id] = run
            try:
                yield run.start(RunPlan.draw(rng, project.runs, project.changes, role), cause)
            except simpy.Interrupt as urgent:
                run.displace(str(urgent.cause))
            del world.runs[agent_id]
            pool.release(agent_id)
            cause = run.last
            if not run.displaced:
                return run

    def _check(self) -> Steps:
        """Pipelines on the head until one ends by itself; the result is its last event and whether it went well."""
        world, ci = self.world, self.world.project.pipelines
        while True:
            self._pipelines += 1
            rng = world.streams.generator("pipeline", self._ordinal, self._pipelines)
            luck, success_min, failure_min = rng.random(), ci.success_min.draw(rng), ci.failure_min.draw(rng)
            queued_us = world.now_us
            runner = yield world.runners.request()
            started_us = world.now_us
            pipeline_id = world.new_id("pipeline")
            about = {"pipeline_id": pipeline_id, "branch": self.branch, "commit": self._head, "pr_id": self._pr_id}
            about |= {"issue_id": self.issue_id, "runner": runner}
            queued = {"queued_s": (started_us - queued_us) / 1e6}
            started = world.emit("pipeline_started", {**about, **queued}, pipeline_id, self._pushed)
            failed, reason, cause = world.pipeline_fails(luck), "tests", started
            world.pipelines[runner] = self
            try:
                yield world.wait(60 * (failure_min if failed else success_min))
            except simpy.Interrupt as outage:
                failed, reason, cause = True, "infra", str(outage.cause)
            world.pipelines.pop(runner, None)
            took = {"duration_s": (world.now_us - started_us) / 1e6}
            kind, why = ("pipeline_failed", {"reason": reason}) if failed else ("pipeline_completed", {})
            ended = world.emit(kind, {**about, **took, **why}, pipeline_id, cause)
            world.runners.release(runner)
            if reason != "infra":
                return ended, not failed
            self._pushed = ended  # what the next pipeline answers

    def _decide(self, cause: str) -> Steps:
        """Merge or refuse, by a human where the request is gated; result: last event, whether merged."""
        if not self._gated:
            yield self.world.wait_for_people(self._merge_s)
            if self._refused:
                return self._finish_pr("pr_closed", {"reason": "dropped"}, cause), False
            return self._finish_pr("pr_merged", {}, cause), True
        world = self.world
        asked_us = world.now_us
        approval_id = world.new_id("approval")
        about = {"approval_id": approval_id, "pr_id": self._pr_id, "issue_id": self.issue_id}
        asked = {**about, "kind": "merge", "title": self.title}
        cause = world.emit("approval_required", asked, approval_id, cause)
        world.approvals[approval_id] = self
        decision: Decision = yield from self._judged()
        world.approvals.pop(approval_id, None)
        if decision.event_id:
            cause = decision.event_id
        else:
            said = {"decision": "approved" if decision.approved else "rejected", "by": decision.by}
            if decision.comment:
                said["comment"] = decision.comment
            took = {
                "waited_s": (world.now_us - asked_us) / 1e6,
                "queued_s": decision.queued_us / 1e6,
                "busy_s": decision.busy_us / 1e6,
            }
            cause = world.emit("approval_resolved", {**about, **said, **took}, approval_id, cause)
        if not decision.approved:
            return self._finish_pr("pr_closed", {"reason": "rejected"}, cause), False
        return self._finish_pr("pr_merged", {"approval_id": approval_id}, cause), True

    def _judged(self) -> Steps:
        """A human takes notice, is free, and reviews; a `Decision` from outside comes first at any time."""
        world = self.world
        humans, asked = world.humans, None
        queued_us = reviewing_us = world.now_us
        try:
            yield world.wait_until_noticed(self._response_s)
            queued_us = world.now_us
            asked = humans.request()
            human = yield asked
            reviewing_us = world.now_us
            yield world.wait_until_reviewed(self._review_s)
        except simpy.Interrupt as interrupt:
            decision = cast("Decision", interrupt.cause)
            if asked is not None:
                humans.cancel(asked)
            return decision
        humans.release(human)
        return Decision(
            not self._refused,
            human,
            queued_us=reviewing_us - queued_us,
            busy_us=world.now_us - reviewing_us,
        )

    def _finish_pr(self, kind: str, details: dict[str, Any], cause: str) -> str:
        data = {"pr_id": self._pr_id, "branch": self.branch, "commit": self._head, "issue_id": self.issue_id}
        return self.world.emit(kind, data | details, self._pr_id, cause)

    def _change(self, run: AgentRun) -> dict[str, Any]:
        """What every change by a run says."""
        return {"branch": self.branch, "issue_id": self.issue_id, "agent_id": run.agent_id, "run_id": run.run_id}

    def _emit(self, kind: str, data: dict[str, Any], cause: str | None) -> str:
        about = {"issue_id": self.issue_id, "sprint_id": self.world.sprint_id}
        if self.priority == CRITICAL:
            about["priority"] = "critical"
        return self.world.emit(kind, about | data, self.issue_id, cause)
