"""`chart.js` in a real Chromium as people use it: by mouse, finger, keys and ears, in every theme, for hours."""

from __future__ import annotations

import pytest
from charting import MINUS, SETUP, T0, at, charts, serving_web

from syndarix_rt.notebook.chart_widget import ChartWidget

pytestmark = pytest.mark.browser

FULL = "([t]) => chart.push(rows(Array.from({length: 60}, (_, i) => [t + i, i, 1])), t + 59.5)"  # the whole window
LANES = """([t]) => {
  chart.lanes(["Ada", "Bob"]);
  chart.push(rows([[t, 0, 0], [t + 10, 0, 1], [t + 30, 1, 1], [t + 40, 0, 0]]), t + 60);
  chart.gap(t + 50, t + 55, "gap: 3 missed");
}"""


@pytest.fixture(scope="module")
def static_url():
    with serving_web() as url:
        yield url


@pytest.fixture
async def open_chart(browser, static_url):
    async with charts(browser, static_url) as open_chart:
        yield open_chart


class Hand:
    """A mouse over the canvas."""

    def __init__(self, page):
        self.page = page

    async def place(self, share_x, share_y=0.5):
        box = await self.page.locator("canvas").bounding_box()
        return box["x"] + share_x * box["width"], box["y"] + share_y * box["height"]

    async def move(self, share_x, share_y=0.5):
        await self.page.mouse.move(*await self.place(share_x, share_y))
        await self.page.evaluate("painted()")

    async def drag(self, start, end):
        await self.move(start)
        await self.page.mouse.down()
        await self.move(end)
        await self.page.mouse.up()

    async def tip(self):
        text = await self.page.evaluate("tip()")
        return text and [line for line in (part.strip() for part in text.replace("\t", "\n").split("\n")) if line]


async def window(page):
    readout = await page.evaluate("chart.readout()")
    return readout["from"] - T0, readout["to"] - T0, readout["live"]


# ---- the tooltip --------------------------------------------------------------------------------------------------


async def test_the_tooltip_tells_what_is_below_the_mouse(open_chart):
    page = await open_chart()
    hand = Hand(page)
    await page.evaluate(FULL, [T0])
    await page.evaluate("([t]) => { chart.gap(t + 20, t + 25, 'gap: 4 missed'); }", [T0])
    await hand.move(at(30.5))
    assert await hand.tip() == ["22:27:10", "events/s", "b", "1", "a", "30", "all", "31"]
    await hand.move(at(59.5))
    assert (await hand.tip())[-1] == "still counting"
    await hand.move(at(22.5))
    assert (await hand.tip())[-1] == "gap: 4 missed"
    await page.mouse.move(1, 1)
    await page.evaluate("painted()")
    assert await hand.tip() is None
    await page.evaluate("([t]) => { chart.push(rows([[t + 59, 2, 0]]), t + 66.5); }", [T0])
    await hand.move(at(55))
    assert (await hand.tip())[-1] == "no data"

    page = await open_chart("lines")
    hand = Hand(page)
    await page.evaluate("([t]) => chart.push(rows([[t, 1, 20000], [t + 28, 3, -4], [t + 59, 1, null]]), t + 59)", [T0])
    await hand.move(at(28.5))
    assert await hand.tip() == ["22:27:08", "events/s", "a", "3", "b", f"{MINUS}4"]


async def test_of_lanes_the_tooltip_tells_who_is_in_which_state_since_when(open_chart):
    page = await open_chart("lanes", title="")
    hand = Hand(page)
    await page.evaluate(LANES, [T0])

    async def at_lane(seconds, lane):
        await hand.move(0.05 + 0.94 * seconds / 60, (4 + 24 * lane + 12) / 78)
        return await hand.tip()

    first = await at_lane(20, 0)
    assert first[0] == "Ada"
    assert first[1].startswith("22:27:0")
    assert first[2:] == ["b", "30 s", "since 22:26:50"]
    assert (await at_lane(45, 1))[2:] == ["b", "20 s", "since 22:27:10"]
    assert (await at_lane(10, 1))[-1] == "no data"
    assert (await at_lane(52, 1))[2:] == ["unknown", "10 s", "gap: 3 missed"]
    assert (await at_lane(58, 0))[2:] == ["unknown", "10 s", "since 22:27:30, still"]


