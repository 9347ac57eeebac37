"""Flax's boxes, which name the mesh axes of a parameter, with second moments of blocks that are smaller than it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import optax_adahessian as oah

SPLIT_ROWS = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("data", None))
BY_ROWS = oah.adahessian(0.1, spatial_average=oah.SpatialAverage.rows("HWIO"))


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_nnx_second_moments_of_sharded_parameters_are_whole_where_a_block_covers_the_axis(axis_type):
    @nnx.jit
    def step(model, optimizer):
        def loss_fn(model):
            return jnp.sum(jax.reshard(model.kernel[...], P()) ** 4)

        grads = nnx.grad(loss_fn)(model)
        optimizer.update(model, grads, obj_fn=lambda p: loss_fn(nnx.merge(nnx.graphdef(model), p)))

    with jax.set_mesh(jax.make_mesh((8,), ("data",), axis_types=(axis_type,))):
        model = nnx.Linear(16, 8, kernel_init=SPLIT_ROWS, rngs=nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, BY_ROWS, wrt=nnx.Param)
        before = np.asarray(model.kernel[...])
        step(model, optimizer)
    state = nnx.to_pure_dict(nnx.state(optimizer))["opt_state"][0]
    assert state["nu"]["kernel"].shape == (1, 8)
    for kernel in (model.kernel[...], state["mu"]["kernel"]):
        assert kernel.sharding.shard_shape(kernel.shape) == (2, 8)
    # One step with the first moment g = 4 w^3 and the mean of h = 12 w^2 over the inputs.
    expected = before - 0.1 * 4 * before**3 / (np.mean(12 * before**2, axis=0, keepdims=True) + 1e-4)
    np.testing.assert_allclose(model.kernel[...], expected, rtol=1e-5, atol=1e-6)


def test_linen_shardings_of_the_state_come_from_the_boxes_of_the_parameters():
    dense = nn.Dense(8, kernel_init=nn.with_partitioning(nn.initializers.lecun_normal(), ("data", None)))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    make_params = lambda: dense.init(jax.random.key(0), jnp.ones((4, 16)))
    make_all = lambda: (params := make_params(), BY_ROWS.init(params))
    with jax.set_mesh(mesh):
        shardings = nn.get_sharding(jax.eval_shape(make_all), mesh)
        params, state = jax.jit(make_all, out_shardings=shardings)()
        _, new_state = jax.jit(BY_ROWS.update)(params, state, params, hessian_diag=params)
    for kernel in (state[0].mu["params"]["kernel"].value, new_state[0].mu["params"]["kernel"].value):
        assert kernel.sharding.shard_shape(kernel.shape) == (2, 8)
    assert new_state[0].nu["params"]["kernel"].shape == (1, 8)
