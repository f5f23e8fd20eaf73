"""Still pictures of charts, drawn as SVG without a browser: for saved notebooks, GitHub, nbconvert and nbclient.

They show what ``web/chart.js`` shows at the end of its window, by the same rules: what is not known is not drawn.
The paper is white, so that they can be read on a dark page, too.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from syndarix_rt.notebook.panels.agents import AgentLanes
from syndarix_rt.notebook.panels.catalogue import Chart
from syndarix_rt.notebook.still_axes import (
    CHARACTER_PX,
    GRID,
    INK,
    LEFT,
    LINE,
    MUTED,
    RIGHT,
    TOP,
    WIDTH,
    Clock,
    Frame,
    scale,
    short,
    text,
    time_axis,
    value_axis,
)

__all__ = ["NO_VIEW", "Still", "draw_chart", "draw_page", "no_view"]

_PLOT_PX = 170
_LANE_PX = 17
_LANES_LEFT = 104
_LEGEND_PX = 17
_GAP = "#d55e00"
_SANS = "system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif"

NO_VIEW = (
    "No live view has answered. If JupyterLab runs in another environment than this kernel, install the widgets there, "
    "too: pip install anywidget, then load this page again and run this cell again."
)


def draw_chart(chart: Chart, now_s: float) -> str:
    """A chart as one ``<svg>`` element.

    Args:
        chart: what it shows.
        now_s: where its window ends, on its axis; NaN: it has seen nothing.
    """
    options, model = chart.options, chart.model
    table = model.rows()
    lanes = model.lanes[: _lane_count(table)] if isinstance(model, AgentLanes) else None
    bin_s = 0.0 if lanes is not None else model.bin_s
    to_s = (math.floor(now_s / bin_s) + 1) * bin_s if bin_s and not math.isnan(now_s) else now_s
    from_s = to_s - options["windowS"]
    span_s = getattr(model, "span_s", None)
    if span_s is not None:
        from_s = span_s[0] // bin_s * bin_s
        to_s = span_s[1] or max(to_s, from_s + bin_s)
    if lanes is None:
        table = table[(table[:, 0] >= from_s) & (table[:, 0] < to_s)] if len(table) else table
    stacked = options["kind"] in ("bars", "areas")
    top, step = 1.0, 1.0
    if lanes is None and len(table):
        top, step = scale(table[:, 1:], stacked=stacked, least=float(options["whole"]))
    height = _PLOT_PX if lanes is None else max(_LANE_PX * len(lanes), 2 * _LANE_PX)
    frame = Frame(from_s, to_s, top, height, LEFT if lanes is None else _LANES_LEFT)
    seen = _seen(chart, table)
    parts: list[str] = []
    if not seen or math.isnan(now_s):
        parts.append(text(WIDTH / 2, TOP + height / 2, options["empty"], "middle", size=13, color=MUTED))
    else:
        parts += [*time_axis(frame, Clock(options["clock"] == "simulated", model.start_s))]
        if lanes is None:
            parts += [*value_axis(frame, step), *_DRAW[options["kind"]](chart, table, frame)]
        else:
            parts += [*_lane_names(frame, lanes), *_draw_lanes(chart, frame)]
        parts += [*_gaps(chart, frame)]
    legend, legend_px = _legend(chart, seen, frame.bottom + 34)
    whole = frame.bottom + 34 + legend_px
    head = [
        f'<rect width="{WIDTH}" height="{whole:g}" rx="8" fill="#ffffff" stroke="{GRID}"/>',
        text(14, 22, options["title"], color=INK, size=13, weight=600),
        text(14, 40, options["unit"]),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="srt-still" width="{WIDTH}" height="{whole:g}" '
        f'viewBox="0 0 {WIDTH} {whole:g}" role="img" font-family="{_SANS}" font-size="11">'
        f"<title>{escape(options['title'])}</title><desc>{escape(_described(chart, table, seen, now_s))}</desc>"
        f"{''.join(head)}{''.join(parts)}{''.join(legend)}</svg>"
    )


class Still:
    """A still picture of a dashboard.

    Attributes:
        pictures: an SVG for each chart, by name.
        svg: all of them, as one.
    """

    def __init__(self, pictures: dict[str, str], project: str, line: str) -> None:
        self.pictures = pictures
        self.svg = draw_page(list(pictures.values()), f"Project {project}", line)
        self._text = f"Dashboard of {project!r}: {line}"

    def bundle(self) -> dict[str, str]:
        """It by MIME type, as notebooks keep it."""
        return {"image/svg+xml": self.svg, "text/plain": self._text}

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return self.bundle()

    def __repr__(self) -> str:
        return f"<Still of {len(self.pictures)} charts>"


def no_view(svg: str) -> str:
    """What is shown where widgets are not."""
    picture = b64encode(svg.encode()).decode()
    return f'<p><strong>{NO_VIEW}</strong></p><img alt="Still picture" src="data:image/svg+xml;base64,{picture}">'


def draw_page(pictures: Sequence[str], heading: str, line: str) -> str:
    """Several pictures of `draw_chart` below a heading, in two columns, as one ``<svg>`` element."""
    columns = 1 if len(pictures) == 1 else 2
    gap, top = 12, 54
    bottoms = [float(top)] * columns
    placed = []
    for picture in pictures:
        column = bottoms.index(min(bottoms))
        x, y = column * (WIDTH + gap), bottoms[column]
        placed.append(picture.replace("<svg ", f'<svg x="{x}" y="{y:g}" ', 1))
        bottoms[column] += float(picture.split('height="', 1)[1].split('"', 1)[0]) + gap
    width, height = columns * (WIDTH + gap) - gap, max(bottoms) - gap if pictures else top
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:g}" viewBox="0 0 {width} {height:g}" '
        f'style="max-width:100%;height:auto" font-family="{_SANS}" font-size="11">'
        f'<rect width="{width}" height="{top - 12}" rx="8" fill="#ffffff" stroke="{GRID}"/>'
        f"{text(14, 18, heading, color=INK, size=13, weight=600)}{text(14, 34, line)}{''.join(placed)}</svg>"
    )


# ---- what is drawn ----------------------------------------------------------------------------------------------


def _draw_bars(chart: Chart, table: NDArray[np.float64], frame: Frame) -> Iterator[str]:
    bin_s = chart.model.bin_s
    bases = np.zeros(len(table))
    for column, line in enumerate(chart.options["series"], 1):
        boxes = []
        for row, base in zip(table, bases, strict=True):
            value = row[column]
            if value > 0:
                left, right = frame.x(row[0]), frame.x(row[0] + bin_s)
                low, high = frame.y(base), frame.y(base + value)
                boxes.append(f"M{left:.1f} {low:.1f}V{high:.1f}H{max(right - 0.5, left + 0.5):.1f}V{low:.1f}Z")
        bases += np.nan_to_num(table[:, column])
        if boxes:
            yield f'<path class="srt-series" fill="{line["color"]}" d="{"".join(boxes)}"/>'


def _draw_areas(chart: Chart, table: NDArray[np.float64], frame: Frame) -> Iterator[str]:
    bases = np.zeros(len(table))
    for column, line in enumerate(chart.options["series"], 1):
        outlines, edges = [], []
        for run in _runs(chart, table, column):
            xs = [frame.x(table[i, 0] + chart.model.bin_s / 2) for i in run]
            tops = [frame.y(bases[i] + table[i, column]) for i in run]
            lows = [frame.y(bases[i]) for i in run]
            outlines.append(_path([*xs, *reversed(xs)], [*tops, *reversed(lows)]) + "Z")
            edges.append(_path(xs, tops))
        if np.nansum(table[:, column]) > 0:
            yield f'<path class="srt-series" fill="{line["color"]}" fill-opacity="0.75" d="{"".join(outlines)}"/>'
            look = f'fill="none" stroke="{line["color"]}" stroke-width="1.25" stroke-linecap="round"'
            yield f'<path {look} d="{"".join(edges)}"/>'
        bases += np.nan_to_num(table[:, column])


def _draw_lines(chart: Chart, table: NDArray[np.float64], frame: Frame) -> Iterator[str]:
    for column, line in enumerate(chart.options["series"], 1):
        strokes = []
        for run in _runs(chart, table, column):
            xs = [frame.x(table[i, 0] + chart.model.bin_s / 2) for i in run]
            strokes.append(_path(xs, [frame.y(table[i, column]) for i in run]))
        if np.nansum(table[:, column]) > 0:
            look = f'fill="none" stroke="{line["color"]}" stroke-width="2" stroke-linecap="round"'
            dash = ' stroke-dasharray="5 4"' if line.get("dash") else ""
            yield f'<path class="srt-series" {look}{dash} d="{"".join(strokes)}"/>'


def _path(xs: Sequence[float], ys: Sequence[float]) -> str:
    """A line through points, each in the middle of its bin as in the live chart; a single one is a dot."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True)) + ("h0" if len(xs) == 1 else "")


