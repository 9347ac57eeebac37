"""Rademacher probes: random signs in the shape of the parameters."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from optax_adahessian._errors import check_real_leaves

_SMALL = 2**16  # entries of a leaf of which every device draws all signs: the bits of 8 KiB


def check_key(name: str, key: Any) -> None:
    """Raises unless `key` is one key: typed (`jax.random.key`) or raw (`jax.random.PRNGKey`)."""
    with contextlib.suppress(TypeError):
        jax.random.key_impl(key)  # raises for what is not a key
        if jnp.ndim(key) == (0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1):
            return
    shown = f"{key.dtype.name}{list(key.shape)}" if hasattr(key, "dtype") else repr(key)
    raise TypeError(f"`{name}` (={shown}) must be one random key: `jax.random.key(0)`, or `keys[i]` of split keys.")


def rademacher_like(key: jax.Array, tree: Any) -> Any:
    """Independent random signs in the structure of `tree`.

    Every entry is +1 or -1 with probability 1/2, so that ``E[z z^T] = I``: the property that makes
    Hutchinson's estimate ``z * Hz`` unbiased. A sign is one random bit: a word of `jax.random.bits` makes 32 of them.

    The signs depend on the key and on the shapes and the order of the leaves, not on dtypes, shardings or devices.
    Every device draws its part of a sharded leaf without communication, if the number of devices along each sharded
    axis is a power of two. For leaves of at most 65,536 entries it draws all words, on any number of devices.

    Args:
      key: a random key, typed or raw; else TypeError.
      tree: a pytree of real floating-point arrays; else TypeError. None leaves stay None.

    Returns:
      A pytree with the structure, shapes, dtypes and (under Explicit meshes) shardings of `tree`.
    """
    check_key("key", key)
    check_real_leaves("tree", tree)
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, _draw(key, tuple(map(jax.typeof, leaves))))


@functools.partial(jax.jit, static_argnums=1)
def _draw(key: jax.Array, leaves: tuple[Any, ...]) -> list[jax.Array]:
    """Signs for abstract arrays."""
    small = [leaf for leaf in leaves if leaf.size <= _SMALL]

    def draw(key: jax.Array) -> list[jax.Array]:
        first, *keys = _apart(lambda key: list(jax.random.split(key, 1 + len(leaves) - len(small))), key)
        signs_of_small, keys_of_large = _small(first, small), iter(keys)
        return [next(signs_of_small) if leaf.size <= _SMALL else _large(next(keys_of_large), leaf) for leaf in leaves]

    def never(key: jax.Array) -> list[jax.Array]:
        word = jax.random.key_data(key)[0]
        return [jnp.full(leaf.shape, word, leaf.dtype if leaf.size <= _SMALL else jnp.int8) for leaf in leaves]

    place = functools.partial(_apart, draw, never=never)
    if explicit := [leaf.sharding for leaf in leaves if any(leaf.sharding.spec)]:
        axes, shardings = explicit[0].mesh.explicit_axes, [leaf.sharding for leaf in leaves]
        place = jax.sharding.auto_axes(place, axes=axes, out_sharding=shardings)
    # Large leaves are one byte for each sign until XLA uses them, which it does twice: it holds no floats in between.
    return [signs.astype(leaf.dtype) for signs, leaf in zip(place(key), leaves, strict=True)]


def _apart(fun: Callable[..., list[Any]], key: jax.Array, never: Any = None) -> list[jax.Array]:
    """``fun(key)``, which XLA:CPU does not merge into the kernels that use the results.

    It compiles equal kernels once, and signs of its own in each would make all of them different: a transformer of 24
    layers would compile twice as long. XLA cannot know that the condition always holds.
    """
    if jax.default_backend() != "cpu":  # where a condition costs more than it saves
        return fun(key)
    return jax.lax.cond(jax.random.key_data(key)[0] | 1 != 0, fun, never or fun, key)


def _small(key: jax.Array, leaves: list[Any]) -> Iterator[jax.Array]:
    """The signs of leaves of any shapes from one draw, since a draw takes long to compile for each shape."""
    sizes = [-(-leaf.size // 32) * 32 for leaf in leaves]
    signs = jnp.ravel(_signs(jax.random.bits(key, (sum(sizes) // 32,), jnp.uint32), axis=1))
    starts = _apart(lambda _: list(map(jnp.uint32, itertools.accumulate(sizes, initial=0))), key)
    starts = jax.lax.optimization_barrier(starts)  # XLA would shard what it cuts at known places, and communicate
    for leaf, start in zip(leaves, starts, strict=False):
        yield jnp.reshape(jax.lax.dynamic_slice(signs, (start,), (leaf.size,)), leaf.shape).astype(leaf.dtype)


def _large(key: jax.Array, leaf: Any) -> jax.Array:
    """The signs of a leaf from a draw of its own, of which each device makes a part.

    A word has the bits of 32 entries along one axis. Devices that hold equal parts of this axis draw whole words: if
    their number is a power of two, it divides `even`, the largest power of two in the size of the axis. So the axis is
    read as (chunks, bits, words), where the bits are spread over the even factor first. If it is smaller than 32, they
    are also spread over the odd factor, which is padded for it.
    """
    # Padded words for each word, and a quarter more along the last axis, which computers vectorize.
    costs = [-(-size // 32) / size * (5 if axis == leaf.ndim - 1 else 4) for axis, size in enumerate(leaf.shape)]
    axis = costs.index(min(costs))
    before, size, after = leaf.shape[:axis], leaf.shape[axis], leaf.shape[axis + 1 :]
    even = size & -size
    chunks = max(even // 32, 1)
    words = jax.random.bits(key, (*before, chunks, -(-size // (chunks * 32)), *after), jnp.uint32)
    signs = jnp.reshape(_signs(words, axis + 1), (*before, even, -1, *after))
    return jnp.reshape(jax.lax.slice_in_dim(signs, 0, size // even, axis=axis + 1), leaf.shape)


def _signs(words: jax.Array, axis: int) -> jax.Array:
    """1 and -1 for the bits of each word, which are a new axis."""
    bits = jnp.expand_dims(words, axis)
    positions = jax.lax.broadcasted_iota(jnp.uint32, (*bits.shape[:axis], 32, *bits.shape[axis + 1 :]), axis)
    return 1 - 2 * (bits >> positions & 1).astype(jnp.int8)
