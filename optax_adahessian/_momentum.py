"""A momentum whose memory adapts to the gradients; it precedes any rule in a chain."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_adahessian._errors import as_number, check_real_leaves

_FIRST_MEMORY, _GROWTH = 3.0, 0.2


class AdaptiveNesterovState(NamedTuple):
    """State of `adaptive_nesterov`: arrays only."""

    count: jax.Array  # type: ignore[assignment] # shape=(), dtype=int32: steps taken
    memory: jax.Array  # shape=(), dtype=float32 (float64 with float64 leaves): steps that the average reaches back
    ema: optax.Updates  # shapes of the parameters, dtype=`accumulator_dtype` or theirs


def adaptive_nesterov(
    b1: jax.typing.ArrayLike = 0.99, *, accumulator_dtype: Any = None
) -> optax.GradientTransformation:
    r"""Nesterov's momentum with a memory that adapts: a heuristic of this project, and no part of AdaHessian.

    It replaces the gradient :math:`g_t` by an average :math:`e_t` of gradients that looks one step ahead,

    .. math::

        m_t &= \min(\max(m_{t-1} - \cos(g_t, e_{t-1}) / 5, 3), 1 / (1 - \beta_1)), \quad m_0 = 3 \\
        \beta_t &= 1 - 1 / \min(m_t, t) \\
        e_t &= \beta_t e_{t-1} + (1 - \beta_t) g_t \\
        u_t &= \beta_t e_t + (1 - \beta_t) g_t

    with t from 1, the cosine between the trees as one vector each, and the update :math:`u_t`. The weights sum to 1, so
    there is no bias to correct. The memory grows where gradients point against their average, as across a valley. The
    look-ahead is that of Dozat, "Incorporating Nesterov Momentum into Adam", 2016. docs/results.md compares momenta.

    `b1` in [0, 1) limits the memory. The average has `accumulator_dtype`, that of the parameters by default.
    """
    b1 = as_number("b1", b1, high=1)

    def init_fn(params: optax.Params) -> AdaptiveNesterovState:
        check_real_leaves("params", params)
        ema = optax.tree.zeros_like(params, dtype=accumulator_dtype)
        dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(ema))
        return AdaptiveNesterovState(count=jnp.zeros([], jnp.int32), memory=jnp.full([], _FIRST_MEMORY, dtype), ema=ema)

    def update_fn(updates: Any, state: Any, params: Any = None) -> tuple[optax.Updates, AdaptiveNesterovState]:
        updates = jax.tree.map(jnp.asarray, updates)
        count = optax.safe_increment(state.count)
        longest = jnp.asarray(1 / (1 - b1), state.memory.dtype)
        grown = state.memory - _GROWTH * _cosine(updates, state.ema, state.memory.dtype)
        memory = jnp.clip(grown, _FIRST_MEMORY, longest)
        decay = 1 - 1 / jnp.minimum(memory, count.astype(memory.dtype))
        average = functools.partial(moving_average, decay)
        ema = jax.tree.map(average, updates, state.ema)
        ahead = jax.tree.map(lambda g, e: average(g, e).astype(g.dtype), updates, ema)
        stored = jax.tree.map(lambda e, old: e.astype(old.dtype), ema, state.ema)
        return ahead, AdaptiveNesterovState(count=count, memory=memory, ema=stored)

    return optax.GradientTransformation(init_fn, update_fn)


def moving_average(decay: Any, x: jax.Array, ema: jax.Array) -> jax.Array:
    """``decay ema + (1 - decay) x``, in at least float32: not yet rounded to the dtype that it is stored in."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    decay = decay.astype(dtype) if isinstance(decay, jax.Array) else decay
    return decay * ema.astype(dtype) + (1 - decay) * x.astype(dtype)


def _cosine(a: Any, b: Any, dtype: Any) -> jax.Array:
    """Of the angle between two trees; 0 if one of them is zero, not finite, or too large or small to be squared."""

    def dot(x: Any, y: Any) -> jax.Array:
        # XLA fuses a sum of products, without the memory that `u * v` would need.
        products = jax.tree.map(lambda u, v: jnp.sum(u.astype(dtype) * v.astype(dtype)), x, y)
        return sum(jax.tree.leaves(products), jnp.zeros([], dtype))

    ab, aa, bb = dot(a, b), dot(a, a), dot(b, b)
    usable = jnp.isfinite(aa) & jnp.isfinite(bb) & (aa > 0) & (bb > 0)
    # Safe numbers before the division and the root, whose derivatives at 0 are infinite.
    norms = jnp.sqrt(jnp.where(usable, aa, 1)) * jnp.sqrt(jnp.where(usable, bb, 1))
    return jnp.where(usable, jnp.where(usable, ab, 0) / norms, 0)
