"""Nesterov's momentum, whose memory grows where gradients point against it, up to that of `b1`."""

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


def late_state(mu, memory):
    """One in which no step is among the first."""
    return momentum(0.99).init(mu)._replace(count=jnp.int32(1000), mu=mu, memory=jnp.float32(memory))


def memory_after(g, mu, memory=5.0, b1=0.99):
    """That of a step from there."""
    _, state = momentum(b1).update(g, late_state(mu, memory), hessian_diag=jax.tree.map(jnp.ones_like, g))
    return float(state.memory)


@pytest.mark.parametrize("time_average", ["mean", "rms"])
@pytest.mark.parametrize("b1", [0.0, 0.5, 0.9, 0.99])
def test_it_follows_the_rule(b1, time_average):
    """The gradients swing for 300 steps, long enough for a memory of 10 steps, and then point one way."""
    hyper = {"b1": b1, "b2": 0.8, "eps": 1e-3, "hessian_power": 0.5, "time_average": time_average, "nesterov": True}
    rng = np.random.default_rng(0)
    grads = [[((-1.0) ** t if t < 300 else 1.0) + 0.3 * rng.normal(size=3)] for t in range(400)]
    diags = [None if t % 7 in (3, 4) else [rng.uniform(1, 2, size=3)] for t in range(400)]
    memories = []
    with jax.enable_x64(True):
        tx = oah.scale_by_adahessian(**hyper)
        update, state = jax.jit(lambda g, h, state: tx.update(g, state, hessian_diag=h)), tx.init(jnp.zeros(3))
        for g, h, (right,) in zip(grads, diags, numpy_rule(grads, diags, [(1,)], **hyper), strict=True):
            updates, state = update(jnp.asarray(g[0]), None if h is None else jnp.asarray(h[0]), state)
            np.testing.assert_allclose(updates, right, rtol=0, atol=1e-11)
            memories.append(float(state.memory))
    if b1 == 0.99:
        assert memories[399] + 5 < memories[299] > 30
    else:
        assert memories[299] == pytest.approx(1 / (1 - b1))


@pytest.mark.parametrize("b1", [0.0, 0.3, 0.5, 0.9, 0.999])
def test_the_weights_sum_to_one(b1):
    """So what does not change is its own average from the first step on, while the memory grows by the third entry."""
    grads = [jnp.array([3.0, -1e-3, 100.0 * (-1) ** t]) for t in range(40)]
    for t, (updates, state) in enumerate(steps(b1, grads), start=1):
        if t == 1:
            np.testing.assert_array_equal(updates, grads[0])
        # A combination rounds by less than 2 eps, and mu holds on to what its memory reaches.
        reach = min(t, float(state.memory))
        np.testing.assert_allclose(updates[:2], grads[0][:2], rtol=2 * EPS * (reach + 1))
    assert reach == pytest.approx(1 / (1 - b1)) or reach > 6


def test_the_first_three_steps_average_all_gradients_alike():
    grads = list(jnp.array([1.0, -7.0, 2.0, 6.0]))
    states = [state for _, state in steps(0.9, grads)]
    for t in range(1, 4):
        # A step rounds numbers up to 7 by eps in all, and a decay by eps/2, times m - g up to 14: 14 eps. An error e
        # stays in the next one by (t - 1) / t of it: 14 (t + 1) / 2 after t steps.
        assert states[t - 1].mu == pytest.approx(np.mean(grads[:t]), abs=7 * (t + 1) * EPS)
    assert states[3].memory == pytest.approx(3.6)  # each gradient pointed against the average
    assert abs(states[3].mu - np.mean(grads)) > 1e-3


@pytest.mark.parametrize("b1", [0.0, 0.5, 0.7, 0.9, 0.99])
def test_the_memory_grows_up_to_that_of_b1_and_shrinks_to_three_steps(b1):
    """By a fifth of a step where a gradient is the average's opposite, and where it is the average itself."""
    limit = 1 / (1 - b1)
    assert memory_after(-jnp.ones(1), jnp.ones(1), 3.0, b1) == pytest.approx(min(3.2, limit), rel=4 * EPS)
    assert memory_after(-jnp.ones(1), jnp.ones(1), limit - 0.1, b1) == pytest.approx(limit, rel=4 * EPS)
    assert memory_after(jnp.ones(1), jnp.ones(1), limit, b1) == pytest.approx(
        max(limit - 0.2, min(3.0, limit)), rel=4 * EPS
    )
    assert memory_after(jnp.ones(1), jnp.ones(1), 3.1, b1) == pytest.approx(min(3.0, limit), rel=4 * EPS)


def test_the_angle_is_that_of_the_whole_tree():
    g, mu = {"a": -jnp.ones((2, 2)), "b": 2.0 * jnp.ones(3)}, {"a": 3.0 * jnp.ones((2, 2)), "b": jnp.ones(3)}
    cosine = (4 * -3 + 3 * 2) / np.sqrt((4 + 12) * (36 + 3))
    assert memory_after(g, mu) == pytest.approx(5 - cosine / 5, rel=4 * EPS)


