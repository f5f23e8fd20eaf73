"""Figures of bench_delivery.py as text, as docs/benchmarks.md, and as plots."""

from __future__ import annotations

import statistics
import textwrap

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

OURS = "syndarix-rt"

# Measure: title, figures that are shown with their format and what they mean.
SHOWN = {
    "highest_rate": (
        "Highest sustained rate, 1,000 subscribers of one project",
        {"rate": (",.0f", "events/s"), "deliveries_per_s": (",.0f", "deliveries/s"), "p99_ms": (".0f", "p99, ms"),
         "server_load": (".2f", "server, cores"), "client_load": (".2f", "client, cores"),
         "beyond_server_load": (".2f", "server at the next rate"), "beyond_client_load": (".2f", "client there")},
    ),
    "latency": (
        "200 subscribers, 10 events/s",
        {"p50_ms": (".1f", "p50, ms"), "p99_ms": (".1f", "p99, ms"), "cpu_us": (".1f", "CPU a delivery, µs")},
    ),
    "single_sends": (
        "200 subscribers, 100 events/s: next to nothing to coalesce",
        {"p50_ms": (".1f", "p50, ms"), "p99_ms": (".1f", "p99, ms"), "cpu_us": (".1f", "CPU a delivery, µs")},
    ),
    "busy": (
        "1,000 subscribers, 100 events/s",
        {"p50_ms": (".1f", "p50, ms"), "p99_ms": (".1f", "p99, ms"), "cpu_us": (".1f", "CPU a delivery, µs"),
         "server_load": (".2f", "server, cores")},
    ),
    "idle_5000": (
        "5,000 idle connections, then one event",
        {"served": (",.0f", "served"), "kib_per_connection": (".1f", "KiB a connection"),
         "event_to_all_ms": (",.0f", "event at the last one, ms")},
    ),
    "idle_10000": (
        "10,000 idle connections, then one event",
        {"served": (",.0f", "served"), "kib_per_connection": (".1f", "KiB a connection"),
         "event_to_all_ms": (",.0f", "event at the last one, ms")},
    ),
    "projects": (
        "1,000 projects x 5 subscribers, 1 event/s each",
        {"deliveries_per_s": (",.0f", "deliveries/s"), "p50_ms": (".1f", "p50, ms"), "p99_ms": (".1f", "p99, ms"),
         "server_load": (".2f", "server, cores")},
    ),
    "stalled": (
        "500 of 1,000 subscribers stop reading; 125 events/s of 8 kB",
        {"before_p99_ms": (".1f", "p99 while all read, ms"), "p99_ms": (".1f", "p99 of those who go on, ms"),
         "alone_p99_ms": (".1f", "p99 if only they were there, ms"),
         "arrived": (".2%", "arrived at them"), "memory_mib": (",.0f", "server, MiB")},
    ),
    "resume": (
        "200 clients come back at once, 1,000 events missed each",
        {"p50_ms": (".0f", "p50, ms"), "p99_ms": (".0f", "p99, ms"), "lost": (".0f", "lost"),
         "doubled": (".0f", "doubled")},
    ),
}  # fmt: skip


def one_line(figures):
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )


def median(runs, name):
    values = [run[name] for run in runs if name in run]
    return statistics.median(values) if values else None


def rows(found, measure):
    """The shown figures of each candidate, medians; None where it failed."""
    _, columns = SHOWN[measure]
    for who, runs in found["measures"][measure].items():
        yield who, [(median(runs, name), form) for name, (form, _) in columns.items()]


def cell(value, form):
    return "failed" if value is None else format(value, form)


def lines(found):
    for measure in found["measures"]:
        title, columns = SHOWN[measure]
        yield f"\n{title}"
        yield "  ".join(["".ljust(24), *(label.rjust(26) for _, label in columns.values())])
        for who, values in rows(found, measure):
            yield "  ".join([who.ljust(24), *(cell(*value).rjust(26) for value in values)])
    if "publishing" in found:
        yield f"\nPublishing into Redis, batches of 100: {found['publishing']:,.0f} events/s"
    yield ""
    for words, bound, reached, enough in judged(found):
        yield f"{words.ljust(46)} {bound.rjust(12)} {reached.rjust(12)}{'' if enough else '  missed'}"


