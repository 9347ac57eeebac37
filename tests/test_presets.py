"""The official averagings by name: which entries each preset shares, in both layouts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import paper
import pytest

from optax_adahessian import SpatialAverage

# Shapes in PyTorch's order: out, in, spatial axes.
CONVOLUTIONS = {
    "1 dimension": (5, 3, 7),
    "2 dimensions": (5, 3, 3, 2),
    "3 dimensions": (4, 2, 3, 2, 3),
    "depthwise": (6, 1, 3, 3),
    "1 x 1": (5, 3, 1, 1),
    "one input channel": (5, 1, 3, 3),
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


def test_rows_gives_a_dense_output_one_value():
    assert block(SpatialAverage.rows("OIHW"), (3, 4)) == (1, 4)
    assert block(SpatialAverage.rows("HWIO"), (4, 3)) == (4, 1)


def test_lengths_gives_each_run_of_inputs_one_value():
    assert block(SpatialAverage.lengths(32, "OIHW"), (7, 64)) == (1, 32)
    assert block(SpatialAverage.lengths(32, "HWIO"), (64, 7)) == (32, 1)


@pytest.mark.parametrize(
    ("average", "shape"),
    [
        (SpatialAverage.conv("OIHW"), ()),
        (SpatialAverage.conv("OIHW"), (4,)),
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
    assert block(SpatialAverage.conv(kernel), (10, 4), name) == (1, 1)
    assert block(SpatialAverage.rows(kernel), (10,), name) == (1,)


@pytest.mark.parametrize("name", ["bias", "scale", "b", "offset", "beta", "gamma"])
@pytest.mark.parametrize("shape", [(2, 4), (4, 1, 1), (1, 4, 1, 2)])
@pytest.mark.parametrize("kernel", ["HWIO", "OIHW"])
def test_biases_and_scales_stay_elementwise_in_any_rank(name, shape, kernel):
    for average in (SpatialAverage.conv(kernel), SpatialAverage.rows(kernel), SpatialAverage.lengths(2, kernel)):
        assert block(average, shape, name) == (1,) * len(shape)


def test_a_name_decides_where_rank_cannot():
    """Flax's output kernel of attention, (heads, head size, out), is a dense layer from all the heads."""

    def sizes(path, leaf):
        if "attention" in jax.tree_util.keystr(path) and len(leaf.shape) == 3:
            return (-1, -1, 1)
        return SpatialAverage.rows("HWIO").block_shape(path, leaf)

    leaf = jax.ShapeDtypeStruct((2, 4, 8), jnp.float32)
    blocks = jax.tree_util.tree_map_with_path(
        SpatialAverage.custom(sizes).block_shape, {"attention": {"kernel": leaf}, "conv": {"kernel": leaf}}
    )
    assert blocks == {"attention": {"kernel": (2, 4, 1)}, "conv": {"kernel": (2, 1, 1)}}


# Each with a shape whose blocks are runs of consecutive entries, and their length.
PRESETS = {
    "conv": (lambda signed: SpatialAverage.conv("OIHW", signed=signed), (4, 3, 2, 2), 4),
    "rows": (lambda signed: SpatialAverage.rows("OIHW", signed=signed), (4, 6), 6),
    "lengths": (lambda signed: SpatialAverage.lengths(3, "OIHW", signed=signed), (4, 6), 3),
    "custom": (lambda signed: SpatialAverage.custom(lambda path, leaf: (1, 2), signed=signed), (4, 6), 2),
}


@pytest.mark.parametrize("name", PRESETS)
def test_signed_takes_the_absolute_value_after_the_mean(name):
    make, shape, length = PRESETS[name]
    h = np.asarray(jax.random.normal(jax.random.key(0), shape))
    params = {"kernel": jnp.zeros(shape)}
    runs = h.reshape(-1, length)
    for signed, expected in ((False, np.abs(runs).mean(axis=1)), (True, np.abs(runs.mean(axis=1)))):
        # With b2 = 0 the second moment is the square of what entered it last.
        tx = paper.scale_by_adahessian(b2=0.0, spatial_average=make(signed))
        _, state = jax.jit(tx.update)(params, tx.init(params), params, hessian_diag={"kernel": jnp.asarray(h)})
        np.testing.assert_allclose(np.sqrt(state.nu["kernel"]).ravel(), expected, rtol=1e-5)


def test_an_average_shows_its_name_and_whether_it_is_signed():
    makes = {
        "conv('OIHW')": functools.partial(SpatialAverage.conv, "OIHW"),
        "rows('HWIO')": functools.partial(SpatialAverage.rows, "HWIO"),
        "lengths(3, 'OIHW')": functools.partial(SpatialAverage.lengths, 3, "OIHW"),
        "custom(len)": functools.partial(SpatialAverage.custom, len),
    }
    for name, make in makes.items():
        for average, signed in ((make(), False), (make(signed=True), True)):
            assert repr(average) == f"SpatialAverage(name={name!r}, signed={signed})"
