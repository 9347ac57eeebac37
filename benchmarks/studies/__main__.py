"""What each setting of AdaHessian buys: a table for each study of settings that differ in one thing.

Every setting is trained at four learning rates over two decades, and at up to two more while the best is at an edge.
The best on the validation part runs from two more seeds, whose test loss is reported; where seeds differ much there are
four times as many of both. All runs of a task take the same steps; what a step costs is another question, that of
benchmarks.cost. Each finished run is a line of studies.jsonl in --out: Ctrl-C ends the studies, and the same command
goes on with them. Settings that several studies share run once.

examples:
  python -m benchmarks.studies                      all: half an hour on two cores
  python -m benchmarks.studies rule --tasks mlp     one, on one of its tasks
  python -m benchmarks.studies --publish            copies the tables into the documentation
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import sys

from tqdm import tqdm

from benchmarks import machine
from benchmarks.quality.optimizers import Settings
from benchmarks.quality.store import Store
from benchmarks.quality.summary import select
from benchmarks.quality.tasks import TASKS
from benchmarks.quality.workers import results
from benchmarks.studies import jobs
from benchmarks.studies.registry import STUDIES, Study
from benchmarks.studies.search import Outcome, finished, test_seeds
from benchmarks.studies.table import Outcomes, tables

TABLES = pathlib.Path(__file__).parents[2] / "docs" / "tables"

Work = list[tuple[str, Settings]]  # tasks with settings


def main(arguments: list[str] | None = None) -> None:
    """Runs what is not there yet, and writes a table for each study."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := set(options.studies) - STUDIES.keys():
        parser.error(f"no study is called {', '.join(sorted(unknown))}; there are {', '.join(STUDIES)}.")
    if options.publish and options.tasks != list(TASKS):
        parser.error("the documentation shows all tasks of a study: leave out --tasks.")
    studies = {
        name: STUDIES[name]._replace(tasks=tuple(t for t in STUDIES[name].tasks if t in options.tasks))
        for name in options.studies or STUDIES
    }
    store = Store(options.out / "studies.jsonl")
    if not store.records:
        store.add({"kind": "machine", **machine.describe()})
    if not options.report:
        _run(store, _work(studies), options.workers)
    for name, study in studies.items():
        file = options.out / f"study_{name}.md"
        file.write_text(tables(store.records[0], study, _outcomes(store, study), TASKS))
        print(file)
        if options.publish:
            shutil.copy(file, TABLES / file.name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="*", metavar="NAME", help=f"of {', '.join(STUDIES)}; default: all")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="default: those of the study")
    parser.add_argument("--workers", type=int, default=machine.cores(), help="processes (default: the cores)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"), help="folder (default: out)")
    parser.add_argument("--report", action="store_true", help="runs nothing: tables of the tasks that are finished")
    parser.add_argument("--publish", action="store_true", help="copies the tables into docs")
    return parser


def _work(studies: dict[str, Study]) -> Work:
    """Each pair once, in the order of the studies."""
    work: Work = []
    for study in studies.values():
        pairs = [(task, settings) for task in study.tasks for settings in study.settings()]
        work += [pair for pair in pairs if pair not in work]
    return work


def _run(store: Store, work: Work, workers: int) -> None:
    """Trains what is missing; the bar counts tasks with settings."""
    runs = store.of_kind("run")
    open_work = [pair for pair in work if _finished(*pair, runs) is None]
    with tqdm(total=len(work), initial=len(work) - len(open_work), unit="setting") as bar:
        for record in results(jobs.train, [(*pair, _runs_of(*pair, runs)) for pair in open_work], workers):
            store.add(record)
            bar.set_postfix_str(record["task"], refresh=False)
            last = test_seeds(TASKS[record["task"]])[-1]
            bar.update(record["purpose"] == "test" and record["seed"] == last)


def _finished(task: str, settings: Settings, runs: list[jobs.Record]) -> Outcome | None:
    return finished(task, TASKS[task], settings, _runs_of(task, settings, runs))


def _runs_of(task: str, settings: Settings, runs: list[jobs.Record]) -> list[jobs.Record]:
    return [run for run in select(runs, task=task) if run["settings"].items() >= settings.items()]


def _outcomes(store: Store, study: Study) -> Outcomes:
    """Of the tasks on which the study is finished."""
    runs, outcomes = store.of_kind("run"), {}
    for task in study.tasks:
        found = {
            (label, task): _finished(task, settings, runs)
            for label, settings in zip(study.rows, study.settings(), strict=True)
        }
        if None not in found.values():
            outcomes |= found
    return outcomes


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Ended. The same command goes on with what is not finished.")
