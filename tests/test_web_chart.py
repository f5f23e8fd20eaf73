"""`chart.js` in a real Chromium: what it draws, as pixels and by its own readout."""

from __future__ import annotations

import itertools
import json

import pytest
from charting import MINUS, SETUP, T0, WEB, at, charts, serving_web

from syndarix_rt.events import CATALOGUE

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def static_url():
    with serving_web() as url:
        yield url


@pytest.fixture
async def open_chart(browser, static_url):
    async with charts(browser, static_url) as open_chart:
        yield open_chart


async def test_the_readout_is_what_was_pushed_with_later_rows_replacing_earlier_ones(open_chart):
    page = await open_chart()
    await page.evaluate("([t]) => chart.push(rows([[t, 1, 2], [t + 1, 3, 4]]), t + 1.5)", [T0])
    await page.evaluate("([t]) => chart.push(rows([[t + 1, 5, 4], [t + 2, 0, 1]]), t + 2.5)", [T0])
    readout = await page.evaluate("chart.readout()")
    assert readout["series"] == [
        {"name": "a", "visible": True, "points": [[T0, 1], [T0 + 1, 5], [T0 + 2, 0]]},
        {"name": "b", "visible": True, "points": [[T0, 2], [T0 + 1, 4], [T0 + 2, 1]]},
    ]
    assert (readout["from"], readout["to"], readout["live"]) == (T0 + 3 - 60, T0 + 3, True)


async def test_rows_out_of_the_window_are_not_drawn_and_only_so_many_are_kept(open_chart):
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


async def test_a_late_row_goes_to_its_place(open_chart):
    page = await open_chart(capacity=4)
    await page.evaluate("([t]) => chart.push(rows([[t + 5, 5, 0], [t + 9, 9, 0], [t + 7, 7, 0], [t + 3, 3, 0]]))", [T0])
    assert [t - T0 for t, _ in (await page.evaluate("chart.readout()"))["series"][0]["points"]] == [3, 5, 7, 9]
    await page.evaluate("([t]) => chart.push(rows([[t + 1, 1, 0], [t + 8, 8, 0], [null, 4, 4]]))", [T0])
    readout = await page.evaluate("chart.readout()")
    assert readout["series"][0]["points"] == [[T0 + n, n] for n in (5, 7, 8, 9)]  # of which there is room for four


async def test_bars_are_stacked_from_the_baseline_and_hidden_series_leave_no_hole(open_chart):
    page = await open_chart()
    await page.evaluate("([t]) => chart.push(steady(t, 60, 3, 1), t + 60)", [T0])
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
        open_bin = kind != "bars"  # half a bin would look like a fall, so no line goes there
        assert len(readout["series"][0]["points"]) == 50 - open_bin
        declared = [{"from": T0 + 30, "to": T0 + 40, "label": "gap: 7 missed"}]
        assert readout["gaps"] == (declared if hole == "declared" else [])


async def test_a_burn_up_shows_the_whole_sprint_with_its_plan_ahead_of_now(open_chart):
    series = [{"name": "done", "color": "rgb(255, 0, 0)"}, {"name": "ideal", "color": "rgb(0, 0, 255)", "dash": True}]
    page = await open_chart("lines", series=series)
    await page.evaluate(
        """([t]) => {
          chart.span(t, t + 60);
          chart.push(rows(Array.from({length: 61}, (_, n) => [t + n, n < 30 ? n / 4 : null, n / 3])), t + 30);
        }""",
        [T0],
    )
    await page.evaluate("painted()")
    found = await page.evaluate("colors()")
    assert at(29) < max(found["red"]["columns"]) < at(31)  # done so far
    assert max(found["blue"]["columns"]) > at(58)
    steps = at(60) - at(0)
    assert 0.4 * steps < len(found["blue"]["columns"]) / 772 < 0.85 * steps  # dashed
    readout = await page.evaluate("chart.readout()")
    assert (readout["from"], readout["to"]) == (T0, T0 + 60)
    await page.evaluate("([t]) => { chart.span(t - 100); chart.push(rows([]), t + 89.5); }", [T0])
    readout = await page.evaluate("chart.readout()")
    assert (readout["from"], readout["to"]) == (T0 - 100, T0 + 90)
    await page.evaluate("chart.span()")
    readout = await page.evaluate("chart.readout()")
    assert (readout["from"], readout["to"]) == (T0 + 30, T0 + 90)


