"""Still pictures, and the panels that are no charts: what they send, and what a browser makes of it."""

from __future__ import annotations

import json
import math
import re
import time
import xml.etree.ElementTree as ET
from concurrent.futures import Future
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import pytest_asyncio
from playwright.async_api import expect

from syndarix_rt.client import StreamState
from syndarix_rt.delivery import Gap, Ledger, RunState
from syndarix_rt.delivery.ledger import LATENCY_STEPS_MS
from syndarix_rt.errors import SyndarixError
from syndarix_rt.events import Event, EventId
from syndarix_rt.notebook import control
from syndarix_rt.notebook.approvals import ApprovalsWidget
from syndarix_rt.notebook.connection import ConnectionWidget, StatusWidget, connection, facts
from syndarix_rt.notebook.control import Controls, ControlWidget
from syndarix_rt.notebook.dashboard import PANELS
from syndarix_rt.notebook.feed import Loss
from syndarix_rt.notebook.log_widget import LogWidget
from syndarix_rt.notebook.panels.catalogue import CHARTS, Axis, make_chart
from syndarix_rt.notebook.panels.inbox import ApprovalInbox
from syndarix_rt.notebook.panels.log import EventLog
from syndarix_rt.notebook.steering import Asked
from syndarix_rt.notebook.still import Still, draw_chart
from syndarix_rt.notebook.store import Store
from syndarix_rt.notebook.words import duration, plural

T0 = 1_795_386_400
SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<img src=x onerror=\"document.title='hacked'\">"


def seen(kind, data, seconds=0.0, **attributes):
    time = datetime.fromtimestamp(T0 + seconds, UTC)
    return Event.new(kind, data, project="apollo", id="event", time=time, **attributes)


def chart_of(name, events, axis=Axis(simulated=False, window_s=60)):  # noqa: B008 - it is never changed
    chart = make_chart(name, axis)
    for event in events:
        if chart.model.types is None or event.type in chart.model.types:
            chart.model.see(event, event.time.timestamp())
    return chart


def texts(svg):
    return [node.text for node in ET.fromstring(svg).iter(f"{SVG}text")]


def subpaths(svg):
    """Of each series: how many pieces it is drawn in."""
    paths = ET.fromstring(svg).iter(f"{SVG}path")
    return [path.get("d").count("M") for path in paths if path.get("class") == "srt-series"]


# ---- still pictures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHARTS)
def test_a_picture_of_nothing_says_so(name):
    chart = chart_of(name, [])
    for now_s in (T0, math.nan):
        assert chart.options["empty"] in texts(draw_chart(chart, now_s))


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
@pytest.mark.parametrize("name", CHARTS)
def test_a_picture_can_be_drawn_of_the_first_and_of_the_last_time_there_is(name, when):
    time = datetime.fromisoformat(when)
    sprint = {"sprint_id": "S-1", "number": 1, "issues_planned": 3, "duration_s": 1e12}
    began = Event.new("sprint_started", sprint, project="apollo", id="event", time=time)
    made = Event.new("issue_created", {"issue_id": "I-1", "title": "late"}, project="apollo", id="event", time=time)
    chart = chart_of(name, [began, made], Axis(simulated=True, window_s=7200))
    assert chart.options["title"] in texts(draw_chart(chart, time.timestamp()))


def test_a_picture_has_a_title_units_times_and_a_legend_of_what_was_seen():
    chart = chart_of("events", [seen("my_event", {}, n) for n in (1, 1, 2)])
    said = texts(draw_chart(chart, T0 + 3))
    assert said[:2] == ["Events by type", "events/s"]
    assert [text for text in said if re.fullmatch(r"\d\d:\d\d(:\d\d)?", text)]
    assert said[-1] == "custom types"
    assert "2" in said
    assert any(re.fullmatch(r"UTC([+-]\d\d:\d\d)?", text) for text in said)


