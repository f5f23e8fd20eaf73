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

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from syndarix_rt.events import Event
from syndarix_rt.simulation.analysis.frame_rows import FrameRow
from syndarix_rt.simulation.analysis.observer import Observer
from syndarix_rt.simulation.analysis.tally import Tally

__all__ = ["HUMAN_WAITS", "Observations"]

Floats = npt.NDArray[np.float64]

HUMAN_WAITS = ("changes.gap_min", "changes.merge_h", "approvals.response_h", "approvals.review_min")
"""What a scenario multiplies by its ``human_time_scale``."""

_ENOUGH_GAPS = 30
"""Of a source: with fewer its mean is too uncertain to bring others to it."""


class Observations(Tally):
    """A tally of a stream of events; its attributes are those of `Tally`."""

    def __init__(self) -> None:
        super().__init__()
        self._observers: dict[tuple[str | None, str], Observer] = {}

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
        return np.sort(np.array([time_s for times in self._arrivals(kind) for time_s in times], float))

    @property
    def sources(self) -> int:
        """How many sources the requests are from: files of an imported trace."""
        return sum(1 for _ in self._arrivals("requests"))

    def interarrivals(self, kind: str, unit_s: float) -> Floats:
        """Times between arrivals of ``issues``, ``requests`` or ``prs``, in units of so many seconds.

        Those of several projects, sources or repositories are brought to the common mean first, so that their shape is
        that of one of them, not of their different rates; ones with fewer than 30 are left out, if there is more than
        one.
        """
        gaps = [np.diff(np.sort(np.array(times))) for times in self._arrivals(kind) if len(times) > 1]
        if len(gaps) > 1:
            gaps = [each for each in gaps if len(each) >= _ENOUGH_GAPS and each.mean() > 0]
        if not gaps:
            return np.array([])
        mean = np.concatenate(gaps).mean()
        return np.asarray(np.concatenate([each / (each.mean() or 1) for each in gaps]) * mean / unit_s, float)

    def feed(self, event: Event | FrameRow) -> None:
        """Take the next event."""
        key = (event.simulation, event.project)
        observer = self._observers.get(key)
        if observer is None:
            observer = self._observers[key] = Observer(self)
        observer.feed(event)

    def finish(self) -> None:
        """Take in what only the whole stream tells; call it once, after the last event."""
        for observer in self._observers.values():
            observer.finish()
        for name in [name for name, values in self.samples.items() if not values]:
            del self.samples[name]

    def _arrivals(self, kind: str) -> Iterator[list[float]]:
        """Times of arrivals of a kind, by project and source."""
        for observer in self._observers.values():
            for name, times in observer.arrivals.items():
                if name.partition(" ")[0] == kind:
                    yield times
