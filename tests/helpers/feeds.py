"""The ways to feed a step: an estimate from outside, the loss, and neither, between two estimates."""

from typing import Any

import jax

import optax_adahessian as oah


def draw(n: int | jax.Array) -> jax.Array:
    """The key of the n-th estimate that `oah.hutchinson()` makes."""
    return jax.random.fold_in(jax.random.key(0), n)


FIRST = draw(0)


def by_diag(tx: Any, loss_fn: Any, params: Any, state: Any, key: Any = FIRST, axis_name: Any = None) -> Any:
    """``(updates, state, loss)`` of a step that estimates in one pass with the gradient."""
    value, grads, diag = oah.value_grad_and_hessian_diag(loss_fn, axis_name=axis_name)(key, params)
    return *tx.update(grads, state, params, hessian_diag=diag), value


def by_loss(tx: Any, loss_fn: Any, params: Any, state: Any, key: Any = None, axis_name: Any = None) -> Any:
    """The same for `update` that estimates by itself, with keys of its own."""
    del key
    value, grads, _ = oah.value_grad_and_hessian_diag(loss_fn, axis_name=axis_name)(None, params)
    return *tx.update(grads, state, params, obj_fn=loss_fn), value


def without_estimate(tx: Any, loss_fn: Any, params: Any, state: Any, key: Any = None, axis_name: Any = None) -> Any:
    """The same between two estimates."""
    del key
    return by_diag(tx, loss_fn, params, state, None, axis_name)


FEEDS = [by_diag, by_loss]
