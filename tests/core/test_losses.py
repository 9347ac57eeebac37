"""Losses as people write them, also with derivative rules of their own; and where JAX's error gets a note."""

import functools

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


@pytest.mark.parametrize("key", [FIRST, None])
def test_loss_and_aux_may_be_a_list_and_aux_anything(key):
    estimate = oah.value_grad_and_hessian_diag(lambda w: [jnp.sum(C * w**6), {"seen": w, "name": "aux"}], has_aux=True)
    (value, aux), grads, diag = estimate(key, W)
    chex.assert_trees_all_close((value, grads), EXPECTED[:2], rtol=1e-6)
    chex.assert_trees_all_close(diag, None if key is None else EXPECTED[2], rtol=1e-6)
    assert aux.pop("name") == "aux"
    chex.assert_trees_all_equal(aux, {"seen": W})


@pytest.mark.parametrize("params", [{}, (), {"none": None}, {"unused": jnp.ones((2, 2))}, 2.0, np.array(2.0)], ids=str)
def test_parameters_that_the_loss_does_not_use_empty_trees_and_numbers(params):
    loss, zeros = lambda p: jnp.array(1.0), jax.tree.map(lambda p: 0 * jnp.asarray(p), params)
    chex.assert_trees_all_equal(oah.value_grad_and_hessian_diag(loss)(FIRST, params), (jnp.array(1.0), zeros, zeros))
    for feed in FEEDS:
        chex.assert_trees_all_equal(step_by(feed, loss, params), zeros)


def notes_of(raised):
    return " ".join(getattr(raised.value, "__notes__", []))


def both_fail(w, g):
    return (3 * square(w) * squared_by_loop(w) / w**2 * g,)


NO_MODE = {
    # Without a derivative in its first argument.
    "gammainc": lambda w: jax.scipy.special.gammainc(jnp.abs(w), 1.0 + 0 * w),
    "nested, and a loop": custom(lambda w: w**3, lambda w: (w**3, w), both_fail),
}


def stepped(w, loss, hvp, **options):
    tx = oah.scale_by_adahessian(hessian_diagonal_fn=oah.hutchinson(hvp=hvp), **options)
    return tx.update(w, tx.init(w), w, obj_fn=loss)


CALLS = {
    "estimate": lambda w, loss, hvp: oah.value_grad_and_hessian_diag(loss, hvp=hvp)(FIRST, w),
    "several probes": lambda w, loss, hvp: oah.value_grad_and_hessian_diag(loss, num_probes=2, hvp=hvp)(FIRST, w),
    "product": lambda w, loss, hvp: oah.hessian_vector_product(loss, w, w, hvp=hvp),
    "obj_fn": stepped,
    "obj_fn with an interval": functools.partial(stepped, update_interval=10),
}
TRANSFORMS = {
    "eager": lambda fun: fun,
    "jit": jax.jit,
    "scan": lambda fun: lambda w: jax.lax.scan(lambda carry, _: (carry, fun(carry)), w, length=2),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("call", CALLS)
def test_the_note_names_the_switch_and_the_switch_helps(call, transform):
    run = lambda hvp: TRANSFORMS[transform](lambda w: CALLS[call](w, loss_of(nested), hvp))(W)
    with pytest.raises(TypeError, match="can't apply forward-mode autodiff") as raised:
        run("forward_over_reverse")
    for part in ("`hvp='reverse_over_reverse'`", "`hessian_diagonal_fn=hutchinson(hvp='reverse_over_reverse')`"):
        assert part in notes_of(raised)
    chex.assert_tree_all_finite(run("reverse_over_reverse"))


ALONE = {
    "key": (lambda key, hvp: oah.value_grad_and_hessian_diag(loss_of(nested), hvp=hvp)(key, W), FIRST),
    "batch": (lambda c, hvp: oah.hessian_vector_product(lambda w: jnp.sum(c * nested(w) ** 2), W, W, hvp=hvp), C),
}


@pytest.mark.parametrize("traced", ALONE)
def test_the_note_is_there_if_the_key_or_the_batch_alone_is_traced(traced):
    call, argument = ALONE[traced]
    estimate = lambda hvp: jax.jit(lambda traced: call(traced, hvp))(argument)
    with pytest.raises(TypeError) as raised:
        estimate("forward_over_reverse")
    assert "Pass `hvp='reverse_over_reverse'`" in notes_of(raised)
    chex.assert_tree_all_finite(estimate("reverse_over_reverse"))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("hvp", ["forward_over_reverse", "reverse_over_reverse"])
@pytest.mark.parametrize("loss", NO_MODE)
def test_where_no_mode_helps_there_is_no_note(loss, hvp, transform):
    estimate = oah.value_grad_and_hessian_diag(loss_of(NO_MODE[loss]), hvp=hvp)
    with pytest.raises(Exception, match=r".") as raised:
        TRANSFORMS[transform](lambda w: estimate(FIRST, w))(W)
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
