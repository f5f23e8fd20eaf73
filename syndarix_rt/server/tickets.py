"""Tickets: what an `EventSource` of another origin shows instead of a header, which it cannot send (CONTRACT §6).

A page asks for one with its token and puts it into the stream's address. It works once, within a minute, so an address
in a log or a history opens nothing. The stream that it opens sets a cookie for its own path, with which the browser
connects again by itself. The cookie is sealed with the server's key, so all workers and instances take it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time

import msgspec

from syndarix_rt.broker.protocol import Broker
from syndarix_rt.server.tokens import Grant

__all__ = ["LIFE_S", "issue", "redeem", "seal", "unseal"]

LIFE_S = 60.0
"""From the answer to the connection of a browser that is slow to wake."""

GRANT_LIFE_S = 24 * 3600.0
"""What the server's own key gives on by a ticket lasts a day: as long as a stream lives."""

MAX_SEALED_CHARACTERS = 1_024
"""Several times what `seal` writes."""

_TICKET = re.compile(r"[A-Za-z0-9_-]{32}")


class _Right(msgspec.Struct, frozen=True):
    """To subscribe to one project."""

    project: str
    name: str
    expires_s: float
    token_id: str

    def grant(self, project: str) -> Grant | None:
        """What it allows in a project; None if that is another one, or it is over."""
        if project != self.project or time.time() >= self.expires_s:
            return None
        return Grant(self.name, frozenset({("subscribe", project)}), self.expires_s, self.token_id)


async def issue(broker: Broker, project: str, grant: Grant) -> str:
    """Make a ticket for a project's stream, which lasts no longer than the credential that asked for it.

    Raises:
        BrokerUnavailable: the broker is away.
    """
    ticket = secrets.token_urlsafe(24)
    expires_s = time.time() + GRANT_LIFE_S if grant.expires_s is None else grant.expires_s
    right = _Right(project, grant.name, expires_s, grant.id)
    await broker.keep(_name(ticket), msgspec.json.encode(right), LIFE_S)
    return ticket


async def redeem(broker: Broker, project: str, ticket: str) -> Grant | None:
    """Take a ticket: what it allows, once; None if it allows nothing.

    Raises:
        BrokerUnavailable: the broker is away; the ticket may be spent.
    """
    if _TICKET.fullmatch(ticket) is None:
        return None
    kept = await broker.take(_name(ticket))
    return None if kept is None else msgspec.json.decode(kept, type=_Right).grant(project)


def seal(key: str, project: str, grant: Grant) -> str:
    """The value of the stream's cookie."""
    right = _Right(project, grant.name, grant.expires_s or time.time() + GRANT_LIFE_S, grant.id)
    content = base64.urlsafe_b64encode(msgspec.json.encode(right)).rstrip(b"=").decode()
    return f"{content}.{_signature(key, content)}"


def unseal(key: str, project: str, value: str) -> Grant | None:
    """What a cookie allows in a project; None if it is none of ours, or over."""
    content, _, signature = value.partition(".")
    if len(value) > MAX_SEALED_CHARACTERS or not hmac.compare_digest(
        signature.encode(), _signature(key, content).encode()
    ):
        return None
    right = msgspec.json.decode(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)), type=_Right)
    return right.grant(project)


def _name(ticket: str) -> str:
    """Not the ticket itself: whoever reads the broker's keys has not got it yet."""
    return "ticket:" + hashlib.sha256(ticket.encode()).hexdigest()


def _signature(key: str, content: str) -> str:
    return hmac.new(key.encode(), b"stream\n" + content.encode(), hashlib.sha256).hexdigest()
