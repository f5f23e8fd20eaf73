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

PERMISSIONS = "+@connection +sentinel|get-master-addr-by-name"
"""What a user of a Sentinel must be permitted."""

ANSWER_S = 1.0
"""A Sentinel that takes longer is not waited for; another one knows, too."""


class Sentinels:
    """Tells where the master is.

    Args:
        url: ``redis+sentinel://HOST:PORT,HOST:PORT/NAME`` (some Sentinels, and their name for the master) with the
            master's user and password; ``?sentinel_password=``, and ``sentinel_user=`` beside it, are those of the
            Sentinels, if they have any. ``rediss+sentinel://``: TLS to the Sentinels and to the master.

    Raises:
        ValueError: the URL names no Sentinel, or no master, or has an option that is none.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        scheme = SCHEMES[parts.scheme]
        credentials, at, places = parts.netloc.rpartition("@")
        query = dict(parse_qsl(parts.query))
        user, password = (quote(query.pop(f"sentinel_{word}", ""), safe="") for word in ("user", "password"))
        self._name = parts.path.strip("/")
        if not places or not self._name:
            raise ValueError("it names no Sentinel or no master: redis+sentinel://HOST:PORT,HOST:PORT/NAME")
        self._before, self._after = f"{scheme}://{credentials}{at}", _query(query)
        Endpoint(f"{self._before}localhost{self._after}")  # refuses a URL that is of no use
        before = f"{scheme}://{user}:{password}@" if password else f"{scheme}://"
        after = _query({name: value for name, value in query.items() if name.startswith("ssl_")})
        self._endpoints = []
        for text in places.split(","):
            host, port = place_of(text, PORT)
            url = f"{before}{f'[{host}]' if ':' in host else host}:{port}{after}"
            self._endpoints.append(Endpoint(url, permissions=PERMISSIONS))

    async def master(self) -> str:
        """URL of the master, as the first Sentinel tells that knows it.

        Raises:
            BrokerUnavailable: no Sentinel answers, or none knows the master.
            BrokerError: one refuses the credentials.
        """
        reasons = []
        refused = False
        for sentinel in self._endpoints:
            try:
                async with asyncio.timeout(ANSWER_S):
                    found = await sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
            except (BrokerError, TimeoutError) as error:
                refused |= isinstance(error, BrokerError) and not isinstance(error, BrokerUnavailable)
                reasons.append(str(error) or f"the Sentinel at {sentinel.place} does not answer")
                continue
            if found:
                host, port = (part.decode() for part in found)
                return f"{self._before}{f'[{host}]' if ':' in host else host}:{port}{self._after}"
            reasons.append(f"the Sentinel at {sentinel.place} knows no master {self._name!r}")
        raise (BrokerError if refused else BrokerUnavailable)("; ".join(reasons))

    async def aclose(self) -> None:
        """Close the connections to the Sentinels."""
        for sentinel in self._endpoints:
            await sentinel.aclose()


def _query(options: dict[str, str]) -> str:
    return f"?{urlencode(options)}" if options else ""
