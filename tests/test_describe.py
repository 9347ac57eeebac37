"""The table of `describe` for a real model of each library: what the presets find by name, by rank and by axis."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
from flax import nnx

from optax_adahessian import SpatialAverage

TOKENS = jax.ShapeDtypeStruct((1, 6), jnp.int32)
IMAGE = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)


def rows_of(table):
    """The table's cells as {leaf: (shape, block, size of the second moment)}."""
    cells = [[cell for cell in line.split("  ") if cell.strip()] for line in table.splitlines()[1:-1]]
    return {
        leaf.strip(): (shape.strip(), block.strip(), int(size.replace(",", ""))) for leaf, shape, block, size in cells
    }


class LinenModel(nn.Module):
    @nn.compact
    def __call__(self, tokens, image):
        x = nn.Embed(50, 8)(tokens) + self.param("pos_embedding", nn.initializers.zeros, (6, 8))[None]
        x = nn.LayerNorm()(nn.MultiHeadDotProductAttention(num_heads=2)(x))
        y = nn.Conv(4, (3, 3), feature_group_count=4)(nn.Conv(4, (3, 3))(image))
        return nn.Dense(3)(x.mean(1)) + nn.Conv(3, (1, 1))(y).mean((1, 2))


def test_flax_linen():
    params = jax.eval_shape(LinenModel().init, jax.random.key(0), TOKENS, IMAGE)["params"]
    assert SpatialAverage.rows("HWIO").describe(params) == LINEN_ROWS
    conv = rows_of(SpatialAverage.conv("HWIO").describe(params))
    assert conv["['Conv_0']['kernel']"] == ("(3, 3, 1, 4)", "(3, 3, 1, 1)", 4)
    assert conv["['Dense_0']['kernel']"] == ("(8, 3)", "(1, 1)", 24)
    assert conv["['Embed_0']['embedding']"] == ("(50, 8)", "(1, 1)", 400)
    lengths = rows_of(SpatialAverage.lengths(4, "HWIO").describe(params))
    assert lengths["['Dense_0']['kernel']"] == ("(8, 3)", "(4, 1)", 6)
    assert lengths["['Embed_0']['embedding']"] == ("(50, 8)", "(1, 4)", 100)
    assert lengths["['Conv_0']['kernel']"] == ("(3, 3, 1, 4)", "(1, 1, 1, 1)", 36)


# Rank 3 is a convolution's: the presets cannot know that ['out']['kernel'] is not one.
LINEN_ROWS = """\
leaf                                                   shape         block         second moment
['Conv_0']['bias']                                     (4,)          (1,)                      4
['Conv_0']['kernel']                                   (3, 3, 1, 4)  (3, 3, 1, 1)              4
['Conv_1']['bias']                                     (4,)          (1,)                      4
['Conv_1']['kernel']                                   (3, 3, 1, 4)  (3, 3, 1, 1)              4
['Conv_2']['bias']                                     (3,)          (1,)                      3
['Conv_2']['kernel']                                   (1, 1, 4, 3)  (1, 1, 1, 1)             12
['Dense_0']['bias']                                    (3,)          (1,)                      3
['Dense_0']['kernel']                                  (8, 3)        (8, 1)                    3
['Embed_0']['embedding']                               (50, 8)       (1, 8)                   50
['LayerNorm_0']['bias']                                (8,)          (1,)                      8
['LayerNorm_0']['scale']                               (8,)          (1,)                      8
['MultiHeadDotProductAttention_0']['key']['bias']      (2, 4)        (1, 1)                    8
['MultiHeadDotProductAttention_0']['key']['kernel']    (8, 2, 4)     (8, 1, 1)                 8
['MultiHeadDotProductAttention_0']['out']['bias']      (8,)          (1,)                      8
['MultiHeadDotProductAttention_0']['out']['kernel']    (2, 4, 8)     (2, 1, 1)                32
['MultiHeadDotProductAttention_0']['query']['bias']    (2, 4)        (1, 1)                    8
['MultiHeadDotProductAttention_0']['query']['kernel']  (8, 2, 4)     (8, 1, 1)                 8
['MultiHeadDotProductAttention_0']['value']['bias']    (2, 4)        (1, 1)                    8
['MultiHeadDotProductAttention_0']['value']['kernel']  (8, 2, 4)     (8, 1, 1)                 8
['pos_embedding']                                      (6, 8)        (1, 8)                    6
total                                                  874                                   197"""


