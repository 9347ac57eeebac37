"""Which optimizer trains better at equal cost: ten rows tuned alike on twelve tasks, and studies of the settings.

First the seconds of a step are measured. Then every row tries twelve settings on every task; the best on the validation
part is trained from other seeds, in the seconds that AdamW takes, and its loss on the test part is reported. Each
finished run is a line of train.jsonl in --out: Ctrl-C ends the run, and the same command goes on with it.

examples:
  python -m benchmarks.train                  the whole set: an hour and a quarter on two cores that are idle
  python -m benchmarks.train --quick          minutes: a tenth of the steps, two tasks, two seeds; does it work?
  python -m benchmarks.train --tasks relu --rows AdamW "AdaHessian (recommended)"
  python -m benchmarks.train --from benchmarks/records/train.jsonl --publish
"""

import argparse
import json
import pathlib
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from benchmarks import command_line, machine
from benchmarks.train import jobs, report
from benchmarks.train.optimizers import BASELINE
from benchmarks.train.pool import pool
from benchmarks.train.search import Record
from benchmarks.train.tasks import TASKS

QUICK_TASKS, QUICK_SHARE = ("relu", "cancer"), 0.1
TIMING_BAR = "timing: {n_fmt} of {total_fmt} rows, {elapsed} passed"
BAR = "training: {n_fmt} of {total_fmt} runs|{bar}| {elapsed} passed, {remaining} left"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is not there yet, or reads an earlier run, and writes tables and the picture."""
    parser = _parser()
    options = parser.parse_args(arguments)
    name = "train_quick" if options.quick else "train"
    path = options.earlier or options.out / f"{name}.jsonl"
    records = read(path)
    if options.earlier and not any(record["kind"] == "run" for record in records):
        parser.error(f"--from (={options.earlier}) is not a file with a finished run.")
    quick = records[0]["quick"] if records else options.quick
    if options.publish and quick:
        parser.error("a quick run is not for the documentation: leave out --quick.")
    tasks, share = options.tasks or (QUICK_TASKS if quick else TASKS), QUICK_SHARE if quick else 1.0
    rows = list(dict.fromkeys([BASELINE, *(options.rows or jobs.ALL_ROWS)]))
    if not options.earlier:
        _run(path, records, list(tasks), rows, share, options)
    results = report.finished(records, jobs.plan(tasks, rows, records, share))
    tables = {f"{name}_{part}": text for part, text in report.tables(records, results).items()}
    lines = "".join(json.dumps(record) + "\n" for record in records)
    command_line.write(options, "train", lines, tables, {f"{name}_rates": report.rates(results)})


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser("train", __doc__)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, help="default: all")
    parser.add_argument("--rows", nargs="+", choices=jobs.ALL_ROWS, metavar="ROW", help="default: all, and all studies")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, two tasks, two seeds")
    return parser


def read(path: pathlib.Path) -> list[Record]:
    """The records of a file, a line each; one that was cut off in the middle is left out, and so is what is none."""
    lines = path.read_text(errors="replace").splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.startswith('{"kind"') and line.endswith("}\n")]


def _run(path: Any, records: list[Record], tasks: list[str], rows: list[str], share: float, options: Any) -> None:
    """Times and trains what is not there yet, and adds it to the records and to the file."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))  # without a line that was cut off
    if not records:
        shutil.rmtree(options.out / "cache", ignore_errors=True)  # since compilation is timed
    with path.open("a") as file, pool(machine.cores(), options.out / "cache") as results:

        def add(record: Record) -> None:
            records.append(record)
            print(json.dumps(record), file=file, flush=True)

        if not records:
            add({"kind": "machine", "quick": share < 1.0, **machine.describe()})
        timed = {(record["task"], record["row"]) for record in records if record["kind"] == "seconds"}
        left = {task: [row for row in rows if jobs.is_for(row, task) and (task, row) not in timed] for task in tasks}
        timings = [(task, missing, 3 if share < 1.0 else 5) for task, missing in left.items() if missing]
        timed_rows = results(jobs.time_steps, timings, at_once=1)
        for record in tqdm(timed_rows, total=sum(map(len, left.values())), bar_format=TIMING_BAR):
            add(record)

        seconds = {r["task"]: r["step_seconds"] for r in records if r["kind"] == "seconds" and r["row"] == BASELINE}
        left = {job: job.steps_left(records) for job in jobs.plan(tasks, rows, records, share)}
        longest_first = sorted(filter(left.get, left), key=lambda job: -sum(left[job]) * seconds[job.task])
        trained = results(jobs.train, [(job, job.known(records)) for job in longest_first])
        for record in tqdm(trained, total=sum(map(len, left.values())), bar_format=BAR):
            add(record)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Ended. The same command goes on with what is not finished.")
