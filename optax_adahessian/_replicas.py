"""Parameters replicated over a mapped axis: differentiate the local loss, then average."""

from __future__ import annotations

from typing import Any

import jax

Axes = str | tuple[str, ...] | None


def check_axis(axis_name: Axes) -> None:
    """Raises unless `axis_name` is None or bound by an enclosing map."""
    if axis_name is None:
        return
    try:
        jax.lax.axis_size(axis_name)
    except NameError as error:
        raise ValueError(
            f"`axis_name` (={axis_name!r}) is not bound here. Call it inside `jax.shard_map` or `jax.pmap` over that "
            "axis; in plain `jax.jit` with sharded arrays leave `axis_name` out."
        ) from error


def mean_over_replicas(tree: Any, axis_name: Axes) -> Any:
    """The mean over the axis, or `tree` itself without one."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def params_per_replica(params: Any, axis_name: Axes) -> Any:
    """`params` as every replica's own copy.

    `jax.shard_map` with ``check_vma=True`` sums the gradient with respect to replicated parameters over the
    axis by itself. The mean of it would be N times too large; the gradient with respect to a copy is local.
    """

    def own_copy(path: Any, leaf: Any, axis: str) -> Any:
        try:
            return jax.lax.pcast(leaf, axis, to="varying")
        except ValueError as error:
            raise ValueError(
                f"`params{jax.tree_util.keystr(path)}` varies over `axis_name` (={axis!r}); averaging over an axis is "
                "for parameters replicated over it. Leave `axis_name` out, and gather sharded parameters in the loss."
            ) from error

    for axis in _manual_axes(axis_name):
        params = jax.tree_util.tree_map_with_path(lambda path, leaf, axis=axis: own_copy(path, leaf, axis), params)
    return params


def probes_per_replica(probes: Any, axis_name: Axes) -> Any:
    """`probes` as every replica's own, which tangents of `params_per_replica` have to be."""

    def own_copy(leaf: Any, axis: str) -> Any:
        try:
            return jax.lax.pcast(leaf, axis, to="varying")
        except ValueError:  # drawn from a key that varies over the axis already
            return leaf

    for axis in _manual_axes(axis_name):
        probes = jax.tree.map(lambda leaf, axis=axis: own_copy(leaf, axis), probes)
    return probes


def _manual_axes(axis_name: Axes) -> list[str]:
    """The named axes that a shard_map (or pmap) maps; those of a `jax.vmap` keep no record of what varies."""
    names = (axis_name,) if isinstance(axis_name, str) else axis_name or ()
    manual = jax.sharding.get_abstract_mesh().manual_axes
    return [name for name in names if name in manual]
