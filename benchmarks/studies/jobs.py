"""What a worker does: all runs of one setting on one task."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from benchmarks.quality.optimizers import Settings
from benchmarks.quality.resume import Record, resumed
from benchmarks.quality.tasks import TASKS
from benchmarks.quality.training import Trainer
from benchmarks.studies.search import search
from benchmarks.studies.settings import OPTIMIZER, STARTS


def train(job: tuple[str, Settings, Sequence[Record]], report: Callable[[Record], None]) -> None:
    """Reports each run that is not among the finished ones."""
    name, settings, finished = job

    def run(key: Record) -> Record:
        return _run(name, key["settings"], key["seed"], key["steps"])

    search(name, TASKS[name], settings, resumed(finished, run, report))


def _run(task: str, settings: Settings, seed: int, steps: int) -> Record:
    settings = dict(settings)
    trainer = _trainer(task, settings.pop("num_probes"), settings.pop("loss_scale"))
    due = STARTS[settings.pop("start")]
    return trainer.train(settings, seed, steps, due=due)


@functools.cache  # which keeps the programs that one worker has compiled
def _trainer(name: str, num_probes: int, loss_scale: float) -> Trainer:
    task = TASKS[name]
    scaled = task._replace(loss_fn=lambda params, batch: loss_scale * task.loss_fn(params, batch))
    return Trainer(scaled, OPTIMIZER, num_probes)
