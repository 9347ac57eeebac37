"""Micro-batches inside one step, and what `optax.MultiSteps` makes of them."""

import functools
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import ways
from optax.microbatching import AccumulationType

import optax_adahessian as oah
from examples.gradient_accumulation import accumulate

ROOT = Path(__file__).parent.parent
MICRO_BATCHES = 4
KEY = jax.random.key(0)


def split(batch):
    return jax.tree.map(lambda a: a.reshape(MICRO_BATCHES, -1, *a.shape[1:]), batch)


@functools.cache
def expected_means():
    """Loss and gradient of the whole batch, and the mean of the micro-batches' own z * Hz."""
    params, batch = ways.initial_params(), ways.batch_at(0)
    estimate = jax.jit(oah.value_grad_and_hessian_diag(ways.loss_fn))
    parts = split(batch)
    diags = [
        estimate(jax.random.fold_in(KEY, i), params, jax.tree.map(lambda a, i=i: a[i], parts))[2]
        for i in range(MICRO_BATCHES)
    ]
    loss, grads = jax.jit(jax.value_and_grad(ways.loss_fn))(params, batch)
    return loss, grads, jax.tree.map(lambda *h: sum(h) / MICRO_BATCHES, *diags)


def assert_close(got, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got, expected)


def test_scan_accumulates_value_gradient_and_diagonal_with_fresh_probes():
    estimate = oah.value_grad_and_hessian_diag(ways.loss_fn)
    step = jax.jit(lambda params, batch: accumulate(estimate, KEY, params, split(batch)))
    assert_close(step(ways.initial_params(), ways.batch_at(0)), expected_means())


def test_optax_microbatch_does_the_same_with_a_key_in_every_row():
    batch = ways.batch_at(0)
    size = len(batch[0]) // MICRO_BATCHES
    estimate = oah.value_grad_and_hessian_diag(ways.loss_fn)
    micro = optax.microbatching.microbatch(
        lambda keys, params, rows: estimate(keys[0], params, rows), (0, 2), size, AccumulationType.MEAN
    )
    # Its micro-batches are strided: row i of micro-batch m is row i * MICRO_BATCHES + m.
    keys = jnp.tile(jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(MICRO_BATCHES)), size)
    strided = jax.tree.map(lambda a: split(a).swapaxes(0, 1).reshape(a.shape), batch)
    assert_close(jax.jit(micro)(keys, ways.initial_params(), strided), expected_means())


def test_multi_steps_keeps_the_estimate_of_the_last_micro_batch():
    inner = oah.scale_by_adahessian()
    tx = optax.MultiSteps(inner, every_k_schedule=2)
    params, grads = jnp.ones(3), jnp.ones(3)
    state = tx.init(params)
    for diag in (2.0, 5.0):
        _, state = tx.update(grads, state, params, hessian_diag=jnp.full(3, diag))
    np.testing.assert_allclose(state.inner_opt_state.nu, 5.0**2, rtol=1e-6)  # and not the mean's, 3.5**2
    assert int(state.inner_opt_state.count) == 1


@pytest.mark.long
def test_the_example_runs():
    command = [sys.executable, "examples/gradient_accumulation.py", "--steps", "30"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("30 steps of 8 micro-batches with 32 rows: loss ")
