"""The matrix as tables in Markdown."""

import pathlib

from benchmarks.pages import with_tables

from . import composed, wrapped
from .harness import TRIED

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "compatibility.md"
GROUPS = [*composed.GROUPS, *wrapped.GROUPS]


def tables() -> str:
    """A table for each group."""
    lines = [f"Tried with optax {TRIED['optax']} and JAX {TRIED['jax']}."]
    for group in GROUPS:
        lines += [
            "",
            f"### {group.title}",
            "",
            "| combination | `obj_fn` | `hessian_diag` | remark |",
            "|---|---|---|---|",
        ]
        lines += [f"| {r.combination} | {r.obj_fn.word} | {r.hessian_diag.word} | {r.remark} |" for r in group.rows]
    return "\n".join(lines)


def renewed(text: str) -> str:
    """The text of the page with new tables between the marks."""
    return with_tables(text, {"optax_matrix": tables()})
