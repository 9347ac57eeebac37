"""What a step of every optimizer costs beside its framework's AdamW, on the same models, in one run.

Every row is timed between two blocks of AdamW, in shuffled order, round after round: its ratio is the median over the
rounds. Rows with an interval run whole multiples of it, one step with an estimate and the others without. It writes
cost.json, cost.md and two pictures into --out. --from draws an earlier run again; --publish puts table and pictures
into the documentation.

examples:
  python -m benchmarks.cost                     the whole table
  python -m benchmarks.cost --quick             MLP and transformer, few rounds: is it roughly so?
  python -m benchmarks.cost --models resnet20 --rows "ours, interval*" --rounds 20
  python -m benchmarks.cost --from out/cost.json --publish
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
from typing import Any

from benchmarks.cost import pictures, problems
from benchmarks.cost.measure import measure
from benchmarks.cost.table import tables
from benchmarks.report import save, with_machine
from benchmarks.timing import Plan

ROOT = pathlib.Path(__file__).parents[2]
PICTURES = {
    "cost_ratios.png": pictures.ratio_per_optimizer,
    "cost_intervals.png": pictures.ratio_against_interval,
}


def main(arguments: list[str] | None = None) -> None:
    """Measures, or reads an earlier run, and writes table and pictures."""
    options = _parser().parse_args(arguments)
    if options.earlier:
        _write(json.loads(options.earlier.read_text()), options.out)
    else:
        _run(options)
    if options.publish:
        shutil.copy(options.out / "cost.md", ROOT / "docs" / "tables" / "cost.md")
        for name in PICTURES:
            shutil.copy(options.out / name, ROOT / "docs" / "images" / name)


def _write(record: dict[str, Any], folder: pathlib.Path) -> None:
    save(record, tables(record), folder, "cost")
    for name, draw in PICTURES.items():
        draw(record).savefig(folder / name, dpi=120, metadata={"Software": None})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=problems.PROBLEMS, help="default: small ones; large on a GPU")
    parser.add_argument("--rows", nargs="+", default=["*"], help="names or patterns (default: all); AdamW always runs")
    parser.add_argument("--rounds", type=int, help=f"rounds of each row (default: {Plan().rounds})")
    parser.add_argument("--quick", action="store_true", help="MLP and transformer, short blocks, three rounds")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"), help="folder (default: out)")
    parser.add_argument("--from", dest="earlier", type=pathlib.Path, help="the cost.json of an earlier run")
    parser.add_argument("--publish", action="store_true", help="copies table and pictures into docs")
    return parser


def _run(options: argparse.Namespace) -> None:
    """Measures model after model, and writes what there is after each: a long run that is ended is not lost."""
    plan = Plan(rounds=3, block_seconds=0.05, row_seconds=3.0) if options.quick else Plan()
    if options.rounds:
        plan = plan._replace(rounds=options.rounds)
    measured: dict[str, Any] = {}
    for model in options.models or (["mlp", "transformer"] if options.quick else problems.default_names()):
        measured[model] = measure(model, options.rows, plan)
        _write(with_machine(plan=plan._asdict(), models=measured), options.out)


if __name__ == "__main__":
    main()
