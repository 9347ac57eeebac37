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


def diagonal(params):
    return jnp.sum(jnp.array([1.5, -2.0]) * params["u"] ** 2) + jnp.sum(params["w"] ** 4)


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


@pytest.mark.parametrize("num_probes", [1, 3])
@pytest.mark.parametrize("hvp", HVPS)
@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_estimate_is_exact_for_a_diagonal_hessian(num_probes, hvp, make_key):
    estimate = oah.value_grad_and_hessian_diag(diagonal, num_probes=num_probes, hvp=hvp)
    value, grads, diag = estimate(make_key(7), PARAMS)
    chex.assert_trees_all_equal((value, grads), jax.value_and_grad(diagonal)(PARAMS))
    # A sum of three equal numbers over three may round.
    rtol = 0 if num_probes == 1 else 1e-6
    chex.assert_trees_all_close(diag, oah.exact_hessian_diag(diagonal, PARAMS), rtol=rtol, atol=0)


@pytest.mark.parametrize("num_probes", [1, 4])
def test_estimate_of_a_coupled_hessian_is_unbiased_with_the_variance_of_the_formula(num_probes):
    estimate = jax.jit(jax.vmap(oah.value_grad_and_hessian_diag(coupled, num_probes=num_probes), in_axes=(0, None)))
    keys = jax.random.split(jax.random.key(0), 4096)
    samples = joined(estimate(keys, PARAMS)[2])
    variance = ((_A**2).sum(1) - np.diag(_A) ** 2) / num_probes
    assert np.all(np.abs(samples.mean(0) - np.diag(_A)) < 5 * np.sqrt(variance / len(keys)))
    # The relative standard error of a sample variance of n near-normal draws is sqrt(2 / n).
    assert np.all(np.abs(samples.var(0) / variance - 1) < 5 * np.sqrt(2 / len(keys)))
    # What the second moment is: E[h_i^2] = H_ii^2 + sum_{j != i} H_ij^2 / n; with one probe the squared row norm.
    squares = samples**2
    expected = np.diag(_A) ** 2 + variance
    assert np.all(np.abs(squares.mean(0) - expected) < 5 * squares.std(0) / np.sqrt(len(keys)))


@pytest.mark.parametrize("num_probes", [2, 8, 9, 12])
@pytest.mark.parametrize("hvp", HVPS)
def test_several_probes_are_averaged_whether_unrolled_or_in_a_loop(num_probes, hvp):
    """The n-th of an estimate is that of ``fold_in(key, n)``, and an estimator draws the same."""
    probes = [oah.rademacher_like(jax.random.fold_in(KEY, i), PARAMS) for i in range(num_probes)]
    expected = np.mean([joined(z) * (_A @ joined(z)) for z in probes], axis=0)
    diag = jax.jit(oah.value_grad_and_hessian_diag(coupled, num_probes=num_probes, hvp=hvp))(KEY, PARAMS)[2]
    # The largest |z * Hz| is 7; the terms, each product of five, may round in another order.
    np.testing.assert_allclose(joined(diag), expected, rtol=0, atol=5 * num_probes * 7 * jnp.finfo(jnp.float32).eps)


def test_aux_passes_without_a_key_too():
    loss = lambda w, x: (jnp.sum(x * w**2), {"seen": x, "name": "aux"})
    x = jnp.array([1, 2, 3])
    (value, aux), grads, diag = oah.value_grad_and_hessian_diag(loss, has_aux=True)(None, jnp.ones(3), x)
    assert (value, aux["name"], diag) == (6.0, "aux", None)
    chex.assert_trees_all_equal((aux["seen"], grads), (x, 2.0 * x))


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
