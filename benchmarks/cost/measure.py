"""One model: its rows compiled, timed and set beside their framework's AdamW."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from benchmarks.cost.peers import rows_of
from benchmarks.cost.problems import PROBLEMS
from benchmarks.cost.rows import Row
from benchmarks.programs import tree_bytes, tree_size
from benchmarks.timing import Plan, Subject, Times, interleaved, quartiles


def measure(model: str, patterns: Sequence[str], plan: Plan) -> dict[str, Any]:
    """The record of a model: for every row whose name matches one of the patterns, and for every AdamW."""
    problem, skipped = PROBLEMS[model](), []

    def say(line: str) -> None:
        skipped.append(line)
        tqdm.write(f"{model}: {line}")

    rows: dict[str, Row] = {}
    references: dict[str, str] = {}
    for reference, group in rows_of(problem, model, say).items():
        names = [n for n in group if n == reference or any(fnmatch.fnmatch(n, pattern) for pattern in patterns)]
        for name in tqdm(names, desc=f"{model}: compiling", unit="row", leave=False):
            rows[name], references[name] = group[name](), reference
    subjects = {name: Subject(row.train, row.interval, references[name]) for name, row in rows.items()}
    times = interleaved(subjects, plan, label=model)
    return {
        "parameters": tree_size(problem.params),
        "rows": {
            name: _record(row, rows[references[name]], times[name], references[name], tree_bytes(problem.params))
            for name, row in rows.items()
        },
        "skipped": skipped,
    }


def _record(row: Row, adamw: Row, times: Times, reference: str, parameter_bytes: int) -> dict[str, Any]:
    """Quartiles of time and ratio; what the framework does not tell is None."""
    flops_ratio = row.flops / adamw.flops if row.flops and adamw.flops else None
    return {
        "reference": reference,
        "interval": row.interval,
        "milliseconds": [1e3 * seconds for seconds in quartiles(times.seconds)],
        "ratio": quartiles(times.ratios),
        "flops_ratio": flops_ratio,
        "compile_seconds": row.compile_seconds,
        "temp_bytes": row.temp_bytes,
        "state_per_parameter": row.state_bytes / parameter_bytes,
        "rounds": len(times.seconds),
        "steps_per_round": times.steps,
    }
