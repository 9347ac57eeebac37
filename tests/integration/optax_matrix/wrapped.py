"""Inside other transformations, over micro-batches, and the state in optax's tree functions."""

# Long calls are rows of a table.
# fmt: off

from __future__ import annotations  # noqa: I001

import jax.numpy as jnp
import numpy as np
import optax

from .harness import (
    NO_CELL, RATE, STEPS, TARGETS, Group, Rule, adahessian, assert_trains_as, flat, impossible, loss_fn, plain, refuses,
    unflat,
)

WRAPPED = Group("Wrapped")
LOOKAHEAD = optax.lookahead(adahessian(RATE), sync_period=2, slow_step_size=0.5)
REJECTED = [impossible(f"unexpected keyword argument '{way}'") for way in ("obj_fn", "hessian_diag")]

WRAPPED.add("`optax.apply_if_finite`",
    "A step whose gradient is not finite leaves everything as it was, the second moment too.",
    lambda: optax.apply_if_finite(adahessian(RATE), max_consecutive_errors=2),
    lambda s, rule: np.zeros(8) if s.t == 1 else plain(s, rule),
    targets=np.where(np.arange(STEPS)[:, None] == 1, np.nan, TARGETS))


def flat_feed(way, s):
    return {"obj_fn": lambda vector: loss_fn(unflat(vector), s.target)} if way == "obj_fn" else {"hessian_diag": s.h}


WRAPPED.add("`optax.flatten`, with everything flat", "Pass the ravelled estimate, or a loss that takes one vector.",
    lambda: optax.flatten(adahessian(RATE)), plain, arguments=flat_feed)
WRAPPED.add("`optax.flatten`, with trees", "A loss that takes a tree fails by itself, with an error of its own.",
    lambda: optax.flatten(adahessian(RATE)), plain, NO_CELL, refuses("`hessian_diag` is absent"))


@WRAPPED.row("`optax.contrib.schedule_free`", "Switch the rule's momentum off (`b1=0`), as for any optimizer in it.")
def _(way):
    iterates, rule = {}, Rule(b1=0)

    def by_hand(s, _):
        x, z = iterates.get("x", s.w), iterates.get("z", s.w)
        z = z - RATE * rule(s.g, s.h)
        x = x + (z - x) / (s.t + 1)
        iterates.update(x=x, z=z)
        return 0.9 * x + 0.1 * z - s.w

    assert_trains_as(by_hand, optax.contrib.schedule_free(adahessian(RATE, b1=0), RATE), way)


# Both below raise before their updates could be compared with anything.
WRAPPED.add("`optax.lookahead`", "Do it [in the loop](#lookahead).", lambda: optax.GradientTransformationExtraArgs(
    lambda params: LOOKAHEAD.init(optax.LookaheadParams.init_synced(params)),
    lambda g, state, p, **extra: LOOKAHEAD.update(g, state, optax.LookaheadParams(p, p), **extra)), plain, *REJECTED)
WRAPPED.add("`optax.contrib.sam`", "Do it [in the loop](#sharpness-aware-minimization).",
    lambda: optax.contrib.sam(adahessian(RATE), optax.sgd(0.05)), plain, *REJECTED)

MICRO = Group("Over micro-batches")


def second(s, rule):
    """The rule at every second step, with the mean of two gradients and the estimate of the second."""
    before = s._replace(target=TARGETS[s.t - 1])
    return -RATE * rule((before.g + s.g) / 2, s.h) if s.t % 2 else np.zeros(8)


def multi_steps():
    return optax.MultiSteps(adahessian(RATE), 2, accumulator_dtype=float)


MICRO.add("`optax.MultiSteps`",
    "The gradients are averaged, but **only the estimate of the last micro-batch counts**; those of the others cost as "
    "much. [Accumulate](distributed.md#gradient-accumulation) instead.", multi_steps, second)
MICRO.add("the same, with `hessian_diag=None` except for the last of each step",
    "Gives the same, and pays for one estimate.", multi_steps, second, NO_CELL,
    arguments=lambda way, s: {"hessian_diag": unflat(s.h) if s.t % 2 else None})
MICRO.add("`MultiSteps(...).gradient_transformation()` in a chain",
    "It calls itself a transformation without extra arguments, so `optax.chain` does not pass them on. Put the "
    "chain into `MultiSteps`, or write the row below.",
    lambda: optax.chain(multi_steps().gradient_transformation()), second,
    *[refuses("some wrappers of Optax do not pass them on")] * 2)


def extra_args_in_a_chain():
    steps = multi_steps()
    return optax.chain(optax.GradientTransformationExtraArgs(steps.init, steps.update), optax.scale(0.5))


MICRO.add(
    "`GradientTransformationExtraArgs(steps.init, steps.update)` in a chain", "With `steps = optax.MultiSteps(...)`.",
    extra_args_in_a_chain, lambda s, rule: 0.5 * second(s, rule))

STATES = Group("Its state in optax's tree functions")


@STATES.row(
    "`optax.tree.get`, `optax.tree.set`, `optax.tree.map_params`",
    "`map_params` finds `mu` and `nu`, and leaves the scalars alone.",
)
def _(way):
    tx = adahessian(RATE)
    state, rule = assert_trains_as(plain, tx, way)
    doubled = optax.tree.map_params(tx, lambda leaf: 2 * leaf, optax.tree.set(state, count=jnp.asarray(7)))
    for name in ("mu", "nu"):
        np.testing.assert_allclose(flat(optax.tree.get(doubled, name)), 2 * getattr(rule, name), rtol=1e-9)
    assert optax.tree.get(doubled, "count") == 7


GROUPS = [WRAPPED, MICRO, STATES]
