"""What a worker does: the timing of a task's steps, or a study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.quality.optimizers import OPTIMIZERS, Settings
from benchmarks.quality.seconds import measure
from benchmarks.quality.study import Effort, Study, training_runner
from benchmarks.quality.tasks import TASKS
from benchmarks.quality.training import Trainer
from benchmarks.timing import Plan

Record = dict[str, Any]
Report = Callable[[Record], None]


def time_steps(job: tuple[str, Iterable[tuple[str, Settings]], Plan], report: Report) -> None:
    """Reports the seconds of a step of each optimizer and structure on one task."""
    name, wanted, plan = job
    for record in measure(name, TASKS[name], wanted, plan):
        report(record)


def train(job: tuple[str, str, Effort, Sequence[Record], Sequence[Record]], report: Report) -> None:
    """Reports each new run of a study; gets the times, and the finished runs."""
    name, optimizer, effort, times, finished = job
    study = Study(name, TASKS[name], optimizer, effort, times)
    study.go(training_runner(Trainer(study.task, OPTIMIZERS[optimizer]), finished, report))