# ---- the window ---------------------------------------------------------------------------------------------------


async def test_a_range_that_is_dragged_over_stays_while_data_come(open_chart):
    page = await open_chart()
    hand = Hand(page)
    await page.evaluate(FULL, [T0])
    back = page.get_by_role("button", name="Back to live")
    assert await back.count() == 0
    await hand.drag(at(40), at(20))
    start, end, live = await window(page)
    assert (start, end, live) == (pytest.approx(20, abs=0.2), pytest.approx(40, abs=0.2), False)
    await page.evaluate("([t]) => chart.push(steady(t + 60, 100, 7, 7), t + 159.5)", [T0])
    assert await window(page) == (start, end, False)
    readout = await page.evaluate("chart.readout()")
    drawn = {t - T0: v for t, v in readout["series"][0]["points"]}
    assert drawn == {n: n for n in range(60) if start < n + 1 and n < end}  # bars that are cut off, too
    assert await back.is_visible()
    await back.click()
    assert await window(page) == (100, 160, True)
    assert await back.count() == 0

    await hand.drag(at(5), at(5.2))  # a click
    assert (await window(page))[2]
    await hand.drag(at(5), at(50))
    assert not (await window(page))[2]
    await page.mouse.dblclick(*await hand.place(0.5))
    assert await window(page) == (100, 160, True)


async def test_what_is_looked_at_may_be_older_than_what_is_kept(open_chart):
    page = await open_chart(capacity=100)
    await page.evaluate(FULL, [T0])
    await Hand(page).drag(at(10), at(20))
    before = await window(page)
    await page.evaluate("([t]) => chart.push(steady(t + 60, 500, 7, 7), t + 559.5)", [T0])
    assert await window(page) == before
    assert (await page.evaluate("chart.readout()"))["series"][0]["points"] == []


async def test_a_wheel_zooms_with_ctrl_or_focus_and_else_scrolls_the_page(open_chart):
    page = await open_chart()
    await page.evaluate("document.body.style.height = '3000px'")
    hand = Hand(page)
    await page.evaluate(FULL, [T0])
    await hand.move(at(30))
    await page.mouse.wheel(0, 200)
    await page.wait_for_function("scrollY > 0")
    assert await window(page) == (0, 60, True)
    await page.evaluate("scrollTo(0, 0)")
    await hand.move(at(30))
    await page.keyboard.down("Control")
    await page.mouse.wheel(0, -200)
    await page.keyboard.up("Control")
    await page.wait_for_function("!chart.readout().live")
    start, end, _ = await window(page)
    assert (start + end) / 2 == pytest.approx(30, abs=0.5)  # it stays below the mouse
    assert end - start == pytest.approx(60 * 2.718**-0.4, rel=0.01)

    await page.locator("canvas").focus()
    await page.mouse.wheel(0, -2000)
    await page.wait_for_function("(() => { const {from, to} = chart.readout(); return to - from < 5; })()")
    start, end, _ = await window(page)
    assert end - start == pytest.approx(4)  # no further in
    await page.mouse.wheel(500, 0)
    await page.wait_for_function(f"chart.readout().from > {T0 + start}")
    await page.mouse.wheel(0, 9000)
    await page.wait_for_function("chart.readout().live")  # nothing more is kept
    assert await page.evaluate("scrollY") == 0


