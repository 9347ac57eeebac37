"""A rule, an estimator and an average that CONTRIBUTING.md adds from outside do what it says of them."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

CODE = re.findall(r"^```python\n(.*?)^```", (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(), re.S | re.M)


@pytest.fixture(scope="module")
def shown():
    """What the code blocks define."""
    namespace = {}
    exec("\n".join(CODE), namespace)
    return namespace


def test_the_rule_averages_with_the_sign_and_clips(shown):
    tx, w = shown["rule"], jnp.array([1.0, 1.0, 1.0])
    state = tx.init(w)
    for h in (jnp.array([4.0, -1.0, 100.0]), jnp.array([-4.0, -3.0, 50.0])):
        updates, state = tx.update(w, state, w, hessian_diag=h)
    # The weights of two estimates in a running mean that forgets by 0.99 per step.
    first, second = 0.99 / 1.99, 1 / 1.99
    mean = first * np.array([4.0, -1.0, 100.0]) + second * np.array([-4.0, -3.0, 50.0])
    np.testing.assert_allclose(state.nu, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(updates, [1.0 if m < 1 else 1 / m for m in mean], rtol=1e-4)
    # The interval and the other feed come with it.
    _, later = jax.jit(lambda s: tx.update(w, s, w, obj_fn=lambda p: jnp.sum(p**2)))(
        state._replace(count=jnp.int32(11))
    )
    np.testing.assert_array_equal(later.nu, state.nu)
    # An entry whose first estimates were not finite begins with its first finite one.
    for h in (jnp.array([jnp.nan, 1.0, 1.0]), jnp.array([7.0, 1.0, 1.0])):
        _, state = tx.update(w, tx.init(w) if jnp.isnan(h[0]) else state, w, hessian_diag=h)
    np.testing.assert_array_equal(state.nu, [7.0, 1.0, 1.0])


def test_the_estimator_is_unbiased(shown):
    rng = np.random.default_rng(0)
    x, params = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32), {"w": jnp.ones(3)}
    model = lambda p, x: jnp.tanh(x @ p["w"])
    keys = jax.random.split(jax.random.key(0), 4000)
    estimates = jax.vmap(lambda key: shown["gauss_newton_diag"](key, params, model, x)["w"])(keys)
    jacobian = jax.jacobian(model)(params, x)["w"]
    exact = jnp.sum(jacobian**2, axis=0)
    # The square of a sum of signs has at most twice the square of its mean as variance.
    assert jnp.all(jnp.abs(jnp.mean(estimates, axis=0) - exact) < 5 * jnp.sqrt(2 / 4000) * exact)


def test_the_average_has_a_value_for_each_filter(shown):
    average, params = shown["filters"], {"conv": jnp.ones((3, 3, 8, 16)), "dense": jnp.ones((8, 4))}
    assert average.describe(params).splitlines()[1:3] == [
        "['conv']   (3, 3, 8, 16)  (3, 3, 8, 1)             16",
        "['dense']  (8, 4)         (1, 1)                   32",
    ]
