"""`TypeFilter`: which event types a subscriber wants, from the query's ``types=``."""

from __future__ import annotations

import re
from fnmatch import translate

from syndarix_rt.errors import FilterError
from syndarix_rt.events import CATEGORIES, category_of
from syndarix_rt.events.catalogue import TYPE_PATTERN

__all__ = ["TypeFilter"]

_GLOB = re.compile(r"[a-z0-9_*]+")
_MAX_WORDS = 64  # three times the catalogue; more is a mistake or an attack
_MEMO_LIMIT = 1024  # publishers may invent types without end


class TypeFilter:
    """A set of category names, globs and type names; equal filters compare equal and share one view of a log."""

    __slots__ = ("__weakref__", "_memo", "_pattern", "_types", "words")

    def __init__(self, words: frozenset[str]) -> None:
        self.words = words
        self._types = {word for word in words if "*" not in word and word not in CATEGORIES}
        globs = sorted(word for word in words if "*" in word)
        self._pattern = re.compile("|".join(translate(glob) for glob in globs)) if globs else None
        self._memo: dict[str, bool] = {}

    @classmethod
    def parse(cls, text: str) -> TypeFilter:
        """Read a comma list such as ``agent_*,pipeline_failed,workflow``.

        Raises:
            FilterError: for an empty list and for each word that is no category, glob (``*`` only) or type name.
        """
        words = [word.strip(" ") for word in text.split(",")]
        if len(words) > _MAX_WORDS:
            raise FilterError(f"types: at most {_MAX_WORDS} words, not {len(words)}")
        for word in words:
            if not word:
                raise FilterError("types: an empty word; leave 'types' out to get everything")
            known = word in CATEGORIES or (_GLOB if "*" in word else TYPE_PATTERN).fullmatch(word)
            if not known:
                raise FilterError(
                    f"types: {word[:64]!r} is no category ({', '.join(CATEGORIES)}), no glob and no type name"
                )
        return cls(frozenset(words))

    def matches(self, event_type: str) -> bool:
        """Whether an event of this type passes."""
        known = self._memo.get(event_type)
        if known is None:
            if len(self._memo) >= _MEMO_LIMIT:
                self._memo.clear()
            known = self._memo[event_type] = (
                event_type in self._types
                or category_of(event_type) in self.words
                or (self._pattern is not None and self._pattern.fullmatch(event_type) is not None)
            )
        return known

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeFilter) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)

    def __str__(self) -> str:
        return ",".join(sorted(self.words))
