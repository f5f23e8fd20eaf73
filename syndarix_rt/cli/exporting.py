"""``export``: recordings in the formats of other tools."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import sys
from pathlib import Path

import click

from syndarix_rt.cli.console import counted, progress
from syndarix_rt.cli.options import option


@click.command("export")
@click.argument("format_", metavar="FORMAT", type=click.Choice(["parquet", "ocel", "perfetto"]))
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="OUT", help="The file to write.")
def export_command(*, format_: str, file: Path, output: Path) -> None:
    """Turn a recording into a file of another tool.

    FILE holds one event a line (JSONL; .gz is unpacked; - is stdin). FORMAT is one of:

    \b
    parquet    one row an event, for pandas, DuckDB, Spark
    ocel       object-centric event log (OCEL 2.0, JSON) for process mining, as with pm4py
    perfetto   timeline of agents and runners (Chrome trace, JSON) for https://ui.perfetto.dev
    """  # noqa: D301 - click takes the backspace for a block to be left as it is
    from syndarix_rt.playback import decode_lines, read_recording
    from syndarix_rt.playback.exports import EXPORTS

    events = decode_lines(sys.stdin.buffer, "stdin") if str(file) == "-" else read_recording(file)
    with progress("Exporting") as update:
        EXPORTS[format_](output, counted(events, update))
