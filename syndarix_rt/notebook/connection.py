"""`StatusWidget` and `ConnectionWidget`: how the stream stands, and the evidence of what came."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

from syndarix_rt.client import StreamState
from syndarix_rt.delivery import Ledger
from syndarix_rt.delivery.ledger import LATENCY_STEPS_MS
from syndarix_rt.notebook.feed import Feed
from syndarix_rt.notebook.panel_widget import PanelWidget, module
from syndarix_rt.notebook.words import plural

__all__ = ["AXES", "ConnectionWidget", "StatusWidget", "connection", "facts"]

AXES = ("wall", "simulated")
"""Time axes of a dashboard."""

EVERY_S = 0.5
"""Time between two changes: as fast as numbers can be read."""

MAX_GAPS = 5
"""Gaps that are told one by one, the newest first."""

_STATES = {
    StreamState.OPEN: ("live", "good"),
    StreamState.CONNECTING: ("connecting", "warn"),
    StreamState.WAITING: ("reconnecting", "warn"),
    StreamState.CLOSED: ("disconnected", "bad"),
}
"""A word for each state, and how good it is."""

_REASONS = {
    "trimmed": "the server kept less than was missed",
    "slow": "this notebook was too slow",
    "epoch": "the log began anew",
}


def connection(feed: Feed, ended: str = "") -> dict[str, Any]:
    """All about the stream, in words: ``word, level, advice``, ``figures`` (name, value, level) and ``gaps``."""
    ledger, position = feed.ledger, feed.position
    word, level = (ended, "muted") if ended else _STATES[feed.state]
    reconnects = max(0, ledger.connections - 1)
    figures = [
        ("events received", f"{ledger.events:,}", ""),
        ("median delay", _delay(ledger, 0.5, "≤ ") or "not yet", ""),
        ("95 % within", _delay(ledger, 0.95) or "not yet", ""),
        ("reconnects", f"{reconnects:,}", ""),
        ("gaps", f"{len(ledger.gaps):,}", "warn" if ledger.gaps else "good"),
        ("undeclared holes", f"{len(ledger.holes):,}", "bad" if ledger.holes else "good"),
        ("duplicates", f"{ledger.duplicates:,}", "bad" if ledger.duplicates else "good"),
        ("kept here", f"{len(feed.store):,}", ""),
    ]
    if feed.store.dropped:
        figures.append(("forgotten here", f"{feed.store.dropped:,}", "warn"))
    if ledger.unreadable:
        figures.append(("unreadable", f"{ledger.unreadable:,}", "bad"))
    return {
        "word": word,
        "level": level,
        "reason": "" if ended else feed.reason,
        "advice": "" if ended else _advice(feed),
        "position": f"{position.epoch}.{position.offset:,}" if position else "no position yet",
        "figures": figures,
        "gaps": [
            f"{datetime.fromtimestamp(loss.now_s).astimezone():%H:%M:%S} "
            f"{'an unknown number' if loss.gap.missed is None else f'{loss.gap.missed:,} events'} missed: "
            f"{_REASONS[loss.gap.reason]}"
            for loss in feed.losses[: -MAX_GAPS - 1 : -1]
        ],
    }


def facts(feed: Feed) -> list[str]:
    """The most telling figures, in words."""
    ledger, position = feed.ledger, feed.position
    delay = _delay(ledger, 0.5, "≤ ")
    return [
        f"{plural(ledger.events, 'event')} received",
        f"position {position.offset:,}" if position else "no position yet",
        plural(len(ledger.gaps), "gap"),
        plural(max(0, ledger.connections - 1), "reconnect"),
        *([f"median delay {delay}"] if delay else []),
    ]


def _delay(ledger: Ledger, quantile: float, sign: str = "") -> str:
    """The bound of a share of the delays; empty without events."""
    delay_ms = ledger.latency_ms(quantile)
    if delay_ms is None:
        return ""
    return f"over {LATENCY_STEPS_MS[-1] / 1000:g} s" if math.isinf(delay_ms) else f"{sign}{delay_ms:g} ms"


def _advice(feed: Feed) -> str:
    match feed.state:
        case StreamState.WAITING:
            return "It tries again by itself and goes on where it was; nothing is lost while the server keeps it."
        case StreamState.CLOSED:
            return "It does not try again. Run the cell that starts the workbench once more, then this one."
        case _:
            return ""


class StatusWidget(PanelWidget):
    """One line: how the stream stands, and what else is to be said.

    Args:
        feed: whose stream.
        note: a word about what plays.
        axis: the time axis.
        choose: called with the time axis that a person wants; on whatever thread the kernel likes.
    """

    _esm = module("status")

    def __init__(
        self, feed: Feed, note: Callable[[], str], axis: Callable[[], str], choose: Callable[[str], object]
    ) -> None:
        super().__init__({"title": "Status", "axes": list(AXES)})
        self._feed = feed
        self._note = note
        self._axis = axis
        self._choose = choose
        self._due_s = 0.0
        self._told: dict[str, Any] = {}

    @property
    def line(self) -> str:
        """What it says now."""
        about, note = connection(self._feed, self._ended), self._note()
        word = f"{about['word']}: {about['reason']}" if about["reason"] else about["word"]
        return " · ".join([word, *facts(self._feed), *([note] if note else [])])

    def news(self, now_s: float, *, whole: bool) -> dict[str, Any] | None:
        """The line, twice a second at most."""
        if not whole and now_s < self._due_s:
            return None
        self._due_s = now_s + EVERY_S
        level = "muted" if self._ended else _STATES[self._feed.state][1]
        content = {"level": level, "line": self.line, "axis": self._axis()}
        if content == self._told and not whole:
            return None
        self._told = content
        return content

    def asked_for(self, content: dict[str, Any]) -> None:
        """Another time axis was chosen."""
        if content.get("op") == "axis" and content.get("value") in AXES:
            self._choose(content["value"])


class ConnectionWidget(PanelWidget):
    """Shows `connection`."""

    _esm = module("connection")

    def __init__(self, feed: Feed) -> None:
        super().__init__({"title": "Connection"})
        self._feed = feed
        self._due_s = 0.0
        self._told: dict[str, Any] = {}

    def news(self, now_s: float, *, whole: bool) -> dict[str, Any] | None:
        """All of it, twice a second at most."""
        if not whole and now_s < self._due_s:
            return None
        self._due_s = now_s + EVERY_S
        content = connection(self._feed, self._ended)
        if content == self._told and not whole:
            return None
        self._told = content
        return content
