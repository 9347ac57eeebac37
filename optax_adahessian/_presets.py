"""The block shapes of the official codes, by a leaf's rank and name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

BlockShapeFn = Callable[[Any, Any], tuple[int, ...]]  # (path, leaf) -> one size per axis, -1 for a whole axis

# Not curvature of a linear map: leaves by these names stay elementwise whatever their rank. Haiku calls a bias
# "b" (of rank 3 for channels-first convolutions) and a shift "offset", Keras "beta" and "gamma".
_ELEMENTWISE_NAMES = {"bias", "scale", "b", "offset", "beta", "gamma"}
_LAYOUTS = {"HWIO": True, "WIO": True, "DHWIO": True, "OIHW": False, "OIW": False, "OIDHW": False}


def inputs_come_first(kernel: str) -> bool:
    """Whether the layout is (spatial axes, in, out), with dense kernels (in, out)."""
    if not isinstance(kernel, str) or kernel not in _LAYOUTS:
        raise ValueError(
            f"`kernel` (={kernel!r}) must be 'HWIO' (Flax, Haiku, Keras: dense kernels are (in, out)) or 'OIHW' "
            "(Equinox, PyTorch: (out, in)), also for convolutions in 1 and 3 dimensions."
        )
    return _LAYOUTS[kernel]


def elementwise(path: Any, leaf: Any) -> tuple[int, ...]:
    """Blocks of one entry."""
    del path
    return (1,) * len(leaf.shape)


def conv(inputs_first: bool) -> BlockShapeFn:
    """Whole kernels, for every pair of channels."""

    def block_shape(path: Any, leaf: Any) -> tuple[int, ...]:
        rank = len(leaf.shape)
        if rank not in (3, 4, 5) or _leaf_name(path) in _ELEMENTWISE_NAMES or _is_embedding(path):
            return elementwise(path, leaf)
        spatial, channels = (-1,) * (rank - 2), (1, 1)
        return spatial + channels if inputs_first else channels + spatial

    return block_shape


def rows(inputs_first: bool) -> BlockShapeFn:
    """`conv`, and besides all inputs of each dense output, all features of each token."""
    conv_block_shape = conv(inputs_first)

    def block_shape(path: Any, leaf: Any) -> tuple[int, ...]:
        rank = len(leaf.shape)
        if _leaf_name(path) in _ELEMENTWISE_NAMES:
            return elementwise(path, leaf)
        if _is_embedding(path) and rank >= 2:
            return (1,) * (rank - 1) + (-1,)
        if rank == 2:
            return (-1, 1) if inputs_first else (1, -1)
        return conv_block_shape(path, leaf)

    return block_shape


def lengths(n: int, inputs_first: bool) -> BlockShapeFn:
    """Runs of n inputs of each dense output, of n features of each token."""

    def block_shape(path: Any, leaf: Any) -> tuple[int, ...]:
        if len(leaf.shape) != 2 or _leaf_name(path) in _ELEMENTWISE_NAMES:
            return elementwise(path, leaf)
        axis = 0 if inputs_first and not _is_embedding(path) else 1
        size = n if leaf.shape[axis] % n == 0 else 1
        return (size, 1) if axis == 0 else (1, size)

    return block_shape


def _leaf_name(path: Any) -> str:
    """The last name in a key path, past the wrappers that box a value (Flax's `Partitioned` and `Variable`)."""
    for entry in reversed(path):
        if getattr(entry, "name", None) in ("value", "raw_value"):
            continue
        name = getattr(entry, "key", getattr(entry, "name", None))
        if isinstance(name, str):
            return name
    return ""


def _is_embedding(path: Any) -> bool:
    """A heuristic: Flax's "embedding", Haiku's "embeddings", "pos_embedding", "tok_emb", but not "ensemble"."""
    return any(word.startswith("emb") for word in _leaf_name(path).lower().split("_"))
