"""HTTP/2 from a real Chromium: many streams, and a socket, on one connection."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from serving import event, running

from syndarix_rt.broker.protocol import project_channel

pytestmark = pytest.mark.browser

CERTIFICATE = Path(__file__).parent / "localhost.pem"
STREAMS = 120  # over HTTP/1.1 a browser has 6; Hypercorn alone would let 100 live

OPEN = """(count) => {
  window.received = {};
  window.opened = 0;
  for (let n = 0; n < count; n += 1) {
    const source = new EventSource(`/projects/p-${n}/events`);
    source.addEventListener("stream-open", () => (opened += 1));
    source.addEventListener("my_event", ({data}) => {
      const {project} = JSON.parse(data);
      received[project] = (received[project] ?? 0) + 1;
    });
  }
}"""
PROTOCOL = "performance.getEntriesByType('navigation')[0].nextHopProtocol"


async def test_a_hundred_and_twenty_streams_of_one_page_are_live_on_one_connection(browser):
    async with running(tls_cert=CERTIFICATE) as server:
        url = server.url
        context = await browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        await page.goto(f"{url}/healthz")
        await page.evaluate(OPEN, arg=STREAMS)
        await page.wait_for_function("(count) => opened === count", arg=STREAMS)
        for turn in (1, 2):
            for n in range(STREAMS):
                await server.broker.publish(project_channel(f"p-{n}"), [event(turn, f"p-{n}").encode()])
            await page.wait_for_function(
                "([count, turn]) => Object.values(received).filter((events) => events === turn).length === count",
                arg=[STREAMS, turn],
            )
        assert await page.evaluate(PROTOCOL) == "h2"
        assert len(connections(server.url)) <= 2  # a second one is opened, for nothing, where the first is slow
        assert (
            f'syndarix_rt_stream_paths{{path="asgi",reason="http/2"}} {STREAMS}.0' in (await server.get("/metrics"))[2]
        )
        await page.goto(f"{url}/p/apollo")
        await page.wait_for_function("() => document.getElementById('connection').textContent === 'live'")
        await context.close()


def connections(url):
    """Of this process, those that came in at the server's port."""
    port = int(url.rpartition(":")[2])
    return [c for c in psutil.Process().net_connections("tcp") if c.status == "ESTABLISHED" and c.laddr.port == port]
