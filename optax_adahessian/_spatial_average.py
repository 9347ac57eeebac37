"""Spatial averaging: which entries of a leaf share one second moment, and arithmetic on the blocks."""

import contextlib
import dataclasses
import math
import operator
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from optax_adahessian._errors import as_integer, check_real_leaves, check_type

BlockShapeFn = Callable[[Any, Any], tuple[int, ...]]  # (path, leaf) -> one size per axis, -1 for a whole axis

# A leaf of rank 2 is a dense layer or an embedding table, one of rank 3 to 5 a convolution.
_AXES = {"conv": ("spatial", "inputs", "outputs"), "dense": ("inputs", "outputs"), "embedding": ("tokens", "features")}
# What the presets average over: (kind of layer, axes).
_CONV = frozenset({("conv", "spatial")})
_DENSE = frozenset({("dense", "inputs"), ("embedding", "features")})
_INPUTS_FIRST, _OUTPUTS_FIRST = ("HWIO", "WIO", "DHWIO"), ("OIHW", "OIW", "OIDHW")


@dataclasses.dataclass(frozen=True)
class SpatialAverage:
    r"""Which entries of each leaf share one value of the second moment, which is stored once per block.

    The curvature of a block is :math:`d_B = \frac{1}{|B|} \sum_{i \in B} |h_i|`, the official code's rule.
    ``signed=True`` takes the paper's, :math:`d_B = |\frac{1}{|B|} \sum_{i \in B} h_i|`, which is smaller where signs
    differ, and needs a smaller learning rate. Larger blocks change the expected denominator, not only its noise.

    The presets read a leaf's rank and name, which cannot tell stacked layers (`flax.linen.scan`) or attention kernels
    from convolutions; `custom` can, and `describe` shows what is done to a model. Vectors and biases stay elementwise.
    `kernel` is the layout: "HWIO" in Flax, Haiku and Keras, where a dense kernel is (in, out), "OIHW" in Equinox and
    PyTorch, where it is (out, in). Either, or "WIO", "DHWIO", "OIW", "OIDHW", holds for 1, 2 and 3 dimensions.
    """

    kind: str
    averaged: frozenset[tuple[str, str]] = dataclasses.field(default=frozenset(), repr=False)
    kernel: str | None = None
    n: int | None = None
    signed: bool = False
    fn: BlockShapeFn | None = None

    def __post_init__(self) -> None:
        if any(axis not in _AXES.get(layer, ()) for layer, axis in self.averaged):
            raise ValueError(f"`averaged` (={set(self.averaged)}) must have pairs of a layer and its axis: {_AXES}.")
        if self.averaged and self.kernel not in _INPUTS_FIRST + _OUTPUTS_FIRST:
            raise ValueError(
                f"`kernel` (={self.kernel!r}) must be 'HWIO' (Flax, Haiku, Keras: dense kernels are (in, out)) or "
                "'OIHW' (Equinox, PyTorch: (out, in)), also for convolutions in 1 and 3 dimensions."
            )

    @classmethod
    def none(cls) -> Self:
        """No averaging: one value for each parameter."""
        return cls("none")

    @classmethod
    def conv(cls, kernel: str, *, signed: bool = False) -> Self:
        """One value for each pair of input and output channel of a convolution; the official image code."""
        return cls("conv", _CONV, kernel, signed=signed)

    @classmethod
    def rows(cls, kernel: str, *, signed: bool = False) -> Self:
        """`conv`, and one value for each output of a dense layer; the official instruction code's default.

        Embedding tables, of which a word in the name begins with "emb", get one value per token.
        """
        return cls("rows", _CONV | _DENSE, kernel, signed=signed)

    @classmethod
    def lengths(cls, n: int, kernel: str, *, signed: bool = False) -> Self:
        """One value for each `n` inputs of each dense output; the official translation code (n = 32).

        Of an embedding table, `n` features of each token. An axis that `n` does not divide stays elementwise.
        """
        return cls("lengths", _DENSE, kernel, as_integer("n", n, minimum=1), signed)

    @classmethod
    def custom(cls, fn: BlockShapeFn, *, signed: bool = False) -> Self:
        """Blocks of the sizes ``fn(path, leaf)``, one for each axis, -1 for a whole one; see `tree_map_with_path`."""
        check_type("fn", fn, Callable, "lambda path, leaf: (1,) * leaf.ndim")
        return cls("custom", signed=signed, fn=fn)

    def block_shape(self, path: Any, leaf: Any) -> tuple[int, ...]:
        """The block of one leaf, without -1. Raises ValueError if it does not tile the leaf."""
        block, shape = self.fn(path, leaf) if self.fn else self._preset_block(path, leaf), tuple(leaf.shape)
        with contextlib.suppress(TypeError, ValueError):  # not integers, or not one for each axis
            sizes = [operator.index(b) for b in block]
            whole = tuple(max(n, 1) if b == -1 else b for b, n in zip(sizes, shape, strict=True))
            if all(b >= 1 and n % b == 0 for b, n in zip(whole, shape, strict=True)):
                return whole
        raise ValueError(
            f"`spatial_average` (={self}) gives {jax.tree_util.keystr(path)!r}, of shape {shape}, the block "
            f"{block!r}. It must be a tuple of one integer for each axis, which divides the axis, or is -1."
        )

    def _preset_block(self, path: Any, leaf: Any) -> tuple[int, ...]:
        shape = tuple(leaf.shape)
        layer = "dense" if len(shape) == 2 else "conv" if 3 <= len(shape) <= 5 else None
        averaged_layers = {layer for layer, _ in self.averaged}
        if layer not in averaged_layers or (name := self._name(path, shape)) == "bias":  # an attention layer's
            return (1,) * len(shape)
        if any(word.startswith("emb") for word in name.lower().split("_")):  # "tok_emb", "embeddings", not "ensemble"
            layer, axes = "embedding", ("tokens",) * (len(shape) - 1) + ("features",)
        else:
            spatial = ("spatial",) * (len(shape) - 2)
            axes = ("outputs", "inputs", *spatial) if self.kernel in _OUTPUTS_FIRST else (*spatial, "inputs", "outputs")
        size = -1 if self.n is None else self.n
        sizes = [size if n % size == 0 else 1 for n in shape]
        return tuple(b if (layer, axis) in self.averaged else 1 for axis, b in zip(axes, sizes, strict=True))

    def _name(self, path: Any, shape: tuple[int, ...]) -> str:
        for entry in reversed(path):
            name = getattr(entry, "key", getattr(entry, "name", None))
            if isinstance(name, str):
                return name.rsplit("/", 1)[-1]  # the paths of Keras
        raise ValueError(
            f"`spatial_average` (={self}) tells layers from embedding tables by name, and the parameter at "
            f"{jax.tree_util.keystr(path)!r}, of shape {shape}, has none. Keep parameters in a dict with names (in "
            "Keras `{v.path: v.value for v in model.trainable_variables}`), or use `SpatialAverage.custom`."
        )

    def map(self, fn: Callable[..., Any], params: Any, *rest: Any) -> Any:
        """A tree of ``fn(block, leaf, *rest)``.

        A box (Flax's `Partitioned`, `Variable`) is removed from a smaller result: it may name axes that are gone.
        """

        def visit(path: Any, node: Any, *others: Any) -> Any:
            leaves, structure = jax.tree.flatten(node)
            if not leaves:
                return node
            result = fn(self.block_shape(path, leaves[0]), leaves[0], *[jax.tree.leaves(other)[0] for other in others])
            return jax.tree.unflatten(structure, [result]) if result.shape == leaves[0].shape else result

        return jax.tree_util.tree_map_with_path(visit, params, *rest, is_leaf=_is_box)

    def describe(self, params: Any) -> str:
        """A table of what this does to `params`: leaf, shape, block, size of the second moment."""
        check_real_leaves("params", params)
        table, total, stored = [("leaf", "shape", "block", "second moment")], 0, 0
        for path, node in jax.tree_util.tree_leaves_with_path(params, is_leaf=_is_box):
            leaf = np.asarray(node) if isinstance(node, float) else jax.tree.leaves(node)[0]
            block, size = self.block_shape(path, leaf), math.prod(leaf.shape)
            blocks = size // math.prod(block)
            total, stored = total + size, stored + blocks
            label = jax.tree_util.keystr(path) or "(the parameters)"
            table.append((label, str(tuple(leaf.shape)), str(block), f"{blocks:,}"))
        table.append(("total", f"{total:,}", "", f"{stored:,}"))
        a, b, c, d = (max(map(len, column)) for column in zip(*table, strict=True))
        return "\n".join(f"{r[0]:{a}}  {r[1]:{b}}  {r[2]:{c}}  {r[3]:>{d}}" for r in table)


