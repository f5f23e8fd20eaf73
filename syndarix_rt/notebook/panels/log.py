"""`EventLog`: the newest events, to be looked through."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from syndarix_rt.events import CATEGORIES, category_of
from syndarix_rt.notebook.panels.sighting import Sighting

__all__ = ["EventLog", "Filter", "Line"]

CAPACITY = 10_000
"""Events that can be looked through: their bytes are shared with the store, and a search takes some milliseconds."""

_COMMON = ("role", "issue_id", "branch", "run_id", "sprint_id", "gen_ai.request.model")
"""What the events of a run have in common is told last."""

_TEXT_CHARACTERS = 240
"""Of an event's data in a line; the rest is in its details."""


class Line(NamedTuple):
    """An event, or a gap in the stream."""

    number: int
    """Counts up from 1, also over what is forgotten."""
    time_s: float
    """On the axis, seconds since 1970."""
    type: str
    """Empty: a gap."""
    raw: bytes
    """The event's JSON; of a gap, its text."""


class Filter(NamedTuple):
    """Which lines are wanted; empty: all."""

    types: frozenset[str] = frozenset()
    """Types and categories; ``custom`` stands for all types outside the catalogue."""
    text: str = ""
    """Somewhere in the event, whatever its case."""

    def lets(self, line: Line) -> bool:
        """Whether a line is wanted. Gaps always are."""
        if not line.type:
            return True
        if self.types and line.type not in self.types and (category_of(line.type) or "custom") not in self.types:
            return False
        return not self.text or self.text.lower() in line.raw.decode(errors="replace").lower()


class EventLog:
    """The newest events, the last of them first.

    Attributes:
        version: grows with every change.
    """

    types = None

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.version = 0
        self._lines: deque[Line] = deque(maxlen=capacity)
        self._seen: dict[str, None] = {}

    @property
    def filters(self) -> list[str]:
        """What can be filtered by: categories, then the types that were seen."""
        types = sorted(self._seen)
        return [*CATEGORIES, *(["custom"] if any(category_of(name) is None for name in types) else []), *types]

    def see(self, event: Sighting, time_s: float) -> None:
        """One more."""
        if event.type not in self._seen and len(self._seen) < 100:  # noqa: PLR2004 - a list to choose from ends somewhere
            self._seen[event.type] = None
        self._put(time_s, event.type, event.raw)

    def matching(self, wanted: Filter, limit: int, after: int = 0) -> Iterator[Line]:
        """The newest lines that are wanted, newest first.

        Args:
            wanted: which.
            limit: so many at most.
            after: only lines of a higher number.
        """
        for line in reversed(self._lines):
            if line.number <= after or limit <= 0:
                return
            if wanted.lets(line):
                limit -= 1
                yield line

    def find(self, number: int) -> Line | None:
        """The line of a number; None if it is forgotten."""
        if not self._lines or not self._lines[0].number <= number <= self._lines[-1].number:
            return None
        return self._lines[number - self._lines[0].number]

    def prove(self, time_s: float) -> None:
        """An event came; nothing to do."""

    def advance(self, now_s: float) -> None:
        """Time goes on; nothing to do."""

    def gap(self, now_s: float, label: str) -> None:
        """Something was lost."""
        self._put(now_s, "", label.encode())

    def begin(self) -> None:
        """The log begins anew; what came before can still be looked through."""

    def clear(self) -> None:
        """As time itself begins anew."""

    def _put(self, time_s: float, kind: str, raw: bytes) -> None:
        self.version += 1
        self._lines.append(Line(self.version, time_s, kind, raw))


class _Told(msgspec.Struct):
    data: dict[str, Any]
    subject: str | None = None


_decode_told = msgspec.json.Decoder(_Told).decode


def told(line: Line) -> tuple[str, list[tuple[str, str]]]:
    """What a line says, in short: its subject, and its data by key with the telling first. Of a gap: its text."""
    if not line.type:
        return "", [("", line.raw.decode())]
    event = _decode_told(line.raw)
    keys = [key for key in event.data if key not in _COMMON] + [key for key in _COMMON if key in event.data]
    pairs, left = [], _TEXT_CHARACTERS
    for key in keys:
        name, value = key.removeprefix("gen_ai."), _plain(event.data[key])[:left]
        pairs.append((name, value))
        left -= len(name) + len(value) + 2
        if left <= 0:
            break
    return event.subject or "", pairs


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
