"""Under JAX's transformations: mapped and differentiated hyper-parameters, without jit, traces that leak, eagerly."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import ways
from helpers.feeds import FEEDS, by_diag, by_loss, draw

import optax_adahessian as oah

STEPS = 3
PARAMS = {"w": np.linspace(-1.0, 2.0, 6).reshape(2, 3), "b": np.array([1.0, -2.0, 0.5]), "flat": np.ones(1)}
HYPER = {"learning_rate": 0.1, "b1": 0.5, "b2": 0.9, "eps": 0.25, "hessian_power": 0.75, "weight_decay": 0.125}


def loss_fn(params):
    """The last leaf has a slope and no curvature."""
    hidden = jnp.tanh(params["w"] * params["b"][None])
    return jnp.sum(hidden**2) + jnp.sum(params["w"] ** 4) + jnp.sum(params["b"] ** 2) + jnp.sum(params["flat"])


def trained(tx, feed=by_diag, params=PARAMS):
    """The parameters after a few steps, which are compiled once for all."""

    def step(carry, t):
        updates, state, _ = feed(tx, loss_fn, *carry, draw(t))
        return (optax.apply_updates(carry[0], updates), state), None

    params = jax.tree.map(jnp.asarray, params)
    return jax.lax.scan(step, (params, tx.init(params)), jnp.arange(STEPS))[0][0]


def by_rows(hyper, update_interval=2, **options):
    average = oah.SpatialAverage.rows("HWIO")
    return oah.adahessian(**hyper, spatial_average=average, update_interval=update_interval, dense_start=1, **options)


@pytest.mark.parametrize(("feed", "interval"), [(by_diag, 1), (by_loss, 1), (by_loss, 2)])
def test_hyper_parameters_can_be_mapped(feed, interval):
    run = jax.jit(lambda hyper: trained(by_rows(hyper, interval), feed))
    with jax.enable_x64(True):
        several = {name: jnp.array([1.0, 0.5, 0.25]) * value for name, value in HYPER.items()}
        alone = [run({name: values[i] for name, values in several.items()}) for i in range(3)]
        stacked = jax.tree.map(lambda *p: jnp.stack(p), *alone)
        chex.assert_trees_all_close(jax.vmap(run)(several), stacked, rtol=1e-12, atol=1e-12)


RULES = {
    "rows": by_rows,
    "no eps": lambda hyper: oah.adahessian(**hyper | {"eps": 0.0}),
    "no average over time": lambda hyper: oah.adahessian(**hyper | {"b1": 0, "b2": 0.0}),
    "adaptive_nesterov": lambda hyper: optax.chain(oah.adaptive_nesterov(), oah.adahessian(**hyper | {"b1": 0})),
    "clipped": lambda hyper: optax.chain(oah.adahessian(**hyper), optax.clip(0.1)),
}


@pytest.mark.parametrize(("rule", "feed"), [*[(rule, by_diag) for rule in RULES], ("rows", by_loss)])
def test_the_slope_of_a_run_in_start_and_hyper_parameters_agrees_with_finite_differences(rule, feed):
    final_loss = jax.jit(lambda params, hyper: loss_fn(trained(RULES[rule](hyper), feed, params)))
    with jax.enable_x64(True):
        at = jax.tree.map(jnp.float64, (PARAMS, HYPER))
        slopes = jax.jit(jax.grad(final_loss, argnums=(0, 1)))(*at)
        for seed in range(3):
            step = optax.tree.random_like(jax.random.key(seed), at, jax.random.normal)
            ahead, back = (final_loss(*jax.tree.map(lambda x, v, h=h: x + h * v, at, step)) for h in (1e-6, -1e-6))
            # The error of central differences: the square of 1e-6 times a third derivative, and rounding over 1e-6.
            np.testing.assert_allclose(optax.tree.vdot(slopes, step), (ahead - back) / 2e-6, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("num_probes", [1, 9])
def test_without_jit_a_run_is_the_same(num_probes):
    """Also what runs in a `cond` and in a loop."""
    tx = by_rows(HYPER, hessian_diagonal_fn=oah.hutchinson(num_probes=num_probes))
    with jax.enable_x64(True):
        with jax.disable_jit():
            plain = trained(tx, by_loss)
        jitted = jax.jit(lambda: trained(tx, by_loss))()
        chex.assert_trees_all_close(plain, jitted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("feed", FEEDS)
def test_nothing_leaks_out_of_a_trace(feed):
    vector = jax.tree.map(np.ones_like, PARAMS)
    with jax.checking_leaks():
        jax.jit(lambda: trained(by_rows(HYPER), feed))()
        jax.jit(lambda: oah.hessian_vector_product(loss_fn, PARAMS, vector))()
        jax.jit(lambda: oah.exact_hessian_diag(loss_fn, PARAMS))()


@pytest.fixture
def compilations(caplog):
    """How many programs a call compiles."""

    def count(call):
        caplog.clear()
        with jax.log_compiles():
            call()
        return caplog.text.count("Finished XLA compilation")

    assert count(lambda: jax.jit(lambda x: x + 1)(1.0)) == 1
    return count


INJECTED = optax.inject_hyperparams(oah.adahessian, static_args=("update_interval", "dense_start", "mask"))
MAKE = {
    "adahessian": lambda: oah.adahessian(0.1, weight_decay=0.1),
    "injected": lambda: INJECTED(learning_rate=0.1),
    "all injected": lambda: optax.inject_hyperparams(oah.adahessian)(learning_rate=0.1),
    "recommended": lambda: optax.chain(oah.adaptive_nesterov(), oah.adahessian(0.1, b1=0), optax.clip(0.01)),
    "rows": lambda: oah.adahessian(0.1, spatial_average=oah.SpatialAverage.rows("HWIO")),
}


@pytest.mark.parametrize("make", MAKE)
def test_a_second_step_outside_of_jit_compiles_nothing(make, compilations):
    """Nor does that of another transformation of the same kind, as a factory in a loop makes it."""
    params = ways.initial_params()
    estimate = jax.jit(oah.value_grad_and_hessian_diag(ways.loss_fn))
    results = [estimate(key, params, ways.batch_at(0)) for key in (draw(0), None)]

    def two_steps():
        tx = MAKE[make]()
        state = tx.init(params)
        for _, grads, diag in results:
            _, state = tx.update(grads, state, params, hessian_diag=diag)

    two_steps()
    assert compilations(two_steps) == 0


@pytest.mark.parametrize("interval", [1, 10])
def test_nor_does_an_obj_fn(interval, compilations):
    params, tx = jnp.ones(3), oah.adahessian(0.1, update_interval=interval, dense_start=2)
    states = [tx.init(params)]

    def step():
        states.append(tx.update(params, states[-1], params, obj_fn=lambda p: jnp.sum(jnp.sin(p) * p**3))[1])

    step()
    assert [compilations(step) for _ in range(3)] == [0, 0, 0]
    assert states[-1][0].last_estimate == (4 if interval == 1 else 2)
