"""The tuning of an optimizer: rounds of runs, each around the best of those before."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.quality.optimizers import FACTORS, Optimizer, Settings, rounded


class Tuned(NamedTuple):
    """The best settings of all runs, and the best of those that differ from the defaults in the rate alone."""

    best: Settings
    defaults: Settings


def tune(optimizer: Optimizer, loss_of: Callable[[Settings], float | None], *, whole: bool = True) -> Tuned:
    """Chooses by the loss, where None means that a run diverged; the first round alone unless it is the `whole`."""
    tried: list[tuple[float, Settings]] = []

    def try_all(centre: Settings, changes: tuple[Settings, ...]) -> Settings:
        for settings in (centre | change for change in changes):
            loss = loss_of(settings)
            tried.append((math.inf if loss is None else loss, settings))
        return min(tried, key=lambda run: run[0])[1]

    best = try_all(optimizer.defaults, optimizer.first_round)
    if whole:
        for changes in optimizer.rounds:
            best = try_all(best, changes)
        best = try_all(best, tuple({"learning_rate": rounded(f * best["learning_rate"])} for f in FACTORS))
    at_defaults = [run for run in tried if run[1].items() >= optimizer.defaults.items()]
    return Tuned(best, min(at_defaults, key=lambda run: run[0])[1])
