"""With the value of the loss: plateaus and line searches"""

from __future__ import annotations

from typing import Any

import numpy as np
import optax

from .problem import BATCHES, RATE, Rule, Step, adahessian, assert_trains_as, loss_fn, unflat
from .row import Way, refuses, row


@row("`optax.contrib.reduce_on_plateau` after it")
def plateau(way: Way) -> None:
    """Pass its `value=` beside ours."""
    rule, scale = Rule(), [1.0]

    def by_hand(s: Step):
        scale.append(1.0 if s.t == 0 else scale[-1] / 2)  # the same value again and again is no improvement
        return -RATE * scale[-1] * rule(s.g, s.h)

    tx = optax.chain(adahessian(RATE), optax.contrib.reduce_on_plateau(factor=0.5, patience=1))
    assert_trains_as(by_hand, tx, way, more=lambda batch, value, grads: {"value": 1.0})


@row("`optax.scale_by_polyak` after it")
def polyak(way: Way) -> None:
    """Pass its `value=` beside ours."""
    rule = Rule()

    def by_hand(s: Step):
        u = -RATE * rule(s.g, s.h)
        return u * min(s.value / (u @ u), 1.0)

    tx = optax.chain(adahessian(RATE), optax.scale_by_polyak())
    assert_trains_as(by_hand, tx, way, more=lambda batch, value, grads: {"value": value})


def searched(batch: Any, value: Any, grads: Any) -> dict[str, Any]:
    """The arguments of a line search whose `value_fn` names ours."""

    def value_fn(params, obj_fn=None, hessian_diag=None):
        return loss_fn(params, batch)

    return {"value": value, "grad": grads, "value_fn": value_fn}


def backtracked(s: Step, u: np.ndarray, rate: float, steps: int) -> float:
    """The first of the rates, each 0.8 of the one before, at which the loss has fallen enough."""
    for _ in range(steps):
        if float(loss_fn(unflat(s.w + rate * u), BATCHES[s.t])) <= s.value + 1e-4 * rate * (u @ s.g):
            break
        rate *= 0.8
    return rate


@row("`optax.scale_by_backtracking_linesearch` after it")
def backtracking(way: Way) -> None:
    """`value_fn` must name our arguments among its own, since the search hands all of them to it."""
    rule, rates = Rule(b1=0.0), [1.0]

    def by_hand(s: Step):
        u = -5 * rule(s.g, s.h)
        rates.append(backtracked(s, u, min(1.5 * rates[-1], 1.0), 20))
        return rates[-1] * u

    tx = optax.chain(adahessian(5.0, b1=0.0), optax.scale_by_backtracking_linesearch(20))
    assert_trains_as(by_hand, tx, way, more=searched)
    assert min(rates) < 1.0


@row(
    "the same, with a `value_fn` of the parameters alone",
    obj_fn=refuses("not consumed by `value_fn`: .'obj_fn'"),
    hessian_diag=refuses("not consumed by `value_fn`: .'hessian_diag'"),
)
def backtracking_alone(way: Way) -> None:
    """The error is optax's, and names the arguments; `**kwargs` in `value_fn` is not enough for it."""
    more = {"value": 1.0, "grad": {}, "value_fn": lambda params, **kwargs: 0.0}
    tx = optax.chain(adahessian(RATE), optax.scale_by_backtracking_linesearch(20))
    assert_trains_as(Rule(), tx, way, more=lambda batch, value, grads: more)
