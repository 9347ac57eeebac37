"""Probes in the parameters' own units: what an estimate with scales is, and which scales the rule finds."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_adahessian as oah

KEY = jax.random.key(0)
SIGMAS = 5  # a fixed seed; by chance one test in a million would be further off
SCALE = np.array([1e-2, 0.1, 1.0, 3.0, 40.0])


def symmetric(seed, size, span=1.0):
    """A random positive definite matrix, whose parameters have units that differ by up to `span`."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, 2 * size))
    units = span ** rng.uniform(-0.5, 0.5, size)
    return root @ root.T / size / np.outer(units, units)


def quadratic(H):
    return lambda w: 0.5 * w @ H @ w


def rule(b2=0.95, **options):
    return oah.scale_by_adahessian(b1=0, b2=b2, eps=0.0, **options)


@pytest.mark.parametrize("scale", [np.ones(5), SCALE], ids=["plain", "scaled"])
@pytest.mark.parametrize("num_probes", [1, 3, 9])
@pytest.mark.parametrize("hvp", ["forward_over_reverse", "reverse_over_reverse"])
def test_an_estimate_is_unbiased_with_the_variance_of_the_formula(hvp, num_probes, scale):
    """Without scales, too, which is the same as scales of one."""
    H, draws = symmetric(0, 5), 4000
    estimate = oah.value_grad_and_hessian_diag(quadratic(H), num_probes=num_probes, hvp=hvp)
    with jax.enable_x64(True):
        keys = jax.random.split(KEY, draws)
        one = lambda key: estimate(key, jnp.zeros(5), probe_scale=jnp.asarray(scale))[2]
        h = np.asarray(jax.jit(jax.vmap(one))(keys))
    # Every probe of five signs, each as likely as any other.
    signs = np.array(list(itertools.product([-1, 1], repeat=5)))
    exact = signs * (signs * scale @ H) / scale
    np.testing.assert_allclose(exact.mean(axis=0), np.diag(H))
    others = (H**2 * scale**2).sum(axis=1) / scale**2 - np.diag(H) ** 2
    np.testing.assert_allclose((exact**2).mean(axis=0), np.diag(H) ** 2 + others)
    assert np.all(np.abs(h.mean(axis=0) - np.diag(H)) < SIGMAS * np.sqrt(others / num_probes / draws))
    # A mean of n probes has the fourth central moment (m4 + 3 (n - 1) m2^2) / n^3.
    centred = exact - np.diag(H)
    fourth = ((centred**4).mean(axis=0) + 3 * (num_probes - 1) * others**2) / num_probes**3
    variance = others / num_probes
    sigma = np.sqrt((fourth - variance**2) / draws)
    assert np.all(np.abs(((h - np.diag(H)) ** 2).mean(axis=0) - variance) < SIGMAS * sigma)


def test_scales_of_one_and_a_common_factor_change_nothing():
    loss, w = lambda w: jnp.sum(w**4) + w[0] * w[1], jnp.array([0.5, -1.0, 2.0])
    estimate = jax.jit(oah.value_grad_and_hessian_diag(loss))
    plain = estimate(KEY, w)
    for factor in (1.0, 1024.0):
        chex.assert_trees_all_equal(estimate(KEY, w, probe_scale=jnp.full(3, factor)), plain)


def settle(H, steps, b2, start_scale=1.0):
    """The second moment after many estimates at one point, each with the scales of those before."""
    tx, loss, w = rule(b2), quadratic(jnp.asarray(H)), jnp.zeros(len(H))
    estimate = oah.value_grad_and_hessian_diag(loss)

    def step(state, key):
        scale = jax.tree.map(lambda s: s * start_scale, oah.probe_scale(state, w))
        _, grads, diag = estimate(key, w, probe_scale=scale)
        return tx.update(grads, state, w, hessian_diag=diag)[1], None

    return jax.lax.scan(step, tx.init(w), jax.random.split(KEY, steps))[0]


