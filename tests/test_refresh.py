"""When an estimate is made: exactly where refresh_due says, with the key that refresh_key returns."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
