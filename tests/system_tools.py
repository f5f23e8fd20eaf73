"""Tools that the suite uses and pip cannot install: where they are, and how to get them.

A test that needs one asks for its fixture (``chromium``, ``nginx``, ``traces_dir`` …) or calls `require_tool`. Without
the tool it is skipped, and the end of the run says what was skipped and how to install it. With ``CI=true`` a skip,
whatever its reason, is a failure (see conftest.py).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent


class Tool(NamedTuple):
    """One tool: names it goes by, and the line that gets it."""

    executables: tuple[str, ...]
    install: str


TOOLS = {
    "chromium": Tool(
        (
            "chromium",
            "chromium-browser",
            "google-chrome",
            "google-chrome-stable",
            "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
            "/Applications/Chromium.app/Contents/MacOS/Chromium",
        ),
        "apt-get install chromium  |  brew install --cask google-chrome",
    ),
    "nginx": Tool(("nginx",), "apt-get install nginx  |  brew install nginx"),
    "openssl": Tool(("openssl",), "apt-get install openssl  |  brew install openssl@3"),
    "redis-server": Tool(("redis-server", "valkey-server"), "apt-get install redis-server  |  brew install redis"),
}
TRACES = "the real traces"
ASYNCAPI_SCHEMA = "the JSON schema of AsyncAPI"
HOW_TO_GET = {name: tool.install for name, tool in TOOLS.items()} | {
    TRACES: "set SYNDARIX_RT_TRACES to the directory that holds aidev_pop/, mooncake_fast25/ …",
    ASYNCAPI_SCHEMA: "npm install --no-save --ignore-scripts --prefix .ci/npm @asyncapi/specs@6.11.1",
}

_SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def require_tool(name: str) -> str:
    """Path of a tool of `TOOLS`; skips the test when it is not installed."""
    for executable in TOOLS[name].executables:
        path = shutil.which(executable, path=_SYSTEM_PATH)
        if path:
            return path
    return pytest.skip(f"needs {name}")


def require_traces() -> Path:
    """The directory of the real traces, which live outside the project; skips the test without them."""
    traces = Path(os.environ.get("SYNDARIX_RT_TRACES") or ROOT.parent / "shared" / "traces")
    return traces if traces.is_dir() else pytest.skip(f"needs {TRACES}")


def require_asyncapi_schema() -> Path:
    """The official JSON schema of AsyncAPI 3.0, which only npm has; skips the test without it."""
    schema = ROOT / ".ci/npm/node_modules/@asyncapi/specs/schemas/3.0.0.json"
    return schema if schema.is_file() else pytest.skip(f"needs {ASYNCAPI_SCHEMA}")
