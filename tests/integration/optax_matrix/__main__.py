"""``python -m tests.integration.optax_matrix``: writes the tables of docs/compatibility.md."""

from .page import PAGE, renewed

PAGE.write_text(renewed(PAGE.read_text()))
