"""The path of an optimizer over a function, and the optimizers to compare AdaHessian with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_adahessian import hessian_vector_product, hutchinson


class Path(NamedTuple):
    """The points that an optimizer visits."""

    points: Any  # shape=(steps + 1, *start.shape): the start, then the point after each step
    losses: Any  # shape=(steps + 1,): the function at each point


@functools.partial(jax.jit, static_argnames=("tx", "fun", "steps"))
def trajectory(
    tx: optax.GradientTransformation,
    fun: Callable[[jax.Array], jax.Array],
    start: jax.typing.ArrayLike,
    steps: int,
    probes: jax.typing.ArrayLike | None = None,
) -> Path:
    """The path of `steps` steps of any optax transformation from `start`.

    The transformation is given `value`, `grad` and `value_fn`, as line searches and schedules need them, and the
    curvature in one of two ways. Without `probes` it is given ``obj_fn=fun``, from which `adahessian` and Sophia
    estimate the curvature and Newton's method computes it. With them it is given ``hessian_diag``: in each step the
    mean of z * Hz over that step's probes z.

    It is compiled once for each `tx`, `fun` and `steps`; `jax.vmap` maps it over `start` and `probes`.

    Args:
      tx: the optimizer.
      fun: a function of one array that returns a real scalar.
      start: the first point, a number or an array.
      steps: the number of steps, a Python integer.
      probes: random signs of shape ``(steps, probes per step, *start.shape)``, drawn or recorded.

    Returns:
      A `Path` of ``steps + 1`` points and losses. They can become infinite or NaN; see `finite_part`.

    Example:
      >>> import jax, optax_adahessian as oah
      >>> from optax_adahessian.analysis import SURFACES, trajectory
      >>> tx = oah.adahessian(1.0, b1=0.0, b2=0.0, eps=0.0)
      >>> probes = jax.random.rademacher(jax.random.key(0), (1, 1, 2), dtype=float)
      >>> trajectory(tx, SURFACES["quadratic"].fun, [1.0, 1.0], steps=1, probes=probes).losses.tolist()
      [6.0, 0.0]
    """
    tx = optax.with_extra_args_support(tx)
    first = jnp.asarray(start, float)

    def value_fn(point: jax.Array, obj_fn: Any = None, hessian_diag: Any = None) -> jax.Array:
        del obj_fn, hessian_diag  # a line search passes on what it does not use, and rejects what is not named here
        return fun(point)

    def step(carry: tuple[jax.Array, Any], signs: Any) -> tuple[tuple[jax.Array, Any], Path]:
        point, state = carry
        loss, grads = jax.value_and_grad(fun)(point)
        curvature = {"obj_fn": fun} if signs is None else {"hessian_diag": _mean_estimate(fun, point, signs)}
        updates, state = tx.update(grads, state, point, value=loss, grad=grads, value_fn=value_fn, **curvature)
        return (jnp.asarray(optax.apply_updates(point, updates)), state), Path(point, loss)

    signs = None if probes is None else jnp.asarray(probes)[:steps]
    (last, _), path = jax.lax.scan(step, (first, tx.init(first)), signs, length=steps)
    return Path(jnp.concatenate([path.points, last[None]]), jnp.append(path.losses, fun(last)))


def _mean_estimate(fun: Callable[[jax.Array], jax.Array], point: jax.Array, signs: jax.Array) -> jax.Array:
    z = signs.astype(point.dtype)
    return jnp.mean(z * jax.vmap(lambda one: hessian_vector_product(fun, point, one))(z), axis=0)


def finite_part(path: Path) -> Path:
    """The path up to the last point before one that is infinite or NaN, or whose loss is; in numpy."""
    points, losses = np.asarray(path.points), np.asarray(path.losses)
    finite = np.isfinite(losses) & np.isfinite(points.reshape(len(points), -1)).all(axis=1)
    length = len(losses) if finite.all() else int(np.argmin(finite))
    return Path(points[:length], losses[:length])


def newton(learning_rate: optax.ScalarOrSchedule = 1.0) -> optax.GradientTransformationExtraArgs:
    """Newton's method on a vector: the gradient, solved by the exact Hessian of ``obj_fn``.

    It goes to any point where the gradient vanishes, also to a saddle or a maximum. It stores the whole Hessian, and
    so is for small functions only.
    """

    def update_fn(updates: Any, state: Any, params: Any = None, *, obj_fn: Any, **extra: Any) -> tuple[Any, Any]:
        del extra
        return jnp.linalg.solve(jax.hessian(obj_fn)(params), updates), state

    solve = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update_fn)
    return optax.chain(solve, optax.scale_by_learning_rate(learning_rate))


OPTIMIZERS: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "adam": optax.adam,
    "momentum": lambda learning_rate: optax.sgd(learning_rate, momentum=0.9),
    "newton": newton,
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
    "sophia": lambda learning_rate: optax.contrib.sophia(learning_rate, hessian_diagonal_fn=hutchinson()),
}
"""The optimizers by name, each a function of the learning rate."""
