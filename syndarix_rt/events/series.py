"""`Series`: events of one type from one source. What they have in common is checked once, payloads also in bulk.

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
    """Events of a catalogue type that differ in id, time, subject, cause and payload.

    Args:
        like: any of them.
    """

    def __init__(self, like: Event) -> None:
        self._like = like
        self._is_right = rules.payload_check(like.type)

    def check(self, payload: dict[str, Any]) -> None:
        """Check a payload.

        Raises:
            EventError: it breaks a rule.
        """
        if not self._is_right(payload):
            msgspec.structs.replace(self._like, data=payload)

    def check_rows(self, payload: dict[str, Any], keys: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
        """Check payloads that differ in some values only.

        Args:
            payload: all keys and what they have in common; something valid stands for the values that differ.
            keys: which those are.
            rows: the values of each payload, in the order of the keys.

        Raises:
            EventError: the first that breaks a rule.
        """
        self.check(payload)
        if not rules.values_check(self._like.type, keys)(rows):
            for row in rows:
                self.check(payload | dict(zip(keys, row, strict=True)))

    def event(self, event_id: str, time: datetime, subject: str | None, cause: str | None, payload: Any) -> Event:
        """One event of them, with a payload that was checked.

        Its maker answers for id and cause being ids, for a subject that is not empty, and for the time being in UTC.
        """
        event: Event = self._like.__copy__()  # type: ignore[attr-defined] # msgspec's stub forgets it
        _set(event, "id", event_id)
        _set(event, "time", time)
        _set(event, "subject", subject)
        _set(event, "cause", cause)
        _set(event, "data", payload)
        return event
