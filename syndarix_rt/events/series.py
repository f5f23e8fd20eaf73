"""`Series`: events that are alike but for a few values. What they have in common is checked once, the rest in bulk.

Whoever makes a hundred thousand events a second checks them like this in a fraction of the time that
`Event`'s constructor takes, by the same catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from syndarix_rt.events import rules
from syndarix_rt.events.event import Event

__all__ = ["Series"]

_set = msgspec.structs.force_setattr


class Series:
    """Events of a catalogue type that differ in id, time, cause and some values of their payload.

    Args:
        like: an event with all keys of the payload, in their order; something valid stands for the values that differ.
        keys: which those are.

    Attributes:
        payload: makes a payload, to be filled in with the values of a row that was checked.
    """

    def __init__(self, like: Event, keys: tuple[str, ...]) -> None:
        self._like = like
        self._keys = keys
        self.payload = like.data.copy
        self._are_right = rules.values_check(like.type, keys)

    def check(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Check what the payloads will say, one row of values in the order of the keys for each.

        Raises:
            EventError: the first that breaks a rule.
        """
        if not self._are_right(rows):
            for row in rows:
                msgspec.structs.replace(self._like, data=self._like.data | dict(zip(self._keys, row, strict=True)))

    def event(self, event_id: str, time: datetime, cause: str, payload: dict[str, Any]) -> Event:
        """One event of them; its maker answers for id and cause being ids, and for the time being in UTC."""
        event: Event = self._like.__copy__()  # type: ignore[attr-defined] # msgspec's stub forgets it
        _set(event, "id", event_id)
        _set(event, "time", time)
        _set(event, "cause", cause)
        _set(event, "data", payload)
        return event
