"""The mean of z * Hz over random sign vectors z, beside value and gradient: the loss of one replica."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optax_adahessian._checks import check_real_leaves
from optax_adahessian._losses import Loss
from optax_adahessian._probes import rademacher_like
from optax_adahessian._products import Hvp, gradient_and_product
from optax_adahessian._replicas import Axes, check_axis, params_per_replica, probes_per_replica


def estimated_diag(
    loss: Loss, key: jax.Array, params: Any, num_probes: int, axis_name: Axes, hvp: Hvp, unroll: bool
) -> tuple[tuple[Any, Any], Any, Any]:
    """``(value, aux)``, gradient and estimated diagonal of the loss of one replica."""
    check_real_leaves("params", params)
    check_axis(axis_name)
    own_params = params_per_replica(jax.tree.map(jnp.asarray, params), axis_name)

    def probe(i: Any) -> Any:
        return probes_per_replica(rademacher_like(jax.random.fold_in(key, i), params), axis_name)

    first = probe(0)
    value_and_aux, grads, product, product_along = gradient_and_product(
        loss, own_params, first, hvp, more_follow=num_probes > 1
    )

    def add_probe(i: Any, total: Any) -> Any:
        z = probe(i)
        return jax.tree.map(jnp.add, total, _signed(z, product_along(z)))

    total = _signed(first, product)  # outside of the loop, which keeps the dtypes and shardings it starts with
    if unroll:
        for i in range(1, num_probes):
            total = add_probe(i, total)
    else:
        total = jax.lax.fori_loop(1, num_probes, add_probe, total)
    diag = jax.tree.map(lambda t, p: (t / num_probes).astype(p.dtype), total, own_params)
    return value_and_aux, grads, diag


def _signed(probe: Any, product: Any) -> Any:
    """``z * Hz``, in at least float32, in which the probes are summed."""
    return jax.tree.map(lambda z, hz: (z * hz).astype(jnp.promote_types(hz.dtype, jnp.float32)), probe, product)
