"""``demo``: broker, server and a simulation in one process."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from syndarix_rt.cli.console import run, say
from syndarix_rt.cli.listening import PORT, certificate, checked_token, listening, open_server, present
from syndarix_rt.cli.options import PORTS, PROJECT, SPEED, option, run_name, scenario_argument, seed_option
from syndarix_rt.errors import ProjectBusy, SyndarixError

if TYPE_CHECKING:
    from syndarix_rt.events import Event
    from syndarix_rt.playback import Control, Line, Player
    from syndarix_rt.simulation import Simulation

DEMO_PROJECT = "apollo"

DEMO_DRAIN_S = 1.0
"""A demo has a handful of streams: no need to spread their ends, and whoever presses Ctrl-C wants the prompt back."""


@click.command("demo")
@scenario_argument(default="demo_small")
@listening
@option(
    "--port",
    type=PORTS,
    metavar="N",
    show_default=f"{PORT}, or the next free one",
    help="Where to listen; 0: any free port.",
)
@option(
    "--project",
    type=PROJECT,
    show_default=f"{DEMO_PROJECT}; {DEMO_PROJECT}-2 … while that is played into",
    help="The project that the events go to.",
)
@option("--speed", type=SPEED, show_default="the scenario's", help="Simulated seconds per second of wall time.")
@seed_option
def demo_command(
    *,
    scenario: str,
    redis_url: str | None,
    token: str | None,
    host: str,
    tls: str | None,
    port: int | None,
    project: str | None,
    speed: float | None,
    seed: int,
) -> None:
    """Broker, server, simulation and web page in one command.

    The page's URL is printed. SCENARIO is a name that "syndarix-rt scenarios" lists, or a TOML file, with one project.
    Its time begins now. It is played until Ctrl-C; if it has a horizon, it begins again there with the next seed.
    """
    from syndarix_rt.broker import Publisher
    from syndarix_rt.playback import BrokerLine, Control, Player, claim
    from syndarix_rt.server import Settings, loop_factory
    from syndarix_rt.simulation import Scenario, Simulation

    loaded = Scenario.load(scenario)
    settings = Settings(
        host=host, token=checked_token(token, host), drain_s=DEMO_DRAIN_S, tls_cert=certificate(tls, host)
    )

    async def demo() -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(open_server(settings, port, redis_url))
            run_id = run_name(loaded.name, seed)
            for name in [project] if project else _demo_projects():
                publisher = Publisher(server.broker, name)
                simulation = Simulation(loaded.for_project(name), seed, datetime.now(UTC))
                player = Player(
                    _endlessly(simulation, lambda next_one: setattr(control, "simulation", next_one)),
                    publisher.publish,
                    speed=speed or loaded.speed,
                )
                claimed = claim(publisher, run_id, on_lost=player.stop)
                try:
                    await stack.enter_async_context(claimed)
                    break
                except ProjectBusy:
                    if project:
                        raise

            title = f"{loaded.name} (seed {seed})"
            control = Control(run_id, player, name=title, simulation=simulation, warn=say)
            line = await BrokerLine.open(server.broker, name, run_id)

            def ready() -> None:
                stack.push_async_callback(_end, asyncio.create_task(_play(player, control, line)))
                pace = "full speed" if math.isinf(player.speed) else f"speed {player.speed:g}"
                about = f"plays {loaded.name} (seed {seed}, {pace}) into project {name}"
                present(about, server.url(f"/p/{name}"))

            await server.serve(ready)

    run(demo(), loop_factory())


def _demo_projects() -> Iterator[str]:
    yield DEMO_PROJECT
    for number in itertools.count(2):
        yield f"{DEMO_PROJECT}-{number}"


def _endlessly(simulation: Simulation, begin: Callable[[Simulation], None]) -> Iterator[Event]:
    """Its events; after its horizon it goes on in time with the next seed, and ``begin`` is told."""
    from syndarix_rt.simulation import Simulation

    while True:
        yield from simulation
        start = simulation.start + timedelta(hours=simulation.scenario.horizon_h or 0)
        simulation = Simulation(simulation.scenario, simulation.seed + 1, start)
        begin(simulation)


async def _play(player: Player, control: Control, line: Line) -> None:
    try:
        async with control:
            await control.join(line)
            await player.run()
    except SyndarixError as error:
        say(f"the simulation ended, the server goes on: {error}")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
