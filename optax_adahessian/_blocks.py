"""Arithmetic on blocks: the mean over each block of an array, and its expansion back."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

# A block that covers an axis needs no reshape: a mean with keepdims, undone by broadcasting. Only an axis that is
# cut in parts is split in two, (parts, part), and under Explicit meshes that reshape must be told its sharding.


def block_mean(x: jax.Array, block: tuple[int, ...]) -> jax.Array:
    """The mean of each block, with the rank of `x` and one entry per block."""
    whole = tuple(axis for axis, size in enumerate(block) if 1 < size == x.shape[axis])
    cut = _cut_axes(x.shape, block)
    if whole:
        x = jnp.mean(x, axis=whole, keepdims=True)
    for axis in cut:
        parts = x.shape[axis] // block[axis]
        sharding = _sharding_with(x, axis, _kept_by_parts(x, axis, parts), None)
        split = jnp.reshape(x, (*x.shape[:axis], parts, block[axis], *x.shape[axis + 1 :]), out_sharding=sharding)
        x = jnp.mean(split, axis=axis + 1)
    return x


def block_expand(x: jax.Array, block: tuple[int, ...], like: jax.Array) -> jax.Array:
    """`x`, one entry per block, repeated until it broadcasts against `like`."""
    for axis in _cut_axes(like.shape, block):
        sharding = _sharding_with(x, axis, _mesh_axes(like)[axis])
        x = jnp.repeat(x, block[axis], axis=axis, total_repeat_length=like.shape[axis], out_sharding=sharding)
    return x


def _cut_axes(shape: tuple[int, ...], block: tuple[int, ...]) -> list[int]:
    """The axes on which a block is neither one entry nor the whole axis."""
    return [axis for axis, size in enumerate(block) if 1 < size < shape[axis]]


def _mesh_axes(x: jax.Array) -> tuple[Any, ...]:
    """The mesh axes that each axis of `x` is sharded over; all None unless the mesh is Explicit."""
    return tuple(jax.typeof(x).sharding.spec)


def _kept_by_parts(x: jax.Array, axis: int, parts: int) -> Any:
    """The mesh axes of `axis` if they divide its parts evenly, else None: the parts are replicated."""
    mesh_axes = _mesh_axes(x)[axis]
    names = mesh_axes if isinstance(mesh_axes, tuple) else (mesh_axes,) if mesh_axes else ()
    devices = math.prod(jax.typeof(x).sharding.mesh.shape[name] for name in names)
    return mesh_axes if parts % devices == 0 else None


def _sharding_with(x: jax.Array, axis: int, *mesh_axes: Any) -> NamedSharding | None:
    """The sharding of `x` with `mesh_axes` in the place of `axis`; None where nothing has to be said."""
    before = _mesh_axes(x)
    after = (*before[:axis], *mesh_axes, *before[axis + 1 :])
    if not any(before) and not any(after):
        return None
    return NamedSharding(jax.typeof(x).sharding.mesh, PartitionSpec(*after))
