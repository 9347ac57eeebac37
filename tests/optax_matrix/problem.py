"""A net of eight parameters with a batch for every step, and AdaHessian once more by hand, in NumPy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import optax_adahessian as oah

from .row import Way

RATE = 0.1
STEPS = 4
# NumPy keeps float64 whether or not JAX does so far: each check runs under `jax.enable_x64`.
RANDOM = np.random.default_rng(0)
PARAMS = {"bias": np.array([0.5, 1.0]), "kernel": np.linspace(-1, 1, 6).reshape(3, 2)}
IS_KERNEL = np.array([False] * 2 + [True] * 6)  # of the flat parameters
ONLY_KERNEL = {"bias": False, "kernel": True}
BATCHES = RANDOM.normal(size=(STEPS, 4, 3))


def loss_fn(params: Any, batch: Any) -> jax.Array:
    """Squared error of a net with one hidden layer: every parameter is coupled with every other."""
    return jnp.mean((jnp.tanh(batch @ params["kernel"]) @ params["bias"] - jnp.sum(batch, axis=1)) ** 2)


# The plain momentum of the rule below, and no bound, which would make many a step as long as the next, right or wrong.
adahessian = functools.partial(oah.adahessian, b1=0.9, nesterov=False, max_step=None)
scale_by_adahessian = functools.partial(oah.scale_by_adahessian, eps=1e-12, time_average="mean")

estimate = jax.jit(oah.value_grad_and_hessian_diag(loss_fn))


def key_of(draw: int) -> jax.Array:
    """The key of an estimate; the same that `oah.hutchinson` makes of its default seed."""
    return jax.random.fold_in(jax.random.key(0), draw)


def flat(tree: Any) -> np.ndarray:
    """The tree as one vector."""
    return np.asarray(ravel_pytree(tree)[0])


def unflat(vector: Any) -> Any:
    """The vector as parameters."""
    return ravel_pytree(PARAMS)[1](jnp.asarray(vector))


class Step(NamedTuple):
    """What the rule by hand sees of a step: parameters, gradient and estimate as vectors."""

    t: int
    w: np.ndarray
    g: np.ndarray
    h: np.ndarray
    value: float


class Rule:
    """AdaHessian's direction from its formulas; `h` None is a step without an estimate."""

    def __init__(self, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-12) -> None:
        self.b1, self.b2, self.eps = b1, b2, eps
        self.t = self.last = 0
        self.mu = self.nu = self.weight = 0.0

    def __call__(self, g: Any, h: Any) -> Any:
        self.t += 1
        self.mu = self.b1 * self.mu + (1 - self.b1) * g
        if h is not None:
            decay = self.b2 ** (self.t - self.last)
            self.nu, self.weight = decay * self.nu + (1 - decay) * h, decay * self.weight + 1 - decay
            self.last = self.t
        return self.mu / (1 - self.b1**self.t) / (np.abs(self.nu / self.weight) + self.eps)


def feed(way: Way, batch: Any, diag: Any) -> dict[str, Any]:
    """The extra argument of `update`."""
    return {"obj_fn": lambda params: loss_fn(params, batch)} if way == "obj_fn" else {"hessian_diag": diag}


def assert_trains_as(
    by_hand: Callable[[Step], Any],
    tx: Any,
    way: Way,
    *,
    feed: Callable[..., dict[str, Any]] = feed,
    more: Callable[..., dict[str, Any]] = lambda batch, value, grads: {},
    estimate: Callable[..., Any] = estimate,
    gradient: Callable[..., Any] = lambda t, params, grads: grads,
    draw: Callable[[int], int] = lambda t: t,
    params: Any = PARAMS,
    rtol: float = 1e-9,
    compiled: bool = False,
) -> Any:
    """At every step of a loop the updates are those that `by_hand` returns for it. Returns the last state.

    `more` gives further arguments of `update`, `gradient` what it gets in the place of the gradient, and `draw` the
    number of the estimate that a step makes, which differs from t where a wrapper leaves steps out. `compiled` saves
    time where there is a `cond`, which outside of `jit` is compiled at every call.
    """

    def update(updates: Any, state: Any, params: Any, batch: Any, value: Any, grads: Any, diag: Any) -> Any:
        return tx.update(updates, state, params, **feed(way, batch, diag), **more(batch, value, grads))

    update = jax.jit(update) if compiled else update
    params = jax.tree.map(jnp.asarray, params)
    state = tx.init(params)
    for t in range(STEPS):
        value, grads, diag = estimate(key_of(draw(t)), params, BATCHES[t])
        updates, state = update(gradient(t, params, grads), state, params, BATCHES[t], value, grads, diag)
        expected = by_hand(Step(t, flat(params), flat(grads), flat(diag), float(value)))
        np.testing.assert_allclose(flat(updates).astype(float), expected, rtol=rtol, atol=1e-12, err_msg=f"step {t}")
        params = optax.apply_updates(params, updates)
    assert not compiled or update._cache_size() == 1, "a later step was compiled anew"
    return state
