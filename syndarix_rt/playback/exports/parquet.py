"""Parquet: one row an event, in columns that pandas, DuckDB, Polars and Spark read at once.

An event's attributes have columns of their own, and so has each key that a payload of the catalogue knows, under the
name of its field in :mod:`syndarix_rt.events.payloads` (``gen_ai.usage.input_tokens`` is ``input_tokens``). ``data`` is
the whole payload as JSON, so nothing is lost: custom types and further keys are in there. ``raw`` is the event as it
came, where that is not how this package writes it.

The metadata of the file say ``syndarix_rt.version`` and ``syndarix_rt.simulations`` (their ids, as a JSON array).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import inspect

from syndarix_rt._version import __version__
from syndarix_rt.errors import EventError, MissingExtra, RecordingError
from syndarix_rt.events import CATALOGUE, Event
from syndarix_rt.playback.output import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read_parquet", "write_parquet"]

_BATCH = 4096
"""Events that are Python objects at the same time: about 10 MB."""

_ROW_GROUP = 16 * _BATCH
"""Rows that are compressed together. Readers work on row groups in parallel and skip them by their statistics."""

_WORDS = frozenset({
    "type", "source", "project", "simulation", "role", "model", "operation", "tool", "status", "state", "end_reason",
    "resolution", "priority", "kind", "decision", "runner",
})  # fmt: skip
"""Columns of few different words; pandas reads them as categories."""


def write_parquet(path: str | os.PathLike[str], events: Iterable[Event]) -> int:
    """Write events into a Parquet file, compressed with Zstandard; returns their number.

    Raises:
        MissingExtra: pyarrow is not installed.
        RecordingError: the file cannot be written.
    """
    pa, parquet = _pyarrow()
    schema, events, count = _schema(pa), iter(events), 0
    simulations: dict[str, None] = {}
    with whole_file(path) as file, parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        batches = []
        while rows := [_row(event) for event in islice(events, _BATCH)]:
            batches.append(pa.RecordBatch.from_pylist(rows, schema=schema))
            simulations |= dict.fromkeys(row["simulation"] for row in rows if row["simulation"] is not None)
            count += len(rows)
            if len(batches) * _BATCH >= _ROW_GROUP:
                writer.write_table(pa.Table.from_batches(batches))
                batches.clear()
        if batches:
            writer.write_table(pa.Table.from_batches(batches))
        names = msgspec.json.encode(list(simulations)).decode()
        writer.add_key_value_metadata({"syndarix_rt.version": __version__, "syndarix_rt.simulations": names})
    return count


def read_parquet(path: str | os.PathLike[str]) -> Iterator[Event]:
    """The events of a file that `write_parquet` has written, byte by byte as they were.

    Raises:
        MissingExtra: pyarrow is not installed.
        RecordingError: while iterating, if the file cannot be read or was not written by `write_parquet`.
    """
    pa, parquet = _pyarrow()
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            if missing := set(_ATTRIBUTES) - set(file.schema_arrow.names):
                raise RecordingError(f"{path}: not an export of events: no column {', '.join(sorted(missing))}")
            for batch in file.iter_batches(_BATCH, columns=list(_ATTRIBUTES)):
                for row in batch.to_pylist():
                    number += 1
                    yield _event(row)
    except EventError as error:
        raise RecordingError(f"{path}, row {number}: {error}") from error
    except (msgspec.DecodeError, AttributeError, TypeError) as error:  # other things under the names of our columns
        raise RecordingError(f"{path}, row {number}: not an export of events: {error}") from error
    except (OSError, pa.ArrowException) as error:
        raise RecordingError(f"{path}: cannot read after {number} events: {error}") from error


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and it takes 0.1 s to load
        from pyarrow import parquet  # noqa: PLC0415 - see above
    except ImportError:
        raise MissingExtra("analysis", "Parquet") from None
    return pa, parquet


_ATTRIBUTES = {
    "id": "text", "source": "text", "type": "text", "time": "time", "project": "text", "subject": "text",
    "cause": "text", "simulation": "text", "recordedtime": "time", "traceparent": "text", "datacontenttype": "text",
    "extensions": "text", "data": "text", "raw": "text",
}  # fmt: skip
"""What makes an event, in the order of the columns."""


def _payload_columns() -> dict[str, str]:
    """Every field of every payload of the catalogue and the kind of its values."""
    kinds = {inspect.IntType: "count", inspect.FloatType: "number", inspect.BoolType: "flag"}
    columns: dict[str, str] = {}
    for line in CATALOGUE.values():
        struct = inspect.type_info(line.payload)
        assert isinstance(struct, inspect.StructType)
        for field in struct.fields:
            types = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
            kind = next((kinds[type(known)] for known in types if type(known) in kinds), "text")
            assert columns.setdefault(field.name, kind) == kind, f"two payloads differ in {field.name}"
    return columns


def _schema(pa: ModuleType) -> pa.Schema:
    types = {
        "text": pa.string(), "time": pa.timestamp("us", "UTC"), "count": pa.int64(), "number": pa.float64(),
        "flag": pa.bool_(),
    }  # fmt: skip
    word = pa.dictionary(pa.int32(), pa.string())
    columns = _ATTRIBUTES | _payload_columns()
    return pa.schema([(name, word if name in _WORDS else types[kind]) for name, kind in columns.items()])


def _row(event: Event) -> dict[str, Any]:
    encode = msgspec.json.encode
    row = {
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": event.time,
        "project": event.project,
        "subject": event.subject,
        "cause": event.cause,
        "simulation": event.simulation,
        "recordedtime": event.recordedtime,
        "traceparent": event.traceparent,
        "datacontenttype": event.datacontenttype,
        "extensions": encode(event.extensions).decode() if event.extensions else None,
        "data": encode(event.data).decode(),
        "raw": None if event.raw == event.encode() else event.raw.decode(),
    }
    line = CATALOGUE.get(event.type)
    if line is not None:
        row |= msgspec.structs.asdict(msgspec.convert(event.data, line.payload))
    return row


def _event(row: dict[str, Any]) -> Event:
    raw, data, extensions = row.pop("raw"), row.pop("data"), row.pop("extensions")
    if raw is not None:
        return Event.decode(raw.encode())
    decode = msgspec.json.decode
    return Event(specversion="1.0", data=decode(data), extensions=decode(extensions) if extensions else {}, **row)
