"""Under JAX's debugging tools, and in another process."""

import os
import subprocess
import sys
from pathlib import Path

import chex
import cloudpickle
import jax
import jax.numpy as jnp
import optax
import pytest
from helpers.feeds import FEEDS, without_estimate
from jax.experimental import checkify

import optax_adahessian as oah

TESTS = Path(__file__).parents[1]
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


def two_steps(tx, feed, params):
    state = tx.init(params)
    for _ in range(2):
        updates, state, _ = feed(tx, loss_fn, params, state)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("feed", [*FEEDS, without_estimate])
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


def in_another_process(folder, fun, *args):
    """What `fun` returns there, under the settings of the tests."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        (folder / "call").write_bytes(cloudpickle.dumps((fun, *args)))
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    program = (
        "import conftest, cloudpickle, pathlib, sys; folder = pathlib.Path(sys.argv[1]);"
        "fun, *args = cloudpickle.loads((folder / 'call').read_bytes());"
        "(folder / 'result').write_bytes(cloudpickle.dumps(fun(*args)))"
    )
    path = {"PYTHONPATH": os.pathsep.join([os.getcwd(), str(TESTS), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-c", program, folder], env=os.environ | path, check=True, timeout=300)
    return cloudpickle.loads((folder / "result").read_bytes())


@pytest.mark.parametrize("feed", FEEDS)
def test_a_transformation_gives_the_same_updates_in_another_process(feed, tmp_path):
    average = oah.SpatialAverage.custom(lambda path, leaf: (-1,))
    tx = optax.chain(oah.adaptive_nesterov(), oah.adahessian(0.1, b1=0, spatial_average=average, update_interval=2))

    def trained(tx):
        return jax.device_get(jax.jit(lambda params: two_steps(tx, feed, params))(PARAMS))

    chex.assert_trees_all_equal(in_another_process(tmp_path, trained, tx), trained(tx))
