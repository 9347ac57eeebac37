"""Figures of paths over surfaces, all by the paper's rule."""

import jax
import optax
from matplotlib.figure import Figure

import optax_adahessian as oah
from optax_adahessian.analysis import SURFACES, Path, trajectory
from optax_adahessian.analysis.palette import BLUE, label, new_figure
from optax_adahessian.analysis.plots import draw_contours, draw_path, paths_figure


def drawn_probes(steps: int, seed: int = 0) -> jax.Array:
    """One probe for each step."""
    return jax.random.rademacher(jax.random.key(seed), (steps, 1, 2), dtype=float)


def path_to_the_minimum() -> Figure:
    surface = SURFACES["himmelblau"]
    path = trajectory(oah.adahessian(0.3, b2=0.99), surface.fun, surface.start, 60, drawn_probes(60))
    figure = new_figure(6.0, 5.6)
    ax = figure.subplots()
    draw_contours(ax, surface.fun, surface.window, surface.minima)
    draw_path(ax, path, BLUE)
    label(
        ax,
        "x",
        "y",
        "AdaHessian, learning rate 0.3, b1 = 0.9, b2 = 0.99, eps = 1e-4:\n60 steps on Himmelblau's function",
    )
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def three_paths() -> dict[str, Path]:
    """Three steps of gradient descent, at the best constant rate for curvatures 2 and 10, and of AdaHessian."""
    surface = SURFACES["quadratic"]
    adahessian = oah.adahessian(1.0, b1=0.0, b2=0.0, eps=1e-4)
    return {
        "gradient descent, rate 1/6": trajectory(optax.sgd(1 / 6), surface.fun, surface.start, 3),
        "AdaHessian, rate 1": trajectory(adahessian, surface.fun, surface.start, 3, drawn_probes(3)),
    }


def three_steps() -> Figure:
    surface = SURFACES["quadratic"]
    title = f"three steps on f(x, y) = {surface.formula};\nAdaHessian with b1 = b2 = 0, eps = 1e-4"
    return paths_figure(surface.fun, three_paths(), (-1.6, 1.6, -1.6, 1.6), surface.minima, title)


def bowl_paths() -> dict[str, Path]:
    """Thirty steps without averages and with them, along probes for which both end near the median of a thousand."""
    surface, probes = SURFACES["noisy-bowl"], drawn_probes(30, seed=1)
    rules = {f"b1 = b2 = {beta:g}": oah.adahessian(1.0, b1=beta, b2=beta) for beta in (0.0, 0.9)}
    return {name: trajectory(tx, surface.fun, surface.start, 30, probes) for name, tx in rules.items()}


def noisy_bowl() -> Figure:
    surface = SURFACES["noisy-bowl"]
    title = f"AdaHessian, learning rate 1, eps = 1e-4, 30 steps on\n{surface.formula}"
    return paths_figure(surface.fun, bowl_paths(), surface.window, surface.minima, title)
