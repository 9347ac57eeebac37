"""Optimizers to compare AdaHessian with on small functions, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_adahessian import hutchinson
from optax_adahessian._checks import check_finite
from optax_adahessian.analysis.recorded import check_feed_of_vector


def newton(learning_rate: float = 1.0) -> optax.GradientTransformationExtraArgs:
    """Newton's method on a vector: the gradient, solved by the exact Hessian of ``obj_fn``.

    It goes to any point where the gradient vanishes, a saddle or a maximum as well. Memory is that of the whole
    Hessian: for small functions only.
    """
    check_finite("learning_rate", learning_rate)

    def update_fn(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        obj_fn: Any = None,
        **extra: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        del extra
        check_feed_of_vector(obj_fn, params)
        return jnp.linalg.solve(jax.hessian(obj_fn)(params), updates), state

    solve = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update_fn)
    return optax.chain(solve, optax.scale_by_learning_rate(learning_rate))


def _sophia(learning_rate: float) -> optax.GradientTransformationExtraArgs:
    return optax.contrib.sophia(learning_rate, hessian_diagonal_fn=hutchinson())


OPTIMIZERS: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "adam": optax.adam,
    "momentum": lambda learning_rate: optax.sgd(learning_rate, momentum=0.9),
    "newton": newton,
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
    "sophia": _sophia,
}
"""The optimizers by name, each a function of the learning rate."""

DEFAULT_RATES = {"adam": 0.1, "momentum": 0.01, "newton": 1.0, "rmsprop": 0.05, "sgd": 0.01, "sophia": 0.1}
"""Learning rates that make progress on most functions of size one; they are not tuned."""
