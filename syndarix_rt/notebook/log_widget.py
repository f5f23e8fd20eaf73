"""`LogWidget`: the newest events, to be filtered, searched and looked into."""

from __future__ import annotations

import json
from typing import Any

from syndarix_rt.notebook.metrics import EVENT_SERIES
from syndarix_rt.notebook.panel_widget import PanelWidget, module
from syndarix_rt.notebook.panels.log import EventLog, Filter, Line, told

__all__ = ["LogWidget"]

EVERY_S = 0.5
"""Time between two additions: nobody reads faster."""

MAX_NEW = 60
"""Lines added at once; how many were left out is said."""

MAX_SHOWN = 200
"""Lines in the browser."""

_COLORS = {line["name"]: line["color"] for line in EVENT_SERIES}
_CUSTOM_COLOR = EVENT_SERIES[-1]["color"]


class LogWidget(PanelWidget):
    """Shows an `EventLog`.

    Args:
        log: the events.
        simulated: whether their times are simulated.
    """

    _esm = module("log")

    def __init__(self, log: EventLog, *, simulated: bool) -> None:
        super().__init__(_options(simulated=simulated))
        self._log = log
        self._filter = Filter()
        self._due_s = 0.0
        self._version = 0
        self._filters: list[str] = []
        self._wanted: int | None = None
        """The number of the line whose details are wanted."""

    def show(self, log: EventLog, *, simulated: bool) -> None:
        """Show another log, as of the next `push`."""
        with self._lock:
            self._log, self._version, self._wanted, self._asked = log, 0, None, True
            self.options = _options(simulated=simulated)

    def news(self, now_s: float, *, whole: bool) -> dict[str, Any] | None:
        """Lines that came since; or the newest there are, with what can be filtered by."""
        log = self._log
        if self._wanted is not None:
            line = log.find(self._wanted)
            text = "It is too old to be kept here." if line is None else _pretty(line)
            self.tell("details", {"number": self._wanted, "text": text})
            self._wanted = None
        if not whole and (now_s < self._due_s or log.version == self._version):
            return None
        self._due_s = now_s + EVERY_S
        limit = MAX_SHOWN if whole else MAX_NEW
        after = 0 if whole else self._version
        lines = list(log.matching(self._filter, limit, after))
        skipped = 0
        if not whole and len(lines) == limit:
            skipped = sum(1 for _ in log.matching(self._filter, log.version, after)) - limit
        self._version = log.version
        news: dict[str, Any] = {"lines": [_told(line) for line in lines], "skipped": skipped, "total": log.version}
        if whole or log.filters != self._filters:
            self._filters = log.filters
            news |= {"filters": self._filters, "type": next(iter(self._filter.types), ""), "text": self._filter.text}
        return news

    def asked_for(self, content: dict[str, Any]) -> None:
        """Another filter, or the details of a line."""
        with self._lock:
            match content.get("op"):
                case "filter":
                    kind, text = str(content.get("type", "")), str(content.get("text", ""))
                    self._filter = Filter(frozenset({kind} if kind else ()), text[:200])
                    self._asked = True
                case "details" if isinstance(content.get("number"), int):
                    self._wanted = content["number"]


def _options(*, simulated: bool) -> dict[str, Any]:
    return {"title": "Event log", "simulated": simulated, "rows": MAX_SHOWN}


def _told(line: Line) -> list[Any]:
    subject, pairs = told(line)
    color = "" if not line.type else _COLORS.get(line.type, _CUSTOM_COLOR)
    return [line.number, line.time_s, line.type, color, subject, pairs]


def _pretty(line: Line) -> str:
    return json.dumps(json.loads(line.raw), indent=2, ensure_ascii=False) if line.type else line.raw.decode()
