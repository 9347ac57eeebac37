"""Wrapped"""

from __future__ import annotations

import jax
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import optax_adahessian as oah

from .problem import RATE, Rule, Step, adahessian, assert_trains_as, flat, loss_fn, unflat
from .row import NO_CELL, Way, impossible, refuses, row

REJECTED = {way: impossible(f"unexpected keyword argument '{way}'") for way in ("obj_fn", "hessian_diag")}


@row("`optax.apply_if_finite`")
def applied_if_finite(way: Way) -> None:
    """A step whose gradient is not finite leaves everything as it was, the second moment too."""
    rule = Rule()

    def spoilt(t, params, grads):
        return jax.tree.map(lambda g: g * np.nan, grads) if t == 1 else grads

    def by_hand(s: Step):
        return np.zeros(8) if s.t == 1 else -RATE * rule(s.g, s.h)

    tx = optax.apply_if_finite(adahessian(RATE), max_consecutive_errors=2)
    state = assert_trains_as(by_hand, tx, way, gradient=spoilt, draw=lambda t: t - (t > 0), compiled=True)
    assert state.total_notfinite == 1


def every_second(others):
    """The rule at even steps, and `others(step)` in between."""
    rule = Rule()
    return lambda s: others(s) if s.t % 2 else -RATE * rule(s.g, s.h)


@row("`optax.conditionally_transform`")
def conditionally_transformed(way: Way) -> None:
    """Steps that are left out do not count as steps of the curvature's average."""
    tx = optax.conditionally_transform(adahessian(RATE), lambda step: step % 2 == 0)
    assert_trains_as(every_second(lambda s: s.g), tx, way, draw=lambda t: t // 2, compiled=True)


@row("`optax.conditionally_mask`")
def conditionally_masked(way: Way) -> None:
    """As above, with a zero update in between."""
    tx = optax.conditionally_mask(adahessian(RATE), lambda step: step % 2 == 0)
    assert_trains_as(every_second(lambda s: np.zeros(8)), tx, way, draw=lambda t: t // 2, compiled=True)


def flat_estimate(key, params, batch):
    """The estimate of the loss as a function of one vector: it draws other signs than that of a tree."""
    vector, unravel = ravel_pytree(params)
    value, grads, diag = oah.value_grad_and_hessian_diag(lambda v: loss_fn(unravel(v), batch))(key, vector)
    return value, unravel(grads), unravel(diag)


@row("`optax.flatten`, with everything flat")
def flattened(way: Way) -> None:
    """Pass the ravelled estimate, or a loss that takes one vector."""
    rule = Rule()

    def flat_feed(way, batch, diag):
        if way == "obj_fn":
            return {"obj_fn": lambda vector: loss_fn(unflat(vector), batch)}
        return {"hessian_diag": ravel_pytree(diag)[0]}

    tx = optax.flatten(adahessian(RATE))
    assert_trains_as(
        lambda s: -RATE * rule(s.g, s.h), tx, way, feed=flat_feed, estimate=jax.jit(flat_estimate), compiled=True
    )


@row("`optax.flatten`, with trees", obj_fn=NO_CELL, hessian_diag=refuses("ravel_pytree"))
def flattened_alone(way: Way) -> None:
    """A loss that takes a tree fails by itself, with an error of its own."""
    assert_trains_as(Rule(), optax.flatten(adahessian(RATE)), way)


@row("`optax.contrib.schedule_free`")
def schedule_free(way: Way) -> None:
    """Switch our momentum off (`b1=0`), as for any optimizer in it."""
    rule, iterates = Rule(b1=0.0), {}

    def by_hand(s: Step):
        x, z = iterates.setdefault("x", s.w), iterates.setdefault("z", s.w)
        z = z - RATE * rule(s.g, s.h)
        x = x + (z - x) / (s.t + 1)
        iterates.update(x=x, z=z)
        return 0.9 * x + 0.1 * z - s.w

    assert_trains_as(by_hand, optax.contrib.schedule_free(adahessian(RATE, b1=0.0), RATE), way)


@row("`optax.contrib.mechanize`")
def mechanized(way: Way) -> None:
    """Give the inner optimizer a learning rate of 1."""
    rule, now = Rule(), {}
    stand_in = optax.stateless(lambda updates, params: unflat(now["direction"]))
    hand = optax.contrib.mechanize(stand_in, s_init=0.1)
    states = [hand.init(unflat(np.zeros(8)))]

    def by_hand(s: Step):
        now["direction"] = -rule(s.g, s.h)
        updates, state = hand.update(unflat(s.g), states[-1], unflat(s.w))
        states.append(state)
        return flat(updates)

    assert_trains_as(by_hand, optax.contrib.mechanize(adahessian(1.0), s_init=0.1), way)


@row("`optax.lookahead`", **REJECTED)
def lookahead(way: Way) -> None:
    """Do it [in the loop](#lookahead)."""
    fast = optax.lookahead(adahessian(RATE), sync_period=2, slow_step_size=0.5)

    def init(params):
        return fast.init(optax.LookaheadParams.init_synced(params))

    def update(grads, state, params, **extra_args):
        updates, state = fast.update(grads, state, optax.LookaheadParams(params, params), **extra_args)
        return updates.fast, state

    def by_hand(s: Step):
        u = -RATE * rule(s.g, s.h)
        return u if s.t % 2 == 0 else u / 2

    rule = Rule()
    assert_trains_as(by_hand, optax.GradientTransformationExtraArgs(init, update), way)


def check_sam(way: Way, **options) -> None:
    climb = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    rule, start = Rule(), {}

    def by_hand(s: Step):
        if s.t % 2 == 0:
            start["w"] = s.w
            return 0.05 * s.g / np.linalg.norm(s.g)
        return start["w"] - s.w - RATE * rule(s.g, s.h)

    tx = optax.contrib.sam(adahessian(RATE), climb, **options)
    assert_trains_as(by_hand, tx, way, draw=lambda t: t // 2)


@row("`optax.contrib.sam`", **REJECTED)
def sam(way: Way) -> None:
    """Do it [in the loop](#sharpness-aware-minimization)."""
    check_sam(way)


@row("`optax.contrib.split_real_and_imaginary`", **REJECTED)
def split_complex(way: Way) -> None:
    """Keep real and imaginary parts as two real leaves, and join them in the loss."""
    rule = Rule()
    tx = optax.contrib.split_real_and_imaginary(adahessian(RATE))
    assert_trains_as(lambda s: -RATE * rule(s.g, s.h), tx, way)
