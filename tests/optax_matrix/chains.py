"""In a chain"""

from __future__ import annotations

import jax
import numpy as np
import optax

from .problem import (
    BATCHES,
    IS_KERNEL,
    ONLY_KERNEL,
    RATE,
    Rule,
    Step,
    adahessian,
    assert_trains_as,
    flat,
    loss_fn,
    scale_by_adahessian,
    unflat,
)
from .row import Way, row

SCHEDULE = optax.linear_schedule(0.2, 0.0, 8)


@row("`optax.clip_by_global_norm` before it")
def clipping_before(way: Way) -> None:
    """It clips the gradient and not the curvature, so that clipped steps are shorter."""
    rule = Rule()
    tx = optax.chain(optax.clip_by_global_norm(0.1), adahessian(RATE))
    assert_trains_as(lambda s: -RATE * rule(s.g * min(1, 0.1 / np.linalg.norm(s.g)), s.h), tx, way)


@row("`optax.clip` after `scale_by_adahessian`")
def clipping_after(way: Way) -> None:
    """It bounds how far a coordinate moves."""
    rule = Rule()
    tx = optax.chain(scale_by_adahessian(), optax.clip(0.5), optax.scale_by_learning_rate(RATE))
    assert_trains_as(lambda s: -RATE * np.clip(rule(s.g, s.h), -0.5, 0.5), tx, way)


@row("`optax.zero_nans` before it")
def zeroed_nans(way: Way) -> None:
    """It acts on the gradient. An estimate with a NaN is left out anyway, and counted in `rejected`."""
    rule = Rule()

    def spoilt(t, params, grads):
        return {**grads, "bias": grads["bias"] * np.nan} if t == 1 else grads

    def by_hand(s: Step):
        return -RATE * rule(np.where(IS_KERNEL | (s.t != 1), s.g, 0.0), s.h)

    assert_trains_as(by_hand, optax.chain(optax.zero_nans(), adahessian(RATE)), way, gradient=spoilt)


@row("`optax.add_decayed_weights` with a mask")
def decayed_weights(way: Way) -> None:
    """Between `scale_by_adahessian` and the learning rate; `adahessian(weight_decay=, mask=)` is the same."""
    chained = optax.chain(
        scale_by_adahessian(),
        optax.add_decayed_weights(0.1, ONLY_KERNEL),
        optax.scale_by_learning_rate(RATE),
    )
    for tx in (chained, adahessian(RATE, weight_decay=0.1, mask=lambda params: ONLY_KERNEL)):
        rule = Rule()
        assert_trains_as(lambda s, rule=rule: -RATE * (rule(s.g, s.h) + 0.1 * s.w * IS_KERNEL), tx, way)


@row("`optax.scale_by_learning_rate` with a schedule")
def scheduled_rate(way: Way) -> None:
    """`adahessian(schedule)` is the same."""
    chained = optax.chain(scale_by_adahessian(), optax.scale_by_learning_rate(SCHEDULE))
    for tx in (chained, adahessian(SCHEDULE)):
        rule = Rule()
        assert_trains_as(lambda s, rule=rule: -(0.2 - 0.025 * s.t) * rule(s.g, s.h), tx, way, rtol=1e-6)


@row("`optax.named_chain`")
def named_chain(way: Way) -> None:
    """The state is found by name."""
    rule = Rule()
    tx = optax.named_chain(("ours", scale_by_adahessian()), ("rate", optax.scale(-RATE)))
    state = assert_trains_as(lambda s: -RATE * rule(s.g, s.h), tx, way)
    np.testing.assert_allclose(flat(state["ours"].mu), rule.mu, rtol=1e-9)


@row("`optax.ema` after it")
def averaged_updates(way: Way) -> None:
    """A moving average of the updates."""
    rule, average = Rule(), np.zeros(8)

    def by_hand(s: Step):
        average[:] = 0.5 * average - 0.5 * RATE * rule(s.g, s.h)
        return average / (1 - 0.5 ** (s.t + 1))

    assert_trains_as(by_hand, optax.chain(adahessian(RATE), optax.ema(0.5)), way)


@row("`optax.apply_every` after it")
def applied_every_second_step(way: Way) -> None:
    """It sums the updates of k steps, each with its own estimate."""
    rule, waiting = Rule(), []

    def by_hand(s: Step):
        waiting.append(-RATE * rule(s.g, s.h))
        return sum(waiting[-2:]) if s.t % 2 else np.zeros(8)

    assert_trains_as(by_hand, optax.chain(adahessian(RATE), optax.apply_every(2)), way)


@row("`optax.scale_by_trust_ratio` after `scale_by_adahessian`")
def trust_ratio(way: Way) -> None:
    """Steps in proportion to the norm of each leaf, as in LAMB."""
    rule = Rule()

    def by_hand(s: Step):
        d = rule(s.g, s.h)
        ratio = [np.linalg.norm(s.w[part]) / np.linalg.norm(d[part]) for part in (~IS_KERNEL, IS_KERNEL)]
        return -RATE * d * np.where(IS_KERNEL, ratio[1], ratio[0])

    tx = optax.chain(scale_by_adahessian(), optax.scale_by_trust_ratio(), optax.scale(-RATE))
    assert_trains_as(by_hand, tx, way)


@row("`optax.keep_params_nonnegative` after it")
def kept_nonnegative(way: Way) -> None:
    """As the last of the chain."""
    rule = Rule()
    tx = optax.chain(adahessian(RATE), optax.keep_params_nonnegative())
    assert_trains_as(lambda s: np.maximum(-s.w, -RATE * rule(s.g, s.h)), tx, way)


@row("`optax.snapshot` and `optax.monitor` after it")
def measured(way: Way) -> None:
    """They record the norm of its updates, for example."""
    rule = Rule()
    norms = optax.snapshot("norm", optax.tree.norm), optax.monitor({"again": optax.tree.norm})
    steps = []

    def by_hand(s: Step):
        steps.append(-RATE * rule(s.g, s.h))
        return steps[-1]

    state = assert_trains_as(by_hand, optax.chain(adahessian(RATE), *norms), way)
    for name in ("norm", "again"):
        np.testing.assert_allclose(optax.tree.get(state, name), np.linalg.norm(steps[-1]), rtol=1e-9)


@row("`optax.contrib.differentially_private_aggregate` before it")
def private_gradient(way: Way) -> None:
    """It takes a gradient for each example, clipped and with noise. **The estimate is neither**: what is trained so is
    not private."""
    rule = Rule()
    per_example = jax.jit(jax.vmap(jax.grad(lambda params, x: loss_fn(params, x[None])), (None, 0)))

    def by_hand(s: Step):
        rows = np.stack([flat(jax.tree.map(lambda g: g[i], per_example(unflat(s.w), BATCHES[s.t]))) for i in range(4)])  # noqa: B023
        clipped = rows * np.minimum(1, 0.5 / np.linalg.norm(rows, axis=1))[:, None]
        return -RATE * rule(clipped.mean(0), s.h)

    aggregate = optax.contrib.differentially_private_aggregate(l2_norm_clip=0.5, noise_multiplier=0.0, key=0)
    tx = optax.chain(aggregate, adahessian(RATE))
    assert_trains_as(by_hand, tx, way, gradient=lambda t, params, grads: per_example(params, BATCHES[t]))
