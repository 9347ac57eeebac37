"""Losses as people write them: one function with a diagonal Hessian, of which a single probe is exact."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.feeds import fed_in_both_ways

# sum of c w^3: the gradient is 3 c w^2, the Hessian diagonal and 6 c w. All are exact in binary.
W = jnp.array([0.5, -1.0, 2.0])
C = jnp.array([1, 2, 3])
VALUE, GRADS, DIAG = 22.125, jnp.array([0.75, 6.0, 36.0]), jnp.array([3.0, -12.0, 36.0])

cube = jax.custom_jvp(lambda w: w**3)
cube.defjvp(lambda primals, tangents: (primals[0] ** 3, 3 * primals[0] ** 2 * tangents[0]))


def tied(w):
    """One array in two places of the model."""
    model = {"encoder": w, "decoder": w}
    return jnp.sum((C * model["encoder"]) * model["decoder"] ** 2)


WAYS = {
    "plain": lambda w: jnp.sum(C * w**3),
    "checkpoint": lambda w: jnp.sum(C * jax.checkpoint(lambda w: w**3)(w)),
    "scan": lambda w: jnp.sum(jax.lax.scan(lambda state, _: (state * w, None), C.astype(float), None, length=3)[0]),
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


def test_a_parameter_that_does_not_enter_the_loss_has_neither_slope_nor_curvature():
    zeros = jnp.zeros((2, 2))
    _, grads, diag = fed_in_both_ways(lambda p: WAYS["plain"](p["used"]), {"used": W, "unused": jnp.ones((2, 2))})
    chex.assert_trees_all_close((grads, diag), ({"used": GRADS, "unused": zeros}, {"used": DIAG, "unused": zeros}))


@pytest.mark.parametrize("empty", [{}, (), {"none": None}], ids=str)
def test_an_empty_tree(empty):
    chex.assert_trees_all_equal(fed_in_both_ways(lambda p: jnp.array(1.0), empty), (jnp.array(1.0), empty, empty))


@pytest.mark.parametrize("scalar", [2.0, np.array(2.0)], ids=["number", "array"])
def test_a_scalar(scalar):
    expected = jnp.array(8.0), jnp.array(12.0), jnp.array(12.0)
    chex.assert_trees_all_close(fed_in_both_ways(lambda w: w**3, scalar), expected)
