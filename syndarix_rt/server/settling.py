"""`Settling`: keeps Python's collector of cyclic garbage from looking at every open stream again and again.

A stream stands on about ninety objects that the collector tracks. Whenever their number has grown by a quarter, Python
looks through all of them, though nothing of a stream can be garbage before its client has left. With 5,000 streams that
holds the whole worker for a sixth of a second, with 10,000 twice as long. So what has settled is taken out of the
collector's sight (`gc.freeze`, which costs nothing), and looked through once many streams have ended.

It is the whole process that is tended, so only who owns it may do this: `syndarix_rt.server.serve` without a
``shutdown`` of the caller's.
"""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syndarix_rt.server.hub import Hub

__all__ = ["Settling"]

LOOK_S = 0.1
"""So often it is seen whether there is something to do: at 1,000 new connections a second, a hundred of them."""

SETTLED_STREAMS = 100
"""Streams opened until what there is counts as settled: few, so that the collector never has many in sight."""

ENDED_STREAMS = 1_000
"""Streams that must have ended until the settled ones are looked through: about 16 MiB of garbage at most, …"""

ENDED_SHARE = 0.5
"""… or half as many as are open: so each that ends costs a look at three at most."""


class Settling:
    """What of a process has settled.

    Args:
        hub: its streams.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._opened = self._ended = 0

    async def run(self) -> None:
        """Tend the process until cancelled; afterwards its collector sees all again."""
        gc.collect()  # what the start has left
        gc.freeze()  # modules, routes, documents: they stay
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                self.tend()
        finally:
            gc.unfreeze()

    def tend(self) -> None:
        """Do what is due."""
        opened, ended = self._hub.opened.total(), self._hub.ended.total()
        if ended - self._ended >= max(ENDED_STREAMS, ENDED_SHARE * (opened - ended)):
            gc.unfreeze()
            gc.collect()
            self._ended = ended
        elif opened - self._opened >= SETTLED_STREAMS:
            gc.collect(1)  # the young: what requests have left must not settle
        else:
            return
        gc.freeze()
        self._opened = opened
