"""Nesterov's momentum, whose memory grows with the run up to that of `b1`."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rule_model import growing_memory, numpy_rule

import optax_adahessian as oah

EPS = float(jnp.finfo(jnp.float32).eps)


def memory(t, b1):
    """The steps that the average reaches back at step t."""
    return np.minimum(growing_memory(t, b1), 1 / (1 - b1))


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
    """Beyond step 1,000, where the memory is full. Nothing cancels, as all signs are the same."""
    hyper = {"b1": b1, "b2": 0.8, "eps": 1e-3, "hessian_power": 0.5, "time_average": time_average, "nesterov": True}
    rng = np.random.default_rng(0)
    grads = [[rng.uniform(1, 2, size=3)] for _ in range(1050)]
    diags = [None if t % 7 in (3, 4) else [rng.uniform(1, 2, size=3)] for t in range(1050)]
    with jax.enable_x64(True):
        tx = oah.scale_by_adahessian(**hyper)
        update, state = jax.jit(lambda g, h, state: tx.update(g, state, hessian_diag=h)), tx.init(jnp.zeros(3))
        for g, h, (right,) in zip(grads, diags, numpy_rule(grads, diags, [(1,)], **hyper), strict=True):
            updates, state = update(jnp.asarray(g[0]), None if h is None else jnp.asarray(h[0]), state)
            np.testing.assert_allclose(updates, right, rtol=1e-11)
        assert state.count == 1050


@pytest.mark.parametrize("b1", [0.0, 0.3, 0.5, 0.9, 0.999])
def test_the_weights_sum_to_one(b1):
    """So a constant gradient is its own average from the first step on."""
    g = jnp.array([3.0, -1e-3, 1e10])
    for t, (updates, _) in enumerate(steps(b1, [g] * 40), start=1):
        if t == 1:
            np.testing.assert_array_equal(updates, g)
        # A combination rounds by less than 2 eps, and mu holds on to what its memory reaches.
        np.testing.assert_allclose(updates, g, rtol=2 * EPS * (memory(t, b1) + 1))


def test_the_first_three_steps_average_all_gradients_alike():
    grads = list(jnp.array([1.0, -7.0, 2.0, 6.0]))
    states = [state for _, state in steps(0.9, grads)]
    for t in range(1, 4):
        # A step rounds numbers up to 7 by eps in all, and a decay by eps/2, times m - g up to 14: 14 eps. An error e
        # stays in the next one by (t - 1) / t of it: 14 (t + 1) / 2 after t steps.
        assert states[t - 1].mu == pytest.approx(np.mean(grads[:t]), abs=7 * (t + 1) * EPS)
    assert abs(states[3].mu - np.mean(grads)) > 1e-3  # the memory of step 4 is 3.028


@pytest.mark.parametrize("b1", [0.0, 0.5, 0.7, 0.87, 0.9])
def test_the_memory_grows_up_to_that_of_b1(b1):
    """A momentum of 1 falls to the decay at a gradient of 0."""
    with jax.enable_x64(True):
        tx, zero, one = momentum(b1), jnp.zeros([]), jnp.ones([])

        def step(state, _):
            _, state = tx.update(zero, state._replace(mu=one), hessian_diag=one)
            return state, state.mu

        _, decay = jax.lax.scan(step, tx.init(zero), length=1100)
    decay, t = np.asarray(decay), np.arange(1, 1101)
    # The decay is off by 3/2 eps: of 1 / (1 - decay), times the memory. The memory beside it is off by 3/2 eps, too.
    np.testing.assert_allclose(1 / (1 - decay), memory(t, b1), rtol=3 * 10 * np.finfo(float).eps)
    np.testing.assert_allclose(decay[t > 1000], b1, rtol=3 * np.finfo(float).eps)
    assert np.all(np.diff(decay[t <= 1000]) > 0) == (b1 > 2 / 3)


@pytest.mark.parametrize("b1", [0.0, 0.5, 0.9, 0.999, 0.9999])
@pytest.mark.parametrize("count", [10**6, 2**31 - 2, 2**31 - 1])
def test_late_in_a_run_the_decay_is_b1(b1, count):
    """Nor does the step count overflow."""
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
    """The numerator is what mu becomes where the same gradient comes again, at a full memory of 1 / (1 - 0.5) = 2."""
    tx, grads = momentum(0.5), list(jnp.array([4.0, -2.0, 8.0, 1.0, -5.0, 3.0, 2.0]))
    for t, (updates, state) in enumerate(steps(0.5, grads), start=1):
        g, decay = grads[t - 1], min(0.5, 1 - 1 / t)
        # Either side rounds numbers up to 8 by eps in all, and the decay by eps/2, times mu - g, which is below 16.
        np.testing.assert_allclose(updates, decay * state.mu + (1 - decay) * g, rtol=0, atol=8 * 4 * EPS)
        if t >= 2:
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
