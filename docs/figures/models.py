"""Figures of one weight: how far the gradient's line can be trusted, and where the quadratic model has its minimum."""

import numpy as np
from matplotlib.figure import Figure

from optax_adahessian.analysis.palette import BLACK, BLUE, GREEN, VERMILLION, label, new_figure

W = -1.0  # the weight at which both figures look


def parabola(w, curvature):
    """A function with value 1 and slope -1 at W, whatever its curvature."""
    return 1 - (w - W) + curvature / 2 * (w - W) ** 2


def gradient_lines() -> Figure:
    figure = new_figure(6.0, 4.2)
    for ax, curvature, title in zip(
        figure.subplots(1, 2, sharey=True),
        (0.4, 4.0),
        ("curvature 0.4:\na large step is right", "curvature 4:\na small step is right"),
        strict=True,
    ):
        w = np.linspace(-2.2, 2.2, 200)
        target = W + 1 / curvature
        ax.plot(w, parabola(w, curvature), color=BLUE, linewidth=2, label="loss f(w)")
        ax.plot(w, 1 - (w - W), "--", color=VERMILLION, label="line of the gradient, slope -1")
        ax.plot(W, 1, "o", color=BLACK, markersize=8)
        ax.text(W - 0.2, 0.9, "w = -1", va="top", ha="right")
        ax.annotate("", (target, -1.4), (W, -1.4), arrowprops={"arrowstyle": "->", "color": GREEN, "linewidth": 2})
        ax.text(-2.1, -1.7, f"step {1 / curvature:g}", color=GREEN, ha="left", va="center")
        ax.plot([target, target], [-1.4, parabola(target, curvature)], ":", color=GREEN)
        ax.set(xlim=(-2.2, 2.2), ylim=(-1.95, 3.2), xticks=[-2, -1, 0, 1, 2])
        label(ax, "weight w", "loss" if curvature < 1 else "", title)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def quadratic_model() -> Figure:
    figure = new_figure(6.0, 5.2)
    ax = figure.subplots()
    value, gradient, curvature = 1.25, -3.0, 5.0  # of f(w) = w^2 + w^4 / 4 at w = -1
    step = -gradient / curvature
    w = np.linspace(-1.6, 1.2, 300)
    dw = w - W
    ax.plot(w, w**2 + w**4 / 4, color=BLUE, linewidth=2, label=r"$f(w) = w^2 + w^4/4$")
    ax.plot(w, value + gradient * dw, ":", color=BLACK, label=r"line of the gradient $f + g\,\Delta w$")
    ax.plot(
        w,
        value + gradient * dw + curvature * dw**2 / 2,
        "--",
        color=VERMILLION,
        linewidth=2,
        label=r"model $m(\Delta w) = f + g\,\Delta w + \frac{1}{2} H\,\Delta w^2$",
    )
    ax.plot(W, value, "o", color=BLACK, markersize=8)
    ax.text(W - 0.06, value, "w = -1\nf = 1.25\ng = -3\nH = 5", ha="right", va="top")
    lowest = value - gradient**2 / (2 * curvature)
    ax.plot(W + step, lowest, "s", color=GREEN, markersize=9)
    minimum = rf"$\Delta w = -g/H = {step:g}$" + f"\nm = {lowest:g}, f = {(W + step) ** 2 + (W + step) ** 4 / 4:.3g}"
    ax.text(W + step, lowest + 0.8, minimum, color=GREEN, ha="center")
    ax.set(xlim=(-1.6, 1.2), ylim=(-0.3, 3.4))
    label(ax, "weight w", "loss")
    figure.legend(loc="outside lower center", frameon=False)
    return figure
