"""Which runs a row needs on a task, and what can be said of them."""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from benchmarks.train.optimizers import JOINT, WIDE, Row, Settings, rounded

Record = dict[str, Any]
Train = Callable[[Settings, int, int], Record]  # of settings, a seed and a number of steps


class Trial(NamedTuple):
    """One setting with its runs, of different seeds."""

    settings: Settings
    runs: list[Record]

    def losses(self, part: str = "test") -> list[float]:
        """Infinite where not finite."""
        return [math.inf if run[part] is None else run[part] for run in self.runs]

    def mean(self, part: str = "test") -> float:
        return sum(self.losses(part)) / len(self.runs)


class Result(NamedTuple):
    """What a row does on a task."""

    tuning: list[Trial]  # those that differ in the rate alone come first
    grid: list[Trial]  # over a wide range of rates, the other settings as they were at the start
    joint: list[Trial]  # over rates and values of the second number together
    final: Trial  # of the best settings; in a study the trial that was best
    equal_steps: Trial | None = None  # the same in as many steps as AdamW takes, with half of the seeds


def best(trials: Iterable[Trial]) -> Trial:
    """The lowest mean loss on the validation part."""
    return min(trials, key=lambda trial: trial.mean("validation"))


def try_all(train: Train, candidates: Iterable[Settings], seeds: Sequence[int], steps: int) -> list[Trial]:
    return [Trial(settings, [train(settings, seed, steps) for seed in seeds]) for settings in candidates]


def at_rates(row: Row, low: int, high: int, decay: float = 0.0) -> list[Settings]:
    """The settings that a row starts from, at rates around its middle."""
    numbers = row.numbers | ({"decay": decay} if decay else {})
    return [numbers | {"learning_rate": rate} for rate in row.rates(low, high)]


def compare(
    row: Row, train: Train, seeds: tuple[range, range], steps: int, adamw_steps: int, decays: Sequence[float] = ()
) -> Result:
    """Of a row of the main table: six rates, four values of its second number, two rates beside the best, the best."""
    grid_start = functools.partial(at_rates, row, decay=decays[0] if decays else 0.0)
    try_tuning = functools.partial(try_all, train, seeds=seeds[0], steps=steps)
    name, values = row.second
    grid = try_tuning(grid_start(*WIDE)) if row.grid else []
    together = itertools.product(grid_start(*JOINT) if row.joint else [], (row.numbers.get(name), *values))
    joint = try_tuning([settings | {name: value} for settings, value in together])
    tuning = try_tuning(grid_start(-2, 3))
    found = best(tuning).settings
    if name == "learning_rate":
        values = tuple(rounded(found[name] * value) for value in values)
    tuning += try_tuning([found | {name: value} for value in values])
    found = best(tuning).settings
    tuning += try_tuning([found | {"decay": decay} for decay in decays[1:]])
    found = best(tuning).settings
    tuning += try_tuning([found | {"learning_rate": rounded(found["learning_rate"] * x)} for x in (0.65, 1.5)])
    found = best(tuning).settings
    final, equal_steps = (seeds[1], steps), (seeds[1][: len(seeds[1]) // 2 or 1], adamw_steps)
    return Result(tuning, grid, joint, *(try_all(train, [found], *budget)[0] for budget in (final, equal_steps)))


def study(row: Row, train: Train, seeds: range, steps: int) -> Result:
    """Of a row of a study: the best of five rates is reported with the seeds that it was chosen with."""
    tuning = try_all(train, at_rates(row, -2, 2), seeds, steps)
    return Result(tuning, [], [], best(tuning))


def ratio(trial: Trial, reference: Trial) -> tuple[float, float]:
    """Mean loss over that of the reference, and its standard error, from pairs of runs that share a seed."""
    ours, theirs = trial.losses(), reference.losses()
    value = trial.mean() / reference.mean()
    rests = [a - value * b for a, b in zip(ours, theirs, strict=True)]  # whose mean is 0
    return value, standard_error(rests) / reference.mean()


def standard_error(values: Sequence[float]) -> float:
    """Of the mean; NaN of a single value, and of one that is not finite."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
