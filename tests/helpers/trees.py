"""Random trees of parameters, their blocks, and runs over them. Few shapes: JAX compiles once for each."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

import optax_adahessian as oah

# The same examples at every run: a failure is one of the code, and can be repeated.
DETERMINISTIC = settings(derandomize=True, deadline=None, database=None)

SHAPES = ((), (4,), (0, 3), (4, 3), (2, 1, 4), (3, 1, 2, 2), (2, 1, 1, 3, 2))
DTYPES = (jnp.float32, jnp.float64, jnp.bfloat16, jnp.float16)


@dataclasses.dataclass(frozen=True)
class Leaf:
    """What a leaf of a tree is drawn as."""

    shape: tuple[int, ...]
    dtype: Any
    block: tuple[int, ...]


class Pair(NamedTuple):
    """A container with names."""

    first: Any
    second: Any


@st.composite
def leaves(draw: Any, dtypes: Any = DTYPES, elementwise: bool = False) -> Leaf:
    """Leaves with blocks that tile them."""
    shape = draw(st.sampled_from(SHAPES))
    sizes = [[1] if elementwise else [1, -1, *(b for b in range(2, n) if n % b == 0)] for n in shape]
    return Leaf(shape, draw(st.sampled_from(dtypes)), tuple(draw(st.sampled_from(size)) for size in sizes))


def trees(leaf: Any = leaves()) -> Any:  # noqa: B008 - a strategy has no state
    """Dicts, lists and named tuples of leaves, nested, with None in the place of some."""
    return st.recursive(
        leaf | st.none(),
        lambda inner: (
            st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
            | st.lists(inner, max_size=3)
            | st.builds(Pair, inner, inner)
        ),
        max_leaves=5,
    ).filter(lambda tree: tree is not None)  # as a diagonal, None says that there is no estimate


def integers(rng: np.random.Generator, tree: Any) -> list[np.ndarray]:
    """An array for every leaf. Small integers and their sums are exact in every dtype: only the rule itself rounds."""
    return [rng.integers(-3, 4, size=leaf.shape).astype(float) for leaf in jax.tree.leaves(tree)]


def poison(rng: np.random.Generator, arrays: list[np.ndarray]) -> None:
    """Makes one entry of one array NaN or infinite, if there is an entry."""
    entries = [(array, index) for array in arrays for index in np.ndindex(array.shape)]
    if entries:
        array, index = entries[rng.integers(len(entries))]
        array[index] = rng.choice([np.nan, np.inf, -np.inf])


def typed(arrays: Any, tree: Any) -> Any:
    """`arrays` in the structure and the dtypes of `tree`."""
    leaves_of_tree, structure = jax.tree.flatten(tree)
    return structure.unflatten([jnp.asarray(a, leaf.dtype) for a, leaf in zip(arrays, leaves_of_tree, strict=True)])


def average_of(tree: Any, signed: bool = False) -> oah.SpatialAverage:
    """The average that gives each leaf of `tree` its block."""
    by_path = dict(jax.tree_util.tree_leaves_with_path(tree))
    return oah.SpatialAverage.custom(lambda path, leaf: by_path[path].block, signed=signed)


def run(tx: Any, tree: Any, grads: Any, diags: Any) -> Any:
    """Updates and state after every step; a diagonal of None is a step without one."""
    update = jax.jit(lambda g, state, diag: tx.update(g, state, hessian_diag=diag))
    state = tx.init(typed([np.zeros(leaf.shape) for leaf in jax.tree.leaves(tree)], tree))
    for g, h in zip(grads, diags, strict=True):
        diag = None if h is None else typed(h, tree)
        updates, state = update(typed(g, tree), state, diag)
        yield updates, state