def figure(measure, name, who=OURS):
    """Reads a median out of what was found; None where it is missing."""
    return lambda found: median(found["measures"].get(measure, {}).get(who, []), name)


def over(measure, name, peer):
    """… ours over a peer's, of the same run."""

    def read(found):
        ours, theirs = figure(measure, name)(found), figure(measure, name, peer)(found)
        return ours / theirs if ours and theirs else None

    return read


STARLETTE, HUB, NCHAN = "sse-starlette", "sse-starlette, own hub", "Nchan"

# What was aimed at before anything was measured: words, what is read, how it is shown, at least (>=) or at most, bound.
AIMS = [
    ("Deliveries/s, 1,000 subscribers", figure("highest_rate", "deliveries_per_s"), ",.0f", ">=", 5_000_000),
    ("… over sse-starlette", over("highest_rate", "deliveries_per_s", STARLETTE), ",.0f", ">=", 250),
    ("… over sse-starlette with its own hub", over("highest_rate", "deliveries_per_s", HUB), ",.0f", ">=", 150),
    ("… over Nchan", over("highest_rate", "deliveries_per_s", NCHAN), ",.0f", ">=", 40),
    ("Latency p50, 200 subscribers, 10 events/s, ms", figure("latency", "p50_ms"), ".1f", "<=", 2),
    ("… p99, ms", figure("latency", "p99_ms"), ".1f", "<=", 5),
    ("CPU a single send, over Nchan", over("single_sends", "cpu_us", NCHAN), ".2f", "<=", 1.0),
    ("… over sse-starlette", over("single_sends", "cpu_us", STARLETTE), ".2f", "<=", 0.45),
    ("1,000 subscribers, 100 events/s, cores", figure("busy", "server_load"), ".2f", "<=", 0.5),
    ("… p99, ms", figure("busy", "p99_ms"), ".0f", "<=", 30),
    ("KiB a connection, 5,000 idle ones", figure("idle_5000", "kib_per_connection"), ".1f", "<=", 20),
    ("… 10,000", figure("idle_10000", "kib_per_connection"), ".1f", "<=", 20),
    ("An event at the last of 10,000, ms", figure("idle_10000", "event_to_all_ms"), ",.0f", "<=", 2_000),
    ("p99, 1,000 projects x 5 subscribers, ms", figure("projects", "p99_ms"), ".0f", "<=", 100),
    ("p99 after half stopped reading, over before", figure("stalled", "p99_over_before"), ".2f", "<=", 1.1),
    ("p99 of 200 that come back at once, ms", figure("resume", "p99_ms"), ".0f", "<=", 250),
    ("Events/s into Redis, batches of 100", lambda found: found.get("publishing"), ",.0f", ">=", 100_000),
]


def judged(found):
    """Each aim whose figure is there: words, the bound, what was reached, whether that is enough."""
    for words, read, form, sign, bound in AIMS:
        reached = read(found)
        if reached is not None:
            enough = reached >= bound if sign == ">=" else reached <= bound
            yield words, f"{'≥' if sign == '>=' else '≤'} {bound:,}", format(reached, form), enough


