"""`Dashboard`: panels over one project's feed, redrawn at a fixed rate, however many events come."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import ipywidgets
import numpy as np

from syndarix_rt.client import Api
from syndarix_rt.errors import SyndarixError
from syndarix_rt.notebook.approvals import ApprovalsWidget
from syndarix_rt.notebook.background import Background
from syndarix_rt.notebook.chart_widget import ChartWidget
from syndarix_rt.notebook.connection import AXES, ConnectionWidget, StatusWidget, facts
from syndarix_rt.notebook.control import Controls, ControlWidget
from syndarix_rt.notebook.feed import Feed
from syndarix_rt.notebook.log_widget import LogWidget
from syndarix_rt.notebook.panel_widget import PanelWidget
from syndarix_rt.notebook.panels.catalogue import CHARTS, Axis, make_chart
from syndarix_rt.notebook.panels.inbox import ApprovalInbox
from syndarix_rt.notebook.panels.log import EventLog
from syndarix_rt.notebook.panels.timeline import Panel, Timeline
from syndarix_rt.notebook.showing import Showing
from syndarix_rt.notebook.still import Still, draw_chart

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PANELS", "Dashboard"]

PANELS = ("control", *CHARTS, "approvals", "connection", "log")
"""Names of all panels, in the order in which they are shown."""

MAX_FPS = 10.0
"""Faster than this nobody reads a chart, and a slow browser would fall behind."""

WINDOW_S = {False: 60.0, True: 7200.0}
"""Without and with simulated time: a bar a second is then wide enough to be read; at 60 simulated seconds a second, two
minutes of watching."""

MAX_WINDOW_S = 30 * 86_400.0
"""A bin of an hour would not be seen on a longer axis."""

CATCH_UP_S = 2.0
"""A cell waits so long for what was received before; what is left comes while it is watched."""

ASK_S = 2.0
"""Time between two questions to the server what waits for a decision, if the first gets no answer."""

_WIDE = ("control", "log")
"""Panels as wide as the dashboard."""


class Dashboard(ipywidgets.VBox):  # type: ignore[misc] # it has no types
    """A live view of a project: a line about the connection, and panels, each of which can be displayed by itself.

    ::

        dashboard = bench.dashboard("apollo")
        dashboard["agents"]

    ``Workbench.dashboard`` makes one. It needs no browser: `frame` and `snapshot` tell what would be seen.

    Args:
        feed: where its data come from.
        background: the thread that the feed lives on.
        controls: what the buttons of the run panel do.
        panels: names of `PANELS`, in the order in which they are shown; None: all.
        axis: show events at the wall time of their publication, or at their simulated time.
        simulation: show only this simulation's events.
        fps: redraws a second, at most 10.
        window_s: how much time a chart shows on that axis; None: 60 s of publication, or two simulated hours.
    """

    _pumping: Future[None] | None = None  # ipywidgets closes what failed in its constructor, too

    def __init__(
        self,
        feed: Feed,
        background: Background,
        controls: Controls,
        *,
        panels: Sequence[str] | None = None,
        axis: Literal["wall", "simulated"] = "wall",
        simulation: str | None = None,
        fps: float = 4.0,  # a redraw costs the browser some milliseconds, and four a second look live
        window_s: float | None = None,
    ) -> None:
        if axis not in AXES:
            raise ValueError(f"axis is {' or '.join(map(repr, AXES))}, not {axis!r}")
        simulated = axis == "simulated"
        self._windows_s = WINDOW_S | ({} if window_s is None else {simulated: window_s})
        names = _checked(PANELS if panels is None else panels, fps, self._windows_s[simulated])
        self.project = feed.project
        self._feed = feed
        self._background = background
        self._period_s = 1 / fps
        self._simulation = simulation
        self._asked_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()  # held by who lets a timeline catch up
        self._begin(names, simulated=simulated)
        self._panels = {name: self._make(name, controls) for name in names}
        note = partial(self._note, controls)
        self._status = StatusWidget(feed, note, lambda: self.axis, self._choose_axis)
        self._showing = Showing(self._repr_mimebundle_, self.snapshot, lambda: self._pumping is not None)
        self._status.on_msg(lambda *_: self._showing.seen())
        for panel in self._panels.values():
            panel.layout.min_width = "0"
        for name, of in _spans(names):
            self._panels[name].add_class(of)
        grid = ipywidgets.GridBox(list(self._panels.values()))
        grid.layout.grid_template_columns = "repeat(auto-fit, minmax(min(100%, 440px), 1fr))"
        grid.layout.grid_gap = "10px"
        grid.add_class("srt-grid")
        super().__init__([self._status, grid])
        self.add_class("srt-dashboard")
        self._attaching = background.submit(self._attach())
        with contextlib.suppress(TimeoutError):
            self._attaching.result(CATCH_UP_S)
        self._pumping = background.spawn(self._pump())

    def _begin(self, names: Iterable[str], *, simulated: bool) -> None:
        """Begin to count, from nothing."""
        axis = Axis(simulated, self._windows_s[simulated])
        self._charts = {name: make_chart(name, axis) for name in names if name in CHARTS}
        self._inbox = ApprovalInbox()
        self._log = EventLog()
        models: list[Panel] = [chart.model for chart in self._charts.values()]
        models += [model for name, model in (("approvals", self._inbox), ("log", self._log)) if name in names]
        self._timeline = Timeline(models, simulated=simulated, simulation=self._simulation)

    def _note(self, controls: Controls) -> str:
        """What plays, and how far it has come."""
        run = controls.current()
        if run is None:
            return ""
        time = self._timeline.event_time
        plays = time is not None and not run.done and not run.stands
        return f"{run.status} at {time:%Y-%m-%d %H:%M} of simulated time" if plays else run.status

    def __getitem__(self, name: str) -> ipywidgets.DOMWidget:
        """One panel, which can be displayed by itself."""
        if name not in self._panels:
            raise KeyError(f"there is no panel {name!r}; there are {', '.join(self._panels)}")
        return self._panels[name]

    @property
    def status(self) -> str:
        """The line about the connection."""
        return self._status.line

    @property
    def axis(self) -> str:
        """The time axis, ``wall`` or ``simulated``; everything is counted anew when it is set to the other."""
        return AXES[self._timeline.simulated]

    @axis.setter
    def axis(self, axis: Literal["wall", "simulated"]) -> None:
        if axis not in AXES:
            raise ValueError(f"axis is {' or '.join(map(repr, AXES))}, not {axis!r}")
        with contextlib.suppress(TimeoutError):
            self._choose_axis(axis).result(CATCH_UP_S)

    def frame(self, name: str) -> pd.DataFrame:
        """What a chart shows: rows by time (UTC), with a column for each series that has a value.

        Of ``agents``: one row for each time from which on an agent is in a state; the last known ones are still so.
        """
        import pandas as pd  # noqa: PLC0415 - see Store.frame

        if name not in self._charts:
            raise KeyError(f"there is no chart {name!r}; there are {', '.join(self._charts)}")
        chart = self._charts[name]
        table, lanes = self._on_its_thread(lambda: (chart.model.rows(), list(getattr(chart.model, "lanes", ()))))
        times_us = np.rint(table[:, 0] * 1e6).astype("int64")  # in nanoseconds they would reach to the year 2262 only
        index = pd.DatetimeIndex(times_us.view("datetime64[us]"), tz="UTC", name="time")
        series = [line["name"] for line in chart.options["series"]]
        if chart.options["kind"] == "lanes":
            states = [series[int(state)] if state >= 0 else None for state in table[:, 2]]
            return pd.DataFrame({"agent": [lanes[int(lane)] for lane in table[:, 1]], "state": states}, index=index)
        frame = pd.DataFrame(table[:, 1:], index=index, columns=series)
        return frame.loc[:, (frame.abs() > 0).any()]

    def snapshot(self) -> Still:
        """A still picture of the charts, which is shown without a browser, too."""
        still: Still = self._on_its_thread(self._still)
        return still

    def stop(self) -> None:
        """End the live view; a still picture takes its place."""
        if self._pumping is not None:
            self._attaching.cancel()
            self._pumping.cancel()
            self._pumping = None
            text = f"Ended {datetime.now().astimezone():%H:%M:%S}"
            self._showing.end(self._on_its_thread(lambda: self._end(text), always=True))

    def close(self) -> None:
        """End it, and remove it from wherever it is shown."""
        self.stop()
        grid = self.children[1] if self.children else None
        for widget in (*self.children, *(grid.children if grid else ())):
            for part in (widget.layout, getattr(widget, "style", None)):
                if part is not None:
                    part.close()
            widget.close()
        self.layout.close()
        super().close()

    # ---- on the background's thread -------------------------------------------------------------------------------

    async def _attach(self) -> None:
        async with self._turn:
            await self._feed.attach(self._timeline)

    async def _switch(self, *, simulated: bool) -> None:
        """Count everything that is kept once more, on another axis."""
        async with self._turn:
            if simulated == self._timeline.simulated:
                return
            self._feed.detach(self._timeline)
            self._begin(self._panels, simulated=simulated)
            for name, panel in self._panels.items():
                if isinstance(panel, ChartWidget):
                    panel.show(self._charts[name].model, self._charts[name].options)
                elif isinstance(panel, LogWidget):
                    panel.show(self._log, simulated=simulated)
                elif isinstance(panel, ApprovalsWidget):
                    panel.show(self._inbox)
            await self._feed.attach(self._timeline)

    async def _pump(self) -> None:
        try:
            while True:
                now_s = time.time()
                self._feed.advance(now_s)
                if self._timeline.fault is not None:
                    raise self._timeline.fault  # noqa: TRY301 - as what is raised here
                self._push(now_s)
                if "approvals" in self._panels and self._inbox.uncertain and now_s >= self._asked_s + ASK_S:
                    self._asked_s = now_s
                    self._start(self._ask_what_waits())
                await asyncio.sleep(self._period_s)
        except Exception as error:
            # Whatever it is: what stands still must not look live.
            self._end(f"Stopped by a fault ({type(error).__name__}: {error}); run this cell again")
            raise

    def _push(self, now_s: float) -> None:
        axis_s = self._now_on_axis_s(now_s)
        self._status.push(now_s)
        for panel in self._panels.values():
            panel.push(axis_s if isinstance(panel, ChartWidget) else now_s)

    def _now_on_axis_s(self, now_s: float) -> float:
        """Where the charts end; they are told where simulated time began, too."""
        for chart in self._charts.values():
            chart.model.start_s = self._timeline.start_s
        return self._timeline.now_s(now_s)

    def _end(self, text: str) -> Still:
        for task in self._tasks:
            task.cancel()
        self._feed.detach(self._timeline)
        now_s = time.time()
        axis_s = self._now_on_axis_s(now_s)
        for panel in self._panels.values():
            panel.end(axis_s if isinstance(panel, ChartWidget) else now_s, text)
        self._status.end(now_s, text)
        return self._still(text)

    def _still(self, ended: str = "") -> Still:
        now_s = time.time()
        axis_s = self._now_on_axis_s(now_s)
        pictures = {name: draw_chart(chart, axis_s) for name, chart in self._charts.items()}
        when = ended or f"As of {datetime.fromtimestamp(now_s).astimezone():%H:%M:%S}"
        return Still(pictures, self.project, f"{when} · {' · '.join(facts(self._feed))}")

    async def _ask_what_waits(self) -> None:
        inbox = self._inbox
        question = inbox.ask()
        try:
            async with Api(self._feed.url) as api:
                approvals = await api.approvals(self.project)
        except SyndarixError:
            inbox.uncertain = True  # asked again
        else:
            inbox.correct(question, approvals, self._simulation)

    async def _decide(self, approval_id: str, decision: Any) -> None:
        try:
            async with Api(self._feed.url) as api:
                await api.decide(self.project, approval_id, decision, by="notebook")
        except SyndarixError as error:
            self._inbox.decide(approval_id, "", str(error))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---- parts ----------------------------------------------------------------------------------------------------

    def _make(self, name: str, controls: Controls) -> ChartWidget | PanelWidget:
        if name in self._charts:
            chart = self._charts[name]
            return ChartWidget(chart.model, chart.options)
        if name == "control":
            return ControlWidget(controls)
        if name == "approvals":
            return ApprovalsWidget(self._inbox, self._on_decision, lambda: self._timeline.event_time)
        if name == "log":
            return LogWidget(self._log, simulated=self._timeline.simulated)
        return ConnectionWidget(self._feed)

    def _on_decision(self, approval_id: str, decision: str) -> None:
        """A button was pressed; on whatever thread the kernel likes."""

        async def decide() -> None:
            self._inbox.decide(approval_id, decision)
            self._start(self._decide(approval_id, decision))

        self._background.spawn(decide())

    def _choose_axis(self, axis: str) -> Future[None]:
        """Count on this axis from now on; may be called on any thread."""

        async def switch() -> None:
            if self._pumping:
                await self._start(self._switch(simulated=axis == "simulated"))

        return self._background.spawn(switch())

    def _on_its_thread(self, work: Callable[[], Any], *, always: bool = False) -> Any:
        """Run what must not run beside the feed."""
        return self._background.run(_call(work)) if always or self._pumping else work()

    def _ipython_display_(self) -> None:
        """Show it in a cell, as IPython asks for."""
        self._showing.show()

    def __repr__(self) -> str:
        is_live = self._pumping is not None and not self._pumping.done()
        return f"<Dashboard of {self.project!r}: {'live' if is_live else 'ended'}>"


async def _call(work: Callable[[], Any]) -> Any:
    return work()


def _spans(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Panels with classes of ``panels.css``: as wide as the dashboard, or to fill what a row would leave empty."""
    narrow = [name for name in names if name not in _WIDE]
    for name in names:
        if name in _WIDE or len(narrow) == 1:
            yield name, "srt-wide"
    if len(narrow) > 1:
        for columns in (2, 3, 4):
            free = -len(narrow) % columns
            for name, more in ((narrow[0], (free + 1) // 2), (narrow[-1], free // 2)):
                if more:
                    yield name, f"srt-of-{columns}-span-{1 + more}"


def _checked(panels: Sequence[str], fps: float, window_s: float) -> list[str]:
    if not 0 < fps <= MAX_FPS:
        raise ValueError(f"fps must be above 0 and at most {MAX_FPS:g}, not {fps!r}")
    if not 0 < window_s <= MAX_WINDOW_S:
        raise ValueError(f"window_s must be above 0 and at most {MAX_WINDOW_S:g}, not {window_s!r}")
    names = [panels] if isinstance(panels, str) else list(panels)
    unknown = [name for name in names if name not in PANELS]
    if unknown or not names or len(set(names)) < len(names):
        what = f"no panel is called {unknown[0]!r}" if unknown else "name each panel once, and at least one"
        raise ValueError(f"{what}; there are {', '.join(PANELS)}")
    return names
