"""`HttpPublisher`: gets events into a project's log over HTTP, once each and in order."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from urllib.parse import quote

import msgspec

from syndarix_rt.client.api import Api
from syndarix_rt.client.closing import Closing
from syndarix_rt.client.http import TooLate, Unavailable
from syndarix_rt.client.url import checked_project
from syndarix_rt.delivery import Position, Published, backoff, batches
from syndarix_rt.delivery.batch import encode_all
from syndarix_rt.errors import StreamError
from syndarix_rt.events import Event

__all__ = ["HttpPublisher"]

FIRST_DELAY_S = 0.5
"""Half a stream's: whoever publishes is late by every delay."""

CAP_S = 5.0
"""The longest delay; a run that plays falls behind by as much."""

_RECORDEDTIME_BYTES = len(',"recordedtime":"2026-01-01T00:00:00.000000Z"')
"""What the server adds to an event that lacks it."""


class HttpPublisher(Closing):
    """Publishes into one project; an asynchronous context manager, or ``aclose()`` it.

    A batch whose reply was lost is sent again under the same ``Idempotency-Key``, so it is stored once.

    Args:
        base_url: the server's URL, also as printed or pasted.
        project: where to.
        token: the secret, if it is not in the URL.
        control_of: publish into the control channel of this run, which plays into the project, instead.
        give_up_after_s: how long a batch is tried again while the server or its broker is away. 30 s: a restart takes
            a few, and a person who waits longer wants to know.
        rng: the source of the jitter.
        sleep: waits a number of seconds; for tests.
        clock: a monotonic clock in seconds that goes with ``sleep``.

    Raises:
        StreamError: the URL or the project's name is wrong.
    """

    def __init__(
        self,
        base_url: str,
        project: str,
        *,
        token: str | None = None,
        control_of: str | None = None,
        give_up_after_s: float = 30.0,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.project = checked_project(project)
        self._api = Api(base_url, token=token)
        self._path = f"/projects/{project}"
        self._run = ""
        self._control_of = control_of
        self._give_up_after_s = give_up_after_s
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._sleep = sleep
        self._clock = clock
        self._producer = secrets.token_urlsafe(12)
        self._sequence = 0
        self._one_in_flight = asyncio.Lock()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._api.aclose()

    async def publish(self, events: Sequence[Event]) -> Published:
        """Publish events in their order; calls at the same time queue up.

        Events that fit one batch (1,000 and 4 MiB) are stored together or not at all. More of them go as several
        batches, and then batches of others may stand between ours.

        Returns:
            The offset of the first and of the last event, the latter's epoch, and how many were found to be there
            already when a batch was sent again.

        Raises:
            ValueError: no events.
            EventError: an event of another project, or one that is too large; the path names it. Nothing is stored.
            StreamError: the server refused a batch, or stayed away (then it is a `BrokerUnavailable`, too, and that
                batch may be stored or not). The text says how many events are stored for certain.
            ApprovalDecided: that refusal, because some resolve approvals that a person has decided already.
        """
        if not events:
            raise ValueError("there are no events to publish")
        entries = encode_all(events, self.project)
        stored = duplicates = 0
        first = last = None
        async with self._one_in_flight:
            for batch in batches(entries, growth_bytes=_RECORDEDTIME_BYTES):
                try:
                    last = await self._send(batch)
                except StreamError as error:
                    text = f"{stored} of {len(entries)} events are published: {error}"
                    if isinstance(error, TooLate):
                        late = [stored + entry for entry in error.late]
                        raise TooLate(text, error.status, late, stored) from error
                    raise type(error)(text, error.status) from error
                first = first or last
                stored += len(batch)
                duplicates += last.duplicates
        assert first is not None
        assert last is not None
        return Published(last.epoch, first.first, last.last, duplicates)

    async def reset(self) -> Position:
        """Delete the project's log and begin a new epoch."""
        return await self._api.ask(Position, "DELETE", f"{self._path}/events")

    async def claim(self, holder: str, ttl_s: float) -> str:
        """Say that ``holder`` (a run) plays into the project for the next ``ttl_s``; returns who holds it then.

        What is published from then on are that run's events, beside another holder's, too: they may hold decisions
        about approvals (``approval_resolved``), which the server takes from runs only.
        """
        self._run = quote(holder, safe="")
        body = msgspec.json.encode({"holder": holder, "ttl_s": ttl_s})
        headers = {"Content-Type": "application/json"}
        answer = await self._api.ask(
            _Claim, "PUT", f"{self._path}/claim", body=body, headers=headers, accept=HTTPStatus.CONFLICT
        )
        return answer.holder

    async def release(self, holder: str) -> None:
        """End a claim, also one that waits for another's to end."""
        claimed = quote(holder, safe="")
        if claimed == self._run:
            self._run = ""
        await self._api.ask(type(None), "DELETE", f"{self._path}/claim/{claimed}")

    async def _send(self, batch: Sequence[bytes]) -> Published:
        """Send a batch until there is a reply; always under the same key, so it is stored once."""
        self._sequence += 1
        headers = {
            "Content-Type": "application/x-ndjson",
            "Idempotency-Key": f"{self._producer}-{self._sequence}",
        }
        body = b"\n".join(batch)
        path = f"{self._path}/runs/{self._run}/events" if self._run else f"{self._path}/events"
        if self._control_of is not None:
            path = f"{self._path}/runs/{self._control_of}/control"
        deadline_s = self._clock() + self._give_up_after_s
        for delay_s in backoff(self._rng, first_s=FIRST_DELAY_S, cap_s=CAP_S):
            try:
                return await self._api.ask(Published, "POST", path, body=body, headers=headers)
            except Unavailable as error:
                wait_s = error.retry_after_s + delay_s
                if self._clock() + wait_s > deadline_s:
                    raise Unavailable(f"gave up after {self._give_up_after_s:g} s: {error}", error.status) from error
            await self._sleep(wait_s)
        raise AssertionError("delays never end")


class _Claim(msgspec.Struct):
    holder: str
