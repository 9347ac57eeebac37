"""One step fed in both ways, the loss or the estimate, with and without jit; and what an estimate has to be."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import optax_adahessian as oah

EPS = 2.0**-10
# What `hutchinson()` draws first, so that both feeds see the same signs.
FIRST_DRAW = jax.random.fold_in(jax.random.key(0), 0)


def fed_in_both_ways(
    loss: Any,
    params: Any,
    /,
    *args: Any,
    has_aux: bool = False,
    hvp: Any = "forward_over_reverse",
    eager: bool = True,
    **kwargs: Any,
) -> Any:
    """What the one pass returns, after a check that `update` does the same with it and with the loss.

    That is a step of the rule with ``b1 = b2 = 0``, ``g / (|h| + eps)``; under jit, and without if `eager`, which
    compiles every operation of the loss by itself.
    """
    estimate = oah.value_grad_and_hessian_diag(loss, has_aux=has_aux, hvp=hvp)
    tx = oah.scale_by_adahessian(b1=0.0, b2=0.0, eps=EPS, hessian_diagonal_fn=oah.hutchinson(hvp=hvp))

    def obj_fn(p: Any) -> Any:
        out = loss(p, *args, **kwargs)
        return out[0] if has_aux else out

    def both(p: Any) -> Any:
        value, grads, diag = estimate(FIRST_DRAW, p, *args, **kwargs)
        state = tx.init(p)
        by_diag, _ = tx.update(grads, state, p, hessian_diag=diag)
        by_loss, _ = tx.update(grads, state, p, obj_fn=obj_fn)
        return (value, grads, diag), by_diag, by_loss

    runs = [jax.jit(both)(params), *([both(params)] if eager else [])]
    for (_, grads, diag), *updates in runs:
        expected = jax.tree.map(lambda g, h: g / (jnp.abs(h) + EPS), grads, diag)
        for fed in updates:
            chex.assert_trees_all_close(fed, expected, rtol=1e-5, atol=1e-5)
        chex.assert_trees_all_close((grads, diag), runs[0][0][1:], rtol=1e-5, atol=1e-6)
    return runs[0][0]


def assert_signed_product(loss: Any, params: Any, diag: Any) -> None:
    """`diag` is ``z * Hz`` for some signs z, with H written out by `jax.hessian`; for up to a dozen parameters."""
    flat, unravel = ravel_pytree(params)
    hessian = np.asarray(jax.jit(jax.hessian(lambda x: loss(unravel(x))))(flat), float)
    # z and -z have the same product: the first sign is kept.
    signs = 1.0 - 2.0 * (np.arange(2 ** (flat.size - 1))[:, None] >> np.arange(flat.size) & 1)
    errors = np.abs(signs * (signs @ hessian) - np.asarray(ravel_pytree(diag)[0], float)).max(axis=1)
    assert errors.min() < 1e-5 * np.abs(hessian).sum(axis=1).max()
