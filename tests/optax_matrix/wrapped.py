"""Inside other transformations, over micro-batches, and the state in optax's tree functions."""

# Long calls are rows of a table.
# fmt: off

from __future__ import annotations  # noqa: I001

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from optax.microbatching import AccumulationType, microbatch

import optax_adahessian as oah

from .harness import (
    BATCHES, NO_CELL, ONLY_KERNEL, PARAMS, RATE, WORKS, Group, adahessian, assert_trains_as, estimate, flat,
    impossible, key_of, loss_fn, plain, refuses, unflat,
)

WRAPPED = Group("Wrapped")
LOOKAHEAD = optax.lookahead(adahessian(RATE), sync_period=2, slow_step_size=0.5)
REJECTED = [impossible(f"unexpected keyword argument '{way}'") for way in ("obj_fn", "hessian_diag")]


def spoilt_at(step):
    """Gradients that are NaN at that step."""
    return lambda t, params, grads: jax.tree.map(lambda g: g * np.nan, grads) if t == step else grads


WRAPPED.add("`optax.apply_if_finite`",
    "A step whose gradient is not finite leaves everything as it was, the second moment too.",
    lambda: optax.apply_if_finite(adahessian(RATE), max_consecutive_errors=2),
    lambda s, rule: np.zeros(8) if s.t == 1 else plain(s, rule), gradient=spoilt_at(1), draw=lambda t: t - (t > 0),
    compiled=True)
