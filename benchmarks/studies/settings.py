"""The settings that the studies vary: those of the optimizer, of the loop, of the estimate and of the loss."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import optax

import optax_adahessian as oah
from benchmarks.quality.optimizers import Optimizer, Settings
from benchmarks.quality.training import due_at_once

# In float32 as good as none, and a number, so that bounded and unbounded runs share one program.
NO_BOUND = 1e30

DEFAULTS: Settings = {
    "b1": 0.99,
    "b2": 0.999,
    "eps": 1e-12,
    "hessian_power": 1.0,
    "time_average": "mean",
    "nesterov": True,
    "max_step": 0.004,
    "spatial_average": "none",
    "update_interval": 50,
    "start": "at once",
    "num_probes": 1,
    "loss_scale": 1.0,
}
PAPER: Settings = {
    "b1": 0.9,
    "eps": 1e-4,
    "time_average": "rms",
    "nesterov": False,
    "max_step": NO_BOUND,
    "start": "dense",  # without which it falls apart
}

AVERAGES = {
    "none": oah.SpatialAverage.none(),
    "rows": oah.SpatialAverage.rows("HWIO"),
    "rows, signed": oah.SpatialAverage.rows("HWIO", signed=True),
    "lengths(8)": oah.SpatialAverage.lengths(8, "HWIO"),
    "lengths(8), signed": oah.SpatialAverage.lengths(8, "HWIO", signed=True),
}


def _make(learning_rate: Any, spatial_average: str, **settings: Any) -> optax.GradientTransformation:
    return oah.adahessian(learning_rate, spatial_average=AVERAGES[spatial_average], **settings)


OPTIMIZER = Optimizer(
    make=_make,
    lowest_rate=0.02,
    defaults=DEFAULTS,
    rounds=(),
    static=("hessian_power", "time_average", "nesterov", "spatial_average"),
    takes_diagonal=True,
)


def growing_gap_due(step: int, update_interval: int) -> bool:
    """Whether a step estimates when the gap to the next estimate is min(update_interval, 1 + step // 10)."""
    return step in _growing_steps(update_interval, 1000 * (1 + step // 1000))


@functools.cache
def _growing_steps(update_interval: int, end: int) -> frozenset[int]:
    steps = itertools.accumulate(itertools.repeat(0), lambda step, _: step + min(update_interval, 1 + step // 10))
    return frozenset(itertools.takewhile(lambda step: step < end, steps))


STARTS: dict[str, Callable[[int, int], bool]] = {  # when an estimate is due, from step and interval
    "dense": oah.refresh_due,
    "at once": due_at_once,
    "growing gap": growing_gap_due,
}
