"""Losses as people write them: one function with a diagonal Hessian, of which a single probe is exact."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.feeds import assert_signed_product, fed_in_both_ways

import optax_adahessian as oah

# sum of c w^3: the gradient is 3 c w^2, the Hessian diagonal and 6 c w. All are exact in binary.
W = jnp.array([0.5, -1.0, 2.0])
C = jnp.array([1, 2, 3])
VALUE, GRADS, DIAG = 22.125, jnp.array([0.75, 6.0, 36.0]), jnp.array([3.0, -12.0, 36.0])


@jax.custom_jvp
def cube(w):
    return w**3


@cube.defjvp
def cube_jvp(primals, tangents):
    (w,), (t,) = primals, tangents
    return w**3, 3 * w**2 * t


def recurrence(w):
    state, _ = jax.lax.scan(lambda state, c: (state * w, None), C.astype(float), None, length=3)
    return jnp.sum(state)


def tied(w):
    """One array in two places of the model."""
    model = {"encoder": w, "decoder": w}
    return jnp.sum((C * model["encoder"]) * model["decoder"] ** 2)


WAYS = {
    "plain": lambda w: jnp.sum(C * w**3),
    "checkpoint": lambda w: jnp.sum(C * jax.checkpoint(lambda w: w**3)(w)),
    "scan": recurrence,
    "fori_loop": lambda w: jnp.sum(jax.lax.fori_loop(0, 3, lambda i, state: state * w, C.astype(float))),
    "cond": lambda w: jax.lax.cond(jnp.sum(C) > 0, lambda: jnp.sum(C * w**3), lambda: 0.0),
    "vmap": lambda w: jnp.sum(jax.vmap(lambda c, w: c * w**3)(C, w)),
    "custom_jvp": lambda w: jnp.sum(C * cube(w)),
    "integer indices": lambda w: jnp.sum(w[jnp.array([0, 1, 1, 2, 2, 2])] ** 3),
    "linear solve": lambda w: jnp.sum(jnp.linalg.solve(jnp.diag(1 / C), (w**3)[:, None])),
    "complex inside": lambda w: jnp.sum(C * jnp.real(((1 + 1j) * w) ** 3 / (1 + 1j) ** 3)),
    "shared": tied,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_way_to_write_it(way):
    chex.assert_trees_all_close(fed_in_both_ways(WAYS[way], W), (jnp.array(VALUE), GRADS, DIAG), rtol=2e-6)


def test_arguments_and_aux():
    """By position and by keyword, also by the names that the estimate has for its own; integers among them."""

    def loss(w, coefficients, *, key, params):
        value = jnp.sum(coefficients * w ** params["power"])
        return value, {"seen": coefficients + 1, "batch_stats": 0.5 * jax.lax.stop_gradient(w), "key": key}

    (value, aux), grads, diag = fed_in_both_ways(loss, W, C, has_aux=True, key=jnp.int32(7), params={"power": 3})
    chex.assert_trees_all_close((value, grads, diag), (jnp.array(VALUE), GRADS, DIAG))
    chex.assert_trees_all_equal(aux, {"seen": C + 1, "batch_stats": W / 2, "key": jnp.int32(7)})


def test_a_recurrence_couples_what_it_carries():
    x = jax.random.normal(jax.random.key(0), (5, 2))
    params = {"carry": jnp.array([[0.5, -1.0], [0.25, 0.75]]), "bias": jnp.array([0.1, -0.2])}

    def loss(params):
        def cell(h, x):
            return jnp.tanh(h @ params["carry"] + x + params["bias"]), None

        return jnp.sum(jax.lax.scan(jax.checkpoint(cell), jnp.zeros(2), x)[0] ** 2)

    assert_signed_product(loss, params, fed_in_both_ways(loss, params, eager=False)[2])


def test_a_parameter_that_does_not_enter_the_loss_has_neither_slope_nor_curvature():
    params, zeros = {"used": W, "unused": jnp.ones((2, 2))}, jnp.zeros((2, 2))
    _, grads, diag = fed_in_both_ways(lambda p: WAYS["plain"](p["used"]), params)
    expected = {"used": GRADS, "unused": zeros}, {"used": DIAG, "unused": zeros}
    chex.assert_trees_all_close((grads, diag), expected)
    constant = jnp.array(1.0), {"w": jnp.zeros(3)}, {"w": jnp.zeros(3)}
    chex.assert_trees_all_equal(fed_in_both_ways(lambda p: jnp.array(1.0), {"w": W}), constant)


@pytest.mark.parametrize("empty", [{}, (), {"none": None}], ids=str)
def test_an_empty_tree(empty):
    chex.assert_trees_all_equal(fed_in_both_ways(lambda p: jnp.array(1.0), empty), (jnp.array(1.0), empty, empty))


@pytest.mark.parametrize("scalar", [2.0, np.array(2.0)], ids=["number", "array"])
def test_a_scalar(scalar):
    expected = jnp.array(8.0), jnp.array(12.0), jnp.array(12.0)
    chex.assert_trees_all_close(fed_in_both_ways(lambda w: w**3, scalar), expected)
    state = oah.scale_by_adahessian().init(scalar)
    chex.assert_shape([state.mu, state.nu], ())
