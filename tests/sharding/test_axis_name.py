"""`axis_name`: a probe for all replicas, losses that average over them themselves, bad replicas, and wrong use."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ways
from helpers.feeds import by_loss
from helpers.ways import AXIS
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import optax_adahessian as oah

KEY = jax.random.key(0)
W = jnp.array([0.3, -0.5, 0.7])
X = jax.random.normal(KEY, (16, 3))


def normalized_loss(w, x, axis_name=None):
    """Batch statistics of all replicas: every example meets every other, and the loss is no sum over examples."""
    hidden = jnp.tanh(x @ w)
    mean, mean_square = jnp.mean(hidden), jnp.mean(hidden**2)
    if axis_name is not None:
        mean, mean_square = jax.lax.pmean((mean, mean_square), axis_name)
    normalized = (hidden - mean) / jnp.sqrt(mean_square - mean**2 + 1e-3)
    return jnp.mean((normalized - x[:, 0]) ** 2 * x[:, 1]), mean


def both_feeds(hvp, key, w, x):
    """What the one pass returns, and the diagonal that the estimator behind `obj_fn` returns."""
    loss = functools.partial(normalized_loss, axis_name=AXIS)
    estimate = oah.value_grad_and_hessian_diag(loss, has_aux=True, axis_name=AXIS, hvp=hvp)
    estimator = oah.hutchinson(key=key, axis_name=AXIS, hvp=hvp)
    diag, _ = estimator.update(w, estimator.init(w), w, obj_fn=lambda p: loss(p, x)[0])
    return estimate(jax.random.fold_in(key, 0), w, x), diag


BATCH_SPLIT = {"in_specs": (P(), P(), P(AXIS)), "out_specs": P()}
ALL_SPLIT = {"in_specs": P(AXIS), "out_specs": P(AXIS)}


def in_shard_map(fn, specs=BATCH_SPLIT, check_vma=True):
    return jax.jit(jax.shard_map(fn, mesh=ways.mesh_of(AxisType.Auto), **specs, check_vma=check_vma))


def in_pmap(fn):
    mapped = jax.pmap(fn, axis_name=AXIS, in_axes=(None, None, 0))
    return lambda key, w, x: jax.tree.map(lambda a: a[5], mapped(key, w, x.reshape(8, 2, 3)))


WAYS = {
    "shard_map": in_shard_map,
    "shard_map without vma": functools.partial(in_shard_map, check_vma=False),
    "pmap": in_pmap,
}


@pytest.mark.parametrize("way", WAYS)
def test_one_probe_for_all_replicas_gives_what_one_device_does_with_statistics_of_all(way):
    """Value, statistics, gradient and ``z * Hz`` of the whole batch, whichever way JAX differentiates twice."""
    hvp = "reverse_over_reverse" if way == "pmap" else "forward_over_reverse"
    got, diag = WAYS[way](functools.partial(both_feeds, hvp))(KEY, W, X)
    one_device = jax.jit(oah.value_grad_and_hessian_diag(normalized_loss, has_aux=True))
    expected = one_device(jax.random.fold_in(KEY, 0), W, X)
    chex.assert_trees_all_close(got, expected, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(diag, expected[2], rtol=1e-4, atol=1e-5)


def each_by_pmap(fn):
    mapped = jax.pmap(fn, axis_name=AXIS)
    return lambda points: jax.tree.map(lambda a: a.reshape(8, *a.shape[2:]), mapped(points))


def each_by_shard_map(fn):
    return in_shard_map(fn, ALL_SPLIT)


@pytest.mark.parametrize("spread", [each_by_pmap, each_by_shard_map])
def test_what_one_replica_of_eight_cannot_use_none_does(spread):
    """At w = x the gradient of the loss is 0, and its curvature infinity times 0: in the second step of one replica."""
    tx = oah.scale_by_adahessian(hessian_diagonal_fn=oah.hutchinson(axis_name=AXIS))
    start = jnp.zeros([])

    def one_replica(x):
        state = tx.init(start)
        for own in (jnp.ones_like(x), x):
            own_loss = lambda w, own=own: jnp.abs(w - own.squeeze()) ** 1.5
            updates, state, _ = by_loss(tx, own_loss, start, state, axis_name=AXIS)
        return jax.tree.map(lambda a: a[None], (updates, state))

    updates, state = spread(one_replica)(jnp.ones(8).at[3].set(0.0))
    assert len({replica.tobytes() for replica in np.asarray(state.nu)}) == 1
    # The first step's curvature, 0.75 at a distance of 1, is all there is: mu_hat = 0.9 * 0.1 g1 + 0.1 g2 corrected.
    slopes = -1.5, -1.5 * 7 / 8
    mu_hat = (0.9 * 0.1 * slopes[0] + 0.1 * slopes[1]) / (1 - 0.9**2)
    np.testing.assert_allclose(updates, np.full(8, mu_hat / (0.75 + 1e-4)), rtol=1e-5)


PARAMS = {"w": jnp.arange(8.0)}
BATCH = jnp.ones((8, 2))


def loss_fn(params, batch):
    return jnp.mean(batch) * jnp.sum(params["w"] ** 2)


def mapped(fn, params_spec):
    specs = {"in_specs": (params_spec, P(AXIS)), "out_specs": (P(), params_spec, params_spec)}
    return in_shard_map(fn, specs)(PARAMS, BATCH)


@pytest.mark.parametrize("transform", [lambda fn: fn, jax.jit], ids=["plain", "jit"])
def test_an_axis_that_is_not_bound_is_named_by_jax(transform):
    for key in (KEY, None):
        with pytest.raises(NameError, match=f"unbound axis name: {AXIS}"):
            transform(oah.value_grad_and_hessian_diag(loss_fn, axis_name=AXIS))(key, PARAMS, BATCH)
    estimate = oah.value_grad_and_hessian_diag(loss_fn, axis_name="batch")
    with pytest.raises(NameError, match="unbound axis name: batch"):
        mapped(lambda params, batch: estimate(KEY, params, batch), P())


@pytest.mark.parametrize("key", [KEY, None])
def test_parameters_that_vary_over_the_axis_are_refused(key):
    """Their gradients would be averaged with those of other parts."""
    estimate = oah.value_grad_and_hessian_diag(loss_fn, axis_name=AXIS)
    with pytest.raises(ValueError, match=r"`params\['w'\]` varies over.*'data'.*gather"):
        mapped(lambda params, batch: estimate(key, params, batch), P(AXIS))


def whole_loss(params, batch):
    whole = jax.lax.all_gather(params["w"], AXIS, tiled=True)
    return jax.lax.pmean(jnp.mean(batch) * jnp.sum(whole) ** 2, AXIS)


def test_one_probe_for_the_parts_of_sharded_parameters_is_refused():
    """Every device would draw the same signs for its own part: E[z z^T] would not be I."""
    estimate = oah.value_grad_and_hessian_diag(whole_loss)
    with pytest.raises(ValueError, match=r"`params\['w'\]` varies over the mapped axis 'data'"):
        mapped(lambda params, batch: estimate(KEY, params, batch), P(AXIS))
    own_key = lambda: jax.random.fold_in(KEY, jax.lax.axis_index(AXIS))
    loss, _, _ = mapped(lambda params, batch: estimate(own_key(), params, batch), P(AXIS))
    assert float(loss) == jnp.sum(PARAMS["w"]) ** 2
