"""Wrong use over replicas raises in words, where JAX can tell."""

import jax
import jax.numpy as jnp
import pytest
import ways
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from ways import AXIS

import optax_adahessian as oah

PARAMS = {"w": jnp.arange(8.0)}
KEY = jax.random.key(0)
BATCH = jnp.ones((8, 2))


def loss_fn(params, batch):
    return jnp.mean(batch) * jnp.sum(params["w"] ** 2)


def in_shard_map(fn, params_spec, batch=BATCH):
    mesh = ways.mesh_of(AxisType.Auto)
    mapped = jax.shard_map(fn, mesh=mesh, in_specs=(params_spec, P(AXIS)), out_specs=(P(), params_spec, params_spec))
    return jax.jit(mapped)(PARAMS, batch)


@pytest.mark.parametrize("transform", [lambda fn: fn, jax.jit], ids=["plain", "jit"])
def test_an_axis_that_is_not_bound(transform):
    estimate = oah.value_grad_and_hessian_diag(loss_fn, axis_name=AXIS)
    with pytest.raises(ValueError, match=r"`axis_name` \(='data'\) is not bound here.*leave `axis_name` out"):
        transform(estimate)(KEY, PARAMS, BATCH)
    estimator = oah.hutchinson(axis_name=AXIS, independent_probes=True)
    with pytest.raises(ValueError, match=r"`axis_name` \(='data'\) is not bound here"):
        transform(lambda p: estimator.update(p, estimator.init(p), p, obj_fn=lambda q: loss_fn(q, BATCH)))(PARAMS)


def test_another_axis_than_the_one_that_is_mapped():
    estimate = oah.value_grad_and_hessian_diag(loss_fn, axis_name="batch")
    with pytest.raises(ValueError, match=r"`axis_name` \(='batch'\) is not bound here"):
        in_shard_map(lambda params, batch: estimate(KEY, params, batch), P())


def test_independent_probes_of_no_axis():
    with pytest.raises(ValueError, match=r"`independent_probes` \(=True\).*`axis_name` \(=None\)"):
        oah.hutchinson(independent_probes=True)


def test_parameters_that_vary_over_the_axis():
    estimate = oah.value_grad_and_hessian_diag(loss_fn, axis_name=AXIS)
    with pytest.raises(ValueError, match=r"`params\['w'\]` varies over `axis_name` \(='data'\).*gather"):
        in_shard_map(lambda params, batch: estimate(KEY, params, batch), P(AXIS))


def test_no_axis_name_in_shard_map_is_refused_by_out_specs():
    estimate = oah.value_grad_and_hessian_diag(loss_fn)
    with pytest.raises(ValueError, match=r"out_specs"):
        in_shard_map(lambda params, batch: estimate(KEY, params, batch), P())


def test_no_axis_name_in_pmap_lets_replicas_drift_apart():
    # JAX cannot know whether replicas are meant to agree: what they return shows it.
    estimate = oah.value_grad_and_hessian_diag(loss_fn)
    _, grads, _ = jax.pmap(estimate, in_axes=(None, None, 0))(KEY, PARAMS, jnp.arange(16.0).reshape(8, 2))
    assert not jnp.array_equal(grads["w"][0], grads["w"][1])


def test_a_batch_that_does_not_split():
    estimate = oah.value_grad_and_hessian_diag(loss_fn, axis_name=AXIS)
    with pytest.raises(ValueError, match=r"evenly divisible"):
        in_shard_map(lambda params, batch: estimate(KEY, params, batch), P(), jnp.ones((6, 2)))
    with pytest.raises(ValueError, match=r"evenly divide"):
        jax.device_put(jnp.ones((6, 2)), NamedSharding(ways.mesh_of(AxisType.Auto), P(AXIS)))


def whole_loss(params, batch):
    whole = jax.lax.all_gather(params["w"], AXIS, tiled=True)
    return jax.lax.pmean(jnp.mean(batch) * jnp.sum(whole) ** 2, AXIS)


def test_one_probe_for_the_parts_of_sharded_parameters_is_refused():
    # Every device would draw the same signs for its own part: E[z z^T] would not be I.
    estimate = oah.value_grad_and_hessian_diag(whole_loss)
    with pytest.raises(ValueError, match="varying over a mapped axis and the key is not"):
        in_shard_map(lambda params, batch: estimate(KEY, params, batch), P(AXIS))
    own_key = lambda: jax.random.fold_in(KEY, jax.lax.axis_index(AXIS))
    loss, _, _ = in_shard_map(lambda params, batch: estimate(own_key(), params, batch), P(AXIS))
    assert float(loss) == jnp.sum(PARAMS["w"]) ** 2


def test_an_update_of_sharded_parameters_inside_shard_map_is_refused_by_out_specs():
    tx = oah.scale_by_adahessian()

    def whole_step(params, batch):
        del batch
        updates, state = tx.update(params, tx.init(params), params, hessian_diag=params)
        return state.rejected, updates, updates

    with pytest.raises(ValueError, match=r"out_specs"):
        in_shard_map(whole_step, P(AXIS))
