"""HTTP/2 for streams that never end: each gets its turn, however many there are on a connection.

Hypercorn obeys the priorities of RFC 7540, which RFC 9113 §5.3 has withdrawn. A browser makes a chain of them, in which
a stream waits for all before it, and the tree that Hypercorn keeps gives a chain of more than 100 up by ending the
connection, and all streams with it (`priority` 2.0.0). So what a client asks for is not heard here.
"""

from __future__ import annotations

from typing import Any

import hypercorn.protocol
from hypercorn.protocol.h2 import H2Protocol
from priority.priority import PriorityTree

__all__ = ["MAX_STREAMS", "install"]

MAX_STREAMS = 256
"""Requests at a time on one connection, which all tabs of a browser share: enough for a page that follows 200 projects.
More wait until another one ends."""


class _FairTree(PriorityTree):
    """Streams side by side: they are asked in turn."""

    def insert_stream(self, stream_id: int, *_: Any, **__: Any) -> None:
        super().insert_stream(stream_id)

    def reprioritize(self, *_: Any, **__: Any) -> None:
        pass


class _FairProtocol(H2Protocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.priority = _FairTree()


def install() -> None:
    """Let Hypercorn speak it; its configuration has no place for that."""
    hypercorn.protocol.H2Protocol = _FairProtocol  # type: ignore[attr-defined]  # imported there, not exported
