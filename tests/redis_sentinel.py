"""A real master that a real Sentinel looks after, and its replica."""

from __future__ import annotations

import re
import time
from contextlib import suppress

import redis
from redis_server import PASSWORD, RedisServer

from syndarix_rt.broker.sentinel import PERMISSIONS

READY_S = 60
ASKER = "asker"
"""A user of the Sentinel, with the same password as everything else, who may ask it where a master is."""
REPLICATION = f"masterauth {PASSWORD}\nrepl-diskless-sync-delay 0\n"


class Sentinel(RedisServer):
    """A Sentinel that looks after a master by the name of ``ours``, and decides alone."""

    arguments = ("--sentinel",)

    def __init__(self, directory, master, *, calm=False, **options):
        self.down_after_ms = 60_000 if calm else 1_000
        user = f"{ASKER} on >{PASSWORD} -@all {PERMISSIONS}"
        super().__init__(directory, users=[user], **options)
        self.master = master

    def settings(self):
        return (
            f"sentinel monitor ours 127.0.0.1 {self.master.port} 1\nsentinel auth-pass ours {PASSWORD}\n"
            f"sentinel down-after-milliseconds ours {self.down_after_ms}\nsentinel failover-timeout ours 2000"
        )


class Watched:
    """A master, its replica and a Sentinel; with options as `RedisServer` has them.

    If it is ``calm``, the master is not taken for failed, however long the machine lets it wait.
    """

    def __init__(self, directory, *, users=(), calm=False, **options):
        self.master, self.replica = (
            RedisServer(_folder(directory, name), users=users, **options) for name in ("master", "replica")
        )
        self.sentinel = Sentinel(_folder(directory, "sentinel"), self.master, calm=calm, **options)

    def start(self, stack):
        self.master.start(REPLICATION)
        stack.callback(self.master.stop)
        self.replica.start(f"{REPLICATION}replicaof 127.0.0.1 {self.master.port}")
        stack.callback(self.replica.stop)
        self.until(self.master, "INFO", "replication", has=b"state=online")
        self.sentinel.start()
        stack.callback(self.sentinel.stop)
        self.ask(self.sentinel, "SENTINEL", "DEBUG", "info-period", "100", "ask-period", "100")  # ms, of 10 s and 1 s
        self.until(self.sentinel, "INFO", "sentinel", has=b"status=ok,address=127.0.0.1:%d,slaves=1" % self.master.port)

    def until(self, server, *command, has):
        deadline = time.monotonic() + READY_S
        while has not in self.ask(server, *command):
            assert time.monotonic() < deadline, self.ask(server, *command)
            time.sleep(0.02)

    def fail_over(self):
        """Let the replica become the master. A Sentinel held up for 0.3 s knows of no good one, and gives up."""
        deadline = time.monotonic() + READY_S
        switched = b"status=ok,address=127.0.0.1:%d" % self.replica.port
        while switched not in (told := self.ask(self.sentinel, "INFO", "sentinel")):
            assert time.monotonic() < deadline, told
            self.ask(self.sentinel, "SENTINEL", "FAILOVER", "ours")  # refused while one is in progress
            time.sleep(0.02)

    def until_replicated(self):
        """Wait until the replica has all that the master had at some moment."""
        reached = re.search(rb"master_repl_offset:(\d+)", self.ask(self.master, "INFO", "replication"))[1]
        deadline = time.monotonic() + READY_S
        while int(
            re.search(rb"slave_repl_offset:(\d+)|$", self.ask(self.replica, "INFO", "replication"))[1] or 0
        ) < int(reached):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    @staticmethod
    def ask(server, *command):
        with suppress(redis.RedisError), redis.Redis.from_url(server.url, socket_timeout=5) as client:
            connection = client.connection_pool.get_connection()
            connection.send_command(*command)
            return connection.read_response()
        return b""

    @property
    def places(self):
        """One where none is, and the Sentinel's."""
        return f"127.0.0.1:1,127.0.0.1:{self.sentinel.port}"

    @property
    def url(self):
        return f"redis+sentinel://:{PASSWORD}@{self.places}/ours?sentinel_password={PASSWORD}"


def _folder(directory, name):
    (directory / name).mkdir()
    return directory / name