def test_days_of_simulated_time_are_counted_once_it_is_known_when_they_began():
    def picture(start_s):
        chart = chart_of("events", [seen("my_event", {}, 1)], Axis(simulated=True, window_s=7200))
        chart.model.start_s = start_s
        return texts(draw_chart(chart, T0 + 3))

    date = f"{datetime.fromtimestamp(T0 + 3, UTC):%m-%d}"
    assert any(text.startswith(date) for text in picture(None))
    assert "simulated time" in picture(None)
    assert any(re.fullmatch(r"day 3( \d\d:\d\d)?", text) for text in picture(T0 - 2 * 86_400))


@pytest.mark.parametrize("name", ["git", "issues"])
def test_a_line_is_as_straight_as_in_the_live_chart(name):
    """Between the middles of two bins, where the live chart has it, and not in steps."""
    events = [seen("commit_pushed", {"branch": "b", "commit": str(n)}, n) for n in range(3)]
    events += [seen("issue_created", {"issue_id": str(n)}, n) for n in range(3)]
    svg = draw_chart(
        chart_of(name, [event for event in events if event.type != "commit_pushed" or name == "git"]), T0 + 2
    )
    path = next(node for node in ET.fromstring(svg).iter(f"{SVG}path") if node.get("class") == "srt-series")
    points = [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path.get("d"))]
    assert len({x for x, _ in points}) == 3
    (x0, y0), (x1, y1), (x2, y2) = points[:3]
    assert (x1 - x0, y0 - y1) == pytest.approx((x2 - x1, y1 - y2), abs=0.2)
    assert y0 > y1 > y2


def test_a_line_is_broken_where_a_gap_is_and_the_gap_is_drawn():
    def commit(number, seconds):
        return seen("commit_pushed", {"branch": "b", "commit": str(number)}, seconds)

    chart = chart_of("git", [commit(1, 0.5), commit(2, 5.5)])
    assert subpaths(draw_chart(chart, T0 + 6)) == [1]
    chart.model.gap(T0 + 20, "gap: 1,234 missed")
    chart.model.see(commit(3, 30.5), T0 + 30.5)
    svg = draw_chart(chart, T0 + 31)
    assert subpaths(svg) == [2]
    (gap,) = [node for node in ET.fromstring(svg).iter(f"{SVG}rect") if node.get("class") == "srt-gap"]
    assert 0.2 < float(gap.get("width")) / 548 < 0.3  # 14.5 s of 60
    assert "gap: 1,234 missed" in texts(svg)


@pytest.mark.parametrize("part", [0.05, 0.25, 0.45, 0.55, 0.75, 0.95])
def test_a_gap_too_short_to_be_seen_is_drawn_where_the_line_is_broken(part):
    """Wherever it is in its bin: made wider to one side only it lay over a line that goes on."""

    def commit(number, seconds):
        return seen("commit_pushed", {"branch": "b", "commit": str(number)}, seconds)

    chart = chart_of("git", [commit(number, number + 0.01) for number in range(30)])
    chart.model.see(commit(30, 30 + part), T0 + 30 + part)
    chart.model.gap(T0 + 30 + part + 0.01, "gap: unknown")
    for number in range(31, 60):
        chart.model.see(commit(number, number + 0.01), T0 + number + 0.01)
    root = ET.fromstring(draw_chart(chart, T0 + 60))
    (gap,) = [node for node in root.iter(f"{SVG}rect") if node.get("class") == "srt-gap"]
    left = float(gap.get("x"))
    paths = [node.get("d") for node in root.iter(f"{SVG}path") if node.get("class") == "srt-series"]
    pieces = [[float(x) for x in re.findall(r"[ML]?([\d.]+) ", piece)] for d in paths for piece in d.split("M")[1:]]
    assert len(pieces) > len(paths)
    middle = left + float(gap.get("width")) / 2
    assert not any(xs[0] + 0.2 < middle < xs[-1] - 0.2 for xs in pieces)


def test_bars_have_the_heights_of_their_values():
    chart = chart_of("events", [seen("my_event", {}, n) for n in (1, 1, 1, 1, 2)])
    (path,) = [node for node in ET.fromstring(draw_chart(chart, T0 + 3)).iter(f"{SVG}path") if node.get("class")]
    boxes = re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)", path.get("d"))
    heights = [float(low) - float(high) for low, high in boxes]
    assert heights[0] == pytest.approx(4 * heights[1], abs=0.3)


