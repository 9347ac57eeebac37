"""A model that averages over replicas itself: batch statistics of all of them, by `pmean` inside the loss."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import ways
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from ways import AXIS

import optax_adahessian as oah

W = jnp.array([0.3, -0.5, 0.7])
X = jax.random.normal(jax.random.key(0), (16, 3))
KEY = jax.random.key(1)


def loss_fn(w, x, axis_name=None):
    """Every example meets every other in the statistics, so that the loss is no sum over examples."""
    hidden = jnp.tanh(x @ w)
    mean, mean_square = jnp.mean(hidden), jnp.mean(hidden**2)
    if axis_name is not None:
        mean, mean_square = jax.lax.pmean((mean, mean_square), axis_name)
    normalized = (hidden - mean) / jnp.sqrt(mean_square - mean**2 + 1e-3)
    return jnp.mean((normalized - x[:, 0]) ** 2 * x[:, 1]), mean


def local_loss(w, x):
    return loss_fn(w, x, AXIS)


def both_feeds(hvp, key, w, x):
    """What the one pass returns, and the diagonal that `obj_fn` would be asked for."""
    estimate = oah.value_grad_and_hessian_diag(local_loss, has_aux=True, axis_name=AXIS, hvp=hvp)
    estimator = oah.hutchinson(key=key, axis_name=AXIS, hvp=hvp)
    diag, _ = estimator.update(w, estimator.init(w), w, obj_fn=lambda p: local_loss(p, x)[0])
    return estimate(jax.random.fold_in(key, 0), w, x), diag


def in_shard_map(fn, check_vma=True):
    mesh = ways.mesh_of(AxisType.Auto)
    return jax.jit(jax.shard_map(fn, mesh=mesh, in_specs=(P(), P(), P(AXIS)), out_specs=P(), check_vma=check_vma))


def in_pmap(fn):
    mapped = jax.pmap(fn, axis_name=AXIS, in_axes=(None, None, 0))
    return lambda key, w, x: jax.tree.map(lambda a: a[5], mapped(key, w, x.reshape(8, 2, 3)))


WAYS = {
    "shard_map": in_shard_map,
    "shard_map without vma": lambda fn: in_shard_map(fn, check_vma=False),
    "pmap": in_pmap,
}


@pytest.mark.parametrize("way", WAYS)
def test_one_probe_for_all_replicas_gives_what_one_device_does(way):
    """Value, statistics, gradient and ``z * Hz`` of the whole batch, whichever way JAX differentiates twice."""
    hvp = "reverse_over_reverse" if way == "pmap" else "forward_over_reverse"
    got, diag = WAYS[way](functools.partial(both_feeds, hvp))(KEY, W, X)
    one_device = jax.jit(oah.value_grad_and_hessian_diag(loss_fn, has_aux=True))
    expected = one_device(jax.random.fold_in(KEY, 0), W, X)
    chex.assert_trees_all_close(got, expected, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(diag, expected[2], rtol=1e-4, atol=1e-5)


def test_own_probes_miss_the_curvature_that_runs_through_the_statistics():
    """A probe of its own moves each replica's copy of the parameters alone.

    Let H_de be the blocks of the Hessian of all local losses' sum in these copies. That of the loss is the sum of all
    blocks over 8; signs of different replicas are independent, so that of the estimate only H_dd survives the mean.
    """
    estimate = oah.value_grad_and_hessian_diag(local_loss, has_aux=True, axis_name=AXIS)

    def own_probe(key, w, x):
        return estimate(jax.random.fold_in(key, jax.lax.axis_index(AXIS)), w, x)[2]

    keys = jax.random.split(KEY, 1000)
    many = in_shard_map(lambda keys, w, x: jax.lax.map(lambda key: own_probe(key, w, x), keys))
    samples = np.asarray(many(keys, W, X))

    def of_copies(copies):
        hidden = jnp.tanh(jnp.einsum("dbi,di->db", X.reshape(8, 2, 3), copies))
        normalized = (hidden - jnp.mean(hidden)) / jnp.sqrt(jnp.mean(hidden**2) - jnp.mean(hidden) ** 2 + 1e-3)
        return jnp.sum(jnp.mean((normalized - X[:, 0].reshape(8, 2)) ** 2 * X[:, 1].reshape(8, 2), axis=1))

    blocks = jax.jit(jax.hessian(of_copies))(jnp.tile(W, (8, 1)))
    own, whole = jnp.einsum("didi->i", blocks) / 8, jnp.einsum("diei->i", blocks) / 8
    sigma = samples.std(0) / np.sqrt(len(keys))
    assert np.all(np.abs(samples.mean(0) - own) < 5 * sigma)
    assert np.max(np.abs(own - whole) / sigma) > 10
