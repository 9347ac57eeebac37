"""Estimates and gradients that are not finite: each affects its own entry alone."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.feeds import FEEDS, draw

import optax_adahessian as oah

H = jnp.array([[2.0, 0.5], [0.5, 1.0]])


def partly_singular(params):
    """At b = 0 the gradient of |b|^1.5 is 0 and its curvature infinite, and z * Hz is NaN."""
    return 0.5 * params["w"] @ H @ params["w"] + jnp.sum(jnp.abs(params["b"]) ** 1.5)


@pytest.mark.parametrize("feed", FEEDS)
def test_what_is_finite_trains_on(feed):
    tx = oah.adahessian(0.15)
    params = {"w": jnp.array([1.0, -2.0]), "b": jnp.zeros(2)}
    state, start = tx.init(params), partly_singular(params)

    @jax.jit
    def step(params, state):
        updates, state, _ = feed(tx, partly_singular, params, state, draw(state[0].count))
        return optax.apply_updates(params, updates), state

    for _ in range(30):
        params, state = step(params, state)
    assert partly_singular(params) < 0.1 * start
    np.testing.assert_array_equal(params["b"], 0)
    chex.assert_tree_all_finite((params, state))


def run(update, state, grads, diags):
    """The updates, and the last state."""
    updates = []
    for g, h in zip(grads, diags, strict=True):
        u, state = update(g, state, hessian_diag=h)
        updates.append(u)
    return updates, state


BAD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("bad", BAD)
def test_where_all_is_bad_nothing_moves_before_the_first_finite_estimate(bad):
    """Later the old average is used, and the estimates that are not finite leave no trace in it."""
    tx, ones = oah.scale_by_adahessian(b2=0.9), jnp.ones(3)
    updates, state = run(tx.update, tx.init(ones), [ones] * 4, [bad * ones, bad * ones, 2 * ones, bad * ones])
    np.testing.assert_array_equal(updates[:2], 0)
    np.testing.assert_allclose(updates[2:], 1 / (2 + 1e-4), rtol=1e-5)
    assert (state.count, state.last_estimate) == (4, 4)
    # After a bad one, an estimate has the weight of its own step, (1 - b2) / (1 - b2^5), in the running mean.
    _, state = tx.update(ones, state, hessian_diag=5 * ones)
    weight = 0.1 / (1 - 0.9**5)
    np.testing.assert_allclose(state.nu, (1 - weight) * 2**2 + weight * 5**2, rtol=1e-5)


BAD_BLOCKS = [np.nan, 1.0], [np.inf, 1.0], [-np.inf, 1.0], [np.inf, -np.inf]


@pytest.mark.parametrize(
    ("dtype", "signed"),
    [("float16", False), ("bfloat16", False), ("float32", False), ("float32", True), ("float64", False)],
)
def test_a_block_that_is_not_finite_keeps_its_average_and_no_other_block_sees_it(dtype, signed):
    """To the bit: the block as if it had no estimate at that step, the others as if all had been finite."""
    with jax.enable_x64(dtype == "float64"):
        grads, diags = jax.random.normal(jax.random.key(0), (2, 2, 3, 2), dtype)
        average = oah.SpatialAverage.custom(lambda path, leaf: (1, 2), signed=signed)
        tx = oah.scale_by_adahessian(b2=0.5, spatial_average=average)
        update, state = jax.jit(tx.update), tx.init(grads[0])
        finite, _ = run(update, state, grads, diags)
        skipped, _ = run(update, state, grads, [diags[0], None])
        for block in BAD_BLOCKS:
            spoilt = diags[1].at[1].set(jnp.array(block, dtype))
            updates, _ = run(update, state, grads, [diags[0], spoilt])
            np.testing.assert_array_equal(updates[1][1], skipped[1][1])
            np.testing.assert_array_equal(updates[1][::2], finite[1][::2])


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("b1", [0.9, 0])
def test_a_gradient_that_is_not_finite_makes_its_own_entry_nan_also_behind_a_clip(b1, bad):
    """With momentum for good, as in optax.adam; an infinite step would leave the clip as one of 0.01 for ever."""
    ones = jnp.ones(3)
    grads = [ones, jnp.array([1.0, bad, 1.0]), ones]
    tx = optax.chain(oah.adahessian(0.1, b1=b1), optax.clip(0.01))
    update = lambda g, state, hessian_diag: tx.update(g, state, ones, hessian_diag=hessian_diag)
    updates, state = run(update, tx.init(ones), grads, [ones] * 3)
    for t, u in enumerate(updates):
        np.testing.assert_array_equal(jnp.isnan(u), [False, t == 1 or (t == 2 and b1 > 0), False])
        np.testing.assert_allclose(u[::2], -0.01)
    assert np.all(np.isfinite(state[0][0].nu))
