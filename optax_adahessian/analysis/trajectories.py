"""The path of an optimizer over a function, and where it stops being finite."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_adahessian import HutchinsonState
from optax_adahessian._checks import check_callable, check_static_integer
from optax_adahessian._probes import check_key


class Path(NamedTuple):
    """The points that an optimizer visits."""

    points: Any  # shape=(steps + 1, *start.shape): the start, then the point after each step
    losses: Any  # shape=(steps + 1,): the function at each point


def trajectory(
    tx: optax.GradientTransformation,
    fun: Callable[[jax.Array], jax.Array],
    start: jax.typing.ArrayLike,
    steps: int,
    key: jax.Array | None = None,
) -> Path:
    """The path of `steps` steps of any optax transformation from `start`, compiled as one loop.

    The transformation is handed `obj_fn`, `value`, `grad` and `value_fn` where it accepts extra arguments: what
    AdaHessian, Sophia, Newton's method, line searches and plateau schedules ask for. Compiled once for each `tx`, `fun`
    and `steps`; `start` and `key` can be mapped over with `jax.vmap`.

    Args:
      tx: the optimizer.
      fun: a function of one array that returns a real scalar.
      start: the first point, a number or an array.
      steps: how many steps to take, a Python integer.
      key: chooses the probes of every `hutchinson` inside `tx`: another key, other probes. None leaves them as in
        training, where each estimator has its own key.

    Returns:
      A `Path` of ``steps + 1`` points and losses. They can become infinite or NaN; see `finite_part`.

    Raises:
      TypeError, ValueError: for an argument of the wrong type, or `steps` below 1.

    Example:
      >>> import optax_adahessian as oah
      >>> from optax_adahessian.analysis import SURFACES, trajectory
      >>> tx = oah.adahessian(learning_rate=1.0, b1=0.0, b2=0.0, max_step=None)
      >>> path = trajectory(tx, SURFACES["quadratic"].fun, [1.0, 1.0], steps=1)
      >>> path.losses.tolist()
      [6.0, 0.0]
    """
    if not isinstance(tx, optax.GradientTransformation):
        raise TypeError(f"`tx` (={tx!r}) must be an optax transformation. Pass e.g. optax.adam(0.1).")
    check_callable("fun", fun, "lambda v: jnp.sum(v**2)")
    check_static_integer("steps", steps, minimum=1)
    if key is not None:
        check_key("key", key)
    if not isinstance(start, jax.Array):
        start = np.asarray(start)
    if start.dtype.kind not in "biuf" and not jnp.issubdtype(start.dtype, jnp.floating):
        raise TypeError(f"`start` (of dtype {start.dtype.name}) must be a real number or an array of them.")
    return _trajectory(tx, fun, start, int(steps), key)


@functools.partial(jax.jit, static_argnames=("tx", "fun", "steps"))
def _trajectory(
    tx: optax.GradientTransformation,
    fun: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    steps: int,
    key: jax.Array | None,
) -> Path:
    tx = optax.with_extra_args_support(tx)
    first = start.astype(jnp.result_type(start, float))

    def value_fn(point: jax.Array, obj_fn: Any = None) -> jax.Array:
        del obj_fn  # optax's line searches hand on what they do not take themselves, and `value_fn` must name it
        return fun(point)

    def step(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], tuple[jax.Array, jax.Array]]:
        point, state = carry
        loss, grads = jax.value_and_grad(fun)(point)
        updates, state = tx.update(grads, state, point, obj_fn=fun, value=loss, grad=grads, value_fn=value_fn)
        return (jnp.asarray(optax.apply_updates(point, updates)), state), (point, loss)

    state = tx.init(first)
    if key is not None:
        state = _with_draws_from(key, state)
    (last, _), (points, losses) = jax.lax.scan(step, (first, state), length=steps)
    return Path(jnp.concatenate([points, last[None]]), jnp.append(losses, fun(last)))


def finite_part(path: Path) -> Path:
    """The path up to the last point before one that is infinite or NaN, or whose loss is; in numpy."""
    if not isinstance(path, Path):
        raise TypeError(f"`path` (of type {type(path).__name__}) must be a `Path`. Pass what `trajectory` returns.")
    points, losses = np.asarray(path.points), np.asarray(path.losses)
    finite = np.isfinite(losses) & np.isfinite(points.reshape(len(points), -1)).all(axis=1)
    length = len(losses) if finite.all() else int(np.argmin(finite))
    return Path(points[:length], losses[:length])


def _with_draws_from(key: jax.Array, state: Any) -> Any:
    """`state` with the counters of its estimators, from which their probes follow, set to a number drawn from `key`."""
    draws = jax.random.randint(key, (), 0, 2**30, dtype=jnp.int32)

    def moved(node: Any) -> Any:
        return HutchinsonState(draws=draws) if isinstance(node, HutchinsonState) else node

    return jax.tree.map(moved, state, is_leaf=lambda node: isinstance(node, HutchinsonState))
