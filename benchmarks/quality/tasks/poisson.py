"""A physics-informed network for a Poisson problem with a known solution."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.quality.task import Data, Task
from benchmarks.quality.tasks.layers import dense, init_dense

POINTS = 128  # inside, and on the boundary, of a batch


def solution(points: Any) -> jax.Array:
    """``u = sin(pi x) sin(2 pi y)``, which is zero on the boundary of the unit square."""
    return jnp.sin(jnp.pi * points[:, 0]) * jnp.sin(2 * jnp.pi * points[:, 1])


def _network(params: Any, points: jax.Array) -> jax.Array:
    return dense(params, points)[:, 0]


def _laplacian(params: Any, points: jax.Array) -> jax.Array:
    """The sum of the second derivatives along the two axes, each by forward mode twice."""

    def second_derivative(axis: int) -> jax.Array:
        along = jnp.zeros_like(points).at[:, axis].set(1.0)

        def derivative(points: jax.Array) -> jax.Array:
            return jax.jvp(lambda p: _network(params, p), (points,), (along,))[1]

        return jax.jvp(derivative, (points,), (along,))[1]

    return second_derivative(0) + second_derivative(1)


def _loss(params: Any, batch: Any) -> jax.Array:
    """The mean squared residual of ``laplace(u) = -5 pi^2 sin(pi x) sin(2 pi y)``, and that of the boundary."""
    inside, boundary = batch
    residual = _laplacian(params, inside) / (5 * jnp.pi**2) + solution(inside)
    return jnp.mean(residual**2) + jnp.mean(_network(params, boundary) ** 2)


def _relative_error(params: Any, points: jax.Array) -> jax.Array:
    exact = solution(points)
    return jnp.linalg.norm(_network(params, points) - exact) / jnp.linalg.norm(exact)


def _batch_at(rng: np.random.Generator) -> Any:
    inside, boundary = rng.random((2, POINTS, 2), np.float32)
    side = rng.integers(2, size=POINTS)
    boundary[np.arange(POINTS), side] = rng.integers(2, size=POINTS)
    return inside, boundary


def task() -> Task:
    """Two hidden layers of 32, tanh; trained on residuals, reported by the relative error of the solution."""
    rng = np.random.default_rng(0)
    data = Data(_batch_at, validation=rng.random((1000, 2), np.float32), test=rng.random((1000, 2), np.float32))
    return Task(
        title="Physics-informed net, Poisson",
        init=lambda key: init_dense(key, (2, 32, 32, 1)),
        loss_fn=_loss,
        data=lambda seed: data,
        measure=_relative_error,
        metric="relative error of the solution",
        steps=2000,
        repeats=4,
    )
