"""A row of the matrix and its check: a loss that moves at every step, and the rule by hand in NumPy."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import optax_adahessian as oah
from tests.helpers.model import Rule

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


RATE, STEPS = 0.1, 4
# NumPy keeps float64 whether or not JAX does so far: each check runs under `jax.enable_x64`.
PARAMS = {"bias": np.array([0.5, 1.0]), "kernel": np.linspace(-1, 1, 6).reshape(3, 2)}
IS_KERNEL = np.array([False] * 2 + [True] * 6)  # of the flat parameters
ONLY_KERNEL = {"bias": False, "kernel": True}
TARGETS = np.random.default_rng(0).normal(size=(STEPS, 8))

adahessian, scale_by_adahessian = oah.adahessian, oah.scale_by_adahessian


def loss_fn(params: Any, target: Any) -> jax.Array:
    """Each entry has a curvature of its own and no other, so that its estimate is exact whatever the signs."""
    x = ravel_pytree(params)[0] - target
    return jnp.sum(x**2 + jnp.sin(x))


def flat(tree: Any) -> np.ndarray:
    """The tree as one vector of double precision."""
    return np.asarray(ravel_pytree(tree)[0]).astype(float)


def unflat(vector: Any) -> Any:
    """The vector as parameters."""
    return ravel_pytree(PARAMS)[1](jnp.asarray(vector))


class Step(NamedTuple):
    """A step as the rule by hand sees it: everything as vectors, the derivatives from their formulas."""

    t: int
    w: np.ndarray
    target: np.ndarray

    @property
    def g(self) -> np.ndarray:
        """The gradient."""
        return 2 * (self.w - self.target) + np.cos(self.w - self.target)

    @property
    def h(self) -> np.ndarray:
        """The diagonal of the Hessian."""
        return 2 - np.sin(self.w - self.target)


def feed(way: Way, s: Step) -> dict[str, Any]:
    """The extra argument of `update`."""
    return {"obj_fn": lambda p: loss_fn(p, s.target)} if way == "obj_fn" else {"hessian_diag": unflat(s.h)}


def plain(s: Step, rule: Rule) -> Any:
    """`adahessian(RATE)` by hand."""
    return -RATE * rule(s.g, s.h)


def assert_trains_as(
    by_hand: Callable[[Step, Rule], Any],
    tx: Any,
    way: Way,
    *,
    arguments: Callable[[Way, Step], dict[str, Any]] = feed,
    params: Any = PARAMS,
    targets: Any = TARGETS,
    rtol: float = 1e-9,
) -> tuple[Any, Rule]:
    """At every step of a loop the updates are those that `by_hand` returns for it. Returns the last state and the rule.

    `arguments` gives the extra arguments of `update`. `rtol` is relative to the largest entry.
    """
    params = jax.tree.map(jnp.asarray, params)
    state, rule = tx.init(params), Rule()
    for t, target in enumerate(targets):
        s = Step(t, flat(params), target)
        grads = jax.tree.map(lambda g, p: g.astype(p.dtype), unflat(s.g), params)
        updates, state = tx.update(grads, state, params, **arguments(way, s))
        expected = by_hand(s, rule)
        atol = rtol * np.max(np.abs(expected))
        np.testing.assert_allclose(flat(updates), expected, rtol=0, atol=atol, err_msg=f"step {t}")
        params = optax.apply_updates(params, updates)
    return state, rule
