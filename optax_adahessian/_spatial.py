"""Spatial averaging: which entries of a leaf share one second moment."""

from __future__ import annotations

import dataclasses
import math
import operator
from typing import Any

import jax
import numpy as np

from optax_adahessian import _presets
from optax_adahessian._checks import check_callable, check_flag, check_real_leaves, check_static_integer


@dataclasses.dataclass(frozen=True)
class SpatialAverage:
    r"""Which entries of each leaf share one value of the second moment.

    A leaf is tiled by blocks; the curvature of a block is the mean of h over its entries with ``time_average="mean"``,
    and with "rms" that of \|h\|,

    .. math:: d_B = \frac{1}{|B|} \sum_{i \in B} |h_i|,

    the official code's rule. ``signed=True`` takes the paper's, :math:`d_B = |\frac{1}{|B|} \sum_{i \in B} h_i|`,
    which is smaller wherever signs differ, so that it wants a smaller learning rate; the mean over time keeps the sign
    either way. The second moment is stored once per block. Larger blocks change the expected denominator, not only
    its noise.

    Make one with `none`, `conv`, `rows`, `lengths` or `custom`, and look at what it does to a model with `describe`.
    The presets read a leaf's rank and name; neither can tell stacked layers (`flax.linen.scan`) or attention
    kernels from convolutions. `custom` decides otherwise.

    `kernel` is the layout in JAX's dimension string. "HWIO" is that of Flax, Haiku and Keras, where a dense kernel
    is (in, out); "OIHW" that of Equinox and PyTorch, where it is (out, in). It holds for convolutions in 1, 2 and 3
    dimensions alike (leaves of rank 3, 4, 5); "WIO", "DHWIO", "OIW", "OIDHW" name the same two layouts.

    Raises:
      TypeError, ValueError: by the constructors, for an unknown layout, an `n` that is no integer from 1, a function
        that cannot be called, a `signed` that is no bool; by `describe`, for leaves that are not real and blocks
        that do not tile a leaf.

    Example:
      >>> import jax.numpy as jnp, optax_adahessian as oah
      >>> print(oah.SpatialAverage.conv("HWIO").describe({"kernel": jnp.zeros((3, 3, 8, 16))}))
      leaf        shape          block         second moment
      ['kernel']  (3, 3, 8, 16)  (3, 3, 1, 1)            128
      total       1,152                                  128
    """

    name: str
    block_shape_fn: _presets.BlockShapeFn = dataclasses.field(repr=False)
    signed: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(
                f"`name` (={self.name!r}) must be a text. Make an average with `custom`, which finds a name."
            )
        check_callable("block_shape_fn", self.block_shape_fn, "lambda path, leaf: (1,) * leaf.ndim")
        check_flag("signed", self.signed)

    @classmethod
    def none(cls) -> SpatialAverage:
        """No averaging: one value for every parameter."""
        return cls("none", _presets.elementwise)

    @classmethod
    def conv(cls, kernel: str, *, signed: bool = False) -> SpatialAverage:
        """One value for every pair of input and output channel of a convolution; the official image code.

        Touches the leaves of rank 3, 4 and 5 that are not named as a bias or a scale.
        """
        inputs_first = _presets.inputs_come_first(kernel)
        return cls(f"conv({kernel!r})", _presets.conv(inputs_first), signed)

    @classmethod
    def rows(cls, kernel: str, *, signed: bool = False) -> SpatialAverage:
        """Besides `conv`, one value for every output of a dense layer; the official instruction code's default.

        Touches, of the leaves that are not named as a bias or a scale, those of rank 2 to 5. Embedding tables,
        recognised by a leaf's name that has a word beginning with "emb", get one value per token: a mean over the
        vocabulary would mix tokens seen often with tokens never seen.
        """
        inputs_first = _presets.inputs_come_first(kernel)
        return cls(f"rows({kernel!r})", _presets.rows(inputs_first), signed)

    @classmethod
    def lengths(cls, n: int, kernel: str, *, signed: bool = False) -> SpatialAverage:
        """One value for every `n` inputs of each output of a dense layer; the official translation code (n = 32).

        Touches the leaves of rank 2 that are not named as a bias or a scale, and of an embedding table `n`
        features of each token. An axis that `n` does not divide stays elementwise.
        """
        check_static_integer("n", n, minimum=1)
        inputs_first = _presets.inputs_come_first(kernel)
        return cls(f"lengths({n}, {kernel!r})", _presets.lengths(int(n), inputs_first), signed)

    @classmethod
    def custom(cls, fn: _presets.BlockShapeFn, *, signed: bool = False) -> SpatialAverage:
        """Blocks chosen by ``fn(path, leaf)``, which returns one size for each axis, -1 for a whole axis.

        `path` is the key path of `jax.tree_util.tree_map_with_path`, `leaf` has a shape and a dtype. The sizes
        must divide the axes.
        """
        check_callable("fn", fn, "lambda path, leaf: (1,) * leaf.ndim")
        return cls(f"custom({getattr(fn, '__name__', 'fn')})", fn, signed)

    def block_shape(self, path: Any, leaf: Any) -> tuple[int, ...]:
        """The block of one leaf, without -1. Raises ValueError where it does not tile the leaf."""
        block, shape = self.block_shape_fn(path, leaf), tuple(leaf.shape)
        where = f"`spatial_average` (={self.name}) gives the leaf {jax.tree_util.keystr(path)!r} of shape {shape}"
        try:
            sizes = tuple(map(operator.index, block))
        except TypeError as error:
            raise TypeError(
                f"{where} the block {block!r}, which must be a tuple of integers, one each axis."
            ) from error
        if len(sizes) != len(shape):
            raise ValueError(f"{where} the block {block!r} of rank {len(sizes)}; it needs one size for each axis.")
        whole = tuple(max(axis, 1) if size == -1 else size for size, axis in zip(sizes, shape, strict=True))
        if any(size < 1 or axis % size for size, axis in zip(whole, shape, strict=True)):
            raise ValueError(f"{where} the block {block!r}, which does not tile it. Each size must divide its axis.")
        return whole

    def describe(self, params: Any) -> str:
        """A table of what this does to `params`: leaf, shape, block, size of the second moment."""
        check_real_leaves("params", params)
        rows = [("leaf", "shape", "block", "second moment")]
        total = stored = 0
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            leaf = leaf if hasattr(leaf, "shape") else np.asarray(leaf)  # a Python number is a parameter, too
            block = self.block_shape(path, leaf)
            size = math.prod(leaf.shape)
            total, stored = total + size, stored + size // math.prod(block)
            label = jax.tree_util.keystr(path) or "(the parameters)"
            rows.append((label, str(tuple(leaf.shape)), str(block), f"{size // math.prod(block):,}"))
        rows.append(("total", f"{total:,}", "", f"{stored:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join([*(c.ljust(w) for c, w in zip(row[:3], widths, strict=False)), row[3].rjust(widths[3])])
            for row in rows
        )
