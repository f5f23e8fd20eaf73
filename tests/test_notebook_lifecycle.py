"""What is left after a cell is run again, a server is killed, and a kernel is interrupted or restarted."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from command_line import Command
from embedded_users import is_running
from ipywidgets.widgets.widget import _instances
from jupyter_client.manager import AsyncKernelManager
from serving import running

from syndarix_rt.events import Event
from syndarix_rt.notebook import Workbench

DEADLINE_S = 60
RE_RUNS = 20


def ticks(count):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for n in range(count):
        yield Event.new("my_tick", {"n": n}, project="elsewhere", id=f"tick-{n}", time=start + timedelta(seconds=n))


async def until(condition, what):
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"not in time: {what}")


async def test_running_the_cell_of_a_dashboard_again_leaves_one_stream_and_nothing_else():
    async with running() as server, await Workbench.connect(server.url, project="apollo") as bench:

        async def left():
            gc.collect()
            tasks = [task for task in asyncio.all_tasks() if "_ask_what_waits" not in repr(task)]  # goes by itself
            return len(_instances), len(tasks), len(bench._parts._feeds["apollo"]._timelines)

        await asyncio.to_thread(bench.frame)  # the server is in this loop
        dashboard = bench.dashboard(fps=10)
        before = bench._parts.background.run(left())
        for _ in range(RE_RUNS):
            dashboard = bench.dashboard(fps=10)
        await bench.publish("my_note", {})
        await until(lambda: not dashboard.frame("events").empty, "the last one shows what comes")

        def settled():  # what ends with a dashboard may take a turn more
            return all(now <= then for now, then in zip(bench._parts.background.run(left()), before, strict=True))

        await until(settled, "the others have left nothing")
        assert bench.ledger().connections == 1
        assert server.hub.subscribers("project:{apollo}") == 1


async def test_of_the_agents_a_frame_has_their_states_and_what_no_dashboard_has_is_refused():
    async with running() as server, await Workbench.connect(server.url, project="apollo") as bench:
        await asyncio.to_thread(bench.frame)  # the server is in this loop
        with pytest.raises(ValueError, match="no panel is called 'nope'"):
            bench.dashboard(panels=["events", "nope"])
        with pytest.raises(ValueError, match="name each panel once, and at least one"):
            bench.dashboard(panels=[])
        with pytest.raises(ValueError, match="fps must be above 0 and at most"):
            bench.dashboard(fps=0)
        with pytest.raises(ValueError, match="window_s must be above 0 and at most"):
            bench.dashboard(window_s=-1)
        with pytest.raises(ValueError, match="axis is 'wall' or 'simulated', not 'real'"):
            bench.dashboard(axis="real")
        dashboard = bench.dashboard(fps=10)
        with pytest.raises(ValueError, match="axis is 'wall' or 'simulated', not 'real'"):
            dashboard.axis = "real"
        for get, what in ((dashboard.__getitem__, "panel"), (dashboard.frame, "chart")):
            with pytest.raises(KeyError, match=f"there is no {what} 'nope'"):
                get("nope")
        about = {"run_id": "run-1", "agent_id": "dev-1", "role": "developer"}
        await bench.publish("agent_started", about)
        await until(lambda: not dashboard.frame("agents").empty, "the agent is seen")
        frame = dashboard.frame("agents")
        assert frame["agent"].unique().tolist() == ["dev-1"]
        assert frame["state"].tolist() == ["in a call"]


async def test_a_server_that_is_killed_and_comes_back_costs_nothing(redis_url, tmp_path):
    environment = os.environ | {"SYNDARIX_RT_REDIS_URL": redis_url, "SYNDARIX_RT_TOKEN": "a-secret"}
    with Command("serve", "--port", "0", env=environment) as first:
        url = first.url()
        port = url.split("?")[0].rstrip("/").rpartition(":")[2]
        bench = await Workbench.connect(url, redis_url=redis_url, project="apollo")  # publishes past the server
        dashboard = bench.dashboard(fps=10)
        assert await bench.play(ticks(50), speed=math.inf).wait() == 50
        assert len(bench.frame()) == 50
        first.process.kill()
    async with bench:
        await until(lambda: dashboard.status.startswith("reconnecting"), "the line says so")
        assert await bench.play(ticks(70), speed=math.inf, append=True).wait() == 70
        with Command("serve", "--port", port, env=environment) as second:
            assert second.url() == url
            await until(lambda: dashboard.status.startswith("live"), "it goes on")
            frame, ledger = bench.frame(), bench.ledger()
            assert frame["offset"].tolist() == list(range(1, 121))
            assert ledger.clean
            assert (ledger.gaps, ledger.connections, ledger.resumed) == ([], 2, 1)
            await until(lambda: dashboard.frame("events").to_numpy().sum() == 120, "every event is in the chart")
            dashboard.stop()


@asynccontextmanager
async def kernel(tmp_path):
    """A real kernel; ``await run(source)`` gives what it printed."""
    manager = AsyncKernelManager(kernel_name="python3")
    await manager.start_kernel(cwd=str(tmp_path))
    client = manager.client()
    client.start_channels()
    printed = []

    async def run(source, *, fails=False):
        printed.clear()
        reply = await client.execute_interactive(
            source,
            timeout=DEADLINE_S,
            output_hook=lambda message: printed.append(message["content"].get("text", "")),
        )
        assert (reply["content"]["status"] == "error") is fails, reply["content"]
        return "".join(printed)

    try:
        await client.wait_for_ready(timeout=3 * DEADLINE_S)
        yield manager, run
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


async def test_an_interrupt_breaks_a_cell_only_and_a_restart_ends_all_that_the_kernel_began(
    redis_url, tmp_path, monkeypatch
):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    async with running() as server, kernel(tmp_path) as (manager, run):
        begun = await run(
            "import json, os, psutil, time\n"
            "from syndarix_rt.notebook import Workbench\n"
            f"own = await Workbench.start(redis_url={redis_url!r})\n"
            "own.play('demo_small')\n"
            f"bench = await Workbench.connect({server.url!r}, project='apollo')\n"
            "dashboard = bench.dashboard()\n"
            "print(json.dumps([os.getpid(), *(child.pid for child in psutil.Process().children())]))"
        )
        processes = [psutil.Process(pid) for pid in json.loads(begun)]
        assert len(processes) == 3
        sleeping = asyncio.create_task(run("open('asleep', 'w').close(); time.sleep(60)", fails=True))
        await until((tmp_path / "asleep").exists, "the cell runs")
        await manager.interrupt_kernel()
        await sleeping
        assert all(process.is_running() for process in processes)
        await server.publish(1)
        assert await run("print(len(bench.frame()), dashboard.status[:4])") == "1 live\n"
        assert server.hub.subscribers("project:{apollo}") == 1

        await manager.restart_kernel()  # as Jupyter's button does: it asks the kernel first
        await until(lambda: not any(is_running(process.pid) for process in processes), "all have ended")
        await until(lambda: server.hub.subscribers("project:{apollo}") == 0, "no stream is open")
