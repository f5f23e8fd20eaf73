"""The chat and the debugger of a notebook, over a real server: what their views are told, and that nothing is left."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest
from ipywidgets.widgets.widget import _instances

from syndarix_rt.client import ChatClient, DebugClient
from syndarix_rt.errors import SyndarixError
from syndarix_rt.notebook import Workbench

TIMEOUT_S = 60


@pytest.fixture
async def bench(redis_url):
    """A workbench with a server of its own, over the real Redis."""
    async with await Workbench.start(redis_url=redis_url, project="apollo") as bench:
        yield bench


class View:
    """Stands for the browser: gets what a panel sends, and does what a person does."""

    def __init__(self, panel):
        self._panel = panel
        self.told = {}
        panel.send = self._take
        self.does(op="ready")

    def _take(self, content, buffers=None):
        assert buffers is None
        self.told = json.loads(json.dumps(content, allow_nan=False))  # Jupyter sends it as JSON, which browsers read

    def does(self, **content):
        self._panel._handle_custom_msg(content, [])

    async def sees(self, condition):
        async with asyncio.timeout(TIMEOUT_S):
            while not (self.told and condition(self.told)):
                await asyncio.sleep(0.01)
        return self.told


async def opened(*panels):
    async with asyncio.timeout(TIMEOUT_S):
        while any(panel.client.state != "open" for panel in panels):
            await asyncio.sleep(0.01)


def words(told):
    return [(each["from"], each["to"], each["words"], each["isMine"], each["isOpen"]) for each in told["messages"]]


async def test_a_person_talks_with_an_agent_in_a_panel(bench):
    async with ChatClient(bench.url, "apollo", name="dev", kind="agent") as dev:
        await dev.say("before")
        view = View(bench.chat(name="ana"))
        told = await view.sees(lambda told: told["messages"] and told["members"] == ["dev", "ana"])
        assert words(told) == [("dev", "all", "before", False, False)]
        assert told["status"] == told["ended"] == ""
        view.does(op="typing")
        view.does(op="say", text="<b>why?</b>", to="dev")
        told = await view.sees(lambda told: len(told["messages"]) == 2)
        assert words(told)[1] == ("ana", "dev", "<b>why?</b>", True, False)
        asked = next(message for message in dev.transcript.messages if message.text == "<b>why?</b>")
        with pytest.raises(ValueError, match="no idea"):
            await half_an_answer(dev, view, asked)
        told = await view.sees(lambda told: not told["messages"][-1]["isOpen"])
        assert (told["messages"][-1]["words"], told["messages"][-1]["error"]) == ("because", "ValueError: no idea")
        for wrong in ({"op": "say"}, {"op": "say", "text": 1, "to": "dev"}, {"op": "nothing"}, {}):
            view.does(**wrong)
        view.does(op="say", text="", to="all")
        told = await view.sees(lambda told: len(told["messages"]) == 4)
        assert "$.text" in told["messages"][-1]["error"]


async def half_an_answer(dev, view, asked):
    async with dev.answer(to="ana", id="a") as answer:
        await answer.write("because")
        told = await view.sees(lambda told: len(told["messages"]) == 3)
        assert words(told)[2] == ("dev", "ana", "because", False, True)
        assert asked.speaker == "ana"
        raise ValueError("no idea")


async def test_a_run_is_stopped_looked_into_and_stepped_in_a_panel(bench):
    debugger = bench.debugger()
    control, look = map(View, debugger.children)
    await control.sees(lambda told: told["status"] == "Nothing plays into apollo now." and told["abilities"] == [])
    look.does(op="break", type="pipeline_failed", where="")
    await look.sees(lambda told: told["error"] == "Nothing plays into apollo now.")
    bench.play("demo_small", speed=60, seed=7)
    await control.sees(lambda told: "pause" in told["abilities"] and "inject" in told["abilities"])
    look.does(op="break", type="pipeline_failed", where="data.duration_s > 3")
    told = await look.sees(lambda told: told["breakpoints"])
    assert told["breakpoints"] == [{"type": "pipeline_failed", "where": "data.duration_s > 3"}]
    control.does(op="set_speed", value="max")
    await look.sees(lambda told: told["status"].startswith("stopped at pipeline_failed pipeline-"))
    assert debugger.status.startswith("demo_small (seed 7) stands at a breakpoint (pipeline_failed) at 2026-01-05")
    published = debugger.run.published
    look.does(op="clear")
    await look.sees(lambda told: told["breakpoints"] == [])
    control.does(op="step", value=10)
    await control.sees(lambda told: f"{published + 10:,} events" in told["status"] and "resume" in told["abilities"])
    look.does(op="inspect", entity="agents")
    told = await look.sees(lambda told: told["text"])
    async with DebugClient(bench.url, "apollo") as other:
        assert json.loads(told["text"]) == await other.inspect("agents")
    look.does(op="break", type="", where="a =")
    told = await look.sees(lambda told: told["error"])
    assert told["text"] == ""
    control.does(op="inject", value="no_fault")
    await control.sees(lambda told: told["error"] and not told["doing"])
    control.does(op="inject", value="ci_outage")
    control.does(op="inject", value="ci_outage")  # a second click
    await control.sees(lambda told: not told["error"] and not told["doing"])
    for wrong in ({"op": "step", "value": "x"}, {"op": "set_speed", "value": None}, {"op": "nothing"}, {}):
        control.does(**wrong)
    control.does(op="resume")
    await control.sees(lambda told: "pause" in told["abilities"])


async def test_panels_leave_nothing_behind(bench):
    before = set(_instances)
    chat, debugger = bench.chat(name="ana"), bench.debugger()
    async with ChatClient(bench.url, "apollo", name="bob") as bob:
        async with asyncio.timeout(TIMEOUT_S):
            while len(bob.members) < 2:
                await asyncio.sleep(0.01)
    view, look = View(chat), View(debugger.children[1])
    chat.stop()
    assert view.told["status"] == view.told["ended"] != ""
    view.does(op="say", text="too late", to="all")
    await asyncio.to_thread(debugger.close)
    assert look.told["ended"].startswith("Ended ")
    another = bench.chat()  # takes the place of the last
    assert chat.comm is None
    await opened(another)
    another.close()
    assert (another.client.state, debugger.client.state) == ("closed", "closed")
    assert set(_instances) == before
    last = bench.chat(), bench.debugger()
    await opened(*last)
    await bench.close()
    assert [panel.client.state for panel in last] == ["closed", "closed"]
    with pytest.raises(RuntimeError, match="closed"):
        bench.debugger("zeus")


async def test_a_server_that_is_gone_is_told(bench):
    view = View(bench.chat())
    await view.sees(lambda told: told["status"] == "" and told["members"])
    bench._parts._server.stop()
    await view.sees(lambda told: told["status"] == "reconnecting")


async def test_a_function_of_the_notebook_is_an_agent_even_while_a_cell_blocks(bench):
    @bench.agent("poet")
    async def poet(said):
        yield "roses "
        if "crash" in said.text:
            raise LookupError("no model")
        yield said.text

    bench.chat(name="ana")
    assert bench.ask("are red", to="poet").result(TIMEOUT_S) == "roses are red"  # this blocks the notebook's loop
    assert await bench.ask("are blue", to="poet") == "roses are blue"
    with pytest.raises(SyndarixError, match=r"poet broke off: LookupError: no model \(after 'roses '\)"):
        await bench.ask("crash", to="poet")
    async with asyncio.timeout(TIMEOUT_S):
        while poet.answered + poet.failed < 3:
            await asyncio.sleep(0.01)
    assert repr(poet) == "<agent poet in apollo: here; 2 answered, 1 failed (LookupError: no model)>"

    @bench.agent("poet")
    async def another(_):
        return "violets"

    assert poet.status == "stopped", "the cell was run again"
    assert await bench.ask("?", to="poet") == "violets"
    with pytest.raises(SyndarixError, match=r"nobody gave no answer within 0.2 s; here are: .*poet"):
        await bench.ask("?", to="nobody", timeout_s=0.2)
    another.stop()
    another.stop()
    assert another.status == "stopped"


async def test_agents_stop_with_the_bench_and_break_off_what_they_say(redis_url):
    async with await Workbench.start(redis_url=redis_url, project="apollo") as bench:
        async with ChatClient(bench.url, "apollo", name="bob") as bob:

            @bench.agent("poet")
            async def poet(_):
                yield "once "
                await asyncio.Event().wait()

            await opened_agent(poet)
            said = await bob.say("tell", to="poet")
            while not bob.transcript.answers:
                await asyncio.sleep(0.01)
            poet.stop()
            async with asyncio.timeout(TIMEOUT_S):
                assert (await bob.reply(said)).error == "broken off"

            @bench.agent("sleeper")
            async def sleeper(_):
                time.sleep(0.5)  # noqa: ASYNC251 - what nobody should do
                return "yes"

            assert await bench.ask("?", to="sleeper") == "yes"
    assert sleeper.status == "stopped"
    assert [thread.name for thread in threading.enumerate() if "agent" in thread.name] == []


async def opened_agent(agent):
    async with asyncio.timeout(TIMEOUT_S):
        while agent.status != "here":
            await asyncio.sleep(0.01)


async def test_the_agents_of_a_preset_answer_over_http(bench):
    run = bench.play("demo_small", speed=600, seed=7)
    await run.set_breakpoints("pipeline_failed")
    async with asyncio.timeout(TIMEOUT_S):
        state = await run.stopped()
    failed = await run.inspect(f"pipeline:{state.stopped.event['subject']}")
    answer = await bench.ask("Why did the pipeline fail?", to="planner-1")
    assert f"{failed['pipeline_id']} of {failed['issue_id']}" in answer
    assert f"because of {failed['reason']} after {failed['duration_s']:g} s" in answer
