"""All runs of one optimizer on one task: tuning, reported results, robustness."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.quality.optimizers import BASELINE, OPTIMIZERS, OURS, TUNING_RUNS, Settings, rounded
from benchmarks.quality.resume import MissingRun, recorded, resumed
from benchmarks.quality.search import tune
from benchmarks.quality.seconds import Clock, clock_of, missing
from benchmarks.quality.task import Task
from benchmarks.quality.training import Trainer

EVALUATIONS = 40  # points of a curve


class Effort(NamedTuple):
    """How much is run."""

    share: float  # of the task's steps
    tuning_seeds: int  # over which losses are averaged, in the tuning and on the grid of robustness
    seeds: int  # other ones, of the reported runs
    whole_search: bool
    rates: int  # of the robustness grid, over four decades

    def budget(self, task: Task) -> int:
        """Steps of AdamW, whose seconds every optimizer gets."""
        return round(self.share * task.steps)


FULL = Effort(share=1.0, tuning_seeds=2, seeds=3, whole_search=True, rates=13)
QUICK = Effort(share=0.1, tuning_seeds=1, seeds=2, whole_search=False, rates=5)

Run = dict[str, Any]  # what a run is known by
Runner = Callable[[Run, Clock], dict[str, Any]]  # a finished record of it


class Study(NamedTuple):
    """Which one; `times` are the records of `seconds.measure`."""

    task_name: str
    task: Task
    optimizer: str
    effort: Effort
    times: Sequence[dict[str, Any]]

    @property
    def seeds(self) -> range:
        """Of the reported runs."""
        return range(self.effort.seeds * self.task.repeats)

    @property
    def tuning_seeds(self) -> range:
        """Of the tuning and the grid of robustness, none of them a seed of the reported runs."""
        return range(len(self.seeds), len(self.seeds) + self.effort.tuning_seeds * self.task.repeats)

    def clock(self, settings: Settings) -> Clock:
        """What the steps of a setting cost."""
        return clock_of(self.times, self.task_name, self.optimizer, settings)

    def run_counts(self) -> dict[str, int]:
        """Of all runs by purpose; those of equal steps fall out where a step costs what AdamW's does."""
        effort, optimizer = self.effort, OPTIMIZERS[self.optimizer]
        return {
            "tuning": len(self.tuning_seeds) * (TUNING_RUNS if effort.whole_search else len(optimizer.first_round)),
            "test": len(self.seeds),
            "equal steps": len(self.seeds) * (self.optimizer != BASELINE),
            "robustness": len(self.tuning_seeds) * effort.rates,
            "defaults": len(self.seeds) * (self.optimizer == OURS),
        }

    def expected_seconds(self, purpose: str) -> float:
        """Of one run: the seconds of AdamW, or at equal steps what they cost with the defaults."""
        clock, budget = self.clock(OPTIMIZERS[self.optimizer].defaults), self.effort.budget(self.task)
        return clock.seconds(budget) if purpose == "equal steps" else budget * clock.adamw_seconds

    def go(self, runner: Runner) -> None:
        """Asks for run after run, of which each may depend on the results of those before."""
        budget = self.effort.budget(self.task)

        def run(purpose: str, settings: Settings, seed: int, steps: int | None = None) -> dict[str, Any]:
            clock = self.clock(settings)
            key = {
                "task": self.task_name,
                "optimizer": self.optimizer,
                "settings": settings,
                "seed": seed,
                "steps": clock.steps_within(budget) if steps is None else steps,
                "purpose": purpose,
            }
            return runner(key, clock)

        def validation(settings: Settings) -> float | None:
            losses = [run("tuning", settings, seed)["validation"] for seed in self.tuning_seeds]
            return None if None in losses else sum(losses) / len(losses)

        tuned = tune(OPTIMIZERS[self.optimizer], validation, whole=self.effort.whole_search)
        results = [run("test", tuned.best, seed) for seed in self.seeds]
        if results[0]["steps"] != budget:
            for seed in self.seeds:
                run("equal steps", tuned.best, seed, budget)
        for factor in np.logspace(-2, 2, self.effort.rates):
            rate = rounded(factor * tuned.best["learning_rate"])
            for seed in self.tuning_seeds:
                run("robustness", tuned.best | {"learning_rate": rate}, seed)
        if self.optimizer == OURS:
            for seed in self.seeds:
                run("defaults", tuned.defaults, seed)


def finished_runs(study: Study, runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of a study among all runs of a file, which may hold runs of other settings, too."""
    if missing(study.times, study.task_name, [study.optimizer]):
        return []
    look_up, found = recorded(runs), []

    def run(key: Run, clock: Clock) -> dict[str, Any]:
        found.append(look_up(key, clock))
        return found[-1]

    with contextlib.suppress(MissingRun):
        study.go(run)
    return found


def training_runner(
    trainer: Trainer, finished: Iterable[dict[str, Any]], report: Callable[[dict[str, Any]], None]
) -> Runner:
    """Trains what is not finished, and reports each new record."""

    def train(key: Run, clock: Clock) -> dict[str, Any]:
        evaluations = 0 if key["purpose"] in ("tuning", "robustness") else EVALUATIONS
        result = trainer.train(key["settings"], key["seed"], key["steps"], evaluations)
        result["curve"]["seconds"] = [clock.seconds(step) for step in result["curve"]["steps"]]
        return result

    return resumed(finished, train, report)
