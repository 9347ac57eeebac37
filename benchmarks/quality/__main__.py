"""Which optimizer trains better at equal cost: five optimizers, tuned alike, on six tasks.

First the seconds of a step are measured, one after the other. Then every optimizer tries, on every task, twelve
settings, each with two seeds, or more where seeds differ much, and in the seconds that AdamW takes; the best on the
validation part runs from other seeds, three for every two, and over a grid of learning rates. All that is reported is
measured on the test part. Each finished run is a line of quality.jsonl in --out: Ctrl-C ends the run, and the same
command goes on with it.

examples:
  python -m benchmarks.quality                      the whole set: three quarters of an hour on two cores
  python -m benchmarks.quality --quick              minutes: a tenth of the steps, few settings; does it work?
  python -m benchmarks.quality --tasks mlp poisson --optimizers AdamW AdaHessian
  python -m benchmarks.quality --from out/quality.jsonl --publish
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import sys

from benchmarks import machine
from benchmarks.quality import jobs, pictures
from benchmarks.quality.jobs import Record
from benchmarks.quality.optimizers import OPTIMIZERS
from benchmarks.quality.progress import Progress, expected_seconds
from benchmarks.quality.seconds import missing
from benchmarks.quality.store import Store, read
from benchmarks.quality.study import FULL, QUICK, Study, finished_runs
from benchmarks.quality.summary import select
from benchmarks.quality.table import tables
from benchmarks.quality.tasks import TASKS
from benchmarks.quality.workers import results
from benchmarks.timing import Plan

ROOT = pathlib.Path(__file__).parents[2]
PLAN = Plan(rounds=9, block_seconds=0.2, row_seconds=10.0)
QUICK_PLAN = Plan(rounds=3, block_seconds=0.05, row_seconds=3.0)


def main(arguments: list[str] | None = None) -> None:
    """Runs what is not there yet, or reads an earlier run, and writes tables and pictures."""
    parser = _parser()
    options = parser.parse_args(arguments)
    earlier = read(options.earlier) if options.earlier else []
    quick = earlier[0]["quick"] if earlier else options.quick
    if options.publish and quick:
        parser.error("a quick run is not for the documentation: leave out --quick.")
    name = "quality_quick" if quick else "quality"
    records = earlier if options.earlier else _run(options.out / f"{name}.jsonl", options)
    runs = _runs_of(_studies(records, options), records)
    if not select(runs, purpose="test"):
        parser.error(f"{options.earlier} holds no reported run of the present tasks and settings.")
    _write(records, runs, options.out, name)
    if options.publish:
        shutil.copy(options.out / "quality.md", ROOT / "docs" / "tables" / "quality.md")
        for picture in pictures.PICTURES:
            shutil.copy(options.out / f"quality_{picture}.png", ROOT / "docs" / "images" / f"quality_{picture}.png")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="default: all")
    parser.add_argument("--optimizers", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS), help="default: all")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, few settings, two seeds")
    parser.add_argument("--workers", type=int, default=machine.cores(), help="processes (default: the cores)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"), help="folder (default: out)")
    parser.add_argument("--from", dest="earlier", type=pathlib.Path, help="the quality.jsonl of an earlier run")
    parser.add_argument("--publish", action="store_true", help="copies tables and pictures into docs")
    return parser


def _run(path: pathlib.Path, options: argparse.Namespace) -> list[Record]:
    """Measures the steps that are not timed yet, then goes on with the studies, those that take longest first."""
    store = Store(path)
    if not store.records:
        store.add({"kind": "machine", "quick": options.quick, **machine.describe()})
    plan, timed = (QUICK_PLAN if options.quick else PLAN), store.of_kind("seconds")
    untimed = [(task, wanted, plan) for task in options.tasks if (wanted := missing(timed, task, options.optimizers))]
    for record in results(jobs.time_steps, untimed, processes=1):
        store.add(record)

    studies = sorted(_studies(store.records, options), key=expected_seconds, reverse=True)
    finished = [finished_runs(study, store.of_kind("run")) for study in studies]
    work = [(s.task_name, s.optimizer, s.effort, s.times, runs) for s, runs in zip(studies, finished, strict=True)]
    progress = Progress(studies, finished)
    with progress.bar:
        for record in results(jobs.train, work, options.workers):
            store.add(record)
            progress.add(record)
    return store.records


def _studies(records: list[Record], options: argparse.Namespace) -> list[Study]:
    """Those asked for, in the order of the registries."""
    if not records:
        return []
    effort, times = (QUICK if records[0]["quick"] else FULL), select(records, kind="seconds")
    return [
        Study(task, TASKS[task], optimizer, effort, select(times, task=task))
        for task in TASKS
        for optimizer in OPTIMIZERS
        if task in options.tasks and optimizer in options.optimizers
    ]


def _runs_of(studies: list[Study], records: list[Record]) -> list[Record]:
    """The runs that belong to these studies, and none of other settings that the file may hold."""
    runs = select(records, kind="run")
    return [run for study in studies for run in finished_runs(study, runs)]


def _write(records: list[Record], runs: list[Record], folder: pathlib.Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = tables(records[0], select(records, kind="seconds"), runs, TASKS)
    (folder / f"{name}.md").write_text(table)
    for picture, draw in pictures.PICTURES.items():
        draw(runs, TASKS).savefig(folder / f"{name}_{picture}.png", dpi=120, metadata={"Software": None})
    print(table)
    print(f"{folder / name}.md")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Ended. The same command goes on with what is not finished.")
