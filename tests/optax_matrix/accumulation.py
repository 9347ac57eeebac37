"""Over micro-batches"""

from __future__ import annotations

import itertools

import jax
import numpy as np
import optax
from optax.microbatching import AccumulationType, microbatch

import optax_adahessian as oah

from .problem import BATCHES, RATE, Rule, Step, adahessian, assert_trains_as, estimate, flat, key_of, loss_fn, unflat
from .row import NO_CELL, Way, refuses, row


def every_second_step():
    """The rule at every second step, with the mean of two gradients and the estimate of the second."""
    rule, grads = Rule(), []

    def by_hand(s: Step):
        grads.append(s.g)
        return -RATE * rule((grads[-2] + s.g) / 2, s.h) if s.t % 2 else np.zeros(8)

    return by_hand


@row("`optax.MultiSteps`")
def multi_steps(way: Way) -> None:
    """The gradients are averaged, but **only the estimate of the last micro-batch counts**; those of the others cost as
    much. [Micro-batches](#micro-batches) has something better."""
    tx = optax.MultiSteps(adahessian(RATE), 2, accumulator_dtype=float)
    assert_trains_as(every_second_step(), tx, way, draw=lambda t: t // 2, compiled=True)


@row("the same, with `hessian_diag=None` but for the last of each step", obj_fn=NO_CELL)
def multi_steps_estimating_last(way: Way) -> None:
    """Gives the same, and pays for one estimate."""
    is_last = itertools.cycle([False, True])

    def sparse_feed(way, batch, diag):
        return {"hessian_diag": diag if next(is_last) else None}

    tx = optax.MultiSteps(adahessian(RATE), 2, accumulator_dtype=float)
    assert_trains_as(every_second_step(), tx, way, feed=sparse_feed)


@row("`optax.MultiSteps` with `should_skip_update_fn`")
def multi_steps_skipping(way: Way) -> None:
    """A micro-batch that is skipped leaves no trace."""

    def spoilt(t, params, grads):
        return jax.tree.map(lambda g: g * np.nan, grads) if t == 2 else grads

    second = every_second_step()

    def by_hand(s: Step):
        return np.zeros(8) if s.t >= 2 else second(s)

    tx = optax.MultiSteps(adahessian(RATE), 2, accumulator_dtype=float, should_skip_update_fn=optax.skip_not_finite)
    state = assert_trains_as(by_hand, tx, way, gradient=spoilt, draw=lambda t: t // 2, compiled=True)
    assert (state.gradient_step, state.mini_step) == (1, 1)


NEITHER = refuses("Some wrappers of optax do not hand extra arguments on")


@row("`MultiSteps(...).gradient_transformation()` in a chain", obj_fn=NEITHER, hessian_diag=NEITHER)
def multi_steps_in_a_chain(way: Way) -> None:
    """It calls itself a transformation without extra arguments, so that `optax.chain` keeps them to itself. Put the
    chain into `MultiSteps`, or write the row below."""
    tx = optax.chain(optax.MultiSteps(adahessian(RATE), 2, accumulator_dtype=float).gradient_transformation())
    assert_trains_as(every_second_step(), tx, way)


@row("`GradientTransformationExtraArgs(steps.init, steps.update)` in a chain")
def multi_steps_with_arguments_in_a_chain(way: Way) -> None:
    """With `steps = optax.MultiSteps(...)`."""
    steps = optax.MultiSteps(adahessian(RATE), 2, accumulator_dtype=float)
    tx = optax.chain(optax.GradientTransformationExtraArgs(steps.init, steps.update), optax.scale(0.5))
    half = every_second_step()
    assert_trains_as(lambda s: 0.5 * half(s), tx, way, draw=lambda t: t // 2, compiled=True)


@row("`optax.microbatch` around the loss of `obj_fn`", hessian_diag=NO_CELL)
def microbatched_loss(way: Way) -> None:
    """The estimate is that of the whole batch, with one sign vector."""
    rule = Rule()
    loss = microbatch(loss_fn, 1, 2, AccumulationType.MEAN)

    def split_feed(way, batch, diag):
        return {"obj_fn": lambda params: loss(params, batch)}

    assert_trains_as(lambda s: -RATE * rule(s.g, s.h), adahessian(RATE), way, feed=split_feed, compiled=True)


@row("`optax.microbatch` around `value_grad_and_hessian_diag`", obj_fn=NO_CELL)
def microbatched_estimate(way: Way) -> None:
    """The mean of value, gradient and estimate; with a key in every row each micro-batch draws its own signs."""
    rule = Rule()

    def of_rows(rows, params):
        keys, batch = rows
        return oah.value_grad_and_hessian_diag(loss_fn)(keys[0], params, batch)

    def strided(key, params, batch):  # its micro-batches are rows 0 and 2, rows 1 and 3
        keys = jax.random.split(key)
        return microbatch(of_rows, 0, 2, AccumulationType.MEAN)((keys[np.array([0, 1, 0, 1])], batch), params)

    def by_hand(s: Step):
        keys = jax.random.split(key_of(s.t))
        parts = [estimate(keys[i], unflat(s.w), BATCHES[s.t][i::2]) for i in range(2)]
        g, h = (np.mean([flat(part[n]) for part in parts], axis=0) for n in (1, 2))
        return -RATE * rule(g, h)

    assert_trains_as(by_hand, adahessian(RATE), way, estimate=jax.jit(strided))
