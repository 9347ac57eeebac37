"""Tables in Markdown, and records in JSON."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks import machine


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def number(value: float | None, digits: int = 2) -> str:
    """The number rounded, or a dash where there is none."""
    return "-" if value is None or value != value else f"{value:,.{digits}f}"


def setting(record: dict[str, Any], when: str = "at the end") -> str:
    """One sentence on where and with what a record was measured."""
    where = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    devices = f"{where['cores']} cores of {where['processor']}; JAX on {', '.join(sorted(set(where['devices'])))}"
    return f"{devices}; load {where['load']:.1f} {when}; {versions}; commit {where['commit']}."


def save(record: dict[str, Any], table: str, folder: pathlib.Path, name: str) -> None:
    """Writes the record with the machine it was measured on as JSON, and the table beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / f"{name}.md").write_text(table)
    print(table)
    print(f"{folder / name}.json, {folder / name}.md")


def with_machine(**record: Any) -> dict[str, Any]:
    """A record that says where it was made."""
    return {"machine": machine.describe(), **record}
