"""A network so small that its whole Hessian can be looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def small_network() -> tuple[Callable[[Any], jax.Array], dict[str, jax.Array]]:
    """The loss of a network with 3 inputs, 4 tanh units and one output on 32 fixed examples, and its 21 parameters.

    The loss is the mean squared error against sin(x_1) + x_2 x_3; the parameters are drawn, not trained.
    """
    generator = np.random.default_rng(0)
    x, w1, w2 = generator.normal(size=(32, 3)), generator.normal(size=(3, 4)), generator.normal(size=4)
    target = np.sin(x[:, 0]) + x[:, 1] * x[:, 2]
    weights = {"w1": w1 / np.sqrt(3), "b1": np.zeros(4), "w2": w2 / 2, "b2": np.zeros(())}
    params = jax.tree.map(jnp.asarray, weights)

    def loss_fn(p: Any) -> jax.Array:
        hidden = jnp.tanh(x @ p["w1"] + p["b1"][None])
        return jnp.mean((hidden @ p["w2"] + p["b2"] - target) ** 2)

    return loss_fn, params
