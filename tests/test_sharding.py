"""The state is sharded as the parameters are, keeps its shardings, and its buffers are used again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ways
from helpers.ways import AXIS
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import optax_adahessian as oah

SPECS = [P(AXIS, None), P(None, AXIS)]


def optimizer(block):
    tiles = oah.SpatialAverage.custom(lambda path, leaf: block if leaf.ndim == 2 else (1,))
    return oah.adahessian(0.1, spatial_average=tiles)


def sharded_params(mesh, spec):
    params = {"kernel": jnp.arange(4096.0).reshape(64, 64) / 4096, "bias": jnp.ones(3)}
    specs = {"kernel": spec, "bias": P()}
    return jax.device_put(params, jax.tree.map(lambda s: NamedSharding(mesh, s), specs))


def quadratic_step(tx):
    """A step with the gradient p and the estimate p + 1."""

    def step(params, state):
        updates, state = tx.update(params, state, params, hessian_diag=jax.tree.map(lambda p: p + 1, params))
        return jax.tree.map(jnp.add, params, updates), state

    return step


def parts(block, devices):
    """How many blocks each axis of the (64, 64) kernel has, and whether `devices` divide them."""
    counts = [1 if size == -1 else 64 // size for size in block]
    return [(count, count % devices == 0) for count in counts]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("block", [(-1, 1), (8, 1), (32, 1)], ids=str)
def test_explicit_mesh_shards_the_state_by_itself(block, spec):
    mesh, tx = ways.mesh_of(AxisType.Explicit), optimizer(block)
    params = sharded_params(mesh, spec)
    with jax.set_mesh(mesh):
        state = jax.jit(tx.init)(params)
        new_params, new_state = jax.jit(quadratic_step(tx))(params, state)
    expected = P(*[name if even else None for name, (_, even) in zip(spec, parts(block, 8), strict=True)])
    assert state[0].mu["kernel"].sharding.spec == spec
    assert state[0].nu["kernel"].sharding.spec == expected
    assert jax.tree.map(jax.typeof, (new_params, new_state)) == jax.tree.map(jax.typeof, (params, state))

    alone = jax.device_get(params)
    alone_params, alone_state = jax.jit(lambda p: quadratic_step(tx)(p, tx.init(p)))(alone)
    np.testing.assert_allclose(new_params["kernel"], alone_params["kernel"], rtol=1e-6)
    np.testing.assert_allclose(new_state[0].nu["kernel"], alone_state[0].nu["kernel"], rtol=1e-6)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("block", [(-1, 1), (8, 1)], ids=str)
def test_auto_mesh_shards_the_state_by_the_recipe(block, spec):
    tx = optimizer(block)
    params = sharded_params(ways.mesh_of(AxisType.Auto), spec)
    shardings = ways.state_shardings(tx, params)
    state = jax.jit(tx.init, out_shardings=shardings)(params)
    swallowed = [count < 64 for count, _ in parts(block, 8)]
    expected = P(*[None if gone else name for name, gone in zip(spec, swallowed, strict=True)])
    assert state[0].mu["kernel"].sharding.spec == spec
    assert state[0].nu["kernel"].sharding.spec == expected
    assert state[0].count.sharding.spec == P()


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_twenty_steps_are_one_compilation_and_donate_their_buffers(axis_type):
    mesh, tx = ways.mesh_of(axis_type), optimizer((8, 1))
    params = sharded_params(mesh, P(AXIS, None))
    shardings = ways.state_shardings(tx, params)
    # Explicit meshes need no out_shardings, their types hold them.
    said = {"out_shardings": shardings} if axis_type == AxisType.Auto else {}
    with jax.set_mesh(mesh):
        state = jax.jit(tx.init, **said)(params)
        if said:
            said = {"out_shardings": (jax.tree.map(lambda p: p.sharding, params), shardings)}
        step = jax.jit(quadratic_step(tx), donate_argnums=(0, 1), **said).lower(params, state).compile()
        for _ in range(20):
            before = params, state
            params, state = step(params, state)  # a compiled program refuses other shardings than its own
            assert all(buffer.is_deleted() for buffer in jax.tree.leaves(before))
    assert int(state[0].count) == 20
