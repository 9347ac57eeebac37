"""Parameters replicated over a mapped axis: differentiate the loss of one replica, then average."""

from typing import Any

import jax

AxisNames = str | tuple[str, ...] | None


def per_replica(tree: Any, axis_name: AxisNames) -> Any:
    """`tree` as each replica's own copy; leaves that vary over the axis already stay as they are.

    `jax.shard_map` with ``check_vma=True`` sums the gradient with respect to replicated parameters over the axis by
    itself. The mean of it would be N times too large; the gradient with respect to a copy is local.
    """
    for axis in _names(axis_name):
        jax.lax.axis_size(axis)  # names an axis that is not bound, which `pmean` in a shard_map does not
    for axis in _names(axis_name) & _manual_axes():
        tree = jax.tree.map(
            lambda leaf, axis=axis: leaf if _varies(leaf, axis) else jax.lax.pcast(leaf, axis, to="varying"), tree
        )
    return tree


def check_replicated(params: Any, axis_name: AxisNames, like: Any) -> None:
    """Raises if devices hold parts of `params` that would be averaged over `axis_name`, or share the signs `like`."""
    for (path, p), z in zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(like), strict=True):
        for axis in _manual_axes():
            if _varies(p, axis) and (axis in _names(axis_name) or not _varies(z, axis)):
                raise ValueError(
                    f"`params{jax.tree_util.keystr(path)}` varies over the mapped axis {axis!r}, with `axis_name` "
                    f"(={axis_name!r}): averages and shared random signs need parameters replicated over the axis. Map "
                    "only the loss with `jax.shard_map`, gather in it, and estimate outside, without `axis_name`."
                )


def _varies(leaf: Any, axis: str) -> bool:
    try:
        jax.lax.pcast(leaf, axis, to="varying")  # raises for a leaf that varies already
    except ValueError:
        return True
    return False


def _names(axis_name: AxisNames) -> set[str]:
    return {axis_name} if isinstance(axis_name, str) else set(axis_name or ())


def _manual_axes() -> set[str]:
    """The axes that an enclosing shard_map or pmap maps; those of a `jax.vmap` keep no record of what varies."""
    return set(jax.sharding.get_abstract_mesh().manual_axes)
