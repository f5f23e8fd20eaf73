"""Server-Sent Events on the wire: `encode` writes blocks, `Decoder` reads them. No I/O.

The decoder follows WHATWG HTML, "Interpreting an event stream", to the letter, and adds one thing: a limit on memory.
The encoder refuses what could forge a block (CR, LF and NUL in an id or an event name) and splits data into lines.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from syndarix_rt.errors import DecodeError

__all__ = ["MAX_BLOCK_BYTES", "Decoder", "Frame", "encode", "encode_entry"]

MAX_BLOCK_BYTES = 1024 * 1024
"""Default limit of the decoder: 16 of our largest events, so that foreign servers fit; no reader dies of one block."""

_LINE_END = re.compile(rb"\r\n|\r|\n")
_FORGING = re.compile(r"[\r\n\0]")
_DIGITS = re.compile(r"[0-9]+")
_BOM = b"\xef\xbb\xbf"
_MAX_RETRY_MS = 2**53 - 1  # what a browser's number can hold


class Frame(NamedTuple):
    """One event as dispatched by the WHATWG rules."""

    id: str
    """The last event id at that moment; it is sticky, so it may be older than this event."""
    event: str
    """The event's name; ``message`` when the stream gave none."""
    data: str
    """The data lines, joined with LF."""


def encode(
    data: str | bytes | None = None,
    *,
    event: str | None = None,
    id: str | None = None,  # noqa: A002 - the field's name on the wire
    retry_ms: int | None = None,
    comment: str | None = None,
) -> bytes:
    """One block, with the blank line that ends it.

    ``encode(id="e.7")`` is an id-only block: it moves the reader's cursor and dispatches nothing.

    Args:
        data: the payload; a line break of any kind in it becomes a new ``data`` line (and reads back as LF).
        event: the event's name.
        id: the event id; the empty string resets the reader's.
        retry_ms: how long a reader shall wait before it connects again, milliseconds.
        comment: text that readers ignore; keeps a connection busy.

    Raises:
        ValueError: CR, LF or NUL in ``event`` or ``id``, or a negative ``retry_ms``.
    """
    lines: list[bytes] = []
    if comment is not None:
        lines += [b": " + line for line in _lines(comment)]
    if retry_ms is not None:
        if retry_ms < 0:
            raise ValueError(f"retry_ms must not be negative: {retry_ms}")
        lines.append(b"retry: %d" % retry_ms)
    for name, value in (("id", id), ("event", event)):
        if value is not None:
            if _FORGING.search(value):
                raise ValueError(f"CR, LF or NUL in the {name} of an event: {value!r}")
            lines.append(f"{name}: {value}".encode())
    if data is not None:
        lines += [b"data: " + line for line in _lines(data)]
    return b"\n".join([*lines, b"", b""])


def encode_entry(event_id: str, event: str, line: bytes) -> bytes:
    """The data frame of a log's entry; its parts are known to be clean and ``line`` to be one line."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), event.encode(), line)


def _lines(text: str | bytes) -> list[bytes]:
    return _LINE_END.split(text.encode() if isinstance(text, str) else text)


class Decoder:
    """Bytes of an event stream in, frames out; state carries over any split of the bytes.

    A decoder serves one connection. The next one is made with ``last_event_id`` of this one.

    Args:
        max_event_bytes: most bytes of data in one event, and of any one line.
        last_event_id: what an earlier connection left.

    Attributes:
        last_event_id: moves when a block *ends*, so a cut block does not count; id-only blocks do.
        retry_ms: the server's wish for the delay before a reconnect, None before the first.
    """

    def __init__(self, *, max_event_bytes: int = MAX_BLOCK_BYTES, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry_ms: int | None = None
        self._max_bytes = max_event_bytes
        self._id = last_event_id
        self._event = ""
        self._data: list[str] = []
        self._data_bytes = 0
        self._partial = bytearray()
        self._after_cr = False
        self._at_start = True
        self._head = b""  # the stream's first bytes, while they may still become a byte order mark

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that ``chunk`` completes.

        Raises:
            DecodeError: a line or an event is larger than the limit; the decoder is of no use afterwards.
        """
        if self._at_start:
            chunk = self._strip_bom(chunk)
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if not chunk:
            return []
        lines = chunk.split(b"\n") if b"\r" not in chunk else _LINE_END.split(chunk)
        self._after_cr = chunk.endswith(b"\r")
        if self._partial:
            if len(lines) == 1:
                self._partial += lines[0]
                self._check_line(len(self._partial))
                return []
            lines[0] = bytes(self._partial) + lines[0]
            self._partial.clear()
        rest = lines.pop()
        if rest:
            self._partial += rest
        frames: list[Frame] = []
        for line in lines:
            self._check_line(len(line))
            if line:
                self._field(line)
            elif self._data:
                frames.append(self._dispatch())
            else:
                self.last_event_id = self._id
                self._event = ""
        self._check_line(len(self._partial))
        return frames

    def _strip_bom(self, chunk: bytes) -> bytes:
        """One leading U+FEFF is no part of the stream, even if it arrives byte by byte."""
        head = self._head + chunk
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._at_start = False
        return head.removeprefix(_BOM)

    def _check_line(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise DecodeError(f"a line of the event stream is longer than {self._max_bytes} bytes")

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data_bytes += len(value) + 1
            if self._data_bytes > self._max_bytes + 1:  # the last line's LF is not part of the data
                raise DecodeError(f"an event's data is larger than {self._max_bytes} bytes")
            self._data.append(value.decode("utf-8", "replace"))
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry":
            text = value.decode("utf-8", "replace")
            if _DIGITS.fullmatch(text):
                digits = text.lstrip("0") or "0"
                self.retry_ms = min(int(digits[:17]), _MAX_RETRY_MS)
        # Everything else, comments (an empty name) included, is ignored.

    def _dispatch(self) -> Frame:
        self.last_event_id = self._id
        frame = Frame(self._id, self._event or "message", "\n".join(self._data))
        self._event = ""
        self._data = []
        self._data_bytes = 0
        return frame
