"""Step time of ours and of AdamW against the number of parameters and against the batch, on an MLP.

It writes scaling.json, scaling.md and scaling.png into --out. Sizes that memory does not hold are skipped with a line.

examples:
  python -m benchmarks.scaling
  python -m benchmarks.scaling --sizes 1e4 1e6 --batches 64 --rounds 5
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

from matplotlib.figure import Figure

from benchmarks.report import markdown, number, save, setting, with_machine
from benchmarks.scaling.measure import ROWS, against_batch, against_parameters
from benchmarks.timing import Plan
from optax_adahessian.analysis.palette import COLORS, MARKERS, label, new_figure

AXES = {"parameters": "parameters (batch of 64)", "batch_size": "batch ({parameters:,} parameters)"}


def main(arguments: list[str] | None = None) -> None:
    """Measures and writes tables and a picture."""
    options = _parser().parse_args(arguments)
    plan = Plan(rounds=options.rounds, block_seconds=0.1, row_seconds=20.0)
    record = with_machine(
        parameters=against_parameters(options.sizes, plan), batch_size=against_batch(options.batches, 1e6, plan)
    )
    save(record, tables(record), options.out, "scaling")
    picture(record).savefig(options.out / "scaling.png", dpi=120, metadata={"Software": None})
    print(options.out / "scaling.png")


def tables(record: dict[str, Any]) -> str:
    """AdamW's milliseconds, and the ratios of ours to them."""
    parts = [f"Measured on {setting(record)}\n"]
    adamw, *ours = ROWS
    for axis in AXES:
        rows = [
            [
                f"{point[axis]:,}",
                number(point["milliseconds"][adamw][1]),
                *("{1:.2f} ({0:.2f} to {2:.2f})".format(*point["ratio"][name]) for name in ours),
            ]
            for point in record[axis]
        ]
        parts.append(
            markdown([_axis_label(axis, record), f"{adamw}, ms", *(f"{name}, over it" for name in ours)], rows)
        )
    return "\n".join(parts)


def picture(record: dict[str, Any]) -> Figure:
    """The ratio of ours to AdamW's step, with quartiles."""
    figure = new_figure(8, 3.4)
    for ax, axis in zip(figure.subplots(1, 2, sharey=True), AXES, strict=True):
        sizes = [point[axis] for point in record[axis]]
        for name, color, marker in zip(ROWS[1:], COLORS, MARKERS, strict=False):
            low, middle, high = zip(*(point["ratio"][name] for point in record[axis]), strict=True)
            ax.plot(sizes, middle, color=color, marker=marker, markersize=4, label=name)
            ax.fill_between(sizes, low, high, color=color, alpha=0.2, linewidth=0)
        ax.set_xscale("log")
        label(ax, _axis_label(axis, record), "time over AdamW's")
    figure.axes[0].legend(fontsize=7)
    return figure


def _axis_label(axis: str, record: dict[str, Any]) -> str:
    return AXES[axis].format(parameters=record["batch_size"][0]["parameters"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes, batches = [1e4, 1e5, 1e6, 1e7, 1e8], [16, 64, 256, 1024, 4096]
    parser.add_argument("--sizes", nargs="+", type=float, default=sizes, help="parameters (default: 1e4 to 1e8)")
    parser.add_argument("--batches", nargs="+", type=int, default=batches, help="default: 16 to 4096")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of each row (default: 10)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"), help="folder (default: out)")
    return parser


if __name__ == "__main__":
    main()
