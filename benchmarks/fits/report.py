"""The tables and the picture."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import report
from benchmarks.fits import rows
from benchmarks.report import Line

GOOD, PICTURED = 1e-3, "peak"  # of the starting gap; the fit of the picture


def fractions(line: Line) -> list[float]:
    """For each rate, the mean over seeds of the loss above the optimum, over that of the start."""
    gap = line["start"] - line["optimum"]
    means = [np.mean([math.inf if loss is None else loss for loss in losses]) for losses in line["losses"]]
    return [float(mean - line["optimum"]) / gap for mean in means]


def tables(where: dict[str, Any], lines: Sequence[Line]) -> str:
    """Where it was measured; fractions of the starting gap; seconds; whether the targets hold."""
    lines = [line for line in lines if line["optimizer"] != rows.WIDE]
    parts = [
        report.setting(where) + "\n",
        report.pivot("fit, parameters", lines, lambda line: _cell(line, lines), column="optimizer"),
        report.pivot("seconds of a run", lines, _seconds, column="optimizer"),
        report.target_table(_targets(lines)),
    ]
    return "\n".join(parts)


def _cell(line: Line, lines: Sequence[Line]) -> str:
    """Ours at each rate; of others the best, and how many of their rates do as well as ours at 1, or are good."""
    found = fractions(line)
    if line["optimizer"].startswith(rows.OURS):
        return ", ".join(map(_fraction, found))
    ours = report.find(lines, row=line["row"], optimizer=rows.OURS)
    limit = max(GOOD, fractions(ours)[ours["rates"].index(1.0)]) if ours else GOOD
    count = f" ({sum(value <= limit for value in found)} of {len(found)})" if len(found) > 1 else ""
    return _fraction(min(found)) + count


def _fraction(value: float) -> str:
    if value > GOOD:
        return f"{value:.1g}" if value < 1 else "fails"
    return f"**{value:.0e}**".replace("e-0", "e-") if value > 1e-9 else "**0**"


def _seconds(line: Line) -> str:
    iterations = f" ({line['iterations']} iterations)" if "iterations" in line else ""
    return f"{line['seconds']:.2g}{iterations}"


def _targets(lines: Sequence[Line]) -> list[report.Target]:
    """Of the setting: the fits where it is not good at one of the rates 0.5, 1 and 2, and at all of them."""
    targets = []
    for name in ("ours", "ours, hessian_diag"):
        found = [fractions(line)[1:] for line in lines if line["optimizer"] == name]
        for which, limit in ((min, 2), (max, 3)):
            missed = sum(which(values) > GOOD for values in found)
            what = f"{name}: of {len(found)} fits, not within 1e-3 at {'any' if which is min else 'each'} of 0.5, 1, 2"
            targets.append(report.Target(what, missed if found else None, limit, 0))
    return targets


def picture(lines: Sequence[Line]) -> Figure:
    """Six decades of rates on one fit."""
    figure = Figure(figsize=(6.0, 3.6), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for name, label, color in ((rows.WIDE, "AdaHessian, equilibrated", "#0072B2"), (rows.ADAM, "Adam", "#D55E00")):
        line = report.find(lines, fit=PICTURED, optimizer=name)
        heights = np.clip(fractions(line), 1e-5, 10.0)
        axes.plot(line["rates"], heights, "o-", color=color, label=label, linewidth=2.5)
    axes.axhline(GOOD, color="0.6", linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="loss above the optimum (start: 1)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