def test_the_text_of_a_picture_tells_what_was_known_last_and_no_plan():
    begin = seen("sprint_started", {"sprint_id": "S-1", "number": 1, "issues_planned": 4, "duration_s": 3600})
    closed = seen("issue_closed", {"issue_id": "I-1", "resolution": "done", "sprint_id": "S-1"}, 1800)
    chart = chart_of("sprint", [begin, closed], Axis(simulated=True, window_s=7200))
    assert chart.model.rows()[-1, 0] > T0 + 1800, "the plan goes on"
    (said,) = [node.text for node in ET.fromstring(draw_chart(chart, T0 + 1800)).iter(f"{SVG}desc")]
    assert said == "issues by scope, ideal, closed. Last: scope 4, ideal 2, closed 1."


def test_lanes_are_drawn_with_their_names_up_to_now():
    who = {"run_id": "R", "agent_id": "developer-1-of-a-very-long-name-7", "role": "developer"}
    svg = draw_chart(chart_of("agents", [seen("agent_started", who, 0)]), T0 + 30)
    assert "developer-…e-7" in texts(svg)
    (path,) = [node for node in ET.fromstring(svg).iter(f"{SVG}path") if node.get("class") == "srt-series"]
    left, right = re.search(r"M([\d.]+) .*H([\d.]+)V", path.get("d")).groups()
    assert float(right) - float(left) == pytest.approx((620 - 104 - 14) / 2, abs=1)


def test_a_page_holds_one_picture_for_each_chart_and_no_markup_of_others():
    pictures = {name: draw_chart(chart_of(name, []), T0) for name in CHARTS}
    still = Still(pictures, NASTY, "as of now")
    root = ET.fromstring(still.svg)
    assert sum(node.get("class") == "srt-still" for node in root.iter(f"{SVG}svg")) == len(CHARTS)
    assert f"Project {NASTY}" in texts(still.svg)
    assert set(still.bundle()) == {"image/svg+xml", "text/plain"}
    assert repr(still) == f"<Still of {len(CHARTS)} charts>"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")],
)
def test_a_duration_is_told_in_two_units_at_most(seconds, words):
    assert duration(seconds) == words
    assert [plural(1, "gap"), plural(2000, "gap")] == ["1 gap", "2,000 gaps"]


# ---- what panels send ---------------------------------------------------------------------------------------------


def recording(kind):
    class Recording(kind):
        def __init__(self, *args, **kwargs):
            self.sent = []
            super().__init__(*args, **kwargs)

        def send(self, content, buffers=None):
            assert buffers is None
            self.sent.append(json.loads(json.dumps(content)))

        def taken(self):
            sent, self.sent = self.sent, []
            return sent

        def view(self, **content):
            self._handle_custom_msg(content, [])

    return Recording


def feed_of(state=StreamState.OPEN, **more):
    feed = SimpleNamespace(
        ledger=Ledger(), position=EventId("epoch-one", 7), state=state, reason="", store=Store(), losses=[]
    )
    feed.__dict__.update(more)
    return feed


@pytest.mark.parametrize(("delay_s", "words"), [(0.004, "≤ 5 ms"), (90, "over 60 s")])
def test_delays_are_told_in_words_however_long(delay_s, words):
    ledger = Ledger()
    steps = ledger.latency_counts
    steps[next((n for n, step in enumerate(LATENCY_STEPS_MS) if delay_s * 1000 <= step), len(steps) - 1)] += 1
    feed = feed_of(ledger=ledger)
    assert f"median delay {words}" in facts(feed)
    assert ("median delay", words, "") in connection(feed)["figures"]


