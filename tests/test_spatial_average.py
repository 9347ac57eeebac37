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


# Shapes in PyTorch's order: out, in, spatial axes.
CONVOLUTIONS = {
    "1 dimension": (5, 3, 7),
    "2 dimensions": (5, 3, 3, 2),
    "3 dimensions": (4, 2, 3, 2, 3),
    "depthwise": (6, 1, 3, 3),
    "1 x 1": (5, 3, 1, 1),
    "one channel": (1, 1, 3, 3),
}
STRINGS = {1: ("OIW", "WIO"), 2: ("OIHW", "HWIO"), 3: ("OIDHW", "DHWIO")}


def inputs_first(sizes):
    """A shape or a block in PyTorch's layout as Flax has it."""
    return (*sizes[2:], sizes[1], sizes[0])


def block(average, shape, name="kernel"):
    """The block of a leaf of that shape and name."""
    path = (jax.tree_util.DictKey("layer"), jax.tree_util.DictKey(name))
    return average.block_shape(path, jax.ShapeDtypeStruct(shape, jnp.float32))


@pytest.mark.parametrize("preset", [SpatialAverage.conv, SpatialAverage.rows])
@pytest.mark.parametrize("shape", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_kernel_has_one_value_for_each_pair_of_channels(preset, shape):
    expected = (1, 1, *shape[2:])
    outputs_first_name, inputs_first_name = STRINGS[len(shape) - 2]
    for string in ("OIHW", outputs_first_name):
        assert block(preset(string), shape) == expected
    for string in ("HWIO", inputs_first_name):
        assert block(preset(string), inputs_first(shape)) == inputs_first(expected)


def test_dense_layers():
    """`rows` gives each output one value, `lengths` each run of inputs."""
    assert block(SpatialAverage.rows("OIHW"), (3, 4)) == (1, 4)
    assert block(SpatialAverage.rows("HWIO"), (4, 3)) == (4, 1)
    assert block(SpatialAverage.lengths(32, "OIHW"), (7, 64)) == (1, 32)
    assert block(SpatialAverage.lengths(32, "HWIO"), (64, 7)) == (32, 1)


@pytest.mark.parametrize(
    ("average", "shape"),
    [
        (SpatialAverage.conv("OIHW"), (4, 6)),
        (SpatialAverage.conv("OIHW"), (2, 2, 2, 2, 2, 2)),
        (SpatialAverage.rows("OIHW"), ()),
        (SpatialAverage.rows("OIHW"), (4,)),
        (SpatialAverage.lengths(4, "OIHW"), (4,)),
        (SpatialAverage.lengths(4, "OIHW"), (4, 6)),  # 4 does not divide 6
        (SpatialAverage.lengths(4, "OIHW"), (4, 2, 3, 3)),
        (SpatialAverage.none(), (4, 2, 3, 3)),
    ],
    ids=lambda x: getattr(x, "name", str(x)),
)
def test_other_leaves_stay_elementwise(average, shape):
    assert block(average, shape) == (1,) * len(shape)


@pytest.mark.parametrize("name", ["embedding", "embeddings", "pos_embedding", "tok_emb"])
@pytest.mark.parametrize("kernel", ["HWIO", "OIHW"])
def test_an_embedding_has_values_for_each_token(name, kernel):
    assert block(SpatialAverage.rows(kernel), (10, 4), name) == (1, 4)
    assert block(SpatialAverage.lengths(2, kernel), (10, 4), name) == (1, 2)
    assert block(SpatialAverage.conv(kernel), (3, 10, 4), name) == (1, 1, 1)
    assert block(SpatialAverage.rows(kernel), (10,), name) == (1,)


@pytest.mark.parametrize("name", ["bias", "scale", "b", "offset", "beta", "gamma"])
@pytest.mark.parametrize("shape", [(2, 4), (1, 4, 1, 2)])
@pytest.mark.parametrize("kernel", ["HWIO", "OIHW"])
def test_biases_and_scales_stay_elementwise_in_any_rank(name, shape, kernel):
    for average in (SpatialAverage.conv(kernel), SpatialAverage.rows(kernel), SpatialAverage.lengths(2, kernel)):
        assert block(average, shape, name) == (1,) * len(shape)


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
