"""CSV files of a trace: rows with checked cells; what is wrong is named by file, line and column."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from syndarix_rt.errors import RecordingError

__all__ = ["Row", "read_table"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,31}")
"""Two of them, joined, are an id (at most 64)."""

_EARLIEST_YEAR, _LATEST_YEAR = 1970, 2200
"""Further away a time is a slip, and sums of times leave the calendar."""

_MOST = 2**53
"""Counts stay exact in every JSON reader."""


class Row(msgspec.Struct, frozen=True):
    """One row; the methods read a cell or raise `RecordingError`."""

    path: Path
    line: int
    cells: dict[str, str]

    def name(self, column: str) -> str:
        """A pseudonym or word that can be part of an id."""
        text = self.cells[column]
        if not _NAME.fullmatch(text):
            raise self.wrong(column, "must be 1 to 31 of letters, digits, '_' and '-'")
        return text

    def number(self, column: str) -> float | None:
        """A number; None if the cell is empty."""
        text = self.cells[column]
        if not text:
            return None
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise self.wrong(column, "is not a number")
        return number

    def count(self, column: str) -> int | None:
        """A whole number, also written as ``3.0``; None if the cell is empty."""
        number = self.number(column)
        if number is None:
            return None
        if number != int(number) or not 0 <= number <= _MOST:
            raise self.wrong(column, "is not a count")
        return int(number)

    def needed_count(self, column: str) -> int:
        """A whole number; an empty cell is an error."""
        count = self.count(column)
        if count is None:
            raise self.wrong(column, "is empty")
        return count

    def time(self, column: str, *, zone_is_utc: bool = False) -> datetime:
        """A time as RFC 3339, with its zone unless the trace says nothing and means UTC; cut to microseconds."""
        try:
            time = datetime.fromisoformat(self.cells[column])
        except ValueError:
            raise self.wrong(column, "is not a time such as 2025-06-17T14:36:56Z") from None
        if time.tzinfo is None and zone_is_utc:
            time = time.replace(tzinfo=UTC)
        if time.tzinfo is None:
            raise self.wrong(column, "has no time zone, such as the 'Z' of UTC")
        if not _EARLIEST_YEAR <= time.year <= _LATEST_YEAR:
            raise self.wrong(column, f"is not between {_EARLIEST_YEAR} and {_LATEST_YEAR}")
        return time.astimezone(UTC)

    def wrong(self, column: str, reason: str) -> RecordingError:
        """The error that says what is wrong with a cell."""
        return RecordingError(f"{self.path}, line {self.line}: column {column!r} {reason}: {self.cells[column][:80]!r}")


def read_table(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a CSV file (RFC 4180, UTF-8) whose first line names its columns.

    Args:
        path: the file.
        columns: those that must be there; further ones are passed over.

    Raises:
        RecordingError: while iterating: no such file, a column is missing, a row has too few or too many cells, the
            file is not CSV.
    """
    line = 0

    def lines(file: Iterable[str]) -> Iterator[str]:
        nonlocal line
        for line, text in enumerate(file, start=1):  # noqa: B007 - for the errors
            yield text

    try:
        # Bytes that are not UTF-8 become text like \xff: they are refused at their line, if their cell matters.
        with path.open(encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
            reader = csv.reader(lines(file), strict=True)
            header = next(reader, [])
            missing = [column for column in columns if column not in header]
            if missing:
                raise RecordingError(
                    f"{path}, line 1: there is no column {', '.join(missing)}; expected {','.join(columns)}"
                )
            for cells in reader:
                if not cells:  # an empty line
                    continue
                if len(cells) != len(header):
                    raise RecordingError(f"{path}, line {line}: {len(cells)} cells, but the header names {len(header)}")
                yield Row(path, line, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise RecordingError(f"{path}, line {line}: not CSV: {error}") from error
    except OSError as error:
        raise RecordingError(f"{path}: cannot read: {error.strerror}") from error