WRAPPED.add(
    "`optax.conditionally_transform`", "Steps that are left out do not count as steps of the curvature's average.",
    lambda: optax.conditionally_transform(adahessian(RATE), lambda step: step % 2 == 0),
    lambda s, rule: s.g if s.t % 2 else plain(s, rule), draw=lambda t: t // 2, compiled=True)
WRAPPED.add("`optax.conditionally_mask`", "As above, with a zero update in between.",
    lambda: optax.conditionally_mask(adahessian(RATE), lambda step: step % 2 == 0),
    lambda s, rule: np.zeros(8) if s.t % 2 else plain(s, rule), draw=lambda t: t // 2, compiled=True)


def flat_estimate(key, params, batch):
    """The estimate of the loss as a function of one vector: it draws other signs than that of a tree."""
    vector, unravel = ravel_pytree(params)
    value, grads, diag = oah.value_grad_and_hessian_diag(lambda v: loss_fn(unravel(v), batch))(key, vector)
    return value, unravel(grads), unravel(diag)


def flat_feed(way, batch, diag):
    if way == "obj_fn":
        return {"obj_fn": lambda vector: loss_fn(unflat(vector), batch)}
    return {"hessian_diag": ravel_pytree(diag)[0]}


WRAPPED.add("`optax.flatten`, with everything flat", "Pass the ravelled estimate, or a loss that takes one vector.",
    lambda: optax.flatten(adahessian(RATE)), plain, feed=flat_feed, estimate=jax.jit(flat_estimate), compiled=True)
WRAPPED.add("`optax.flatten`, with trees", "A loss that takes a tree fails by itself, with an error of its own.",
    lambda: optax.flatten(adahessian(RATE)), plain, NO_CELL, refuses("ravel_pytree"))
WRAPPED.add("`optax.masked` around `optax.flatten`, with trees", "As above. Pass the ravelled estimate of the part.",
    lambda: optax.masked(optax.flatten(adahessian(RATE)), ONLY_KERNEL), plain, NO_CELL, refuses("ravel_pytree"))


@WRAPPED.row("`optax.contrib.schedule_free`", "Switch our momentum off (`b1=0`), as for any optimizer in it.")
def _(way):
    iterates = {}

    def by_hand(s, rule):
        x, z = iterates.get("x", s.w), iterates.get("z", s.w)
        z = z - RATE * rule(s.g, s.h)
        x = x + (z - x) / (s.t + 1)
        iterates.update(x=x, z=z)
        return 0.9 * x + 0.1 * z - s.w

    assert_trains_as(by_hand, optax.contrib.schedule_free(adahessian(RATE, b1=0), RATE), way, b1=0)


# The three below raise before their updates could be compared with anything.
WRAPPED.add("`optax.lookahead`", "Do it [in the loop](#lookahead).", lambda: optax.GradientTransformationExtraArgs(
    lambda params: LOOKAHEAD.init(optax.LookaheadParams.init_synced(params)),
    lambda g, state, p, **extra: LOOKAHEAD.update(g, state, optax.LookaheadParams(p, p), **extra)), plain, *REJECTED)
WRAPPED.add("`optax.contrib.sam`", "Do it [in the loop](#sharpness-aware-minimization).",
    lambda: optax.contrib.sam(adahessian(RATE), optax.sgd(0.05)), plain, *REJECTED)
WRAPPED.add("`optax.contrib.split_real_and_imaginary`",
    "Keep real and imaginary parts as two real leaves, and join them in the loss.",
    lambda: optax.contrib.split_real_and_imaginary(adahessian(RATE)), plain, *REJECTED)

MICRO = Group("Over micro-batches")


def second(s, rule):
    """The rule at every second step, with the mean of two gradients and the estimate of the second."""
    return -RATE * rule((s.before + s.g) / 2, s.h) if s.t % 2 else np.zeros(8)


def multi_steps(**options):
    return optax.MultiSteps(adahessian(RATE), 2, accumulator_dtype=float, **options)


MICRO.add("`optax.MultiSteps`",
    "The gradients are averaged, but **only the estimate of the last micro-batch counts**; those of the others cost as "
    "much. [Micro-batches](#micro-batches) has something better.", multi_steps, second, draw=lambda t: t // 2,
    compiled=True)


@MICRO.row(
    "the same, with `hessian_diag=None` but for the last of each step",
    "Gives the same, and pays for one estimate.",
    obj_fn=NO_CELL,
)
def _(way):
    is_last = itertools.cycle([False, True])
    sparse_feed = lambda way, batch, diag: {"hessian_diag": diag if next(is_last) else None}
    assert_trains_as(second, multi_steps(), way, feed=sparse_feed)


MICRO.add("`optax.MultiSteps` with `should_skip_update_fn`", "A micro-batch that is skipped leaves no trace.",
    lambda: multi_steps(should_skip_update_fn=optax.skip_not_finite),
    lambda s, rule: np.zeros(8) if s.t >= 2 else second(s, rule), gradient=spoilt_at(2), draw=lambda t: t // 2,
    compiled=True)
MICRO.add("`MultiSteps(...).gradient_transformation()` in a chain",
    "It calls itself a transformation without extra arguments, so that `optax.chain` keeps them to itself. Put the "
    "chain into `MultiSteps`, or write the row below.",
    lambda: optax.chain(multi_steps().gradient_transformation()), second,
    *[refuses("some wrappers of Optax keep extra arguments to themselves")] * 2)


def extra_args_in_a_chain():
    steps = multi_steps()
    return optax.chain(optax.GradientTransformationExtraArgs(steps.init, steps.update), optax.scale(0.5))


MICRO.add(
    "`GradientTransformationExtraArgs(steps.init, steps.update)` in a chain", "With `steps = optax.MultiSteps(...)`.",
    extra_args_in_a_chain, lambda s, rule: 0.5 * second(s, rule), draw=lambda t: t // 2, compiled=True)


def microbatched_feed(way, batch, diag):
    loss = microbatch(loss_fn, 1, 2, AccumulationType.MEAN)
    return {"obj_fn": lambda params: loss(params, batch)}


MICRO.add(
    "`optax.microbatch` around the loss of `obj_fn`", "The estimate is that of the whole batch, with one sign vector.",
    lambda: adahessian(RATE), plain, WORKS, NO_CELL, feed=microbatched_feed, compiled=True)


@MICRO.row(
    "`optax.microbatch` around `value_grad_and_hessian_diag`",
    "The mean of value, gradient and estimate; with a key in every row each micro-batch draws its own signs.",
    obj_fn=NO_CELL,
)
def _(way):
    def of_rows(rows, params):
        keys, batch = rows
        return oah.value_grad_and_hessian_diag(loss_fn)(keys[0], params, batch)

    def strided(key, params, batch):  # its micro-batches are rows 0 and 2, rows 1 and 3
        keys = jax.random.split(key)
        return microbatch(of_rows, 0, 2, AccumulationType.MEAN)((keys[np.array([0, 1, 0, 1])], batch), params)

    def by_hand(s, rule):
        keys = jax.random.split(key_of(s.t))
        parts = [estimate(keys[i], unflat(s.w), BATCHES[s.t][i::2]) for i in range(2)]
        g, h = (np.mean([flat(part[n]) for part in parts], axis=0) for n in (1, 2))
        return -RATE * rule(g, h)

    assert_trains_as(by_hand, adahessian(RATE), way, estimate=jax.jit(strided))


STATES = Group("Its state in optax's tree functions")


@STATES.row(
    "`optax.tree.get` of `mu`, `nu`, `count`",
    "With a schedule there are two counts, as with `optax.adam`: pass `filtering=`.",
)
def _(way):
    state, rule = assert_trains_as(plain, adahessian(RATE), way)
    for name in ("mu", "nu"):
        np.testing.assert_allclose(flat(optax.tree.get(state, name)), getattr(rule, name), rtol=1e-9)
    assert optax.tree.get(state, "count") == rule.t
    scheduled = adahessian(optax.constant_schedule(RATE)).init(PARAMS)
    with pytest.raises(KeyError, match="multiple values"):
        optax.tree.get(scheduled, "count")
    assert optax.tree.get(scheduled, "count", filtering=lambda path, _: "AdaHessian" in str(path)) == 0


@STATES.row("`optax.tree.set`", "Of any field, `count` for example.")
def _(way):
    state, _ = assert_trains_as(plain, adahessian(RATE), way)
    assert optax.tree.get(optax.tree.set(state, count=jnp.asarray(7)), "count") == 7


@STATES.row(
    "`optax.tree.map_params`",
    "It finds `mu` and `nu`, and leaves the scalars alone. With averaging, `nu` has one entry for each block.",
)
def _(way):
    tx = adahessian(RATE)
    state, rule = assert_trains_as(plain, tx, way)
    doubled = optax.tree.map_params(tx, lambda leaf: 2 * leaf, state)
    for name in ("mu", "nu"):
        np.testing.assert_allclose(flat(optax.tree.get(doubled, name)), 2 * getattr(rule, name), rtol=1e-9)
    for name in ("count", "rejected", "last_estimate"):
        assert optax.tree.get(doubled, name) == optax.tree.get(state, name)


GROUPS = [WRAPPED, MICRO, STATES]
