"""`Revocations`: tokens that were taken back before their end, known to all workers and instances by the broker.

It holds the ids of revoked tokens, each until the token would have ended anyway. Every process asks for them once a
second; streams and sockets of such a token end then.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import structlog

from syndarix_rt.broker.protocol import Broker
from syndarix_rt.errors import BrokerError, BrokerUnavailable
from syndarix_rt.server.hub import Hub
from syndarix_rt.server.tokens import Grant

__all__ = ["Revocations"]

CHANNEL = "tokens:{revoked}"
"""Under which the broker holds the ids, as claims that lapse."""

LOOK_S = 1.0
"""A revoked token opens nothing after about so long; what asking costs does not depend on who is connected."""

_log = structlog.get_logger("syndarix_rt.server")


class Revocations:
    """What is revoked, as far as this process knows.

    Attributes:
        ids: of the tokens.
    """

    def __init__(self, broker: Broker, hub: Hub) -> None:
        self.ids: frozenset[str] = frozenset()
        self._broker = broker
        self._hub = hub
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Ask for the first time, and go on asking; a server starts without a broker, too, and serves nothing then."""
        with suppress(BrokerError):
            await self.look()
        self._task = asyncio.create_task(self._watch(), name="revocations")

    async def add(self, grant: Grant) -> None:
        """Revoke the token of a grant, here at once.

        Raises:
            BrokerUnavailable: the broker is away.
        """
        if grant.expires_s is not None and (left_s := grant.expires_s - time.time()) > 0:
            await self._broker.claim(CHANNEL, grant.id, left_s)
            await self.look()

    async def look(self) -> None:
        """Learn what is revoked, and end what is open by it.

        Raises:
            BrokerUnavailable: the broker is away.
        """
        self.ids = frozenset(await self._broker.claimants(CHANNEL))
        self._hub.end_tokens(self.ids)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except BrokerUnavailable:
                pass  # what is known stands
            except BrokerError as error:  # what a person must mend, such as a changed password
                _log.error("nobody knows which tokens are revoked", reason=str(error))

    async def aclose(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
