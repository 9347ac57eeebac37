"""Rademacher probes: random signs in the shape of the parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_adahessian._checks import check_real_leaves


def check_key(name: str, key: Any) -> None:
    """Raises unless `key` is one key: typed (`jax.random.key`) or raw (`jax.random.PRNGKey`)."""
    if isinstance(key, jax.Array) and key.ndim == 0 and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return
    raw_shape = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape
    if hasattr(key, "dtype") and key.dtype == jnp.uint32 and key.shape == raw_shape:
        return
    shown = f"{key.dtype.name}{list(key.shape)}" if hasattr(key, "dtype") else repr(key)
    raise TypeError(
        f"`{name}` (={shown}) must be one random key. Pass `jax.random.key(0)` or `jax.random.PRNGKey(0)`; "
        "one of several split keys is `keys[i]`."
    )


def rademacher_like(key: jax.Array, tree: Any) -> Any:
    """Independent random signs in the structure of `tree`.

    Every entry is +1 or -1 with probability 1/2, so that ``E[z z^T] = I``: the property that makes
    Hutchinson's estimate ``z * Hz`` unbiased. Each leaf draws from a key of its own; with one key for all,
    leaves of one shape would share their signs and the estimate would be biased by the blocks of the
    Hessian that couple them. A sign is one random bit: a word of `jax.random.bits` makes 32 of them.

    Args:
      key: a random key, typed or raw.
      tree: a pytree of real floating-point arrays. None leaves stay None.

    Returns:
      A pytree with the structure, shapes, dtypes and (under Explicit meshes) shardings of `tree`.

    Raises:
      TypeError: if `key` is not one key, or a leaf is not a real floating-point array.

    Example:
      >>> import jax, jax.numpy as jnp, optax_adahessian as oah
      >>> z = oah.rademacher_like(jax.random.key(0), {"w": jnp.zeros((2, 3))})
      >>> bool(jnp.all(jnp.abs(z["w"]) == 1))
      True
    """
    check_key("key", key)
    check_real_leaves("tree", tree)
    tree = jax.tree.map(jnp.asarray, tree)
    return jax.tree.map(_signs_like, optax.tree.split_key_like(key, tree), tree)


def _signs_like(key: jax.Array, leaf: jax.Array) -> jax.Array:
    """Signs in the shape, dtype and sharding of `leaf`.

    Drawing words is what a probe costs: `jax.random.rademacher`, with a word for every sign, takes 15 times as long
    on the CPU, and 40 times the memory.
    """
    if not leaf.ndim:
        return _signs_like(key, leaf[None])[0]
    axis = max(range(leaf.ndim), key=leaf.shape.__getitem__)
    before, size, after = leaf.shape[:axis], leaf.shape[axis], leaf.shape[axis + 1 :]
    count = -(-size // 32)
    words = jnp.expand_dims(jax.random.bits(key, (*before, count, *after), jnp.uint32), axis + 1)
    positions = jax.lax.broadcasted_iota(jnp.uint32, (*before, count, 32, *after), axis + 1)
    bits = jnp.reshape(words >> positions & 1, (*before, 32 * count, *after))
    signs = 1 - 2 * jax.lax.slice_in_dim(bits, 0, size, axis=axis).astype(jnp.int8)
    sharding = jax.typeof(leaf).sharding
    return (jax.reshard(signs, sharding) if any(sharding.spec) else signs).astype(leaf.dtype)
