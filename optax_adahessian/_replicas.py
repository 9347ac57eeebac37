"""Parameters replicated over a mapped axis: differentiate the loss of one replica, then average."""

from __future__ import annotations

from typing import Any

import jax

Axes = str | tuple[str, ...] | None


def mean_over_replicas(tree: Any, axis_name: Axes) -> Any:
    """The mean over the axis, or `tree` itself without one."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def params_per_replica(params: Any, axis_name: Axes) -> Any:
    """`params` as each replica's own copy.

    `jax.shard_map` with ``check_vma=True`` sums the gradient with respect to replicated parameters over the
    axis by itself. The mean of it would be N times too large; the gradient with respect to a copy is local.
    """

    def own_copy(path: Any, leaf: Any, axis: str) -> Any:
        try:
            return jax.lax.pcast(leaf, axis, to="varying")
        except ValueError as error:
            raise ValueError(
                f"`params{jax.tree_util.keystr(path)}` varies over `axis_name` (={axis!r}), but averaging over an axis "
                "needs parameters replicated over it. Leave `axis_name` out, and gather sharded parameters in the loss."
            ) from error

    for axis in _manual_axes(axis_name):
        params = jax.tree_util.tree_map_with_path(lambda path, leaf, axis=axis: own_copy(path, leaf, axis), params)
    return params


def probes_per_replica(probes: Any, axis_name: Axes) -> Any:
    """`probes` as each replica's own, as tangents of `params_per_replica` must be."""

    def own_copy(leaf: Any, axis: str) -> Any:
        try:
            return jax.lax.pcast(leaf, axis, to="varying")
        except ValueError:  # drawn from a key that varies over the axis already
            return leaf

    for axis in _manual_axes(axis_name):
        probes = jax.tree.map(lambda leaf, axis=axis: own_copy(leaf, axis), probes)
    return probes


def check_own_probes(params: Any, probes: Any) -> None:
    """Raises where devices hold different parts of the parameters and would draw the same signs for each part."""
    for (path, p), z in zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(probes), strict=True):
        types = [str(jax.typeof(leaf)).removeprefix("~") for leaf in (p, z)]  # "~" marks a weak dtype
        if types[0] != types[1]:
            raise ValueError(
                f"`params{jax.tree_util.keystr(path)}` is {types[0]} and its probe {types[1]}: the parameters vary over "
                "a mapped axis and the key does not, so that every device would draw the same signs for its own part. "
                "Map only the loss with `jax.shard_map`, gather in it, and estimate outside."
            )


def _manual_axes(axis_name: Axes) -> list[str]:
    """The named axes that a shard_map (or pmap) maps; those of a `jax.vmap` keep no record of what varies."""
    names = (axis_name,) if isinstance(axis_name, str) else axis_name or ()
    manual = jax.sharding.get_abstract_mesh().manual_axes
    return [name for name in names if name in manual]
