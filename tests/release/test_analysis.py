"""`optax_adahessian.analysis`: what is known of the surfaces, paths against hand-made ones, errors against theory."""

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
    estimate_report,
    small_network,
    trajectory,
)

# The second derivatives to x, x and y, and y, by hand.
SECOND_DERIVATIVES = {
    "quadratic": lambda x, y: (2, 0, 10),
    "quadratic-mixed": lambda x, y: (2, 1, 10),
    "rosenbrock": lambda x, y: (2 - 400 * y + 1200 * x**2, -400 * x, 200),
    "himmelblau": lambda x, y: (12 * x**2 + 4 * y - 42, 4 * (x + y), 12 * y**2 + 4 * x - 26),
    "noisy-bowl": lambda x, y: (2 + 25 * np.cos(10 * x), 1, 2 + 25 * np.cos(10 * y)),
}


@pytest.mark.parametrize("name", SURFACES)
def test_surface(name: str) -> None:
    surface = SURFACES[name]
    with jax.enable_x64(True):
        for x, y in np.random.default_rng(0).uniform(-3, 3, size=(5, 2)):
            xx, xy, yy = SECOND_DERIVATIVES[name](x, y)
            hessian = jax.hessian(surface.fun)(jnp.array([x, y]))
            np.testing.assert_allclose(hessian, [[xx, xy], [xy, yy]], rtol=1e-12, atol=1e-10)
        for minimum in jnp.asarray(surface.minima):
            np.testing.assert_allclose(jax.grad(surface.fun)(minimum), 0, atol=1e-10)
            assert np.all(np.linalg.eigvalsh(jax.hessian(surface.fun)(minimum)) > 0)


@pytest.mark.parametrize("feed", ["obj_fn", "probes"])
def test_trajectory_is_the_loop_written_out(feed: str) -> None:
    fun, start = SURFACES["rosenbrock"].fun, jnp.array([-1.2, 1.0])
    tx = optax.chain(optax.clip(1.0), oah.adahessian(0.3))
    probes = np.random.default_rng(0).choice([-1.0, 1.0], size=(6, 3, 2)).astype(np.float32)  # one more than steps
    path = trajectory(tx, fun, start, steps=5, probes=probes if feed == "probes" else None)

    @jax.jit
    def step(point, state, z):
        loss, grads = jax.value_and_grad(fun)(point)
        diag = jnp.mean(z * (z @ jax.hessian(fun)(point)), axis=0)
        curvature = {"hessian_diag": diag} if feed == "probes" else {"obj_fn": fun}
        updates, state = tx.update(grads, state, point, **curvature)
        return optax.apply_updates(point, updates), state, loss

    point, state = start, tx.init(start)
    for expected_point, expected_loss, z in zip(path.points, path.losses, probes, strict=True):
        np.testing.assert_allclose(point, expected_point, rtol=1e-5)
        point, state, loss = step(point, state, z)
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)


@pytest.mark.parametrize("name", [*OPTIMIZERS, "lbfgs", "polyak_sgd"])
def test_trajectory_of_any_optimizer(name: str) -> None:
    tx = OPTIMIZERS[name](DEFAULT_RATES[name]) if name in OPTIMIZERS else getattr(optax, name)()
    path = trajectory(tx, SURFACES["quadratic-mixed"].fun, [1, 1], steps=50)
    chex.assert_shape(path.points, (51, 2))
    chex.assert_shape(path.losses, (51,))
    chex.assert_tree_all_finite(path)
    assert path.losses[-1] < 0.1 * path.losses[0]
    if name == "newton":
        np.testing.assert_allclose(path.points[1], 0, atol=1e-6)  # the minimum, in one step


def test_trajectory_compiles_once_and_maps_over_probes() -> None:
    traces = 0

    def fun(v: jax.Array) -> jax.Array:
        nonlocal traces
        traces += 1
        return v[0] ** 2 + 5 * v[1] ** 2 + v[0] * v[1]

    tx = oah.adahessian(0.5, b1=0.0, b2=0.0, eps=0.0)
    probes = np.array([[[[1.0, 1.0]]], [[[1.0, -1.0]]]])  # of two runs, each of one step with one probe
    trajectory(tx, fun, jnp.ones(2), 1, probes[0])
    once = traces
    trajectory(tx, fun, jnp.array([2.0, -1.0]), 1, probes[1])
    assert traces == once
    paths = jax.vmap(lambda probes: trajectory(tx, fun, jnp.ones(2), 1, probes))(probes)
    # At (1, 1) the gradient is (3, 11); for a probe (s, t), z * H z is (2 + s t, 10 + s t).
    expected = [(1 - 0.5 * 3 / (2 + st), 1 - 0.5 * 11 / (10 + st)) for st in (1, -1)]
    np.testing.assert_allclose(paths.points[:, 1], expected, rtol=1e-6)


def test_estimate_of_a_network_agrees_with_theory() -> None:
    with jax.enable_x64(True):
        report = estimate_report(*small_network(), jax.random.key(0), max_probes=64, repetitions=200)
        report = jax.tree.map(np.asarray, report)
    np.testing.assert_allclose(report.gradient_of_product, report.hz, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(report.counts, [1, 4, 16, 64])
    off_diagonal = report.row_norm**2 - report.exact**2
    np.testing.assert_allclose(report.predicted_error**2, off_diagonal.mean() / report.counts, rtol=1e-12)
    # An error is a root mean square over at least 200 groups. The entries of a group are correlated: they count as one,
    # and the relative deviation is sqrt(2 / 200) / 2 where errors are about normal.
    np.testing.assert_allclose(report.measured_error, report.predicted_error, rtol=4 * np.sqrt(2 / 200) / 2)
    assert np.all(np.abs(report.estimate - report.exact) <= 5 * np.sqrt(off_diagonal / 64))
    np.testing.assert_allclose(report.root_mean_square, report.row_norm, rtol=5 * np.sqrt(2 / (64 * 200)))