_DRAW = {"bars": _draw_bars, "areas": _draw_areas, "lines": _draw_lines}


def _draw_lanes(chart: Chart, frame: Frame) -> Iterator[str]:
    assert isinstance(chart.model, AgentLanes)
    boxes: dict[int, list[str]] = {}
    for lane, start_s, end_s, state in chart.model.spans():
        left, right = frame.x(start_s), frame.x(frame.to_s if end_s is None else end_s)
        if right > left:
            size = (_LANE_PX - 4) * chart.options["series"][state].get("size", 1)
            low = TOP + (lane + 1) * _LANE_PX - 2
            boxes.setdefault(state, []).append(f"M{left:.1f} {low}V{low - size:g}H{right:.1f}V{low}Z")
    for state in sorted(boxes):
        color = chart.options["series"][state]["color"]
        yield f'<path class="srt-series" fill="{color}" d="{"".join(boxes[state])}"/>'


def _runs(chart: Chart, table: NDArray[np.float64], column: int) -> Iterator[list[int]]:
    """Rows that a line may join: each known, next to the one before, and no gap between."""
    run: list[int] = []
    bin_s = chart.model.bin_s
    for i, row in enumerate(table):
        before_s = table[i - 1, 0] if i else math.nan
        broken = row[0] - before_s > 1.5 * bin_s or any(
            gap.start_s < row[0] + bin_s / 2 and gap.end_s > before_s + bin_s / 2 for gap in chart.model.gaps
        )
        if run and (broken or math.isnan(row[column])):
            yield run
            run = []
        if not math.isnan(row[column]):
            run.append(i)
    if run:
        yield run


