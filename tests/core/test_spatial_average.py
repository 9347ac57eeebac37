"""Which entries each preset shares, in both layouts, block means against NumPy, and the table of `describe`."""

import dataclasses
import functools
from typing import Any, NamedTuple

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


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("shape", "block"), BLOCKS)
def test_the_direction_divides_by_the_block_mean_of_the_curvature(shape, block, signed):
    """Of its magnitude; signed, by the magnitude of its mean."""
    rng = np.random.default_rng(0)
    h, g = rng.normal(size=shape), rng.normal(size=shape)
    mean = np.abs(numpy_block_mean(h, block)) if signed else numpy_block_mean(np.abs(h), block)
    average = SpatialAverage.custom(lambda path, leaf: block, signed=signed)
    with jax.enable_x64(True):
        tx = oah.scale_by_adahessian(b1=0, eps=0.0, spatial_average=average)
        updates, state = tx.update(jnp.asarray(g), tx.init(jnp.asarray(g)), hessian_diag=jnp.asarray(h))
        np.testing.assert_allclose(updates, g / mean, rtol=1e-12)
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
        assert block(SpatialAverage.none(), shape, "kernel") == (1,) * len(shape)


@pytest.mark.parametrize("name", ["embedding", "embeddings", "pos_embedding", "tok_emb"])
@pytest.mark.parametrize("kernel", ["HWIO", "OIHW"])
def test_an_embedding_has_values_for_each_token(name, kernel):
    assert block(SpatialAverage.rows(kernel), (10, 4), name) == (1, 4)
    assert block(SpatialAverage.rows(kernel), (3, 10, 4), name) == (1, 1, 4)
    assert block(SpatialAverage.lengths(2, kernel), (10, 4), name) == (1, 2)
    assert block(SpatialAverage.conv(kernel), (3, 10, 4), name) == (1, 1, 1)
    assert block(SpatialAverage.rows(kernel), (10,), name) == (1,)


def block_sizes(average, params):
    """The shapes of the second moments: the number of blocks along each axis."""
    nu = oah.scale_by_adahessian(spatial_average=average).init(params).nu
    return jax.tree.map(jnp.shape, nu)


class Attention(NamedTuple):
    query: Any
    key: Any
    value: Any


@functools.partial(jax.tree_util.register_dataclass, data_fields=["value"], meta_fields=[])
@dataclasses.dataclass
class Box:
    """As Flax boxes a parameter."""

    value: Any


@pytest.mark.parametrize("name", ["attention", "embedding_attention", "b", "bias", "value"])
def test_a_field_called_value_is_a_leaf_like_its_neighbours(name):
    leaf = jnp.ones((4, 6))
    for params in ({name: Attention(leaf, leaf, leaf)}, Attention(leaf, leaf, leaf)):
        blocks = block_sizes(SpatialAverage.rows("HWIO"), params)
        assert jax.tree.leaves(blocks, is_leaf=lambda x: x == (1, 6)) == [(1, 6)] * 3


def test_a_box_is_not_a_name_and_goes_where_the_second_moment_has_another_shape():
    """It may name the axes of the parameter."""
    params = {"embedding": Box(jnp.ones((4, 6))), "kernel": Box(jnp.ones((4, 6))), "vector": Box(jnp.ones(6))}
    blocks = block_sizes(SpatialAverage.rows("HWIO"), params)
    assert blocks == {"embedding": (4, 1), "kernel": (1, 6), "vector": Box((6,))}


def test_of_matrices_only_those_called_bias_are_biases():
    """LoRA has the factors `a` and `b`, an attention layer a bias of (heads, features). "ensemble" is no embedding."""
    params = {name: jnp.ones((4, 6)) for name in ("a", "b", "scale", "ensemble", "bias")}
    blocks = block_sizes(SpatialAverage.rows("HWIO"), params)
    assert blocks == dict.fromkeys(params, (1, 6)) | {"bias": (4, 6)}


@pytest.mark.parametrize(("preset", "shape"), [("conv", (3, 3, 4, 8)), ("rows", (3, 3, 4, 8)), ("rows", (10, 4))])
def test_a_leaf_without_any_name_is_refused_where_it_may_be_an_embedding(preset, shape):
    """As in a list of Keras variables, where an embedding would be averaged over its vocabulary."""
    average = getattr(SpatialAverage, preset)("HWIO")
    for call in (average.describe, oah.scale_by_adahessian(spatial_average=average).init):
        with pytest.raises(ValueError, match=r"\[1\].* has none.*v\.path.*SpatialAverage\.custom"):
            call([jnp.ones(4), jnp.ones(shape)])
    assert block_sizes(average, [jnp.ones(4), jnp.ones((2,) * 6)]) == [(4,), (2,) * 6]


def test_a_keras_path_is_a_name():
    params = {"embedding/embeddings": jnp.ones((10, 4)), "dense/kernel": jnp.ones((10, 4))}
    blocks = block_sizes(SpatialAverage.rows("HWIO"), params)
    assert blocks == {"embedding/embeddings": (10, 1), "dense/kernel": (1, 4)}


EQUAL = {
    "none": SpatialAverage.none,
    "conv": lambda: SpatialAverage.conv("HWIO"),
    "rows": lambda: SpatialAverage.rows("OIHW", signed=True),
    "lengths": lambda: SpatialAverage.lengths(2, "HWIO"),
}


def test_equal_averages_compare_and_hash_equal_and_others_do_not():
    assert all(make() == make() and hash(make()) == hash(make()) for make in EQUAL.values())
    others = [make() for make in EQUAL.values()]
    others += [SpatialAverage.conv("OIHW"), SpatialAverage.rows("OIHW"), SpatialAverage.lengths(3, "HWIO")]
    assert len(set(others)) == len(others)
    traces = []
    init = jax.jit(lambda average: traces.append(average), static_argnums=0)
    for _ in range(3):
        init(SpatialAverage.conv("HWIO"))
    assert len(traces) == 1


@pytest.mark.parametrize("signed", [False, True])
def test_a_preset_may_be_signed(signed):
    assert SpatialAverage.conv("OIHW", signed=signed).signed == signed
    assert SpatialAverage.rows("OIHW", signed=signed).signed == signed
    assert SpatialAverage.lengths(3, "OIHW", signed=signed).signed == signed
    assert SpatialAverage.custom(lambda path, leaf: (1, 2), signed=signed).signed == signed


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