async def test_values_below_zero_are_lines_below_the_baseline_and_endless_ones_are_unknown(open_chart):
    page = await open_chart("lines")
    values = "[[t, -5, 1e308], [t + 1, -5, Infinity], [t + 2, null, -1e308], [t + 3, 2.5e-13, 1e-320]]"
    await page.evaluate(f"([t]) => chart.push(new Float64Array({values}.flat()), t + 59)", [T0])
    series = (await page.evaluate("chart.readout()"))["series"]
    assert series[0]["points"] == [[T0, -5], [T0 + 1, -5], [T0 + 2, 0], [T0 + 3, 2.5e-13]]  # null is 0 in a typed array
    assert [[t - T0, v] for t, v in series[1]["points"]] == [[0, 1e300], [2, -1e300], [3, 1e-320]]
    await page.evaluate("painted()")
    page = await open_chart()
    await page.evaluate("([t]) => chart.push(steady(t, 60, -3, 1), t + 60)", [T0])
    await page.evaluate("painted()")
    found = await page.evaluate("colors()")
    assert found["red"]["pixels"] == 0  # nothing of a stack is below zero
    assert found["blue"]["pixels"] > 0


async def test_lanes_are_in_a_state_until_the_next_row_and_after_a_gap_in_none(open_chart):
    page = await open_chart("lanes")
    await page.evaluate(
        """([t]) => {
          chart.lanes(["Ada", "Bob", "Cleo"]);
          chart.push(rows([[t - 100, 0, 1], [t + 10, 0, 0], [t + 5, 1, 0], [t + 9, 1, -1], [t + 12, 1, 1]]), t + 40);
          chart.gap(t + 20, t + 25, "gap: 3 missed");
          chart.gap(t + 5, t + 5, "gap: unknown"); // a log that begins anew, at its first event: nothing is hidden
          chart.push(rows([[t + 30, 0, 1], [t + 5, 7, 1]]), t + 40);
        }""",
        [T0],
    )
    readout = await page.evaluate("chart.readout()")
    spans = {
        lane["name"]: [(span["state"], span["from"] - T0, span["to"] - T0) for span in lane["spans"]]
        for lane in readout["lanes"]
    }
    assert spans == {
        "Ada": [("b", -20, 5), (None, 5, 10), ("a", 10, 20), (None, 20, 30), ("b", 30, 40)],
        "Bob": [("a", 5, 9), (None, 9, 12), ("b", 12, 20), (None, 20, 40)],
        "Cleo": [],
    }
    await page.evaluate("painted()")
    width = await page.evaluate("document.querySelector('canvas').clientWidth")
    plot = await page.evaluate("document.querySelector('canvas').getContext('2d').measureText('Cleo').width")
    left = 10 + int(plot + 0.999)

    def column(seconds):
        return (left + (width - 10 - left) * (seconds + 20) / 60) / width

    found = await page.evaluate("colors()")
    for color in ("red", "blue"):
        assert not [x for x in found[color]["columns"] if column(20.5) < x < column(29.5)]
    assert min(found["red"]["columns"]) > column(4.5)
    assert max(found["red"]["columns"]) < column(20.5)
    assert max(found["blue"]["columns"]) > column(39)

    await page.get_by_role("button", name="b", exact=True).click()
    readout = await page.evaluate("chart.readout()")
    assert [span["state"] for span in readout["lanes"][0]["spans"]] == [None, "a", None]
    await page.evaluate("painted()")
    assert (await page.evaluate("colors()"))["blue"]["pixels"] == 0


