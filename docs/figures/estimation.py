"""Figures of the Hessian's estimate: signs, products, their mean, and the identity that makes them cheap."""

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optax_adahessian.analysis import estimate_report, small_network
from optax_adahessian.analysis.palette import BLACK, BLUE, VERMILLION, label, new_figure
from optax_adahessian.analysis.plots import estimate_figure

HESSIAN = np.array([[4, 1, -1, 0], [1, 3, 2, -1], [-1, 2, 5, 1], [0, -1, 1, 2]])
SEED = 183


def draw_cells(ax: Axes, matrix: np.ndarray, left: float, top: float, title: str) -> None:
    """A matrix as coloured cells with their numbers, its upper left corner at (left, top): purple for negative."""
    rows, columns = matrix.shape
    ax.imshow(matrix, cmap="PuOr_r", vmin=-16, vmax=16, extent=(left, left + columns, top + rows, top))
    for (row, column), value in np.ndenumerate(matrix):
        ax.text(left + column + 0.5, top + row + 0.5, f"{value:g}", ha="center", va="center", fontsize=12)
    ax.vlines(left + np.arange(columns + 1), top, top + rows, color="white", linewidth=2)
    ax.hlines(top + np.arange(rows + 1), left, left + columns, color="white", linewidth=2)
    ax.text(left + columns / 2, top - 0.25, title, ha="center", fontsize=12)


def four_probes() -> np.ndarray:
    """Signs of shape (4, 4), a probe in each column: an example whose means lie on either side of the diagonal."""
    return np.random.default_rng(SEED).choice([-1, 1], size=(4, 4))


def probes_and_products() -> Figure:
    z = four_probes()
    estimates = z * (HESSIAN @ z)
    figure = new_figure(6.0, 4.6)
    ax = figure.subplots()
    draw_cells(ax, HESSIAN, 0, 0, "Hessian H")
    draw_cells(ax, z, 4.6, 0, "4 probes z")
    draw_cells(ax, HESSIAN @ z, 9.2, 0, "products H z")
    draw_cells(ax, estimates, 0, 5.3, "z * H z")
    draw_cells(ax, estimates.mean(axis=1, keepdims=True), 6.1, 5.3, "mean of 4")
    draw_cells(ax, np.diag(HESSIAN)[:, None], 10.7, 5.3, "diagonal of H")
    ax.set(xlim=(-0.2, 13.4), ylim=(9.5, -0.9))
    ax.set_axis_off()
    return figure


def double_gradient() -> Figure:
    report = estimate_report(*small_network(), jax.random.key(0))
    figure = new_figure(6.0, 5.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    entries = np.arange(len(report.hz))
    upper.bar(entries, report.hz, width=0.7, color="0.8", label="H z, with the whole Hessian")
    upper.plot(entries, report.gradient_of_product, "o", color=BLUE, label=r"$\nabla \langle \nabla L, z \rangle$")
    upper.axhline(0, color=BLACK, linewidth=0.8)
    label(upper, "", "entry", "one probe z, a network with 21 parameters")
    upper.set_ylim(top=1.5 * max(report.hz))  # room for the legend
    upper.legend(frameon=False, loc="upper right", ncols=2)
    lower.plot(entries, 1e15 * (report.gradient_of_product - report.hz), "o", color=VERMILLION)
    lower.axhline(0, color=BLACK, linewidth=0.8)
    label(lower, "parameter", "difference\nin 1e-15")
    return figure


def estimate_of_a_network() -> Figure:
    report = estimate_report(*small_network(), jax.random.key(0))
    return estimate_figure(report, "a network with 21 parameters")
