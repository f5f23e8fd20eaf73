"""A real cluster: three masters with a replica each, formed by its own commands. Masters are killed, slots moved."""

from __future__ import annotations

import contextlib
import re
import time

import redis
from redis.crc import key_slot
from redis_server import PASSWORD, RedisServer

from syndarix_rt.ports import port_of

SLOTS = 16_384
MASTERS = 3
READY_S = 60
NODE_TIMEOUT_MS = 1000  # a failover takes about twice as long
CALM_MS = 60_000


class Node(RedisServer):
    """A node of a cluster."""

    def __init__(self, directory, **options):
        super().__init__(directory, **options)
        self.bus = port_of(self)

    def start(self, options="", *, wait=True):
        super().start(
            "cluster-enabled yes\ncluster-config-file nodes.conf\n"
            f"cluster-port {self.bus}\ncluster-node-timeout {NODE_TIMEOUT_MS}\n"
            f"masterauth {PASSWORD}\nrepl-diskless-sync-delay 0\n{options}",
            wait=wait,
        )

    def call(self, *command):
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            return client.execute_command(*command)

    @property
    def id(self):
        return _text(self.call("CLUSTER", "MYID"))

    def has(self, fact):
        """Whether it answers and says so of itself or its cluster, such as ``role:master``."""
        with contextlib.suppress(redis.RedisError):
            # A call by name would be parsed.
            told = b"\n".join(self.raw("INFO", "replication").splitlines() + self.raw("CLUSTER", "INFO").splitlines())
            return fact.encode() in told.split(b"\n")
        return False

    def fact(self, name):
        return re.search(rf"^{name}:(\S+)", self.raw("INFO", "replication").decode(), re.MULTILINE)[1]

    def raw(self, *command):
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            connection = client.connection_pool.get_connection()
            connection.send_command(*command)
            reply = connection.read_response()
            client.connection_pool.release(connection)
            return reply


class RedisCluster:
    """Three masters that share the slots, and a replica of each if it is to have any.

    One that is ``calm`` takes no node for failed, however long the machine lets it wait. ``options`` are those of
    `RedisServer`.
    """

    def __init__(self, directory, *, replicas=True, calm=False, **options):
        self.nodes = []
        self.calm = calm
        self.replicas = MASTERS if replicas else 0
        for number in range(MASTERS + self.replicas):
            folder = directory / f"node-{number}"
            folder.mkdir()
            self.nodes.append(Node(folder, appendfsync="everysec", **options))

    @property
    def places(self):
        """As a person would give them: two of the nodes."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    @property
    def url(self):
        return f"redis+cluster://:{PASSWORD}@{self.places}"

    def __enter__(self):
        for node in self.nodes:
            node.start()
        self._form()
        if self.calm:
            for node in self.nodes:
                node.call("CONFIG", "SET", "cluster-node-timeout", CALM_MS)
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            node.stop(patience_s=2)

    def _form(self):
        masters, replicas = self.nodes[:MASTERS], self.nodes[MASTERS:]
        for number, node in enumerate(masters):
            first, last = number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS - 1
            node.call("CLUSTER", "ADDSLOTSRANGE", first, last)
        for number, node in enumerate(self.nodes):
            node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.raw("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, self.nodes[0].bus)
        self.until(lambda: all(node.has(f"cluster_known_nodes:{len(self.nodes)}") for node in self.nodes))
        for master, replica in zip(masters, replicas, strict=False):
            self.until(lambda: _done(replica, "CLUSTER", "REPLICATE", master.id))  # noqa: B023 - called at once
        self.until(self.whole)

    def empty(self):
        for node in self.nodes:
            if node.has("role:master"):
                node.call("FLUSHALL")

    def until_replicated(self, master):
        """Wait until its replica has all that the master had at some moment."""
        reached = master.fact("master_repl_offset")
        replica = self.replica_of(master)
        self.until(lambda: int(replica.fact("slave_repl_offset")) >= int(reached))

    def whole(self):
        """Whether all slots are served, and every master has the replica that follows it, if it is to have one."""
        followed = [node for node in self.nodes if node.has("role:master") and node.has("connected_slaves:1")]
        linked = [node for node in self.nodes if node.has("role:slave") and node.has("master_link_status:up")]
        served = all(node.has("cluster_state:ok") for node in self.nodes)
        return served and len(followed) == len(linked) == self.replicas

    def until(self, done):
        deadline = time.monotonic() + READY_S
        while not done():
            if time.monotonic() > deadline:
                raise RuntimeError("\n".join(_text(node.raw("CLUSTER", "NODES")) for node in self.nodes if node.alive))
            time.sleep(0.02)

    def owner(self, key):
        """The node that serves a key now."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            if node.alive and node.has("role:master"):
                for first, last, owner, *_ in node.raw("CLUSTER", "SLOTS"):
                    if first <= slot <= last and owner[1] == node.port:
                        return node
        raise LookupError(key)

    def replica_of(self, master):
        return next(
            node
            for node in self.nodes
            if node.alive and node.has("role:slave") and node.has(f"master_port:{master.port}")
        )

    def others(self, node):
        return [other for other in self.nodes if other is not node and other.alive and other.has("role:master")]

    def fail_over(self, master):
        """Kill a master and wait until its replica serves in its place; it, to be started again."""
        replica = self.replica_of(master)
        master.kill()
        self.until(lambda: replica.has("role:master") and replica.has("cluster_state:ok"))
        return replica

    def move(self, key, to):
        """Move the slot of a key, with its keys, one by one, as redis-cli does."""
        slot = key_slot(key.encode())
        source = self.owner(key)
        to.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
        while keys := source.raw("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.raw("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "AUTH", PASSWORD, "KEYS", *keys)
        for node in (to, source, *self.others(to)):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", to.id)


def _done(node, *command):
    with contextlib.suppress(redis.RedisError):
        node.call(*command)
        return True
    return False


def _text(reply):
    return reply.decode() if isinstance(reply, bytes) else str(reply)
