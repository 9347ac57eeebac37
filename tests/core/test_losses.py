"""Losses as people write them, also with derivative rules of their own; and where JAX's error gets a note."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.feeds import FEEDS, FIRST

import optax_adahessian as oah

# sum of c f(w)^2 with f(w) = w^3, that is of c w^6, with the gradient 6 c w^5 and the Hessian diagonal 30 c w^4.
W = jnp.array([0.5, -1.0, 2.0])
C = jnp.array([1.0, 2.0, 3.0])
EPS = 2.0**-10
EXPECTED = jnp.array(194.015625), 6 * C * W**5, 30 * C * W**4
OTHER = {"forward_over_reverse": "reverse_over_reverse", "reverse_over_reverse": "forward_over_reverse"}


def loss_of(cube):
    return lambda w: jnp.sum(C * cube(w) ** 2)


def custom(fun, fwd, bwd):
    fun = jax.custom_vjp(fun)
    fun.defvjp(fwd, bwd)
    return fun


plain = custom(lambda w: w**3, lambda w: (w**3, w), lambda w, g: (3 * w**2 * g,))
square = custom(lambda w: w**2, lambda w: (w**2, w), lambda w, g: (2 * w * g,))
nested = custom(lambda w: w**3, lambda w: (w**3, w), lambda w, g: (3 * square(w) * g,))


def squared_by_loop(w):
    """By a loop that runs while its counter says so: forward mode alone passes it."""
    return jax.lax.while_loop(lambda carry: carry[0] < 2, lambda carry: (carry[0] + 1, carry[1] * w), (0, 1 + 0 * w))[1]


loop_backwards = custom(lambda w: w**3, lambda w: (w**3, w), lambda w, g: (3 * squared_by_loop(w) * g,))

of_jvp = jax.custom_jvp(lambda w: w**3)
of_jvp.defjvp(lambda primals, tangents: (primals[0] ** 3, 3 * primals[0] ** 2 * tangents[0]))


FORWARD = {
    "jnp": lambda w: w**3,
    "fori_loop": lambda w: jax.lax.fori_loop(0, 3, lambda i, state: state * w, jnp.ones(3)),
    "cond": lambda w: jax.lax.cond(jnp.sum(C) > 0, lambda: w**3, lambda: w),
    "complex inside": lambda w: jnp.real(((1 + 1j) * w) ** 3 / (1 + 1j) ** 3),
    "custom_jvp": of_jvp,
    "custom_vjp": plain,
    "under vmap": jax.vmap(plain),
    "in checkpoint": jax.checkpoint(plain),
    "in scan": lambda w: jax.lax.scan(lambda _, x: (None, plain(x)), None, w)[1],
    "a loop in the backward rule": loop_backwards,
}


def step_by(feed, loss, params):
    """A step of the rule ``g / (|h| + eps)``."""
    tx = oah.scale_by_adahessian(b1=0, b2=0.0, eps=EPS)
    return feed(tx, loss, params, tx.init(params))[0]


@pytest.mark.parametrize("transform", [lambda fun: fun, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("rule", FORWARD)
def test_forward_mode_passes(rule, feed, transform):
    value, grads, diag = EXPECTED
    loss = loss_of(FORWARD[rule])
    updates = transform(lambda w: step_by(feed, loss, w))(W)
    chex.assert_trees_all_close(updates, grads / (jnp.abs(diag) + EPS), rtol=1e-5)
    estimate = transform(oah.value_grad_and_hessian_diag(loss))
    chex.assert_trees_all_close(estimate(FIRST, W), (value, grads, diag), rtol=1e-5)


def test_arguments_and_aux():
    """By position and by keyword, also by the names that the estimate has for its own; integers among them."""

    def loss(w, coefficients, *, key, params):
        value = jnp.sum(coefficients * w ** params["power"])
        return value, {"seen": coefficients + 1, "batch_stats": 0.5 * jax.lax.stop_gradient(w), "key": key}

    c = jnp.array([1, 2, 3])
    estimate = oah.value_grad_and_hessian_diag(loss, has_aux=True)
    (value, aux), *rest = estimate(FIRST, W, c, key=jnp.int32(7), params={"power": 6})
    chex.assert_trees_all_close((value, *rest), EXPECTED, rtol=1e-6)
    chex.assert_trees_all_equal(aux, {"seen": c + 1, "batch_stats": W / 2, "key": jnp.int32(7)})


@pytest.mark.parametrize("params", [{}, (), {"none": None}, {"unused": jnp.ones((2, 2))}, 2.0, np.array(2.0)], ids=str)
def test_parameters_that_the_loss_does_not_use_empty_trees_and_numbers(params):
    loss, zeros = lambda p: jnp.array(1.0), jax.tree.map(lambda p: 0 * jnp.asarray(p), params)
    chex.assert_trees_all_equal(oah.value_grad_and_hessian_diag(loss)(FIRST, params), (jnp.array(1.0), zeros, zeros))
    for feed in FEEDS:
        chex.assert_trees_all_equal(step_by(feed, loss, params), zeros)


def notes_of(raised):
    return " ".join(getattr(raised.value, "__notes__", []))


ONE_WAY_ALONE = {"reverse_over_reverse": nested, "forward_over_reverse": loop_backwards}


def fed(loss, hvp):
    tx = oah.scale_by_adahessian(hessian_diagonal_fn=oah.hutchinson(hvp=hvp))
    return tx.update(W, tx.init(W), W, obj_fn=loss)


CALLS = {
    "estimate": lambda loss, hvp: oah.value_grad_and_hessian_diag(loss, hvp=hvp)(FIRST, W),
    "several probes": lambda loss, hvp: oah.value_grad_and_hessian_diag(loss, num_probes=2, hvp=hvp)(FIRST, W),
    "product": lambda loss, hvp: oah.hessian_vector_product(loss, W, W, hvp=hvp),
    "obj_fn": fed,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("remedy", ONE_WAY_ALONE)
def test_the_note_names_the_switch_and_the_switch_helps(remedy, call):
    loss = loss_of(ONE_WAY_ALONE[remedy])
    with pytest.raises((TypeError, ValueError)) as raised:
        CALLS[call](loss, OTHER[remedy])
    for part in (f"Pass `hvp={remedy!r}`", f"`hessian_diagonal_fn=hutchinson(hvp={remedy!r})`"):
        assert part in notes_of(raised)
    chex.assert_tree_all_finite(jax.jit(lambda: CALLS[call](loss, remedy))())


# Neither way helps: the incomplete gamma function has no derivative in its first argument.
@pytest.mark.parametrize("hvp", OTHER)
@pytest.mark.parametrize("jit", [jax.jit, lambda f: f], ids=["jit", "eager"])
def test_a_loss_without_a_second_derivative_gets_no_advice(jit, hvp):
    loss = lambda w: jnp.sum(jax.scipy.special.gammainc(jnp.abs(w), 1.0 + 0 * w))
    with pytest.raises(Exception, match=r".") as raised:
        jit(oah.value_grad_and_hessian_diag(loss, hvp=hvp))(FIRST, W)
    assert "hvp" not in notes_of(raised)


def test_a_loss_that_passes_is_traced_once_and_a_mistake_in_it_is_raised_as_it_is():
    calls = []

    def loss(w):
        calls.append(1)
        if len(w) == 2:
            raise KeyError("mine")
        return jnp.sum(w**4)

    jax.make_jaxpr(oah.value_grad_and_hessian_diag(loss))(FIRST, W)
    assert calls == [1]
    with pytest.raises(KeyError, match="mine") as raised:
        oah.value_grad_and_hessian_diag(loss)(FIRST, jnp.ones(2))
    assert len(calls) <= 1 + 2
    assert "hvp" not in notes_of(raised)
