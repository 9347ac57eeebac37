"""Losses with derivative rules of their own, through both feeds: what forward mode passes, and the switch where not."""

import functools

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from feeds import fed_in_both_ways
from jax.experimental import pallas

import optax_adahessian as oah

# sum of c f(w)^2 with f(w) = w^3, that is of c w^6, with the gradient 6 c w^5 and the Hessian diagonal 30 c w^4.
W = jnp.array([0.5, -1.0, 2.0])
C = jnp.array([1.0, 2.0, 3.0])
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def power(w, n):
    return w**n


power.defvjp(lambda w, n: (w**n, w), lambda n, w, g: (n * w ** (n - 1) * g,))


@eqx.filter_custom_vjp
def of_equinox(w):
    return w**3


of_equinox.def_fwd(lambda perturbed, w: (w**3, w))
of_equinox.def_bwd(lambda w, g, perturbed, _: 3 * w**2 * g)


def kernel(body, *arrays):
    """A Pallas kernel on the CPU, where an interpreter runs it."""
    shape = jax.ShapeDtypeStruct(arrays[0].shape, arrays[0].dtype)
    return pallas.pallas_call(body, out_shape=shape, interpret=True)(*arrays)


def cube_kernel(w_ref, out_ref):
    out_ref[...] = w_ref[...] ** 3


def cube_backward_kernel(w_ref, g_ref, out_ref):
    out_ref[...] = 3 * w_ref[...] ** 2 * g_ref[...]


kernels = custom(
    functools.partial(kernel, cube_kernel),
    lambda w: (kernel(cube_kernel, w), w),
    lambda w, g: (kernel(cube_backward_kernel, w, g),),
)

FORWARD = {
    "plain": plain,
    "under vmap": jax.vmap(plain),
    "in checkpoint": jax.checkpoint(plain),
    "in scan": lambda w: jax.lax.scan(lambda _, x: (None, plain(x)), None, w)[1],
    "static argument": lambda w: power(w, 3),
    "equinox": of_equinox,
    "kernels": kernels,
}


@pytest.mark.parametrize("rule", FORWARD)
def test_forward_mode_passes(rule):
    chex.assert_trees_all_close(fed_in_both_ways(loss_of(FORWARD[rule]), W), EXPECTED, rtol=1e-6)


@pytest.mark.parametrize("cube", [plain, nested], ids=["plain", "nested"])
def test_reverse_mode_passes_rules_that_call_a_custom_vjp_again_too(cube):
    chex.assert_trees_all_close(fed_in_both_ways(loss_of(cube), W, hvp="reverse_over_reverse"), EXPECTED, rtol=1e-6)


@pytest.mark.parametrize("interval", [1, 2])
@pytest.mark.parametrize("jit", [jax.jit, lambda f: f], ids=["jit", "eager"])
def test_the_loss_that_forward_mode_cannot_pass_is_refused_with_what_to_write(jit, interval):
    loss, tx = loss_of(nested), oah.adahessian(update_interval=interval)
    with pytest.raises(TypeError, match=r"hvp='reverse_over_reverse'"):
        jit(lambda w: tx.update(w, tx.init(w), w, obj_fn=loss))(W)


def test_kernels_pass_forward_mode_alone():
    """With several probes, too: then each is a pass of its own."""
    with pytest.raises(ValueError, match="reverse-mode"):
        oah.value_grad_and_hessian_diag(loss_of(kernels), hvp="reverse_over_reverse")(jax.random.key(0), W)
    several = oah.hutchinson(num_probes=2)
    diag, _ = several.update(W, several.init(W), W, obj_fn=loss_of(kernels))
    chex.assert_trees_all_close(diag, EXPECTED[2], rtol=1e-6)
