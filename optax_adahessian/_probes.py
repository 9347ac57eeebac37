"""Rademacher probes: random signs in the shape of the parameters."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from optax_adahessian._errors import check_real_leaves


def check_key(name: str, key: Any) -> None:
    """Raises unless `key` is one key: typed (`jax.random.key`) or raw (`jax.random.PRNGKey`)."""
    try:
        jax.random.key_impl(key)  # raises for what is not a key
        if jnp.ndim(key) == (0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1):
            return
    except TypeError:
        pass
    shown = f"{key.dtype.name}{list(key.shape)}" if hasattr(key, "dtype") else repr(key)
    raise TypeError(f"`{name}` (={shown}) must be one random key, e.g. `jax.random.key(0)`; of split keys, `keys[i]`.")


def rademacher_like(key: jax.Array, tree: Any) -> Any:
    """Independent random signs in the structure of `tree`.

    Every entry is +1 or -1 with probability 1/2, so that ``E[z z^T] = I``: the property that makes
    Hutchinson's estimate ``z * Hz`` unbiased. A sign is one random bit: a word of `jax.random.bits` makes 32 of them.

    The signs depend on the key and on the shapes and the order of the leaves, not on dtypes, shardings or devices.
    Every device draws its part of a sharded leaf without communication, if the number of devices along each sharded
    axis is a power of two.

    Args:
      key: a random key, typed or raw; else TypeError.
      tree: a pytree of real floating-point arrays; else TypeError. None leaves stay None.

    Returns:
      A pytree with the structure, shapes, dtypes and (under Explicit meshes) shardings of `tree`.

    Example:
      >>> import jax, jax.numpy as jnp, optax_adahessian as oah
      >>> z = oah.rademacher_like(jax.random.key(0), {"w": jnp.zeros((2, 3))})
      >>> bool(jnp.all(jnp.abs(z["w"]) == 1))
      True
    """
    check_key("key", key)
    check_real_leaves("tree", tree)
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, _draw(key, tuple(map(jax.typeof, leaves))))


@functools.partial(jax.jit, static_argnums=1)
def _draw(key: jax.Array, leaves: tuple[Any, ...]) -> list[jax.Array]:
    """Signs for the abstract arrays `leaves`; those of one shape are different bits of the same words.

    A draw of words is most of what a probe costs, to compile and to run. Every leaf draws the words of its shape anew,
    and the compiler merges the draws after partitioning, so that leaves of one shape may be sharded differently.
    """
    shapes = [leaf.shape for leaf in leaves]
    distinct = list(dict.fromkeys(shapes))
    keys = jax.random.split(key, len(distinct))
    signs = []
    for i, leaf in enumerate(leaves):
        index, count = shapes[:i].count(leaf.shape), shapes.count(leaf.shape)
        draw = functools.partial(_signs, leaf=leaf, index=index, count=count)
        if any(leaf.sharding.spec):  # over Explicit axes, whose shardings are part of the type
            axes = leaf.sharding.mesh.explicit_axes
            draw = jax.sharding.auto_axes(draw, axes=axes, out_sharding=leaf.sharding)
        signs.append(draw(keys[distinct.index(leaf.shape)]))
    return signs


def _signs(key: jax.Array, leaf: Any, index: int, count: int) -> jax.Array:
    """The signs of leaf number `index` of the `count` leaves of its shape.

    A word has `bits` bits for each of ``32 / bits`` leaves: for entries along one axis of the leaf. Devices that hold
    equal parts of this axis draw whole words: if their number is a power of two, it divides `even`, the largest power
    of two in the size of the axis. So the axis is read as (chunks, bits, words), where the bits are spread over the
    even factor first. If it is smaller than `bits`, they are also spread over the odd factor, which is padded for it.
    """
    shape = leaf.shape or (1,)

    def cost(layout: tuple[int, int]) -> int:
        """The number of words, and a quarter more to spread bits along the last axis, which computers vectorize."""
        leaves, axis = layout
        words = -(-count // leaves) * -(-shape[axis] * leaves // 32) * leaf.size // max(shape[axis], 1)
        return words * (5 if axis == len(shape) - 1 else 4)

    leaves, axis = min(((n, axis) for n in (32, 16, 8, 4, 2, 1) for axis in range(len(shape))), key=cost)
    before, size, after = shape[:axis], shape[axis], shape[axis + 1 :]
    bits, even = 32 // leaves, max(size & -size, 1)
    chunks = max(even // bits, 1)
    words_per_chunk = -(-size // (chunks * bits))
    words = jax.random.bits(key, (-(-count // leaves), *before, chunks, words_per_chunk, *after), jnp.uint32)
    words = jnp.expand_dims(words[index // leaves], axis + 1)
    positions = jax.lax.broadcasted_iota(jnp.uint32, (*before, chunks, bits, words_per_chunk, *after), axis + 1)
    signs = 1 - 2 * (words >> (positions + index % leaves * bits) & 1).astype(jnp.int8)
    signs = jnp.reshape(signs, (*before, even, chunks * bits * words_per_chunk // even, *after))
    signs = jax.lax.slice_in_dim(signs, 0, size // even, axis=axis + 1)
    return jnp.reshape(signs, leaf.shape).astype(leaf.dtype)