# ---- around it --------------------------------------------------------------------------------------------------


def _lane_names(frame: Frame, names: Sequence[str]) -> Iterator[str]:
    longest = int((frame.left - 14) / CHARACTER_PX)
    for lane, name in enumerate(names):
        y = TOP + (lane + 1) * _LANE_PX
        shown = name if len(name) <= longest else f"{name[: longest - 4]}…{name[-3:]}"
        yield f'<path d="M{frame.left:g} {y}H{WIDTH - RIGHT}" stroke="{GRID}"/>'
        yield text(14, y - 5, shown, color=INK)
    yield f'<path d="M{frame.left:g} {frame.bottom:g}H{WIDTH - RIGHT}" stroke="{LINE}"/>'


def _gaps(chart: Chart, frame: Frame) -> Iterator[str]:
    for gap in chart.model.gaps:
        if gap.end_s < frame.from_s or gap.start_s > frame.to_s:
            continue
        width = max(frame.x(gap.end_s) - frame.x(gap.start_s), 3.0)  # a short one is seen too, around where it is
        left = frame.x((gap.start_s + gap.end_s) / 2) - width / 2
        yield (
            f'<rect class="srt-gap" x="{left:.1f}" y="{TOP}" width="{width:.1f}" height="{frame.height:g}" '
            f'fill="{_GAP}" fill-opacity="0.12" stroke="{_GAP}" stroke-opacity="0.5" stroke-dasharray="3 3">'
            f"<title>{escape(gap.label)}</title></rect>"
        )
        label = next((text for text in (gap.label, "gap") if len(text) * CHARACTER_PX < width), "")
        if label:
            yield text(left + width / 2, TOP + 14, label, "middle", color=_GAP)


def _legend(chart: Chart, seen: Sequence[int], y: float) -> tuple[list[str], float]:
    """Those that were seen; and how high that is."""
    parts: list[str] = []
    x, first_y = 14.0, y
    for column in seen:
        line = chart.options["series"][column]
        width = 16 + CHARACTER_PX * len(line["name"]) + 12
        if x + width > WIDTH - RIGHT and x > 14:  # noqa: PLR2004 - the left edge
            x, y = 14.0, y + _LEGEND_PX
        parts.append(f'<rect x="{x:g}" y="{y - 9:g}" width="10" height="10" rx="2" fill="{line["color"]}"/>')
        parts.append(text(x + 15, y, line["name"]))
        x += width
    return parts, y - first_y + 14


def _seen(chart: Chart, table: NDArray[np.float64]) -> list[int]:
    """Series that have a value, or states that somebody was in."""
    if isinstance(chart.model, AgentLanes):
        return sorted({int(state) for state in table[:, 2] if state >= 0})
    return [column for column in range(table.shape[1] - 1) if np.nansum(np.abs(table[:, column + 1])) > 0]


def _lane_count(table: NDArray[np.float64]) -> int:
    return int(table[:, 1].max()) + 1 if len(table) else 0


def _described(chart: Chart, table: NDArray[np.float64], seen: Sequence[int], now_s: float) -> str:
    options = chart.options
    if not seen:
        return f"{options['empty']}."
    names = ", ".join(options["series"][column]["name"] for column in seen)
    gaps = len(chart.model.gaps)
    holes = f" {gaps} {'gap' if gaps == 1 else 'gaps'} in the data." if gaps else ""
    if isinstance(chart.model, AgentLanes):
        return f"States of {_lane_count(table)} agents: {names}.{holes}"
    last = ", ".join(
        f"{options['series'][column]['name']} {short(values[-1])}"
        for column in seen
        if len(values := _known(table, column, now_s))
    )
    return f"{options['unit']} by {names}. Last: {last}.{holes}"


def _known(table: NDArray[np.float64], column: int, now_s: float) -> NDArray[np.float64]:
    """The values of a series up to now, without those that are unknown; what is to come is a plan."""
    values: NDArray[np.float64] = table[table[:, 0] <= now_s, column + 1]
    return values[~np.isnan(values)]
