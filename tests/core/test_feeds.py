"""Where the curvature of a step comes from: an estimate from outside, the loss, or an estimator from elsewhere; and on
which steps one is made.
"""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import ways
from helpers.feeds import by_diag, by_loss, draw

import optax_adahessian as oah


def test_refresh_due_is_the_rule():
    for step, interval, dense in itertools.product(range(30), (1, 3, 10), (0, 1, 10)):
        due = step < dense or step % interval == 0
        assert oah.refresh_due(step, interval, dense) is oah.refresh_due(jnp.int32(step), interval, dense) is due


@pytest.mark.parametrize("key", [jax.random.key(3), jax.random.PRNGKey(3)], ids=["typed", "raw"])
@pytest.mark.parametrize("step_type", [int, np.int64, jnp.int32])
def test_refresh_key_is_the_key_of_the_step_where_one_is_due_and_none_elsewhere(key, step_type):
    for step in range(20):
        refreshed = oah.refresh_key(key, step_type(step), 7, dense_start=2)
        if oah.refresh_due(step, 7, dense_start=2):
            np.testing.assert_array_equal(
                jax.random.key_data(refreshed), jax.random.key_data(jax.random.fold_in(key, step))
            )
        else:
            assert refreshed is None


def counting_loss(counter):
    """sum(w^4) / 4 that counts how often its gradient is pushed forward, on the device, as the program runs."""

    @jax.custom_jvp
    def counted(x):
        return x

    @counted.defjvp
    def _(primals, tangents):
        jax.debug.callback(lambda: counter.append(1))
        return counted(*primals), *tangents

    return lambda w: jnp.sum(counted(w) ** 4) / 4


@pytest.mark.parametrize(("interval", "dense_start"), [(1, 0), (3, 0), (3, 10), (7, 1)])
def test_obj_fn_is_differentiated_exactly_on_the_steps_that_are_due(interval, dense_start):
    counter = []
    obj_fn = counting_loss(counter)
    tx = oah.scale_by_adahessian(update_interval=interval, dense_start=dense_start)

    @jax.jit
    def step(params, state):
        return tx.update(params**3, state, params, obj_fn=obj_fn)[1]  # the gradient by hand: it counts nothing

    params = jnp.ones(2)
    state, seen = tx.init(params), []
    for _ in range(23):
        before = len(counter)
        state = jax.block_until_ready(step(params, state))
        jax.effects_barrier()
        seen.append(len(counter) > before)
    assert seen == [oah.refresh_due(t, interval, dense_start) for t in range(23)]
    assert state.estimator.draws == sum(seen)


def by_scaled_diag(tx, loss_fn, params, state, key, axis_name):
    """A step with an equilibrated probe from outside."""
    estimate = oah.value_grad_and_hessian_diag(loss_fn, axis_name=axis_name)
    value, grads, diag = estimate(key, params, probe_scale=oah.probe_scale(state, params))
    return *tx.update(grads, state, params, hessian_diag=diag), value


@pytest.mark.parametrize(("equilibrate", "feed"), [(False, by_diag), (True, by_scaled_diag)])
def test_both_ways_of_feeding_agree_step_by_step(equilibrate, feed):
    """With hutchinson's n-th draw from outside, on the steps of a schedule."""
    make = functools.partial(ways.optimizer, update_interval=4, dense_start=2)
    params = ways.initial_params()
    step_inside = jax.jit(ways.step_of(by_loss, make(equilibrate=equilibrate)))
    step_outside = jax.jit(ways.step_of(feed, make()))
    inside = outside = params, make().init(params)
    draws = 0
    for t in range(10):
        due = oah.refresh_due(t, 4, dense_start=2)
        *inside, _ = step_inside(*inside, None, ways.batch_at(t))
        *outside, _ = step_outside(*outside, draw(draws) if due else None, ways.batch_at(t))
        draws += due
        chex.assert_trees_all_close(inside[0], outside[0], rtol=1e-5, atol=1e-6)
    assert inside[1][0].estimator.draws == draws


def test_value_fn_serves_only_where_neither_feed_is_given():
    tx, params = oah.scale_by_adahessian(b1=0, eps=0.0), jnp.ones(2)
    obj_fn, value_fn = (lambda p: jnp.sum(p**2)), (lambda p: 4 * jnp.sum(p**2))
    for feed, curvature in (
        ({"value_fn": value_fn}, 8),
        ({"value_fn": value_fn, "obj_fn": obj_fn}, 2),
        ({"value_fn": value_fn, "hessian_diag": params}, 1),
    ):
        updates, _ = tx.update(params, tx.init(params), params, **feed)
        np.testing.assert_allclose(updates, 1 / curvature)
    updates, _ = tx.update(params, tx.init(params), params, value_fn=value_fn, hessian_diag=None)
    np.testing.assert_array_equal(updates, 0)


def test_python_numbers_are_leaves_everywhere():
    tx, params = optax.chain(oah.adaptive_nesterov(), oah.scale_by_adahessian(b1=0, eps=0.0)), {"w": 2.0}
    updates, _ = tx.update({"w": 3.0}, tx.init(params), params, hessian_diag={"w": 6.0})
    np.testing.assert_allclose(updates["w"], 0.5)


PARAMS = {"kernel": jnp.linspace(-1, 1, 6).reshape(3, 2), "bias": jnp.linspace(0.5, 1, 2)}


@pytest.mark.parametrize("feed", [{"hessian_diag": PARAMS}, {"obj_fn": lambda params: jnp.sum(params["kernel"] ** 2)}])
def test_other_extra_arguments_are_ignored(feed):
    tx, ones = oah.adahessian(0.1), jax.tree.map(jnp.ones_like, PARAMS)
    plain = tx.update(ones, tx.init(PARAMS), PARAMS, **feed)
    others = {"value": 3.0, "anything": "x", "value_fn": None}
    chex.assert_trees_all_equal(tx.update(ones, tx.init(PARAMS), PARAMS, **feed, **others), plain)


def test_a_foreign_estimator_gets_all_extra_arguments_and_may_need_no_obj_fn():
    def update_fn(updates, state, params=None, *, curvature, **extra_args):
        del updates, params
        assert extra_args == {"other": 1}
        return curvature, state

    foreign = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update_fn)
    tx = oah.scale_by_adahessian(b1=0, b2=0.0, eps=0.0, hessian_diagonal_fn=foreign)
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = tx.update(ones, tx.init(PARAMS), curvature=jax.tree.map(lambda p: 4 * p, ones), other=1)
    chex.assert_trees_all_equal(updates, jax.tree.map(lambda p: p / 4, ones))


def test_a_plain_transformation_serves_as_a_foreign_estimator():
    """One without extra arguments: the square of the gradient instead of the curvature."""
    squares = optax.stateless_with_tree_map(lambda g, p: g**2)
    tx = oah.scale_by_adahessian(b1=0, b2=0.0, eps=0.0, hessian_diagonal_fn=squares)
    grads = jax.tree.map(lambda p: 2 * jnp.ones_like(p), PARAMS)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS, obj_fn=lambda params: 0.0)
    chex.assert_trees_all_equal(updates, jax.tree.map(lambda p: jnp.full_like(p, 0.5), PARAMS))
