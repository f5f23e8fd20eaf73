"""The console blocks of the README, run as they stand on a fresh copy of the project: a newcomer's first minutes."""

from __future__ import annotations

import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import urllib.error
import urllib.request
from pathlib import Path

import click
import pytest
from command_line import environment, wait_until
from system_tools import ROOT

from syndarix_rt.cli import _cli

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
TYPED = {
    f"{path.name}: {line}": line
    for path in sorted((ROOT / "docs").glob("*.md"))
    for block in re.findall(r"```console\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
    for line in block.splitlines()
}
COMMANDS = re.findall(r"^\| `syndarix-rt (.+?)` \|", README, re.MULTILINE)

INSTALL_S = 400


@pytest.fixture
def clone(tmp_path):
    """The project without what is built or installed."""
    made = shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache", ".hypothesis", "dist", "build")
    return shutil.copytree(ROOT, tmp_path / "syndarix-rt", ignore=made)


@pytest.fixture
def settings(tmp_path, port):
    """What a machine of tests needs: ports that are free, no window that opens, root."""
    config = tmp_path / "jupyter"
    config.mkdir()
    lines = ("c.ServerApp.open_browser = False", "c.ServerApp.allow_root = True", f"c.ServerApp.port = {port}")
    (config / "jupyter_server_config.py").write_text("\n".join(lines))
    settings = environment(
        SYNDARIX_RT_PORT="0", JUPYTER_CONFIG_DIR=str(config), PYTHONUNBUFFERED="1",
        PIP_COMPILE="0",  # what is imported is compiled then; the rest of hundreds of packages need not be
    )  # fmt: skip
    for name in ("ARGS", "VENV", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"):
        settings.pop(name, None)  # of the `make test ARGS=…` that runs us: make exports what it is given
    python = Path(sys.executable).resolve()  # the packages that `make lab` shall find are of this version
    settings |= {"PYTHON": str(python), "PATH": f"{python.parent}{os.pathsep}{settings['PATH']}"}
    return settings


def served(block, directory, settings):
    """Run the lines of a block; the first URL that it prints, and what it answers; then Ctrl-C ends it."""
    lines = [line.removeprefix("$ ") for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in block.splitlines())
    process = subprocess.Popen(
        ["bash", "-e", "-c", "\n".join(lines)],
        cwd=directory, env=settings, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    printed, urls = [], queue.SimpleQueue()

    def read():
        for line in process.stdout:
            printed.append(line)
            if match := re.search(r"https?://(?:127\.0\.0\.1|localhost):\S+", line):
                urls.put(match[0])
        urls.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        url = urls.get(timeout=INSTALL_S)
        assert url, "".join(printed)[-3000:]
        page = opened(url)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        if "lab" in block:
            os.killpg(process.pid, signal.SIGTERM)  # Jupyter asks back what was meant
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            reader.join(10)
            process.stdout.close()
    return url, page


def opened(url):
    """The page, as a browser gets it: with cookies, and once there is somebody who listens."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def asked():
        try:
            return browser.open(url, timeout=20).read().decode()
        except urllib.error.URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):
                return ""
            raise

    return wait_until(asked, url)


def test_the_readme_has_these_blocks():
    assert [block.splitlines()[-1] for block in BLOCKS] == ["$ make demo", "$ .venv/bin/syndarix-rt demo", "$ make lab"]


@pytest.mark.extras
@pytest.mark.timeout(2 * INSTALL_S)
def test_the_console_blocks_do_what_the_readme_says(clone, settings):
    """One after the other, as a newcomer tries them."""
    for block in BLOCKS:
        if "lab" in block:  # found where these tests run: pip has installed all of it there
            [site] = (clone / ".venv" / "lib").glob("python*/site-packages")
            (site / "ours.pth").write_text(sysconfig.get_path("purelib"))
        url, page = served(block, clone, settings)
        if "lab" in block:
            assert "JupyterLab" in page
        else:
            assert "Syndarix RT" in page
            assert "key=" in url


def test_what_the_documents_have_typed_are_commands_of_ours():
    assert [line for line in TYPED.values() if not line.startswith("$ syndarix-rt ")] == []


@pytest.mark.parametrize("line", [*COMMANDS, *(line.removeprefix("$ syndarix-rt ") for line in TYPED.values())])
def test_a_command_of_the_readme_and_the_documents_is_one(line, tmp_path, monkeypatch):
    """Parsed with all its options and values, not run: what commands do has tests of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "b.jsonl", "real.jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "DIR").mkdir()
    name, *words = shlex.split(line)
    command = _cli.get_command(None, name)
    assert command is not None
    command.make_context(name, words, parent=click.Context(_cli))


def test_the_table_of_commands_was_found():
    assert len(COMMANDS) > 12
