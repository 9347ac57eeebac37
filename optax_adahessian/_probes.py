"""Rademacher probes: random signs in the shape of the parameters."""

import functools
import math
import re
from collections.abc import Callable, Iterator
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
    axis is a power of two. On Auto meshes this also needs leaves of one shape to be sharded alike if their paths differ
    in digits only, as those of the layers of a network.

    Args:
      key: a random key, typed or raw; else TypeError.
      tree: a pytree of real floating-point arrays; else TypeError. None leaves stay None.

    Returns:
      A pytree with the structure, shapes, dtypes and (under Explicit meshes) shardings of `tree`.
    """
    check_key("key", key)
    check_real_leaves("tree", tree)
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    named = tuple((jax.typeof(leaf), re.sub(r"\d", "", jax.tree_util.keystr(path))) for path, leaf in leaves)
    return jax.tree.unflatten(structure, _draw(key, named))


@functools.partial(jax.jit, static_argnums=1)
def _draw(key: jax.Array, leaves: tuple[tuple[Any, str], ...]) -> list[jax.Array]:
    """Signs for abstract arrays, each given with its path without digits."""
    groups: dict[Any, list[Any]] = {leaf.shape: [] for leaf, _ in leaves}
    for leaf, name in leaves:
        groups[leaf.shape].append((leaf, name))

    def draw(key: jax.Array) -> list[jax.Array]:
        firsts = _apart(lambda _: [jnp.uint32(i) for i in range(32)], key)
        keys = zip(groups, jax.random.split(key, len(groups)), strict=True)
        signs = {shape: _signs(key, shape, groups[shape], firsts) for shape, key in keys}
        return [next(signs[leaf.shape]) for leaf, _ in leaves]

    def never(key: jax.Array) -> list[jax.Array]:
        return [jnp.full(leaf.shape, jax.random.key_data(key)[0], leaf.dtype) for leaf, _ in leaves]

    place = functools.partial(_apart, draw, never=never)
    if explicit := [leaf.sharding for leaf, _ in leaves if any(leaf.sharding.spec)]:
        axes, shardings = explicit[0].mesh.explicit_axes, [leaf.sharding for leaf, _ in leaves]
        place = jax.sharding.auto_axes(place, axes=axes, out_sharding=shardings)
    return place(key)


def _apart(fun: Callable[..., list[Any]], key: jax.Array, never: Any = None) -> list[jax.Array]:
    """``fun(key)``, which XLA:CPU does not merge into the kernels that use the results.

    It compiles equal kernels once, and signs of its own in each would make all of them different: a transformer of 24
    layers would compile twice as long. XLA cannot know that the condition always holds.
    """
    if jax.default_backend() != "cpu":  # where a condition costs more than it saves
        return fun(key)
    return jax.lax.cond(jax.random.key_data(key)[0] | 1 != 0, fun, never or fun, key)


def _signs(key: jax.Array, shape: tuple[int, ...], group: list[Any], firsts: list[jax.Array]) -> Iterator[jax.Array]:
    """The signs of the leaves of one shape, which are different bits of the same words.

    A word has `bits` bits for each of ``32 / bits`` leaves: for entries along one axis of the leaf. Devices that hold
    equal parts of this axis draw whole words: if their number is a power of two, it divides `even`, the largest power
    of two in the size of the axis. So the axis is read as (chunks, bits, words), where the bits are spread over the
    even factor first. If it is smaller than `bits`, they are also spread over the odd factor, which is padded for it.
    """
    dims = shape or (1,)

    def cost(layout: tuple[int, int]) -> int:
        """The number of words, and a quarter more to spread bits along the last axis, which computers vectorize."""
        leaves, axis = layout
        words = -(-len(group) // leaves) * -(-dims[axis] * leaves // 32) * math.prod(dims) // max(dims[axis], 1)
        return words * (5 if axis == len(dims) - 1 else 4)

    leaves, axis = min(((n, axis) for n in (32, 16, 8, 4, 2, 1) for axis in range(len(dims))), key=cost)
    before, size, after = dims[:axis], dims[axis], dims[axis + 1 :]
    bits, even = 32 // leaves, max(size & -size, 1)
    chunks = max(even // bits, 1)
    words_per_chunk = -(-size // (chunks * bits))
    positions = jax.lax.broadcasted_iota(jnp.uint32, (*before, chunks, bits, words_per_chunk, *after), axis + 1)

    @functools.cache  # leaves that may be sharded differently draw the same words anew; XLA merges what it can
    def draw(_: Any) -> jax.Array:
        return jax.random.bits(key, (-(-len(group) // leaves), *before, chunks, words_per_chunk, *after), jnp.uint32)

    for i, (leaf, name) in enumerate(group):
        words = jnp.expand_dims(draw((name, leaf.sharding))[i // leaves], axis + 1)
        signs = 1 - 2 * (words >> (positions + firsts[i % leaves * bits]) & 1).astype(jnp.int8)
        signs = jnp.reshape(signs, (*before, even, chunks * bits * words_per_chunk // even, *after))
        yield jnp.reshape(jax.lax.slice_in_dim(signs, 0, size // even, axis=axis + 1), shape).astype(leaf.dtype)
