"""Step times against the number of parameters, and against the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tqdm import tqdm

from benchmarks import machine
from benchmarks.cost import jax_rows
from benchmarks.models import Problem, mlp
from benchmarks.programs import tree_size
from benchmarks.timing import Plan, Subject, interleaved, quartiles

ROWS = (jax_rows.ADAMW, "ours, interval 1", "ours, interval 10", "ours, a step without an estimate")
# The parameters and two moments of each of four rows, and beside them gradients, tangents and what is being written.
BYTES_PER_PARAMETER = 4 * (3 * len(ROWS) + 8)


def of_size(parameters: float, batch_size: int = 64) -> Problem:
    """An MLP of about so many parameters: two square layers."""
    width = round((parameters / 2) ** 0.5)
    return mlp(batch_size, width=width, features=width)


def against_parameters(sizes: Sequence[float], plan: Plan) -> list[dict[str, Any]]:
    """One record for each size that fits into memory; a printed line for each that does not."""
    room = machine.memory_available()
    fitting = [size for size in sizes if BYTES_PER_PARAMETER * size < room]
    for size in sizes:
        if size not in fitting:
            tqdm.write(f"skipped: {size:.0e} parameters, which take {BYTES_PER_PARAMETER * size / 1e9:.0f} GB")
    return _measure((lambda size=size: of_size(size) for size in fitting), len(fitting), plan)


def against_batch(batch_sizes: Sequence[int], parameters: float, plan: Plan) -> list[dict[str, Any]]:
    """One record for each batch size."""
    return _measure((lambda n=n: of_size(parameters, n) for n in batch_sizes), len(batch_sizes), plan)


def _measure(problems: Iterable[Callable[[], Problem]], total: int, plan: Plan) -> list[dict[str, Any]]:
    return [_record(make(), plan) for make in tqdm(problems, total=total, unit="size")]


def _record(problem: Problem, plan: Plan) -> dict[str, Any]:
    available = {**jax_rows.first_order_rows(problem), **jax_rows.our_rows(problem, adamw_flops=0)}
    rows = {name: available[name]() for name in ROWS}
    subjects = {name: Subject(row.train, row.interval, jax_rows.ADAMW) for name, row in rows.items()}
    times = interleaved(subjects, plan, f"{tree_size(problem.params):,} parameters")
    return {
        "parameters": tree_size(problem.params),
        "batch_size": len(problem.batch[0]),
        "milliseconds": {name: [1e3 * seconds for seconds in quartiles(times[name].seconds)] for name in ROWS},
        "ratio": {name: quartiles(times[name].ratios) for name in ROWS},
    }
