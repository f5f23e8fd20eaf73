"""Faults in delivery that are planted on purpose, to see that the oracle finds them.

They are made between server and subscriber, in the bytes of the stream: the verdict must be the same as if the server
had erred so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["PLANTED", "Planted"]

PLANTED = {
    "skip": "one event does not arrive",
    "repeat": "one event arrives twice",
    "swap": "two events arrive in each other's place",
    "hide-gap": "a declared loss is not passed on",
    "gap-bounds": "a declared loss has wrong bounds",
    "epoch": "one event says that it is of another epoch",
    "filter": "events arrive that the filter excludes",
}
"""What can be planted, and what it does. Each is found as a violation of the subscriber that it was done to."""

AFTER_EVENTS = 40
"""So many events pass first: the fault is to stand in the middle of a stream."""

_HEAD_END = b"\r\n\r\n"
_TYPES = re.compile(rb"(GET [^ ?]+\?)([^ ]*&)?types=[^& ]*")


class Planted:
    """One planted fault; it happens once, on whichever connection of the subscriber the moment comes.

    Args:
        kind: one of `PLANTED`.

    Attributes:
        done: whether it has happened.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.done = kind == "filter"
        self._events = 0
        self._held: bytes | None = None
        self._before_next = False  # it counts once another event has come after it: a cut would undo it

    def connection(self) -> _Rewriter:
        """What changes the bytes of the next connection."""
        if self._before_next:
            self.done = self._before_next = False
        self._held = None
        return _Rewriter(self)

    def request(self, data: bytes) -> bytes:
        """The request as it goes to the server."""
        return _TYPES.sub(rb"\1\2", data) if self.kind == "filter" else data

    def block(self, block: bytes) -> Iterator[bytes]:
        """What arrives instead of one block of the stream."""
        is_gap = b"event: gap\n" in block
        is_event = b"\ndata: " in block and block.startswith(b"id: ")
        self._events += is_event
        if is_event:
            self._before_next = False
        if self._held is not None and is_event:
            yield block
            yield self._held
            self._held = None
        elif self.done or self._events < AFTER_EVENTS or not (is_gap or is_event):
            yield block
        elif is_gap and self.kind in ("hide-gap", "gap-bounds"):
            self.done = self._before_next = True
            if self.kind == "gap-bounds":
                yield re.sub(rb'"first":(\d+)', lambda found: b'"first":%d' % (int(found[1]) + 1), block)
        elif is_event and self.kind in ("skip", "repeat", "swap", "epoch"):
            self.done = self._before_next = True
            if self.kind == "repeat":
                yield block + block
            elif self.kind == "swap":
                self._held = block
            elif self.kind == "epoch":
                yield re.sub(rb"^id: [^.]+", b"id: not-the-epoch", block)
        else:
            yield block


class _Rewriter:
    """One connection: the response's body, chunk by chunk, block by block."""

    def __init__(self, planted: Planted) -> None:
        self._planted = planted
        self._raw = b""  # of the response, not yet understood
        self._body: bytes | None = None  # of the body, not yet a whole block; None: still in the head

    def up(self, data: bytes) -> bytes:
        return self._planted.request(data)

    def down(self, data: bytes) -> bytes:
        self._raw += data
        out = b""
        if self._body is None:
            head, end, rest = self._raw.partition(_HEAD_END)
            if not end:
                return b""
            out, self._raw, self._body = head + end, rest, b""
        while True:
            line, end, rest = self._raw.partition(b"\r\n")
            if not end:
                return out
            size = int(line, 16)
            if len(rest) < size + 2:
                return out
            chunk, self._raw = rest[:size], rest[size + 2 :]
            if size == 0:
                return out + _chunk(self._body) + b"0\r\n\r\n"
            self._body += chunk
            *blocks, self._body = self._body.split(b"\n\n")
            out += _chunk(b"".join(piece for block in blocks for piece in self._planted.block(block + b"\n\n")))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
