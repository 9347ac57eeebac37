"""Parameters as Flax hands them over: boxed, stacked by `nn.scan`, beside batch statistics and dropout."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from helpers import ways
from helpers.feeds import FIRST_DRAW, assert_signed_product, fed_in_both_ways
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import optax_adahessian as oah

ROWS = oah.SpatialAverage.rows("HWIO")
X = jax.random.normal(jax.random.key(0), (4, 2))
NORMAL = nn.initializers.lecun_normal()


class Boxed(nn.Module):
    """Two layers, whose kernels say how they are to be split over devices."""

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(2, kernel_init=nn.with_partitioning(NORMAL, (None, "model")))(x))
        return nn.Dense(2, kernel_init=nn.with_logical_partitioning(NORMAL, ("model", None)), use_bias=False)(x)


def initialized(model):
    return jax.jit(model.init)({"params": jax.random.key(1), "dropout": jax.random.key(2)}, X)


def loss_of(model):
    return lambda params: jnp.mean((model.apply({"params": params}, X) - 1) ** 2)


def test_boxes_are_trees_like_others():
    """The estimate and the step are those of the parameters without boxes, and mu and nu are boxed alike."""
    boxed, loss = initialized(Boxed())["params"], loss_of(Boxed())
    value, grads, diag = fed_in_both_ways(loss, boxed, eager=False)
    chex.assert_trees_all_equal_structs(boxed, grads, diag)
    bare = jax.jit(oah.value_grad_and_hessian_diag(loss))(FIRST_DRAW, nn.unbox(boxed))
    chex.assert_trees_all_close((value, nn.unbox(grads), nn.unbox(diag)), bare, rtol=1e-5, atol=1e-6)

    tx = oah.adahessian(0.1, spatial_average=ROWS, weight_decay=0.1)
    updates, (state, *_) = jax.eval_shape(lambda p: tx.update(p, tx.init(p), p, hessian_diag=p), boxed)
    chex.assert_trees_all_equal_structs(boxed, updates, state.mu, state.nu)
    assert state.nu["Dense_0"]["kernel"].names == (None, "model")
    assert state.nu["Dense_0"]["kernel"].value.shape == (1, 2)  # one value for each output
    with pytest.raises(ValueError, match=r"hessian_diag\['Dense_0'\]\['kernel'\].value` is absent"):
        tx.update(boxed, tx.init(boxed), boxed, hessian_diag=nn.unbox(boxed))


class Split(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2, kernel_init=nn.with_partitioning(NORMAL, ("model", None)), use_bias=False)(x)


def test_the_second_moment_is_placed_by_shape_where_a_block_swallows_a_split_axis():
    """A box keeps its names, so that the one value of a column would be split over the devices of its rows."""
    mesh, x = ways.mesh_of(AxisType.Auto, model=8), jnp.ones((1, 8))
    abstract = jax.eval_shape(Split().init, jax.random.key(0), x)["params"]
    tx = oah.adahessian(spatial_average=ROWS)
    with pytest.raises(ValueError, match="evenly divide"):
        jax.jit(tx.init, out_shardings=nn.get_sharding(jax.eval_shape(tx.init, abstract), mesh))(abstract)
    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), abstract)
    placed = jax.device_put(zeros, nn.get_sharding(abstract, mesh))
    state, *_ = jax.jit(tx.init, out_shardings=ways.state_shardings(tx, placed))(placed)
    assert state.mu["Dense_0"]["kernel"].value.sharding.spec == P("model", None)
    assert state.nu["Dense_0"]["kernel"].value.sharding.spec == P(None, None)


class Stacked(nn.Module):
    @nn.compact
    def __call__(self, x):
        layer = lambda dense, x, _: (jnp.tanh(dense(x)), None)
        scan = nn.scan(layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
        return scan(nn.Dense(2), x, None)[0]


def test_layers_stacked_by_scan():
    params, loss = initialized(Stacked())["params"], loss_of(Stacked())
    assert_signed_product(loss, params, fed_in_both_ways(loss, params, eager=False)[2])
    # To the presets a stack of kernels is a convolution: a block would average over the layers.
    average = oah.SpatialAverage.custom(lambda path, leaf: (1, -1, 1) if leaf.ndim == 3 else (1, 1))
    for preset, shape in ((ROWS, (1, 2, 2)), (average, (2, 1, 2))):
        assert oah.scale_by_adahessian(spatial_average=preset).init(params).nu["Dense_0"]["kernel"].shape == shape