async def test_two_fingers_pinch(open_chart):
    page = await open_chart(context={"has_touch": True})
    hand = Hand(page)
    await page.evaluate(FULL, [T0])
    devtools = await page.context.new_cdp_session(page)

    async def touch(kind, *shares):
        points = [dict(zip("xy", await hand.place(share), strict=True)) for share in shares]
        await devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    await touch("touchStart", at(25))
    await touch("touchStart", at(25), at(35))
    await touch("touchMove", at(20), at(40))
    await touch("touchMove", at(15), at(45))
    await touch("touchEnd")
    start, end, live = await window(page)
    assert not live
    assert end - start == pytest.approx(20, abs=1)
    assert (start + end) / 2 == pytest.approx(30, abs=1)
    await page.touchscreen.tap(*await hand.place(at(30)))
    await page.evaluate("painted()")
    assert (await hand.tip())[0] in ("22:27:09", "22:27:10")  # and it stays there


# ---- keys and words -----------------------------------------------------------------------------------------------


async def test_all_can_be_read_by_keys_alone(open_chart):
    page = await open_chart()
    hand = Hand(page)
    said = page.locator("[aria-live=polite]")
    await page.evaluate(FULL, [T0])
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.tagName") == "CANVAS"
    for key, expected in [
        ("ArrowRight", "22:27:39. b 1, a 59, all 60 events/s. still counting."),
        ("ArrowLeft", "22:27:38. b 1, a 58, all 59 events/s."),
        ("Shift+ArrowLeft", "22:27:28. b 1, a 48, all 49 events/s."),
        ("Home", "22:26:40. b 1 events/s."),
        ("ArrowRight", "22:26:41. b 1, a 1, all 2 events/s."),
        ("End", "22:27:39. b 1, a 59, all 60 events/s. still counting."),
    ]:
        await page.keyboard.press(key)
        assert await said.inner_text() == expected, key
    await page.evaluate("painted()")
    assert (await hand.tip())[0] == "22:27:39"

    await page.keyboard.press("+")
    assert await window(page) == (pytest.approx(29.5), pytest.approx(59.5), False)
    assert (await said.inner_text()).startswith("Zoomed, from 22:27:09 to 22:27:39")
    for _ in range(4):
        await page.keyboard.press("Shift+ArrowLeft")
    assert await window(page) == (19, 49, False)  # the window follows the cursor
    await page.keyboard.press("-")
    assert await window(page) == (0, 60, True)
    await page.keyboard.press("+")
    await page.keyboard.press("Escape")
    assert await window(page) == (0, 60, True)
    assert await said.inner_text() == "Back to live."
    await page.evaluate("painted()")
    assert await hand.tip() is None
    await page.keyboard.press("Tab")
    await page.keyboard.press("Space")
    button = page.get_by_role("button", name="a", exact=True)
    assert await button.get_attribute("aria-pressed") == "false"
    await page.evaluate("chart.reset()")
    assert await button.get_attribute("aria-pressed") == "false"
    assert await button.evaluate("(button) => button === document.activeElement")
    for key, name in [("ArrowRight", "b"), ("ArrowRight", "a"), ("ArrowLeft", "b")]:
        await page.keyboard.press(key)
        assert await page.evaluate("document.activeElement.textContent") == name
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement === document.body"), "one of the legend is enough for Tab"


async def test_in_lanes_keys_go_from_change_to_change_and_from_lane_to_lane(open_chart):
    page = await open_chart("lanes")
    said = page.locator("[aria-live=polite]")
    await page.evaluate(LANES, [T0])
    await page.locator("canvas").focus()
    for key, expected in [
        ("ArrowLeft", "Ada. 22:27:20. a 10 s. since 22:27:20."),
        ("ArrowLeft", "Ada. 22:26:50. b 30 s. since 22:26:50."),
        ("ArrowDown", "Bob. 22:26:50. no data."),
        ("ArrowRight", "Bob. 22:27:10. b 20 s. since 22:27:10."),
        ("ArrowDown", "Bob. 22:27:10. b 20 s. since 22:27:10."),
        ("ArrowUp", "Ada. 22:27:10. b 30 s. since 22:26:50."),
    ]:
        await page.keyboard.press(key)
        assert await said.inner_text() == expected, key


