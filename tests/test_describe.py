"""What the presets find in a model of each library: by name, by rank and by axis."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
from flax import nnx

from optax_adahessian import SpatialAverage


def assert_blocks(average, params, expected):
    """The leaf, the block and the size of the second moment in the table of `describe`."""
    lines = average.describe(params).splitlines()[1:-1]
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    found = {leaf.removesuffix(".value"): (block, int(size)) for leaf, _, block, size in cells}
    assert {leaf: found[leaf] for leaf in expected} == expected


class LinenModel(nn.Module):
    @nn.compact
    def __call__(self, tokens, image):
        x = nn.Embed(50, 8)(tokens) + self.param("pos_embedding", nn.initializers.zeros, (6, 8))[None]
        x = nn.LayerNorm()(nn.MultiHeadDotProductAttention(num_heads=2, name="attention")(x))
        return nn.Dense(3)(x.mean(1)) + nn.Conv(3, (3, 3))(image).mean((1, 2))


def test_flax_linen():
    """Rank 3 is a convolution's: the presets cannot know that ['out']['kernel'] is not one."""
    tokens, image = jax.ShapeDtypeStruct((1, 6), jnp.int32), jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    params = jax.eval_shape(LinenModel().init, jax.random.key(0), tokens, image)["params"]
    rows = {
        "['Conv_0']['kernel']": ("(3, 3, 1, 1)", 3),
        "['Dense_0']['kernel']": ("(8, 1)", 3),
        "['Embed_0']['embedding']": ("(1, 8)", 50),
        "['LayerNorm_0']['scale']": ("(1,)", 8),
        "['attention']['out']['kernel']": ("(2, 1, 1)", 32),
        "['attention']['query']['bias']": ("(1, 1)", 8),
        "['pos_embedding']": ("(1, 8)", 6),
    }
    assert_blocks(SpatialAverage.rows("HWIO"), params, rows)


def test_flax_nnx():
    """Its paths end in the name of the box, `.value`: the leaf's name is the one before."""
    params = nnx.state(nnx.eval_shape(lambda: nnx.Embed(50, 8, rngs=nnx.Rngs(0))), nnx.Param)
    assert_blocks(SpatialAverage.rows("HWIO"), params, {"['embedding']": ("(1, 8)", 50)})


def test_haiku():
    def model(tokens):
        x = hk.LayerNorm(-1, create_scale=True, create_offset=True)(hk.Embed(50, 8)(tokens))
        return hk.Linear(3)(x)

    params = jax.eval_shape(hk.transform(model).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 6), jnp.int32))
    rows = {
        "['embed']['embeddings']": ("(1, 8)", 50),
        "['layer_norm']['offset']": ("(1,)", 8),
        "['linear']['b']": ("(1,)", 3),
        "['linear']['w']": ("(8, 1)", 3),
    }
    assert_blocks(SpatialAverage.rows("HWIO"), params, rows)


def test_equinox():
    """An embedding's leaf is called `.weight` like any other; with (out, in) the mean over axis 1 is the token's."""
    model = eqx.filter_eval_shape(lambda key: (eqx.nn.Embedding(50, 8, key=key), eqx.nn.Conv2d(1, 4, 3, key=key)),
                                  jax.random.key(0))  # fmt: skip
    params = eqx.filter(model, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    rows = {"[0].weight": ("(1, 8)", 50), "[1].weight": ("(1, 1, 3, 3)", 4), "[1].bias": ("(1, 1, 1)", 4)}
    assert_blocks(SpatialAverage.rows("OIHW"), params, rows)
