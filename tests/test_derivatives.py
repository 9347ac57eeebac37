"""Divisions that are safe before they are selected, derivatives through training, and a change of process."""

import subprocess
import sys

import chex
import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import checkify

import optax_adahessian as oah

PARAMS = {"w": jnp.array([0.5, -1.0]), "flat": jnp.array([2.0])}
RULES = {
    "adahessian": oah.adahessian(0.1, eps=0.0),
    "half power": oah.adahessian(0.1, hessian_power=0.5, weight_decay=0.1),
    "without momentum": oah.adahessian(0.1, b1=0, b2=0.0),
    "adaptive_nesterov": optax.chain(oah.adaptive_nesterov(), oah.adahessian(0.1, b1=0)),
    "clipped": optax.chain(oah.adahessian(0.1, b2=0.98, eps=1e-8), optax.clip(0.01)),
}


def loss_fn(params):
    """The second leaf has a slope and no curvature."""
    w = params["w"]
    return jnp.sum(w**4) + w[0] * w[1] + jnp.sum(params["flat"])


def by_loss(tx, params, state):
    return tx.update(jax.grad(loss_fn)(params), state, params, obj_fn=loss_fn)


def by_diag(tx, params, state):
    _, grads, diag = oah.value_grad_and_hessian_diag(loss_fn)(jax.random.key(0), params)
    return tx.update(grads, state, params, hessian_diag=diag)


def without_estimate(tx, params, state):
    return tx.update(jax.grad(loss_fn)(params), state, params, hessian_diag=None)


FEEDS = [by_loss, by_diag, without_estimate]


def two_steps(tx, feed, params):
    state = tx.init(params)
    for _ in range(2):
        updates, state = feed(tx, params, state)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("rule", RULES)
def test_first_steps_are_clean_for_the_debugging_tools(rule, feed):
    """Not even where another value is taken instead is there a NaN, nor a gradient that is exactly zero a division."""
    with jax.debug_nans(True):
        params = two_steps(RULES[rule], feed, PARAMS)
    checked = jax.jit(checkify.checkify(lambda p: two_steps(RULES[rule], feed, p), checkify.float_checks))
    error, jitted = checked(PARAMS)
    error.throw()
    chex.assert_trees_all_close(jitted, params, rtol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_the_first_step_of_zero_gradients_is_clean(rule):
    tx, zeros = RULES[rule], jax.tree.map(jnp.zeros_like, PARAMS)
    with jax.debug_nans(True):
        for diag in (None, zeros):
            updates, _ = tx.update(zeros, tx.init(zeros), zeros, hessian_diag=diag)
            chex.assert_trees_all_equal(updates, zeros)


@pytest.mark.parametrize("rule", RULES)
def test_the_gradient_through_three_updates_agrees_with_finite_differences(rule):
    with jax.enable_x64(True):
        start = jax.tree.map(lambda p: p.astype(float), PARAMS)
        tx = RULES[rule] if rule != "adahessian" else oah.adahessian(1e-3, eps=0.0)

        def final_loss(start):
            params, state = start, tx.init(start)
            for key in jax.random.split(jax.random.key(0), 3):
                _, grads, diag = oah.value_grad_and_hessian_diag(loss_fn)(key, params)
                updates, state = tx.update(grads, state, params, hessian_diag=diag)
                updates["flat"] = jnp.clip(updates["flat"], -1, 1)  # without eps its step is as long as there is
                params = optax.apply_updates(params, updates)
            return loss_fn(params)

        final_loss = jax.jit(final_loss)
        slopes = jax.jit(jax.grad(final_loss))(start)
        step = 1e-6
        for name, leaf in start.items():
            for i in range(leaf.size):
                shifted = [final_loss(start | {name: leaf.at[i].add(sign * step)}) for sign in (1, -1)]
                # The error of central differences: step^2 times a third derivative, and rounding over the step.
                assert slopes[name][i] == pytest.approx(float(shifted[0] - shifted[1]) / (2 * step), rel=1e-5, abs=1e-7)


def one_update(tx, feed):
    """Both steps of a run, as NumPy arrays."""
    return jax.tree.map(np.asarray, jax.jit(lambda params: two_steps(tx, feed, params))(PARAMS))


@pytest.mark.parametrize("feed", FEEDS[:2])
def test_a_transformation_gives_the_same_updates_in_another_process(feed, tmp_path):
    average = oah.SpatialAverage.custom(lambda path, leaf: (-1,))
    tx = optax.chain(oah.adaptive_nesterov(), oah.adahessian(0.1, b1=0, spatial_average=average, update_interval=2))
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        (tmp_path / "call").write_bytes(cloudpickle.dumps((one_update, tx, feed)))
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    program = (
        "import cloudpickle, pathlib, sys; folder = pathlib.Path(sys.argv[1]);"
        "call, *arguments = cloudpickle.loads((folder / 'call').read_bytes());"
        "(folder / 'result').write_bytes(cloudpickle.dumps(call(*arguments)))"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, timeout=300)
    chex.assert_trees_all_close(cloudpickle.loads((tmp_path / "result").read_bytes()), one_update(tx, feed), rtol=1e-6)