async def test_it_says_in_words_what_it_shows(open_chart):
    page = await open_chart(empty="No events yet")
    await page.evaluate("painted()")
    image = page.get_by_role("application")
    assert await image.get_attribute("aria-label") == "Test, stacked bars, events/s: No events yet."
    page = await open_chart()
    await page.evaluate(
        "([t]) => { chart.push(rows([[t, 1, 12345]]), t + 1); chart.gap(t - 9, t - 4); chart.readout(); }", [T0]
    )
    assert await page.get_by_role("application").get_attribute("aria-label") == (
        "Test, stacked bars, events/s, from 22:25:42 to 22:26:42, UTC. Last: b 12.35 k, a 1. 1 gap in the data."
    )
    page = await open_chart("lanes", unit="", clock="simulated", startS=T0 - 86400)
    await page.evaluate(LANES, [T0])
    await page.evaluate("chart.end('Ended'); chart.readout()")
    assert await page.get_by_role("application").get_attribute("aria-label") == (
        "Test, states in lanes, from day 2 22:26:40 to day 2 22:27:40, simulated time. "
        "Last: Ada unknown, Bob unknown. 1 gap in the data. Ended."
    )
    assert await page.get_by_role("toolbar", name="States").count() == 1


# ---- themes -------------------------------------------------------------------------------------------------------