def block_mean(x: jax.Array, block: tuple[int, ...]) -> jax.Array:
    """The mean of each block, with the rank of `x` and one entry per block."""
    # A block that covers an axis needs no reshape: a sum with keepdims, undone by broadcasting. Only an axis that is
    # cut into parts is split in two, (parts, part), and under Explicit meshes that reshape must be given its sharding.
    whole = tuple(axis for axis, size in enumerate(block) if 1 < size == x.shape[axis])
    cut = _cut_axes(x.shape, block)
    x = x / math.prod(block) if whole or cut else x  # before the sum, which could be too large for the dtype
    x = jnp.sum(x, axis=whole, keepdims=True) if whole else x
    for axis in cut:
        parts, mesh_axes = x.shape[axis] // block[axis], jax.typeof(x).sharding.spec[axis]
        names = mesh_axes if isinstance(mesh_axes, tuple) else (mesh_axes,) if mesh_axes else ()
        devices = math.prod(jax.typeof(x).sharding.mesh.shape[name] for name in names)
        sharding = _sharding_with(x, axis, mesh_axes if parts % devices == 0 else None, None)
        split = jnp.reshape(x, (*x.shape[:axis], parts, block[axis], *x.shape[axis + 1 :]), out_sharding=sharding)
        x = jnp.sum(split, axis=axis + 1)
    return x


