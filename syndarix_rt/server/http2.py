"""HTTP/2 for streams that never end: each gets its turn, and what those of a connection have to say is one write.

Hypercorn obeys the priorities of RFC 7540, which RFC 9113 §5.3 has withdrawn. A browser makes a chain of them, in which
a stream waits for all before it, and the tree that Hypercorn keeps gives a chain of more than 100 up by ending the
connection, and all streams with it (`priority` 2.0.0). So what a client asks for is not heard here.

And it writes each frame by itself. An event that goes to a hundred streams of a connection is a hundred frames; writing
them one by one, and asking the tree for each which comes next, was half of what HTTP/2 cost.
"""

from __future__ import annotations

from typing import Any

import h2.exceptions
import hypercorn.protocol
from hypercorn.protocol.h2 import H2Protocol
from priority.priority import MissingStreamError

from syndarix_rt.server.below import WRITE_BYTES

__all__ = ["MAX_STREAMS", "install"]

MAX_STREAMS = 256
"""Requests at a time on one connection, which all tabs of a browser share: enough for a page that follows 200 projects.
More wait until another one ends."""


class _Turns:
    """Streams side by side, in place of Hypercorn's tree: those that have something to send, in turn.

    Attributes:
        ready: those that may have something to send, in the order in which they said so.
    """

    def __init__(self) -> None:
        self.ready: dict[int, None] = {}
        self._streams: set[int] = set()

    def insert_stream(self, stream_id: int, *_: Any, **__: Any) -> None:
        self._streams.add(stream_id)

    def reprioritize(self, *_: Any, **__: Any) -> None:
        pass

    def unblock(self, stream_id: int) -> None:
        if stream_id not in self._streams:
            raise MissingStreamError(stream_id)
        self.ready[stream_id] = None

    def block(self, stream_id: int) -> None:
        self.ready.pop(stream_id, None)

    def remove_stream(self, stream_id: int) -> None:
        self.block(stream_id)
        self._streams.discard(stream_id)


class _FairProtocol(H2Protocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.priority: _Turns = _Turns()  # type: ignore[assignment]  # what is asked of it, it has

    async def send_task(self) -> None:
        """Send what there is, a frame of each stream in turn, until the connection is closed."""
        while not self.closed:
            size = 0
            for stream_id in list(self.priority.ready):
                size += await self._put(stream_id)
                if size >= WRITE_BYTES:
                    await self._flush()
                    size = 0
            await self._flush()
            if not self.priority.ready:
                await self.has_data.wait()
                await self.has_data.clear()

    async def _put(self, stream_id: int) -> int:
        """A frame of what a stream has to send, for the next write; its size."""
        buffer = self.stream_buffers[stream_id]
        try:
            window = self.connection.local_flow_control_window(stream_id)
            data = await buffer.pop(max(0, min(window, self.connection.max_outbound_frame_size)))
            if data:
                self.connection.send_data(stream_id, data)
            if len(data) >= window or not buffer.buffer:  # which is negative where the client took some back
                self.priority.block(stream_id)  # until there is room, or more
            if buffer.complete:
                self.connection.end_stream(stream_id)
                self._forget(stream_id)
        except h2.exceptions.ProtocolError:  # it was closed meanwhile, or the connection was
            await buffer.close()
            self._forget(stream_id)
            return 0
        return len(data)

    def _forget(self, stream_id: int) -> None:
        del self.stream_buffers[stream_id]
        self.priority.remove_stream(stream_id)


def install() -> None:
    """Let Hypercorn speak it; its configuration has no place for that."""
    hypercorn.protocol.H2Protocol = _FairProtocol  # type: ignore[attr-defined]  # imported there, not exported
