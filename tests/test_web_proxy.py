"""The page behind a real jupyter-server-proxy: below a prefix, under another server's origin, with its own cookie."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
from serving import event, running

pytestmark = pytest.mark.browser

CHANNEL = "project:{apollo}"
DEADLINE_S = 60


@asynccontextmanager
async def jupyter(tmp_path, http):
    """A Jupyter server of one user, below a prefix as a hub has it; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/user/ada"
    places = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "RUNTIME", "DATA")}
    options = ("--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jupyter", "server", *options, "--IdentityProvider.token=",
        "--ServerApp.base_url=/user/ada/", cwd=tmp_path, env=os.environ | places,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    async with http.get(f"{url}/api"):
                        break
                except OSError:
                    await asyncio.sleep(0.1)
        yield url
    finally:
        process.terminate()
        await process.wait()


async def test_behind_a_jupyter_server_events_arrive_sockets_open_and_decisions_are_taken(browser, tmp_path):
    async with running(token="s3cret") as server, jupyter(tmp_path, server.http) as url:
        asked = {"approval_id": "ap-1", "title": "Merge it"}
        await server.broker.publish(CHANNEL, [event(1, type="approval_required", data=asked).encode()])
        page = await browser.new_page()
        console = []
        page.on("console", lambda message: console.append(message.text))
        page.on("pageerror", lambda error: console.append(str(error)))
        port = server.url.rpartition(":")[2]
        await page.goto(f"{url}/proxy/{port}/p/apollo?key=s3cret")
        assert page.url == f"{url}/proxy/{port}/p/apollo"
        received = "(count) => document.getElementById('received').textContent === count"
        await page.wait_for_function(received, arg="1")
        await server.broker.publish(CHANNEL, [event(2).encode()])
        await page.wait_for_function(received, arg="2")
        await page.get_by_text("nobody else is here").wait_for()  # the chat's socket is open
        await page.get_by_role("button", name="Approve").click()  # with the Origin of the Jupyter server
        await page.wait_for_function(received, arg="3")
        await page.get_by_text("Nothing waits for a decision.").wait_for()
        assert console == []
