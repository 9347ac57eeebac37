"""`optax_adahessian.analysis`: what is known of the surfaces, paths against hand-made ones, errors against theory."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adahessian as oah
from optax_adahessian.analysis import (
    DEFAULT_RATES,
    OPTIMIZERS,
    SURFACES,
    Path,
    estimate_report,
    finite_part,
    newton,
    recorded_probes,
    trajectory,
)

SURFACE_CASES = pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES)


@SURFACE_CASES
def test_hessian_of_surface(surface) -> None:
    points = np.random.default_rng(0).uniform(-3, 3, size=(5, 2))
    with jax.enable_x64(True):
        expected = jax.vmap(jax.hessian(surface.fun))(jnp.asarray(points))
        np.testing.assert_allclose(jax.vmap(surface.hessian)(jnp.asarray(points)), expected, rtol=1e-12, atol=1e-10)


@SURFACE_CASES
def test_minima_of_surface(surface) -> None:
    left, right, bottom, top = surface.window
    grid = jnp.stack(jnp.meshgrid(jnp.linspace(left, right, 101), jnp.linspace(bottom, top, 101)), axis=-1)
    with jax.enable_x64(True):
        lowest_on_grid = jax.vmap(jax.vmap(surface.fun))(jnp.asarray(grid, float)).min()
        for minimum in jnp.asarray(surface.minima):
            np.testing.assert_allclose(jax.grad(surface.fun)(minimum), 0, atol=1e-10)
            assert np.all(np.linalg.eigvalsh(surface.hessian(minimum)) > 0)
            assert surface.fun(minimum) <= lowest_on_grid + 1e-12
            assert left < minimum[0] < right
            assert bottom < minimum[1] < top


def test_trajectory_is_the_loop_written_out() -> None:
    fun, start = SURFACES["rosenbrock"].fun, jnp.array([-1.2, 1.0])
    tx = optax.chain(optax.clip(1.0), oah.adahessian(0.3))
    path = trajectory(tx, fun, start, steps=5)

    @jax.jit
    def step(point, state):
        loss, grads = jax.value_and_grad(fun)(point)
        updates, state = tx.update(grads, state, point, obj_fn=fun)
        return optax.apply_updates(point, updates), state, loss

    point, state = start, tx.init(start)
    for expected_point, expected_loss in zip(path.points, path.losses, strict=True):
        np.testing.assert_allclose(point, expected_point, rtol=1e-5)
        point, state, loss = step(point, state)
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)


@pytest.mark.parametrize("name", [*OPTIMIZERS, "lbfgs", "polyak_sgd"])
def test_trajectory_of_any_optimizer(name: str) -> None:
    tx = OPTIMIZERS[name](DEFAULT_RATES[name]) if name in OPTIMIZERS else getattr(optax, name)()
    path = trajectory(tx, SURFACES["quadratic-mixed"].fun, [1, 1], steps=50)
    chex.assert_shape(path.points, (51, 2))
    chex.assert_shape(path.losses, (51,))
    chex.assert_tree_all_finite(path)
    assert path.losses[-1] < 0.1 * path.losses[0]


def test_trajectory_compiles_once_and_maps_over_starts_and_keys() -> None:
    traces = 0

    def fun(v: jax.Array) -> jax.Array:
        nonlocal traces
        traces += 1
        return v[0] ** 2 + 5 * v[1] ** 2 + v[0] * v[1]

    tx = oah.adahessian(0.5, b1=0.0, b2=0.0, eps=0.0, max_step=None)
    path = trajectory(tx, fun, jnp.ones(2), 4)
    once = traces
    trajectory(tx, fun, jnp.array([2.0, -1.0]), 4)
    assert traces == once
    keys = jax.random.split(jax.random.key(0), 8)
    paths = jax.vmap(lambda key: trajectory(tx, fun, jnp.ones(2), 4, key))(keys)
    chex.assert_shape(paths.points, (8, 5, 2))
    # From (1, 1), H z is (2 s + t, s + 10 t) for a probe (s, t): two different first steps, as s = t or not.
    first_steps = {tuple(step) for step in np.round(np.asarray(paths.points[:, 1]), 4).tolist()}
    expected = {(1 - 0.5 * 3 / (2 + s), 1 - 0.5 * 11 / (10 + s)) for s in (1, -1)}
    assert first_steps == {tuple(np.round(np.float32(p), 4).tolist()) for p in expected}
    assert tuple(np.round(np.asarray(path.points[1]), 4).tolist()) in first_steps


def test_newton_reaches_the_minimum_of_any_quadratic_in_one_step() -> None:
    path = trajectory(newton(), SURFACES["quadratic-mixed"].fun, [1.0, 1.0], steps=1)
    np.testing.assert_allclose(path.points[-1], 0, atol=1e-6)


def test_finite_part_ends_before_what_is_not_finite() -> None:
    points = np.array([[0.0, 0], [1, 1], [np.inf, 1], [2, 2]])
    np.testing.assert_array_equal(finite_part(Path(points, np.zeros(4))).points, points[:2])
    np.testing.assert_array_equal(finite_part(Path(points, np.array([0, np.nan, 0, 0]))).points, points[:1])
    np.testing.assert_array_equal(finite_part(Path(points[:2], np.zeros(2))).losses, np.zeros(2))


def test_recorded_probes_repeat_a_run() -> None:
    fun = SURFACES["noisy-bowl"].fun
    probes = np.random.default_rng(0).choice([-1, 1], size=(6, 3, 2))
    path = trajectory(oah.adahessian(hessian_diagonal_fn=recorded_probes(probes)), fun, [-2.0, -1.0], steps=6)

    @jax.jit
    def step(point, state, z):
        diag = jnp.mean(z * (z @ jax.hessian(fun)(point)), axis=0)
        updates, state = tx.update(jax.grad(fun)(point), state, point, hessian_diag=diag)
        return optax.apply_updates(point, updates), state

    tx, point = oah.adahessian(), jnp.array([-2.0, -1.0])
    state = tx.init(point)
    for z in probes.astype(np.float32):
        point, state = step(point, state, z)
    np.testing.assert_allclose(path.points[-1], point, rtol=1e-4)


@pytest.mark.parametrize("probes", [np.ones((2, 2)), np.zeros((1, 1, 2)), [[[1, 2]]]])
def test_recorded_probes_refuses_what_are_no_signs(probes) -> None:
    with pytest.raises(ValueError, match="must be an array of signs"):
        recorded_probes(probes)


def test_estimate_of_a_diagonal_hessian_has_no_error() -> None:
    report = estimate_report(SURFACES["quadratic"].fun, jnp.ones(2), jax.random.key(0), max_probes=4, repetitions=3)
    for diag in (report.exact, report.estimate, report.root_mean_square, report.row_norm):
        np.testing.assert_allclose(diag, [2, 10], rtol=1e-6)
    np.testing.assert_allclose(report.measured_error, 0, atol=1e-6)
    np.testing.assert_array_equal(report.predicted_error, 0)
