"""`as_id`, `as_text`, `as_time`: what others call things, as the ids, texts and times that events can carry."""

from __future__ import annotations

import re
import zlib
from datetime import UTC, datetime

__all__ = ["as_id", "as_text", "as_time"]

_MAX_ID = 64
_MAX_TEXT = 4096
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]+")


def as_id(name: object, *, otherwise: str = "unknown") -> str:
    """A name that may be an id of a payload or a project: other characters than those of ids become ``-``.

    A name that is too long, or not in ASCII, ends with a checksum of the whole, so that two of them stay two.
    """
    text = str(name)
    clean = _FOREIGN.sub("-", text).strip("-") or otherwise
    if len(clean) <= _MAX_ID and text.isascii():
        return clean
    return f"{clean[: _MAX_ID - 9]}-{zlib.crc32(text.encode('utf-8', 'replace')):08x}"


def as_text(value: object, *, longest: int = _MAX_TEXT) -> str | None:
    """A text of a payload, cut to what is allowed, with ``?`` for what no encoding has; None of an empty one."""
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001 - others' objects, such as an exception that cannot even say what it is
        text = f"({type(value).__name__} without a text: {type(error).__name__})"
    return text[:longest].encode("utf-8", "replace").decode("utf-8") or None


def as_time(unix_ns: int) -> datetime:
    """Nanoseconds since 1970, of 63 bits, as UTC, down to the microsecond."""
    return datetime.fromtimestamp(unix_ns // 10**9, UTC).replace(microsecond=unix_ns // 1_000 % 10**6)
