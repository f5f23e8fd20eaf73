"""`Traces`: spans as the events of runs, while the agents are at work.

A trace is a run. An SDK sends a span when it is over, so the one around all others comes last; whoever waited for it
would see an agent only when it has finished. So a run begins with the first span of its trace that is understood:
if the one around all others is not known yet, ``joined`` says that the run began earlier. Every LLM call, tool call
and agent within is an ``agent_activity``; the run ends with the span that nothing is around.

What comes in another order than it happened keeps its duration, and says how late it is (``late_s``), since time does
not go back in a log. What comes after the end of its run is an ``agent_activity_late``, which is no part of the run.
Nothing is left out silently: `Traces.counts` says what became of every span.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from syndarix_rt.adapters.genai import Reading, agent_of, read_span
from syndarix_rt.adapters.otlp import Span
from syndarix_rt.events import Event, as_id, as_text, as_time
from syndarix_rt.events.payloads import MAX_COUNT

__all__ = ["Found", "Traces", "by_trace"]

MAX_RUNS = 10_000
"""Runs that are remembered. A span of one that is forgotten joins it anew."""

AS_MANY = 10_000
"""Runs of a service at once: as many as there are requests. A payload has no word for "any number"."""

MAX_SEEN = 100_000
"""Spans of a run by which one that comes again is known; after so many that is forgotten."""

_RECENT = 32
"""Activities that a later one may be an effect of."""

_TOTALS = ("llm_calls", "tool_calls", "input_tokens", "output_tokens")


Found = list[tuple[Span, Reading | None]]


def by_trace(spans: Sequence[Span]) -> dict[str, Found]:
    """Spans that came together, in any order, by trace: with what they say, in the order in which they ended."""
    traces: dict[str, Found] = {}
    for span in sorted(spans, key=lambda span: span.end_ns):
        traces.setdefault(span.trace_id, []).append((span, read_span(span.attributes, span.error)))
    return traces


class _Run:
    """A run while it is remembered."""

    def __init__(self, who: dict[str, Any], start_id: str, start_ns: int) -> None:
        self.who = who
        self.start_ns = self.latest_ns = start_ns
        self.start_id = self.last = start_id
        self.recent: deque[tuple[int, str]] = deque(maxlen=_RECENT)
        """Ends of activities, and their events."""
        self.seen: set[str] = set()
        self.sums: dict[str, float] = dict.fromkeys(_TOTALS, 0)
        self.is_whole = True
        """Whether everything of it came this way, so that the sums are its totals."""
        self.has_ended = False

    def cause_of(self, start_ns: int) -> str:
        """The latest event that was over when something began; its run's start, if there is none."""
        for end_ns, event_id in reversed(self.recent):
            if end_ns <= start_ns:
                return event_id
        return self.start_id


class Traces:
    """Remembers the runs that go on.

    Args:
        is_alone: whether all spans come here; if others take some, nobody knows a run's totals.

    Attributes:
        counts: spans fed, by what became of them: ``mapped``, ``other`` (nothing of generative AI), ``late``,
            ``duplicate``.
    """

    def __init__(self, *, is_alone: bool = True) -> None:
        self.counts: Counter[str] = Counter()
        self._is_alone = is_alone
        self._runs: OrderedDict[tuple[str, str], _Run] = OrderedDict()

    def begin(self, project: str, traces: dict[str, Found]) -> dict[str, Event]:
        """The ``agent_started`` of each run that nobody here has heard of, by run.

        To be published before what `feed` makes of the same spans, and once, whoever else saw the run begin.
        """
        starts = {}
        for trace_id, found in traces.items():
            if (project, trace_id) not in self._runs and any(reading for _, reading in found):
                run, start = _begun(project, trace_id, found)
                self._runs[project, trace_id] = run
                starts[trace_id] = start
        while len(self._runs) > MAX_RUNS:
            self._runs.popitem(last=False)
        return starts

    def feed(self, project: str, traces: dict[str, Found]) -> list[Event]:
        """Take spans that came together; their events."""
        events: list[Event] = []
        for trace_id, found in traces.items():
            run = self._runs.get((project, trace_id))
            if run is None:
                self.counts["other"] += len(found)
                continue
            self._runs.move_to_end((project, trace_id))
            for span, reading in found:
                events += self._events(project, run, span, reading)
        return events

    def _events(self, project: str, run: _Run, span: Span, reading: Reading | None) -> Iterator[Event]:
        if span.span_id in run.seen:
            self.counts["duplicate"] += 1
            return
        if len(run.seen) == MAX_SEEN:
            run.seen.clear()
        run.seen.add(span.span_id)
        ends = span.is_entry and not run.has_ended
        self.counts["other" if reading is None else "late" if run.has_ended else "mapped"] += 1
        if reading is not None and not (ends and reading.is_agent):
            yield _activity(project, run, span, reading)
        if ends:
            yield self._ended(project, run, span)

    def _ended(self, project: str, run: _Run, span: Span) -> Event:
        run.has_ended = True
        failed = span.error is not None
        reason = (as_text(span.attributes.get("error.type") or "error", longest=100)) if failed else "completed"
        data = run.who | {"end_reason": reason}
        if run.is_whole and self._is_alone:
            data |= {name: total for name, total in run.sums.items() if total <= MAX_COUNT}
        data["duration_s"] = (span.end_ns - min(span.start_ns, run.start_ns)) / 1e9
        if failed and span.error:
            data["error"] = as_text(span.error)
        kind = "agent_error" if failed else "agent_completed"
        return _event(kind, data, project, run, f"{span.trace_id}-end", span, run.last)

    def joined_by_others(self, project: str, run_id: str) -> None:
        """Somebody else saw the run begin, so there is more of it than came this way."""
        run = self._runs.get((project, run_id))
        if run is not None:
            run.is_whole = False

    def forget(self, project: str, run_ids: Iterable[str]) -> None:
        """What was made of these runs could not be stored: their spans will come again."""
        for run_id in run_ids:
            self._runs.pop((project, run_id), None)


