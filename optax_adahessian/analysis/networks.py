"""A network so small that its whole Hessian can be looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_INPUTS = np.random.default_rng(1).normal(size=(32, 3))
_TARGETS = np.sin(_INPUTS[:, 0]) + _INPUTS[:, 1] * _INPUTS[:, 2]


def small_network() -> tuple[Callable[[Any], jax.Array], dict[str, jax.Array]]:
    """The loss of a network with 3 inputs, 4 tanh units and one output on 32 fixed examples, and its 21 parameters.

    The loss is the mean squared error against sin(x_1) + x_2 x_3; the parameters are drawn, not trained.
    """
    generator = np.random.default_rng(0)
    weights = {
        "w1": generator.normal(size=(3, 4)) / np.sqrt(3),
        "b1": np.zeros(4),
        "w2": generator.normal(size=4) / 2,
        "b2": np.zeros(()),
    }
    return _loss_fn, jax.tree.map(jnp.asarray, weights)


def _loss_fn(params: Any) -> jax.Array:
    inputs, targets = (jnp.asarray(data, params["w1"].dtype) for data in (_INPUTS, _TARGETS))
    hidden = jnp.tanh(inputs @ params["w1"] + params["b1"][None])
    return jnp.mean((hidden @ params["w2"] + params["b2"] - targets) ** 2)
