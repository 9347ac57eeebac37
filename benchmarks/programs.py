"""A compiled program, and what its compilation says about it."""

import math
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

STAGES = ("trace", "lower", "compile")
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) [^\n]*\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_CALLED = re.compile(r"(?:calls|to_apply|body|branch_computations|called_computations)=\{?((?:%?[\w.-]+(?:, )?)+)")
_COLLECTIVE = re.compile(rf"= (.+?) ({'|'.join(COLLECTIVES)})(-start)?\(")
_SHAPE = re.compile(r"\b(?:pred|[a-z]+(\d+))\[([\d,]*)\]")


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
    counted = compiled.cost_analysis() or {}  # none for a GPU
    costs = {name.replace(" ", "_"): float(counted.get(name, math.nan)) for name in ("flops", "bytes accessed")}
    costs["temp_bytes"] = int(compiled.memory_analysis().temp_size_in_bytes)
    return Program(compiled, {s: b - a for s, a, b in zip(STAGES, clock, clock[1:], strict=False)}, costs)


def tree_bytes(tree: Any) -> int:
    """The bytes of all leaves, which may be arrays or their shapes alone."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def kernels(text: str) -> int:
    """What a GPU launches: the fusions and the custom calls of the entry computation."""
    return len(re.findall(r" (?:fusion|custom-call)\(", text[text.index("\nENTRY") :]))


def cycles(text: str) -> int:
    """What the compiler of a TPU expects the operations to take."""
    return sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', text)))


def collectives(text: str, devices: int) -> dict[str, list[int]]:
    """For each kind of collective operation how often it runs in a program, and the bytes of what it hands around.

    Those are the results, for a reduce-scatter of all `devices`. An operation in a loop counts once for each round.
    """
    bodies = {name: body for _, name, body in _COMPUTATION.findall(text)}
    found: dict[str, list[int]] = {kind: [0, 0] for kind in COLLECTIVES}

    def visit(name: str, rounds: int) -> None:
        body = bodies.get(name, "")
        # A TPU's operation that runs beside others is written again with each of them, and where it ends.
        if name.startswith("async_collective_fusion") or "AsyncCollectiveDone" in body:
            return
        for line in body.splitlines():
            if match := _COLLECTIVE.search(line):
                results, kind, start = match.groups()
                parts = devices if kind == "reduce-scatter" else 1
                found[kind][0] += rounds
                found[kind][1] += rounds * parts * _bytes(results, kind, bool(start))
            inside = rounds * _rounds(line, bodies) if " while(" in line else rounds
            for called in re.findall(r"[\w.-]+", " ".join(_CALLED.findall(line))):
                visit(called, inside)

    visit(next(name for entry, name, _ in _COMPUTATION.findall(text) if entry), 1)
    return found


def _bytes(results: str, kind: str, start: bool) -> int:
    """Of the results of one operation."""
    shapes = [(int(bits or 8), map(int, re.findall(r"\d+", dims))) for bits, dims in _SHAPE.findall(results)]
    sizes = [bits * math.prod(dims) // 8 for bits, dims in shapes]
    # The start of these two returns operand and result together.
    return max(sizes) if start and kind in ("all-gather", "collective-permute") else sum(sizes)


def _rounds(line: str, bodies: dict[str, str]) -> int:
    """Of a while loop: as XLA says, else the bound that its condition compares with."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', line):
        return int(known[1])
    condition = bodies[re.search(r"condition=%?([\w.-]+)", line)[1]]
    bound = re.search(r"ROOT .* compare\(.*?, (?:\S+ )?%?([\w.-]+)\), direction=LT", condition)
    found = bound and re.search(rf"%?{re.escape(bound[1])} = .*? constant\((\d+)\)", condition)
    if not found:
        raise ValueError(f"The rounds of a loop are not known: {line.strip()[:200]}")
    return int(found[1])
