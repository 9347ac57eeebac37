"""Nesterov's momentum, whose memory grows with the run up to that of `b1`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rule_model import numpy_rule

import optax_adahessian as oah

EPS = float(jnp.finfo(jnp.float32).eps)


def momentum(b1):
    """A transformation whose update is the numerator, once it has had an estimate: of ones, by which it divides."""
    return oah.scale_by_adahessian(b1=b1, b2=0.0, eps=0.0, nesterov=True)


def steps(b1, grads):
    """Updates and states of `momentum` for a list of gradients."""
    tx = momentum(b1)
    state = tx.init(jnp.zeros_like(grads[0]))
    for g in grads:
        updates, state = tx.update(g, state, hessian_diag=jnp.ones_like(g))
        yield updates, state


@pytest.mark.parametrize("time_average", ["mean", "rms"])
@pytest.mark.parametrize("b1", [0.0, 0.5, 0.9])
def test_it_follows_the_rule(b1, time_average):
    """Up to step 450: the memory is full, with 10 steps, at step 400. Nothing cancels, as all signs are the same."""
    hyper = {"b1": b1, "b2": 0.8, "eps": 1e-3, "hessian_power": 0.5, "time_average": time_average, "nesterov": True}
    rng = np.random.default_rng(0)
    grads = [[rng.uniform(1, 2, size=3)] for _ in range(450)]
    diags = [None if t % 7 in (3, 4) else [rng.uniform(1, 2, size=3)] for t in range(450)]
    with jax.enable_x64(True):
        tx = oah.scale_by_adahessian(**hyper)
        update, state = jax.jit(lambda g, h, state: tx.update(g, state, hessian_diag=h)), tx.init(jnp.zeros(3))
        for g, h, (right,) in zip(grads, diags, numpy_rule(grads, diags, [(1,)], **hyper), strict=True):
            updates, state = update(jnp.asarray(g[0]), None if h is None else jnp.asarray(h[0]), state)
            np.testing.assert_allclose(updates, right, rtol=1e-11)
        assert state.count == 450


@pytest.mark.parametrize("b1", [0.0, 0.3, 0.5, 0.9, 0.999])
def test_the_weights_sum_to_one(b1):
    """So a constant gradient is its own average from the first step on."""
    g = jnp.array([3.0, -1e-3, 1e10])
    for t, (updates, _) in enumerate(steps(b1, [g] * 40), start=1):
        if t == 1:
            np.testing.assert_array_equal(updates, g)
        # A combination rounds by less than 2 eps, and mu holds on to what its memory reaches.
        np.testing.assert_allclose(updates, g, rtol=2 * EPS * (min(t, 6 + t / 100) + 1))


def test_the_first_six_steps_average_all_gradients_alike():
    grads = list(jnp.array([1.0, -7.0, 2.0, 6.0, -3.0, 4.0, 5.0]))
    states = [state for _, state in steps(0.9, grads)]
    for t in range(1, 7):
        # A step rounds numbers up to 7 by eps in all, and a decay by eps/2, times m - g up to 14: 14 eps. An error e
        # stays in the next one by (t - 1) / t of it: 14 (t + 1) / 2 after t steps.
        assert states[t - 1].mu == pytest.approx(np.mean(grads[:t]), abs=7 * (t + 1) * EPS)
    assert abs(states[6].mu - np.mean(grads)) > 1e-3  # the memory of step 7 is 6.07


@pytest.mark.parametrize("b1", [0.0, 0.5, 0.75, 0.87, 0.9])
def test_the_memory_grows_up_to_that_of_b1(b1):
    """After a gradient of 1 at the first step alone, mu falls by the decay at each later step."""
    with jax.enable_x64(True):
        tx = momentum(b1)

        def step(state, g):
            _, state = tx.update(g, state, hessian_diag=jnp.ones_like(g))
            return state, state.mu

        impulse = jnp.zeros(500).at[0].set(1.0)
        _, mu = jax.lax.scan(step, tx.init(jnp.zeros([])), impulse)
    mu = np.asarray(mu)
    assert mu[0] == 1
    decay = mu[1:] / mu[:-1] if b1 else mu[1:]
    t = np.arange(2, 501)
    memory = np.minimum(np.where(t <= 6, t, 6 + t / 100), 1 / (1 - b1))
    # The decay is off by 3/2 eps, and mu and the quotient by eps/2 each: of 1 / (1 - decay), times the memory.
    np.testing.assert_allclose(1 / (1 - decay), memory, rtol=3 * 10 * np.finfo(float).eps)
    full = memory == 1 / (1 - b1)
    assert np.any(full)
    np.testing.assert_allclose(decay[full], b1, rtol=3 * np.finfo(float).eps)


@pytest.mark.parametrize("b1", [0.0, 0.5, 0.9, 0.999, 0.9999])
@pytest.mark.parametrize("count", [10**6, 2**31 - 2, 2**31 - 1])
def test_late_in_a_run_the_decay_is_b1(b1, count):
    """At step 10**6 the run would allow a memory of 10,006 steps."""
    tx = momentum(b1)
    state = tx.init(jnp.zeros([]))._replace(count=jnp.int32(count), mu=jnp.ones([]))
    updates, state = tx.update(jnp.zeros([]), state, hessian_diag=jnp.ones([]))
    assert state.mu == np.float32(b1)
    assert updates == np.float32(b1) * np.float32(b1)


def test_without_memory_it_is_the_gradient_with_nesterov_or_without():
    rng = np.random.default_rng(0)
    options = {"b1": 0.0, "b2": 0.9, "hessian_power": 0.5}
    plain, nesterov = (oah.scale_by_adahessian(**options, nesterov=nesterov) for nesterov in (False, True))
    states = [tx.init(jnp.zeros(3)) for tx in (plain, nesterov)]
    for _ in range(9):
        g, h = jnp.asarray(rng.normal(size=(2, 3)), jnp.float32)
        results = [tx.update(g, state, hessian_diag=h) for tx, state in zip((plain, nesterov), states, strict=True)]
        chex.assert_trees_all_equal(*results)
        states = [state for _, state in results]
        np.testing.assert_array_equal(states[1].mu, g)


def test_it_looks_a_step_ahead():
    """The numerator is what mu becomes where the same gradient comes again, at a full memory of 1 / (1 - 0.75) = 4."""
    tx, grads = momentum(0.75), list(jnp.array([4.0, -2.0, 8.0, 1.0, -5.0, 3.0, 2.0]))
    for t, (updates, state) in enumerate(steps(0.75, grads), start=1):
        g, decay = grads[t - 1], min(0.75, 1 - 1 / t)
        # Either side rounds numbers up to 8 by eps in all, and the decay by eps/2, times mu - g, which is below 16.
        np.testing.assert_allclose(updates, decay * state.mu + (1 - decay) * g, rtol=0, atol=8 * 4 * EPS)
        if t >= 4:
            _, ahead = tx.update(g, state, hessian_diag=None)
            assert updates == ahead.mu
            assert abs(updates - state.mu) > 0.1


@pytest.mark.parametrize("mu_dtype", [None, jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_b1_can_be_injected_and_changed_during_a_run(dtype, mu_dtype):
    """`nesterov` is a bool and stays static."""
    injected = optax.inject_hyperparams(
        oah.scale_by_adahessian,
        static_args=("update_interval", "dense_start", "mu_dtype"),
        hyperparam_dtype=jnp.float32,
    )
    tx = injected(b1=0.95, b2=0.0, eps=0.0, nesterov=True, mu_dtype=mu_dtype)
    params = jnp.zeros([], dtype)
    update, state = jax.jit(tx.update), jax.jit(tx.init)(params)
    assert "b1" in state.hyperparams
    assert "nesterov" not in state.hyperparams
    # With the decays 0 and 1/2, at first, and then a b1 of 1/4: mu is 8, 4 and 1, and the numerators 8, 2 and 1/4.
    for g, b1, mu, numerator in ((8.0, 0.95, 8.0, 8.0), (0.0, 0.95, 4.0, 2.0), (0.0, 0.25, 1.0, 0.25)):
        state.hyperparams["b1"] = jnp.float32(b1)
        updates, state = update(jnp.asarray(g, dtype), state, params, hessian_diag=jnp.ones([], dtype))
        assert state.inner_state.mu == mu
        assert updates == numerator
        assert state.inner_state.mu.dtype == (mu_dtype or dtype)
        assert updates.dtype == dtype


def test_it_looks_ahead_from_the_average_before_that_is_rounded_to_its_dtype():
    """The mean of 1 and 1 + 2**-7 is 1 in bfloat16. With b1 = 1/2 the numerator is the mean of the mean and of g."""
    tx = oah.scale_by_adahessian(b1=0.5, b2=0.0, eps=0.0, nesterov=True, mu_dtype=jnp.bfloat16)
    state = tx.init(jnp.zeros([]))
    for g in (1.0, 1 + 2**-7):
        updates, state = tx.update(jnp.float32(g), state, hessian_diag=jnp.ones([]))
    assert state.mu == 1
    assert updates == 1 + 2**-9 + 2**-8
