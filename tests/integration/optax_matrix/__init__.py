"""Every combination with optax that was tried, what came of it, and its check: the tables of docs/compatibility.md."""
