"""`Verdict`: what a verification found, as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from syndarix_rt._version import __version__
from syndarix_rt.errors import MissingExtra
from syndarix_rt.table import aligned
from syndarix_rt.verification.faults import Done
from syndarix_rt.verification.oracle import Violation

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Served", "Verdict"]


class Served(msgspec.Struct, frozen=True):
    """How one subscriber was served."""

    name: str
    kind: str
    types: str | None
    """Its filter."""
    events: int
    gaps: int
    """Losses that were declared to it."""
    missed: int
    """Events in those gaps, as far as they can be known."""
    connections: int
    resumed: int
    """Connections that went on exactly where it stood."""
    p50_ms: float | None
    """Half of what it got live came sooner after its acknowledgement; upper bound of a histogram's step."""
    p99_ms: float | None
    connected: list[list[float]]
    """When each of its connections began and ended, seconds."""
    gaps_s: list[float]
    """When the gaps were declared."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of one verification."""

    level: str
    seed: int
    workers: int
    cluster: bool
    victims: dict[str, str]
    """What was planted, and the subscriber that it was done to."""
    duration_s: float
    """Of all, the start of the processes left out."""
    published: int
    """Events that the broker acknowledged."""
    deliveries: int
    """Events that subscribers received, each counted once per subscriber."""
    faults: list[Done]
    left_out: dict[str, int]
    """Kinds of faults that were planned and that the machine cannot do, with their numbers."""
    subscribers: list[Served]
    violations: list[Violation]
    rates: list[int]
    """Events published in each second."""
    version: str = __version__

    @property
    def clean(self) -> bool:
        """Whether every subscriber got exactly what it should, or was told what it could not get."""
        return not self.violations

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return {"clean": self.clean} | document

    def to_frame(self) -> pd.DataFrame:
        """A row for each subscriber, with the number of its ``violations``.

        Raises:
            MissingExtra: pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415 - an extra
        except ImportError:
            raise MissingExtra("analysis", "Verdict.to_frame") from None
        rows = []
        for each in self.subscribers:
            row = {name: getattr(each, name) for name in each.__struct_fields__ if name not in ("connected", "gaps_s")}
            rows.append(row | {"violations": sum(v.subscriber == each.name for v in self.violations)})
        return pd.DataFrame(rows)

    @property
    def command(self) -> str:
        """What does it again."""
        words = ["syndarix-rt", "verify", self.level, "--seed", str(self.seed), "--workers", str(self.workers)]
        words += ["--cluster"] * self.cluster
        return " ".join([*words, *(f"--plant {kind}" for kind in self.victims)])

    def __str__(self) -> str:
        """A table, the violations, and the verdict as the last line."""
        rows: list[tuple[str, ...]] = [
            ("SUBSCRIBERS", "N", "EVENTS", "GAPS", "MISSED", "CONNECTIONS", "RESUMED", "P50 MS", "P99 MS")
        ]
        for kind in dict.fromkeys(each.kind for each in self.subscribers):
            mine = [each for each in self.subscribers if each.kind == kind]
            rows.append(
                (
                    kind,
                    f"{len(mine)}",
                    *(f"{sum(getattr(each, name) for each in mine):,}" for name in _SUMMED),
                    *(f"{max((getattr(each, name) or 0) for each in mine):g}" for name in ("p50_ms", "p99_ms")),
                )
            )
        lines = aligned(rows, numbers=range(1, len(rows[0])))
        counted: dict[str, int] = {}
        for fault in self.faults:
            counted[fault.kind] = counted.get(fault.kind, 0) + 1
        lines += ["", f"{len(self.faults)} faults: " + ", ".join(f"{n} {kind}" for kind, n in sorted(counted.items()))]
        lines += [f"{n} {kind} left out: libfaketime is not installed" for kind, n in self.left_out.items()]
        if self.violations:
            alike: dict[tuple[str, str], list[Violation]] = {}
            for violation in self.violations:
                alike.setdefault((violation.subscriber, violation.kind), []).append(violation)
            lines.append("")
            for first, *others in list(alike.values())[:_SHOWN]:
                lines.append(f"{first}" + (f" (and {len(others):,} more)" if others else ""))
            if len(alike) > _SHOWN:
                lines.append(f"… and of {len(alike) - _SHOWN:,} other kinds or subscribers")
            lines += ["", *self._before(self.violations[0]), f"Again: {self.command}"]
        lines += [
            "",
            f"{self.deliveries:,} deliveries of {self.published:,} events in {self.duration_s:.0f} s: "
            + ("clean" if self.clean else f"{len(self.violations):,} violations"),
        ]
        return "\n".join(lines)

    def _before(self, violation: Violation) -> list[str]:
        """The faults that the first violation may come from."""
        near = [fault for fault in self.faults if fault.began_s <= violation.at_s][-3:]
        return [f"Before the first one: {fault.kind} at {fault.began_s:.2f} s ({fault.target})" for fault in near]


_SUMMED = ("events", "gaps", "missed", "connections", "resumed")
_SHOWN = 20