def block_expand(x: jax.Array, block: tuple[int, ...], like: jax.Array) -> jax.Array:
    """`x`, one entry per block, repeated until it broadcasts against `like`."""
    for axis in _cut_axes(like.shape, block):
        sharding = _sharding_with(x, axis, jax.typeof(like).sharding.spec[axis])
        x = jnp.repeat(x, block[axis], axis=axis, total_repeat_length=like.shape[axis], out_sharding=sharding)
    return x


def _cut_axes(shape: tuple[int, ...], block: tuple[int, ...]) -> list[int]:
    """The axes on which a block is neither one entry nor the whole axis."""
    return [axis for axis, size in enumerate(block) if 1 < size < shape[axis]]


def _sharding_with(x: jax.Array, axis: int, *mesh_axes: Any) -> NamedSharding | None:
    """The sharding of `x` with `mesh_axes` instead of those of `axis`; None if nothing is sharded."""
    mesh, before = jax.typeof(x).sharding.mesh, jax.typeof(x).sharding.spec
    after = (*before[:axis], *mesh_axes, *before[axis + 1 :])
    return NamedSharding(mesh, PartitionSpec(*after)) if any(before) or any(after) else None


def _is_box(node: Any) -> bool:
    """Whether `node` holds one array, as its attribute `value` (and is not a tuple of the user's with such a field)."""
    if isinstance(node, (jax.Array, tuple)):
        return False
    children = jax.tree_util.tree_leaves_with_path(node, is_leaf=lambda child: child is not node)
    return [getattr(entry, "name", None) for path, _ in children for entry in path] in (["value"], ["raw_value"])
