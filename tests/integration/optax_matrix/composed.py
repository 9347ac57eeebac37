"""In a chain, with a line search, with injected hyper-parameters, on a part of the parameters, and estimators."""

# Long calls are rows of a table.
# fmt: off

from __future__ import annotations  # noqa: I001

import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_adahessian as oah

from .harness import (
    IS_KERNEL, NO_CELL, ONLY_KERNEL, PARAMS, RATE, TARGETS, WORKS, Group, Outcome, Rule, Step, adahessian,
    assert_trains_as, feed, flat, loss_fn, plain, refuses, scale_by_adahessian, unflat,
)

CHAIN = Group("In a chain")

CHAIN.add("`optax.clip` after it", "It bounds how far a coordinate moves.",
    lambda: optax.chain(adahessian(RATE), optax.clip(0.05)), lambda s, rule: np.clip(plain(s, rule), -0.05, 0.05))
CHAIN.add("`optax.clip_by_global_norm` before it",
    "It clips the gradient and not the curvature, so clipped steps are shorter.",
    lambda: optax.chain(optax.clip_by_global_norm(0.1), adahessian(RATE)),
    lambda s, rule: -RATE * rule(s.g * min(1, 0.1 / np.linalg.norm(s.g)), s.h))
CHAIN.add("`optax.ema` before it", "The same as `b1` of the rule, which stores no momentum with `b1=0`.",
    lambda: optax.chain(optax.ema(0.9), adahessian(RATE, b1=0)), plain)
CHAIN.add("`optax.add_decayed_weights` with a mask", "As `adahessian(weight_decay=, mask=)`.",
    lambda: optax.chain(
        scale_by_adahessian(), optax.add_decayed_weights(0.1, ONLY_KERNEL), optax.scale_by_learning_rate(RATE)),
    lambda s, rule: -RATE * (rule(s.g, s.h) + 0.1 * s.w * IS_KERNEL))

SEARCH = Group("With the value of the loss: plateaus and line searches")

SEARCH.add("`optax.contrib.reduce_on_plateau` after it", "Pass its `value=` as well.",
    lambda: optax.chain(adahessian(RATE), optax.contrib.reduce_on_plateau(factor=0.5, patience=1)),
    lambda s, rule: 0.5**s.t * plain(s, rule), arguments=lambda way, s: feed(way, s) | {"value": 1.0})


@SEARCH.row(
    "`optax.scale_by_backtracking_linesearch` after it",
    "Its `value_fn` serves as `obj_fn`, which is left out. With `hessian_diag` it must name that argument among its "
    "own, since the search passes all extra arguments to it.",
)
def _(way):
    rates, rule = [1.0], Rule(b1=0)

    def by_hand(s, _):
        value = lambda w: float(loss_fn(w, s.target))
        u, rate = -5 * rule(s.g, s.h), min(1.5 * rates[-1], 1.0)
        for _ in range(20):  # the first rate, each 0.8 of the one before, at which the loss has fallen enough
            if value(s.w + rate * u) <= value(s.w) + 1e-4 * rate * (u @ s.g):
                break
            rate *= 0.8
        rates.append(rate)
        return rate * u

    def searched(way, s):
        value_fn = lambda params, hessian_diag=None: loss_fn(params, s.target)
        more = {"value": value_fn(s.w), "grad": unflat(s.g), "value_fn": value_fn}
        return more if way == "obj_fn" else more | feed(way, s)

    tx = optax.chain(adahessian(5.0, b1=0), optax.scale_by_backtracking_linesearch(20))
    assert_trains_as(by_hand, tx, way, arguments=searched)
    assert min(rates) < 1.0


SEARCH.add("the same, with the extra argument and a `value_fn` of the parameters alone",
    "The error is optax's, and names the arguments; `**kwargs` in `value_fn` is not enough for it.",
    lambda: optax.chain(adahessian(RATE), optax.scale_by_backtracking_linesearch(20)), plain,
    *(refuses(f"not consumed by `value_fn`: .'{name}'") for name in ("obj_fn", "hessian_diag")),
    arguments=lambda way, s: feed(way, s) | {"value": 1.0, "grad": {}, "value_fn": lambda params, **kwargs: 0.0})

INJECT = Group("With injected hyper-parameters")
inject = optax.inject_hyperparams
HALF_PARAMS = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)


