"""Hutchinson's estimate and the products it is made of, on functions whose Hessian is known."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas

import optax_adahessian as oah

# A coupled quadratic over two leaves: H is A, over both jointly.
_A = np.random.default_rng(0).normal(size=(5, 5))
_A = _A + _A.T
PARAMS = {"u": jnp.arange(2.0), "w": jnp.arange(3.0)}


def coupled(params):
    w = jnp.concatenate([params["u"], params["w"]])
    return 0.5 * w @ jnp.asarray(_A, w.dtype) @ w


def diagonal(params):
    return jnp.sum(jnp.array([1.5, -2.0]) * params["u"] ** 2) + jnp.sum(params["w"] ** 4)


def joined(tree):
    return np.concatenate([np.asarray(tree["u"]), np.asarray(tree["w"])])


@pytest.mark.parametrize("hvp", ["forward_over_reverse", "reverse_over_reverse"])
def test_hessian_vector_product_is_that_of_the_full_hessian(hvp):
    vector = {"u": jnp.array([1.0, -2.0]), "w": jnp.array([0.5, 0.0, 3.0])}
    product = oah.hessian_vector_product(coupled, PARAMS, vector, hvp=hvp)
    np.testing.assert_allclose(joined(product), _A @ joined(vector), rtol=1e-5, atol=1e-5)


def test_exact_diagonal():
    np.testing.assert_allclose(joined(oah.exact_hessian_diag(coupled, PARAMS)), np.diag(_A), rtol=1e-5)
    scalar = oah.exact_hessian_diag(lambda w: w**3, 2.0)
    assert scalar.shape == ()
    assert scalar == 12.0


@pytest.mark.parametrize("num_probes", [1, 3])
@pytest.mark.parametrize("hvp", ["forward_over_reverse", "reverse_over_reverse"])
@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_estimate_is_exact_for_a_diagonal_hessian(num_probes, hvp, make_key):
    estimate = oah.value_grad_and_hessian_diag(diagonal, num_probes=num_probes, hvp=hvp)
    value, grads, diag = estimate(make_key(7), PARAMS)
    chex.assert_trees_all_equal((value, grads), jax.value_and_grad(diagonal)(PARAMS))
    if num_probes == 1:
        chex.assert_trees_all_equal(diag, oah.exact_hessian_diag(diagonal, PARAMS))
    else:  # a sum of three equal numbers over three may round
        chex.assert_trees_all_close(diag, oah.exact_hessian_diag(diagonal, PARAMS), rtol=1e-6)


@pytest.mark.parametrize("num_probes", [1, 4])
def test_estimate_of_a_coupled_hessian_is_unbiased_with_the_variance_of_the_formula(num_probes):
    estimate = jax.jit(jax.vmap(oah.value_grad_and_hessian_diag(coupled, num_probes=num_probes), in_axes=(0, None)))
    keys = jax.random.split(jax.random.key(0), 4096)
    samples = joined_rows(estimate(keys, PARAMS)[2])
    variance = (_A**2).sum(1) - np.diag(_A) ** 2
    variance = variance / num_probes
    sigma = np.sqrt(variance / len(keys))
    assert np.all(np.abs(samples.mean(0) - np.diag(_A)) < 5 * sigma)
    # The relative standard error of a sample variance of n near-normal draws is sqrt(2 / n).
    assert np.all(np.abs(samples.var(0) / variance - 1) < 5 * np.sqrt(2 / len(keys)))


def joined_rows(tree):
    return np.concatenate([np.asarray(tree["u"]), np.asarray(tree["w"])], axis=1)


def test_the_square_of_one_probe_is_the_squared_row_norm():
    """What the second moment is: with one probe, E[h_i^2] = sum_j H_ij^2."""
    keys = jax.random.split(jax.random.key(1), 4096)
    estimate = jax.vmap(oah.value_grad_and_hessian_diag(coupled), in_axes=(0, None))
    squares = joined_rows(estimate(keys, PARAMS)[2]) ** 2
    assert np.all(np.abs(squares.mean(0) - (_A**2).sum(1)) < 5 * squares.std(0) / np.sqrt(len(keys)))


def signs_agree(a, b):
    """Independent signs agree in half of the entries, give or take 5 standard deviations."""
    a, b = np.ravel(a), np.ravel(b)
    return abs(np.mean(a * b)) > 5 / np.sqrt(a.size)


def test_probes_are_signs_of_leaf_shape_and_dtype_and_independent():
    tree = {"a": jnp.zeros((40, 25)), "b": jnp.zeros((40, 25)), "none": None, "half": jnp.zeros(7, jnp.bfloat16)}
    z = oah.rademacher_like(jax.random.key(0), tree)
    chex.assert_trees_all_equal_shapes_and_dtypes(z, tree)
    chex.assert_trees_all_equal(jax.tree.map(jnp.abs, z), jax.tree.map(jnp.ones_like, tree))
    assert signs_agree(z["a"], z["a"])  # the measure itself can tell
    assert not signs_agree(z["a"], z["b"])
    assert not signs_agree(z["a"], oah.rademacher_like(jax.random.key(1), tree)["a"])


def product_signs(key=0, steps=1):
    """z of an estimator's last draw: of f = (sum w)^2 / 2, where h_i = z_i sum(z), up to a sign for all."""
    tx, params = oah.hutchinson(key=key), jnp.zeros(1001)
    state = tx.init(params)
    for _ in range(steps):
        diag, state = tx.update(params, state, params, obj_fn=lambda w: jnp.sum(w) ** 2 / 2)
    return np.sign(np.asarray(diag))


