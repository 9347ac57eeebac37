"""The second moment and the direction that the two give, leaf by leaf."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optax_adahessian._blocks import block_expand, block_mean
from optax_adahessian._spatial import SpatialAverage


def accumulator(leaf: Any) -> Any:
    """The dtype that the moments of a leaf are computed in: its own, but at least float32."""
    return jnp.promote_types(jnp.result_type(leaf), jnp.float32)


def ema_weight(decay: Any, steps: jax.Array, dtype: Any) -> jax.Array:
    """``1 - decay**steps`` for ``steps >= 1``, without the cancellation where decay is near 1."""
    # A Python number keeps its double precision: log(0.999) of a float32 is off by 3e-5 of itself.
    log_decay = jnp.log(decay) if isinstance(decay, jax.Array) else math.log(decay) if decay > 0 else -math.inf
    return -jnp.expm1(steps.astype(dtype) * log_decay)


def zero_second_moment(params: Any, spatial_average: SpatialAverage) -> Any:
    """Zeros, one for each block, sharded as the blocks of the parameters are."""
    return jax.tree_util.tree_map_with_path(
        lambda path, p: block_mean(jnp.zeros_like(p, dtype=accumulator(p)), spatial_average.block_shape(path, p)),
        params,
    )


def squared_curvature(hessian_diag: Any, nu: Any, spatial_average: SpatialAverage) -> Any:
    """The square of the block mean of |h|, or of h where the average is signed, in the dtype of `nu`.

    It is finite where the entries of the block are.
    """
    means = _block_curvature(hessian_diag, nu, spatial_average, spatial_average.signed)
    return jax.tree.map(jnp.square, means)


def signed_curvature(hessian_diag: Any, nu: Any, spatial_average: SpatialAverage) -> Any:
    """The block mean of h with its sign, in the dtype of `nu`; it is finite where the entries of the block are."""
    return _block_curvature(hessian_diag, nu, spatial_average, signed=True)


def _block_curvature(hessian_diag: Any, nu: Any, spatial_average: SpatialAverage, signed: bool) -> Any:
    def of_leaf(path: Any, h: jax.Array, old: jax.Array) -> jax.Array:
        h = _clipped(jnp.asarray(h, jnp.result_type(h, old)), old.dtype).astype(old.dtype)
        mean = block_mean(h if signed else jnp.abs(h), spatial_average.block_shape(path, h))
        if mean.shape != old.shape:
            raise ValueError(
                f"`spatial_average` (={spatial_average.name}) stores the second moment of the leaf "
                f"{jax.tree_util.keystr(path)!r} in shape {mean.shape}, the state has {old.shape}. Use the average "
                "that the state was initialized with, or initialize it anew."
            )
        return mean

    return jax.tree_util.tree_map_with_path(of_leaf, hessian_diag, nu)


def _clipped(h: jax.Array, dtype: Any) -> jax.Array:
    """Finite entries bounded by half the root of the largest number of `dtype`; others as they are.

    A mean of squares is then at most a quarter of that number, and rounding of `nu` and of its weight, which are
    divided, cannot make up a factor of 4; the sum over a block is finite up to 2e19 entries.
    """
    bound = math.sqrt(jnp.finfo(dtype).max) / 2
    return jnp.where(jnp.isfinite(h), jnp.clip(h, -bound, bound), h)


def all_finite(tree: Any) -> jax.Array:
    """Whether every entry of every leaf is finite."""
    finite = jnp.array(True)
    for leaf in jax.tree.leaves(tree):
        finite &= jnp.all(jnp.isfinite(leaf))
    return finite


def powered_root(nu: Any, nu_weight: jax.Array, hessian_power: Any) -> Any:
    """``(nu / nu_weight)^(k/2)``; infinite before the first estimate, when nothing is known of the curvature."""
    return _powered(jnp.sqrt, nu, nu_weight, hessian_power)


def powered_magnitude(nu: Any, nu_weight: jax.Array, hessian_power: Any) -> Any:
    """``|nu / nu_weight|^k``; infinite before the first estimate."""
    return _powered(jnp.abs, nu, nu_weight, hessian_power)


def _powered(curvature: Callable[[jax.Array], jax.Array], nu: Any, nu_weight: jax.Array, hessian_power: Any) -> Any:
    power_is_one = isinstance(hessian_power, (int, float)) and hessian_power == 1

    def powered(v: jax.Array) -> jax.Array:
        weight = nu_weight.astype(v.dtype)
        d = curvature(v / jnp.where(weight > 0, weight, 1))
        return jnp.where(weight > 0, d if power_is_one else d**hessian_power, jnp.inf)

    return jax.tree.map(powered, nu)


def directions(
    updates: Any, mu: Any, mu_weight: jax.Array, nu_root: Any, eps: Any, spatial_average: SpatialAverage
) -> Any:
    """``mu_hat / (nu_root + eps)`` in the dtype of the gradients."""

    def direction(path: Any, g: jax.Array, m: jax.Array, root: jax.Array) -> jax.Array:
        denominator = block_expand(root + eps, spatial_average.block_shape(path, g), g)
        return (m / mu_weight.astype(m.dtype) / denominator).astype(g.dtype)

    return jax.tree_util.tree_map_with_path(direction, updates, mu, nu_root)
