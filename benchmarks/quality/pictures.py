"""Pictures of the runs: curves against steps and seconds, final loss against learning rate, and a summary."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.quality.optimizers import BASELINE, OPTIMIZERS, OURS, SAME_MOMENTUM
from benchmarks.quality.summary import Loss, Runs, curve_at_equal, losses_by_rate, select, summarize
from benchmarks.quality.task import Task
from optax_adahessian.analysis.palette import BLACK, BLUE, GREEN, MARKERS, ORANGE, PURPLE, VERMILLION, label, new_figure

COLORS = {"SGD": PURPLE, BASELINE: VERMILLION, SAME_MOMENTUM: ORANGE, "Sophia": GREEN, OURS: BLUE}
STYLES = {name: {"color": COLORS[name], "marker": marker} for name, marker in zip(OPTIMIZERS, MARKERS, strict=False)}

FAR = 3.0  # times AdamW's loss: the right edge of the summary
HIGH = 100.0  # times the lowest loss: the upper edge of the other panels


def curves(runs: Runs, tasks: Mapping[str, Task]) -> Figure:
    """The mean test loss over seeds, a row for each task: at equal steps on the left, at equal seconds on the right.

    What is more than `HIGH` times as high as the lower edge lies above the panel.
    """
    results = summarize(runs)
    figure = new_figure(6.4, 0.8 + 2.1 * len(results))
    panels = figure.subplots(len(results), 2, squeeze=False, sharey="row")
    for row, (task, optimizers) in zip(panels, results.items(), strict=True):
        for ax, cost in zip(row, ("steps", "seconds"), strict=True):
            for optimizer in optimizers:
                curve = curve_at_equal(cost, select(runs, task=task, optimizer=optimizer))
                ax.plot(
                    getattr(curve, cost), curve.test, label=optimizer, markersize=4, markevery=8, **STYLES[optimizer]
                )
            ax.set_yscale("log")
            label(ax, cost, "", tasks[task].title if cost == "steps" else "")
        row[0].set_ylabel(tasks[task].metric, fontsize="small")
        _bound_above(row[0])
    _legend(figure, panels[0, 0])
    return figure


def robustness(runs: Runs, tasks: Mapping[str, Task]) -> Figure:
    """The final test loss against the learning rate over the tuned one; runs that diverged lie at the upper edge."""
    names = list(dict.fromkeys(run["task"] for run in select(runs, purpose="robustness")))
    figure = new_figure(6.4, 0.8 + 2.3 * math.ceil(len(names) / 2))
    panels = figure.subplots(math.ceil(len(names) / 2), 2, squeeze=False)
    for ax, task in zip(panels.flat, names, strict=False):
        for optimizer in OPTIMIZERS:
            _rates(ax, optimizer, select(runs, task=task, optimizer=optimizer))
        ax.set_xscale("log")
        ax.set_yscale("log")
        label(ax, "rate over the tuned rate", "", tasks[task].title)
        _bound_above(ax)
    for ax in panels.flat[len(names) :]:
        ax.set_axis_off()
    for ax in panels[:, 0]:
        ax.set_ylabel("final test loss")
    _legend(figure, panels[0, 0])
    return figure


def summary(runs: Runs, tasks: Mapping[str, Task]) -> Figure:
    """The final test loss at equal seconds over AdamW's, with the spread over seeds; left is better.

    What lies beyond `FAR` stands at the right edge, with its number.
    """
    results = {task: row for task, row in summarize(runs).items() if BASELINE in row}
    figure = new_figure(6.4, 1.2 + 0.6 * len(results))
    ax = figure.subplots()
    for y, row in enumerate(results.values()):
        for shift, optimizer in zip((-0.28, -0.14, 0.0, 0.14, 0.28), OPTIMIZERS, strict=True):
            if optimizer in row:
                _dot(ax, y + shift, optimizer, row[optimizer].equal_seconds, row[BASELINE].equal_seconds.mean)
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ticks = [tick for tick in (0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3) if low <= tick <= high]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.axvline(1, color=BLACK, linewidth=0.5)
    ax.set_yticks(range(len(results)), [tasks[task].title for task in results], fontsize="small")
    ax.invert_yaxis()
    label(ax, "test loss over AdamW's, at equal seconds", "")
    _legend(figure, ax)
    return figure


def _dot(ax: Axes, y: float, optimizer: str, loss: Loss, reference: float) -> None:
    ratio = loss.mean / reference if math.isfinite(reference) else math.nan
    if ratio > FAR:
        text = f"{ratio:.3g} " if math.isfinite(ratio) else "diverged "
        ax.annotate(text, (FAR, y), ha="right", va="center", fontsize="x-small")
    spread = loss.spread / reference if ratio <= FAR and math.isfinite(loss.spread) else 0.0
    ax.errorbar(min(ratio, FAR), y, xerr=spread, linestyle="none", markersize=5, label=optimizer, **STYLES[optimizer])


def _bound_above(ax: Axes) -> None:
    """Leaves out what is far above the lowest loss, so that the lowest losses can be told apart."""
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, min(top, HIGH * bottom))


def _rates(ax: Axes, optimizer: str, runs: Runs) -> None:
    grid, tuned = select(runs, purpose="robustness"), select(runs, purpose="test")
    points = [(r / tuned[0]["settings"]["learning_rate"], loss) for r, loss in losses_by_rate(grid).items()]
    if points:
        xs, ys = zip(*points, strict=True)
        finite = [y if math.isfinite(y) else math.nan for y in ys]
        ax.plot(xs, finite, label=optimizer, markersize=4, **STYLES[optimizer])
    for x in (x for x, y in points if not math.isfinite(y)):
        ax.plot(x, 1.0, transform=ax.get_xaxis_transform(), clip_on=False, markersize=4, **STYLES[optimizer])


def _legend(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=len(STYLES),
        frameon=False,
        fontsize="small",
        columnspacing=1.0,
    )


PICTURES = {"curves": curves, "rates": robustness, "summary": summary}
