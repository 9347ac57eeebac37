"""Temporary memory of an estimate against its probes, and the states of all optimizers.

Nothing is timed: the temporary bytes are those that XLA reserves for the compiled program. It writes memory.json and
memory.md into --out.

examples:
  python -m benchmarks.memory
  python -m benchmarks.memory --models transformer --probes 1 4 16
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

from benchmarks.cost.problems import PROBLEMS, SMALL
from benchmarks.memory import states, temporary
from benchmarks.report import markdown, number, save, setting, with_machine


def main(arguments: list[str] | None = None) -> None:
    """Measures and writes two tables."""
    options = _parser().parse_args(arguments)
    skipped: dict[str, None] = {}  # in order, each once
    record = with_machine(
        temporary={name: temporary.measure(PROBLEMS[name](), options.probes, name) for name in options.models},
        states={
            name: states.in_parameters(PROBLEMS[name](), name, lambda line: skipped.setdefault(line))
            for name in options.states
        },
        skipped=list(skipped),
    )
    save(record, tables(record), options.out, "memory")


def tables(record: dict[str, Any]) -> str:
    """Temporary megabytes for each number of probes, their operations, and the states."""
    parts = [f"Measured on {setting(record)}\n"]
    for model, ways in record["temporary"].items():
        gradient, *others = ways.items()
        probes = list(others[0][1])
        megabytes = gradient[1][0]["temp_bytes"] / 1e6
        parts.append(
            f"**{model}**, temporary MB ({number(megabytes, 1)} for the gradient alone), operations in gradients:\n"
        )
        header = ["probes", *(f"{way}, {what}" for way, _ in others for what in ("MB", "gradients"))]
        rows = [[str(n), *(cell for _, costs in others for cell in _cells(costs[n]))] for n in probes]
        parts.append(markdown(header, rows))
    names = next(iter(record["states"].values()))
    parts.append("State, in units of the parameters:\n")
    rows = [[name, *(number(sizes[name]) for sizes in record["states"].values())] for name in names]
    parts.append(markdown(["optimizer", *record["states"]], rows))
    return "\n".join([*parts, *record["skipped"]])


def _cells(costs: dict[str, float]) -> list[str]:
    return [number(costs["temp_bytes"] / 1e6, 1), number(costs["gradients"])]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = ["mlp", "conv_net", "transformer"]
    parser.add_argument("--models", nargs="+", choices=PROBLEMS, default=default, help="for the temporary memory")
    parser.add_argument("--probes", nargs="+", type=int, default=[1, 2, 4, 8], help="default: 1 2 4 8")
    parser.add_argument("--states", nargs="+", choices=PROBLEMS, default=list(SMALL), help="models for the states")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"), help="folder (default: out)")
    return parser


if __name__ == "__main__":
    main()
