"""Equilibrated probes of sharded and of replicated parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.ways import AXIS, assert_replicas_are_identical, mesh_of
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import optax_adahessian as oah

W = {"kernel": jnp.linspace(0.1, 2, 128).reshape(16, 8), "bias": jnp.linspace(1, 2, 8)}
AVERAGES = {"none": oah.SpatialAverage.none(), "rows": oah.SpatialAverage.rows("HWIO")}


def loss(w):
    """Curvatures that differ, and all parameters coupled."""
    return jnp.sum(w["kernel"] ** 4) + 100 * jnp.sum(w["bias"] ** 4) + jnp.sum(w["kernel"] ** 2) * jnp.sum(w["bias"])


def steps(average):
    tx = oah.scale_by_adahessian(b1=0, b2=0.9, eps=0.0, equilibrate=True, spatial_average=average)

    def run(w):
        state = tx.init(w)
        for _ in range(3):
            updates, state = tx.update(jax.grad(loss)(w), state, w, obj_fn=loss)
            w = jax.tree.map(lambda p, u: p - 0.1 * u, w, updates)
        return w, oah.probe_scale(state, w)

    return run


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_sharded_parameters_have_the_scales_of_one_device_in_their_shardings(axis_type, average):
    expected = jax.jit(steps(AVERAGES[average]))(W)
    mesh = mesh_of(axis_type)
    sharding = NamedSharding(mesh, P(AXIS))
    with jax.set_mesh(mesh):
        sharded = jax.device_put(W, sharding)
        w, scale = jax.jit(steps(AVERAGES[average]))(sharded)
    for got, want in zip(jax.tree.leaves((w, scale)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)  # sums over devices are rounded in another order
    if axis_type == AxisType.Explicit:
        assert all(s.sharding.spec == P(AXIS, *[None] * (s.ndim - 1)) for s in jax.tree.leaves(scale))


@pytest.mark.parametrize("check_vma", [True, False])
def test_replicas_estimate_with_the_same_scales(check_vma):
    """Each of eight devices has its part of the batch; the mean of their estimates is that of one device."""
    batch = jnp.linspace(0.5, 1.5, 8)
    mean_loss = lambda w, b: jnp.mean(b) * loss(w)
    scale = {"kernel": jnp.linspace(0.1, 10, 128).reshape(16, 8), "bias": jnp.full(8, 1e-2)}
    key = jax.random.key(0)
    one = oah.value_grad_and_hessian_diag(mean_loss)(key, W, batch, probe_scale=scale)[2]
    estimate = oah.value_grad_and_hessian_diag(mean_loss, axis_name=AXIS)
    call = lambda w, s, b: estimate(key, w, b, probe_scale=s)[2]
    mapped = jax.shard_map(
        call, mesh=mesh_of(AxisType.Auto), in_specs=(P(), P(), P(AXIS)), out_specs=P(), check_vma=check_vma
    )
    diag = jax.jit(mapped)(W, scale, batch)
    assert_replicas_are_identical(diag)
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3), diag, one)
