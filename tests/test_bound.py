"""The longest step of an entry, `max_step`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adahessian as oah

GRADS = jnp.array([1.0, -2.0, 1e-3, 0.0])
CURVATURE = jnp.array([1.0, 0.0, 1.0, 0.0])  # Newton's steps: 1, infinite, 1e-3, none


def first_step(params=None, **settings):
    params = jnp.zeros(4) if params is None else params
    tx = oah.adahessian(**{"b1": 0.0, "learning_rate": 0.5, "max_step": 0.01} | settings)
    return tx.update(GRADS.astype(params.dtype), tx.init(params), params, hessian_diag=CURVATURE)[0]


def test_no_entry_moves_further_and_short_steps_are_as_they_were():
    np.testing.assert_allclose(first_step(), [-0.01, 0.01, -0.5e-3, 0.0], rtol=1e-6)


def test_where_the_curvature_is_zero_the_bound_is_the_step_whatever_eps():
    for eps in (0.0, 1e-12, 1e-6):
        assert first_step(eps=eps)[1] == pytest.approx(0.01)


def test_none_switches_it_off():
    np.testing.assert_allclose(first_step(max_step=None, eps=1e-3), [-0.5 / 1.001, 1e3, -0.5e-3 / 1.001, 0], rtol=1e-6)


def test_decay_comes_on_top():
    params = jnp.full(4, 8.0)
    decay = -0.5 * 1e-2 * params
    np.testing.assert_allclose(first_step(params, weight_decay=1e-2), first_step(params) + decay, rtol=1e-6)


def test_it_holds_at_every_rate_of_a_schedule_and_a_rate_of_zero_is_no_step():
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.5, 2, 6)
    tx = oah.adahessian(schedule, b1=0.0, max_step=0.01)
    params = jnp.zeros(4)
    state = tx.init(params)
    for t in range(6):
        updates, state = tx.update(GRADS, state, params, hessian_diag=CURVATURE)
        right = schedule(t) * np.array([-1, np.inf, -1e-3, 0]) if t else np.zeros(4)
        np.testing.assert_allclose(updates, np.clip(np.nan_to_num(right), -0.01, 0.01), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_keeps_its_dtype(dtype):
    updates = first_step(jnp.zeros(4, dtype))
    assert updates.dtype == dtype
    np.testing.assert_allclose(updates[:2].astype(float), [-0.01, 0.01], rtol=float(2 * jnp.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_an_entry_that_overflows_is_no_step_at_a_rate_of_zero(dtype):
    """As in float16 a small gradient over eps does."""
    updates = first_step(jnp.zeros(4, dtype), eps=0.0, learning_rate=lambda count: 0.0 * count)
    assert not np.any(updates[:3].astype(float))  # the last is 0 / 0


def test_it_can_be_injected_and_changed_during_a_run():
    tx = optax.inject_hyperparams(oah.adahessian, static_args=("update_interval", "dense_start", "mask"))(max_step=0.01)
    params = jnp.zeros(4)
    state = jax.jit(tx.init)(params)
    for bound in (0.01, 0.002):
        state.hyperparams["max_step"] = bound
        updates, state = tx.update(GRADS, state, params, hessian_diag=CURVATURE)
        assert jnp.max(jnp.abs(updates)) == pytest.approx(bound)
