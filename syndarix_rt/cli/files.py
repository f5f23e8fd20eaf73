"""``simulate``, ``import`` and ``validate``: events in files."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import click

from syndarix_rt.cli.console import counted, progress
from syndarix_rt.cli.options import COUNT, PROJECT, option, scenario_argument, seed_option


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
    required=True,
    metavar="FILE",
    help="The file to write, one event a line (JSONL); - is stdout.",
)
def simulate_command(*, scenario: str, seed: int, events: int, output: Path) -> None:
    """Simulate SCENARIO into a file, as fast as it goes.

    SCENARIO is a name that "syndarix-rt scenarios" lists, or a TOML file. The same scenario and seed give the same
    bytes, on every machine.
    """
    from syndarix_rt.playback import write_recording
    from syndarix_rt.simulation import Scenario, Simulation

    simulated = itertools.islice(Simulation(Scenario.load(scenario), seed), events)
    with progress("Simulating", events) as update:
        if str(output) == "-":
            sys.stdout.buffer.writelines(event.raw + b"\n" for event in counted(simulated, update))
        else:
            write_recording(output, counted(simulated, update))


@click.command("import")
@click.argument("source", type=click.Choice(["aidev", "azure-llm", "mooncake"]))
@click.argument("path", type=click.Path(path_type=Path))
@option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The recording (JSONL).")
@option("--project", type=PROJECT, help="The project that the events belong to; the source's name unless given.")
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
