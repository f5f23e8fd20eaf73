"""``verify``: evidence that nothing is lost unless it is declared."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import click

from syndarix_rt.cli.console import run, say
from syndarix_rt.cli.options import COUNT, option, report_option, seed_option

_PLANTED = ("skip", "repeat", "swap", "hide-gap", "gap-bounds", "epoch", "filter")  # as PLANTED, without loading it


@click.command("verify")
@click.argument("level", type=click.Choice(["quick", "standard", "soak"]), default="quick")
@seed_option
@option("--workers", type=COUNT, metavar="N", default=2, help="Server processes.")
@option("--cluster", is_flag=True, help="On a Redis Cluster: three masters, a replica each.")
@option(
    "--plant",
    type=click.Choice(_PLANTED),
    multiple=True,
    show_default="none",
    help="Falsify the delivery to one subscriber on purpose, to see that the verdict tells. Repeatable.",
)
@report_option("json", "The verdict as data.")
@report_option("html", "The verdict as a page with a picture of who was served when.")
@click.pass_context
def verify_command(
    ctx: click.Context,
    *,
    level: str,
    seed: int,
    workers: int,
    cluster: bool,
    plant: tuple[str, ...],
    json_file: Path | None,
    html_file: Path | None,
) -> None:
    """Break a whole stack on purpose and check what every subscriber received.

    It starts a Redis and servers of its own, publishes a simulation to subscribers of seven kinds, cuts, stalls, kills
    and restarts what the seed says, and holds what each subscriber got against what the broker acknowledged: every
    event once and in order, or a declared gap with the right bounds. The exit code is 0 only if all of it is so.

    quick takes half a minute, standard five, soak an hour. The same seed gives the same plan.
    """
    from syndarix_rt.playback.output import whole_file
    from syndarix_rt.verification import LEVELS, html_report, verify

    with ExitStack() as files:  # opened first: nobody wants to hear after an hour that they cannot be written
        as_json = files.enter_context(whole_file(json_file)) if json_file else None
        as_html = files.enter_context(whole_file(html_file)) if html_file else None
        verdict = run(verify(LEVELS[level], seed, workers=workers, cluster=cluster, planted=plant, say=say))
        click.echo(verdict)
        if as_json:
            as_json.write(json.dumps(verdict.to_dict(), indent=1).encode())
        if as_html:
            as_html.write(html_report(verdict).encode())
    ctx.exit(0 if verdict.clean else 1)