def test_a_panel_sends_what_changed_and_everything_to_a_view_that_asks():
    log = EventLog()
    widget = recording(LogWidget)(log, simulated=False)
    widget.push(0)
    log.see(seen("my_event", {"n": 1}), T0)
    log.see(seen("my_event", {"n": 2}), T0)
    widget.push(0.1)  # too early to be read
    widget.push(1)
    widget.push(2)
    first, second = widget.taken()
    assert (first["op"], first["seq"], first["lines"]) == ("reset", 1, [])
    assert (second["op"], second["seq"], [line[5] for line in second["lines"]]) == (
        *("news", 2),
        [[["n", "2"]], [["n", "1"]]],
    )
    assert second["filters"][-2:] == ["custom", "my_event"]
    widget.view(op="ready")
    widget.push(2.1)
    (again,) = widget.taken()
    assert (again["op"], again["seq"], len(again["lines"])) == ("reset", 3, 2)
    widget.end(3, "Ended 12:00")
    widget.push(4)
    widget.view(op="ready")
    assert [(message["op"], message["ended"]) for message in widget.taken()] == [("reset", "Ended 12:00")] * 2
    assert repr(widget) == "<Recording 'Event log'>"


def test_what_is_too_much_to_be_read_is_counted():
    log = EventLog()
    widget = recording(LogWidget)(log, simulated=False)
    widget.push(0)
    for n in range(500):
        log.see(seen("my_event", {"n": n}), T0)
    widget.push(1)
    assert [(len(message["lines"]), message["skipped"]) for message in widget.taken()] == [(0, 0), (60, 440)]


def test_a_view_filters_and_asks_for_details():
    log = EventLog()
    widget = recording(LogWidget)(log, simulated=False)
    log.see(seen("my_event", {"text": NASTY}), T0)
    log.see(seen("issue_created", {"issue_id": "I-1"}), T0)
    widget.view(op="filter", type="project", text="i-1")
    widget.view(op="details", number=1)
    widget.view(op="details", number="1")
    widget.push(0)
    details, whole = widget.taken()
    assert json.loads(details["text"])["data"] == {"text": NASTY}
    assert [line[2] for line in whole["lines"]] == ["issue_created"]
    assert (whole["type"], whole["text"]) == ("project", "i-1")


def test_the_connection_tells_how_the_stream_stands_and_what_to_do():
    gap = Gap("trimmed", "epoch-one.3", 9, 20, 5)
    feed = feed_of(StreamState.WAITING, reason="the server is away", losses=[Loss(gap, 3, T0)])
    feed.ledger.gap(gap)
    widget = recording(ConnectionWidget)(feed)
    widget.push(0)
    widget.push(0.1)
    widget.push(1)  # nothing has changed
    (told,) = widget.taken()
    assert (told["word"], told["level"], told["reason"]) == ("reconnecting", "warn", "the server is away")
    assert "goes on where it was" in told["advice"]
    assert ["gaps", "1", "warn"] in told["figures"]
    assert told["gaps"][0].endswith("5 events missed: the server kept less than was missed")
    feed.state = StreamState.CLOSED
    widget.push(2)
    assert "Run the cell" in widget.taken()[0]["advice"]


def test_the_status_is_one_line():
    chosen = []
    widget = recording(StatusWidget)(feed_of(), lambda: "demo_small plays", lambda: "wall", chosen.append)
    widget.push(0)
    told = widget.taken()[0]
    assert told["line"] == "live · 0 events received · position 7 · 0 gaps · 0 reconnects · demo_small plays"
    assert told["axis"] == "wall"
    widget.view(op="axis", value="lunar")
    widget.view(op="axis", value="simulated")
    assert chosen == ["simulated"]
    widget.end(1, "Ended 12:00")
    assert widget.taken()[0]["line"].startswith("Ended 12:00 · ")


