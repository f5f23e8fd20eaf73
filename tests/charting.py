"""Pages with charts of their own, for tests of ``web/chart.js``."""

from __future__ import annotations

import functools
import threading
from contextlib import asynccontextmanager, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files

WEB = files("syndarix_rt") / "web"
T0 = 1_795_386_400  # 2026-11-22 22:26:40 UTC
MINUS = "\N{MINUS SIGN}"
LEFT, RIGHT, WIDTH = 46, 762, 772  # of a plot with short labels, on the canvas of a page 800 pixels wide
PAGE = b"""<!doctype html><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,"><link rel="stylesheet" href="chart.css"><body></body>"""

# Two series, red and blue; helpers that the tests call by name.
SETUP = """async ({kind, options}) => {
  const {createChart} = await import("./chart.js");
  const host = document.body.appendChild(document.createElement("div"));
  window.chart = createChart(host, {kind, title: "Test", unit: "events/s", windowS: 60, clock: "utc",
    height: kind === "lanes" ? undefined : 200,
    series: [{name: "a", color: "rgb(255, 0, 0)"}, {name: "b", color: "rgb(0, 0, 255)"}], ...options});
  window.rows = (list) => new Float64Array(list.flat().map((v) => v === null ? NaN : v));
  window.steady = (t, seconds, ...values) => rows(Array.from({length: seconds}, (_, i) => [t + i, ...values]));
  window.painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  window.tip = () => document.querySelector(".srt-tip:popover-open")?.innerText ?? null;
  window.colors = () => {
    const canvas = document.querySelector("canvas");
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
    copy.drawImage(canvas, 0, 0);
    const {data, width} = copy.getImageData(0, 0, canvas.width, canvas.height);
    const found = {red: {pixels: 0, columns: new Set()}, blue: {pixels: 0, columns: new Set()}};
    const book = (color, i) => { color.pixels += 1; color.columns.add((i / 4) % width); };
    for (let i = 0; i < data.length; i += 4) {
      if (data[i + 3] < 120) continue;
      if (data[i] > 200 && data[i + 1] < 60 && data[i + 2] < 60) book(found.red, i);
      if (data[i + 2] > 200 && data[i] < 60 && data[i + 1] < 60) book(found.blue, i);
    }
    for (const color of Object.values(found)) color.columns = [...color.columns].map((x) => x / canvas.width);
    return found;
  };
}"""


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path != "/":
            return super().do_GET()
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(PAGE)
        return None


@contextmanager
def serving_web():
    """The web folder on a plain file server; its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(WEB)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@asynccontextmanager
async def charts(browser, url):
    """What opens a page with one chart; fails on anything in the console."""
    problems = []

    async def open_chart(kind="bars", context=None, width=800, **options):
        page = await browser.new_page(viewport={"width": width, "height": 500}, **(context or {}))
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(url)
        await page.evaluate(SETUP, {"kind": kind, "options": options})
        return page

    yield open_chart
    assert problems == []


def at(seconds):
    """Where a second of the window is, as a share of the canvas' width."""
    return (LEFT + (RIGHT - LEFT) * seconds / 60) / WIDTH
