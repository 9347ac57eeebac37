"""A row of the matrix and its check: a small net, a batch for every step, and AdaHessian once more by hand in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import optax_adahessian as oah

TRIED = {"optax": "0.2.8", "jax": "0.10.2"}  # the versions whose refusals are recorded here

Way = Literal["obj_fn", "hessian_diag"]
WAYS: tuple[Way, ...] = ("obj_fn", "hessian_diag")


class Outcome(NamedTuple):
    """A word for the table, and the pattern of the error that must come, if any."""

    word: str
    error: str | None = None


WORKS = Outcome("works")
NO_CELL = Outcome("")  # the combination is not about this way of feeding


def refuses(error: str) -> Outcome:
    """The error names the way out."""
    return Outcome("refuses", error)


def impossible(error: str) -> Outcome:
    """Optax raises before the arguments reach us."""
    return Outcome(f"impossible in optax {TRIED['optax']}", error)


class Row(NamedTuple):
    """`check(way)` passes where the outcome is `WORKS`, and raises the outcome's error otherwise."""

    combination: str
    remark: str
    obj_fn: Outcome
    hessian_diag: Outcome
    check: Callable[[Way], Any]


class Group:
    """Rows under a title, in the order in which they are added."""

    def __init__(self, title: str) -> None:
        self.title, self.rows = title, list[Row]()

    def row(self, combination: str, remark: str, obj_fn: Outcome = WORKS, hessian_diag: Outcome = WORKS) -> Any:
        """Makes a row of the check that follows."""
        return lambda check: self.rows.append(Row(combination, remark, obj_fn, hessian_diag, check))

    def add(self, combination: str, remark: str, make: Any, by_hand: Any, *outcomes: Outcome, **options: Any) -> None:
        """Adds a row: the transformation that `make` returns trains as `by_hand`."""
        self.row(combination, remark, *outcomes)(lambda way: assert_trains_as(by_hand, make(), way, **options))


RATE, B2, STEPS = 0.1, 0.999, 4
# NumPy keeps float64 whether or not JAX does so far: each check runs under `jax.enable_x64`.
PARAMS = {"bias": np.array([0.5, 1.0]), "kernel": np.linspace(-1, 1, 6).reshape(3, 2)}
IS_KERNEL = np.array([False] * 2 + [True] * 6)  # of the flat parameters
ONLY_KERNEL = {"bias": False, "kernel": True}
BATCHES = np.random.default_rng(0).normal(size=(STEPS, 4, 3))

adahessian, scale_by_adahessian = oah.adahessian, oah.scale_by_adahessian


def loss_fn(params: Any, batch: Any) -> jax.Array:
    """Squared error of a net with one hidden layer: every parameter is coupled with every other."""
    return jnp.mean((jnp.tanh(batch @ params["kernel"]) @ params["bias"] - jnp.sum(batch, axis=1)) ** 2)


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
    """What the rule by hand sees of a step: parameters, gradient and estimate as vectors, and the gradient before."""

    t: int
    w: np.ndarray
    g: np.ndarray
    h: np.ndarray
    value: float
    before: np.ndarray


class Rule:
    """AdaHessian's direction from its formulas; `h` None is a step without an estimate."""

    def __init__(self, b1: float = 0.9) -> None:
        self.b1, self.t, self.last = b1, 0, 0
        self.mu = self.nu = 0.0

    def __call__(self, g: Any, h: Any) -> Any:
        self.t += 1
        self.mu = self.b1 * self.mu + (1 - self.b1) * g
        if h is not None:
            weight = (1 - B2 ** (self.t - self.last)) / (1 - B2**self.t)
            self.nu, self.last = (1 - weight) * self.nu + weight * h**2, self.t
        return self.mu / (1 - self.b1**self.t) / (np.sqrt(self.nu) + 1e-4)


def plain(s: Step, rule: Rule) -> Any:
    """`adahessian(RATE)` by hand."""
    return -RATE * rule(s.g, s.h)


def feed(way: Way, batch: Any, diag: Any) -> dict[str, Any]:
    """The extra argument of `update`."""
    return {"obj_fn": lambda params: loss_fn(params, batch)} if way == "obj_fn" else {"hessian_diag": diag}


def assert_trains_as(
    by_hand: Callable[[Step, Rule], Any],
    tx: Any,
    way: Way,
    *,
    feed: Callable[..., dict[str, Any]] = feed,
    more: Callable[..., dict[str, Any]] = lambda batch, value, grads: {},
    estimate: Callable[..., Any] = estimate,
    gradient: Callable[..., Any] = lambda t, params, grads: grads,
    draw: Callable[[int], int] = lambda t: t,
    params: Any = PARAMS,
    b1: float = 0.9,
    rtol: float = 1e-9,
    atol: float = 1e-12,
    compiled: bool = False,
) -> tuple[Any, Rule]:
    """At every step of a loop the updates are those that `by_hand` returns for it. Returns the last state and the rule.

    `more` gives further arguments of `update`, `gradient` what it gets instead of the gradient, and `draw` the number
    of the estimate that a step makes, which differs from t where a wrapper leaves steps out. `compiled` saves time
    where there is a `cond`, which outside of `jit` is compiled at every call.
    """

    def update(updates: Any, state: Any, params: Any, batch: Any, value: Any, grads: Any, diag: Any) -> Any:
        return tx.update(updates, state, params, **feed(way, batch, diag), **more(batch, value, grads))

    update = jax.jit(update) if compiled else update
    params = jax.tree.map(jnp.asarray, params)
    state, rule, before = tx.init(params), Rule(b1), np.zeros(8)
    for t in range(STEPS):
        value, grads, diag = estimate(key_of(draw(t)), params, BATCHES[t])
        updates, state = update(gradient(t, params, grads), state, params, BATCHES[t], value, grads, diag)
        expected = by_hand(Step(t, flat(params), flat(grads), flat(diag), float(value), before), rule)
        np.testing.assert_allclose(flat(updates).astype(float), expected, rtol=rtol, atol=atol, err_msg=f"step {t}")
        params, before = optax.apply_updates(params, updates), flat(grads)
    assert not compiled or update._cache_size() == 1, "a later step was compiled anew"
    return state, rule
