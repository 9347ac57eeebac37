"""A compiled program, and what its compilation says about it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Program(NamedTuple):
    """A compiled function with its costs."""

    run: Callable[..., Any]
    compile_seconds: float
    flops: float  # by the count of XLA
    bytes_accessed: float  # likewise
    temp_bytes: int  # beside arguments and results


def compile_program(fun: Callable[..., Any], *args: Any, donate: tuple[int, ...] = ()) -> Program:
    """Compiles `fun` for the shapes of `args`; the buffers of the arguments in `donate` are reused for results."""
    start = time.perf_counter()
    compiled = jax.jit(fun, donate_argnums=donate).lower(*args).compile()
    seconds = time.perf_counter() - start
    costs = compiled.cost_analysis()
    return Program(
        compiled,
        seconds,
        float(costs.get("flops", math.nan)),
        float(costs.get("bytes accessed", math.nan)),
        int(compiled.memory_analysis().temp_size_in_bytes),
    )


def tree_size(tree: Any) -> int:
    """The entries of all leaves."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def tree_bytes(tree: Any) -> int:
    """The bytes of all leaves, which may be arrays or their shapes alone."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
