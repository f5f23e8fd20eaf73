"""A page in Chromium under 1,000 events/s: does its heap stay within bounds, and does it keep up?

The heap is read after a garbage collection each 10 s. Growth counts from the end of the first minute.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import CHROMIUM_FLAGS
from playwright.async_api import async_playwright
from serving import running
from system_tools import ROOT

from syndarix_rt.events import Event
from syndarix_rt.simulation import Scenario, Simulation

WARM_UP_S = 60
READ_EVERY_S = 10
BATCH = 100
MAX_GROWTH_MB = 20.0


async def publish(broker, rate: int, seconds: float) -> int:
    """Simulated events as if they happened now, so many a second; how many."""
    simulation = Simulation(Scenario.preset("steady_sprint"), seed=1)
    start, sent = time.monotonic(), 0
    while (passed := time.monotonic() - start) < seconds:
        due = int(passed * rate) - sent
        while due >= BATCH:
            now = datetime.now(UTC)
            batch = [next(simulation) for _ in range(BATCH)]
            entries = [
                Event.new(e.type, e.data, project="apollo", id=e.id, time=e.time, recordedtime=now).encode()
                for e in batch
            ]
            await broker.publish("project:{apollo}", entries)
            sent += BATCH
            due -= BATCH
        await asyncio.sleep(0.02)
    return sent


async def main(rate: int, seconds: float) -> int:
    async with running() as server, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM_FLAGS)
        page = await browser.new_page(viewport={"width": 1280, "height": 900})
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(f"{server.url}/p/apollo")
        session = await page.context.new_cdp_session(page)
        publishing = asyncio.create_task(publish(server.broker, rate, seconds))
        start, heaps = time.monotonic(), []
        while not publishing.done():
            await asyncio.sleep(READ_EVERY_S)
            await session.send("HeapProfiler.collectGarbage")
            used = (await session.send("Runtime.getHeapUsage"))["usedSize"] / 1e6
            heaps.append((time.monotonic() - start, used))
            received = await page.locator("#received").inner_text()
            print(f"{heaps[-1][0]:5.0f} s  {used:6.1f} MB  {received} received", flush=True)
        sent = await publishing
        await asyncio.sleep(2)
        received = int((await page.locator("#received").inner_text()).replace(",", ""))
        gaps = await page.locator("#gaps").inner_text()
        await browser.close()
    base = next(used for at_s, used in heaps if at_s >= WARM_UP_S)
    growth = max(used for at_s, used in heaps if at_s >= WARM_UP_S) - base
    print(f"{sent:,} published, {received:,} received, {gaps} gaps")
    print(f"heap after {WARM_UP_S} s {base:.1f} MB, then +{growth:.1f} MB at most")
    print(f"console: {problems or 'empty'}")
    return int(growth > MAX_GROWTH_MB or received != sent or bool(problems))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1_000, help="events a second")
    parser.add_argument("--seconds", type=float, default=180 + WARM_UP_S / 2, help="how long")
    arguments = parser.parse_args()
    print(f"{ROOT.name}: {arguments.rate:,} events/s for {arguments.seconds:.0f} s")
    sys.exit(asyncio.run(main(arguments.rate, arguments.seconds)))