def _source(span: Span) -> str:
    """A run of a service: one clock."""
    return f"/otlp/{as_id(span.resource.get('service.name') or 'unknown')}/{span.trace_id}"


def _begun(project: str, trace_id: str, found: Found) -> tuple[_Run, Event]:
    """A run, and its start, from what came of it first."""
    known = [(span, reading) for span, reading in found if reading is not None]
    entry = next((span for span, _ in found if span.is_entry), None)
    agents = [span for span, reading in known if reading.is_agent]
    about = agents[-1] if agents else known[0][0]  # the agent that ended last is around the others
    agent_id, role, issue_id = agent_of(about.attributes, about.resource)
    who: dict[str, Any] = {"run_id": trace_id, "agent_id": agent_id, "role": role}
    if issue_id:
        who["issue_id"] = issue_id
    start_ns = min(span.start_ns for span, _ in (found if entry else known))
    data = who | {"concurrency": AS_MANY}
    model = next((reading.data["gen_ai.request.model"] for _, reading in known if _MODEL in reading.data), None)
    if model:
        data[_MODEL] = model
    if entry is None:
        data["joined"] = True
    event_id = f"{trace_id}-start"
    run = _Run(who, event_id, start_ns)
    first = entry or known[0][0]
    start = Event.new(
        "agent_started",
        data,
        project=project,
        id=event_id,
        time=as_time(start_ns),
        source=_source(first),
        traceparent=_traceparent(first),
    )
    return run, start


_MODEL = "gen_ai.request.model"


def _activity(project: str, run: _Run, span: Span, reading: Reading) -> Event:
    """A call that is over."""
    data = run.who | reading.data | {"duration_s": (span.end_ns - span.start_ns) / 1e9}
    if span.end_ns < run.latest_ns:
        data["late_s"] = (run.latest_ns - span.end_ns) / 1e9
    kind = "agent_activity_late" if run.has_ended else "agent_activity"
    cause = run.cause_of(span.start_ns)
    event = _event(kind, data, project, run, f"{span.trace_id}-{span.span_id}", span, cause)
    if not run.has_ended:
        run.recent.append((span.end_ns, event.id))
        if reading.counts_as:
            run.sums[reading.counts_as] += 1
        for total, key in _SUMMED:
            if key in data:
                run.sums[total] = run.sums.get(total, 0) + data[key]
    return event


_SUMMED = (
    ("input_tokens", "gen_ai.usage.input_tokens"),
    ("output_tokens", "gen_ai.usage.output_tokens"),
    ("cost_usd", "cost_usd"),
)


def _event(kind: str, data: dict[str, Any], project: str, run: _Run, event_id: str, span: Span, cause: str) -> Event:
    run.latest_ns = max(run.latest_ns, span.end_ns)
    event = Event.new(
        kind,
        data,
        project=project,
        id=event_id,
        time=as_time(run.latest_ns),
        source=_source(span),
        cause=cause,
        traceparent=_traceparent(span),
    )
    run.last = event_id
    return event


def _traceparent(span: Span) -> str:
    return f"00-{span.trace_id}-{span.span_id}-01"