def test_draws_of_two_steps_and_of_two_keys_are_independent_and_reproducible():
    first = product_signs()
    assert not signs_agree(first, product_signs(steps=2))
    assert not signs_agree(first, product_signs(key=1))
    for same in (0, jax.random.key(0), jax.random.PRNGKey(0)):
        np.testing.assert_array_equal(first, product_signs(key=same))


def test_hutchinson_and_the_one_pass_draw_the_same_probes_from_the_same_key():
    tx = oah.hutchinson(num_probes=2, key=5)
    diag, state = tx.update(None, tx.init(PARAMS), PARAMS, obj_fn=coupled)
    key = jax.random.fold_in(jax.random.key(5), 0)
    chex.assert_trees_all_equal(diag, oah.value_grad_and_hessian_diag(coupled, num_probes=2)(key, PARAMS)[2])
    assert state.draws == 1


def test_aux_arguments_and_keywords_pass_untouched():
    def loss(params, x, *, scale):
        return scale * jnp.sum(x * params**2), {"seen": x, "steps": 3, "name": "aux"}

    estimate = oah.value_grad_and_hessian_diag(loss, has_aux=True)
    x = jnp.array([1, 2, 3])
    (value, aux), grads, diag = estimate(jax.random.key(0), jnp.ones(3), x, scale=2.0)
    assert value == 12.0
    assert (aux["steps"], aux["name"]) == (3, "aux")
    chex.assert_trees_all_equal(aux["seen"], x)
    chex.assert_trees_all_equal(grads, 4.0 * x)
    chex.assert_trees_all_equal(diag, 4.0 * x)


def test_the_estimate_has_the_dtypes_of_the_parameters():
    params = {"half": jnp.ones(3, jnp.bfloat16), "single": jnp.ones(2), "none": None, "scalar": jnp.ones([])}

    def loss(p):
        return jnp.sum(p["half"].astype(jnp.float32) ** 3) + jnp.sum(p["single"] ** 2) + p["scalar"] ** 2

    for num_probes in (1, 2):
        _, grads, diag = oah.value_grad_and_hessian_diag(loss, num_probes=num_probes)(jax.random.key(0), params)
        chex.assert_trees_all_equal_shapes_and_dtypes(params, grads, diag)
    with jax.enable_x64(True):
        _, _, diag = oah.value_grad_and_hessian_diag(lambda w: jnp.sum(w**3))(jax.random.key(0), np.full(2, 1 / 3))
        assert diag.dtype == jnp.float64
        np.testing.assert_allclose(diag, 2.0, rtol=1e-15)


@jax.custom_vjp
def square(x):
    return x**2


square.defvjp(lambda x: (square(x), x), lambda x, g: (2 * x * g,))


@jax.custom_vjp
def cube(x):
    return x**3


# The backward rule calls a custom_vjp function again: forward mode cannot pass it.
cube.defvjp(lambda x: (cube(x), x), lambda x, g: (3 * square(x) * g,))


