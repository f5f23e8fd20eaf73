"""Fitted laws beside the data, drawn with matplotlib (``pip install 'syndarix-rt[analysis]'``)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from syndarix_rt.errors import MissingExtra
from syndarix_rt.simulation.analysis.fitting import Fitted, kaplan_meier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plotted"]


def plotted(quantities: list[Fitted]) -> Figure:
    """A panel a quantity: shares of values at most x beside those of the laws; the chosen law is the thick line.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot as plt  # noqa: PLC0415 - an extra, slow to load
    except ImportError:
        raise MissingExtra("analysis", "Fit.plot") from None
    columns = min(3, max(len(quantities), 1))
    lines = math.ceil(len(quantities) / columns) or 1
    figure = plt.figure(figsize=(5 * columns, 3.6 * lines), layout="constrained")
    for place, quantity in enumerate(quantities, start=1):
        axes = figure.add_subplot(lines, columns, place)
        values = quantity.observed
        positive = values[values > 0]
        low, high = (positive[0], positive[-1]) if len(positive) else (0.1, 1)
        x = np.geomspace(low / 1.5, high * 1.5, 400)
        points, upto, _, _ = kaplan_meier(values, quantity.open)
        axes.step(points, upto, where="post", color="black", label="measured")
        for candidate in quantity.all:
            chosen = candidate == quantity.chosen
            axes.plot(
                x,
                candidate.law.cdf(x),
                linewidth=2.4 if chosen else 0.9,
                alpha=1 if chosen else 0.7,
                label=f"{candidate.name}, KS {candidate.ks:.3f}" + (" (chosen)" if chosen else ""),
            )
        axes.set_xscale("log")
        axes.set_ylim(0, 1)
        axes.set_xlabel(f"{quantity.key} ({quantity.unit}), n = {len(values):,}")
        axes.set_ylabel("share at most")
        axes.legend(fontsize="x-small", loc="lower right")
    return figure
