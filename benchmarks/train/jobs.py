"""What the processes do: compile, time the steps of a task, or train everything of a row on a task."""

import functools
import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from benchmarks.timing import Plan, Subject, interleaved, quartiles
from benchmarks.train import search
from benchmarks.train.optimizers import BASELINE, ROWS, STUDIES, STUDY_ROWS, Settings
from benchmarks.train.search import Record, Result, Train
from benchmarks.train.tasks import load
from benchmarks.train.training import DENSE_START, Trainer

ALL_ROWS = ROWS | STUDY_ROWS


class Job(NamedTuple):
    """A row on a task."""

    task: str
    row: str
    steps: int  # that take as long as `adamw_steps` of AdamW; in studies the same number, or the row's own
    adamw_steps: int
    share: float = 1.0  # of the seeds

    def result(self, known: dict[Any, Record], train: Train) -> Result:
        """All runs of the job, those that are not known by `train`."""
        row, task = ALL_ROWS[self.row], load(self.task)
        seeds = (task.seeds / 3, task.seeds, max(4, task.seeds / 2))
        tuning, final, studied = (max(2, round(self.share * n)) for n in seeds)

        def run(settings: Settings, seed: int, steps: int) -> Record:
            if (key := _key(settings, seed, steps)) not in known:
                known[key] = train(settings, seed, steps)
            return known[key]

        if self.row in STUDY_ROWS:
            return search.study(row, run, range(studied), self.steps)
        parts = range(tuning), range(1000, 1000 + final)
        return search.compare(row, run, parts, self.steps, self.adamw_steps, task.decays)

    def known(self, records: Iterable[Record]) -> dict[Any, Record]:
        """The finished runs of the job, by what makes two runs the same."""
        mine = (r for r in records if r["kind"] == "run" and (r["task"], r["row"]) == (self.task, self.row))
        return {_key(record["settings"], record["seed"], record["steps"]): record for record in mine}

    def steps_left(self, records: Iterable[Record]) -> list[int]:
        """The steps of each run that is not finished. Which settings will be chosen makes no difference to them."""
        left: list[int] = []

        def pretend(settings: Settings, seed: int, steps: int) -> Record:
            left.append(steps)
            return {"validation": settings["learning_rate"], "test": 0.0}

        self.result(self.known(records), pretend)
        return left


def _key(settings: Settings, seed: int, steps: int) -> Any:
    return tuple(sorted(settings.items())), seed, steps


def plan(tasks: Iterable[str], rows: Sequence[str], records: Iterable[Record], share: float) -> list[Job]:
    """All jobs of the main table whose steps are timed, and of the studies."""
    ratios, jobs = {(r["task"], r["row"]): r["ratio"] for r in records if r["kind"] == "seconds"}, []
    for task, row in itertools.product(tasks, rows):
        if (task, row) in ratios or any(task in studied and row in study for studied, study in STUDIES.values()):
            steps = round(share * (ALL_ROWS[row].steps or load(task).steps))
            jobs.append(Job(task, row, round(steps / ratios.get((task, row), 1.0)), steps, share))
    return jobs


def is_for(row: str, task: str) -> bool:
    """Whether a row of the main table is for this task."""
    return row in ROWS and task in (ROWS[row].tasks or [task])


@functools.lru_cache(maxsize=64)
def _trainer(task: str, row: str) -> Trainer:
    return Trainer(load(task), ALL_ROWS[row])


def time_steps(report: Callable[[Record], None], task: str, rows: Sequence[str], rounds: int) -> None:
    """Every row in turns with AdamW: a fifth of a run, with its share of the dense start."""
    steps = math.ceil(load(task).steps / 50) * 10
    dense_start = round(DENSE_START * steps / load(task).steps)
    trainers = {row: _trainer(task, row) for row in dict.fromkeys([BASELINE, *rows])}

    def subject(trainer: Trainer) -> Subject:
        return Subject(lambda runs: sum(trainer.seconds(steps, dense_start) for _ in range(runs)), 1, BASELINE)

    subjects = {row: subject(trainer) for row, trainer in trainers.items()}
    times = interleaved(subjects, Plan(rounds, block_seconds=0.1))
    for row in rows:
        low, ratio, high = (1.0, 1.0, 1.0) if row == BASELINE else quartiles(times[row].ratios)
        measured = {"step_seconds": statistics.median(times[row].seconds) / steps, "ratio": ratio}
        measured |= {"quartiles": [low, high], "compile_seconds": trainers[row].compile_seconds}
        report({"kind": "seconds", "task": task, "row": row, **measured})


def train(report: Callable[[Record], None], job: Job, known: dict[Any, Record]) -> None:
    """Reports each run that is not known yet."""
    trainer = _trainer(job.task, job.row)

    def run(settings: Settings, seed: int, steps: int) -> Record:
        record = {"kind": "run", "task": job.task, "row": job.row, "settings": settings, "seed": seed, "steps": steps}
        record |= trainer.train(settings, seed, steps)
        report(record)
        return record

    job.result(known, run)
