"""Numbers of every dtype and any size: half, single and double precision, curvature from 0 to the largest number."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.feeds import FEEDS, FIRST

import optax_adahessian as oah

# All these numbers and their products are exact in every dtype.
W = np.array([0.5, -1.0, 2.0])
C = np.array([1.0, 2.0, 3.0])


def cubic(w):
    return jnp.sum(jnp.asarray(C, w.dtype) * w**3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_one_step_in_each_dtype(dtype):
    """Against the rule in float64, off by the roundings of b1, b2 and of the result."""
    with jax.enable_x64(dtype == "float64"):
        w = jnp.asarray(W, dtype)
        value, grads, diag = oah.value_grad_and_hessian_diag(cubic)(FIRST, w)
        for got, expected in ((value, 22.125), (grads, 3 * C * W**2), (diag, 6 * C * W)):
            assert got.dtype == dtype
            np.testing.assert_array_equal(np.asarray(got, float), expected)
        tx = oah.scale_by_adahessian(eps=0.25)
        for feed in FEEDS:
            updates, state, _ = feed(tx, cubic, w, tx.init(w))
            expected = 3 * C * W**2 / (np.abs(6 * C * W) + 0.25)
            # The result is rounded to its dtype; 1 - b1 = 0.1 and the correction by it have the rounding of 1, which
            # is 10 times as large beside 0.1; the few other operations are far below that.
            error = jnp.finfo(dtype).eps + 2 * 10 * jnp.finfo(jnp.promote_types(dtype, "float32")).eps
            np.testing.assert_allclose(np.asarray(updates, float), expected, rtol=float(error))
            np.testing.assert_allclose(state.nu, (6 * C * W) ** 2, rtol=float(error))


def test_the_average_is_rounded_once_to_its_dtype():
    g, m = jax.random.normal(jax.random.key(0), (2, 1000), jnp.bfloat16)
    tx = oah.scale_by_adahessian(b1=0.9)
    _, state = tx.update(g, tx.init(m)._replace(mu=m), hessian_diag=jnp.ones_like(g))
    # float32's error, below 4 eps of numbers up to 4, is added to half a step of bfloat16, as it may tip over a tie.
    right = 0.9 * np.asarray(m, np.float64) + (1 - 0.9) * np.asarray(g, np.float64)
    half_step = 2.0 ** (np.floor(np.log2(np.abs(right))) - 8)
    assert np.all(
        np.abs(np.asarray(state.mu, np.float64) - right) <= half_step + 16 * float(jnp.finfo(jnp.float32).eps)
    )


def test_a_decay_in_single_is_taken_as_it_is_beside_double():
    """As `inject_hyperparams` gives it: 1 - 0.1 in single precision would be another number."""
    with jax.enable_x64(True):
        g, m, b1 = jnp.ones(1), jnp.zeros(1), jnp.float32(0.1)
        tx = oah.scale_by_adahessian(b1=b1)
        _, state = tx.update(g, tx.init(m), hessian_diag=g)
        assert state.mu == 1 - float(b1)


@pytest.mark.parametrize("number", [np.float64, np.float32, np.asarray])
def test_a_numpy_number_is_the_python_number(number):
    """It has no dtype of its own that updates would take, and 0 stores no momentum."""
    with jax.enable_x64(True):
        w = jnp.asarray(W, jnp.float32)
        hyper = {"b1": 0.5, "b2": 0.75, "eps": 0.25, "hessian_power": 0.5}  # exact in every dtype
        for tx, same in (
            (oah.scale_by_adahessian(**hyper), oah.scale_by_adahessian(**jax.tree.map(number, hyper))),
            (oah.scale_by_adahessian(b1=0), oah.scale_by_adahessian(b1=number(0))),
            (oah.adaptive_nesterov(0.75), oah.adaptive_nesterov(number(0.75))),
        ):
            tx, same = map(optax.with_extra_args_support, (tx, same))
            expected, state = tx.update(w, tx.init(w), w, hessian_diag=w)
            updates, same_state = same.update(w, same.init(w), w, hessian_diag=w)
            assert jax.tree.map(jax.typeof, (updates, same_state)) == jax.tree.map(jax.typeof, (expected, state))
            chex.assert_trees_all_close(updates, expected, rtol=1e-6)


@pytest.mark.parametrize("key", [3, np.int64(3), np.uint32(3), jax.random.key(3)])
def test_a_seed_may_be_any_integer(key):
    coupled = lambda w: jnp.sum(w) ** 2
    estimators = oah.hutchinson(key=jax.random.key(3)), oah.hutchinson(key=key)
    diags = [tx.update(W, tx.init(W), jnp.asarray(W), obj_fn=coupled)[0] for tx in estimators]
    np.testing.assert_array_equal(*diags)


EPS = 1e-4
ROWS = lambda path, leaf: (1, -1)
SIZES = [0.0, 1e-45, 1e-30, 1e-10, 1.0, 1e10, 1e18, 1e20, 1e30, np.inf]  # infinity: the largest of the dtype


@pytest.mark.parametrize("hessian_power", [1.0, 0.5])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_curvature_of_any_size_is_taken_in(dtype, hessian_power):
    """At most half the root of the largest number of the dtype it is accumulated in.

    That of a block, too: three times the largest number would be infinite.
    """
    with jax.enable_x64(dtype == "float64"):
        sizes = np.minimum(SIZES, float(jnp.finfo(dtype).max))
        h = jnp.asarray(np.outer(sizes, [1, 1, -1]), dtype)  # one row for each size, with alternating signs
        accumulated = jnp.finfo(jnp.promote_types(dtype, jnp.float32))
        smallest = np.sqrt(float(accumulated.tiny))
        for average, share in (
            (oah.SpatialAverage.none(), 1),
            (oah.SpatialAverage.custom(ROWS), 1),
            (oah.SpatialAverage.custom(ROWS, signed=True), 1 / 3),
        ):
            tx = oah.scale_by_adahessian(eps=EPS, hessian_power=hessian_power, spatial_average=average)
            state, update = tx.init(h), jax.jit(tx.update)
            for _ in range(2):
                updates, state = update(jnp.ones_like(h), state, hessian_diag=h)
            entered = np.minimum(share * np.abs(np.asarray(h, np.float64)), np.sqrt(float(accumulated.max)) / 2)
            expected = 1 / (np.maximum(entered, smallest) ** hessian_power + EPS)
            np.testing.assert_allclose(updates.astype(float), expected, rtol=8 * jnp.finfo(dtype).eps, atol=1e-30)
            assert np.all(np.isfinite(state.nu))


def test_the_largest_curvature_is_forgotten_at_the_rate_of_b2():
    tx = oah.scale_by_adahessian(b1=0, b2=0.5, eps=0.0)
    one, state, update = jnp.ones(1), tx.init(jnp.ones(1)), jax.jit(tx.update)
    for t in range(80):
        updates, state = update(one, state, hessian_diag=1e30 * one if t == 0 else one)
    # The mean of the squares with weights that halve from the last to the first.
    bound = np.sqrt(float(jnp.finfo(jnp.float32).max)) / 2
    np.testing.assert_allclose(updates, 1 / np.sqrt(1 + 0.5**80 * bound**2), rtol=1e-5)


def test_the_smallest_curvature_counts_as_the_root_of_the_smallest_normal_number():
    h, eps = jnp.array([0.0, 1e-30, 1e-20, 5e-18, 1e-17]), 1e-16
    tx = oah.scale_by_adahessian(b1=0, eps=eps)
    updates, _ = tx.update(jnp.ones(5), tx.init(h), hessian_diag=h)
    smallest = np.sqrt(float(jnp.finfo(jnp.float32).tiny))
    np.testing.assert_allclose(updates, 1 / (np.maximum(np.asarray(h, float), smallest) + eps), rtol=1e-5)


def test_a_second_moment_that_fades_away_leaves_the_bound():
    tx, one = oah.scale_by_adahessian(b1=0, b2=0.5, eps=EPS), jnp.ones(1)
    state, update = tx.init(one), jax.jit(tx.update)
    for t in range(160):
        updates, state = update(one, state, hessian_diag=0 * one if t else one)
        assert 0.99 < updates < 1.01 / EPS
    assert state.nu == jnp.finfo(jnp.float32).tiny
    np.testing.assert_allclose(updates, 1 / EPS, rtol=1e-5)


def test_without_eps_what_is_flat_makes_no_step():
    """Flat is not unknown: with an `eps` its denominator is that."""
    h, g = jnp.array([0.0, 0.0, 1e-30, 2.0]), jnp.array([1.0, 0.0, 1.0, 1.0])
    for eps, expected in ((0.0, [0, 0, 0, 1 / 2]), (0.5, [2, 0, 2, 1 / 2.5])):
        tx = oah.scale_by_adahessian(b1=0, eps=eps)
        updates, _ = tx.update(g, tx.init(h), hessian_diag=h)
        np.testing.assert_allclose(updates, expected, rtol=1e-6)


def test_a_number_without_a_dtype_of_its_own_keeps_the_types_of_the_state():
    """Under x64 `jnp.asarray(1.0)` is a weak float64, of which `jnp.result_type` with float32 would make float32."""
    with jax.enable_x64(True):
        tx, params = oah.adahessian(0.1), {"w": jnp.asarray(1.0)}
        before = tx.init(params)
        _, after = tx.update(params, before, params, hessian_diag={"w": jnp.ones(())})
        assert jax.tree.map(jax.typeof, before) == jax.tree.map(jax.typeof, after)
