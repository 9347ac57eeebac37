"""Micro-batches inside one step: the mean of value, gradient and estimate, with fresh probes for each."""

import subprocess
import sys
from pathlib import Path

import chex
import jax
import pytest
from helpers import ways

import optax_adahessian as oah
from examples.gradient_accumulation import accumulate

ROOT = Path(__file__).parent.parent
PARTS = 4


def test_scan_accumulates_value_gradient_and_diagonal_with_fresh_probes():
    key, params, batch = jax.random.key(0), ways.initial_params(), ways.batch_at(0)
    estimate = oah.value_grad_and_hessian_diag(ways.loss_fn)
    micro_batches = jax.tree.map(lambda a: a.reshape(PARTS, -1, *a.shape[1:]), batch)
    got = jax.jit(lambda params: accumulate(estimate, key, params, micro_batches))(params)

    jitted = jax.jit(estimate)
    diags = [
        jitted(jax.random.fold_in(key, i), params, jax.tree.map(lambda a, i=i: a[i], micro_batches))[2]
        for i in range(PARTS)
    ]
    expected = *jax.value_and_grad(ways.loss_fn)(params, batch), jax.tree.map(lambda *h: sum(h) / PARTS, *diags)
    chex.assert_trees_all_close(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_the_example_runs():
    command = [sys.executable, "examples/gradient_accumulation.py", "--steps", "30"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("30 steps of 8 micro-batches with 32 rows: loss ")
