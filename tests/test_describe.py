"""What the presets find in models of Flax and Haiku: by name, by rank and by axis."""

import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
from flax import nnx

from optax_adahessian import SpatialAverage

TOKENS = jax.ShapeDtypeStruct((1, 6), jnp.int32)


def assert_blocks(params, expected):
    """The leaf, the block and the size of the second moment in the table of `describe`."""
    lines = SpatialAverage.rows("HWIO").describe(params).splitlines()[1:-1]
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    found = {leaf.removesuffix(".value"): (block, int(size)) for leaf, _, block, size in cells}
    assert {leaf: found[leaf] for leaf in expected} == expected


class LinenModel(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(50, 8)(tokens) + self.param("pos_embedding", nn.initializers.zeros, (6, 8))[None]
        x = nn.LayerNorm()(nn.MultiHeadDotProductAttention(num_heads=2, name="attention")(x))
        return nn.Conv(3, (3,))(x)


def test_flax_linen():
    """Rank 3 is a convolution's: the presets cannot know that ['out']['kernel'] is not one."""
    rows = {
        "['Conv_0']['kernel']": ("(3, 1, 1)", 24),
        "['Embed_0']['embedding']": ("(1, 8)", 50),
        "['LayerNorm_0']['scale']": ("(1,)", 8),
        "['attention']['out']['kernel']": ("(2, 1, 1)", 32),
        "['attention']['query']['bias']": ("(1, 1)", 8),
        "['pos_embedding']": ("(1, 8)", 6),
    }
    assert_blocks(jax.eval_shape(LinenModel().init, jax.random.key(0), TOKENS)["params"], rows)


def test_flax_nnx():
    """Its paths end in the name of the box, `.value`: the leaf's name is the one before."""
    params = nnx.state(nnx.eval_shape(lambda: nnx.Embed(50, 8, rngs=nnx.Rngs(0))), nnx.Param)
    assert_blocks(params, {"['embedding']": ("(1, 8)", 50)})


def test_haiku():
    def model(tokens):
        return hk.Linear(3)(hk.LayerNorm(-1, create_scale=True, create_offset=True)(hk.Embed(50, 8)(tokens)))

    rows = {
        "['embed']['embeddings']": ("(1, 8)", 50),
        "['layer_norm']['offset']": ("(1,)", 8),
        "['linear']['b']": ("(1,)", 3),
        "['linear']['w']": ("(8, 1)", 3),
    }
    assert_blocks(jax.eval_shape(hk.transform(model).init, jax.random.key(0), TOKENS), rows)
