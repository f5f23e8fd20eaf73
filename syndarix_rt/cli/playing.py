"""``play`` and ``replay``: simulated and recorded events at their pace."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syndarix_rt.cli.connect import one_target, open_outlet
from syndarix_rt.cli.console import progress, run, say
from syndarix_rt.cli.options import (
    COUNT,
    PROJECT,
    RUN,
    SPEED,
    option,
    redis_url_option,
    run_name,
    scenario_argument,
    seed_option,
    url_option,
)

if TYPE_CHECKING:
    from syndarix_rt.broker import Published
    from syndarix_rt.events import Event
    from syndarix_rt.simulation import Simulation


def _publishing(command: Any) -> Any:
    """The options of whatever publishes a run."""
    for decorate in (
        option("--append", is_flag=True, help="Play beside a run that plays into the project."),
        option(
            "--replace", is_flag=True, help="Take the project over from a run that plays into it; a new epoch begins."
        ),
        option(
            "--run",
            "run_id",
            type=RUN,
            show_default="made of what it plays and some random characters",
            help="The run's name, by which it is steered; it must never have been one.",
        ),
        redis_url_option,
        url_option,
    ):
        command = decorate(command)
    return command


@click.command("play")
@scenario_argument()
@option("--project", type=PROJECT, show_default="as in the scenario", help="The project that the events go to.")
@seed_option
@option("--speed", type=SPEED, show_default="the scenario's", help="Simulated seconds per second of wall time.")
@option(
    "--events", type=COUNT, metavar="N", show_default="to the scenario's horizon", help="Stop after so many events."
)
@_publishing
def play_command(
    *,
    scenario: str,
    project: str | None,
    seed: int,
    speed: float | None,
    events: int | None,
    url: str | None,
    redis_url: str | None,
    run_id: str | None,
    replace: bool,
    append: bool,
) -> None:
    """Simulate SCENARIO; publish each event when its time comes.

    SCENARIO is a name that "syndarix-rt scenarios" lists, or a TOML file. Without --url and --redis-url the events go
    where your newest running server keeps its own, or else into the embedded Redis.
    """
    from syndarix_rt.simulation import Scenario, Simulation

    loaded = Scenario.load(scenario)
    if project:
        loaded = loaded.for_project(project)
    simulation = Simulation(loaded, seed)
    _play(
        itertools.islice(simulation, events),
        f"{loaded.name} (seed {seed})",
        run_id or run_name(loaded.name, seed),
        simulation=simulation,
        speed=speed or loaded.speed,
        total=events,
        target=one_target(url, redis_url),
        replace=replace,
        append=append,
    )


@click.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@option(
    "--project",
    type=PROJECT,
    show_default="each event its own",
    help="The project that all events go to, whatever they were recorded from.",
)
@option("--speed", type=SPEED, default="1", help="Recorded seconds per second of wall time.")
@_publishing
def replay_command(
    *,
    file: Path,
    project: str | None,
    speed: float,
    url: str | None,
    redis_url: str | None,
    run_id: str | None,
    replace: bool,
    append: bool,
) -> None:
    """Publish a recording again, each event when its time comes.

    FILE holds one event a line (JSONL; .gz is unpacked). Ids and times stay, the time of publication is new.
    """
    from syndarix_rt.playback import replay

    _play(
        replay(file, project),
        file.name,
        run_id or run_name(file.name),
        speed=speed,
        total=None,
        target=one_target(url, redis_url),
        replace=replace,
        append=append,
    )


def _play(
    events: Iterable[Event],
    title: str,
    name: str,
    *,
    simulation: Simulation | None = None,
    speed: float,
    total: int | None,
    target: tuple[str | None, str | None],
    replace: bool,
    append: bool,
) -> None:
    from syndarix_rt.playback import Control, Player

    if replace and append:
        raise click.UsageError("give --replace or --append, not both.")

    async def play() -> None:
        async with open_outlet(*target, name, replace=replace, append=append) as outlet:
            with progress(f"Playing {name}", total) as update:

                async def publish(batch: Sequence[Event]) -> Published:
                    published = await outlet.publish(batch)
                    update(player.published + len(batch))
                    return published

                player = Player(events, publish, speed=speed)
                outlet.lost = player.stop
                try:
                    async with Control(name, player, name=title, simulation=simulation, warn=say) as control:
                        outlet.joined = control.join
                        await player.run()
                finally:
                    if player.published:  # also of a run that was interrupted
                        say(f"{player.published:,} events published, up to {player.position}")

    run(play())