@INJECT.row(
    "`optax.inject_hyperparams(adahessian)(learning_rate=0.1)`, changed between steps",
    'By `state.hyperparams["learning_rate"] = jnp.float32(0.05)` or `optax.tree.set`. A weakly typed array such as '
    "`jnp.asarray(0.05)` costs one more compilation. The form with `static_args` below compiles to less.",
)
def _(way):
    params, s = jax.tree.map(jnp.asarray, PARAMS), Step(0, flat(PARAMS), TARGETS[0])
    tx = inject(adahessian)(learning_rate=RATE)
    update = jax.jit(lambda state: tx.update(unflat(s.g), state, params, **feed(way, s))[0])
    for programs, rate in enumerate((0.1, jnp.float64(0.5), jnp.asarray(0.5))):
        updates = update(optax.tree.set(tx.init(params), learning_rate=rate) if programs else tx.init(params))
        np.testing.assert_allclose(flat(updates), -float(rate) * Rule()(s.g, s.h), rtol=1e-9)
        assert update._cache_size() == max(programs, 1)


INJECT.add("the same, with schedules", "Of any hyper-parameter that is a number.",
    lambda: inject(adahessian)(
        learning_rate=optax.linear_schedule(0.2, 0.0, 8), weight_decay=optax.linear_schedule(0.0, 0.8, 8)),  # float32
    lambda s, rule: -(0.2 - 0.025 * s.t) * (rule(s.g, s.h) + 0.1 * s.t * s.w), rtol=2**-22)


@INJECT.row(
    '`inject_hyperparams(adahessian, static_args=("update_interval", "dense_start", "mask"))`',
    "The recommended form: an interval of 1 needs no `cond`, and `mask` may be a function.",
)
def _(way):
    recommended = inject(adahessian, static_args=("update_interval", "dense_start", "mask"))
    tx = recommended(learning_rate=RATE, weight_decay=0.1, mask=lambda params: ONLY_KERNEL)
    assert_trains_as(lambda s, rule: -RATE * (rule(s.g, s.h) + 0.1 * s.w * IS_KERNEL), tx, way)


INJECT.add("`inject_hyperparams` with a function as `mask`, not static",
    "`inject_hyperparams` takes a function for a schedule and calls it with the step, so nothing decays, as with "
    "`optax.adamw`. Name `mask` in `static_args`.",
    lambda: inject(adahessian)(
        learning_rate=RATE, weight_decay=0.1, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params)),
    plain, *[Outcome("**silently without decay**")] * 2)
INJECT.add("`inject_hyperparams(adahessian, hyperparam_dtype=jnp.float32)`, parameters in bfloat16 or float16",
    "The parameters stay as they are. Without it `b2=0.999` would be rounded to 1 in bfloat16, which is refused, and a "
    "small `eps` to 0 in float16. Inside `jax.jit` that is not seen: call `init` outside of it.",
    lambda: inject(adahessian, hyperparam_dtype=jnp.float32)(learning_rate=RATE),
    plain, params=HALF_PARAMS, rtol=2**-7)

PART = Group("On a part of the parameters")
ONLY_DIAG = refuses("pass `hessian_diag="), WORKS


def on_kernel(others):
    """The rule on the kernel, and `others(step)` on the rest."""
    return lambda s, rule: np.where(IS_KERNEL, plain(s, rule), others(s))


PART.add("`optax.masked`", "Make the estimate outside, for all parameters; it is cut to the part.",
    lambda: optax.masked(adahessian(RATE), ONLY_KERNEL), on_kernel(lambda s: s.g), *ONLY_DIAG)
PART.add("`optax.partition`, `optax.multi_transform`", "As for `masked`. The other optimizers ignore the estimate.",
    lambda: optax.partition(
        {"first": optax.sgd(0.01), "second": adahessian(RATE)}, {"bias": "first", "kernel": "second"}),
    on_kernel(lambda s: -0.01 * s.g), *ONLY_DIAG)
PART.add("`optax.freeze` after it",
    "Also takes `obj_fn`: the estimate is made for all parameters, and the updates of some are dropped.",
    lambda: optax.chain(adahessian(RATE), optax.freeze({"bias": True, "kernel": False})), on_kernel(lambda s: 0.0))

ESTIMATOR = Group("Estimators")


@ESTIMATOR.row("`oah.hutchinson` in `optax.contrib.sophia`", "As its `hessian_diagonal_fn`.", hessian_diag=NO_CELL)
def _(way):
    moments = {"mu": np.zeros(8), "nu": np.zeros(8)}

    def by_hand(s, rule):
        mu, nu = 0.965 * moments["mu"] + 0.035 * s.g, moments["nu"]
        direction = np.clip(mu / (1 - 0.965 ** (s.t + 1)) / np.maximum(0.01 * nu, 1e-8), -1, 1)
        moments.update(mu=mu, nu=nu if s.t % 2 else 0.99 * nu + 0.01 * s.h)  # used from the next step on
        return -RATE * direction

    tx = optax.contrib.sophia(RATE, weight_decay=0.0, update_interval=2, hessian_diagonal_fn=oah.hutchinson())
    assert_trains_as(by_hand, tx, way)


GROUPS = [CHAIN, SEARCH, INJECT, PART, ESTIMATOR]
