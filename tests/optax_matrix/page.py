"""The matrix as tables in Markdown."""

from __future__ import annotations

import pathlib

from . import accumulation, chains, estimators, hyperparameters, parts, searches, states, wrappers
from .row import TRIED, Row

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "compatibility.md"
BEGIN, END = "<!-- tables: begin (python -m tests.optax_matrix) -->", "<!-- tables: end -->"
GROUPS = (chains, searches, hyperparameters, parts, wrappers, accumulation, estimators, states)


def rows_of(group) -> list[Row]:
    """The rows of a module, in the order in which it defines them."""
    return [value for value in vars(group).values() if isinstance(value, Row)]


def tables() -> str:
    """A table for each group, headed by the module's docstring."""
    lines = [f"Tried with optax {TRIED['optax']} and JAX {TRIED['jax']}."]
    for group in GROUPS:
        lines += [
            "",
            f"### {group.__doc__}",
            "",
            "| combination | `obj_fn` | `hessian_diag` | remark |",
            "|---|---|---|---|",
        ]
        lines += [f"| {r.combination} | {r.obj_fn.word} | {r.hessian_diag.word} | {r.remark} |" for r in rows_of(group)]
    return "\n".join(lines)


def renewed(text: str) -> str:
    """The text of the page with new tables between the marks."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"
