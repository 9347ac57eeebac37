"""Rademacher probes: random signs in the shape of the parameters."""

import collections
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
    """Signs for `leaves`, those of one shape from different bits of the same words.

    Drawing words is what a probe costs. Each leaf draws the words of its shape anew; the compiler merges these draws
    after it has partitioned them, so that leaves of one shape may be sharded differently.
    """
    counts = collections.Counter(leaf.shape for leaf in leaves)
    keys = dict(zip(counts, jax.random.split(key, len(counts)), strict=True))
    seen: collections.Counter[tuple[int, ...]] = collections.Counter()
    signs = []
    for leaf in leaves:
        draw = functools.partial(_signs, leaf=leaf, index=seen[leaf.shape], count=counts[leaf.shape])
        if any(leaf.sharding.spec):  # the axes are Explicit
            draw = jax.sharding.auto_axes(draw, axes=leaf.sharding.mesh.explicit_axes, out_sharding=leaf.sharding)
        signs.append(draw(keys[leaf.shape]))
        seen[leaf.shape] += 1
    return signs


def _signs(key: jax.Array, leaf: Any, index: int, count: int) -> jax.Array:
    """The signs of leaf number `index` of the `count` leaves of its shape.

    `leaves` of them share a word, each with ``32 / leaves`` bits, for entries along one axis of the leaf. A cut of the
    axis into a power of two of equal parts must not cut a word. So the axis of ``even * odd`` entries, `even` being a
    power of two, is made of (chunks, bits, words) with the bits in its even factor, or in both if that is too small.
    """
    shape = leaf.shape or (1,)

    def cost(split: tuple[int, int]) -> int:
        """Words for the shape; a quarter more where the last axis, along which a processor vectorizes, is split."""
        leaves, axis = split
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
