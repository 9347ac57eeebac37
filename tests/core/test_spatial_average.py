"""Which entries each preset shares, in both layouts, block means against NumPy, and the table of `describe`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.model import numpy_block_mean

import optax_adahessian as oah
from optax_adahessian import SpatialAverage

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
    average = SpatialAverage.custom(lambda path, leaf: block)
    with jax.enable_x64(True):
        tx = oah.scale_by_adahessian(b1=0, eps=0.0, spatial_average=average)
        updates, state = tx.update(jnp.asarray(g), tx.init(jnp.asarray(g)), hessian_diag=jnp.asarray(h))
        np.testing.assert_allclose(updates, g / numpy_block_mean(np.abs(h), block), rtol=1e-12)
        stored = [n // (n if b == -1 else b) if n else 0 for n, b in zip(shape, block, strict=True)]
        assert state.nu.shape == tuple(stored)


# The strings of both layouts; a shape in PyTorch's order (out, in, spatial axes), and its block with the
# presets `conv`, `rows` and `lengths(2)`; 0 stands for a whole axis.
KERNELS = [
    ("OIW", "WIO", (5, 3, 7), (1, 1, 0), (1, 1, 0), (1, 1, 1)),
    ("OIHW", "HWIO", (5, 3, 3, 2), (1, 1, 0, 0), (1, 1, 0, 0), (1, 1, 1, 1)),
    ("OIDHW", "DHWIO", (4, 2, 3, 2, 3), (1, 1, 0, 0, 0), (1, 1, 0, 0, 0), (1, 1, 1, 1, 1)),
    ("OIHW", "HWIO", (6, 1, 3, 3), (1, 1, 0, 0), (1, 1, 0, 0), (1, 1, 1, 1)),
    ("OIHW", "HWIO", (2, 2, 2, 2, 2, 2), (1,) * 6, (1,) * 6, (1,) * 6),
    ("OIHW", "HWIO", (3, 4), (1, 1), (1, 0), (1, 2)),
    ("OIHW", "HWIO", (4, 3), (1, 1), (1, 0), (1, 1)),  # 2 does not divide 3
    ("OIHW", "HWIO", (4,), (1,), (1,), (1,)),
    ("OIHW", "HWIO", (), (), (), ()),
]


def block(average, shape, *names):
    """The block of a leaf of that shape and these names."""
    path = tuple(jax.tree_util.DictKey(name) for name in names)
    return average.block_shape(path, jax.ShapeDtypeStruct(shape, jnp.float32))


def inputs_first(sizes):
    """A shape or a block in PyTorch's layout as Flax has it."""
    return (*sizes[2:], sizes[1], sizes[0]) if len(sizes) >= 2 else sizes


@pytest.mark.parametrize("row", KERNELS, ids=str)
def test_kernels_in_both_layouts(row):
    outputs_first_name, inputs_first_name, shape, *expected = row
    for sizes, preset in zip(
        expected, (SpatialAverage.conv, SpatialAverage.rows, functools.partial(SpatialAverage.lengths, 2)), strict=True
    ):
        whole = tuple(size or axis for size, axis in zip(sizes, shape, strict=True))
        assert block(preset(outputs_first_name), shape, "layer", "kernel") == whole
        assert block(preset(inputs_first_name), inputs_first(shape), "layer", "kernel") == inputs_first(whole)
        for name in ("bias", "scale", "b", "offset", "beta", "gamma"):
            assert block(preset(outputs_first_name), shape, "layer", name) == (1,) * len(shape)
        assert block(SpatialAverage.none(), shape, "kernel") == (1,) * len(shape)


@pytest.mark.parametrize("name", ["embedding", "embeddings", "pos_embedding", "tok_emb"])
@pytest.mark.parametrize("kernel", ["HWIO", "OIHW"])
def test_an_embedding_has_values_for_each_token(name, kernel):
    assert block(SpatialAverage.rows(kernel), (10, 4), name) == (1, 4)
    assert block(SpatialAverage.rows(kernel), (3, 10, 4), name) == (1, 1, 4)
    assert block(SpatialAverage.lengths(2, kernel), (10, 4), name) == (1, 2)
    assert block(SpatialAverage.conv(kernel), (3, 10, 4), name) == (1, 1, 1)
    assert block(SpatialAverage.rows(kernel), (10,), name) == (1,)


def test_names_past_boxes_and_of_no_string():
    """Flax boxes a value behind `.value`; a list has no names; "ensemble" is no embedding."""
    value, index = jax.tree_util.GetAttrKey("value"), jax.tree_util.SequenceKey(0)
    leaf, rows = jax.ShapeDtypeStruct((4, 6), jnp.float32), SpatialAverage.rows("HWIO")
    assert rows.block_shape((jax.tree_util.DictKey("bias"), value), leaf) == (1, 1)
    assert rows.block_shape((jax.tree_util.DictKey("embedding"), value), leaf) == (1, 6)
    for other in ((index,), (), (jax.tree_util.DictKey("ensemble"),), (jax.tree_util.DictKey(0),)):
        assert rows.block_shape(other, leaf) == (4, 1)


# Each with a shape whose blocks are runs of consecutive entries, and their length.
PRESETS = {
    "conv('OIHW')": (functools.partial(SpatialAverage.conv, "OIHW"), (4, 3, 2, 2), 4),
    "rows('OIHW')": (functools.partial(SpatialAverage.rows, "OIHW"), (4, 6), 6),
    "lengths(3, 'OIHW')": (functools.partial(SpatialAverage.lengths, 3, "OIHW"), (4, 6), 3),
    "custom(<lambda>)": (functools.partial(SpatialAverage.custom, lambda path, leaf: (1, 2)), (4, 6), 2),
}


@pytest.mark.parametrize("name", PRESETS)
def test_signed_takes_the_absolute_value_after_the_mean(name):
    make, shape, length = PRESETS[name]
    h = jax.random.normal(jax.random.key(0), shape)
    params, runs = {"kernel": jnp.zeros(shape)}, np.asarray(h).reshape(-1, length)
    for signed, expected in ((False, np.abs(runs).mean(axis=1)), (True, np.abs(runs.mean(axis=1)))):
        average = make(signed=signed)
        assert repr(average) == f"SpatialAverage(name={name!r}, signed={signed})"
        _, state = (tx := oah.scale_by_adahessian(spatial_average=average)).update(
            params, tx.init(params), params, hessian_diag={"kernel": h}
        )
        np.testing.assert_allclose(np.sqrt(state.nu["kernel"]).ravel(), expected, rtol=1e-5)


def test_an_average_is_frozen_and_not_callable():
    average = SpatialAverage.conv("HWIO")
    assert not callable(average)
    assert not average.signed
    with pytest.raises(AttributeError):
        average.signed = True


def test_describe_is_a_table_with_a_total():
    params = {"conv": jnp.zeros((3, 3, 2, 4)), "dense": jnp.zeros((60, 50)), "number": 2.0}
    table = """\
leaf        shape         block         second moment
['conv']    (3, 3, 2, 4)  (3, 3, 1, 1)              8
['dense']   (60, 50)      (60, 1)                  50
['number']  ()            ()                        1
total       3,073                                  59"""
    assert SpatialAverage.rows("HWIO").describe(params) == table
    assert SpatialAverage.none().describe(jnp.ones(3)).splitlines()[1].startswith("(the parameters)  (3,)")
