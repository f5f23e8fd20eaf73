"""`chart.js` in a real Chromium: what it draws, as pixels and by its own readout."""

from __future__ import annotations

import functools
import itertools
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files

import pytest

from syndarix_rt.events import CATALOGUE

pytestmark = pytest.mark.browser

WEB = files("syndarix_rt") / "web"
T0 = 1_795_386_400  # a whole minute
PAGE = b'<!doctype html><link rel="icon" href="data:,"><link rel="stylesheet" href="chart.css"><body></body>'

# Two series, a row a second; helpers that the tests call by name.
SETUP = """async ({kind, options}) => {
  const {createChart} = await import("./chart.js");
  const host = document.body.appendChild(document.createElement("div"));
  window.chart = createChart(host, {kind, title: "Test", unit: "events/s", windowS: 60, height: 200, utc: true,
    series: [{name: "a", color: "rgb(255, 0, 0)"}, {name: "b", color: "rgb(0, 0, 255)"}], ...options});
  window.rows = (list) => new Float64Array(list.flat().map((v) => v === null ? NaN : v));
  window.painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
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


@pytest.fixture(scope="module")
def static_url():
    """The web folder on a plain file server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(WEB)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
async def open_chart(browser, static_url):
    """Opens a page with one chart; fails on anything in the console."""
    problems = []

    async def open_chart(kind="bars", context=None, **options):
        page = await browser.new_page(viewport={"width": 800, "height": 500}, **(context or {}))
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(static_url)
        await page.evaluate(SETUP, {"kind": kind, "options": options})
        return page

    yield open_chart
    assert problems == []


async def test_the_readout_is_what_was_pushed_with_later_rows_replacing_earlier_ones(open_chart):
    page = await open_chart()
    await page.evaluate("([t]) => chart.push(rows([[t, 1, 2], [t + 1, 3, 4]]), t + 1.5)", [T0])
    await page.evaluate("([t]) => chart.push(rows([[t + 1, 5, 4], [t + 2, 0, 1]]), t + 2.5)", [T0])
    readout = await page.evaluate("chart.readout()")
    assert readout["series"] == [
        {"name": "a", "visible": True, "points": [[T0, 1], [T0 + 1, 5], [T0 + 2, 0]]},
        {"name": "b", "visible": True, "points": [[T0, 2], [T0 + 1, 4], [T0 + 2, 1]]},
    ]
    assert (readout["from"], readout["to"]) == (T0 + 3 - 60, T0 + 3)


async def test_rows_out_of_the_window_are_neither_drawn_nor_kept(open_chart):
    page = await open_chart(capacity=64)
    await page.evaluate(
        "([t]) => { for (let i = 0; i < 5000; i += 1) chart.push(rows([[t + i, i, 1]]), t + i + 0.5); }", [T0]
    )
    readout = await page.evaluate("chart.readout()")
    assert readout["series"][0]["points"] == [[T0 + i, i] for i in range(4940, 5000)]
    await page.evaluate("([t]) => chart.push(rows([[t, 7, 7], [t + 4990, 9, 9]]), t + 4999)", [T0])
    readout = await page.evaluate("chart.readout()")
    assert dict(readout["series"][0]["points"])[T0 + 4990] == 9
    assert len(readout["series"][0]["points"]) == 60


async def test_bars_are_stacked_from_the_baseline_and_hidden_series_leave_no_hole(open_chart):
    page = await open_chart()
    await page.evaluate("([t]) => chart.push(rows(Array.from({length: 60}, (_, i) => [t + i, 3, 1])), t + 60)", [T0])
    await page.evaluate("painted()")
    both = await page.evaluate("colors()")
    assert both["red"]["pixels"] == pytest.approx(3 * both["blue"]["pixels"], rel=0.05)
    await page.get_by_role("button", name="a", exact=True).click()
    await page.evaluate("painted()")
    only_b = await page.evaluate("colors()")
    assert only_b["red"]["pixels"] == 0
    assert only_b["blue"]["pixels"] > 2 * both["blue"]["pixels"]  # the axis follows what is visible
    readout = await page.evaluate("chart.readout()")
    assert readout["series"][0] == {"name": "a", "visible": False, "points": []}
    assert await page.get_by_role("button", name="a", exact=True).get_attribute("aria-pressed") == "false"


