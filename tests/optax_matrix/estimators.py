"""Estimators"""

from __future__ import annotations

import jax
import numpy as np
import optax

import optax_adahessian as oah

from .problem import BATCHES, RATE, Rule, Step, adahessian, assert_trains_as, feed, flat, unflat
from .row import NO_CELL, Way, row


@row("`oah.hutchinson` in `optax.contrib.sophia`", hessian_diag=NO_CELL)
def ours_in_sophia(way: Way) -> None:
    """As its `hessian_diagonal_fn`."""
    moments = {"mu": np.zeros(8), "nu": np.zeros(8)}

    def by_hand(s: Step):
        mu, nu = 0.965 * moments["mu"] + 0.035 * s.g, moments["nu"]
        direction = np.clip(mu / (1 - 0.965 ** (s.t + 1)) / np.maximum(0.01 * nu, 1e-8), -1, 1)
        moments.update(mu=mu, nu=nu if s.t % 2 else 0.99 * nu + 0.01 * s.h)  # used from the next step on
        return -RATE * direction

    tx = optax.contrib.sophia(RATE, weight_decay=0.0, update_interval=2, hessian_diagonal_fn=oah.hutchinson())
    assert_trains_as(by_hand, tx, way, draw=lambda t: t // 2, compiled=True)


@row("`optax.contrib.hutchinson_estimator_diag_hessian` in `adahessian`", hessian_diag=NO_CELL)
def theirs_in_ours(way: Way) -> None:
    """As `hessian_diagonal_fn`, within its limits: one dtype for all parameters, and raw keys."""
    rule, theirs = Rule(), optax.contrib.hutchinson_estimator_diag_hessian(jax.random.PRNGKey(1))
    states = [theirs.init(None)]

    def by_hand(s: Step):
        params = unflat(s.w)
        diag, state = theirs.update(params, states[-1], params, **feed(way, BATCHES[s.t], None))
        states.append(state)
        return -RATE * rule(s.g, flat(diag))

    assert_trains_as(by_hand, adahessian(RATE, hessian_diagonal_fn=theirs), way)
