"""`Upkeep`: a client that lives on the background's loop, and what it knows in view."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime

from syndarix_rt.client import ChatClient, DebugClient
from syndarix_rt.notebook.background import Background

__all__ = ["Upkeep"]

PERIOD_S = 0.25
"""Between two looks: an answer is seen to grow, and a browser is not busy with it."""


class Upkeep:
    """Opens the client, and shows again and again what it knows, until it is stopped.

    Args:
        background: where the client lives.
        client: closed at the end.
        push: shows what there is at a time (Unix, s).
        end: shows that nothing more comes from a time on, and why.
    """

    def __init__(
        self,
        background: Background,
        client: ChatClient | DebugClient,
        push: Callable[[float], None],
        end: Callable[[float, str], None],
    ) -> None:
        self._background = background
        self._client = client
        self._push, self._end = push, end
        self._working: Future[None] | None = background.spawn(self._work())

    async def _work(self) -> None:
        try:
            await self._client.__aenter__()  # it lives until `stop`, which can wait for its end
            while True:
                self._push(time.time())
                await asyncio.sleep(PERIOD_S)
        except Exception as error:
            # Whatever it is: what stands still must not look live.
            self._end(time.time(), f"Stopped by a fault ({type(error).__name__}: {error}); run this cell again")
            raise

    def stop(self) -> None:
        """Close the client; what it knew stays in view, with the time of the end. Again: nothing."""
        working, self._working = self._working, None
        if working is not None:
            working.cancel()
            with contextlib.suppress(RuntimeError):  # the workbench has ended before
                self._background.run(self._client.aclose())
            self._end(time.time(), f"Ended {datetime.now().astimezone():%H:%M:%S}")