async def test_nothing_is_drawn_over_what_is_not_known(open_chart):
    left, right = 46 / 772, 762 / 772  # the plot within the canvas

    def at(seconds):
        return left + (right - left) * seconds / 60

    page = await open_chart()
    for kind, hole in itertools.product(["lines", "areas", "bars"], ["declared", "nan", "missing"]):
        await page.evaluate("chart.destroy()")
        await page.evaluate(SETUP, {"kind": kind, "options": {}})
        await page.evaluate(
            """([t, hole]) => {
              const list = Array.from({length: 60}, (_, i) => [t + i, 2, 1]);
              const inside = (i) => i >= 30 && i < 40;
              const kept = hole === "nan" ? list.map((row, i) => inside(i) ? [row[0], null, null] : row)
                                          : list.filter((_, i) => !inside(i));
              chart.push(rows(kept), t + 59.9);
              if (hole === "declared") chart.gap(t + 30, t + 40, "gap: 7 missed");
            }""",
            [T0, hole],
        )
        await page.evaluate("painted()")
        for color, found in (await page.evaluate("colors()")).items():
            xs = found["columns"]
            assert not [x for x in xs if at(30.6) < x < at(39.4)], (kind, hole, color)
            assert [x for x in xs if x < at(29.4)], (kind, hole, color)
            assert [x for x in xs if x > at(40.6)], (kind, hole, color)
        readout = await page.evaluate("chart.readout()")
        assert len(readout["series"][0]["points"]) == 50
        declared = [{"from": T0 + 30, "to": T0 + 40, "label": "gap: 7 missed"}]
        assert readout["gaps"] == (declared if hole == "declared" else [])


async def test_it_fits_any_pixel_ratio_and_width_and_theme(open_chart):
    page = await open_chart(context={"device_scale_factor": 2, "color_scheme": "light"})
    await page.evaluate("([t]) => chart.push(rows([[t, 1, 2]]), t + 1)", [T0])
    await page.evaluate("painted()")
    size = "[document.querySelector('canvas').width, document.querySelector('canvas').clientWidth]"
    pixels, css = await page.evaluate(size)
    assert pixels == 2 * css
    await page.set_viewport_size({"width": 500, "height": 400})
    await page.wait_for_function(f"() => {{ const [w, css] = {size}; return css < 500 && w === 2 * css; }}")

    paper = "getComputedStyle(document.querySelector('.srt-chart')).backgroundColor"
    assert await page.evaluate(paper) == "rgb(255, 255, 255)"
    await page.emulate_media(color_scheme="dark")
    assert await page.evaluate(paper) == "rgb(22, 27, 34)"
    await page.evaluate("document.body.style.setProperty('--jp-layout-color1', 'rgb(1, 2, 3)')")  # JupyterLab's theme
    assert await page.evaluate(paper) == "rgb(1, 2, 3)"


async def test_it_says_in_words_what_it_shows(open_chart):
    page = await open_chart(empty="No events yet")
    image = page.get_by_role("img")
    await page.evaluate("painted()")
    assert await image.get_attribute("aria-label") == "Test, stacked bars, events/s: No events yet."
    page = await open_chart()
    await page.evaluate(
        "([t]) => { chart.push(rows([[t, 1, 12345]]), t + 1); chart.gap(t - 9, t - 4); chart.readout(); }", [T0]
    )
    label = await page.get_by_role("img").get_attribute("aria-label")
    assert label.endswith("Last: b 12.35 k, a 1. 1 gap in the data.")
    assert label.startswith("Test, stacked bars, events/s, from 22:25:42 to 22:26:42.")


async def test_it_ends_begins_anew_and_is_destroyed_without_a_trace(open_chart):
    page = await open_chart()
    await page.evaluate("([t]) => { chart.push(rows([[t, 1, 2]]), t + 1); chart.end('Ended at 12:00'); }", [T0])
    assert await page.locator(".srt-chart.srt-ended").count() == 1
    await page.evaluate(
        "([t]) => chart.reset({series: [{name: 'c'}], rows: rows([[t, 8]]), gaps: [[t - 5, t - 2, 'gap']]})", [T0]
    )
    readout = await page.evaluate("chart.readout()")
    assert readout["series"] == [{"name": "c", "visible": True, "points": [[T0, 8]]}]
    assert len(readout["gaps"]) == 1
    assert await page.locator(".srt-ended").count() == 0
    await page.evaluate("([t]) => { chart.push(rows([[t, 2]])); chart.destroy(); }", [T0])
    await page.set_viewport_size({"width": 500, "height": 400})
    await page.evaluate("painted()")
    assert await page.locator(".srt-chart").count() == 0


def test_every_catalogue_type_has_a_colour_of_its_own():
    types = json.loads((WEB / "types.json").read_text())
    listed = {line["name"]: line["category"] for line in types}
    assert listed.pop("custom types") is None
    assert listed == {name: line.category for name, line in CATALOGUE.items()}
    assert len({line["color"] for line in types}) == len(types)
