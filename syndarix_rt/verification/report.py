"""`html_report`: a verdict as one page that needs nothing else, with a picture of who was served when."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape

from syndarix_rt.verification.plan import FAULTS
from syndarix_rt.verification.planted import PLANTED
from syndarix_rt.verification.verdict import Served, Verdict

__all__ = ["html_report"]

WIDTH = 1100
LEFT = 150
"""Of the picture's names, pixels."""
RIGHT = 14
ROW = 15
RATE_HEIGHT = 44
TICKS = 8
"""About as many labels on the axis of time."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --muted: #5b6672; --paper: #fff; --line: #dfe4e9; --grid: #eef1f4;
  --served: #7aa7d9; --rate: #b6bfc9; --fault: #a06ad2; --gap: #b45f06; --bad: #c0262d; --good: #1a7f37 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --muted: #9aa5b1; --paper: #161b22; --line: #333c47;
  --grid: #262d36; --served: #4d7fb5; --rate: #4a5561; --fault: #b98ae6; --gap: #e0a045; --bad: #f47067;
  --good: #57ab5a } }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
h1 { margin: 0; font-size: 1.5rem } h2 { margin: 2.25rem 0 .75rem; font-size: 1.1rem }
.clean { color: var(--good) } .broken { color: var(--bad) } p, .key { color: var(--muted); margin: .25rem 0 }
code { font: 13px ui-monospace, monospace; color: var(--ink) }
.wide { overflow-x: auto } svg { display: block; min-width: 46rem; width: 100%; height: auto }
svg text { fill: var(--muted); font: 11px system-ui, sans-serif; font-variant-numeric: tabular-nums }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
th { color: var(--muted); font-weight: 500 } .n { text-align: right }
.key span { display: inline-block; width: .8em; height: .8em; margin: 0 .4em 0 1.2em; border-radius: 2px }
.key span:first-child { margin-left: 0 }
"""


def html_report(verdict: Verdict) -> str:
    """The page."""
    clean = verdict.clean
    word = "Clean" if clean else f"{len(verdict.violations):,} violations"
    told = (
        "Every subscriber received each event once and in order, or was told which were missing."
        if clean
        else "A promise was not kept; the red marks show when, the list below what."
    )
    return "".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8>",
            "<meta name=viewport content='width=device-width, initial-scale=1'>",
            f"<title>Verification: {escape(word)}</title><style>{_STYLE}</style>",
            f"<h1>Verification: <span class={'clean' if clean else 'broken'}>{word}</span></h1><p>{told}</p>",
            (
                f"<p>{verdict.deliveries:,} deliveries of {verdict.published:,} events to {len(verdict.subscribers)} "
                f"subscribers by {verdict.workers} server processes "
                f"{'on a Redis Cluster' if verdict.cluster else 'on one Redis'} in {verdict.duration_s:,.0f} s, with "
                f"{len(verdict.faults)} faults. Syndarix RT {escape(verdict.version)}.</p>"
            ),
            f"<p>Again: <code>{escape(verdict.command)}</code></p>",
            *_planted(verdict),
            "<h2>What happened</h2>",
            (
                "<p class=key><span style='background:var(--rate)'></span>events a second"
                "<span style='background:var(--fault)'></span>fault"
                "<span style='background:var(--served)'></span>connected"
                "<span style='background:var(--gap)'></span>gap declared"
                "<span style='background:var(--bad)'></span>violation</p>"
            ),
            f"<div class=wide>{_picture(verdict)}</div>",
            *_violations(verdict),
            "<h2>Subscribers</h2><div class=wide>",
            _table(_SUBSCRIBERS, (_row(each) for each in verdict.subscribers), numbers=2),
            "</div><h2>Faults</h2><div class=wide>",
            _table(
                ("Began at", "Took", "Fault", "Struck"),
                (
                    (f"{each.began_s:.2f} s", f"{each.ended_s - each.began_s:.2f} s", FAULTS[each.kind], each.target)
                    for each in verdict.faults
                ),
            ),
            "</div></html>\n",
        ]
    )


def _planted(verdict: Verdict) -> Iterator[str]:
    for kind, name in verdict.victims.items():
        yield f"<p>Planted on purpose: {escape(PLANTED[kind])}, at {escape(name)}.</p>"


def _violations(verdict: Verdict) -> Iterator[str]:
    if verdict.violations:
        yield "<h2>Violations</h2><div class=wide>"
        yield _table(
            ("At", "Kind", "Subscriber", "What"),
            ((f"{each.at_s:.2f} s", each.kind, each.subscriber, each.text) for each in verdict.violations[:_MOST]),
        )
        if len(verdict.violations) > _MOST:
            yield f"<p>… and {len(verdict.violations) - _MOST:,} more.</p>"
        yield "</div>"


