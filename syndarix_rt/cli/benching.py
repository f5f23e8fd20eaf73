"""``bench``: how fast a server delivers on this machine."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from syndarix_rt.cli.console import say
from syndarix_rt.cli.options import COUNT, option, report_option
from syndarix_rt.table import aligned

if TYPE_CHECKING:
    from syndarix_rt.benchmark.candidate import Candidate
    from syndarix_rt.benchmark.measures import Figures, Loader

__all__ = ["Row", "Scale", "rows", "table"]


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        name: of the measure.
        columns: figures that are shown, with their format.
        measure: takes the figures, of a server that was just started.
    """

    name: str
    columns: dict[str, str]
    measure: Callable[[Candidate, Loader], Figures]


class Scale(NamedTuple):
    """How much is measured.

    Attributes:
        many: subscribers or projects, where there are to be many.
        few: subscribers, where there are to be few.
        seconds: that a rate is kept for.
        ladder: the rising rates that are tried, events a second.
        published: events in one go.
    """

    many: int
    few: int
    seconds: float
    ladder: Sequence[float]
    published: int


FULL = Scale(1_000, 200, 3.0, (1_000, 2_000, 4_000, 5_000, 6_000, 7_000, 8_000), 300_000)
QUICK = Scale(100, 50, 1.0, (100, 500), 20_000)
"""To see that all works; not to be quoted."""


def rows(scale: Scale) -> list[Row]:
    """What is measured of one worker."""
    from syndarix_rt.benchmark import measures

    many, few, seconds, ladder, _ = scale
    latency = {"p50_ms": ".1f", "p99_ms": ".1f"}
    return [
        Row(
            f"{many:,} subscribers, highest rate",
            {"rate": ",.0f", "deliveries_per_s": ",.0f", "p99_ms": ".0f", "server_load": ".2f", "client_load": ".2f"},
            lambda server, load: measures.highest_rate(server, load, ladder, subscribers=many, seconds=seconds),
        ),
        Row(
            f"{few} subscribers, 10 events/s",
            latency | {"cpu_us": ".1f"},
            lambda server, load: measures.fan_out(server, load, subscribers=few, rate=10, seconds=2 * seconds),
        ),
        Row(
            f"{few} subscribers, 100 events/s",
            latency | {"cpu_us": ".1f"},
            lambda server, load: measures.fan_out(server, load, subscribers=few, rate=100, seconds=seconds),
        ),
        Row(
            f"{many:,} projects x 5 subscribers, 1 event/s each",
            latency | {"server_load": ".2f"},
            lambda server, load: measures.fan_out(
                server, load, subscribers=5 * many, rate=many, seconds=2 * seconds, projects=many
            ),
        ),
        Row(
            f"{5 * many:,} idle connections",
            {"kib_per_connection": ".1f", "served": ",.0f", "event_to_all_ms": ".0f"},
            lambda server, load: measures.idle(server, load, 5 * many),
        ),
        Row(
            f"{few} clients come back, 1,000 events missed",
            latency | {"lost": ".0f", "doubled": ".0f"},
            lambda server, _: measures.resume(server, clients=few, missed=1_000),
        ),
    ]


@click.command("bench")
@option("--quick", is_flag=True, help="Small and short, to see that it works.")
@option("--repeats", type=COUNT, metavar="N", default=3, help="Measure each N times and take the median.")
@option(
    "--load-client",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    show_default="one in Python",
    metavar="FILE.c",
    help="C source of the subscribers; see benchmarks/.",
)
@report_option("json", "All figures.")
def bench_command(*, quick: bool, repeats: int, load_client: Path | None, json_file: Path | None) -> None:
    """Measure how fast this machine delivers events, with a server and a Redis of its own.

    The server has a core to itself, all others share another. Figures of different machines or sessions do not
    compare: "make bench" measures other servers beside this one.
    """
    from syndarix_rt.playback.output import whole_file

    with ExitStack() as files:  # opened first: nobody wants to hear in the end that it cannot be written
        as_json = files.enter_context(whole_file(json_file)) if json_file else None
        document = _measured(QUICK if quick else FULL, repeats, load_client)
        if as_json:
            as_json.write(json.dumps(document, indent=1).encode())


def _measured(scale: Scale, repeats: int, load_client: Path | None) -> dict[str, Any]:
    """Measure, print a table, and give all figures."""
    from syndarix_rt.benchmark import candidate, machine, measures

    ran_on = machine.describe()
    click.echo(", ".join(f"{name} {value}" for name, value in ran_on.items()))
    found: dict[str, list[Figures]] = {}
    with tempfile.TemporaryDirectory(prefix="syndarix-rt-") as directory, candidate.private_redis() as redis_url:
        load = measures.Loader(candidate.load_client(load_client, Path(directory)))
        measured = rows(scale)
        for row in measured:
            say(f"measuring: {row.name}")
            for _ in range(repeats):
                with candidate.our_server(redis_url) as server:
                    found.setdefault(row.name, []).append(row.measure(server, load))
        published = "publishing into Redis, batches of 100"
        found[published] = [measures.publishing(redis_url, events=scale.published, batch=100) for _ in range(repeats)]
    columns = {row.name: row.columns for row in measured} | {published: {"events_per_s": ",.0f"}}
    for line in table(columns, found):
        click.echo(line)
    return {"machine": ran_on, "figures": found}


def table(columns: Mapping[str, Mapping[str, str]], found: Mapping[str, Sequence[Figures]]) -> list[str]:
    """A line for each measure: medians of what was found.

    Args:
        columns: by measure, the figures that are shown, with their format.
        found: by measure, the figures of each repeat; one that has no such figure does not count for it.
    """
    lines = []
    for measure, forms in columns.items():
        cells = []
        for name, form in forms.items():
            values = [figures[name] for figures in found[measure] if name in figures]
            cells.append(f"{name} {format(statistics.median(values), form) if values else '-'}")
        lines.append((measure, "  ".join(cells)))
    return aligned(lines)