@pytest.mark.parametrize(
    ("g", "mu"),
    [
        ([0.0, 0.0], [1.0, 2.0]),
        ([1.0, 2.0], [0.0, 0.0]),
        ([-1.0, 2.0], [2.0, 1.0]),
        ([1e30, -1e30], [1.0, 2.0]),
        ([1e-30, -1e-30], [1.0, 2.0]),
        ([jnp.nan, 1.0], [1.0, 2.0]),
        ([jnp.inf, 1.0], [1.0, 2.0]),
    ],
    ids=["no gradient", "no average", "orthogonal", "large", "small", "NaN", "infinite"],
)
def test_where_there_is_no_angle_the_memory_stays(g, mu):
    assert memory_after(jnp.array(g), jnp.array(mu)) == 5.0


def test_the_scale_of_the_loss_is_no_matter():
    g, mu = jax.random.normal(jax.random.key(0), (2, 50))
    for scale in (2.0**-40, 2.0**40):
        assert memory_after(scale * g, scale * mu) == memory_after(g, mu)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_compared_in_single(dtype):
    """The squares, 2**-28, are zero in float16. The sum of 257 of them is none of bfloat16's numbers."""
    g, mu = jnp.full(257, 2.0**-14, dtype), jnp.full(257, 2.0**-14, dtype).at[:100].multiply(-1)
    assert memory_after(g, mu) == pytest.approx(5 - (157 - 100) / 257 / 5, abs=(257 + 4) * EPS / 5 + 5 * EPS)


def test_half_precision_is_averaged_in_single_and_rounded_once():
    g, m = jax.random.normal(jax.random.key(0), (2, 1000), jnp.bfloat16)
    tx = oah.scale_by_adahessian(b1=0.9)
    _, state = tx.update(g, tx.init(m)._replace(mu=m), hessian_diag=jnp.ones_like(g))
    # float32's error, below 4 eps of numbers up to 4, is added to half a step of bfloat16, as it may tip over a tie.
    right = 0.9 * np.asarray(m, np.float64) + (1 - 0.9) * np.asarray(g, np.float64)
    half_step = 2.0 ** (np.floor(np.log2(np.abs(right))) - 8)
    assert np.all(np.abs(np.asarray(state.mu, np.float64) - right) <= half_step + 16 * EPS)


def test_a_decay_in_single_is_taken_as_it_is_beside_double():
    """As `inject_hyperparams` hands it over: 1 - 0.1 in single precision would be another number."""
    with jax.enable_x64(True):
        g, m, b1 = jnp.ones(1), jnp.zeros(1), jnp.float32(0.1)
        tx = oah.scale_by_adahessian(b1=b1)
        _, state = tx.update(g, tx.init(m), hessian_diag=g)
        assert state.mu == 1 - float(b1)


def test_noise_does_not_make_it_grow():
    """The cosine of two of 1,000 random entries is 0 ± 0.032. A fifth of the sum of 300 is 0 ± 0.11: 5 of those."""
    grads = jax.random.normal(jax.random.key(0), (300, 1000))
    *_, (_, state) = steps(0.99, list(grads))
    assert state.memory < 3 + 5 * 0.11


@pytest.mark.parametrize(("rate", "b1", "longest"), [(0.02, 0.95, 3), (12.0, 0.95, 20), (12.0, 2 / 3, 3)])
def test_it_grows_until_a_large_rate_no_longer_diverges(rate, b1, longest):
    """Down a valley, 12 times Newton's step across it: more than a memory of 3 steps can hold."""
    curvature, tx = jnp.array([1.0, 1e-3]), momentum(b1)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(curvature * params, state, hessian_diag=jnp.ones(2))
        return (params - rate * updates, state), state.memory

    (params, _), memories = jax.lax.scan(step, (jnp.ones(2), tx.init(jnp.ones(2))), length=300)
    if rate < 1:
        assert jnp.all(memories == 3)
    assert jnp.max(memories) <= longest * (1 + EPS)
    assert (abs(params[0]) < 1) == (jnp.max(memories) > 10 or rate < 1)


@pytest.mark.parametrize("b1", [0.0, 0.5, 0.9, 0.999, 0.9999])
@pytest.mark.parametrize("count", [10**6, 2**31 - 2, 2**31 - 1])
def test_with_all_its_memory_the_decay_is_b1(b1, count):
    """Nor does the step count overflow. Two roundings of 1 / (1 - b1) and of its inverse, and one of the difference."""
    tx = momentum(b1)
    state = late_state(jnp.ones([]), 1e9)._replace(count=jnp.int32(count))
    updates, state = tx.update(jnp.zeros([]), state, hessian_diag=jnp.ones([]))
    assert float(state.mu) == pytest.approx(b1, abs=1.25 * EPS)
    assert updates == state.mu * state.mu


def test_without_memory_it_is_the_gradient_with_nesterov_or_without():
    rng = np.random.default_rng(0)
    options = {"b1": 0.0, "b2": 0.9, "hessian_power": 0.5}
    plain, nesterov = (oah.scale_by_adahessian(**options, nesterov=nesterov) for nesterov in (False, True))
    states = [tx.init(jnp.zeros(3)) for tx in (plain, nesterov)]
    for _ in range(9):
        g, h = jnp.asarray(rng.normal(size=(2, 3)), jnp.float32)
        results = [tx.update(g, state, hessian_diag=h) for tx, state in zip((plain, nesterov), states, strict=True)]
        states = [state for _, state in results]
        chex.assert_trees_all_equal(*((updates, state.mu, state.nu) for updates, state in results))
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
