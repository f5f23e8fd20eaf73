"""`ProjectChecker`: judges what events are about: runs, issues, changes, pipelines, approvals, sprints.

What an event does not say is not judged, so traces of real agents can be checked that know neither tokens nor sprints.
After a violation the checker believes the event and goes on from there: one fault is one violation.

Only what is open is remembered in full; of what is over, the id (see `IdSet`). So memory follows what goes on at a
time, not the length of the stream.

In a *partial* stream, one that was joined midway, what an event refers to and was not seen may have begun before. It is
believed and from then on known, so whatever contradicts it, or anything else that was seen, is a violation still. Sums
over a run or a sprint whose start was not seen are at least what was seen of them.

Four judges know what they need to: of :mod:`~syndarix_rt.simulation.run_judge` runs, of
:mod:`~syndarix_rt.simulation.issue_judge` issues and sprints, of :mod:`~syndarix_rt.simulation.change_judge` the rest;
:mod:`~syndarix_rt.simulation.span_judge` compares durations with times.
"""

from __future__ import annotations

from collections.abc import Callable

from syndarix_rt.events import Event
from syndarix_rt.simulation.change_judge import ChangeJudge
from syndarix_rt.simulation.issue_judge import IssueJudge
from syndarix_rt.simulation.run_judge import RunJudge
from syndarix_rt.simulation.span_judge import SpanJudge

__all__ = ["ProjectChecker"]


class ProjectChecker:
    """Checks the entities of one project in one simulation.

    Args:
        violated: called with invariant, event and reason.
        partial: whether things may have happened before the first event.
    """

    def __init__(self, violated: Callable[[str, Event, str], None], *, partial: bool = False) -> None:
        runs, issues = RunJudge(violated, partial=partial), IssueJudge(violated, partial=partial)
        changes = ChangeJudge(violated, partial=partial, runs=runs, issues=issues)
        self._handlers = runs.handlers | issues.handlers | changes.handlers
        self._spans = SpanJudge(violated)

    def check(self, event: Event, *, in_time: bool = True) -> None:
        """Judge one event, whose time is wrong unless it is ``in_time``; custom types are not judged."""
        handler = self._handlers.get(event.type)
        if handler:
            handler(event, event.data)
            self._spans.check(event, in_time=in_time)
