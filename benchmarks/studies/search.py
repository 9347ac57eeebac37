"""The runs of one setting on one task: a few learning rates, then the best of them from other seeds."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from benchmarks.quality.optimizers import OURS, Settings, rounded
from benchmarks.quality.resume import MissingRun, Record, recorded
from benchmarks.quality.task import Task

RATES = 4  # over two decades
BEYOND = 2  # further rates, one after the other, while the best is at an edge


class Outcome(NamedTuple):
    """Of a setting on a task."""

    validation: dict[float, float]  # by learning rate; infinite where a run diverged
    rate: float
    tests: list[Record]  # with this rate, one for each seed

    @property
    def at_edge(self) -> bool:
        """Whether a rate further out might have done better."""
        return self.rate in (min(self.validation), max(self.validation))


def rate_at(i: int) -> float:
    """A grid whose steps 0 to 3 are the two decades from 0.02 to 2."""
    return rounded(0.02 * 100 ** (i / (RATES - 1)))


def test_seeds(task: Task) -> range:
    """Of the reported runs, twice as many as there are seeds before them that a rate is chosen with."""
    return range(task.repeats, 3 * task.repeats)


def search(name: str, task: Task, settings: Settings, run: Callable[[Record], Record]) -> Outcome:
    """Asks for run after run, each known by what it is of."""

    def one(purpose: str, i: int, seed: int) -> Record:
        key = {"learning_rate": rate_at(i), **settings}
        return run(
            {"task": name, "optimizer": OURS, "settings": key, "seed": seed, "steps": task.steps, "purpose": purpose}
        )

    def loss(i: int) -> float:
        losses = [one("tuning", i, seed)["validation"] for seed in range(task.repeats)]
        return math.inf if None in losses else sum(losses) / len(losses)

    def best_of(losses: dict[int, float]) -> int:
        return min(losses, key=lambda i: (losses[i], i))  # the lowest rate where all diverged

    losses = {i: loss(i) for i in range(RATES)}
    for _ in range(BEYOND):
        best = best_of(losses)
        if best == min(losses):
            losses[best - 1] = loss(best - 1)
        elif best == max(losses):
            losses[best + 1] = loss(best + 1)
    best = best_of(losses)
    validation = {rate_at(i): losses[i] for i in sorted(losses)}
    return Outcome(validation, rate_at(best), [one("test", best, seed) for seed in test_seeds(task)])


def finished(name: str, task: Task, settings: Settings, runs: Iterable[Record]) -> Outcome | None:
    """What the runs of a file come to, or None while some are missing."""
    with contextlib.suppress(MissingRun):
        return search(name, task, settings, recorded(runs))
    return None
