"""Rademacher probes: random signs in the shape of the parameters."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_adahessian._errors import check_real_leaves

_SMALL = 2**16  # entries of a leaf of which every device draws all signs: 64 KiB


def rademacher_like(key: jax.Array, tree: Any) -> Any:
    """Independent random signs: +1 or -1 with probability 1/2, so that ``E[z z^T] = I``.

    `tree` is a pytree of real floating-point arrays, and the signs have its structure, shapes, dtypes and (under
    Explicit meshes) shardings. `key` is a random key, typed or raw. Raises TypeError for leaves that are not real.

    The signs depend on the key and on the shapes and the order of the leaves, not on dtypes, shardings or devices.
    Every device draws its part of a sharded leaf without communication. Of leaves of at most 65,536 entries it draws
    all signs, since a draw for each leaf takes long to compile.
    """
    check_real_leaves("tree", tree)
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, _signs(key, tuple(map(jax.typeof, leaves))))


@functools.partial(jax.jit, static_argnums=1)
def _signs(key: jax.Array, leaves: tuple[Any, ...]) -> list[jax.Array]:
    """Signs for abstract arrays."""
    place = functools.partial(_place, leaves=leaves)
    if explicit := [leaf.sharding for leaf in leaves if any(leaf.sharding.spec)]:
        axes, shardings = explicit[0].mesh.explicit_axes, [leaf.sharding for leaf in leaves]
        place = jax.sharding.auto_axes(place, axes=axes, out_sharding=shardings)
    return place(key)


def _place(key: jax.Array, leaves: tuple[Any, ...]) -> list[jax.Array]:
    """Each large leaf from a draw of its own, and the small ones cut from one draw."""
    small = [leaf for leaf in leaves if leaf.size <= _SMALL]
    large = [leaf for leaf in leaves if leaf.size > _SMALL]
    # Signs are one byte until XLA uses them, which it does twice: it holds no floats in between.
    sign = functools.partial(jax.random.rademacher, dtype=jnp.int8)

    def draw(key: jax.Array) -> Any:
        first, *keys = jax.random.split(key, 1 + len(large))
        *starts, end = itertools.accumulate((leaf.size for leaf in small), initial=0)
        # At places that it knows, XLA would cut a flat array that is sharded as the leaf is, and communicate.
        starts = jax.lax.optimization_barrier(list(map(jnp.int32, starts)))
        return sign(first, (end,)), starts, [sign(key, leaf.shape) for key, leaf in zip(keys, large, strict=True)]

    def draw_apart(key: jax.Array) -> Any:
        true = jax.random.key_data(key)[0] | 1 != 0  # which XLA cannot know
        return jax.lax.cond(true, draw, lambda key: optax.tree.zeros_like(jax.eval_shape(draw, key)), key)

    # XLA:CPU drops the barrier, and then compiles the draw again in the kernels of every leaf: a step that estimates
    # takes 23 instead of 12 seconds to compile for a transformer of 6 layers (AdamW's 3), and minutes for one of 24.
    flat, starts, of_large = jax.lax.platform_dependent(key, cpu=draw_apart, default=draw)
    of_small = [jax.lax.dynamic_slice(flat, (at,), (leaf.size,)) for at, leaf in zip(starts, small, strict=True)]
    small_signs, large_signs = iter(of_small), iter(of_large)
    signs = (next(small_signs if leaf.size <= _SMALL else large_signs) for leaf in leaves)
    return [jnp.reshape(z, leaf.shape).astype(leaf.dtype) for z, leaf in zip(signs, leaves, strict=True)]
