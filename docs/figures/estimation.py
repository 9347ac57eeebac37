"""Figures of the Hessian's estimate: signs, products, their mean, and the identity that makes them cheap."""

import itertools

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optax_adahessian.analysis import estimate_report, small_network
from optax_adahessian.analysis.palette import BLACK, BLUE, VERMILLION, label, new_figure
from optax_adahessian.analysis.plots import estimate_figure

HESSIAN = np.array([[4, 1, -1, 0], [1, 3, 2, -1], [-1, 2, 5, 1], [0, -1, 1, 2]])


def draw_cells(ax: Axes, matrix: np.ndarray, left: float, title: str, below: str) -> None:
    """A matrix as coloured cells with their numbers from x = `left`: purple for negative, orange for positive."""
    rows, columns = matrix.shape
    ax.imshow(matrix, cmap="PuOr_r", vmin=-16, vmax=16, extent=(left, left + columns, rows, 0))
    for (row, column), value in np.ndenumerate(matrix):
        ax.text(left + column + 0.5, row + 0.5, f"{value:g}", ha="center", va="center", fontsize=12)
    ax.vlines(left + np.arange(columns + 1), 0, rows, color="white", linewidth=2)
    ax.hlines(np.arange(rows + 1), left, left + columns, color="white", linewidth=2)
    ax.text(left + columns / 2, -0.25, title, ha="center", fontsize=13)
    ax.text(left + columns / 2, rows + 0.25, below, ha="center", va="top")


def probes_and_products() -> Figure:
    z = np.random.default_rng(1).choice([-1, 1], size=(4, 4))
    estimates = z * (HESSIAN @ z)
    figure = new_figure(11.0, 3.0)
    ax = figure.subplots()
    draw_cells(ax, HESSIAN, 0, "H", "the Hessian")
    draw_cells(ax, z, 4.6, "z", "4 probes, a column each")
    draw_cells(ax, HESSIAN @ z, 9.2, "H z", "a product for each probe")
    draw_cells(ax, estimates, 13.8, "z * H z", "entry by entry")
    draw_cells(ax, estimates.mean(axis=1, keepdims=True), 19.0, "mean", "of the 4")
    draw_cells(ax, np.diag(HESSIAN)[:, None], 21.2, "diag H", "expectation")
    ax.set(xlim=(-0.3, 23.2), ylim=(5.1, -0.9))
    ax.set_axis_off()
    return figure


def two_dimensions() -> Figure:
    figure = new_figure(9.5, 3.2)
    ax = figure.subplots()
    ax.set_axis_off()
    header = ["$z_1$", "$z_2$", "$z_1^2$", "$z_2^2$", "$z_1 z_2$", "first entry of z * H z", "second entry of z * H z"]
    rows = [
        [
            f"{a:+d}",
            f"{b:+d}",
            "1",
            "1",
            f"{a * b:+d}",
            rf"$H_{{11}} {_sign(a * b)} H_{{12}}$",
            rf"$H_{{22}} {_sign(a * b)} H_{{12}}$",
        ]
        for a, b in itertools.product((1, -1), repeat=2)
    ]
    mean = ["mean", "", "1", "1", "0", "$H_{11}$", "$H_{22}$"]
    widths = [0.08, 0.08, 0.08, 0.08, 0.1, 0.29, 0.29]
    table = ax.table([*rows, mean], colLabels=header, colWidths=widths, cellLoc="center", bbox=(0, 0, 1, 1))
    table.auto_set_font_size(False)
    table.set_fontsize(12)
    for (row, column), cell in table.get_celld().items():
        cell.set_edgecolor("0.7")
        if row in (0, len(rows) + 1):
            cell.set_facecolor("0.92")
        if column == 4:
            cell.set_text_props(color=VERMILLION, weight="bold")
    ax.set_title(
        r"$z * Hz = (z_1^2 H_{11} + z_1 z_2 H_{12},\;\; z_2^2 H_{22} + z_1 z_2 H_{12})$", fontsize="large", pad=14
    )
    return figure


def _sign(value: int) -> str:
    return "+" if value > 0 else "-"


def double_gradient() -> Figure:
    report = estimate_report(*small_network(), jax.random.key(0))
    figure = new_figure(9.0, 4.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
    entries = np.arange(len(report.hz))
    upper.bar(entries, report.hz, width=0.7, color="0.8", label="H z, with the whole Hessian")
    upper.plot(entries, report.gradient_of_product, "o", color=BLUE, label=r"$\nabla \langle \nabla L, z \rangle$")
    upper.axhline(0, color=BLACK, linewidth=0.8)
    label(upper, "", "entry", "a network with 21 parameters, one probe z")
    upper.margins(y=0.2)  # room for the legend above the bars
    upper.legend(frameon=False, loc="upper right", ncols=2)
    lower.plot(entries, report.gradient_of_product - report.hz, "o", color=VERMILLION)
    lower.axhline(0, color=BLACK, linewidth=0.8)
    label(lower, "parameter", "difference")
    return figure


def estimate_of_a_network() -> Figure:
    report = estimate_report(*small_network(), jax.random.key(0))
    return estimate_figure(report, "the Hessian of a network with 21 parameters")
