"""Shared probes and own probes: the variance of the estimate, and the denominator it leads to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import optax_adahessian as oah

DRAWS, REPLICAS, DIM = 4000, 8, 6
PARAMS = {"u": jnp.zeros(2), "w": jnp.zeros(DIM - 2)}


def hessians(spread):
    """One symmetric matrix for each replica: what its part of the batch makes of the loss."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(1, DIM, DIM)) + spread * rng.normal(size=(REPLICAS, DIM, DIM))
    return (a + a.swapaxes(1, 2)).astype(np.float32)


def loss_fn(params, hessian):
    w = jnp.concatenate([params["u"], params["w"]])
    return 0.5 * w @ hessian.reshape(DIM, DIM) @ w


def estimates_outside(own_probes, hessian):
    estimate = oah.value_grad_and_hessian_diag(loss_fn, axis_name="replicas")

    def one(key):
        own_key = jax.random.fold_in(key, jax.lax.axis_index("replicas")) if own_probes else key
        return estimate(own_key, PARAMS, hessian)[2]

    return jax.vmap(one)(jax.random.split(jax.random.key(1), DRAWS))


def estimates_inside(own_probes, hessian):
    estimator = oah.hutchinson(key=1, axis_name="replicas", independent_probes=own_probes)

    def one(draws):
        state = oah.HutchinsonState(draws=draws)
        return estimator.update(PARAMS, state, PARAMS, obj_fn=lambda p: loss_fn(p, hessian))[0]

    return jax.vmap(one)(jnp.arange(DRAWS))


def by_pmap(fn, matrices):
    return jax.tree.map(lambda a: a[0], jax.pmap(fn, axis_name="replicas")(matrices))


def by_shard_map(fn, matrices):
    mesh = jax.make_mesh((REPLICAS,), ("replicas",), axis_types=(AxisType.Auto,))
    return jax.jit(jax.shard_map(fn, mesh=mesh, in_specs=P("replicas"), out_specs=P()))(matrices)


def off_diagonal_row_norms(matrix):
    return np.sum(matrix**2, -1) - np.diagonal(matrix, axis1=-2, axis2=-1) ** 2


@pytest.mark.parametrize(("own_probes", "spread"), [(False, 0.5), (True, 0.5), (True, 0.0)])
@pytest.mark.parametrize("way", [by_pmap, by_shard_map])
def test_variance_of_value_grad_and_hessian_diag_is_that_of_theory(way, own_probes, spread):
    check_variance(way, estimates_outside, own_probes, spread)


@pytest.mark.parametrize("own_probes", [False, True])
def test_variance_of_hutchinson_is_that_of_theory(own_probes):
    check_variance(by_shard_map, estimates_inside, own_probes, spread=0.5)


def check_variance(way, estimates, own_probes, spread):
    matrices = hessians(spread)
    diags = way(functools.partial(estimates, own_probes), matrices)
    diags = np.concatenate([diags["u"], diags["w"]], axis=1, dtype=np.float64)

    # h = mean_r z_r * H_r z_r. Shared probes: z_r = z, one probe of the mean H. Own ones: the mean of independent
    # terms, whose variances add up over D^2; for equal H_r the variance of one probe over D.
    mean = matrices.mean(0)
    own = off_diagonal_row_norms(matrices).sum(0) / REPLICAS**2
    variance = own if own_probes else off_diagonal_row_norms(mean)
    if spread == 0:
        np.testing.assert_allclose(own, off_diagonal_row_norms(mean) / REPLICAS, rtol=1e-5)
    np.testing.assert_allclose(diags.var(0), variance, rtol=0.15)
    np.testing.assert_array_less(np.abs(diags.mean(0) - np.diag(mean)), 5 * np.sqrt(variance / DRAWS))
    np.testing.assert_allclose((diags**2).mean(0), np.diag(mean) ** 2 + variance, rtol=0.15)