JUPYTER_NAMES = ["--jp-ui-font-color1", "--jp-ui-font-color2", "--jp-layout-color1"]
JUPYTER = {
    "light": ["rgba(0, 0, 0, 0.87)", "rgba(0, 0, 0, 0.54)", "white"],
    "dark": ["rgba(255, 255, 255, 1)", "rgba(255, 255, 255, 0.7)", "#212121"],
}
CONTRAST = """() => {
  const pixel = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const painted = (...colors) => {
    for (const color of colors) { pixel.fillStyle = color; pixel.fillRect(0, 0, 1, 1); }
    const channels = [...pixel.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255);
    const [r, g, b] = channels.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (ink, paper) => {
    const [a, b] = [painted(paper, ink), painted(paper)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const root = document.querySelector(".srt-chart");
  const paper = getComputedStyle(root).backgroundColor;
  const found = {};
  for (const node of root.querySelectorAll("*")) {
    const words = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    const style = getComputedStyle(node);
    if (words && Number(style.opacity) === 1) found[node.tagName + "." + node.className] = contrast(style.color, paper);
    else if (words) found[node.tagName + "." + node.className] = 0; // what is see-through is not measured here
  }
  const property = (name) => getComputedStyle(root).getPropertyValue(`--srt-${name}`);
  for (const name of ["ink", "muted"]) found[name] = contrast(property(name), paper); // on the canvas
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("jupyter", [None, "light", "dark"])
async def test_all_words_can_be_read_in_every_theme(open_chart, scheme, jupyter):
    page = await open_chart(context={"color_scheme": scheme})
    for name, value in zip(JUPYTER_NAMES, JUPYTER.get(jupyter, []), strict=False):
        await page.evaluate("([name, value]) => document.body.style.setProperty(name, value)", [name, value])
    await page.evaluate(FULL, [T0])
    await page.evaluate("chart.end('Ended')")
    await page.get_by_role("button", name="b", exact=True).click()
    await Hand(page).move(at(30))
    contrasts = await page.evaluate(CONTRAST)
    assert len(contrasts) >= 7
    assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}


async def test_it_follows_the_theme_and_the_colours_that_a_person_forces(open_chart):
    page = await open_chart(context={"color_scheme": "light"})
    await page.evaluate(FULL, [T0])
    paper = "getComputedStyle(document.querySelector('.srt-chart')).backgroundColor"
    ink = """async () => {
      await painted();
      const canvas = document.querySelector("canvas");
      const copy = new OffscreenCanvas(1, 1).getContext("2d");
      copy.drawImage(canvas, -400, 22 - canvas.height);
      const [r, g, b, a] = copy.getImageData(0, 0, 1, 1).data;
      return a ? `rgb(${r}, ${g}, ${b})` : null;
    }"""  # a pixel of the baseline
    assert await page.evaluate(paper) == "rgb(255, 255, 255)"
    light = await page.evaluate(ink)
    await page.emulate_media(color_scheme="dark")
    assert await page.evaluate(paper) == "rgb(22, 27, 34)"
    assert await page.evaluate(ink) not in (None, light)
    await page.evaluate("document.body.style.setProperty('--jp-layout-color1', 'rgb(1, 2, 3)')")  # JupyterLab's theme
    assert await page.evaluate(paper) == "rgb(1, 2, 3)"
    await page.emulate_media(forced_colors="active", color_scheme="dark")
    text = await page.evaluate("getComputedStyle(document.querySelector('.srt-title')).color")
    assert await page.evaluate(ink) == text == "rgb(255, 255, 255)"
    swatch = "getComputedStyle(document.querySelector('.srt-legend i')).backgroundColor"
    assert await page.evaluate(swatch) == "rgb(255, 0, 0)"  # the series keep theirs


COUNT_DRAWINGS = """() => {
  window.drawings = 0;
  const clear = CanvasRenderingContext2D.prototype.clearRect;
  CanvasRenderingContext2D.prototype.clearRect = function (...box) { drawings += 1; return clear.apply(this, box); };
}"""


async def test_who_prefers_less_motion_gets_a_drawing_a_second_and_answers_at_once(browser, static_url):
    page = await browser.new_page(viewport={"width": 800, "height": 500}, reduced_motion="reduce")
    await page.clock.install(time=T0)
    await page.goto(static_url)
    await page.evaluate(COUNT_DRAWINGS)
    await page.evaluate(SETUP, {"kind": "bars", "options": {}})
    await page.clock.run_for(2000)
    before = await page.evaluate("drawings")
    for quarter in range(16):
        await page.evaluate("([t, n]) => chart.push(rows([[t, n, 1]]), t)", [T0, quarter])
        await page.clock.run_for(250)
    assert await page.evaluate("drawings") - before == pytest.approx(4, abs=1)
    before = await page.evaluate("drawings")
    await page.get_by_role("button", name="a", exact=True).click()
    await page.clock.run_for(20)
    assert await page.evaluate("drawings") == before + 1


# ---- for hours ----------------------------------------------------------------------------------------------------


async def test_a_minute_of_a_thousand_rows_a_second_leaves_the_heap_as_it_was(open_chart):
    page = await open_chart("lines", binS=0.001, windowS=1, series=[{"name": f"series {n}"} for n in range(12)])
    await page.evaluate(COUNT_DRAWINGS)
    devtools = await page.context.new_cdp_session(page)
    play = """([t, from, to]) => {
      const table = new Float64Array(250 * 13);
      for (let quarter = from; quarter < to; quarter += 1) {
        for (let i = 0; i < 250; i += 1) {
          table[i * 13] = t + quarter / 4 + i / 1000;
          for (let k = 1; k < 13; k += 1) table[i * 13 + k] = Math.sin(i + k) * k;
        }
        chart.push(table, t + quarter / 4 + 0.25);
        chart.gap(t + quarter / 4, t + quarter / 4 + 0.01, "gap");
        if (quarter % 4 === 0) chart.readout(); // draws
      }
    }"""

    async def heap_mb():
        await page.request_gc()
        return (await devtools.send("Runtime.getHeapUsage"))["usedSize"] / 1e6

    await page.evaluate(play, [T0, 0, 40])
    before = await heap_mb()
    await page.evaluate(play, [T0, 40, 240])
    assert await heap_mb() - before < 1
    assert await page.evaluate("drawings") >= 60

    # A hidden tab gets no frames: it takes everything in, and draws nothing.
    await page.evaluate("window.requestAnimationFrame = () => 1")
    before, drawings = await heap_mb(), await page.evaluate("drawings")
    await page.evaluate(play.replace("chart.readout()", "0"), [T0, 240, 480])
    assert await page.evaluate("drawings") == drawings
    assert await heap_mb() - before < 1
    readout = await page.evaluate("chart.readout()")
    assert len(readout["series"][11]["points"]) == pytest.approx(1000, abs=2)
    await page.evaluate(
        """([t]) => {
          for (let n = 0; n < 1000; n += 1) chart.gap(t + 120 - n / 1e4, t + 120, "gap");
        }""",
        [T0],
    )
    assert len((await page.evaluate("chart.readout()"))["gaps"]) == 64


# ---- in the notebook ----------------------------------------------------------------------------------------------

RENDER = """async (text) => {
  const {default: widget} = await import(URL.createObjectURL(new Blob([text], {type: "text/javascript"})));
  const host = document.body.appendChild(document.createElement("div"));
  window.asked = 0;
  const options = {kind: "lanes", clock: "utc", windowS: 60, binS: 0, series: [{name: "idle"}, {name: "busy"}]};
  const model = {
    get: () => options,
    send: ({op}) => { asked += op === "ready"; },
    on: (name, act) => { window[name === "msg:custom" ? "receive" : "change"] = act; },
    off: (name) => { window[name === "msg:custom" ? "receive" : "change"] = null; },
  };
  window.close = widget.render({model, el: host});
  window.tell = (message, list) => {
    const bytes = new Uint8Array([0, ...new Uint8Array(new Float64Array(list.flat()).buffer)]);
    receive({now: null, gaps: [], text: "", ...message}, [new DataView(bytes.buffer, 1)]); // at any address
  };
  window.shown = () => host.querySelector(".srt-chart").chart.readout();
}"""


async def test_the_kernel_s_messages_are_drawn_and_a_lost_one_is_asked_for(browser, static_url):
    page = await browser.new_page()
    await page.goto(static_url)
    await page.evaluate(RENDER, ChartWidget._esm)
    assert await page.evaluate("asked") == 1
    assert await page.evaluate("Number.isNaN(shown().to)")
    await page.evaluate(
        """([t]) => {
          tell({op: "rows", seq: 4}, [[t, 0, 1]]); // of before this view
          tell({op: "reset", seq: 5, now: t + 20, lanes: ["Ada"], span: [t, null]}, [[t, 0, 0], [t + 9, 0, 1]]);
          tell({op: "rows", seq: 6, now: t + 30, gaps: [[t + 25, t + 26, "gap"]]}, [[t + 28, 0, 0]]);
        }""",
        [T0],
    )
    shown = await page.evaluate("shown()")
    assert (shown["from"], shown["to"]) == (T0, T0 + 30)
    assert [(span["state"], span["from"] - T0) for span in shown["lanes"][0]["spans"]] == [
        ("idle", 0),
        ("busy", 9),
        (None, 25),
        ("idle", 28),
    ]
    await page.evaluate("([t]) => { tell({op: 'rows', seq: 8, now: t + 40, span: null}, [[t + 35, 0, 1]]); }", [T0])
    assert (await page.evaluate("shown()"))["to"] == T0 + 30  # 7 is missing
    await page.evaluate("([t]) => tell({op: 'reset', seq: 9, now: t + 50, text: 'Ended'}, [[t, 0, 1]])", [T0])
    shown = await page.evaluate("shown()")
    assert (shown["from"], shown["to"]) == (T0 - 10, T0 + 50)
    assert [(span["state"], span["from"] - T0) for span in shown["lanes"][0]["spans"]] == [("busy", 0)]
    assert await page.locator(".srt-ended").count() == 1
    # Other options make another chart, which begins with a reset.
    await page.evaluate("([t]) => { change(); tell({op: 'rows', seq: 10, now: t + 60}, [[t + 55, 0, 0]]); }", [T0])
    assert await page.evaluate("Number.isNaN(shown().to)")
    await page.evaluate("([t]) => tell({op: 'reset', seq: 11, now: t + 60}, [[t, 0, 1]])", [T0])
    assert (await page.evaluate("shown()"))["to"] == T0 + 60
    assert await page.locator(".srt-chart").count() == 1
    await page.evaluate("close()")
    assert await page.evaluate("[receive, change]") == [None, None]
    assert await page.locator(".srt-chart").count() == 0
