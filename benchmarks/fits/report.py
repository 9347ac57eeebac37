"""The tables and the picture."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import report
from benchmarks.fits import rows
from benchmarks.report import Line
from optax_adahessian.analysis.palette import BLUE, VERMILLION, label, new_figure

GOOD, PICTURED = 1e-3, "peak"  # of the starting gap; the fit of the picture


def fractions(line: Line) -> list[float]:
    """For each rate, the mean over seeds of the loss above the optimum, over that of the start."""
    losses = np.nan_to_num(np.array(line["losses"], float), nan=np.inf)  # None is not finite
    return ((losses.mean(axis=1) - line["optimum"]) / (line["start"] - line["optimum"])).tolist()


def tables(where: dict[str, Any], lines: list[Line]) -> str:
    """Where it was measured; on how many fits ours is good; fractions of the starting gap; seconds."""
    losses = report.pivot("fit, parameters", lines, lambda line: _cell(line, lines), column="optimizer")
    seconds = report.pivot("seconds of a run", lines, lambda line: f"{line['seconds']:.2g}", column="optimizer")
    counts = [_count(feed, lines) for feed in (rows.OURS, rows.OUTSIDE)]
    return "\n".join([report.setting(where) + "\n", *counts, losses, seconds])


def _cell(line: Line, lines: list[Line]) -> str:
    """Up to four rates; of more the best, and how many of them do as well as ours at 1, or are good."""
    found = fractions(line)
    if len(found) <= 4:
        return ", ".join(map(_fraction, found)) + (f" in {line['iterations']} steps" if "iterations" in line else "")
    ours = report.find(lines, row=line["row"], optimizer=rows.OURS)
    limit = max(GOOD, fractions(ours)[ours["rates"].index(1.0)])
    return f"{_fraction(min(found))} ({sum(value <= limit for value in found)} of {len(found)})"


def _fraction(value: float) -> str:
    if value <= GOOD:
        return f"**{value:.1e}**".replace("e-0", "e-") if value > 1e-9 else "**0**"
    return f"{value:.2g}" if value < 1 else "fails"


def _count(feed: str, lines: list[Line]) -> str:
    found = [fractions(line)[1:] for line in lines if line["optimizer"] == feed]
    one, three = (sum(which(values) <= GOOD for values in found) for which in (min, max))
    return f"{feed}: within 1e-3 at one of 0.5, 1 and 2 on {one} of {len(found)} fits, at all three on {three}.\n"


def picture(lines: list[Line]) -> Figure:
    """Six decades of rates on one fit."""
    figure = new_figure(6.0, 3.6)
    axes = figure.subplots()
    for name, text, color in (rows.WIDE, "AdaHessian, equilibrated", BLUE), (rows.ADAM, "Adam", VERMILLION):
        line = report.find(lines, fit=PICTURED, optimizer=name)
        axes.loglog(line["rates"], np.clip(fractions(line), 1e-5, 10.0), "o-", color=color, label=text, linewidth=2.5)
    axes.axhline(GOOD, color="0.6", linestyle="--")
    label(axes, "learning rate", "loss above the optimum (start: 1)")
    axes.legend(frameon=False)
    return figure
