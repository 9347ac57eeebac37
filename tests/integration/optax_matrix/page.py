"""The matrix as tables in Markdown."""

from __future__ import annotations

import pathlib

from . import composed, wrapped
from .harness import TRIED

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "compatibility.md"
BEGIN, END = "<!-- tables: begin (python -m tests.integration.optax_matrix) -->", "<!-- tables: end -->"
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
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"