async def test_lanes_come_while_it_runs_and_what_is_too_much_is_told_not_kept(open_chart):
    page = await open_chart("lanes", capacity=16)
    height = "document.querySelector('canvas').clientHeight"
    await page.evaluate(
        "([t]) => { chart.lanes(['x', 'y', 'z']); chart.push(rows([[t, 0, 0]]), t); chart.readout(); }", [T0]
    )
    low = await page.evaluate(height)
    await page.evaluate(
        """([t]) => {
          chart.lanes(Array.from({length: 50}, (_, i) => `lane ${i}`));
          chart.push(rows(Array.from({length: 50}, (_, i) => [t + 1, i, 1])), t + 2);
          for (let n = 0; n < 1000; n += 1) chart.push(rows([[t + 2 + n / 100, 1, n % 2]]), t + 12);
        }""",
        [T0],
    )
    lanes = (await page.evaluate("chart.readout()"))["lanes"]
    assert [lane["name"] for lane in lanes] == [f"lane {n}" for n in range(40)]
    assert lanes[39]["spans"] == [{"state": "b", "from": T0 + 1, "to": T0 + 12}]
    assert lanes[1]["spans"][0]["state"] is None  # what was before the oldest row that is kept
    assert len(lanes[1]["spans"]) == 17
    assert low < await page.evaluate(height) < 800


async def test_what_is_shorter_than_a_pixel_is_still_seen(open_chart):
    page = await open_chart("lanes")
    await page.evaluate(
        "([t]) => { chart.lanes(['x']); chart.push(rows([[t, 0, 1], [t + 30, 0, 0], [t + 30.001, 0, 1]]), t + 60); }",
        [T0],
    )
    await page.evaluate("painted()")
    found = await page.evaluate("colors()")
    assert len(found["red"]["columns"]) == 1
    assert found["blue"]["pixels"] > 100 * found["red"]["pixels"]


# ---- sizes and times ----------------------------------------------------------------------------------------------


async def test_it_fits_any_width_and_pixel_ratio(open_chart):
    page = await open_chart(context={"device_scale_factor": 2})
    await page.evaluate("([t]) => chart.push(rows([[t, 1, 2]]), t + 1)", [T0])
    await page.evaluate("painted()")
    size = "[document.querySelector('canvas').width, document.querySelector('canvas').clientWidth]"
    pixels, css = await page.evaluate(size)
    assert pixels == 2 * css
    await page.set_viewport_size({"width": 500, "height": 400})
    await page.wait_for_function(f"() => {{ const [w, css] = {size}; return css < 500 && w === 2 * css; }}")
    devtools = await page.context.new_cdp_session(page)
    other_screen = {"width": 500, "height": 401, "deviceScaleFactor": 3, "mobile": False}
    await devtools.send("Emulation.setDeviceMetricsOverride", other_screen)
    await page.wait_for_function(f"() => {{ const [w, css] = {size}; return w === 3 * css; }}")

    await page.evaluate("document.querySelector('figure').parentNode.style.display = 'none'")
    await page.evaluate("([t]) => { chart.push(rows([[t + 1, 4, 2]]), t + 2); }", [T0])
    assert (await page.evaluate("chart.readout()"))["series"][0]["points"] == [[T0, 1], [T0 + 1, 4]]
    for width in ("0", "3px", "40px", "100%"):
        style = f"document.querySelector('figure').parentNode.style = 'width: {width}'"
        await page.evaluate(f"async () => {{ {style}; await painted(); }}")
    await page.wait_for_function(f"() => {{ const [w, css] = {size}; return css > 300 && w === 3 * css; }}")


async def test_names_are_text_and_never_wider_than_the_page(open_chart):
    hostile = "<img src=x onerror=\"document.title='broken in'\"> " + "long " * 60
    for kind in ("bars", "lanes"):
        page = await open_chart(kind, width=360, title=hostile, series=[{"name": f"{n} {hostile}"} for n in range(12)])
        await page.evaluate(
            """([t, hostile]) => {
              chart.lanes(Array.from({length: 12}, () => hostile));
              chart.push(rows([[t, ...Array(12).fill(1)]]), t + 1);
              chart.gap(t - 9, t - 5, hostile);
              chart.end(hostile);
            }""",
            [T0, hostile],
        )
        await page.locator("canvas").hover()
        await page.evaluate("painted()")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        assert await page.locator("img").count() == 0
        assert await page.title() == ""