def test_an_approval_is_decided_once_and_only_if_it_waits():
    inbox, decided = ApprovalInbox(), []
    newest = datetime.fromtimestamp(T0 + 200, UTC)
    widget = recording(ApprovalsWidget)(inbox, lambda *what: decided.append(what), lambda: newest)
    ask = {"approval_id": "A-1", "title": NASTY, "kind": "merge", "pr_id": "PR-1"}
    inbox.see(seen("approval_required", ask, simulation="sim"), T0)
    widget.push(T0)
    (told,) = widget.taken()[0]["pending"]
    assert (told["title"], told["about"], told["waited"]) == (NASTY, "PR-1", "3 min 20 s of simulated time")
    for message in ({"approval": "A-9", "decision": "approved"}, {"approval": "A-1", "decision": "maybe"}):
        widget.view(op="decide", **message)
    widget.view(op="decide", approval="A-1", decision="rejected")
    assert decided == [("A-1", "rejected")]
    inbox.see(seen("approval_resolved", {"approval_id": "A-1", "decision": "rejected"}), T0)
    widget.push(T0 + 0.1)
    assert widget.taken()[0]["pending"] == []


# ---- in a browser -------------------------------------------------------------------------------------------------

MODEL = """
window.sent = [];
window.show = async (esm, css, options) => {
  document.body.innerHTML = `<style>${css}</style><div id="here"></div>`;
  const url = URL.createObjectURL(new Blob([esm], {type: "text/javascript"}));
  const {default: {render}} = await import(url);
  const model = {
    get: () => options,
    send: (message) => sent.push(message),
    on: (name, act) => { if (name === "msg:custom") window.receive = act; },
    off: () => { window.receive = null; },
  };
  window.stop = render({model, el: document.getElementById("here")});
};
"""


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser):
    page = await browser.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    await page.add_init_script(MODEL)
    await page.goto("about:blank")
    yield page
    assert page.problems == []
    assert await page.title() != "hacked"
    assert await page.locator("img").count() == 0
    await page.close()


async def shown(page, widget):
    texts_ = [widget._esm, widget._css, widget.options]
    await page.evaluate("([esm, css, options]) => show(esm, css, options)", texts_)
    for message in widget.taken():
        await page.evaluate("(message) => receive(message)", message)


async def receives(page, widget):
    for message in widget.taken():
        await page.evaluate("(message) => receive(message)", message)


@pytest.mark.browser
async def test_in_a_browser_the_log_shows_text_as_text_and_opens_details_by_keyboard(page):
    log = EventLog()
    widget = recording(LogWidget)(log, simulated=False)
    log.see(seen("my_event", {"text": NASTY}, subject=NASTY), T0)
    log.see(seen("issue_created", {"issue_id": "I-1"}), T0)
    log.gap(T0, "gap: 3 missed")
    widget.push(0)
    await shown(page, widget)
    rows = page.locator("tbody tr")
    assert await rows.count() == 3
    assert "gap: 3 missed" in await rows.nth(0).inner_text()
    assert NASTY in await rows.nth(2).inner_text()
    await rows.nth(1).focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    assert await page.evaluate("sent.at(-1)") == {"op": "details", "number": 1}
    widget.view(op="details", number=1)
    log.see(seen("my_event", {"n": 7}), T0)
    widget.push(1)
    await receives(page, widget)
    assert json.dumps(NASTY) in await page.locator(".srt-detail pre").inner_text()
    assert await page.locator(".srt-fresh").inner_text() == "1 new ↑"  # who reads is not disturbed
    await page.keyboard.press("Escape")
    assert await rows.count() == 3, "who reads by keyboard is not disturbed"
    await page.locator(".srt-fresh").focus()
    await page.keyboard.press("Enter")
    assert await rows.count() == 4
    focused = "document.activeElement.dataset.number"
    assert await page.evaluate(focused) == "4"
    assert await page.locator("tr[tabindex='0']").count() == 1, "one line is where the Tab key leads to"
    log.see(seen("my_event", {"n": 8}), T0)
    widget.push(2)
    await receives(page, widget)
    await page.keyboard.press("ArrowDown")
    assert (await rows.count(), await page.evaluate(focused)) == (4, "3")
    await page.keyboard.press("Tab")
    await page.wait_for_function("() => document.querySelectorAll('tbody tr').length === 5")
    await page.locator("select").select_option("project")
    await page.locator("input").fill("i-1")
    await page.wait_for_function("sent.at(-1).text === 'i-1'")
    assert await page.evaluate("sent.at(-1)") == {"op": "filter", "type": "project", "text": "i-1"}


