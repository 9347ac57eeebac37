"""Pictures of paths and of estimates. Arrays and an Axes go in; nothing is computed here but the contours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from optax_adahessian.analysis.estimates import EstimateReport
from optax_adahessian.analysis.palette import BLACK, BLUE, COLORS, MARKERS, VERMILLION, label, new_figure
from optax_adahessian.analysis.surfaces import Point, Window
from optax_adahessian.analysis.trajectories import Path


def draw_contours(
    ax: Axes, fun: Callable[[jax.Array], jax.Array], window: Window, minima: Sequence[Point] = ()
) -> None:
    """The level lines of `fun` in `window`, each enclosing the same share of it, and its minima as stars."""
    left, right, bottom, top = window
    x, y = np.meshgrid(np.linspace(left, right, 161), np.linspace(bottom, top, 161))
    z = np.asarray(jax.jit(jax.vmap(fun))(jnp.stack([x.ravel(), y.ravel()], axis=1))).reshape(x.shape)
    finite = z[np.isfinite(z)]
    if finite.size and finite.min() < finite.max():
        levels = np.unique(np.quantile(finite, np.linspace(0, 1, 13)))
        z = np.ma.masked_invalid(z)
        ax.contourf(x, y, z, levels=levels, cmap="Greys_r", alpha=0.35, norm=BoundaryNorm(levels, ncolors=256))
        ax.contour(x, y, z, levels=levels, colors="0.6", linewidths=0.6, linestyles="solid")
    for i, minimum in enumerate(minima):
        ax.plot(*minimum, "*", color="white", markeredgecolor=BLACK, ms=11, zorder=4, label=None if i else "minimum")
    ax.set(xlim=(left, right), ylim=(bottom, top))


def draw_path(ax: Axes, path: Path, color: str = BLUE) -> None:
    """A path of points (x, y), its start as a circle, its end as a square through which a minimum can be seen."""
    x, y = np.asarray(path.points).T
    ax.plot(x, y, "-", marker=".", color=color, linewidth=1.5, markersize=5)
    ax.plot(x[0], y[0], "o", markerfacecolor="white", markeredgecolor=color, markersize=9, label="start")
    ax.plot(x[-1], y[-1], "s", color=color, markerfacecolor="none", markeredgewidth=2, markersize=13, label="end")


def draw_losses(ax: Axes, paths: Mapping[str, Path]) -> None:
    """Loss against step for each path, on a logarithmic axis where no loss is negative; zeros are not on it."""
    losses = {name: np.asarray(path.losses) for name, path in paths.items()}
    start, lowest = max(loss[0] for loss in losses.values()), min(loss.min() for loss in losses.values())
    logarithmic = lowest >= 0 < start
    for (name, loss), color, marker in zip(losses.items(), COLORS, MARKERS, strict=False):
        shown = np.where(loss > 0, loss, np.nan) if logarithmic else loss
        ax.plot(shown, color=color, marker=marker, markevery=max(1, len(loss) // 12), markersize=5, label=name)
    # A path that diverges, or one at rounding error, would squeeze all others into one line.
    if logarithmic:
        _logarithmic(ax, 1e-18 * start, 1e3 * start)
    else:
        ax.set_ylim(top=min(ax.get_ylim()[1], start + 2 * (start - lowest + 1)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    label(ax, "step", "f(x, y)")
    ax.legend(frameon=False)


def _logarithmic(ax: Axes, lowest: float, highest: float) -> None:
    """A logarithmic y axis within these limits, with numbers that can be read."""
    ax.set_yscale("log")
    bottom, top = np.clip(ax.get_ylim(), lowest, highest)
    ax.set_ylim(bottom, top)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if top < 1e3 * bottom else (1,)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def paths_figure(
    fun: Callable[[jax.Array], jax.Array],
    paths: Mapping[str, Path],
    window: Window | None = None,
    minima: Sequence[Point] = (),
    title: str = "",
) -> Figure:
    """The paths of up to seven optimizers side by side on the contours of `fun`, and their losses below."""
    if not 1 <= len(paths) <= len(COLORS):
        raise ValueError(f"`paths` has {len(paths)} entries; a figure shows from 1 to {len(COLORS)}.")
    figure = new_figure(max(4.2, 3.0 * len(paths)), 6.4)
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.3, 1])[:, 0]
    window = window or window_around(paths, minima)
    panels = upper.subplots(1, len(paths), sharey=True, squeeze=False)[0]
    for (name, path), ax, color in zip(paths.items(), panels, COLORS, strict=False):
        draw_contours(ax, fun, window, minima)
        draw_path(ax, path, color)
        label(ax, "x", "y" if ax is panels[0] else "", f"{name}\nends at f = {float(path.losses[-1]):.3g}")
    upper.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    draw_losses(lower.subplots(), paths)
    figure.suptitle(title, fontsize="medium")
    return figure


def estimate_figure(report: EstimateReport, title: str = "") -> Figure:
    """The diagonal with its estimate and the norms of the rows; below, the error against the number of probes."""
    figure = new_figure(6.0, 7.4)
    upper, lower = figure.subplots(2, 1, height_ratios=[1.4, 1])
    entries, counts = np.arange(len(report.exact)), np.asarray(report.counts)
    upper.bar(entries, np.abs(report.exact), width=0.7, color="0.8", label="exact diagonal")
    upper.plot(entries, np.abs(report.estimate), "o", color=BLUE, label=f"mean of {counts[-1]} probes")
    upper.plot(entries, report.row_norm, "_", color=VERMILLION, ms=14, markeredgewidth=2.5, label="norm of the row")
    upper.plot(entries, report.root_mean_square, "x", color=BLACK, label="root mean square of one probe")
    upper.xaxis.set_major_locator(MaxNLocator(integer=True))
    upper.set_ylim(top=1.4 * max(float(np.max(report.row_norm)), 1e-12))
    label(upper, "parameter", "size of the curvature", "the Hessian's diagonal and its estimate")
    upper.legend(frameon=False, loc="upper right", ncols=2, columnspacing=1)
    lower.plot(counts, report.predicted_error, "-", color=BLACK, label=r"theory, proportional to $1/\sqrt{n}$")
    lower.plot(counts, report.measured_error, "o", color=BLUE, label="measured")
    lower.set_xscale("log", base=2)
    lower.xaxis.set_major_formatter("{x:g}")
    if report.predicted_error[0] > 0:
        _logarithmic(lower, 0, np.inf)
    label(lower, "number of probes n", "error", "the root mean square error of the mean over n probes")
    lower.legend(frameon=False)
    figure.suptitle(title, fontsize="medium")
    return figure


def window_around(paths: Mapping[str, Path], minima: Sequence[Point] = ()) -> Window:
    """A square around the points of all paths and the minima, at most 10 from the start: paths may diverge."""
    start = np.asarray(next(iter(paths.values())).points)[0]
    points = np.concatenate([*(np.asarray(path.points) for path in paths.values()), *(np.array([m]) for m in minima)])
    points = np.clip(points, start - 10, start + 10)
    low, high = points.min(axis=0), points.max(axis=0)
    center, half = (low + high) / 2, max(0.5, float((high - low).max()) * 0.6)
    return center[0] - half, center[0] + half, center[1] - half, center[1] + half
