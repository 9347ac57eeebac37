"""The first moment: the average of the gradients, and how far it reaches back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optax_adahessian._moments import accumulator

# Of Nesterov's momentum: how many steps it reaches back at first, and how much the memory grows in a step whose
# gradient points straight against the average. Heuristics, chosen on the tasks of the documentation's results.
FIRST_MEMORY, _GROWTH = 3.0, 0.2


def first_moment(updates: Any, mu: Any, b1: Any) -> Any:
    """``b1 mu + (1 - b1) g``, not yet rounded to the dtype it is stored in."""

    def of_leaf(g: jax.Array, m: jax.Array) -> jax.Array:
        dtype = accumulator(g)
        decay = b1.astype(dtype) if isinstance(b1, jax.Array) else b1
        return decay * m.astype(dtype) + (1 - decay) * g.astype(dtype)

    return jax.tree.map(of_leaf, updates, mu)


def adapted_memory(memory: jax.Array, updates: Any, mu: Any, b1: Any) -> jax.Array:
    """The steps that the average reaches back: more where the gradient points against it, up to those of `b1`.

    It does so where the parameters swing to and fro across a valley. A longer memory averages the swings out, so that
    what remains is the direction along the valley.
    """
    longest = jnp.asarray(1 / (1 - b1), memory.dtype)
    return jnp.clip(memory - _GROWTH * _cosine(updates, mu, memory.dtype), FIRST_MEMORY, longest)


def decay_of(memory: jax.Array, count: jax.Array) -> jax.Array:
    """The decay of step `count`, from 1.

    The first steps average all gradients alike, so that the weights sum to 1 and leave no bias to correct.
    """
    return 1 - 1 / jnp.minimum(memory, count.astype(memory.dtype))


def _cosine(a: Any, b: Any, dtype: Any) -> jax.Array:
    """Of the angle between two trees; 0 where one of them is zero, not finite, or too large or small to be squared."""

    def products(x: jax.Array, y: jax.Array) -> jax.Array:
        x, y = x.astype(dtype), y.astype(dtype)
        stacked = jnp.stack([x * y, x * x, y * y])  # on the CPU one sum costs less than three
        return jnp.sum(stacked, axis=tuple(range(1, stacked.ndim)))

    ab, aa, bb = sum(jax.tree.leaves(jax.tree.map(products, a, b)), jnp.zeros(3, dtype))
    cosine = ab / (jnp.sqrt(aa) * jnp.sqrt(bb))
    return jnp.where(jnp.isfinite(cosine), cosine, 0)