@pytest.mark.parametrize("seed", range(3))
def test_the_second_moment_tends_to_the_symmetric_equilibration(seed):
    """Rows of S H S have norm 1. Those of H itself differ by the fourth power of the units, and more."""
    H, b2 = symmetric(seed, 8, span=1e4), 0.999
    with jax.enable_x64(True):
        state = jax.jit(lambda: settle(H, 20_000, b2))()
        s = np.asarray(oah.probe_scale(state, jnp.zeros(8)))
    norms = np.linalg.norm(H * np.outer(s, s), axis=1)
    # The square of a sum of signs has at most the variance of that of a Gaussian, twice the square of its mean. Its
    # moving average has (1 - b2) / (1 + b2) of it. A norm moves as the square root, with its scale and all others.
    sigma = np.sqrt(2 * (1 - b2) / (1 + b2)) / 2
    assert np.all(np.abs(norms - 1) < SIGMAS * sigma)
    rows = np.linalg.norm(H, axis=1)
    assert rows.max() / rows.min() > 1e3


def test_curvatures_and_steps_do_not_depend_on_units():
    """The same loss in other units: the same steps, once the first estimates, made without scales, are forgotten."""
    H, units = symmetric(1, 6), np.array([1e-3, 1e3, 1.0, 30.0, 0.02, 1e2])
    with jax.enable_x64(True):

        def run(units):
            loss = lambda w: quadratic(jnp.asarray(H))(w / units) + jnp.sum((w / units) ** 4)
            # No step at first: 0.9^400 is below the rounding of float64.
            tx = oah.adahessian(lambda t: 0.3 * (t >= 400), b2=0.9, eps=0.0, equilibrate=True)

            def step(carry, _):
                w, state = carry
                updates, state = tx.update(jax.grad(loss)(w), state, w, obj_fn=loss)
                return (w + updates, state), (w / units, state[0].nu * units**4)

            start = jnp.linspace(1, 2, 6) * units
            return jax.lax.scan(step, (start, tx.init(start)), length=440)[1]

        runs = [jax.tree.map(np.asarray, jax.jit(run)(jnp.asarray(u))) for u in (np.ones(6), units)]
    (w, nu), (w_other, nu_other) = runs
    assert np.max(np.abs(nu_other[0] / nu[0] - 1)) > 1
    np.testing.assert_allclose(nu_other[400:], nu[400:], rtol=1e-9)
    np.testing.assert_allclose(w_other[400:], w[400:], rtol=1e-9, atol=1e-12)
    assert np.all(np.abs(w[-1]) < np.abs(w[0]))


W = {"a": jnp.ones((2, 3)), "b": jnp.ones(2), "c": None}
DIAG = {"a": jnp.array([[1.0, 4.0, 16.0], [0.0, -4.0, 256.0]]), "b": jnp.zeros(2), "c": None}
# Flat takes the scale of the leaf's largest curvature, negative that of its magnitude; a flat leaf 1.
EXPECTED = {"a": jnp.array([[1.0, 0.5, 0.25], [1 / 16, 0.5, 1 / 16]]), "b": jnp.ones(2), "c": None}
ONES = jax.tree.map(jnp.ones_like, W)
ROWS = oah.SpatialAverage.rows("OIHW")


def after_one_estimate(tx, diag=DIAG, params=W):
    return tx.update(params, tx.init(params), params, hessian_diag=diag)[1]


def parts(label_a, label_b):
    return optax.partition(
        {"ours": rule(), "too": rule(b2=0.5), "sgd": optax.sgd(0.1)}, {"a": label_a, "b": label_b, "c": None}
    )