@pytest.mark.browser
async def test_in_a_browser_a_view_that_missed_a_message_asks_for_everything(page):
    log = EventLog()
    widget = recording(LogWidget)(log, simulated=False)
    widget.push(0)
    await shown(page, widget)
    log.see(seen("my_event", {"n": 1}), T0)
    widget.push(1)
    widget.taken()  # lost on the way
    log.see(seen("my_event", {"n": 2}), T0)
    widget.push(2)
    await page.wait_for_timeout(1100)  # it asks at most once a second
    await receives(page, widget)
    assert await page.evaluate("sent.at(-1)") == {"op": "ready"}
    widget.view(op="ready")
    widget.push(3)
    await receives(page, widget)
    assert await page.locator("tbody tr").count() == 2


@pytest.mark.browser
async def test_in_a_browser_an_approval_is_decided_by_a_button_that_then_waits_for_the_event(page):
    inbox = ApprovalInbox()
    widget = recording(ApprovalsWidget)(inbox, lambda *_: None, lambda: None)
    for number, title in ((1, NASTY), (2, "second")):
        inbox.see(seen("approval_required", {"approval_id": f"A-{number}", "title": title}, number), T0)
    widget.push(T0 + 10)
    await shown(page, widget)
    assert await page.locator("li strong").all_inner_texts() == [NASTY, "second"]
    approve = page.get_by_role("button", name="Approve second")
    await approve.click()
    assert await page.evaluate("sent.at(-1)") == {"op": "decide", "approval": "A-2", "decision": "approved"}
    assert await approve.is_disabled()
    inbox.decide("A-2", "", "it was rejected before")
    widget.push(T0 + 11)
    await receives(page, widget)
    assert await approve.is_enabled()
    assert "it was rejected before" in await page.locator("li").nth(1).inner_text()
    inbox.see(seen("approval_resolved", {"approval_id": "A-2", "decision": "rejected"}), T0)
    widget.push(T0 + 12)
    await receives(page, widget)
    assert await page.locator("li").count() == 1


@pytest.mark.browser
async def test_in_a_browser_the_connection_shows_its_figures(page):
    widget = recording(ConnectionWidget)(feed_of(StreamState.CLOSED, reason=NASTY))
    widget.push(0)
    await shown(page, widget)
    assert NASTY in await page.locator(".srt-state").inner_text()
    assert await page.locator("dd").first.inner_text() == "0"
    assert await page.locator(".srt-dot").get_attribute("data-level") == "bad"
    await page.evaluate("stop()")
    assert await page.evaluate("window.receive") is None


class FakeRun:
    """A run that is steered, and says with what."""

    project, done = "apollo", False
    name, status = "ci_outage (seed 7)", "ci_outage plays"

    def __init__(self):
        self.told = []
        self.state = None

    def stop(self):
        self.told.append(("stop",))

    def pause(self):
        return self._asked("pause")

    def inject(self, fault):
        return self._asked("inject", type(fault).__name__, fault.minutes)

    def step(self, events):
        answer = Future()
        answer.set_exception(SyndarixError(f"cannot step by {events}"))
        return Asked("step", answer)

    def _asked(self, *what):
        self.told.append(what)
        answer = Future()
        answer.set_result(None)
        return Asked(what[0], answer)


@pytest.fixture
def steered():
    """A run, what was played, and a widget that steers."""
    run, played = FakeRun(), []
    controls = Controls(lambda *what: played.append(what), lambda: run)
    return run, played, recording(ControlWidget)(controls)


def until_done(widget):
    deadline = time.monotonic() + 10
    while widget._doing and time.monotonic() < deadline:
        time.sleep(0.005)


