"""What a step costs, measured alone and in turns before any training, and what fits into the seconds of AdamW."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.quality.optimizers import BASELINE, OPTIMIZERS, Settings
from benchmarks.quality.task import Task
from benchmarks.quality.training import Loop, Trainer
from benchmarks.timing import Plan, Subject, Times, interleaved, quartiles

RATE = 1e-6  # so low that nothing converges or diverges while it is timed


class Clock(NamedTuple):
    """The cost of a setting's steps."""

    ratio: float  # of a step, in units of one of AdamW
    adamw_seconds: float  # of a step

    def seconds(self, steps: float) -> float:
        """Of so many steps."""
        return steps * self.ratio * self.adamw_seconds

    def steps_within(self, adamw_steps: int) -> int:
        """As many as take the time of so many steps of AdamW."""
        return max(1, round(adamw_steps / self.ratio))


def clock_of(records: Iterable[dict[str, Any]], task: str, optimizer: str, settings: Settings) -> Clock:
    """The clock of a setting from the records of `measure`."""
    times = {(r["optimizer"], tuple(sorted(r["structure"].items()))): r for r in records if r["task"] == task}
    structure = OPTIMIZERS[optimizer].structure(settings)
    return Clock(times[optimizer, tuple(sorted(structure.items()))]["ratio"], times[BASELINE, ()]["seconds"])


def missing(records: Sequence[dict[str, Any]], task: str, optimizers: Iterable[str]) -> list[tuple[str, Settings]]:
    """The structures of optimizers, and of AdamW, that the records do not hold yet."""
    wanted = [
        (name, structure)
        for name in dict.fromkeys([BASELINE, *optimizers])
        for structure in OPTIMIZERS[name].structures()
    ]
    held = [(record["optimizer"], record["structure"]) for record in records if record["task"] == task]
    return [pair for pair in wanted if pair not in held]


def measure(name: str, task: Task, wanted: Iterable[tuple[str, Settings]], plan: Plan) -> list[dict[str, Any]]:
    """Seconds of a step, and their ratio to AdamW's, of each optimizer and structure. One batch."""
    wanted = list(wanted)
    batch = jax.device_put(task.data(0).batch_at(np.random.default_rng(0)))
    trainers = {optimizer: Trainer(task, OPTIMIZERS[optimizer]) for optimizer in (BASELINE, *dict(wanted))}
    subjects = {_label(*pair): _subject(trainers[pair[0]], pair[1], batch) for pair in [*wanted, (BASELINE, {})]}
    for subject in subjects.values():
        subject.train(subject.interval)  # compiles
    times = interleaved(subjects, plan, label=f"{name}: seconds of a step")
    return [_record(name, optimizer, structure, times[_label(optimizer, structure)]) for optimizer, structure in wanted]


def _subject(trainer: Trainer, structure: Settings, batch: Any) -> Subject:
    settings = {"learning_rate": RATE} | trainer.optimizer.defaults | structure
    loop = Loop(trainer, settings, seed=0, steps=1_000_000)

    def train(steps: int) -> None:
        for _ in range(steps):
            loop.step(batch)
        jax.block_until_ready(loop.params)

    return Subject(train, settings.get("update_interval", trainer.optimizer.cycle), _label(BASELINE, {}))


def _label(optimizer: str, structure: Settings) -> str:
    return f"{optimizer} {structure}"


def _record(task: str, optimizer: str, structure: Settings, times: Times) -> dict[str, Any]:
    ratio = quartiles(times.ratios)
    return {
        "kind": "seconds",
        "task": task,
        "optimizer": optimizer,
        "structure": structure,
        "seconds": float(np.median(times.seconds)),
        "ratio": 1.0 if optimizer == BASELINE else ratio[1],  # not the noise between two blocks of it
        "quartiles": ratio,
    }
