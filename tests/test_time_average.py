"""The average of the estimates over time: with their sign, or their root mean square."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rule_model import numpy_rule

import optax_adahessian as oah


@pytest.mark.parametrize("hessian_power", [1.0, 0.5])
@pytest.mark.parametrize("block", [(1, 1), (2, 1), (4, 3)])
def test_the_mean_follows_the_rule(block, hessian_power):
    hyper = {"b1": 0.9, "b2": 0.8, "eps": 1e-3, "hessian_power": hessian_power}
    rng = np.random.default_rng(0)
    grads, diags = [[rng.normal(size=(4, 3))] for _ in range(9)], [[rng.normal(size=(4, 3))] for _ in range(9)]
    diags[3] = diags[4] = None
    diags[7][0][1, 1] = np.nan
    with jax.enable_x64(True):
        average = oah.SpatialAverage.custom(lambda path, leaf: block)
        tx = oah.scale_by_adahessian(**hyper, spatial_average=average, time_average="mean")
        state = tx.init(jnp.zeros((4, 3)))
        for g, h, right in zip(
            grads, diags, numpy_rule(grads, diags, [block], **hyper, time_average="mean"), strict=True
        ):
            updates, state = tx.update(jnp.asarray(g[0]), state, hessian_diag=None if h is None else jnp.asarray(h[0]))
            np.testing.assert_allclose(updates, right[0], rtol=1e-11)
        assert state.rejected == 1


@pytest.mark.parametrize("time_average", ["mean", "rms"])
def test_what_the_denominator_tends_to(time_average):
    """H = [[2, 3], [3, -1]]: z * Hz is (2, -1) + 3 z_1 z_2, whose signs are equal as often as not."""
    hessian = jnp.array([[2.0, 3.0], [3.0, -1.0]])
    estimates = 4096
    tx = oah.scale_by_adahessian(b1=0.0, b2=1 - 1 / estimates, eps=0.0, time_average=time_average)
    probes = jax.random.rademacher(jax.random.key(0), (8 * estimates, 2), dtype=float)

    def step(state, z):
        return tx.update(jnp.ones(2), state, hessian_diag=z * (hessian @ z))[1], None

    state, _ = jax.lax.scan(step, tx.init(jnp.zeros(2)), probes)
    updates, _ = tx.update(jnp.ones(2), state, hessian_diag=None)
    # An exponential average over n has the noise of 2 n samples; here each entry has the variance 9, its square
    # (4 + 9 +- 12, or 1 + 9 -+ 6) that of 144 or 36.
    if time_average == "mean":
        sigma = 3 / np.sqrt(2 * estimates)
        np.testing.assert_allclose(1 / updates, jnp.abs(jnp.diag(hessian)), atol=4 * sigma)
    else:
        row_norms = np.linalg.norm(hessian, axis=1)
        sigma = np.array([12, 6]) / np.sqrt(2 * estimates) / (2 * row_norms)
        np.testing.assert_array_less(np.abs(1 / updates - row_norms), 4 * sigma)


def test_both_agree_where_all_estimates_do():
    diag = {"a": jnp.array([2.0, 8.0]), "b": jnp.array(0.5)}
    grads = jax.tree.map(jnp.ones_like, diag)
    updates = []
    for time_average in ("mean", "rms"):
        tx = oah.scale_by_adahessian(b2=0.9, time_average=time_average)
        state = tx.init(grads)
        for _ in range(3):
            update, state = tx.update(grads, state, hessian_diag=diag)
        updates.append(update)
    chex.assert_trees_all_close(*updates, rtol=1e-6)


def test_blocks_keep_the_sign_in_the_mean_whatever_the_average_says():
    h = jnp.array([5.0, -1.0])
    for signed in (False, True):
        average = oah.SpatialAverage.custom(lambda path, leaf: (-1,), signed=signed)
        tx = oah.scale_by_adahessian(b1=0.0, eps=0.0, spatial_average=average, time_average="mean")
        updates, _ = tx.update(jnp.ones(2), tx.init(h), hessian_diag=h)
        np.testing.assert_allclose(updates, [1 / 2, 1 / 2], rtol=1e-6)


def test_the_largest_entries_leave_a_finite_mean():
    largest = jnp.full(2, jnp.finfo(jnp.float32).max)
    tx = oah.scale_by_adahessian(b2=0.9, time_average="mean")
    state = tx.init(largest)
    for sign in (1, 1, -1):
        updates, state = tx.update(jnp.ones(2), state, hessian_diag=sign * largest)
        assert jnp.all(jnp.isfinite(state.nu)) & jnp.all(jnp.isfinite(updates))
    assert state.rejected == 0
