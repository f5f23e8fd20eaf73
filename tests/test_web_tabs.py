"""Many tabs of one browser over plain HTTP/1.1, where it opens six connections to a server at most.

Playwright makes every page believe that it is seen. So this Chromium is driven by its own protocol: which tab is
visible is true, and so are the events that say so.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager

import aiohttp
import pytest
from conftest import CHROMIUM_FLAGS
from serving import TIMEOUT_S, running
from test_web_page import publish

TABS = 10  # more than a browser has connections to one server
CONNECTIONS = 6  # of Chromium to one server over HTTP/1.1


class Tabs:
    """The tabs of a Chromium: open one in front, bring one to the front, ask one."""

    def __init__(self, http, address):
        self._http = http
        self._address = address
        self._sockets = []
        self._asked = 0

    async def open(self, url):
        """A new tab in front; its number."""
        async with self._http.put(f"{self._address}/json/new?{url}") as answer:
            target = await answer.json()
        socket = await self._http.ws_connect(target["webSocketDebuggerUrl"])
        self._sockets.append((target["id"], socket))
        return len(self._sockets) - 1

    async def show(self, tab):
        async with self._http.get(f"{self._address}/json/activate/{self._sockets[tab][0]}") as answer:
            answer.raise_for_status()

    async def evaluate(self, tab, expression):
        """What an expression is in a tab; None where it throws, as it does until the page is there."""
        self._asked += 1
        _, socket = self._sockets[tab]
        request = {"expression": expression, "returnByValue": True}
        await socket.send_str(json.dumps({"id": self._asked, "method": "Runtime.evaluate", "params": request}))
        while (answer := await socket.receive_json()).get("id") != self._asked:
            pass
        return answer["result"]["result"].get("value")

    async def until(self, tab, expression):
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while not await self.evaluate(tab, expression):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"tab {tab}: never {expression}: {await self.evaluate(tab, 'document.body.innerText')}")


@asynccontextmanager
async def open_tabs(chromium, profile):
    """A Chromium with a profile of its own, on a port that it chooses."""
    process = await asyncio.create_subprocess_exec(
        chromium,
        "--headless=new",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        *CHROMIUM_FLAGS,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not (found := re.search(rb"DevTools listening on ws://([\d.:]+)/", await process.stderr.readline())):
                assert process.returncode is None
        async with aiohttp.ClientSession() as http:
            yield Tabs(http, f"http://{found[1].decode()}")
    finally:
        process.terminate()
        await process.communicate()


async def test_of_ten_tabs_the_one_that_is_seen_is_live(chromium, tmp_path):
    async with running() as server, open_tabs(chromium, tmp_path / "profile") as tabs:
        published = 0
        for _ in range(TABS):
            tab = await tabs.open(f"{server.url}/p/apollo")
            await tabs.until(tab, "document.getElementById('connection')?.dataset.state === 'open'")
            assert server.hub.subscribers("project:{apollo}") <= CONNECTIONS
        for tab in reversed(range(TABS)):
            await tabs.show(tab)
            await tabs.until(tab, "document.visibilityState === 'visible'")
            await publish(server, published + 1, ["agent_activity", "commit_pushed"])
            published += 2
            await tabs.until(tab, f"document.getElementById('received').textContent === '{published}'")
            assert await tabs.evaluate(tab, "document.getElementById('connection').dataset.state") == "open"
            assert await tabs.evaluate(tab, "document.getElementById('gaps').textContent") == "0"
