"""Random signs, drawn where the leaf is, in its shape, dtype and sharding."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import optax_adahessian as oah

KEY = jax.random.key(0)
COLLECTIVE = "all-gather|all-reduce|all-to-all|reduce-scatter|collective"
SHAPES = [(), (1,), (31,), (33,), (40,), (0,), (0, 3), (3, 3, 40, 2), (65537,), (41, 40, 41)]
TREE = {"matrices": [jnp.ones((4, 8))] * 3, "vectors": [jnp.ones(12)] * 3, "odd": jnp.ones(15), "scalar": 1.0}
SMALL = {"a": [jnp.ones(5)] * 2, "b": 1.0}


def ravelled(tree):
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def assert_equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


@pytest.mark.parametrize(("shapes", "count"), [(SHAPES, 1), (SHAPES, 3), ([(7,)], 40)])
def test_signs_of_any_shape(shapes, count):
    dtypes = [jnp.float32, jnp.bfloat16, jnp.float16] * count
    tree = [[jnp.zeros(shape, dtype) for dtype in dtypes[:count]] for shape in shapes] + [None]
    signs = oah.rademacher_like(KEY, tree)
    assert jax.tree.map(jax.typeof, signs) == jax.tree.map(jax.typeof, tree)
    assert all(np.all(np.abs(np.asarray(z, np.float32)) == 1) for z in jax.tree.leaves(signs))


@pytest.mark.parametrize("as_leaf", [np.asarray, lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.float32)])
def test_numbers_and_numpy_arrays_and_abstract_arrays_are_leaves(as_leaf):
    assert_equal(oah.rademacher_like(KEY, jax.tree.map(as_leaf, SMALL)), oah.rademacher_like(KEY, SMALL))


def test_all_signs_of_a_probe_are_independent():
    keys = jax.random.split(KEY, 8192)
    z = np.asarray(jax.jit(jax.vmap(lambda key: ravelled(oah.rademacher_like(key, TREE))))(keys))
    # A mean of n independent signs, or of products of two, has the standard deviation 1 / sqrt(n); 6 of them is what
    # one of the 11,000 pairs here exceeds with a probability of 3e-5.
    bound = 6 / np.sqrt(len(keys))
    assert np.all(np.abs(z.mean(0)) < bound)
    assert np.all(np.abs(z.T @ z / len(keys) - np.eye(z.shape[1])) < bound)


@pytest.mark.parametrize("rows", [96, 160])
def test_leaves_of_one_shape_and_steps_are_independent(rows):
    draw = jax.jit(lambda key: oah.rademacher_like(key, [jnp.zeros((rows, 512))] * 3))
    z = np.concatenate([np.reshape(draw(jax.random.fold_in(KEY, step)), (3, -1)) for step in range(3)])
    for shift in (0, 1, 3, 32, 512, rows * 256):
        products = z @ np.roll(z, shift, axis=1).T / z.shape[1]
        assert np.all(np.abs(products - (shift == 0) * np.eye(9)) < 6 / np.sqrt(z.shape[1]))


def test_many_leaves_compile_to_few_instructions():
    width, layers = 128, 8
    shapes = [(width, width)] * 4 + [(width, 4 * width), (4 * width, width), (4 * width,)] + [(width,)] * 5
    tree = [[jnp.zeros(shape) for shape in shapes] for _ in range(layers)]
    program = jax.jit(oah.rademacher_like).lower(KEY, tree).compile()
    assert program.as_text().count(" = ") <= 5000


PLACED = {  # for each mesh, leaves of 65,537 to 77,000 entries, of which a device holds an eighth, and small ones
    (8,): {
        "rows": ((512, 136), P("a")),
        "columns": ((512, 136), P(None, "a")),
        "few": ((3, 3, 40, 200), P(None, None, None, "a")),
        "small": [((16, 24), P("a")), ((8,), P("a")), ((3, 40), P(None, "a")), ((), P())],
    },
    (2, 4): {
        "layers": [*[((512, 136), P("a", "b"))] * 3, ((8216, 8), P(("b", "a"), None))],
        "three": ((12, 120, 48), P("b", "a")),
        "small": [((6, 8), P("a", "b")), ((8, 9), P("b")), ((40,), P(("b", "a")))],
    },
}


@pytest.mark.parametrize(
    ("axis_type", "asked"), [(AxisType.Auto, True), (AxisType.Auto, False), (AxisType.Explicit, False)]
)
@pytest.mark.parametrize("sizes", PLACED)
def test_a_device_draws_for_its_part(sizes, axis_type, asked):
    """The same signs as on one device, without communication, and without a buffer in the size of a whole leaf."""
    mesh = jax.make_mesh(sizes, ("a", "b")[: len(sizes)], axis_types=(axis_type,) * len(sizes))
    put = lambda leaf: jax.device_put(jnp.ones(leaf[0]), NamedSharding(mesh, leaf[1]))
    leaves = jax.tree.map(put, PLACED[sizes], is_leaf=lambda node: isinstance(node, tuple))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, leaves)
    if asked:
        place = jax.jit(oah.rademacher_like, out_shardings=shardings)
    else:  # the leaves that the signs are multiplied with say where
        place = jax.jit(lambda key, leaves: jax.tree.map(jnp.multiply, oah.rademacher_like(key, leaves), leaves))
    with jax.set_mesh(mesh):
        signs, text = (program := place.lower(KEY, leaves).compile())(KEY, leaves), program.as_text()
    assert_equal(signs, oah.rademacher_like(KEY, jax.tree.map(np.asarray, leaves)))
    assert jax.tree.all(jax.tree.map(lambda z, place: z.sharding.is_equivalent_to(place, z.ndim), signs, shardings))
    assert not re.search(COLLECTIVE, text)
    buffers = re.findall(r"\b[a-z]+\d*\[([\d,]+)\]", text)
    assert 8192 <= max(math.prod(map(int, dims.split(","))) for dims in buffers) < 16384


def test_explicit_shardings_are_in_the_type():
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Explicit,) * 2)
    specs = P("b", "a"), P(None, "b"), P()  # of leaves with one shape
    leaves = [jax.device_put(jnp.zeros((512, 136)), NamedSharding(mesh, spec)) for spec in specs]
    with jax.set_mesh(mesh):
        for draw in (oah.rademacher_like, jax.jit(oah.rademacher_like)):
            assert list(map(jax.typeof, draw(KEY, leaves))) == list(map(jax.typeof, leaves))
        program = jax.jit(oah.rademacher_like).lower(KEY, leaves).compile()
    assert not re.search(COLLECTIVE, program.as_text())


@pytest.mark.parametrize("own", [False, True])
def test_signs_inside_maps_are_those_of_the_key(own):
    keys = jax.random.split(KEY, 8) if own else jnp.repeat(KEY[None], 8)
    draw = lambda key: ravelled(oah.rademacher_like(key, SMALL))
    expected = jnp.stack([draw(key) for key in keys])
    np.testing.assert_array_equal(jax.vmap(draw)(keys), expected)
    np.testing.assert_array_equal(jax.pmap(draw)(keys), expected)
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Auto,))
    for check_vma in (False, True):
        where = {"in_specs": P("a") if own else P(), "out_specs": P("a") if own else P(), "check_vma": check_vma}
        mapped = jax.shard_map(lambda keys: draw(keys[0])[None], mesh=mesh, **where)
        np.testing.assert_array_equal(jax.jit(mapped)(keys), expected if own else expected[:1])


def test_raw_and_typed_keys_draw_the_same():
    assert_equal(oah.rademacher_like(jax.random.PRNGKey(0), SMALL), oah.rademacher_like(KEY, SMALL))
