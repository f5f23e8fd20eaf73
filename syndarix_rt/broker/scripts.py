"""The Lua scripts of `RedisBroker`, from the files in ``lua/``."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files

__all__ = ["CLAIM", "CLAIMANTS", "DECIDE", "PUBLISH", "READ", "RELEASE", "RESET", "Script"]

_LUA = files("syndarix_rt.broker") / "lua"
_LOG = (_LUA / "log.lua").read_text("utf-8")


class Script:
    """A script's text and the name under which a server that has seen it keeps it."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()

    @classmethod
    def of_a_log(cls, *names: str) -> Script:
        """One that begins with ``log.lua``."""
        return cls("\n".join((_LOG, *map(cls._read, names))))

    @classmethod
    def alone(cls, name: str) -> Script:
        """One that is all in its own file."""
        return cls(cls._read(name))

    @staticmethod
    def _read(name: str) -> str:
        return (_LUA / f"{name}.lua").read_text("utf-8")


PUBLISH = Script.of_a_log("append", "publish")
DECIDE = Script.of_a_log("append", "decide")
READ = Script.of_a_log("read")
RESET = Script.of_a_log("reset")
CLAIM = Script.alone("claim")
CLAIMANTS = Script.alone("claimants")
RELEASE = Script.alone("release")
