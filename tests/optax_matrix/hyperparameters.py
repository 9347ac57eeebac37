"""With injected hyper-parameters"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .problem import (
    BATCHES,
    IS_KERNEL,
    ONLY_KERNEL,
    PARAMS,
    RATE,
    Rule,
    Step,
    adahessian,
    assert_trains_as,
    estimate,
    feed,
    flat,
    key_of,
)
from .row import NO_CELL, Way, refuses, row

inject = optax.inject_hyperparams
recommended = functools.partial(inject, static_args=("update_interval", "dense_start", "mask"))
HALF_PARAMS = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)


@row("`optax.inject_hyperparams(adahessian)(learning_rate=0.1)`")
def constant(way: Way) -> None:
    """Works as it stands; the form with `static_args` below compiles to less."""
    rule = Rule()
    state = assert_trains_as(
        lambda s: -RATE * rule(s.g, s.h), inject(adahessian)(learning_rate=RATE), way, compiled=True
    )
    assert state.hyperparams["learning_rate"] == RATE


@row("the same, changed between steps")
def changed(way: Way) -> None:
    """By `state.hyperparams["learning_rate"] = ...` or `optax.tree.set`."""
    params = jax.tree.map(jnp.asarray, PARAMS)
    tx = inject(adahessian)(learning_rate=RATE)
    _, grads, diag = estimate(key_of(0), params, BATCHES[0])
    state = optax.tree.set(tx.init(params), learning_rate=jnp.asarray(0.5))
    updates, _ = tx.update(grads, state, params, **feed(way, BATCHES[0], diag))
    np.testing.assert_allclose(flat(updates), -0.5 * Rule()(flat(grads), flat(diag)), rtol=1e-9)


@row("the same, with schedules")
def schedules(way: Way) -> None:
    """Of any hyper-parameter that is a number."""
    rule = Rule()
    rate, decay = optax.linear_schedule(0.2, 0.0, 8), optax.linear_schedule(0.0, 0.8, 8)

    def by_hand(s: Step):
        return -(0.2 - 0.025 * s.t) * (rule(s.g, s.h) + 0.1 * s.t * s.w)

    tx = inject(adahessian)(learning_rate=rate, weight_decay=decay)
    assert_trains_as(by_hand, tx, way, rtol=1e-6, compiled=True)


@row("the same, with `update_interval` and `dense_start`", hessian_diag=NO_CELL)
def interval(way: Way) -> None:
    """They become arrays, so that even an interval of 1 goes through a `cond`."""
    rule = Rule()
    tx = inject(adahessian)(learning_rate=RATE, update_interval=3, dense_start=2)
    draws = {0: 0, 1: 1, 3: 2}

    def by_hand(s: Step):
        return -RATE * rule(s.g, s.h if s.t in draws else None)

    assert_trains_as(by_hand, tx, way, draw=lambda t: draws.get(t, 0), compiled=True)


@row('`inject_hyperparams(adahessian, static_args=("update_interval", "dense_start", "mask"))`')
def static(way: Way) -> None:
    """The recommended form: an interval of 1 compiles to no `cond`, and `mask` may be a function."""
    rule = Rule()
    tx = recommended(adahessian)(learning_rate=RATE, weight_decay=0.1, mask=lambda params: ONLY_KERNEL)
    state = assert_trains_as(lambda s: -RATE * (rule(s.g, s.h) + 0.1 * s.w * IS_KERNEL), tx, way)
    update = jax.make_jaxpr(lambda grads: tx.update(grads, state, grads, **feed(way, BATCHES[0], grads)))
    assert " cond[" not in str(update(PARAMS))


@row(
    "`inject_hyperparams` with a function as `mask`, not static",
    obj_fn=refuses("static_args"),
    hessian_diag=refuses("static_args"),
)
def mask_as_schedule(way: Way) -> None:
    """`inject_hyperparams` takes a function for a schedule and calls it with the step: name `mask` in `static_args`."""
    tx = inject(adahessian)(
        learning_rate=RATE, weight_decay=0.1, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    )
    assert_trains_as(Rule(), tx, way)


@row(
    "`inject_hyperparams`, all parameters in bfloat16",
    obj_fn=refuses("hyperparam_dtype=jnp.float32"),
    hessian_diag=refuses("hyperparam_dtype=jnp.float32"),
)
def all_bfloat16(way: Way) -> None:
    """`b2=0.999` is rounded to 1. Inside `jax.jit` that is not seen, and nothing moves: call `init` outside of it."""
    assert_trains_as(Rule(), inject(adahessian)(learning_rate=RATE), way, params=HALF_PARAMS)


@row("the same, with `hyperparam_dtype=jnp.float32`")
def all_bfloat16_injected_in_float32(way: Way) -> None:
    """The parameters stay in bfloat16."""
    rule = Rule()
    tx = inject(adahessian, hyperparam_dtype=jnp.float32)(learning_rate=RATE)
    # Momentum and direction are each rounded to 8 bits.
    state = assert_trains_as(
        lambda s: -RATE * rule(s.g.astype(float), s.h.astype(float)),
        tx,
        way,
        params=HALF_PARAMS,
        rtol=2**-7,
        compiled=True,
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(optax.tree.get(state, "mu"))} == {jnp.dtype(jnp.bfloat16)}
