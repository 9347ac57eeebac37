"""Leaves 150 mutants, drawn with a fixed seed, in a session of cosmic-ray: ``python tests/sample_mutants.py SESSION``.

Those inside of annotations are left out: annotations are never evaluated here, so that none of them could die.
"""

from __future__ import annotations

import ast
import functools
import random
import sqlite3
import sys
from pathlib import Path

SIZE = 150


@functools.cache
def annotations(module: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """First and last position of every annotation in a module."""
    nodes = [
        getattr(node, field)
        for node in ast.walk(ast.parse(Path(module).read_text()))
        for field in ("annotation", "returns")
        if getattr(node, field, None) is not None
    ]
    return [((n.lineno, n.col_offset), (n.end_lineno or 0, n.end_col_offset or 0)) for n in nodes]


def main(session: str) -> None:
    """Deletes all but the sample from the session."""
    with sqlite3.connect(session) as database:
        rows = database.execute(
            "SELECT job_id, module_path, start_pos_row, start_pos_col FROM mutation_specs ORDER BY module_path, "
            "start_pos_row, start_pos_col, operator_name, occurrence"
        ).fetchall()
        mutants = [
            job
            for job, module, *position in rows
            if not any(first <= tuple(position) < last for first, last in annotations(module))
        ]
        sample = random.Random(0).sample(mutants, SIZE)
        print(f"{len(rows)} mutants, {len(mutants)} outside of annotations, {len(sample)} drawn")
        for table in ("mutation_specs", "work_items"):
            database.executemany(
                f"DELETE FROM {table} WHERE job_id = ?", [(job,) for job, *_ in rows if job not in sample]
            )


if __name__ == "__main__":
    main(sys.argv[1])
