"""Where the master is that Sentinels look after: asked before each reconnect, so a failover needs nothing else."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from syndarix_rt.broker.endpoint import Endpoint, place_of
from syndarix_rt.errors import BrokerError, BrokerUnavailable

__all__ = ["SCHEMES", "Sentinels"]

SCHEMES = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
"""Schemes of a URL that names Sentinels, and that of their master's URL."""

PORT = 26379
"""The port of a Sentinel where none is given, Redis's own default."""

ANSWER_S = 1.0
"""A Sentinel that takes longer is not waited for; another one knows, too."""


class Sentinels:
    """Tells where the master is.

    Args:
        url: ``redis+sentinel://HOST:PORT,HOST:PORT/NAME`` (some Sentinels, and their name for the master) with the
            master's user and password; ``?sentinel_password=`` is that of the Sentinels, if they have one.

    Raises:
        ValueError: the URL names no Sentinel, or no master.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        credentials, at, places = parts.netloc.rpartition("@")
        query = dict(parse_qsl(parts.query))
        password = quote(query.pop("sentinel_password", ""), safe="")
        self._name = parts.path.strip("/")
        if not places or not self._name:
            raise ValueError("it names no Sentinel or no master: redis+sentinel://HOST:PORT,HOST:PORT/NAME")
        self._before, self._after = (
            f"{SCHEMES[parts.scheme]}://{credentials}{at}",
            f"?{urlencode(query)}" if query else "",
        )
        self._endpoints = []
        for text in places.split(","):
            host, port = place_of(text, PORT)
            self._endpoints.append(
                Endpoint(f"redis://:{password}@{host}:{port}" if password else f"redis://{host}:{port}")
            )

    async def master(self) -> str:
        """URL of the master, as the first Sentinel tells that knows it.

        Raises:
            BrokerUnavailable: no Sentinel answers, or none knows the master.
        """
        reasons = []
        for sentinel in self._endpoints:
            try:
                async with asyncio.timeout(ANSWER_S):
                    found = await sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
            except (BrokerError, TimeoutError) as error:
                reasons.append(str(error) or f"the Sentinel at {sentinel.place} does not answer")
                continue
            if found:
                host, port = (part.decode() for part in found)
                return f"{self._before}{f'[{host}]' if ':' in host else host}:{port}{self._after}"
            reasons.append(f"the Sentinel at {sentinel.place} knows no master {self._name!r}")
        raise BrokerUnavailable("; ".join(reasons))

    async def aclose(self) -> None:
        """Close the connections to the Sentinels."""
        for sentinel in self._endpoints:
            await sentinel.aclose()