async def test_times_are_those_of_the_zone_of_utc_or_of_a_simulation(open_chart):
    page = await open_chart(context={"timezone_id": "Asia/Kolkata"})
    told = await page.evaluate(
        """async ([t]) => {
          const {Clock, formatDuration, formatValue, valueTicks} = await import("./chart-axes.js");
          const kinds = [["wall"], ["utc"], ["simulated", t - 2 * 86400], ["simulated"]];
          const clocks = kinds.map(([kind, startS]) => new Clock(kind, startS));
          return {
            full: clocks.map((clock) => clock.full(t)),
            zone: clocks.map((clock) => clock.zone(t)),
            days: clocks.map((clock) => {
              const {step, times} = clock.ticks(t - 6 * 86400, t, 7);
              return times.slice(-2).map((at) => clock.label(at, step));
            }),
            sprint: clocks[2].ticks(t - 2 * 86400, t + 12 * 86400, 5).times.map((at) => clocks[2].label(at, 86400)),
            fine: clocks[1].ticks(t, t + 1, 5).times.map((at) => clocks[1].label(at, 0.2)),
            values: [0, 1234.5, 98765, 1.5e6, -2e9, 3e12, 1e300, 1e-7].map(formatValue),
            durations: [0.25, 4.23, 59, 61, 3600, 7300, 200000].map(formatDuration),
            ticks: [valueTicks(0, 9, 4), valueTicks(-3, 9, 5)],
          };
        }""",
        [T0],
    )
    assert told == {
        "full": ["03:56:40", "22:26:40", "day 3 22:26:40", "11-22 22:26:40"],
        "zone": ["UTC+05:30", "UTC", "simulated time", "simulated time"],
        "days": [["11-22", "11-23"], ["11-21", "11-22"], ["day 2", "day 3"], ["11-21", "11-22"]],
        "sprint": ["day 4", "day 7", "day 10", "day 13"],  # counted from day 1
        "fine": ["22:26:40.0", "22:26:40.2", "22:26:40.4", "22:26:40.6", "22:26:40.8", "22:26:41.0"],
        "values": ["0", "1235", "98.77 k", "1.5 M", f"{MINUS}2 G", "3 T", "1.0e300", f"1e{MINUS}7"],
        "durations": ["250 ms", "4.2 s", "59 s", "1 min 1 s", "1 h", "2 h 1 min", "2 d 7 h"],
        "ticks": [[0, 5, 10], [-5, 0, 5, 10]],
    }


async def test_it_ends_begins_anew_and_is_destroyed_without_a_trace(open_chart):
    page = await open_chart()
    await page.evaluate("([t]) => { chart.push(rows([[t, 1, 2]]), t + 1); chart.end('Ended at 12:00'); }", [T0])
    assert await page.locator(".srt-chart.srt-ended").count() == 1
    await page.evaluate("painted()")
    assert await page.locator(".srt-note").inner_text() == "Ended at 12:00"
    await page.evaluate(
        """([t]) => {
          chart.reset({rows: rows([[t - 9000, 0, 8]]), gaps: [[t - 9005, t - 9002, "gap"]]});
        }""",
        [T0],
    )
    readout = await page.evaluate("chart.readout()")
    assert [line["points"] for line in readout["series"]] == [[[T0 - 9000, 0]], [[T0 - 9000, 8]]]
    assert len(readout["gaps"]) == 1
    assert await page.locator(".srt-legend .srt-unseen").all_inner_texts() == ["a"]
    assert await page.locator(".srt-ended").count() == 0

    # Nothing on the page holds what was destroyed: no observer, no listener, no timer.
    await page.locator("canvas").hover()
    await page.evaluate("painted()")
    await page.evaluate(
        """([t]) => {
          window.gone = new WeakRef(document.querySelector(".srt-chart"));
          chart.push(rows([[t, 2, 1]]));
          chart.destroy();
          chart = null;
        }""",
        [T0],
    )
    assert await page.locator(".srt-chart").count() == 0
    await page.set_viewport_size({"width": 500, "height": 400})
    await page.mouse.move(1, 1)
    await page.evaluate("painted()")
    await page.request_gc()
    assert await page.evaluate("gone.deref() === undefined")


def test_every_catalogue_type_has_a_colour_of_its_own():
    types = json.loads((WEB / "types.json").read_text())
    listed = {line["name"]: line["category"] for line in types}
    assert listed.pop("custom types") is None
    assert listed == {name: line.category for name, line in CATALOGUE.items()}
    assert len({line["color"] for line in types}) == len(types)
