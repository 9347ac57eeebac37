"""Half, single and double precision, beside one another; and a loss that is scaled against underflow."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.feeds import FIRST_DRAW

import optax_adahessian as oah


def fed_by_diag(tx, loss, state, w):
    draw = jax.random.fold_in(jax.random.key(0), optax.tree.get(state, "count"))
    _, grads, diag = oah.value_grad_and_hessian_diag(loss)(draw, w)
    return tx.update(grads, state, w, hessian_diag=diag)


def fed_by_loss(tx, loss, state, w):
    return tx.update(jax.grad(loss)(w), state, w, obj_fn=loss)


FEEDS = [fed_by_diag, fed_by_loss]


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
        value, grads, diag = oah.value_grad_and_hessian_diag(cubic)(FIRST_DRAW, w)
        for got, expected in ((value, 22.125), (grads, 3 * C * W**2), (diag, 6 * C * W)):
            assert got.dtype == dtype
            np.testing.assert_array_equal(np.asarray(got, float), expected)
        tx = oah.scale_by_adahessian(eps=0.25)
        for feed in FEEDS:
            updates, state = feed(tx, cubic, tx.init(w), w)
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


@pytest.mark.parametrize("feed", FEEDS)
def test_an_entry_that_overflows_by_its_scale_is_rejected(feed):
    """The last 6 c w = 13.5 times 2^13 is more than 65,504, float16's largest, and 3 c w^2 = 5.1 times 2^13 is not."""
    w = jnp.array([0.5, 0.25, 0.75], jnp.float16)
    overflowing = lambda w: jnp.float16(2**13) * cubic(w)
    tx = oah.scale_by_adahessian()
    _, state = feed(tx, cubic, tx.init(w), w)
    updates, new_state = feed(tx, overflowing, state, w)
    without, _ = tx.update(jax.grad(overflowing)(w), state, hessian_diag=None)
    assert updates[2] == without[2]
    assert np.all(updates[:2] < without[:2])
    chex.assert_tree_all_finite(updates)
    assert new_state.rejected == 1
