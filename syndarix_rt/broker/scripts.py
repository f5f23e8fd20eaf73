"""The Lua scripts of `RedisBroker`, from the files in ``lua/``."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files

__all__ = ["CLAIM", "CLAIMANTS", "DECIDE", "PUBLISH", "READ", "RELEASE", "RESET", "Script"]

_LUA = files("syndarix_rt.broker") / "lua"
_LOG = (_LUA / "log.lua").read_text("utf-8")


class Script:
    """A script's text and the name under which a server that has seen it keeps it.

    Attributes:
        sharded: the same for a node of a cluster, where announcements go to the shard's own subscribers.
    """

    __slots__ = ("sha", "sharded", "text")

    def __init__(self, text: str, sharded: Script | None = None) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.sharded = sharded or self

    @classmethod
    def of_a_log(cls, *names: str) -> Script:
        """One that begins with ``log.lua``."""
        return cls("\n".join((_LOG, *map(cls._read, names))))

    @classmethod
    def that_announces(cls, name: str) -> Script:
        """One that goes on with ``append.lua``."""
        text = cls.of_a_log("append", name).text
        return cls(f"local ANNOUNCE = 'PUBLISH'\n{text}", cls(f"local ANNOUNCE = 'SPUBLISH'\n{text}"))

    @classmethod
    def alone(cls, name: str) -> Script:
        """One that is all in its own file."""
        return cls(cls._read(name))

    @staticmethod
    def _read(name: str) -> str:
        return (_LUA / f"{name}.lua").read_text("utf-8")


PUBLISH = Script.that_announces("publish")
DECIDE = Script.that_announces("decide")
READ = Script.of_a_log("read")
RESET = Script.of_a_log("reset")
CLAIM = Script.alone("claim")
CLAIMANTS = Script.alone("claimants")
RELEASE = Script.alone("release")
