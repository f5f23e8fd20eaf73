"""`Sighting`: what panels see of an event."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

__all__ = ["Sighting"]


class Sighting(Protocol):
    """An event as it came: a whole `Event`, or what was decoded of one that is seen again."""

    @property
    def id(self) -> str: ...  # noqa: D102 - as of an event
    @property
    def type(self) -> str: ...  # noqa: D102 - see id
    @property
    def time(self) -> datetime: ...  # noqa: D102 - see id
    @property
    def recordedtime(self) -> datetime | None: ...  # noqa: D102 - see id
    @property
    def data(self) -> dict[str, Any]: ...  # noqa: D102 - see id
    @property
    def simulation(self) -> str | None: ...  # noqa: D102 - see id
    @property
    def subject(self) -> str | None: ...  # noqa: D102 - see id
    @property
    def cause(self) -> str | None: ...  # noqa: D102 - see id
    @property
    def raw(self) -> bytes: ...  # noqa: D102 - see id
