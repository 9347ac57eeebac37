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
AXIS_TYPES = [AxisType.Auto, AxisType.Explicit]


def optimizer(block):
    return oah.adahessian(0.1, spatial_average=oah.SpatialAverage.custom(lambda path, leaf: block))


def sharded_params(axis_type, spec):
    kernel = jnp.arange(4096.0).reshape(64, 64) / 4096
    return jax.device_put({"kernel": kernel}, NamedSharding(ways.mesh_of(axis_type), spec))


def quadratic_step(tx):
    """A step with the gradient p and the estimate p + 1."""

    def step(params, state):
        updates, state = tx.update(params, state, params, hessian_diag=jax.tree.map(lambda p: p + 1, params))
        return jax.tree.map(jnp.add, params, updates), state

    return step


# With how many values each axis of the kernel is left: eight devices share 64 and 8 of them, and not 2 or 1.
BLOCKS = {(-1, 1): (1, 64), (8, 1): (8, 64), (32, 1): (2, 64)}


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_explicit_mesh_shards_the_state_by_itself(block, spec):
    tx, params = optimizer(block), sharded_params(AxisType.Explicit, spec)
    with jax.set_mesh(ways.mesh_of(AxisType.Explicit)):
        state = jax.jit(tx.init)(params)
        new_params, new_state = jax.jit(quadratic_step(tx))(params, state)
    expected = P(*[name if size % 8 == 0 else None for name, size in zip(spec, BLOCKS[block], strict=True)])
    assert state[0].mu["kernel"].sharding.spec == spec
    assert state[0].nu["kernel"].sharding.spec == expected
    assert jax.tree.map(jax.typeof, (new_params, new_state)) == jax.tree.map(jax.typeof, (params, state))

    alone = jax.device_get(params)
    alone_params, alone_state = jax.jit(lambda p: quadratic_step(tx)(p, tx.init(p)))(alone)
    np.testing.assert_allclose(new_params["kernel"], alone_params["kernel"], rtol=1e-6)
    np.testing.assert_allclose(new_state[0].nu["kernel"], alone_state[0].nu["kernel"], rtol=1e-6)


@pytest.mark.parametrize("axis_type", AXIS_TYPES)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_twenty_steps_are_one_compilation_and_donate_their_buffers(axis_type, spec):
    """On an Auto mesh by the recipe for out_shardings; the types of an Explicit one hold them."""
    tx, params = optimizer((8, 1)), sharded_params(axis_type, spec)
    shardings = jax.tree.map(lambda p: p.sharding, params), ways.state_shardings(tx, params)
    init, step = ({"out_shardings": s} if axis_type == AxisType.Auto else {} for s in (shardings[1], shardings))
    with jax.set_mesh(ways.mesh_of(axis_type)):
        state = jax.jit(tx.init, **init)(params)
        assert state[0].mu["kernel"].sharding.spec == spec
        step = jax.jit(quadratic_step(tx), donate_argnums=(0, 1), **step).lower(params, state).compile()
        for _ in range(20):
            before = params, state
            params, state = step(params, state)  # a compiled program refuses other shardings than its own
            assert all(buffer.is_deleted() for buffer in jax.tree.leaves(before))
    assert int(state[0].count) == 20
