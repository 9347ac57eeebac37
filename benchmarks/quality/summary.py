"""What the runs say: losses at equal cost, what AdamW's best loss costs, robustness, and the verdict on all tasks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.quality.optimizers import BASELINE, OURS, Settings

NEAR = 1.1  # times the lowest loss of a grid of rates

Runs = Sequence[dict[str, Any]]


class Loss(NamedTuple):
    """Over seeds. A run that diverged counts as infinite."""

    mean: float
    spread: float  # standard deviation; NaN where it has none


class Curve(NamedTuple):
    """The mean test loss over seeds on the way."""

    steps: np.ndarray
    seconds: np.ndarray
    test: np.ndarray


class Result(NamedTuple):
    """Of one optimizer on one task; None where there is none, or not yet."""

    settings: Settings
    steps: int
    equal_seconds: Loss
    equal_steps: Loss
    steps_to_best: float | None  # of AdamW's mean curve, over AdamW's steps
    seconds_to_best: float | None  # likewise, in seconds
    robustness: float | None
    defaults: Loss | None


Results = dict[str, dict[str, Result]]  # by task and optimizer


class Verdict(NamedTuple):
    """AdaHessian against AdamW, and its defaults against its tuned settings, on the tasks that have both."""

    tasks: int
    lower: int
    largest_excess: float  # of its loss over AdamW's
    sooner: int  # AdamW's best in at most 0.8 of its seconds
    robust: int
    defaults: int  # within 5%


def loss_of(runs: Iterable[dict[str, Any]]) -> Loss:
    """Mean and standard deviation of test losses."""
    losses = np.array([_number(run["test"]) for run in runs])
    spread = float(losses.std(ddof=1)) if len(losses) > 1 and np.isfinite(losses).all() else math.nan
    return Loss(float(losses.mean()), spread)


def mean_curve(runs: Runs) -> Curve:
    """The runs have the same steps."""
    test = np.mean([[_number(loss) for loss in run["curve"]["test"]] for run in runs], axis=0)
    return Curve(np.array(runs[0]["curve"]["steps"]), np.array(runs[0]["curve"]["seconds"]), test)


def losses_by_rate(runs: Runs) -> dict[float, float]:
    """The mean test loss over seeds of each learning rate."""
    rates = dict.fromkeys(run["settings"]["learning_rate"] for run in runs)
    return {rate: loss_of(run for run in runs if run["settings"]["learning_rate"] == rate).mean for rate in rates}


def robustness(runs: Runs) -> float:
    """The share of a grid of rates that ends within 10% of the grid's lowest test loss."""
    losses = np.array(list(losses_by_rate(runs).values()))
    return float(np.mean(np.isfinite(losses) & (losses <= NEAR * losses.min())))


def select(runs: Iterable[dict[str, Any]], **values: Any) -> list[dict[str, Any]]:
    """The runs with these values."""
    return [run for run in runs if all(run[name] == value for name, value in values.items())]


def curve_at_equal(cost: str, runs: Runs) -> Curve:
    """The mean curve of one study's reported runs at equal "steps" or "seconds", which may be the same."""
    return mean_curve((cost == "steps" and select(runs, purpose="equal steps")) or select(runs, purpose="test"))


def summarize(runs: Runs) -> Results:
    """The results of all studies that have come to their reported runs."""
    results: Results = {}
    for task, optimizer in dict.fromkeys((run["task"], run["optimizer"]) for run in select(runs, purpose="test")):
        adamw = select(runs, task=task, optimizer=BASELINE)
        results.setdefault(task, {})[optimizer] = _result(select(runs, task=task, optimizer=optimizer), adamw)
    return results


def judge(results: Results) -> Verdict:
    """Counts over the tasks."""
    pairs = [(r[OURS], r[BASELINE]) for r in results.values() if OURS in r and BASELINE in r]
    return Verdict(
        tasks=len(pairs),
        lower=sum(ours.equal_seconds.mean < adamw.equal_seconds.mean for ours, adamw in pairs),
        largest_excess=max((_excess(ours.equal_seconds, adamw.equal_seconds) for ours, adamw in pairs), default=0.0),
        sooner=sum(ours.seconds_to_best is not None and ours.seconds_to_best <= 0.8 for ours, _ in pairs),
        robust=sum((ours.robustness or 0.0) >= (adamw.robustness or 0.0) for ours, adamw in pairs),
        defaults=sum(
            ours.defaults is not None and _excess(ours.defaults, ours.equal_seconds) <= 0.05 for ours, _ in pairs
        ),
    )


def _result(runs: Runs, adamw: Runs) -> Result:
    tests, grid = select(runs, purpose="test"), select(runs, purpose="robustness")
    defaults = select(runs, purpose="defaults")
    return Result(
        settings=tests[0]["settings"],
        steps=tests[0]["steps"],
        equal_seconds=loss_of(tests),
        equal_steps=loss_of(select(runs, purpose="equal steps") or tests),
        steps_to_best=_cost_of_best("steps", runs, adamw),
        seconds_to_best=_cost_of_best("seconds", runs, adamw),
        robustness=robustness(grid) if grid else None,
        defaults=loss_of(defaults) if defaults else None,
    )


def _cost_of_best(cost: str, runs: Runs, adamw: Runs) -> float | None:
    """What it takes to come as low as AdamW's mean curve ever is, over what AdamW takes."""
    if not select(adamw, purpose="test"):
        return None
    reference, curve = curve_at_equal(cost, adamw), curve_at_equal(cost, runs)
    best = int(np.argmin(reference.test))
    if not math.isfinite(reference.test[best]):
        return None
    reached = np.flatnonzero(curve.test <= reference.test[best])
    return float(getattr(curve, cost)[reached[0]] / getattr(reference, cost)[best]) if len(reached) else None


def _excess(loss: Loss, reference: Loss) -> float:
    """Infinite for a loss that diverged, and none over a reference that did."""
    if not math.isfinite(loss.mean):
        return math.inf
    return loss.mean / reference.mean - 1 if math.isfinite(reference.mean) else 0.0


def _number(loss: float | None) -> float:
    return math.inf if loss is None else loss
