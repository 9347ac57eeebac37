"""One step fed in both ways, the loss or the estimate, with and without jit."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

import optax_adahessian as oah

EPS = 2.0**-10
# What `hutchinson()` draws first, so that both feeds see the same signs.
FIRST_DRAW = jax.random.fold_in(jax.random.key(0), 0)


def fed_in_both_ways(
    loss: Any, params: Any, /, *args: Any, has_aux: bool = False, hvp: Any = "forward_over_reverse", **kwargs: Any
) -> Any:
    """What the one pass returns, after a check that `update` does the same with it and with the loss.

    That is a step of the rule with ``b1 = b2 = 0``, ``g / (|h| + eps)``; under jit, and without.
    """
    estimate = oah.value_grad_and_hessian_diag(loss, has_aux=has_aux, hvp=hvp)
    tx = oah.scale_by_adahessian(b1=0, b2=0.0, eps=EPS, hessian_diagonal_fn=oah.hutchinson(hvp=hvp))

    def obj_fn(p: Any) -> Any:
        out = loss(p, *args, **kwargs)
        return out[0] if has_aux else out

    def both(p: Any) -> Any:
        value, grads, diag = estimate(FIRST_DRAW, p, *args, **kwargs)
        state = tx.init(p)
        by_diag, _ = tx.update(grads, state, p, hessian_diag=diag)
        by_loss, _ = tx.update(grads, state, p, obj_fn=obj_fn)
        return (value, grads, diag), by_diag, by_loss

    runs = jax.jit(both)(params), both(params)
    for (_, grads, diag), *updates in runs:
        expected = jax.tree.map(lambda g, h: g / (jnp.abs(h) + EPS), grads, diag)
        for fed in updates:
            chex.assert_trees_all_close(fed, expected, rtol=1e-5, atol=1e-5)
        chex.assert_trees_all_close((grads, diag), runs[0][0][1:], rtol=1e-5, atol=1e-6)
    return runs[0][0]
