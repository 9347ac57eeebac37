"""One function in two systems of units: the paths of Adam and of the rule with equilibrated probes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import optax_adahessian as oah
from optax_adahessian.analysis import SURFACES
from optax_adahessian.analysis.palette import BLUE, VERMILLION, new_figure
from optax_adahessian.analysis.plots import draw_contours

STEPS = 200
SCHEDULE = optax.warmup_exponential_decay_schedule(0.0, 1.0, STEPS // 20, 3 * STEPS // 4, 1e-3, STEPS // 5)
OPTIMIZERS = {
    "Adam, rate 0.1": optax.adam(0.1),
    "AdaHessian, equilibrated": oah.adahessian(SCHEDULE, b2=0.95, eps=0.0, equilibrate=True),
}


def path(tx: optax.GradientTransformationExtraArgs, unit: float) -> np.ndarray:
    """The points (x, y) of a run that sees y in this unit."""
    surface, units = SURFACES["himmelblau"], jnp.array([1.0, 1 / unit])
    tx = optax.with_extra_args_support(tx)

    def loss_fn(params):
        return surface.fun(params / units)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss_fn)(params), state, params, obj_fn=loss_fn)
        return optax.apply_updates(params, updates), state

    params = jnp.asarray(surface.start) * units
    state, points = tx.init(params), [params]
    for _ in range(STEPS):
        params, state = step(params, state)
        points.append(params)
    return np.stack(points) / np.asarray(units)


def two_units() -> Figure:
    surface = SURFACES["himmelblau"]
    figure = new_figure(6.0, 3.9)
    for ax, (title, tx) in zip(figure.subplots(1, 2, sharey=True), OPTIMIZERS.items(), strict=True):
        draw_contours(ax, surface.fun, surface.window, surface.minima)
        for unit, color, marker in ((1.0, BLUE, "o"), (0.001, VERMILLION, "x")):
            x, y = path(tx, unit).T
            ax.plot(x, y, color=color, marker=marker, markersize=5, linewidth=1.5, label=f"y in units of {unit:g}")
        ax.set_title(title, fontsize="medium")
        ax.set_xlabel("x")
    figure.axes[0].set_ylabel("y")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure
