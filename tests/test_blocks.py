"""Block means and their expansion, against NumPy; the tables of SpatialAverage."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import paper
import pytest
from rule_model import numpy_block_mean

import optax_adahessian as oah

BLOCKS = [
    ((), ()),
    ((6,), (1,)),
    ((6,), (3,)),
    ((6,), (-1,)),
    ((4, 6), (2, 3)),
    ((4, 6), (-1, 2)),
    ((3, 3, 2, 4), (-1, -1, 1, 1)),
    ((2, 4, 1, 3, 6), (1, 2, 1, -1, 3)),
    ((0, 3), (-1, 1)),
    ((0, 3), (2, 3)),
]


@pytest.mark.parametrize(("shape", "block"), BLOCKS)
def test_the_direction_divides_by_the_block_mean_of_the_curvature(shape, block):
    rng = np.random.default_rng(0)
    h, g = rng.normal(size=shape), rng.normal(size=shape)
    average = oah.SpatialAverage.custom(lambda path, leaf: block)
    with jax.enable_x64(True):
        tx = paper.scale_by_adahessian(b1=0.0, eps=0.0, spatial_average=average)
        updates, state = tx.update(jnp.asarray(g), tx.init(jnp.asarray(g)), hessian_diag=jnp.asarray(h))
        np.testing.assert_allclose(updates, g / numpy_block_mean(np.abs(h), block), rtol=1e-12)
        stored = [n // (n if b == -1 else b) if n else 0 for n, b in zip(shape, block, strict=True)]
        assert state.nu.shape == tuple(stored)


@pytest.mark.parametrize("block", [(3, 1), (5, 1), (0, 1), (-2, 1)])
def test_a_block_that_does_not_tile_a_leaf_is_refused_with_leaf_shape_and_block(block):
    average = oah.SpatialAverage.custom(lambda path, leaf: block)
    with pytest.raises(ValueError, match="does not tile") as raised:
        oah.adahessian(spatial_average=average).init({"layer": {"kernel": jnp.zeros((4, 6))}})
    for part in ("['layer']['kernel']", "(4, 6)", str(block)):
        assert part in str(raised.value)


def test_a_block_of_the_wrong_rank_is_refused():
    average = oah.SpatialAverage.custom(lambda path, leaf: (1, 1, 1))
    with pytest.raises(ValueError, match="rank 3; it needs one size for each axis"):
        average.describe({"kernel": jnp.zeros((4, 6))})


def test_describe_is_a_table_with_a_total():
    params = {"conv": jnp.zeros((3, 3, 2, 4)), "dense": jnp.zeros((6, 5))}
    lines = oah.SpatialAverage.rows("HWIO").describe(params).splitlines()
    assert [line.split() for line in lines] == [
        ["leaf", "shape", "block", "second", "moment"],
        ["['conv']", "(3,", "3,", "2,", "4)", "(3,", "3,", "1,", "1)", "8"],
        ["['dense']", "(6,", "5)", "(6,", "1)", "5"],
        ["total", "102", "13"],
    ]
    assert len({len(line) for line in lines}) == 1


def test_an_average_is_frozen_not_callable_and_shows_what_it_is():
    average = oah.SpatialAverage.conv("HWIO")
    assert not callable(average)
    assert "conv('HWIO')" in repr(average)
    with pytest.raises(AttributeError):
        average.signed = True


def test_a_state_of_another_average_is_refused():
    params = {"kernel": jnp.zeros((4, 6))}
    state = oah.scale_by_adahessian().init(params)
    tx = oah.scale_by_adahessian(spatial_average=oah.SpatialAverage.rows("HWIO"))
    with pytest.raises(ValueError, match=r"stores the second moment of the leaf .*kernel.* in shape \(1, 6\)"):
        tx.update(params, state, hessian_diag=params)


def test_update_keeps_the_shardings_of_the_state():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    sharded = jax.device_put(jnp.ones((64, 64)), jax.NamedSharding(mesh, jax.P("d", None)))
    tx = oah.adahessian(spatial_average=oah.SpatialAverage.lengths(32, "OIHW"))
    state = tx.init(sharded)
    assert jax.typeof(state[0].nu).sharding.spec == jax.P("d", None)
    _, after = tx.update(sharded, state, sharded, hessian_diag=sharded)
    assert jax.typeof(after[0].nu).sharding == jax.typeof(state[0].nu).sharding
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