INTRODUCTION = """\
# Benchmarks

What one worker delivers, measured beside what else one would take today, in the same run on the same machine. Figures
of different machines or days do not compare; ratios of one run do. To make this page anew:

    pip install -r benchmarks/requirements.txt    # the peers; Nchan: apt-get install nginx libnginx-mod-nchan
    python benchmarks/bench_delivery.py --write

## How it was measured

{repeats}

The server has one core; subscribers, publisher and Redis share the other. Events are 300 bytes. Rates are open-loop:
the publisher keeps to its schedule, so queueing shows as latency, which is from just before an event is published to
when a subscriber has read it. A rate is sustained if 99 % of all deliveries arrive with a p99 below 250 ms; each
candidate climbs its own ladder of rates, and stops at the first that it does not sustain; where the client's load there
is near 1 or above (it goes on after the last event), it is the client that has no time left. In all runs of syndarix-rt
together {missing:,.0f} events were missing, {duplicated:,.0f} doubled, {out_of_order:,.0f} out of order.

**Coalescing does it.** A subscriber that is due several events gets them in one write, so the cost is per flush, not
per event, and falls as the rate grows. The peers send each event by itself. Where there is nothing to coalesce the lead
is small, or reversed: see *200 subscribers, 100 events/s*. In a profile of 2,000 events/s to 1,000 subscribers 62 % of
the server's time is the kernel's, half of it for copying bytes, which no server avoids.

**At the highest rate the subscribers' core is full, not the server's**: a third of that is left. Where nine of
ten subscribers have their kernel throw away what comes, each byte counted but none copied, and one in ten reads all
(`benchmarks/bench_ceiling.py`, 2026-11-27, 4 seconds a rate), the same worker gave 1,000 subscribers 5,000 events/s
with 0.41 and 0.44 of a core (4,990,000 deliveries/s, p99 61 and 63 ms), 6,000 with 0.43 and 0.45 (p99 76 and 94 ms),
and 7,000 with 0.48 (6,990,000 deliveries/s, p99 201 ms); at 8,000 p99 was 467 ms, with half the server's core idle.

Peers: sse-starlette on uvicorn (uvloop, httptools) as its documentation shows it, a Redis subscription for each client;
the same with one subscription and a queue for each client; nginx with Nchan, one worker, messages in its memory,
published over HTTP. None of them resumes exactly over a restart, checks events, or declares a loss.
"""


def write(found, docs):
    """docs/benchmarks.md and its plots."""
    repeats = max(len(runs) for each in found["measures"].values() for runs in each.values())
    machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    how = f"{repeats} run{'s' if repeats > 1 else ''} of each measure, all candidates in turn, medians. On: {machine}."
    ours = [run for each in found["measures"].values() for run in each.get(OURS, [])]
    faults = {name: sum(run.get(name, 0) for run in ours) for name in ("missing", "duplicated", "out_of_order")}
    text = [INTRODUCTION.format(repeats=textwrap.fill(how, 120, break_on_hyphens=False), **faults)]
    if aims := list(judged(found)):
        text += ["## What was aimed at, and reached\n", "| | aim | reached | |", "|---|---:|---:|---|"]
        text += [f"| {words} | {bound} | {it} | {'' if met else '**missed**'} |" for words, bound, it, met in aims]
        text.append("")
    for measure in (name for name in SHOWN if name in found["measures"]):
        title, columns = SHOWN[measure]
        text += [f"## {title}\n", "| | " + " | ".join(label for _, label in columns.values()) + " |"]
        text.append("|---|" + "---:|" * len(columns))
        for who, values in rows(found, measure):
            name = f"**{who}**" if who == OURS else who
            text.append(f"| {name} | " + " | ".join(cell(*value) for value in values) + " |")
        text.append("")
    if "publishing" in found:
        text += [f"Publishing into Redis in batches of 100: {found['publishing']:,.0f} events/s.\n"]
    if "curves" in found:
        plot(found["curves"], docs)
        text += [
            "## Over rates and subscribers\n",
            "![Deliveries a second, latency and CPU over event rates](benchmarks.svg)",
        ]
    (docs / "benchmarks.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def plot(curves, docs):
    """Deliveries, latency and CPU over the event rate, a line for each number of subscribers."""
    mpl.rcParams["svg.hashsalt"] = "syndarix-rt"  # the same figures give the same file
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), constrained_layout=True)
    panels = [
        ("deliveries_per_s", "deliveries/s"),
        ("p99_ms", "latency p99 (solid) and p50, ms"),
        ("cpu_us", "server CPU a delivery, µs"),
    ]
    for subscribers in sorted({each["subscribers"] for each in curves}):
        of_these = [each for each in curves if each["subscribers"] == subscribers]
        rates = [each["rate"] for each in of_these]
        for axis, (name, _) in zip(axes, panels, strict=True):
            (line,) = axis.plot(
                rates, [each[name] for each in of_these], marker="o", label=f"{subscribers:,} subscribers"
            )
            if name == "p99_ms":
                axis.plot(rates, [each["p50_ms"] for each in of_these], ":", color=line.get_color())
    for axis, (_, label) in zip(axes, panels, strict=True):
        axis.set(xscale="log", yscale="log", xlabel="events/s", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.savefig(docs / "benchmarks.svg", metadata={"Date": None})
