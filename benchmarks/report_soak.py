"""What soak_load.py sampled, as a table of slopes and as a picture.

python benchmarks/report_soak.py FILE [-o docs/soak.svg] [--settled 30]

Slopes are those of a line through the samples (least squares) once all has settled: the log holds what retention lets
it, and memories are full.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path

import numpy as np

WIDTH, LEFT, RIGHT, TOP, PANEL, SPACE = 720, 46, 96, 26, 92, 44
POINTS = 120  # of a line, about
MIB = 2**20
WORST = "Events that the slowest of the subscribers lacked, at worst"

STYLE = (
    "text{fill:#57606a;font:11px system-ui,sans-serif}.t{fill:#1f2328;font-weight:600}"
    ".g{stroke:#d8dee4}.l{fill:none;stroke-width:1.6;stroke-linejoin:round}"
    ".c0{stroke:#0969da}.c1{stroke:#8250df}.c2{stroke:#bc4c00}.f0{fill:#0969da}.f1{fill:#8250df}.f2{fill:#bc4c00}"
    "@media(prefers-color-scheme:dark){text{fill:#9198a1}.t{fill:#f0f6fc}.g{stroke:#30363d}"
    ".c0{stroke:#58a6ff}.c1{stroke:#bc8cff}.c2{stroke:#f0883e}"
    ".f0{fill:#58a6ff}.f1{fill:#bc8cff}.f2{fill:#f0883e}}"
)


def series(samples):
    """Title, and name and values of each line."""

    def of(process, figure, unit=1):
        return [sample["processes"][process][figure] / unit for sample in samples]

    def both(figure):
        return [a + b for a, b in zip(of("worker 1", figure), of("worker 2", figure), strict=True)]

    return {
        "Memory, MiB": {
            "server 1": of("worker 1", "rss_bytes", MIB),
            "server 2": of("worker 2", "rss_bytes", MIB),
            "Redis": of("Redis", "used_memory", MIB),
        },
        "Of both servers": {"tasks": both("tasks"), "descriptors": both("descriptors"), "streams": both("streams")},
        WORST: {"events": [sample["behind"] for sample in samples]},
        "Load of the machine (two cores, other work included)": {
            "processes": [sample["machine_load"] for sample in samples]
        },
    }


def table(minutes, panels, settled):
    """Rows of Markdown: at the beginning of the settled time, at its end, and what an hour adds."""
    kept = np.array(minutes) >= settled
    yield f"| Figure | at {settled:g} min | at {minutes[-1]:.0f} min | slope per hour |"
    yield "|---|---|---|---|"
    for title, lines in list(panels.items())[:2]:
        for name, values in lines.items():
            at, y = np.array(minutes)[kept], np.array(values)[kept]
            slope = np.polyfit(at / 60, y, 1)[0]
            unit = " MiB" if "MiB" in title else ""
            ends = f"{statistics.median(y[:6]):,.1f}{unit} | {statistics.median(y[-6:]):,.1f}{unit}"
            yield f"| {name} | {ends} | {slope:+.1f}{unit} |"


def picture(minutes, panels):
    """One picture, a panel below the other, all from zero."""
    height = TOP + len(panels) * (PANEL + SPACE) - 8
    end = math.ceil(minutes[-1])
    label = f"{'; '.join(panels)}: over {end} minutes"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">']
    parts.append(f"<style>{STYLE}</style>")

    def x(minute):
        return round(LEFT + (WIDTH - LEFT - RIGHT) * minute / end, 1)

    for row, (title, lines) in enumerate(panels.items()):
        top = TOP + row * (PANEL + SPACE)
        size = max(1, round(len(minutes) / POINTS))
        at = [x(statistics.median(part)) for part in parted(minutes, size)]
        shown = {
            name: [(max if title == WORST else statistics.median)(part) for part in parted(values, size)]
            for name, values in lines.items()
        }
        highest = max(max(values) for values in shown.values())
        step = nice(highest / 3)
        most = step * math.ceil(highest / step)
        parts.append(f'<text class="t" x="{LEFT}" y="{top - 10}">{title}</text>')
        for tick in range(round(most / step) + 1):
            y = round(top + PANEL * (1 - tick * step / most), 1)
            parts.append(f'<path class="g" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{tick * step:,g}</text>')
        labels = []
        for index, (name, values) in enumerate(shown.items()):
            heights = [top + PANEL * (1 - value / most) for value in values]
            points = " ".join(f"{across:g},{down:.1f}" for across, down in zip(at, heights, strict=True))
            parts.append(f'<polyline class="l c{index}" points="{points}"/>')
            labels.append((heights[-1] + 4, name, index))
        below = -math.inf
        for y, name, index in sorted(labels):
            below = max(y, below + 13)
            parts.append(f'<text class="f{index}" x="{WIDTH - RIGHT + 6}" y="{below:.1f}">{name}</text>')
        if row == len(panels) - 1:
            parts += [
                f'<text x="{x(minute)}" y="{top + PANEL + 17}" text-anchor="middle">{minute:g}</text>'
                for minute in np.arange(0, end + 1e-9, nice(end / 6))
            ]
            parts.append(f'<text x="{WIDTH - RIGHT + 16}" y="{top + PANEL + 17}">minutes</text>')
    return "".join([*parts, "</svg>\n"])


def parted(values, size):
    return [values[at : at + size] for at in range(0, len(values), size)]


def nice(rough):
    """A round number that is not smaller."""
    unit = 10 ** math.floor(math.log10(rough))
    return next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="where the picture goes")
    parser.add_argument("--settled", type=float, default=30.0, help="minutes until all has settled")
    options = parser.parse_args()
    documents = [json.loads(line) for line in options.file.read_text().splitlines()]
    results = [document["result"] for document in documents if "result" in document]
    samples = [document for document in documents if "result" not in document]
    total = results[0]["events"] if results else math.inf
    live = [sample for sample in samples if sample["published"] < total]  # later ones show what is left of it
    minutes = [sample["at_s"] / 60 for sample in live]
    panels = series(live)
    print("\n".join(table(minutes, panels, options.settled)))
    print(json.dumps({"result": results, "after": samples[-1]["processes"]}, indent=1))
    if options.output:
        options.output.write_text(picture(minutes, panels))


if __name__ == "__main__":
    main()
