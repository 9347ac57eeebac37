"""A bound on the length of a step, known before weight decay and learning rate are applied."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_adahessian._checks import check_positive


class BoundStepState(NamedTuple):
    """State of `bound_step`."""

    count: jax.Array  # type: ignore[assignment] # shape=(), dtype=int32: steps taken


def bound_step(max_step: Any, learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Bounds every entry of the updates so that the learning rate of the step makes at most `max_step` of it."""
    check_positive("max_step", max_step)

    def init_fn(params: optax.Params) -> BoundStepState:
        del params
        return BoundStepState(count=jnp.zeros([], jnp.int32))

    def update_fn(
        updates: optax.Updates, state: BoundStepState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, BoundStepState]:
        del params
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        bound = max_step / jnp.abs(jnp.asarray(rate))  # infinite while the rate is 0

        def bounded(u: jax.Array) -> jax.Array:
            # Finite all the same: an entry that overflowed, times a rate of 0, would be NaN.
            limit = jnp.minimum(bound.astype(u.dtype), jnp.finfo(u.dtype).max)
            return jnp.clip(u, -limit, limit)

        return jax.tree.map(bounded, updates), BoundStepState(count=optax.safe_increment(state.count))

    return optax.GradientTransformation(init_fn, update_fn)
