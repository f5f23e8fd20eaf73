"""``simulate``, ``import`` and ``validate``: events in files."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from syndarix_rt.cli.console import counted, progress
from syndarix_rt.cli.options import COUNT, PROJECT, option, scenario_argument, seed_option

if TYPE_CHECKING:
    from syndarix_rt.events import Event


@click.command("simulate")
@scenario_argument()
@seed_option
@option(
    "--events",
    type=COUNT,
    metavar="N",
    default=100_000,
    help="Stop after so many events; earlier at the scenario's horizon.",
)
@option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    show_default="none, with --report alone",
    help="The file to write, one event a line (JSONL); - is stdout.",
)
@option("--report", is_flag=True, help="Print figures of the events beside those of real agents.")
@option(
    "--traces",
    type=click.Path(path_type=Path),
    metavar="DIR",
    show_default="none",
    help="The real traces, aidev_pop/ among them: the report tells the distance of run durations, too.",
)
def simulate_command(
    *, scenario: str, seed: int, events: int, output: Path | None, report: bool, traces: Path | None
) -> None:
    """Simulate SCENARIO into a file, as fast as it goes.

    SCENARIO is a name that "syndarix-rt scenarios" lists, or a TOML file. The same scenario and seed give the same
    bytes, on every machine.
    """
    from syndarix_rt.playback import write_recording
    from syndarix_rt.simulation import Scenario, Simulation

    if output is None and not report:
        raise click.UsageError("Missing option '-o' / '--output' (or '--report').")
    calibration = None
    if report:
        from syndarix_rt.simulation.analysis.calibration import Calibration

        calibration = Calibration()

    with progress("Simulating", events) as update:
        simulated = counted(itertools.islice(Simulation(Scenario.load(scenario), seed), events), update)
        if calibration:
            simulated = _told(simulated, calibration.feed)
        if output is None:
            for _ in simulated:
                pass
        elif str(output) == "-":
            sys.stdout.buffer.writelines(event.raw + b"\n" for event in simulated)
        else:
            write_recording(output, simulated)
    if calibration:
        real = None
        if traces:
            from syndarix_rt.playback.importers import import_aidev

            real = import_aidev(traces / "aidev_pop").events
        click.echo(calibration.report(real), err=str(output) == "-")


def _told(events: Iterable[Event], feed: Callable[[Event], None]) -> Iterator[Event]:
    for event in events:
        feed(event)
        yield event


@click.command("import")
@click.argument("source", type=click.Choice(["aidev", "azure-llm", "mooncake"]))
@click.argument("path", type=click.Path(path_type=Path))
@option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The recording (JSONL).")
@option("--project", type=PROJECT, show_default="the source's name", help="The project that the events belong to.")
def import_command(*, source: str, path: Path, output: Path, project: str | None) -> None:
    """Turn a public trace into a recording.

    aidev: pull requests of coding agents on GitHub (AIDev-pop); PATH is the directory of its CSV files.

    azure-llm: requests to two LLM services (Azure LLM inference traces); PATH is that directory or one of its files.

    mooncake: requests to a chat service, with what their prompts have in common (Mooncake); PATH as for azure-llm.

    What becomes of every row is printed.
    """
    from syndarix_rt.playback import write_recording
    from syndarix_rt.playback.importers import IMPORTERS

    imported = IMPORTERS[source](path, project or source)
    with progress("Writing", len(imported.events)) as update:
        write_recording(output, counted(imported.events, update))
    click.echo(imported.summary())


@click.command("validate")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@option("--partial", is_flag=True, help="The recording begins midway: believe what it refers to and does not hold.")
@click.pass_context
def validate_command(ctx: click.Context, *, file: Path, partial: bool) -> None:
    """Check a recording: can its events have happened like this?

    FILE holds one event a line (JSONL; .gz is unpacked; - is stdin). Each violation of an invariant is a line; the exit
    code is 1 if there is any. A recording that begins midway names much that it does not explain: record with
    --replay all, or check with --partial what can be checked.
    """
    from syndarix_rt.playback import read_lines
    from syndarix_rt.simulation import validate

    lines = sys.stdin.buffer if str(file) == "-" else read_lines(file)
    with progress("Checking") as update:
        stripped = (line.rstrip(b"\r\n") for line in counted(lines, update) if line.strip())
        report = validate(stripped, partial=partial)
    click.echo(report)
    ctx.exit(0 if report.ok else 1)
