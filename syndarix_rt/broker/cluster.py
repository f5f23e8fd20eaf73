"""A Redis or Valkey Cluster as `RedisBroker` sees it: each command goes to the master that owns its key's slot.

A channel's keys and its Pub/Sub channel share a hash tag, so they are on one master; a script never spans two. Which
master that is, is asked of the cluster when it is not known, when a master says that it is another one, and after a
master was lost. Redirections are followed, since a command that is redirected has not run; nothing else is sent twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, NoPermissionError

from syndarix_rt.broker.endpoint import Command, Endpoint, place_of
from syndarix_rt.broker.scripts import Script
from syndarix_rt.errors import BrokerError, BrokerUnavailable

__all__ = ["SCHEMES", "Cluster"]

SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
"""Schemes of a cluster's URL, and what a node's is made of."""

REDIRECTIONS = 5
"""A command follows so many: one while a slot is moved, one if the map was old, and as many again by bad luck."""

REFRESH_S = 0.2
"""The map of slots is asked for so often at most: a failover takes seconds, and every lost command would ask."""

ANSWER_S = 1.0
"""A node that takes longer to say who owns what is not waited for; the others know, too."""

_Place = tuple[str, int]


class _Map(NamedTuple):
    """Who owns which slots, as one node sees it."""

    epoch: int
    ranges: list[tuple[int, int, _Place]]


class Cluster:
    """Connections to the masters of a cluster.

    Args:
        url: ``redis+cluster://HOST:PORT,HOST:PORT`` (some of its nodes), ``rediss+cluster://`` for TLS, with user,
            password and query as for one server.

    Raises:
        ValueError: the URL names no node, or has an option that is none.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._scheme = SCHEMES[parts.scheme]
        credentials, at, places = parts.netloc.rpartition("@")
        self._before, self._after = credentials + at, f"?{parts.query}" if parts.query else ""
        self._seeds = [place_of(text) for text in places.split(",") if text]
        if not self._seeds:
            raise ValueError("it names no node: redis+cluster://HOST:PORT,HOST:PORT")
        self._nodes: dict[_Place, Endpoint] = {}
        self._node(self._seeds[0])  # refuses a URL that is of no use
        self._ranges: list[tuple[int, int, _Place]] = []
        self._doubted = True
        self._asked_s = -REFRESH_S
        self._asking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def place(self) -> str:
        """Where the cluster is, without credentials."""
        return ",".join(f"{host}:{port}" for host, port in self._seeds)

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run a script on the master that owns the keys."""
        return await self._on_owner(keys[0], lambda node, ask: node.run(script.sharded, keys, args, asking=ask))

    async def command(self, *args: str | bytes | int) -> Any:
        """Run a command on the master that owns its key, the first argument."""
        return await self._on_owner(str(args[1]), lambda node, ask: node.command(*args, asking=ask))

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands in one round trip to each master; an error stands in the place of its reply."""
        replies: list[Any] = [None] * len(commands)

        async def ask(node: Endpoint, numbers: list[int]) -> None:
            try:
                found = await node.pipeline([commands[n] for n in numbers])
            except BrokerUnavailable as error:  # which is no fault of the other masters
                self._doubted = True
                found = [error] * len(numbers)
            for n, reply in zip(numbers, found, strict=True):
                self._doubted |= isinstance(reply, MovedError)
                replies[n] = reply

        by_node: dict[Endpoint, list[int]] = {}
        for n, command in enumerate(commands):
            by_node.setdefault(await self.owner(str(command[1])), []).append(n)
        await asyncio.gather(*(ask(node, numbers) for node, numbers in by_node.items()))
        return replies

    async def ping(self) -> None:
        """Return when every master answers."""
        await asyncio.gather(*(node.ping() for node in await self.masters()))

    async def masters(self) -> list[Endpoint]:
        """Every master that owns slots."""
        await self._know()
        return [self._node(place) for place in dict.fromkeys(place for _, _, place in self._ranges)]

    async def owner(self, key: str) -> Endpoint:
        """The master that owns a key, as far as is known.

        Raises:
            BrokerUnavailable: no node answers, or none owns it.
        """
        await self._know()
        slot = key_slot(key.encode())
        for first, last, place in self._ranges:
            if first <= slot <= last:
                return self._node(place)
        self._doubted = True
        raise BrokerUnavailable(f"no master of the cluster at {self.place} owns slot {slot}, that of {key}")

    def doubt(self) -> None:
        """Something says that the map of slots is old."""
        self._doubted = True

    async def aclose(self) -> None:
        """Close all connections."""
        self._closed = True
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        for node in self._nodes.values():
            await node.aclose()

    async def _on_owner(self, key: str, work: Callable[[Endpoint, bool], Awaitable[Any]]) -> Any:
        node, asking = await self.owner(key), False
        for left in reversed(range(REDIRECTIONS)):
            try:
                return await work(node, asking)
            except BrokerUnavailable:
                self._doubted = True
                raise
            except BrokerError as error:
                cause = error.__cause__
                if not isinstance(cause, AskError) or not left:
                    raise
                self._doubted |= isinstance(cause, MovedError)
                # A node may not know the other's address, or not tell it: then it is its own, at another port.
                host = cause.host or place_of(node.place)[0]
                node, asking = self._node((host, cause.port)), not isinstance(cause, MovedError)
        raise AssertionError  # the last try returns or raises

    def _node(self, place: _Place) -> Endpoint:
        node = self._nodes.get(place)
        if node is None:
            host, port = place
            host = f"[{host}]" if ":" in host else host
            node = self._nodes[place] = Endpoint(f"{self._scheme}://{self._before}{host}:{port}{self._after}")
        return node

    async def _know(self) -> None:
        """Ask for the map of slots if it may be old; all who need it wait for one answer."""
        if self._closed:
            raise BrokerError("this broker has been closed")
        if not self._doubted:
            return
        asking = self._asking = self._asking or asyncio.create_task(self._ask())
        try:
            await asyncio.shield(asking)
        except asyncio.CancelledError:
            if asking.cancelled():  # by aclose(), not by whoever waits here
                raise BrokerError("this broker has been closed") from None
            raise

    async def _ask(self) -> None:
        """Ask all nodes that are known, and believe the one that has heard of the newest change."""
        try:
            await asyncio.sleep(self._asked_s + REFRESH_S - time.monotonic())
            self._asked_s = time.monotonic()
            places = list(dict.fromkeys([*self._nodes, *self._seeds]))
            found = await asyncio.gather(*map(self._ask_node, places), return_exceptions=True)
            maps = [one for one in found if isinstance(one, _Map)]
            if maps:
                self._ranges = max(maps, key=lambda one: one.epoch).ranges
                self._doubted = False
                return
            for error in found:
                if isinstance(error, BaseException):
                    raise error
        finally:
            self._asking = None

    async def _ask_node(self, place: _Place) -> _Map:
        try:
            async with asyncio.timeout(ANSWER_S):
                info, slots = await self._node(place).pipeline([("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")])
        except TimeoutError as error:
            raise BrokerUnavailable(f"Redis at {place[0]}:{place[1]} does not answer") from error
        for reply in (slots, info):
            if isinstance(reply, NoPermissionError):
                with self._node(place).translated():
                    raise reply
        if isinstance(slots, Exception):
            raise BrokerError(f"Redis at {place[0]}:{place[1]} is no node of a cluster: {slots}") from slots
        epoch = next(int(line[22:]) for line in info.decode().split() if line.startswith("cluster_current_epoch:"))
        # See above; of itself, it is the address at which it was asked.
        ranges = [(first, last, ((owner[0] or b"").decode() or place[0], owner[1])) for first, last, owner, *_ in slots]
        return _Map(epoch, ranges)
