"""A feed without a network: whoever joins late sees what those saw who were there, gaps included."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from syndarix_rt.delivery import Gap
from syndarix_rt.events import Event, EventId
from syndarix_rt.notebook.feed import Feed
from syndarix_rt.notebook.panels.catalogue import CHARTS, Axis, make_chart
from syndarix_rt.notebook.panels.log import EventLog, Filter
from syndarix_rt.notebook.panels.timeline import Timeline

T0 = 1_795_386_400
NOBODY = "http://127.0.0.1:1/"
GAP = Gap(reason="trimmed", requested="epoch-one.3", first=9, last=20, missed=5)


class Watcher:
    """All charts and the log, on one timeline."""

    def __init__(self, *, simulated):
        self.charts = {name: make_chart(name, Axis(simulated, 60.0)) for name in CHARTS}
        self.log = EventLog()
        self.timeline = Timeline([*(chart.model for chart in self.charts.values()), self.log], simulated=simulated)

    def saw(self):
        rows = {name: chart.model.rows() for name, chart in self.charts.items()}
        gaps = {name: list(chart.model.gaps) for name, chart in self.charts.items()}
        return rows, gaps, list(self.log.matching(Filter(), 1000))


def event(n):
    run = {"run_id": "R-1", "agent_id": "dev", "role": "developer"}
    kind, data = [("agent_started", run), ("issue_created", {"issue_id": f"I-{n}", "title": "é"}), ("my_event", {})][
        n % 3
    ]
    time = datetime.fromtimestamp(T0 + n, UTC)
    made = Event.new(kind, data, project="apollo", id=f"e-{n}", time=time, recordedtime=time, simulation="s-1")
    return Event.decode(made.encode(), EventId("epoch-one", n))


@pytest.mark.parametrize("simulated", [False, True])
@pytest.mark.parametrize(
    ("gaps_before", "on_axis"),  # a gap is put on simulated time by the next event of the simulation it began in
    [((1,), (1, 0)), ((4, 4), (2, 1)), ((4, 9), (2, 2)), ((13,), (1, 0))],
)
async def test_who_joins_late_sees_the_same_events_and_gaps(simulated, gaps_before, on_axis):
    now = [float(T0)]
    feed = Feed(NOBODY, "apollo", clock=lambda: now[0])
    early, late = Watcher(simulated=simulated), Watcher(simulated=simulated)
    await feed.attach(early.timeline)
    for n in range(1, 14):
        now[0] = T0 + n + 0.25
        for _ in range(gaps_before.count(n)):
            feed._lose(GAP)
        if n < 13:
            feed._keep(event(n))
    await feed.attach(late.timeline)
    assert early.timeline.fault is late.timeline.fault is None
    (rows, gaps, lines), (late_rows, late_gaps, late_lines) = early.saw(), late.saw()
    assert len(gaps["events"]) == on_axis[simulated]
    for name in CHARTS:
        np.testing.assert_array_equal(late_rows[name], rows[name])
    assert late_gaps == gaps
    assert late_lines == lines
