"""``scenarios``: what there is to simulate, what a scenario says, and where its numbers are from."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from syndarix_rt.cli.options import option, scenario_argument
from syndarix_rt.table import aligned

if TYPE_CHECKING:
    from syndarix_rt.simulation import Scenario


@click.command("scenarios")
@scenario_argument(required=False)
@option(
    "--profile",
    metavar="NAME",
    show_default="scenarios",
    help="Explain a profile (name or file) instead: each constant with its source.",
)
def scenarios_command(*, scenario: str | None, profile: str | None) -> None:
    """List the scenarios of this installation, or print SCENARIO.

    SCENARIO is printed as a TOML file, ready to be changed: the settings that differ from its profile, and, as
    comments, the load that they let expect of each queue.
    """
    from syndarix_rt.simulation import Profile, Scenario, presets, profiles

    if profile is not None:
        click.echo(Profile.load(profile).explain())
        return
    if scenario is not None:
        loaded = Scenario.load(scenario)
        click.echo(f"{loaded.to_toml()}\n{_load_table(loaded)}")
        return
    rows = [("SCENARIO", "SPEED", "HORIZON", "WHAT TO LOOK FOR")]
    for name, description in presets().items():
        preset = Scenario.preset(name)
        horizon = "none" if preset.horizon_h is None else f"{preset.horizon_h:g} h"
        rows.append((name, f"{preset.speed:g}", horizon, description))
    click.echo("\n".join(aligned(rows)))
    click.echo("\nSPEED: simulated seconds per second of wall time. HORIZON: simulated time to the end.", err=True)
    click.echo(f"Profiles, for --profile: {', '.join(profiles())}.", err=True)


def _load_table(scenario: Scenario) -> str:
    """What to expect of each queue, as comments of a TOML file."""
    from syndarix_rt.simulation.load import expected_load

    rows = [("PROJECT", "QUEUE", "PER H", "TAKES", "SERVERS", "RHO", "BACKLOG GROWS")]
    for load in expected_load(scenario):
        grows = f"{load.slope_per_h:,.3g} per h" if load.slope_per_h else ""
        means = f"{load.rate_per_h:,.2f}", f"{load.service_s:,.3g} s", f"{load.servers:.3g}"
        rows.append((load.project, load.queue, *means, f"{load.rho:.2f}", grows))
    return "\n".join(f"# {line}" for line in ("Expected load, faults left out:", *aligned(rows)))
