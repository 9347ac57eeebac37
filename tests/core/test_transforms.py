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
PARAMS = {"w": np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.5]]), "b": np.array([1.0, -2.0, 0.5])}
HYPER = {"learning_rate": 0.1, "b1": 0.5, "b2": 0.9, "eps": 0.01, "hessian_power": 0.75, "weight_decay": 0.125}


def loss_fn(params):
    hidden = jnp.tanh(params["w"] * params["b"][None])
    return jnp.sum(hidden**2) + jnp.sum(params["w"] ** 4) + jnp.sum(params["b"] ** 2)


def trained(hyper, feed=by_diag, update_interval=2, **options):
    """The parameters after a few steps."""
    average = oah.SpatialAverage.rows("HWIO")
    tx = oah.adahessian(**hyper, spatial_average=average, update_interval=update_interval, dense_start=1, **options)
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = tx.init(params)
    for t in range(STEPS):
        updates, state, _ = feed(tx, loss_fn, params, state, draw(t))
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(("feed", "interval"), [(by_diag, 1), (by_loss, 1), (by_loss, 2)])
def test_hyper_parameters_can_be_mapped(feed, interval):
    run = jax.jit(lambda hyper: trained(hyper, feed, interval))
    with jax.enable_x64(True):
        several = {name: jnp.array([1.0, 0.5, 0.25]) * value for name, value in HYPER.items()}
        alone = [run({name: values[i] for name, values in several.items()}) for i in range(3)]
        stacked = jax.tree.map(lambda *p: jnp.stack(p), *alone)
        chex.assert_trees_all_close(jax.vmap(run)(several), stacked, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("feed", "interval"), [(by_diag, 1), (by_loss, 2)])
def test_the_slope_in_each_hyper_parameter_agrees_with_finite_differences(feed, interval):
    final_loss = jax.jit(lambda hyper: loss_fn(trained(hyper, feed, interval)))
    with jax.enable_x64(True):
        hyper = jax.tree.map(jnp.float64, HYPER)
        slopes, step = jax.jit(jax.grad(final_loss))(hyper), 1e-6
        for name, value in hyper.items():
            shifted = [final_loss(hyper | {name: value + sign * step}) for sign in (1, -1)]
            # The error of central differences: step^2 times a third derivative, and rounding over the step.
            np.testing.assert_allclose(slopes[name], (shifted[0] - shifted[1]) / (2 * step), rtol=1e-6, atol=1e-8)
            assert slopes[name] != 0


@pytest.mark.parametrize("num_probes", [1, 9])
def test_without_jit_a_run_is_the_same(num_probes):
    """Also what runs in a `cond` and in a loop."""
    run = lambda: trained(HYPER, by_loss, hessian_diagonal_fn=oah.hutchinson(num_probes=num_probes))
    with jax.enable_x64(True):
        with jax.disable_jit():
            plain = run()
        chex.assert_trees_all_close(plain, jax.jit(run)(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("feed", FEEDS)
def test_nothing_leaks_out_of_a_trace(feed):
    vector = jax.tree.map(np.ones_like, PARAMS)
    with jax.checking_leaks():
        jax.jit(lambda: trained(HYPER, feed))()
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

    assert compilations(two_steps) > 0
    assert compilations(two_steps) == 0


def test_an_obj_fn_outside_of_jit_compiles_at_each_step_if_it_needs_a_cond(compilations):
    params = jnp.ones(3)

    def step(tx):
        return tx.update(params, tx.init(params), params, obj_fn=lambda p: jnp.sum(p**4))

    every, tenth = oah.adahessian(0.1), oah.adahessian(0.1, update_interval=10)
    jitted = jax.jit(lambda: step(tenth))
    for call, compiles in ((lambda: step(every), False), (lambda: step(tenth), True), (jitted, False)):
        call()
        assert (compilations(call) > 0) == compiles
