"""The record of a run as tables in Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.report import markdown, number, setting

HEADER = (
    "optimizer",
    "ms per step (quartiles)",
    "over AdamW (quartiles)",
    "FLOPs over AdamW",
    "compile s",
    "temporary MB",
    "state, in parameters",
)


def tables(record: dict[str, Any]) -> str:
    """One table for each model, under one line on machine and versions."""
    parts = [f"Measured on {setting(record)}\n"]
    for model, measured in record["models"].items():
        parts.append(f"**{model}**, {measured['parameters']:,} parameters:\n")
        parts.append(markdown(HEADER, (_cells(name, row) for name, row in measured["rows"].items())))
        parts.extend(f"{line}\n" for line in measured["skipped"])
    return "\n".join(parts)


def _cells(name: str, row: dict[str, Any]) -> list[str]:
    (low_ms, ms, high_ms), (low, ratio, high) = row["milliseconds"], row["ratio"]
    return [
        name,
        f"{number(ms)} ({number(low_ms)} to {number(high_ms)})",
        f"{number(ratio)} ({number(low)} to {number(high)})",
        number(row["flops_ratio"]),
        number(row["compile_seconds"], 1),
        number(None if row["temp_bytes"] is None else row["temp_bytes"] / 1e6, 1),
        number(row["state_per_parameter"]),
    ]
