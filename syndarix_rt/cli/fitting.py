"""``fit``: a profile from a recording."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from syndarix_rt.cli.console import counted, progress
from syndarix_rt.cli.options import option
from syndarix_rt.table import aligned


@click.command("fit")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="PROFILE", help="The profile (TOML).")
@option(
    "--scenario",
    type=click.Path(path_type=Path),
    show_default="none",
    metavar="SCENARIO",
    help="Also a scenario (TOML) that simulates the team of FILE: its agents, runners and issues, with that profile.",
)
@option(
    "--human-time-scale",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="What people's waits in FILE were shortened by: a simulated scenario's human_time_scale.",
)
def fit_command(*, file: Path, output: Path, scenario: Path | None, human_time_scale: float) -> None:
    """Fit a profile to a recording and print how well each law does.

    FILE holds one event a line (JSONL; .gz is unpacked; - is stdin); "syndarix-rt import" makes one of a public trace.
    KS is the distance of Kolmogorov and Smirnov, up to 0.05 good, up to 0.10 usable; * marks the law that is taken.

    A scenario takes the profile with: profile = "PROFILE".
    """
    from syndarix_rt.playback import decode_lines, read_recording
    from syndarix_rt.playback.output import whole_file
    from syndarix_rt.simulation import fit

    events = decode_lines(sys.stdin.buffer, "stdin") if str(file) == "-" else read_recording(file)
    with ExitStack() as files:  # opened first: nobody wants to hear in the end that they cannot be written
        as_profile = files.enter_context(whole_file(output))
        as_scenario = files.enter_context(whole_file(scenario)) if scenario is not None else None
        with progress("Fitting") as update:
            fed = counted(events, update)
            profile = fit(fed, name=output.stem, source=file.name, human_time_scale=human_time_scale)
        as_profile.write(profile.to_toml().encode())
        if as_scenario is not None:
            as_scenario.write(profile.scenario.to_toml().encode())
    rows = [("QUANTITY", "UNIT", "N", "LAW", "KS", "", "PARAMETERS")]
    rows += [
        (key, unit, f"{n:,}", law, f"{ks:.3f}", "*" if chosen else "", parameters)
        for key, unit, n, law, parameters, ks, chosen in profile.rows()
    ]
    for line in aligned(rows):
        click.echo(line)
    click.echo(f"{len(profile.constants)} constants in {output}", err=True)
