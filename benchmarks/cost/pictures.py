"""Two pictures of a record: the ratio of every optimizer, and the ratio against the interval."""

from __future__ import annotations

import re
from typing import Any

from matplotlib.figure import Figure

from optax_adahessian.analysis.palette import BLACK, BLUE, GREEN, MARKERS, ORANGE, PURPLE, VERMILLION, label, new_figure

COLORS = {"ours": BLUE, "optax": VERMILLION, "somax": ORANGE, "torch": GREEN, "pytorch": PURPLE}
SERIES = ("ours", "ours, obj_fn", "optax.contrib.sophia", "somax.adahessian", "pytorch_optimizer.AdaHessian")


def ratio_per_optimizer(record: dict[str, Any]) -> Figure:
    """Every row over its framework's AdamW, with quartiles; a panel for each model."""
    names = list(dict.fromkeys(name for model in record["models"].values() for name in model["rows"]))
    figure = new_figure(2.5 + 3 * len(record["models"]), 1.2 + 0.26 * len(names))
    panels = figure.subplots(1, len(record["models"]), sharey=True, squeeze=False)[0]
    for ax, (model, measured) in zip(panels, record["models"].items(), strict=True):
        for y, name in enumerate(names):
            if name in measured["rows"]:
                low, ratio, high = measured["rows"][name]["ratio"]
                ax.errorbar(ratio, y, xerr=[[ratio - low], [high - ratio]], fmt="o", color=_color(name), markersize=4)
                ax.annotate(f"{ratio:.2f}", (ratio, y), (0, 5), textcoords="offset points", ha="center", fontsize=7)
        ax.set_xscale("log")
        ax.axvline(1, color=BLACK, linewidth=0.5)
        ax.margins(x=0.2)
        ax.set_xticks(*_ticks(*ax.get_xlim()))
        ax.minorticks_off()
        label(ax, "time over AdamW's", "", model)
    panels[0].set_yticks(range(len(names)), names, fontsize=8)
    panels[0].set_ylabel("optimizer")
    panels[0].invert_yaxis()
    return figure


def ratio_against_interval(record: dict[str, Any]) -> Figure:
    """The rows that differ in nothing but their interval, beside one gradient and two more every k steps."""
    figure = new_figure(3.6 * len(record["models"]), 3.4)
    panels = figure.subplots(1, len(record["models"]), squeeze=False)[0]
    for ax, (model, measured) in zip(panels, record["models"].items(), strict=True):
        for series, marker in zip(SERIES, MARKERS, strict=False):
            points = sorted(_points(series, measured["rows"]))
            if points:
                intervals, ratios = zip(*points, strict=True)
                style = "--" if "obj_fn" in series else "-"
                ax.plot(intervals, ratios, style, color=_color(series), marker=marker, markersize=5, label=series)
        intervals = range(1, 51)
        ax.plot(intervals, [1 + 2 / k for k in intervals], ":", color=BLACK, linewidth=1, label="1 + 2/k")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks([1, 10, 50], ["1", "10", "50"])
        ax.set_yticks(*_ticks(*ax.get_ylim()))
        ax.minorticks_off()
        label(ax, "interval k", "time over AdamW's", model)
    panels[0].legend(fontsize=7)
    return figure


def _ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Round ratios within the limits of a logarithmic axis, and how they are written."""
    ticks = [tick for tick in (0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100) if low <= tick <= high]
    return ticks, [f"{tick:g}" for tick in ticks]


def _points(series: str, rows: dict[str, Any]) -> list[tuple[int, float]]:
    """Interval and ratio of the rows of a series."""
    pattern = re.compile(rf"{re.escape(series)}, interval (\d+)( \(cond\))?")
    matches = {name: pattern.fullmatch(name) for name in rows}
    return [(int(match[1]), rows[name]["ratio"][1]) for name, match in matches.items() if match]


def _color(name: str) -> str:
    return COLORS[re.split(r"[.,_]", name)[0]]