WRAPPED = {
    "alone": (rule(), EXPECTED),
    "chain": (optax.chain(oah.adaptive_nesterov(), rule(), optax.clip(0.1)), EXPECTED),
    "inject_hyperparams": (optax.inject_hyperparams(oah.adahessian)(0.1, eps=0.0), EXPECTED),
    "MultiSteps": (optax.MultiSteps(rule(), 1), EXPECTED),
    "apply_if_finite": (optax.apply_if_finite(rule(), 3), EXPECTED),
    "masked": (optax.masked(rule(), {"a": True, "b": False, "c": False}), EXPECTED),
    "two of ours": (parts("ours", "too"), EXPECTED),
    "one of another": (parts("sgd", "ours"), ONES),
    "blocks": (rule(spatial_average=ROWS), EXPECTED | {"a": jnp.array([[21 / 3] * 3, [260 / 3] * 3]) ** -0.5}),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_the_scales_are_found_in_any_state(name):
    tx, expected = WRAPPED[name]
    scale = oah.probe_scale(after_one_estimate(tx), W)
    chex.assert_trees_all_close(scale, expected, rtol=1e-6)
    chex.assert_trees_all_equal_structs(scale, W)
    chex.assert_trees_all_equal(oah.probe_scale(tx.init(W), W), ONES)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_block_without_a_finite_estimate_counts_as_flat(bad):
    diag = DIAG | {"a": DIAG["a"].at[1, 0].set(bad)}
    chex.assert_trees_all_close(oah.probe_scale(after_one_estimate(rule(), diag), W), EXPECTED, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_scales_of_parameters_of_any_precision(dtype):
    """Scales are float32. Probes have the dtype of the parameters; a common factor brings them into its range."""
    w = {"w": jnp.ones(3, dtype)}
    state = after_one_estimate(rule(), {"w": jnp.array([1e-3, 1.0, 1e3], dtype)}, w)
    scale = oah.probe_scale(state, w)
    assert scale["w"].dtype == jnp.float32
    loss = lambda p: jnp.sum(jnp.array([1e-3, 1.0, 1e3], dtype) * p["w"] ** 2) / 2
    for factor in (1e-8, 1.0, 1e8):
        scaled = {"w": factor * scale["w"]}
        diag = oah.value_grad_and_hessian_diag(loss)(KEY, w, probe_scale=scaled)[2]["w"]
        assert diag.dtype == dtype
        # The Hessian is diagonal: exact, to the rounding of a product and a quotient.
        np.testing.assert_allclose(diag.astype(float), [1e-3, 1.0, 1e3], rtol=3 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("others", [{}, {"w": jnp.ones(2)}])
def test_an_empty_leaf_in_float16_has_no_say_in_the_common_factor(others):
    w = {"empty": jnp.zeros((0, 3), jnp.float16), **others}
    loss = lambda p: sum(jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in jax.tree.leaves(p))
    scale = jax.tree.map(lambda p: jnp.full(p.shape, 1e6), w)
    diag = oah.value_grad_and_hessian_diag(loss)(KEY, w, probe_scale=scale)[2]
    chex.assert_trees_all_equal(diag, jax.tree.map(lambda p: 2 * jnp.ones_like(p), w))


def test_without_a_key_scales_are_ignored():
    estimate = oah.value_grad_and_hessian_diag(lambda w: jnp.sum(w**2))
    assert estimate(None, jnp.ones(2), probe_scale="anything")[2] is None


def test_a_parameter_in_which_the_loss_is_linear_stays_and_the_others_arrive():
    loss = lambda p: p["linear"] + (p["square"] - 3.0) ** 2 + 1e-6 * (p["wide"] - 2e3) ** 2
    tx = oah.adahessian(0.5, b2=0.95, eps=0.0, equilibrate=True)

    def step(carry, _):
        p, state = carry
        updates, state = tx.update(jax.grad(loss)(p), state, p, obj_fn=loss)
        return (optax.apply_updates(p, updates), state), None

    start = {"linear": 1.0, "square": 0.0, "wide": 0.0}
    params, _ = jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), length=400)[0])(jax.tree.map(jnp.asarray, start))
    chex.assert_trees_all_close(params, {"linear": 1.0, "square": 3.0, "wide": 2e3}, rtol=1e-5)
