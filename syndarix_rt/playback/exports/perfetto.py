"""A timeline of a recording, for https://ui.perfetto.dev (open it there: nothing is uploaded) and chrome://tracing.

A project is a process; agents, runners, humans and sprints are its threads. What happens on them one after the other
are slices:

* a run on its agent, with its LLM and tool calls inside; ``duration_s`` reaches back from the time of an event
* a pipeline on its runner
* a decision on its human, for as long as it kept them busy

What overlaps are asynchronous slices: issues, approvals, faults and the waiting for agents and runners. Commits,
branches, pull requests and custom events are instants. Arrows lead from a commit, pull request, pipeline or run to the
pipeline or run that it caused. The counters are the backlog, running agents, tokens per minute and cost. An update of
an issue is not drawn.

Times are microseconds since the first event, which the document's ``otherData`` names; a start may be drawn some
microseconds later, so that nothing stands where something else ends. An agent with two runs at a time has a thread for
each; of two calls at a time the second is drawn from the end of the first, ``args`` tell how long it really took. What
is open at the end of the recording ends there and says ``truncated``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from syndarix_rt._version import __version__
from syndarix_rt.events import Event
from syndarix_rt.playback.exports.trace import Arrow, Slice, TraceProcess, TraceWriter
from syndarix_rt.playback.output import whole_file

__all__ = ["write_perfetto"]

_SECOND_US = 1_000_000
_MINUTE_US = 60 * _SECOND_US

_SPRINTS, _AGENTS, _RUNNERS, _HUMANS = range(4)
"""Threads from top to bottom."""

_OF_RUN = frozenset({"run_id", "agent_id", "role", "issue_id", "branch"})
"""Keys that a call shares with its run."""


def write_perfetto(path: str | os.PathLike[str], events: Iterable[Event]) -> int:
    """Write events as a trace; returns their number.

    Held in memory are what is going on, and of every event but the calls which arrow starts at it.

    Raises:
        RecordingError: the file cannot be written.
    """
    start: datetime | None = None
    projects: dict[tuple[str, str | None], _Project] = {}
    number = 0
    with whole_file(path) as file:
        writer = TraceWriter(file)
        for number, event in enumerate(events, 1):  # noqa: B007 - it is what is returned
            start = start or event.time
            key = event.project, event.simulation
            if key not in projects:
                projects[key] = _Project(TraceProcess(writer, *key))
            projects[key].take(event, (event.time - start) // timedelta(microseconds=1))
        for project in projects.values():
            project.close()
        writer.close(version=__version__, start=start)
    return number


class _Project:
    """A project in one simulation."""

    def __init__(self, process: TraceProcess) -> None:
        self._process = process
        self._origins: dict[str, Arrow] = {}
        """By an event's id the arrow that starts where it happened."""
        self._titles: dict[str, str] = {}
        """Of the open issues."""
        self._running = 0
        self._minute_us = 0
        self._tokens = {"input": 0, "output": 0}
        self._cost_usd = 0.0

    def take(self, event: Event, time_us: int) -> None:
        """Draw an event."""
        # A recording may hold events a little out of order; the timeline does not go back.
        self._process.now_us = max(self._process.now_us, time_us)
        arrow = self._draw(event)
        if arrow is None and event.type != "agent_activity":
            arrow = self._cause(event)  # what follows from it follows from what it follows from
        if arrow is not None:
            self._origins[event.id] = arrow

    def close(self) -> None:
        """End what is open."""
        self._count_minute()
        self._process.close()

    def _draw(self, event: Event) -> Arrow | None:
        """Draw it; returns the arrow that starts there."""
        process, data, kind = self._process, event.data, event.type
        match kind:
            case "agent_started":
                self._waited(f"a {data['role']}", data["run_id"], data)
                self._run(event)
                self._running += 1
                process.counter("running agents", agents=self._running)
            case "agent_activity":
                run = process.find("run", data["run_id"]) or self._run(event, _us(data.get("duration_s")))
                self._call(run, data)
            case "agent_completed" | "agent_error":
                run = process.find("run", data["run_id"]) or self._run(event, _us(data.get("duration_s")))
                process.end("run", data["run_id"], data)
                self._running = max(self._running - 1, 0)
                process.counter("running agents", agents=self._running)
                return run.arrow
            case "pipeline_started":
                self._waited("a runner", data["pipeline_id"], data)
                self._pipeline(event)
            case "pipeline_completed" | "pipeline_failed":
                found = process.find("pipeline", data["pipeline_id"])
                pipeline = found or self._pipeline(event, _us(data.get("duration_s")))
                if kind == "pipeline_failed":
                    pipeline.rename(f"failed: {data.get('reason') or 'unknown'}")
                process.end("pipeline", data["pipeline_id"], data)
                return pipeline.arrow
            case "approval_required":
                process.begin_async("approval", data["approval_id"], "approval", data)
            case "approval_resolved":
                process.end_async("approval", data["approval_id"], data)
                if busy_us := _us(data.get("busy_s")):
                    human = (_HUMANS, data.get("by") or "human")
                    process.begin("decision", event.id, human, data["decision"], back_us=busy_us)
                    process.end("decision", event.id, data)
            case "sprint_started":
                name = data.get("goal") or f"sprint {data.get('number') or data['sprint_id']}"
                process.begin("sprint", data["sprint_id"], (_SPRINTS, "sprints"), name).args |= data
            case "sprint_completed":
                process.end("sprint", data["sprint_id"], data)
            case "issue_created":
                self._titles[data["issue_id"]] = data.get("title") or ""
                process.begin_async("issue", data["issue_id"], "issue", data)
                process.counter("backlog", issues=len(self._titles))
            case "issue_closed":
                self._titles.pop(data["issue_id"], None)
                process.end_async("issue", data["issue_id"], data)
                process.counter("backlog", issues=len(self._titles))
            case "issue_updated":
                pass
            case "fault_started" | "fault_ended" if isinstance(data.get("fault_id"), str):
                if kind == "fault_started":
                    process.begin_async("fault", data["fault_id"], str(data.get("kind", "fault")), data)
                else:
                    process.end_async("fault", data["fault_id"], data)
            case _:
                key = data.get("run_id")
                within = process.find("run", key) if isinstance(key, str) else None
                return process.instant(within, kind, event.category or "custom", data, arrow=event.category == "git")
        return None

    def _run(self, event: Event, back_us: int = 0) -> Slice:
        data = event.data
        where = (_AGENTS, data["agent_id"])
        name = self._name(data) or data["run_id"]
        cause = self._cause(event)
        run = self._process.begin("run", data["run_id"], where, name, back_us=back_us, cause=cause, arrows=True)
        is_start = event.type == "agent_started"  # otherwise the recording begins within the run
        run.args |= {key: value for key, value in data.items() if is_start or key in _OF_RUN}
        return run

    def _call(self, run: Slice, data: dict[str, Any]) -> None:
        operation, tool = data.get("gen_ai.operation.name"), data.get("gen_ai.tool.name")
        name = tool or ("LLM" if operation == "chat" else operation) or "activity"
        if data.get("status") == "error":
            name += f": {data.get('error') or 'unknown'}"
        args = {key: value for key, value in data.items() if key not in _OF_RUN}
        category = "tool" if tool else "llm"
        run.call(self._process.now_us, _us(data.get("duration_s")), cat=category, name=name, args=args)
        if self._process.now_us >= self._minute_us + _MINUTE_US:
            self._count_minute()
        self._tokens["input"] += data.get("gen_ai.usage.input_tokens") or 0
        self._tokens["output"] += data.get("gen_ai.usage.output_tokens") or 0
        self._cost_usd += data.get("cost_usd") or 0.0

    def _pipeline(self, event: Event, back_us: int = 0) -> Slice:
        data = event.data
        where = (_RUNNERS, data.get("runner") or "runner")
        name = self._name(data) or data["pipeline_id"]
        cause = self._cause(event)
        pipeline = self._process.begin(
            "pipeline", data["pipeline_id"], where, name, back_us=back_us, cause=cause, arrows=True
        )
        pipeline.args |= data
        return pipeline

    def _name(self, data: dict[str, Any]) -> str:
        """What it is for: viewers give slices of one name one colour."""
        issue_id = data.get("issue_id") or ""
        return self._titles.get(issue_id) or issue_id

    def _waited(self, what: str, key: str, data: dict[str, Any]) -> None:
        if queued_us := _us(data.get("queued_s")):
            self._process.begin_async("waiting", key, f"waiting for {what}", data, back_us=queued_us)
            self._process.end_async("waiting", key, {})

    def _cause(self, event: Event) -> Arrow | None:
        return None if event.cause is None else self._origins.get(event.cause)

    def _count_minute(self) -> None:
        """The minute of the last call is over."""
        self._process.counter("tokens per minute", self._minute_us, **self._tokens)
        self._process.counter("cost", self._minute_us, usd=round(self._cost_usd, 6))
        over_us = self._minute_us + _MINUTE_US
        self._tokens = dict.fromkeys(self._tokens, 0)
        self._minute_us = self._process.now_us // _MINUTE_US * _MINUTE_US
        if self._minute_us > over_us:  # nobody called since
            self._process.counter("tokens per minute", over_us, **self._tokens)


def _us(seconds: float | None) -> int:
    """Whole microseconds; a time that no calendar holds is one that began before the recording."""
    return round(min(seconds or 0.0, 1e12) * _SECOND_US)
