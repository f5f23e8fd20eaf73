"""`Dashboard`: panels over one project's feed, redrawn at a fixed rate, however many events come."""

from __future__ import annotations

import asyncio
import html
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from typing import TYPE_CHECKING, Any

import ipywidgets

from syndarix_rt.client import StreamState
from syndarix_rt.notebook.background import Background
from syndarix_rt.notebook.chart_widget import ChartWidget
from syndarix_rt.notebook.feed import Feed
from syndarix_rt.notebook.metrics import EVENT_SERIES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Dashboard"]

MAX_FPS = 10.0
"""Faster than this nobody reads a chart, and a slow browser would fall behind."""

MAX_WINDOW_S = 600.0
"""What an `EventRate` keeps."""

STATUS_S = 0.5
"""Time between two changes of the connection line: as fast as numbers can be read."""

_STATES = {
    StreamState.OPEN: ("live", "#009E73"),
    StreamState.CONNECTING: ("connecting", "#E69F00"),
    StreamState.WAITING: ("reconnecting", "#E69F00"),
    StreamState.CLOSED: ("disconnected", "#D55E00"),
}


class Dashboard(ipywidgets.VBox):  # type: ignore[misc] # it has no types
    """A live view of a project: the connection, and the event rate by type.

    ``Workbench.dashboard`` makes one. It needs no browser: without one, `snapshot` tells what would be seen.

    Args:
        feed: where its data come from.
        background: the thread that the feed lives on.
        simulation: show only this simulation's events.
        fps: redraws a second, at most 10.
        window_s: how much time a chart shows.
        note: a word about what plays, for the connection line.
    """

    _pumping: Future[None] | None = None  # ipywidgets closes what failed in its constructor, too

    def __init__(
        self,
        feed: Feed,
        background: Background,
        *,
        simulation: str | None = None,
        fps: float = 4.0,  # a redraw costs the browser some milliseconds, and four a second look live
        window_s: float = 60.0,  # a bar a second is then wide enough to be read
        note: Callable[[], str] = str,
    ) -> None:
        if not 0 < fps <= MAX_FPS:
            raise ValueError(f"fps must be above 0 and at most {MAX_FPS:g}, not {fps!r}")
        if not 0 < window_s <= MAX_WINDOW_S:
            raise ValueError(f"window_s must be above 0 and at most {MAX_WINDOW_S:g}, not {window_s!r}")
        self.project = feed.project
        self._feed = feed
        self._background = background
        self._period_s = 1 / fps
        self._note = note
        self._rate = background.run(_on_thread(lambda: feed.rate(simulation)))
        self._status = ipywidgets.HTML()
        self._status_due_s = 0.0
        self._chart = ChartWidget(
            self._rate,
            {
                "kind": "bars",
                "title": f"Events by type: {feed.project}",
                "unit": "events/s",
                "series": EVENT_SERIES,
                "windowS": window_s,
                "empty": "No event yet",
            },
        )
        super().__init__([self._status, self._chart])
        self._show_status(time.time())
        self._pumping = background.submit(self._pump())

    def snapshot(self) -> dict[str, pd.DataFrame]:
        """What each chart shows, as frames: rows by time (UTC), a column for each series that has a value."""
        import pandas as pd  # noqa: PLC0415 - see Store.frame

        table = self._background.run(_on_thread(self._rate.rows)) if self._pumping else self._rate.rows()
        index = pd.to_datetime(table[:, 0], unit="s", utc=True).as_unit("us").rename("time")
        frame = pd.DataFrame(table[:, 1:], index=index, columns=self._rate.names)
        return {"event_rate": frame.loc[:, (frame > 0).any()]}

    def stop(self) -> None:
        """End the live view; what it shows stays, greyed out."""
        if self._pumping is not None:
            self._pumping.cancel()
            self._pumping = None
            text = f"Ended {datetime.now().astimezone():%H:%M:%S}"
            self._background.run(_on_thread(lambda: self._end(text)))

    def close(self) -> None:
        """End it, and remove it from wherever it is shown."""
        self.stop()
        for widget in self.children:
            for part in (widget.layout, getattr(widget, "style", None)):
                if part is not None:
                    part.close()
            widget.close()
        self.layout.close()
        super().close()

    async def _pump(self) -> None:
        while True:
            now_s = time.time()
            self._feed.advance(now_s)
            self._chart.push(now_s)
            if now_s >= self._status_due_s:
                self._show_status(now_s)
            await asyncio.sleep(self._period_s)

    def _end(self, text: str) -> None:
        now_s = time.time()
        self._chart.end(now_s, text)
        self._show_status(now_s, text)

    def _show_status(self, now_s: float, ended: str = "") -> None:
        self._status_due_s = now_s + STATUS_S
        feed, ledger = self._feed, self._feed.ledger
        word, color = (ended, "#7F8792") if ended else _STATES[feed.state]
        position = feed.position
        parts: list[str] = [
            f"{word}: {feed.reason}" if feed.reason and not ended else word,
            f"{ledger.events:,} events received",
            f"position {position.offset:,}" if position else "no position yet",
            _plural(len(ledger.gaps), "gap"),
            _plural(max(0, ledger.connections - 1), "reconnect"),
        ]
        delay_ms = ledger.latency_ms(0.5)
        if delay_ms is not None:
            parts.append(f"median delay ≤ {delay_ms:g} ms")
        note = self._note()
        if note:
            parts.append(note)
        text = html.escape(" · ".join(parts))
        self._status.value = f'<span style="color:{color}">●</span> {text}'

    def __repr__(self) -> str:
        return f"<Dashboard of {self.project!r}: {'live' if self._pumping else 'ended'}>"


async def _on_thread(work: Callable[[], Any]) -> Any:
    """For what must not run beside the feed."""
    return work()


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
