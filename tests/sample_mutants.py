"""Leaves 150 mutants, drawn with a fixed seed, in a session of cosmic-ray: ``python tests/sample_mutants.py SESSION``.

Left out are those that no test could miss, since Python cannot compile them (the star of a signature made a minus), and
those that none could find, since they stand in annotations, which are not evaluated.
"""

from __future__ import annotations

import ast
import functools
import random
import sqlite3
import sys
from pathlib import Path

from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec

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


def counts(mutant: MutationSpec) -> bool:
    """Whether a mutant compiles and is evaluated."""
    module = str(mutant.module_path)
    if any(first <= mutant.start_pos < last for first, last in annotations(module)):
        return False
    operator = get_operator(mutant.operator_name)(**mutant.operator_args)
    try:
        compile(mutate_code(Path(module).read_text(), operator, mutant.occurrence), module, "exec")
    except SyntaxError:
        return False
    return True


def main(session: str) -> None:
    """Deletes all but the sample from the session."""
    with use_db(session, WorkDB.Mode.open) as database:
        mutants = {item.job_id: item.mutations[0] for item in database.work_items}
    candidates = [job for job, mutant in mutants.items() if counts(mutant)]
    candidates.sort(
        key=lambda job: (str(mutants[job].module_path), mutants[job].operator_name, mutants[job].occurrence)
    )
    sample = random.Random(0).sample(candidates, SIZE)
    print(f"{len(mutants)} mutants, {len(candidates)} compile and are evaluated, {len(sample)} drawn")
    with sqlite3.connect(session) as connection:
        for table in ("mutation_specs", "work_items"):
            deleted = [(job,) for job in mutants if job not in sample]
            connection.executemany(f"DELETE FROM {table} WHERE job_id = ?", deleted)


if __name__ == "__main__":
    main(sys.argv[1])
