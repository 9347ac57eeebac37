"""Figures of paths over surfaces."""

import jax
import optax
from matplotlib.figure import Figure

import optax_adahessian as oah
from optax_adahessian.analysis import SURFACES, Path, trajectory
from optax_adahessian.analysis.palette import BLUE, label, new_figure
from optax_adahessian.analysis.plots import draw_contours, draw_path, paths_figure


def path_to_the_minimum() -> Figure:
    surface = SURFACES["himmelblau"]
    tx = oah.adahessian(learning_rate=0.3, b1=0.9, b2=0.99, eps=1e-4, time_average="rms", nesterov=False, max_step=None)
    path = trajectory(tx, surface.fun, surface.start, steps=60, key=jax.random.key(0))
    figure = new_figure(6.4, 5.4)
    ax = figure.subplots()
    draw_contours(ax, surface.fun, surface.window, surface.minima)
    draw_path(ax, path, BLUE)
    label(ax, "x", "y", f"AdaHessian, 60 steps on {surface.formula}")
    ax.legend(loc="lower right", framealpha=0.9)
    return figure


def three_paths() -> dict[str, Path]:
    """Three steps of gradient descent, at the best constant rate for curvatures 2 and 10, and of AdaHessian."""
    surface = SURFACES["quadratic"]
    optimizers = {
        "gradient descent, rate 2/(2 + 10)": optax.sgd(2 / (2 + 10)),
        "AdaHessian, rate 1, betas 0": oah.adahessian(1.0, b1=0.0, b2=0.0, eps=1e-8, max_step=None),
    }
    return {name: trajectory(tx, surface.fun, surface.start, steps=3) for name, tx in optimizers.items()}


def three_steps() -> Figure:
    surface = SURFACES["quadratic"]
    return paths_figure(
        surface.fun, three_paths(), (-1.6, 1.6, -1.6, 1.6), surface.minima, f"three steps on {surface.formula}"
    )


def noisy_bowl() -> Figure:
    surface = SURFACES["noisy-bowl"]
    key = jax.random.key(0)
    optimizers = {
        f"betas {beta:g}": oah.adahessian(
            1.0, b1=beta, b2=beta, eps=1e-8, time_average="rms", nesterov=False, max_step=None
        )
        for beta in (0.0, 0.9)
    }
    paths = {name: trajectory(tx, surface.fun, surface.start, 30, key) for name, tx in optimizers.items()}
    return paths_figure(surface.fun, paths, surface.window, surface.minima, f"AdaHessian, rate 1, on {surface.formula}")
