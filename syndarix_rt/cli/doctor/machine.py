"""This machine: what is installed, how many streams may be open, and whether the port can be had."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import platform
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from syndarix_rt.cli.doctor.finding import Finding, good, mend

__all__ = ["limits", "packages", "port"]

DISTRIBUTION = "syndarix-rt"

DESCRIPTORS = 4096
"""Each stream takes one; fewer than these are used up by a demo with many tabs, or by a benchmark."""

BACKLOG = 2048
"""As the server asks for: the clients of a restarted one come all at once."""


def packages() -> Finding:
    """What our own distribution asks for, beside what is installed; extras that lack something are named only."""
    import syndarix_rt

    ours = f"{DISTRIBUTION} {syndarix_rt.__version__}, Python {sys.version.split()[0]}"
    try:
        wanted = list(_requirements())
    except metadata.PackageNotFoundError:
        return mend("packages", f"{ours} is not installed, so nobody knows what it needs: pip install -e DIRECTORY")
    wrong: list[str] = []
    lacking: dict[str, list[str]] = {}
    for name, requirement, extra in wanted:
        bounds = re.findall(r"(>=|<|==)\s*([\w.]+)", requirement)
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            if extra:
                lacking.setdefault(extra, []).append(name)
            else:
                wrong.append(f"{name} is missing")
            continue
        if not all(_holds(found, sign, bound) for sign, bound in bounds):
            wrong.append(f"{name} {found} is installed, {requirement} is needed")
    if wrong:
        return mend("packages", f"{ours}: {'; '.join(wrong)}; install it anew: pip install -U {DISTRIBUTION}")
    lacking.pop("test", None)
    rest = "; ".join(f"without [{name}] ({', '.join(names)})" for name, names in sorted(lacking.items()))
    return good("packages", f"{ours}, all that it needs" + (f"; {rest}" if rest else " and all extras"))


def _requirements() -> Iterator[tuple[str, str, str]]:
    """What ours asks for on this platform: name, all of the line, and the extra of ours that it belongs to."""
    for line in metadata.requires(DISTRIBUTION) or []:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        if not _applies(marker, extra[1] if extra else ""):
            continue
        match = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", requirement)
        assert match
        yield match[1], requirement.strip(), extra[1] if extra else ""
        with suppress(metadata.PackageNotFoundError):  # told by the line before
            for theirs in metadata.requires(match[1]) or [] if match[2] else []:
                part, _, marker = theirs.partition(";")
                if any(re.search(rf"extra == ['\"]{each}['\"]", marker) for each in match[2].split(",")):
                    name = re.match(r"[\w.-]+", part)
                    assert name
                    yield name[0], part.strip(), extra[1] if extra else ""


def _applies(marker: str, extra: str) -> bool:
    """PEP 508, as far as our own requirements go: their comparisons of texts are Python's."""
    names = {
        "sys_platform": sys.platform,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "extra": extra,
    }
    return not marker or bool(eval(marker.strip(), {"__builtins__": {}}, names))  # noqa: S307 - of our own metadata


def _holds(version: str, sign: str, bound: str) -> bool:
    have, want = ([int(part) for part in re.findall(r"\d+", text)[:4]] for text in (version, bound))
    have += [0] * (len(want) - len(have))
    return {">=": have >= want, "<": have < want, "==": have[: len(want)] == want}[sign]


def limits() -> Iterator[Finding]:
    """How many connections the process may have, and how many may wait for it."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = soft == resource.RLIM_INFINITY or soft >= DESCRIPTORS
    text = f"{'any number of' if soft == resource.RLIM_INFINITY else soft} open files; each stream takes one"
    if not many:
        allowed = (
            "" if hard == resource.RLIM_INFINITY or hard >= 16 * DESCRIPTORS else f" (at most {hard} as this user)"
        )
        text += f": ulimit -n {16 * DESCRIPTORS} in the shell that starts the server{allowed}"
    yield Finding("limits", text, is_good=many)
    with suppress(OSError, ValueError):  # Linux
        queue = int(Path("/proc/sys/net/core/somaxconn").read_text("ascii"))
        text = f"{queue} connections may wait to be accepted"
        if queue < BACKLOG:
            text += f", fewer than come after a restart: sysctl -w net.core.somaxconn={2 * BACKLOG}"
        yield Finding("limits", text, is_good=queue >= BACKLOG)


def port(number: int) -> Finding:
    """Whether a server could listen there; 0: at any."""
    from syndarix_rt.state import running_servers

    if number == 0:
        return good("port", "any free one is taken")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            if any(f":{number}/" in server.url for server in running_servers()):
                return good("port", f"{number} is taken by a server of yours")
            reason = error.strerror or str(error)
            return mend("port", f"{number} cannot be had ({reason}); choose another: --port 0 takes a free one")
    return good("port", f"{number} is free")
