"""The state of every optimizer, in units of the parameters it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

import optax_adahessian as oah
from benchmarks.cost.peers import installed, torch_rows_of
from benchmarks.models import Problem
from benchmarks.programs import tree_bytes

AVERAGES = {
    "none": oah.SpatialAverage.none(),
    "conv": oah.SpatialAverage.conv("HWIO"),
    "lengths of 32": oah.SpatialAverage.lengths(32, "HWIO"),
    "rows": oah.SpatialAverage.rows("HWIO"),
}


def state_bytes(problem: Problem, model: str, say: Callable[[str], None]) -> dict[str, int]:
    """The bytes of each state; `say` gets a line for each peer that is skipped."""
    inits: dict[str, Callable[[Any], Any]] = {"optax.adamw": optax.adamw(1e-3).init}
    inits |= {f"ours, {name}": oah.adahessian(spatial_average=average).init for name, average in AVERAGES.items()}
    inits["optax.contrib.sophia"] = optax.contrib.sophia(1e-3).init
    if installed("somax", "python-somax", say):
        import somax

        inits["somax.adahessian"] = somax.adahessian(loss_fn=problem.loss_fn).init
    sizes = {name: tree_bytes(jax.eval_shape(init, problem.params)) for name, init in inits.items()}
    for rows in torch_rows_of(problem, model, say).values():
        sizes |= {name: make().state_bytes for name, make in rows.items() if not name.endswith("interval 10")}
    return sizes


def in_parameters(problem: Problem, model: str, say: Callable[[str], None]) -> dict[str, float]:
    """Each state over the parameters."""
    return {name: size / tree_bytes(problem.params) for name, size in state_bytes(problem, model, say).items()}
