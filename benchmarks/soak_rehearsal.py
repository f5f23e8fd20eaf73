"""A demo that nobody looks after: `demo`, two browsers and a notebook, and in the middle the server is killed.

python benchmarks/soak_rehearsal.py [--minutes 15]

Both browsers show the project's page, JupyterLab a notebook's dashboard of the same server. Halfway the demo's process
is killed and begun again on its port and its data. Exit code 1 if at the end a page or the notebook is not live, has a
gap, an undeclared hole or a duplicate, if they have not seen events to the end, or if a page wrote into its console
while the server was there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import CHROMIUM_FLAGS
from lab import open_notebook
from playwright.async_api import async_playwright

PROJECT = "apollo"
TOKEN = "a-rehearsal"
START_S = 60.0
LOOK_EVERY_S = 30.0
SETTLE_S = 10.0  # what is written into a console until so long after the restart is of connections that failed
FRESH_S = 20.0

CELLS = [
    "from syndarix_rt.notebook import Workbench\nbench = await Workbench.connect({url!r})",
    f"bench.dashboard({PROJECT!r})",
    f"print(bench.ledger({PROJECT!r}))",
]


class Demo:
    """The demo's process, on a port that stays."""

    def __init__(self, state: Path) -> None:
        self.environment = os.environ | {"SYNDARIX_RT_STATE_DIR": str(state)}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> str:
        """Begin, as often as it takes: a project stays taken for some seconds after its run was killed. The URL."""
        async with asyncio.timeout(START_S):
            while (url := await self._try()) is None:  # noqa: ASYNC110 - of another process, nothing tells
                await asyncio.sleep(1)
        return url

    async def _try(self) -> str | None:
        options = ["--port", str(self.port), "--token", TOKEN, "--project", PROJECT]
        self.process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "syndarix_rt", "demo", *options],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self.environment,
        )
        while line := await self.process.stdout.readline():
            if found := re.search(r"http://\S+", line.decode()):
                return found[0]
        return None

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()


class Page:
    """A browser of its own that shows the project."""

    def __init__(self, page) -> None:
        self.page = page
        self.console: list[tuple[float, str]] = []
        page.on("console", lambda message: self.console.append((time.monotonic(), message.text)))
        page.on("pageerror", lambda error: self.console.append((time.monotonic(), str(error))))

    async def told(self) -> dict[str, str]:
        ids = ["connection", "received", "gaps"]
        told = {name: await self.page.locator(f"#{name}").inner_text() for name in ids}
        figures = await self.page.locator("#stream").inner_text()
        told["holes"] = re.search(r"undeclared holes\s+(\S+)", figures)[1]
        return told


async def watch(name, tell, seconds):
    """Say what is seen, now and then."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(LOOK_EVERY_S, left))
        print(f"{name}: {await tell()}", flush=True)


async def main(minutes: float) -> int:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        demo = Demo(directory / "state")
        url = await demo.start()
        stack.push_async_callback(demo.stop)
        playwright = await stack.enter_async_context(async_playwright())
        pages = []
        for _ in range(2):
            browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM_FLAGS)
            stack.push_async_callback(browser.close)
            pages.append(Page(await browser.new_page(viewport={"width": 1280, "height": 900})))
            await pages[-1].page.goto(url)
        notebook_path = directory / "rehearsal.ipynb"
        server = f"http://127.0.0.1:{demo.port}/?key={TOKEN}"
        cells = [nbformat.v4.new_code_cell(cell.replace("{url!r}", repr(server))) for cell in CELLS]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), notebook_path)
        notebook = await stack.enter_async_context(open_notebook(browser, notebook_path))
        for cell in (0, 1):
            await notebook.run(cell)

        async def tell():
            return [await page.told() for page in pages], (await notebook.run(2)).strip()

        await watch("before the kill", tell, minutes * 30)
        killed_s = time.monotonic()
        await demo.kill()
        await demo.start()
        back_s = time.monotonic() + SETTLE_S
        await watch("after it", tell, minutes * 30)

        told, ledger = await tell()
        await asyncio.sleep(FRESH_S)
        later, ledger_later = await tell()
        problems = []
        for number, (page, before, now) in enumerate(zip(pages, told, later, strict=True), 1):
            if (now["connection"], now["gaps"], now["holes"]) != ("live", "0", "0"):
                problems.append(f"page {number}: {now}")
            if before["received"] == now["received"]:
                problems.append(f"page {number}: nothing came in the last {FRESH_S:g} s")
            problems += [
                f"page {number}, console: {text}" for at_s, text in page.console if not killed_s <= at_s <= back_s
            ]
        if " 0 gaps, 0 undeclared holes, 0 duplicates" not in ledger_later or ledger == ledger_later:
            problems.append(f"notebook: {ledger_later}")
        problems += [f"notebook, console: {text}" for text in notebook.console]
        print("\n".join(problems) or "all live, nothing lost, nothing written into a console")
        return 1 if problems else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0, help="how long it is left alone")
    sys.exit(asyncio.run(main(parser.parse_args().minutes)))