def test_buttons_begin_and_steer_a_run_and_say_what_went_wrong(steered):
    run, played, widget = steered
    for message in (
        {"op": "pause"},
        {"op": "inject", "value": "ci_outage"},
        {"op": "inject", "value": "no_such_fault"},
        {"op": "play", "value": "idle", "speed": "max"},
        {"op": "play", "value": "idle", "speed": ""},
        {"op": "play", "value": "/etc/passwd"},
        {"op": "resume"},  # while it does not stand
        {"op": "step", "value": 5},
    ):
        widget.view(**message)
        until_done(widget)
        if message["op"] == "resume":
            assert widget._error == "this run cannot be steered; begin one here"
    assert run.told == [("pause",), ("inject", "CiOutage", 30), ("stop",), ("stop",)]
    assert played == [("idle", math.inf), ("idle", None)]
    widget.push(0)
    (told,) = widget.taken()
    assert (told["error"], told["doing"]) == ("cannot step by 5", "")
    assert told["abilities"] == ["pause", "step", "set_speed", "inject"]
    run.state = RunState(run="run-1", project="apollo", state="paused")
    widget.push(60)
    (told,) = widget.taken()
    assert told["abilities"] == ["resume", "step", "set_speed"], "a recording takes no faults"


@pytest.mark.browser
async def test_in_a_browser_there_are_buttons_for_what_the_run_can_do(page, steered):
    _, _, widget = steered
    widget.push(0)
    await shown(page, widget)
    assert await page.locator(".srt-live button:visible").all_inner_texts() == [
        *["Pause", "Step 1", "Step 100"],
        *["CI outage", "provider brownout", "incident storm"],
    ]
    scenario = page.get_by_label("scenario", exact=True)
    assert await scenario.input_value() == "ci_outage"  # what plays
    await scenario.select_option("idle")
    await page.get_by_label("speed", exact=True).select_option("600")
    await page.get_by_role("button", name="Play anew").click()
    assert await page.evaluate("sent.at(-1)") == {"op": "play", "value": "idle", "speed": "600"}
    await page.get_by_role("button", name="Inject incident storm").click()
    assert await page.evaluate("sent.at(-1)") == {"op": "inject", "value": "incident_storm"}
    widget.view(op="ready")
    widget.push(1)
    (told,) = widget.taken()
    await page.get_by_role("button", name="Pause").press("Enter")
    sent = await page.evaluate("sent.length")
    await page.evaluate("(message) => receive(message)", told | {"doing": "pause"})
    storm = page.get_by_role("button", name="Inject incident storm")
    await expect(storm).to_be_disabled()  # seen to be, by assistive technology, too: a press now is none
    await storm.evaluate("(button) => button.click()")
    assert await page.evaluate("sent.length") == sent
    await page.evaluate("(message) => receive(message)", told | {"abilities": ["resume", "step", "inject"]})
    await storm.evaluate("(button) => button.click()")
    assert await page.evaluate("sent.length") == sent + 1
    assert await page.evaluate("document.activeElement.textContent") == "Resume"
    await page.keyboard.press("Enter")
    assert await page.evaluate("sent.at(-1)") == {"op": "resume", "value": None}


def test_every_panel_has_a_name():
    assert len(set(PANELS)) == len(PANELS) == len(CHARTS) + 4


def test_a_run_that_does_not_answer_is_said_to_be_slow_and_one_that_has_ended_to_be_over(steered, monkeypatch):
    run, _, widget = steered
    monkeypatch.setattr(control, "ANSWER_S", 0)
    run.pause = lambda: Asked("pause", Future())
    widget._handle_custom_msg({"op": "pause"}, [])
    until_done(widget)
    assert widget._error == "the run has not answered within 0 s; it may do so yet"
    run.done = True
    widget._handle_custom_msg({"op": "pause"}, [])
    until_done(widget)
    assert widget._error == "this run cannot be steered; begin one here"


def test_what_was_asked_tells_how_it_went():
    asked = {state: Future() for state in ("open", "failed", "given up", "answered")}
    asked["failed"].set_exception(SyndarixError("no run"))
    asked["given up"].cancel()
    asked["answered"].set_result("yes")
    told = [repr(Asked("pause", answer)) for answer in asked.values()]
    assert told == ["<pause …>", "<pause: no run>", "<pause: given up>", "<pause: yes>"]