class NnxModel(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(50, 8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.dense = nnx.Linear(4, 3, rngs=rngs)


def test_flax_nnx():
    """Its paths end in the name of the box, `.value`: the leaf's name is the one before."""
    params = nnx.state(nnx.eval_shape(lambda: NnxModel(nnx.Rngs(0))), nnx.Param)
    table = {
        leaf.removesuffix(".value"): row for leaf, row in rows_of(SpatialAverage.rows("HWIO").describe(params)).items()
    }
    assert table["['embed']['embedding']"] == ("(50, 8)", "(1, 8)", 50)
    assert table["['attention']['query']['kernel']"] == ("(8, 2, 4)", "(8, 1, 1)", 8)
    assert table["['attention']['query']['bias']"] == ("(2, 4)", "(1, 1)", 8)
    assert table["['conv']['kernel']"] == ("(3, 3, 1, 4)", "(3, 3, 1, 1)", 4)
    assert table["['norm']['scale']"] == ("(4,)", "(1,)", 4)
    assert table["['dense']['kernel']"] == ("(4, 3)", "(4, 1)", 3)


def haiku_model(tokens, image):
    x = hk.Embed(50, 8)(tokens)
    x = hk.MultiHeadAttention(2, 4, w_init=hk.initializers.VarianceScaling())(x, x, x)
    x = hk.LayerNorm(-1, create_scale=True, create_offset=True)(x)
    y = hk.DepthwiseConv2D(1, 3)(hk.Conv2D(4, 3)(image))
    return hk.Linear(3)(x.mean(1)) + hk.Conv1D(3, 3)(y[:, 0]).mean(1)


def test_haiku():
    params = jax.eval_shape(hk.transform(haiku_model).init, jax.random.key(0), TOKENS, IMAGE)
    rows = rows_of(SpatialAverage.rows("HWIO").describe(params))
    assert rows["['conv1_d']['w']"] == ("(3, 4, 3)", "(3, 1, 1)", 12)
    assert rows["['depthwise_conv2_d']['w']"] == ("(3, 3, 1, 4)", "(3, 3, 1, 1)", 4)
    assert rows["['embed']['embeddings']"] == ("(50, 8)", "(1, 8)", 50)
    assert rows["['layer_norm']['offset']"] == ("(8,)", "(1,)", 8)
    assert rows["['multi_head_attention/query']['w']"] == ("(8, 8)", "(8, 1)", 8)
    assert rows["['linear']['b']"] == ("(3,)", "(1,)", 3)


class EquinoxModel(eqx.Module):
    embedding: eqx.nn.Embedding
    attention: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm
    conv: eqx.nn.Conv2d
    depthwise: eqx.nn.Conv1d
    out: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 5)
        self.embedding = eqx.nn.Embedding(50, 8, key=keys[0])
        self.attention = eqx.nn.MultiheadAttention(2, 8, key=keys[1])
        self.norm = eqx.nn.LayerNorm(8)
        self.conv = eqx.nn.Conv2d(1, 4, 3, key=keys[2])
        self.depthwise = eqx.nn.Conv1d(4, 4, 3, groups=4, key=keys[3])
        self.out = eqx.nn.Linear(4, 3, key=keys[4])


def test_equinox():
    """An embedding's leaf is called `.weight` like any other; with (out, in) the mean over axis 1 is the token's."""
    model = eqx.filter_eval_shape(EquinoxModel, jax.random.key(0))
    params = eqx.filter(model, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    rows = rows_of(SpatialAverage.rows("OIHW").describe(params))
    assert rows[".embedding.weight"] == ("(50, 8)", "(1, 8)", 50)
    assert rows[".attention.query_proj.weight"] == ("(8, 8)", "(1, 8)", 8)
    assert rows[".conv.weight"] == ("(4, 1, 3, 3)", "(1, 1, 3, 3)", 4)
    assert rows[".conv.bias"] == ("(4, 1, 1)", "(1, 1, 1)", 4)
    assert rows[".depthwise.weight"] == ("(4, 1, 3)", "(1, 1, 3)", 4)
