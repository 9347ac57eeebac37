"""A compiled program, and what its compilation says about it."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

STAGES = ("trace", "lower", "compile")


class Program(NamedTuple):
    """A compiled function with its costs."""

    run: Callable[..., Any]
    seconds: dict[str, float]  # of the processor, for each stage of the compilation
    costs: dict[str, float]  # flops and bytes_accessed by the count of XLA; temp_bytes: not arguments and results


def compile_program(fun: Callable[..., Any], *args: Any, donate: tuple[int, ...] = (), **options: Any) -> Program:
    """Compiles `fun` for the shapes of `args`; the buffers of the arguments in `donate` are reused for results."""
    # Seconds of the processor, of all threads: other programs on the machine disturb them little.
    clock = [time.process_time()]
    traced = jax.jit(fun, donate_argnums=donate, **options).trace(*args)
    clock.append(time.process_time())
    lowered = traced.lower()
    clock.append(time.process_time())
    compiled = lowered.compile()
    clock.append(time.process_time())
    counted = compiled.cost_analysis()
    costs = {name.replace(" ", "_"): float(counted.get(name, math.nan)) for name in ("flops", "bytes accessed")}
    costs["temp_bytes"] = int(compiled.memory_analysis().temp_size_in_bytes)
    return Program(compiled, {s: b - a for s, a, b in zip(STAGES, clock, clock[1:], strict=False)}, costs)


def tree_bytes(tree: Any) -> int:
    """The bytes of all leaves, which may be arrays or their shapes alone."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
