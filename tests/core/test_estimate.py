"""Hutchinson's estimate and the products it is made of, on functions whose Hessian is known."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_adahessian as oah

# A coupled quadratic over two leaves: H is A, over both jointly.
_A = np.random.default_rng(0).normal(size=(5, 5))
_A = _A + _A.T
PARAMS = {"u": jnp.arange(2.0), "w": jnp.arange(3.0)}
KEY = jax.random.key(3)
HVPS = ["forward_over_reverse", "reverse_over_reverse"]


def coupled(params):
    w = jnp.concatenate([params["u"], params["w"]])
    return 0.5 * w @ jnp.asarray(_A, w.dtype) @ w


def joined(tree):
    return np.concatenate([np.asarray(tree["u"]), np.asarray(tree["w"])], axis=-1)


@pytest.mark.parametrize("hvp", HVPS)
def test_hessian_vector_product_is_that_of_the_full_hessian(hvp):
    vector = {"u": jnp.array([1.0, -2.0]), "w": jnp.array([0.5, 0.0, 3.0])}
    product = oah.hessian_vector_product(coupled, PARAMS, vector, hvp=hvp)
    np.testing.assert_allclose(joined(product), _A @ joined(vector), rtol=1e-5, atol=1e-5)


def test_exact_diagonal():
    np.testing.assert_allclose(joined(oah.exact_hessian_diag(coupled, PARAMS)), np.diag(_A), rtol=1e-5)
    scalar = oah.exact_hessian_diag(lambda w: w**3, 2.0)
    assert scalar.shape == ()
    assert scalar == 12.0
    mixed = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.full((1, 2), 2.0)}
    diag = oah.exact_hessian_diag(lambda p: jnp.sum(p["half"] ** 3) + jnp.sum(p["single"] ** 3), mixed)
    chex.assert_trees_all_equal(diag, jax.tree.map(lambda p: 6 * p, mixed))


@pytest.mark.parametrize("num_probes", [1, 2, 8, 9, 12])
@pytest.mark.parametrize(("hvp", "key"), [(HVPS[0], KEY), (HVPS[1], jax.random.PRNGKey(3))], ids=HVPS)
def test_probes_are_averaged_whether_unrolled_or_in_a_loop(num_probes, hvp, key):
    """The n-th of an estimate is that of ``fold_in(key, n)``, and an estimator draws the same."""
    probes = [oah.rademacher_like(jax.random.fold_in(KEY, i), PARAMS) for i in range(num_probes)]
    expected = np.mean([joined(z) * (_A @ joined(z)) for z in probes], axis=0)
    *rest, diag = jax.jit(oah.value_grad_and_hessian_diag(coupled, num_probes=num_probes, hvp=hvp))(key, PARAMS)
    chex.assert_trees_all_close(tuple(rest), jax.value_and_grad(coupled)(PARAMS), rtol=1e-5)
    # The largest |z * Hz| is 7; the terms, each product of five, may round in another order.
    np.testing.assert_allclose(joined(diag), expected, rtol=0, atol=5 * num_probes * 7 * jnp.finfo(jnp.float32).eps)


@pytest.mark.parametrize("num_probes", [1, 2, 9])
def test_the_estimate_has_the_dtypes_of_the_parameters(num_probes):
    params = {"half": jnp.ones(3, jnp.bfloat16), "single": jnp.ones(2), "none": None, "scalar": jnp.ones([])}

    def loss(p):
        return jnp.sum(p["half"].astype(jnp.float32) ** 3) + jnp.sum(p["single"] ** 2) + p["scalar"] ** 2

    _, grads, diag = oah.value_grad_and_hessian_diag(loss, num_probes=num_probes)(KEY, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(params, grads, diag)
    chex.assert_trees_all_close(diag["single"], jnp.full(2, 2.0))
    with jax.enable_x64(True):
        _, _, diag = oah.value_grad_and_hessian_diag(lambda w: jnp.sum(w**3))(KEY, np.full(2, 1 / 3))
        assert diag.dtype == jnp.float64
        np.testing.assert_allclose(diag, 2.0, rtol=1e-15)
