"""The web page on the real server, in a real Chromium."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from serving import TIMEOUT_S, event, running
from steering import demo, steered

from syndarix_rt.broker.memory import MemoryBroker
from syndarix_rt.events import Event
from syndarix_rt.server.tokens import issue

pytestmark = pytest.mark.browser

WEB = files("syndarix_rt") / "web"
CHANNEL = "project:{apollo}"
PAGE_FILES = [
    str(path.relative_to(str(WEB))) for path in Path(str(WEB)).rglob("*") if path.suffix in (".js", ".css", ".json")
]
HOSTILE = "<img src=x onerror=\"document.title='broken in'\">"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Whoever is told to come back comes in a moment; that it takes seconds is shown elsewhere."""
    monkeypatch.setattr("syndarix_rt.server.stream.BACK_MS", (50, 100))


class Page:
    """The open page, with what must never happen: console output, and requests to other hosts."""

    def __init__(self, page):
        self.page = page
        self.console = []
        self.requests = []
        page.on("console", lambda message: self.console.append(message.text))  # violations of the policy come here, too
        page.on("pageerror", lambda error: self.console.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def streams(self):
        """What was asked for as an event stream."""
        return [request for request in self.requests if re.search(r"/events\?(last_event_id|replay)=", request)]

    async def text(self, id):
        return await self.page.locator(f"#{id}").inner_text()

    async def until(self, id, text):
        await self.page.wait_for_function(
            "([id, text]) => document.getElementById(id)?.textContent === text", arg=[id, text]
        )

    async def until_state(self, state):
        await self.page.wait_for_function(
            "(state) => document.getElementById('connection').dataset.state === state", arg=state
        )

    async def listed(self):
        """Events in the log, by type."""
        await self.page.wait_for_function(
            "(count) => document.querySelectorAll('#log tr[aria-expanded]').length === count",
            arg=int(await self.text("received")),
        )
        return Counter(await self.page.locator("#log tr[aria-expanded] td:nth-child(2)").all_inner_texts())

    async def drawn(self):
        """Events by type and bin, as drawn."""
        readout = await self.page.evaluate("document.querySelector('#events .srt-chart').chart.readout()")
        return {
            (line["name"], second): count for line in readout["series"] for second, count in line["points"] if count
        }

    async def figure(self, name):
        """A figure of the connection."""
        return await self.page.locator(f"#stream dt:text-is('{name}') + dd").inner_text()

    async def hide(self, *, hidden):
        """Make it believe that it is hidden, or seen again."""
        await self.page.evaluate(
            """(hidden) => {
              Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
              document.dispatchEvent(new Event("visibilitychange"));
            }""",
            arg=hidden,
        )


async def eventually(found):
    """Poll until ``found()`` is true."""
    async with asyncio.timeout(TIMEOUT_S):
        while not found():
            await asyncio.sleep(0.02)


async def until_equal(look, expected):
    """Poll until ``await look()`` is what is expected; the difference if it never is."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while await look() != expected:
                await asyncio.sleep(0.02)
    except TimeoutError:
        assert await look() == expected


@pytest.fixture
async def open_page(browser):
    @asynccontextmanager
    async def open_page(url, host=None):
        context = await browser.new_context(viewport={"width": 1280, "height": 900})
        page = Page(await context.new_page())
        await page.page.goto(url)
        yield page
        await context.close()
        host = (host or url).split("/")[2]
        assert {request.split("/")[2] for request in page.requests} == {host}

    return open_page


@asynccontextmanager
async def answering(port, status):
    """A server that answers everything with this status."""

    async def answer(_):
        return web.Response(status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    yield
    await runner.cleanup()


def entries(first, types):
    payloads = {
        "agent_activity": {"run_id": "r", "agent_id": "a", "role": "tester", "kind": "tool"},
        "commit_pushed": {"branch": "main", "commit": "abc"},
        "issue_created": {"issue_id": "I-1"},
    }
    now = datetime.now(UTC)
    return [
        event(n, type=name, data=payloads.get(name), recordedtime=now).encode() for n, name in enumerate(types, first)
    ]


async def publish(server, first, types):
    """Publish events of these types now; what a chart should show of them."""
    batch = entries(first, types)
    await server.broker.publish(CHANNEL, batch)
    return drawable(batch)


def drawable(batch):
    events = [Event.decode(entry) for entry in batch]
    return Counter(
        (event.type if event.category else "custom types", int(event.recordedtime.timestamp())) for event in events
    )


async def test_events_of_all_names_are_counted_listed_and_drawn(open_page):
    async with running(token="s3cret") as server:
        published = await publish(server, 1, ["agent_activity"] * 3 + ["commit_pushed"] * 2 + ["my_note"])
        async with open_page(f"{server.url}/p/apollo?key=s3cret") as page:
            assert page.page.url == f"{server.url}/p/apollo"  # the key is gone from the address bar
            await page.until("received", "6")
            published += await publish(server, 7, ["my_note", "issue_created", "other_note", "my_note"])
            await page.until("received", "10")
            published += await publish(server, 11, ["last_note"])  # nothing that has a listener follows it
            await page.until("received", "11")
            assert await page.listed() == {
                "agent_activity": 3,
                "issue_created": 1,
                "commit_pushed": 2,
                "my_note": 3,
                "other_note": 1,
                "last_note": 1,
            }
            await page.until("position", "11")
            await page.until("connection", "live")
            await until_equal(page.drawn, published)
            assert page.console == []


async def test_what_events_say_is_text_and_never_html(open_page):
    async with running() as server:
        async with open_page(f"{server.url}/p/apollo") as page:
            await page.until("connection", "live")
            hostile = event(1, type="commit_pushed", data={"branch": HOSTILE, "commit": "c"}, subject=HOSTILE)
            await server.broker.publish(CHANNEL, [hostile.encode()])
            await page.until("received", "1")
            await page.page.wait_for_function("() => document.querySelector('#log tr[data-number]')")
            assert "onerror" in await page.page.locator("#log tr[data-number] td").last.inner_text()
            assert await page.page.locator("img").count() == 0
            assert await page.page.title() == "apollo · Syndarix RT"
            assert page.console == []


async def test_a_restarted_server_is_found_again_without_loss_or_duplicates(open_page):
    async with AsyncExitStack() as stack:
        broker = MemoryBroker()
        stack.push_async_callback(broker.aclose)
        async with running(broker, retry_ms=(50, 100)) as server:
            port = int(server.url.rpartition(":")[2])
            published = await publish(server, 1, ["agent_activity", "my_note"])
            page = await stack.enter_async_context(open_page(f"{server.url}/p/apollo"))
            await page.until("received", "2")
        await page.until_state("waiting")
        meanwhile = entries(3, ["agent_activity"])
        await broker.publish(CHANNEL, meanwhile)
        published += drawable(meanwhile)
        async with running(broker, port, retry_ms=(50, 100)) as server:
            await page.until("received", "3")
            published += await publish(server, 4, ["issue_created", "my_note"])
            await page.until("received", "5")
            assert await page.text("gaps") == "0"
            await page.until("connection", "live")
            await until_equal(page.drawn, published)


async def test_a_proxy_that_answers_503_only_delays_it(open_page):
    async with AsyncExitStack() as stack:
        broker = MemoryBroker()
        stack.push_async_callback(broker.aclose)
        async with running(broker, retry_ms=(50, 100)) as server:
            port = int(server.url.rpartition(":")[2])
            await publish(server, 1, ["agent_activity"] * 2)
            page = await stack.enter_async_context(open_page(f"{server.url}/p/apollo"))
            await page.until("received", "2")
        async with answering(port, 503):
            await page.until("connection", "reconnecting: the server answers 503")
        await broker.publish(CHANNEL, entries(3, ["agent_activity"]))
        async with running(broker, port):
            await page.until("received", "3")
            assert await page.text("gaps") == "0"


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        ({"max_client_connections": 8}, "too many connections come from this address"),  # 429
        ({"max_connections": 8}, "the server has as many connections as it may"),  # 503
    ],
)
async def test_a_server_that_is_full_is_asked_again_when_it_said_and_goes_on_exactly(open_page, bounds, says):
    # Who is refused because all together have too many has none itself.
    address = "127.0.0.1" if "max_client_connections" in bounds else "127.0.0.2"
    connector = aiohttp.TCPConnector(local_addr=(address, 0), limit=0)
    async with AsyncExitStack() as stack:
        broker = MemoryBroker()
        stack.push_async_callback(broker.aclose)
        async with running(broker, retry_ms=(50, 100)) as server:
            port = int(server.url.rpartition(":")[2])
            page = await stack.enter_async_context(open_page("about:blank", server.url))
            await page.page.clock.install()
            await page.page.goto(f"{server.url}/p/apollo")
            await publish(server, 1, ["agent_activity", "my_note"])
            await page.until("received", "2")
            await page.page.context.set_offline(True)
        await page.until_state("waiting")
        async with running(broker, port, retry_ms=(50, 100), **{"max_client_connections": 8} | bounds) as server:
            others = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            for _ in range(8):
                await stack.enter_async_context(others.get(f"{server.url}/projects/zeus/events"))
            await page.page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=60))
            await page.page.context.set_offline(False)
            await page.until("connection", f"reconnecting: {says}; again in 5 s")
            await publish(server, 3, ["agent_activity", "my_note"])
            await connector.close()
            await eventually(lambda: server.hub.limits.connections.held == 0)
            asked = len(page.streams())
            await page.page.clock.run_for(5_000)
            assert len(page.streams()) == asked, "not before Retry-After is over"
            await page.page.clock.run_for(1_001)  # and what is added so that not all come at once
            await page.until("connection", "live")
            assert len(page.streams()) == asked + 1
            await page.page.clock.resume()
            await page.until("received", "4")
            assert await page.text("gaps") == "0"
            assert await page.listed() == {"agent_activity": 2, "my_note": 2}


async def test_without_its_key_the_page_stops_and_says_what_to_do(open_page):
    async with AsyncExitStack() as stack:
        async with running(token="old", retry_ms=(50, 100)) as server:
            port = int(server.url.rpartition(":")[2])
            page = await stack.enter_async_context(open_page(f"{server.url}/p/apollo?key=old"))
            await page.until("connection", "live")
        async with running(port=port, token="new"):
            await page.until_state("closed")
            assert "open the URL that the server printed" in await page.text("connection")


async def test_a_declared_gap_is_drawn_listed_and_counted(open_page):
    async with AsyncExitStack() as stack:
        async with running(retry_ms=(50, 100)) as server:
            port = int(server.url.rpartition(":")[2])
            await publish(server, 1, ["agent_activity"] * 2)
            page = await stack.enter_async_context(open_page(f"{server.url}/p/apollo"))
            await page.until("received", "2")
        async with running(port=port) as server:  # over a broker that knows nothing of the first one's history
            await page.until("gaps", "1")
            await publish(server, 1, ["agent_activity"])
            await page.until("received", "3")
            readout = await page.page.evaluate("document.querySelector('#events .srt-chart').chart.readout()")
            (gap,) = readout["gaps"]
            assert gap["from"] <= gap["to"]
            assert gap["label"] == "gap: unknown"
            await page.page.locator("#log tr.srt-gap", has_text="gap: unknown").wait_for()
            await page.page.get_by_text("an unknown number of events missed").wait_for()


async def test_after_a_reset_the_page_shows_the_new_epoch_and_all_its_events(open_page):
    async with running() as server:
        async with open_page(f"{server.url}/p/apollo") as page:
            await page.until("connection", "live")
            await publish(server, 1, ["my_note"] * 3 + ["agent_activity"])
            await page.until("received", "4")
            await server.broker.reset(CHANNEL)
            await page.until("gaps", "1")
            await publish(server, 5, ["my_note", "my_note", "your_note"])  # the last one's name is new to the page
            await page.until("received", "7")
            assert await page.listed() == {"agent_activity": 1, "my_note": 5, "your_note": 1}
            epoch = (await server.broker.position(CHANNEL)).epoch
            assert await page.text("position") == "3"
            assert await page.page.locator("#position").get_attribute("title") == f"{epoch}.3"


async def test_custom_events_are_found_even_if_the_log_answers_late_or_not_at_first(open_page):
    async with running() as server, open_page("about:blank", server.url) as page:
        asked, held, refused, runs = [], [], [], []

        async def hold_first(route):
            asked.append(route)
            if len(asked) == 1:
                held.append((route, await route.fetch()))
            else:
                await route.continue_()

        async def refuse_once(route):
            refused.append(route)
            await (route.abort() if len(refused) == 1 else route.continue_())

        async def received():
            await page.page.clock.run_for(2_000)
            return await page.text("received")

        def never_answer(socket):
            socket.on_message(lambda message: runs.append(message))  # noqa: PLW0108 - it takes attributes

        await page.page.route_web_socket("**/debug", never_answer)
        await page.page.clock.install()
        await page.page.goto(f"{server.url}/p/apollo")
        await page.until("connection", "live")
        await publish(server, 1, ["agent_activity"] * 60)
        await page.until("received", "60")
        await page.page.route("**/position", hold_first)
        await page.page.clock.run_for(2_000)
        await eventually(lambda: held)
        await page.page.clock.run_for(8_000)
        await server.broker.reset(CHANNEL)
        await page.until("gaps", "1")
        assert (len(asked), len(runs)) == (1, 1), "one question at a time"
        await page.page.route("**/events?after=*", refuse_once)
        await publish(server, 1, ["new_note"] * 3)
        route, stale = held.pop()
        await route.fulfill(response=stale)
        await until_equal(received, "63")
        assert len(refused) == 2
        assert await page.figure("behind") == "no"
        assert await page.figure("undeclared holes") == "0"


async def test_a_tab_that_slept_while_it_asked_why_it_was_refused_opens_one_stream(open_page):
    async with AsyncExitStack() as stack:
        async with running(retry_ms=(50, 100)) as server:
            port = int(server.url.rpartition(":")[2])
            page = await stack.enter_async_context(open_page("about:blank", server.url))
            await page.page.clock.install()
            await page.page.goto(f"{server.url}/p/apollo")
            await page.until("connection", "live")
        await page.until_state("waiting")
        held = []
        await page.page.route("**/position", lambda route: held.append(route))  # noqa: PLW0108 - it takes attributes
        async with answering(port, 503):
            await eventually(lambda: len(held) == 1)
            await page.hide(hidden=True)
            hidden_later = "for (const tab of [1, 2]) new BroadcastChannel('syndarix-rt').postMessage('hidden')"
            await page.page.evaluate(hidden_later)
            await page.until("connection", "asleep")
            await page.hide(hidden=False)
            await eventually(lambda: len(held) == 2)
            opened = len(page.streams())
            for route in held[:2]:
                await route.continue_()
            await page.until("connection", "reconnecting: the server answers 503")
            await page.page.clock.run_for(2_001)  # the delay after the second refusal
            await eventually(lambda: len(held) == 3)  # what was opened was refused, too
            assert len(page.streams()) == opened + 1
            await held[2].abort()


async def test_the_age_of_history_is_no_delay(open_page):
    async with running() as server:
        old = event(1, type="my_note", recordedtime=datetime.now(UTC) - timedelta(hours=1))
        await server.broker.publish(CHANNEL, [old.encode()])
        async with open_page(f"{server.url}/p/apollo") as page:
            await page.until("received", "1")
            assert await page.figure("median delay") == "not yet"
            await server.broker.reset(CHANNEL)
            await page.until("gaps", "1")
            await publish(server, 1, ["commit_pushed"])
            await page.until("received", "2")
            assert (await page.figure("median delay")).endswith(" ms")
            assert await page.figure("behind") == "no"


async def test_numbers_are_shown_as_they_were_sent(open_page):
    async with running() as server:
        big = 2**60 + 1  # which a number of JavaScript is not
        listened_to = event(2, type="commit_pushed", data={"branch": "main", "commit": "c", "big": big})
        await server.broker.publish(CHANNEL, [event(1, data={"list": [big]}).encode(), listened_to.encode()])
        async with open_page(f"{server.url}/p/apollo") as page:
            lines = page.page.locator("#log tr[data-number]", has_text=f"{big}")
            await lines.nth(1).wait_for()
            for number in (0, 1):
                await lines.nth(number).click()
                await page.page.locator("#log pre", has_text=f"{big}").wait_for()
                await lines.nth(number).click()


async def test_on_a_phone_the_data_stand_below_their_event_and_nothing_is_wider_than_the_window(open_page):
    async with running() as server:
        data = {"text": "x" * 250}
        await server.broker.publish(CHANNEL, [event(1, data=data).encode()])
        async with open_page(f"{server.url}/p/apollo") as page:
            await page.page.set_viewport_size({"width": 390, "height": 844})
            cells = page.page.locator("#log tbody td:visible")
            await cells.first.wait_for()
            await cells.first.click()  # what is told of it fills all columns
            time, kind, shown, detail = [await cell.bounding_box() for cell in await cells.all()]
            assert time["y"] == kind["y"]
            assert shown["y"] >= time["y"] + time["height"]
            assert detail["y"] >= shown["y"] + shown["height"]
            assert min(shown["width"], detail["width"]) > 300
            assert await page.page.evaluate("document.documentElement.scrollWidth") == 390


async def test_the_list_of_projects_is_kept_up_to_date_and_leads_to_their_pages(open_page):
    async with running(token="s3cret") as server, open_page("about:blank", server.url) as page:
        await page.page.clock.install()
        await page.page.goto(f"{server.url}/?key=s3cret")
        await page.page.locator("#empty").wait_for()
        await publish(server, 1, ["agent_activity"] * 3)
        await page.page.clock.run_for(3_000)
        link = page.page.get_by_role("link", name="apollo")
        await link.click()
        await page.until("received", "3")
        await page.page.get_by_role("link", name="Syndarix RT").click()
        await link.focus()
        await publish(server, 4, ["agent_activity"])
        await page.page.clock.run_for(3_000)
        await page.page.locator("#projects td:nth-child(5)", has_text="4").wait_for()
        assert await link.evaluate("(link) => link === document.activeElement"), "the keyboard is where it was"
        await page.page.route("**/projects", lambda route: route.fulfill(json={"projects": []}))
        await page.page.clock.run_for(3_000)
        await page.page.locator("#empty").wait_for()
        assert await link.count() == 0
        assert page.console == []


def test_all_urls_of_the_pages_are_relative_so_that_a_prefix_does_no_harm():
    for file in Path(str(WEB)).rglob("*"):
        if file.suffix in (".html", ".js", ".css"):
            text = file.read_text()
            assert not re.findall(
                r"""(?:(?:href|src)=["']?|(?:fetch\(|import |import\(|from )["'`]|url\(["']?)(?:/|https?:)""", text
            ), file.name
            assert not re.findall("<style|onclick", text)  # the Content-Security-Policy forbids them


def test_whatever_a_style_sheet_names_is_somewhere():
    package = Path(str(WEB)).parent
    texts = [path.read_text() for path in package.rglob("*") if path.suffix in (".js", ".html", ".py")]
    used = set(re.findall(r"[\w-]+", " ".join(texts)))
    for sheet in Path(str(WEB)).rglob("*.css"):
        rules = re.sub(r"/\*.*?\*/", "", sheet.read_text(), flags=re.DOTALL)
        named = set(re.findall(r"[.#]([a-z][\w-]*)(?=[^{}]*\{)", rules))
        # A dashboard computes the classes of panels that span columns.
        assert {name for name in named - used if not name.startswith("srt-of-")} == set(), sheet.name


async def test_an_events_data_begin_with_what_is_particular_to_it(open_page):
    async with running() as server:
        data = {"run_id": "r-1", "agent_id": "a-1", "role": "tester", "issue_id": "i-1", "gen_ai.tool.name": "shell"}
        await server.broker.publish(CHANNEL, [event(1, type="agent_activity", data=data).encode()])
        async with open_page(f"{server.url}/p/apollo") as page:
            text = page.page.locator("#log td:nth-child(4)").get_by_text("tool.name shell")
            await text.wait_for()
            assert (await text.inner_text()).startswith("agent_id a-1 tool.name shell role tester")


async def test_the_approve_button_decides_and_the_decision_comes_as_an_event(open_page):
    async with running(token="s3cret") as server:
        asked = {"approval_id": "ap-1", "kind": "merge", "title": HOSTILE, "pr_id": "pr-1"}
        await server.broker.publish(CHANNEL, [event(1, type="approval_required", data=asked).encode()])
        async with open_page(f"{server.url}/p/apollo?key=s3cret") as page:
            await page.page.get_by_role("button", name="Approve").click()
            await page.until("received", "2")
            await page.page.get_by_text("Nothing waits for a decision.").wait_for()
            assert await page.listed() == {"approval_required": 1, "approval_resolved": 1}
            assert page.console == []


async def test_a_run_that_plays_goes_on_from_what_the_reject_button_decided(open_page):
    async with running() as server, steered(demo(), broker=server.broker) as run:
        await run.ask("run.setBreakpoints", [{"type": "approval_required"}])
        await run.ask("run.setSpeed", {"speed": "max"})
        async with open_page(f"{server.url}/p/apollo") as page:
            await page.page.get_by_role("button", name="Resume").click()
            await run.told(lambda method, state: method == "run.stopped" and state.stopped.reason == "breakpoint")
            asked = (await run.log())[-1]
            await page.page.get_by_role("button", name="Reject").click()
            await eventually(lambda: run.simulation.commands)
            await page.page.get_by_text("Nothing waits for a decision.").wait_for()
            await run.ask("run.setBreakpoints", [])
            await run.ask("run.step", {"events": 1_500})
            log = await run.log()
            closed = next(e for e in log if e.type == "pr_closed" and e.data["pr_id"] == asked.data["pr_id"])
            decision = next(e for e in log if e.id == closed.cause)
            assert (decision.type, decision.data["decision"]) == ("approval_resolved", "rejected")
            await page.until("received", f"{len(log):,}")
            assert await page.text("gaps") == "0"
            assert page.console == []


async def test_an_agent_of_a_run_over_http_answers_in_the_pages_chat(open_page, monkeypatch):
    monkeypatch.setattr("syndarix_rt.playback.agents.ARRIVE_S", 0.1)
    async with running() as server, steered(demo(), broker=server.broker, url=server.url) as run:
        await run.ask("run.step", {"events": 300})
        me = await run.ask("run.inspect", {"entity": "agent:planner-1"})
        async with open_page(f"{server.url}/p/apollo") as page:
            chat = page.page.locator("#chat")
            await chat.locator("option[value=planner-1]").wait_for(state="attached")
            await chat.get_by_label("To").select_option("planner-1")
            await chat.get_by_label("Message").fill("What did it cost so far?")
            await chat.get_by_label("Message").press("Enter")
            answer = chat.locator("li:not(.srt-mine):not(.srt-open)")
            await answer.wait_for()
            assert f"${me['cost_usd']:.6f}" in await answer.locator("p").inner_text()
            assert await answer.locator("strong").inner_text() == "planner-1"
            assert await chat.get_by_label("Message").input_value() == ""
            assert page.console == []


async def test_with_a_token_the_page_speaks_as_its_subject_whoever_it_was_before(open_page):
    key = "a key that signs tokens, too"
    async with running(token=key) as server, open_page(f"{server.url}/p/apollo?key={key}") as page:
        enter = page.page.locator("#chat").get_by_text(re.compile("(nobody else is|[2-9]) here$"))
        await enter.wait_for()
        assert (await who(page)).startswith("guest-")
        guest = await who(page)
        await page.page.reload()
        await enter.wait_for()
        assert await who(page) == guest
        for name in ("Ada", "Ben"):
            token = issue(key, ["subscribe:apollo", "chat:apollo"], name=name, life_s=60)
            await page.page.context.clear_cookies()
            await page.page.goto(f"{server.url}/p/apollo?key={token}")
            await enter.wait_for()
            assert await who(page) == name


async def who(page):
    """Whom the page speaks for."""
    return await page.page.evaluate("sessionStorage.getItem('syndarix-rt-name')")


async def test_charts_over_simulated_time_are_those_that_would_have_been_there_from_the_start(open_page):
    async with running() as server, steered(demo(), broker=server.broker) as run:
        await run.ask("run.setSpeed", {"speed": "max"})
        async with open_page(f"{server.url}/p/apollo") as page:
            await run.ask("run.step", {"events": 400})
            await page.until("received", "400")
            await page.page.get_by_label("charts over").select_option("simulated")
            await run.ask("run.step", {"events": 100})
            await page.until("received", "500")
            log = await run.log()
            # Bars of 10 simulated seconds, as events per simulated minute.
            bars = Counter((e.type, int(e.time.timestamp()) // 10 * 10) for e in log)
            simulated = {bar: 6 * events for bar, events in bars.items()}
            await until_equal(page.drawn, simulated)
            assert page.page.url.endswith("/p/apollo#simulated")
            await page.page.reload()  # who is sent the link sees the same
            await page.until("received", "500")
            await until_equal(page.drawn, simulated)
            await page.page.get_by_label("charts over").select_option("wall")
            await until_equal(page.drawn, Counter((e.type, int(e.recordedtime.timestamp())) for e in log))
            assert page.console == []


async def test_a_hidden_tab_gives_its_stream_back_after_a_minute_and_goes_on_exactly(open_page):
    async with running() as server, open_page("about:blank", server.url) as page:
        await page.page.clock.install()
        await page.page.goto(f"{server.url}/p/apollo")
        await page.until("connection", "live")
        published = await publish(server, 1, ["agent_activity", "my_note"])
        await page.page.clock.run_for(5_000)
        await page.until("received", "2")
        await page.hide(hidden=True)
        await page.page.clock.run_for(61_000)
        await page.until("connection", "asleep")
        await eventually(lambda: server.hub.subscribers(CHANNEL) == 0)
        published += await publish(server, 3, ["commit_pushed"] * 3)
        await page.hide(hidden=False)
        await eventually(lambda: server.hub.subscribers(CHANNEL) == 1)
        await page.page.clock.resume()
        await page.until("received", "5")
        assert await page.text("gaps") == "0"


async def test_the_files_of_a_projects_page_are_small_on_the_wire_and_those_of_all_pages_sent_once():
    others = {"page/index.js", "page/docs.js", "docs.css", "views/status.js"}  # of other pages, and of the notebook
    assert others < set(PAGE_FILES)
    async with running() as server:
        total = 0
        for name in ["/p/apollo", *(f"/static/{path}" for path in PAGE_FILES)]:
            async with server.http.get(server.url + name, headers={"accept-encoding": "gzip"}) as answer:
                assert answer.headers["content-encoding"] == "gzip", name
                if name.removeprefix("/static/") not in others:
                    total += int(answer.headers["content-length"]) + len(str(answer.raw_headers))
                etag = answer.headers["etag"]
            assert (await server.get(name, headers={"if-none-match": etag}))[0] == 304
        assert total <= 96_000