_MOST = 200
_SUBSCRIBERS = (
    "Subscriber", "Filter", "Events", "Gaps", "Missed", "Connections", "Resumed", "p50 ms", "p99 ms",
)  # fmt: skip


def _row(each: Served) -> tuple[str, ...]:
    counts = (each.events, each.gaps, each.missed, each.connections, each.resumed)
    delays = ("-" if delay is None else f"{delay:g}" for delay in (each.p50_ms, each.p99_ms))
    return (each.name, each.types or "", *(f"{count:,}" for count in counts), *delays)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: int | None = None) -> str:
    """Columns from ``numbers`` on are numbers."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if numbers is not None and index >= numbers else ''}>{escape(cell)}"
            for index, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line(row, 'td')}" for row in rows)
    return f"<table><tr>{line(header, 'th')}{body}</table>"


# ---- the picture --------------------------------------------------------------------------------------------------


def _picture(verdict: Verdict) -> str:
    end_s = max(verdict.duration_s, 1.0)

    def x(at_s: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(at_s, end_s) / end_s, 1)

    kinds = [kind for kind in FAULTS if any(fault.kind == kind for fault in verdict.faults)]
    faults_y = RATE_HEIGHT + 12
    served_y = faults_y + ROW * len(kinds) + 12
    bottom = served_y + ROW * len(verdict.subscribers)
    parts = [
        (
            f"<svg viewBox='0 0 {WIDTH} {bottom + 26}' role=img aria-label='"
            f"{len(verdict.faults)} faults and {len(verdict.subscribers)} subscribers over {end_s:.0f} seconds'>"
        )
    ]
    step_s = _step(end_s)
    for tick in range(int(end_s / step_s) + 1):
        at_s = tick * step_s
        parts.append(f"<path d='M{x(at_s)} 0V{bottom + 4}' stroke='var(--grid)'/>")
        parts.append(f"<text x={x(at_s)} y={bottom + 18} text-anchor=middle>{at_s:g} s</text>")
    parts += _rates(verdict, x)
    for row, kind in enumerate(kinds):
        y = faults_y + ROW * row
        parts.append(_label(kind.replace("_", " "), y))
        for fault in verdict.faults:
            if fault.kind == kind:
                text = f"{FAULTS[kind]}, {fault.began_s:.2f} to {fault.ended_s:.2f} s: {fault.target}"
                parts.append(_bar(x(fault.began_s), x(fault.ended_s), y, "fault", text))
    wrong: dict[str, list[tuple[float, str]]] = {}
    for violation in verdict.violations:
        wrong.setdefault(violation.subscriber, []).append((violation.at_s, violation.text))
    for row, each in enumerate(verdict.subscribers):
        y = served_y + ROW * row
        parts.append(_label(each.name, y))
        for began_s, ended_s in each.connected:
            parts.append(_bar(x(began_s), x(ended_s), y, "served", f"connected {began_s:g} to {ended_s:g} s"))
        parts += [_mark(x(at_s), y, "gap", f"gap declared at {at_s:g} s") for at_s in each.gaps_s]
        parts += [_mark(x(at_s), y, "bad", text) for at_s, text in wrong.get(each.name, [])[:_MOST]]
    return "".join([*parts, "</svg>"])


def _rates(verdict: Verdict, x: Callable[[float], float]) -> Iterator[str]:
    most = max(verdict.rates, default=0) or 1
    yield _label(f"{most:,} events/s", 0)
    for second, count in enumerate(verdict.rates):
        height = round(RATE_HEIGHT * count / most, 1)
        width = max(1.0, x(second + 1) - x(second) - 1)
        yield f"<rect x={x(second)} y={RATE_HEIGHT - height} width={width:.1f} height={height} fill='var(--rate)'/>"


def _step(end_s: float) -> float:
    """A round distance of ticks."""
    rough = end_s / TICKS
    unit = 10 ** math.floor(math.log10(rough))
    return float(next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough))


def _label(text: str, y: float) -> str:
    return f"<text x={LEFT - 10} y={y + 11} text-anchor=end>{escape(text)}</text>"


def _bar(begin: float, end: float, y: float, colour: str, text: str) -> str:
    return (
        f"<rect x={begin} y={y + 3} width={max(2.0, end - begin):.1f} height={ROW - 5} rx=2 fill='var(--{colour})'>"
        f"<title>{escape(text)}</title></rect>"
    )


def _mark(at: float, y: float, colour: str, text: str) -> str:
    return (
        f"<rect x={at - 1.5:.1f} y={y + 1} width=3 height={ROW - 1} fill='var(--{colour})' "
        f"stroke='var(--paper)' stroke-width=.5><title>{escape(text)}</title></rect>"
    )
