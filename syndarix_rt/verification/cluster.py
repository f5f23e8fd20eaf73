"""`Cluster`: three masters with a replica each, formed anew for one verification."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from syndarix_rt.errors import SyndarixError
from syndarix_rt.ports import port_of
from syndarix_rt.verification.link import Link
from syndarix_rt.verification.stack import START_S, Redis

__all__ = ["Cluster"]

SLOTS = 16_384
MASTERS = 3
NODE_TIMEOUT_MS = 5_000
"""Longer than any fault of a node: who takes over, and when, is decided by the plan."""

OWNER_SHARE = 0.7
"""Of the faults of links: those of other nodes are to change nothing."""

_SETTINGS = """\
cluster-enabled yes
cluster-config-file nodes.conf
cluster-port {bus}
cluster-announce-port {announced}
cluster-node-timeout {timeout_ms}
cluster-require-full-coverage no
repl-diskless-sync-delay 0
repl-ping-replica-period 1
repl-timeout 4
"""


class _Node(Redis):
    def __init__(self, directory: Path) -> None:
        self.bus = port_of(self)
        super().__init__(directory)
        self.link = Link(lambda: [self.port], random.Random(0))  # noqa: S311 - there is nothing to choose

    async def start(self) -> None:
        """Start it; everybody, its replica too, is told to come through its link."""
        self._settings = _SETTINGS.format(bus=self.bus, announced=self.link.port, timeout_ms=NODE_TIMEOUT_MS)
        await super().start()

    async def itself(self) -> list[str]:
        """What it says of itself: id, address, flags, master, two times, configuration epoch, link, slots."""
        told = await self.command("CLUSTER", "NODES")
        return next(line for line in told.splitlines() if "myself" in line).split()

    async def serves(self, slot: int) -> int:
        """Since which configuration epoch it serves a slot; 0 if it does not."""
        _, _, flags, _, _, _, epoch, _, *ranges = await self.itself()
        bounds = [span.split("-") for span in ranges if "master" in flags]
        return int(epoch) * any(int(span[0]) <= slot <= int(span[-1]) for span in bounds)


class Cluster:
    """The Redis of a verification, in six processes. The log is on the one that `owner` gives.

    Args:
        directory: for the data; is made.
        key: of the log.
    """

    def __init__(self, directory: Path, key: str) -> None:
        directory.mkdir()
        self.nodes = [_Node(directory / f"node-{number}") for number in range(2 * MASTERS)]
        self._links = AsyncExitStack()
        self._key = key
        self._slot = -1

    @property
    def url(self) -> str:
        """As a person would give it: some of the nodes."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.link.port}" for node in self.nodes[:2])

    async def start(self) -> None:
        """Start the nodes and make them one."""
        for node in self.nodes:
            await self._links.enter_async_context(node.link)
        await asyncio.gather(*(node.start() for node in self.nodes))
        masters, replicas = self.nodes[:MASTERS], self.nodes[MASTERS:]
        for number, node in enumerate(masters):
            first, last = number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS - 1
            await node.command("CLUSTER", "ADDSLOTSRANGE", f"{first}", f"{last}")
        for number, node in enumerate(self.nodes, start=1):
            await node.command("CLUSTER", "SET-CONFIG-EPOCH", f"{number}")
        for node in self.nodes[1:]:
            await node.command("CLUSTER", "MEET", "127.0.0.1", f"{self.nodes[0].port}", f"{self.nodes[0].bus}")
        for node in self.nodes:
            await _until(_says, node, f"cluster_known_nodes:{len(self.nodes)}")
        for master, replica in zip(masters, replicas, strict=True):
            await _until(_does, replica, "CLUSTER", "REPLICATE", await master.command("CLUSTER", "MYID"))
        for node in self.nodes:
            await _until(_says, node, "cluster_state:ok")
        for master in masters:
            await _until(_says, master, "connected_slaves:1")
        self._slot = int((await masters[0].command("CLUSTER", "KEYSLOT", self._key))[1:])

    async def owner(self) -> Redis:
        """The node that has the log now."""
        since = {node: await node.serves(self._slot) for node in self.nodes if node.runs}
        return max(since, key=lambda node: since[node])  # one that comes back may not know yet that it is none

    async def link(self, draw: float) -> Link:
        """What leads to a node: in most cases to the one that has the log."""
        owner = await self.owner()
        others = [node for node in self.nodes if node is not owner]
        chosen = owner if draw < OWNER_SHARE else others[int(len(others) * (draw - OWNER_SHARE) / (1 - OWNER_SHARE))]
        assert isinstance(chosen, _Node)
        return chosen.link

    async def fail_over(self) -> None:
        """Kill the node that has the log, put its replica in its place, and start it again as a replica of that."""
        master = await self.owner()
        name = await master.command("CLUSTER", "MYID")
        (replica,) = [node for node in self.nodes if (await node.itself())[3] == name]
        await master.kill()
        await _until(_does, replica, "CLUSTER", "FAILOVER", "TAKEOVER")
        await _until(_says, replica, "role:master")
        await master.start()
        await _until(_says, master, "role:slave")
        await _until(_says, replica, "connected_slaves:1")

    async def kill(self) -> None:
        """End all of them."""
        await asyncio.gather(*(node.kill() for node in self.nodes))
        await self._links.aclose()


async def _says(node: Redis, fact: str) -> bool:
    told = await node.command("INFO", "replication") + "\n" + await node.command("CLUSTER", "INFO")
    return fact in told.split()


async def _does(node: Redis, *command: str) -> bool:
    try:
        await node.command(*command)
    except SyndarixError:  # not yet
        return False
    return True


async def _until(done: Callable[..., Awaitable[bool]], node: Redis, *told: str) -> None:
    try:
        async with asyncio.timeout(START_S):
            while not await done(node, *told):  # noqa: ASYNC110 - a process of others has no event of ours
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise SyndarixError(f"the cluster did not come together within {START_S:g} s: {' '.join(told)}") from None
