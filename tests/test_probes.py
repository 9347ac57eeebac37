"""Random signs: one bit each, in the shape, dtype and sharding of the leaf."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.jaxprs import all_equations
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import optax_adahessian as oah

SHAPES = [(), (1,), (31,), (33,), (0, 3), (3, 0), (3, 3, 40, 2), (2, 3, 1, 5, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_signs_of_any_shape(shape, dtype):
    z = oah.rademacher_like(jax.random.key(0), jnp.zeros(shape, dtype))
    chex.assert_shape(z, shape)
    assert z.dtype == dtype
    assert np.all(np.abs(np.asarray(z, np.float32)) == 1)


def test_the_signs_of_a_word_and_of_words_beside_each_other_are_independent():
    words = 4096
    z = np.asarray(oah.rademacher_like(jax.random.key(0), jnp.zeros(32 * words))).reshape(words, 32)
    # A mean of independent signs deviates by 1 / sqrt(words); the largest of 32^2 such by less than 5 times that.
    bound = 5 / np.sqrt(words)
    assert np.all(np.abs(z.mean(0)) < bound)
    assert np.all(np.abs(z.T @ z / words - np.eye(32)) < bound)
    assert np.all(np.abs(z[1:].T @ z[:-1] / words) < bound)


def test_a_word_is_drawn_for_32_signs():
    tree = {"kernel": jnp.zeros((784, 512)), "conv": jnp.zeros((3, 3, 64, 64)), "bias": jnp.zeros(10)}
    jaxpr = jax.make_jaxpr(oah.rademacher_like)(jax.random.key(0), tree)
    drawn = [np.prod(e.outvars[0].aval.shape) for e in all_equations(jaxpr.jaxpr) if e.primitive.name == "random_bits"]
    assert sorted(drawn) == [1, 9 * 64 * 2, 512 * 25]  # 25 words for 784 signs, 2 for 64, 1 for 10


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("spec", [P("data", None), P(None, "data"), P()])
def test_a_device_draws_for_its_part(axis_type, spec):
    """The same signs as on one device, in the sharding of the leaf, without communication."""
    leaf = jnp.zeros((64, 1024))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    sharding = NamedSharding(mesh, spec)
    with jax.set_mesh(mesh):
        place = lambda key, leaf: oah.rademacher_like(key, leaf) * leaf
        program = jax.jit(place).lower(jax.random.key(0), jax.device_put(leaf, sharding)).compile()
        z = jax.jit(place)(jax.random.key(0), jax.device_put(leaf + 1, sharding))
    assert z.sharding.is_equivalent_to(sharding, 2)
    np.testing.assert_array_equal(z, oah.rademacher_like(jax.random.key(0), leaf))
    assert not any(word in program.as_text() for word in ("all-gather", "all-reduce", "all-to-all", "permute"))