def test_a_plain_custom_vjp_passes_forward_mode():
    @jax.custom_vjp
    def plain(x):
        return x**3

    plain.defvjp(lambda x: (x**3, x), lambda x, g: (3 * x**2 * g,))
    for num_probes in (1, 2):
        estimate = oah.value_grad_and_hessian_diag(lambda w: jnp.sum(plain(w)), num_probes=num_probes)
        np.testing.assert_allclose(estimate(jax.random.key(0), jnp.array([2.0]))[2], 12.0)


@pytest.mark.parametrize("jit", [jax.jit, lambda f: f])
@pytest.mark.parametrize("num_probes", [1, 2])
def test_what_forward_mode_cannot_pass_is_refused_with_the_switch_named(num_probes, jit):
    def loss(w):
        return jnp.sum(cube(w))

    key, params = jax.random.key(0), jnp.array([2.0])
    with pytest.raises(TypeError, match="hvp='reverse_over_reverse'") as raised:
        jit(oah.value_grad_and_hessian_diag(loss, num_probes=num_probes))(key, params)
    assert "custom_vjp" in str(raised.value)
    reverse = oah.value_grad_and_hessian_diag(loss, num_probes=num_probes, hvp="reverse_over_reverse")
    chex.assert_trees_all_close(jit(reverse)(key, params), (jnp.array(8.0), jnp.array([12.0]), jnp.array([12.0])))


def test_the_switch_is_named_where_only_the_data_are_traced():
    def product(x):
        return oah.hessian_vector_product(lambda w: jnp.sum(cube(w) * x), jnp.array([2.0]), jnp.array([1.0]))

    with pytest.raises(TypeError, match="hvp='reverse_over_reverse'"):
        jax.jit(product)(jnp.array([1.0]))


def kernel(body, x):
    """A Pallas kernel of one array, run by the interpreter."""
    return pallas.pallas_call(body, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)


def square_kernel(x_ref, out_ref):
    out_ref[...] = x_ref[...] ** 2


def double_kernel(x_ref, out_ref):
    out_ref[...] = 2 * x_ref[...]


@jax.custom_vjp
def pallas_square(x):
    return kernel(square_kernel, x)


pallas_square.defvjp(lambda x: (kernel(square_kernel, x), x), lambda x, g: (kernel(double_kernel, x) * g,))


def test_several_probes_use_one_jvp_each_where_linearize_fails():
    """Rules that are Pallas kernels pass jvp alone."""

    def loss(w):
        return jnp.sum(pallas_square(w))

    params, key = jnp.array([3.0, 1.0]), jax.random.key(0)
    with pytest.raises(Exception, match=r"."):
        jax.linearize(jax.grad(loss), params)
    for num_probes in (1, 2):
        diag = jax.jit(oah.value_grad_and_hessian_diag(loss, num_probes=num_probes))(key, params)[2]
        np.testing.assert_allclose(diag, 2.0)


def test_a_custom_vjp_that_is_not_differentiated_twice_is_no_obstacle():
    """One on the data alone has no tangent, one on a value that is dropped none that is needed."""

    def loss(w, x):
        return jnp.sum(w**2 * cube(x)), cube(w)

    estimate = jax.jit(oah.value_grad_and_hessian_diag(loss, has_aux=True))
    np.testing.assert_allclose(estimate(jax.random.key(0), jnp.ones(2), jnp.array([1.0, 2.0]))[2], [2.0, 16.0])


def test_a_mistake_in_the_loss_is_raised_as_it_is():
    def loss(w):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        oah.value_grad_and_hessian_diag(loss, num_probes=2)(jax.random.key(0), jnp.ones(2))


def test_an_empty_tree_and_an_empty_leaf():
    assert oah.value_grad_and_hessian_diag(lambda p: jnp.float32(1.0))(jax.random.key(0), {})[2] == {}
    diag = oah.value_grad_and_hessian_diag(lambda p: jnp.sum(p**2))(jax.random.key(0), jnp.zeros((0, 3)))[2]
    assert diag.shape == (0, 3)


def test_the_error_of_a_vector_of_another_dtype_shows_both():
    with pytest.raises(ValueError, match=r"is float32\[2\] and its tangent bfloat16\[2\]"):
        oah.hessian_vector_product(lambda w: jnp.sum(w**2), jnp.ones(2), jnp.ones(2, jnp.bfloat16))
